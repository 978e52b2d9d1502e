"""Measures rules over JSON events of 300 bytes, beside the plain broker in the same run: events a second, CPU time of
the broker's process an event, and its memory.

Cases: `plain` (publish to a queue, consume from it), `publish` (a rule with `when` and `publish` between them), `skip` (a
rule whose `when` is false). Events are published as fast as the broker takes them, transient or persistent; a case ends
when the last has come out, or for `skip` when the rule's queue is empty. Publisher and consumer send and read bytes that
were made before, so that they cost little. Needs nothing but Python; the machine should have nothing else to do.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

EVENT_BYTES = 300
BLOCK = 200  # messages a write
RULES = """
exchanges: {bench.in: {type: direct}}
queues: {bench.out: {}}
rules:
  publish:
    on: {exchange: bench.in, key: publish}
    when: .data.amount > 100
    do:
      - publish: {exchange: "", routing_key: bench.out, body: "{order: .data.order, amount: .data.amount}"}
  skip:
    on: {exchange: bench.in, key: skip}
    when: .data.amount > 1000000
    do:
      - publish: {exchange: "", routing_key: bench.out}
"""


def event():
    """An order as JSON, of exactly EVENT_BYTES."""
    order = {
        "order": "a7f3-0001", "customer": "c-20931", "amount": 125.5, "currency": "EUR", "paid": True,
        "items": [{"sku": "p-1", "count": 2, "price": 50}, {"sku": "p-2", "count": 1, "price": 25.5}], "note": "",
    }
    order["note"] = "x" * (EVENT_BYTES - len(json.dumps(order)))
    return json.dumps(order).encode()


def short(text):
    return struct.pack("B", len(text)) + text


def frame(kind, payload, channel=1):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def method(class_id, method_id, arguments=b"", channel=1):
    return frame(1, struct.pack(">HH", class_id, method_id) + arguments, channel)


def publish(exchange, key, body, persistent):
    properties = short(b"application/json") + (b"\x02" if persistent else b"\x01")
    header = struct.pack(">HHQH", 60, 0, len(body), 0x8000 | 0x1000) + properties
    return method(60, 40, b"\0\0" + short(exchange) + short(key) + b"\0") + frame(2, header) + frame(3, body)


class Client:
    """As much of AMQP 0-9-1 as is needed."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb", buffering=0)
        self.socket.sendall(b"AMQP\0\0\x09\x01")
        self.expect(10, 10)
        self.socket.sendall(method(10, 11, struct.pack(">I", 0) + short(b"PLAIN") + struct.pack(">I", 12) + b"\0guest\0guest" + short(b"en_US"), 0))
        tune = self.expect(10, 30)
        self.socket.sendall(method(10, 31, tune[4:10] + b"\0\0", 0) + method(10, 40, short(b"/") + b"\0\0", 0))
        self.expect(10, 41)
        self.call(method(20, 10, b"\0"), 20, 11)

    def read(self, size):
        data = b""
        while len(data) < size:
            piece = self.file.read(size - len(data))
            if not piece:
                sys.exit("bench: the broker closed the connection")
            data += piece
        return data

    def expect(self, class_id, method_id):
        kind, _, size = struct.unpack(">BHI", self.read(7))
        payload = self.read(size + 1)[:-1]
        if kind != 1 or struct.unpack(">HH", payload[:4]) != (class_id, method_id):
            sys.exit(f"bench: found {payload[:200]!r}, expected method {class_id}.{method_id}")
        return payload

    def call(self, request, class_id, method_id):
        self.socket.sendall(request)
        return self.expect(class_id, method_id)

    def close(self):
        self.socket.close()


def consume(port, queue, marker, count, done):
    """Counts messages by a text that each has once, until there are `count`."""
    client = Client(port)
    client.call(method(60, 20, b"\0\0" + short(queue) + short(b"") + b"\x02\0\0\0\0"), 60, 21)
    done.append("consuming")
    buffer, kept, found = memoryview(bytearray(1 << 20)), b"", 0
    while found < count:
        size = client.socket.recv_into(buffer)
        data = kept + bytes(buffer[:size])
        found += data.count(marker)
        kept = data[-(len(marker) - 1):]
    done.append(time.monotonic())
    client.close()


def usage(pid):
    """CPU seconds of a process, and its resident memory in MiB."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return cpu, int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def run_case(port, pid, case, count, persistent, seen):
    exchange, key = (b"", b"bench.out") if case == "plain" else (b"bench.in", case.encode())
    block = publish(exchange, key, event(), persistent) * BLOCK
    done, consumer = [], None
    if case != "skip":
        consumer = threading.Thread(target=consume, args=(port, b"bench.out", b'"order":', count, done))
        consumer.start()
        while not done:
            time.sleep(0.01)
    publisher = Client(port)
    cpu_before, _ = usage(pid)
    begun = time.monotonic()
    for _ in range(count // BLOCK):
        publisher.socket.sendall(block)
    if consumer:
        consumer.join()
        ended = done[-1]
    else:
        while seen(case) < count:
            time.sleep(0.02)
        ended = time.monotonic()
    cpu, memory = usage(pid)
    publisher.close()
    return count / (ended - begun), (cpu - cpu_before) / count * 1e6, memory


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="target/release/millpond")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=25681)
    options = parser.parse_args()
    options.count -= options.count % BLOCK
    folder = Path(tempfile.mkdtemp(prefix="millpond-rules."))
    command = [options.bin, "serve", "--data-dir", str(folder / "data"), "--amqp-listen", f"127.0.0.1:{options.port}",
               "--http-listen", "127.0.0.1:0", "--log", "warn"]
    broker = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        measure(options, folder, broker)
    finally:
        broker.send_signal(signal.SIGTERM)
        broker.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def measure(options, folder, broker):
    deadline = time.monotonic() + 60
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", options.port)) == 0 and (folder / "data" / "control.sock").exists():
                break
        if broker.poll() is not None or time.monotonic() > deadline:
            sys.exit("bench: the broker does not listen")
        time.sleep(0.02)
    (folder / "rules.yaml").write_text(RULES)
    data = ["--data-dir", str(folder / "data")]
    subprocess.run([options.bin, "apply", *data, str(folder / "rules.yaml")], check=True, stdout=subprocess.DEVNULL)
    base = {"skip": 0}

    def rule_seen(rule):
        listing = subprocess.run([options.bin, "rules", "list", *data], check=True, capture_output=True, text=True).stdout
        lines = [line.split() for line in listing.splitlines()]
        column = [name.lower() for name in lines[0]].index("seen")
        row = next(line for line in lines if line[:1] == [rule])
        return int(row[column]) - base[rule]

    print("| case | events/s | CPU an event, us | memory, MiB |")
    print("|---|---|---|---|")
    for persistent in (False, True):
        for case in ("plain", "publish", "skip"):
            runs = []
            for _ in range(options.rounds):
                base["skip"] += rule_seen("skip")
                runs.append(run_case(options.port, broker.pid, case, options.count, persistent, rule_seen))
            rate, cpu = (statistics.median(run[at] for run in runs) for at in (0, 1))
            kind = "persistent" if persistent else "transient"
            print(f"| {case}, {kind} | {rate:,.0f} | {cpu:.2f} | {runs[-1][2]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
