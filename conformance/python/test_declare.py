"""Contracts 6.2: channels, declarations, deletions."""

import pika
import pytest

from support import channel_error, counts, declare, drain, fill, publish, rabbitmq_differs, ready, sync, until

# Channels.


def test_D1_a_second_channel_open_closes_the_connection_with_504(raw):
    client = raw()
    client.open_channel(3)
    client.method(3, "channel.open")
    client.expect_connection_close(504)


def test_D1_flow_with_active_true_is_answered(raw):
    client = raw()
    client.open_channel()
    assert client.call(1, "channel.flow", active=True) == {"active": True}


def test_D1_flow_with_active_false_closes_the_connection_with_540(raw):
    client = raw()
    client.open_channel()
    client.method(1, "channel.flow", active=False)
    client.expect_connection_close(540, "NOT_IMPLEMENTED")


def test_D1_access_request_is_answered_with_ticket_1(raw):
    client = raw()
    client.open_channel()
    assert client.call(1, "access.request", realm="/data", active=True, write=True) == {"ticket": 1}


def test_D1_a_channel_number_can_be_used_again_after_close(raw):
    client = raw()
    for _ in range(3):
        client.open_channel(5)
        client.call(5, "channel.close", reply_code=200)


# Queues.

QUEUE_MISMATCHES = {
    "durable": ({"durable": True}, {"durable": False},
                "inequivalent arg 'durable' for queue '{q}' in vhost '/': received 'false' but current is 'true'"),
    "transient": ({}, {"durable": True},
                  "inequivalent arg 'durable' for queue '{q}' in vhost '/': received 'true' but current is 'false'"),
    "auto_delete": ({}, {"auto_delete": True},
                    "inequivalent arg 'auto_delete' for queue '{q}' in vhost '/': "
                    "received 'true' but current is 'false'"),
    "ttl-added": ({}, {"arguments": {"x-message-ttl": 60000}}, "inequivalent arg 'x-message-ttl' for queue '{q}'"),
    "ttl-changed": ({"arguments": {"x-message-ttl": 60000}}, {"arguments": {"x-message-ttl": 70000}},
                    "inequivalent arg 'x-message-ttl' for queue '{q}'"),
    "max-length-removed": ({"arguments": {"x-max-length": 10}}, {}, "inequivalent arg 'x-max-length'"),
    "dlx-added": ({}, {"arguments": {"x-dead-letter-exchange": "amq.fanout"}},
                  "inequivalent arg 'x-dead-letter-exchange'"),
}


@pytest.mark.parametrize("first, second, text", QUEUE_MISMATCHES.values(), ids=QUEUE_MISMATCHES.keys())
def test_D2_redeclaring_a_queue_otherwise_closes_the_channel_with_406(channel, name, address, first, second, text):
    queue = declare(channel, name(), **first)
    with channel_error(channel, 406, text.format(q=queue).replace("vhost '/'", f"vhost '{address.vhost}'")):
        channel.queue_declare(queue, **second)


@pytest.mark.parametrize("flags", [
    {}, {"durable": True}, {"auto_delete": True}, {"exclusive": True},
    {"durable": True, "arguments": {"x-max-length": 10, "x-message-ttl": 60000}},
    {"arguments": {"x-queue-type": "classic"}},
], ids=str)
def test_D2_redeclaring_a_queue_the_same_way_is_fine(channel, name, flags):
    queue = declare(channel, name(), **flags)
    assert channel.queue_declare(queue, **flags).method.queue == queue


def test_D2_a_passive_declare_ignores_all_other_arguments(channel, name):
    queue = declare(channel, name())
    assert channel.queue_declare(queue, passive=True, durable=True, auto_delete=True).method.queue == queue


def test_D2_a_passive_declare_of_a_missing_queue_closes_the_channel_with_404(channel, name, address):
    queue = name()
    with channel_error(channel, 404, f"NOT_FOUND - no queue '{queue}' in vhost '{address.vhost}'"):
        channel.queue_declare(queue, passive=True)


def test_D2_a_passive_declare_of_a_missing_exchange_closes_the_channel_with_404(channel, name, address):
    exchange = name("x")
    with channel_error(channel, 404, f"NOT_FOUND - no exchange '{exchange}' in vhost '{address.vhost}'"):
        channel.exchange_declare(exchange, passive=True)


LOCKED_OUT = {
    "declare": lambda ch, q: ch.queue_declare(q, exclusive=True),
    "passive-declare": lambda ch, q: ch.queue_declare(q, passive=True),
    "not-exclusive": lambda ch, q: ch.queue_declare(q),
    "consume": lambda ch, q: ch.basic_consume(q, lambda *_: None),
    "get": lambda ch, q: ch.basic_get(q),
    "purge": lambda ch, q: ch.queue_purge(q),
    "delete": lambda ch, q: ch.queue_delete(q),
    "bind": lambda ch, q: ch.queue_bind(q, "amq.direct", "k"),
}


@pytest.mark.parametrize("operation", LOCKED_OUT.values(), ids=LOCKED_OUT.keys())
def test_D2_an_exclusive_queue_of_another_connection_answers_everything_with_405(connect, channel, name, operation):
    queue = declare(channel, name(), exclusive=True)
    other = connect().channel()
    with channel_error(other, 405, f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}'"):
        operation(other, queue)


def test_D2_an_exclusive_queue_takes_messages_from_any_connection(connect, channel, name):
    queue = declare(channel, name(), exclusive=True)
    other = connect().channel()
    publish(other, queue, "from outside")
    sync(other)
    until(channel.connection, lambda: ready(channel, queue) == 1, "the message is there")


def test_D2_declaring_an_existing_queue_exclusive_closes_the_channel_with_an_error(channel, connect, name):
    queue = declare(channel, name())
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        connect().channel().queue_declare(queue, exclusive=True)
    assert closed.value.reply_code in (405, 406)


EXCHANGE_MISMATCHES = {
    "type": ({"exchange_type": "direct"}, {"exchange_type": "fanout"},
             "inequivalent arg 'type' for exchange '{x}' in vhost '/': received 'fanout' but current is 'direct'"),
    "durable": ({}, {"durable": True},
                "inequivalent arg 'durable' for exchange '{x}' in vhost '/': "
                "received 'true' but current is 'false'"),
    "auto_delete": ({}, {"auto_delete": True}, "inequivalent arg 'auto_delete' for exchange '{x}'"),
    "internal": ({}, {"internal": True}, "inequivalent arg 'internal' for exchange '{x}'"),
    "alternate": ({}, {"arguments": {"alternate-exchange": "amq.fanout"}},
                  "inequivalent arg 'alternate-exchange' for exchange '{x}'"),
}


@pytest.mark.parametrize("first, second, text", EXCHANGE_MISMATCHES.values(), ids=EXCHANGE_MISMATCHES.keys())
def test_D2_redeclaring_an_exchange_otherwise_closes_the_channel_with_406(channel, name, address, first, second,
                                                                          text):
    exchange = name("x")
    channel.exchange_declare(exchange, **first)
    with channel_error(channel, 406, text.format(x=exchange).replace("vhost '/'", f"vhost '{address.vhost}'")):
        channel.exchange_declare(exchange, **{**first, **second})


@pytest.mark.parametrize("kind", ["queue", "exchange"])
def test_D3_creating_a_name_that_starts_with_amq_closes_the_channel_with_403(channel, name, kind):
    text = f"ACCESS_REFUSED - {kind} name 'amq.conformance' contains reserved prefix 'amq.*'"
    with channel_error(channel, 403, text):
        getattr(channel, f"{kind}_declare")("amq.conformance")


BUILT_IN = {"amq.direct": "direct", "amq.fanout": "fanout", "amq.topic": "topic", "amq.headers": "headers",
            "amq.match": "headers"}


@pytest.mark.parametrize("exchange, kind", BUILT_IN.items())
def test_D3_the_built_in_exchanges_exist_and_may_be_declared_as_they_are(channel, exchange, kind):
    channel.exchange_declare(exchange, passive=True)
    channel.exchange_declare(exchange, kind, durable=True)


@pytest.mark.parametrize("exchange", BUILT_IN)
def test_D3_deleting_a_built_in_exchange_closes_the_channel_with_403(channel, exchange):
    with channel_error(channel, 403, "ACCESS_REFUSED"):
        channel.exchange_delete(exchange)


ON_THE_DEFAULT_EXCHANGE = {
    "declare": lambda ch, q: ch.exchange_declare("", "direct", durable=True),
    "delete": lambda ch, q: ch.exchange_delete(""),
    "bind": lambda ch, q: ch.queue_bind(q, "", "k"),
    "unbind": lambda ch, q: ch.queue_unbind(q, "", "k"),
    "exchange-bind-from": lambda ch, q: ch.exchange_bind("amq.fanout", "", "k"),
    "exchange-bind-to": lambda ch, q: ch.exchange_bind("", "amq.fanout", "k"),
}


@pytest.mark.parametrize("operation", ON_THE_DEFAULT_EXCHANGE.values(), ids=ON_THE_DEFAULT_EXCHANGE.keys())
def test_D3_operations_on_the_default_exchange_close_the_channel_with_403(channel, name, operation):
    queue = declare(channel, name())
    with channel_error(channel, 403, "operation not permitted on the default exchange"):
        operation(channel, queue)


def test_D3_the_default_exchange_routes_by_queue_name(channel, name):
    queue = declare(channel, name())
    publish(channel, queue, "direct hit")
    assert drain(channel, queue) == ["direct hit"]


def test_D4_cr_and_lf_are_stripped_from_the_names_of_declared_queues(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    assert client.call(1, "queue.declare", queue=queue[:4] + "\r\n" + queue[4:] + "\n")["queue"] == queue
    client.call(1, "queue.declare", queue=queue, passive=True)


def test_D4_cr_and_lf_are_stripped_from_the_names_of_declared_exchanges(channel, name):
    exchange = name("x")
    channel.exchange_declare(exchange + "\r\n")
    channel.exchange_declare(exchange, passive=True)


def test_D4_an_empty_queue_name_means_the_last_queue_declared_on_the_channel(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=name())
    client.call(1, "queue.declare", queue=queue)
    client.publish(1, queue, b"x")
    client.method(1, "basic.get", no_ack=True)
    client.expect("basic.get-ok")
    client.take_content(1)
    client.call(1, "queue.bind", exchange="amq.direct", routing_key="key-of-" + queue)
    client.call(1, "queue.unbind", exchange="amq.direct", routing_key="key-of-" + queue)
    client.call(1, "queue.purge")
    client.call(1, "basic.consume")
    client.call(1, "queue.delete")
    client.method(1, "queue.declare", queue=queue, passive=True)
    frame = client.next_frame()
    if frame.name == "basic.cancel":
        frame = client.next_frame()
    assert frame.args["reply_code"] == 404


@pytest.mark.parametrize("method", ["basic.get", "basic.consume", "queue.purge", "queue.bind", "queue.delete"])
def test_D4_an_empty_queue_name_without_a_declared_queue_closes_the_channel_with_404(raw, method):
    client = raw()
    client.open_channel()
    client.method(1, method)
    client.expect_channel_close(1, 404)


def test_D4_a_binding_with_neither_queue_nor_key_has_the_last_queues_name_as_key(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    client.call(1, "queue.bind", exchange="amq.direct")
    client.publish(1, queue, b"x", exchange="amq.direct")
    assert client.call(1, "queue.purge") == {"message_count": 1}


def test_D5_the_server_names_a_queue_that_comes_without_a_name(channel):
    first = channel.queue_declare("", exclusive=True).method.queue
    second = channel.queue_declare("", exclusive=True).method.queue
    assert first.startswith("amq.gen-") and second.startswith("amq.gen-") and first != second
    assert channel.queue_declare(first, passive=True).method.queue == first


@pytest.mark.parametrize("kind", ["quorum", "stream"])
def test_D5_a_quorum_queue_or_stream_without_a_name_closes_the_channel_with_406(channel, kind):
    with channel_error(channel, 406, "PRECONDITION_FAILED"):
        channel.queue_declare("", durable=True, arguments={"x-queue-type": kind})


@rabbitmq_differs("an unknown argument before 4.3", before=(4, 3))
def test_D5_a_name_prefix_over_64_bytes_closes_the_channel_with_406(channel):
    with channel_error(channel, 406, "PRECONDITION_FAILED"):
        channel.queue_declare("", exclusive=True, arguments={"x-name-prefix": "x" * 65})


def test_D6_deleting_a_missing_queue_succeeds_with_count_0(channel, name):
    assert channel.queue_delete(name()).method.message_count == 0


def test_D6_deleting_a_missing_exchange_succeeds(channel, name):
    channel.exchange_delete(name("x"))


@pytest.mark.parametrize("missing", ["queue", "exchange", "both", "binding"])
def test_D6_unbinding_what_is_not_there_succeeds(channel, name, missing):
    queue = name() if missing in ("queue", "both") else declare(channel, name())
    exchange = name("x") if missing in ("exchange", "both") else "amq.direct"
    channel.queue_unbind(queue, exchange, "no-such-key")
    channel.exchange_unbind(name("x") if missing == "queue" else "amq.topic", exchange, "no-such-key")


def test_D6_delete_tells_how_many_messages_went_with_the_queue(channel, name):
    queue = declare(channel, name())
    fill(channel, queue, 3)
    assert channel.queue_delete(queue).method.message_count == 3


def test_D6_if_empty_on_a_queue_with_messages_closes_the_channel_with_406(channel, name):
    queue = declare(channel, name())
    fill(channel, queue, 1)
    with channel_error(channel, 406, "not empty"):
        channel.queue_delete(queue, if_empty=True)


def test_D6_if_unused_on_a_queue_with_a_consumer_closes_the_channel_with_406(channel, connection, name, address):
    queue = declare(channel, name())
    channel.basic_consume(queue, lambda *_: None)
    other = connection.channel()
    with channel_error(other, 406, f"queue '{queue}' in vhost '{address.vhost}' in use"):
        other.queue_delete(queue, if_unused=True)


def test_D6_if_unused_on_a_bound_exchange_closes_the_channel_with_406(channel, name):
    exchange, queue = name("x"), declare(channel, name())
    channel.exchange_declare(exchange)
    channel.queue_bind(queue, exchange, "k")
    with channel_error(channel, 406, f"exchange '{exchange}' in vhost"):
        channel.exchange_delete(exchange, if_unused=True)


def test_D6_if_unused_and_if_empty_let_an_idle_queue_go(channel, name):
    queue = declare(channel, name())
    channel.queue_delete(queue, if_unused=True, if_empty=True)
    with channel_error(channel, 404):
        channel.queue_declare(queue, passive=True)


def test_D6_binding_a_missing_queue_closes_the_channel_with_404(channel, name):
    queue = name()
    with channel_error(channel, 404, f"no queue '{queue}'"):
        channel.queue_bind(queue, "amq.direct", "k")


def test_D6_binding_to_a_missing_exchange_closes_the_channel_with_404(channel, name):
    queue, exchange = declare(channel, name()), name("x")
    with channel_error(channel, 404, f"no exchange '{exchange}'"):
        channel.queue_bind(queue, exchange, "k")


@pytest.mark.parametrize("missing", ["source", "destination"])
def test_D6_binding_exchanges_of_which_one_is_missing_closes_the_channel_with_404(channel, name, missing):
    source, destination = name("x"), name("x")
    channel.exchange_declare(destination if missing == "source" else source)
    with channel_error(channel, 404):
        channel.exchange_bind(destination, source, "k")


def test_D7_declare_ok_tells_ready_messages_and_all_consumers(connection, channel, name):
    queue = declare(channel, name())
    fill(channel, queue, 5)
    other = connection.channel()
    other.basic_qos(prefetch_count=1)
    other.basic_consume(queue, lambda *_: None)
    other.basic_consume(queue, lambda *_: None)
    until(connection, lambda: ready(channel, queue) == 3, "two of five are delivered and not ready")
    assert counts(channel, queue) == (3, 2)


def test_D7_consumers_that_wait_for_their_turn_are_counted(channel, name):
    queue = declare(channel, name(), arguments={"x-single-active-consumer": True})
    for _ in range(3):
        channel.basic_consume(queue, lambda *_: None)
    assert counts(channel, queue) == (0, 3)


def test_D9_unknown_arguments_are_accepted(channel, name):
    queue = declare(channel, name(), arguments={"x-mesage-ttl": 5, "whatever": "yes"})
    channel.queue_declare(queue)
    channel.queue_declare(queue, arguments={"x-another": True})


def test_D9_an_unknown_argument_of_an_exchange_is_accepted(channel, name):
    exchange = name("x")
    channel.exchange_declare(exchange, arguments={"x-whatever": 1})
    channel.exchange_declare(exchange)


def test_D15_a_transient_queue_that_is_not_exclusive_is_permitted(channel, name):
    queue = declare(channel, name(), durable=False, exclusive=False)
    publish(channel, queue, "x")
    assert drain(channel, queue) == ["x"]


def test_probed_a_nowait_declare_may_be_followed_at_once_by_get(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    client.method(1, "queue.declare", queue=queue, no_wait=True)
    client.method(1, "basic.get", queue=queue)
    client.expect("basic.get-empty", 1)


def test_probed_nothing_that_is_sent_with_nowait_is_answered(raw, name):
    client, queue, exchange = raw(), name(), name("x")
    client.open_channel()
    client.method(1, "exchange.declare", exchange=exchange, type="fanout", no_wait=True)
    client.method(1, "queue.declare", queue=queue, no_wait=True)
    client.method(1, "queue.bind", queue=queue, exchange=exchange, no_wait=True)
    client.method(1, "exchange.bind", destination=exchange, source="amq.fanout", routing_key=queue, no_wait=True)
    client.method(1, "exchange.unbind", destination=exchange, source="amq.fanout", routing_key=queue, no_wait=True)
    client.publish(1, "", b"x", exchange=exchange)
    client.method(1, "basic.consume", queue=queue, consumer_tag="t", no_wait=True, no_ack=True)
    assert client.expect("basic.deliver", 1)["consumer_tag"] == "t"
    client.take_content(1)
    client.method(1, "basic.cancel", consumer_tag="t", no_wait=True)
    client.method(1, "queue.purge", queue=queue, no_wait=True)
    client.method(1, "confirm.select", no_wait=True)
    client.method(1, "queue.delete", queue=queue, no_wait=True)
    client.method(1, "exchange.delete", exchange=exchange, no_wait=True)
    client.call(1, "basic.qos", prefetch_count=1)


def test_probed_an_error_of_a_nowait_declare_closes_the_channel(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    client.method(1, "queue.declare", queue=queue, durable=True, no_wait=True)
    client.expect_channel_close(1, 406)


@rabbitmq_differs("Cx 503 before 4.0", before=(4, 0))
def test_probed_an_unknown_exchange_type_closes_the_channel_with_406(channel, name):
    with channel_error(channel, 406, "PRECONDITION_FAILED"):
        channel.exchange_declare(name("x"), "x-no-such-type")


BAD_QUEUES = {
    "unknown-queue-type": ({"arguments": {"x-queue-type": "no-such-type"}}, 406),
    "queue-type-not-text": ({"arguments": {"x-queue-type": 7}}, 406),
    "quorum-not-durable": ({"arguments": {"x-queue-type": "quorum"}}, 406),
    "quorum-exclusive": ({"durable": True, "exclusive": True, "arguments": {"x-queue-type": "quorum"}}, 406),
}


@pytest.mark.parametrize("flags, code", BAD_QUEUES.values(), ids=BAD_QUEUES.keys())
def test_probed_a_bad_queue_type_closes_the_channel_with_406(channel, name, flags, code):
    with channel_error(channel, code, "PRECONDITION_FAILED"):
        channel.queue_declare(name(), **flags)


MISSING_QUEUE = {
    "consume": lambda ch, q: ch.basic_consume(q, lambda *_: None),
    "get": lambda ch, q: ch.basic_get(q),
    "purge": lambda ch, q: ch.queue_purge(q),
}


@pytest.mark.parametrize("operation", MISSING_QUEUE.values(), ids=MISSING_QUEUE.keys())
def test_probed_using_a_missing_queue_closes_the_channel_with_404(channel, name, operation):
    queue = name()
    with channel_error(channel, 404, f"no queue '{queue}'"):
        operation(channel, queue)


def test_a_queue_name_of_255_octets_of_utf_8_is_fine(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    long_name = queue + "ü" * ((255 - len(queue)) // 2)
    assert client.call(1, "queue.declare", queue=long_name, exclusive=True)["queue"] == long_name


def test_a_channel_error_text_over_255_octets_is_cut_and_still_readable(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    client.method(1, "queue.declare", queue=queue + "x" * (255 - len(queue)), passive=True)
    assert client.expect_channel_close(1, 404)["reply_text"].startswith("NOT_FOUND - no queue")
