// What people do with the console, against a real broker and its clients.
import assert from 'node:assert/strict';
import { after, before, beforeEach, it } from 'node:test';
import { login } from './lib/browser.mjs';
import { furnish, TOPOLOGY, Traffic } from './lib/shop.mjs';
import { begin, hands } from './lib/stage.mjs';

let stage;
let broker;
let traffic;
let visitor;
let page;

before(async () => {
  stage = await begin();
  ({ broker, visitor, page } = stage);
});

after(async () => {
  await traffic?.stop();
  await stage?.end();
});

beforeEach(() => visitor.clean());

const { press, field, dialog } = hands(() => page);

it('a wrong password is refused in words, the right one opens the console', async () => {
  visitor.expects(401);
  await page.goto(`${broker.url}/`);
  await field('User').fill('guest');
  await field('Password').fill('wrong');
  await press('Log in');
  await page.getByRole('alert').waitFor();
  await login(visitor, broker);
});

it('a first visit leads to the first message', async () => {
  await visitor.open('/start');
  await page.getByText('Python', { exact: false }).first().waitFor();
  await furnish(broker);
  traffic = await Traffic.start(broker, 0);
});

it('a message is published and found by a text', async () => {
  await visitor.open('/queues/%2F/mails.out?tab=publish');
  await field('Payload').fill('{"letter": "to Grace"}');
  await page.locator('main form').getByRole('button', { name: 'Publish' }).click();
  await page.getByText('Published, and safe in at least one queue.').waitFor();
  await visitor.open('/queues/%2F/mails.out?tab=messages');
  await field('Text').fill('Grace');
  await press('Search', page.locator('main'));
  await page.locator('main').getByText('Grace').first().waitFor();
  await field('Text').fill('');
  await field('Only where (jq)').fill('.data.letter == "to nobody"');
  await press('Search', page.locator('main'));
  await page.getByText(/None of the .* messages looked at fits/).waitFor();
  await field('Only where (jq)').fill('.data.letter == "to Grace"');
  await press('Search', page.locator('main'));
  await page.locator('main').getByText('Grace').first().waitFor();
});

it('a consumer is given another prefetch and is cancelled', async () => {
  await visitor.open('/queues/%2F/orders.charge?tab=consumers');
  const row = page.getByRole('row').filter({ hasText: 'charge-1' });
  await row.getByRole('button', { name: 'Prefetch, rate and lease' }).click();
  await field('Prefetch', dialog()).fill('7');
  await press('Save', dialog());
  await page.getByText('The consumer charge-1 was changed.').waitFor();
  await row.getByRole('button', { name: 'Cancel consumer' }).click();
  await press('Cancel consumer', dialog());
  await page.getByText('The consumer charge-1 was cancelled.').waitFor();
  const consumers = await broker.api('GET', '/consumers/%2F');
  assert.ok(!consumers.some((consumer) => consumer.consumer_tag === 'charge-1'));
});

it('a queue is paused and goes on', async () => {
  await visitor.open('/queues/%2F/orders.charge');
  await press('Pause');
  await page.getByText('The queue orders.charge is paused').waitFor();
  await press('Resume');
  await page.getByText('The queue orders.charge delivers again.').waitFor();
});

it('dead letters go back where they came from, after a preview', async () => {
  await traffic.reject(4);
  await visitor.open('/queues/%2F/orders.dead');
  await press('Redrive');
  await press('Preview', dialog());
  await dialog().getByText('4 to orders.confirm').waitFor();
  await dialog().getByRole('button', { name: 'Redrive 4 messages' }).click();
  await dialog().waitFor({ state: 'detached' });
  assert.equal((await broker.api('GET', '/queues/%2F/orders.dead')).messages, 0);
});

it('the topology is drawn, searched and cut to a neighbourhood', async () => {
  await visitor.open('/topology');
  const thing = (name) => page.locator('svg a', { has: page.locator('text.name', { hasText: name }) });
  await thing('orders.ledger').first().waitFor();
  await page.getByLabel('Find a thing').fill('mails.out');
  await page.keyboard.press('Enter');
  await page.getByText('Around mails.out:').waitFor();
  assert.equal(await thing('orders.ledger').count(), 0);
  await thing('mails.out').first().click();
  await page.getByRole('heading', { name: 'mails.out' }).waitFor();
});

it('a message is explained: which bindings take it, and why it does not come to a queue', async () => {
  await visitor.open('/topology?explain=1');
  const form = page.locator('main form');
  await field('Exchange', form).fill('orders');
  await field('Routing key', form).fill('order.placed');
  await field('Queue in question', form).fill('orders.charge');
  await press('Explain', form);
  await page.getByText('It does not reach orders.charge').waitFor();
  await page.getByText('The binding key is', { exact: false }).or(page.getByText('does not fit the pattern')).first().waitFor();
  await page.locator('svg .line.lit').first().waitFor();
});

it('a mistake in a topology is told by its line, and a mended one is applied', async () => {
  await visitor.open('/topology-file');
  const editor = page.getByRole('textbox', { name: 'Topology file' });
  await editor.fill(TOPOLOGY.replace('orders.charge: {}', 'orders.charge: {durabel: true}'));
  await press('Plan');
  await page.getByText("did you mean 'durable'?").waitFor();
  await editor.fill(TOPOLOGY.replace('orders.charge: {}', 'orders.charge: {}\n  orders.archive: {}'));
  await press('Plan');
  await page.getByText('orders.archive').last().waitFor();
  await press('Apply');
  await press('Apply', dialog());
  await page.getByText('The topology is applied').waitFor();
  assert.equal((await broker.api('GET', '/queues/%2F/orders.archive')).durable, true);
});

it('a rule is tested with an event, paused and started', async () => {
  await visitor.open('/rules/receipt?tab=test');
  await press('Test');
  await page.getByText('It would act').waitFor();
  await page.getByText('routing key: receipt').waitFor();
  await press('Pause');
  await page.getByText('Paused', { exact: true }).waitFor();
  await press('Start');
  await page.getByText('Running', { exact: true }).waitFor();
});

it('a schedule is paused, resumed and removed', async () => {
  await visitor.open('/schedules/%2F/nightly');
  await press('Pause');
  await page.getByText('paused', { exact: true }).waitFor();
  assert.equal((await broker.api('GET', '/schedules/%2F/nightly')).state, 'paused');
  await press('Resume');
  await page.getByText('running', { exact: true }).waitFor();
  await press('Remove');
  await press('Remove', dialog());
  await page.getByRole('heading', { name: 'Schedules' }).waitFor();
  await page.getByRole('link', { name: 'nightly' }).waitFor({ state: 'detached' });
  assert.deepEqual((await broker.api('GET', '/schedules/%2F')).map(({ name }) => name).sort(), ['heartbeat', 'invoices']);
});

it('delayed messages are taken back: one, and those of a message id', async () => {
  await visitor.open('/delayed');
  await page.getByRole('link', { name: 'reminders' }).click();
  await page.getByText('4 waiting').waitFor();
  await press('Take back: pay-a12');
  await press('Take back', dialog());
  await page.getByText('3 waiting').waitFor();
  await press('Cancel by message id');
  await field('Message id', dialog()).fill('pay-a19');
  await press('Take back', dialog());
  await page.getByText('2 waiting').waitFor();
  assert.deepEqual((await broker.api('GET', '/delayed/%2F/reminders')).map((one) => one.message_id), ['pay-a15', 'pay-a23']);
});

it('what a rule gave up is searched, and says why', async () => {
  await visitor.open('/rules/remind?tab=dead-letters');
  await page.locator('main ol button').first().click();
  await page.getByText('x-millpond-error').first().waitFor();
  await field('Text', page.locator('main form')).fill('no such text');
  await press('Search', page.locator('main form'));
  await page.getByText(/None of the .* messages looked at fits/).waitFor();
});

it('a user is made, let in, given another tag and deleted', async () => {
  await visitor.open('/users');
  await press('Add a user');
  await field('Name', dialog()).fill('grace');
  await field('Password', dialog()).fill('hopper');
  await press('Add', dialog());
  await page.getByRole('heading', { name: 'grace' }).waitFor();
  await press('Allow');
  await field('Configure', dialog()).fill('^grace\\.');
  await press('Save', dialog());
  await page.getByRole('cell', { name: '^grace\\.' }).waitFor();
  await press('Tags');
  await dialog().getByRole('checkbox', { name: /^monitoring/ }).check();
  await press('Save', dialog());
  await page.getByText('The tags are changed').waitFor();
  const who = await fetch(`${broker.url}/api/whoami`, { headers: { authorization: `Basic ${btoa('grace:hopper')}` } });
  assert.deepEqual((await who.json()).tags, ['monitoring']);
  await press('Delete');
  await press('Delete', dialog());
  await page.getByRole('heading', { name: 'Users' }).waitFor();
});

it('a policy says what it would fit before it is set', async () => {
  await visitor.open('/policies');
  await press('Add a policy');
  await field('Name', dialog()).fill('short');
  await field('Pattern', dialog()).fill('^mails');
  await field('Add a key', dialog()).selectOption('message-ttl');
  await dialog().getByText(/Fits 1 of \d+/).waitFor();
  await press('Save', dialog());
  await page.getByRole('cell', { name: '^mails' }).waitFor();
});

it('a definitions file is imported, and what was left out is named', async () => {
  visitor.expects(400);
  await visitor.open('/definitions');
  const definitions = {
    queues: [{ vhost: '/', name: 'imported', durable: true, auto_delete: false, arguments: {} }],
    policies: [{ vhost: '/', name: 'misspelt', pattern: '.*', definition: { 'mesage-ttl': 1 } }],
  };
  const load = async (content) => {
    const buffer = Buffer.from(JSON.stringify(content));
    await page.getByLabel('File').setInputFiles({ name: 'd.json', mimeType: 'application/json', buffer });
    await press('Import');
  };
  await load(definitions);
  await page.getByText("'mesage-ttl' is not a policy key").waitFor();
  assert.equal((await broker.api('GET', '/queues/%2F/imported')).name, 'imported');
  await load({ policies: [{ vhost: '/', name: 'mirrored', pattern: '^none$', definition: { 'ha-mode': 'all', 'max-length': 9 } }] });
  await page.getByText('Without meaning here').waitFor();
  await page.locator('main li').getByText('ha-mode').waitFor();
});

it('the audit log shows what is changed as it comes, and who was refused', async () => {
  await visitor.open('/audit');
  await page.getByRole('heading', { name: 'Audit log' }).waitFor();
  await broker.api('PUT', '/queues/%2F/audited', {});
  const row = page.getByRole('row').filter({ hasText: 'audited' });
  await row.getByText('queue.created').waitFor();
  await field('Kind').selectOption('user');
  await row.waitFor({ state: 'detached' });
  await field('Result').selectOption('refused');
  await page.getByRole('row').filter({ hasText: 'user.authentication.failure' }).filter({ hasText: 'guest' }).first().waitFor();
  assert.match(page.url(), /kind=user/);
});

it('the other language is a press away and stays', async () => {
  await visitor.open('/queues');
  await page.getByRole('button', { name: '中文' }).click();
  await page.getByRole('heading', { name: '队列' }).waitFor();
  await page.reload();
  await page.getByRole('heading', { name: '队列' }).waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.lang), 'zh-CN');
  visitor.clean();
});
