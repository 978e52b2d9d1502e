"""Starts the broker and the three services, places orders, waits for the outcome and looks at it.

    run    one pass with a language a service, as the environment asks (PLACE, CONFIRM, CHARGE, ORDERS)
    check  passes with every language in every place, with the broker killed in the middle; asserts the outcome

Started by the scripts `run` and `check` beside this file, which install what it needs.
"""

import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict

import pika
import pika.exceptions

HERE = pathlib.Path(__file__).resolve().parent
MILLPOND = pathlib.Path(os.environ.get("MILLPOND", HERE.parent.parent / "target/release/millpond")).absolute()
WAIT_S = float(os.environ.get("ORDERS_WAIT_S", "120"))
KEYS = {"placed": "order.placed", "confirmed": "order.confirmed", "charged": "order.charged", "receipt": "order.receipt"}
LANGUAGES = {
    "python": lambda program: [sys.executable, HERE / f"python/{program}.py"],
    "node": lambda program: ["node", HERE / f"node/{program}.mjs"],
    "java": lambda program: ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp",
                             f"{HERE}/java/target/classes:{HERE}/java/target/lib/*", f"orders.{program.capitalize()}"],
}


class Failed(Exception):
    """The outcome is not what was promised."""


def demand(holds, text):
    if not holds:
        raise Failed(text)


def free_port():
    """A port nobody uses, below those the system gives to clients: while the broker is dead, a client that tries
    again from such a port could be connected to itself and keep the broker out."""
    while True:
        with socket.socket() as probe:
            port = random.randrange(20_000, 32_000)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Broker:
    """The broker's process, on one port and one data directory through all its lives."""

    def __init__(self, folder):
        self.folder = folder
        self.log = open(folder / "broker.log", "ab")
        self.port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        self.kills = 0
        self.process = None

    def start(self):
        demand(MILLPOND.exists(), f"there is no broker at {MILLPOND}: build it (make build) or set MILLPOND")
        command = [MILLPOND, "serve", "--data-dir", self.folder / "data", "--amqp-listen", f"127.0.0.1:{self.port}",
                   "--http-listen", "127.0.0.1:0", "--topology", HERE / "topology.yaml"]
        # A group of its own, so that a kill takes exactly this process and what it started.
        self.process = subprocess.Popen(command, cwd=self.folder, stdout=self.log, stderr=self.log,
                                        start_new_session=True)
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                self.connect().close()
                return
            except (OSError, pika.exceptions.AMQPError):
                demand(self.process.poll() is None, f"the broker ended with {self.process.returncode}:\n{self.tail()}")
                demand(time.monotonic() < deadline, f"the broker does not answer on {self.url}:\n{self.tail()}")
                time.sleep(0.02)

    def connect(self):
        parameters = pika.URLParameters(self.url)
        parameters.virtual_host = parameters.virtual_host or "/"
        return pika.BlockingConnection(parameters)

    def kill(self):
        """kill -9, and no word to anybody."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.kills += 1

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.log.close()

    def tail(self):
        return "\n".join((self.folder / "broker.log").read_text(errors="replace").splitlines()[-15:])


class Service:
    """One of the three programs, in one of the three languages."""

    def __init__(self, broker, program, language, orders):
        demand(language in LANGUAGES, f"{program} cannot be had in {language!r}: choose of {', '.join(LANGUAGES)}")
        self.name = f"{program} ({language})"
        self.log_path = broker.folder / f"{program}.log"
        environment = {**os.environ, "AMQP_URL": broker.url, "ORDERS": str(orders)}
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(LANGUAGES[language](program), stdout=subprocess.PIPE, stderr=log,
                                            env=environment, text=True)

    def stop(self):
        """Asks it to finish; returns whether it did so by itself."""
        self.process.terminate()
        try:
            self.process.wait(20)
            return True
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False


class Ledger:
    """Every event of the shop, by key and order, as the queue orders.ledger kept them."""

    def __init__(self):
        self.events = {key: defaultdict(list) for key in KEYS.values()}

    def add(self, method, properties, body):
        data = json.loads(body)
        self.events[method.routing_key][data["order"]].append((data, properties))

    def read(self, connection, until, what):
        """Takes events from the queue until the condition holds."""
        channel = connection.channel()
        deadline = time.monotonic() + WAIT_S
        for method, properties, body in channel.consume("orders.ledger", auto_ack=True, inactivity_timeout=0.1):
            if method:
                self.add(method, properties, body)
            elif until():
                break
            elif time.monotonic() > deadline:
                counts = {key: len(orders) for key, orders in self.events.items()}
                raise Failed(f"waited {WAIT_S:.0f} s for {what}; orders seen under each key: {counts}")
        channel.close()

    def count(self, what, order):
        return len(self.events[KEYS[what]][order])


def numbers(count):
    return [f"o-{number:05}" for number in range(1, count + 1)]


def is_free(order):
    return int(order[2:]) % 10 == 0


def place_all(placer, broker, orders, kill_at):
    """Follows the placing program to its end; kills and restarts the broker at the given numbers of orders."""
    placed = []
    for line in placer.process.stdout:
        placed.append(line.split()[1])
        if len(placed) in kill_at:
            broker.kill()
            broker.start()
    demand(placer.process.wait() == 0, f"{placer.name} failed:\n{placer.log_path.read_text()}")
    demand(placed == numbers(orders), f"{placer.name} reported {len(placed)} of {orders} orders as placed")


def one_pass(folder, languages, orders, kill_at=()):
    """A pass from an empty data directory; returns what the ledger and the audit file hold at its end."""
    broker, services, ledger = Broker(folder), [], Ledger()
    try:
        broker.start()
        services = [Service(broker, program, languages[program], orders) for program in ("confirm", "charge")]
        placer = Service(broker, "place", languages["place"], orders)
        services.append(placer)
        place_all(placer, broker, orders, kill_at)

        connection = broker.connect()
        paid = [order for order in numbers(orders) if not is_free(order)]
        ledger.read(connection, lambda: all(ledger.count("charged", order) for order in numbers(orders))
                    and all(ledger.count("receipt", order) for order in paid),
                    "every order to be charged and every paid one to have its receipt")
        for service in services[:2]:
            demand(service.stop(), f"{service.name} did not stop when it was asked to")
        # The services are gone and have acked all they did: nothing more can be charged, at most receipted.
        for queue in ("orders.confirm", "orders.charge"):
            left = connection.channel().queue_declare(queue, passive=True).method.message_count
            demand(left == 0, f"{left} messages are left in {queue}")
        ledger.read(connection, lambda: all(ledger.count("receipt", order) >= ledger.count("charged", order)
                                            for order in paid), "a receipt for each charge")
        connection.close()
        return broker, ledger, audit_lines(folder)
    except Failed as failed:
        logs = "\n".join(f"--- {s.name}\n{s.log_path.read_text(errors='replace')[-2000:]}" for s in services)
        raise Failed(f"{failed}\n{logs}\n--- broker\n{broker.tail()}") from None
    finally:
        for service in services:
            service.process.kill()
            service.process.wait()
        broker.stop()


def audit_lines(folder):
    """The lines the rule wrote, by order. A path in a rule is relative to `files/` in the data directory."""
    lines = defaultdict(list)
    for line in (folder / "data/files/audit.log").read_text().splitlines():
        lines[line.split()[0]].append(line)
    return lines


def assert_outcome(broker, ledger, audit, orders):
    """What is promised, with and without a kill."""
    for order in numbers(orders):
        for what, key in KEYS.items():
            events = ledger.events[key][order]
            if what == "receipt":
                # A rule's ack and its publishes are one commit: one receipt a charge, whatever happened.
                expected = 0 if is_free(order) else ledger.count("charged", order)
                demand(len(events) == expected, f"{order} has {len(events)} receipts for {expected} charges")
                ids = {properties.message_id for _, properties in events}
                demand(len(ids) <= 1, f"{order} has receipts of different ids, so nobody can tell they are one: {ids}")
            else:
                assert_sent_once(broker, order, what, events)
        payments = {data["payment"] for data, _ in ledger.events[KEYS["charged"]][order]}
        demand(len(payments) == 1, f"{order} was paid by {sorted(payments)}")
        assert_audit(broker, ledger, audit, order)


def assert_sent_once(broker, order, what, events):
    """Sent once; or again after a kill, and then marked as such."""
    first = [properties for _, properties in events if not properties.headers["redelivered"]]
    demand(len(events) >= 1, f"{order} was never {what}")
    demand(len(first) <= 1, f"{order} was {what} {len(first)} times without a mark")
    demand(broker.kills or len(events) == 1, f"{order} was {what} {len(events)} times and nothing was killed")


def assert_audit(broker, ledger, audit, order):
    """An audit line a charge. Writing to a file is an action on the outside: after a kill it may be repeated."""
    charges = 0 if is_free(order) else ledger.count("charged", order)
    lines = len(audit[order])
    demand(charges <= lines <= charges * (1 + broker.kills), f"{order} has {lines} audit lines for {charges} charges")
    demand(len(set(audit[order])) <= 1, f"{order} has different audit lines: {audit[order]}")


def table(languages, broker, ledger, audit, orders):
    """The outcome as a person reads it."""
    def row(name, count, note=""):
        return f"  {name:<18}{count:>6}  {note}".rstrip()

    def once(what):
        return sum(1 for events in ledger.events[KEYS[what]].values() if events)

    again = Counter({what: sum(len(events) - 1 for events in ledger.events[KEYS[what]].values() if events)
                     for what in KEYS})
    rows = [
        row("orders placed", once("placed"), f"by {languages['place']}"),
        row("confirmed", once("confirmed"), f"by {languages['confirm']}"),
        row("charged", once("charged"), f"by {languages['charge']}"),
        row("receipts", once("receipt"), "by the rule"),
        row("audit lines", sum(map(len, audit.values())), "by the rule"),
        row("free samples", sum(map(is_free, numbers(orders))), "charged nothing, no receipt"),
        row("broker killed", broker.kills, "with -9, and started again" if broker.kills else ""),
        row("sent again", sum(again.values()), "marked as redelivered" if sum(again.values()) else ""),
    ]
    return "\n".join(rows)


def checked_pass(title, languages, orders, kill_at=()):
    began = time.monotonic()
    print(title, flush=True)
    with tempfile.TemporaryDirectory(prefix="orders-") as folder:
        broker, ledger, audit = one_pass(pathlib.Path(folder), languages, orders, kill_at)
        assert_outcome(broker, ledger, audit, orders)
    print(table(languages, broker, ledger, audit, orders))
    print(f"  as promised, in {time.monotonic() - began:.1f} s", flush=True)


def chosen():
    """The language of each service, as the environment asks."""
    return {"place": os.environ.get("PLACE", "python"), "confirm": os.environ.get("CONFIRM", "node"),
            "charge": os.environ.get("CHARGE", "java")}


def main():
    orders = int(os.environ.get("ORDERS", "200"))
    thirds = (orders // 3, 2 * orders // 3)
    if sys.argv[1:] == ["run"]:
        checked_pass(f"{orders} orders", chosen(), orders)
    elif sys.argv[1:] == ["check"]:
        names = list(LANGUAGES)
        checked_pass(f"{orders} orders", chosen(), orders)
        for turn in range(len(names)):
            languages = dict(zip(("place", "confirm", "charge"), names[turn:] + names[:turn]))
            title = f"{orders} orders, the broker killed at {thirds[0]} and at {thirds[1]}"
            checked_pass(title, languages, orders, thirds)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        sys.exit(f"FAILED: {failed}")
