// Debian's Chromium, and pages that notice what a console must not do.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { chromium } from 'playwright-core';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // Pages that a test serves itself come from nowhere, which may not ask this machine.
  '--disable-features=LocalNetworkAccessChecks',
];
// How long a thing may take to appear: the machine that tests run on may be busy.
const WAIT_MS = 30_000;

export const WIDE = { width: 1280, height: 800 };
export const PHONE = { width: 390, height: 844 };

/** While writing pages: their files from here (`dist/www`), so that the binary need not be built anew for each change. */
const FILES = process.env.CONSOLE_FILES;
const TYPES = { '.css': 'text/css', '.html': 'text/html', '.js': 'text/javascript', '.svg': 'image/svg+xml' };

/** Starts the browser of a test file. */
export async function launch() {
  if (!existsSync(CHROMIUM)) {
    throw new Error(`no Chromium at ${CHROMIUM}: apt-get install chromium, or set CHROMIUM`);
  }
  return chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
}

/**
 * A page in a context of its own. `visit.page` is Playwright's; `visit.clean()` fails if the console said an error,
 * a script threw, or anything but the broker and what `visit.allows(url)` names was asked. Answers of the API with an error status that a test provokes
 * are named by `visit.expects(status)`, failures of the network by their words.
 */
export async function visit(browser, broker, { viewport = WIDE, locale = 'en-GB', colorScheme = 'light' } = {}) {
  const context = await browser.newContext({ viewport, locale, colorScheme, reducedMotion: 'reduce' });
  context.setDefaultTimeout(WAIT_MS);
  const isPage = (url) => url.origin === broker.url && !/^\/(api|events|metrics|health)/.test(url.pathname);
  if (FILES) await context.route(isPage, serveFile);
  const page = await context.newPage();
  const faults = [];
  const allowed = new Set();
  const places = [`${broker.url}/`];
  page.on('console', (message) => {
    if (message.type() !== 'error') return;
    const status = /status of (\d+)/.exec(message.text())?.[1];
    const isKnown = status ? allowed.has(Number(status)) : [...allowed].some((each) => typeof each === 'string' && message.text().includes(each));
    if (!isKnown) faults.push(`console: ${message.text()} ${message.location().url}`);
  });
  page.on('pageerror', (error) => faults.push(`script: ${error.stack ?? error}`));
  page.on('request', (request) => {
    const url = request.url();
    if (!places.some((place) => url.startsWith(place)) && !/^(data|blob):/.test(url)) faults.push(`request to ${url}`);
  });
  return {
    page,
    context,
    expects: (status) => allowed.add(status),
    /** Another place that may be asked. */
    allows: (url) => places.push(`${url}/`),
    /** Opens a route, such as `/queues`, and waits for its heading. */
    async open(route) {
      await page.goto(`${broker.url}/#${route}`);
      await page.locator('main h1').first().waitFor();
    },
    clean() {
      assert.deepEqual(faults.splice(0), []);
    },
    close: () => context.close(),
  };
}

function serveFile(route) {
  const name = new URL(route.request().url()).pathname;
  const file = path.join(FILES, name === '/' ? 'index.html' : name);
  return existsSync(file) ? route.fulfill({ body: readFileSync(file), contentType: TYPES[path.extname(file)] }) : route.abort();
}

/** Logs in by the form, as a person does; with `stay` on the page that is open. */
export async function login(visitor, broker, user = 'guest', password = 'guest', { stay = false } = {}) {
  const { page } = visitor;
  // The page asks who is logged in; the browser notes that nobody is.
  visitor.expects(401);
  if (!stay) await page.goto(`${broker.url}/`);
  await page.locator('input[autocomplete=username]').fill(user);
  await page.locator('input[type=password]').fill(password);
  await page.locator('form button[type=submit]').click();
  await page.locator('main h1').first().waitFor();
}

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What axe finds on the page as it is, of serious or critical impact: a list of `rule: help (where)`. */
export async function accessibility(page) {
  // By the page's own world: a content security policy has no say in what a debugger evaluates.
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() =>
    window.axe.run(document, { resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'] }),
  );
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, help, nodes }) => `${id}: ${help} (${nodes.slice(0, 3).map((node) => node.target.join(' ')).join('; ')})`);
}
