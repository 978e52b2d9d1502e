"""Contract M7: delayed exchanges (RabbitMQ has them in a plugin that is not shipped with it)."""

import time

import pika
import pytest

from support import Sink, channel_error, declare, drain, publish, ready, sync


@pytest.fixture
def later(channel, name):
    """A delayed exchange that routes as a direct one; skipped where a RabbitMQ has no plugin for it."""
    is_rabbitmq = channel.connection._impl.server_properties["product"] == "RabbitMQ"
    probe = channel.connection.channel()
    made = name("later")
    try:
        probe.exchange_declare(made, "x-delayed-message", arguments={"x-delayed-type": "direct"})
        probe.close()
    except (pika.exceptions.ChannelClosedByBroker, pika.exceptions.ConnectionClosedByBroker) as closed:
        assert is_rabbitmq, closed
        pytest.skip(closed.reply_text)
    return made


def bound(channel, name, exchange):
    queue = declare(channel, name())
    channel.queue_bind(queue, exchange, "k")
    return queue


def delayed(channel, exchange, delay, body="m", **properties):
    publish(channel, "k", body, exchange=exchange, headers={"x-delay": delay}, **properties)


def test_M7_a_message_comes_after_its_delay_and_in_the_order_of_times(channel, name, later):
    sink = Sink(channel, bound(channel, name, later))
    began = time.monotonic()
    for delay in [400, 200, 300]:
        delayed(channel, later, delay, delay)
    deliveries = sink.wait(3)
    # Times are whole milliseconds, counted from the one in which it was published.
    assert time.monotonic() - began >= 0.399, "none was early"
    assert [delivery.body for delivery in deliveries] == ["200", "300", "400"]
    assert [delivery.properties.headers["x-delay"] for delivery in deliveries] == [-200, -300, -400]


@pytest.mark.parametrize("headers", [None, {"x-delay": 0}, {"x-delay": -1}], ids=repr)
def test_M7_without_a_positive_delay_a_message_is_routed_at_once(channel, name, later, headers):
    queue = bound(channel, name, later)
    publish(channel, "k", "now", exchange=later, headers=headers)
    assert drain(channel, queue) == ["now"]


def test_M7_a_mandatory_message_that_waits_is_not_returned(channel, name, later):
    returned = []
    channel.add_on_return_callback(lambda _c, _m, _p, body: returned.append(body))
    publish(channel, "nowhere", "waits", exchange=later, headers={"x-delay": 60_000}, mandatory=True)
    publish(channel, "nowhere", "does not", exchange=later, mandatory=True)
    sync(channel)
    channel.connection.process_data_events(time_limit=0)
    assert returned == [b"does not"]


def test_M7_a_delayed_message_is_confirmed_when_it_waits(channel, name, later):
    queue = bound(channel, name, later)
    channel.confirm_delivery()
    began = time.monotonic()
    delayed(channel, later, 30_000, delivery_mode=2)
    assert time.monotonic() - began < 20
    assert ready(channel, queue) == 0


def test_M7_dead_letters_can_be_delayed(channel, name, later):
    sink = Sink(channel, bound(channel, name, later))
    source = declare(channel, name(), arguments={
        "x-message-ttl": 1, "x-dead-letter-exchange": later, "x-dead-letter-routing-key": "k"})
    publish(channel, source, "died", headers={"x-delay": 200})
    began = time.monotonic()
    assert sink.wait(1)[0].body == "died"
    assert time.monotonic() - began >= 0.15


def cancel(channel, exchange, message_id):
    """Takes back what waits with that id; whether there was anything."""
    try:
        publish(channel, "k", "an order", exchange=exchange, headers={"x-delay-cancel": message_id}, mandatory=True)
    except pika.exceptions.UnroutableError as returned:
        assert returned.messages[0].method.reply_code == 312
        return False
    return True


def test_M7_a_publisher_takes_back_what_it_scheduled_by_the_id_it_chose(channel, name, later):
    sink = Sink(channel, bound(channel, name, later))
    publisher = channel.connection.channel()
    publisher.confirm_delivery()
    for body, message_id in [("1", "a"), ("2", "b"), ("3", "a")]:
        delayed(publisher, later, 500, body, message_id=message_id)
    assert cancel(publisher, later, "a")
    assert not cancel(publisher, later, "a"), "none is left"
    assert [delivery.body for delivery in sink.wait(1)] == ["2"]
    assert not cancel(publisher, later, "b"), "it was released"
    sync(channel)
    assert len(sink.deliveries) == 1


def test_M7_a_cancel_follows_what_was_published_before_it_in_one_write(channel, name, later):
    queue = bound(channel, name, later)
    returned = []
    channel.add_on_return_callback(lambda _c, _m, properties, _b: returned.append(properties.headers))
    for number in range(20):
        delayed(channel, later, 100, message_id=f"id {number}")
        cancel(channel, later, f"id {number}")
    cancel(channel, later, "none")
    sync(channel)
    channel.connection.process_data_events(time_limit=0.3)
    assert returned == [{"x-delay-cancel": "none"}]
    assert ready(channel, queue) == 0


def test_M7_a_cancel_in_a_transaction_happens_at_its_commit(channel, name, later):
    queue = bound(channel, name, later)
    returned = []
    channel.add_on_return_callback(lambda _c, _m, properties, _b: returned.append(properties.headers))
    channel.tx_select()
    delayed(channel, later, 30_000, message_id="a")
    cancel(channel, later, "a")
    cancel(channel, later, "a")
    channel.tx_rollback()
    delayed(channel, later, 30_000, message_id="b")
    cancel(channel, later, "b")
    cancel(channel, later, "a")
    channel.tx_commit()
    channel.connection.process_data_events(time_limit=0)
    assert returned == [{"x-delay-cancel": "a"}]
    assert ready(channel, queue) == 0


@pytest.mark.parametrize("value", [5, "", None], ids=repr)
def test_M7_what_is_to_be_cancelled_has_an_id(channel, later, value):
    with channel_error(channel, 406, "x-delay-cancel"):
        publish(channel, "k", "m", exchange=later, headers={"x-delay-cancel": value})


@pytest.mark.parametrize("arguments", [None, {"x-delayed-type": "nonsense"},
                                       {"x-delayed-type": "x-delayed-message"}], ids=repr)
def test_M7_a_delayed_exchange_needs_a_type_to_route_by(channel, name, later, arguments):
    with channel_error(channel, 406):
        channel.exchange_declare(name(), "x-delayed-message", arguments=arguments)
