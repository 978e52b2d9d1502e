"""Contracts 6.6: which messages die, where they go, what they say of it."""

import time

import pytest

from support import (Sink, channel_error, declare, drain, fill, publish, rabbitmq_differs, ready,
                     sync, until)

DEATH = ("reason", "queue", "exchange")


def until_ready(channel, queue, count):
    until(channel.connection, lambda: ready(channel, queue) == count,
          lambda: f"{count} ready in {queue}, there are {ready(channel, queue)}")


def dying_to(channel, name, exchange="", key=None, queue=None, durable=False, **arguments):
    """A queue with a dead-letter exchange; `x_foo=1` means `x-foo: 1`."""
    arguments = {argument.replace("_", "-"): value for argument, value in arguments.items()}
    arguments["x-dead-letter-exchange"] = exchange
    if key is not None:
        arguments["x-dead-letter-routing-key"] = key
    return declare(channel, queue or name(), durable=durable, arguments=arguments)


def take(channel, queue):
    """The first message, when there is one: method, properties and body."""
    until(channel.connection, lambda: ready(channel, queue) > 0, f"a message in {queue}")
    return channel.basic_get(queue, auto_ack=True)


def reject_first(channel, queue):
    until(channel.connection, lambda: ready(channel, queue) > 0, f"a message in {queue}")
    channel.basic_reject(channel.basic_get(queue)[0].delivery_tag, requeue=False)


def die(channel, queue, reason):
    """Publishes one message that dies in `queue`, a queue with x-max-length 1 for `maxlen`."""
    publish(channel, queue, reason, expiration="1" if reason == "expired" else None)
    if reason == "rejected":
        reject_first(channel, queue)
    elif reason == "maxlen":
        publish(channel, queue, "displaces it")


# Arguments.


@pytest.mark.parametrize("arguments", [
    {"x-dead-letter-routing-key": "k"},
    {"x-dead-letter-exchange": 1},
    {"x-dead-letter-exchange": "x", "x-dead-letter-routing-key": 1},
], ids=["key without exchange", "exchange is a number", "key is a number"])
def test_probed_wrong_dead_letter_arguments_are_refused_with_406(channel, name, arguments):
    with channel_error(channel, 406, "PRECONDITION_FAILED"):
        channel.queue_declare(name(), arguments=arguments)


def test_D2_a_redeclare_with_another_dead_letter_exchange_is_refused_with_406(channel, name):
    queue = dying_to(channel, name, "amq.fanout")
    with channel_error(channel, 406, "inequivalent arg 'x-dead-letter-exchange'"):
        dying_to(channel, name, "amq.direct", queue=queue)


# X1: what dies.


@pytest.mark.parametrize("reject", [
    lambda ch, tag: ch.basic_reject(tag, requeue=False), lambda ch, tag: ch.basic_nack(tag, requeue=False),
    lambda ch, tag: ch.basic_nack(tag, multiple=True, requeue=False),
], ids=["reject", "nack", "nack-multiple"])
def test_X1_a_rejected_message_goes_to_the_dead_letter_exchange(channel, name, reject):
    grave = declare(channel, name())
    queue = dying_to(channel, name, key=grave)
    publish(channel, queue, "unwanted")
    until_ready(channel, queue, 1)
    reject(channel, channel.basic_get(queue)[0].delivery_tag)
    method, properties, body = take(channel, grave)
    assert (body, method.redelivered, ready(channel, queue)) == (b"unwanted", False, 0)
    assert properties.headers["x-death"][0]["reason"] == "rejected"


def test_X1_many_rejected_at_once_go_in_their_order(channel, name):
    grave = declare(channel, name())
    queue = dying_to(channel, name, key=grave)
    fill(channel, queue, 100)
    tags = [delivery.tag for delivery in Sink(channel, queue).wait(100)]
    channel.basic_nack(tags[-1], multiple=True, requeue=False)
    until_ready(channel, grave, 100)
    assert drain(channel, grave) == [str(n) for n in range(100)]


def test_X1_acked_and_requeued_messages_do_not_die(channel, name):
    grave = declare(channel, name())
    queue = dying_to(channel, name, key=grave)
    fill(channel, queue, 2)
    channel.basic_ack(channel.basic_get(queue)[0].delivery_tag)
    channel.basic_reject(channel.basic_get(queue)[0].delivery_tag, requeue=True)
    until_ready(channel, queue, 1)
    assert ready(channel, grave) == 0


def test_X1_purge_and_delete_leave_no_dead_letters(channel, name):
    grave = declare(channel, name())
    queue = dying_to(channel, name, key=grave)
    fill(channel, queue, 3)
    channel.queue_purge(queue)
    fill(channel, queue, 3)
    channel.queue_delete(queue)
    assert ready(channel, grave) == 0


def test_X1_what_is_rejected_without_a_dead_letter_exchange_is_gone(channel, name):
    queue = declare(channel, name())
    publish(channel, queue)
    reject_first(channel, queue)
    sync(channel)
    assert ready(channel, queue) == 0


def test_X1_a_rejection_in_a_transaction_counts_from_the_commit(channel, connection, name):
    grave = declare(channel, name())
    queue = dying_to(channel, name, key=grave)
    fill(channel, queue, 1)
    transacted = connection.channel()
    transacted.tx_select()
    transacted.basic_reject(transacted.basic_get(queue)[0].delivery_tag, requeue=False)
    sync(transacted)
    assert ready(channel, grave) == 0
    transacted.tx_commit()
    until_ready(channel, grave, 1)


# X2 to X4: what a dead message says.


@pytest.mark.parametrize("reason", ["rejected", "expired", "maxlen"])
def test_X2_a_death_is_told_in_x_death(channel, name, reason):
    exchange, grave = name("x"), declare(channel, name())
    channel.exchange_declare(exchange, "topic")
    queue = dying_to(channel, name, key=grave, **({"x_max_length": 1} if reason == "maxlen" else {}))
    channel.queue_bind(queue, exchange, "shop.#")
    before = int(time.time())
    publish(channel, "shop.order", "a", exchange=exchange, expiration="1" if reason == "expired" else None)
    if reason == "rejected":
        reject_first(channel, queue)
    elif reason == "maxlen":
        publish(channel, "shop.other", "b", exchange=exchange)
    _, properties, _ = take(channel, grave)
    (death,) = properties.headers["x-death"]
    assert before <= death.pop("time").timestamp() <= time.time()
    wanted = {"count": 1, "reason": reason, "queue": queue, "exchange": exchange, "routing-keys": ["shop.order"]}
    if reason == "expired":
        wanted["original-expiration"] = "1"
    assert death == wanted


def test_X2_a_time_to_live_of_the_queue_is_no_original_expiration(channel, name):
    grave = declare(channel, name())
    queue = dying_to(channel, name, key=grave, x_message_ttl=1)
    publish(channel, queue)
    (death,) = take(channel, grave)[1].headers["x-death"]
    assert (death["reason"], "original-expiration" in death) == ("expired", False)


def test_X2_routing_keys_are_told_with_cc_and_without_bcc(channel, name):
    grave = declare(channel, name())
    queue = dying_to(channel, name, key=grave)
    publish(channel, queue, headers={"CC": ["cc1", "cc2"], "BCC": ["bcc"]})
    reject_first(channel, queue)
    headers = take(channel, grave)[1].headers
    assert headers["x-death"][0]["routing-keys"] == [queue, "cc1", "cc2"]
    assert "BCC" not in headers


def test_X2_each_queue_and_reason_has_an_entry_the_latest_first(channel, name):
    grave = declare(channel, name())
    second = dying_to(channel, name, key=grave)
    first = dying_to(channel, name, key=second)
    publish(channel, first, expiration="1")
    reject_first(channel, second)
    deaths = take(channel, grave)[1].headers["x-death"]
    assert [(death["queue"], death["reason"], death["count"]) for death in deaths] == [
        (second, "rejected", 1), (first, "expired", 1)]


def test_X3_a_death_of_the_same_kind_is_counted_up_and_comes_to_the_front(channel, name):
    grave, work = name(), name()
    dying_to(channel, name, key=work, queue=grave)
    dying_to(channel, name, key=grave, queue=work)
    publish(channel, work)
    for queue in (work, grave, work, grave):
        reject_first(channel, queue)
    headers = take(channel, work)[1].headers
    assert [(death["queue"], death["count"]) for death in headers["x-death"]] == [(grave, 2), (work, 2)]
    # Exchange and keys are those of the first time.
    assert [death["routing-keys"] for death in headers["x-death"]] == [[grave], [work]]


def test_X4_the_first_death_stays_named(channel, name):
    grave = declare(channel, name())
    second = dying_to(channel, name, key=grave)
    first = dying_to(channel, name, key=second)
    channel.queue_bind(first, "amq.direct", first)
    publish(channel, first, exchange="amq.direct", expiration="1")
    reject_first(channel, second)
    headers = take(channel, grave)[1].headers
    assert [headers[f"x-first-death-{what}"] for what in DEATH] == ["expired", first, "amq.direct"]


@rabbitmq_differs("x-last-death- came with 3.13", before=(3, 13))
def test_X4_the_last_death_is_named_anew(channel, name):
    grave = declare(channel, name())
    second = dying_to(channel, name, key=grave)
    first = dying_to(channel, name, key=second)
    publish(channel, first, expiration="1")
    reject_first(channel, second)
    headers = take(channel, grave)[1].headers
    assert [headers[f"x-last-death-{what}"] for what in DEATH] == ["rejected", second, ""]


# X5: how it is routed.


def test_X5_a_dead_message_keeps_its_properties_but_for_the_expiration(channel, name):
    grave = declare(channel, name())
    queue = dying_to(channel, name, key=grave)
    kept = {"content_type": "text/plain", "delivery_mode": 2, "priority": 7, "correlation_id": "c", "reply_to": "r",
            "message_id": "m", "timestamp": 1234567890, "type": "t", "app_id": "a"}
    publish(channel, queue, "x", headers={"mine": 1}, expiration="10", **kept)
    _, properties, _ = take(channel, grave)
    assert {key: getattr(properties, key) for key in kept} == kept
    assert (properties.expiration, properties.headers["mine"]) == (None, 1)


def test_X5_without_a_key_of_its_own_it_keeps_the_routing_key(channel, name):
    exchange, grave, other = name("x"), declare(channel, name()), declare(channel, name())
    channel.exchange_declare(exchange, "direct")
    queue = dying_to(channel, name, exchange)
    channel.queue_bind(grave, exchange, queue)
    channel.queue_bind(other, exchange, "other")
    publish(channel, queue)
    reject_first(channel, queue)
    method, _, _ = take(channel, grave)
    assert (method.exchange, method.routing_key, ready(channel, other)) == (exchange, queue, 0)


def test_X5_copies_go_with_it_unless_the_queue_has_a_key_for_dead_letters(channel, name):
    exchange, by_key, by_copy = name("x"), declare(channel, name()), declare(channel, name())
    channel.exchange_declare(exchange, "direct")
    for key, keeps_copies in ((None, True), ("dead", False)):
        queue = dying_to(channel, name, exchange, key=key)
        channel.queue_bind(by_key, exchange, key or queue)
        channel.queue_bind(by_copy, exchange, "copy")
        publish(channel, queue, headers={"CC": ["copy"]})
        reject_first(channel, queue)
        _, properties, _ = take(channel, by_key)
        assert ("CC" in properties.headers) == keeps_copies
        assert len(drain(channel, by_copy)) == keeps_copies


def test_X5_a_dead_letter_exchange_routes_to_all_its_queues(channel, name):
    exchange, graves = name("x"), [declare(channel, name()) for _ in range(3)]
    channel.exchange_declare(exchange, "fanout")
    for grave in graves:
        channel.queue_bind(grave, exchange)
    queue = dying_to(channel, name, exchange)
    publish(channel, queue, "x")
    reject_first(channel, queue)
    assert [take(channel, grave)[2] for grave in graves] == [b"x"] * 3


def test_X5_an_internal_exchange_takes_dead_letters(channel, name):
    exchange, grave = name("x"), declare(channel, name())
    channel.exchange_declare(exchange, "fanout", internal=True)
    channel.queue_bind(grave, exchange)
    queue = dying_to(channel, name, exchange)
    publish(channel, queue, "x")
    reject_first(channel, queue)
    assert take(channel, grave)[2] == b"x"


def test_X5_a_dead_letter_that_no_queue_takes_is_gone(channel, name):
    exchange = name("x")
    channel.exchange_declare(exchange, "direct")
    queue = dying_to(channel, name, exchange)
    publish(channel, queue, "x")
    reject_first(channel, queue)
    sync(channel)
    assert ready(channel, queue) == 0


def test_X5_the_time_to_live_of_the_next_queue_counts_from_the_death(channel, name):
    grave = declare(channel, name())
    second = dying_to(channel, name, key=grave, x_message_ttl=50)
    first = dying_to(channel, name, key=second, x_message_ttl=50)
    publish(channel, first, "x")
    deaths = take(channel, grave)[1].headers["x-death"]
    assert [death["queue"] for death in deaths] == [second, first]


# X6: no such exchange.


@rabbitmq_differs("the message is dropped")
def test_X6_without_the_exchange_dead_messages_wait_until_it_is_declared(channel, name):
    exchange, grave = name("x"), declare(channel, name())
    queue = dying_to(channel, name, exchange)
    fill(channel, queue, 3)
    for _ in range(2):
        reject_first(channel, queue)
    sync(channel)
    assert ready(channel, queue) == 1
    channel.exchange_declare(exchange, "fanout")
    channel.queue_bind(grave, exchange)
    until_ready(channel, grave, 2)
    assert drain(channel, grave) == ["0", "1"]


def test_X6_without_the_exchange_a_limit_of_length_still_holds(channel, name):
    exchange, grave = name("x"), declare(channel, name())
    queue = dying_to(channel, name, exchange, x_max_length=2)
    for n in range(5):
        publish(channel, queue, n)
    until_ready(channel, queue, 2)
    channel.exchange_declare(exchange, "fanout")
    channel.queue_bind(grave, exchange)
    assert (drain(channel, queue), drain(channel, grave)) == (["3", "4"], [])


# X7: circles.


def test_X7_an_expired_message_is_not_put_where_it_died(channel, name):
    queue = name()
    dying_to(channel, name, key=queue, queue=queue, x_message_ttl=20)
    publish(channel, queue, "x")
    until_ready(channel, queue, 0)


def test_X7_a_circle_without_a_rejection_is_cut(channel, name):
    first, second = name(), name()
    dying_to(channel, name, key=second, queue=first, x_message_ttl=20)
    dying_to(channel, name, key=first, queue=second, x_message_ttl=20)
    publish(channel, first, "x")
    until(channel.connection, lambda: ready(channel, first) + ready(channel, second) == 0, "it is cut")


def test_X7_a_rejection_allows_another_round(channel, name):
    retry, work = name(), name()
    dying_to(channel, name, key=work, queue=retry, x_message_ttl=10)
    dying_to(channel, name, key=retry, queue=work)
    publish(channel, work, "x")
    for count in range(3):
        until_ready(channel, work, 1)
        method, properties, _ = channel.basic_get(work)
        deaths = (properties.headers or {}).get("x-death", [])
        assert [death["count"] for death in deaths] == [count] * (2 if count else 0)
        channel.basic_reject(method.delivery_tag, requeue=False)


# X9: deliveries that fail.


def quorum(channel, name, **arguments):
    grave = declare(channel, name())
    return dying_to(channel, name, key=grave, durable=True, x_queue_type="quorum", **arguments), grave


def fail(channel, queue):
    """Takes the first message and lets its delivery fail; what the headers said of earlier ones."""
    until_ready(channel, queue, 1)
    method, properties, _ = channel.basic_get(queue)
    channel.basic_reject(method.delivery_tag, requeue=True)
    return (properties.headers or {}).get("x-delivery-count", 0)


def test_X9_a_message_that_fails_too_often_dies(channel, name):
    queue, grave = quorum(channel, name, x_delivery_limit=2)
    publish(channel, queue, "bad")
    assert [fail(channel, queue) for _ in range(3)] == [0, 1, 2]
    death = take(channel, grave)[1].headers["x-death"][0]
    assert (death["reason"], death["count"], ready(channel, queue)) == ("delivery_limit", 1, 0)


@rabbitmq_differs("no limit before 4.0", before=(4, 0))
def test_X9_a_quorum_queue_has_a_limit_of_20(channel, name):
    queue, grave = quorum(channel, name)
    publish(channel, queue, "bad")
    assert [fail(channel, queue) for _ in range(21)] == list(range(21))
    until_ready(channel, grave, 1)


@rabbitmq_differs("refused before 4.0", before=(4, 0))
def test_X9_a_limit_of_minus_1_is_none(channel, name):
    queue, grave = quorum(channel, name, x_delivery_limit=-1)
    publish(channel, queue, "bad")
    assert [fail(channel, queue) for _ in range(30)] == list(range(30))
    until_ready(channel, queue, 1)
    assert ready(channel, grave) == 0


@rabbitmq_differs("a nack counted before 4.3", before=(4, 3))
def test_X9_a_nack_with_requeue_is_no_failure(channel, name):
    queue, grave = quorum(channel, name, x_delivery_limit=1)
    publish(channel, queue, "fine")
    for acquired in range(5):
        until_ready(channel, queue, 1)
        method, properties, _ = channel.basic_get(queue)
        headers = properties.headers or {}
        assert (headers.get("x-delivery-count", 0), headers.get("x-acquired-count", 0)) == (0, acquired)
        channel.basic_nack(method.delivery_tag, requeue=True)
    until_ready(channel, queue, 1)
    assert ready(channel, grave) == 0


def test_X9_a_connection_that_is_lost_is_a_failure(channel, raw, name):
    queue, grave = quorum(channel, name, x_delivery_limit=1)
    publish(channel, queue, "poison")
    for _ in range(2):
        until_ready(channel, queue, 1)
        crashing = raw()
        crashing.open_channel()
        crashing.call(1, "basic.get", queue=queue)
        crashing.socket.close()  # No goodbye.
    until_ready(channel, grave, 1)


def test_X9_a_classic_queue_has_no_limit_of_its_own(channel, name):
    grave = declare(channel, name())
    queue = dying_to(channel, name, key=grave)
    publish(channel, queue, "patient")
    assert [fail(channel, queue) for _ in range(30)] == [0] * 30
    until_ready(channel, queue, 1)
    assert ready(channel, grave) == 0
