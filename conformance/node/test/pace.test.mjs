// What Millpond has beyond RabbitMQ: a consumer says its pace with the numbers that amqplib has.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { closesChannel, collect, differsOn, open, put, queue } from '../support.mjs';

const numbers = (count) => Array.from({ length: count }, (_, n) => String(n));
const bodies = (messages) => messages.map((m) => m.content.toString());

test('a consumer is given messages at its x-rate, which changes while it runs', async (t) => {
  const { conn, ch } = await open(t);
  const skip = differsOn(conn, { reason: 'it has no rates' });
  if (skip) return t.skip(skip);
  const name = await queue(ch);
  await put(conn, '', name, numbers(50));
  // One in a hundred seconds.
  const slow = await collect(ch, name, { arguments: { 'x-rate': 0.01 } });
  await slow.next(1);
  assert.equal((await ch.checkQueue(name)).messageCount, 49, 'no second one is under way');
  // Consuming again with the tag of a consumer that runs changes it; amqplib hands over to the new callback.
  const quick = await collect(ch, name, { consumerTag: slow.consumerTag, arguments: { 'x-rate': 5000 } });
  assert.equal(quick.consumerTag, slow.consumerTag);
  await quick.next(49);
  assert.deepEqual(bodies([...slow.got, ...quick.got]), numbers(50));
});

test('a rate holds with a prefetch, and a bad one closes the channel with 406', async (t) => {
  const { conn, ch } = await open(t);
  const skip = differsOn(conn, { reason: 'it has no rates' });
  if (skip) return t.skip(skip);
  const name = await queue(ch);
  await put(conn, '', name, numbers(10));
  await ch.prefetch(2);
  const consumer = await collect(ch, name, { arguments: { 'x-rate': 5000.5, 'x-rate-window': 100 } });
  await consumer.next(2);
  assert.equal((await ch.checkQueue(name)).messageCount, 8, 'the prefetch holds');
  for (let n = 0; n < 8; n += 1) {
    ch.ack(consumer.got[n]);
    await consumer.next(n + 3);
  }
  assert.deepEqual(bodies(consumer.got), numbers(10));
  await closesChannel(conn, 406, (other) => other.consume(name, () => {}, { arguments: { 'x-rate': 0 } }), /x-rate/);
});
