"""Contracts A5, A12, X9, X10, and what Millpond has beyond RabbitMQ: leases, paces, retries with back-off."""

from decimal import Decimal

import pika
import pytest

from support import (Sink, channel_error, connection_error, counts, declare, fill, publish, ready, sync, until)

SINGLE = {"x-single-active-consumer": True}


def publish_each(channel, queue, count):
    """To a queue whose consumers take what comes: there is nothing ready to wait for."""
    for n in range(count):
        publish(channel, queue, n)


def test_A5_the_first_consumer_is_active_and_the_next_follows(connection, name):
    first, second = connection.channel(), connection.channel()
    queue = declare(first, name(), arguments=SINGLE)
    active, standby = Sink(first, queue), Sink(second, queue)
    publish_each(first, queue, 3)
    active.wait(3)
    assert counts(first, queue) == (0, 2)
    assert standby.bodies == []
    first.basic_cancel(active.tag)
    publish(second, queue, "next")
    assert standby.wait(1)[0].body == "next"
    first.close()
    assert sorted(standby.wait(4)[1:], key=lambda d: d.tag)[0].redelivered


def test_A5_consuming_exclusively_from_it_is_refused(channel, name):
    queue = declare(channel, name(), arguments=SINGLE)
    with channel_error(channel, 403, "exclusive use"):
        channel.basic_consume(queue, lambda *_: None, exclusive=True)


@pytest.mark.rabbitmq_differs("takeover by priority came with 4.0", before=(4, 0))
def test_A5_on_a_quorum_queue_a_higher_priority_takes_over_once_the_old_one_holds_nothing(connection, name):
    first, second = connection.channel(), connection.channel()
    queue = declare(first, name(), durable=True, arguments=SINGLE | {"x-queue-type": "quorum"})
    first.basic_qos(prefetch_count=1)
    old = Sink(first, queue)
    publish_each(first, queue, 3)
    old.wait(1)
    new = Sink(second, queue, arguments={"x-priority": 10})
    first.basic_ack(1)
    assert [d.body for d in new.wait(2)] == ["1", "2"]
    assert len(old.deliveries) == 1


@pytest.mark.rabbitmq_differs("an ack timeout closes the channel or cancels the consumer")
def test_A12_a_lease_that_ends_returns_that_message_alone_and_a_late_ack_is_ignored(connection, name):
    slow, quick = connection.channel(), connection.channel()
    queue = declare(slow, name())
    slow.basic_qos(prefetch_count=1)
    held = Sink(slow, queue, arguments={"x-consumer-timeout": 200})
    publish(slow, queue, "late")
    held.wait(1)
    other = Sink(quick, queue)
    assert [(d.body, d.redelivered) for d in other.wait(1)] == [("late", True)]
    slow.basic_ack(1)
    sync(slow)
    assert slow.is_open
    other.channel.basic_ack(other.deliveries[0].tag)
    with channel_error(slow, 406, "unknown delivery tag 2"):
        slow.basic_ack(2)


@pytest.mark.rabbitmq_differs("an ack timeout closes the channel or cancels the consumer")
def test_A12_basic_qos_renews_the_leases_of_a_channel(connection, name):
    slow, quick = connection.channel(), connection.channel()
    queue = declare(slow, name(), arguments={"x-consumer-timeout": 1000})
    held = Sink(slow, queue)
    publish(slow, queue, "renewed")
    held.wait(1)
    slow.basic_cancel(held.tag)
    other = Sink(quick, queue)
    for _ in range(6):
        connection.process_data_events(time_limit=0.3)
        slow.basic_qos(prefetch_count=0)
    assert other.deliveries == []
    other.wait(1)


@pytest.mark.rabbitmq_differs("it has no rates")
def test_a_consumer_is_given_messages_at_its_rate_which_changes_while_it_runs(channel, name):
    queue = declare(channel, name())
    fill(channel, queue, 50)
    sink = Sink(channel, queue, arguments={"x-rate": Decimal("0.01")})
    sink.wait(1)
    sync(channel)
    assert len(sink.deliveries) == 1
    # pika looks after tags itself and would refuse to consume again: so the bare method.
    again = pika.spec.Basic.Consume(queue=queue, consumer_tag=sink.tag, arguments={"x-rate": Decimal("500.5")})
    channel._impl._send_method(again)
    sink.wait(50)


@pytest.mark.rabbitmq_differs("it has no rates")
@pytest.mark.parametrize("arguments", [{"x-rate": 0}, {"x-rate": "fast"}, {"x-rate": 1, "x-rate-window": 1}])
def test_a_bad_rate_is_refused(channel, name, arguments):
    queue = declare(channel, name())
    with channel_error(channel, 406, "x-rate"):
        channel.basic_consume(queue, lambda *_: None, arguments=arguments)


def test_A3_a_tag_used_again_without_a_change_is_refused(channel, name):
    queue = declare(channel, name())
    sink = Sink(channel, queue)
    with connection_error(channel, 530, "reuse consumer tag"):
        channel._impl._send_method(pika.spec.Basic.Consume(queue=queue, consumer_tag=sink.tag))


@pytest.mark.rabbitmq_differs("it has no rates")
def test_a_queue_with_a_rate_releases_a_burst_steadily_to_all_its_consumers(connection, name):
    first, second = connection.channel(), connection.channel()
    queue = declare(first, name(), arguments={"x-rate": Decimal("0.01")})
    fill(first, queue, 3)
    sinks = [Sink(first, queue), Sink(second, queue)]
    until(connection, lambda: sum(len(sink.deliveries) for sink in sinks) == 1, "one delivery")
    sync(first), sync(second)
    assert ready(first, queue) == 2
    assert sum(len(sink.deliveries) for sink in sinks) == 1


@pytest.mark.rabbitmq_differs("delayed retries came with 4.3, on quorum queues", before=(4, 3))
def test_X10_a_returned_message_waits_out_its_delay_and_nobody_waits_behind_it(channel, name):
    arguments = {"x-delayed-retry-type": "all", "x-delayed-retry-min": 300, "x-queue-type": "quorum"}
    queue = declare(channel, name(), durable=True, arguments=arguments)
    channel.basic_qos(prefetch_count=1)
    sink = Sink(channel, queue)
    publish_each(channel, queue, 2)
    sink.wait(1)
    channel.basic_nack(1, requeue=True)
    assert [d.body for d in sink.wait(2)] == ["0", "1"]
    channel.basic_ack(2)
    last = sink.wait(3)[2]
    assert (last.body, last.redelivered) == ("0", True)


def give_back(channel, tag, delay, **more):
    headers = {"x-delivery-tag": tag, "x-delay": delay}
    headers = {name: value for name, value in headers.items() if value is not None}
    channel.basic_publish("", "amq.millpond.nack", b"", pika.BasicProperties(headers=headers), **more)


@pytest.mark.rabbitmq_differs("basic.nack has no field for a delay")
@pytest.mark.parametrize("confirms", [False, True])
def test_one_delivery_is_given_back_for_a_time_of_its_own(channel, name, confirms):
    queue = declare(channel, name())
    if confirms:
        channel.confirm_delivery()
    channel.basic_qos(prefetch_count=1)
    sink = Sink(channel, queue)
    publish_each(channel, queue, 2)
    sink.wait(1)
    give_back(channel, 1, 300, mandatory=confirms)
    assert [d.body for d in sink.wait(2)] == ["0", "1"]
    give_back(channel, 2, "100000")
    last = sink.wait(3)[2]
    assert (last.body, last.redelivered) == ("0", True)
    channel.basic_ack(3)
    sync(channel)
    assert channel.queue_purge(queue).method.message_count == 1


@pytest.mark.rabbitmq_differs("basic.nack has no field for a delay")
@pytest.mark.parametrize(
    "tag, delay, reason",
    [(7, 1, "unknown delivery tag 7"), (None, 1, "x-delivery-tag"), (1, None, "x-delay"), (1, -5, "x-delay"),
     (1, "soon", "x-delay")],
)
def test_a_delivery_that_is_not_there_or_a_bad_delay_is_an_error_of_the_channel(connection, name, tag, delay, reason):
    channel = connection.channel()
    queue = declare(channel, name())
    sink = Sink(channel, queue)
    publish(channel, queue, "a")
    sink.wait(1)
    with channel_error(channel, 406, reason):
        give_back(channel, tag, delay)
        sync(channel)
    transactional = connection.channel()
    transactional.tx_select()
    with channel_error(transactional, 406, "transaction"):
        give_back(transactional, 1, 1)
        sync(transactional)


@pytest.mark.rabbitmq_differs("classic queues have no delayed retries")
def test_X10_a_classic_queue_backs_off_too_and_bad_arguments_are_refused(channel, connection, name):
    arguments = {"x-delayed-retry-type": "failed", "x-delayed-retry-min": 60000, "x-delayed-retry-max": 120000,
                 "x-delayed-retry-backoff": "exponential", "x-delayed-retry-jitter": 20}
    queue = declare(channel, name(), arguments=arguments)
    sink = Sink(channel, queue)
    publish(channel, queue, "a")
    sink.wait(1)
    channel.basic_nack(1, requeue=True)
    assert sink.wait(2)[1].redelivered
    channel.basic_reject(2, requeue=True)
    sync(channel)
    assert counts(channel, queue) == (0, 1)
    assert channel.queue_purge(queue).method.message_count == 1
    other = connection.channel()
    with channel_error(other, 406, "x-delayed-retry-type"):
        declare(other, name(), arguments={"x-delayed-retry-type": "all"})
