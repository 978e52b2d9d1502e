"""Measures delayed messages: memory of those that wait, and how late they come when many are due every second.

    bench/delayed.py --bin target/release/millpond [--count 1000000] [--rate 10000] [--seconds 20] [--ids]

A broker of its own on loopback; a client written here, so that nothing but a socket is between clock and broker.
Messages that come due are scattered over all that wait. Lateness is the client's: when its socket gave the message
less the moment for which it asked.
"""

import argparse
import gc
import random
import re
import socket
import struct
import subprocess
import tempfile
import threading
import time

EXCHANGE, QUEUE = b"later", b"released"
# How long before its time the broker reads a message from disk.
AHEAD_S = 10


def short(text):
    return bytes([len(text)]) + text


def frame(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def method(channel, class_id, method_id, arguments=b""):
    return frame(1, channel, struct.pack(">HH", class_id, method_id) + arguments)


class Client:
    """As much of AMQP 0-9-1 as is needed here."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.socket.sendall(b"AMQP\x00\x00\x09\x01")
        self.expect(10, 10)
        plain = b"\0guest\0guest"
        start_ok = struct.pack(">I", 0) + short(b"PLAIN") + struct.pack(">I", len(plain)) + plain + short(b"en_US")
        self.socket.sendall(method(0, 10, 11, start_ok))
        self.expect(10, 30)
        self.socket.sendall(method(0, 10, 31, struct.pack(">HIH", 8, 131072, 0)))
        self.socket.sendall(method(0, 10, 40, short(b"/") + b"\0\0"))
        self.expect(10, 41)
        self.call(20, 10, short(b""), 20, 11)

    def frames(self):
        """Whole frames that the next read brings: kind, payload."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise EOFError("the broker closed the connection")
        self.buffer += data
        found, at, size = [], 0, len(self.buffer)
        while size - at >= 8:
            kind, _, length = struct.unpack_from(">BHI", self.buffer, at)
            if size - at < length + 8:
                break
            found.append((kind, bytes(self.buffer[at + 7:at + 7 + length])))
            at += length + 8
        del self.buffer[:at]
        return found

    def expect(self, class_id, method_id):
        while True:
            for kind, payload in self.frames():
                if kind == 1:
                    found = struct.unpack_from(">HH", payload)
                    assert found == (class_id, method_id), (found, payload)
                    return payload

    def call(self, class_id, method_id, arguments, *answer):
        self.socket.sendall(method(1, class_id, method_id, arguments))
        return self.expect(*answer)

    def declare(self):
        entry = short(b"x-delayed-type") + b"S" + struct.pack(">I", 6) + b"direct"
        table = struct.pack(">I", len(entry)) + entry
        self.call(40, 10, b"\0\0" + short(EXCHANGE) + short(b"x-delayed-message") + b"\x02" + table, 40, 11)
        self.call(50, 10, b"\0\0" + short(QUEUE) + b"\x02" + b"\0\0\0\0", 50, 11)
        self.call(50, 20, b"\0\0" + short(QUEUE) + short(EXCHANGE) + short(b"k") + b"\0" + b"\0\0\0\0", 50, 21)
        self.call(85, 10, b"\0", 85, 11)

    def consume(self):
        self.call(60, 20, b"\0\0" + short(QUEUE) + short(b"") + b"\x02" + b"\0\0\0\0", 60, 21)


PUBLISH = method(1, 60, 40, b"\0\0" + short(EXCHANGE) + short(b"k") + b"\0")


def message(delay_ms, body, message_id):
    entry = short(b"x-delay") + b"I" + struct.pack(">i", delay_ms)
    flags = 0x3000 | (0x0080 if message_id else 0)
    properties = struct.pack(">H", flags) + struct.pack(">I", len(entry)) + entry + b"\x02"
    if message_id:
        properties += short(message_id)
    return PUBLISH + frame(2, 1, struct.pack(">HHQ", 60, 0, len(body)) + properties) + frame(3, 1, body)


def now_ms():
    return time.time() * 1000


class Publisher:
    """Publishes with confirms, some thousand on the way."""

    def __init__(self, port):
        self.client = Client(port)
        self.client.declare()
        self.sent, self.acked, self.told = 0, 0, threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        while True:
            for kind, payload in self.client.frames():
                assert struct.unpack_from(">HH", payload) == (60, 80), payload
                with self.told:
                    self.acked = struct.unpack_from(">Q", payload, 4)[0]
                    self.told.notify()

    def send(self, messages):
        self.sent += len(messages)
        self.client.socket.sendall(b"".join(messages))
        self.wait(4000)

    def wait(self, window=0):
        with self.told:
            self.told.wait_for(lambda: self.sent - self.acked <= window)


class Receiver(threading.Thread):
    """Notes how late each message is. Milliseconds."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.client, self.late = Client(port), []
        self.client.consume()
        self.start()

    def run(self):
        while True:
            for kind, payload in self.client.frames():
                if kind == 3:
                    self.late.append(now_ms() - struct.unpack_from(">d", payload)[0])

    def wait(self, count):
        while len(self.late) < count:
            time.sleep(0.05)
        late, self.late = sorted(self.late), []
        return late


def resident_bytes(process):
    with open(f"/proc/{process.pid}/status") as status:
        return int(re.search(r"RssAnon:\s+(\d+) kB", status.read())[1]) * 1024


def show(what, late):
    at = [late[0], late[len(late) // 2], late[len(late) * 99 // 100], late[-1]]
    print(f"{what}: {len(late)} messages, late by min %.1f  p50 %.1f  p99 %.1f  max %.1f ms" % tuple(at), flush=True)


def measure(process, port, options):
    publisher, receiver = Publisher(port), Receiver(port)
    body = bytes(options.size - 8)
    for number in range(200):
        due_ms = now_ms() + random.uniform(50, 100)
        delay_ms = round(due_ms - now_ms())
        publisher.send([message(delay_ms, struct.pack(">d", now_ms() + delay_ms) + body, b"")])
        publisher.wait()
    show("at rest", receiver.wait(200))
    before = resident_bytes(process)
    soon = options.rate * options.seconds
    began = now_ms()
    # The last one is published well before the first is due.
    first_ms = began + max(10_000, options.count / 25)
    due = [first_ms + number * 1000 / options.rate for number in range(soon)]
    due += [first_ms + 3_600_000 + number for number in range(options.count - soon)]
    random.shuffle(due)
    for at in range(0, len(due), 200):
        now = now_ms()
        publisher.send([
            message(round(due_ms - now), struct.pack(">d", now + round(due_ms - now)) + body,
                    b"order-%09d" % (at + place) if options.ids else b"")
            for place, due_ms in enumerate(due[at:at + 200])
        ])
    publisher.wait()
    took = (now_ms() - began) / 1000
    print(f"published {options.count} in {took:.1f} s, {options.count / took:.0f}/s, confirmed", flush=True)
    # What is due within the next seconds is read ahead: looked at before that, and again with it.
    for seconds_before, what in ((AHEAD_S + 3, "all waiting"), (1, "the next seconds' read ahead")):
        time.sleep(max(0, (first_ms - now_ms()) / 1000 - seconds_before))
        after = resident_bytes(process)
        print(f"resident {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB with {what}: "
              f"{(after - before) / options.count:.1f} bytes each", flush=True)
    show(f"{options.rate}/s due of {options.count}", receiver.wait(soon))
    print(f"resident {resident_bytes(process) / 1e6:.1f} MB after the release", flush=True)


def main():
    # A pause of this process would count as the broker's.
    gc.disable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, help="the millpond binary")
    parser.add_argument("--count", type=int, default=1_000_000, help="messages that wait")
    parser.add_argument("--rate", type=int, default=10_000, help="of them due each second")
    parser.add_argument("--seconds", type=int, default=20, help="for so long")
    parser.add_argument("--size", type=int, default=100, help="bytes of a body")
    parser.add_argument("--ids", action="store_true", help="each has a message_id")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as data_dir:
        listen = ["--amqp-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--log", "warn"]
        command = [options.bin, "serve", "--data-dir", data_dir, *listen]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if found := re.search(r"AMQP 0-9-1 +127\.0\.0\.1:(\d+)", line):
                    port = int(found[1])
                if "health" in line:
                    break
            # Threads that read end with the process.
            threading.excepthook = lambda _: None
            try:
                measure(process, port, options)
            finally:
                process.kill()


if __name__ == "__main__":
    main()
