// Two shots of every screen for the guide: wide and light, narrow and dark. `npm run shots` writes docs/guide/console/;
// `npm run shots NAME...` only those of some screens.
import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import UPNG from 'upng-js';
import { Broker } from './lib/broker.mjs';
import { launch, login, PHONE, visit, WIDE } from './lib/browser.mjs';
import { furnish, Traffic } from './lib/shop.mjs';
import { SCREENS } from './screens.mjs';

const FOLDER = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../docs/guide/console');
/** Colours of a shot: flat surfaces need no more. */
const COLOURS = 64;
const SIZE_MAX = 150 * 1024;
/** How long the shop is busy before it is looked at, so that charts and rates have something to show. */
const BUSY_MS = Number(process.env.BUSY_MS ?? 90_000);

/** A shop has its hours: more orders come at once, and fewer. */
const PLACED_PER_SECOND = 5;
const HOUR_MS = 25_000;
const customers = () => Math.round(3 + 2 * Math.sin((2 * Math.PI * Date.now()) / HOUR_MS) + Math.random());

/** How long a screen has for its figures to come. */
const SETTLE_MS = 2500;

const only = process.argv.slice(2);
const screens = SCREENS.filter(([name]) => only.length === 0 || only.includes(name));
const LOOKS = [
  ['wide', { viewport: WIDE, locale: 'en-GB', colorScheme: 'light' }],
  ['phone', { viewport: PHONE, locale: 'en-GB', colorScheme: 'dark' }],
];

/** The same picture with a palette. */
function reduced(png) {
  const image = UPNG.decode(png);
  return Buffer.from(UPNG.encode([UPNG.toRGBA8(image)[0]], image.width, image.height, COLOURS));
}

const broker = await Broker.start();
const browser = await launch();
let traffic;
let busy;
try {
  await furnish(broker);
  traffic = await Traffic.start(broker, 0);
  busy = setInterval(() => void traffic.place(customers()).catch(() => {}), 1000 / PLACED_PER_SECOND);
  await traffic.reject(5);
  await new Promise((resolve) => setTimeout(resolve, BUSY_MS));
  mkdirSync(FOLDER, { recursive: true });
  for (const name of only.length === 0 ? readdirSync(FOLDER) : []) rmSync(path.join(FOLDER, name));
  for (const [look, options] of LOOKS) {
    const visitor = await visit(browser, broker, options);
    const keep = async (name) => {
      // The pointer rests where it pressed last; what it lights there is not of the screen.
      await visitor.page.mouse.move(0, 0);
      await visitor.page.waitForTimeout(SETTLE_MS);
      const file = path.join(FOLDER, `${name}-${look}.png`);
      writeFileSync(file, reduced(await visitor.page.screenshot()));
      const { size } = statSync(file);
      if (size > SIZE_MAX) throw new Error(`${file} has ${size} bytes, more than ${SIZE_MAX}`);
    };
    await visitor.page.goto(broker.url);
    await visitor.page.locator('input[type=password]').waitFor();
    if (only.length === 0 || only.includes('login')) await keep('login');
    await login(visitor, broker);
    for (const [name, route, act] of screens) {
      await visitor.open(route);
      await act?.(visitor.page);
      await visitor.page.locator('[aria-busy=true]').first().waitFor({ state: 'detached' });
      await keep(name);
    }
    await visitor.close();
  }
} finally {
  clearInterval(busy);
  await traffic?.stop();
  await browser.close();
  await broker.stop();
}
