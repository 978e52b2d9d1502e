"""Moves from a real RabbitMQ to Millpond in the steps of docs/guide/migrating.md, and asserts the outcome.

Definitions go over as the old broker exports them; messages by one shovel a queue, while a publisher still publishes
to the old broker and is then switched. Millpond is killed in the middle. Started by `check`, which installs pika.
"""

import json
import os
import pathlib
import tempfile
import threading
import time
from collections import Counter

import pika

from brokers import WAIT_S, Millpond, Rabbit, demand, wait

MESSAGES = int(os.environ.get("MESSAGES", "20000"))
ADMIN, APP, MOVER = ("admin", "pass of admin"), ("app", "pässwörd"), ("mover", "s3cr3t")
QUEUES = {
    ("/", "orders"): {},
    ("/", "orders.quorum"): {"x-queue-type": "quorum", "x-delivery-limit": 50},
    ("/", "archive"): {"x-queue-mode": "lazy"},
    ("/", "urgent"): {"x-max-priority": 9},
    ("/", "sessions"): {"x-message-ttl": 3_600_000},
    ("shop", "invoices"): {"x-dead-letter-exchange": "dead", "x-dead-letter-routing-key": "invoices",
                           "x-max-length": 100_000, "x-overflow": "reject-publish"},
}
# Without messages of this check.
OTHERS = {("/", "events"): {"x-queue-type": "stream"}, ("shop", "dead"): {}, ("/", "single"): {"x-single-active-consumer": True}}
EXCHANGES = {
    ("/", "orders.direct"): ("direct", {"alternate-exchange": "lost"}),
    ("/", "lost"): ("fanout", {}), ("/", "news"): ("topic", {}), ("/", "match"): ("headers", {}),
    ("/", "spread"): ("x-consistent-hash", {}), ("shop", "dead"): ("direct", {}),
}
BINDINGS = [  # vhost, exchange, e or q, destination, key, arguments
    ("/", "orders.direct", "q", "orders", "new", {}), ("/", "orders.direct", "q", "urgent", "now", {}),
    ("/", "lost", "q", "archive", "", {}), ("/", "news", "q", "sessions", "*.session.#", {}),
    ("/", "match", "q", "orders.quorum", "", {"x-match": "any", "kind": "order", "size": 3}),
    ("/", "spread", "q", "single", "1", {}), ("/", "news", "e", "lost", "lost.#", {}),
    ("/", "news", "q", "events", "#", {}), ("shop", "dead", "q", "dead", "invoices", {}),
]
POLICIES = [  # list, vhost, name, what
    ("policies", "/", "mirrored", {"pattern": "^archive$", "definition": {"ha-mode": "all"}, "apply-to": "queues"}),
    ("policies", "/", "short", {"pattern": "^single", "definition": {"max-length": 50, "message-ttl": 60000}, "priority": 3}),
    ("policies", "shop", "federated", {"pattern": "^far", "definition": {"federation-upstream-set": "all"}}),
    ("operator-policies", "/", "bound", {"pattern": ".*", "definition": {"max-length": 5_000_000}, "apply-to": "queues"}),
]
# What quorum queues add to messages that were delivered before, at RabbitMQ to a shovel that ended.
COUNTS = ["x-delivery-count", "x-acquired-count"]
# Mirrors and federation, which are not here.
NOT_TAKEN = {"mirrored", "federated"}
LISTS = {  # list of the management API: what makes an entry
    "vhosts": ["name"], "users": ["name", "tags"], "permissions": ["vhost", "user", "configure", "write", "read"],
    "topic-permissions": ["vhost", "user", "exchange", "write", "read"],
    "exchanges": ["vhost", "name", "type", "durable", "auto_delete", "internal", "arguments"],
    "queues": ["vhost", "name", "durable", "auto_delete", "arguments"],
    "bindings": ["vhost", "source", "destination_type", "destination", "routing_key", "arguments"],
    "policies": ["vhost", "name", "pattern", "definition", "apply-to", "priority"],
    "operator-policies": ["vhost", "name", "pattern", "definition", "apply-to", "priority"],
    "parameters": ["component", "vhost", "name"], "vhost-limits": ["vhost", "value"],
}


def define(rabbit):
    """All that a grown RabbitMQ may have."""
    rabbit.put({"description": "the shop"}, "vhosts", "shop")
    for user, tags in [(ADMIN, "administrator"), (APP, ""), (MOVER, "")]:
        rabbit.put({"password": user[1], "tags": tags}, "users", user[0])
    for vhost in "/", "shop":
        for user, (configure, write, read) in {ADMIN: (".*", ".*", ".*"), APP: ("^tmp", ".*", ".*"),
                                               MOVER: ("^$", "^$", ".*")}.items():
            rabbit.put({"configure": configure, "write": write, "read": read}, "permissions", vhost, user[0])
    rabbit.put({"exchange": "news", "write": "^a", "read": ".*"}, "topic-permissions", "/", APP[0])
    rabbit.put({"value": 500}, "vhost-limits", "shop", "max-connections")
    for (vhost, name), (kind, arguments) in EXCHANGES.items():
        rabbit.put({"type": kind, "durable": True, "arguments": arguments}, "exchanges", vhost, name)
    for (vhost, name), arguments in (QUEUES | OTHERS).items():
        rabbit.put({"durable": True, "arguments": arguments}, "queues", vhost, name)
    for vhost, source, kind, destination, key, arguments in BINDINGS:
        path = f"bindings/{vhost.replace('/', '%2F')}/e/{source}/{kind}/{destination}"
        rabbit.ask("POST", path, {"routing_key": key, "arguments": arguments})
    for kind, vhost, name, what in POLICIES:
        rabbit.put(what, kind, vhost, name)
    rabbit.put({"value": {"uri": "amqp://far", "expires": 3_600_000}}, "parameters", "federation-upstream", "shop", "far")


def message(number):
    """Where message `number` goes, its properties and its body."""
    properties = pika.BasicProperties(
        message_id=f"m{number}", delivery_mode=2, content_type="application/json", timestamp=1_600_000_000 + number,
        headers={"number": number, "kind": "order", "nested": {"list": [1, "two", None, True]}}, type="order.placed",
        correlation_id=f"c{number}", reply_to="answers", app_id="fill", priority=number % 10 if number % 3 else None)
    return list(QUEUES)[number % len(QUEUES)], properties, json.dumps({"number": number}).encode()


class Publisher(threading.Thread):
    """An application: publishes with confirms until it is stopped, to the broker it is told."""

    def __init__(self, first):
        super().__init__(daemon=True)
        self.next, self.broker, self.wanted, self.stopping, self.error = first, None, None, False, None

    def switch(self, broker):
        self.wanted = broker
        wait("the publisher's switch", lambda: self.broker is broker or self.error)

    def run(self):
        connections, channels = [], {}
        try:
            while not self.stopping:
                if self.broker is not self.wanted:
                    [connection.close() for connection in connections]
                    connections = [self.wanted.connect(APP, vhost) for vhost in ("/", "shop")]
                    channels = dict(zip(("/", "shop"), [connection.channel() for connection in connections]))
                    [channel.confirm_delivery() for channel in channels.values()]
                    self.broker = self.wanted
                (vhost, queue), properties, body = message(self.next)
                channels[vhost].basic_publish("", queue, body, properties, mandatory=True)
                self.next += 1
                time.sleep(0.005)
            [connection.close() for connection in connections]
        except Exception as error:  # told to the main thread, which fails
            self.error = error

    def stop(self):
        self.stopping = True
        self.join()
        demand(not self.error, f"the publisher: {self.error!r}")


def fill(rabbit):
    channels = {vhost: rabbit.connect(APP, vhost).channel() for vhost in ("/", "shop")}
    for number in range(MESSAGES):
        (vhost, queue), properties, body = message(number)
        channels[vhost].basic_publish("", queue, body, properties)
    for (vhost, queue) in QUEUES:
        wanted = sum(1 for at in range(len(QUEUES)) if list(QUEUES)[at] == (vhost, queue)
                     for _ in range(at, MESSAGES, len(QUEUES)))
        wait(f"{queue} is filled",
             lambda: channels[vhost].queue_declare(queue, passive=True).method.message_count == wanted)
    [channel.connection.close() for channel in channels.values()]


def entries(broker, kind):
    """What is in a list, without what every broker has of itself."""
    def entry(it):
        return json.dumps({key: it.get(key) for key in LISTS[kind]}, sort_keys=True)
    return {entry(it) for it in broker.ask("GET", kind, user=ADMIN)
            if not (kind == "exchanges" and (it["name"].startswith("amq.") or not it["name"]))
            and not (kind == "bindings" and not it["source"]) and not it.get("exclusive")}


def names(these):
    named = [json.loads(it) for it in these]
    return ", ".join(sorted(f"{it.get('name', it)} ({it.get('vhost', '')})" for it in named)) or "-"


def compare(rabbit, millpond):
    """Shows both sides; what is missing here."""
    missing = {}
    print(f"{'':20}{'RabbitMQ':>10}{'Millpond':>10}  {'missing here':45}only here")
    for kind in LISTS:
        old, new = entries(rabbit, kind), entries(millpond, kind)
        missing[kind] = old - new
        print(f"{kind:20}{len(old):10}{len(new):10}  {names(missing[kind]):45}{names(new - old)}")
    return {kind: those for kind, those in missing.items() if those}


def shovel_all(rabbit, millpond, round_number, *options):
    for (vhost, queue) in QUEUES:
        millpond.millpond("shovels", "add", f"{queue}-{round_number}", "--vhost", vhost, "--src-uri",
                          rabbit.url(MOVER, vhost), "--src-queue", queue, "--dest-queue", queue,
                          "--set", "src-predeclared=true", "--set", "dest-predeclared=true",
                          "--delete-after", "queue-length", *options)


def here(millpond):
    return sum(millpond.depth(vhost, queue, ADMIN) for (vhost, queue) in QUEUES)


def shovels(millpond):
    return millpond.ask("GET", "shovels", user=ADMIN)


def gone(millpond):
    """All shovels have moved what they were to move."""
    return not shovels(millpond)


def drain(millpond, last):
    """A consumer with the old user, another host and port: every message with its properties."""
    seen, added = Counter(), Counter()
    for (vhost, queue) in QUEUES:
        connection = millpond.connect(APP, vhost)
        channel = connection.channel()
        channel.basic_qos(prefetch_count=1000)
        left = channel.queue_declare(queue, passive=True).method.message_count
        for method, properties, body in channel.consume(queue, inactivity_timeout=10) if left else ():
            demand(method, f"{left} messages of {queue} do not come")
            number = properties.headers["number"]
            place, expected, expected_body = message(number)
            added.update(key for key in COUNTS if properties.headers.pop(key, None) is not None)
            demand((place, expected, expected_body) == ((vhost, queue), properties, body),
                   f"message {number} in {queue} is another: {properties} {body}")
            seen[number] += 1
            left -= 1
            if left % 500 == 0:
                channel.basic_ack(method.delivery_tag, multiple=True)
            if left == 0:
                break
        connection.close()
    lost = [number for number in range(last) if number not in seen]
    copies = seen.total() - len(seen)
    print(f"{last} messages were published, {len(seen)} came, {len(lost)} are lost, {copies} came twice")
    print(f"all have their properties; headers of quorum queues on what had been delivered before: {dict(added) or '-'}")
    demand(not lost, f"lost: {lost[:20]}")


def roll_back(rabbit, millpond):
    """What came here since goes the other way with the same command, the URI on the other side."""
    connection = millpond.connect(APP)
    channel = connection.channel()
    channel.confirm_delivery()
    for number in range(0, 600, len(QUEUES)):
        _, properties, body = message(number)
        channel.basic_publish("", "orders", body, properties, mandatory=True)
    connection.close()
    rabbit.put({"configure": "^$", "write": "^amq\\.default$", "read": ".*"}, "permissions", "/", MOVER[0])
    millpond.millpond("shovels", "add", "back", "--src-queue", "orders", "--dest-uri", rabbit.url(MOVER),
                      "--dest-queue", "orders", "--set", "dest-predeclared=true", "--delete-after", "queue-length")
    wait("the way back", lambda: gone(millpond))
    wait("messages at RabbitMQ", lambda: rabbit.depth("/", "orders", ADMIN) == 100)
    print("rolled back: 100 messages are at RabbitMQ again")


def load_at_start(rabbit, folder, definitions, missing):
    """The same definitions, taken at the start of another broker."""
    other = Millpond(folder)
    try:
        other.start("--load-definitions", definitions, user=ADMIN)
        again = {kind: those for kind in LISTS if (those := entries(rabbit, kind) - entries(other, kind))}
        demand(again == missing, f"load_definitions differs from the import: {again}")
    finally:
        other.kill()
    print("load_definitions: another broker that starts with them has the same")


def go(work):
    rabbit, millpond = Rabbit(work / "rabbitmq"), Millpond(work / "millpond")
    publisher = Publisher(MESSAGES)
    began = time.monotonic()

    def step(text):
        print(f"\n[{time.monotonic() - began:4.1f} s] {text}", flush=True)

    try:
        step(f"RabbitMQ {rabbit.start()} runs")
        define(rabbit)
        exclusive = rabbit.connect(ADMIN)
        exclusive.channel().queue_declare("tmp.exclusive", exclusive=True)
        fill(rabbit)
        step(f"it has {MESSAGES} messages in {len(QUEUES)} queues; its definitions are imported")
        definitions = work / "definitions.json"
        definitions.write_text(json.dumps(rabbit.ask("GET", "definitions", user=ADMIN)))
        millpond.start()
        print(millpond.millpond("definitions", "import", str(definitions)).strip())
        missing = compare(rabbit, millpond)
        not_taken = {json.loads(it)["name"] for it in missing.get("policies", ())}
        demand(set(missing) <= {"policies"} and not_taken == NOT_TAKEN, f"more is missing than the guide says: {missing}")
        load_at_start(rabbit, work / "other", definitions, missing)
        exclusive.close()

        step("one shovel a queue, while an application publishes to RabbitMQ")
        publisher.wanted = rabbit
        publisher.start()
        # Few at a time, or they are done before the kill.
        shovel_all(rabbit, millpond, 1, "--set", "src-prefetch-count=5")
        wait("a third of the messages", lambda: here(millpond) > MESSAGES / 3)
        print(millpond.millpond("shovels", "list").strip())
        millpond.kill()
        print("Millpond is killed (SIGKILL), and started again")
        millpond.start(user=ADMIN)
        wait("the first round's end", lambda: gone(millpond))

        step("the publisher is switched; the same shovels again for what it left")
        publisher.switch(millpond)
        demand(not publisher.error, f"the publisher: {publisher.error!r}")
        switched = publisher.next
        shovel_all(rabbit, millpond, 2)
        wait("the second round's end", lambda: gone(millpond))
        for (vhost, queue) in QUEUES:
            wait(f"{queue} is empty at RabbitMQ", lambda: rabbit.depth(vhost, queue, ADMIN) == 0)
        publisher.stop()
        print(f"RabbitMQ is empty; {switched - MESSAGES} were published to it meanwhile, "
              f"{publisher.next - switched} to Millpond since")

        step("a consumer is switched")
        for user in ADMIN, APP, MOVER:
            millpond.connect(user).close()
        drain(millpond, publisher.next)
        roll_back(rabbit, millpond)
        step("done")
    finally:
        publisher.stopping = True
        millpond.kill()
        rabbit.kill()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="migration-") as folder:
        go(pathlib.Path(folder))
