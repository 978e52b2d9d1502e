"""Certificates that change while clients are connected."""

import pathlib
import shutil
import signal
import ssl
import subprocess

import pika
import pytest

from support import until

MAKE = pathlib.Path(__file__).parents[1] / "secure"


@pytest.fixture
def authorities(tmp_path):
    """Two directories with an authority and a certificate each."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    made = [tmp_path / name for name in ("first", "second")]
    for directory in made:
        directory.mkdir()
        subprocess.run([MAKE, directory], check=True, timeout=60)
    return made


def connect(broker, trusted):
    """A connection that trusts this authority alone."""
    options = pika.SSLOptions(ssl.create_default_context(cafile=trusted / "ca.pem"), "localhost")
    parameters = pika.ConnectionParameters("127.0.0.1", broker.tls_port, ssl_options=options, heartbeat=0)
    broker.connections.append(pika.BlockingConnection(parameters))
    return broker.connections[-1]


def is_trusted(broker, trusted):
    try:
        connect(broker, trusted).close()
    except ssl.SSLCertVerificationError:
        return False
    return True


def test_another_certificate_is_taken_up_and_open_connections_live_on(start_broker, authorities, tmp_path):
    first, second = authorities
    files = [tmp_path / name for name in ("server.pem", "server.key")]

    def put(directory):
        for file in files:
            shutil.copy(directory / file.name, file)

    put(first)
    paths = ["--tls-certificate", str(files[0]), "--tls-key", str(files[1])]
    broker = start_broker("--amqps-listen", "127.0.0.1:0", "--https-listen", "127.0.0.1:0", *paths)
    channel = connect(broker, first).channel()
    assert not is_trusted(broker, second)
    put(second)
    broker("tls", "reload")
    assert is_trusted(broker, second) and not is_trusted(broker, first)
    # Those that are open keep what they agreed on.
    channel.queue_declare("", exclusive=True)
    # A file that is none changes nothing, and whoever asked is told.
    files[0].write_text("no certificate")
    refused = broker.run("tls", "reload")
    assert refused.returncode != 0 and "server.pem" in refused.stderr, refused
    assert is_trusted(broker, second)
    put(first)
    broker.process.send_signal(signal.SIGHUP)
    until(channel.connection, lambda: is_trusted(broker, first), "the signal to be heard")
    assert channel.connection.is_open and broker.channel().is_open
