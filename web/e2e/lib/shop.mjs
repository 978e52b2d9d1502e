// What tests and shots look at: a shop with queues, a stream, rules, a source, users, traffic, and things gone wrong.
import amqp from 'amqplib';

export const TOPOLOGY = `# What the shop needs of the broker.
version: 1
exchanges:
  orders: {type: topic}
  mails: {type: direct}
  dead: {type: fanout}
  reminders: {type: x-delayed-message, arguments: {x-delayed-type: direct}}
queues:
  orders.confirm: {arguments: {x-dead-letter-exchange: dead}}
  orders.charge: {}
  orders.ledger: {arguments: {x-queue-type: stream}}
  mails.out: {}
  orders.dead: {}
bindings:
  - {exchange: orders, queue: orders.confirm, key: order.placed}
  - {exchange: orders, queue: orders.charge, key: order.confirmed}
  - {exchange: orders, queue: orders.ledger, key: "order.#"}
  - {exchange: mails, queue: mails.out, key: receipt}
  - {exchange: reminders, queue: mails.out, key: remind}
  - {exchange: dead, queue: orders.dead}
schedules:
  nightly:
    cron: "0 2 * * *"
    zone: Europe/Berlin
    exchange: orders
    routing_key: order.report
    headers: {region: eu}
    body: {kind: daily, days: 1}
  heartbeat: {cron: "*/5 * * * * *", exchange: orders, routing_key: order.heartbeat, body: {alive: true}, missed: skip}
  invoices: {cron: "0 6 L * *", zone: Asia/Shanghai, exchange: orders, routing_key: order.invoices, body: {kind: monthly}, missed: all}
sources:
  clock:
    timer: {every: 1s}
    type: clock.tick
rules:
  receipt:
    on: {exchange: orders, key: order.charged}
    when: .data.amount > 0
    do:
      - file: {path: audit.log, line: '"\\(.data.order) \\(.data.amount)"'}
      - publish:
          exchange: mails
          routing_key: receipt
          body: '{order: .data.order, amount: .data.amount}'
  remind:
    on: {type: clock.tick}
    do:
      - http: {endpoint: 'http://127.0.0.1:9/remind'}
    retry: {max_attempts: 2, first: 50ms}
`;

/** Applies the topology and makes users, a vhost and policies. */
export async function furnish(broker) {
  await broker.api('PUT', '/topology?file=shop.yaml', { file: 'shop.yaml', text: TOPOLOGY });
  await broker.api('PUT', '/vhosts/billing', { description: 'Invoices and payments' });
  for (const [name, tags] of [['shop', 'management'], ['ada', 'monitoring'], ['billing-service', '']]) {
    await broker.api('PUT', `/users/${name}`, { password: `${name}-secret`, tags });
  }
  await broker.api('PUT', '/schedules/%2F/invoices/pause');
  for (const [order, hours] of [['a12', 1], ['a15', 4], ['a19', 26], ['a23', 72]]) {
    await broker.api('POST', '/exchanges/%2F/reminders/publish', {
      routing_key: 'remind',
      payload: JSON.stringify({ order, text: 'Please pay' }),
      payload_encoding: 'string',
      properties: { delivery_mode: 2, message_id: `pay-${order}`, headers: { 'x-delay': hours * 3_600_000 } },
    });
  }
  const everything = { configure: '.*', write: '.*', read: '.*' };
  await broker.api('PUT', '/permissions/%2F/shop', { configure: '^orders\\.', write: '^orders', read: '.*' });
  await broker.api('PUT', '/permissions/billing/billing-service', everything);
  await broker.api('PUT', '/permissions/%2F/ada', { configure: '', write: '', read: '.*' });
  await broker.api('PUT', '/policies/%2F/orders-limits', {
    pattern: '^orders\\.', 'apply-to': 'classic_queues', priority: 1, definition: { 'max-length': 100000 },
  });
  await broker.api('PUT', '/operator-policies/%2F/ceiling', {
    pattern: '.*', 'apply-to': 'queues', priority: 0, definition: { 'max-length': 1000000 },
  });
}

/** Clients of the shop. `stop` closes them. */
export class Traffic {
  #connection;
  #channel;
  #timer;
  #number = 0;

  /** Connects, with consumers of `orders.charge`; `perSecond` orders are placed until `stop`. */
  static async start(broker, perSecond = 20) {
    const traffic = new Traffic();
    const url = `amqp://guest:guest@${broker.amqp}`;
    traffic.#connection = await amqp.connect(url, { clientProperties: { connection_name: 'shop-web', product: 'shop' } });
    traffic.#channel = await traffic.#connection.createConfirmChannel();
    await traffic.#channel.prefetch(20);
    const consume = (tag, options) =>
      traffic.#channel.consume('orders.charge', (message) => message && traffic.#channel.ack(message), { consumerTag: tag, ...options });
    await consume('charge-1');
    await consume('charge-2', { arguments: { 'x-priority': 5, 'x-rate': 10 } });
    await traffic.place(60);
    if (perSecond > 0) traffic.#timer = setInterval(() => void traffic.place(1).catch(() => {}), 1000 / perSecond);
    return traffic;
  }

  /** Places orders and waits until they are on disk. */
  async place(orders) {
    for (let index = 0; index < orders; index += 1) {
      this.#number += 1;
      const order = { order: `a${this.#number}`, amount: (this.#number % 7) * 12.5, customer: 'Ada' };
      for (const key of ['order.placed', 'order.confirmed', 'order.charged']) this.#publish(key, order);
    }
    await this.#channel.waitForConfirms();
  }

  #publish(key, order) {
    const headers = { region: this.#number % 2 ? 'eu' : 'us' };
    const options = { contentType: 'application/json', persistent: true, messageId: `${order.order}-${key}`, headers };
    this.#channel.publish('orders', key, Buffer.from(JSON.stringify(order)), options);
  }

  /** Rejects some messages of `orders.confirm`, which dead-letters them. */
  async reject(count) {
    for (let index = 0; index < count; index += 1) {
      const message = await this.#channel.get('orders.confirm');
      if (message) this.#channel.nack(message, false, false);
    }
  }

  async stop() {
    clearInterval(this.#timer);
    await this.#connection.close();
  }
}
