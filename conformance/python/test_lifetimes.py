"""Contracts 6.2: how long exclusive and auto-delete queues and exchanges live."""

from support import channel_error, counts, declare, is_gone, until


def test_an_exclusive_queue_goes_with_its_connection(connect, channel, name):
    owner, queue = connect(), name()
    declare(owner.channel(), queue, exclusive=True)
    owner.close()
    until(channel.connection, lambda: is_gone(channel.connection, queue), "the queue is gone")


def test_an_exclusive_queue_stays_when_only_its_channel_closes(connection, name):
    first, queue = connection.channel(), name()
    declare(first, queue, exclusive=True)
    first.close()
    assert counts(connection.channel(), queue) == (0, 0)


def test_an_auto_delete_queue_goes_with_its_last_consumer(channel, name):
    queue = declare(channel, name(), auto_delete=True)
    first = channel.basic_consume(queue, lambda *_: None)
    second = channel.basic_consume(queue, lambda *_: None)
    channel.basic_cancel(first)
    assert counts(channel, queue) == (0, 1)
    channel.basic_cancel(second)
    with channel_error(channel, 404):
        channel.queue_declare(queue, passive=True)


def test_an_auto_delete_queue_goes_when_the_channel_of_its_consumer_closes(connection, channel, name):
    queue = declare(channel, name(), auto_delete=True)
    consumer = connection.channel()
    consumer.basic_consume(queue, lambda *_: None)
    consumer.close()
    with channel_error(channel, 404):
        channel.queue_declare(queue, passive=True)


def test_an_auto_delete_queue_that_never_had_a_consumer_stays(connect, name):
    first, queue = connect(), name()
    declare(first.channel(), queue, auto_delete=True)
    first.close()
    assert counts(connect().channel(), queue) == (0, 0)
