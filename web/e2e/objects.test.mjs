// What people do with queues, exchanges and connections, and ten thousand queues.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, it } from 'node:test';
import amqp from 'amqplib';
import { login } from './lib/browser.mjs';
import { begin, hands } from './lib/stage.mjs';

const MANY = 10_000;
/** Declares that are under way at once. */
const AT_ONCE = 500;

let stage;
let broker;
let visitor;
let page;

before(async () => {
  stage = await begin();
  ({ broker, visitor, page } = stage);
  await login(visitor, broker);
});

after(() => stage?.end());

afterEach(() => visitor.clean());

const { press, field, dialog, told } = hands(() => page);
const connect = (name) => amqp.connect(`amqp://guest:guest@${broker.amqp}`, { clientProperties: { connection_name: name } });

it('an empty broker leads to the first message, and notices it', async () => {
  await visitor.open('/');
  await page.getByRole('link', { name: 'Send the first message' }).click();
  await page.getByText('Waiting for the first message').waitFor();
  const connection = await connect('first');
  const channel = await connection.createConfirmChannel();
  await channel.assertQueue('hello', { durable: true });
  channel.sendToQueue('hello', Buffer.from('Hello, pond!'));
  await channel.waitForConfirms();
  await page.getByText('It is here').waitFor();
  await connection.close();
});

it('a queue is declared, bound, filled, purged and deleted', async () => {
  await visitor.open('/queues');
  await press('Declare a queue');
  await page.keyboard.press('Escape');
  await dialog().waitFor({ state: 'detached' });
  await page.locator('button:focus', { hasText: 'Declare a queue' }).waitFor();
  await page.keyboard.press('Enter');
  await field('Name').fill('tried');
  await field('Arguments').fill('x-max-length = 100');
  await press('Create');
  await page.getByRole('heading', { name: 'tried' }).waitFor();
  await page.getByRole('tab', { name: 'Bindings' }).click();
  await press('Add a binding');
  await field('From exchange').fill('amq.topic');
  await field('Routing key').fill('order.*');
  await press('Add a binding', dialog());
  await page.getByRole('cell', { name: 'order.*' }).waitFor();
  await visitor.open('/exchanges/%2F/amq.topic');
  await field('Routing key').fill('order.placed');
  await field('Payload').fill('{"order": 7}');
  await field('Headers').fill('tenant = 7');
  await press('Publish');
  await told('Published, and safe');
  await visitor.open('/queues/%2F/tried');
  await press('Purge');
  await press('Delete 1 message');
  await told('tried was purged');
  assert.equal((await broker.api('GET', '/queues/%2F/tried')).messages, 0);
  await press('Delete');
  await press('Delete', dialog());
  await told('The queue tried was deleted');
});

it('what the broker refuses is told in its words', async () => {
  visitor.expects(400);
  await visitor.open('/queues');
  await press('Declare a queue');
  await field('Name').fill('bad');
  await field('Arguments').fill('x-max-length = -5');
  await press('Create');
  await told('invalid arg');
  await page.keyboard.press('Escape');
});

it('messages are moved after a preview', async () => {
  for (const name of ['from', 'to']) await broker.api('PUT', `/queues/%2F/${name}`, { durable: true });
  const message = { routing_key: 'from', payload: 'x', payload_encoding: 'string', properties: {} };
  await broker.api('POST', '/exchanges/%2F/amq.default/publish', message);
  await visitor.open('/queues/%2F/from');
  await press('Move');
  await field('To queue').fill('to');
  await press('Preview');
  await page.getByText('1 of 1 message would go').waitFor();
  await press('Move 1 message');
  await told('1 message was moved');
  assert.equal((await broker.api('GET', '/queues/%2F/to')).messages, 1);
});

it('a connection is closed, and its client hears why', async () => {
  const connection = await connect('worker');
  const heard = new Promise((resolve) => connection.on('close', resolve));
  await visitor.open('/connections');
  await press('Close connection', page.getByRole('row', { name: /worker/ }));
  await field('Reason').fill('moved house');
  await press('Close connection', dialog());
  assert.match(String(await heard), /moved house/);
  await page.getByText('No connections').waitFor();
});

it('of ten thousand queues a page is there at once, and one is found by keyboard', async () => {
  const connection = await connect('many');
  const channel = await connection.createChannel();
  for (let from = 0; from < MANY; from += AT_ONCE) {
    const names = Array.from({ length: AT_ONCE }, (_, n) => `many.${String(from + n).padStart(5, '0')}`);
    await Promise.all(names.map((name) => channel.assertQueue(name, { durable: false })));
  }
  await page.goto('about:blank');
  const began = performance.now();
  await page.goto(`${broker.url}/#/queues`);
  await page.getByRole('link', { name: 'many.00000' }).waitFor();
  console.log(`# ${MANY} queues: ${Math.round(performance.now() - began)} ms until their first page could be used`);
  assert.ok((await page.locator('tbody tr').count()) <= 50);
  await page.getByRole('searchbox').fill('many.0420');
  await page.getByText(/^10 of/).waitFor();
  const [file] = await Promise.all([page.waitForEvent('download'), press('Save as CSV')]);
  const lines = readFileSync(await file.path(), 'utf8').trim().split('\r\n');
  assert.equal(lines.length, 11);
  assert.match(lines[1], /^many\.04200,\/,classic/);
  await page.getByRole('searchbox').blur();
  for (const key of ['j', 'j', 'Enter']) await page.keyboard.press(key);
  await page.getByRole('heading', { name: 'many.04201' }).waitFor();
  await page.keyboard.press('/');
  await page.keyboard.type('many.07777');
  await page.getByRole('option', { name: /many\.07777/ }).waitFor();
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'many.07777' }).waitFor();
  await connection.close();
});
