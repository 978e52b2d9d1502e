// Signing in with an OAuth 2 provider, and what happens when a login ends.
import assert from 'node:assert/strict';
import { after, afterEach, before, it } from 'node:test';
import { accessibility, login } from './lib/browser.mjs';
import { Issuer } from './lib/issuer.mjs';
import { begin, hands } from './lib/stage.mjs';

let issuer;
let stage;
let broker;
let visitor;
let page;

before(async () => {
  issuer = await Issuer.start();
  const settings = {
    'resource-server-id': 'mill', issuer: issuer.url, 'jwks-url': `${issuer.url}/keys`, 'client-id': 'console',
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => [`--oauth-${name}`, value]);
  flags.push('--oauth-scopes', 'openid', '--oauth-scopes', 'mill.all');
  stage = await begin({ flags });
  ({ broker, visitor, page } = stage);
  visitor.allows(issuer.url);
  visitor.expects(401);
  issuer.claims = { aud: 'mill', preferred_username: 'grace', scope: 'mill.tag:administrator mill.read:*/* mill.write:*/* mill.configure:*/*' };
});

after(async () => {
  await stage?.end();
  await issuer?.stop();
});

afterEach(() => visitor.clean());

const { press } = hands(() => page);
const signIn = () => page.getByRole('button', { name: /^Sign in with 127/ });
const heading = (name) => page.getByRole('heading', { name, exact: true });

it('who agrees at the provider comes back to where they were, by their own name', async () => {
  await page.goto(`${broker.url}/#/queues?name=orders`);
  await signIn().waitFor();
  assert.deepEqual(await accessibility(page), []);
  await signIn().click();
  await page.getByRole('link', { name: 'Agree' }).click();
  await heading('Queues and streams').waitFor();
  assert.equal(issuer.asked, 'openid mill.all');
  assert.equal(await page.evaluate(() => location.pathname + location.search + location.hash), '/#/queues?name=orders');
  await page.locator('header').getByText('grace').waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
});

it('a login that ends is told, and the address stays', async () => {
  await page.context().clearCookies();
  await page.getByRole('link', { name: 'Connections', exact: true }).click();
  await page.getByText('Your login has ended.').waitFor();
  await login(visitor, broker, 'guest', 'guest', { stay: true });
  await heading('Connections').waitFor();
  await press('Log out');
});

it('who refuses is told so, and can still use a password', async () => {
  await signIn().click();
  await page.getByRole('link', { name: 'Refuse' }).click();
  await page.getByRole('alert').getByText('refused: access_denied').waitFor();
  await login(visitor, broker);
  await press('Log out');
  await signIn().waitFor();
});

it('a way back that was not begun here lets nobody in', async () => {
  await page.goto(`${broker.url}/?code=stolen&state=guessed`);
  await page.getByRole('alert').getByText('not begun here').waitFor();
  assert.equal(new URL(page.url()).search, '');
});

it('a token without a right here is refused in words', async () => {
  issuer.claims = { ...issuer.claims, scope: 'openid' };
  await signIn().click();
  await page.getByRole('link', { name: 'Agree' }).click();
  await page.getByRole('alert').getByText('does not take the token').waitFor();
});

it('a broker that stops is missed on the page, and found again', async () => {
  visitor.expects('net::ERR_');
  await login(visitor, broker);
  await page.getByRole('link', { name: 'Queues', exact: true }).first().click();
  await page.getByText('Live', { exact: true }).waitFor();
  await broker.halt();
  await page.getByRole('alert').getByText('No connection to the broker').waitFor();
  await broker.again();
  // Logins are kept in memory: after its restart the broker asks who this is.
  await page.getByText('Your login has ended.').waitFor();
  await login(visitor, broker, 'guest', 'guest', { stay: true });
  await heading('Queues and streams').waitFor();
});

it('the page may ask the provider, and nobody else', async () => {
  const answer = await fetch(`${broker.url}/`);
  assert.match(answer.headers.get('content-security-policy'), new RegExp(`connect-src 'self' ${issuer.url};`));
});
