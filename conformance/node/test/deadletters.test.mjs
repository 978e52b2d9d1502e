// Contracts T1-T6 and X1-X5: what amqplib's own options for queues and messages ask for, and how x-death looks to it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { closesChannel, collect, confirmChannel, connect, differsOn, drain, open, put, queue, unique } from '../support.mjs';

/** A queue and the queue where its dead messages go. */
async function withGrave(ch, options = {}) {
  const grave = await queue(ch);
  const name = await queue(ch, { deadLetterExchange: '', deadLetterRoutingKey: grave, ...options });
  return { name, grave };
}

test('X1-X4 a rejected message comes with its history as tables, numbers and dates', async (t) => {
  const { conn, ch } = await open(t);
  const { name, grave } = await withGrave(ch);
  await ch.bindQueue(name, 'amq.topic', 'shop.#');
  await put(conn, 'amq.topic', 'shop.order', ['unwanted']);
  ch.nack(await ch.get(name), false, false);
  const [dead] = await (await collect(ch, grave, { noAck: true })).next(1);
  const { 'x-death': deaths, ...headers } = dead.properties.headers;
  assert.equal(deaths.length, 1);
  const { time, ...death } = deaths[0];
  assert.deepEqual(death, {
    count: 1, reason: 'rejected', queue: name, exchange: 'amq.topic', 'routing-keys': ['shop.order'],
  });
  assert.equal(time['!'], 'timestamp');
  assert.equal(headers['x-first-death-queue'], name);
  assert.equal(headers['x-first-death-reason'], 'rejected');
  assert.equal(headers['x-first-death-exchange'], 'amq.topic');
});

test('T1 messageTtl and expiration: the lesser counts, and only a message\'s own is told', async (t) => {
  const { conn, ch } = await open(t);
  for (const [ttl, expiration, told] of [[30, 60_000, '60000'], [60_000, 30, '30'], [30, undefined, undefined]]) {
    const { name, grave } = await withGrave(ch, { messageTtl: ttl });
    await put(conn, '', name, ['mortal'], { expiration });
    const [dead] = await (await collect(ch, grave, { noAck: true })).next(1);
    const [death] = dead.properties.headers['x-death'];
    assert.equal(death.reason, 'expired');
    assert.equal(death['original-expiration'], told);
    assert.equal(dead.properties.expiration, undefined);
  }
});

test('T3 expires: a queue that nobody uses is gone', async (t) => {
  const { ch } = await open(t);
  const name = await queue(ch, { expires: 100 });
  const returned = new Promise((resolve) => ch.once('return', resolve));
  let gone = false;
  returned.then(() => { gone = true; });
  // Publishing is no use of it; a message that comes back says that it is gone.
  while (!gone) {
    ch.publish('', name, Buffer.from('anybody there?'), { mandatory: true });
    await ch.checkExchange('amq.direct');
  }
  assert.equal((await returned).fields.replyCode, 312);
});

test('T4 maxLength: the oldest goes to the dead-letter exchange', async (t) => {
  const { conn, ch } = await open(t);
  const { name, grave } = await withGrave(ch, { maxLength: 2 });
  const dead = await collect(ch, grave, { noAck: true });
  await put(conn, '', name, ['a', 'b', 'c', 'd']);
  assert.deepEqual((await dead.next(2)).map((m) => m.content.toString()), ['a', 'b']);
  assert.deepEqual(await drain(ch, name), ['c', 'd']);
});

test('T5 reject-publish: the confirm of what has no room is a nack', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch, { maxLength: 1, arguments: { 'x-overflow': 'reject-publish' } });
  const confirming = await confirmChannel(conn);
  const publish = (body) => new Promise((resolve) => {
    confirming.sendToQueue(name, Buffer.from(body), {}, (error) => resolve(error ? 'nack' : 'ack'));
  });
  assert.equal(await publish('kept'), 'ack');
  assert.equal(await publish('refused'), 'nack');
  assert.deepEqual(await drain(ch, name), ['kept']);
});

test('T6 maxPriority: the most urgent first, and within one priority the oldest', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch, { maxPriority: 9 });
  for (const [body, priority] of [['a', 1], ['b', 9], ['c', undefined], ['d', 200], ['e', 1]]) {
    await put(conn, '', name, [body], { priority });
  }
  assert.deepEqual(await drain(ch, name), ['b', 'd', 'a', 'e', 'c']);
});

test('X6 without its exchange a dead message waits until somebody declares it', async (t) => {
  const { conn, ch } = await open(t);
  const skip = differsOn(conn, { before: 99, reason: 'the message is dropped' });
  if (skip) return t.skip(skip);
  const [missing, grave] = [unique('later'), await queue(ch)];
  const name = await queue(ch, { deadLetterExchange: missing });
  await put(conn, '', name, ['patient']);
  ch.nack(await ch.get(name), false, false);
  await ch.assertExchange(missing, 'fanout', { autoDelete: true, durable: false });
  await ch.bindQueue(grave, missing, '');
  const [dead] = await (await collect(ch, grave, { noAck: true })).next(1);
  assert.equal(dead.content.toString(), 'patient');
});

test('probed wrong limits are refused with 406', async (t) => {
  const conn = await connect(t);
  for (const options of [
    { messageTtl: -1 }, { expires: 0 }, { maxLength: -1 }, { maxPriority: 256 }, { deadLetterRoutingKey: 'alone' },
    { arguments: { 'x-overflow': 'burst' } },
  ]) {
    await closesChannel(conn, 406, (ch) => ch.assertQueue(unique('wrong'), { exclusive: true, ...options }));
  }
});
