"""Contracts 6.3: publishing, returns, confirms, transactions."""

import struct

import pytest

from rawamqp import Raw, longstr, table
from support import bodies_in_order, channel_error, declare, drain, fill, publish, rabbitmq_differs, ready, until

MAX_MESSAGE_BYTES = 16 * 1024 * 1024


def test_P1_publishing_to_a_missing_exchange_closes_the_channel_with_404(channel, name, address):
    exchange = name("x")
    with channel_error(channel, 404, f"NOT_FOUND - no exchange '{exchange}' in vhost '{address.vhost}'"):
        publish(channel, "k", exchange=exchange)


def test_P1_publishing_to_an_internal_exchange_closes_the_channel_with_403(channel, name, address):
    exchange = name("x")
    channel.exchange_declare(exchange, "fanout", internal=True)
    with channel_error(channel, 403, f"cannot publish to internal exchange '{exchange}' in vhost '{address.vhost}'"):
        publish(channel, "k", exchange=exchange)


def test_P1_an_internal_exchange_takes_messages_from_other_exchanges(channel, name):
    inner, outer, queue = name("x"), name("x"), declare(channel, name())
    channel.exchange_declare(inner, "fanout", internal=True)
    channel.exchange_declare(outer, "fanout")
    channel.exchange_bind(inner, outer)
    channel.queue_bind(queue, inner)
    publish(channel, "k", "through", exchange=outer)
    assert drain(channel, queue) == ["through"]


def test_P1_immediate_closes_the_connection_with_540(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    client.publish(1, queue, b"x", immediate=True)
    client.expect_connection_close(540, "NOT_IMPLEMENTED - immediate=true")


def test_P1_a_body_of_16_mib_is_taken_and_comes_back(channel, name):
    queue, body = declare(channel, name()), bytes(range(256)) * (MAX_MESSAGE_BYTES // 256)
    publish(channel, queue, body)
    assert channel.basic_get(queue, auto_ack=True)[2] == body


@rabbitmq_differs("128 MiB before 4.0", before=(4, 0))
def test_P1_a_body_over_16_mib_closes_the_channel_with_406(channel, name):
    queue = declare(channel, name())
    with channel_error(channel, 406, "PRECONDITION_FAILED"):
        publish(channel, queue, bytes(MAX_MESSAGE_BYTES + 1))
    assert ready(channel.connection.channel(), queue) == 0


@rabbitmq_differs("waits for the whole body")
def test_P1_a_body_that_claims_an_absurd_size_closes_the_channel_with_406(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    client.method(1, "basic.publish", routing_key=queue)
    client.content(1, b"x", size=1 << 62)
    client.expect_channel_close(1, 406)


@pytest.mark.parametrize("expiration", ["-1", "soon", "1.5", "1s", " 1"], ids=repr)
def test_P1_an_expiration_that_is_no_whole_number_closes_the_channel_with_406(channel, name, expiration):
    queue = declare(channel, name())
    with channel_error(channel, 406, "PRECONDITION_FAILED - invalid expiration"):
        publish(channel, queue, expiration=expiration)


def test_P1_an_expiration_in_milliseconds_is_taken_and_delivered(channel, name):
    queue = declare(channel, name())
    publish(channel, queue, expiration="3600000")
    assert channel.basic_get(queue, auto_ack=True)[1].expiration == "3600000"


def test_P2_a_user_id_other_than_the_login_closes_the_channel_with_406(channel, name, address):
    queue = declare(channel, name())
    with channel_error(channel, 406, f"user_id property set to 'somebody' but authenticated user was "
                                     f"'{address.user}'"):
        publish(channel, queue, user_id="somebody")


def test_P2_the_users_own_user_id_is_delivered(channel, name, address):
    queue = declare(channel, name())
    publish(channel, queue, user_id=address.user)
    assert channel.basic_get(queue, auto_ack=True)[1].user_id == address.user


@pytest.mark.parametrize("header", ["CC", "BCC"])
@pytest.mark.parametrize("value", ["a-queue", 1, {"a": "queue"}], ids=repr)
def test_P3_cc_and_bcc_that_are_no_arrays_of_text_close_the_channel_with_406(channel, name, header, value):
    queue = declare(channel, name())
    with channel_error(channel, 406, "PRECONDITION_FAILED"):
        publish(channel, queue, headers={header: value})


def test_P3_cc_and_bcc_add_routing_keys_and_bcc_is_removed(channel, name):
    to, copy, blind = (declare(channel, name()) for _ in range(3))
    publish(channel, to, "x", headers={"CC": [copy], "BCC": [blind], "other": "stays"})
    for queue in (to, copy, blind):
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        assert (body, properties.headers) == (b"x", {"CC": [copy], "other": "stays"})
        assert method.routing_key == to


def test_P3_a_queue_that_is_named_twice_gets_the_message_once(channel, name):
    queue = declare(channel, name())
    publish(channel, queue, "once", headers={"CC": [queue, queue], "BCC": [queue]})
    assert drain(channel, queue) == ["once"]


def test_P3_one_key_that_routes_is_enough_for_mandatory(channel, name):
    queue = declare(channel, name())
    channel.confirm_delivery()
    publish(channel, name(), "x", headers={"CC": [queue]}, mandatory=True)
    assert drain(channel, queue) == ["x"]


def test_P3_cc_is_a_routing_key_for_every_exchange_type(channel, name):
    exchange, queue = name("x"), declare(channel, name())
    channel.exchange_declare(exchange, "topic")
    channel.queue_bind(queue, exchange, "copy.*")
    publish(channel, "main", "x", exchange=exchange, headers={"CC": ["copy.one"]})
    assert drain(channel, queue) == ["x"]


def test_P4_an_unroutable_mandatory_message_comes_back_before_its_ack(raw, name):
    client, key = raw(), name()
    client.open_channel()
    client.call(1, "confirm.select")
    client.publish(1, key, b"nobody wants me", mandatory=True, flags=0x8000, properties=b"\x04text")
    returned = client.expect("basic.return", 1)
    assert returned == {"reply_code": 312, "reply_text": "NO_ROUTE", "exchange": "", "routing_key": key}
    assert client.take_content(1)[:3] == (0x8000, b"\x04text", b"nobody wants me")
    assert client.expect("basic.ack", 1)["delivery_tag"] == 1


def test_P4_an_unroutable_message_that_is_not_mandatory_is_acked_and_dropped(raw, name):
    client = raw()
    client.open_channel()
    client.call(1, "confirm.select")
    client.publish(1, name(), b"x")
    assert client.expect("basic.ack", 1)["delivery_tag"] == 1


def test_P4_a_mandatory_message_that_is_routed_is_not_returned(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    client.call(1, "confirm.select")
    client.publish(1, queue, b"x", mandatory=True)
    assert client.expect("basic.ack", 1)["delivery_tag"] == 1


def test_P4_returns_keep_their_order_and_come_before_their_acks(raw, name):
    client = raw()
    client.open_channel()
    client.call(1, "confirm.select")
    for n in range(20):
        client.publish(1, "", str(n).encode(), exchange="amq.direct", mandatory=True)
    returned, acked = [], 0
    while acked < 20:
        frame = client.next_frame()
        if frame.name == "basic.return":
            returned.append(client.take_content(1)[2])
            continue
        assert frame.name == "basic.ack"
        acked = frame.args["delivery_tag"] if frame.args["multiple"] else acked + 1
        assert len(returned) >= frame.args["delivery_tag"]
    assert returned == [str(n).encode() for n in range(20)]


def test_P4_large_bodies_are_returned_whole(channel):
    body, returned = bytes(range(256)) * 2000, []
    channel.add_on_return_callback(lambda *args: returned.append(args[3]))
    publish(channel, "nobody", body, exchange="amq.direct", mandatory=True)
    until(channel.connection, lambda: returned, "the return")
    assert returned == [body]


def take_confirms(client, count, channel=1):
    """Tags 1..count, each acked once, in whatever groups the server likes."""
    open_tags = set(range(1, count + 1))
    while open_tags:
        ack = client.expect("basic.ack", channel)
        tags = {t for t in open_tags if t <= ack["delivery_tag"]} if ack["multiple"] else {ack["delivery_tag"]}
        assert tags and tags <= open_tags, f"{ack} acks nothing, or something twice"
        open_tags -= tags


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("count", [1, 1000])
def test_P5_every_publish_is_confirmed_once_with_numbers_from_1(raw, name, durable, count):
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue, durable=durable)
    client.call(1, "confirm.select")
    for _ in range(count):
        client.publish(1, queue, b"x", flags=0x1000, properties=b"\x02" if durable else b"\x01")
    take_confirms(client, count)
    assert client.call(1, "queue.purge", queue=queue)["message_count"] == count


def test_P5_numbers_are_per_channel_and_start_at_confirm_select(raw, name):
    client, queue = raw(), name()
    for channel in (1, 2):
        client.open_channel(channel)
    client.call(1, "queue.declare", queue=queue)
    client.publish(1, queue, b"before")
    for channel in (1, 2):
        client.call(channel, "confirm.select")
        client.publish(channel, queue, b"after")
        assert client.expect("basic.ack", channel)["delivery_tag"] == 1


def test_P5_confirm_select_may_be_repeated_and_numbering_goes_on(raw, name):
    client = raw()
    client.open_channel()
    client.call(1, "confirm.select")
    client.publish(1, "nobody")
    assert client.expect("basic.ack", 1)["delivery_tag"] == 1
    client.call(1, "confirm.select")
    client.publish(1, "nobody")
    assert client.expect("basic.ack", 1)["delivery_tag"] == 2


def test_P5_confirms_of_messages_to_many_kinds_of_queues(raw, name):
    client, durable, transient = raw(), name(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=durable, durable=True)
    client.call(1, "queue.declare", queue=transient)
    client.call(1, "confirm.select")
    keys = [durable, transient, "nowhere"] * 50
    for n, key in enumerate(keys):
        client.publish(1, key, b"x", flags=0x1000, properties=b"\x02" if n % 2 else b"\x01")
    take_confirms(client, len(keys))


def test_P5_confirm_select_on_a_transactional_channel_closes_it_with_406(channel):
    channel.tx_select()
    with channel_error(channel, 406, "PRECONDITION_FAILED"):
        channel.confirm_delivery()


def test_P5_tx_select_on_a_confirming_channel_closes_it_with_406(channel):
    channel.confirm_delivery()
    with channel_error(channel, 406, "PRECONDITION_FAILED"):
        channel.tx_select()


@pytest.mark.parametrize("operation", ["tx_commit", "tx_rollback"])
def test_P5_ending_a_transaction_that_was_not_selected_closes_the_channel_with_406(channel, operation):
    with channel_error(channel, 406, "PRECONDITION_FAILED - channel is not transactional"):
        getattr(channel, operation)()


def test_P6_a_confirmed_message_is_in_every_matched_queue(channel, name):
    exchange, queues = name("x"), [declare(channel, name(), durable=True) for _ in range(5)]
    channel.exchange_declare(exchange, "fanout")
    for queue in queues:
        channel.queue_bind(queue, exchange)
    channel.confirm_delivery()
    publish(channel, "", "all", exchange=exchange, delivery_mode=2, mandatory=True)
    assert [drain(channel, queue) for queue in queues] == [["all"]] * 5


def work_in_a_transaction(channel, name):
    """Takes a message, publishes its result and acks it, uncommitted: the two queues, and the delivery tag."""
    source, target = declare(channel, name()), declare(channel, name())
    fill(channel, source, 1)
    channel.tx_select()
    method, _, _ = channel.basic_get(source)
    publish(channel, target, "result")
    channel.basic_ack(method.delivery_tag)
    return source, target, method.delivery_tag


def test_P7_a_commit_publishes_and_acks(channel, connection, name):
    source, target, _ = work_in_a_transaction(channel, name)
    watcher = connection.channel()
    assert ready(watcher, target) == 0
    channel.tx_commit()
    assert drain(watcher, target) == ["result"]
    channel.close()
    assert ready(watcher, source) == 0


def test_P7_a_rollback_drops_publishes_and_leaves_messages_unacked(channel, connection, name):
    source, target, delivery_tag = work_in_a_transaction(channel, name)
    channel.tx_rollback()
    watcher = connection.channel()
    assert (ready(watcher, source), ready(watcher, target)) == (0, 0)
    channel.basic_ack(delivery_tag)
    channel.tx_commit()
    channel.close()
    assert ready(watcher, source) == 0


def test_P7_closing_the_channel_rolls_back(channel, connection, name):
    source, target, _ = work_in_a_transaction(channel, name)
    channel.close()
    watcher = connection.channel()
    until(connection, lambda: ready(watcher, source) == 1, "the message is back")
    assert ready(watcher, target) == 0


def test_P7_a_transaction_follows_the_other(channel, name):
    queue = declare(channel, name(), durable=True)
    channel.tx_select()
    for n in range(6):
        publish(channel, queue, n, delivery_mode=2)
        channel.tx_commit() if n % 2 else channel.tx_rollback()
    assert drain(channel, queue) == ["1", "3", "5"]


def test_P7_rejects_in_a_transaction_wait_for_the_commit(channel, connection, name):
    queue = declare(channel, name())
    fill(channel, queue, 2)
    channel.tx_select()
    first, second = channel.basic_get(queue)[0], channel.basic_get(queue)[0]
    channel.basic_reject(first.delivery_tag, requeue=True)
    channel.basic_nack(second.delivery_tag, requeue=False)
    watcher = connection.channel()
    assert ready(watcher, queue) == 0
    channel.tx_commit()
    until(connection, lambda: ready(watcher, queue) == 1, "the rejected message is back")
    assert drain(watcher, queue) == ["0"]


def test_P7_mandatory_messages_are_returned_at_the_commit(raw, name):
    client = raw()
    client.open_channel()
    client.call(1, "tx.select")
    client.publish(1, name(), b"x", mandatory=True)
    client.method(1, "tx.commit")
    assert client.expect("basic.return", 1)["reply_code"] == 312
    client.take_content(1)
    client.expect("tx.commit-ok", 1)


def test_P7_a_large_transaction_is_all_there_in_order(channel, name):
    queues = [declare(channel, name(), durable=True) for _ in range(3)]
    channel.tx_select()
    for n in range(300):
        for queue in queues:
            publish(channel, queue, n, delivery_mode=2)
    channel.tx_commit()
    assert [drain(channel, queue) for queue in queues] == [bodies_in_order(300)] * 3


ALL_PROPERTIES = dict(
    content_type="application/json", content_encoding="gzip", headers={"a": 1, "b": "two", "c": [1, "x", None]},
    delivery_mode=2, priority=7, correlation_id="corr", reply_to="reply", expiration="3600000",
    message_id="id", timestamp=1700000000, type="kind", app_id="app", cluster_id="cluster")


def test_all_properties_come_back_as_they_were_sent(channel, name, address):
    queue = declare(channel, name())
    publish(channel, queue, user_id=address.user, **ALL_PROPERTIES)
    got = channel.basic_get(queue, auto_ack=True)[1]
    for key, value in {**ALL_PROPERTIES, "user_id": address.user}.items():
        assert getattr(got, key) == value, key


def test_a_message_without_properties_has_none(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    client.publish(1, queue, b"x")
    client.method(1, "basic.get", queue=queue, no_ack=True)
    client.expect("basic.get-ok")
    assert client.take_content(1) == (0, b"", b"x", [1])


EVERY_FIELD_TYPE = {
    "t": Raw(b"t\x01"), "b": Raw(b"b\xff"), "B": Raw(b"B\xff"), "s": Raw(b"s\xff\xfe"), "u": Raw(b"u\xff\xfe"),
    "I": Raw(b"I" + struct.pack(">i", -5)), "i": Raw(b"i" + struct.pack(">I", 5)),
    "l": Raw(b"l" + struct.pack(">q", -1 << 40)), "f": Raw(b"f" + struct.pack(">f", 1.5)),
    "d": Raw(b"d" + struct.pack(">d", -2.25)), "D": Raw(b"D\x02" + struct.pack(">I", 31415)),
    "S": Raw(b"S" + longstr("text")), "x": Raw(b"x" + longstr(b"\x00\xff")),
    "T": Raw(b"T" + struct.pack(">Q", 1700000000)), "V": Raw(b"V"), "F": {"deep": {"deeper": [1, [2, [3]]]}},
    "A": ["mixed", 1, True, None, {"k": "v"}], "empty": {}, "none": [],
}


def test_every_field_type_in_headers_comes_back_octet_by_octet(raw, name):
    client, queue, headers = raw(), name(), table(EVERY_FIELD_TYPE)
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    client.publish(1, queue, b"x", flags=0x2000, properties=headers)
    client.method(1, "basic.get", queue=queue, no_ack=True)
    client.expect("basic.get-ok")
    assert client.take_content(1)[:2] == (0x2000, headers)


@pytest.mark.parametrize("size", [0, 1, 4087, 4088, 4089, 131064, 131065, 1 << 20])
def test_bodies_around_the_frame_size_come_back(channel, name, size):
    queue, body = declare(channel, name()), (b"0123456789abcdef" * (size // 16 + 1))[:size]
    publish(channel, queue, body)
    assert channel.basic_get(queue, auto_ack=True)[2] == body


def test_messages_keep_the_order_in_which_a_channel_published_them(channel, name):
    queue = declare(channel, name())
    fill(channel, queue, 500)
    assert drain(channel, queue) == bodies_in_order(500)


def test_publishing_fast_to_many_exchanges_and_keys_routes_each_right(channel, name):
    exchange, queues = name("x"), {f"k{n}": declare(channel, name()) for n in range(8)}
    channel.exchange_declare(exchange, "direct")
    for key, queue in queues.items():
        channel.queue_bind(queue, exchange, key)
    for n in range(400):
        publish(channel, f"k{n % 8}", n, exchange=exchange)
    for offset, queue in enumerate(queues.values()):
        assert drain(channel, queue) == [str(n) for n in range(offset, 400, 8)]


def test_P1_an_error_of_a_publish_does_not_undo_what_was_published_before(channel, connection, name):
    queue = declare(channel, name())
    with channel_error(channel, 404):
        publish(channel, queue, "kept")
        publish(channel, "k", "lost", exchange=name("x"))
    assert drain(connection.channel(), queue) == ["kept"]
