"""Contract T6: priorities of messages, in classic and in quorum queues."""

import pytest

from support import Sink, channel_error, declare, drain, publish, rabbitmq_differs, ready, until


def prioritized(channel, queue, highest, **more):
    return declare(channel, queue, arguments={"x-max-priority": highest, **more})


def quorum(channel, queue, **more):
    return declare(channel, queue, durable=True, arguments={"x-queue-type": "quorum", **more})


def fill(channel, queue, messages):
    """Publishes `a5 b-`: body and priority, `-` for none; waits until they are there."""
    for message in messages.split():
        body, priority = message[0], message[1:]
        publish(channel, queue, body, priority=None if priority == "-" else int(priority))
    count = len(messages.split())
    until(channel.connection, lambda: ready(channel, queue) == count, f"{count} ready")


def order(channel, queue):
    return "".join(drain(channel, queue))


@pytest.mark.parametrize("highest", [256, 1000, -1, "high"])
def test_T6_a_wrong_highest_priority_is_refused_with_406(channel, name, highest):
    with channel_error(channel, 406, "PRECONDITION_FAILED"):
        prioritized(channel, name(), highest)


def test_T6_the_highest_priority_is_fixed_by_the_declaration(channel, name):
    queue = prioritized(channel, name(), 5)
    prioritized(channel, queue, 5)
    with channel_error(channel, 406, "inequivalent arg 'x-max-priority'"):
        prioritized(channel, queue, 6)


@pytest.mark.parametrize("highest, messages, delivered", [
    (5, "a1 b5 c3", "bca"),
    (5, "a1 b1 c1", "abc"),
    (5, "a- b0 c1", "cab"),
    (5, "a4 b5 c9 d255", "bcda"),
    (1, "a0 b1 c2", "bca"),
    (255, "a254 b255 c1", "bac"),
], ids=["highest first", "oldest first within one", "none is 0", "above the highest is the highest", "two levels",
        "256 levels"])
def test_T6_a_classic_queue_delivers_by_priority(channel, name, highest, messages, delivered):
    queue = prioritized(channel, name(), highest)
    fill(channel, queue, messages)
    assert order(channel, queue) == delivered


def test_T6_a_classic_queue_without_priorities_keeps_the_order(channel, name):
    queue = declare(channel, name())
    fill(channel, queue, "a1 b9 c5")
    assert order(channel, queue) == "abc"


def test_T6_a_message_keeps_the_priority_it_was_published_with(channel, name):
    queue = prioritized(channel, name(), 3)
    fill(channel, queue, "a200")
    assert channel.basic_get(queue, auto_ack=True)[1].priority == 200


def test_T6_a_higher_message_overtakes_those_that_wait(channel, name):
    queue = prioritized(channel, name(), 9)
    fill(channel, queue, "a1 b1 c1")
    channel.basic_qos(prefetch_count=1)
    sink = Sink(channel, queue)
    first = sink.wait(1)[0]
    publish(channel, queue, "d", priority=9)
    until(channel.connection, lambda: ready(channel, queue) == 3, "the higher one waits too")
    channel.basic_ack(first.tag)
    channel.basic_ack(sink.wait(2)[1].tag)
    sink.wait(3)
    assert sink.bodies == ["a", "d", "b"]


def test_A8_a_requeued_message_returns_to_its_place_within_its_priority(channel, name):
    queue = prioritized(channel, name(), 9)
    fill(channel, queue, "a1 b1 c9")
    tags = [channel.basic_get(queue)[0].delivery_tag for _ in range(2)]
    channel.basic_nack(tags[1], multiple=True, requeue=True)
    until(channel.connection, lambda: ready(channel, queue) == 3, "all are back")
    assert order(channel, queue) == "cab"


def test_T6_a_full_queue_drops_from_the_head_so_the_highest_first(channel, name):
    queue = prioritized(channel, name(), 9, **{"x-max-length": 2})
    for body, priority in [("a", 9), ("b", 1), ("c", 1)]:
        publish(channel, queue, body, priority=priority)
    until(channel.connection, lambda: ready(channel, queue) == 2, "one is dropped")
    assert order(channel, queue) == "bc"


@rabbitmq_differs("a message expires at the head of the whole queue")
def test_T1_each_priority_expires_at_its_own_head(channel, name):
    queue = prioritized(channel, name(), 9)
    publish(channel, queue, "high", priority=9)
    publish(channel, queue, "low, mortal", priority=1, expiration="20")
    until(channel.connection, lambda: ready(channel, queue) == 1, "the low one expires behind the high one")
    assert drain(channel, queue) == ["high"]


def test_A11_a_purge_empties_all_priorities(channel, name):
    queue = prioritized(channel, name(), 9)
    fill(channel, queue, "a1 b9 c5 d-")
    assert channel.queue_purge(queue).method.message_count == 4
    assert ready(channel, queue) == 0


@rabbitmq_differs("quorum queues have two priorities since 4.0 and 32 since 4.3", before=(4, 3))
@pytest.mark.parametrize("messages, delivered", [
    ("a0 b31 c16", "bca"),
    ("a- b4 c5 d3", "cabd"),
    ("a31 b200 c30", "abc"),
], ids=["highest first", "none is 4", "above 31 is 31"])
def test_T6_a_quorum_queue_has_32_priorities_without_being_asked(channel, name, messages, delivered):
    queue = quorum(channel, name())
    fill(channel, queue, messages)
    assert order(channel, queue) == delivered
