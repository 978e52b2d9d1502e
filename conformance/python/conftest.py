"""Fixtures shared by all suites. Nothing here depends on the version of pika that is installed."""

import itertools
import os
import pathlib
import threading
import uuid

import pytest

from own_broker import broker, start_broker  # noqa: F401 (fixtures)
from rawamqp import Address, RawClient

HERE = pathlib.Path(__file__).parent


def server_properties():
    """What the broker says of itself in connection.start."""
    try:
        with RawClient() as client:
            return client.start()["server_properties"]
    except OSError as failure:
        where = Address()
        raise pytest.UsageError(f"no broker answers at {where.host}:{where.port} (AMQP_URL): {failure}") from failure


def _version(text):
    numbers = itertools.takewhile(str.isdigit, text.split("-")[0].split("."))
    return tuple(map(int, numbers))


def _read_skips():
    lines = (line.strip() for line in (HERE / "skips.txt").read_text().splitlines())
    return [line.split(None, 1) for line in lines if line and not line.startswith("#")]


def pytest_collection_modifyitems(items):
    properties = server_properties()
    if properties["product"] != b"RabbitMQ":
        skips = _read_skips()
        for item in items:
            for ending, reason in skips:
                if item.nodeid.endswith(ending):
                    item.add_marker(pytest.mark.skip(reason=reason))
        return
    version = _version(properties["version"].decode())
    for item in items:
        for mark in item.iter_markers("rabbitmq_differs"):
            before, since = mark.kwargs.get("before"), mark.kwargs.get("since")
            if (before is None or version < before) and (since is None or version >= since):
                item.add_marker(pytest.mark.skip(reason=f"RabbitMQ differs: {mark.args[0]}"))


def pytest_terminal_summary(terminalreporter):
    """The line that the callers of this suite read."""
    stats = terminalreporter.stats
    failed = len(stats.get("failed", [])) + len(stats.get("error", []))
    terminalreporter.write_line(f"{len(stats.get('skipped', []))} skipped")
    terminalreporter.write_line(f"{len(stats.get('passed', []))} passed, {failed} failed")


@pytest.fixture
def address():
    return Address()


@pytest.fixture
def url():
    return os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/")


def delete_everything_named(names):
    """Deletes the queues and exchanges of these names, if there are any."""
    with RawClient() as client:
        client.handshake()
        channel = client.open_channel()
        for kind, name in itertools.product(("queue", "exchange"), names):
            client.method(channel, f"{kind}.delete", **{kind: name})
            if client.next_frame().name == "channel.close":
                client.method(channel, "channel.close-ok")
                client.open_channel(channel)
        client.call(0, "connection.close", reply_code=200)


@pytest.fixture
def name():
    """Makes names that no other test uses; what is declared under them is deleted after the test."""
    made = []

    def make(kind="q"):
        made.append(f"conformance-{kind}-{uuid.uuid4().hex[:12]}")
        return made[-1]

    yield make
    if made:
        delete_everything_named(made)


@pytest.fixture
def raw(name):
    """Makes raw clients. `raw()` is connected, `raw(opened=False)` has sent nothing yet."""
    clients = []

    def make(opened=True, host=None, **handshake):
        client = RawClient(host=host)
        clients.append(client)
        if opened:
            client.handshake(**handshake)
        return client

    yield make
    for client in clients:
        client.socket.close()


@pytest.fixture
def connect(name, url):
    """Makes pika connections; keyword arguments become attributes of the URL parameters."""
    import pika

    connections = []

    def make(**parameters):
        given = pika.URLParameters(url)
        given.heartbeat = 0
        for key, value in parameters.items():
            setattr(given, key, value)
        connections.append(pika.BlockingConnection(given))
        return connections[-1]

    yield make
    for connection in connections:
        # A broker that owes an answer would keep `close` waiting for ever: it gets a thread and a few seconds.
        closing = threading.Thread(target=_close, args=(connection,), daemon=True)
        closing.start()
        closing.join(5)


def _close(connection):
    try:
        if connection.is_open:
            connection.close()
    except Exception:
        pass  # The test is over; whoever closed first does not matter.


@pytest.fixture
def connection(connect):
    return connect()


@pytest.fixture
def channel(connection):
    return connection.channel()
