"""Message groups, beyond RabbitMQ: `x-group-by` sends what belongs together, in order, to one consumer at a time."""

import pytest

from support import Sink, channel_error, counts, declare, publish, ready, sync, until

pytestmark = pytest.mark.rabbitmq_differs("it has no message groups")

BY_CUSTOMER = {"x-group-by": "customer"}


def publish_grouped(channel, queue, bodies):
    """Bodies such as a1: the letter is the customer, `-` none."""
    for body in bodies:
        publish(channel, queue, body, headers=None if body[0] == "-" else {"customer": body[0]})
    sync(channel)


def waiting(channel, queue, count):
    until(channel.connection, lambda: ready(channel, queue) == count, f"{count} ready in {queue}")


def test_a_group_goes_in_order_to_one_consumer_while_others_flow(connection, name):
    first, second = connection.channel(), connection.channel()
    queue = declare(first, name(), arguments=BY_CUSTOMER)
    publish_grouped(first, queue, ["a1", "a2", "b1", "-1", "a3", "b2"])
    waiting(first, queue, 6)
    first.basic_qos(prefetch_count=1)
    slow = Sink(first, queue)
    slow.wait(1)
    quick = Sink(second, queue)
    assert [d.body for d in quick.wait(3)] == ["b1", "-1", "b2"]
    assert slow.settle()[0].body == "a1" and len(slow.deliveries) == 1
    assert counts(first, queue) == (2, 2)
    first.basic_ack(slow.deliveries[0].tag)
    until(connection, lambda: len(slow.deliveries + quick.deliveries) == 6, "a2 and a3")
    assert [d.body for d in slow.deliveries[1:] + quick.deliveries[3:]] == ["a2", "a3"]


def test_a_group_never_is_with_two_consumers_at_once(connection, name):
    channels = [connection.channel() for _ in range(4)]
    queue = declare(channels[0], name(), arguments=BY_CUSTOMER)
    held, seen, wrong = {}, {letter: [] for letter in "abcde"}, []

    def consume(channel):
        unsettled = []

        def on_message(_channel, method, _properties, body):
            group, number = chr(body[0]), int(body[1:])
            if held.setdefault(group, channel) is not channel:
                wrong.append(body)
            seen[group].append(number)
            unsettled.append((group, method.delivery_tag))
            if len(unsettled) == 3:
                for _, tag in unsettled:
                    channel.basic_ack(tag)
                for of, _ in unsettled:
                    if held.get(of) is channel:
                        del held[of]
                unsettled.clear()

        channel.basic_qos(prefetch_count=3)
        channel.basic_consume(queue, on_message)
        return unsettled

    publish_grouped(channels[0], queue, [f"{letter}{n}" for n in range(60) for letter in "abcde"])
    waiting(channels[0], queue, 300)
    left = [consume(channel) for channel in channels]

    def progress():
        # A consumer that waits for a third message acks what it has.
        for channel, unsettled in zip(channels, left):
            for group, tag in unsettled:
                channel.basic_ack(tag)
                if held.get(group) is channel:
                    del held[group]
            unsettled.clear()
        return sum(map(len, seen.values())) == 300

    until(connection, progress, lambda: f"300 messages, have {seen}")
    assert wrong == []
    assert all(numbers == list(range(60)) for numbers in seen.values())


def test_what_is_returned_goes_first_in_its_group(connection, name):
    first, second = connection.channel(), connection.channel()
    queue = declare(first, name(), arguments=BY_CUSTOMER)
    publish_grouped(first, queue, ["a1", "a2", "a3"])
    waiting(first, queue, 3)
    first.basic_qos(prefetch_count=2)
    held = Sink(first, queue)
    held.wait(2)
    other = Sink(second, queue)
    assert other.settle() == []
    first.close()
    assert [(d.body, d.redelivered) for d in other.wait(3)] == [("a1", True), ("a2", True), ("a3", False)]


def test_a_get_finds_what_no_consumer_is_at(connection, name):
    first, second = connection.channel(), connection.channel()
    queue = declare(first, name(), arguments={"x-group-by": "property:correlation-id"})
    for body in ["a1", "a2", "b1"]:
        publish(first, queue, body, correlation_id=body[0])
    waiting(first, queue, 3)
    first.basic_qos(prefetch_count=1)
    Sink(first, queue).wait(1)
    method, _, body = second.basic_get(queue)
    assert (body, method.message_count) == (b"b1", 1)
    assert second.basic_get(queue)[0] is None
    assert ready(second, queue) == 1


@pytest.mark.parametrize("arguments, says", [
    ({"x-group-by": "user-id"}, "header:user-id"),
    ({"x-group-by": "property:colour"}, "property"),
    ({"x-group-by": 5}, "x-group-by"),
    ({"x-group-by": "customer", "x-group-window": 0}, "x-group-window"),
])
def test_a_group_by_that_cannot_be_meant_is_refused(channel, name, arguments, says):
    with channel_error(channel, 406, "x-group"):
        channel.queue_declare(name(), arguments=arguments)


def test_a_stream_has_no_groups(channel, name):
    with channel_error(channel, 406, "x-group-by"):
        channel.queue_declare(name(), durable=True, arguments=BY_CUSTOMER | {"x-queue-type": "stream"})


@pytest.mark.parametrize("kind", [{"x-queue-type": "quorum"}, {"x-max-priority": 5}])
def test_groups_go_by_priority_and_then_by_arrival(connection, name, kind):
    channel, other = connection.channel(), connection.channel()
    queue = declare(channel, name(), durable=True, arguments=BY_CUSTOMER | kind)
    for body, priority in [("a1", 1), ("a2", 1), ("a3", 3), ("b1", 1)]:
        publish(channel, queue, body, priority=priority, headers={"customer": body[0]})
    waiting(channel, queue, 4)
    channel.basic_qos(prefetch_count=1)
    sink = Sink(channel, queue)
    assert sink.wait(1)[0].body == "a3"
    other.basic_qos(prefetch_count=1)
    assert [d.body for d in Sink(other, queue).wait(1)] == ["b1"]
    for count in [2, 3]:
        channel.basic_ack(sink.deliveries[-1].tag)
        sink.wait(count)
    assert sink.bodies == ["a3", "a1", "a2"]
