"""Contracts 6.5: time to live, unused queues, limits of length and what happens over them."""

import pika
import pytest

from support import (Delivery, Sink, bodies_in_order, channel_error, declare, drain, fill, publish, rabbitmq_differs,
                     ready, sync, until)

# Nobody waits for so long here.
NEVER_MS = 3_600_000


def with_grave(channel, name, **arguments):
    """A queue and the queue where its dead messages go; `x_foo=1` means `x-foo: 1`."""
    grave = declare(channel, name())
    arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
    arguments |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave}
    return declare(channel, name(), arguments=arguments), grave


def until_ready(channel, queue, count):
    until(channel.connection, lambda: ready(channel, queue) == count,
          lambda: f"{count} ready in {queue}, there are {ready(channel, queue)}")


def returns(channel):
    """Where returned messages will be listed."""
    returned = []
    channel.add_on_return_callback(lambda _, method, properties, body: returned.append(
        Delivery(method, properties, body)))
    return returned


def until_gone(channel, queue):
    """Publishes to a queue, which is no use of it, until the message comes back because the queue is gone."""
    returned = returns(channel)

    def is_gone():
        publish(channel, queue, "anybody there?", mandatory=True)
        sync(channel)
        return returned

    until(channel.connection, is_gone, f"{queue} goes")


# Arguments.


@pytest.mark.parametrize("arguments", [
    {"x-message-ttl": -1}, {"x-message-ttl": "soon"},
    {"x-expires": 0}, {"x-expires": -1}, {"x-expires": "soon"},
    {"x-max-length": -1}, {"x-max-length": "long"},
    {"x-max-length-bytes": -1}, {"x-max-length-bytes": "long"},
    {"x-overflow": "burst"}, {"x-overflow": 1},
], ids=str)
def test_probed_a_wrong_limit_is_refused_with_406(channel, name, arguments):
    with channel_error(channel, 406, "PRECONDITION_FAILED"):
        channel.queue_declare(name(), arguments=arguments)


@pytest.mark.parametrize("argument", ["x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes"])
def test_D2_a_redeclare_with_another_limit_is_refused_with_406(channel, name, argument):
    queue = declare(channel, name(), arguments={argument: NEVER_MS})
    declare(channel, queue, arguments={argument: NEVER_MS})
    with channel_error(channel, 406, f"inequivalent arg '{argument}'"):
        channel.queue_declare(queue, arguments={argument: NEVER_MS + 1})


# Time to live.


@pytest.mark.parametrize("queue_ms, message_ms", [(50, None), (None, "50"), (50, str(NEVER_MS)), (NEVER_MS, "50")])
def test_T1_the_lesser_of_both_times_to_live_counts(channel, name, queue_ms, message_ms):
    arguments = {} if queue_ms is None else {"x_message_ttl": queue_ms}
    queue, grave = with_grave(channel, name, **arguments)
    publish(channel, queue, "mortal", expiration=message_ms)
    until_ready(channel, grave, 1)
    assert drain(channel, queue) == []
    assert drain(channel, grave) == ["mortal"]


def test_T1_a_message_expires_without_anybody_who_looks_at_the_queue(channel, name):
    queue = declare(channel, name(), arguments={"x-message-ttl": 30})
    for n in range(20):
        publish(channel, queue, n)
    until_ready(channel, queue, 0)


def test_T1_an_expired_message_is_not_delivered_but_counts_until_it_is_at_the_head(channel, name):
    queue, grave = with_grave(channel, name)
    other, later = with_grave(channel, name)
    publish(channel, queue, "stays")
    publish(channel, queue, "goes", expiration="30")
    publish(channel, queue, "stays too")
    publish(channel, other, "a clock", expiration="60")
    until_ready(channel, later, 1)
    assert (ready(channel, queue), ready(channel, grave)) == (3, 0)
    assert drain(channel, queue) == ["stays", "stays too"]
    until_ready(channel, grave, 1)
    assert drain(channel, grave) == ["goes"]


def test_T1_requeueing_does_not_prolong_a_life(channel, name):
    queue, grave = with_grave(channel, name, x_message_ttl=300)
    publish(channel, queue, "mortal")

    def is_gone():
        method, _, _ = channel.basic_get(queue)
        if method is not None:
            channel.basic_nack(method.delivery_tag, requeue=True)
        return ready(channel, grave) == 1

    until(channel.connection, is_gone, "it expires between two gets")
    assert drain(channel, queue) == []


def test_T1_an_unacked_message_does_not_expire(channel, name):
    queue, grave = with_grave(channel, name)
    other, later = with_grave(channel, name)
    sink = Sink(channel, queue)
    publish(channel, queue, "held", expiration="100")
    sink.wait(1)
    publish(channel, other, "a clock", expiration="200")
    until_ready(channel, later, 1)
    assert ready(channel, grave) == 0
    channel.basic_ack(sink.deliveries[0].tag)
    sync(channel)
    assert ready(channel, grave) == 0


def test_T2_a_time_to_live_of_zero_is_for_who_waits(channel, name):
    queue, grave = with_grave(channel, name, x_message_ttl=0)
    returned = returns(channel)
    publish(channel, queue, "nobody waits", mandatory=True)
    until_ready(channel, grave, 1)
    sink = Sink(channel, queue, auto_ack=True)
    publish(channel, queue, "somebody waits", mandatory=True)
    assert [delivery.body for delivery in sink.wait(1)] == ["somebody waits"]
    assert (drain(channel, grave), returned) == (["nobody waits"], [])


def test_T2_a_message_behind_a_longer_life_waits_for_the_head(channel, name):
    queue, grave = with_grave(channel, name)
    publish(channel, queue, "first", expiration="300")
    publish(channel, queue, "second", expiration="1")
    until_ready(channel, grave, 2)
    assert drain(channel, grave) == ["first", "second"]


# Unused queues.


def test_T3_an_unused_queue_goes_with_its_messages_and_without_dead_letters(channel, name):
    queue, grave = with_grave(channel, name, x_expires=200)
    publish(channel, queue, "lost")
    until_gone(channel, queue)
    assert ready(channel, grave) == 0
    with channel_error(channel, 404):
        channel.queue_declare(queue, passive=True)


def test_T3_a_consumer_keeps_a_queue(channel, name):
    kept, unused = (declare(channel, name(), arguments={"x-expires": ms}) for ms in (100, 300))
    sink = Sink(channel, kept)
    until_gone(channel, unused)
    publish(channel, kept, "still here")
    sink.wait(1)
    channel.basic_cancel(sink.tag)
    until_gone(channel, kept)


def test_T3_a_get_keeps_a_queue(channel, name):
    kept, unused = (declare(channel, name(), arguments={"x-expires": ms}) for ms in (2000, 2500))
    returned = returns(channel)

    def is_gone():
        assert channel.basic_get(kept)[0] is None
        publish(channel, unused, mandatory=True)
        sync(channel)
        return returned

    until(channel.connection, is_gone, "the unused queue goes")
    channel.queue_declare(kept, passive=True)


# Length.


def test_T4_the_oldest_ready_message_makes_room(channel, name):
    queue, grave = with_grave(channel, name, x_max_length=2)
    for n in range(5):
        publish(channel, queue, n)
    until_ready(channel, grave, 3)
    assert (drain(channel, queue), drain(channel, grave)) == (["3", "4"], ["0", "1", "2"])


def test_T4_a_length_counts_ready_messages_only(channel, name):
    queue, grave = with_grave(channel, name, x_max_length=2)
    fill(channel, queue, 2)
    held = [channel.basic_get(queue)[0].delivery_tag for _ in range(2)]
    fill(channel, queue, 2)
    assert ready(channel, grave) == 0
    for tag in held:
        channel.basic_nack(tag, requeue=True)
    until_ready(channel, grave, 2)
    assert ready(channel, queue) == 2


def test_T4_bytes_are_those_of_bodies(channel, name):
    queue, grave = with_grave(channel, name, x_max_length_bytes=10)
    for n in range(3):
        publish(channel, queue, f"{n}....", headers={"padding": "x" * 1000})
    until_ready(channel, grave, 1)
    assert (drain(channel, queue), drain(channel, grave)) == (["1....", "2...."], ["0...."])


@pytest.mark.parametrize("limits, kept", [
    ({"x_max_length": 3, "x_max_length_bytes": 1000}, 3), ({"x_max_length": 1000, "x_max_length_bytes": 5}, 5)])
def test_T4_both_limits_hold(channel, name, limits, kept):
    queue, grave = with_grave(channel, name, **limits)
    for n in range(9):
        publish(channel, queue, n)
    until_ready(channel, grave, 9 - kept)
    assert drain(channel, queue) == bodies_in_order(9)[9 - kept:]


def test_T4_a_message_larger_than_the_limit_does_not_stay(channel, name):
    queue, grave = with_grave(channel, name, x_max_length_bytes=3)
    publish(channel, queue, "large")
    until_ready(channel, grave, 1)
    assert ready(channel, queue) == 0


def test_T4_a_waiting_consumer_gets_all_whatever_the_limit(channel, name):
    queue = declare(channel, name(), arguments={"x-max-length": 1})
    sink = Sink(channel, queue)
    for n in range(5):
        publish(channel, queue, n)
        sink.wait(n + 1)
    assert sink.bodies == bodies_in_order(5)


# Refusing.


@pytest.mark.parametrize("overflow, dead", [("reject-publish", []), ("reject-publish-dlx", ["2", "3"])])
def test_T5_what_there_is_no_room_for_is_nacked(channel, name, overflow, dead):
    queue, grave = with_grave(channel, name, x_max_length=2, x_overflow=overflow)
    channel.confirm_delivery()
    for n in range(2):
        publish(channel, queue, n)
    for n in range(2, 4):
        with pytest.raises(pika.exceptions.NackError):
            publish(channel, queue, n)
    until_ready(channel, grave, len(dead))
    assert (drain(channel, queue), drain(channel, grave)) == (["0", "1"], dead)


def test_T5_a_refusal_is_silent_without_confirms(channel, name):
    queue = declare(channel, name(), arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    for n in range(3):
        publish(channel, queue, n)
    sync(channel)
    assert drain(channel, queue) == ["0"]


def test_T5_a_queue_that_has_room_again_takes_messages_again(channel, name):
    queue = declare(channel, name(), arguments={"x-max-length-bytes": 4, "x-overflow": "reject-publish"})
    channel.confirm_delivery()
    publish(channel, queue, "full")
    with pytest.raises(pika.exceptions.NackError):
        publish(channel, queue, "over")
    assert drain(channel, queue) == ["full"]
    publish(channel, queue, "room")
    assert drain(channel, queue) == ["room"]


def test_P6_one_queue_that_refuses_makes_a_nack_and_the_others_keep_the_message(channel, name):
    exchange, full, other = name("x"), name(), name()
    channel.exchange_declare(exchange, "fanout")
    declare(channel, full, arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
    declare(channel, other)
    for queue in (full, other):
        channel.queue_bind(queue, exchange)
    channel.confirm_delivery()
    with pytest.raises(pika.exceptions.NackError):
        publish(channel, "", "kept by one", exchange=exchange)
    assert (drain(channel, full), drain(channel, other)) == ([], ["kept by one"])


def test_T5_a_grave_that_refuses_does_not_nack_the_publish_that_displaced_a_message(channel, name):
    grave = declare(channel, name(), arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
    queue = declare(channel, name(), arguments={
        "x-max-length": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave})
    channel.confirm_delivery()
    for n in range(3):
        publish(channel, queue, n)
    assert (drain(channel, queue), drain(channel, grave)) == (["2"], [])


@rabbitmq_differs("a quorum queue knows no reject-publish-dlx")
def test_T5_a_quorum_queue_refuses_like_any_other(channel, name):
    queue, grave = with_grave(channel, name)
    quorum = declare(channel, name(), durable=True, arguments={
        "x-queue-type": "quorum", "x-max-length": 1, "x-overflow": "reject-publish-dlx",
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave})
    channel.confirm_delivery()
    publish(channel, quorum, "first")
    with pytest.raises(pika.exceptions.NackError):
        publish(channel, quorum, "second")
    until_ready(channel, grave, 1)
    assert (drain(channel, quorum), drain(channel, grave), drain(channel, queue)) == (["first"], ["second"], [])
