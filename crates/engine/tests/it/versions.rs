//! Several versions of a rule at once: what an earlier one has in hand when the next comes, is stopped or goes.

use crate::support::*;

/// Whose request fails, and is tried again in an hour.
const RULE: &str = r#"
exchanges: {in: {type: fanout}}
queues: {out: {}}
rules:
  r:
    on: {exchange: in}
    do:
      - http: {endpoint: URL}
      - publish: {exchange: "", routing_key: out, body: '"first"'}
    retry: {first: 1h, max: 1h}
"#;

/// With a message in hand of a version that is not the last.
async fn with_an_old_version(server: &Server) -> (TestEngine, String) {
    let first = RULE.replace("URL", &server.url);
    let it = TestEngine::with(&first).await;
    it.client().publish("in", "", "1").await;
    it.until("r", |(_, _, retried, _)| retried == 1).await;
    let second = first.replace("first\"", "second\"");
    it.apply(&second).await;
    assert_eq!(it.client().ready("rule.r"), 0, "the first version has it still");
    (it, second)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_goes_loses_nothing_of_what_an_earlier_version_has_in_hand() {
    let server = Server::start(&["500 Down"]).await;
    let (it, second) = with_an_old_version(&server).await;
    let changes = it.apply("exchanges: {in: {type: fanout}}\nqueues: {out: {}}").await;
    let mut client = it.client();
    assert!(client.has_queue("rule.r"), "{changes}");
    assert_eq!(client.ready("rule.r"), 1, "{changes}");
    it.apply(&second).await;
    it.until("r", |(seen, ..)| seen == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_stopped_lets_go_of_what_an_earlier_version_has_in_hand() {
    let server = Server::start(&["500 Down"]).await;
    let (it, _) = with_an_old_version(&server).await;
    it.engine.stop_rule("r").await.unwrap();
    assert_eq!(it.client().ready("rule.r"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_with_an_order_begins_when_all_before_it_have_let_go() {
    let server = Server::start(&["500 Down"]).await;
    let (it, second) = with_an_old_version(&server).await;
    it.engine.pause_rule("r").await.unwrap();
    it.apply(&second.replace("    retry", "    order_by: .data\n    retry")).await;
    assert_eq!(it.client().ready("rule.r"), 1);
}

/// Both versions would read the stream from where the first one has come to.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_a_stream_is_worked_on_by_one_version_alone() {
    let mut server = Server::start(&["500 Down", "200 OK"]).await;
    let topology = format!(
        r#"
queues: {{history: {{arguments: {{x-queue-type: stream}}}}, out: {{}}}}
rules:
  r:
    on: {{stream: history}}
    do:
      - http: {{endpoint: "{url}"}}
      - publish: {{exchange: "", routing_key: out, body: '"first"'}}
    retry: {{first: 1h, max: 1h}}
"#,
        url = server.url
    );
    let it = TestEngine::with(&topology).await;
    let mut client = it.client();
    client.publish("", "history", "1").await;
    server.request().await;
    it.until("r", |(_, _, retried, _)| retried == 1).await;
    it.apply(&topology.replace("first\"", "second\"")).await;
    assert_eq!(client.get("out").await.body, "second");
    it.engine.stop_rule("r").await.unwrap();
    assert_eq!(client.ready("out"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_counts_of_a_rule_go_on_through_its_versions() {
    let server = Server::start(&["500 Down"]).await;
    let (it, second) = with_an_old_version(&server).await;
    assert_eq!(it.counts("r"), (1, 0, 1, 0));
    it.apply(&second.replace("second\"", "third\"")).await;
    assert_eq!(it.counts("r"), (1, 0, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_not_taken_for_a_queue_nor_a_queue_for_a_stream() {
    let it = TestEngine::with("queues: {s: {arguments: {x-queue-type: stream}}, q: {}}").await;
    let declared = "queues: {s: {arguments: {x-queue-type: stream}}, q: {}}\n";
    for before in [declared, ""] {
        let rule = |name: &str, on: &str| format!("  {name}: {{on: {on}, do: [file: {{path: f}}]}}\n");
        let file = format!("{before}rules:\n{}{}", rule("a", "{queue: s}"), rule("b", "{stream: q}"));
        let refused = it.engine.apply("t.yaml", &file).await.unwrap_err().to_string();
        for part in [
            "found the stream 's' as a queue, expected {stream: s}",
            "found the queue 'q' as a stream, expected {queue: q}",
        ] {
            assert!(refused.contains(part), "{part}\nis not in\n{refused}");
        }
    }
}
