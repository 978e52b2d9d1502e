//! Rules paused, drained, replaced while they work; their versions.

use crate::support::*;
use millpond_engine::RuleState;

const RULE: &str = r#"
exchanges: {in: {type: fanout}}
queues: {out: {}}
rules:
  r:
    on: {exchange: in}
    do:
      - http: {endpoint: URL}
      - publish: {exchange: "", routing_key: out, body: '"first"'}
    retry: {max_attempts: 1000, first: 10ms, max: 10ms}
"#;

async fn until_state(it: &TestEngine, state: &str) {
    in_time(state, async {
        while it.state("r") != state {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_rule_finishes_what_it_has_in_hand_and_its_queue_collects() {
    let mut server = Server::start(&["500 Down", "500 Down", "500 Down", "200 OK"]).await;
    let it = TestEngine::with(&RULE.replace("URL", &server.url)).await;
    let mut client = it.client();
    client.publish("in", "", "1").await;
    server.request().await;
    // One attempt has failed, the others are still to come.
    assert!(it.engine.pause_rule("r").await.unwrap());
    assert_eq!(client.get("out").await.body, "first", "it was finished, not given back");
    assert_eq!(it.state("r"), "paused");
    client.publish("in", "", "2").await;
    let status = it.engine.rules().remove(0);
    assert_eq!((status.ready, status.unacked, status.seen, status.version), (1, 0, 1, 1));
    drop(client);
    let it = it.reopen().await;
    assert_eq!(it.state("r"), "paused");
    assert_eq!(it.client().ready("rule.r"), 1);
    it.engine.start_rule("r").await.unwrap();
    it.until("r", |(_, acted, ..)| acted == 1).await;
    assert_eq!(it.state("r"), "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_pausing_can_be_resumed_and_loses_nothing() {
    let mut server = Server::start(&["500 Down", "200 OK"]).await;
    let topology = RULE.replace("URL", &server.url).replace("10ms", "60s");
    let it = TestEngine::with(&topology).await;
    let mut client = it.client();
    client.publish("in", "", "1").await;
    server.request().await;
    it.until("r", |(_, _, retried, _)| retried == 1).await;
    // The next attempt is a minute off: the pause goes on by itself.
    assert!(!it.engine.pause_rule("r").await.unwrap());
    assert_eq!(it.engine.rules()[0].state, RuleState::Pausing);
    it.engine.start_rule("r").await.unwrap();
    assert_eq!(client.get("out").await.body, "first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_rule_gets_nothing_new_works_off_its_queue_and_rests() {
    let server = Server::start(&["200 OK"]).await;
    let topology = RULE.replace("URL", &server.url);
    let it = TestEngine::with(&topology).await;
    let mut client = it.client();
    it.engine.stop_rule("r").await.unwrap();
    for body in ["1", "2", "3"] {
        client.publish("in", "", body).await;
    }
    it.engine.drain_rule("r").await.unwrap();
    client.publish("in", "", "lost on purpose").await;
    until_state(&it, "drained").await;
    assert_eq!(it.counts("r").1, 3);
    // Applying the same file leaves it drained.
    assert!(it.apply(&topology).await.starts_with("nothing to change"));
    drop(client);
    let it = it.reopen().await;
    let mut client = it.client();
    client.publish("in", "", "nobody listens").await;
    assert_eq!((it.state("r").as_str(), client.ready("rule.r")), ("drained", 0));
    it.engine.start_rule("r").await.unwrap();
    client.publish("in", "", "4").await;
    it.until("r", |(_, acted, ..)| acted == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_takes_from_somebodys_queue_cannot_be_drained() {
    let it = TestEngine::with("queues: {q: {}}\nrules: {r: {on: {queue: q}, do: [file: {path: f}]}}").await;
    let error = it.engine.drain_rule("r").await.unwrap_err().to_string();
    assert!(error.starts_with("rule 'r' takes from queue 'q', which others fill"), "{error}");
    assert_eq!(it.state("r"), "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_begins_while_the_old_one_finishes_what_it_has_in_hand() {
    let mut server = Server::start(&["500 Down", "500 Down", "500 Down", "500 Down", "200 OK"]).await;
    let first = RULE.replace("URL", &server.url);
    let it = TestEngine::with(&first).await;
    let mut client = it.client();
    client.publish("in", "", "old").await;
    server.request().await;
    let begin = first.find("      - http").unwrap();
    let end = first.find("      - publish").unwrap();
    let second = format!("{}{}", &first[..begin], &first[end..]).replace("first\"'", "second\"'");
    let plan = it.engine.plan("test.yaml", &second).await.unwrap().to_string();
    assert!(plan.contains("+       body: '\"second\"'"), "{plan}");
    it.apply(&second).await;
    client.publish("in", "", "new").await;
    let bodies = [client.get("out").await.body, client.get("out").await.body];
    assert!(bodies.contains(&"first".to_owned()) && bodies.contains(&"second".to_owned()), "{bodies:?}");
    assert_eq!(it.engine.rules()[0].version, 2);
    assert_eq!(client.ready("rule.r"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_definition_that_was_applied_has_a_number_and_says_what_differs() {
    let first = RULE.replace("URL", "http://127.0.0.1:9/");
    let it = TestEngine::with(&first).await;
    it.engine.stop_rule("r").await.unwrap();
    let second = first.replace("max_attempts: 1000", "max_attempts: 9");
    it.apply(&second).await;
    // Moved, and said again: no new version.
    it.apply(&format!("# Moved.\n{second}")).await;
    it.apply(&first).await;
    let it = it.reopen().await;
    let versions = it.engine.rule_history("r").unwrap();
    assert_eq!(versions.iter().map(|it| it.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(versions[0].hash, versions[2].hash);
    assert_ne!(versions[0].hash, versions[1].hash);
    assert!(versions[0].difference.is_empty());
    let changed = ["-   max_attempts: 1000", "+   max_attempts: 9"];
    assert!(changed.iter().all(|line| versions[1].difference.iter().any(|it| it == line)), "{versions:?}");
    assert_eq!(it.engine.rules()[0].version, 3);
    it.apply("exchanges: {in: {type: fanout}}").await;
    assert_eq!(it.engine.rule_history("r").unwrap().len(), 3, "a rule that went keeps its history");
    assert!(it.engine.rule_history("rr").unwrap_err().to_string().contains("did you mean 'r'?"));
}
