"""Programs written for pika before 1.0, as many tutorials still have them."""

import uuid

import pika
import pytest


@pytest.fixture
def connection(url):
    opened = pika.BlockingConnection(pika.URLParameters(url))
    yield opened
    if opened.is_open:
        opened.close()


@pytest.fixture
def channel(connection):
    return connection.channel()


def test_this_is_the_old_pika():
    assert pika.__version__ == "0.13.1"


def test_the_old_hello_world_with_callback_first_and_no_ack(url, name):
    queue, got = name("hello"), []
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.queue_declare(queue=queue)
    channel.basic_publish(exchange='', routing_key=queue, body='Hello World!')
    connection.close()

    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.queue_declare(queue=queue)

    def callback(ch, method, properties, body):
        got.append(body)
        ch.stop_consuming()

    channel.basic_consume(callback, queue=queue, no_ack=True)
    channel.start_consuming()
    connection.close()
    assert got == [b"Hello World!"]


def test_connection_parameters_with_a_host_name_alone_work_where_the_port_is_the_default(address, name):
    credentials = pika.PlainCredentials(address.user, address.password)
    connection = pika.BlockingConnection(
        pika.ConnectionParameters(host=address.host, port=address.port, credentials=credentials))
    connection.channel().queue_declare(queue=name())
    connection.close()


def test_the_old_worker_acks_and_asks_for_one_task_at_a_time(channel, name):
    queue, got = name("task_queue"), []
    channel.queue_declare(queue=queue, durable=True)
    for n in range(5):
        channel.basic_publish(exchange='', routing_key=queue, body=str(n),
                              properties=pika.BasicProperties(delivery_mode=2))

    def callback(ch, method, properties, body):
        got.append(body)
        ch.basic_ack(delivery_tag=method.delivery_tag)
        if len(got) == 5:
            ch.stop_consuming()

    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(callback, queue=queue)
    channel.start_consuming()
    assert got == [b"0", b"1", b"2", b"3", b"4"]
    assert channel.queue_declare(queue=queue, passive=True).method.message_count == 0


@pytest.mark.parametrize("kind, key, sent, expected", [
    ("fanout", "", ["", "any"], [b"", b"any"]),
    ("direct", "error", ["info", "error"], [b"error"]),
    ("topic", "kern.*", ["kern.info", "auth.info", "kern.a.b"], [b"kern.info"]),
])
def test_the_old_logs_with_a_server_named_exclusive_queue(channel, name, kind, key, sent, expected):
    exchange, got = name("logs"), []
    channel.exchange_declare(exchange=exchange, exchange_type=kind)
    queue_name = channel.queue_declare(exclusive=True).method.queue
    assert queue_name.startswith("amq.gen-")
    channel.queue_bind(exchange=exchange, queue=queue_name, routing_key=key)
    for routing_key in sent:
        channel.basic_publish(exchange=exchange, routing_key=routing_key, body=routing_key)

    def callback(ch, method, properties, body):
        got.append(body)
        if len(got) == len(expected):
            ch.stop_consuming()

    channel.basic_consume(callback, queue=queue_name, no_ack=True)
    channel.start_consuming()
    assert got == expected


def test_the_old_rpc_client_and_server(connection, name):
    requests, answers = name("rpc_queue"), {}
    server, client = connection.channel(), connection.channel()
    server.queue_declare(queue=requests)

    def on_request(ch, method, props, body):
        ch.basic_publish(exchange='', routing_key=props.reply_to, body=str(int(body) * 2),
                         properties=pika.BasicProperties(correlation_id=props.correlation_id))
        ch.basic_ack(delivery_tag=method.delivery_tag)

    server.basic_qos(prefetch_count=1)
    server.basic_consume(on_request, queue=requests)
    callback_queue = client.queue_declare(exclusive=True).method.queue

    def on_response(ch, method, props, body):
        answers[props.correlation_id] = body

    client.basic_consume(on_response, no_ack=True, queue=callback_queue)
    corr_id = str(uuid.uuid4())
    client.basic_publish(exchange='', routing_key=requests, body="21",
                         properties=pika.BasicProperties(reply_to=callback_queue, correlation_id=corr_id))
    for _ in range(100):
        if corr_id in answers:
            break
        connection.process_data_events(time_limit=0.2)
    assert answers == {corr_id: b"42"}


def test_confirm_delivery_returns_whether_the_broker_took_the_message(channel, name):
    queue = name()
    channel.queue_declare(queue=queue)
    channel.confirm_delivery()
    assert channel.basic_publish('', queue, 'x', mandatory=True) is True
    assert channel.basic_publish('', name(), 'x', mandatory=True) is False


def test_basic_get_and_reject(channel, name):
    queue = name()
    channel.queue_declare(queue=queue)
    channel.basic_publish('', queue, 'x')
    method, _, body = channel.basic_get(queue)
    channel.basic_reject(method.delivery_tag, requeue=True)
    method, _, body = channel.basic_get(queue)
    assert (body, method.redelivered) == (b"x", True)
    channel.basic_ack(method.delivery_tag)


def test_a_passive_declare_of_a_missing_queue_closes_the_channel_with_404(channel, name):
    with pytest.raises(pika.exceptions.ChannelClosed) as closed:
        channel.queue_declare(queue=name(), passive=True)
    assert closed.value.args[0] == 404


def test_frames_of_4096_bytes_carry_a_large_body(url, name):
    parameters = pika.URLParameters(url)
    parameters.frame_max = 4096
    connection, queue, body = pika.BlockingConnection(parameters), name(), b"0123456789" * 50000
    channel = connection.channel()
    channel.queue_declare(queue=queue)
    channel.basic_publish('', queue, body)
    assert channel.basic_get(queue, no_ack=True)[2] == body
    connection.close()
