package millpond.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.Delivery;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Date;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Test;

/** A13: streams over AMQP 0-9-1, and the types in which this client says where to begin. */
class StreamContracts extends Broker {
    private static final int COUNT = 20;

    /** A stream with COUNT messages in it. */
    private String stream(Channel channel) throws Exception {
        String name = durableQueue(channel, Map.of("x-queue-type", "stream"));
        put(channel, "", name, IntStream.range(0, COUNT).mapToObj(Integer::toString).toArray(String[]::new));
        return name;
    }

    /** What a consumer gets that begins at `offset`, on a channel of its own. */
    private static BlockingQueue<Delivery> read(Channel reader, String stream, Object offset) throws IOException {
        BlockingQueue<Delivery> came = new LinkedBlockingQueue<>();
        reader.basicConsume(stream, false, Map.of("x-stream-offset", offset),
                (tag, delivery) -> came.add(delivery), tag -> { });
        return came;
    }

    private static List<Long> offsets(BlockingQueue<Delivery> came, int count) throws InterruptedException {
        List<Long> offsets = new ArrayList<>();
        while (offsets.size() < count) {
            Delivery delivery = came.poll(WAIT_S, TimeUnit.SECONDS);
            long offset = (Long) delivery.getProperties().getHeaders().get("x-stream-offset");
            assertEquals(Long.toString(offset), text(delivery.getBody()));
            offsets.add(offset);
        }
        return offsets;
    }

    private static List<Long> from(long first) {
        return LongStream.range(first, COUNT).boxed().toList();
    }

    @Test
    @DisplayName("A13 every consumer reads all of a stream from where it wants: a word, a Long, an Integer, a Date")
    void begins() throws Exception {
        Connection connection = connect();
        String stream = stream(connection.createChannel());
        Map<Object, Long> beginnings = Map.of("first", 0L, 7L, 7L, 13, 13L, "last", COUNT - 1L, new Date(0), 0L);
        for (Map.Entry<Object, Long> beginning : beginnings.entrySet()) {
            Channel reader = connection.createChannel();
            reader.basicQos(2 * COUNT);
            List<Long> expected = from(beginning.getValue());
            assertEquals(expected, offsets(read(reader, stream, beginning.getKey()), expected.size()),
                    () -> "from " + beginning.getKey());
            reader.close();
        }
    }

    @Test
    @DisplayName("A13 next is what comes from now on, and an ack gives credit and takes nothing away")
    void credit() throws Exception {
        Connection connection = connect();
        Channel reader = connection.createChannel();
        String stream = stream(reader);
        reader.basicQos(4);
        BlockingQueue<Delivery> came = read(reader, stream, "first");
        assertEquals(List.of(0L, 1L, 2L, 3L), offsets(came, 4));
        // An answer that comes after all that was under way.
        assertEquals(COUNT, reader.queueDeclarePassive(stream).getMessageCount());
        assertNull(came.poll());
        reader.basicAck(4, true);
        assertEquals(List.of(4L, 5L, 6L, 7L), offsets(came, 4));
        assertEquals(COUNT, reader.queueDeclarePassive(stream).getMessageCount());

        Channel other = connection.createChannel();
        other.basicQos(10);
        BlockingQueue<Delivery> next = read(other, stream, "next");
        put(other, "", stream, Integer.toString(COUNT));
        assertEquals(List.of((long) COUNT), offsets(next, 1));
    }

    @Test
    @DisplayName("A13 a consumer without a prefetch, or one that acks on its own, is refused")
    void refused() throws Exception {
        Connection connection = connect();
        String stream = stream(connection.createChannel());
        closesChannel(406, connection, channel -> channel.basicConsume(stream, false, (tag, it) -> { }, tag -> { }));
        closesConnection(540, channel -> {
            channel.basicQos(10);
            channel.basicConsume(stream, true, (tag, it) -> { }, tag -> { });
        });
        closesConnection(540, channel -> channel.basicGet(stream, false));
    }
}
