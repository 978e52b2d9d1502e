"""A small AMQP 0-9-1 client that can break every rule.

It speaks plain sockets and knows the methods by name, but enforces nothing: a test decides which frames go
out, in which order, and with which bytes. Numbers and layouts are those of the AMQP 0-9-1 specification and of
RabbitMQ's extensions to it.
"""

import os
import socket
import struct
import time
from urllib.parse import unquote, urlparse

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
FRAME_METHOD, FRAME_HEADER, FRAME_BODY, FRAME_HEARTBEAT = 1, 2, 3, 8
FRAME_END = 0xCE
#: Bytes a frame has beside its payload: type, channel, size and end octet.
FRAME_OVERHEAD = 8
#: Seconds that an answer may take before the test fails.
PATIENCE_S = 20

#: name: class id, method id, the types of the arguments in order (b octet, h short, l long, L long long,
#: s short string, S long string, t table, ? one bit; neighbouring bits share an octet), their names.
_SPEC = """
connection.start 10 10 bbtSS version_major version_minor server_properties mechanisms locales
connection.start-ok 10 11 tsSs client_properties mechanism response locale
connection.secure 10 20 S challenge
connection.secure-ok 10 21 S response
connection.tune 10 30 hlh channel_max frame_max heartbeat
connection.tune-ok 10 31 hlh channel_max frame_max heartbeat
connection.open 10 40 ss? virtual_host reserved_1 reserved_2
connection.open-ok 10 41 s reserved_1
connection.close 10 50 hshh reply_code reply_text class_id method_id
connection.close-ok 10 51 -
connection.blocked 10 60 s reason
connection.unblocked 10 61 -
connection.update-secret 10 70 Ss new_secret reason
connection.update-secret-ok 10 71 -
channel.open 20 10 s reserved_1
channel.open-ok 20 11 S reserved_1
channel.flow 20 20 ? active
channel.flow-ok 20 21 ? active
channel.close 20 40 hshh reply_code reply_text class_id method_id
channel.close-ok 20 41 -
access.request 30 10 s????? realm exclusive passive active write read
access.request-ok 30 11 h ticket
exchange.declare 40 10 hss?????t reserved_1 exchange type passive durable auto_delete internal no_wait arguments
exchange.declare-ok 40 11 -
exchange.delete 40 20 hs?? reserved_1 exchange if_unused no_wait
exchange.delete-ok 40 21 -
exchange.bind 40 30 hsss?t reserved_1 destination source routing_key no_wait arguments
exchange.bind-ok 40 31 -
exchange.unbind 40 40 hsss?t reserved_1 destination source routing_key no_wait arguments
exchange.unbind-ok 40 51 -
queue.declare 50 10 hs?????t reserved_1 queue passive durable exclusive auto_delete no_wait arguments
queue.declare-ok 50 11 sll queue message_count consumer_count
queue.bind 50 20 hsss?t reserved_1 queue exchange routing_key no_wait arguments
queue.bind-ok 50 21 -
queue.purge 50 30 hs? reserved_1 queue no_wait
queue.purge-ok 50 31 l message_count
queue.delete 50 40 hs??? reserved_1 queue if_unused if_empty no_wait
queue.delete-ok 50 41 l message_count
queue.unbind 50 50 hssst reserved_1 queue exchange routing_key arguments
queue.unbind-ok 50 51 -
basic.qos 60 10 lh? prefetch_size prefetch_count global_
basic.qos-ok 60 11 -
basic.consume 60 20 hss????t reserved_1 queue consumer_tag no_local no_ack exclusive no_wait arguments
basic.consume-ok 60 21 s consumer_tag
basic.cancel 60 30 s? consumer_tag no_wait
basic.cancel-ok 60 31 s consumer_tag
basic.publish 60 40 hss?? reserved_1 exchange routing_key mandatory immediate
basic.return 60 50 hsss reply_code reply_text exchange routing_key
basic.deliver 60 60 sL?ss consumer_tag delivery_tag redelivered exchange routing_key
basic.get 60 70 hs? reserved_1 queue no_ack
basic.get-ok 60 71 L?ssl delivery_tag redelivered exchange routing_key message_count
basic.get-empty 60 72 s reserved_1
basic.ack 60 80 L? delivery_tag multiple
basic.reject 60 90 L? delivery_tag requeue
basic.recover-async 60 100 ? requeue
basic.recover 60 110 ? requeue
basic.recover-ok 60 111 -
basic.nack 60 120 L?? delivery_tag multiple requeue
confirm.select 85 10 ? no_wait
confirm.select-ok 85 11 -
tx.select 90 10 -
tx.select-ok 90 11 -
tx.commit 90 20 -
tx.commit-ok 90 21 -
tx.rollback 90 30 -
tx.rollback-ok 90 31 -
"""


class Method:
    """One method of the protocol: how its arguments are written and read."""

    def __init__(self, line):
        name, class_id, method_id, types, *fields = line.split()
        self.name, self.class_id, self.method_id = name, int(class_id), int(method_id)
        self.arguments = list(zip("" if types == "-" else types, fields))

    def encode(self, values):
        """The method's payload; an argument that is not given is zero or empty."""
        unknown = set(values) - {field for _, field in self.arguments}
        if unknown:
            raise TypeError(f"{self.name} has no arguments {sorted(unknown)}")
        out, bits = bytearray(struct.pack(">HH", self.class_id, self.method_id)), []
        for kind, field in self.arguments:
            value = values.get(field)
            if kind == "?":
                bits.append(bool(value))
                continue
            if bits:
                out += _octet_of(bits)
                bits = []
            out += _encode_argument(kind, value)
        return bytes(out + (_octet_of(bits) if bits else b""))

    def decode(self, payload):
        """The arguments of a payload, by name."""
        reader, values, bit = Reader(payload[4:]), {}, 8
        for kind, field in self.arguments:
            if kind != "?":
                bit = 8
                values[field] = reader.argument(kind)
                continue
            if bit == 8:
                octet, bit = reader.number("B"), 0
            values[field] = bool(octet >> bit & 1)
            bit += 1
        return values


def _octet_of(bits):
    return bytes([sum(1 << i for i, bit in enumerate(bits) if bit)])


def _encode_argument(kind, value):
    if kind in "bhlL":
        return struct.pack({"b": ">B", "h": ">H", "l": ">I", "L": ">Q"}[kind], value or 0)
    if kind == "s":
        return shortstr(value or "")
    if kind == "S":
        return longstr(value or "")
    return table(value or {})


METHODS = {method.name: method for method in map(Method, _SPEC.strip().splitlines())}
_BY_ID = {(m.class_id, m.method_id): m for m in METHODS.values()}


def _as_bytes(text):
    return text.encode() if isinstance(text, str) else bytes(text)


def shortstr(text):
    raw = _as_bytes(text)
    return struct.pack(">B", len(raw)) + raw


def longstr(text):
    raw = _as_bytes(text)
    return struct.pack(">I", len(raw)) + raw


def table(entries):
    """A field table. Values that are `Raw` are written as they are, tag octet included."""
    raw = b"".join(shortstr(key) + field(value) for key, value in entries.items())
    return struct.pack(">I", len(raw)) + raw


class Raw(bytes):
    """A field value in its encoded form, type tag first."""


def field(value):
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, bool):
        return b"t" + bytes([value])
    if isinstance(value, int):
        return b"l" + struct.pack(">q", value)
    if isinstance(value, (str, bytes)):
        return b"S" + longstr(value)
    if isinstance(value, dict):
        return b"F" + table(value)
    if isinstance(value, list):
        raw = b"".join(map(field, value))
        return b"A" + struct.pack(">I", len(raw)) + raw
    if value is None:
        return b"V"
    raise TypeError(f"no field type for {value!r}")


class Reader:
    """Reads arguments and tables out of bytes."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        piece = self.data[self.at : self.at + size]
        assert len(piece) == size, f"{size} bytes wanted at {self.at} of {len(self.data)}"
        self.at += size
        return piece

    def number(self, code):
        return struct.unpack(">" + code, self.take(struct.calcsize(">" + code)))[0]

    def argument(self, kind):
        if kind in "bhlL":
            return self.number({"b": "B", "h": "H", "l": "I", "L": "Q"}[kind])
        if kind == "s":
            return self.take(self.number("B")).decode()
        if kind == "S":
            return self.take(self.number("I"))
        return self.table()

    def table(self):
        inner, entries = Reader(self.take(self.number("I"))), {}
        while inner.at < len(inner.data):
            key = inner.take(inner.number("B")).decode()
            entries[key] = inner.field()
        return entries

    def field(self):
        tag = self.take(1)
        numbers = {b"b": "b", b"B": "B", b"s": "h", b"u": "H", b"I": "i", b"i": "I", b"l": "q", b"f": "f",
                   b"d": "d", b"T": "Q"}
        if tag in numbers:
            return self.number(numbers[tag])
        if tag == b"t":
            return self.take(1) != b"\0"
        if tag in (b"S", b"x"):
            return self.take(self.number("I"))
        if tag == b"D":
            scale, unscaled = self.number("B"), self.number("i")
            return unscaled / 10**scale
        if tag == b"F":
            return self.table()
        if tag == b"A":
            inner, values = Reader(self.take(self.number("I"))), []
            while inner.at < len(inner.data):
                values.append(inner.field())
            return values
        assert tag == b"V", f"unknown field type {tag!r}"
        return None


class Closed(Exception):
    """The server closed the socket."""


class Frame:
    """A frame as it came in; methods carry their name and arguments."""

    def __init__(self, kind, channel, payload):
        self.kind, self.channel, self.payload = kind, channel, payload
        self.name, self.args = None, {}
        if kind == FRAME_METHOD:
            ids = struct.unpack(">HH", payload[:4])
            method = _BY_ID.get(ids)
            self.name = method.name if method else f"unknown {ids}"
            self.args = method.decode(payload) if method else {}

    def __repr__(self):
        return f"Frame(kind={self.kind}, channel={self.channel}, {self.name or len(self.payload)}, {self.args})"


class Address:
    """Where the broker is and who we are there, from an AMQP URL."""

    def __init__(self, url=None):
        parts = urlparse(url or os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/"))
        self.host, self.port = parts.hostname, parts.port or 5672
        self.user, self.password = unquote(parts.username or "guest"), unquote(parts.password or "guest")
        self.vhost = unquote(parts.path[1:]) if len(parts.path) > 1 else "/"


class RawClient:
    """One socket to the broker. Use as a context manager: leaving it closes the socket without a word."""

    def __init__(self, address=None, host=None):
        self.address = address or Address()
        self.socket = socket.create_connection((host or self.address.host, self.address.port), PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.heartbeats = 0
        self.tune = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    # Bytes and frames.

    def write(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # What the server said before it went is still to be read.

    def read(self, size, deadline):
        """Exactly so many bytes; `Closed` when the server ends the stream before."""
        while len(self.buffer) < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"the server sent {len(self.buffer)} of {size} bytes in time")
            self.socket.settimeout(left)
            try:
                piece = self.socket.recv(1 << 20)
            except ConnectionResetError:
                piece = b""
            if not piece:
                raise Closed(bytes(self.buffer))
            self.buffer += piece
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def frame(self, kind, channel, payload, end=FRAME_END, size=None):
        size = len(payload) if size is None else size
        self.write(struct.pack(">BHI", kind, channel, size) + payload + bytes([end]))

    def method(self, channel, name, **args):
        self.frame(FRAME_METHOD, channel, METHODS[name].encode(args))

    def content(self, channel, body=b"", flags=0, properties=b"", class_id=60, size=None, piece=None):
        """A content header and its body, in pieces of `piece` bytes."""
        size = len(body) if size is None else size
        self.frame(FRAME_HEADER, channel, struct.pack(">HHQH", class_id, 0, size, flags) + properties)
        piece = piece or (self.tune.get("frame_max") or 131072) - FRAME_OVERHEAD
        for at in range(0, len(body), piece):
            self.frame(FRAME_BODY, channel, body[at : at + piece])

    def publish(self, channel, routing_key, body=b"", exchange="", mandatory=False, immediate=False, **content):
        self.method(channel, "basic.publish", exchange=exchange, routing_key=routing_key, mandatory=mandatory,
                    immediate=immediate)
        self.content(channel, body, **content)

    def heartbeat(self, channel=0):
        self.frame(FRAME_HEARTBEAT, channel, b"")

    def next_frame(self, patience_s=PATIENCE_S):
        """The next frame that is not a heartbeat; heartbeats are counted."""
        deadline = time.monotonic() + patience_s
        while True:
            kind, channel, size = struct.unpack(">BHI", self.read(7, deadline))
            payload = self.read(size, deadline)
            assert self.read(1, deadline) == bytes([FRAME_END]), "a frame of the server ends with 0xCE"
            if kind != FRAME_HEARTBEAT:
                return Frame(kind, channel, payload)
            self.heartbeats += 1

    def expect(self, name, channel=None):
        """The next method, which must be this one. Returns its arguments."""
        got = self.next_frame()
        assert got.name == name, f"expected {name}, got {got}"
        assert channel is None or got.channel == channel, f"expected channel {channel}, got {got}"
        return got.args

    def call(self, channel, name, **args):
        """Sends a method and takes its `-ok`."""
        self.method(channel, name, **args)
        return self.expect(name + "-ok", channel)

    def take_content(self, channel):
        """A content header and body: (flags, property bytes, body, sizes of the body frames' payloads)."""
        header = self.next_frame()
        assert (header.kind, header.channel) == (FRAME_HEADER, channel), header
        class_id, weight, size, flags = struct.unpack(">HHQH", header.payload[:14])
        assert (class_id, weight) == (60, 0)
        body, pieces = bytearray(), []
        while len(body) < size:
            piece = self.next_frame()
            assert (piece.kind, piece.channel) == (FRAME_BODY, channel), piece
            body += piece.payload
            pieces.append(len(piece.payload))
        return flags, header.payload[14:], bytes(body), pieces

    # The opening of a connection, in steps that a test can stop at.

    def start(self, header=PROTOCOL_HEADER):
        self.write(header)
        return self.expect("connection.start", 0)

    def start_ok(self, mechanism="PLAIN", response=None, capabilities=None, **properties):
        if response is None:
            response = f"\0{self.address.user}\0{self.address.password}"
        if capabilities is None:
            capabilities = {"authentication_failure_close": True, "consumer_cancel_notify": True,
                            "basic.nack": True, "publisher_confirms": True, "connection.blocked": True}
        self.method(0, "connection.start-ok", mechanism=mechanism, response=response, locale="en_US",
                    client_properties={"product": "rawamqp", "capabilities": capabilities, **properties})

    def handshake(self, channel_max=2047, frame_max=131072, heartbeat=0, capabilities=None):
        """Everything up to connection.open-ok. Returns what the server offered in tune."""
        self.start()
        self.start_ok(capabilities=capabilities)
        offer = self.expect("connection.tune", 0)
        self.tune_ok(channel_max, frame_max, heartbeat)
        self.call(0, "connection.open", virtual_host=self.address.vhost)
        return offer

    def tune_ok(self, channel_max=2047, frame_max=131072, heartbeat=0):
        self.tune = {"channel_max": channel_max, "frame_max": frame_max, "heartbeat": heartbeat}
        self.method(0, "connection.tune-ok", channel_max=channel_max, frame_max=frame_max, heartbeat=heartbeat)

    def open_channel(self, channel=1):
        self.call(channel, "channel.open")
        return channel

    # Endings.

    def expect_channel_close(self, channel, code, says=""):
        args = self.expect("channel.close", channel)
        assert args["reply_code"] == code, f"expected channel close {code}, got {args}"
        assert says in args["reply_text"], args
        self.method(channel, "channel.close-ok")
        return args

    def expect_connection_close(self, code, says=""):
        """connection.close with this code, or any if it is None; frames that were on the way are passed over."""
        frame = self.next_frame()
        while frame.name != "connection.close":
            frame = self.next_frame()
        args = frame.args
        assert code in (None, args["reply_code"]), f"expected connection close {code}, got {args}"
        assert says in args["reply_text"], args
        self.method(0, "connection.close-ok")
        self.expect_end()
        return args

    def expect_end(self, patience_s=PATIENCE_S):
        """The server closes the socket; what it sends before that is returned."""
        seen, deadline = bytearray(self.buffer), time.monotonic() + patience_s
        self.buffer.clear()
        while True:
            try:
                seen += self.read(1, deadline)
            except Closed:
                return bytes(seen)
