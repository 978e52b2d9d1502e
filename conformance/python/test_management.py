"""The management API, by RabbitMQ's own rabbitmqadmin (of Debian's package rabbitmq-server) where it is installed, and by
the requests that its commands make (M3, M4)."""

import base64
import json
import shutil
import subprocess
import urllib.request

import pytest

RABBITMQADMIN = shutil.which("rabbitmqadmin")


@pytest.fixture
def admin(broker):
    """Runs a command of rabbitmqadmin; the list that it prints, or its text."""
    if RABBITMQADMIN is None:
        pytest.skip("rabbitmqadmin is not installed")

    def run(*words, as_json=False):
        form = ["-f", "raw_json"] if as_json else []
        command = [RABBITMQADMIN, "--host", "127.0.0.1", "--port", str(broker.http_port), *form, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return json.loads(done.stdout) if as_json else done.stdout

    return run


def request(broker, method, path, body=None, user="guest:guest"):
    """Status and parsed body of a request."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(f"http://127.0.0.1:{broker.http_port}/api{path}", data, method=method)
    asked.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        status, text = refused.code, refused.read()
    return status, json.loads(text) if text else None


LISTS = [
    "connections", "channels", "consumers", "exchanges", "queues", "bindings", "users", "vhosts", "permissions",
    "nodes", "parameters", "policies", "operator_policies", "vhost_limits",
]


def test_rabbitmqadmin_lists_everything(broker, admin):
    channel = broker.channel()
    channel.queue_declare("q", durable=True)
    channel.basic_consume("q", lambda *_: None)
    for what in LISTS:
        assert isinstance(admin("list", what, as_json=True), list), what
        admin("list", what)
        admin("--depth", "5", "list", what)
    assert "millpond" in admin("show", "overview")
    assert [it["name"] for it in admin("list", "queues", as_json=True)] == ["q"]


def test_rabbitmqadmin_declares_and_deletes(broker, admin):
    admin("declare", "vhost", "name=orders")
    admin("declare", "user", "name=shop", "password=secret", "tags=management")
    admin("declare", "permission", "vhost=orders", "user=shop", "configure=.*", "write=.*", "read=.*")
    admin("-V", "orders", "declare", "queue", "name=q", "queue_type=quorum", 'arguments={"x-delivery-limit":3}')
    admin("-V", "orders", "declare", "exchange", "name=x", "type=topic")
    admin("-V", "orders", "declare", "binding", "source=x", "destination=q", "routing_key=a.#")
    admin("-V", "orders", "declare", "policy", "name=p", "pattern=^q", 'definition={"max-length":5}')
    admin("-V", "orders", "declare", "operator_policy", "name=o", "pattern=^q", 'definition={"max-length":3}',
          "apply-to=queues")
    admin("declare", "vhost_limit", "vhost=orders", "name=max-queues", "value=4")
    assert admin("list", "vhost_limits", as_json=True) == [{"vhost": "orders", "value": {"max-queues": 4}}]
    status, queue = request(broker, "GET", "/queues/orders/q", user="shop:secret")
    assert (status, queue["effective_policy_definition"], queue["policy"]) == (200, {"max-length": 3}, "p")
    assert broker.connect("orders", "shop", "secret").is_open
    admin("-V", "orders", "delete", "binding", "source=x", "destination_type=queue", "destination=q",
          "properties_key=a.%23")
    for kind, name in [("queue", "q"), ("exchange", "x"), ("policy", "p"), ("operator_policy", "o")]:
        admin("-V", "orders", "delete", kind, f"name={name}")
    admin("delete", "vhost_limit", "vhost=orders", "name=max-queues")
    admin("delete", "permission", "vhost=orders", "user=shop")
    admin("delete", "user", "name=shop")
    admin("delete", "vhost", "name=orders")
    assert [it["name"] for it in admin("list", "vhosts", as_json=True)] == ["/"]


def test_rabbitmqadmin_publishes_gets_purges_and_closes(broker, admin):
    channel = broker.channel()
    channel.queue_declare("q", durable=True)
    assert "NOT routed" not in admin("publish", "routing_key=q", "payload=hello", 'properties={"delivery_mode":2}')
    assert "NOT routed" in admin("publish", "routing_key=nobody", "payload=hello")
    got = admin("get", "queue=q", "count=5", as_json=True)
    assert [(it["payload"], it["redelivered"], it["properties"]) for it in got] == [("hello", False, {"delivery_mode": 2})]
    method, properties, body = channel.basic_get("q")
    assert (method.redelivered, properties.delivery_mode, body) == (True, 2, b"hello")
    channel.basic_nack(method.delivery_tag)
    admin("purge", "queue", "name=q")
    assert channel.queue_declare("q", passive=True).method.message_count == 0
    name = admin("list", "connections", as_json=True)[0]["name"]
    admin("close", "connection", f"name={name}")
    assert admin("list", "connections", as_json=True) == []


def test_M4_rabbitmqadmin_exports_and_imports(broker, admin, tmp_path):
    admin("declare", "queue", "name=q", 'arguments={"x-max-length":5}')
    admin("declare", "binding", "source=amq.topic", "destination=q", "routing_key=a")
    file = str(tmp_path / "definitions.json")
    admin("export", file)
    admin("delete", "queue", "name=q")
    admin("import", file)
    assert admin("list", "queues", "name", "arguments", as_json=True) == [{"name": "q", "arguments": {"x-max-length": 5}}]
    assert len(admin("list", "bindings", as_json=True)) == 2


FORMATS = ["raw_json", "pretty_json", "tsv", "long", "table", "kvp", "bash"]


def test_rabbitmqadmin_shows_every_list_in_every_format(broker, admin):
    channel = broker.channel()
    channel.queue_declare("q", durable=True)
    channel.basic_consume("q", lambda *_: None)
    admin("declare", "parameter", "component=c", "name=p", 'value={"a":1}')
    for what in LISTS:
        for form in FORMATS:
            admin("-f", form, "list", what)
            admin("-V", "/", "-f", form, "list", what)
    for form in FORMATS:
        admin("-f", form, "show", "overview")
        admin("-f", form, "get", "queue=q")


def test_rabbitmqadmin_declares_with_every_option(broker, admin, tmp_path):
    admin("declare", "parameter", "component=c", "name=p", 'value={"a":1}')
    assert admin("list", "parameters", "name", "value", as_json=True) == [{"name": "p", "value": {"a": 1}}]
    admin("delete", "parameter", "component=c", "name=p")
    admin("declare", "exchange", "name=x", "type=direct", "auto_delete=false", "durable=false", "internal=true",
          'arguments={"alternate-exchange":"amq.fanout"}')
    admin("declare", "exchange", "name=y", "type=fanout")
    admin("declare", "binding", "source=x", "destination=y", "destination_type=exchange", "routing_key=k",
          'arguments={"a":1}')
    bindings = [it for it in admin("list", "bindings", as_json=True) if it["source"] == "x"]
    key = bindings[0]["properties_key"]
    admin("delete", "binding", "source=x", "destination_type=exchange", "destination=y", f"properties_key={key}")
    admin("declare", "user", "name=hashed", "password_hash=kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR",
          "hashing_algorithm=rabbit_password_hashing_sha256", "tags=administrator")
    assert request(broker, "GET", "/whoami", user="hashed:test12")[0] == 200
    admin("delete", "user", "name=hashed")
    admin("declare", "queue", "name=q", "durable=true", "auto_delete=false")
    admin("publish", "routing_key=q", "payload=aGk=", "payload_encoding=base64", "exchange=amq.default")
    file = tmp_path / "payload"
    admin("get", "queue=q", "ackmode=ack_requeue_false", f"payload_file={file}")
    assert file.read_bytes() == b"hi"
    for name in ("x", "y"):
        admin("delete", "exchange", f"name={name}")


def test_M6_tags_and_permissions_hold_over_http(broker):
    for name, tags in [("plain", ""), ("manager", "management")]:
        assert request(broker, "PUT", f"/users/{name}", {"password": "p", "tags": tags})[0] == 201
        rights = {"configure": "^own", "write": "^own", "read": ".*"}
        assert request(broker, "PUT", f"/permissions/%2F/{name}", rights)[0] == 201
    assert request(broker, "GET", "/whoami", user="plain:p")[0] == 401
    assert request(broker, "GET", "/whoami", user="manager:p") == (200, {"name": "manager", "tags": ["management"]})
    assert request(broker, "GET", "/users", user="manager:p")[0] == 401
    assert request(broker, "PUT", "/queues/%2F/own", {}, user="manager:p")[0] == 201
    status, refused = request(broker, "PUT", "/queues/%2F/theirs", {}, user="manager:p")
    assert (status, refused["error"]) == (401, "not_authorised")
