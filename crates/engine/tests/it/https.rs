//! Requests over TLS: whom a rule trusts.

use crate::support::*;

fn hook(url: &str, ca_file: &str, retry: &str) -> String {
    format!(
        r#"
queues: {{in: {{}}, out: {{}}}}
rules:
  hook:
    on: {{queue: in}}
    do:
      - http: {{endpoint: "{url}/", ca_file: "{ca_file}"}}
      - publish: {{exchange: "", routing_key: out}}
    retry: {{first: 20ms, jitter: 0, factor: 1, {retry}}}
"#
    )
}

fn shown(name: &str) -> String {
    tls_file(name).display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_the_rule_names_is_trusted() {
    let mut server = Server::start_tls().await;
    let it = TestEngine::with(&hook(&server.url, &shown("authority.pem"), "max_attempts: 1")).await;
    let mut client = it.client();
    client.publish("", "in", "one").await;
    assert_eq!(client.get("out").await.body, "one");
    assert!(server.request().await.head.starts_with("POST / HTTP/1.1\r\n"));
    it.until("hook", |counts| counts == (1, 1, 0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_trusted_is_tried_again_and_then_the_message_is_parked() {
    for (ca_file, host, reason) in [
        (
            "stranger.pem",
            "127.0.0.1",
            "invalid peer certificate: UnknownIssuer: its authority is not known here; 'ca_file' can name it",
        ),
        (
            "authority.pem",
            "localhost",
            "invalid peer certificate: certificate not valid for name \"localhost\"",
        ),
    ] {
        let mut server = Server::start_tls().await;
        let url = server.url.replace("127.0.0.1", host);
        let it = TestEngine::with(&hook(&url, &shown(ca_file), "max_attempts: 3")).await;
        let mut client = it.client();
        client.publish("", "in", "one").await;
        let parked = client.get("hook.failed").await;
        let error = parked.header("x-millpond-error").unwrap();
        let begin = format!("test.yaml:7: POST {url}/: no connection: {reason}");
        assert!(error.starts_with(&begin), "{error}");
        assert_eq!(parked.body, "one");
        assert_eq!(it.counts("hook"), (1, 0, 2, 1));
        assert_eq!(client.ready("out"), 0);
        assert!(server.requests.try_recv().is_err(), "nothing is said to a server that is not trusted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_authorities_in_the_data_directory_is_read_again_when_it_changes() {
    let mut server = Server::start_tls().await;
    let it = TestEngine::new().await;
    let ca_file = it.data_dir().join("authorities.pem");
    std::fs::copy(tls_file("stranger.pem"), &ca_file).unwrap();
    it.apply(&hook(&server.url, "authorities.pem", "max_attempts: 1000")).await;
    let mut client = it.client();
    client.publish("", "in", "one").await;
    it.until("hook", |(_, _, retried, _)| retried > 0).await;
    std::fs::remove_file(&ca_file).unwrap();
    let (_, _, before, _) = it.counts("hook");
    it.until("hook", |(_, _, retried, _)| retried > before + 1).await;
    let both = ["stranger.pem", "authority.pem"].map(|name| std::fs::read_to_string(tls_file(name)).unwrap());
    std::fs::write(&ca_file, both.concat()).unwrap();
    server.request().await;
    assert_eq!(client.get("out").await.body, "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topology_with_a_file_of_authorities_that_cannot_be_used_is_not_applied() {
    let it = TestEngine::new().await;
    let dir = it.data_dir().display().to_string();
    std::fs::write(it.data_dir().join("empty.pem"), "").unwrap();
    std::fs::write(it.data_dir().join("large.pem"), vec![b'\n'; (1 << 20) + 1]).unwrap();
    std::fs::write(
        it.data_dir().join("bad.pem"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    for (ca_file, reason) in [
        ("gone.pem", "No such file or directory"),
        ("empty.pem", "there is no certificate in it: PEM is expected"),
        ("large.pem", "it has 1048577 bytes, at most 1048576 are read"),
        ("bad.pem", ""),
    ] {
        let topology = hook("https://127.0.0.1:1", ca_file, "max_attempts: 1");
        let error = it.engine.apply("test.yaml", &topology).await.unwrap_err().to_string();
        let begin = format!("test.yaml:7: rules.hook.do: ca_file '{dir}/{ca_file}': {reason}");
        assert!(error.starts_with(&begin), "{error}");
        assert!(!it.client().has_queue("in"), "nothing is declared");
    }
}
