package millpond.conformance;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AuthenticationFailureException;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.LongString;
import com.rabbitmq.client.PossibleAuthenticationFailureException;
import com.rabbitmq.client.Recoverable;
import com.rabbitmq.client.RecoveryListener;
import com.rabbitmq.client.SaslMechanism;
import com.rabbitmq.client.impl.CredentialsProvider;
import com.rabbitmq.client.impl.CredentialsRefreshService;
import com.rabbitmq.client.impl.LongStringHelper;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.net.Socket;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Test;

/** C2-C12: negotiation, logging in, losing a connection and getting it back. */
class ConnectionContracts extends Broker {
    @Test
    @DisplayName("C2 the capabilities the client asks for are offered")
    void capabilities() throws Exception {
        Object offered = connect().getServerProperties().get("capabilities");
        Map<?, ?> capabilities = assertInstanceOf(Map.class, offered);
        for (String name : List.of("publisher_confirms", "exchange_exchange_bindings", "basic.nack",
                "consumer_cancel_notify", "connection.blocked", "authentication_failure_close")) {
            assertEquals(true, capabilities.get(name), name);
        }
    }

    @Test
    @DisplayName("C3 a client without limits of its own gets 2047 channels, frames of 131072 bytes, heartbeat 60")
    void tune() throws Exception {
        ConnectionFactory factory = factory();
        factory.setRequestedChannelMax(0);
        factory.setRequestedFrameMax(0);
        factory.setRequestedHeartbeat(60);
        Connection connection = connect(factory);
        assertEquals(2047, connection.getChannelMax());
        assertEquals(131072, connection.getFrameMax());
        assertEquals(60, connection.getHeartbeat());
    }

    @Test
    @DisplayName("C4 frame_max 4096, the protocol's minimum, is accepted and carries large bodies")
    void smallFrames() throws Exception {
        skipOnRabbit(connect(), 0, 4, "frame_max below 8192 is refused");
        ConnectionFactory factory = factory();
        factory.setRequestedFrameMax(4096);
        Channel channel = connect(factory).createChannel();
        assertEquals(4096, channel.getConnection().getFrameMax());
        String queue = queue(channel);
        byte[] body = new byte[300_000];
        for (int i = 0; i < body.length; i++) {
            body[i] = (byte) (i * 31);
        }
        channel.basicPublish("", queue, null, body);
        assertArrayEquals(body, channel.basicGet(queue, true).getBody());
    }

    @Test
    @DisplayName("C6 AMQPLAIN logs in")
    void amqplain() throws Exception {
        ConnectionFactory factory = factory();
        factory.setSaslConfig(offered -> {
            assertTrue(List.of(offered).contains("AMQPLAIN"));
            return new AmqPlain();
        });
        assertTrue(connect(factory).isOpen());
    }

    @Test
    @DisplayName("C6 a malformed PLAIN response is refused before the connection opens")
    void malformedResponse() {
        ConnectionFactory factory = factory();
        factory.setSaslConfig(offered -> new SaslMechanism() {
            @Override
            public String getName() {
                return "PLAIN";
            }

            @Override
            public LongString handleChallenge(LongString challenge, String user, String password) {
                return LongStringHelper.asLongString("no zero bytes here");
            }
        });
        assertThrows(IOException.class, factory::newConnection);
    }

    @Test
    @DisplayName("C7 a wrong password is an AuthenticationFailureException that does not tell why")
    void wrongPassword() {
        ConnectionFactory factory = factory();
        factory.setPassword("not-the-password");
        Exception refused = assertThrows(AuthenticationFailureException.class, factory::newConnection);
        assertTrue(refused.getMessage().startsWith("ACCESS_REFUSED"), refused::getMessage);
        assertFalse(refused.getMessage().contains("not-the-password"), refused::getMessage);
    }

    @Test
    @DisplayName("C7 without the capability authentication_failure_close the socket is just closed")
    void wrongPasswordOfAnOldClient() {
        ConnectionFactory factory = factory();
        factory.setPassword("not-the-password");
        Map<String, Object> properties = new HashMap<>(factory.getClientProperties());
        properties.put("capabilities", Map.of("authentication_failure_close", false));
        factory.setClientProperties(properties);
        assertThrows(PossibleAuthenticationFailureException.class, factory::newConnection);
    }

    @Test
    @DisplayName("C9 an unknown vhost is refused with 530")
    void unknownVhost() {
        ConnectionFactory factory = factory();
        factory.setVirtualHost("no-such-vhost");
        assertEquals(530, replyCode(refusal(factory::newConnection)));
    }

    @Test
    @DisplayName("C10 the client's own credentials refresh sends update-secret and is acknowledged")
    void updateSecret() throws Exception {
        ConnectionFactory factory = factory();
        String password = factory.getPassword();
        List<Callable<Boolean>> refresh = new ArrayList<>();
        factory.setCredentialsProvider(new ExpiringCredentials(factory.getUsername(), password));
        factory.setCredentialsRefreshService(new CredentialsRefreshService() {
            @Override
            public String register(CredentialsProvider provider, Callable<Boolean> action) {
                refresh.add(action);
                return "only one";
            }

            @Override
            public void unregister(CredentialsProvider provider, String id) {
                refresh.clear();
            }

            @Override
            public boolean isApproachingExpiration(Duration left) {
                return false;
            }
        });
        Connection connection = connect(factory);
        assertEquals(1, refresh.size());
        assertTrue(refresh.get(0).call(), "the client says whether the connection took the new secret");
        assertTrue(connection.isOpen());
        queue(connection.createChannel());
    }

    @Test
    @DisplayName("C12 a channel error leaves the other channels of the connection alone")
    void channelErrorIsLocal() throws Exception {
        Connection connection = connect();
        Channel bystander = connection.createChannel();
        String queue = queue(bystander);
        closesChannel(404, connection, channel -> channel.basicPublish(unique("missing"), "", null, bytes("x")));
        put(bystander, "", queue, "still here");
        assertEquals(List.of("still here"), drain(bystander, queue));
    }

    @Test
    @DisplayName("D1 flow(true) is answered, flow(false) closes the connection with 540, access.request is granted")
    void flowAndAccess() throws Exception {
        Channel channel = open();
        assertInstanceOf(AMQP.Channel.FlowOk.class,
                channel.rpc(new AMQP.Channel.Flow.Builder().active(true).build()).getMethod());
        assertInstanceOf(AMQP.Access.RequestOk.class,
                channel.rpc(new AMQP.Access.Request.Builder().realm("/data").build()).getMethod());
        closesConnection(540, c -> c.rpc(new AMQP.Channel.Flow.Builder().active(false).build()));
    }

    @Test
    @DisplayName("C12 a cut connection recovers by itself: queue, binding and consumer are there again")
    void recovery() throws Exception {
        ConnectionFactory factory = factory();
        List<Socket> sockets = new CopyOnWriteArrayList<>();
        factory.setSocketConfigurator(sockets::add);
        factory.setAutomaticRecoveryEnabled(true);
        factory.setNetworkRecoveryInterval(50);
        Connection connection = connect(factory);
        Channel channel = connection.createChannel();
        String source = exchange(channel, "topic", null);
        String queue = queue(channel);
        channel.queueBind(queue, source, "order.*");
        BlockingQueue<String> got = new LinkedBlockingQueue<>();
        channel.basicConsume(queue, true, (tag, delivery) -> got.add(text(delivery.getBody())), tag -> { });
        put(channel, source, "order.placed", "before");
        assertEquals("before", got.poll(WAIT_S, TimeUnit.SECONDS));

        CompletableFuture<Void> recovered = new CompletableFuture<>();
        ((Recoverable) connection).addRecoveryListener(new RecoveryListener() {
            @Override
            public void handleRecovery(Recoverable recoverable) {
                recovered.complete(null);
            }

            @Override
            public void handleRecoveryStarted(Recoverable recoverable) { }
        });
        sockets.get(0).close();
        recovered.get(WAIT_S, TimeUnit.SECONDS);
        put(channel, source, "order.placed", "after");
        assertEquals("after", got.poll(WAIT_S, TimeUnit.SECONDS));
    }

    @Test
    @DisplayName("C5 the client's other transport, Netty, frames alike")
    void netty() throws Exception {
        ConnectionFactory factory = factory();
        factory.netty();
        Channel channel = connect(factory).createChannel();
        String queue = queue(channel);
        byte[] body = new byte[1_000_000];
        channel.basicPublish("", queue, null, body);
        put(channel, "", queue, "confirmed");
        assertArrayEquals(body, channel.basicGet(queue, true).getBody());
        assertEquals(List.of("confirmed"), drain(channel, queue));
    }

    /** AMQPLAIN: a field table of LOGIN and PASSWORD, without the table's length in front. */
    private static final class AmqPlain implements SaslMechanism {
        @Override
        public String getName() {
            return "AMQPLAIN";
        }

        @Override
        public LongString handleChallenge(LongString challenge, String user, String password) {
            ByteArrayOutputStream table = new ByteArrayOutputStream();
            try (DataOutputStream out = new DataOutputStream(table)) {
                for (String[] field : new String[][] {{"LOGIN", user}, {"PASSWORD", password}}) {
                    out.writeByte(field[0].length());
                    out.writeBytes(field[0]);
                    out.writeByte('S');
                    out.writeInt(field[1].length());
                    out.writeBytes(field[1]);
                }
            } catch (IOException impossible) {
                throw new IllegalStateException("writing to memory failed", impossible);
            }
            return LongStringHelper.asLongString(table.toByteArray());
        }
    }

    private record ExpiringCredentials(String user, String password) implements CredentialsProvider {
        @Override
        public String getUsername() {
            return user;
        }

        @Override
        public String getPassword() {
            return password;
        }

        @Override
        public Duration getTimeBeforeExpiration() {
            return Duration.ofHours(1);
        }
    }
}
