"""Contracts 6.1: content headers and bodies, and frames in all the sizes they may come in."""

import struct
from functools import partial

import pytest

from rawamqp import FRAME_BODY, FRAME_HEADER, FRAME_METHOD, FRAME_OVERHEAD, METHODS
from support import rabbitmq_differs


def publish_method(client):
    client.method(1, "basic.publish", routing_key="x")


def header(client, class_id=60):
    client.content(1, b"", size=10, class_id=class_id)


def body(client):
    client.frame(FRAME_BODY, 1, b"x")


def another_method(client):
    client.method(1, "basic.qos", prefetch_count=1)


OUT_OF_TURN = {
    "a content header without a publish": [header],
    "a body without a publish": [body],
    "a method where the content header is due": [publish_method, another_method],
    "a method where the body is due": [publish_method, header, another_method],
    "a second content header": [publish_method, header, header],
    **{f"a content header of class {n}": [publish_method, partial(header, class_id=n)] for n in (50, 0, 61)},
}


@pytest.mark.parametrize("frames", OUT_OF_TURN.values(), ids=OUT_OF_TURN)
def test_probed_a_frame_out_of_turn_closes_the_connection_with_505(raw, frames):
    client = raw()
    client.open_channel()
    for frame in frames:
        frame(client)
    client.expect_connection_close(505, "UNEXPECTED_FRAME")


def test_contents_of_two_channels_may_be_interleaved_frame_by_frame(raw, name):
    client, queues = raw(), [name(), name()]
    for channel, queue in enumerate(queues, 1):
        client.open_channel(channel)
        client.call(channel, "queue.declare", queue=queue)
    for channel, queue in enumerate(queues, 1):
        client.method(channel, "basic.publish", routing_key=queue)
    for channel in (2, 1):
        client.frame(FRAME_HEADER, channel, struct.pack(">HHQH", 60, 0, 6, 0))
    for channel, piece in ((1, b"one"), (2, b"two"), (2, b"TWO"), (1, b"ONE")):
        client.frame(FRAME_BODY, channel, piece)
    for channel, body in ((1, b"oneONE"), (2, b"twoTWO")):
        client.method(channel, "basic.get", queue=queues[channel - 1], no_ack=True)
        client.expect("basic.get-ok", channel)
        assert client.take_content(channel)[2] == body


@pytest.mark.parametrize("frame_max", [
    pytest.param(4096, marks=rabbitmq_differs("8192 is the least since 4.0", since=(4, 0))), 8192, 131072])
def test_a_body_in_many_frames_comes_back_whole_in_frames_no_longer_than_frame_max(raw, name, frame_max):
    client, queue = raw(frame_max=frame_max), name()
    body = bytes(range(256)) * 2048 + b"tail"
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    client.publish(1, queue, body)
    client.method(1, "basic.get", queue=queue, no_ack=True)
    client.expect("basic.get-ok", 1)
    _, _, got, pieces = client.take_content(1)
    assert got == body
    assert max(pieces) <= frame_max - FRAME_OVERHEAD


def test_a_body_may_come_in_frames_of_one_octet(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    client.publish(1, queue, b"octet by octet", piece=1)
    client.method(1, "basic.get", queue=queue, no_ack=True)
    client.expect("basic.get-ok", 1)
    assert client.take_content(1)[2] == b"octet by octet"


def test_frames_may_come_cut_anywhere(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    payload = METHODS["basic.publish"].encode({"routing_key": queue})
    header = struct.pack(">HHQH", 60, 0, 3, 0)
    stream = b"".join(struct.pack(">BHI", kind, 1, len(data)) + data + b"\xce" for kind, data in
                      ((FRAME_METHOD, payload), (FRAME_HEADER, header), (FRAME_BODY, b"cut")))
    for octet in stream:
        client.write(bytes([octet]))
    client.method(1, "basic.get", queue=queue, no_ack=True)
    client.expect("basic.get-ok", 1)
    assert client.take_content(1)[2] == b"cut"


def test_an_empty_body_is_a_header_alone(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    client.publish(1, queue, b"")
    client.method(1, "basic.get", queue=queue, no_ack=True)
    client.expect("basic.get-ok", 1)
    assert client.take_content(1)[2:] == (b"", [])
