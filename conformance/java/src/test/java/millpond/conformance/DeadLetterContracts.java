package millpond.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.Delivery;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Date;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Test;

/** T1-T6 and X1-X5: messages that die, and the types of what they say of it. */
class DeadLetterContracts extends Broker {
    /** An exclusive queue whose dead messages go to `grave`. */
    private static String dyingTo(Channel channel, String grave, Map<String, Object> more) throws IOException {
        Map<String, Object> arguments = new HashMap<>(more);
        arguments.put("x-dead-letter-exchange", "");
        arguments.put("x-dead-letter-routing-key", grave);
        return channel.queueDeclare(unique("dying"), false, true, false, arguments).getQueue();
    }

    /** What comes out of a queue. */
    private static BlockingQueue<Delivery> consume(Channel channel, String queue) throws IOException {
        BlockingQueue<Delivery> came = new LinkedBlockingQueue<>();
        channel.basicConsume(queue, true, (tag, delivery) -> came.add(delivery), tag -> { });
        return came;
    }

    private static Delivery next(BlockingQueue<Delivery> came) throws InterruptedException {
        return came.poll(WAIT_S, TimeUnit.SECONDS);
    }

    @SuppressWarnings("unchecked")
    private static Map<String, Object> firstDeath(Delivery dead) {
        return ((List<Map<String, Object>>) dead.getProperties().getHeaders().get("x-death")).get(0);
    }

    @Test
    @DisplayName("X1-X3 a rejected message says why, where, how often (a Long) and when (a Date)")
    void rejected() throws Exception {
        Channel channel = open();
        String grave = queue(channel);
        String work = dyingTo(channel, grave, Map.of());
        put(channel, "", work, "unwanted");
        channel.basicReject(channel.basicGet(work, false).getEnvelope().getDeliveryTag(), false);
        Delivery dead = next(consume(channel, grave));
        assertEquals("unwanted", text(dead.getBody()));
        assertFalse(dead.getEnvelope().isRedeliver());
        Map<String, Object> death = firstDeath(dead);
        assertEquals(1L, death.get("count"));
        assertEquals(Date.class, death.get("time").getClass());
        assertEquals("rejected", death.get("reason").toString());
        assertEquals(work, death.get("queue").toString());
        assertEquals("", death.get("exchange").toString());
        assertEquals("[" + work + "]", death.get("routing-keys").toString());
    }

    @Test
    @DisplayName("T1, X5 an expired message loses its expiration and says what it was")
    void expired() throws Exception {
        Channel channel = open();
        String grave = queue(channel);
        String work = dyingTo(channel, grave, Map.of("x-message-ttl", 3_600_000));
        AMQP.BasicProperties mortal = new AMQP.BasicProperties.Builder().expiration("20").build();
        channel.basicPublish("", work, mortal, bytes("brief"));
        Delivery dead = next(consume(channel, grave));
        assertNull(dead.getProperties().getExpiration());
        assertEquals("20", firstDeath(dead).get("original-expiration").toString());
        assertEquals("expired", firstDeath(dead).get("reason").toString());
    }

    @Test
    @DisplayName("T4, T5 over the length the oldest goes, or the newest is nacked")
    void length() throws Exception {
        Channel channel = open();
        String grave = queue(channel);
        String dropping = dyingTo(channel, grave, Map.of("x-max-length", 2));
        put(channel, "", dropping, "a", "b", "c");
        assertEquals("maxlen", firstDeath(next(consume(channel, grave))).get("reason").toString());
        assertEquals(List.of("b", "c"), drain(channel, dropping));

        String refusing = dyingTo(channel, grave, Map.of("x-max-length", 1, "x-overflow", "reject-publish"));
        Channel confirming = channel.getConnection().createChannel();
        confirming.confirmSelect();
        List<Boolean> taken = new ArrayList<>();
        for (String body : List.of("kept", "refused")) {
            confirming.basicPublish("", refusing, null, bytes(body));
            taken.add(confirming.waitForConfirms(TimeUnit.SECONDS.toMillis(WAIT_S)));
        }
        assertEquals(List.of(true, false), taken);
        assertEquals(List.of("kept"), drain(channel, refusing));
    }

    @Test
    @DisplayName("T6 a priority queue delivers the most urgent first, and within one priority the oldest")
    void priorities() throws Exception {
        Channel channel = open();
        Map<String, Object> arguments = Map.of("x-max-priority", 9);
        String queue = channel.queueDeclare(unique("urgent"), false, true, false, arguments).getQueue();
        for (String message : List.of("a1", "b9", "c1", "d5")) {
            int priority = message.charAt(1) - '0';
            AMQP.BasicProperties urgent = new AMQP.BasicProperties.Builder().priority(priority).build();
            channel.basicPublish("", queue, urgent, bytes(message));
        }
        // On the same channel, so after the publishes.
        assertEquals(List.of("b9", "d5", "a1", "c1"), drain(channel, queue));
    }

    @Test
    @DisplayName("probed: wrong limits are a 406")
    void wrong() throws Exception {
        Connection connection = connect();
        for (Map<String, Object> arguments : List.<Map<String, Object>>of(
                Map.of("x-expires", 0), Map.of("x-message-ttl", -1), Map.of("x-overflow", "burst"),
                Map.of("x-max-priority", 256), Map.of("x-dead-letter-routing-key", "alone"))) {
            closesChannel(406, connection, c -> c.queueDeclare(unique("wrong"), false, true, false, arguments));
        }
    }
}
