"""Measures how long an event takes from its source to the end of a rule's action: from the moment it is there, at a steady
rate, until the message that the rule publishes for it has come to a consumer.

Sources: `file`, a line in a followed file; `postgres`, a row in a table with NOTIFY (from before it is inserted; Debian's
PostgreSQL, started for the purpose, which need not wait for its own disk; left out where it is not installed); `http`, an item of an API
that holds the request (a process of its own, where an event is there by the clock).

`long`: `poll: {long: 30s}`; `fixed`: `poll: {every: 200ms}`, where an event waits for one interval at most. All have one
clock. The broker writes every event to the disk three times on its way (source, rule, ack), so the disk's own pace is a
part of it. Needs nothing but Python and psql; the machine should have nothing else to do.
"""

import argparse
import json
import multiprocessing
import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from rules import Client, method, short

INTERVAL_MS = 200
POLLS = {"long": "long: 30s", "fixed": f"every: {INTERVAL_MS}ms"}
SHOWN = {"long": "long", "fixed": f"fixed, every {INTERVAL_MS} ms"}


class Lines:
    """Lines in a followed file."""

    def __init__(self, folder, _rate):
        self.folder = folder

    def source(self, poll):
        return f"file: {{path: {self.folder}/{poll}.log, format: json, from: start}}"

    def write(self, poll, count, rate):
        begun = time.monotonic()
        with open(self.folder / f"{poll}.log", "a", buffering=1) as lines:
            for number in range(count):
                pace(begun, number, rate)
                lines.write(json.dumps({"sent": repr(time.monotonic())}) + "\n")

    def close(self):
        pass


class Rows:
    """Rows of a table whose trigger gives notice."""

    def __init__(self, folder, _rate):
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        self.folder = Path(tempfile.mkdtemp(prefix="millpond-polling-pg."))
        # The server refuses to run as root.
        user = {"user": "nobody"} if os.geteuid() == 0 else {}
        if user:
            os.chown(self.folder, pwd.getpwnam("nobody").pw_uid, -1)
        data, self.port = self.folder / "data", free_port()
        subprocess.run([programs / "initdb", "-A", "trust", "-U", "postgres", "-D", data], check=True,
                       stdout=subprocess.DEVNULL, cwd=self.folder, **user)
        command = [programs / "postgres", "-D", data, "-p", str(self.port), "-k", self.folder,
                   "-c", "listen_addresses=127.0.0.1", "-c", "synchronous_commit=off"]
        self.server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       cwd=self.folder, **user)
        self.psql = ["psql", "-X", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-q", "postgres"]
        until_listening(self.port, self.server)
        tables = "".join(f"""
            create table {poll} (id bigserial primary key, sent text);
            create function told_{poll}() returns trigger language plpgsql as
              $$ begin perform pg_notify('{poll}', ''); return null; end $$;
            create trigger told after insert on {poll} for each statement execute function told_{poll}();
        """ for poll in POLLS)
        while subprocess.run(self.psql, input="select 1", text=True, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL).returncode != 0:
            time.sleep(0.1)
        subprocess.run(self.psql, input=tables, text=True, check=True)

    def database(self):
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres?sslmode=disable"

    def source(self, poll):
        return f"postgres: {{database: bench, table: {poll}, cursor: id, listen: {poll}}}"

    def write(self, poll, count, rate):
        client = subprocess.Popen(self.psql, stdin=subprocess.PIPE, text=True)
        time.sleep(0.5)
        begun = time.monotonic()
        for number in range(count):
            pace(begun, number, rate)
            client.stdin.write(f"insert into {poll} (sent) values ('{time.monotonic()!r}');\n")
            client.stdin.flush()
        client.stdin.close()
        written, _ = time.monotonic(), client.wait()
        if time.monotonic() - written > 0.2:
            print(f"bench: the writer of {poll} fell behind by {time.monotonic() - written:.1f} s", file=sys.stderr)

    def close(self):
        self.server.send_signal(signal.SIGINT)
        self.server.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)


class Items:
    """An API that holds the request until an event is there: event N is, N / rate after the beginning."""

    def __init__(self, _folder, rate):
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.begun = {poll: multiprocessing.Value("d", 0.0) for poll in POLLS}
        self.count = multiprocessing.Value("q", 0)
        self.server = multiprocessing.Process(target=self.serve, args=(listener, rate), daemon=True)
        self.server.start()

    def serve(self, listener, rate):
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.answer, args=(connection, rate), daemon=True).start()

    def answer(self, connection, rate):
        stream = connection.makefile("rwb")
        while line := stream.readline():
            _, poll, after, wait = line.split()[1].decode().split("/")
            while stream.readline() not in (b"\r\n", b""):
                pass
            first, until = int(after), time.monotonic() + float(wait)
            while True:
                begun, now = self.begun[poll].value, time.monotonic()
                there = min(int((now - begun) * rate) + 1, self.count.value) if begun and now >= begun else 0
                if there > first or now >= until:
                    break
                due = begun + first / rate if begun and first < self.count.value else now + 0.02
                time.sleep(max(0, min(due, until) - now))
            items = [{"n": number + 1, "sent": repr(begun + number / rate)} for number in range(first, there)]
            body = json.dumps(items[:1000]).encode()
            stream.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                         % (len(body), body))
            stream.flush()

    def source(self, poll):
        return (f"http: {{url: 'http://127.0.0.1:{self.port}/{poll}/\\(.cursor // 0)/\\(.wait)', "
                "items: '.body[]', cursor: '(.body | last | .n) // .cursor'}")

    def write(self, poll, count, rate):
        self.count.value = count
        self.begun[poll].value = time.monotonic() + 0.2
        time.sleep(0.2 + count / rate)

    def close(self):
        self.server.terminate()


KINDS = {"file": Lines, "postgres": Rows, "http": Items}


def pace(begun, number, rate):
    wait = begun + number / rate - time.monotonic()
    if wait > 0:
        time.sleep(wait)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def until_listening(port, process):
    deadline = time.monotonic() + 60
    while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"bench: nobody listens on port {port}")
        time.sleep(0.02)


def topology(kinds):
    names = [(kind, poll) for kind in kinds for poll in POLLS]
    database = kinds["postgres"].database() if "postgres" in kinds else "sqlite:none"
    lines = [f'databases: {{bench: {{url: "{database}"}}}}', "queues:"]
    lines += [f"  bench.{kind}.{poll}: {{}}" for kind, poll in names]
    lines.append("sources:")
    for kind, poll in names:
        source = kinds[kind].source(poll)
        lines.append(f"  {kind}-{poll}: {{{source}, poll: {{{POLLS[poll]}}}, type: bench.{kind}.{poll}}}")
    lines.append("rules:")
    for kind, poll in names:
        name = f"bench.{kind}.{poll}"
        lines.append(f'  {kind}-{poll}: {{on: {{type: {name}}}, do: [{{publish: '
                     f'{{exchange: "", routing_key: {name}, body: .data.sent}}}}]}}')
    return "\n".join(lines) + "\n"


def consume(port, queue, count, took, ready):
    """Reads `count` messages, whose bodies say when their events were there."""
    client = Client(port)
    client.call(method(60, 20, b"\0\0" + short(queue) + short(b"") + b"\x02\0\0\0\0"), 60, 21)
    ready.set()
    while len(took) < count:
        kind, _, size = struct.unpack(">BHI", client.read(7))
        payload = client.read(size + 1)[:-1]
        if kind == 3:
            took.append(time.monotonic() - float(payload))
    client.close()


def run(port, kind, name, poll, rate, seconds):
    count, took, ready = rate * seconds, [], threading.Event()
    queue = f"bench.{name}.{poll}".encode()
    consumer = threading.Thread(target=consume, args=(port, queue, count, took, ready), daemon=True)
    consumer.start()
    ready.wait(10)
    kind.write(poll, count, rate)
    consumer.join(60)
    if len(took) < count:
        sys.exit(f"bench: {len(took)} of {count} events of {name}, {poll}, have come")
    took.sort()
    # Warming up is not what is measured: the first second's share of the slowest stays in, all the same.
    return [took[int(len(took) * share)] * 1000 for share in (0.5, 0.99)] + [took[-1] * 1000]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="target/release/millpond")
    parser.add_argument("--source", choices=KINDS, action="append", help="only this one; may be said again")
    parser.add_argument("--rate", type=int, default=1000, help="events a second")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--port", type=int, default=25683)
    options = parser.parse_args()
    names = options.source or list(KINDS)
    if not any(Path("/usr/lib/postgresql").glob("*/bin/postgres")) and "postgres" in names:
        print("PostgreSQL is not installed: left out")
        names.remove("postgres")
    folder = Path(tempfile.mkdtemp(prefix="millpond-polling."))
    kinds, broker = {}, None
    try:
        for name in names:
            kinds[name] = KINDS[name](folder, options.rate)
        (folder / "polling.yaml").write_text(topology(kinds))
        command = [options.bin, "serve", "--data-dir", str(folder / "data"), "--amqp-listen",
                   f"127.0.0.1:{options.port}", "--http-listen", "127.0.0.1:0", "--log", "warn", "--topology",
                   str(folder / "polling.yaml")]
        broker = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until_listening(options.port, broker)
        print(f"| source | polling | p50, ms | p99, ms | max, ms | at {options.rate:,} events/s |")
        print("|---|---|---|---|---|---|")
        for name, kind in kinds.items():
            for poll in POLLS:
                p50, p99, worst = run(options.port, kind, name, poll, options.rate, options.seconds)
                print(f"| {name} | {SHOWN[poll]} | {p50:.1f} | {p99:.1f} | {worst:.1f} | |", flush=True)
    finally:
        if broker:
            broker.send_signal(signal.SIGTERM)
            broker.wait(30)
        for kind in kinds.values():
            kind.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
