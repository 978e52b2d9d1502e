// Every screen, wide and light in English, narrow and dark in Chinese: accessible, quiet, and asking nobody else.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Broker } from './lib/broker.mjs';
import { accessibility, launch, login, PHONE, visit, WIDE } from './lib/browser.mjs';
import { furnish, Traffic } from './lib/shop.mjs';
import { SCREENS } from './screens.mjs';

let broker;
let browser;
let traffic;

before(async () => {
  broker = await Broker.start();
  browser = await launch();
  await furnish(broker);
  traffic = await Traffic.start(broker, 5);
  await traffic.reject(3);
});

after(async () => {
  await traffic?.stop();
  await browser?.close();
  await broker?.stop();
});

const LOOKS = [
  ['wide, light, in English', { viewport: WIDE, locale: 'en-GB', colorScheme: 'light' }],
  ['on a phone, dark, in Chinese', { viewport: PHONE, locale: 'zh-CN', colorScheme: 'dark' }],
];

for (const [look, options] of LOOKS) {
  describe(`every screen ${look}`, () => {
    let visitor;
    before(async () => {
      visitor = await visit(browser, broker, options);
      await login(visitor, broker);
    });
    after(() => visitor?.close());

    for (const [name, route, act] of SCREENS) {
      it(`${name} is accessible and fits`, async () => {
        const { page } = visitor;
        await visitor.open(route);
        await act?.(page);
        await page.locator('[aria-busy=true]').first().waitFor({ state: 'detached' });
        assert.deepEqual(await accessibility(page), []);
        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        assert.ok(overflow <= 0, `${name} is ${overflow} pixels too wide`);
        visitor.clean();
      });
    }
  });
}

it('a page that is logged out shows the form and nothing else', async () => {
  const visitor = await visit(browser, broker);
  visitor.expects(401);
  await visitor.page.goto(`${broker.url}/#/users`);
  await visitor.page.locator('input[type=password]').waitFor();
  assert.deepEqual(await accessibility(visitor.page), []);
  assert.equal(await visitor.page.getByText('billing-service').count(), 0);
  visitor.clean();
  await visitor.close();
});
