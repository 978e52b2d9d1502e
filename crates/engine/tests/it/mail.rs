//! Mail, against a real server: aiosmtpd.

use crate::support::*;
use millpond_engine::{check, dry_run};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A mail server in a process of its own; it ends with this.
struct MailServer {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: u64,
}

impl MailServer {
    async fn start(mode: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/mail");
        let found = Command::new(folder.join("python")).output().await.unwrap();
        let python = String::from_utf8(found.stdout).unwrap();
        assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
        let mut child = Command::new(python.trim())
            .args(["-W", "ignore"])
            .arg(folder.join("server.py"))
            .arg(mode)
            .args([tls_file("server.pem"), tls_file("server.key")])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut it = Self { _child: child, lines, port: 0 };
        it.port = it.told("port").await["port"].as_u64().unwrap();
        it
    }

    /// Waits for what it tells of this kind.
    async fn told(&mut self, kind: &str) -> Value {
        in_time(&format!("a {kind} of the mail server"), async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("the mail server ended");
                let told: Value = serde_json::from_str(&line).unwrap();
                if told.get(kind).is_some() {
                    return told;
                }
            }
        })
        .await
    }
}

/// A rule `mail` with this action, and a server `main` with these settings.
fn topology(server: &str, email: &str) -> String {
    let email = email.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    format!(
        r#"
queues: {{in: {{}}, out: {{}}}}
mail:
  main: {{host: 127.0.0.1, from: Shop <shop@example.com>, {server}}}
rules:
  mail:
    on: {{queue: in}}
    do:
      - email: {{{email}}}
      - publish: {{exchange: "", routing_key: out}}
    retry: {{max_attempts: 2, first: 1ms}}
"#
    )
}

fn plain(port: u64) -> String {
    format!("port: {port}, tls: none")
}

const WELCOME: &str =
    r#"to: '\(.data.email)', subject: 'Welcome, \(.data.name)', text: 'Hello \(.data.name)'"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_arrives_with_everything_it_was_given() {
    let mut server = MailServer::start("none").await;
    let email = r#"to: ['\(.data.email)', "Bob <bob@example.com>"], cc: cc@example.com, bcc: '\(.data.hidden)',
        reply_to: answer@example.com, subject: 'Grüße an \(.data.name)', text: "Hello \\(.data.name)\nbye",
        html: '<p>\(.data.name | @html)</p>', headers: {X-Campaign: 'n \(.data.n)'},
        attachments: [{name: a.txt, content_type: text/plain, body: .data.name},
        {name: b.bin, body: .data.file, base64: true}]"#;
    let it = TestEngine::with(&topology(&plain(server.port), email)).await;
    let mut client = it.client();
    let event = r#"{"email": "ann@example.com", "hidden": ["x@example.com", "y@example.com"], "name": "Ann <3",
        "n": 7, "file": "AAEC/w=="}"#;
    let properties =
        millpond_model::properties::Properties { message_id: Some("m 1".into()), ..persistent() };
    client.publish_with("", "in", event.as_bytes(), &properties).await;
    let told = server.told("mail").await;
    let mail = &told["mail"];
    assert_eq!(mail["From"], "Shop <shop@example.com>");
    assert_eq!(mail["To"], "ann@example.com, Bob <bob@example.com>");
    assert_eq!(mail["Cc"], "cc@example.com");
    assert_eq!(mail["Reply-To"], "answer@example.com");
    assert_eq!(mail["Subject"], "Grüße an Ann <3");
    assert_eq!(mail["X-Campaign"], "n 7");
    assert_eq!(mail["Idempotency-Key"], "m%201/mail/0");
    let id = mail["Message-ID"].as_str().unwrap();
    assert!(id.starts_with('<') && id.ends_with("@example.com>") && id.len() == 46, "{id}");
    assert!(mail.get("Bcc").is_none(), "nobody is told of hidden recipients");
    let recipients =
        json!(["ann@example.com", "bob@example.com", "cc@example.com", "x@example.com", "y@example.com"]);
    assert_eq!(told["recipients"], recipients);
    assert_eq!(told["sender"], "shop@example.com");
    let parts: Vec<_> = told["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| {
            let content = part["content"].as_str().unwrap().trim_end().replace("\r\n", "\n");
            (part["type"].as_str().unwrap(), part["name"].as_str().unwrap_or("-"), content)
        })
        .collect();
    let text = |text: &str| text.to_owned();
    assert_eq!(
        parts,
        [
            ("text/plain", "-", text("Hello Ann <3\nbye")),
            ("text/html", "-", text("<p>Ann &lt;3</p>")),
            ("text/plain", "a.txt", text("Ann <3")),
            ("application/octet-stream", "b.bin", text("000102ff")),
        ]
    );
    client.get("out").await;
    it.until("mail", |counts| counts == (1, 1, 0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_goes_over_starttls_or_tls_and_is_written_nowhere() {
    for mode in ["starttls", "required"] {
        let mut server = MailServer::start(mode).await;
        let authority = tls_file("authority.pem");
        let settings = format!(
            "port: {}, tls: {mode}, ca_file: '{}', username: app, password: '${{secret:smtp}}'",
            server.port,
            authority.display()
        );
        let it = TestEngine::with(&topology(&settings, WELCOME)).await;
        let mut client = it.client();
        // Without the secret, and with a wrong one, the mail waits for the right one.
        client.publish("", "in", r#"{"email": "ann@example.com", "name": "Ann"}"#).await;
        let error = client.get("mail.failed").await.header("x-millpond-error").unwrap();
        assert!(error.contains("set it with 'millpond secrets set smtp'"), "{error}");
        it.engine.secrets().set("smtp", "wr0ng-s3cr3t-mail").await.unwrap();
        client.publish("", "in", r#"{"email": "ann@example.com", "name": "Ann"}"#).await;
        let error = client.get("mail.failed").await.header("x-millpond-error").unwrap();
        assert!(error.contains("mail server 'the only server'") && error.contains("535"), "{error}");
        assert!(!error.contains("wr0ng"), "{error}");
        it.engine.secrets().set("smtp", "s3cr3t-mail").await.unwrap();
        client.publish("", "in", r#"{"email": "ann@example.com", "name": "Ann"}"#).await;
        let told = server.told("mail").await;
        assert_eq!((&told["tls"], &told["login"]), (&json!(true), &json!(true)), "{mode}");
        client.get("out").await;
        assert!(!format!("{:?}", it.engine).contains("s3cr3t"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_nobody_vouches_for_gets_no_mail() {
    let server = MailServer::start("starttls").await;
    let settings = format!("port: {}, tls: starttls", server.port);
    let it = TestEngine::with(&topology(&settings, WELCOME)).await;
    let mut client = it.client();
    client.publish("", "in", r#"{"email": "ann@example.com", "name": "Ann"}"#).await;
    let error = client.get("mail.failed").await.header("x-millpond-error").unwrap();
    assert!(error.contains("UnknownIssuer"), "{error}");
    assert_eq!(it.counts("mail").2, 1, "it was tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_is_tried_again_with_the_same_id_and_a_refusal_is_not() {
    let mut server = MailServer::start("none").await;
    let it = TestEngine::with(&topology(&plain(server.port), WELCOME)).await;
    let mut client = it.client();
    client.publish("", "in", r#"{"email": "busy@example.com", "name": "Ann"}"#).await;
    let told = server.told("mail").await;
    assert_eq!(told["recipients"], json!(["busy@example.com"]));
    it.until("mail", |counts| counts == (1, 1, 1, 0)).await;
    client.publish("", "in", r#"{"email": "nobody@example.com", "name": "Ann"}"#).await;
    let parked = client.get("mail.failed").await;
    let error = parked.header("x-millpond-error").unwrap();
    assert!(error.contains("550") && error.contains("No such mailbox"), "{error}");
    assert_eq!(parked.header("x-millpond-attempts").as_deref(), Some("1"));
    // Connections are kept: what comes after a refusal comes over one that is whole.
    client.publish("", "in", r#"{"email": "ann@example.com", "name": "Ann"}"#).await;
    assert_eq!(server.told("mail").await["recipients"], json!(["ann@example.com"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_given_up_in_time_and_others_get_their_mail() {
    let mut server = MailServer::start("none").await;
    let settings = format!("{}, timeout: 300ms", plain(server.port));
    let it = TestEngine::with(&topology(&settings, WELCOME)).await;
    let mut client = it.client();
    client.publish("", "in", r#"{"email": "slow@example.com", "name": "Ann"}"#).await;
    let error = client.get("mail.failed").await.header("x-millpond-error").unwrap();
    assert!(error.contains("no answer within 300 ms"), "{error}");
    client.publish("", "in", r#"{"email": "ann@example.com", "name": "Ann"}"#).await;
    assert_eq!(server.told("mail").await["recipients"], json!(["ann@example.com"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_adds_no_headers_and_no_recipients() {
    let server = MailServer::start("none").await;
    let it = TestEngine::with(&topology(&plain(server.port), WELCOME)).await;
    let mut client = it.client();
    let table = [
        (
            "ann@example.com, victim@example.com",
            "Ann",
            "'to' has \"ann@example.com, victim@example.com\", expected",
        ),
        ("ann@example.com\r\nBcc: victim@example.com", "Ann", "'to' has"),
        ("ann@example.com", "Ann\r\nBcc: victim@example.com", "subject has a line end"),
        ("nothing", "Ann", "expected an address such as Ann <ann@example.com>"),
        ("", "Ann", "expected an address"),
    ];
    for (email, name, expected) in table {
        client.publish("", "in", &json!({"email": email, "name": name}).to_string()).await;
        let parked = client.get("mail.failed").await;
        let error = parked.header("x-millpond-error").unwrap();
        assert!(error.contains(expected), "{error}");
        assert_eq!(parked.header("x-millpond-attempts").as_deref(), Some("1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_in_the_file_counts_for_rules_that_run() {
    let mut first = MailServer::start("none").await;
    let mut second = MailServer::start("none").await;
    let it = TestEngine::with(&topology(&plain(first.port), WELCOME)).await;
    let mut client = it.client();
    let event = r#"{"email": "ann@example.com", "name": "Ann"}"#;
    client.publish("", "in", event).await;
    first.told("mail").await;
    let report = it.apply(&topology(&plain(second.port), WELCOME)).await;
    assert!(report.contains("mail server main: replaced"), "{report}");
    client.publish("", "in", event).await;
    second.told("mail").await;
}

#[test]
fn a_dry_run_shows_a_mail() {
    let topology = check("t.yaml", &topology("tls: starttls", WELCOME)).unwrap();
    let shown = dry_run(&topology, "mail", &json!({"email": "ann@example.com", "name": "Ann"})).unwrap();
    let expected = "email (t.yaml:9)\n   to: ann@example.com\n   subject: Welcome, Ann\n   text: Hello Ann\n";
    assert!(shown.to_string().contains(expected), "{shown}");
}

#[test]
fn mistakes_in_mail_are_shown() {
    let table = [
        (topology("tls: maybe", WELCOME), "expected starttls, required or none"),
        (
            topology("username: app", WELCOME),
            "found one of 'username' and 'password', expected both or neither",
        ),
        (
            topology("port: 0", WELCOME),
            "mail.main.port: found the number 0, expected a whole number from 1 to 65535",
        ),
        (topology("host: mail.example.com, tls: none, username: a, password: b", WELCOME), "a second time"),
        (
            topology("tls: none, username: a, password: b", WELCOME).replace("127.0.0.1", "mail.example.com"),
            "everybody on the way could read it",
        ),
        (
            topology("tls: none", "to: ann, subject: s, text: t"),
            "do[0].email.to: found 'ann', expected an address",
        ),
        (topology("tls: none", "to: a@b.c, subject: s"), "found neither 'text' nor 'html'"),
        (topology("tls: none", "subject: s, text: t"), "found no 'to'"),
        (
            topology("tls: none", "to: a@b.c, subject: s, text: t, headers: {Bcc: x}"),
            "found 'Bcc', expected other headers",
        ),
        (
            topology("tls: none", "server: mian, to: a@b.c, subject: s, text: t"),
            "email.server: found 'mian', expected main; did you mean 'main'?",
        ),
    ];
    for (text, expected) in table {
        let error = check("t.yaml", &text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\nexpected {expected}");
    }
}
