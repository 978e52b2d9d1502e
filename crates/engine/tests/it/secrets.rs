//! Secrets: kept sealed, found when they are used, and seen nowhere else.

use crate::support::*;
use millpond_engine::{EngineOptions, check, dry_run};
use serde_json::json;
use std::path::Path;

const VALUE: &str = "s3cr3t-of-the-tests";

fn hook(url: &str, headers: &str) -> String {
    format!(
        r#"
queues: {{in: {{}}}}
rules:
  hook:
    on: {{queue: in}}
    do:
      - http: {{endpoint: "{url}/", headers: {headers}}}
    retry: {{max_attempts: 2, first: 1ms}}
"#
    )
}

/// Whether a text is in any file under a folder.
fn is_written(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => is_written(&path, text),
            false => std::fs::read(&path)
                .is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes())),
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_gets_secrets_of_every_kind() {
    let mut server = Server::start(&["200 OK"]).await;
    let headers = r#"{authorization: 'Bearer ${secret:api}', x-file: '${file:token}', x-home: '${env:CARGO_MANIFEST_DIR}', x-plain: '$${secret:api}', x-both: '\(.data.n)-${secret:api}'}"#;
    let it = TestEngine::with(&hook(&server.url, headers)).await;
    it.engine.secrets().set("api", VALUE).await.unwrap();
    std::fs::write(it.data_dir().join("token"), "from a file\n").unwrap();
    it.client().publish("", "in", r#"{"n": 7}"#).await;
    let request = server.request().await;
    assert_eq!(request.header("authorization"), Some("Bearer s3cr3t-of-the-tests"));
    assert_eq!(request.header("x-file"), Some("from a file"));
    assert_eq!(request.header("x-home"), Some(env!("CARGO_MANIFEST_DIR")));
    assert_eq!(request.header("x-plain"), Some("${secret:api}"));
    assert_eq!(request.header("x-both"), Some("7-s3cr3t-of-the-tests"));
}

#[tokio::test(flavor = "multi_thread")]
async fn user_and_password_become_basic_auth() {
    let mut server = Server::start(&["200 OK"]).await;
    let topology = hook(&server.url, "{}")
        .replace("headers: {}", r#"basic_auth: {user: '\(.data.user)', password: '${secret:api}'}"#);
    let it = TestEngine::with(&topology).await;
    it.engine.secrets().set("api", "open sesame").await.unwrap();
    it.client().publish("", "in", r#"{"user": "Aladdin"}"#).await;
    let request = server.request().await;
    assert_eq!(request.header("authorization"), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_cannot_ask_for_a_secret() {
    let mut server = Server::start(&["200 OK"]).await;
    let it = TestEngine::with(&hook(&server.url, r"{x-note: '\(.data.note)'}")).await;
    it.engine.secrets().set("api", VALUE).await.unwrap();
    it.client().publish("", "in", r#"{"note": "${secret:api}"}"#).await;
    assert_eq!(server.request().await.header("x-note"), Some("${secret:api}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_in_no_file_no_parked_message_and_no_dry_run() {
    // The server says back what it was sent, which goes into the error of the parked message.
    let mut server = Server::start(&["400 Echo"]).await;
    let topology = hook(&server.url, "{a: '${secret:api}', b: '${file:token}'}");
    let it = TestEngine::with(&topology).await;
    it.engine.secrets().set("api", VALUE).await.unwrap();
    std::fs::write(it.data_dir().join("token"), "s3cr3t-in-a-file").unwrap();
    let mut client = it.client();
    client.publish("", "in", "{}").await;
    assert_eq!(server.request().await.header("a"), Some(VALUE));
    let parked = client.get("hook.failed").await;
    let error = parked.header("x-millpond-error").unwrap();
    assert!(error.contains("a: ${secret:api}"), "{error}");
    assert!(!format!("{parked:?}").contains("s3cr3t"), "{parked:?}");
    let shown = it.engine.dry_run("hook", &json!({"data": {}})).unwrap().to_string();
    assert!(shown.contains("header a: ${secret:api}") && !shown.contains("s3cr3t"), "{shown}");
    assert!(!format!("{:?} {:?}", it.engine, it.engine.rules()).contains("s3cr3t"));
    std::fs::remove_file(it.data_dir().join("token")).unwrap();
    assert!(!is_written(it.data_dir(), "s3cr3t"), "a value stands in a file");
    assert!(is_written(it.data_dir(), "secret/api"), "the search finds what is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named_with_where_to_set_it() {
    let server = Server::start(&["200 OK"]).await;
    let missing = [
        (
            "${secret:api}",
            "test.yaml:7: the secret ${secret:api} is missing: set it with 'millpond secrets set api'",
        ),
        (
            "${env:NO_SUCH_VARIABLE}",
            "the secret ${env:NO_SUCH_VARIABLE} is missing: the broker's environment has no",
        ),
        ("${file:none}", "the secret ${file:none} is missing: "),
    ];
    for (text, expected) in missing {
        let it = TestEngine::with(&hook(&server.url, &format!("{{a: '{text}'}}"))).await;
        let mut client = it.client();
        client.publish("", "in", "{}").await;
        let error = client.get("hook.failed").await.header("x-millpond-error").unwrap();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_there_after_a_restart_and_gone_after_their_removal() {
    let it = TestEngine::new().await;
    it.engine.secrets().set("b", VALUE).await.unwrap();
    it.engine.secrets().set("a", "first").await.unwrap();
    it.engine.secrets().set("a", "second").await.unwrap();
    let it = it.reopen().await;
    assert_eq!(it.engine.secrets().names(), ["a", "b"]);
    let mut server = Server::start(&["200 OK"]).await;
    it.apply(&hook(&server.url, "{a: '${secret:a}'}")).await;
    it.client().publish("", "in", "{}").await;
    assert_eq!(server.request().await.header("a"), Some("second"));
    it.engine.secrets().remove("a").await.unwrap();
    let error = it.engine.secrets().remove("a").await.unwrap_err().to_string();
    assert_eq!(error, "the secret ${secret:a} is missing: set it with 'millpond secrets set a'");
    let it = it.reopen().await;
    assert_eq!(it.engine.secrets().names(), ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_a_file_that_nobody_else_reads() {
    use std::os::unix::fs::PermissionsExt;
    let it = TestEngine::new().await;
    let path = it.data_dir().join("secrets.key");
    assert!(!path.exists(), "there is no key before there is a secret");
    it.engine.secrets().set("a", VALUE).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let key = std::fs::read_to_string(&path).unwrap();
    // A key that is lost is not replaced in passing, and another does not open what this one sealed.
    let set = async |it: &TestEngine| it.engine.secrets().set("b", VALUE).await.unwrap_err().to_string();
    std::fs::remove_file(&path).unwrap();
    let it = it.reopen().await;
    assert!(set(&it).await.starts_with("the key of the secrets cannot be read: "));
    for (text, expected) in [("00\n", "is no key of secrets"), ("zz\n", "64 hexadecimal digits")] {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let error = set(&it).await;
        assert!(error.contains(expected), "{error}");
    }
    std::fs::write(&path, &key).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let error = set(&it).await;
    assert!(error.contains("has the mode 0644, expected 0600"), "{error}");
    let server = Server::start(&["200 OK"]).await;
    std::fs::write(&path, "00".repeat(32)).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    it.apply(&hook(&server.url, "{a: '${secret:a}'}")).await;
    let mut client = it.client();
    client.publish("", "in", "{}").await;
    let error = client.get("hook.failed").await.header("x-millpond-error").unwrap();
    assert!(error.contains("it was sealed with another key than that in"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_values_have_limits() {
    let it = TestEngine::new().await;
    for name in ["", "a b", "a/b", "a}", &"x".repeat(129)] {
        let error = it.engine.secrets().set(name, VALUE).await.unwrap_err().to_string();
        assert!(error.contains("is no name of a secret"), "{error}");
    }
    for value in [String::new(), "x".repeat(64 * 1024 + 1)] {
        let error = it.engine.secrets().set("a", &value).await.unwrap_err().to_string();
        assert!(error.contains("expected 1 to 65536"), "{error}");
    }
    assert!(EngineOptions::new("data").secrets_key.is_none());
}

#[test]
fn mistakes_in_references_are_shown() {
    let table = [
        ("'${api}'", "found '${api}', expected ${env:NAME}, ${file:PATH} or ${secret:NAME}"),
        ("'${secret:}'", "found '${secret:}', expected"),
        ("'${secret:api'", "found '${' without its '}', expected"),
    ];
    for (text, expected) in table {
        let error = check("t.yaml", &hook("http://x", &format!("{{a: {text}}}"))).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("t.yaml:7: rules.hook.do[0].http.headers.a: "), "{error}");
    }
    let elsewhere = hook("http://x", "{}").replace("\"http://x/\"", "\"http://x/?key=${secret:api}\"");
    let error = check("t.yaml", &elsewhere).unwrap_err().to_string();
    assert!(error.contains("expected none: this place would show it"), "{error}");
    let fine = check("t.yaml", &hook("http://x", "{a: '$${b}'}")).unwrap();
    assert!(dry_run(&fine, "hook", &json!({})).unwrap().to_string().contains("header a: ${b}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_another_begins_with_leaves_nothing_of_that_in_an_error() {
    let server = Server::start(&["400 Echo"]).await;
    let it = TestEngine::with(&hook(&server.url, "{x-a: '${secret:a}', x-b: '${secret:b}'}")).await;
    it.engine.secrets().set("a", "open").await.unwrap();
    it.engine.secrets().set("b", "open-sesame").await.unwrap();
    let mut client = it.client();
    client.publish("", "in", "1").await;
    let error = client.get("hook.failed").await.header("x-millpond-error").unwrap();
    assert!(error.contains("${secret:a}") && error.contains("${secret:b}"), "{error}");
    assert!(!error.contains("sesame"), "{error}");
}
