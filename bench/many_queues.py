"""Measures the management API of a broker with very many queues: how long a page takes, idle and while messages go
through some of the queues; what a queue weighs; how soon a broker that was killed is back; and what a viewer of the
console costs (`--viewers`).

A request is timed from the first byte sent to the last byte read, on a connection that stays open. Needs nothing but
Python; the machine should have nothing else to do, for queues, traffic and requests share it.
"""

import argparse
import base64
import http.client
import multiprocessing
import os
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from rules import Client, method, publish, short, usage

TRAFFIC_QUEUES = 200  # that messages go through
TRAFFIC_RATE = 1000  # messages a second over all of them
LOGIN = {"Authorization": "Basic " + base64.b64encode(b"guest:guest").decode()}
PAGE = "page=1&page_size=100"
# What the console's list of queues asks for.
COLUMNS = (
    "name,vhost,type,durable,auto_delete,exclusive,arguments,policy,state,paused,messages,messages_ready,"
    "messages_unacknowledged,consumers,message_stats.publish_details.rate,message_stats.deliver_get_details.rate,"
    "message_stats.ack_details.rate"
)
PATHS = [
    ("queues, a page", f"/queues?{PAGE}"),
    ("queues, the last page", "/queues?page=LAST&page_size=100"),
    ("queues, by name", f"/queues?{PAGE}&sort=name"),
    ("queues, by name, from the end", f"/queues?{PAGE}&sort=name&sort_reverse=true"),
    ("queues, by messages", f"/queues?{PAGE}&sort=messages&sort_reverse=true"),
    ("queues, by publish rate", f"/queues?{PAGE}&sort=message_stats.publish_details.rate&sort_reverse=true"),
    ("queues, by state", f"/queues?{PAGE}&sort=state"),
    ("queues, by type", f"/queues?{PAGE}&sort=type"),
    ("queues, by memory, which none has", f"/queues?{PAGE}&sort=memory"),
    ("queues, a text in the name", f"/queues?{PAGE}&name=0042"),
    ("queues, a pattern in the name", f"/queues?{PAGE}&name=^q.*42%24&use_regex=true&pagination=true"),
    ("queues, the console's columns", f"/queues?{PAGE}&sort=name&columns={COLUMNS}"),
    ("queues, with samples", f"/queues?{PAGE}&lengths_age=60&lengths_incr=5&msg_rates_age=60&msg_rates_incr=5"),
    ("queues of a vhost", f"/queues/%2F?{PAGE}&sort=name"),
    ("queue", "/queues/%2F/q000042"),
    ("exchanges, a page", f"/exchanges?{PAGE}"),
    ("exchanges, by rate", f"/exchanges?{PAGE}&sort=message_stats.publish_in_details.rate&sort_reverse=true"),
    ("bindings, a page", f"/bindings?{PAGE}"),
    ("bindings, by key", f"/bindings?{PAGE}&sort=routing_key"),
    ("bindings of a queue", "/queues/%2F/q000042/bindings"),
    ("connections, a page", f"/connections?{PAGE}"),
    ("channels, a page", f"/channels?{PAGE}"),
    ("consumers", "/consumers"),
    ("vhosts", "/vhosts"),
    ("overview", "/overview"),
    ("attention", "/attention"),
    ("graph", "/graph"),
]


def declare(port, count):
    """Declares durable queues without waiting for each; the seconds that it took until the last is durable."""
    client = Client(port)
    begun = time.monotonic()
    requests = []
    for number in range(count):
        # Durable, no answer; of the last an answer is wanted.
        bits = b"\x02" if number == count - 1 else b"\x12"
        name = f"q{number:06}".encode()
        requests.append(method(50, 10, b"\0\0" + short(name) + bits + struct.pack(">I", 0)))
    client.socket.sendall(b"".join(requests))
    client.expect(50, 11)
    client.close()
    return time.monotonic() - begun


def traffic(port, count, ready):
    """Publishes and consumes at TRAFFIC_RATE for as long as it is left alone."""
    client = Client(port)
    queues = [f"q{number:06}".encode() for number in range(0, count, max(1, count // TRAFFIC_QUEUES))][:TRAFFIC_QUEUES]
    for queue in queues:
        client.call(method(60, 20, b"\0\0" + short(queue) + short(b"") + b"\x02\0\0\0\0"), 60, 21)
    client.socket.setblocking(False)
    ready.set()
    at, begun, sent = 0, time.monotonic(), 0
    while True:
        due = int((time.monotonic() - begun) * TRAFFIC_RATE) - sent
        block = b"".join(publish(b"", queues[(at + more) % len(queues)], b"x" * 100, False) for more in range(due))
        at, sent = at + due, sent + due
        client.socket.setblocking(True)
        client.socket.sendall(block)
        client.socket.setblocking(False)
        try:
            while client.socket.recv(1 << 20):
                pass
        except BlockingIOError:
            pass
        time.sleep(0.01)


class Api:
    """The management API over one connection."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def get(self, path):
        """Seconds and the size of an answer."""
        begun = time.monotonic()
        self.connection.request("GET", f"/api{path}", headers=LOGIN)
        answer = self.connection.getresponse()
        size = len(answer.read())
        if answer.status != 200:
            sys.exit(f"bench: {path}: {answer.status}")
        return time.monotonic() - begun, size


def pages(port, count, rounds):
    """Name, median, worst in milliseconds, and bytes, of each path."""
    api = Api(port)
    for name, path in PATHS:
        path = path.replace("LAST", str(-(-count // 100)))
        api.get(path)
        times = [api.get(path) for _ in range(rounds)]
        seconds = [it[0] * 1000 for it in times]
        yield name, statistics.median(seconds), max(seconds), times[-1][1]


class Broker:
    def __init__(self, options, folder):
        self.command = [options.bin, "serve", "--data-dir", str(folder / "data"), "--log", "warn",
                        "--amqp-listen", f"127.0.0.1:{options.port}", "--http-listen", f"127.0.0.1:{options.port + 1}"]
        self.ports = (options.port, options.port + 1)
        self.start()

    def start(self):
        """The seconds until it serves."""
        begun = time.monotonic()
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.ports[1], timeout=60)
                connection.request("GET", "/health/ready")
                if connection.getresponse().status == 200:
                    return time.monotonic() - begun
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > begun + 60:
                sys.exit("bench: the broker does not serve")
            time.sleep(0.005)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def memory(self):
        return usage(self.process.pid)[1]

    def cpu(self):
        return usage(self.process.pid)[0]

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def in_background(work, *arguments):
    ready = multiprocessing.Event()
    process = multiprocessing.Process(target=work, args=(*arguments, ready), daemon=True)
    process.start()
    ready.wait(60)
    return process


def view(port, paths, ready):
    """Reads live answers for as long as it is left alone."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    query = "&".join(f"path={quote(path, safe='')}" for path in paths)
    connection.request("GET", f"/api/live?{query}", headers=LOGIN)
    answer = connection.getresponse()
    if answer.status != 200:
        sys.exit(f"bench: live: {answer.status}")
    ready.set()
    while answer.read1(1 << 20):
        pass


def viewers(options, broker):
    """What viewers of the list of queues, and of the overview, add to the CPU time of the broker."""
    watched = [
        ("the list of queues", [f"/queues?{PAGE}&sort=name&columns={COLUMNS}"]),
        ("by publish rate", [f"/queues?{PAGE}&sort=message_stats.publish_details.rate&sort_reverse=true&columns={COLUMNS}"]),
        ("the overview", ["/overview", "/nodes", "/attention"]),
    ]
    print(f"\n| {options.count:,} queues, {TRAFFIC_RATE} messages/s: who watches | CPU of the broker | a viewer |")
    print("|---|---|---|")
    base = None
    for name, paths in [("nobody", [])] + watched:
        for count in [0] if not paths else [1, 5]:
            started = [in_background(view, broker.ports[1], paths) for _ in range(count)]
            time.sleep(1)
            before, begun = broker.cpu(), time.monotonic()
            time.sleep(options.viewers)
            share = (broker.cpu() - before) / (time.monotonic() - begun) * 100
            for it in started:
                it.terminate()
                it.join()
            base = share if base is None else base
            each = f"{(share - base) / count:.2f} %" if count else ""
            print(f"| {name}{f', {count}' if count else ''} | {share:.2f} % | {each} |", flush=True)


def measure(options, folder):
    broker = Broker(options, folder)
    busy = None
    try:
        before = broker.memory()
        seconds = declare(options.port, options.count)
        time.sleep(5)  # so that what only declaring took is given back
        weight = (broker.memory() - before) * 2**20 / options.count
        broker.kill()
        back = broker.start()
        after = broker.memory()
        print(f"{options.count:,} durable queues: declared at {options.count / seconds:,.0f}/s, {weight:,.0f} bytes each "
              f"({(after - before) * 2**20 / options.count:,.0f} after a restart); back {back:.2f} s after kill -9")
        if options.viewers:
            busy = in_background(traffic, options.port, options.count)
            viewers(options, broker)
            return
        idle = list(pages(broker.ports[1], options.count, options.rounds))
        busy = in_background(traffic, options.port, options.count)
        time.sleep(6)  # so that there are rates
        results = list(pages(broker.ports[1], options.count, options.rounds))
        print("\n| asked for | idle, ms: median | most | busy, ms: median | most | KB |\n|---|---|---|---|---|---|")
        for (name, median, most, _), (_, busy_median, busy_most, size) in zip(idle, results):
            print(f"| {name} | {median:.1f} | {most:.1f} | {busy_median:.1f} | {busy_most:.1f} | {size / 1000:,.0f} |")
    finally:
        if busy:
            busy.terminate()
        broker.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="target/release/millpond")
    parser.add_argument("--count", type=int, default=100_000, help="queues")
    parser.add_argument("--rounds", type=int, default=20, help="requests of each kind")
    parser.add_argument("--viewers", type=float, default=0, metavar="SECONDS", help="measure viewers for so long each, not pages")
    parser.add_argument("--port", type=int, default=25691)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="millpond-queues."))
    try:
        measure(options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
