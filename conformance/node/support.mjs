// What the tests share: connections and names that clean up after themselves, and waiting for what the
// server says. Nothing here sleeps: a test waits for an answer, or for a later answer that proves there was none.
import assert from 'node:assert/strict';
import amqp from 'amqplib';

export const url = process.env.AMQP_URL ?? 'amqp://guest:guest@127.0.0.1:5672/';

let counter = 0;

/** A name no other test and no other run uses. */
export function unique(kind) {
  counter += 1;
  return `conformance.node.${kind}.${process.pid}.${Date.now().toString(36)}.${counter}`;
}

/** Opens a connection that the end of the test closes, with `error` events kept in `conn.errors`. */
export async function connect(t, { query = '', ...socketOptions } = {}) {
  const conn = await amqp.connect(url + query, socketOptions);
  conn.errors = [];
  conn.on('error', (error) => conn.errors.push(error));
  conn.closed = new Promise((resolve) => conn.once('close', resolve));
  // A test that cut the socket itself has no one left to say goodbye to.
  t.after(() => conn.connection.stream.destroyed || conn.close().catch(() => {}));
  return conn;
}

/** Keeps the channel's `error` event, which amqplib emits before `close` when the server closes a channel. */
function watched(ch) {
  ch.failed = new Promise((resolve) => ch.once('error', resolve));
  return ch;
}

export async function channel(conn) {
  return watched(await conn.createChannel());
}

export async function confirmChannel(conn) {
  return watched(await conn.createConfirmChannel());
}

/** A connection with one channel: what most tests need. */
export async function open(t, options) {
  const conn = await connect(t, options);
  return { conn, ch: await channel(conn) };
}

/** Declares an exclusive queue: gone with its connection. */
export async function queue(ch, options = {}) {
  return (await ch.assertQueue(unique('q'), { exclusive: true, durable: false, ...options })).queue;
}

/** Declares an exchange and deletes it when the test ends. */
export async function exchange(t, conn, type, options = {}) {
  const name = unique(type);
  const ch = await channel(conn);
  await ch.assertExchange(name, type, { durable: false, ...options });
  t.after(async () => {
    const cleaner = await amqp.connect(url);
    await (await cleaner.createChannel()).deleteExchange(name);
    await cleaner.close();
  });
  return name;
}

/** A durable queue deleted when the test ends, for what has to outlive a connection. */
export async function durableQueue(t, ch, options = {}) {
  const { queue: name } = await ch.assertQueue(unique('durable'), { durable: true, ...options });
  t.after(async () => {
    const cleaner = await amqp.connect(url);
    await (await cleaner.createChannel()).deleteQueue(name);
    await cleaner.close();
  });
  return name;
}

/** Consumes into a list; `next(n)` waits until n deliveries (or cancellations, as null) came in all. */
export async function collect(ch, name, options = {}) {
  const got = [];
  const waiting = [];
  const { consumerTag } = await ch.consume(
    name,
    (message) => {
      got.push(message);
      for (const waiter of waiting) if (got.length >= waiter.count) waiter.resolve(got);
    },
    options,
  );
  const next = (count) =>
    got.length >= count
      ? Promise.resolve(got)
      : new Promise((resolve) => waiting.push({ count, resolve }));
  return { consumerTag, got, next };
}

/** Takes all ready messages of a queue with basic.get and acks them. */
export async function drain(ch, name) {
  const bodies = [];
  for (let m = await ch.get(name, { noAck: true }); m; m = await ch.get(name, { noAck: true })) {
    bodies.push(m.content.toString());
  }
  return bodies;
}

/** Publishes on a confirm channel and waits until the broker has taken responsibility for all of it. */
export async function put(conn, exchangeName, key, bodies, options = {}) {
  const ch = await conn.createConfirmChannel();
  for (const body of bodies) ch.publish(exchangeName, key, Buffer.from(body), options);
  await ch.waitForConfirms();
  await ch.close();
}

/**
 * The call must make the server close the channel with `code`: the promise rejects with it, the channel
 * emits `error` with it, and the connection lives on.
 */
export async function closesChannel(conn, code, call, textPattern) {
  await closesChannelLater(conn, code, (ch) =>
    assert.rejects(
      async () => call(ch),
      (error) => {
        assert.equal(error.code, code, `promise rejected with ${error.message}`);
        return true;
      },
    ),
    textPattern,
  );
}

/** Like `closesChannel` for what has no reply of its own (publish, ack): only the channel's event tells. */
export async function closesChannelLater(conn, code, call, textPattern) {
  // Opened before: amqplib gives the number of a closed channel to the next one while frames for the old one
  // still wait in its buffers, so a channel opened now could be lost among them.
  const bystander = await channel(conn);
  const ch = await channel(conn);
  const [error] = await Promise.all([ch.failed, call(ch)]);
  assert.equal(error.code, code, `channel error event was ${error.message}`);
  if (textPattern) assert.match(error.message, textPattern);
  await bystander.checkExchange('amq.direct');
  await bystander.close();
}

/**
 * Why a contract cannot be shown on this server, or false: RabbitMQ before major version `before`, or from
 * `from` on, answers otherwise than the contract says.
 */
export function differsOn(conn, { before = 0, from = Number.POSITIVE_INFINITY, reason }) {
  const { product, version } = conn.connection.serverProperties;
  const major = Number.parseInt(version, 10);
  return product === 'RabbitMQ' && (major < before || major >= from) ? `${product} ${version}: ${reason}` : false;
}
