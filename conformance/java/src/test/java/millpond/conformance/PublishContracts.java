package millpond.conformance;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.LongString;
import com.rabbitmq.client.MessageProperties;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Date;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** P1-P7: confirms as this client listens to them, returns, transactions, and every header type it can write. */
class PublishContracts extends Broker {
    private static final long WAIT_MS = TimeUnit.SECONDS.toMillis(WAIT_S);

    @Test
    @DisplayName("P1 immediate publishing closes the connection with 540")
    void immediate() throws Exception {
        closesConnection(540, c -> c.basicPublish("amq.direct", "key", false, true, null, bytes("x")));
    }

    @Test
    @DisplayName("P1 waitForConfirmsOrDie fails when the channel dies of a publish to a missing exchange")
    void missingExchange() throws Exception {
        Channel channel = open();
        channel.confirmSelect();
        channel.basicPublish(unique("missing"), "key", null, bytes("x"));
        assertEquals(404, replyCode(refusal(() -> channel.waitForConfirmsOrDie(WAIT_MS))));
    }

    @Test
    @DisplayName("P2 the client may claim only its own user id")
    void userId() throws Exception {
        Connection connection = connect();
        AMQP.BasicProperties forged = new AMQP.BasicProperties.Builder().userId("somebody").build();
        closesChannel(406, connection, c -> c.basicPublish("", "nobody", forged, bytes("x")));
    }

    @Test
    @DisplayName("P4 the return listener hears of an unroutable message before the confirm listener")
    void returnBeforeAck() throws Exception {
        Channel channel = open();
        channel.confirmSelect();
        List<String> heard = Collections.synchronizedList(new ArrayList<>());
        CompletableFuture<Void> acked = new CompletableFuture<>();
        channel.addReturnListener(returned -> heard.add("return " + returned.getReplyCode() + " "
                + returned.getReplyText() + " " + text(returned.getBody()) + " " + returned.getProperties().getMessageId()));
        channel.addConfirmListener((tag, multiple) -> {
            heard.add("ack " + tag);
            acked.complete(null);
        }, (tag, multiple) -> heard.add("nack " + tag));
        AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().messageId("m-1").build();
        channel.basicPublish("", unique("nobody"), true, properties, bytes("come back"));
        acked.get(WAIT_S, TimeUnit.SECONDS);
        assertEquals(List.of("return 312 NO_ROUTE come back m-1", "ack 1"), heard);
    }

    @Test
    @DisplayName("P5 asynchronous confirms settle every sequence number once, singly or multiple")
    void asynchronousConfirms() throws Exception {
        Channel channel = open();
        String queue = queue(channel);
        channel.confirmSelect();
        int count = 5000;
        ConcurrentSkipListMap<Long, String> outstanding = new ConcurrentSkipListMap<>();
        List<Long> unknown = Collections.synchronizedList(new ArrayList<>());
        CompletableFuture<Void> all = new CompletableFuture<>();
        Object lock = new Object();
        int[] settled = {0};
        channel.addConfirmListener((tag, multiple) -> {
            synchronized (lock) {
                Map<Long, String> confirmed = multiple ? outstanding.headMap(tag, true) : outstanding.subMap(tag, true, tag, true);
                if (confirmed.isEmpty()) {
                    unknown.add(tag);
                }
                settled[0] += confirmed.size();
                confirmed.clear();
                if (settled[0] == count) {
                    all.complete(null);
                }
            }
        }, (tag, multiple) -> all.completeExceptionally(new AssertionError("nack of " + tag)));
        for (int i = 0; i < count; i++) {
            long sequence = channel.getNextPublishSeqNo();
            assertEquals(i + 1, sequence);
            outstanding.put(sequence, "body " + i);
            channel.basicPublish("", queue, i % 2 == 0 ? MessageProperties.PERSISTENT_BASIC : null, bytes("body " + i));
        }
        all.get(WAIT_S, TimeUnit.SECONDS);
        assertTrue(outstanding.isEmpty());
        assertEquals(List.of(), unknown, "settled twice or never sent");
        assertEquals(count, channel.messageCount(queue));
    }

    @Test
    @DisplayName("P5 eight threads with a channel each on one connection all get their confirms")
    void manyChannels() throws Exception {
        Channel owner = open();
        String queue = queue(owner);
        ExecutorService threads = Executors.newFixedThreadPool(8);
        List<Future<?>> work = new ArrayList<>();
        for (int t = 0; t < 8; t++) {
            work.add(threads.submit(() -> {
                Channel channel = owner.getConnection().createChannel();
                channel.confirmSelect();
                for (int i = 0; i < 250; i++) {
                    channel.basicPublish("", queue, null, new byte[i]);
                    if (i % 50 == 49) {
                        channel.waitForConfirmsOrDie(WAIT_MS);
                    }
                }
                channel.close();
                return null;
            }));
        }
        for (Future<?> one : work) {
            one.get(WAIT_S, TimeUnit.SECONDS);
        }
        threads.shutdown();
        assertEquals(2000, owner.messageCount(queue));
    }

    @Test
    @DisplayName("P5 tx and confirms exclude each other with 406, so does tx.commit without tx.select")
    void mixedModes() throws Exception {
        Connection connection = connect();
        closesChannel(406, connection, c -> {
            c.txSelect();
            c.confirmSelect();
        });
        closesChannel(406, connection, c -> {
            c.confirmSelect();
            c.txSelect();
        });
        closesChannel(406, connection, Channel::txCommit);
        closesChannel(406, connection, Channel::txRollback);
    }

    @Test
    @DisplayName("P7 what is published in a transaction is seen after the commit, never after a rollback")
    void transactionPublishes() throws Exception {
        Channel channel = open();
        String first = queue(channel);
        String second = queue(channel);
        Channel observer = channel.getConnection().createChannel();
        channel.txSelect();
        channel.basicPublish("", first, null, bytes("one"));
        channel.basicPublish("", second, null, bytes("two"));
        channel.txRollback();
        channel.basicPublish("", first, null, bytes("three"));
        channel.basicPublish("", second, null, bytes("four"));
        assertEquals(0, observer.messageCount(first) + observer.messageCount(second));
        channel.txCommit();
        assertEquals(List.of("three"), drain(observer, first));
        assertEquals(List.of("four"), drain(observer, second));
    }

    @Test
    @DisplayName("P7 acks of a transaction count after the commit; a rollback keeps the messages unacked, not redelivered")
    void transactionAcks() throws Exception {
        Channel channel = open();
        String queue = queue(channel);
        put(channel, "", queue, "one", "two");
        channel.txSelect();
        long first = channel.basicGet(queue, false).getEnvelope().getDeliveryTag();
        channel.basicAck(first, false);
        channel.txRollback();
        assertEquals(1, channel.messageCount(queue), "not put back by the rollback");
        channel.basicAck(first, false);
        channel.txCommit();
        long second = channel.basicGet(queue, false).getEnvelope().getDeliveryTag();
        channel.basicAck(second, false);
        Connection connection = channel.getConnection();
        channel.close();
        GetResponse again = connection.createChannel().basicGet(queue, true);
        assertNotNull(again, "an ack without its commit does not count");
        assertEquals("two", text(again.getBody()));
        assertTrue(again.getEnvelope().isRedeliver());
    }

    @Test
    @DisplayName("P5 headers of every type this client can write arrive with that type")
    void headerTypes() throws Exception {
        Channel channel = open();
        String queue = queue(channel);
        Map<String, Object> sent = new LinkedHashMap<>();
        sent.put("boolean", true);
        sent.put("byte", (byte) -5);
        sent.put("short", (short) -300);
        sent.put("int", -70_000);
        sent.put("long", Long.MIN_VALUE);
        sent.put("float", 1.5f);
        sent.put("double", Math.PI);
        sent.put("decimal", new BigDecimal("12.345"));
        sent.put("date", new Date(1_700_000_000_000L));
        sent.put("bytes", new byte[] {0, -1, 2});
        sent.put("null", null);
        sent.put("list", List.of(1, 2L, true));
        sent.put("table", new HashMap<>(Map.of("inner", Map.of("deep", 1))));
        channel.basicPublish("", queue, new AMQP.BasicProperties.Builder().headers(sent).build(), bytes("x"));
        Map<String, Object> got = channel.basicGet(queue, true).getProps().getHeaders();
        assertEquals(sent.keySet(), got.keySet());
        for (Map.Entry<String, Object> header : sent.entrySet()) {
            Object value = got.get(header.getKey());
            if (header.getValue() instanceof byte[] bytes) {
                assertArrayEquals(bytes, (byte[]) value, header.getKey());
            } else if (header.getValue() == null) {
                assertNull(value, header.getKey());
            } else {
                assertEquals(header.getValue(), value, header.getKey());
            }
        }
    }

    @Test
    @DisplayName("P5 text headers arrive as long strings, with every character")
    void textHeaders() throws Exception {
        Channel channel = open();
        String queue = queue(channel);
        String words = "Wassermühle 水車 " + "x".repeat(70_000);
        channel.basicPublish("", queue, new AMQP.BasicProperties.Builder().headers(Map.of("words", words)).build(),
                bytes("x"));
        LongString got = (LongString) channel.basicGet(queue, true).getProps().getHeaders().get("words");
        assertEquals(words, got.toString());
    }

    @ParameterizedTest(name = "P5 a body of {0} bytes arrives as it was sent")
    @ValueSource(ints = {0, 131_064, 131_065, 1_000_000, 16_000_000})
    void bodies(int size) throws Exception {
        Channel channel = open();
        String queue = queue(channel);
        byte[] body = new byte[size];
        for (int i = 0; i < size; i++) {
            body[i] = (byte) (i % 251);
        }
        channel.basicPublish("", queue, MessageProperties.MINIMAL_PERSISTENT_BASIC, body);
        GetResponse got = channel.basicGet(queue, true);
        assertArrayEquals(body, got.getBody());
        assertEquals(2, got.getProps().getDeliveryMode());
    }
}
