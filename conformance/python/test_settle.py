"""Contracts 6.4: acknowledging, requeueing, recover, get and purge."""

import pytest

from support import (Sink, bodies_in_order, channel_error, connection_error, declare, drain, fill, publish, ready,
                     sync, until)

# Delivery tags and acknowledgements.


def test_A1_delivery_tags_count_from_1_per_channel(connection, name):
    queues = []
    for channel in (connection.channel(), connection.channel()):
        queues.append(declare(channel, name()))
        fill(channel, queues[-1], 3)
        sink = Sink(channel, queues[-1])
        assert [delivery.tag for delivery in sink.wait(3)] == [1, 2, 3]


def test_A1_get_and_consume_share_the_numbering_of_the_channel(channel, name):
    first, second = declare(channel, name()), declare(channel, name())
    fill(channel, first, 1)
    fill(channel, second, 1)
    assert channel.basic_get(first)[0].delivery_tag == 1
    assert Sink(channel, second).wait(1)[0].tag == 2


def test_A1_a_tag_is_used_up_also_when_no_ack_is_wanted(channel, name):
    queue = declare(channel, name())
    fill(channel, queue, 3)
    assert [d.tag for d in Sink(channel, queue, auto_ack=True).wait(3)] == [1, 2, 3]


def test_A1_ack_of_tag_0_with_multiple_acks_all(channel, connection, name):
    queue = declare(channel, name())
    fill(channel, queue, 5)
    Sink(channel, queue).wait(5)
    channel.basic_ack(0, multiple=True)
    channel.close()
    assert ready(connection.channel(), queue) == 0


def test_A1_ack_with_multiple_acks_up_to_the_tag(channel, connection, name):
    queue = declare(channel, name())
    fill(channel, queue, 5)
    Sink(channel, queue).wait(5)
    channel.basic_ack(3, multiple=True)
    channel.close()
    assert drain(connection.channel(), queue) == ["3", "4"]


def test_A1_single_acks_may_come_in_any_order(channel, connection, name):
    queue = declare(channel, name())
    fill(channel, queue, 5)
    Sink(channel, queue).wait(5)
    for tag in (5, 1, 3):
        channel.basic_ack(tag)
    channel.close()
    assert drain(connection.channel(), queue) == ["1", "3"]


SETTLEMENTS = {
    "ack": lambda ch, tag: ch.basic_ack(tag),
    "nack": lambda ch, tag: ch.basic_nack(tag, requeue=False),
    "reject": lambda ch, tag: ch.basic_reject(tag, requeue=False),
    "ack-multiple": lambda ch, tag: ch.basic_ack(tag, multiple=True),
    "nack-multiple": lambda ch, tag: ch.basic_nack(tag, multiple=True),
}


@pytest.mark.parametrize("settle", SETTLEMENTS.values(), ids=SETTLEMENTS.keys())
def test_A1_settling_an_unknown_tag_closes_the_channel_with_406(channel, settle):
    with channel_error(channel, 406, "PRECONDITION_FAILED - unknown delivery tag 5"):
        settle(channel, 5)


@pytest.mark.parametrize("settle", list(SETTLEMENTS.values())[:3], ids=list(SETTLEMENTS)[:3])
def test_A1_settling_a_tag_twice_closes_the_channel_with_406(channel, name, settle):
    queue = declare(channel, name())
    fill(channel, queue, 1)
    Sink(channel, queue).wait(1)
    with channel_error(channel, 406, "PRECONDITION_FAILED - unknown delivery tag 1"):
        settle(channel, 1)
        settle(channel, 1)


def test_A1_settling_a_tag_that_needed_no_ack_closes_the_channel_with_406(channel, name):
    queue = declare(channel, name())
    fill(channel, queue, 1)
    Sink(channel, queue, auto_ack=True).wait(1)
    with channel_error(channel, 406, "PRECONDITION_FAILED - unknown delivery tag 1"):
        channel.basic_ack(1)


def test_A1_acking_on_another_channel_closes_that_channel_with_406(connection, channel, name):
    queue = declare(channel, name())
    fill(channel, queue, 1)
    Sink(channel, queue).wait(1)
    other = connection.channel()
    with channel_error(other, 406, "unknown delivery tag 1"):
        other.basic_ack(1)
    channel.basic_ack(1)
    sync(channel)


@pytest.mark.parametrize("settle", [SETTLEMENTS["ack"], SETTLEMENTS["reject"]], ids=["ack", "reject"])
def test_A1_tag_0_without_multiple_closes_the_channel_with_406(channel, settle):
    with channel_error(channel, 406, "unknown delivery tag 0"):
        settle(channel, 0)


@pytest.mark.parametrize("settle", [SETTLEMENTS["ack-multiple"], SETTLEMENTS["nack-multiple"]],
                         ids=["ack", "nack"])
def test_probed_tag_0_with_multiple_and_nothing_unacked_is_no_error(channel, settle):
    settle(channel, 0)
    sync(channel)


# Requeueing.


@pytest.mark.parametrize("reject", [
    lambda ch, tag: ch.basic_reject(tag, requeue=True), lambda ch, tag: ch.basic_nack(tag, requeue=True),
], ids=["reject", "nack"])
def test_A8_a_requeued_message_returns_to_its_place_and_is_marked(channel, name, reject):
    queue = declare(channel, name())
    fill(channel, queue, 3)
    method, _, body = channel.basic_get(queue)
    assert (body, method.redelivered) == (b"0", False)
    reject(channel, method.delivery_tag)
    until(channel.connection, lambda: ready(channel, queue) == 3, "the message is back")
    again = [channel.basic_get(queue, auto_ack=True) for _ in range(3)]
    assert [(m.redelivered, b) for m, _, b in again] == [(True, b"0"), (False, b"1"), (False, b"2")]


def test_A8_many_requeued_messages_keep_their_order(channel, name):
    queue = declare(channel, name())
    fill(channel, queue, 10)
    tags = [channel.basic_get(queue)[0].delivery_tag for _ in range(8)]
    for tag in (tags[5], tags[1], tags[7], tags[0]):
        channel.basic_nack(tag, requeue=True)
    channel.basic_nack(tags[6], multiple=True, requeue=True)
    until(channel.connection, lambda: ready(channel, queue) == 10, "all are back")
    assert drain(channel, queue) == bodies_in_order(10)


def test_A8_nack_with_multiple_and_no_requeue_drops(channel, connection, name):
    queue = declare(channel, name())
    fill(channel, queue, 5)
    Sink(channel, queue).wait(5)
    channel.basic_nack(4, multiple=True, requeue=False)
    channel.close()
    assert drain(connection.channel(), queue) == ["4"]


@pytest.mark.parametrize("closes", ["channel", "connection", "socket"])
def test_A8_what_was_unacked_comes_back_in_order_when_its_owner_goes(connect, channel, raw, name, closes):
    queue = declare(channel, name())
    fill(channel, queue, 6)
    if closes == "socket":
        client = raw()
        client.open_channel()
        client.call(1, "basic.consume", queue=queue, consumer_tag="t")
        for _ in range(6):
            client.expect("basic.deliver", 1)
            client.take_content(1)
        client.method(1, "basic.ack", delivery_tag=1)
        client.call(1, "basic.qos", prefetch_count=1)
        client.socket.close()
    else:
        owner = connect()
        taker = owner.channel()
        Sink(taker, queue).wait(6)
        taker.basic_ack(1)
        (taker if closes == "channel" else owner).close()
    until(channel.connection, lambda: ready(channel, queue) == 5, "five of six are back")
    got = [channel.basic_get(queue, auto_ack=True) for _ in range(5)]
    assert [(m.redelivered, b) for m, _, b in got] == [(True, str(n).encode()) for n in range(1, 6)]


def test_A8_a_requeued_message_goes_to_another_consumer_when_the_first_is_full(connection, channel, name):
    queue = declare(channel, name())
    first_channel, second_channel = connection.channel(), connection.channel()
    for each in (first_channel, second_channel):
        each.basic_qos(prefetch_count=1)
    first = Sink(first_channel, queue)
    publish(channel, queue, "x")
    first.wait(1)
    second = Sink(second_channel, queue)
    first_channel.close()
    assert second.wait(1)[0].redelivered is True


# Recover.


def test_A9_recover_requeues_everything_and_is_answered(channel, name):
    queue = declare(channel, name())
    fill(channel, queue, 3)
    for _ in range(3):
        assert channel.basic_get(queue)[0].redelivered is False
    channel.basic_recover(requeue=True)
    until(channel.connection, lambda: ready(channel, queue) == 3, "all are back")
    got = [channel.basic_get(queue, auto_ack=True) for _ in range(3)]
    assert [(m.redelivered, b) for m, _, b in got] == [(True, b"0"), (True, b"1"), (True, b"2")]


def test_A9_recover_redelivers_to_the_consumer(channel, name):
    queue = declare(channel, name())
    fill(channel, queue, 2)
    sink = Sink(channel, queue)
    sink.wait(2)
    channel.basic_recover(requeue=True)
    assert [(d.tag, d.body, d.redelivered) for d in sink.wait(4)[2:]] == [(3, "0", True), (4, "1", True)]
    with channel_error(channel, 406):
        channel.basic_ack(1)


def test_A9_recover_async_requeues_and_is_not_answered(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    client.publish(1, queue, b"x")
    client.method(1, "basic.get", queue=queue)
    client.expect("basic.get-ok")
    client.take_content(1)
    client.method(1, "basic.recover-async", requeue=True)
    client.method(1, "basic.get", queue=queue)
    assert client.expect("basic.get-ok")["redelivered"] is True


def test_A9_recover_without_requeue_closes_the_connection_with_540(channel):
    with connection_error(channel, 540, "NOT_IMPLEMENTED"):
        channel.basic_recover(requeue=False)


# Get and purge.


def test_A10_get_tells_how_many_are_left(channel, name):
    queue = declare(channel, name())
    fill(channel, queue, 3)
    assert [channel.basic_get(queue)[0].message_count for _ in range(3)] == [2, 1, 0]
    assert channel.basic_get(queue)[0] is None


def test_A10_get_ok_carries_exchange_routing_key_and_tag(channel, name):
    exchange, queue = name("x"), declare(channel, name())
    channel.exchange_declare(exchange, "fanout")
    channel.queue_bind(queue, exchange)
    publish(channel, "the-key", exchange=exchange)
    method = channel.basic_get(queue)[0]
    assert (method.delivery_tag, method.exchange, method.routing_key) == (1, exchange, "the-key")


def test_A10_get_is_not_limited_by_prefetch(channel, name):
    queue = declare(channel, name())
    fill(channel, queue, 5)
    channel.basic_qos(prefetch_count=1)
    assert all(channel.basic_get(queue)[0] for _ in range(5))


def test_A10_get_without_ack_removes_the_message(channel, connection, name):
    queue = declare(channel, name())
    fill(channel, queue, 1)
    channel.basic_get(queue, auto_ack=True)
    channel.close()
    assert ready(connection.channel(), queue) == 0


def test_A11_purge_removes_what_is_ready_and_tells_the_count(channel, name):
    queue = declare(channel, name())
    fill(channel, queue, 5)
    tag = channel.basic_get(queue)[0].delivery_tag
    assert channel.queue_purge(queue).method.message_count == 4
    assert ready(channel, queue) == 0
    channel.basic_nack(tag, requeue=True)
    until(channel.connection, lambda: ready(channel, queue) == 1, "the unacked message is back")
    assert drain(channel, queue) == ["0"]


def test_A11_purging_an_empty_queue_removes_nothing(channel, name):
    assert channel.queue_purge(declare(channel, name())).method.message_count == 0
