// Contracts P1-P5: publishing, confirms and returns, and bodies and properties that must arrive as they were sent.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import {
  closesChannelLater, collect, confirmChannel, connect, differsOn, drain, exchange, open, put, queue, unique,
} from '../support.mjs';

test('P1 publishing to a missing exchange closes the channel with 404 and fails what waits for confirms', async (t) => {
  const conn = await connect(t);
  await closesChannelLater(conn, 404, (ch) => ch.publish(unique('missing'), 'key', Buffer.from('lost')));
  const ch = await confirmChannel(conn);
  let outcome;
  ch.publish(unique('missing'), 'key', Buffer.from('lost'), {}, (error) => {
    outcome = error;
  });
  await assert.rejects(ch.waitForConfirms(), /channel closed/);
  assert.ok(outcome instanceof Error, 'its own callback fails as well');
  assert.equal((await ch.failed).code, 404);
});

test('P1 publishing to an internal exchange closes the channel with 403', async (t) => {
  const conn = await connect(t);
  const internal = await exchange(t, conn, 'fanout', { internal: true });
  await closesChannelLater(conn, 403, (ch) => ch.publish(internal, '', Buffer.from('x')));
});

for (const expiration of ['soon', '-1', '1.5']) {
  test(`P1 expiration '${expiration}' closes the channel with 406`, async (t) => {
    const conn = await connect(t);
    await closesChannelLater(conn, 406, (ch) => ch.publish('', 'nobody', Buffer.from('x'), { expiration }));
  });
}

test('P1 a body over the size limit of 16 MiB closes the channel with 406', async (t) => {
  const conn = await connect(t);
  const skip = differsOn(conn, { before: 4, reason: 'the limit was 128 MiB' });
  if (skip) return t.skip(skip);
  await closesChannelLater(conn, 406, (ch) => ch.publish('', 'nobody', Buffer.alloc(16 * 1024 * 1024 + 1)));
});

test('P2 a user_id that is not the login closes the channel with 406, the right one is kept', async (t) => {
  const { conn, ch } = await open(t);
  await closesChannelLater(conn, 406, (c) => c.publish('', 'nobody', Buffer.from('x'), { userId: 'somebody-else' }));
  const name = await queue(ch);
  await put(conn, '', name, ['mine'], { userId: 'guest' });
  assert.equal((await ch.get(name, { noAck: true })).properties.userId, 'guest');
});

test('P3 CC and BCC add routing keys; CC is kept, BCC removed before delivery', async (t) => {
  const { conn, ch } = await open(t);
  const [to, cc, bcc] = [await queue(ch), await queue(ch), await queue(ch)];
  await put(conn, '', to, ['copies'], { CC: [cc], BCC: [bcc] });
  for (const name of [to, cc, bcc]) {
    const message = await ch.get(name, { noAck: true });
    assert.equal(message.content.toString(), 'copies');
    assert.deepEqual(message.properties.headers.CC, [cc]);
    assert.equal('BCC' in message.properties.headers, false);
    assert.equal(message.fields.routingKey, to);
  }
  await closesChannelLater(conn, 406, (c) => c.publish('', to, Buffer.from('x'), { headers: { CC: 'not an array' } }));
});

test('P4 an unroutable mandatory message comes back with its body before it is acked', async (t) => {
  const conn = await connect(t);
  const ch = await confirmChannel(conn);
  const order = [];
  ch.on('return', ({ fields, properties, content }) => order.push(['return', fields, properties, content.toString()]));
  const key = unique('nobody');
  await new Promise((resolve, reject) => {
    ch.publish('', key, Buffer.from('come back'), { mandatory: true, messageId: 'm-1' }, (error) => {
      order.push(['ack']);
      return error ? reject(error) : resolve();
    });
  });
  const [[what, fields, properties, body], [then]] = order;
  assert.deepEqual([what, then], ['return', 'ack']);
  assert.deepEqual({ ...fields }, { replyCode: 312, replyText: 'NO_ROUTE', exchange: '', routingKey: key });
  assert.deepEqual([properties.messageId, body], ['m-1', 'come back']);
});

test('P4 an unroutable message that is not mandatory is acked and dropped', async (t) => {
  const conn = await connect(t);
  const ch = await confirmChannel(conn);
  ch.on('return', () => assert.fail('nothing asked for a return'));
  ch.publish('', unique('nobody'), Buffer.from('dropped'));
  await ch.waitForConfirms();
});

test('P4 every second of many is returned, each before its own ack', async (t) => {
  const conn = await connect(t);
  const ch = await confirmChannel(conn);
  const name = await queue(ch);
  const [returned, late] = [new Set(), []];
  ch.on('return', ({ properties }) => returned.add(properties.messageId));
  for (let n = 0; n < 200; n += 1) {
    const routable = n % 2 === 0;
    const options = { mandatory: true, messageId: String(n) };
    ch.publish('', routable ? name : 'nobody.at.all', Buffer.from(String(n)), options, () => {
      if (!routable && !returned.has(String(n))) late.push(n);
    });
  }
  await ch.waitForConfirms();
  assert.deepEqual(late, [], 'acked before they were returned');
  assert.equal(returned.size, 100);
  assert.equal((await ch.checkQueue(name)).messageCount, 100);
});

test('P5 each of 5,000 publishes on a confirm channel is acked exactly once, and all are there', async (t) => {
  const conn = await connect(t);
  const ch = await confirmChannel(conn);
  const name = await queue(ch);
  const acks = new Array(5000).fill(0);
  for (let n = 0; n < acks.length; n += 1) {
    ch.sendToQueue(name, Buffer.from(String(n)), { persistent: n % 3 === 0 }, (error) => {
      assert.equal(error, null);
      acks[n] += 1;
    });
  }
  await ch.waitForConfirms();
  assert.ok(acks.every((count) => count === 1));
  const consumer = await collect(ch, name, { noAck: true });
  const got = await consumer.next(acks.length);
  assert.deepEqual(got.map((m) => Number(m.content)), acks.map((_, n) => n), 'in the order published');
});

test('P5 confirms of two channels of one connection are counted apart', async (t) => {
  const conn = await connect(t);
  const channels = [await confirmChannel(conn), await confirmChannel(conn)];
  const name = await queue(channels[0]);
  for (let n = 0; n < 300; n += 1) channels[n % 2].sendToQueue(name, Buffer.from(String(n)));
  await Promise.all(channels.map((ch) => ch.waitForConfirms()));
  assert.equal((await channels[0].checkQueue(name)).messageCount, 300);
});

// 8 bytes of a frame are header and end octet: the sizes around 131072 - 8 are those where one frame becomes two.
for (const size of [0, 1, 4088, 131_063, 131_064, 131_065, 262_128, 262_129, 5 * 1024 * 1024]) {
  test(`P5 a body of ${size} bytes arrives as it was sent`, async (t) => {
    const conn = await connect(t);
    const ch = await confirmChannel(conn);
    const name = await queue(ch);
    const body = randomBytes(size);
    ch.sendToQueue(name, body);
    ch.sendToQueue(name, Buffer.from('the next one'));
    const consumer = await collect(ch, name, { noAck: true });
    const [first, second] = await consumer.next(2);
    assert.ok(first.content.equals(body));
    assert.equal(second.content.toString(), 'the next one');
    await ch.waitForConfirms();
  });
}

test('P5 all properties arrive as they were sent', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch);
  const sent = {
    contentType: 'application/json', contentEncoding: 'utf-8', deliveryMode: 2, priority: 7, correlationId: 'c-1',
    replyTo: 'somewhere', expiration: '600000', messageId: 'm-1', timestamp: 1_700_000_000, type: 'order.placed',
    userId: 'guest', appId: 'conformance',
  };
  await put(conn, '', name, ['{}'], sent);
  const { properties } = await ch.get(name, { noAck: true });
  const got = Object.fromEntries(Object.keys(sent).map((key) => [key, properties[key]]));
  assert.deepEqual(got, sent);
  assert.equal(properties.clusterId, undefined);
});

test('P5 header values of every type amqplib can write arrive as they were sent', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch);
  const headers = {
    short: 'text', unicode: 'grüße, 水', long: 'x'.repeat(5000), yes: true, no: false, int: -7, large: 2 ** 40,
    double: 2.5, nothing: null, list: [1, 'two', [3], { four: 4 }], table: { inner: { deep: 'value' } }, empty: {},
    bytes: Buffer.from([0, 1, 255]), time: { '!': 'timestamp', value: 1_700_000_000 },
  };
  await put(conn, '', name, ['x'], { headers });
  const got = (await ch.get(name, { noAck: true })).properties.headers;
  assert.deepEqual(got, headers);
});

test('P5 without properties a message has none', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch);
  await put(conn, '', name, ['bare'], { deliveryMode: undefined });
  const { properties, fields } = await ch.get(name, { noAck: true });
  assert.deepEqual([properties.contentType, properties.messageId, properties.expiration], [undefined, undefined, undefined]);
  assert.deepEqual([fields.exchange, fields.routingKey, fields.redelivered], ['', name, false]);
  assert.deepEqual(await drain(ch, name), []);
});
