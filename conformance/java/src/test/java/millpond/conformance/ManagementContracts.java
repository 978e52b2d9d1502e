package millpond.conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.http.client.Client;
import com.rabbitmq.http.client.ClientParameters;
import com.rabbitmq.http.client.GetAckMode;
import com.rabbitmq.http.client.GetEncoding;
import com.rabbitmq.http.client.HttpClientException;
import com.rabbitmq.http.client.domain.BindingInfo;
import com.rabbitmq.http.client.domain.ConnectionInfo;
import com.rabbitmq.http.client.domain.ConsumerDetails;
import com.rabbitmq.http.client.domain.Definitions;
import com.rabbitmq.http.client.domain.DeleteQueueParameters;
import com.rabbitmq.http.client.domain.DetailsParameters;
import com.rabbitmq.http.client.domain.ExchangeInfo;
import com.rabbitmq.http.client.domain.InboundMessage;
import com.rabbitmq.http.client.domain.OutboundMessage;
import com.rabbitmq.http.client.domain.OverviewResponse;
import com.rabbitmq.http.client.domain.Page;
import com.rabbitmq.http.client.domain.PolicyInfo;
import com.rabbitmq.http.client.domain.QueryParameters;
import com.rabbitmq.http.client.domain.QueueInfo;
import com.rabbitmq.http.client.domain.ShovelDetails;
import com.rabbitmq.http.client.domain.ShovelInfo;
import com.rabbitmq.http.client.domain.ShovelStatus;
import com.rabbitmq.http.client.domain.TopicPermissions;
import com.rabbitmq.http.client.domain.UserPermissions;
import java.util.List;
import java.util.Map;
import java.util.function.Predicate;
import java.util.function.Supplier;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

/**
 * M3, M4: the management API as RabbitMQ's own Java client (http-client, "Hop") calls it and reads the answers. Each test
 * has a vhost of its own. Without $HTTP_URL there is nobody to ask.
 */
class ManagementContracts extends Broker {
    private Client client;
    private String vhost;

    @BeforeEach
    void begin() throws Exception {
        String url = System.getenv("HTTP_URL");
        Assumptions.assumeTrue(url != null, "no management API to ask: set HTTP_URL");
        client = new Client(new ClientParameters().url(url + "/api/").username("guest").password("guest"));
        vhost = unique("vhost");
        client.createVhost(vhost, false, "of a test", "conformance");
    }

    @AfterEach
    void end() {
        if (client != null) {
            client.deleteVhost(vhost);
        }
    }

    private static <T> T named(List<T> all, Predicate<T> wanted) {
        return all.stream().filter(wanted).findFirst().orElse(null);
    }

    /** Asks until what is told fits: statistics come some moments later. */
    private static <T> T eventually(Supplier<T> ask, Predicate<T> fits) {
        long deadline = System.nanoTime() + WAIT_S * 1_000_000_000;
        T answer = ask.get();
        while (!fits.test(answer)) {
            assertTrue(System.nanoTime() < deadline, "still: " + answer);
            Thread.yield();
            answer = ask.get();
        }
        return answer;
    }

    private static void refused(int status, Executable call) {
        assertEquals(status, assertThrows(HttpClientException.class, call).status());
    }

    private Connection connectHere() throws Exception {
        var factory = factory();
        factory.setVirtualHost(vhost);
        return connect(factory);
    }

    @Test
    @DisplayName("M3 the overview, the node, and who asks")
    void overview() {
        OverviewResponse overview = client.getOverview();
        assertNotNull(overview.getServerVersion());
        assertNotNull(overview.getQueueTotals());
        assertTrue(overview.getListeners().stream().anyMatch(it -> it.getProtocol().equals("amqp")));
        assertTrue(overview.getExchangeTypes().stream().anyMatch(it -> it.getName().equals("topic")));
        assertEquals(overview.getNode(), client.getNodes().get(0).getName());
        assertTrue(client.getNode(overview.getNode()).isRunning());
        assertEquals(overview.getClusterName(), client.getClusterName().getName());
        assertEquals("guest", client.whoAmI().getName());
        assertTrue(client.whoAmI().getTags().contains("administrator"));
        assertNotNull(client.getExtensions());
        assertTrue(client.alivenessTest(vhost));
    }

    @Test
    @DisplayName("M3 vhosts are made, shown, limited and deleted")
    void vhosts() {
        assertEquals("of a test", client.getVhost(vhost).getDescription());
        assertEquals(List.of("conformance"), client.getVhost(vhost).getTags());
        assertNotNull(named(client.getVhosts(), it -> it.getName().equals(vhost)));
        client.limitMaxNumberOfQueues(vhost, 7);
        client.limitMaxNumberOfConnections(vhost, 9);
        assertEquals(7, client.getVhostLimits(vhost).getMaxQueues());
        assertEquals(9, client.getVhostLimits(vhost).getMaxConnections());
        client.clearMaxQueuesLimit(vhost);
        client.clearMaxConnectionsLimit(vhost);
        assertEquals(-1, client.getVhostLimits(vhost).getMaxQueues());
        assertNull(client.getVhost("none" + vhost));
    }

    @Test
    @DisplayName("M3 users, their tags, permissions and topic permissions")
    void users() throws Exception {
        String user = unique("user");
        client.createUser(user, "secret".toCharArray(), List.of("management", "policymaker"));
        assertEquals(List.of("management", "policymaker"), client.getUser(user).getTags());
        assertNotNull(client.getUser(user).getPasswordHash());
        assertNotNull(named(client.getUsers(), it -> it.getName().equals(user)));
        client.updatePermissions(vhost, user, new UserPermissions("^c", "^w", "^r"));
        assertEquals("^w", client.getPermissions(vhost, user).getWrite());
        assertEquals(1, client.getPermissionsOf(user).size());
        assertTrue(client.getPermissionsIn(vhost).stream().anyMatch(it -> it.getUser().equals(user)));
        client.updateTopicPermissions(vhost, user, new TopicPermissions("amq.topic", "^r", "^w"));
        assertEquals("amq.topic", client.getTopicPermissions(vhost, user).get(0).getExchange());
        client.clearTopicPermissions(vhost, user);
        assertTrue(client.getTopicPermissionsOf(user).isEmpty());

        Client other = new Client(new ClientParameters().url(System.getenv("HTTP_URL") + "/api/").username(user)
                .password("secret"));
        assertEquals(user, other.whoAmI().getName());
        refused(401, () -> other.deleteUser("guest"));
        client.updateUser(user, "other".toCharArray(), List.of());
        refused(401, other::whoAmI);
        client.clearPermissions(vhost, user);
        assertNull(client.getPermissions(vhost, user));
        client.deleteUser(user);
        assertNull(client.getUser(user));
    }

    @Test
    @DisplayName("M3 exchanges, queues and bindings are declared, shown, paged and deleted")
    void topology() {
        client.declareExchange(vhost, "x", new ExchangeInfo("topic", true, false));
        client.declareExchange(vhost, "x2", new ExchangeInfo("fanout", false, false, true, Map.of()));
        assertEquals("topic", client.getExchange(vhost, "x").getType());
        assertTrue(client.getExchange(vhost, "x2").isInternal());
        client.declareQueue(vhost, "q1", new QueueInfo(true, false, false, Map.of("x-max-length", 10)));
        client.declareQueue(vhost, "q2", new QueueInfo(true, false, false));
        assertEquals(Map.of("x-max-length", 10), client.getQueue(vhost, "q1").getArguments());
        assertEquals("classic", client.getQueue(vhost, "q1").getType());
        refused(400, () -> client.declareQueue(vhost, "q2", new QueueInfo(false, false, false)));

        client.bindQueue(vhost, "q1", "x", "a.*");
        client.bindQueue(vhost, "q1", "x", "", Map.of("k", "v"));
        client.bindExchange(vhost, "x2", "x", "b");
        assertEquals(3, client.getBindingsBySource(vhost, "x").size());
        assertEquals(2, client.getQueueBindingsBetween(vhost, "x", "q1").size());
        assertEquals(1, client.getExchangeBindingsBetween(vhost, "x", "x2").size());
        assertEquals(1, client.getExchangeBindingsByDestination(vhost, "x2").size());
        BindingInfo binding = named(client.getQueueBindings(vhost, "q1"), it -> it.getRoutingKey().equals("a.*"));
        assertEquals("x", binding.getSource());
        client.unbindQueue(vhost, "q1", "x", "a.*");
        client.unbindExchange(vhost, "x2", "x", "b");
        assertEquals(1, client.getBindingsBySource(vhost, "x").size());

        Page<QueueInfo> page = client.getQueues(vhost,
                new QueryParameters().name("^q[0-9]$", true).pagination().pageSize(1).query()
                        .columns().sort("name").sortReverse(true).query());
        assertEquals(2, page.getFilteredCount());
        assertEquals(2, page.getPageCount());
        assertEquals("q2", page.getItemsAsList().get(0).getName());
        client.deleteQueue(vhost, "q1", new DeleteQueueParameters(true, true));
        client.deleteQueue(vhost, "q2");
        client.deleteExchange(vhost, "x");
        assertTrue(client.getQueues(vhost).isEmpty());
        assertNull(client.getQueue(vhost, "q1"));
        assertNull(client.getExchange(vhost, "x"));
    }

    @Test
    @DisplayName("M3 policies and operator policies, and the one a queue has")
    void policies() {
        client.declareQueue(vhost, "q", new QueueInfo(true, false, false));
        client.declarePolicy(vhost, "p", new PolicyInfo("^q", 3, "queues", Map.of("max-length", 5)));
        client.declareOperatorPolicy(vhost, "o", new PolicyInfo("^q", 1, "queues", Map.of("max-length", 4)));
        assertEquals(3, client.getPolicies(vhost).get(0).getPriority());
        assertEquals("o", client.getOperatorPolicies(vhost).get(0).getName());
        QueueInfo queue = client.getQueue(vhost, "q");
        assertEquals("p", queue.getPolicy());
        assertEquals(Map.of("max-length", 4), queue.getEffectivePolicyDefinition());
        client.deletePolicy(vhost, "p");
        client.deleteOperatorPolicy(vhost, "o");
        assertTrue(client.getPolicies(vhost).isEmpty());
        refused(400, () -> client.declarePolicy(vhost, "p", new PolicyInfo("(", 0, "all", Map.of("max-length", 5))));
    }

    @Test
    @DisplayName("M3 messages are published, looked at, taken and purged")
    void messages() {
        client.declareQueue(vhost, "q", new QueueInfo(true, false, false));
        OutboundMessage message = new OutboundMessage().payload("hello").utf8Encoded()
                .properties(Map.of("delivery_mode", 2, "headers", Map.of("n", 1)));
        assertTrue(client.publish(vhost, "amq.default", "q", message));
        assertFalse(client.publish(vhost, "amq.default", "nobody", message));
        assertTrue(client.publish(vhost, "amq.default", "q", new OutboundMessage().payload("AAEC").base64Encoded()));
        InboundMessage seen = client.get(vhost, "q", 1, GetAckMode.NACK_REQUEUE_TRUE, GetEncoding.AUTO).get(0);
        assertEquals("hello", seen.getPayload());
        assertEquals(1, seen.getMessageCount());
        assertEquals(Map.of("n", 1), seen.getProperties().get("headers"));
        List<InboundMessage> taken = client.get(vhost, "q", 5, GetAckMode.ACK_REQUEUE_FALSE, GetEncoding.BASE64);
        assertEquals(List.of("aGVsbG8=", "AAEC"), taken.stream().map(InboundMessage::getPayload).toList());
        assertTrue(taken.get(0).isRedelivered());
        client.publish(vhost, "amq.default", "q", message);
        eventually(() -> client.getQueue(vhost, "q"), it -> it.getTotalMessages() == 1);
        client.purgeQueue(vhost, "q");
        eventually(() -> client.getQueue(vhost, "q"), it -> it.getTotalMessages() == 0);
        DetailsParameters rates = new DetailsParameters().messageRates(60, 5).lengths(60, 5);
        assertEquals(3, eventually(() -> client.getQueue(vhost, "q", rates).getMessageStats(),
                it -> it.getBasicPublish() == 3).getBasicPublish());
    }

    @Test
    @DisplayName("M3 connections, channels and consumers are shown, and a connection is closed")
    void clients() throws Exception {
        Connection connection = connectHere();
        Channel channel = connection.createChannel();
        String queue = queue(channel);
        channel.basicQos(5);
        channel.basicConsume(queue, false, "tag", (tag, it) -> { }, tag -> { });
        ConnectionInfo shown = eventually(
                () -> named(client.getConnections(), it -> vhost.equals(it.getVhost())), it -> it != null);
        assertEquals("guest", shown.getUser());
        assertEquals("Java", shown.getClientProperties().getPlatform());
        assertEquals(shown.getName(), client.getConnection(shown.getName()).getName());
        assertFalse(client.getConnectionsOfUser("guest").isEmpty());
        var channels = client.getChannels(shown.getName());
        assertEquals(1, channels.size());
        assertEquals(shown.getName(), client.getChannel(channels.get(0).getName()).getConnectionDetails().getName());
        ConsumerDetails consumer = client.getConsumers(vhost).get(0);
        assertEquals("tag", consumer.getConsumerTag());
        assertEquals(queue, consumer.getQueueDetails().getName());
        assertTrue(consumer.isAckRequired());
        assertEquals(1, client.getQueue(vhost, queue).getConsumerCount());
        client.closeConnection(shown.getName(), "the test is over");
        eventually(connection::isOpen, open -> !open);
        assertTrue(connection.getCloseReason().getMessage().contains("the test is over"));
    }

    @Test
    @DisplayName("M4 definitions have everything")
    void definitions() {
        client.declareQueue(vhost, "q", new QueueInfo(true, false, false));
        client.declareExchange(vhost, "x", new ExchangeInfo("headers", true, false));
        client.bindQueue(vhost, "q", "x", "k");
        Definitions all = client.getDefinitions();
        assertNotNull(all.getServerVersion());
        assertNotNull(named(all.getVhosts(), it -> it.getName().equals(vhost)));
        assertNotNull(named(all.getUsers(), it -> it.getName().equals("guest")).getPasswordHash());
        assertNotNull(named(all.getPermissions(), it -> it.getVhost().equals(vhost)));
        assertNotNull(named(all.getQueues(), it -> it.getVhost().equals(vhost)));
        assertNotNull(named(all.getExchanges(), it -> it.getVhost().equals(vhost)));
        assertNotNull(named(all.getBindings(), it -> it.getVhost().equals(vhost)));
    }

    @Test
    @DisplayName("M3 a shovel is a parameter: set, listed, seen running, deleted")
    void shovels() {
        client.declareQueue(vhost, "from", new QueueInfo(true, false, false));
        client.declareQueue(vhost, "to", new QueueInfo(true, false, false));
        String uri = "amqp:///" + vhost;
        ShovelDetails details = new ShovelDetails(uri, uri, 1, true, null);
        details.setSourceQueue("from");
        details.setDestinationQueue("to");
        details.setAckMode("on-confirm");
        client.declareShovel(vhost, new ShovelInfo("s", details));
        assertEquals("from", client.getShovels(vhost).get(0).getDetails().getSourceQueue());
        ShovelStatus status = eventually(() -> named(client.getShovelsStatus(vhost), it -> it.getName().equals("s")),
                it -> it != null && "running".equals(it.getState()));
        assertEquals("dynamic", status.getType());
        client.publish(vhost, "amq.default", "from", new OutboundMessage().payload("m").utf8Encoded());
        eventually(() -> client.getQueue(vhost, "to"), it -> it.getTotalMessages() == 1);
        client.deleteShovel(vhost, "s");
        assertTrue(client.getShovels(vhost).isEmpty());
    }
}
