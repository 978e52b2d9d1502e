"""A registration is a row in PostgreSQL; the broker's rule sends the mail and the short message and updates the row."""

import asyncio
import contextlib
import glob
import http.server
import json
import logging
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from email import message_from_bytes, policy
from pathlib import Path

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

HERE = Path(__file__).parent
MILLPOND = os.environ.get("MILLPOND", HERE / "../../target/release/millpond")
SECRETS = {"shop-database": "s3cr3t-database", "smtp": "s3cr3t-mail", "phone": "s3cr3t-phone"}
PATIENCE_S = 60
# The mail server talks; what it has to say is in its answers.
logging.getLogger("mail.log").setLevel(logging.CRITICAL)


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def wait(what, is_so):
    end = time.monotonic() + PATIENCE_S
    while not (found := is_so()):
        if time.monotonic() > end:
            sys.exit(f"{what} did not come within {PATIENCE_S} s")
        time.sleep(0.02)
    return found


class Postgres:
    """A database server with everything in a directory of its own."""

    def __init__(self, work, port):
        self.port, self.data = port, work / "postgres"
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin")) or [Path(shutil.which("initdb") or "/").parent]
        self.bin = Path(found[-1])
        # It refuses to run as root.
        self.user = "nobody" if os.geteuid() == 0 else None
        self.data.mkdir(mode=0o700)
        if self.user:
            os.chown(self.data, pwd.getpwnam(self.user).pw_uid, pwd.getpwnam(self.user).pw_gid)
        log = open(work / "postgres.log", "w")
        options = {"user": self.user, "stdout": log, "stderr": log, "cwd": "/"}
        initdb = [self.bin / "initdb", "-D", self.data, "-U", "postgres", "--auth-host=scram-sha-256"]
        password = work / "postgres.password"
        password.write_text("s3cr3t-postgres")
        password.chmod(0o644)
        subprocess.run([*initdb, f"--pwfile={password}", "--no-sync", "-E", "UTF8", "--locale=C"], check=True, **options)
        command = [self.bin / "postgres", "-D", self.data, "-p", str(port), "-h", "127.0.0.1", "-k", "", "-F"]
        self.process = subprocess.Popen(command, **options)
        wait("PostgreSQL", self.ready)
        self.sql("create database shop", "postgres")
        self.sql((HERE / "shop.sql").read_text())

    def try_sql(self, text, database="shop"):
        command = [self.bin / "psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port)]
        environment = {"PGPASSWORD": "s3cr3t-postgres", "PATH": os.environ["PATH"]}
        return subprocess.run(
            [*command, "-U", "postgres", database],
            input=text,
            text=True,
            capture_output=True,
            env=environment,
            check=False,
        )

    def sql(self, text, database="shop"):
        done = self.try_sql(text, database)
        if done.returncode != 0:
            sys.exit(f"{text}: {done.stderr}")
        return done.stdout.strip()

    def ready(self):
        return self.try_sql("select 1", "postgres").returncode == 0

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()


class Mail:
    """A mail server that keeps what it takes; while `busy`, it asks to come again."""

    def __init__(self, port):
        self.taken, self.busy = [], False
        self.loop = asyncio.new_event_loop()
        make = lambda: SMTP(self, hostname="mail.test", authenticator=self.check, auth_require_tls=False, auth_required=True)
        self.loop.run_until_complete(self.loop.create_server(make, "127.0.0.1", port))
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    @staticmethod
    def check(server, session, envelope, mechanism, data):
        right = isinstance(data, LoginPassword) and data.password == SECRETS["smtp"].encode()
        return AuthResult(success=right, handled=False)

    async def handle_DATA(self, server, session, envelope):
        if self.busy:
            return "451 4.3.2 Busy, come again"
        self.taken.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 2.0.0 Taken"


class Phone:
    """A provider of short messages: a form comes in, JSON goes out."""

    def __init__(self, port):
        self.taken = taken = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                taken.append((self.headers["I-Twilio-Idempotency-Token"], form["To"][0], form["Body"][0]))
                answer = json.dumps({"sid": f"SM{len(taken)}", "error_code": None}).encode()
                self.send_response(201)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()


class Broker:
    def __init__(self, work, ports):
        self.data, self.log = work / "data", work / "broker.log"
        self.topology = work / "topology.yaml"
        text = (HERE / "topology.yaml").read_text()
        for usual, port in ports.items():
            text = text.replace(f":{usual}/", f":{port}/").replace(f"port: {usual}", f"port: {port}")
        self.topology.write_text(text)
        self.start()
        for name, value in SECRETS.items():
            self.tell("secrets", "set", name, input=value)
        self.tell("apply", str(self.topology))

    def start(self):
        listen = ["--amqp-listen", f"127.0.0.1:{free_port()}", "--http-listen", "127.0.0.1:0"]
        with open(self.log, "a") as log:
            command = [MILLPOND, "serve", "--data-dir", self.data, *listen]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait("the broker", lambda: self.process.poll() is not None or self.try_tell("rules", "list").returncode == 0)

    def try_tell(self, *words, input=None):
        command = [MILLPOND, *words, "--data-dir", self.data]
        return subprocess.run(command, input=input, text=True, capture_output=True, check=False)

    def tell(self, *words, input=None):
        done = self.try_tell(*words, input=input)
        if done.returncode != 0:
            sys.exit(f"millpond {' '.join(words)}: {done.stderr}\n{self.log.read_text()[-4000:]}")
        return done.stdout

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        self.process.wait()


@contextlib.contextmanager
def everything():
    work = Path(tempfile.mkdtemp(prefix="millpond-reset-"))
    work.chmod(0o755)
    stops = []
    try:
        ports = {5432: free_port(), 1025: free_port(), 8025: free_port()}
        postgres = Postgres(work, ports[5432])
        stops.append(postgres.stop)
        mail, phone = Mail(ports[1025]), Phone(ports[8025])
        broker = Broker(work, ports)
        stops.append(broker.stop)
        yield work, postgres, mail, phone, broker
    finally:
        for stop in reversed(stops):
            stop()
        shutil.rmtree(work, ignore_errors=True)


def register(postgres, first, last):
    users = range(first, last + 1)
    rows = ", ".join(f"('User {n}', 'user{n}@example.com', '+491511234{n:04}')" for n in users)
    postgres.sql(f"insert into users (name, email, phone) values {rows}")


def mailed(postgres):
    return int(postgres.sql("select count(*) from users where mailed_at is not null"))


def run():
    with everything() as (_, postgres, mail, phone, _):
        register(postgres, 1, 1)
        wait("the mail", lambda: mailed(postgres) == 1)
        print(mail.taken[0].get_body(("plain",)).get_content().strip())
        print(f"short message to {phone.taken[0][1]}: {phone.taken[0][2]}")
        print("row:", postgres.sql("select id, email, mailed_at is not null from users"))


def written(folder, text):
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def check():
    with everything() as (work, postgres, mail, phone, broker):
        register(postgres, 1, 1)
        wait("the first mail", lambda: mailed(postgres) == 1)
        # A mail server that is busy, and a broker that dies twice while people register.
        mail.busy = True
        register(postgres, 2, 20)
        broker.kill()
        register(postgres, 21, 40)
        broker.start()
        mail.busy = False
        wait("some mails", lambda: mailed(postgres) > 10)
        broker.kill()
        register(postgres, 41, 60)
        broker.start()
        wait("all mails", lambda: mailed(postgres) == 60)
        tokens = dict(line.split("|") for line in postgres.sql("select email, reset_token from users").splitlines())
        by_id = {}
        for message in mail.taken:
            body = message.get_body(("plain",)).get_content()
            assert tokens[message["to"]] in body, f"another token in the mail to {message['to']}"
            by_id.setdefault(message["message-id"], set()).add(message["to"])
        assert {next(iter(to)) for to in by_id.values()} == set(tokens), "everybody gets a mail"
        assert all(len(to) == 1 for to in by_id.values()) and len(by_id) == 60, "a repetition has the id of the first"
        keys = {}
        for key, to, _ in phone.taken:
            keys.setdefault(key, set()).add(to)
        assert len(keys) == 60 and all(len(to) == 1 for to in keys.values()), f"{len(keys)} short messages"
        for value in SECRETS.values():
            assert not written(work / "data", value) and not written(work, "s3cr3t-mail"), f"{value} is written"
        repeated = len(mail.taken) - 60, len(phone.taken) - 60
        print(f"password reset: 60 of 60 mails, 60 of 60 short messages; {repeated[0]} and {repeated[1]} repeated")


{"run": run, "check": check}[sys.argv[1]]()
