"""Exchange types beyond the core four (issue's argument table; RabbitMQ has them in plugins)."""

from collections import Counter

import pika
import pytest

from support import channel_error, declare, drain, publish, rabbitmq_differs, sync

TYPES = ["x-consistent-hash", "x-modulus-hash", "x-random", "x-recent-history"]


@pytest.fixture
def exchange(channel, name):
    """Declares an exchange of a type; the test is skipped where a RabbitMQ has none for want of a plugin."""
    is_rabbitmq = channel.connection._impl.server_properties["product"] == "RabbitMQ"

    def make(kind, **arguments):
        probe = channel.connection.channel()
        made = name(kind)
        try:
            probe.exchange_declare(made, kind, arguments=arguments or None)
            probe.close()
        except pika.exceptions.ChannelClosedByBroker as closed:
            assert is_rabbitmq, closed
            pytest.skip(f"{kind}: {closed.reply_text}")
        except pika.exceptions.ConnectionClosedByBroker as closed:
            assert is_rabbitmq, closed
            pytest.skip(f"{kind}: {closed.reply_text}")
        return made

    return make


def spread(channel, name, exchange, keys):
    """Queues bound by these keys."""
    queues = [declare(channel, name(f"q{n}")) for n in range(len(keys))]
    for queue, key in zip(queues, keys):
        channel.queue_bind(queue, exchange, key)
    return queues


@pytest.mark.parametrize("kind", TYPES)
def test_D2_the_type_is_served_and_declared_again_alike(channel, name, exchange, kind):
    made = exchange(kind)
    channel.exchange_declare(made, kind)
    channel.exchange_declare(made, passive=True)
    with channel_error(channel, 406, "inequivalent arg 'type'"):
        channel.exchange_declare(made, "fanout")


@rabbitmq_differs("closes the connection with 503", before=(4, 0))
def test_D2_an_unknown_type_closes_the_channel_with_406(channel, name):
    with channel_error(channel, 406):
        channel.exchange_declare(name(), "x-nonsense")


@pytest.mark.parametrize("weight", ["", "0", "-1", "one"])
def test_D11_a_weight_that_is_no_positive_number_closes_the_channel_with_406(channel, name, exchange, weight):
    made = exchange("x-consistent-hash")
    queue = declare(channel, name())
    with channel_error(channel, 406):
        channel.queue_bind(queue, made, weight)


def test_D2_header_and_property_to_hash_exclude_each_other(channel, name, exchange):
    exchange("x-consistent-hash")
    with channel_error(channel, 406):
        channel.exchange_declare(name(), "x-consistent-hash",
                                 arguments={"hash-header": "a", "hash-property": "message_id"})


def test_D2_a_property_that_is_not_hashed_is_refused(channel, name, exchange):
    exchange("x-consistent-hash")
    with channel_error(channel, 406):
        channel.exchange_declare(name(), "x-consistent-hash", arguments={"hash-property": "app_id"})


@pytest.mark.parametrize("kind, key", [("x-consistent-hash", "1"), ("x-modulus-hash", "k")])
def test_D13_a_key_always_goes_to_the_same_queue_and_keys_are_spread(channel, name, exchange, kind, key):
    made = exchange(kind)
    queues = spread(channel, name, made, [key] * 3)
    for n in range(300):
        publish(channel, f"k{n % 100}", f"k{n % 100}", exchange=made)
    got = [Counter(drain(channel, queue)) for queue in queues]
    assert sum(sum(counts.values()) for counts in got) == 300
    assert all(count == 3 for counts in got for count in counts.values()), "each key is in one queue only"
    assert all(len(counts) > 10 for counts in got), "each queue has a share"


@pytest.mark.parametrize("by, properties", [
    ({"hash-header": "user"}, lambda n: {"headers": {"user": str(n)}}),
    ({"hash-property": "message_id"}, lambda n: {"message_id": str(n)}),
    ({"hash-property": "correlation_id"}, lambda n: {"correlation_id": str(n)}),
    ({"hash-property": "timestamp"}, lambda n: {"timestamp": n}),
], ids=["header", "message_id", "correlation_id", "timestamp"])
def test_D13_a_header_or_property_decides_where_it_is_asked_for(channel, name, exchange, by, properties):
    made = exchange("x-consistent-hash", **by)
    queues = spread(channel, name, made, ["1"] * 3)
    for n in range(200):
        publish(channel, f"any.{n}", n % 100, exchange=made, **properties(n % 100))
    got = [Counter(drain(channel, queue)) for queue in queues]
    assert sum(sum(counts.values()) for counts in got) == 200
    assert all(count == 2 for counts in got for count in counts.values())
    assert all(len(counts) > 10 for counts in got)


def test_D13_weights_are_shares(channel, name, exchange):
    made = exchange("x-consistent-hash")
    queues = spread(channel, name, made, ["1", "3"])
    for n in range(1000):
        publish(channel, f"k{n}", n, exchange=made)
    light, heavy = (len(drain(channel, queue)) for queue in queues)
    assert light + heavy == 1000
    assert 150 < light < 350, (light, heavy)


@pytest.mark.parametrize("kind, key", [("x-random", "any"), ("x-local-random", "")])
def test_D13_an_exchange_of_chance_takes_one_queue_a_message(channel, name, exchange, kind, key):
    made = exchange(kind)
    queues = spread(channel, name, made, [key] * 3)
    for n in range(300):
        publish(channel, "same", n, exchange=made)
    got = [drain(channel, queue) for queue in queues]
    assert sorted(int(body) for bodies in got for body in bodies) == list(range(300))
    assert all(len(bodies) > 30 for bodies in got)


def test_D11_a_local_random_exchange_takes_no_binding_key(channel, name, exchange):
    made = exchange("x-local-random")
    queue = declare(channel, name())
    with channel_error(channel, 406):
        channel.queue_bind(queue, made, "key")


def test_D13_a_queue_gets_the_recent_history_when_it_is_bound(channel, name, exchange):
    made = exchange("x-recent-history", **{"x-recent-history-length": 3})
    for n in range(5):
        publish(channel, "", n, exchange=made)
    publish(channel, "", "not kept", exchange=made, headers={"x-recent-history-no-store": True})
    sync(channel)
    queue = declare(channel, name())
    channel.queue_bind(queue, made)
    publish(channel, "", "new", exchange=made)
    assert drain(channel, queue) == ["2", "3", "4", "new"]


def test_D13_twenty_messages_are_kept_if_nothing_is_said(channel, name, exchange):
    made = exchange("x-recent-history")
    for n in range(30):
        publish(channel, "", n, exchange=made)
    sync(channel)
    queue = declare(channel, name())
    channel.queue_bind(queue, made)
    assert drain(channel, queue) == [str(n) for n in range(10, 30)]


@pytest.mark.parametrize("length", [0, -1, "5"], ids=repr)
def test_D2_a_history_of_no_length_is_refused(channel, name, exchange, length):
    exchange("x-recent-history")
    with channel_error(channel, 406):
        channel.exchange_declare(name(), "x-recent-history", arguments={"x-recent-history-length": length})


def test_P4_a_message_that_only_a_history_keeps_is_returned_and_kept(channel, name, exchange):
    made = exchange("x-recent-history")
    returned = []
    channel.add_on_return_callback(lambda _c, _m, _p, body: returned.append(body))
    publish(channel, "", "m", exchange=made, mandatory=True)
    sync(channel)
    channel.connection.process_data_events(time_limit=0)
    assert returned == [b"m"]
    queue = declare(channel, name())
    channel.queue_bind(queue, made)
    assert drain(channel, queue) == ["m"]
