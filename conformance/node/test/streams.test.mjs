// Contract A13: streams, as amqplib reads them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { channel, closesChannel, collect, confirmChannel, durableQueue, open } from '../support.mjs';

const offsets = (messages) => messages.map((m) => m.properties.headers['x-stream-offset']);

/** A stream with so many messages in it. */
async function stream(t, conn, ch, count, options = {}) {
  const name = await durableQueue(t, ch, { arguments: { 'x-queue-type': 'stream', ...options } });
  const publisher = await confirmChannel(conn);
  for (let n = 0; n < count; n += 1) publisher.sendToQueue(name, Buffer.from(String(n)), { persistent: true });
  await publisher.waitForConfirms();
  return name;
}

test('A13 every consumer reads all of a stream from where it wants', async (t) => {
  const { conn, ch } = await open(t);
  const name = await stream(t, conn, ch, 20);
  for (const [at, first] of [['first', 0], [7, 7], [100, 20], ['last', 19], ['1h', 0]]) {
    const reader = await channel(conn);
    await reader.prefetch(50);
    const consumer = await collect(reader, name, { arguments: { 'x-stream-offset': at } });
    const got = offsets(await consumer.next(20 - first));
    assert.deepEqual(got, Array.from({ length: 20 - first }, (_, n) => n + first), `from ${at}`);
    await reader.close();
  }
});

test('A13 an ack gives credit', async (t) => {
  const { conn, ch } = await open(t);
  const name = await stream(t, conn, ch, 10);
  await ch.prefetch(4);
  const consumer = await collect(ch, name, { arguments: { 'x-stream-offset': 'first' } });
  const messages = await consumer.next(4);
  ch.ack(messages[2], true);
  assert.deepEqual(offsets(await consumer.next(7)), [0, 1, 2, 3, 4, 5, 6]);
});

test('A13 a consumer without a prefetch closes the channel with 406', async (t) => {
  const { conn, ch } = await open(t);
  const name = await stream(t, conn, ch, 0);
  await closesChannel(conn, 406, (other) => other.consume(name, () => {}));
});
