"""Runs each scenario against the null broker, Millpond and, where installed, RabbitMQ, one at a time, and prints ratios.

Every figure of Millpond comes from the same binary with default settings. The brokers take turns within each
round, so that a change of the machine's speed hits all; the median of the rounds is printed.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SAFE = "--persistent --durable --confirm 1000 --ack 100 --prefetch 1000"
X4 = "--producers 4 --consumers 4 --queues 4"

# name, amqpload's arguments, figure, target as a share of the null broker
SCENARIOS = [
    ("raw 16 B", "throughput --size 16 --ack auto", "recv_rate", 0.30),
    ("raw 1 KiB", "throughput --size 1024 --ack auto", "recv_rate", 0.50),
    ("safe 100 B", f"throughput --size 100 {SAFE}", "recv_rate", 0.07),
    ("safe x4 100 B", f"throughput --size 100 {SAFE} {X4}", "recv_rate", 0.10),
    ("safe x4 1 KiB", f"throughput --size 1024 {SAFE} {X4}", "recv_rate", 0.25),
    ("fan-out 10", "throughput --size 100 --ack auto --exchange fanout --queues 10 --consumers 10", "recv_rate", 0.35),
    ("paced p50", "throughput --size 100 --persistent --durable --confirm 1000 --prefetch 1000 --rate 10000 --ack 10", "latency_us.p50", 2.5),
    ("paced p99", None, "latency_us.p99", 4.0),
]
NULLBROKER_PORT, MILLPOND_PORT, RABBITMQ_PORT = 25690, 25672, 25673


def free_of_listeners(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def wait_for(port, process):
    deadline = time.monotonic() + 60
    while free_of_listeners(port):
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"bench: nothing listens on port {port}")
        time.sleep(0.02)


def wait_closed(port):
    deadline = time.monotonic() + 60
    while not free_of_listeners(port) and time.monotonic() < deadline:
        time.sleep(0.1)


class Broker:
    """A broker that runs for one measurement."""

    def __init__(self, name, command, port, env=None, cleanup=None):
        self.name, self.command, self.port, self.env, self.cleanup = name, command, port, env, cleanup

    def __enter__(self):
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, **(self.env or {})}, start_new_session=True,
        )
        wait_for(self.port, self.process)
        return self

    def __exit__(self, *_):
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.cleanup:
            self.cleanup()


def figure(result, path):
    for key in path.split("."):
        result = result[key]
    return result


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, Path(folder)

    def nullbroker(self):
        command = [f"{self.options.tools}/nullbroker", "--listen", f"127.0.0.1:{NULLBROKER_PORT}", "--exit-after", "900"]
        return Broker("nullbroker", command, NULLBROKER_PORT)

    def millpond(self, data=None):
        data = data or self.folder / "data"
        command = [
            f"{self.options.bin}/millpond", "serve", "--data-dir", str(data),
            "--amqp-listen", f"127.0.0.1:{MILLPOND_PORT}", "--http-listen", "127.0.0.1:0", "--log", "warn",
        ]
        return Broker("millpond", command, MILLPOND_PORT, cleanup=lambda: shutil.rmtree(data, ignore_errors=True))

    def rabbitmq(self):
        base = self.folder / "rabbitmq"
        env = {
            "RABBITMQ_NODENAME": "bench@localhost", "RABBITMQ_NODE_PORT": str(RABBITMQ_PORT),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_MNESIA_BASE": str(base), "RABBITMQ_LOG_BASE": str(base),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(base / "plugins"), "HOME": str(base), "RABBITMQ_PID_FILE": str(base / "pid"),
        }
        # Debian's command changes to a user of its own when root calls it.
        self.folder.chmod(0o755)
        base.mkdir(exist_ok=True)
        base.chmod(0o777)
        def stop():
            """Under another user the node is in a session of its own: a signal to the group does not reach it."""
            if (base / "pid").exists():
                subprocess.run(["kill", (base / "pid").read_text().strip()], check=False, stderr=subprocess.DEVNULL)
            wait_closed(RABBITMQ_PORT)

        return Broker("rabbitmq", ["rabbitmq-server"], RABBITMQ_PORT, env, cleanup=stop)

    def load(self, broker, arguments):
        command = [f"{self.options.tools}/amqpload", *arguments.split(), "--uri", f"amqp://guest:guest@127.0.0.1:{broker.port}/",
                   "--broker-pid", str(broker.process.pid)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"  {broker.name}: {done.stderr.strip()}", file=sys.stderr)
        return json.loads(done.stdout) if done.stdout else {}

    def brokers(self):
        makers = [self.nullbroker, self.millpond]
        if shutil.which("rabbitmq-server") and not self.options.no_rabbitmq:
            makers.append(self.rabbitmq)
        return makers

    def measure(self, arguments):
        """A list of results for each broker."""
        results = {}
        for _ in range(self.options.rounds):
            for maker in self.brokers():
                with maker() as broker:
                    results.setdefault(broker.name, []).append(self.load(broker, arguments))
        return results

    def table(self):
        print(f"| scenario | null broker | Millpond | share | target | CPU us/message | RabbitMQ share |\n|---|---|---|---|---|---|---|")
        results = {}
        for name, arguments, path, target in SCENARIOS:
            if self.options.only and not any(word in name for word in self.options.only):
                continue
            if arguments:
                results = self.measure(f"{arguments} --seconds {self.options.seconds}")
            median = {broker: statistics.median(figure(run, path) for run in runs) for broker, runs in results.items()}
            cpu = statistics.median(run["broker_cpu_us_per_published"] for run in results["millpond"])
            ceiling = median["nullbroker"]
            rabbit = f"{median['rabbitmq'] / ceiling:.3f}" if "rabbitmq" in median else ""
            bad = "" if all(run.get("ok") for runs in results.values() for run in runs) else " (a check failed)"
            print(f"| {name} | {ceiling:,.0f} | {median['millpond']:,.0f}{bad} | {median['millpond'] / ceiling:.3f} | {target} | {cpu:.2f} | {rabbit} |", flush=True)

    def disk_rate(self):
        """Writes of 4 KiB with fdatasync, a second, over a file written before."""
        path = self.folder / "disk"
        block = os.urandom(4096)
        with open(path, "wb", buffering=0) as file:
            file.write(b"\0" * (16 << 20))
            os.fsync(file.fileno())
            count, started = 0, time.monotonic()
            while time.monotonic() - started < 3:
                os.pwrite(file.fileno(), block, count % 4096 * 4096)
                os.fdatasync(file.fileno())
                count += 1
        return count / (time.monotonic() - started)

    def pingpong(self):
        """Beside the disk, and beside a broker that costs nothing: the null broker's round trip and one sync."""
        shares = []
        for _ in range(self.options.rounds):
            disk = self.disk_rate()
            with self.nullbroker() as broker:
                trip = self.load(broker, "pingpong --confirm --seconds 4")["pub_rate"]
            with self.millpond() as broker:
                rate = self.load(broker, "pingpong --confirm --seconds 4")["pub_rate"]
            shares.append((rate / disk, rate, disk, trip))
        share, rate, disk, trip = sorted(shares)[len(shares) // 2]
        ceiling = 1 / (1 / disk + 1 / trip)
        print(f"| pingpong --confirm | disk {disk:,.0f} | {rate:,.0f} | {share:.3f} | 0.8 of the disk | | |", flush=True)
        print(f"  (null broker without a disk {trip:,.0f}/s: one sync and its round trip are {ceiling:,.0f}/s, {ceiling / disk:.3f} of the disk; Millpond reaches {rate / ceiling:.3f} of that)", flush=True)

    def backlog(self):
        data = self.folder / "backlog"
        ledger, count = self.folder / "ledger", self.options.backlog
        with self.millpond(data) as broker:
            broker.cleanup = None
            fill = self.load(broker, f"backlog --count {count} --size 100 --fill-only --ledger {ledger} --data-dir {data}")
            os.killpg(broker.process.pid, signal.SIGKILL)
            broker.process.wait()
            started = time.monotonic()
            broker.__enter__()
            ready = time.monotonic() - started
            drain = self.load(broker, f"backlog --count {count} --size 100 --drain-only --ledger {ledger} --data-dir {data}")
        shutil.rmtree(data, ignore_errors=True)
        print(f"\nbacklog of {count}: serving again {ready:.2f} s after kill -9\nfill: {json.dumps(fill)}\ndrain: {json.dumps(drain)}", flush=True)

    def crowds(self):
        with self.millpond() as broker:
            self.load(broker, "connections --count 100 --hold 0.5 --with-consumer")
            print("\nconnections:", json.dumps(self.load(broker, "connections --count 10k --hold 5 --with-consumer")), flush=True)
        data = self.folder / "queues"
        with self.millpond(data) as broker:
            print("\nqueues:", json.dumps(self.load(broker, "queues --count 100k")), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="folder of the millpond binary")
    parser.add_argument("--tools", required=True, help="folder of amqpload and nullbroker")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--backlog", default="10M")
    parser.add_argument("--only", nargs="*", help="words of scenario names; also pingpong, backlog, crowds")
    parser.add_argument("--no-rabbitmq", action="store_true")
    options = parser.parse_args()
    wanted = lambda name: not options.only or name in options.only
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR", ".")) as folder:
        bench = Bench(options, folder)
        bench.table()
        for part in ("pingpong", "backlog", "crowds"):
            if wanted(part):
                getattr(bench, part)()


if __name__ == "__main__":
    main()
