"""What programs with aio-pika rely on."""

import asyncio
import functools

import aio_pika
import aiormq.exceptions
import pytest

PATIENCE_S = 30


def with_channel(confirms=True):
    """Runs an asynchronous test with an open connection and channel."""

    def wrap(test):
        # The names pytest reads are those of the fixtures, not of the test's own parameters.
        def run(url, name):
            async def body():
                connection = await aio_pika.connect(url)
                async with connection:
                    channel = await connection.channel(publisher_confirms=confirms)
                    await test(connection, channel, name)

            asyncio.run(asyncio.wait_for(body(), PATIENCE_S))

        functools.update_wrapper(run, test)
        del run.__wrapped__
        return run

    return wrap


def message(body, **properties):
    return aio_pika.Message(str(body).encode(), **properties)


async def take(queue, count, **consume):
    """The bodies of so many messages, acked one by one."""
    bodies = []
    async with queue.iterator(**consume) as messages:
        async for incoming in messages:
            async with incoming.process():
                bodies.append(incoming.body.decode())
            if len(bodies) == count:
                return bodies


@with_channel()
async def test_hello_world_and_the_queue_iterator(_connection, channel, name):
    queue = await channel.declare_queue(name(), durable=True)
    for n in range(20):
        await channel.default_exchange.publish(
            message(n, delivery_mode=aio_pika.DeliveryMode.PERSISTENT), routing_key=queue.name)
    assert await take(queue, 20) == [str(n) for n in range(20)]
    assert (await channel.declare_queue(queue.name, passive=True)).declaration_result.message_count == 0


@with_channel()
async def test_P5_many_publishes_at_once_are_all_confirmed(_connection, channel, name):
    queue = await channel.declare_queue(name(), durable=True)
    confirms = await asyncio.gather(*(
        channel.default_exchange.publish(message(n, delivery_mode=2), routing_key=queue.name)
        for n in range(300)))
    assert all(type(confirm).__name__ == "Ack" for confirm in confirms)
    assert (await queue.purge()).message_count == 300


@with_channel()
async def test_P4_an_unroutable_mandatory_message_is_returned_to_the_publisher(_connection, channel, name):
    returned = await channel.default_exchange.publish(message("x"), routing_key=name(), mandatory=True)
    assert returned is None or returned.delivery.reply_code == 312


@pytest.mark.parametrize("kind, bindings, sent, expected", [
    ("fanout", [""], ["a", "b"], ["a", "b"]),
    ("direct", ["a"], ["a", "b"], ["a"]),
    ("topic", ["a.*", "#.z"], ["a.b", "b.c", "x.y.z"], ["a.b", "x.y.z"]),
])
def test_exchanges_route(url, name, kind, bindings, sent, expected):
    @with_channel()
    async def run(_connection, channel, name):
        exchange = await channel.declare_exchange(name("x"), kind)
        queue = await channel.declare_queue(exclusive=True)
        for key in bindings:
            await queue.bind(exchange, key)
        for key in sent:
            await exchange.publish(message(key), routing_key=key, mandatory=False)
        assert await take(queue, len(expected)) == expected
        await exchange.delete()

    run(url, name)


@with_channel()
async def test_tutorial_6_rpc_over_direct_reply_to(connection, channel, name):
    requests = await channel.declare_queue(name())
    server = await connection.channel()

    async def answer(request):
        async with request.process():
            await server.default_exchange.publish(
                message(int(request.body) ** 2, correlation_id=request.correlation_id),
                routing_key=request.reply_to)

    await (await server.get_queue(requests.name)).consume(answer)
    replies = asyncio.Queue()
    reply_queue = await channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
    await reply_queue.consume(replies.put, no_ack=True)
    for n in range(10):
        await channel.default_exchange.publish(
            message(n, reply_to="amq.rabbitmq.reply-to", correlation_id=str(n)), routing_key=requests.name)
        reply = await replies.get()
        assert (reply.correlation_id, int(reply.body)) == (str(n), n * n)


@with_channel()
async def test_A2_prefetch_holds_back_messages(_connection, channel, name):
    queue = await channel.declare_queue(name())
    for n in range(5):
        await channel.default_exchange.publish(message(n), routing_key=queue.name)
    await channel.set_qos(prefetch_count=2)
    got = asyncio.Queue()
    await queue.consume(got.put)
    first, second = await got.get(), await got.get()
    assert (await channel.declare_queue(queue.name, passive=True)).declaration_result.message_count == 3
    assert got.empty()
    await first.ack()
    assert (await got.get()).body == b"2"
    await second.nack(requeue=True)
    again = await got.get()
    assert (again.body, again.redelivered) == (b"1", True)


@with_channel(confirms=False)
async def test_P7_transactions_commit_and_roll_back(_connection, channel, name):
    queue = await channel.declare_queue(name())
    transaction = channel.transaction()
    await transaction.select()
    await channel.default_exchange.publish(message("dropped"), routing_key=queue.name)
    await transaction.rollback()
    await channel.default_exchange.publish(message("kept"), routing_key=queue.name)
    await transaction.commit()
    assert (await queue.get(no_ack=True)).body == b"kept"
    assert await queue.get(no_ack=True, fail=False) is None


@with_channel()
async def test_D2_errors_arrive_as_the_exception_of_their_code(connection, channel, name):
    queue = await channel.declare_queue(name())
    with pytest.raises(aiormq.exceptions.ChannelPreconditionFailed):
        await (await connection.channel()).declare_queue(queue.name, durable=True)
    with pytest.raises(aiormq.exceptions.ChannelNotFoundEntity):
        await (await connection.channel()).declare_queue(name(), passive=True)
    with pytest.raises(aiormq.exceptions.ChannelAccessRefused):
        await (await connection.channel()).declare_queue("amq.not-ours")
    await channel.declare_queue(queue.name, passive=True)


@with_channel()
async def test_A7_a_channel_survives_the_deletion_of_the_queue_it_consumes(connection, channel, name):
    queue, other_queue = await channel.declare_queue(name()), await channel.declare_queue(name())

    async def ignore(_message):
        pass

    await queue.consume(ignore)
    other = await connection.channel()
    await (await other.get_queue(queue.name)).delete(if_unused=False, if_empty=False)
    await channel.default_exchange.publish(message("x"), routing_key=other_queue.name)
    assert await take(other_queue, 1) == ["x"]


@with_channel()
async def test_headers_of_all_python_types_come_back(_connection, channel, name):
    headers = {"text": "ü", "number": 7, "big": 1 << 40, "float": 1.5, "true": True, "none": None,
               "list": [1, "two"], "table": {"deep": {"er": 1}}}
    queue = await channel.declare_queue(name())
    await channel.default_exchange.publish(message("x", headers=headers), routing_key=queue.name)
    assert (await queue.get(no_ack=True)).headers == headers


@with_channel()
async def test_a_robust_connection_works_like_another(_connection, channel, name):
    url = str(_connection.url)
    robust = await aio_pika.connect_robust(url)
    async with robust:
        other = await robust.channel()
        queue = await other.declare_queue(name(), auto_delete=True)
        await other.default_exchange.publish(message("x"), routing_key=queue.name)
        assert await take(queue, 1) == ["x"]


@with_channel()
async def test_update_secret_is_answered(connection, channel, name):
    await connection.update_secret(connection.url.password or "guest")
    await channel.declare_queue(name())
