// Contracts D2-D14 and A11: declaring, binding, and the ways a message takes from there.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  channel, closesChannel, collect, connect, differsOn, drain, durableQueue, exchange, open, put, queue, unique,
} from '../support.mjs';

test('D2 redeclaring a queue with another durability closes the channel with 406 and says which argument', async (t) => {
  const { conn, ch } = await open(t);
  const name = await durableQueue(t, ch);
  await closesChannel(
    conn, 406,
    (other) => other.assertQueue(name, { durable: false }),
    new RegExp(`inequivalent arg 'durable' for queue '${name}' in vhost '/'`),
  );
  assert.equal((await ch.assertQueue(name, { durable: true })).queue, name, 'the same declaration still succeeds');
});

test('D2 redeclaring an exchange with another type or durability closes the channel with 406', async (t) => {
  const conn = await connect(t);
  const name = await exchange(t, conn, 'direct');
  await closesChannel(conn, 406, (ch) => ch.assertExchange(name, 'fanout', { durable: false }), /inequivalent arg 'type'/);
  await closesChannel(conn, 406, (ch) => ch.assertExchange(name, 'direct', { durable: true }), /inequivalent arg 'durable'/);
});

test('D2 checkQueue and checkExchange of something missing close the channel with 404', async (t) => {
  const conn = await connect(t);
  const name = unique('missing');
  await closesChannel(conn, 404, (ch) => ch.checkQueue(name), new RegExp(`no queue '${name}' in vhost '/'`));
  await closesChannel(conn, 404, (ch) => ch.checkExchange(name), new RegExp(`no exchange '${name}' in vhost '/'`));
});

test('D2 an exclusive queue is locked for every other connection: 405, also passively', async (t) => {
  const { ch } = await open(t);
  const name = await queue(ch);
  const other = await connect(t);
  await closesChannel(other, 405, (c) => c.checkQueue(name));
  await closesChannel(other, 405, (c) => c.consume(name, () => {}));
  await closesChannel(other, 405, (c) => c.deleteQueue(name));
});

test('D3 names starting with amq. are reserved, the built-in ones are there, the default exchange is fixed', async (t) => {
  const { conn, ch } = await open(t);
  for (const [name, type] of [['amq.direct', 'direct'], ['amq.fanout', 'fanout'], ['amq.topic', 'topic'],
    ['amq.headers', 'headers'], ['amq.match', 'headers']]) {
    await ch.checkExchange(name);
    await ch.assertExchange(name, type, { durable: true });
  }
  const name = await queue(ch);
  await closesChannel(conn, 403, (c) => c.assertQueue(`amq.${unique('q')}`));
  await closesChannel(conn, 403, (c) => c.assertExchange(`amq.${unique('x')}`, 'direct'));
  await closesChannel(conn, 403, (c) => c.deleteExchange('amq.fanout'));
  await closesChannel(conn, 403, (c) => c.bindQueue(name, '', 'key'));
  await closesChannel(conn, 403, (c) => c.unbindQueue(name, '', name));
});

test('D4 a server-named queue gets an amq.gen- name, and the empty name then means that queue', async (t) => {
  const { conn, ch } = await open(t);
  const { queue: name } = await ch.assertQueue('', { exclusive: true });
  assert.match(name, /^amq\.gen-.+/);
  const source = await exchange(t, conn, 'direct');
  await ch.bindQueue('', source, 'key');
  await put(conn, source, 'key', ['for the last one declared']);
  assert.deepEqual(await drain(ch, ''), ['for the last one declared']);
  await closesChannel(conn, 404, (fresh) => fresh.bindQueue('', source, 'key'));
});

test('D6 deleting what is missing succeeds, if-unused and if-empty protect with 406', async (t) => {
  const { conn, ch } = await open(t);
  assert.equal((await ch.deleteQueue(unique('missing'))).messageCount, 0);
  await ch.deleteExchange(unique('missing'));

  const name = await queue(ch);
  await put(conn, '', name, ['one', 'two']);
  await closesChannel(conn, 406, (c) => c.deleteQueue(name, { ifEmpty: true }));
  const { consumerTag } = await ch.consume(name, () => {});
  await closesChannel(conn, 406, (c) => c.deleteQueue(name, { ifUnused: true }));
  await ch.cancel(consumerTag);

  const source = await exchange(t, conn, 'fanout');
  await ch.bindQueue(name, source, '');
  await closesChannel(conn, 406, (c) => c.deleteExchange(source, { ifUnused: true }));
  await ch.unbindQueue(name, source, '');
  await ch.unbindQueue(name, source, '');
  await ch.deleteExchange(source, { ifUnused: true });
});

test('D6 binding to a missing queue or exchange closes the channel with 404', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch);
  await closesChannel(conn, 404, (c) => c.bindQueue(name, unique('missing'), 'key'));
  await closesChannel(conn, 404, (c) => c.bindQueue(unique('missing'), 'amq.direct', 'key'));
  await closesChannel(conn, 404, (c) => c.bindExchange(unique('missing'), 'amq.direct', 'key'));
});

test('D7 declare-ok counts ready messages and consumers, A11 purge takes ready ones only', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch);
  await put(conn, '', name, ['a', 'b', 'c']);
  assert.deepEqual(await ch.checkQueue(name), { queue: name, messageCount: 3, consumerCount: 0 });
  await ch.prefetch(1);
  const consumer = await collect(ch, name);
  const [first] = await consumer.next(1);
  assert.deepEqual(await ch.checkQueue(name), { queue: name, messageCount: 2, consumerCount: 1 });
  assert.equal((await ch.purgeQueue(name)).messageCount, 2);
  await ch.cancel(consumer.consumerTag);
  ch.nack(first, false, true);
  assert.deepEqual(await drain(ch, name), ['a'], 'the unacked one was not purged');
});

test('D9 unknown arguments are accepted', async (t) => {
  const { ch } = await open(t);
  const name = await queue(ch, { arguments: { 'x-conformance-unknown': 'yes' } });
  assert.equal((await ch.checkQueue(name)).queue, name);
});

const routes = [
  { type: 'direct', bind: 'a', keys: { a: 1, b: 0, '': 0, 'a.a': 0 } },
  { type: 'fanout', bind: 'ignored', keys: { a: 1, '': 1, 'x.y': 1 } },
  { type: 'topic', bind: 'order.*', keys: { 'order.placed': 1, order: 0, 'order.placed.eu': 0, 'order.': 1 } },
  { type: 'topic', bind: 'order.#', keys: { 'order.placed': 1, order: 1, 'order.placed.eu': 1, orders: 0 } },
  { type: 'topic', bind: '#.eu', keys: { eu: 1, 'order.eu': 1, 'a.b.c.eu': 1, 'eu.order': 0 } },
  { type: 'topic', bind: '*.*.eu', keys: { 'a.b.eu': 1, 'a.eu': 0, '..eu': 1 } },
  { type: 'topic', bind: '#', keys: { '': 1, a: 1, 'a.b.c': 1 } },
  { type: 'topic', bind: 'a.#.b', keys: { 'a.b': 1, 'a.x.b': 1, 'a.x.y.b': 1, a: 0, b: 0 } },
];

for (const { type, bind, keys } of routes) {
  test(`D13 ${type} binding '${bind}' takes what it should`, async (t) => {
    const { conn, ch } = await open(t);
    const source = await exchange(t, conn, type);
    const name = await queue(ch);
    await ch.bindQueue(name, source, bind);
    const expected = [];
    for (const [key, count] of Object.entries(keys)) {
      await put(conn, source, key, [key]);
      if (count) expected.push(key);
    }
    assert.deepEqual(await drain(ch, name), expected);
  });
}

test('D13 a message reaches a queue once however many bindings match', async (t) => {
  const { conn, ch } = await open(t);
  const source = await exchange(t, conn, 'topic');
  const name = await queue(ch);
  for (const key of ['a.b', 'a.*', '#', 'a.b']) await ch.bindQueue(name, source, key);
  await put(conn, source, 'a.b', ['once']);
  assert.deepEqual(await drain(ch, name), ['once']);
  for (const key of ['a.b', 'a.*', '#']) await ch.unbindQueue(name, source, key);
  await put(conn, source, 'a.b', ['never']);
  assert.deepEqual(await drain(ch, name), []);
});

test('D13 exchange-to-exchange bindings carry on, cycles are cut', async (t) => {
  const { conn, ch } = await open(t);
  const [first, second] = [await exchange(t, conn, 'topic'), await exchange(t, conn, 'fanout')];
  const name = await queue(ch);
  await ch.bindExchange(second, first, 'order.*');
  await ch.bindExchange(first, second, '');
  await ch.bindQueue(name, second, '');
  await put(conn, first, 'order.placed', ['through two']);
  await put(conn, first, 'invoice.sent', ['stops at the first']);
  assert.deepEqual(await drain(ch, name), ['through two']);
  await ch.unbindExchange(second, first, 'order.*');
  await put(conn, first, 'order.placed', ['no way any more']);
  assert.deepEqual(await drain(ch, name), []);
});

test('D13 an auto-delete exchange goes with its last binding, an auto-delete queue with its last consumer', async (t) => {
  const { conn, ch } = await open(t);
  const source = unique('auto');
  await ch.assertExchange(source, 'fanout', { durable: false, autoDelete: true });
  const name = await queue(ch, { autoDelete: true });
  await ch.bindQueue(name, source, '');
  await ch.unbindQueue(name, source, '');
  await closesChannel(conn, 404, (c) => c.checkExchange(source));
  const { consumerTag } = await ch.consume(name, () => {});
  await ch.cancel(consumerTag);
  await closesChannel(conn, 404, (c) => c.checkQueue(name));
});

test('D14 what no queue takes goes to the alternate exchange, and counts as routed for mandatory', async (t) => {
  const conn = await connect(t);
  const alternate = await exchange(t, conn, 'fanout');
  const source = await exchange(t, conn, 'direct', { alternateExchange: alternate });
  const ch = await conn.createConfirmChannel();
  const [known, stray] = [await queue(ch), await queue(ch)];
  await ch.bindQueue(known, source, 'known');
  await ch.bindQueue(stray, alternate, '');
  let returned = 0;
  ch.on('return', () => {
    returned += 1;
  });
  for (const key of ['known', 'unknown']) ch.publish(source, key, Buffer.from(key), { mandatory: true });
  await ch.waitForConfirms();
  assert.deepEqual([await drain(ch, known), await drain(ch, stray)], [['known'], ['unknown']]);
  assert.equal(returned, 0);
});

const headerTable = [
  { match: 'all', takes: ['both'] },
  { match: undefined, takes: ['both'] },
  { match: 'any', takes: ['both', 'colour', 'size'] },
];

for (const { match, takes } of headerTable) {
  test(`D12 headers binding with x-match ${match ?? 'missing (all)'}`, async (t) => {
    const { conn, ch } = await open(t);
    const source = await exchange(t, conn, 'headers');
    const name = await queue(ch);
    const criteria = { colour: 'green', size: 7, 'x-ignored': 'whatever' };
    await ch.bindQueue(name, source, '', match ? { 'x-match': match, ...criteria } : criteria);
    const sent = {
      both: { colour: 'green', size: 7, more: true },
      colour: { colour: 'green', size: 8 },
      size: { size: 7 },
      none: { colour: 'red' },
      empty: {},
    };
    for (const [body, headers] of Object.entries(sent)) await put(conn, source, '', [body], { headers });
    assert.deepEqual(await drain(ch, name), takes);
  });
}

for (const [match, takes] of [['all-with-x', ['both']], ['any-with-x', ['both', 'plain', 'x']]]) {
  test(`D12 headers binding with x-match ${match} looks at x- headers too`, async (t) => {
    const { conn, ch } = await open(t);
    const skip = differsOn(conn, { before: 4, reason: 'all-with-x and any-with-x came with 3.11' });
    if (skip) return t.skip(skip);
    const source = await exchange(t, conn, 'headers');
    const name = await queue(ch);
    await ch.bindQueue(name, source, '', { 'x-match': match, colour: 'green', 'x-size': 7 });
    const sent = { both: { colour: 'green', 'x-size': 7 }, plain: { colour: 'green' }, x: { 'x-size': 7 }, none: {} };
    for (const [body, headers] of Object.entries(sent)) await put(conn, source, '', [body], { headers });
    assert.deepEqual(await drain(ch, name), takes);
  });
}

test('D11 a bad x-match value closes the channel with 406', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch);
  await closesChannel(conn, 406, (c) => c.bindQueue(name, 'amq.headers', '', { 'x-match': 'some', a: 1 }));
});

test('D11 an unknown exchange type is refused', async (t) => {
  const conn = await connect(t);
  const skip = differsOn(conn, { before: 4, reason: 'closes the connection with 503 instead of the channel with 406' });
  if (skip) return t.skip(skip);
  await closesChannel(conn, 406, (ch) => ch.assertExchange(unique('x'), 'no-such-type'));
});

test('D2 an exclusive queue is gone with its connection', async (t) => {
  const first = await open(t);
  const name = await queue(first.ch);
  await first.conn.close();
  const second = await connect(t);
  await closesChannel(second, 404, (ch) => ch.checkQueue(name));
  const ch = await channel(second);
  assert.equal((await ch.assertQueue(name, { exclusive: true })).messageCount, 0);
});
