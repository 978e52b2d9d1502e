"""Contracts 6.2: bindings, and how exchanges route."""

import pika
import pytest

from support import channel_error, declare, drain, publish, rabbitmq_differs, sync, until


def test_D11_a_topic_key_with_many_hashes_either_binds_or_closes_the_channel_with_406(channel, name):
    """RabbitMQ before 4.3 binds it."""
    queue = declare(channel, name())
    try:
        channel.queue_bind(queue, "amq.topic", "#.a.#.b.#")
    except pika.exceptions.ChannelClosedByBroker as closed:
        assert closed.reply_code == 406


@rabbitmq_differs("binds it", before=(4, 3))
def test_D11_a_topic_key_with_more_than_two_hashes_closes_the_channel_with_406(channel, name):
    queue = declare(channel, name())
    with channel_error(channel, 406, "PRECONDITION_FAILED"):
        channel.queue_bind(queue, "amq.topic", "#.a.#.b.#")


@pytest.mark.parametrize("match", ["some", "", 1, True], ids=repr)
def test_D11_a_headers_binding_with_a_bad_x_match_closes_the_channel_with_406(channel, name, match):
    queue = declare(channel, name())
    with channel_error(channel, 406, "Invalid x-match field"):
        channel.queue_bind(queue, "amq.headers", "", {"x-match": match, "a": 1})


HEADERS_CASES = {
    # (binding arguments, message headers, routed)
    "all-equal": ({"x-match": "all", "a": "1", "b": 2}, {"a": "1", "b": 2, "c": 3}, True),
    "all-one-differs": ({"x-match": "all", "a": "1", "b": 2}, {"a": "1", "b": 3}, False),
    "all-one-missing": ({"x-match": "all", "a": "1", "b": 2}, {"a": "1"}, False),
    "missing-x-match-is-all": ({"a": "1", "b": 2}, {"a": "1"}, False),
    "missing-x-match-all-there": ({"a": "1", "b": 2}, {"a": "1", "b": 2}, True),
    "any-one-equal": ({"x-match": "any", "a": "1", "b": 2}, {"a": "0", "b": 2}, True),
    "any-none-equal": ({"x-match": "any", "a": "1", "b": 2}, {"a": "0", "b": 0}, False),
    "any-no-headers": ({"x-match": "any", "a": "1"}, None, False),
    "all-no-criteria": ({"x-match": "all"}, {"z": 1}, True),
    "any-no-criteria": ({"x-match": "any"}, {"z": 1}, False),
    "all-no-criteria-no-headers": ({"x-match": "all"}, None, True),
    "x-criteria-ignored-by-all": ({"x-match": "all", "x-a": "1", "b": 2}, {"b": 2}, True),
    "x-criteria-ignored-by-any": ({"x-match": "any", "x-a": "1", "b": 2}, {"x-a": "1"}, False),
    "x-criteria-used-by-all-with-x": ({"x-match": "all-with-x", "x-a": "1", "b": 2}, {"b": 2}, False),
    "all-with-x-both": ({"x-match": "all-with-x", "x-a": "1", "b": 2}, {"x-a": "1", "b": 2}, True),
    "x-criteria-used-by-any-with-x": ({"x-match": "any-with-x", "x-a": "1", "b": 2}, {"x-a": "1"}, True),
    "void-is-presence": ({"x-match": "all", "a": None}, {"a": "anything"}, True),
    "void-absent": ({"x-match": "all", "a": None}, {"b": 1}, False),
    "number-is-not-text": ({"x-match": "all", "a": 1}, {"a": "1"}, False),
    "numbers-of-different-width": ({"x-match": "all", "a": 1}, {"a": 1 << 40}, False),
    "boolean": ({"x-match": "all", "a": True}, {"a": True}, True),
}


@pytest.mark.parametrize("arguments, headers, routed", HEADERS_CASES.values(), ids=HEADERS_CASES.keys())
def test_D12_headers_exchanges_match(channel, name, arguments, headers, routed):
    exchange, queue = name("x"), declare(channel, name())
    channel.exchange_declare(exchange, "headers")
    channel.queue_bind(queue, exchange, "", arguments)
    publish(channel, "ignored", "m", exchange=exchange, headers=headers)
    assert drain(channel, queue) == (["m"] if routed else [])


def test_D13_duplicate_bindings_collapse(channel, name):
    exchange, queue = name("x"), declare(channel, name())
    channel.exchange_declare(exchange)
    for _ in range(3):
        channel.queue_bind(queue, exchange, "k")
    publish(channel, "k", "once", exchange=exchange)
    assert drain(channel, queue) == ["once"]
    channel.queue_unbind(queue, exchange, "k")
    publish(channel, "k", "never", exchange=exchange)
    assert drain(channel, queue) == []


def test_D13_a_message_reaches_a_queue_once_however_many_bindings_match(channel, name):
    exchange, queue = name("x"), declare(channel, name())
    channel.exchange_declare(exchange, "topic")
    for key in ("#", "a.*", "a.b", "*.b", "a.#"):
        channel.queue_bind(queue, exchange, key)
    publish(channel, "a.b", "once", exchange=exchange)
    assert drain(channel, queue) == ["once"]


def test_D13_bindings_that_differ_only_in_arguments_are_two(channel, name):
    exchange, queue = name("x"), declare(channel, name())
    channel.exchange_declare(exchange, "headers")
    channel.queue_bind(queue, exchange, "", {"a": 1})
    channel.queue_bind(queue, exchange, "", {"b": 1})
    channel.queue_unbind(queue, exchange, "", {"a": 1})
    publish(channel, "", "a", exchange=exchange, headers={"a": 1})
    publish(channel, "", "b", exchange=exchange, headers={"b": 1})
    assert drain(channel, queue) == ["b"]


def test_D13_cycles_of_exchanges_are_cut(channel, name):
    exchanges, queue = [name("x") for _ in range(3)], declare(channel, name())
    for exchange in exchanges:
        channel.exchange_declare(exchange, "fanout")
    for source, destination in zip(exchanges, exchanges[1:] + exchanges[:1]):
        channel.exchange_bind(destination, source)
    channel.exchange_bind(exchanges[0], exchanges[0])
    channel.queue_bind(queue, exchanges[2])
    for exchange in exchanges:
        publish(channel, "k", "via " + exchange, exchange=exchange)
    assert drain(channel, queue) == ["via " + exchange for exchange in exchanges]


def test_D13_exchanges_route_through_exchanges_by_binding_key(channel, name):
    source, destination, queue = name("x"), name("x"), declare(channel, name())
    channel.exchange_declare(source, "topic")
    channel.exchange_declare(destination, "direct")
    channel.exchange_bind(destination, source, "orders.#")
    channel.queue_bind(queue, destination, "orders.paid")
    for key in ("orders.paid", "orders.sent", "stock.paid"):
        publish(channel, key, key, exchange=source)
    assert drain(channel, queue) == ["orders.paid"]
    channel.exchange_unbind(destination, source, "orders.#")
    publish(channel, "orders.paid", "late", exchange=source)
    assert drain(channel, queue) == []


def test_D13_an_auto_delete_exchange_goes_with_its_last_outgoing_binding(channel, name):
    exchange, first, second = name("x"), declare(channel, name()), declare(channel, name())
    channel.exchange_declare(exchange, auto_delete=True)
    channel.exchange_declare(exchange, passive=True)
    channel.queue_bind(first, exchange, "k")
    channel.queue_bind(second, exchange, "k")
    channel.queue_unbind(first, exchange, "k")
    channel.exchange_declare(exchange, passive=True)
    channel.queue_delete(second)
    with channel_error(channel, 404):
        channel.exchange_declare(exchange, passive=True)


def test_D13_an_auto_delete_exchange_stays_when_an_incoming_binding_goes(channel, name):
    exchange, source = name("x"), name("x")
    channel.exchange_declare(exchange, "fanout", auto_delete=True)
    channel.exchange_declare(source, "fanout")
    channel.exchange_bind(exchange, source)
    channel.exchange_unbind(exchange, source)
    channel.exchange_declare(exchange, passive=True)


def test_D13_deleting_an_exchange_or_queue_takes_its_bindings_along(channel, name):
    exchange, queue = name("x"), declare(channel, name())
    channel.exchange_declare(exchange, "fanout")
    channel.queue_bind(queue, exchange)
    channel.exchange_delete(exchange)
    channel.exchange_declare(exchange, "fanout")
    publish(channel, "", "unbound", exchange=exchange)
    assert drain(channel, queue) == []
    channel.queue_bind(queue, exchange)
    channel.queue_delete(queue)
    declare(channel, queue)
    publish(channel, "", "unbound", exchange=exchange)
    assert drain(channel, queue) == []


TOPIC_CASES = {
    # binding key: (matching routing keys, others)
    "a.b.c": (["a.b.c"], ["a.b", "a.b.c.d", "", "A.b.c"]),
    "#": (["", "a", "a.b.c", "."], []),
    "*": (["a", ""], ["a.b", "."]),
    "*.b": (["a.b", ".b"], ["b", "a.a.b", "a.c"]),
    "a.*": (["a.b", "a."], ["a", "a.b.c"]),
    "a.#": (["a", "a.b", "a.b.c"], ["b.a", "", "aa"]),
    "#.c": (["c", "b.c", "a.b.c"], ["c.d", "cc"]),
    "a.#.c": (["a.c", "a.b.c", "a.b.b.c"], ["a", "c", "a.c.d"]),
    "*.#": (["a", "a.b"], []),
    "#.b.#": (["b", "a.b", "b.c", "a.b.c"], ["a", "", "a.c"]),
    "*.*.*": (["a.b.c", ".."], ["a.b", "a.b.c.d"]),
    "a..b": (["a..b"], ["a.b", "a.x.b"]),
    "a*": (["a*"], ["ab", "a.b"]),
}


@pytest.mark.parametrize("key", TOPIC_CASES)
def test_topic_exchanges_match(channel, name, key):
    exchange, queue = name("x"), declare(channel, name())
    channel.exchange_declare(exchange, "topic")
    channel.queue_bind(queue, exchange, key)
    matching, others = TOPIC_CASES[key]
    if key == "*":
        matching, others = ["a"], ["a.b", "."]  # Whether "" is one empty word or none differs by version.
    for routing_key in matching + others:
        publish(channel, routing_key, f"<{routing_key}>", exchange=exchange)
    assert drain(channel, queue) == [f"<{routing_key}>" for routing_key in matching]


def test_direct_exchanges_route_by_equal_keys(channel, name):
    exchange, queue = name("x"), declare(channel, name())
    channel.exchange_declare(exchange, "direct")
    for key in ("red", "green", "#"):
        channel.queue_bind(queue, exchange, key)
    for key in ("red", "blue", "green", "Red", "re", "#", ""):
        publish(channel, key, key, exchange=exchange)
    assert drain(channel, queue) == ["red", "green", "#"]


def test_fanout_exchanges_ignore_keys(channel, name):
    exchange, queues = name("x"), [declare(channel, name()) for _ in range(3)]
    channel.exchange_declare(exchange, "fanout")
    for queue in queues:
        channel.queue_bind(queue, exchange, "some-key")
    publish(channel, "another-key", "all", exchange=exchange)
    assert [drain(channel, queue) for queue in queues] == [["all"]] * 3


def test_a_new_binding_is_seen_by_the_next_publish(channel, name):
    exchange, queue = name("x"), declare(channel, name())
    channel.exchange_declare(exchange, "direct")
    publish(channel, "k", "before", exchange=exchange)
    channel.queue_bind(queue, exchange, "k")
    publish(channel, "k", "after", exchange=exchange)
    channel.queue_unbind(queue, exchange, "k")
    publish(channel, "k", "too late", exchange=exchange)
    assert drain(channel, queue) == ["after"]


# Alternate exchanges.


def test_D14_the_alternate_exchange_gets_what_no_queue_matched(channel, name):
    main, spill, matched, rest = name("x"), name("x"), declare(channel, name()), declare(channel, name())
    channel.exchange_declare(spill, "fanout")
    channel.exchange_declare(main, "direct", arguments={"alternate-exchange": spill})
    channel.queue_bind(matched, main, "known")
    channel.queue_bind(rest, spill)
    publish(channel, "known", "a", exchange=main)
    publish(channel, "unknown", "b", exchange=main)
    assert (drain(channel, matched), drain(channel, rest)) == (["a"], ["b"])


def test_D14_alternates_are_tried_one_after_the_other_and_a_circle_ends(channel, name):
    exchanges, queue = [name("x") for _ in range(3)], declare(channel, name())
    for exchange, alternate in zip(exchanges, exchanges[1:] + exchanges[:1]):
        channel.exchange_declare(exchange, "direct", arguments={"alternate-exchange": alternate})
    publish(channel, "k", "nowhere", exchange=exchanges[0])
    sync(channel)
    channel.queue_bind(queue, exchanges[2], "k")
    publish(channel, "k", "found", exchange=exchanges[0])
    assert drain(channel, queue) == ["found"]


def test_D14_what_the_alternate_routed_is_not_returned(channel, name):
    main, spill, queue, returned = name("x"), name("x"), declare(channel, name()), []
    channel.exchange_declare(spill, "fanout")
    channel.exchange_declare(main, "direct", arguments={"alternate-exchange": spill})
    channel.queue_bind(queue, spill)
    channel.add_on_return_callback(lambda *args: returned.append(args))
    publish(channel, "unknown", "x", exchange=main, mandatory=True)
    sync(channel)
    channel.connection.process_data_events(time_limit=0)
    assert (drain(channel, queue), returned) == (["x"], [])


def test_D14_a_missing_alternate_exchange_is_no_error(channel, name):
    main = name("x")
    channel.exchange_declare(main, "direct", arguments={"alternate-exchange": name("x")})
    publish(channel, "k", "dropped", exchange=main)
    sync(channel)


def test_D14_a_chain_that_ends_unrouted_is_returned_as_mandatory(channel, name):
    main, spill, returned = name("x"), name("x"), []
    channel.exchange_declare(spill, "direct")
    channel.exchange_declare(main, "direct", arguments={"alternate-exchange": spill})
    channel.add_on_return_callback(lambda _ch, method, _properties, _body: returned.append(method))
    publish(channel, "k", "x", exchange=main, mandatory=True)
    until(channel.connection, lambda: returned, "the return")
    assert (returned[0].reply_code, returned[0].exchange, returned[0].routing_key) == (312, main, "k")
