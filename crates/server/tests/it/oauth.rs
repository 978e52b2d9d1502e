//! Tokens in place of passwords, over AMQP and HTTP.

use crate::http::{Answer, receive, send};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use millpond_amqp_codec::{PROTOCOL_HEADER, connection, queue};
use millpond_broker::{AuditQuery, Credential, FrontEnd};
use millpond_server::{EngineDoor, Oauth, OauthOptions};
use millpond_testkit::{Client, Event, TestServer};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

pub(crate) struct Signer {
    key: EncodingKey,
    algorithm: Algorithm,
    kid: Option<&'static str>,
    pem: String,
}

impl Signer {
    pub(crate) fn ec(kid: Option<&'static str>) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self { key, algorithm: Algorithm::ES256, kid, pem: pair.public_key_pem() }
    }

    fn rsa(kid: Option<&'static str>) -> Self {
        let pair = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let key = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self { key, algorithm: Algorithm::RS256, kid, pem: pair.public_key_pem() }
    }

    fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = self.kid.map(str::to_owned);
        serde_json::to_value(jwk).unwrap()
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = self.kid.map(str::to_owned);
        encode(&header, claims, &self.key).unwrap()
    }
}

fn claims() -> Value {
    json!({
        "sub": "shop", "aud": ["other", "mill"], "iss": "https://issuer", "exp": get_current_timestamp() + 600,
        "scope": "openid mill.read:%2F/q* mill.write:*/* mill.configure:%2F/q* mill.tag:management",
    })
}

fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

/// Of this user, with these scopes.
pub(crate) fn with_scopes(user: &str, scopes: &str) -> Value {
    let mut claims = with("sub", user);
    claims["scope"] = scopes.into();
    claims
}

fn options() -> OauthOptions {
    OauthOptions {
        resource_server_id: "mill".into(),
        scope_prefix: None,
        issuer: Some("https://issuer".into()),
        jwks_url: None,
        signing_keys: Vec::new(),
        additional_scopes_key: Some("realm.roles".into()),
        username_claims: vec!["preferred_username".into(), "sub".into()],
        algorithms: ["RS256", "ES256"].map(String::from).to_vec(),
        clock_skew: Duration::ZERO,
        client_id: Some("console".into()),
        login_scopes: ["openid", "profile"].map(String::from).to_vec(),
    }
}

/// A provider with these keys, first and later; how often it was asked.
async fn provider(sets: Vec<Value>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            let at = count.fetch_add(1, Ordering::SeqCst).min(sets.len() - 1);
            let body = json!({ "keys": sets[at] }).to_string();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = socket.write_all((head + &body).as_bytes()).await;
        }
    });
    (url, asked)
}

/// Takes what it has signed; the directory has its key.
fn trusting(signer: &Signer) -> (Arc<Oauth>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    std::fs::write(&path, &signer.pem).unwrap();
    (Oauth::new(OauthOptions { signing_keys: vec![path], ..options() }).unwrap(), dir)
}

async fn serve_with(signer: &Signer) -> (TestServer, tempfile::TempDir) {
    let (oauth, dir) = trusting(signer);
    (TestServer::start_with_tokens(oauth).await, dir)
}

/// A server that takes its tokens and shows that engine.
pub(crate) async fn start_with_engine(
    signer: &Signer,
    engine: Arc<dyn EngineDoor>,
) -> (TestServer, tempfile::TempDir) {
    let (oauth, dir) = trusting(signer);
    (TestServer::start_with_engine(oauth, engine).await, dir)
}

async fn ask(server: &TestServer, line: &str, token: &str) -> Answer {
    let authorization = format!("Bearer {token}");
    receive(send(server, line, &[("Authorization", &authorization)], "").await).await
}

async fn log_in(server: &TestServer, token: &str) -> (Client, Event) {
    let mut client = Client::connect_raw(server.amqp()).await;
    client.send_bytes(&PROTOCOL_HEADER).await;
    client.expect("connection.start").await;
    client.start_ok("PLAIN", format!("\0anybody\0{token}").as_bytes(), true).await;
    let answer = client.event().await;
    if matches!(&answer, Event::Method { name: "connection.tune", .. }) {
        client.send(0, connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 0 }).await;
        client.open("/").await;
        client.expect("connection.open-ok").await;
    }
    (client, answer)
}

/// What it is, the token, and whether it is good.
fn tokens(signer: &Signer, now: u64) -> Vec<(&'static str, String, bool)> {
    let (stranger, rsa) = (Signer::ec(None), Signer::rsa(None));
    let unsigned = {
        let whole = signer.sign(&claims());
        let mut parts = whole.split('.');
        // {"alg":"none","typ":"JWT"}
        format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", parts.nth(1).unwrap())
    };
    // Signed with the text of the public key as a shared secret.
    let shared = EncodingKey::from_secret(signer.pem.as_bytes());
    let shared = encode(&Header::new(Algorithm::HS256), &claims(), &shared).unwrap();
    let mut forged = signer.sign(&claims());
    forged.insert(forged.rfind('.').unwrap() - 1, 'A');
    let without = |name: &str| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        signer.sign(&claims)
    };
    vec![
        ("good", signer.sign(&claims()), true),
        ("one audience", signer.sign(&with("aud", "mill")), true),
        (
            "scopes in a list",
            signer.sign(&with("scope", json!(["mill.read:*", "mill.tag:management"]))),
            true,
        ),
        (
            "scopes elsewhere",
            signer.sign(&{
                let mut claims = with("realm", json!({ "roles": ["mill.tag:monitoring"] }));
                claims["scope"] = "".into();
                claims
            }),
            true,
        ),
        ("another audience", signer.sign(&with("aud", "other")), false),
        ("no audience", without("aud"), false),
        ("another issuer", signer.sign(&with("iss", "https://elsewhere")), false),
        ("no issuer", without("iss"), false),
        ("over", signer.sign(&with("exp", now - 1)), false),
        ("without end", without("exp"), false),
        ("not yet", signer.sign(&with("nbf", now + 100)), false),
        ("nobody", without("sub"), false),
        ("no scopes", signer.sign(&with("scope", "openid mill. mill.x other.tag:administrator")), false),
        ("another key", stranger.sign(&claims()), false),
        ("another kind of key", rsa.sign(&claims()), false),
        ("unsigned", unsigned, false),
        ("a shared secret", shared, false),
        ("forged", forged, false),
        ("no token", "eyJ..".to_owned(), false),
    ]
}

#[tokio::test]
async fn good_tokens_let_in_and_others_do_not() {
    let signer = Signer::ec(None);
    let (server, _dir) = serve_with(&signer).await;
    for (what, token, is_good) in tokens(&signer, get_current_timestamp()) {
        let answer = ask(&server, "GET /api/whoami", &token).await;
        assert_eq!(answer.status, if is_good { 200 } else { 401 }, "{what}: {}", answer.body);
        if what != "scopes elsewhere" {
            let (_client, answer) = log_in(&server, &token).await;
            let is_in = matches!(answer, Event::Method { name: "connection.tune", .. });
            assert_eq!(is_in, is_good, "{what}: {answer:?}");
        }
        // Whoever comes with nothing but bad ones is not looked at any more.
        assert_eq!(ask(&server, "GET /api/whoami", &signer.sign(&claims())).await.status, 200, "{what}");
    }
    let answer = ask(&server, "GET /api/whoami", &signer.sign(&claims())).await;
    assert_eq!(answer.body, r#"{"name":"shop","tags":["management"]}"#);
}

#[tokio::test]
async fn a_page_is_told_where_to_sign_in_and_may_ask_there() {
    let (server, _dir) = serve_with(&Signer::rsa(None)).await;
    let auth = receive(send(&server, "GET /api/auth", &[], "").await).await.json();
    assert_eq!((&auth["oauth_enabled"], &auth["oauth_client_id"]), (&json!(true), &json!("console")));
    assert_eq!(
        (&auth["oauth_provider_url"], &auth["oauth_scopes"]),
        (&json!("https://issuer"), &json!("openid profile"))
    );
    let page = receive(send(&server, "GET /", &[], "").await).await;
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("connect-src 'self' https://issuer; base-uri"), "{policy}");
}

#[tokio::test]
async fn who_comes_with_bad_tokens_again_and_again_has_to_wait_and_others_have_not() {
    let signer = Signer::ec(None);
    let (server, _dir) = serve_with(&signer).await;
    let ended = signer.sign(&with("exp", get_current_timestamp() - 1));
    for attempt in 0..20 {
        assert_eq!(ask(&server, "GET /api/whoami", &ended).await.status, 401, "{attempt}");
    }
    for token in [&ended, &signer.sign(&claims())] {
        let answer = ask(&server, "GET /api/whoami", token).await;
        assert_eq!(answer.status, 429, "{}", answer.body);
        assert!(answer.header("Retry-After").is_some(), "{}", answer.head);
    }
    let (_client, answer) = log_in(&server, &signer.sign(&claims())).await;
    assert!(matches!(answer, Event::Closed { code: 403, .. }), "{answer:?}");
    let other = signer.sign(&with("sub", "somebody else"));
    assert_eq!(ask(&server, "GET /api/whoami", &other).await.status, 200);
    let (found, _) =
        server.broker().audit_entries(&AuditQuery { user: Some("shop".into()), ..Default::default() });
    let first = found.last().unwrap();
    assert_eq!((first.actor.credential, first.actor.front_end), (Credential::Token, FrontEnd::Management));
    assert!(first.reason.contains("ExpiredSignature"), "{}", first.reason);
    assert!(found.iter().all(|it| !it.reason.contains(&ended) && !it.detail.contains(&ended)));
}

#[tokio::test]
async fn scopes_are_the_rights_of_the_bearer() {
    let signer = Signer::rsa(None);
    let (server, _dir) = serve_with(&signer).await;
    let token = signer.sign(&claims());
    for (line, status) in [
        ("PUT /api/queues/%2F/q1", 201),
        ("PUT /api/queues/%2F/r1", 401),
        ("GET /api/queues/%2F/q1", 200),
        ("GET /api/users", 401),
        ("DELETE /api/queues/%2F/q1/contents", 204),
    ] {
        let answer = ask(&server, line, &token).await;
        assert_eq!(answer.status, status, "{line}: {}", answer.body);
    }
    // No user is called like the bearer; what it may do is explained by its scopes.
    let authorization = format!("Bearer {token}");
    for (exchange, refused) in [("amq.direct", Value::Null), ("amq.fanout", "write_refused".into())] {
        let keyed = with("scope", "mill.tag:management mill.write:%2F/amq.direct");
        let keyed = format!("Bearer {}", signer.sign(&keyed));
        let asked = json!({ "exchange": exchange, "routing_key": "k", "user": "shop" }).to_string();
        for (shown, refused) in [(&authorization, &Value::Null), (&keyed, &refused)] {
            let sent = send(&server, "POST /api/explain", &[("Authorization", shown)], &asked).await;
            assert_eq!(receive(sent).await.json()["refused"]["code"], *refused, "{exchange}");
        }
    }
    let (mut client, _) = log_in(&server, &token).await;
    client.open_channel(1).await;
    client.declare_queue(1, "q2", false).await;
    client.send(1, queue::Declare { queue: "other", ..Default::default() }).await;
    assert!(client.expect_channel_close(403).await.contains("user 'shop'"));
    // A key, with a topic exchange.
    let keyed = with(
        "scope",
        "mill.write:*/amq.topic/a.* mill.read:*/amq.topic/a.* mill.write:*/q* mill.configure:*/q*",
    );
    let (mut client, _) = log_in(&server, &signer.sign(&keyed)).await;
    for (number, key, is_allowed) in [(1, b"a.b", true), (2, b"b.b", false)] {
        client.open_channel(number).await;
        client.declare_queue(number, "q3", false).await;
        let bind = queue::Bind { queue: "q3", exchange: "amq.topic", routing_key: key, ..Default::default() };
        client.send(number, bind).await;
        match is_allowed {
            true => drop(client.expect("queue.bind-ok").await),
            false => drop(client.expect_channel_close(403).await),
        }
    }
}

#[tokio::test]
async fn a_token_that_ends_takes_its_connection_along_unless_another_comes() {
    let signer = Signer::ec(None);
    let (server, _dir) = serve_with(&signer).await;
    let soon = || signer.sign(&with("exp", get_current_timestamp() + 2));
    let (mut ending, _) = log_in(&server, &soon()).await;
    let (mut renewed, _) = log_in(&server, &soon()).await;
    let (mut wrong, _) = log_in(&server, &signer.sign(&claims())).await;
    let secret = signer.sign(&claims());
    renewed.send(0, connection::UpdateSecret { new_secret: secret.as_bytes(), reason: "it ends" }).await;
    renewed.expect("connection.update-secret-ok").await;
    let other = signer.sign(&with("sub", "somebody else"));
    wrong.send(0, connection::UpdateSecret { new_secret: other.as_bytes(), reason: "" }).await;
    wrong.expect_close(530).await;
    assert!(ending.expect_close(530).await.contains("token has expired"));
    renewed.open_channel(1).await;
}

#[tokio::test]
async fn keys_of_a_provider_are_fetched_again_when_one_is_missing_but_not_for_every_token() {
    let (first, second, never) = (Signer::ec(Some("1")), Signer::rsa(Some("2")), Signer::ec(Some("3")));
    let (url, asked) = provider(vec![json!([first.jwk(), { "kty": "odd" }]), json!([second.jwk()])]).await;
    let oauth = Oauth::new(OauthOptions { jwks_url: Some(url), ..options() }).unwrap();
    let server = TestServer::start_with_tokens(oauth).await;
    assert_eq!(ask(&server, "GET /api/whoami", &first.sign(&claims())).await.status, 200);
    let before = asked.load(Ordering::SeqCst);
    for _ in 0..5 {
        assert_eq!(ask(&server, "GET /api/whoami", &never.sign(&claims())).await.status, 401);
    }
    assert_eq!(asked.load(Ordering::SeqCst), before, "asked a moment ago");
}

#[test]
fn settings_that_would_let_anybody_in_are_refused() {
    let url = |text: &str| Some(text.to_owned());
    let with = |change: &dyn Fn(&mut OauthOptions)| {
        let mut options = OauthOptions { jwks_url: url("https://issuer/keys"), ..options() };
        change(&mut options);
        Oauth::new(options).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(with(&|_| ()), Ok(()));
    let cases = [
        with(&|it| it.jwks_url = url("http://issuer/keys")),
        with(&|it| it.jwks_url = None),
        with(&|it| it.algorithms = vec!["HS256".into()]),
        with(&|it| it.algorithms = vec!["none".into()]),
        with(&|it| it.signing_keys = vec!["/nowhere/key.pem".into()]),
    ];
    for refused in cases {
        assert!(refused.is_err());
    }
}
