//! What rules listen to: attributes of events, streams.

use crate::support::*;
use millpond_engine::check;
use millpond_model::properties::Properties;
use millpond_model::table::{Table, Value};

const ON: &str = "
exchanges:
  events: {type: x-events}
queues:
  out: {}
rules:
  RULE:
    on: ON
    do:
      - publish: {exchange: '', routing_key: out}
";

fn topology(on: &str) -> String {
    ON.replace("RULE", "listen").replace("ON", on)
}

fn event(attributes: &[(&str, &str)]) -> Properties {
    let headers = attributes.iter().map(|(name, value)| (format!("cloudEvents:{name}"), *value)).collect();
    Properties { headers, ..persistent() }
}

#[tokio::test]
async fn a_rule_takes_the_events_whose_attributes_it_names() {
    let cases = [
        ("{bus: events, type: order.created}", vec!["1", "2"]),
        ("{bus: events, type: {prefix: order.}}", vec!["1", "2", "3"]),
        ("{bus: events, type: [row.changed, {suffix: .paid}]}", vec!["3", "4"]),
        ("{bus: events, source: {prefix: /shop/}, tenant: [a, b]}", vec!["1"]),
        ("{bus: events, version: 7}", vec!["4"]),
        ("{bus: events}", vec!["1", "2", "3", "4"]),
    ];
    let it = TestEngine::new().await;
    let mut client = it.client();
    for (on, wanted) in cases {
        it.apply(&topology(on)).await;
        let shop = [("source", "/shop/eu"), ("tenant", "a")];
        client.publish_with("events", "order.created", b"1", &event(&shop)).await;
        client
            .publish_with("events", "order.created", b"2", &event(&[("source", "/web"), ("tenant", "a")]))
            .await;
        client.publish_with("events", "key", b"3", &event(&[("type", "order.paid")])).await;
        client.publish_with("events", "row.changed", b"4", &event(&[("version", "7")])).await;
        let mut seen = Vec::new();
        while seen.len() < wanted.len() {
            seen.push(client.get("out").await.body);
        }
        assert_eq!(seen, wanted, "{on}");
        assert!(client.try_get("out").await.is_none(), "{on}");
    }
}

#[tokio::test]
async fn a_rule_that_changes_what_it_listens_to_is_bound_anew() {
    let it = TestEngine::with(&topology("{bus: events, type: a}")).await;
    let mut client = it.client();
    it.apply(&topology("{bus: events, type: [b, c]}")).await;
    for body in ["a", "b", "c"] {
        client.publish_with("events", body, body.as_bytes(), &persistent()).await;
    }
    assert_eq!([client.get("out").await.body, client.get("out").await.body], ["b", "c"]);
    let it = it.reopen().await;
    let mut client = it.client();
    client.publish_with("events", "b", b"after", &persistent()).await;
    assert_eq!(client.get("out").await.body, "after");
}

#[tokio::test]
async fn a_rule_reads_a_stream_from_where_it_stopped() {
    let it = TestEngine::new().await;
    let mut client = it.client();
    let arguments: Table = [("x-queue-type", Value::from("stream"))].into_iter().collect();
    client.session.declare_queue(&millpond_broker::DeclareQueue { arguments, ..durable("log") }).unwrap();
    client.publish("", "log", "before the rule").await;
    it.apply(&topology("{stream: log}")).await;
    // It begins with what is published once it listens.
    let mut published = 0;
    let first = loop {
        published += 1;
        client.publish("", "log", &published.to_string()).await;
        if let Some(seen) = client.try_get("out").await {
            break seen.body.parse::<u32>().unwrap();
        }
    };
    it.engine.stop_rule("listen").await.unwrap();
    client.publish("", "log", &(published + 1).to_string()).await;
    it.engine.start_rule("listen").await.unwrap();
    for wanted in first + 1..=published + 1 {
        assert_eq!(client.get("out").await.body, wanted.to_string());
    }
    assert!(client.try_get("out").await.is_none());
}

#[test]
fn what_cannot_be_listened_to_is_named() {
    let attribute = "expected 'type', 'source', 'subject' or another attribute of events (lower-case letters and digits), or 'exchange', 'queue' or 'stream'";
    let condition = "expected a text, {prefix: ...}, {suffix: ...}, or a list of these";
    let on = "rules.listen.on";
    for (given, wanted) in [
        ("{}", format!("{on}: found nothing to listen to, expected a mapping with attributes of events")),
        ("{tpye: a}", format!("{on}.tpye: found 'tpye', {attribute}; did you mean 'type'?")),
        ("{exchang: a}", format!("{on}.exchang: found 'exchang', {attribute}; did you mean 'exchange'?")),
        ("{Tenant: a}", format!("{on}.Tenant: found 'Tenant', {attribute}")),
        ("{type: a, key: b}", format!("{on}.key: found 'key', {attribute}")),
        ("{type: []}", format!("{on}.type: found a list, {condition}")),
        ("{type: {prefx: a}}", "found the unknown key 'prefx', expected one of prefix or suffix".to_owned()),
        ("{type: {prefix: [a]}}", format!("{on}.type.prefix: found a list, expected a text")),
        ("{type: [a, [b]]}", format!("{on}.type[1]: found a list, {condition}")),
        ("{type: 1.5}", format!("{on}.type: found the number 1.5, {condition}")),
        ("{type: a, queue: q}", format!("{on}: found 'type' beside 'queue', expected 'queue' alone")),
        ("{exchange: e, queue: q}", format!("{on}: found both 'exchange' and 'queue', expected one of them")),
        (
            "{bus: amq.topic, type: a}",
            format!("{on}.bus: found the topic exchange 'amq.topic', expected one of type x-events"),
        ),
        ("[a]", format!("{on}: found a list, expected a mapping with attributes")),
    ] {
        let error = check("test.yaml", &topology(given)).unwrap_err().to_string();
        assert!(error.contains(&wanted), "{given}:\n{error}\n{wanted}");
    }
}
