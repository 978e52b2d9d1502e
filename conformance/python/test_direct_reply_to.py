"""Contract A14: replies that go straight to the channel of the requester."""

import pika
import pytest

from support import Delivery, Sink, channel_error, declare, is_gone, publish, rabbitmq_differs, ready, sync, until

REPLY_TO = "amq.rabbitmq.reply-to"


def test_A14_a_reply_comes_straight_to_the_requesters_channel(connect, channel, name):
    queue = declare(channel, name())
    server = connect().channel()
    replies = Sink(channel, REPLY_TO, auto_ack=True)
    publish(channel, queue, "ping", reply_to=REPLY_TO, correlation_id="1")
    until(channel.connection, lambda: ready(server, queue), "the request")
    request = Delivery(*server.basic_get(queue, auto_ack=True))
    assert request.properties.reply_to.startswith(REPLY_TO + ".")
    publish(server, request.properties.reply_to, "pong", correlation_id="1")
    reply = replies.wait(1)[0]
    assert (reply.body, reply.properties.correlation_id, reply.method.exchange) == ("pong", "1", "")
    publish(server, request.properties.reply_to, "and another")
    assert replies.wait(2)[1].body == "and another"


def test_A14_consuming_replies_with_acks_closes_the_channel_with_406(channel):
    with channel_error(channel, 406, "PRECONDITION_FAILED - reply consumer cannot acknowledge"):
        channel.basic_consume(REPLY_TO, lambda *_: None, auto_ack=False)


def test_A14_a_second_reply_consumer_closes_the_channel_with_406(channel):
    channel.basic_consume(REPLY_TO, lambda *_: None, auto_ack=True)
    with channel_error(channel, 406, "PRECONDITION_FAILED - reply consumer already set"):
        channel.basic_consume(REPLY_TO, lambda *_: None, auto_ack=True)


def test_A14_asking_for_a_reply_without_a_reply_consumer_closes_the_channel_with_406(channel, name):
    queue = declare(channel, name())
    with channel_error(channel, 406, "fast reply consumer does not exist"):
        publish(channel, queue, reply_to=REPLY_TO)


def test_A14_the_reply_consumer_can_be_cancelled_and_set_again(channel):
    tag = channel.basic_consume(REPLY_TO, lambda *_: None, auto_ack=True)
    channel.basic_cancel(tag)
    channel.basic_consume(REPLY_TO, lambda *_: None, auto_ack=True)


def reply_address(channel, queue):
    """What a request's reply_to is rewritten to."""
    publish(channel, queue, "ping", reply_to=REPLY_TO)
    until(channel.connection, lambda: ready(channel, queue) == 1, "the request")
    return channel.basic_get(queue, auto_ack=True)[1].reply_to


def test_A14_a_passive_declare_tells_whether_the_requester_lives(connect, channel, name):
    queue, requester = declare(channel, name()), connect()
    asking = requester.channel()
    asking.basic_consume(REPLY_TO, lambda *_: None, auto_ack=True)
    address = reply_address(asking, queue)
    assert channel.queue_declare(address, passive=True).method.queue == address
    requester.close()
    until(channel.connection, lambda: is_gone(channel.connection, address), "the requester is known to be gone")


def test_A14_a_reply_to_nobody_is_dropped_without_an_error(connect, channel, name):
    queue, requester = declare(channel, name()), connect()
    asking = requester.channel()
    asking.basic_consume(REPLY_TO, lambda *_: None, auto_ack=True)
    address = reply_address(asking, queue)
    requester.close()
    publish(channel, address, "too late")
    sync(channel)


def test_A14_the_pseudo_queue_itself_can_be_declared_passively(channel):
    assert channel.queue_declare(REPLY_TO, passive=True).method.queue == REPLY_TO


@pytest.mark.parametrize("exchange", ["amq.direct", ""])
def test_A14_binding_the_pseudo_queue_closes_the_channel_with_an_error(channel, exchange):
    """403 by the contract; RabbitMQ 3.10 finds no such queue."""
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.queue_bind(REPLY_TO, exchange, "k")
    assert closed.value.reply_code in (403, 404)


@rabbitmq_differs("returned before 4.2", before=(4, 2))
def test_A14_a_mandatory_reply_counts_as_routed(channel, connection, name):
    queue = declare(channel, name())
    replies, returned, server = Sink(channel, REPLY_TO, auto_ack=True), [], connection.channel()
    server.add_on_return_callback(lambda *args: returned.append(args))
    publish(server, reply_address(channel, queue), "pong", mandatory=True)
    replies.wait(1)
    sync(server)
    assert returned == []


def test_A14_many_requesters_get_their_own_replies(connect, channel, name):
    queue = declare(channel, name())
    askers = [connect().channel() for _ in range(3)]
    sinks = [Sink(asker, REPLY_TO, auto_ack=True) for asker in askers]
    for n, asker in enumerate(askers):
        publish(asker, queue, n, reply_to=REPLY_TO)
    server = Sink(channel, queue, auto_ack=True)
    for request in server.wait(3):
        publish(channel, request.properties.reply_to, "re " + request.body)
    assert [sink.wait(1)[0].body for sink in sinks] == ["re 0", "re 1", "re 2"]
