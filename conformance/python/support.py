"""Small words that the suites with pika 1.x share."""

import time
from contextlib import contextmanager

import pika
import pytest

from rawamqp import PATIENCE_S

rabbitmq_differs = pytest.mark.rabbitmq_differs


def sync(channel):
    """A round trip: everything sent before on this channel has been seen by the server."""
    channel.exchange_declare("amq.direct", passive=True)


@contextmanager
def channel_error(channel, code, says=""):
    """What is done inside makes the server close the channel with this code, and only the channel."""
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        yield
        sync(channel)
    assert closed.value.reply_code == code, closed.value
    assert says in closed.value.reply_text, closed.value
    assert channel.connection.is_open
    channel.connection.channel().close()


@contextmanager
def connection_error(channel, code, says=""):
    """What is done inside makes the server close the connection with this code."""
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as closed:
        yield
        sync(channel)
    assert closed.value.reply_code == code, closed.value
    assert says in closed.value.reply_text, closed.value


def declare(channel, queue, **arguments):
    channel.queue_declare(queue, **arguments)
    return queue


def publish(channel, routing_key, body=b"x", exchange="", mandatory=False, **properties):
    body = body if isinstance(body, bytes) else str(body).encode()
    channel.basic_publish(exchange, routing_key, body, pika.BasicProperties(**properties), mandatory=mandatory)


def counts(channel, queue):
    """(ready messages, consumers) as a passive declare tells them."""
    method = channel.queue_declare(queue, passive=True).method
    return method.message_count, method.consumer_count


def is_gone(connection, queue):
    """Whether there is no such queue (any more); asked on a channel of its own, which the answer closes."""
    probe = connection.channel()
    try:
        probe.queue_declare(queue, passive=True)
    except pika.exceptions.ChannelClosedByBroker as closed:
        return closed.reply_code == 404
    probe.close()
    return False


def ready(channel, queue):
    return counts(channel, queue)[0]


def drain(channel, queue):
    """Gets everything out of a queue; the bodies as text, in order."""
    bodies = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return bodies
        bodies.append(body.decode())


def until(connection, condition, what, patience_s=PATIENCE_S):
    """Handles what comes in until the condition holds."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what() if callable(what) else what}"
        connection.process_data_events(time_limit=0.02)


class Delivery:
    """One message as a consumer or a return saw it."""

    def __init__(self, method, properties, body):
        self.method, self.properties, self.body = method, properties, body.decode("latin-1")
        self.tag = getattr(method, "delivery_tag", None)
        self.redelivered = getattr(method, "redelivered", None)

    def __repr__(self):
        return f"Delivery({self.tag}, {self.body[:40]!r}, redelivered={self.redelivered})"


class Sink:
    """A consumer that keeps what it gets."""

    def __init__(self, channel, queue, auto_ack=False, **consume):
        self.channel, self.deliveries = channel, []
        self.tag = channel.basic_consume(queue, self._on_message, auto_ack=auto_ack, **consume)

    def _on_message(self, _channel, method, properties, body):
        self.deliveries.append(Delivery(method, properties, body))

    @property
    def bodies(self):
        return [delivery.body for delivery in self.deliveries]

    def wait(self, count):
        """Until so many have come; returns all deliveries so far."""
        until(self.channel.connection, lambda: len(self.deliveries) >= count,
              lambda: f"{count} deliveries, have {self.deliveries}")
        return self.deliveries

    def settle(self):
        """Two round trips, and what they brought is handled: deliveries assigned before are here now."""
        for _ in range(2):
            sync(self.channel)
            self.channel.connection.process_data_events(time_limit=0)
        return self.deliveries


def bodies_in_order(count):
    return [str(n) for n in range(count)]


def fill(channel, queue, count, **properties):
    """Publishes 0, 1, 2... and waits until they are in the queue."""
    for n in range(count):
        publish(channel, queue, n, **properties)
    until(channel.connection, lambda: ready(channel, queue) >= count, f"{count} ready in {queue}")
