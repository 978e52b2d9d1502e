"""What the three Python programs share: the connection that comes back, and the event as the shop sends it.

The contract is the same in every language of this example:

- Events go to the topic exchange `orders`, the routing key says what happened, the body is JSON.
- They are persistent and mandatory, and an event counts as sent once the broker has confirmed it.
- A delivery is acked after the event that follows from it was confirmed, never before. A broker or a service
  that dies between the two lets the delivery come again, so the same event may be sent twice: it then has the
  same id, and its header `redelivered` is true.
- An order that was dealt with already is only acked.
"""

import json
import os
import random
import signal
import sys
import time

import pika
import pika.exceptions

EXCHANGE = "orders"
AMQP_URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")
# Every way a connection or a publish can fail (also nacked and returned): each is answered by starting afresh.
LOST = (pika.exceptions.AMQPError, OSError)


def log(name, text):
    print(f"{name} (python): {text}", file=sys.stderr, flush=True)


def connect():
    parameters = pika.URLParameters(AMQP_URL)
    # AMQP's default vhost is "/": a path of "/" alone means that one too.
    parameters.virtual_host = parameters.virtual_host or "/"
    connection = pika.BlockingConnection(parameters)
    channel = connection.channel()
    channel.confirm_delivery()
    return connection, channel


def drop(connection):
    """Closes what may be closed already."""
    try:
        if connection and connection.is_open:
            connection.close()
    except LOST:
        pass


def pause(attempt):
    """The wait before connecting again: grows to a second, with jitter, so that services do not come in step."""
    time.sleep(min(1.0, 0.05 * 2**attempt) * random.uniform(0.5, 1.0))


def send(channel, key, order, source, redelivered=False):
    """Publishes one event and returns when the broker has confirmed it. Raises if no queue takes it."""
    event_id = f"{key}/{order['order']}"
    properties = pika.BasicProperties(
        content_type="application/json",
        delivery_mode=pika.DeliveryMode.Persistent,
        message_id=event_id,
        type=key,
        headers={
            "cloudEvents:specversion": "1.0",
            "cloudEvents:id": event_id,
            "cloudEvents:type": key,
            "cloudEvents:source": f"/orders/{source}",
            "cloudEvents:subject": order["order"],
            "redelivered": redelivered,
        },
    )
    channel.basic_publish(EXCHANGE, key, json.dumps(order).encode(), properties, mandatory=True)


def serve(name, queue, key, work):
    """Takes orders from `queue`, sends what `work` makes of each under `key`, until it is told to stop."""
    done = set()
    state = {"stop": False, "channel": None, "connection": None}

    def stop(*_):
        state["stop"] = True
        if state["connection"]:
            state["connection"].add_callback_threadsafe(state["channel"].stop_consuming)

    def on_order(channel, method, _properties, body):
        try:
            order = json.loads(body)
            number = order["order"]
        except (ValueError, KeyError, TypeError) as error:
            log(name, f"not an order, dropped: {error!r}")
            channel.basic_reject(method.delivery_tag, requeue=False)
            return
        if number not in done:
            send(channel, key, work(order), name, method.redelivered)
            done.add(number)
        channel.basic_ack(method.delivery_tag)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    attempt = 0
    while not state["stop"]:
        connection, before = None, len(done)
        try:
            connection, channel = connect()
            state.update(connection=connection, channel=channel)
            log(name, "connected")
            channel.basic_qos(prefetch_count=20)
            channel.basic_consume(queue, on_order)
            channel.start_consuming()
            connection.close()
        except LOST as error:
            state["connection"] = None
            drop(connection)
            if not state["stop"]:
                log(name, f"connection lost, trying again: {error!r}")
                attempt = 0 if len(done) > before else attempt + 1
                pause(attempt)
    log(name, f"stopped after {len(done)} orders")
