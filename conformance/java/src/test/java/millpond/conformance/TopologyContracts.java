package millpond.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.BuiltinExchangeType;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ShutdownSignalException;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Test;

/** D2-D14: declaring, binding and routing, with the calls only this client has (no-wait, passive, messageCount). */
class TopologyContracts extends Broker {
    @Test
    @DisplayName("D2 a passive declare of something missing is a 404 that names it")
    void passive() throws Exception {
        Connection connection = connect();
        String missing = unique("missing");
        ShutdownSignalException refused = refusal(() -> connection.createChannel().queueDeclarePassive(missing));
        AMQP.Channel.Close close = (AMQP.Channel.Close) refused.getReason();
        assertEquals(404, close.getReplyCode());
        assertEquals("NOT_FOUND - no queue '" + missing + "' in vhost '/'", close.getReplyText());
        assertEquals(50, close.getClassId(), "queue");
        assertEquals(10, close.getMethodId(), "declare");
        closesChannel(404, connection, c -> c.exchangeDeclarePassive(missing));
    }

    @Test
    @DisplayName("D2 a redeclare with other arguments is a 406 that says which and what was current")
    void mismatch() throws Exception {
        Channel channel = open();
        String queue = durableQueue(channel);
        ShutdownSignalException refused = refusal(
                () -> channel.getConnection().createChannel().queueDeclare(queue, true, false, true, null));
        assertEquals(406, replyCode(refused));
        String text = ((AMQP.Channel.Close) refused.getReason()).getReplyText();
        assertEquals("PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue '" + queue
                + "' in vhost '/': received 'true' but current is 'false'", text);
    }

    @Test
    @DisplayName("D2 an exclusive queue of another connection is a 405, whatever is asked of it")
    void exclusive() throws Exception {
        String queue = queue(open());
        Connection other = connect();
        closesChannel(405, other, c -> c.queueDeclarePassive(queue));
        closesChannel(405, other, c -> c.queueDeclare(queue, false, true, false, null));
        closesChannel(405, other, c -> c.basicGet(queue, true));
        closesChannel(405, other, c -> c.queueBind(queue, "amq.direct", "key"));
        closesChannel(405, other, c -> c.queuePurge(queue));
    }

    @Test
    @DisplayName("D2 no-wait declares and binds are in force for what follows on the channel")
    void noWait() throws Exception {
        Channel channel = open();
        String queue = unique("nowait");
        String source = unique("nowait");
        channel.exchangeDeclareNoWait(source, BuiltinExchangeType.DIRECT, false, false, false, null);
        channel.queueDeclareNoWait(queue, false, true, false, null);
        channel.queueBindNoWait(queue, source, "key", null);
        channel.basicPublish(source, "key", null, bytes("arrived"));
        assertEquals(List.of("arrived"), drain(channel, queue));
        channel.exchangeDeleteNoWait(source, false);
        channel.queueDeleteNoWait(queue, false, false);
        // Asked on the same channel, so after the deletes; the answer ends that channel.
        assertEquals(404, replyCode(refusal(() -> channel.exchangeDeclarePassive(source))));
        closesChannel(404, channel.getConnection(), c -> c.queueDeclarePassive(queue));
    }

    @Test
    @DisplayName("D3 amq. names and the default exchange are protected with 403")
    void reserved() throws Exception {
        Channel channel = open();
        Connection connection = channel.getConnection();
        String queue = queue(channel);
        closesChannel(403, connection, c -> c.exchangeDeclare("amq.mine", "direct"));
        closesChannel(403, connection, c -> c.exchangeDelete("amq.topic"));
        closesChannel(403, connection, c -> c.queueBind(queue, "", "key"));
        closesChannel(403, connection, c -> c.exchangeDelete(""));
        closesChannel(403, connection, c -> c.exchangeBind("amq.fanout", "", "key"));
    }

    @Test
    @DisplayName("D4 queueDeclare() gives a server-named, exclusive, auto-delete queue")
    void serverNamed() throws Exception {
        Channel channel = open();
        AMQP.Queue.DeclareOk declared = channel.queueDeclare();
        assertTrue(declared.getQueue().startsWith("amq.gen-"), declared.getQueue());
        closesChannel(405, connect(), c -> c.queueDeclarePassive(declared.getQueue()));
    }

    @Test
    @DisplayName("D6 unbinding and deleting what is missing succeeds; if-unused and if-empty are 406")
    void deletes() throws Exception {
        Channel channel = open();
        Connection connection = channel.getConnection();
        String queue = queue(channel);
        channel.queueUnbind(queue, "amq.direct", "never bound");
        channel.exchangeUnbind("amq.fanout", "amq.direct", "never bound");
        assertEquals(0, channel.queueDelete(unique("missing")).getMessageCount());
        channel.exchangeDelete(unique("missing"));
        put(channel, "", queue, "one");
        closesChannel(406, connection, c -> c.queueDelete(queue, false, true));
        channel.basicConsume(queue, (tag, delivery) -> { }, tag -> { });
        closesChannel(406, connection, c -> c.queueDelete(queue, true, false));
        channel.queueDelete(queue);
    }

    @Test
    @DisplayName("D7 messageCount and consumerCount tell ready messages and consumers")
    void counts() throws Exception {
        Channel channel = open();
        String queue = queue(channel);
        put(channel, "", queue, "one", "two", "three");
        assertEquals(3, channel.messageCount(queue));
        assertEquals(0, channel.consumerCount(queue));
        channel.basicGet(queue, false);
        assertEquals(2, channel.messageCount(queue));
        assertEquals(2, channel.queuePurge(queue).getMessageCount());
        String tag = channel.basicConsume(queue, (t, delivery) -> { }, t -> { });
        assertEquals(1, channel.consumerCount(queue));
        channel.basicCancel(tag);
        assertEquals(0, channel.consumerCount(queue));
    }

    @Test
    @DisplayName("D12 a headers binding compares values of every integer width")
    void headers() throws Exception {
        Channel channel = open();
        String source = exchange(channel, "headers", null);
        String queue = queue(channel);
        channel.queueBind(queue, source, "", Map.of("x-match", "all", "size", 7, "colour", "green"));
        Map<String, Map<String, Object>> sent = new LinkedHashMap<>();
        sent.put("match", Map.of("size", 7, "colour", "green", "extra", true));
        sent.put("wrong value", Map.of("size", 8, "colour", "green"));
        sent.put("missing", Map.of("size", 7));
        for (Map.Entry<String, Map<String, Object>> message : sent.entrySet()) {
            AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().headers(message.getValue()).build();
            channel.basicPublish(source, "", properties, bytes(message.getKey()));
        }
        assertEquals(List.of("match"), drain(channel, queue));
    }

    @Test
    @DisplayName("D12 a headers criterion without a value asks for presence only")
    void headerPresence() throws Exception {
        Channel channel = open();
        String source = exchange(channel, "headers", null);
        String queue = queue(channel);
        Map<String, Object> present = new HashMap<>();
        present.put("x-match", "any");
        present.put("traced", null);
        channel.queueBind(queue, source, "", present);
        for (Object value : List.of("yes", 1, false)) {
            AMQP.BasicProperties properties =
                    new AMQP.BasicProperties.Builder().headers(Map.of("traced", value)).build();
            channel.basicPublish(source, "", properties, bytes(value.toString()));
        }
        channel.basicPublish(source, "", null, bytes("untraced"));
        assertEquals(List.of("yes", "1", "false"), drain(channel, queue));
    }

    @Test
    @DisplayName("D13 exchangeBind chains exchanges, a cycle is cut, exchangeUnbind ends it")
    void exchangeBind() throws Exception {
        Channel channel = open();
        String first = exchange(channel, "topic", null);
        String second = exchange(channel, "fanout", null);
        String queue = queue(channel);
        channel.exchangeBind(second, first, "order.#");
        channel.exchangeBind(first, second, "");
        channel.queueBind(queue, second, "");
        channel.queueBind(queue, first, "order.placed");
        put(channel, first, "order.placed", "once");
        assertEquals(List.of("once"), drain(channel, queue));
        channel.exchangeUnbind(second, first, "order.#");
        put(channel, first, "order.charged", "nowhere");
        assertEquals(List.of(), drain(channel, queue));
    }

    @Test
    @DisplayName("D14 a chain of alternate exchanges ends at the first that routes")
    void alternateExchange() throws Exception {
        Channel channel = open();
        String last = exchange(channel, "fanout", null);
        String middle = exchange(channel, "direct", Map.of("alternate-exchange", last));
        String source = exchange(channel, "direct", Map.of("alternate-exchange", middle));
        String byMiddle = queue(channel);
        String byLast = queue(channel);
        channel.queueBind(byMiddle, middle, "known");
        channel.queueBind(byLast, last, "");
        put(channel, source, "known", "middle");
        put(channel, source, "unknown", "last");
        assertEquals(List.of("middle"), drain(channel, byMiddle));
        assertEquals(List.of("last"), drain(channel, byLast));
    }
}
