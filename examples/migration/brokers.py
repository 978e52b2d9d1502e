"""The two brokers' processes, each with its ports and a directory of its own, loopback only."""

import base64
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import pika
import pika.exceptions

HERE = pathlib.Path(__file__).resolve().parent
MILLPOND = pathlib.Path(os.environ.get("MILLPOND", HERE.parent.parent / "target/release/millpond")).absolute()
RABBITMQ = sorted(pathlib.Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
WAIT_S = float(os.environ.get("MIGRATION_WAIT_S", "60"))
PLUGINS = ["rabbitmq_management", "rabbitmq_federation", "rabbitmq_consistent_hash_exchange"]


def demand(holds, text):
    if not holds:
        sys.exit(f"FAILED: {text}")


def wait(what, is_so):
    end = time.monotonic() + WAIT_S
    while not (found := is_so()):
        demand(time.monotonic() < end, f"{what} did not come within {WAIT_S:.0f} s")
        time.sleep(0.05)
    return found


def free_port():
    """A port nobody uses, below those the system gives to clients."""
    while True:
        with socket.socket() as probe:
            port = random.randrange(20_001, 32_000, 2)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Broker:
    """What the check asks of either broker: its management API and connections of pika."""

    name = ""
    amqp = http = 0
    process = None

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.log = open(folder / "log", "ab")
        self.amqp, self.http = free_port(), free_port()

    def run(self, command, **options):
        # A group of its own, so that a kill takes exactly this process and what it started.
        return subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=self.log,
                                stderr=self.log, start_new_session=True, **options)

    def ask(self, method, path, body=None, user=("guest", "guest")):
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}/api/{path}", method=method)
        request.add_header("Authorization", "Basic " + base64.b64encode(":".join(user).encode()).decode())
        data = None if body is None else json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, data, timeout=WAIT_S) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def put(self, body, *path):
        self.ask("PUT", "/".join(urllib.parse.quote(part, safe="") for part in path), body)

    def answers(self):
        demand(self.process.poll() is None, f"{self.name} ended: see {self.folder}/log\n{self.tail()}")
        try:
            with socket.create_connection(("127.0.0.1", self.amqp)):
                return self.ask("GET", "overview")
        except (OSError, urllib.error.URLError):
            return None

    def tail(self):
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-20:])

    def url(self, user, vhost="/"):
        return f"amqp://{user[0]}:{user[1]}@127.0.0.1:{self.amqp}/{urllib.parse.quote(vhost, safe='')}"

    def connect(self, user, vhost="/"):
        return pika.BlockingConnection(pika.URLParameters(self.url(user, vhost)))

    def depth(self, vhost, queue, user):
        """Messages in a queue, those at consumers included."""
        quoted = urllib.parse.quote(vhost, safe="")
        return self.ask("GET", f"queues/{quoted}/{urllib.parse.quote(queue)}", user=user).get("messages", 0)

    def kill(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Rabbit(Broker):
    name = "RabbitMQ"
    epmd = None

    def start(self):
        epmd, distribution = free_port(), free_port()
        (self.folder / "enabled_plugins").write_text(f"[{', '.join(PLUGINS)}].\n")
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.default = 127.0.0.1:{self.amqp}\nmanagement.tcp.ip = 127.0.0.1\n"
            f"management.tcp.port = {self.http}\ncollect_statistics_interval = 1000\n"
            "disk_free_limit.absolute = 50MB\n")
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text("MIGRATION")
        cookie.chmod(0o600)
        environment = {
            "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(self.folder), "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1", "RABBITMQ_NODENAME": f"migration{self.amqp}@localhost",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"), "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"), "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_NODE_PORT": str(self.amqp),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        # Erlang's daemon of names, or the node would leave one behind.
        self.epmd = self.run(["epmd", "-port", str(epmd), "-address", "127.0.0.1"], env=environment)
        self.process = self.run([RABBITMQ[-1]], env=environment)
        return wait(self.name, self.answers)["rabbitmq_version"]

    def kill(self):
        super().kill()
        if self.epmd and self.epmd.poll() is None:
            self.epmd.kill()
            self.epmd.wait()


class Millpond(Broker):
    name = "Millpond"

    def serve(self, *options):
        return [MILLPOND, "serve", "--data-dir", self.folder / "data", "--amqp-listen", f"127.0.0.1:{self.amqp}",
                "--http-listen", f"127.0.0.1:{self.http}", *options]

    def start(self, *options, user=("guest", "guest")):
        demand(MILLPOND.exists(), f"there is no broker at {MILLPOND}: build it (make build) or set MILLPOND")
        self.process = self.run(self.serve(*options))

        def ready():
            demand(self.process.poll() is None, f"{self.name} ended: see {self.folder}/log\n{self.tail()}")
            try:
                return self.ask("GET", "overview", user=user)
            except (OSError, urllib.error.URLError):
                return None
        wait(self.name, ready)

    def millpond(self, *arguments, may_fail=False):
        command = [MILLPOND, *arguments, "--data-dir", self.folder / "data"]
        done = subprocess.run(command, cwd=self.folder, text=True, capture_output=True)
        demand(may_fail or done.returncode == 0, f"millpond {' '.join(map(str, arguments))}: {done.stderr}")
        return done.stdout + done.stderr
