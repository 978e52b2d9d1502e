"""Bad input and bad manners harm nobody else, and what is unusual but right works."""

import random
import struct

import pytest

from rawamqp import FRAME_METHOD, PROTOCOL_HEADER, Closed
from support import Sink, declare, publish


def garbage(seed, kind):
    """Octets that look more or less like frames."""
    dice = random.Random(seed)
    if kind == "octets":
        return dice.randbytes(2000)
    out = b""
    for _ in range(20):
        if kind == "frames":
            payload = dice.randbytes(dice.randrange(60))
            out += struct.pack(">BHI", dice.choice((1, 2, 3, 8)), dice.randrange(3), len(payload)) + payload
        else:  # Methods that exist, with arguments that do not.
            ids = dice.choice(((10, 11), (20, 10), (40, 10), (50, 10), (50, 20), (60, 20), (60, 40), (60, 80)))
            payload = struct.pack(">HH", *ids) + dice.randbytes(dice.randrange(40))
            out += struct.pack(">BHI", FRAME_METHOD, dice.randrange(3), len(payload)) + payload
        out += b"\xce"
    return out


@pytest.mark.parametrize("kind", ["octets", "frames", "methods"])
@pytest.mark.parametrize("stage", ["instead-of-the-header", "instead-of-start-ok", "on-an-open-channel"])
def test_garbage_closes_its_own_connection_at_most(raw, name, kind, stage):
    bystander, queue = raw(), name()
    bystander.open_channel()
    bystander.call(1, "queue.declare", queue=queue, exclusive=True)
    for seed in range(5):
        client = raw(opened=stage == "on-an-open-channel")
        if stage == "on-an-open-channel":
            client.open_channel()
        elif stage == "instead-of-start-ok":
            client.write(PROTOCOL_HEADER)
        client.write(garbage(seed, kind))
        client.socket.close()
        bystander.publish(1, queue, b"still here")
    assert bystander.call(1, "queue.purge", queue=queue)["message_count"] == 5


@pytest.mark.parametrize("cut", [1, 7, 8, 15, 30, 60])
def test_a_socket_that_breaks_inside_a_publish_leaves_nothing_behind(raw, name, cut):
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    whole, sent = bytearray(), client.write
    client.write = whole.extend
    client.publish(1, queue, b"never complete")
    client.write = sent
    client.write(bytes(whole[:-cut]))
    client.socket.close()
    other = raw()
    other.open_channel()
    assert other.call(1, "queue.declare", queue=queue, passive=True)["message_count"] == 0


def test_a_message_that_is_announced_and_never_sent_is_no_message(raw, name):
    client, queue = raw(), name()
    client.open_channel(1)
    client.open_channel(2)
    client.call(1, "queue.declare", queue=queue)
    client.method(1, "basic.publish", routing_key=queue)
    client.content(1, b"half", size=8)
    assert client.call(2, "queue.declare", queue=queue, passive=True)["message_count"] == 0
    client.frame(3, 1, b"half")
    assert client.call(1, "queue.purge", queue=queue)["message_count"] == 1


def test_a_consumer_that_does_not_read_stalls_nobody_else(raw, connect, name):
    sleeper, queue, other_queue = raw(), name(), name()
    sleeper.open_channel()
    sleeper.call(1, "queue.declare", queue=queue)
    sleeper.call(1, "basic.consume", queue=queue, no_ack=True)
    channel = connect().channel()
    declare(channel, other_queue)
    sink = Sink(connect().channel(), other_queue, auto_ack=True)
    for n in range(300):
        publish(channel, queue, bytes(100_000))
        publish(channel, other_queue, n)
    assert len(sink.wait(300)) == 300


def test_a_message_taken_by_a_consumer_that_does_not_read_is_not_lost(raw, connect, name):
    sleeper, queue = raw(), name()
    sleeper.open_channel()
    sleeper.call(1, "queue.declare", queue=queue)
    sleeper.call(1, "basic.consume", queue=queue)
    channel = connect().channel()
    channel.confirm_delivery()
    for _ in range(100):
        publish(channel, queue, bytes(100_000))
    sleeper.socket.close()
    sink = Sink(connect().channel(), queue, auto_ack=True)
    assert len(sink.wait(100)) == 100


def test_C9_2047_channels_open_and_one_more_closes_the_connection_with_530(raw):
    client = raw()
    for channel in range(1, 2048):
        client.method(channel, "channel.open")
    opened = [client.next_frame() for _ in range(2047)]
    assert {frame.name for frame in opened} == {"channel.open-ok"}
    assert {frame.channel for frame in opened} == set(range(1, 2048))
    client.method(2048, "channel.open")
    client.expect_connection_close(530)


def test_requests_may_be_sent_without_waiting_and_are_answered_in_order(raw, name):
    client, queues = raw(), [name() for _ in range(100)]
    client.open_channel()
    for queue in queues:
        client.method(1, "queue.declare", queue=queue, auto_delete=True)
        client.publish(1, queue, b"x")
        client.method(1, "queue.purge", queue=queue)
    for queue in queues:
        assert client.expect("queue.declare-ok", 1)["queue"] == queue
        assert client.expect("queue.purge-ok", 1)["message_count"] == 1


def test_keys_and_names_of_255_octets_pass(raw, name):
    client, queue, exchange = raw(), name(), name("x")
    key = "ключ." * 28
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    client.call(1, "exchange.declare", exchange=exchange, type="topic")
    client.call(1, "queue.bind", queue=queue, exchange=exchange, routing_key="#")
    for routing_key in ("k" * 255, key):
        client.publish(1, routing_key, b"x", exchange=exchange)
        client.method(1, "basic.get", queue=queue, no_ack=True)
        assert client.expect("basic.get-ok")["routing_key"] == routing_key
        client.take_content(1)


def test_a_client_that_says_connection_close_in_the_middle_of_deliveries_gets_close_ok(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    for _ in range(200):
        client.publish(1, queue, bytes(1000))
    client.method(1, "basic.consume", queue=queue, no_ack=True)
    client.method(0, "connection.close", reply_code=200)
    frame = client.next_frame()
    while frame.name != "connection.close-ok":
        frame = client.next_frame()


def test_a_client_that_still_writes_after_connection_close_gets_close_ok_and_no_reset(raw, name):
    """amqplib writes its channels in turns: frames of a large body may come after connection.close. A reset would
    fail its writes, and it would not read the answer any more."""
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    client.method(1, "basic.publish", routing_key=queue)
    client.content(1, b"", size=8 << 20)
    client.method(0, "connection.close", reply_code=200)
    client.write = client.socket.sendall  # Which says so when the server is gone.
    for _ in range(64):
        client.frame(3, 1, bytes(128 << 10)[:-8])
    client.expect("connection.close-ok", 0)


def test_deliveries_stop_at_channel_close_ok(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    for _ in range(50):
        client.publish(1, queue, b"x")
    client.method(1, "basic.consume", queue=queue, consumer_tag="t")
    client.method(1, "channel.close", reply_code=200)
    frame = client.next_frame()
    while frame.name != "channel.close-ok":
        frame = client.next_frame()
    client.open_channel(1)
    assert client.call(1, "queue.purge", queue=queue)["message_count"] == 50
    with pytest.raises((TimeoutError, Closed)):
        client.next_frame(patience_s=0.2)
