"""What an operator sets, as clients notice it: vhosts, limits, policies, altered queues, alarms (C9, C11, D10, M5)."""

import json
import re
import threading
import time
from decimal import Decimal

import pika
import pytest

from support import channel_error, drain, publish, ready, until


def refused(broker, vhost="%2F"):
    """The code and text with which a connection is refused."""
    with pytest.raises(pika.exceptions.AMQPConnectionError) as failure:
        broker.connect(vhost)
    found = re.search(r"\((\d+)\) ['\"](.*)['\"]", str(failure.value))
    assert found, failure.value
    return int(found[1]), found[2]


def test_C9_a_vhost_is_there_once_it_is_added_and_its_connections_end_with_it(broker):
    assert refused(broker, "orders")[0] == 530
    broker("vhosts", "add", "orders", "--default-queue-type", "quorum")
    channel = broker.channel("orders")
    channel.queue_declare("q", durable=True)
    with channel_error(channel, 406, "x-queue-type"):
        channel.queue_declare("q", durable=True, arguments={"x-queue-type": "classic"})
    channel = broker.channel("orders")
    broker("vhosts", "delete", "orders")
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as closed:
        while True:
            channel.connection.process_data_events(time_limit=1)
    assert closed.value.reply_code == 320
    assert "vhost 'orders' is deleted" in closed.value.reply_text
    assert refused(broker, "orders")[0] == 530


def test_C9_D10_limits_refuse_what_is_too_much(broker):
    broker("limits", "vhost", "/", "--max-connections", "1", "--max-queues", "1")
    channel = broker.channel()
    code, text = refused(broker)
    assert code == 530 and "connection limit (1) is reached" in text
    channel.queue_declare("one")
    with channel_error(channel, 406, "queue limit in vhost '/' (1) is reached"):
        channel.queue_declare("two")
    broker("limits", "vhost", "/", "--max-connections", "none")
    broker("limits", "user", "guest", "--max-channels", "1")
    channel = broker.channel()
    broker("limits", "user", "guest", "--max-channels", "2")
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as closed:
        for _ in range(3):
            channel.connection.channel()
    assert closed.value.reply_code == 530


def test_M5_a_time_to_live_by_policy_acts_on_a_queue_that_is_there(broker):
    channel = broker.channel()
    channel.queue_declare("orders.a", durable=True)
    channel.queue_declare("dead")
    publish(channel, "orders.a", b"old", delivery_mode=2)
    definition = '{"message-ttl": 1, "dead-letter-exchange": "", "dead-letter-routing-key": "dead"}'
    broker("policies", "set", "ttl", r"^orders\.", definition, "--apply-to", "queues")
    until(channel.connection, lambda: ready(channel, "dead") == 1, "the message to be dead-lettered")
    channel.queue_declare("orders.a", durable=True)
    broker("policies", "clear", "ttl")
    publish(channel, "orders.a", b"new", delivery_mode=2)
    time.sleep(0.01)  # What would have been its time to live.
    assert drain(channel, "orders.a") == ["new"]


def test_M5_an_alternate_exchange_by_policy_takes_what_no_queue_took(broker):
    channel = broker.channel()
    channel.exchange_declare("x")
    channel.queue_declare("rest")
    channel.queue_bind("rest", "amq.fanout")
    publish(channel, "nobody", b"lost", exchange="x")
    broker("policies", "set", "ae", "^x$", '{"alternate-exchange": "amq.fanout"}', "--apply-to", "exchanges")
    publish(channel, "nobody", b"kept", exchange="x")
    assert drain(channel, "rest") == ["kept"]


def test_a_queue_is_altered_in_place_and_a_third_value_is_still_refused(broker):
    channel = broker.channel()
    channel.queue_declare("q", arguments={"x-max-length": 5})
    for body in range(5):
        publish(channel, "q", body)
    broker("queues", "alter", "q", "max-length=2")
    assert ready(channel, "q") == 2
    channel.queue_declare("q", arguments={"x-max-length": 5})
    channel.queue_declare("q", arguments={"x-max-length": 2})
    with channel_error(channel, 406, "x-max-length"):
        channel.queue_declare("q", arguments={"x-max-length": 3})


def test_a_publisher_is_held_to_the_rate_of_its_queue_until_the_rate_is_lifted(broker):
    publisher, watcher = broker.channel(), broker.channel()
    publisher.queue_declare("q")
    broker("policies", "set", "slow", "^q$", '{"publish-rate": 0.01}', "--apply-to", "queues")
    publisher.confirm_delivery()
    publisher.basic_publish("", "q", b"taken, and ahead of its time")
    confirmed = []
    waiting = threading.Thread(target=lambda: confirmed.append(publisher.basic_publish("", "q", b"held back")))
    waiting.start()
    # What came on another connection says nothing of the one that is held; a passive declare is a whole round trip.
    assert ready(watcher, "q") == 1
    assert "publish rate     0.01/s" in broker("queues", "show", "q")
    assert not confirmed
    broker("policies", "clear", "slow")
    waiting.join(30)
    assert not waiting.is_alive()
    assert drain(watcher, "q") == ["taken, and ahead of its time", "held back"]


def test_the_pace_of_a_consumer_is_changed_from_outside(broker):
    channel = broker.channel()
    channel.queue_declare("q")
    for body in range(3):
        publish(channel, "q", body)
    got = []
    channel.basic_consume("q", lambda *args: got.append(args[3]), auto_ack=True, consumer_tag="slow", arguments={"x-rate": Decimal("0.01")})
    until(channel.connection, lambda: got, "the first")
    assert "1 consumer of 'q' changed" in broker("queues", "pace", "q", "slow", "rate=1000")
    until(channel.connection, lambda: len(got) == 3, "the rest, at the new pace")


def test_C11_a_publisher_is_blocked_by_an_alarm_and_goes_on_after_it(broker):
    publisher, consumer = broker.channel(), broker.channel()
    publisher.queue_declare("q")
    told = []
    publisher.connection.add_on_connection_blocked_callback(lambda _, frame: told.append(frame.method.reason))
    publisher.connection.add_on_connection_unblocked_callback(lambda _, frame: told.append("unblocked"))
    broker("alarms", "limit", "--memory-high-watermark", "0")
    publisher.connection.process_data_events(time_limit=0.1)
    assert told == []
    publish(publisher, "q", b"1")
    until(publisher.connection, lambda: told, "connection.blocked")
    publish(publisher, "q", b"2")
    assert drain(consumer, "q") == ["1"]
    broker("alarms", "limit", "--memory-high-watermark", "0.9")
    until(publisher.connection, lambda: len(told) == 2, "connection.unblocked")
    assert told == ["low on memory", "unblocked"]
    until(consumer.connection, lambda: ready(consumer, "q") == 1, "the second message")


def acked(channel, queue):
    """Takes what is ready and acks it; the bodies."""
    bodies = []
    while (got := channel.basic_get(queue))[0]:
        channel.basic_ack(got[0].delivery_tag)
        bodies.append(got[2].decode())
    return bodies


def test_what_was_acked_is_remembered_and_replayed(broker):
    channel = broker.channel()
    channel.queue_declare("q", durable=True, arguments={"x-retain": "7D", "x-retain-bytes": 1_000_000})
    channel.queue_declare("again", durable=True)
    for body in "abc":
        publish(channel, "q", body)
    assert acked(channel, "q") == ["a", "b", "c"]
    until(channel.connection, lambda: "3 messages" in broker("queues", "show", "q"), "three remembered")
    assert "3 of 3 messages would go" in broker("messages", "replay", "q", "--to", "again", "--dry-run")
    assert "2 of 2 messages replayed" in broker("messages", "replay", "q", "--to", "again", "--limit", "2")
    method, properties, body = channel.basic_get("again", auto_ack=True)
    assert (method.routing_key, body) == ("q", b"a")
    assert properties.headers["x-replayed-from"] == "q"
    assert properties.headers["x-acked-at"] <= properties.headers["x-replayed-at"]
    assert acked(channel, "again") == ["b"]
    told = json.loads(broker("messages", "replay", "q", "--to", "q", "--since", "1h", "--body", "c", "--json"))
    assert told == {"dry_run": False, "looked_at": 3, "replayed": 1, "to": {"q": 1}, "stayed": {}}
    assert acked(channel, "q") == ["c"]
    assert "3 messages" in broker("queues", "show", "q"), "a replay into the queue itself is not remembered again"
    channel.queue_declare("q", durable=True, arguments={"x-retain": "7D", "x-retain-bytes": 1_000_000})
    with channel_error(channel, 406, "x-retain"):
        channel.queue_declare("q", durable=True, arguments={"x-retain": "1D", "x-retain-bytes": 1_000_000})


def test_a_policy_makes_a_queue_remember_and_a_stream_refuses(broker):
    channel = broker.channel()
    channel.queue_declare("q", durable=True)
    publish(channel, "q", "before")
    assert acked(channel, "q") == ["before"]
    broker("policies", "set", "keep", "^q$", '{"retain": "1h"}', "--apply-to", "queues")
    publish(channel, "q", "a")
    assert drain(channel, "q") == ["a"]
    assert "1 message," in broker("queues", "show", "q")
    broker("policies", "clear", "keep")
    assert "retained" not in broker("queues", "show", "q")
    broker("queues", "alter", "q", "retain-bytes=1000000")
    assert "0 messages" in broker("queues", "show", "q"), "what was forgotten does not come back"
    for argument in [{"x-retain": "1h"}, {"x-retain-bytes": 1000}]:
        with channel_error(channel, 406, "a stream keeps what is acked anyway"):
            channel.queue_declare("s", durable=True, arguments={"x-queue-type": "stream", **argument})
        channel = broker.channel()
    with channel_error(channel, 406, "'7d' is not a whole number and a unit"):
        channel.queue_declare("r", durable=True, arguments={"x-retain": "7d"})


def test_M7_a_delayed_message_is_cancelled_by_its_message_id_on_the_command_line(broker):
    channel = broker.channel()
    channel.exchange_declare("later", "x-delayed-message", arguments={"x-delayed-type": "fanout"})
    for message_id in ["a", "b", "a"]:
        publish(channel, "", b"m", exchange="later", headers={"x-delay": 60_000}, message_id=message_id)
    until(channel.connection, lambda: broker("delayed", "list", "later").count(" a") == 2, "both to wait")
    assert "2 messages are cancelled" in broker("delayed", "cancel", "later", "--message-id", "a")
    with pytest.raises(AssertionError, match="no message with the message_id 'a' waits"):
        broker("delayed", "cancel", "later", "--message-id", "a")
    assert re.search(r"later +1 ", broker("delayed", "list"))


def test_a_schedule_publishes_at_its_moments_until_it_is_paused_and_after_a_kill(broker):
    channel = broker.channel()
    channel.queue_declare("ticks", durable=True)
    words = ["--cron", "* * * * * *", "--zone", "Europe/Berlin", "--key", "ticks", "--body", "tock", "--missed", "all"]
    assert "schedule tick is set; next: 20" in broker("schedules", "add", "tick", *words, "--header", "n=5")
    assert "is so already" in broker("schedules", "add", "tick", *words, "--header", "n=5")
    until(channel.connection, lambda: ready(channel, "ticks") >= 2, "two ticks")
    broker.process.kill()
    broker.process.wait()
    broker.connections.clear()
    broker.start()
    channel = broker.channel()
    until(channel.connection, lambda: ready(channel, "ticks") >= 4, "two more")
    broker("schedules", "pause", "tick")
    assert "paused" in broker("schedules", "list")
    assert "fired" in broker("schedules", "show", "tick")
    due = []
    while (got := channel.basic_get("ticks", auto_ack=True))[0]:
        assert got[2] == b"tock"
        assert got[1].headers["x-schedule"] == "tick" and got[1].headers["n"] == 5
        due.append(got[1].headers["x-schedule-due-ms"] // 1000)
    assert due == list(range(due[0], due[0] + len(due))), "each second once"
    assert len(broker("schedules", "next", "tick").splitlines()) == 1, "it is paused"
    broker("schedules", "resume", "tick")
    assert len(broker("schedules", "next", "tick", "--count", "3").splitlines()) == 3
    broker("schedules", "remove", "tick")
    assert "no schedules" in broker("schedules", "list")
    with pytest.raises(AssertionError, match="there is no time zone 'Mars'"):
        broker("schedules", "add", "tick", "--cron", "@daily", "--zone", "Mars")
