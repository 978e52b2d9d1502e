package millpond.conformance;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.rabbitmq.client.AuthenticationFailureException;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.DefaultSaslConfig;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.KeyManager;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLHandshakeException;
import javax.net.ssl.TrustManagerFactory;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.DisplayName;
import org.junit.jupiter.api.Test;

/**
 * The secure doors as the Java client comes through them: TLS with the server's certificate and name verified, a client's
 * certificate with EXTERNAL, a token as the password. conformance/run makes certificates and tokens.
 */
class SecureContracts extends Broker {
    private Path dir;

    @BeforeEach
    void begin() {
        Assumptions.assumeTrue(System.getenv("AMQPS_URL") != null, "no TLS to try: set AMQPS_URL and TLS_DIR");
        dir = Path.of(System.getenv("TLS_DIR"));
    }

    private String token(String name) throws IOException {
        return Files.readString(dir.resolve(name));
    }

    /** TLS that trusts the server's authority, with the client's certificate or without. */
    private SSLContext context(boolean withCertificate) throws Exception {
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null, null);
        try (InputStream pem = Files.newInputStream(dir.resolve("ca.pem"))) {
            trusted.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(trusted);
        KeyManager[] keys = null;
        if (withCertificate) {
            char[] password = "conformance".toCharArray();
            KeyStore own = KeyStore.getInstance("PKCS12");
            try (InputStream file = Files.newInputStream(dir.resolve("client.p12"))) {
                own.load(file, password);
            }
            KeyManagerFactory factory = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
            factory.init(own, password);
            keys = factory.getKeyManagers();
        }
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys, trust.getTrustManagers(), null);
        return context;
    }

    private ConnectionFactory secure(boolean withCertificate) throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        String url = System.getenv("AMQPS_URL");
        factory.setUri(url.endsWith("/") ? url.substring(0, url.length() - 1) : url);
        factory.useSslProtocol(context(withCertificate));
        factory.enableHostnameVerification();
        factory.setAutomaticRecoveryEnabled(false);
        return factory;
    }

    private static void roundTrip(Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        String queue = channel.queueDeclare(unique("secure"), false, true, false, null).getQueue();
        channel.confirmSelect();
        channel.basicPublish("", queue, null, new byte[] {1});
        channel.waitForConfirmsOrDie(WAIT_S * 1000);
        assertArrayEquals(new byte[] {1}, channel.basicGet(queue, true).getBody());
    }

    @Test
    @DisplayName("messages pass over TLS with certificate and name verified")
    void messagesPass() throws Exception {
        roundTrip(connect(secure(false)));
    }

    @Test
    @DisplayName("a client that trusts others does not go on")
    void othersAreNotTrusted() throws Exception {
        ConnectionFactory factory = secure(false);
        factory.useSslProtocol(SSLContext.getDefault());
        assertThrows(SSLHandshakeException.class, () -> connect(factory));
    }

    @Test
    @DisplayName("a certificate logs in with EXTERNAL")
    void certificateLogsIn() throws Exception {
        ConnectionFactory factory = secure(true);
        factory.setSaslConfig(DefaultSaslConfig.EXTERNAL);
        roundTrip(connect(factory));
    }

    @Test
    @DisplayName("EXTERNAL is for those with a certificate")
    void externalNeedsCertificate() throws Exception {
        ConnectionFactory factory = secure(false);
        factory.setSaslConfig(DefaultSaslConfig.EXTERNAL);
        assertThrows(IOException.class, () -> connect(factory));
    }

    @Test
    @DisplayName("a token is a password with the rights of its scopes, and another takes its place")
    void tokenIsPassword() throws Exception {
        ConnectionFactory factory = secure(false);
        factory.setUsername("any");
        factory.setPassword(token("token"));
        Connection connection = connect(factory);
        roundTrip(connection);
        Channel channel = connection.createChannel();
        IOException refused = assertThrows(IOException.class, () -> channel.queueDeclare("of-somebody-else", false, false, false, null));
        ShutdownSignalException closed = (ShutdownSignalException) refused.getCause();
        assertTrue(closed.getMessage().contains("for user 'conformance-token'"), closed.getMessage());
        factory.setPassword(token("token-next"));
        roundTrip(connect(factory));
        assertEquals(true, connection.isOpen());
    }

    @Test
    @DisplayName("a token that was changed is no password")
    void changedTokenIsRefused() throws Exception {
        ConnectionFactory factory = secure(false);
        factory.setUsername("any");
        String token = token("token");
        factory.setPassword(token.substring(0, token.length() - 20) + "A".repeat(20));
        assertThrows(AuthenticationFailureException.class, () -> connect(factory));
    }
}
