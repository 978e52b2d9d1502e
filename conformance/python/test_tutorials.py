"""The six classic tutorials with pika 1.x, as users write them."""

import threading
import uuid

import pika
import pytest

from support import Sink, bodies_in_order, declare, drain, publish, until


def test_tutorial_1_hello_world(url, name):
    queue, got = name(), []
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.queue_declare(queue=queue)
    channel.basic_publish(exchange="", routing_key=queue, body="Hello World!")
    connection.close()

    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.queue_declare(queue=queue)

    def callback(ch, method, properties, body):
        got.append(body)
        ch.stop_consuming()

    channel.basic_consume(queue=queue, on_message_callback=callback, auto_ack=True)
    channel.start_consuming()
    connection.close()
    assert got == [b"Hello World!"]


def test_tutorial_2_work_queues_hand_tasks_out_in_strict_turns(connect, name):
    queue = name()
    workers = []
    for _ in range(2):
        channel = connect().channel()
        channel.queue_declare(queue=queue, durable=True)
        workers.append(Sink(channel, queue))
    producer = connect().channel()
    for n in range(10):
        producer.basic_publish("", queue, str(n), pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent))
    for worker in workers:
        for delivery in worker.wait(5):
            worker.channel.basic_ack(delivery.tag)
    assert sorted(worker.bodies for worker in workers) == [list("02468"), list("13579")]


def test_tutorial_2_fair_dispatch_gives_the_next_task_to_the_worker_that_is_free(connect, name):
    queue, producer = name(), connect().channel()
    producer.queue_declare(queue=queue, durable=True)
    workers = []
    for _ in range(2):
        channel = connect().channel()
        channel.basic_qos(prefetch_count=1)
        workers.append(Sink(channel, queue))
    for n in range(6):
        producer.basic_publish("", queue, str(n))
    slow, quick = workers
    slow.wait(1)
    for n in range(1, 6):
        quick.channel.basic_ack(quick.wait(n)[-1].tag)
    assert (slow.bodies, quick.bodies) == (["0"], bodies_in_order(6)[1:])


def test_tutorial_2_the_task_of_a_worker_that_dies_goes_to_another(connect, name):
    queue, producer = name(), connect().channel()
    producer.queue_declare(queue=queue, durable=True)
    dying = connect()
    first = Sink(dying.channel(), queue)
    producer.basic_publish("", queue, "task")
    first.wait(1)
    second = Sink(connect().channel(), queue)
    dying.close()
    assert [(d.body, d.redelivered) for d in second.wait(1)] == [("task", True)]


def test_tutorial_3_publish_subscribe(connect, name):
    exchange, producer, logs = name("logs"), connect().channel(), []
    producer.exchange_declare(exchange=exchange, exchange_type="fanout")
    producer.basic_publish(exchange=exchange, routing_key="", body="nobody is listening yet")
    for _ in range(2):
        channel = connect().channel()
        queue = channel.queue_declare(queue="", exclusive=True).method.queue
        channel.queue_bind(exchange=exchange, queue=queue)
        logs.append(Sink(channel, queue, auto_ack=True))
    producer.basic_publish(exchange=exchange, routing_key="", body="info: Hello World!")
    for log in logs:
        log.wait(1)
        assert log.bodies == ["info: Hello World!"]


def test_tutorial_4_routing(connect, name):
    exchange, producer, logs = name("direct_logs"), connect().channel(), []
    producer.exchange_declare(exchange=exchange, exchange_type="direct")
    for severities in (["error"], ["info", "warning", "error"]):
        channel = connect().channel()
        queue = channel.queue_declare(queue="", exclusive=True).method.queue
        for severity in severities:
            channel.queue_bind(exchange=exchange, queue=queue, routing_key=severity)
        logs.append(Sink(channel, queue, auto_ack=True))
    for severity in ("info", "error", "debug", "warning"):
        producer.basic_publish(exchange=exchange, routing_key=severity, body=severity)
    logs[0].wait(1)
    logs[1].wait(3)
    assert [log.bodies for log in logs] == [["error"], ["info", "error", "warning"]]


def test_tutorial_5_topics(connect, name):
    exchange, producer, logs = name("topic_logs"), connect().channel(), {}
    producer.exchange_declare(exchange=exchange, exchange_type="topic")
    for key in ("#", "kern.*", "*.critical"):
        channel = connect().channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(exchange=exchange, queue=queue, routing_key=key)
        logs[key] = Sink(channel, queue, auto_ack=True)
    for key in ("kern.critical", "kern.info", "auth.critical", "auth.info"):
        producer.basic_publish(exchange=exchange, routing_key=key, body=key)
    for key, count in (("#", 4), ("kern.*", 2), ("*.critical", 2)):
        logs[key].wait(count)
    assert logs["kern.*"].bodies == ["kern.critical", "kern.info"]
    assert logs["*.critical"].bodies == ["kern.critical", "auth.critical"]


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def serve_fibonacci(url, queue, ready):
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.queue_declare(queue=queue)

    def on_request(ch, method, props, body):
        if body == b"stop":
            ch.basic_ack(delivery_tag=method.delivery_tag)
            return ch.stop_consuming()
        ch.basic_publish(exchange="", routing_key=props.reply_to, body=str(fib(int(body))),
                         properties=pika.BasicProperties(correlation_id=props.correlation_id))
        ch.basic_ack(delivery_tag=method.delivery_tag)

    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(queue=queue, on_message_callback=on_request)
    ready.set()
    channel.start_consuming()
    connection.close()


@pytest.mark.parametrize("callback", ["server-named-queue", "amq.rabbitmq.reply-to"])
def test_tutorial_6_rpc(url, connection, name, callback):
    requests, ready, answers = name("rpc_queue"), threading.Event(), {}
    server = threading.Thread(target=serve_fibonacci, args=(url, requests, ready), daemon=True)
    server.start()
    assert ready.wait(10)
    channel = connection.channel()
    if callback == "server-named-queue":
        callback = channel.queue_declare(queue="", exclusive=True).method.queue
    channel.basic_consume(callback, lambda _ch, _m, props, body: answers.update({props.correlation_id: body}),
                          auto_ack=True)
    for n in (5, 10, 15):
        corr_id = str(uuid.uuid4())
        channel.basic_publish("", requests, str(n),
                              pika.BasicProperties(reply_to=callback, correlation_id=corr_id))
        until(connection, lambda: corr_id in answers, "the answer")
        assert int(answers[corr_id]) == fib(n)
    channel.basic_publish("", requests, "stop")
    server.join(10)
    assert not server.is_alive()


def test_publisher_confirms_one_by_one(channel, name):
    queue = declare(channel, name(), durable=True)
    channel.confirm_delivery()
    for n in range(50):
        publish(channel, queue, n, delivery_mode=2, mandatory=True)
    assert drain(channel, queue) == bodies_in_order(50)


def test_publisher_confirms_tell_of_unroutable_messages(channel, name):
    channel.confirm_delivery()
    with pytest.raises(pika.exceptions.UnroutableError) as unroutable:
        publish(channel, name(), "lost", mandatory=True)
    assert [message.body for message in unroutable.value.messages] == [b"lost"]


def test_consume_as_a_generator(channel, name):
    queue, got = declare(channel, name()), []
    for n in range(5):
        publish(channel, queue, n)
    for method, _properties, body in channel.consume(queue, inactivity_timeout=10):
        assert method, "a message in time"
        got.append(body.decode())
        channel.basic_ack(method.delivery_tag)
        if len(got) == 5:
            break
    assert (channel.cancel(), got) == (0, bodies_in_order(5))


def test_pikas_own_heartbeats_keep_an_idle_connection(connect):
    connection = connect(heartbeat=1)
    connection.process_data_events(time_limit=4)
    connection.channel().close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_probed_local_clients_may_come_by_any_loopback_name(connect, address, host):
    if address.host not in ("127.0.0.1", "localhost", "::1"):
        pytest.skip("the broker is on another machine")
    try:
        connect(host=host).channel().close()
    except pika.exceptions.AMQPConnectionError:
        if host == "::1":
            pytest.skip("the broker was not told to listen on ::1")
        raise
