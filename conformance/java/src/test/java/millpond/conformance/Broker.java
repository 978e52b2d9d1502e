package millpond.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.Method;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.AfterEach;

/**
 * What the tests share: connections that the end of a test closes, and names nobody else uses.
 * Nothing sleeps; the limit on waiting only keeps a broken server from hanging the run.
 */
abstract class Broker {
    static final long WAIT_S = 30;
    private static final AtomicInteger COUNTER = new AtomicInteger();

    private final List<Connection> connections = new ArrayList<>();
    private final List<String> queues = new ArrayList<>();
    private final List<String> exchanges = new ArrayList<>();

    /** A factory for $AMQP_URL that does not recover: a test wants to see the end of its connection. */
    static ConnectionFactory factory() {
        ConnectionFactory factory = new ConnectionFactory();
        String url = System.getenv().getOrDefault("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/");
        try {
            // The client reads a path of "/" as the vhost "", where other clients read the default vhost.
            factory.setUri(url.endsWith("/") ? url.substring(0, url.length() - 1) : url);
        } catch (Exception wrong) {
            throw new IllegalArgumentException("AMQP_URL is not an AMQP address: " + url, wrong);
        }
        factory.setAutomaticRecoveryEnabled(false);
        return factory;
    }

    static String unique(String kind) {
        return "conformance.java." + kind + "." + ProcessHandle.current().pid() + "." + System.nanoTime() + "."
                + COUNTER.incrementAndGet();
    }

    Connection connect(ConnectionFactory factory) throws Exception {
        Connection connection = factory.newConnection();
        connections.add(connection);
        return connection;
    }

    Connection connect() throws Exception {
        return connect(factory());
    }

    Channel open() throws Exception {
        return connect().createChannel();
    }

    /** An exclusive queue: gone with its connection. */
    static String queue(Channel channel) throws IOException {
        return channel.queueDeclare(unique("q"), false, true, false, null).getQueue();
    }

    /** A durable queue, deleted when the test ends. */
    String durableQueue(Channel channel) throws IOException {
        return durableQueue(channel, Map.of());
    }

    String durableQueue(Channel channel, Map<String, Object> arguments) throws IOException {
        String name = unique("durable");
        queues.add(name);
        return channel.queueDeclare(name, true, false, false, arguments).getQueue();
    }

    String exchange(Channel channel, String type, Map<String, Object> arguments) throws IOException {
        String name = unique(type);
        exchanges.add(name);
        channel.exchangeDeclare(name, type, false, false, arguments);
        return name;
    }

    static void put(Channel channel, String exchange, String key, String... bodies) throws Exception {
        Channel confirming = channel.getConnection().createChannel();
        confirming.confirmSelect();
        for (String body : bodies) {
            confirming.basicPublish(exchange, key, null, bytes(body));
        }
        confirming.waitForConfirmsOrDie(TimeUnit.SECONDS.toMillis(WAIT_S));
        confirming.close();
    }

    static byte[] bytes(String body) {
        return body.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] body) {
        return new String(body, StandardCharsets.UTF_8);
    }

    /** Takes and acks everything that is ready. */
    static List<String> drain(Channel channel, String queue) throws IOException {
        List<String> bodies = new ArrayList<>();
        for (GetResponse got = channel.basicGet(queue, true); got != null; got = channel.basicGet(queue, true)) {
            bodies.add(text(got.getBody()));
        }
        return bodies;
    }

    /** The call must make the server close the channel with this code; the connection lives on. */
    void closesChannel(int code, Connection connection, ChannelCall call) throws Exception {
        Channel channel = connection.createChannel();
        CompletableFuture<ShutdownSignalException> closed = new CompletableFuture<>();
        channel.addShutdownListener(closed::complete);
        call.on(channel);
        ShutdownSignalException cause = closed.get(WAIT_S, TimeUnit.SECONDS);
        assertTrue(!cause.isHardError(), () -> "the connection was closed: " + cause.getMessage());
        assertEquals(code, replyCode(cause), cause::getMessage);
        connection.createChannel().close();
    }

    /** The call must make the server close the whole connection with this code. */
    void closesConnection(int code, ChannelCall call) throws Exception {
        Connection connection = connect();
        CompletableFuture<ShutdownSignalException> closed = new CompletableFuture<>();
        connection.addShutdownListener(closed::complete);
        call.on(connection.createChannel());
        ShutdownSignalException cause = closed.get(WAIT_S, TimeUnit.SECONDS);
        assertTrue(cause.isHardError(), () -> "only the channel was closed: " + cause.getMessage());
        assertEquals(code, replyCode(cause), cause::getMessage);
    }

    /** A call whose own exception does not matter here: what the shutdown listener hears does. */
    interface ChannelCall {
        void with(Channel channel) throws Exception;

        default void on(Channel channel) {
            try {
                with(channel);
            } catch (Exception told) {
                assertTrue(shutdown(told) != null || told instanceof IOException, () -> "unexpected " + told);
            }
        }
    }

    static ShutdownSignalException shutdown(Throwable error) {
        for (Throwable e = error; e != null; e = e.getCause()) {
            if (e instanceof ShutdownSignalException signal) {
                return signal;
            }
        }
        return null;
    }

    /** What a synchronous call reports when the server refuses it. */
    static ShutdownSignalException refusal(Executable call) {
        ShutdownSignalException signal = shutdown(assertThrows(Exception.class, call));
        assertNotNull(signal);
        return signal;
    }

    static int replyCode(ShutdownSignalException signal) {
        Method reason = signal.getReason();
        if (reason instanceof AMQP.Channel.Close close) {
            return close.getReplyCode();
        }
        return reason instanceof AMQP.Connection.Close close ? close.getReplyCode() : 0;
    }

    /** Skips the test on a RabbitMQ whose major version is below `before` or from `from` on. */
    static void skipOnRabbit(Connection connection, int before, int from, String reason) {
        Map<String, Object> server = connection.getServerProperties();
        int major = Integer.parseInt(server.get("version").toString().split("\\.")[0]);
        boolean differs = "RabbitMQ".equals(server.get("product").toString()) && (major < before || major >= from);
        Assumptions.assumeFalse(differs, "RabbitMQ " + server.get("version") + ": " + reason);
    }

    @AfterEach
    void cleanUp() throws Exception {
        if (!queues.isEmpty() || !exchanges.isEmpty()) {
            try (Connection cleaner = factory().newConnection(); Channel channel = cleaner.createChannel()) {
                for (String name : queues) {
                    channel.queueDelete(name);
                }
                for (String name : exchanges) {
                    channel.exchangeDelete(name);
                }
            }
        }
        for (Connection connection : connections) {
            connection.abort(1000);
        }
    }
}
