"""The secure doors as pika and aio-pika come through them: TLS with the server's certificate verified, a client's
certificate with EXTERNAL, a token as the password. `conformance/run` makes certificates and tokens; without them there is
nothing to try."""

import asyncio
import base64
import json
import os
import pathlib
import ssl
import subprocess
import urllib.error
import urllib.request

import aio_pika
import pika
import pytest

from own_broker import BINARY
from support import channel_error, counts, drain, publish, until

if "AMQPS_URL" not in os.environ:
    pytest.skip("no TLS to try: set AMQPS_URL and TLS_DIR", allow_module_level=True)

URL = os.environ["AMQPS_URL"]
DIR = pathlib.Path(os.environ["TLS_DIR"])


def token(which="token"):
    return (DIR / which).read_text()


def trusting(certificate=False, authority="ca.pem"):
    context = ssl.create_default_context(cafile=DIR / authority if authority else None)
    if certificate:
        context.load_cert_chain(DIR / "client.pem", DIR / "client.key")
    return context


@pytest.fixture
def secure(connect):
    """Makes connections with TLS, called by a name that nobody else's has."""

    def make(name, context=None, **parameters):
        given = pika.URLParameters(URL)
        options = pika.SSLOptions(context or trusting(), given.host)
        properties = {"connection_name": name}
        return connect(
            host=given.host, port=given.port, ssl_options=options, client_properties=properties, **parameters
        )

    return make


@pytest.fixture
def own_binary():
    """Millpond's own clients."""
    if not BINARY.exists():
        pytest.skip(f"no program at {BINARY}: set MILLPOND")
    return BINARY


def ask(method, path, body=None, missing_is_fine=False):
    """The management API's answer."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(os.environ["HTTP_URL"] + "/api" + path, data, method=method)
    asked.add_header("Authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            text = answer.read()
    except urllib.error.HTTPError as refused:
        assert refused.code == 404 and missing_is_fine, refused.read()
        return None
    return json.loads(text) if text else None


def shown(connection, name):
    """What the management API shows of a connection."""

    def look():
        return next((it for it in ask("GET", "/connections") if it.get("user_provided_name") == name), None)

    until(connection, look, "the connection to be shown")
    return look()


def test_messages_pass_over_tls_and_the_connection_shows_it(secure, name):
    its_name = name("connection")
    connection = secure(its_name)
    channel = connection.channel()
    queue = name()
    channel.queue_declare(queue)
    channel.confirm_delivery()
    publish(channel, queue, b"x" * 1_000_000)
    assert len(drain(channel, queue)[0]) == 1_000_000
    seen = shown(connection, its_name)
    assert seen["ssl"] is True and seen["ssl_protocol"] in ("tlsv1.2", "tlsv1.3")
    assert all(seen[it] for it in ("ssl_cipher", "ssl_hash", "ssl_key_exchange"))
    assert "peer_cert_subject" not in seen and seen["auth_mechanism"] == "PLAIN"


VERSIONS = [("tlsv1.2", ssl.TLSVersion.TLSv1_2), ("tlsv1.3", ssl.TLSVersion.TLSv1_3)]


@pytest.mark.parametrize(("called", "version"), VERSIONS)
def test_both_versions_of_tls_are_spoken(secure, name, called, version):
    context = trusting()
    context.minimum_version = context.maximum_version = version
    its_name = name("connection")
    assert shown(secure(its_name, context), its_name)["ssl_protocol"] == called


def test_a_client_that_trusts_others_does_not_go_on(secure, name):
    with pytest.raises(ssl.SSLCertVerificationError):
        secure(name("connection"), trusting(authority=None))


def test_a_certificate_logs_in_with_external_and_is_shown(secure, name):
    its_name = name("connection")
    credentials = pika.credentials.ExternalCredentials()
    connection = secure(its_name, trusting(certificate=True), credentials=credentials)
    queue = name()
    connection.channel().queue_declare(queue)
    seen = shown(connection, its_name)
    assert seen["user"] == "conformance-external" and seen["auth_mechanism"] == "EXTERNAL"
    assert seen["peer_cert_subject"] == "CN=conformance-external"
    assert seen["peer_cert_issuer"] == "CN=Conformance CA" and "Z" in seen["peer_cert_validity"]


def test_external_is_for_those_with_a_certificate(secure, name):
    with pytest.raises(pika.exceptions.AuthenticationError):
        secure(name("connection"), credentials=pika.credentials.ExternalCredentials())


def test_a_certificate_leaves_the_password_as_it_is(secure, name):
    its_name = name("connection")
    connection = secure(its_name, trusting(certificate=True))
    assert shown(connection, its_name)["user"] == "guest"


def test_a_token_is_a_password_with_the_rights_of_its_scopes(secure, name):
    its_name = name("connection")
    connection = secure(its_name, credentials=pika.PlainCredentials("", token()))
    channel = connection.channel()
    queue = name()
    channel.queue_declare(queue)
    publish(channel, queue, b"1")
    assert drain(channel, queue) == ["1"]
    assert shown(connection, its_name)["user"] == "conformance-token"
    with channel_error(channel, 403, "for user 'conformance-token'"):
        channel.queue_declare("of-somebody-else")
    connection.update_secret(token("token-next"), "the next one")
    connection.channel().queue_declare(queue)


def test_a_token_of_somebody_else_is_no_password(secure, name):
    head, claims, signature = token().split(".")
    forged = base64.urlsafe_b64decode(claims + "==").replace(b"conformance-token", b"guest")
    forged = base64.urlsafe_b64encode(forged).decode().rstrip("=")
    for wrong in (f"{head}.{forged}.{signature}", f"{head}.{claims}."):
        with pytest.raises(pika.exceptions.ProbableAuthenticationError):
            secure(name("connection"), credentials=pika.PlainCredentials("", wrong))


def test_aio_pika_comes_with_tls_and_a_token(name):
    queue = name()

    async def talk():
        bearer = pika.URLParameters(URL)
        connection = await aio_pika.connect(
            host=bearer.host, port=bearer.port, login="any", password=token(), ssl=True, ssl_context=trusting()
        )
        async with connection:
            channel = await connection.channel()
            declared = await channel.declare_queue(queue)
            await channel.default_exchange.publish(aio_pika.Message(b"1"), routing_key=queue)
            message = await declared.get(timeout=20)
            assert message.body == b"1"
            await message.ack()

    asyncio.run(talk())


def certified(**parameters):
    """The broker's own client's address: it shows a certificate in place of a password."""
    given = pika.URLParameters(URL)
    query = "&".join(f"{key}={value}" for key, value in parameters.items())
    return f"amqps://{given.host}:{given.port}/%2F?cacertfile={DIR}/ca.pem&{query}"


EXTERNAL = {"certfile": DIR / "client.pem", "keyfile": DIR / "client.key", "auth_mechanism": "external"}


def test_the_bench_runs_over_tls_with_a_certificate(own_binary):
    command = [own_binary, "bench", "pingpong", "--seconds", "1", "--json", "--url", certified(**EXTERNAL)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["receive"]["messages"] > 0, done.stdout
    refused = subprocess.run([*command[:-1], URL], capture_output=True, text=True, timeout=50, check=False)
    assert refused.returncode != 0 and "certificate" in refused.stderr, refused.stderr


def test_a_shovel_goes_over_tls_with_a_certificate(secure, name, own_binary):
    channel = secure(name("connection")).channel()
    source, target, shovel = name(), name(), name("shovel")
    for queue in (source, target):
        channel.queue_declare(queue, durable=True)
    publish(channel, source, b"1", delivery_mode=2)
    value = {
        "src-uri": certified(**EXTERNAL),
        "src-queue": source,
        "dest-uri": "amqp://",
        "dest-queue": target,
        "src-delete-after": "queue-length",
    }
    ask("PUT", f"/parameters/shovel/%2F/{shovel}", {"value": value})
    try:
        until(channel.connection, lambda: counts(channel, target)[0] == 1, "the message to be moved")
    finally:
        ask("DELETE", f"/parameters/shovel/%2F/{shovel}", missing_is_fine=True)
    assert drain(channel, target) == ["1"]
