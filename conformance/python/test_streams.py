"""Streams over AMQP 0-9-1: contracts A13, A11, D5."""

import time

import pika
import pytest

from support import Sink, channel_error, connection_error, declare, publish, rabbitmq_differs, ready, until

STREAM = {"x-queue-type": "stream"}


def stream(channel, queue, **arguments):
    return declare(channel, queue, durable=True,
                   arguments=STREAM | {name.replace("_", "-"): value for name, value in arguments.items()})


def append(channel, queue, bodies, **properties):
    """Publishes and waits for the confirms."""
    with channel.connection.channel() as publisher:
        publisher.confirm_delivery()
        for body in bodies:
            publish(publisher, queue, body, **properties)


def offset(delivery):
    return delivery.properties.headers["x-stream-offset"]


@pytest.fixture
def reader(connection):
    """Starts consumers, each on a channel of its own with a prefetch."""
    def start(queue, at=None, prefetch=100, tag=None, **arguments):
        channel = connection.channel()
        channel.basic_qos(prefetch_count=prefetch)
        given = {name.replace("_", "-"): value for name, value in arguments.items()}
        if at is not None:
            given["x-stream-offset"] = at
        extra = {"consumer_tag": tag} if tag else {}
        return Sink(channel, queue, arguments=given, **extra)
    return start


# Declaring.


@pytest.mark.parametrize("how", [{"durable": False}, {"durable": True, "exclusive": True},
                                 {"durable": True, "auto_delete": True}])
def test_D5_a_stream_is_durable_shared_and_stays(channel, name, how):
    with channel_error(channel, 406):
        channel.queue_declare(name(), arguments=STREAM, **how)


def test_D5_a_stream_is_not_named_by_the_server(channel):
    with channel_error(channel, 406):
        channel.queue_declare("", durable=True, arguments=STREAM)


@pytest.mark.parametrize("arguments", [
    {"x-max-age": "7"}, {"x-max-age": "1.5h"}, {"x-max-age": 7},
    {"x-max-length-bytes": -1}, {"x-stream-max-segment-size-bytes": "much"},
])
def test_a_bad_argument_of_a_stream_closes_the_channel_with_406(channel, name, arguments):
    with channel_error(channel, 406):
        channel.queue_declare(name(), durable=True, arguments=STREAM | arguments)


def test_D2_a_stream_is_redeclared_with_the_same_arguments_only(channel, name):
    queue = stream(channel, name(), x_max_age="7D", x_max_length_bytes=10**9)
    stream(channel, queue, x_max_age="7D", x_max_length_bytes=10**9)
    with channel_error(channel, 406, "inequivalent arg 'x-max-age'"):
        stream(channel, queue, x_max_age="8D", x_max_length_bytes=10**9)


# What a stream does not do.


def test_A13_get_and_purge_close_the_connection_with_540(connect, name):
    queue = name()
    channel = connect().channel()
    stream(channel, queue)
    with connection_error(channel, 540):
        channel.basic_get(queue)
    channel = connect().channel()
    with connection_error(channel, 540):
        channel.queue_purge(queue)


def test_A13_a_consumer_without_acks_closes_the_connection_with_540(channel, name):
    queue = stream(channel, name())
    channel.basic_qos(prefetch_count=1)
    with connection_error(channel, 540):
        channel.basic_consume(queue, lambda *_: None, auto_ack=True)


def test_A13_a_consumer_without_a_prefetch_closes_the_channel_with_406(channel, name):
    queue = stream(channel, name())
    with channel_error(channel, 406, "consumer prefetch count is not set"):
        channel.basic_consume(queue, lambda *_: None)


@rabbitmq_differs("a global limit is dropped with the feature", since=(4, 3))
def test_A13_a_global_prefetch_closes_the_connection_with_540(channel, name):
    queue = stream(channel, name())
    channel.basic_qos(prefetch_count=10, global_qos=True)
    with connection_error(channel, 540):
        channel.basic_consume(queue, lambda *_: None)


@pytest.mark.parametrize("at", ["soon", "7", True])
def test_A13_a_bad_offset_closes_the_channel_with_406(channel, name, at):
    queue = stream(channel, name())
    channel.basic_qos(prefetch_count=1)
    with channel_error(channel, 406):
        channel.basic_consume(queue, lambda *_: None, arguments={"x-stream-offset": at})


# Reading.


def test_A13_everybody_reads_everything_and_the_offset_is_in_a_header(channel, reader, name):
    queue = stream(channel, name())
    append(channel, queue, range(20))
    for _ in range(2):
        sink = reader(queue, "first")
        assert [(d.body, offset(d), d.redelivered) for d in sink.wait(20)] == [(str(n), n, False) for n in range(20)]


def test_A13_the_offset_joins_the_headers_of_the_publisher(channel, reader, name):
    queue = stream(channel, name())
    append(channel, queue, ["x"], content_type="text/plain", headers={"a": "b", "x-stream-offset": "mine"},
           correlation_id="c")
    [delivery] = reader(queue, "first").wait(1)
    assert delivery.properties.headers == {"a": "b", "x-stream-offset": 0}
    assert (delivery.properties.content_type, delivery.properties.correlation_id) == ("text/plain", "c")


@pytest.mark.parametrize("at, first", [("first", 0), (0, 0), (7, 7), (9, 9)])
def test_A13_a_consumer_begins_where_it_wants(channel, reader, name, at, first):
    queue = stream(channel, name())
    append(channel, queue, range(10))
    sink = reader(queue, at)
    assert [offset(d) for d in sink.wait(10 - first)] == list(range(first, 10))


@rabbitmq_differs("last is the last chunk of messages there")
def test_A13_last_is_the_last_message(channel, reader, name):
    queue = stream(channel, name())
    append(channel, queue, range(10))
    sink = reader(queue, "last")
    assert [offset(d) for d in sink.wait(1)] == [9]


@pytest.mark.parametrize("at", ["next", None, 1000])
def test_A13_next_and_what_is_behind_the_end_wait_for_what_comes(channel, reader, name, at):
    queue = stream(channel, name())
    append(channel, queue, range(10))
    sink = reader(queue, at)
    append(channel, queue, ["new"])
    assert [(d.body, offset(d)) for d in sink.wait(1)] == [("new", 10)]


def test_A13_a_consumer_may_begin_at_a_time(channel, reader, name):
    queue = stream(channel, name())
    append(channel, queue, ["old"])
    time.sleep(2.1)
    append(channel, queue, ["new"])
    now = int(time.time())
    for at, wanted in [("1h", ["old", "new"]), ("1s", ["new"]), (pika_time(now - 1), ["new"]),
                       (pika_time(now - 3600), ["old", "new"])]:
        sink = reader(queue, at)
        sink.wait(len(wanted))
        assert sink.bodies[-len(wanted):] == wanted


def pika_time(seconds):
    """pika writes a datetime as a timestamp."""
    import datetime
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)


def test_A13_an_ack_gives_credit_and_takes_nothing_away(channel, reader, name):
    queue = stream(channel, name())
    append(channel, queue, range(10))
    sink = reader(queue, "first", prefetch=3)
    sink.wait(3)
    assert len(sink.settle()) == 3
    sink.channel.basic_ack(2, multiple=True)
    assert [offset(d) for d in sink.wait(5)] == [0, 1, 2, 3, 4]
    assert len(sink.settle()) == 5
    for outcome in (lambda tag: sink.channel.basic_nack(tag, requeue=True),
                    lambda tag: sink.channel.basic_reject(tag, requeue=False)):
        outcome(sink.deliveries[-1].tag)
        sink.wait(len(sink.deliveries) + 1)
    assert [offset(d) for d in sink.settle()] == list(range(7))
    assert len(reader(queue, "first").wait(10)) == 10


def test_A13_two_consumers_of_one_channel_have_places_and_credit_of_their_own(channel, name):
    queue = stream(channel, name())
    append(channel, queue, range(6))
    channel.basic_qos(prefetch_count=2)
    one = Sink(channel, queue, arguments={"x-stream-offset": "first"})
    two = Sink(channel, queue, arguments={"x-stream-offset": 2})
    one.wait(2), two.wait(2)
    for delivery in one.deliveries[:2]:
        channel.basic_ack(delivery.tag)
    one.wait(4)
    assert [offset(d) for d in one.settle()] == [0, 1, 2, 3]
    assert [offset(d) for d in two.settle()] == [2, 3]


def test_A13_what_a_stream_holds_is_durable_whatever_its_delivery_mode(channel, reader, name):
    queue = stream(channel, name())
    append(channel, queue, ["transient"], delivery_mode=1)
    [delivery] = reader(queue, "first").wait(1)
    assert delivery.properties.delivery_mode == 1


def test_A7_consumers_are_told_when_the_stream_is_deleted(channel, reader, name):
    queue = stream(channel, name())
    sink = reader(queue, "first")
    cancelled = []
    sink.channel.add_on_cancel_callback(cancelled.append)
    channel.queue_delete(queue)
    until(sink.channel.connection, lambda: cancelled, "the cancel")


# Size and age.


@rabbitmq_differs("it drops whole segments only")
def test_a_stream_keeps_no_more_than_its_size(channel, reader, name):
    queue = stream(channel, name(), x_max_length_bytes=100_000)
    append(channel, queue, ["x" * 1000] * 400)
    [first, *_] = reader(queue, "first").wait(1)
    assert 100 < offset(first) < 400


@rabbitmq_differs("it looks when a segment is full")
def test_a_stream_forgets_what_is_too_old_without_traffic(channel, reader, name):
    queue = stream(channel, name(), x_max_age="1s")
    append(channel, queue, range(5))
    until(channel.connection,
          lambda: channel.queue_declare(queue, passive=True).method.message_count == 0, "the end of its age")
    append(channel, queue, ["new"])
    assert [(d.body, offset(d)) for d in reader(queue, "first").wait(1)] == [("new", 5)]


# What is remembered by name.


@rabbitmq_differs("only its stream protocol keeps offsets")
def test_a_tracked_consumer_goes_on_where_it_stopped(channel, reader, name):
    queue, tag = stream(channel, name()), name()
    append(channel, queue, range(10))
    sink = reader(queue, "first", tag=tag, x_stream_automatic_offset_tracking=True)
    sink.wait(10)
    sink.channel.basic_ack(sink.deliveries[6].tag, multiple=True)
    sink.channel.basic_ack(sink.deliveries[8].tag)
    sink.settle()
    sink.channel.close()
    again = reader(queue, tag=tag, x_stream_automatic_offset_tracking=True)
    assert [offset(d) for d in again.wait(3)] == [7, 8, 9]
    other = reader(queue, tag=name(), x_stream_automatic_offset_tracking=True)
    append(channel, queue, ["new"])
    assert [offset(d) for d in other.wait(1)] == [10]


# Filters.


@rabbitmq_differs("its filter is by chunk and lets others through")
@pytest.mark.parametrize("arguments, wanted", [
    ({"x_stream_filter": "a"}, [0, 3]),
    ({"x_stream_filter": ["a", "b"]}, [0, 1, 3, 4]),
    ({"x_stream_filter": "b", "x_stream_match_unfiltered": True}, [1, 2, 4, 5]),
    ({"x_stream_filter": "z"}, []),
])
def test_a_filter_passes_messages_over(channel, reader, name, arguments, wanted):
    queue = stream(channel, name())
    for n in range(6):
        headers = {"x-stream-filter-value": "ab"[n % 3]} if n % 3 < 2 else {}
        append(channel, queue, [n], headers=headers)
    sink = reader(queue, "first", prefetch=2, **arguments)
    for count in range(len(wanted)):
        sink.wait(count + 1)
        sink.channel.basic_ack(sink.deliveries[count].tag)
    assert [offset(d) for d in sink.settle()] == wanted


# Single active consumer.


@rabbitmq_differs("only its stream protocol has it")
def test_A5_of_a_single_active_consumer_the_next_goes_on_where_the_first_stopped(channel, reader, name):
    queue = stream(channel, name(), x_single_active_consumer=True)
    append(channel, queue, range(6))
    one = reader(queue, "first", prefetch=4)
    two = reader(queue, "first", prefetch=10)
    one.wait(4)
    one.channel.basic_ack(one.deliveries[1].tag, multiple=True)
    one.wait(6)
    assert two.settle() == []
    one.channel.close()
    assert [offset(d) for d in two.wait(4)] == [2, 3, 4, 5]


# Dead letters.


@pytest.mark.parametrize("reason", ["rejected", "expired"])
def test_X1_a_dead_letter_in_a_stream_is_counted_and_read_at_once(channel, reader, name, reason):
    grave = stream(channel, name())
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave}
    work = declare(channel, name(), arguments=arguments)
    before = reader(grave, "first")
    for n in range(2):
        publish(channel, work, f"dead {n}", expiration="1" if reason == "expired" else None)
    if reason == "rejected":
        until(channel.connection, lambda: ready(channel, work) == 2, "two messages that can be rejected")
        channel.basic_nack(channel.basic_get(work)[0].delivery_tag, requeue=False)
        channel.basic_nack(channel.basic_get(work)[0].delivery_tag, requeue=False)
    assert [(offset(d), d.body) for d in before.wait(2)] == [(0, "dead 0"), (1, "dead 1")]
    assert before.deliveries[0].properties.headers["x-death"][0]["reason"] == reason
    assert ready(channel, grave) == 2
    assert [offset(d) for d in reader(grave, "last").wait(1)] == [1]
