"""Contracts 6.1: the opening of a connection, framing, and what ends a connection."""

import os
import struct
import time

import pytest

from rawamqp import (FRAME_HEADER, FRAME_METHOD, FRAME_OVERHEAD, METHODS,
                     PROTOCOL_HEADER, Closed, table)
from support import rabbitmq_differs

CAPABILITIES = ["publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
                "connection.blocked", "consumer_priorities", "authentication_failure_close",
                "per_consumer_qos", "direct_reply_to"]
#: How every refusal of a login begins, whatever its reason: that stands in the broker's log alone.
GENERIC_REFUSAL = "ACCESS_REFUSED - Login was refused using authentication mechanism"


@pytest.mark.parametrize("header", [
    b"AMQP\x00\x02\x00\x09", b"AMQP\x09\x09\x09\x09", b"AMQQ\x00\x00\x09\x01", b"XXXXXXXX",
    b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n",
    b"\x16\x03\x01\x00\xc5\x01\x00\x00\xc1\x03\x03" + bytes(200),
], ids=["amqp-0-2-0-9", "amqp-9-9-9-9", "one-letter-off", "garbage", "http-get", "tls-hello"])
def test_C1_a_wrong_protocol_header_is_answered_with_the_right_one_and_the_socket_closes(raw, header):
    client = raw(opened=False)
    client.write(header)
    assert client.expect_end() == PROTOCOL_HEADER


def test_C1_the_protocol_header_may_come_octet_by_octet(raw):
    client = raw(opened=False)
    for octet in PROTOCOL_HEADER:
        client.write(bytes([octet]))
    client.expect("connection.start", 0)


def test_probed_the_header_of_amqp_1_1_0_9_is_taken_for_0_9_1(raw):
    start = raw(opened=False).start(b"AMQP\x01\x01\x00\x09")
    assert (start["version_major"], start["version_minor"]) == (0, 9)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_C2_the_server_announces_the_capability(raw, capability):
    start = raw(opened=False).start()
    assert start["server_properties"]["capabilities"].get(capability) is True


def test_C2_connection_start_names_version_product_mechanisms_and_locale(raw):
    start = raw(opened=False).start()
    assert (start["version_major"], start["version_minor"]) == (0, 9)
    assert {"product", "version", "platform", "information", "copyright"} <= set(start["server_properties"])
    assert {b"PLAIN", b"AMQPLAIN"} <= set(start["mechanisms"].split())
    assert b"en_US" in start["locales"].split()


def test_C3_tune_offers_2047_channels_frames_of_131072_bytes_and_a_heartbeat_of_60_s(raw):
    assert raw(opened=False).handshake() == {"channel_max": 2047, "frame_max": 131072, "heartbeat": 60}


@rabbitmq_differs("4096 before 4.0", before=(4, 0))
def test_C3_a_start_ok_of_8000_bytes_passes_before_tune(raw):
    client = raw(opened=False)
    client.start()
    client.start_ok(comment="x" * 7700)
    client.expect("connection.tune", 0)


def test_C3_a_frame_over_the_limit_before_tune_ends_the_connection(raw):
    client = raw(opened=False)
    client.start()
    client.start_ok(comment="x" * 20000)
    with pytest.raises((Closed, AssertionError)):
        client.expect("connection.tune", 0)


@rabbitmq_differs("closes the socket without a word", before=(4, 0))
@pytest.mark.parametrize("tune", [
    {"frame_max": 4095}, {"frame_max": 8}, {"frame_max": 131073}, {"frame_max": 0}, {"channel_max": 2048},
    {"channel_max": 0},
], ids=lambda tune: "-".join(f"{key}-{value}" for key, value in tune.items()))
def test_C4_tune_ok_beyond_what_was_offered_is_refused_with_530(raw, tune):
    client = raw(opened=False)
    client.start()
    client.start_ok()
    client.expect("connection.tune", 0)
    client.tune_ok(**tune)
    client.method(0, "connection.open", virtual_host=client.address.vhost)
    client.expect_connection_close(530, "NOT_ALLOWED")


@rabbitmq_differs("8192 is the least since 4.0", since=(4, 0))
def test_C4_frames_of_4096_bytes_are_accepted(raw):
    client = raw(frame_max=4096)
    client.open_channel()


@pytest.mark.parametrize("tune", [{"channel_max": 1}, {"frame_max": 8192}, {"heartbeat": 0},
                                  {"heartbeat": 3600}], ids=str)
def test_C4_tune_ok_may_lower_the_offer(raw, tune):
    raw(**tune).open_channel(1)


def test_C5_a_frame_longer_than_frame_max_closes_the_connection_with_501(raw, name):
    client = raw(frame_max=8192)
    client.open_channel()
    client.method(1, "basic.publish", routing_key=name())
    client.content(1, b"x" * 9000, piece=9000)
    client.expect_connection_close(501, "FRAME_ERROR")


def test_C5_a_frame_of_exactly_frame_max_is_fine(raw, name):
    client, queue = raw(frame_max=8192), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    client.publish(1, queue, b"x" * 8184, piece=8192 - FRAME_OVERHEAD)
    client.method(1, "basic.get", queue=queue, no_ack=True)
    client.expect("basic.get-ok", 1)
    assert client.take_content(1)[2] == b"x" * 8184


def test_C5_a_wrong_end_octet_closes_the_connection_with_501(raw):
    client = raw()
    client.frame(FRAME_METHOD, 1, METHODS["channel.open"].encode({}), end=0xCD)
    client.expect_connection_close(501, "FRAME_ERROR")


def test_C5_a_heartbeat_on_a_channel_other_than_0_closes_the_connection_with_505(raw):
    client = raw()
    client.open_channel()
    client.heartbeat(channel=1)
    client.expect_connection_close(505, "UNEXPECTED_FRAME")


@pytest.mark.parametrize("kind", [0, 4, 7, 9, 255])
def test_C5_an_unknown_frame_type_closes_the_connection_with_501(raw, kind):
    client = raw()
    client.open_channel()
    client.frame(kind, 1, b"whatever")
    client.expect_connection_close(501)


QUEUE_DECLARE = METHODS["queue.declare"].encode({"queue": "never-made", "exclusive": True})
UNKNOWN_FIELD_TYPE = struct.pack(">I", 4) + b"\x01k?\x00"


@pytest.mark.parametrize("payload", [
    pytest.param(b"\x00", id="less-than-the-ids"),
    pytest.param(QUEUE_DECLARE[:9], id="cut-in-a-string"),
    pytest.param(QUEUE_DECLARE + b"xx", id="octets-left-over"),
    pytest.param(QUEUE_DECLARE[:-4] + struct.pack(">I", 400) + b"\x01k", id="cut-in-a-table"),
    pytest.param(METHODS["queue.declare"].encode({"queue": b"\xff\xfe", "exclusive": True}), id="not-utf-8"),
    pytest.param(QUEUE_DECLARE[:-4] + UNKNOWN_FIELD_TYPE, id="unknown-field-type",
                 marks=rabbitmq_differs("closes the socket without a word")),
])
def test_C5_undecodable_arguments_close_the_connection_with_501(raw, payload):
    client = raw()
    client.open_channel()
    client.frame(FRAME_METHOD, 1, payload)
    client.expect_connection_close(501)


@pytest.mark.parametrize("ids", [(50, 99), (99, 10)], ids=["method", "class"])
@rabbitmq_differs("closes the socket without a word")
def test_C5_an_unknown_method_closes_the_connection(raw, ids):
    client = raw()
    client.open_channel()
    client.frame(FRAME_METHOD, 1, struct.pack(">HH", *ids))
    assert client.expect_connection_close(None)["reply_code"] in (501, 503, 540)


@pytest.mark.parametrize("method", ["queue.declare-ok", "channel.flow-ok", "channel.close-ok", "connection.close"])
def test_C12_a_method_that_makes_no_sense_on_the_channel_closes_the_connection_with_503(raw, method):
    client = raw()
    client.open_channel()
    client.method(1, method)
    client.expect_connection_close(503, "COMMAND_INVALID")


@pytest.mark.parametrize("method", ["connection.start-ok", "connection.open", "connection.update-secret-ok"])
def test_C12_a_connection_method_out_of_its_time_closes_the_connection_with_504(raw, method):
    client = raw()
    client.method(0, method)
    client.expect_connection_close(504, "CHANNEL_ERROR")


@pytest.mark.parametrize("content", [
    {"flags": 0x8000, "properties": b"\x10ab"},
    {"flags": 0x2000, "properties": UNKNOWN_FIELD_TYPE},
    {"flags": 0x2000, "properties": struct.pack(">I", 4000)},
], ids=["cut-in-a-string", "unknown-field-type", "cut-in-the-headers"])
def test_C5_undecodable_properties_close_the_connection(raw, name, content):
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    client.publish(1, queue, b"", **content)
    assert client.expect_connection_close(None)["reply_code"] in (501, 502, 541)


def test_C5_a_content_header_that_is_too_short_closes_the_connection_with_501(raw):
    client = raw()
    client.open_channel()
    client.method(1, "basic.publish")
    client.frame(FRAME_HEADER, 1, b"\x00\x3c\x00")
    client.expect_connection_close(501)


@rabbitmq_differs("closes the socket without a word", before=(4, 0))
def test_C6_an_unknown_sasl_mechanism_closes_the_connection_with_503(raw):
    client = raw(opened=False)
    client.start()
    client.start_ok(mechanism="KERBEROS_V9")
    client.expect_connection_close(503, "COMMAND_INVALID")


@rabbitmq_differs("closes the socket without a word", before=(4, 0))
@pytest.mark.parametrize("mechanism, response", [("PLAIN", "no separators here"), ("PLAIN", "\0guest"),
                                                 ("AMQPLAIN", "\x00\x01")])
def test_C6_a_malformed_sasl_response_closes_the_connection_with_502(raw, mechanism, response):
    client = raw(opened=False)
    client.start()
    client.start_ok(mechanism=mechanism, response=response)
    client.expect_connection_close(502, "SYNTAX_ERROR")


def test_C6_amqplain_logs_in(raw, address):
    client = raw(opened=False)
    client.start()
    response = table({"LOGIN": address.user, "PASSWORD": address.password})[4:]
    client.start_ok(mechanism="AMQPLAIN", response=response)
    client.expect("connection.tune", 0)


@pytest.mark.parametrize("who", ["{user}\0wrong", "nobody-by-this-name\0wrong", "{user}\0"],
                         ids=["wrong-password", "unknown-user", "empty-password"])
def test_C7_a_refused_login_closes_with_403_and_a_text_that_tells_nothing(raw, address, who):
    client = raw(opened=False)
    client.start()
    client.start_ok(response="\0" + who.format(user=address.user))
    text = client.expect_connection_close(403, GENERIC_REFUSAL)["reply_text"]
    assert not any(word in text for word in (address.user, "user", "nobody", "password", "unknown"))


def test_C7_a_refused_amqplain_login_closes_with_403(raw, address):
    client = raw(opened=False)
    client.start()
    client.start_ok(mechanism="AMQPLAIN", response=table({"LOGIN": address.user, "PASSWORD": "wrong"})[4:])
    client.expect_connection_close(403, GENERIC_REFUSAL)


@pytest.mark.parametrize("capabilities", [{}, {"authentication_failure_close": False}], ids=["none", "false"])
def test_C7_without_the_capability_a_refused_login_just_closes_the_socket(raw, address, capabilities):
    client = raw(opened=False)
    client.start()
    client.start_ok(response=f"\0{address.user}\0wrong", capabilities=capabilities)
    assert client.expect_end() == b""


def test_C8_the_default_user_is_refused_when_it_does_not_come_over_loopback(raw, address):
    # Where the broker listens beside loopback is for whoever runs the suite to say; the suite itself stays on loopback.
    host = os.environ.get("AMQP_OTHER_HOST")
    if host is None:
        pytest.skip("AMQP_OTHER_HOST names no address beside loopback")
    try:
        client = raw(opened=False, host=host)
    except OSError:
        pytest.skip("the broker listens on loopback only")
    client.start()
    client.start_ok(response="\0guest\0guest")
    client.expect_connection_close(403, GENERIC_REFUSAL)


def test_C9_a_vhost_that_does_not_exist_closes_the_connection_with_530(raw, name):
    client = raw(opened=False)
    client.start()
    client.start_ok()
    client.expect("connection.tune", 0)
    client.tune_ok()
    client.method(0, "connection.open", virtual_host=name("vhost"))
    client.expect_connection_close(530, "NOT_ALLOWED")


def test_C9_one_channel_more_than_channel_max_closes_the_connection_with_530(raw):
    client = raw(channel_max=8)
    for channel in range(1, 9):
        client.open_channel(channel)
    client.method(9, "channel.open")
    client.expect_connection_close(530, "NOT_ALLOWED")


def test_probed_channel_max_counts_open_channels_not_their_numbers(raw):
    client = raw(channel_max=8)
    client.open_channel(9)
    client.open_channel(65535)


def test_C9_a_closed_channel_makes_room_for_another(raw):
    client = raw(channel_max=1)
    for channel in range(1, 6):
        client.open_channel(channel)
        client.call(channel, "channel.close", reply_code=200)


def test_C10_update_secret_is_answered_and_the_connection_goes_on(raw, address):
    client = raw()
    client.call(0, "connection.update-secret", new_secret=address.password, reason="it was time")
    client.open_channel()


def test_C11_a_connection_under_no_alarm_is_not_told_that_it_is_blocked(raw, name):
    client, queue = raw(), name()
    client.open_channel()
    client.call(1, "queue.declare", queue=queue)
    client.publish(1, queue, b"x")
    client.call(1, "queue.purge", queue=queue)


@pytest.mark.parametrize("code, method, args", [
    (404, "queue.declare", {"queue": "conformance-never-declared", "passive": True}),
    (403, "queue.declare", {"queue": "amq.conformance"}),
    (406, "tx.commit", {}),
], ids=["404", "403", "406"])
def test_C12_a_channel_error_leaves_the_connection_and_its_other_channels_alone(raw, code, method, args):
    client = raw()
    client.open_channel(1)
    client.open_channel(2)
    client.method(1, method, **args)
    closed = client.expect_channel_close(1, code)
    assert (closed["class_id"], closed["method_id"]) == (METHODS[method].class_id, METHODS[method].method_id)
    client.call(2, "basic.qos", prefetch_count=1)
    client.open_channel(1)


def test_C12_a_channel_closed_by_the_server_ignores_all_but_close_ok(raw, name):
    client = raw()
    client.open_channel(1)
    client.open_channel(2)
    client.method(1, "queue.declare", queue=name(), passive=True)
    client.publish(1, "ignored", b"ignored")
    client.method(1, "queue.declare", queue="ignored-too", passive=True)
    client.expect_channel_close(1, 404)
    client.call(2, "basic.qos", prefetch_count=1)
    client.open_channel(1)


def test_C12_a_connection_error_harms_no_other_connection(raw, name):
    victim, culprit, queue = raw(), raw(), name()
    victim.open_channel()
    victim.call(1, "queue.declare", queue=queue, exclusive=True)
    culprit.frame(99, 0, b"")
    culprit.expect_connection_close(501)
    victim.call(1, "queue.purge", queue=queue)


def test_C12_a_connection_error_names_the_method_that_caused_it(raw):
    client = raw()
    client.open_channel()
    client.method(1, "basic.qos", prefetch_size=1)
    closed = client.expect_connection_close(540, "NOT_IMPLEMENTED")
    assert (closed["class_id"], closed["method_id"]) == (60, 10)


def test_C12_connection_close_is_answered(raw):
    client = raw()
    client.open_channel()
    client.call(0, "connection.close", reply_code=200, reply_text="bye")


def test_probed_a_method_on_a_channel_that_is_not_open_closes_the_connection_with_504(raw):
    client = raw()
    client.method(7, "queue.declare", queue="x")
    client.expect_connection_close(504, "CHANNEL_ERROR")


def test_probed_opening_an_open_channel_closes_the_connection_with_504(raw):
    client = raw()
    client.open_channel()
    client.method(1, "channel.open")
    client.expect_connection_close(504, "CHANNEL_ERROR")


@pytest.mark.parametrize("method", ["channel.open", "queue.declare", "basic.publish"])
def test_probed_a_method_of_another_class_on_channel_0_closes_the_connection_with_504(raw, method):
    client = raw()
    client.method(0, method)
    client.expect_connection_close(504)


def test_heartbeats_come_about_twice_per_interval(raw):
    client = raw(heartbeat=1)
    client.open_channel()
    with pytest.raises(TimeoutError):
        for _ in range(3):
            client.heartbeat()
            client.next_frame(patience_s=0.9)
    while client.heartbeats < 3:
        client.heartbeat()
        with pytest.raises(TimeoutError):
            client.next_frame(patience_s=0.5)


def test_a_client_that_falls_silent_is_dropped_after_its_heartbeat_interval(raw):
    client = raw(heartbeat=1)
    client.open_channel()
    client.expect_end(patience_s=15)


def test_a_client_that_sends_only_heartbeats_is_kept(raw):
    client = raw(heartbeat=1)
    client.open_channel()
    while client.heartbeats < 8:
        client.heartbeat()
        with pytest.raises(TimeoutError):
            client.next_frame(patience_s=0.4)
    client.call(1, "basic.qos", prefetch_count=1)


def test_any_frame_counts_as_a_sign_of_life(raw):
    client = raw(heartbeat=1)
    client.open_channel()
    until = time.monotonic() + 4
    while time.monotonic() < until:
        client.call(1, "basic.qos", prefetch_count=1)
        with pytest.raises(TimeoutError):
            client.next_frame(patience_s=0.4)


@pytest.mark.parametrize("sent", [b"", PROTOCOL_HEADER, PROTOCOL_HEADER + b"\x01\x00\x00\x00"],
                         ids=["nothing", "header-only", "half-a-frame"])
def test_a_client_that_never_logs_in_is_closed_in_time(raw, sent):
    client = raw(opened=False)
    client.write(sent)
    client.expect_end(patience_s=40)
