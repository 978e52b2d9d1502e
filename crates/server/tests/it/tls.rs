//! AMQP and HTTP with TLS: certificates of the server, of clients, and how they change.

use crate::http::{Answer, authorization, read_answer};
use millpond_amqp_codec::{PROTOCOL_HEADER, connection};
use millpond_broker::{NewPassword, Permissions, UserSpec};
use millpond_model::{UserName, VhostName};
use millpond_server::{AmqpOptions, CertificateName, ClientCertificates, Tls, TlsOptions};
use millpond_testkit::{Client, Event, TestServer};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

/// Who signs, with what it has signed in a directory.
struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

/// A certificate and its key.
struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Test CA");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("ca.pem"), certificate.pem()).unwrap();
        let root = certificate.der().clone();
        let this = Self { dir, issuer: Issuer::new(params, key), root };
        this.write_server("server");
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A new certificate of the server, in the files of the options.
    fn write_server(&self, name: &str) {
        self.write_server_until(name, Duration::from_secs(64_000_000_000));
    }

    /// One that holds until then, since 1970.
    fn write_server_until(&self, name: &str, until: Duration) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + until;
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path("server.pem"), signed.pem()).unwrap();
        std::fs::write(self.path("server.key"), key.serialize_pem()).unwrap();
    }

    fn client(&self, name: &str, email: Option<&str>) -> Identity {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Mill, Inc");
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names =
            email.map(|it| SanType::Rfc822Name(it.try_into().unwrap())).into_iter().collect();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Identity { certificate, key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    }

    fn options(&self) -> TlsOptions {
        TlsOptions {
            certificate: self.path("server.pem"),
            key: self.path("server.key"),
            client_ca: Some(self.path("ca.pem")),
            verify: ClientCertificates::Optional,
            only_1_3: false,
            login_from: CertificateName::DistinguishedName,
        }
    }

    async fn connect(
        &self,
        to: SocketAddr,
        identity: Option<Identity>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_by(to, identity, &[&TLS12, &TLS13]).await
    }

    async fn connect_by(
        &self,
        to: SocketAddr,
        identity: Option<Identity>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            Some(identity) => {
                builder.with_client_auth_cert(vec![identity.certificate], identity.key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(to).await?).await
    }
}

async fn serve(options: TlsOptions) -> (TestServer, Arc<Tls>) {
    let tls = Tls::load(options).unwrap();
    (TestServer::start_secure(AmqpOptions::default(), tls.clone()).await, tls)
}

/// Logs in over what is connected; whether that was granted.
async fn open(client: &mut Client, mechanism: &str, response: &[u8]) -> Event {
    client.send_bytes(&PROTOCOL_HEADER).await;
    client.expect("connection.start").await;
    client.start_ok(mechanism, response, true).await;
    let answer = client.event().await;
    if matches!(&answer, Event::Method { name: "connection.tune", .. }) {
        client.send(0, connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 0 }).await;
        client.open("/").await;
        client.expect("connection.open-ok").await;
    }
    answer
}

fn is_granted(answer: &Event) -> bool {
    matches!(answer, Event::Method { name: "connection.tune", .. })
}

async fn get(stream: &mut TlsStream<TcpStream>, path: &str) -> Answer {
    let authorization = authorization();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // An end without TLS's own goodbye is an end as well.
    let _ = stream.read_to_string(&mut answer).await;
    read_answer(&answer)
}

fn add_user(server: &TestServer, name: &str) {
    let name = UserName::new(name).unwrap();
    let spec = UserSpec { name: name.clone(), password: NewPassword::None, tags: None };
    drop(server.broker().set_user(&spec).unwrap());
    let vhost = VhostName::new("/").unwrap();
    drop(server.broker().set_permissions(&name, &vhost, Permissions::all()).unwrap());
}

#[tokio::test]
async fn messages_and_requests_go_over_tls() {
    let authority = Authority::new();
    let (server, _) = serve(authority.options()).await;
    let (amqps, https) = server.secure();
    for versions in [&[&TLS12][..], &[&TLS13]] {
        let stream = authority.connect_by(amqps, None, versions).await.unwrap();
        let mut client = Client::over(stream);
        assert!(is_granted(&open(&mut client, "PLAIN", b"\0guest\0guest").await));
        client.open_channel(1).await;
        client.declare_queue(1, "q", false).await;
        // More than the buffers of TLS and of the sockets hold.
        let body: Vec<u8> = (0..1_000_000u32).map(|n| n as u8).collect();
        for _ in 0..8 {
            client.publish_to(1, "q", &body).await;
        }
        client.consume(1, "q", "c", true).await;
        for _ in 0..8 {
            assert!(client.expect_delivery().await.2 == body);
        }
        let shown = get(&mut authority.connect(https, None).await.unwrap(), "/api/connections").await.json();
        assert_eq!(shown[0]["ssl"], true, "{shown}");
        assert_eq!(shown[0]["ssl_protocol"], if versions == [&TLS12] { "tlsv1.2" } else { "tlsv1.3" });
        assert_eq!(shown[0].get("peer_cert_subject"), None);
        client.close().await;
    }
    let plain = Client::connect(server.amqp()).await;
    let mut stream = authority.connect(https, None).await.unwrap();
    assert_eq!(get(&mut stream, "/api/connections").await.json()[0]["ssl"], false);
    let mut stream = authority.connect(https, None).await.unwrap();
    let protocols = get(&mut stream, "/api/health/checks/protocol-listener/amqp%2Fssl").await;
    assert_eq!(protocols.status, 200, "{}", protocols.body);
    plain.close().await;
}

#[tokio::test]
async fn a_certificate_logs_its_user_in() {
    let authority = Authority::new();
    // What is the name, who there is, and whether the certificate lets it in.
    let cases = [
        (CertificateName::DistinguishedName, r"CN=shop,O=Mill\, Inc", true),
        (CertificateName::CommonName, "shop", true),
        (CertificateName::SubjectAlternativeName, "shop@example.com", true),
        (CertificateName::CommonName, "somebody else", false),
    ];
    for (login_from, user, is_let_in) in cases {
        let (server, _) = serve(TlsOptions { login_from, ..authority.options() }).await;
        add_user(&server, user);
        let identity = authority.client("shop", Some("shop@example.com"));
        let mut client = Client::over(authority.connect(server.secure().0, Some(identity)).await.unwrap());
        let answer = open(&mut client, "EXTERNAL", b"").await;
        assert_eq!(is_granted(&answer), is_let_in, "{login_from:?} {user}: {answer:?}");
        if is_let_in {
            let mut stream = authority.connect(server.secure().1, None).await.unwrap();
            let shown = get(&mut stream, "/api/connections").await.json();
            assert_eq!(shown[0]["user"], user);
            assert_eq!(shown[0]["peer_cert_subject"], r"CN=shop,O=Mill\, Inc");
            assert_eq!(shown[0]["peer_cert_issuer"], "CN=Test CA");
        }
    }
    // Without a name where it is looked for, and without a certificate.
    let login_from = CertificateName::SubjectAlternativeName;
    let (server, _) = serve(TlsOptions { login_from, ..authority.options() }).await;
    let identity = authority.client("shop", None);
    let mut client = Client::over(authority.connect(server.secure().0, Some(identity)).await.unwrap());
    assert!(!is_granted(&open(&mut client, "EXTERNAL", b"").await));
    let mut client = Client::over(authority.connect(server.secure().0, None).await.unwrap());
    client.send_bytes(&PROTOCOL_HEADER).await;
    assert!(!client.expect("connection.start").await.contains("EXTERNAL"));
    client.start_ok("EXTERNAL", b"", true).await;
    client.expect_close(503).await;
}

#[tokio::test]
async fn only_good_certificates_come_through_the_door() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let required = TlsOptions { verify: ClientCertificates::Required, ..authority.options() };
    let none = TlsOptions { verify: ClientCertificates::None, client_ca: None, ..authority.options() };
    let (ours, theirs) = (|| Some(authority.client("a", None)), || Some(stranger.client("a", None)));
    let cases = [
        (authority.options(), ours(), true),
        (authority.options(), theirs(), false),
        (authority.options(), None, true),
        (required.clone(), ours(), true),
        (required.clone(), theirs(), false),
        (required.clone(), None, false),
        (none, theirs(), true),
    ];
    for (options, identity, is_let_in) in cases {
        let (server, _) = serve(options.clone()).await;
        // With TLS 1.3 a client learns only afterwards that it was refused.
        let entered = match authority.connect(server.secure().0, identity).await {
            Ok(stream) => {
                let mut client = Client::over(stream);
                client.send_bytes(&PROTOCOL_HEADER).await;
                client.event().await != Event::End
            }
            Err(_) => false,
        };
        assert_eq!(entered, is_let_in, "{options:?}");
        // Browsers are never asked.
        let mut stream = authority.connect(server.secure().1, None).await.unwrap();
        assert_eq!(get(&mut stream, "/health").await.status, 200);
    }
    let (server, _) = serve(TlsOptions { only_1_3: true, ..authority.options() }).await;
    assert!(authority.connect_by(server.secure().0, None, &[&TLS12]).await.is_err());
    assert!(authority.connect_by(server.secure().0, None, &[&TLS13]).await.is_ok());
}

#[tokio::test]
async fn certificates_change_while_it_serves() {
    const CHECK: &str = "/api/health/checks/certificate-expiration/4/weeks";
    let authority = Authority::new();
    let (server, tls) = serve(authority.options()).await;
    let certificate =
        |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    let first = authority.connect(server.secure().0, None).await.unwrap();
    let before = certificate(&first);
    let mut client = Client::over(first);
    assert!(is_granted(&open(&mut client, "PLAIN", b"\0guest\0guest").await));
    authority.write_server("another");
    tls.reload().unwrap();
    let second = authority.connect(server.secure().0, None).await.unwrap();
    assert_ne!(certificate(&second), before);
    client.open_channel(1).await;

    let checked = async |status: u16, part: &str| {
        let mut stream = authority.connect(server.secure().1, None).await.unwrap();
        let answer = get(&mut stream, CHECK).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(answer.body.contains(part), "{}", answer.body);
    };
    checked(200, "ok").await;
    let (path, good) = (authority.path("server.key"), std::fs::read(authority.path("server.key")).unwrap());
    for (bad, part) in
        [(KeyPair::generate().unwrap().serialize_pem(), "server.key"), (String::new(), "no private key")]
    {
        std::fs::write(&path, bad).unwrap();
        assert!(tls.reload().is_err());
        checked(503, part).await;
        let third = authority.connect(server.secure().0, None).await.unwrap();
        assert_eq!(certificate(&third), certificate(&second));
    }
    std::fs::write(&path, good).unwrap();
    tls.reload().unwrap();
    checked(200, "ok").await;
}

#[tokio::test]
async fn certificates_that_end_soon_and_files_that_cannot_be_used_need_attention() {
    let authority = Authority::new();
    let (server, tls) = serve(authority.options()).await;
    let attention = async || {
        let answer = crate::http::ask(&server, "GET /api/attention", &[], "").await;
        let found: Vec<_> = (answer.json().as_array().unwrap().iter())
            .map(|it| format!("{} {} {}", it["severity"], it["kind"], it["what"]).replace('"', ""))
            .collect();
        found
    };
    assert_eq!(attention().await, [""; 0]);
    authority.write_server_until("over", Duration::from_secs(1_000_000_000));
    tls.reload().unwrap();
    assert_eq!(attention().await, ["error certificate_ends certificate"]);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    authority.write_server_until("soon", now + Duration::from_secs(7 * 86_400));
    tls.reload().unwrap();
    assert_eq!(attention().await, ["warning certificate_ends certificate"]);
    std::fs::write(authority.path("server.key"), "").unwrap();
    assert!(tls.reload().is_err());
    let both = ["warning certificate_ends certificate", "error certificates_failing null"];
    assert_eq!(attention().await, both);
}

#[tokio::test]
async fn who_never_shakes_hands_is_sent_away_and_holds_nobody_up() {
    let authority = Authority::new();
    let options = AmqpOptions { handshake_timeout: Duration::from_millis(300), ..AmqpOptions::default() };
    let server = TestServer::start_secure(options, Tls::load(authority.options()).unwrap()).await;
    let mut silent = TcpStream::connect(server.secure().0).await.unwrap();
    let mut plain = TcpStream::connect(server.secure().0).await.unwrap();
    plain.write_all(&PROTOCOL_HEADER).await.unwrap();
    let mut client = Client::over(authority.connect(server.secure().0, None).await.unwrap());
    client.send_bytes(&PROTOCOL_HEADER).await;
    client.expect("connection.start").await;
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    // An alert at most, and nothing of AMQP.
    let _ = plain.read_to_end(&mut rest).await;
    assert!(rest.len() < 16, "{rest:?}");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new();
    let other = Authority::new();
    let wrong = |change: &dyn Fn(&mut TlsOptions)| {
        let mut options = authority.options();
        change(&mut options);
        Tls::load(options).unwrap_err().to_string()
    };
    let missing = Path::new("/nowhere/server.pem");
    let cases = [
        (wrong(&|it| it.certificate = missing.into()), "/nowhere/server.pem: No such file"),
        (wrong(&|it| it.certificate = it.key.clone()), "no certificate"),
        (wrong(&|it| it.key = it.certificate.clone()), "no private key"),
        (wrong(&|it| it.key = other.path("server.key")), "server.key"),
        (wrong(&|it| it.client_ca = None), "tls_client_ca"),
        (wrong(&|it| it.client_ca = Some(it.key.clone())), "no certificate"),
    ];
    for (text, part) in cases {
        assert!(text.contains(part), "{text}: {part}");
    }
}
