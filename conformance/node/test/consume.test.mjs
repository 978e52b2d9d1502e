// Contracts A1-A4, A6-A10 and A14: deliveries, acknowledgements, prefetch, cancellation and replies.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  channel, closesChannel, closesChannelLater, collect, connect, drain, durableQueue, open, put, queue, unique,
} from '../support.mjs';

const numbers = (count) => Array.from({ length: count }, (_, n) => String(n));
const bodies = (messages) => messages.map((m) => m.content.toString());

test('A1 delivery tags count from 1 on each channel, ackAll acks them all', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch);
  await put(conn, '', name, numbers(3));
  const consumer = await collect(ch, name);
  assert.deepEqual((await consumer.next(3)).map((m) => m.fields.deliveryTag), [1, 2, 3]);
  ch.ackAll();
  await ch.close();
  const fresh = await channel(conn);
  assert.equal(await fresh.get(name), false);
});

test('A1 ack with multiple takes all up to the tag and leaves the rest', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch);
  await put(conn, '', name, numbers(5));
  const messages = await (await collect(ch, name)).next(5);
  ch.ack(messages[2], true);
  await ch.close();
  assert.deepEqual(await drain(await channel(conn), name), ['3', '4']);
});

test('A1 acking twice, or a message of another channel, closes the channel with 406 unknown delivery tag', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch);
  await put(conn, '', name, ['one', 'two']);
  const message = await ch.get(name);
  await closesChannelLater(conn, 406, (other) => other.ack(message), /unknown delivery tag 1/);
  ch.ack(message);
  ch.ack(message);
  const error = await ch.failed;
  assert.equal(error.code, 406);
  assert.match(error.message, /unknown delivery tag 1/);
});

test('A1 acking all when nothing is unacked is fine', async (t) => {
  const { ch } = await open(t);
  ch.ackAll();
  ch.nackAll(true);
  await queue(ch);
});

test('A2 prefetch limits what is unacked, an ack lets the next one come', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch);
  await put(conn, '', name, numbers(10));
  await ch.prefetch(3);
  const consumer = await collect(ch, name);
  await consumer.next(3);
  assert.equal((await ch.checkQueue(name)).messageCount, 7, 'no fourth is under way');
  ch.ack(consumer.got[0]);
  await consumer.next(4);
  assert.equal((await ch.checkQueue(name)).messageCount, 6);
  while (consumer.got.length < 10) {
    ch.ack(consumer.got.at(-1), true);
    await consumer.next(consumer.got.length + 1);
  }
  assert.deepEqual(bodies(consumer.got), numbers(10));
});

test('A2 prefetch counts for each later consumer, an earlier one keeps its own', async (t) => {
  const { conn, ch } = await open(t);
  const [first, second] = [await queue(ch), await queue(ch)];
  await put(conn, '', first, numbers(5));
  await put(conn, '', second, numbers(5));
  await ch.prefetch(2);
  const two = await collect(ch, first);
  await ch.prefetch(0);
  const unlimited = await collect(ch, second);
  await Promise.all([two.next(2), unlimited.next(5)]);
  assert.equal((await ch.checkQueue(first)).messageCount, 3);
  assert.equal((await ch.checkQueue(second)).messageCount, 0);
});

test('A3 an empty consumer tag gets a generated one', async (t) => {
  const { ch } = await open(t);
  const { consumerTag } = await ch.consume(await queue(ch), () => {});
  assert.match(consumerTag, /^amq\.ctag-.+/);
});

test('A4 an exclusive consumer keeps others out with 403, and is refused where others are', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch);
  const { consumerTag } = await ch.consume(name, () => {}, { exclusive: true });
  await closesChannel(conn, 403, (c) => c.consume(name, () => {}));
  await ch.cancel(consumerTag);
  await ch.consume(name, () => {});
  await closesChannel(conn, 403, (c) => c.consume(name, () => {}, { exclusive: true }));
});

test('A6 the consumer of highest priority gets messages until its prefetch is full, then the next', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch);
  await ch.prefetch(2);
  const low = await collect(ch, name, { priority: -1 });
  const high = await collect(ch, name, { priority: 5 });
  await put(conn, '', name, numbers(3));
  await Promise.all([high.next(2), low.next(1)]);
  assert.deepEqual([bodies(high.got), bodies(low.got)], [['0', '1'], ['2']]);
  await closesChannel(conn, 406, (c) => c.consume(name, () => {}, { arguments: { 'x-priority': 'high' } }));
});

test('A6 consumers of equal priority share', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch);
  const [one, two] = [await collect(ch, name), await collect(ch, name)];
  await put(conn, '', name, numbers(10));
  ch.ackAll();
  await Promise.all([one.next(5), two.next(5)]);
  assert.deepEqual(bodies([...one.got, ...two.got]).map(Number).sort((a, b) => a - b), numbers(10).map(Number));
});

test('A7 deleting the queue cancels its consumers: amqplib calls back with null', async (t) => {
  const { conn, ch } = await open(t);
  const name = await durableQueue(t, ch);
  await put(conn, '', name, ['one']);
  const consumer = await collect(ch, name);
  await consumer.next(1);
  await (await channel(conn)).deleteQueue(name);
  const [message, cancelled] = await consumer.next(2);
  assert.equal(cancelled, null);
  ch.ack(message);
  assert.equal((await ch.cancel(consumer.consumerTag)).consumerTag, consumer.consumerTag, 'a dead tag still gets cancel-ok');
  await queue(ch);
});

test('A7 after cancel-ok nothing is delivered, what was delivered can be acked', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch);
  await put(conn, '', name, ['before']);
  const consumer = await collect(ch, name);
  const [message] = await consumer.next(1);
  await ch.cancel(consumer.consumerTag);
  await put(conn, '', name, ['after']);
  ch.ack(message);
  assert.deepEqual(await drain(ch, name), ['after']);
  assert.equal(consumer.got.length, 1);
});

test('A8 nack with requeue brings the message back to the front, redelivered', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch);
  await put(conn, '', name, numbers(3));
  const first = await ch.get(name);
  assert.equal(first.fields.redelivered, false);
  ch.nack(first, false, true);
  const again = await ch.get(name);
  assert.deepEqual([again.content.toString(), again.fields.redelivered], ['0', true]);
  ch.reject(again, true);
  const messages = [await ch.get(name), await ch.get(name), await ch.get(name)];
  assert.deepEqual(bodies(messages), numbers(3), 'the order is kept');
  assert.deepEqual(messages.map((m) => m.fields.redelivered), [true, false, false]);
});

test('A8 nack without requeue drops it, nackAll puts back all that is unacked in order', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch);
  await put(conn, '', name, numbers(4));
  const messages = [];
  for (let n = 0; n < 4; n += 1) messages.push(await ch.get(name));
  ch.nack(messages[1], false, false);
  ch.reject(messages[3], false);
  ch.nackAll(true);
  assert.deepEqual(await drain(ch, name), ['0', '2']);
});

test('A8 closing the channel requeues what is unacked, in order', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch);
  await put(conn, '', name, numbers(20));
  await ch.prefetch(10);
  await (await collect(ch, name)).next(10);
  await ch.close();
  const fresh = await channel(conn);
  const all = await (await collect(fresh, name)).next(20);
  assert.deepEqual(bodies(all), numbers(20));
  assert.deepEqual(all.map((m) => m.fields.redelivered), numbers(20).map((n) => Number(n) < 10));
});

test('A8 losing the connection requeues what is unacked', async (t) => {
  const lost = await open(t);
  const name = await durableQueue(t, lost.ch);
  await put(lost.conn, '', name, ['survivor']);
  const other = await open(t);
  await (await collect(lost.ch, name)).next(1);
  const consumer = await collect(other.ch, name);
  lost.conn.connection.stream.destroy(new Error('cut by the test'));
  const [message] = await consumer.next(1);
  assert.deepEqual([message.content.toString(), message.fields.redelivered], ['survivor', true]);
  other.ch.ack(message);
});

test('A9 recover delivers again what is unacked', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch);
  await put(conn, '', name, numbers(2));
  const consumer = await collect(ch, name);
  await consumer.next(2);
  await ch.recover();
  const all = await consumer.next(4);
  assert.deepEqual(bodies(all), ['0', '1', '0', '1']);
  assert.deepEqual(all.map((m) => m.fields.redelivered), [false, false, true, true]);
});

test('A10 get answers false on an empty queue and counts what is left', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch);
  assert.equal(await ch.get(name), false);
  await put(conn, '', name, numbers(3));
  await ch.prefetch(1);
  const left = [];
  for (let n = 0; n < 3; n += 1) left.push((await ch.get(name)).fields.messageCount);
  assert.deepEqual(left, [2, 1, 0], 'not limited by prefetch');
  await closesChannel(conn, 404, (c) => c.get(unique('missing')));
});

test('A14 a call over direct reply-to is answered on the channel it came from', async (t) => {
  const client = await open(t);
  const server = await open(t);
  const service = await queue(server.ch);
  const seen = [];
  await server.ch.consume(service, (m) => {
    seen.push(m.properties.replyTo);
    const answer = Buffer.from(String(Number(m.content) * 2));
    server.ch.sendToQueue(m.properties.replyTo, answer, { correlationId: m.properties.correlationId });
  }, { noAck: true });

  const replies = await collect(client.ch, 'amq.rabbitmq.reply-to', { noAck: true });
  for (const n of [1, 2, 3]) {
    client.ch.sendToQueue(service, Buffer.from(String(n)), { replyTo: 'amq.rabbitmq.reply-to', correlationId: `c${n}` });
  }
  const got = await replies.next(3);
  assert.deepEqual(got.map((m) => [m.properties.correlationId, m.content.toString()]), [['c1', '2'], ['c2', '4'], ['c3', '6']]);
  for (const replyTo of seen) assert.match(replyTo, /^amq\.rabbitmq\.reply-to\..+/);
});

test('A14 direct reply-to needs no_ack, and a consumer before the request', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch);
  await closesChannel(conn, 406, (c) => c.consume('amq.rabbitmq.reply-to', () => {}, { noAck: false }));
  await closesChannelLater(conn, 406, (c) => c.sendToQueue(name, Buffer.from('x'), { replyTo: 'amq.rabbitmq.reply-to' }));
});

test('A1 a call over an exclusive reply queue works as in every tutorial', async (t) => {
  const client = await open(t);
  const server = await open(t);
  const service = await queue(server.ch);
  await server.ch.prefetch(1);
  await server.ch.consume(service, (m) => {
    server.ch.sendToQueue(m.properties.replyTo, m.content, { correlationId: m.properties.correlationId });
    server.ch.ack(m);
  });
  const { queue: replyTo } = await client.ch.assertQueue('', { exclusive: true });
  const replies = await collect(client.ch, replyTo, { noAck: true });
  for (const id of numbers(50)) client.ch.sendToQueue(service, Buffer.from(id), { replyTo, correlationId: id });
  const got = await replies.next(50);
  assert.deepEqual(got.map((m) => m.properties.correlationId), numbers(50));
});
