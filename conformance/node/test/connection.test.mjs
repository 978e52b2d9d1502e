// Contracts C2-C10: what amqplib negotiates, and how a refused connection looks to it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import amqp from 'amqplib';
import { channel, collect, connect, differsOn, open, put, queue, url } from '../support.mjs';

const HEARTBEAT_FRAME = Buffer.from([8, 0, 0, 0, 0, 0, 0, 0xce]);

/** The URL with another user, password, vhost or query. */
function urlWith(change) {
  const parsed = new URL(url);
  change(parsed);
  return parsed.toString();
}

test('C2 every capability a RabbitMQ client looks for is offered', async (t) => {
  const conn = await connect(t);
  const offered = conn.connection.serverProperties.capabilities;
  for (const name of [
    'publisher_confirms',
    'exchange_exchange_bindings',
    'basic.nack',
    'consumer_cancel_notify',
    'connection.blocked',
    'consumer_priorities',
    'authentication_failure_close',
    'per_consumer_qos',
    'direct_reply_to',
  ]) {
    assert.equal(offered[name], true, name);
  }
});

test('C2 the server says which product and version it is', async (t) => {
  const conn = await connect(t);
  const { product, version, platform } = conn.connection.serverProperties;
  for (const value of [product, version, platform]) assert.equal(typeof value, 'string');
});

test('C3 without wishes of its own a client gets channel_max 2047, frame_max 131072, heartbeat 60', async (t) => {
  const conn = await connect(t, { query: '?frameMax=0&channelMax=0' });
  const { channelMax, frameMax, heartbeat } = conn.connection;
  assert.deepEqual({ channelMax, frameMax, heartbeat }, { channelMax: 2047, frameMax: 131072, heartbeat: 60 });
});

test('C4 frame_max 4096 carries bodies of many frames both ways', async (t) => {
  const conn = await connect(t, { query: '?frameMax=4096' });
  const skip = differsOn(conn, { from: 4, reason: 'frame_max below 8192 is refused' });
  if (skip) return t.skip(skip);
  const ch = await channel(conn);
  const name = await queue(ch);
  const body = Buffer.alloc(100_000, 'millpond');
  ch.sendToQueue(name, body);
  const [message] = await (await collect(ch, name, { noAck: true })).next(1);
  assert.ok(message.content.equals(body));
  assert.equal(conn.connection.frameMax, 4096);
});

test('C5 an idle connection with heartbeat 1 gets heartbeat frames and still works', async (t) => {
  const conn = await connect(t, { query: '?heartbeat=1' });
  assert.equal(conn.connection.heartbeat, 1);
  let seen = 0;
  await new Promise((resolve) => {
    conn.connection.stream.on('data', (bytes) => {
      if (bytes.includes(HEARTBEAT_FRAME)) seen += 1;
      if (seen === 3) resolve();
    });
  });
  await queue(await channel(conn));
});

test('C6 AMQPLAIN logs in like PLAIN', async (t) => {
  const { username, password } = new URL(url);
  const conn = await connect(t, { credentials: amqp.credentials.amqplain(username, password) });
  assert.match(conn.connection.serverProperties.product, /./);
});

test('C7 a wrong password is answered with 403 and a text that tells nothing of the reason', async () => {
  const wrong = urlWith((u) => {
    u.password = 'not-the-password';
  });
  await assert.rejects(amqp.connect(wrong), (error) => {
    assert.match(error.message, /403 \(ACCESS-REFUSED\)/);
    assert.doesNotMatch(error.message, /password is wrong|no such user/i);
    return true;
  });
});

test('C9 an unknown vhost is answered with connection.close', async () => {
  const wrong = urlWith((u) => {
    u.pathname = '/no-such-vhost';
  });
  // amqplib drops the reply code here and tells only which method came instead of open-ok.
  await assert.rejects(amqp.connect(wrong), /530 \(NOT-ALLOWED\)|ConnectionClose/);
});

test('C9 more channels than channel_max are refused by the client, and as many as that open', async (t) => {
  const conn = await connect(t, { query: '?channelMax=8' });
  const channels = await Promise.all(Array.from({ length: 8 }, () => conn.createChannel()));
  assert.equal(channels.length, 8);
  await assert.rejects(conn.createChannel(), /No channels left/);
  await channels[3].close();
  await conn.createChannel();
});

test('C10 update-secret with the right secret is acknowledged and the connection lives on', async (t) => {
  const conn = await connect(t);
  const { password } = new URL(url);
  await conn.updateSecret(Buffer.from(password), 'rotation');
  await queue(await channel(conn));
});

test('C12 a connection error names its code, and a closed channel number can be used again', async (t) => {
  const { conn, ch } = await open(t);
  const name = await queue(ch);
  await ch.consume(name, () => {}, { consumerTag: 'same' });
  ch.consume(name, () => {}, { consumerTag: 'same' }).catch(() => {});
  await conn.closed;
  assert.equal(conn.errors[0].code, 530, 'reused consumer tag (A3)');

  const again = await connect(t);
  for (let round = 0; round < 50; round += 1) {
    const short = await channel(again);
    assert.equal(short.ch, 1, 'the freed number is the lowest one');
    await short.close();
  }
});

test('C11 server-sent blocked events are understood: none comes while the broker has room', async (t) => {
  const { conn, ch } = await open(t);
  let blocked = false;
  conn.on('blocked', () => {
    blocked = true;
  });
  const name = await queue(ch);
  await put(conn, '', name, ['one']);
  assert.equal(blocked, false);
});

test("C12 amqplib's own recovery comes back after a cut, sets up again and consumes on", async (t) => {
  const got = [];
  const waiting = [];
  const next = () => (got.length ? Promise.resolve(got.shift()) : new Promise((resolve) => waiting.push(resolve)));
  let name;
  let current;
  const conn = await amqp.connect(url, {
    recovery: {
      initialDelay: 20,
      async setup(model) {
        current = model;
        const ch = await model.createChannel();
        name = await queue(ch);
        await ch.consume(name, (m) => (waiting.length ? waiting.shift()(m) : got.push(m)), { noAck: true });
      },
    },
  });
  t.after(() => conn.close());
  conn.on('error', (error) => assert.match(error.message, /cut by the test/));
  for (const body of ['before the cut', 'after the cut']) {
    const back = new Promise((resolve) => conn.once('connect', resolve));
    await put(current, '', name, [body]);
    assert.equal((await next()).content.toString(), body);
    if (body.startsWith('before')) {
      current.connection.stream.destroy(new Error('cut by the test'));
      await back;
    }
  }
});
