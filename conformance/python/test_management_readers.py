"""Programs that read the management API and the metrics, by the requests they make and the names they look for: a check
of the OpenAPI description, RabbitMQ's dashboards for Grafana, KEDA's scaler (M3, M5)."""

import re
import time
import urllib.request

import pika
import pytest
from openapi_spec_validator import validate

from own_broker import PATIENCE_S
from test_management import request

# What RabbitMQ-Overview (dashboard 10991) draws, the present one and that before RabbitMQ 3.9. Of the present one only
# rabbitmq_message_size_bytes is missing, a panel that says itself that it may be empty.
DASHBOARD_METRICS = """
rabbitmq_identity_info rabbitmq_build_info rabbitmq_erlang_uptime_seconds rabbitmq_connections rabbitmq_channels
rabbitmq_consumers rabbitmq_queues rabbitmq_queue_messages_ready rabbitmq_queue_messages_unacked
rabbitmq_resident_memory_limit_bytes rabbitmq_process_resident_memory_bytes rabbitmq_disk_space_available_bytes
rabbitmq_process_open_fds rabbitmq_process_max_fds rabbitmq_global_publishers rabbitmq_global_consumers
rabbitmq_global_messages_received_total rabbitmq_global_messages_received_confirm_total
rabbitmq_global_messages_routed_total rabbitmq_global_messages_confirmed_total
rabbitmq_global_messages_unroutable_dropped_total rabbitmq_global_messages_unroutable_returned_total
rabbitmq_global_messages_delivered_total rabbitmq_global_messages_delivered_consume_auto_ack_total
rabbitmq_global_messages_delivered_consume_manual_ack_total rabbitmq_global_messages_delivered_get_auto_ack_total
rabbitmq_global_messages_delivered_get_manual_ack_total rabbitmq_global_messages_redelivered_total
rabbitmq_global_messages_acknowledged_total rabbitmq_global_messages_get_empty_total
rabbitmq_queues_declared_total rabbitmq_queues_created_total rabbitmq_queues_deleted_total
rabbitmq_channels_opened_total rabbitmq_channels_closed_total rabbitmq_connections_opened_total
rabbitmq_connections_closed_total
rabbitmq_channel_consumers rabbitmq_channel_messages_published_total rabbitmq_channel_messages_confirmed_total
rabbitmq_channel_messages_redelivered_total rabbitmq_channel_messages_delivered_total
rabbitmq_channel_messages_delivered_ack_total rabbitmq_channel_messages_acked_total rabbitmq_channel_get_total
rabbitmq_channel_get_ack_total rabbitmq_channel_get_empty_total rabbitmq_channel_messages_unroutable_returned_total
rabbitmq_channel_messages_unroutable_dropped_total rabbitmq_queue_messages_published_total
""".split()


def metrics(broker):
    """The lines of /metrics: (name, labels, value)."""
    with urllib.request.urlopen(f"http://127.0.0.1:{broker.http_port}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    lines = (re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", it) for it in text.splitlines() if not it.startswith("#"))
    return [(it[1], dict(re.findall(r'(\w+)="([^"]*)"', it[2] or "")), float(it[3])) for it in lines]


def test_M5_the_openapi_description_is_valid(broker):
    status, description = request(broker, "GET", "/openapi.json")
    assert status == 200
    validate(description)
    assert len(description["paths"]) > 100


def test_M5_every_metric_of_rabbitmqs_overview_dashboard_is_there(broker):
    channel = broker.channel()
    channel.confirm_delivery()
    channel.queue_declare("q", durable=True)
    for _ in range(3):
        channel.basic_publish("", "q", b"x")
    channel.basic_get("q", auto_ack=True)
    found = [it for it in metrics(broker) if it[0].startswith("rabbitmq_")]
    values = {name: value for name, _, value in found}
    assert [name for name in DASHBOARD_METRICS if name not in values] == []
    assert len(values) == len(found), "the dashboards join by node: one line a name"
    expected = {
        "rabbitmq_queue_messages_ready": 2,
        "rabbitmq_global_messages_received_total": 3,
        "rabbitmq_global_messages_confirmed_total": 3,
        "rabbitmq_global_messages_delivered_get_auto_ack_total": 1,
        "rabbitmq_global_publishers": 1,
        "rabbitmq_queues": 1,
    }
    assert {name: values[name] for name in expected} == expected


def test_M5_the_dashboard_can_choose_cluster_node_and_endpoint(broker):
    labels = {name: labels for name, labels, _ in metrics(broker)}
    identity = labels["rabbitmq_identity_info"]
    assert identity["rabbitmq_endpoint"] == "aggregated"
    assert identity["rabbitmq_node"].startswith("millpond@")
    assert identity["rabbitmq_cluster"]
    assert re.match(r"\d+\.\d+", labels["rabbitmq_build_info"]["rabbitmq_version"])


def rate(queue):
    return queue.get("message_stats", {}).get("publish_details", {}).get("rate")


@pytest.mark.parametrize("vhost", ["/", "orders"])
def test_M3_keda_scales_by_length_and_rate_of_a_queue(broker, vhost):
    path = vhost.replace("/", "%2F")
    if vhost != "/":
        assert request(broker, "PUT", f"/vhosts/{path}")[0] == 201
    channel = broker.channel(path)
    channel.confirm_delivery()
    channel.queue_declare("q-1", durable=True)
    channel.queue_declare("other", durable=True)
    deadline = time.monotonic() + PATIENCE_S
    published, queue = 0, {}
    while not rate(queue):
        assert time.monotonic() < deadline, queue
        channel.basic_publish("", "q-1", b"x", pika.BasicProperties(delivery_mode=2))
        published += 1
        status, queue = request(broker, "GET", f"/queues/{path}/q-1")
        assert status == 200
    assert rate(queue) > 0
    assert (queue["name"], queue["messages"]) == ("q-1", published)
    assert queue["messages_unacknowledged"] == 0
    # With useRegex it takes a page of all that fit, and the sum of it.
    query = "page=1&use_regex=true&pagination=false&name=%5Eq-&page_size=100"
    status, page = request(broker, "GET", f"/queues/{path}?{query}")
    assert status == 200
    assert [(it["name"], it["messages"]) for it in page["items"]] == [("q-1", published)]
    assert rate(page["items"][0]) is not None
    assert request(broker, "GET", f"/queues/{path}/none")[0] == 404
