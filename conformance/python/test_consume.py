"""Contracts 6.4: consumers, prefetch, priorities, cancelling."""

from support import (Sink, bodies_in_order, channel_error, connection_error, counts, declare, fill, publish,
                     rabbitmq_differs, ready, sync, until)

# Prefetch.


def test_A2_a_prefetch_size_closes_the_connection_with_540(channel):
    with connection_error(channel, 540, "NOT_IMPLEMENTED - prefetch_size!=0"):
        channel.basic_qos(prefetch_size=1)


def test_A2_prefetch_limits_what_is_unacked_and_an_ack_makes_room(channel, name):
    queue = declare(channel, name())
    fill(channel, queue, 5)
    channel.basic_qos(prefetch_count=2)
    sink = Sink(channel, queue)
    sink.wait(2)
    assert (ready(channel, queue), len(sink.settle())) == (3, 2)
    channel.basic_ack(1)
    sink.wait(3)
    assert (ready(channel, queue), len(sink.settle())) == (2, 3)
    channel.basic_ack(0, multiple=True)
    sink.wait(5)


def test_A2_the_limit_is_for_each_later_consumer(channel, name):
    queue = declare(channel, name())
    fill(channel, queue, 20)
    channel.basic_qos(prefetch_count=3)
    three = Sink(channel, queue)
    channel.basic_qos(prefetch_count=5)
    five = Sink(channel, queue)
    three.wait(3)
    five.wait(5)
    assert (ready(channel, queue), len(three.settle()), len(five.settle())) == (12, 3, 5)


def test_A2_a_new_limit_leaves_running_consumers_alone(channel, name):
    queue = declare(channel, name())
    channel.basic_qos(prefetch_count=1)
    sink = Sink(channel, queue)
    channel.basic_qos(prefetch_count=10)
    for n in range(3):
        publish(channel, queue, n)
    until(channel.connection, lambda: len(sink.deliveries) == 1 and ready(channel, queue) == 2, "one of three is out")


def test_A2_prefetch_0_means_no_limit(channel, name):
    queue = declare(channel, name())
    fill(channel, queue, 200)
    channel.basic_qos(prefetch_count=1)
    channel.basic_qos(prefetch_count=0)
    Sink(channel, queue).wait(200)


def test_A2_a_global_limit_holds_for_one_consumer(channel, name):
    queue = declare(channel, name())
    fill(channel, queue, 5)
    channel.basic_qos(prefetch_count=2, global_qos=True)
    sink = Sink(channel, queue)
    sink.wait(2)
    assert (ready(channel, queue), len(sink.settle())) == (3, 2)
    channel.basic_ack(2, multiple=True)
    sink.wait(4)


@rabbitmq_differs("one limit for the whole channel before 4.3", before=(4, 3))
def test_A2_a_global_limit_is_treated_as_one_per_consumer(channel, name):
    queue = declare(channel, name())
    fill(channel, queue, 10)
    channel.basic_qos(prefetch_count=2, global_qos=True)
    first, second = Sink(channel, queue), Sink(channel, queue)
    first.wait(2)
    second.wait(2)
    assert ready(channel, queue) == 6


def test_A2_no_ack_consumers_know_no_limit(channel, name):
    queue = declare(channel, name())
    fill(channel, queue, 20)
    channel.basic_qos(prefetch_count=1)
    Sink(channel, queue, auto_ack=True).wait(20)


# Consumers.


def test_A3_a_consumer_tag_used_twice_closes_the_connection_with_530(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    client.call(1, "basic.consume", queue=queue, consumer_tag="same")
    client.method(1, "basic.consume", queue=queue, consumer_tag="same")
    client.expect_connection_close(530, "NOT_ALLOWED - attempt to reuse consumer tag 'same'")


def test_A3_the_same_tag_on_two_channels_is_two_consumers(raw, name):
    client, queue = raw(), name()
    client.open_channel(1)
    client.open_channel(2)
    client.call(1, "queue.declare", queue=queue)
    for channel in (1, 2):
        assert client.call(channel, "basic.consume", queue=queue, consumer_tag="t") == {"consumer_tag": "t"}
    assert client.call(1, "queue.declare", queue=queue, passive=True)["consumer_count"] == 2


def test_A3_a_cancelled_tag_may_be_used_again(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    for _ in range(3):
        client.call(1, "basic.consume", queue=queue, consumer_tag="again")
        client.call(1, "basic.cancel", consumer_tag="again")


def test_A3_the_server_makes_tags_for_those_who_bring_none(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    tags = [client.call(1, "basic.consume", queue=queue)["consumer_tag"] for _ in range(2)]
    assert tags[0] != tags[1] and all(tag.startswith("amq.ctag-") for tag in tags)


def test_A3_no_local_is_ignored(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    client.call(1, "basic.consume", queue=queue, consumer_tag="t", no_local=True, no_ack=True)
    client.publish(1, queue, b"mine")
    client.expect("basic.deliver", 1)
    assert client.take_content(1)[2] == b"mine"


def test_A4_beside_an_exclusive_consumer_any_other_gets_403(connection, channel, name):
    queue = declare(channel, name())
    channel.basic_consume(queue, lambda *_: None, exclusive=True)
    other = connection.channel()
    with channel_error(other, 403, f"ACCESS_REFUSED - queue '{queue}' in vhost"):
        other.basic_consume(queue, lambda *_: None)


def test_A4_asking_to_be_exclusive_beside_others_gets_403(connection, channel, name):
    queue = declare(channel, name())
    channel.basic_consume(queue, lambda *_: None)
    other = connection.channel()
    with channel_error(other, 403, "in exclusive use"):
        other.basic_consume(queue, lambda *_: None, exclusive=True)


def test_A4_when_the_exclusive_consumer_is_gone_others_may_come(connection, channel, name):
    queue = declare(channel, name())
    tag = channel.basic_consume(queue, lambda *_: None, exclusive=True)
    channel.basic_cancel(tag)
    connection.channel().basic_consume(queue, lambda *_: None)


# Priorities and fairness.


def test_two_consumers_take_strict_turns(connection, channel, name):
    queue = declare(channel, name())
    first, second = Sink(channel, queue, auto_ack=True), Sink(connection.channel(), queue, auto_ack=True)
    for n in range(10):
        publish(channel, queue, n)
    first.wait(5)
    second.wait(5)
    assert {tuple(first.bodies), tuple(second.bodies)} == {tuple("02468"), tuple("13579")}


def test_three_consumers_on_three_connections_share_alike(connect, channel, name):
    queue = declare(channel, name())
    sinks = [Sink(connect().channel(), queue, auto_ack=True) for _ in range(3)]
    for n in range(30):
        publish(channel, queue, n)
    for sink in sinks:
        assert len(sink.wait(10)) == 10


def test_A6_the_consumer_of_highest_priority_gets_everything(connection, channel, name):
    queue = declare(channel, name())
    low = Sink(channel, queue, auto_ack=True)
    high = Sink(connection.channel(), queue, auto_ack=True, arguments={"x-priority": 10})
    lowest = Sink(connection.channel(), queue, auto_ack=True, arguments={"x-priority": -5})
    for n in range(10):
        publish(channel, queue, n)
    high.wait(10)
    assert (high.bodies, low.settle(), lowest.settle()) == (bodies_in_order(10), [], [])


def test_A6_equals_of_the_highest_priority_take_turns(connection, channel, name):
    queue = declare(channel, name())
    sinks = [Sink(connection.channel(), queue, auto_ack=True, arguments={"x-priority": 3}) for _ in range(2)]
    low = Sink(channel, queue, auto_ack=True)
    for n in range(10):
        publish(channel, queue, n)
    for sink in sinks:
        sink.wait(5)
    assert low.settle() == []


def test_A6_a_blocked_consumer_of_high_priority_does_not_stall_others(connection, channel, name):
    queue = declare(channel, name())
    busy = connection.channel()
    busy.basic_qos(prefetch_count=2)
    high = Sink(busy, queue, arguments={"x-priority": 10})
    low = Sink(channel, queue, auto_ack=True)
    for n in range(6):
        publish(channel, queue, n)
    low.wait(4)
    high.wait(2)
    assert (high.bodies, low.bodies) == (["0", "1"], ["2", "3", "4", "5"])
    busy.basic_ack(0, multiple=True)
    sync(busy)
    publish(channel, queue, 6)
    high.wait(3)


def test_probed_a_priority_that_is_no_whole_number_closes_the_channel_with_406(channel, name):
    queue = declare(channel, name())
    with channel_error(channel, 406, "PRECONDITION_FAILED"):
        channel.basic_consume(queue, lambda *_: None, arguments={"x-priority": "high"})


# Cancelling.


def test_A7_consumers_are_told_when_their_queue_is_deleted(connection, channel, name):
    queue, cancelled = declare(channel, name()), []
    channel.add_on_cancel_callback(cancelled.append)
    tag = channel.basic_consume(queue, lambda *_: None)
    connection.channel().queue_delete(queue)
    until(connection, lambda: cancelled, "basic.cancel")
    assert cancelled[0].method.consumer_tag == tag


def test_A7_clients_without_the_capability_are_not_told(raw, name):
    client, queue = raw(capabilities={}), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    client.call(1, "basic.consume", queue=queue, consumer_tag="t")
    client.call(1, "queue.delete", queue=queue)
    client.call(1, "basic.qos", prefetch_count=1)


def test_A7_cancelling_an_unknown_tag_is_answered(raw):
    client = raw()
    client.open_channel()
    assert client.call(1, "basic.cancel", consumer_tag="never-was") == {"consumer_tag": "never-was"}


def test_A7_what_was_sent_before_a_cancel_can_still_be_acked(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    client.publish(1, queue, b"x")
    client.call(1, "basic.consume", queue=queue, consumer_tag="t")
    tag = client.expect("basic.deliver", 1)["delivery_tag"]
    client.take_content(1)
    client.call(1, "basic.cancel", consumer_tag="t")
    client.method(1, "basic.ack", delivery_tag=tag)
    client.call(1, "channel.close", reply_code=200)
    client.open_channel()
    assert client.call(1, "queue.declare", queue=queue, passive=True)["message_count"] == 0


def test_A7_messages_of_a_deleted_queue_can_still_be_acked(connection, channel, name):
    queue = declare(channel, name())
    fill(channel, queue, 1)
    Sink(channel, queue).wait(1)
    connection.channel().queue_delete(queue)
    channel.basic_ack(1)
    sync(channel)


def test_A7_after_a_cancel_nothing_is_delivered(channel, name):
    queue = declare(channel, name())
    sink = Sink(channel, queue)
    channel.basic_cancel(sink.tag)
    publish(channel, queue, "stays")
    until(channel.connection, lambda: ready(channel, queue) == 1, "the message is in the queue")
    assert sink.deliveries == []


# Much at once.


def test_a_thousand_messages_come_once_each_in_order(connect, channel, name):
    queue = declare(channel, name(), durable=True)
    taker = connect().channel()
    taker.basic_qos(prefetch_count=50)
    got = []

    def on_message(ch, method, _properties, body):
        got.append(body.decode())
        ch.basic_ack(method.delivery_tag)

    taker.basic_consume(queue, on_message)
    for n in range(1000):
        publish(channel, queue, n, delivery_mode=2)
    until(taker.connection, lambda: len(got) >= 1000, lambda: f"1000 messages, have {len(got)}")
    assert got == bodies_in_order(1000)
    taker.close()
    assert counts(channel, queue) == (0, 0)


def test_large_bodies_reach_consumers_whole(channel, name):
    queue, body = declare(channel, name()), bytes(range(256)) * 8192
    sink = Sink(channel, queue, auto_ack=True)
    for _ in range(4):
        publish(channel, queue, body)
    assert all(delivery.body.encode("latin-1") == body for delivery in sink.wait(4))


def test_consumers_of_one_connection_on_many_channels_all_work(connection, channel, name):
    queues = [declare(channel, name()) for _ in range(20)]
    sinks = [Sink(connection.channel(), queue, auto_ack=True) for queue in queues]
    for n, queue in enumerate(queues):
        publish(channel, queue, n)
    assert [sink.wait(1)[0].body for sink in sinks] == bodies_in_order(20)
