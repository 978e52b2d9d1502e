package millpond.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.RpcClient;
import com.rabbitmq.client.RpcClientParams;
import com.rabbitmq.client.ShutdownSignalException;
import com.rabbitmq.client.StringRpcServer;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Test;

/** A1-A4, A6-A10, A14: deliveries and what may be said about them. */
class ConsumeContracts extends Broker {
    private static String[] numbers(int count) {
        return IntStream.range(0, count).mapToObj(Integer::toString).toArray(String[]::new);
    }

    private static BlockingQueue<Delivery> consume(Channel channel, String queue, Map<String, Object> arguments)
            throws IOException {
        BlockingQueue<Delivery> got = new LinkedBlockingQueue<>();
        channel.basicConsume(queue, false, arguments, (tag, delivery) -> got.add(delivery), tag -> { });
        return got;
    }

    private static List<Delivery> take(BlockingQueue<Delivery> from, int count) throws InterruptedException {
        List<Delivery> taken = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            Delivery next = from.poll(WAIT_S, TimeUnit.SECONDS);
            assertNotNull(next, "delivery " + (i + 1) + " of " + count + " did not come");
            taken.add(next);
        }
        return taken;
    }

    private static List<String> bodies(List<Delivery> deliveries) {
        return deliveries.stream().map(d -> text(d.getBody())).toList();
    }

    @Test
    @DisplayName("A1 acking or rejecting a tag that is unknown or was settled closes the channel with 406")
    void unknownTag() throws Exception {
        Channel channel = open();
        Connection connection = channel.getConnection();
        String queue = queue(channel);
        put(channel, "", queue, numbers(3));
        closesChannel(406, connection, c -> c.basicAck(1, false));
        closesChannel(406, connection, c -> c.basicNack(5, true, true));
        closesChannel(406, connection, c -> {
            long tag = c.basicGet(queue, false).getEnvelope().getDeliveryTag();
            c.basicReject(tag, false);
            c.basicAck(tag, false);
        });
    }

    @Test
    @DisplayName("A2 basicQos counts per consumer, with global for the whole channel")
    void prefetch() throws Exception {
        Channel channel = open();
        String first = queue(channel);
        String second = queue(channel);
        put(channel, "", first, numbers(10));
        put(channel, "", second, numbers(10));
        channel.basicQos(2);
        take(consume(channel, first, null), 2);
        take(consume(channel, second, null), 2);
        assertEquals(8, channel.messageCount(first));
        assertEquals(8, channel.messageCount(second));
    }

    @Test
    @DisplayName("A2 a global limit is that of each later consumer, as in RabbitMQ 4.3; those there keep theirs")
    void globalPrefetch() throws Exception {
        Channel channel = open();
        skipOnRabbit(channel.getConnection(), 5, Integer.MAX_VALUE, "before 4.3 the whole channel shared it");
        String first = queue(channel);
        String second = queue(channel);
        channel.basicQos(1);
        BlockingQueue<Delivery> fromFirst = consume(channel, first, null);
        channel.basicQos(3, true);
        BlockingQueue<Delivery> fromSecond = consume(channel, second, null);
        put(channel, "", first, numbers(10));
        put(channel, "", second, numbers(10));
        take(fromFirst, 1);
        take(fromSecond, 3);
        assertEquals(9, channel.messageCount(first));
        assertEquals(7, channel.messageCount(second));
    }

    @Test
    @DisplayName("A2 a prefetch size closes the connection with 540, A9 so does recover(requeue=false)")
    void notImplemented() throws Exception {
        closesConnection(540, c -> c.basicQos(1024, 1, false));
        closesConnection(540, c -> c.basicRecover(false));
    }

    @Test
    @DisplayName("A3 using a consumer tag twice closes the connection with 530")
    void consumerTagReuse() throws Exception {
        closesConnection(530, c -> {
            String queue = queue(c);
            c.basicConsume(queue, true, "same", (tag, delivery) -> { }, tag -> { });
            c.basicConsume(queue, true, "same", (tag, delivery) -> { }, tag -> { });
        });
    }

    @Test
    @DisplayName("A4 an exclusive consumer keeps all others out with 403")
    void exclusiveConsumer() throws Exception {
        Channel channel = open();
        String queue = queue(channel);
        channel.basicConsume(queue, true, "", false, true, null, (tag, delivery) -> { }, tag -> { });
        closesChannel(403, channel.getConnection(), c -> c.basicConsume(queue, (tag, delivery) -> { }, tag -> { }));
    }

    @Test
    @DisplayName("A6 the highest consumer priority is served first; when it is full the next one is")
    void consumerPriority() throws Exception {
        Channel channel = open();
        String queue = queue(channel);
        channel.basicQos(3);
        BlockingQueue<Delivery> low = consume(channel, queue, Map.of("x-priority", 1));
        BlockingQueue<Delivery> high = consume(channel, queue, Map.of("x-priority", 9));
        put(channel, "", queue, numbers(5));
        assertEquals(List.of("0", "1", "2"), bodies(take(high, 3)));
        assertEquals(List.of("3", "4"), bodies(take(low, 2)));
    }

    @Test
    @DisplayName("A7 deleting the queue calls the cancel callback, not the shutdown callback")
    void cancelCallback() throws Exception {
        Channel channel = open();
        String queue = durableQueue(channel);
        CompletableFuture<String> cancelled = new CompletableFuture<>();
        CompletableFuture<ShutdownSignalException> shut = new CompletableFuture<>();
        String tag = channel.basicConsume(queue, (t, delivery) -> { }, cancelled::complete, (t, signal) -> shut.complete(signal));
        channel.getConnection().createChannel().queueDelete(queue);
        assertEquals(tag, cancelled.get(WAIT_S, TimeUnit.SECONDS));
        assertFalse(shut.isDone());
        assertTrue(channel.isOpen());
    }

    @Test
    @DisplayName("A8 messages of a closed channel come back in order and redelivered")
    void closeRequeues() throws Exception {
        Connection connection = connect();
        Channel channel = connection.createChannel();
        String queue = queue(channel);
        put(channel, "", queue, numbers(6));
        channel.basicQos(4);
        take(consume(channel, queue, null), 4);
        channel.close();
        List<Delivery> again = take(consume(connection.createChannel(), queue, null), 6);
        assertEquals(List.of(numbers(6)), bodies(again));
        assertEquals(List.of(true, true, true, true, false, false),
                again.stream().map(d -> d.getEnvelope().isRedeliver()).toList());
    }

    @Test
    @DisplayName("A8 basicNack multiple requeues all up to the tag")
    void nackMultiple() throws Exception {
        Channel channel = open();
        String queue = queue(channel);
        put(channel, "", queue, numbers(4));
        List<Long> tags = new ArrayList<>();
        for (int i = 0; i < 4; i++) {
            tags.add(channel.basicGet(queue, false).getEnvelope().getDeliveryTag());
        }
        channel.basicNack(tags.get(2), true, true);
        assertEquals(List.of("0", "1", "2"), drain(channel, queue));
        channel.basicReject(tags.get(3), true);
        assertEquals(List.of("3"), drain(channel, queue));
    }

    @Test
    @DisplayName("A9 basicRecover delivers all that is unacked once more")
    void recover() throws Exception {
        Channel channel = open();
        String queue = queue(channel);
        put(channel, "", queue, numbers(3));
        BlockingQueue<Delivery> got = consume(channel, queue, null);
        take(got, 3);
        channel.basicRecover();
        List<Delivery> again = take(got, 3);
        assertEquals(List.of("0", "1", "2"), bodies(again));
        assertTrue(again.stream().allMatch(d -> d.getEnvelope().isRedeliver()));
        assertEquals(4, again.get(0).getEnvelope().getDeliveryTag());
    }

    @Test
    @DisplayName("A10 basicGet tells how many are left, and null when none is")
    void get() throws Exception {
        Channel channel = open();
        String queue = queue(channel);
        assertNull(channel.basicGet(queue, true));
        put(channel, "", queue, numbers(2));
        GetResponse first = channel.basicGet(queue, true);
        assertEquals(1, first.getMessageCount());
        assertEquals("", first.getEnvelope().getExchange());
        assertEquals(queue, first.getEnvelope().getRoutingKey());
    }

    @Test
    @DisplayName("A14 RpcClient over direct reply-to gets each answer from an RpcServer")
    void rpc() throws Exception {
        Channel server = open();
        String service = queue(server);
        Thread serving = new Thread(() -> serve(server, service));
        serving.start();
        Channel channel = open();
        RpcClient client = new RpcClient(new RpcClientParams().channel(channel).exchange("").routingKey(service)
                .timeout((int) TimeUnit.SECONDS.toMillis(WAIT_S)));
        for (String word : List.of("mill", "pond", "水")) {
            assertEquals("<" + word + ">", client.stringCall(word));
        }
        client.close();
        server.getConnection().close();
        serving.join(TimeUnit.SECONDS.toMillis(WAIT_S));
    }

    @Test
    @DisplayName("A14 a second reply-to consumer on the channel, or one that wants to ack, is a 406")
    void replyToRules() throws Exception {
        Connection connection = connect();
        String replyTo = "amq.rabbitmq.reply-to";
        closesChannel(406, connection, c -> c.basicConsume(replyTo, false, (tag, delivery) -> { }, tag -> { }));
        closesChannel(406, connection, c -> {
            c.basicConsume(replyTo, true, (tag, delivery) -> { }, tag -> { });
            c.basicConsume(replyTo, true, (tag, delivery) -> { }, tag -> { });
        });
        AMQP.BasicProperties asking = new AMQP.BasicProperties.Builder().replyTo(replyTo).build();
        closesChannel(406, connection, c -> c.basicPublish("", "nobody", asking, bytes("x")));
    }

    private static void serve(Channel channel, String queue) {
        try {
            new StringRpcServer(channel, queue) {
                @Override
                public String handleStringCall(String request, AMQP.BasicProperties replyProperties) {
                    return "<" + request + ">";
                }
            }.mainloop();
        } catch (IOException | ShutdownSignalException closed) {
            // The test closes the connection when it has its answers.
        }
    }
}
