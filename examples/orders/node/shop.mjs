// What the three Node programs share: the connection that comes back, and the event as the shop sends it.
// The contract is written down in ../python/shop.py and in the README; it is the same in every language.
import { setTimeout as wait } from 'node:timers/promises';
import amqp from 'amqplib';

const EXCHANGE = 'orders';
const AMQP_URL = process.env.AMQP_URL ?? 'amqp://guest:guest@127.0.0.1:5672/';

export function log(name, text) {
  console.error(`${name} (node): ${text}`);
}

/** The wait before connecting again: grows to a second, with jitter, so that services do not come in step. */
export function pause(attempt) {
  return wait(Math.min(1000, 50 * 2 ** attempt) * (0.5 + Math.random() / 2));
}

/** Opens a connection with a channel in confirm mode. `lost` rejects when either is gone. */
export async function connect() {
  const connection = await amqp.connect(AMQP_URL);
  const returned = new Set();
  let fail;
  const lost = new Promise((_, reject) => {
    fail = reject;
  });
  // Whoever awaits `lost` hears of it; without this, nobody awaiting it would end the process.
  lost.catch(() => {});
  connection.on('error', fail);
  connection.on('close', () => fail(new Error('connection closed')));
  const channel = await connection.createConfirmChannel();
  channel.on('error', fail);
  channel.on('return', (message) => returned.add(message.properties.messageId));
  return { connection, channel, returned, lost, fail };
}

/** Closes what may be closed already. */
export function drop(link) {
  return link?.connection.close().catch(() => {});
}

/** Publishes one event; resolves when the broker has confirmed it, rejects if it did not or no queue takes it. */
export async function send({ channel, returned, lost }, key, order, source, redelivered = false) {
  const id = `${key}/${order.order}`;
  const confirmed = new Promise((resolve, reject) => {
    const options = {
      contentType: 'application/json',
      persistent: true,
      mandatory: true,
      messageId: id,
      type: key,
      headers: {
        'cloudEvents:specversion': '1.0',
        'cloudEvents:id': id,
        'cloudEvents:type': key,
        'cloudEvents:source': `/orders/${source}`,
        'cloudEvents:subject': order.order,
        redelivered,
      },
    };
    channel.publish(EXCHANGE, key, Buffer.from(JSON.stringify(order)), options, (error) => {
      if (error) reject(error);
      // The return comes before the confirm, so a returned event is known by now.
      else if (returned.delete(id)) reject(new Error(`no queue takes ${key}`));
      else resolve();
    });
  });
  await Promise.race([confirmed, lost]);
}

/** One connection's life: resolves when `stopping` does, rejects when the connection is lost. */
async function session(name, queue, key, work, done, stopping) {
  const link = await connect();
  log(name, 'connected');
  const onOrder = async (message) => {
    let order;
    try {
      order = JSON.parse(message.content);
      if (typeof order?.order !== 'string') throw new TypeError('it has no order number');
    } catch (error) {
      log(name, `not an order, dropped: ${error.message}`);
      link.channel.reject(message, false);
      return;
    }
    if (!done.has(order.order)) {
      await send(link, key, work(order), name, message.fields.redelivered);
      done.add(order.order);
    }
    link.channel.ack(message);
  };
  try {
    // One after the other: deliveries wait in this chain for their turn.
    let turn = Promise.resolve();
    await link.channel.prefetch(20);
    const { consumerTag } = await link.channel.consume(queue, (message) => {
      if (message === null) link.fail(new Error(`the consumer of ${queue} was cancelled`));
      else turn = turn.then(() => onOrder(message)).catch(link.fail);
    });
    await Promise.race([stopping, link.lost]);
    await link.channel.cancel(consumerTag);
    await turn;
  } finally {
    await drop(link);
  }
}

/** Takes orders from `queue`, sends what `work` makes of each under `key`, until it is told to stop. */
export async function serve(name, queue, key, work) {
  const done = new Set();
  let stopped = false;
  const stopping = new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT']) {
      process.once(signal, () => {
        stopped = true;
        resolve();
      });
    }
  });
  let attempt = 0;
  while (!stopped) {
    const before = done.size;
    try {
      await session(name, queue, key, work, done, stopping);
    } catch (error) {
      if (stopped) break;
      log(name, `connection lost, trying again: ${error.message}`);
      attempt = done.size > before ? 0 : attempt + 1;
      await Promise.race([pause(attempt), stopping]);
    }
  }
  log(name, `stopped after ${done.size} orders`);
  process.exit(0);
}
