"""Users and what they may do, as clients notice it (403 and 530)."""

import pika
import pytest

from support import channel_error


def add(broker, name, **may):
    broker("users", "add", name, stdin="secret\n")
    if may:
        patterns = [word for right, pattern in may.items() for word in (f"--{right}", pattern)]
        broker("users", "allow", name, *patterns)


def test_a_user_without_permissions_cannot_enter_the_vhost(broker):
    add(broker, "shop")
    with pytest.raises(pika.exceptions.AMQPConnectionError) as refused:
        broker.connect(user="shop", password="secret")
    assert "530" in str(refused.value) and "access to vhost '/' refused for user 'shop'" in str(refused.value)
    broker("users", "allow", "shop")
    assert broker.connect(user="shop", password="secret").is_open


def test_a_wrong_password_is_refused_and_a_changed_one_holds(broker):
    add(broker, "shop", read=".*")
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        broker.connect(user="shop", password="wrong")
    broker("users", "password", "shop", stdin="other\n")
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        broker.connect(user="shop", password="secret")
    assert broker.connect(user="shop", password="other").is_open


def test_what_is_not_permitted_closes_the_channel_with_403(broker):
    owner = broker.channel()
    owner.queue_declare("shop.orders")
    owner.queue_declare("other")
    add(broker, "shop", configure="^shop\\.", write="^shop\\.|^amq\\.topic$", read="^shop\\.")
    connection = broker.connect(user="shop", password="secret")
    refusals = [
        ("configure access to queue 'other'", lambda c: c.queue_declare("other")),
        ("configure access to queue 'amq.gen-", lambda c: c.queue_declare("", exclusive=True)),
        ("read access to queue 'other'", lambda c: c.basic_get("other")),
        ("read access to queue 'other'", lambda c: c.basic_consume("other", lambda *_: None)),
        ("read access to exchange 'amq.topic'", lambda c: c.queue_bind("shop.orders", "amq.topic", "a")),
        ("write access to exchange 'amq.default'", lambda c: c.basic_publish("", "other", b"", mandatory=True)),
    ]
    for text, operation in refusals:
        channel = connection.channel()
        channel.confirm_delivery()
        with channel_error(channel, 403, text):
            operation(channel)
    channel = connection.channel()
    channel.queue_declare("shop.orders")
    channel.basic_publish("amq.topic", "a", b"")
    assert channel.queue_declare("other", passive=True).method.queue == "other"


def test_topic_permissions_hold_for_routing_keys(broker):
    add(broker, "shop", configure="", write=".*", read="")
    broker("users", "allow-topic", "shop", "amq.topic", "--write", "^shop\\.", "--read", "")
    connection = broker.connect(user="shop", password="secret")
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_publish("amq.topic", "shop.paid", b"")
    with channel_error(channel, 403, "write access to topic 'other.paid' in exchange 'amq.topic'"):
        channel.basic_publish("amq.topic", "other.paid", b"")


def test_the_connections_of_a_deleted_user_are_closed(broker):
    add(broker, "shop", read=".*")
    connection = broker.connect(user="shop", password="secret")
    broker("users", "delete", "shop")
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as closed:
        while True:
            connection.process_data_events(time_limit=1)
    assert closed.value.reply_code == 320 and "user 'shop' is deleted" in closed.value.reply_text
