"""A broker of a test's own, with Millpond's command line: $MILLPOND, or target/release/millpond. Without it, or when
the suites run against another broker, such tests are skipped."""

import contextlib
import os
import pathlib
import re
import subprocess
import tempfile

import pika
import pytest

ROOT = pathlib.Path(__file__).parents[2]
BINARY = pathlib.Path(os.environ.get("MILLPOND", ROOT / "target/release/millpond"))
PATIENCE_S = 20


class Broker:
    """A Millpond with its command line."""

    def __init__(self, data_dir, *options):
        self.data_dir, self.options, self.connections = data_dir, options, []
        self.start()

    def start(self):
        listen = ["--amqp-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--alarm-check-interval", "20ms"]
        self.process = subprocess.Popen(
            [BINARY, "serve", "--data-dir", self.data_dir, *listen, "--alarm-nack-after", "0s", "--log", "warn", *self.options],
            stdout=subprocess.PIPE,
            text=True,
        )
        for line in self.process.stdout:
            if found := re.search(r"AMQP 0-9-1 +127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
            if found := re.search(r"amqps://127\.0\.0\.1:(\d+)", line):
                self.tls_port = int(found[1])
            if "health" in line:
                self.http_port = int(re.search(r"127\.0\.0\.1:(\d+)", line)[1])
                break

    def run(self, *words, stdin=""):
        """Runs a command, which may fail."""
        command = [BINARY, *words, "--data-dir", self.data_dir]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)

    def __call__(self, *words, stdin=""):
        """Runs a command; what it prints."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def connect(self, vhost="%2F", user="guest", password="guest"):
        url = f"amqp://{user}:{password}@127.0.0.1:{self.port}/{vhost}?heartbeat=0"
        self.connections.append(pika.BlockingConnection(pika.URLParameters(url)))
        return self.connections[-1]

    def channel(self, vhost="%2F"):
        return self.connect(vhost).channel()

    def stop(self):
        for connection in self.connections:
            with contextlib.suppress(pika.exceptions.AMQPError):  # It may be closed by the broker already.
                connection.close()
        self.process.terminate()
        assert self.process.wait(PATIENCE_S) == 0


@pytest.fixture
def start_broker():
    """Starts brokers with settings of their own."""
    if "AMQP_URL" in os.environ and "MILLPOND" not in os.environ and not BINARY.exists():
        pytest.skip("no Millpond to be told: set MILLPOND")
    if not BINARY.exists():
        pytest.skip(f"no broker at {BINARY}: set MILLPOND")
    with contextlib.ExitStack() as stack:

        def start(*options):
            broker = Broker(stack.enter_context(tempfile.TemporaryDirectory()), *options)
            stack.callback(broker.stop)
            return broker

        yield start


@pytest.fixture
def broker(start_broker):
    return start_broker()
