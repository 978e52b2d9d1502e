"""What somebody does to queues and consumers over HTTP while clients use them, as the clients see it: paused and resumed,
cancelled, given another prefetch, pace or lease."""

import urllib.parse

import pytest

from support import Sink, counts, declare, drain, fill, ready, until
from test_management import request


@pytest.fixture
def steer(broker):
    """Asks the management API, which must agree; the answer."""

    def ask(method, path, body=None):
        status, answer = request(broker, method, path, body)
        assert status in (200, 201, 204), (method, path, answer)
        return answer

    return ask


def consumer(steer, tag):
    """The consumer of that tag, as it is shown, and its path."""
    found = next(it for it in steer("GET", "/consumers/%2F") if it["consumer_tag"] == tag)
    details = found["channel_details"]
    name = urllib.parse.quote(details["connection_name"], safe="")
    return found, f"/consumers/%2F/{name}/{details['number']}/{urllib.parse.quote(tag, safe='')}"


def test_a_paused_queue_takes_and_does_not_give_until_it_is_resumed(broker, steer):
    channel = broker.channel()
    queue = declare(channel, "q", durable=True)
    sink = Sink(channel, queue)
    steer("PUT", "/queues/%2F/q/pause")
    assert steer("GET", "/queues/%2F/q")["state"] == "paused"
    fill(channel, queue, 3)
    assert sink.settle() == []
    assert channel.basic_get(queue)[0] is None
    assert counts(channel, queue) == (3, 1)
    steer("PUT", "/queues/%2F/q/resume")
    assert [it.body for it in sink.wait(3)] == ["0", "1", "2"]
    for delivery in sink.deliveries:
        channel.basic_ack(delivery.tag)
    until(channel.connection, lambda: steer("GET", "/queues/%2F/q")["messages"] == 0, "the acks")
    assert steer("GET", "/queues/%2F/q")["state"] == "running"


def test_what_was_delivered_before_a_pause_is_settled_as_ever(broker, steer):
    channel = broker.channel()
    queue = declare(channel, "q", durable=True)
    fill(channel, queue, 2)
    channel.basic_qos(prefetch_count=1)
    sink = Sink(channel, queue)
    (first,) = sink.wait(1)
    steer("PUT", "/queues/%2F/q/pause")
    channel.basic_nack(first.tag, requeue=True)
    assert len(sink.settle()) == 1 and ready(channel, queue) == 2
    steer("PUT", "/queues/%2F/q/resume")
    assert sink.wait(2)[1].redelivered


def test_a_consumer_cancelled_over_http_is_told_and_keeps_what_it_holds(broker, steer):
    channel = broker.channel()
    queue = declare(channel, "q")
    cancelled = []
    channel.add_on_cancel_callback(cancelled.append)
    channel.basic_qos(prefetch_count=1)
    sink = Sink(channel, queue)
    channel.basic_publish("", queue, b"held")
    (held,) = sink.wait(1)
    channel.basic_publish("", queue, b"next")
    steer("DELETE", consumer(steer, sink.tag)[1])
    until(channel.connection, lambda: cancelled, "basic.cancel")
    assert cancelled[0].method.consumer_tag == sink.tag
    assert counts(channel, queue) == (1, 0)
    channel.basic_ack(held.tag)
    assert len(sink.settle()) == 1
    assert drain(channel, queue) == ["next"]
    assert channel.is_open and steer("GET", "/consumers/%2F") == []


def test_another_prefetch_holds_from_then_on(broker, steer):
    channel = broker.channel()
    queue = declare(channel, "q")
    fill(channel, queue, 20)
    channel.basic_qos(prefetch_count=10)
    sink = Sink(channel, queue)
    sink.wait(10)
    _, path = consumer(steer, sink.tag)
    steer("PUT", path, {"prefetch": 2})
    assert consumer(steer, sink.tag)[0]["prefetch_count"] == 2
    # Eight acks bring it down to two; nothing comes for them.
    channel.basic_ack(8, multiple=True)
    assert len(sink.settle()) == 10
    channel.basic_ack(10, multiple=True)
    assert len(sink.wait(12)) == 12 and len(sink.settle()) == 12
    steer("PUT", path, {"prefetch": 5})
    assert len(sink.wait(15)) == 15 and len(sink.settle()) == 15


def test_another_prefetch_of_a_channel_holds_for_its_consumers(broker, steer):
    channel = broker.channel()
    queue = declare(channel, "q")
    fill(channel, queue, 10)
    channel.basic_qos(prefetch_count=1)
    sink = Sink(channel, queue)
    sink.wait(1)
    (shown,) = steer("GET", "/channels")
    steer("PUT", f"/channels/{urllib.parse.quote(shown['name'], safe='')}", {"prefetch": 4})
    assert len(sink.wait(4)) == 4 and len(sink.settle()) == 4


def test_a_pace_given_over_http_is_kept_and_can_be_taken_away(broker, steer):
    channel = broker.channel()
    queue = declare(channel, "q")
    sink = Sink(channel, queue, auto_ack=True)
    _, path = consumer(steer, sink.tag)
    # One message in 1000 seconds.
    steer("PUT", path, {"rate": 0.001, "rate_window_ms": 1_000_000})
    assert consumer(steer, sink.tag)[0]["rate_promised"] == 0.001
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", queue, body)
    sink.wait(1)
    assert len(sink.settle()) == 1 and ready(channel, queue) == 2
    steer("PUT", path, {"rate": None})
    assert [it.body for it in sink.wait(3)] == ["1", "2", "3"]
    assert "rate_promised" not in consumer(steer, sink.tag)[0]


def test_a_paused_consumer_gets_nothing_while_another_does(broker, steer):
    channel, other = broker.channel(), broker.channel()
    queue = declare(channel, "q")
    paused, running = Sink(channel, queue), Sink(other, queue)
    _, path = consumer(steer, paused.tag)
    steer("PUT", path, {"paused": True})
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", queue, body)
    assert [it.body for it in running.wait(3)] == ["1", "2", "3"]
    assert paused.settle() == []
    other.close()
    steer("PUT", path, {"paused": False})
    assert len(paused.wait(3)) == 3
