"""`millpond shutdown --drain`: consumers settle what they hold, others are told at once."""

import contextlib
import subprocess
import threading

import pika
import pytest
from own_broker import BINARY, PATIENCE_S


@pytest.fixture
def drained(broker):
    """Begins a drain beside the test; a process to wait for."""
    started = []

    def begin(timeout="60s"):
        words = [BINARY, "shutdown", "--drain", "--drain-timeout", timeout, "--data-dir", broker.data_dir]
        started.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
        assert started[0].stdout.readline() == "the broker is draining\n"
        return started[0]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def test_a_consumer_settles_and_publishes_what_comes_of_it(broker, drained):
    idle, worker = broker.connect(), broker.channel()
    worker.queue_declare("work", durable=True)
    worker.queue_declare("results", durable=True)
    worker.confirm_delivery()
    worker.basic_qos(prefetch_count=1)
    for body in (b"1", b"2"):
        worker.basic_publish("", "work", body, pika.BasicProperties(delivery_mode=2), mandatory=True)
    consumed = worker.consume("work", inactivity_timeout=PATIENCE_S)
    method, _, body = next(consumed)
    assert body == b"1"

    process = drained()
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as told:
        idle.process_data_events(time_limit=PATIENCE_S)
    assert told.value.reply_code == 320
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        broker.connect()

    worker.basic_publish("", "results", b"one", pika.BasicProperties(delivery_mode=2), mandatory=True)
    worker.basic_ack(method.delivery_tag)
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as told:
        next(consumed)
    assert told.value.reply_code == 320
    assert process.wait(PATIENCE_S) == 0
    assert broker.process.wait(PATIENCE_S) == 0

    broker.start()
    queues = {line.split()[0]: line.split()[2] for line in broker("queues", "list").splitlines()[1:]}
    assert queues == {"work": "1", "results": "1"}


def test_who_does_not_settle_in_time_loses_nothing(broker, drained):
    worker = broker.channel()
    worker.queue_declare("work", durable=True)
    worker.basic_publish("", "work", b"1", pika.BasicProperties(delivery_mode=2))
    method, _, _ = next(worker.consume("work", inactivity_timeout=PATIENCE_S))
    assert method is not None
    reader = threading.Thread(target=hear_the_end, args=(worker.connection,))
    reader.start()
    assert drained("100ms").wait(PATIENCE_S) == 0
    assert broker.process.wait(PATIENCE_S) == 0
    reader.join(PATIENCE_S)
    assert not reader.is_alive()
    broker.start()
    assert broker("queues", "list").splitlines()[1].split()[2] == "1"


def hear_the_end(connection):
    with contextlib.suppress(pika.exceptions.AMQPError):
        connection.process_data_events(time_limit=PATIENCE_S)
