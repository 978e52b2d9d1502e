package orders;

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AlreadyClosedException;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.Recoverable;
import com.rabbitmq.client.RecoveryListener;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.UnaryOperator;

/**
 * What the three Java programs share. The contract is written down in ../python/shop.py and in the README; it is
 * the same in every language. Getting the connection back is left to the client's own automatic recovery.
 */
final class Shop {
    private static final String EXCHANGE = "orders";
    private static final long CONFIRM_WAIT_MS = 60_000;
    static final Gson GSON = new Gson();

    private final String name;
    private final Channel channel;
    private final AtomicBoolean returned = new AtomicBoolean();
    private final AtomicBoolean recovering = new AtomicBoolean();

    private Shop(String name, Channel channel) {
        this.name = name;
        this.channel = channel;
    }

    static void log(String name, String text) {
        System.err.println(name + " (java): " + text);
    }

    /** What a program sets up on its channel: done again until it succeeds. */
    interface Setup {
        void on(Shop shop) throws IOException;
    }

    /** Connects and sets up, however long the broker takes to come up; after that the client reconnects by itself. */
    static Shop open(String name, Setup setup) throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        String url = System.getenv().getOrDefault("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/");
        // The client reads a path of "/" as the vhost "", where other clients read the default vhost.
        factory.setUri(url.endsWith("/") ? url.substring(0, url.length() - 1) : url);
        factory.setAutomaticRecoveryEnabled(true);
        factory.setNetworkRecoveryInterval(200);
        for (int attempt = 0;; attempt++) {
            Connection connection = null;
            try {
                connection = factory.newConnection(name);
                Shop shop = new Shop(name, connection.createChannel());
                shop.prepare((Recoverable) connection);
                setup.on(shop);
                log(name, "connected");
                return shop;
            } catch (IOException | TimeoutException | ShutdownSignalException failed) {
                // The client recovers only what was set up, so until then it is on us.
                log(name, "no connection yet, trying again: " + failed);
                if (connection != null) {
                    connection.abort();
                }
                pause(attempt);
            }
        }
    }

    private void prepare(Recoverable connection) throws IOException {
        channel.getConnection().addShutdownListener(cause -> {
            if (!cause.isInitiatedByApplication()) {
                recovering.set(true);
                log(name, "connection lost, the client recovers: " + cause.getMessage());
            }
        });
        connection.addRecoveryListener(new RecoveryListener() {
            @Override
            public void handleRecovery(Recoverable recovered) {
                recovering.set(false);
            }

            @Override
            public void handleRecoveryStarted(Recoverable lost) {
                recovering.set(true);
            }
        });
        channel.confirmSelect();
        channel.basicQos(20);
        channel.addReturnListener(message -> returned.set(true));
    }

    /** The wait before connecting again: grows to a second, with jitter, so that services do not come in step. */
    static void pause(int attempt) throws InterruptedException {
        long longest = Math.min(1000, 50L << Math.min(attempt, 10));
        Thread.sleep(longest / 2 + ThreadLocalRandom.current().nextLong(longest / 2));
    }

    /** Publishes one event and returns when the broker has confirmed it. */
    void send(String key, JsonObject order, boolean redelivered) throws IOException, InterruptedException {
        if (recovering.get()) {
            // The client opens the channel again before it asks for confirms on it: what is published in between is
            // counted by the client and not by the broker, and every later confirm is waited for in vain.
            throw new IOException("the connection is being recovered");
        }
        String number = order.get("order").getAsString();
        String id = key + "/" + number;
        Map<String, Object> headers = new HashMap<>();
        headers.put("cloudEvents:specversion", "1.0");
        headers.put("cloudEvents:id", id);
        headers.put("cloudEvents:type", key);
        headers.put("cloudEvents:source", "/orders/" + name);
        headers.put("cloudEvents:subject", number);
        headers.put("redelivered", redelivered);
        AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder()
                .contentType("application/json").deliveryMode(2).messageId(id).type(key).headers(headers).build();
        returned.set(false);
        channel.basicPublish(EXCHANGE, key, true, properties, GSON.toJson(order).getBytes(StandardCharsets.UTF_8));
        try {
            if (!channel.waitForConfirms(CONFIRM_WAIT_MS)) {
                throw new IOException("the broker refused " + id);
            }
        } catch (TimeoutException silent) {
            throw new IOException("the broker did not confirm " + id + " in " + CONFIRM_WAIT_MS + " ms", silent);
        }
        // The return comes before the confirm, so a returned event is known by now.
        if (returned.get()) {
            throw new IOException("no queue takes " + key);
        }
    }

    void close() throws IOException {
        channel.getConnection().close();
    }

    /** Takes orders from `queue`, sends what `work` makes of each under `key`, until it is told to stop. */
    static void serve(String name, String queue, String key, UnaryOperator<JsonObject> work) throws Exception {
        Set<String> done = new HashSet<>();
        Shop shop = open(name, opened -> opened.channel.basicConsume(queue, false,
                (tag, delivery) -> opened.onOrder(delivery, key, work, done), tag -> {
                    log(name, "the consumer of " + queue + " was cancelled");
                    System.exit(1);
                }));
        CountDownLatch finished = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                shop.close();
            } catch (IOException | AlreadyClosedException gone) {
                log(name, "was not connected when it stopped");
            }
            log(name, "stopped");
            finished.countDown();
        }));
        finished.await();
    }

    private void onOrder(Delivery delivery, String key, UnaryOperator<JsonObject> work, Set<String> done) {
        long tag = delivery.getEnvelope().getDeliveryTag();
        try {
            JsonObject order = parse(delivery.getBody());
            if (order == null) {
                log(name, "not an order, dropped");
                channel.basicReject(tag, false);
                return;
            }
            String number = order.get("order").getAsString();
            if (!done.contains(number)) {
                send(key, work.apply(order), delivery.getEnvelope().isRedeliver());
                done.add(number);
            }
            channel.basicAck(tag, false);
        } catch (IOException | ShutdownSignalException failed) {
            log(name, "will do it again: " + failed.getMessage());
            putBack(tag);
        } catch (InterruptedException stop) {
            Thread.currentThread().interrupt();
        }
    }

    /** What was refused comes again now; what was lost with its connection comes again by itself. */
    private void putBack(long tag) {
        try {
            pause(0);
            channel.basicNack(tag, false, true);
        } catch (IOException | ShutdownSignalException lost) {
            log(name, "the broker puts it back");
        } catch (InterruptedException stop) {
            Thread.currentThread().interrupt();
        }
    }

    private static JsonObject parse(byte[] body) {
        try {
            JsonObject order = GSON.fromJson(new String(body, StandardCharsets.UTF_8), JsonObject.class);
            return order != null && order.has("order") ? order : null;
        } catch (JsonParseException malformed) {
            return null;
        }
    }
}
