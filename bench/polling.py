"""Measures how long an event takes from its source to the end of a rule's action: a line that is written to a followed
file, at a steady rate, until the message that the rule publishes for it has come to a consumer.

`long`: `poll: {long: 30s}`; `fixed`: `poll: {every: 200ms}`, where an event waits for one interval at most. Writer and
consumer share this process and its clock. The broker writes every event to the disk three times on its way (source, rule,
ack), so the disk's own pace is a part of it. Needs nothing but Python; the machine should have nothing else to do.
"""

import argparse
import json
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


def topology(folder):
    return f"""
queues: {{bench.long: {{}}, bench.fixed: {{}}}}
sources:
  long: {{file: {{path: {folder}/long.log, format: json, from: start}}, poll: {{long: 30s}}, type: bench.long}}
  fixed: {{file: {{path: {folder}/fixed.log, format: json, from: start}}, poll: {{every: {INTERVAL_MS}ms}}, type: bench.fixed}}
rules:
  long:
    on: {{type: bench.long}}
    do: [{{publish: {{exchange: "", routing_key: bench.long, body: .data.sent}}}}]
  fixed:
    on: {{type: bench.fixed}}
    do: [{{publish: {{exchange: "", routing_key: bench.fixed, body: .data.sent}}}}]
"""


def consume(port, queue, count, took, ready):
    """Reads `count` messages, whose bodies say when their lines were written."""
    client = Client(port)
    client.call(method(60, 20, b"\0\0" + short(queue) + short(b"") + b"\x02\0\0\0\0"), 60, 21)
    ready.set()
    while len(took) < count:
        kind, _, size = struct.unpack(">BHI", client.read(7))
        payload = client.read(size + 1)[:-1]
        if kind == 3:
            took.append(time.monotonic() - float(payload))
    client.close()


def run(port, folder, name, rate, seconds):
    count, took, ready = rate * seconds, [], threading.Event()
    consumer = threading.Thread(target=consume, args=(port, b"bench." + name.encode(), count, took, ready))
    consumer.start()
    ready.wait(10)
    begun = time.monotonic()
    with open(folder / f"{name}.log", "a", buffering=1) as lines:
        for number in range(count):
            wait = begun + number / rate - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            lines.write(json.dumps({"sent": repr(time.monotonic())}) + "\n")
    consumer.join(60)
    if len(took) < count:
        sys.exit(f"bench: {len(took)} of {count} events of {name} have come")
    took.sort()
    # Warming up is not what is measured: the first second's share of the slowest stays in, all the same.
    return [took[int(len(took) * share)] * 1000 for share in (0.5, 0.99)] + [took[-1] * 1000]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="target/release/millpond")
    parser.add_argument("--rate", type=int, default=1000, help="lines a second")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--port", type=int, default=25683)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="millpond-polling."))
    (folder / "polling.yaml").write_text(topology(folder))
    command = [options.bin, "serve", "--data-dir", str(folder / "data"), "--amqp-listen", f"127.0.0.1:{options.port}",
               "--http-listen", "127.0.0.1:0", "--log", "warn", "--topology", str(folder / "polling.yaml")]
    broker = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while socket.socket().connect_ex(("127.0.0.1", options.port)) != 0:
            if broker.poll() is not None or time.monotonic() > deadline:
                sys.exit("bench: the broker does not listen")
            time.sleep(0.02)
        print(f"| polling | p50, ms | p99, ms | max, ms | at {options.rate:,} events/s |")
        print("|---|---|---|---|---|")
        for name, shown in (("long", "long"), ("fixed", f"fixed, every {INTERVAL_MS} ms")):
            p50, p99, worst = run(options.port, folder, name, options.rate, options.seconds)
            print(f"| {shown} | {p50:.1f} | {p99:.1f} | {worst:.1f} | |", flush=True)
    finally:
        broker.send_signal(signal.SIGTERM)
        broker.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
