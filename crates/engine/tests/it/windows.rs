//! Rules with memory, on a real broker: what they do, what a restart keeps, what cannot be.

use crate::support::*;
use millpond_engine::{check, run_tests};
use millpond_model::properties::Properties;
use serde_json::json;

const EVERYTHING: &str = "
exchanges:
  events: {type: x-events}
queues:
  out: {}
  late: {}
rules:
  it:
    HEAD
    do:
      - publish: {exchange: '', routing_key: out, body: BODY}
";

fn topology(head: &str, body: &str) -> String {
    EVERYTHING.replace("HEAD", head).replace("BODY", body)
}

async fn engine(head: &str, body: &str) -> TestEngine {
    TestEngine::with(&topology(head, body)).await
}

#[tokio::test]
async fn a_count_acts_when_so_many_events_of_a_key_have_come() {
    let head = "on: {bus: events, type: login.failed}\n    count: {every: 3, within: 1h, by: .data.user}";
    let it = engine(head, "'{user: .key, count: .count, last: .data.n}'").await;
    let mut client = it.client();
    for (n, user) in [(1, "a"), (2, "b"), (3, "a"), (4, "b"), (5, "a"), (6, "a"), (7, "b")] {
        let body = json!({"user": user, "n": n}).to_string();
        client.publish("events", "login.failed", &body).await;
    }
    assert_eq!(client.get("out").await.json(), json!({"user": "a", "count": 3, "last": 5}));
    assert_eq!(client.get("out").await.json(), json!({"user": "b", "count": 3, "last": 7}));
    it.until("it", |(seen, acted, _, failed)| (seen, acted, failed) == (7, 2, 0)).await;
    assert!(client.try_get("out").await.is_none());
}

#[tokio::test]
async fn what_is_counted_outlives_a_restart_and_is_committed_with_the_ack() {
    let head = "on: {queue: late}\n    count: {at_least: 3, within: 1h, window: tumbling}";
    let it = engine(head, "'{count: .count, body: .data}'").await;
    let mut client = it.client();
    client.publish("", "late", "1").await;
    client.publish("", "late", "2").await;
    it.until("it", |(seen, ..)| seen == 2).await;
    drop(client);
    let it = it.reopen().await;
    let mut client = it.client();
    client.publish("", "late", "3").await;
    assert_eq!(client.get("out").await.json(), json!({"count": 3, "body": 3}));
    assert!(client.try_get("late").await.is_none(), "all were acked");
}

#[tokio::test]
async fn a_debounce_acts_once_it_is_quiet_with_the_last_event_as_it_came() {
    let head = "on: {bus: events, type: row.changed}\n    debounce: {wait: 1500ms, by: .data.id}";
    let it = engine(head, ".").await;
    let mut client = it.client();
    for n in 0..5 {
        let mut properties = Properties { message_id: Some(format!("m{n}").into()), ..persistent() };
        properties.headers.push("mine", "kept");
        let body = json!({"id": 7, "n": n}).to_string();
        client.publish_with("events", "row.changed", body.as_bytes(), &properties).await;
    }
    let event = client.get("out").await.json();
    assert_eq!(event["data"], json!({"id": 7, "n": 4}));
    assert_eq!((&event["count"], &event["key"], &event["id"]), (&json!(5), &json!("7"), &json!("m4")));
    assert_eq!(event["amqp"]["headers"]["mine"], "kept");
    assert_eq!(event["amqp"]["routing_key"], "row.changed");
    it.until("it", |(.., failed)| failed == 0).await;
    assert!(client.try_get("out").await.is_none());
}

#[tokio::test]
async fn a_debounce_that_waits_outlives_a_restart() {
    let head = "on: {bus: events, type: t}\n    debounce: {wait: 500ms}";
    let it = engine(head, ".data").await;
    let mut client = it.client();
    client.publish("events", "t", "1").await;
    it.until("it", |(seen, ..)| seen == 1).await;
    drop(client);
    let it = it.reopen().await;
    let mut client = it.client();
    assert_eq!(client.get("out").await.body, "1");
}

#[tokio::test]
async fn a_throttle_acts_on_the_first_and_swallows_the_rest() {
    let head = "on: {bus: events, type: alarm}\n    throttle: {every: 1h, by: .data.host}";
    let it = engine(head, "'[.data.host, .count]'").await;
    let mut client = it.client();
    for host in ["a", "a", "b", "a", "b"] {
        client.publish("events", "alarm", &json!({ "host": host }).to_string()).await;
    }
    assert_eq!(client.get("out").await.json(), json!(["a", 0]));
    assert_eq!(client.get("out").await.json(), json!(["b", 0]));
    it.until("it", |(seen, ..)| seen == 5).await;
    it.engine.stop_rule("it").await.unwrap();
    assert!(client.try_get("out").await.is_none());
}

const JOIN: &str = "all_of:
      bus: events
      events:
        paid: {type: order.paid}
        shipped: {type: {prefix: parcel.}}
      correlate: .data.order
      within: TIME
      on_timeout:
        - publish: {exchange: '', routing_key: late, body: '{key: .key, missing, got: (.events | keys)}'}";

#[tokio::test]
async fn all_of_acts_once_when_all_events_have_come() {
    let it = engine(
        &JOIN.replace("TIME", "1h"),
        "'{order: .key, paid: .events.paid.data.amount, by: .events.shipped.type, missing}'",
    )
    .await;
    let mut client = it.client();
    client.publish("events", "order.paid", r#"{"order": 1, "amount": 5}"#).await;
    client.publish("events", "order.paid", r#"{"order": 2, "amount": 6}"#).await;
    client.publish("events", "parcel.sent", r#"{"order": 2}"#).await;
    let joined = json!({"order": "2", "paid": 6, "by": "parcel.sent", "missing": []});
    assert_eq!(client.get("out").await.json(), joined);
    drop(client);
    let it = it.reopen().await;
    let mut client = it.client();
    client.publish("events", "parcel.lost", r#"{"order": 1}"#).await;
    let joined = json!({"order": "1", "paid": 5, "by": "parcel.lost", "missing": []});
    assert_eq!(client.get("out").await.json(), joined);
    assert!(client.try_get("late").await.is_none());
}

#[tokio::test]
async fn all_of_tells_what_did_not_come_in_time() {
    let it = engine(&JOIN.replace("TIME", "100ms"), ".").await;
    let mut client = it.client();
    client.publish("events", "order.paid", r#"{"order": "x"}"#).await;
    let told = json!({"key": "x", "missing": ["shipped"], "got": ["paid"]});
    assert_eq!(client.get("late").await.json(), told);
    assert!(client.try_get("out").await.is_none());
}

#[tokio::test]
async fn an_event_without_a_key_is_parked_with_the_reason_and_the_rest_flows() {
    let head = "on: {bus: events, type: t}\n    when: .data.n > 0\n    count: {every: 1, within: 1m, by: .data.user}";
    let it = engine(head, ".data").await;
    let mut client = it.client();
    for body in [r#"{"n": 1}"#, r#"{"n": 0, "user": "not asked"}"#, r#"{"n": 2, "user": "u"}"#] {
        client.publish("events", "t", body).await;
    }
    let parked = client.get("it.failed").await;
    assert_eq!(parked.body, r#"{"n": 1}"#);
    let error = parked.header("x-millpond-error").unwrap();
    assert!(error.contains("the expression for the key gave null"), "{error}");
    assert_eq!(client.get("out").await.json(), json!({"n": 2, "user": "u"}));
    it.until("it", |counts| counts == (3, 1, 0, 1)).await;
}

#[tokio::test]
async fn a_rule_that_goes_forgets() {
    let head = "on: {bus: events, type: t}\n    throttle: {every: 1h}";
    let it = engine(head, ".data").await;
    let mut client = it.client();
    client.publish("events", "t", "1").await;
    assert_eq!(client.get("out").await.body, "1");
    it.apply("queues: {out: {}}").await;
    it.apply(&topology(head, ".data")).await;
    client.publish("events", "t", "2").await;
    assert_eq!(client.get("out").await.body, "2");
}

/// Breaks a rule off again and again, wherever it stands, and says what its queue of results holds in the end.
fn broken_off(head: &str, body: &str, events: &[(&str, String)], wanted: usize) -> Vec<serde_json::Value> {
    let mut dir = tempfile::tempdir().unwrap();
    for round in 0..12u64 {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let it = runtime.block_on(async {
            let it = open_engine(dir, millpond_broker::Clock::system()).await;
            if round == 0 {
                it.apply(&topology(head, body)).await;
                it.engine.stop_rule("it").await.unwrap();
                let mut client = it.client();
                for (kind, event) in events {
                    client.publish("events", kind, event).await;
                }
                it.engine.start_rule("it").await.unwrap();
            }
            // Anything between nothing and some commits.
            for _ in 0..round * 40 {
                tokio::task::yield_now().await;
            }
            it
        });
        dir = it.break_off(runtime);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let it = open_engine(dir, millpond_broker::Clock::system()).await;
        let mut client = it.client();
        let mut results = Vec::new();
        while results.len() < wanted {
            results.push(client.get("out").await.json());
        }
        assert!(client.try_get("it.failed").await.is_none());
        it.engine.shut_down().await;
        assert!(client.try_get("out").await.is_none(), "nothing is done twice");
        results
    })
}

#[test]
fn what_breaks_off_counts_nothing_twice_and_leaves_nothing_out() {
    let events: Vec<_> = (0..2000).map(|n| ("t", json!({"n": n, "user": n % 10}).to_string())).collect();
    let head = "on: {bus: events, type: t}\n    count: {every: 20, within: 1h, by: .data.user}";
    let results = broken_off(head, "'[.key, .data.n]'", &events, 100);
    let mut wanted: Vec<_> =
        (0..100).map(|at| json!([(at % 10).to_string(), (at / 10) * 200 + 190 + at % 10])).collect();
    let mut results = results;
    for list in [&mut wanted, &mut results] {
        list.sort_by_key(ToString::to_string);
    }
    assert_eq!(results, wanted);
}

#[test]
fn what_breaks_off_joins_each_pair_once() {
    let events: Vec<_> = (0..600)
        .map(|n| (["order.paid", "parcel.sent"][n % 2], json!({"order": n / 2}).to_string()))
        .collect();
    let results = broken_off(&JOIN.replace("TIME", "1h"), "'{key, missing}'", &events, 300);
    assert!(results.iter().all(|it| it["missing"] == json!([])));
    let mut orders: Vec<u32> =
        results.iter().map(|it| it["key"].as_str().unwrap().parse().unwrap()).collect();
    orders.sort_unstable();
    assert_eq!(orders, (0..300).collect::<Vec<_>>());
}

#[test]
fn a_test_moves_the_clock_of_rules_that_remember() {
    for (memory, given, expected) in [
        ("count: {every: 2, within: 10s}", "e, e, 20s, e, 20s, e, e", "2 2"),
        ("count: {at_least: 2, within: 10s, window: tumbling}", "e, e, e, 10s, e, e", "2 2"),
        ("debounce: {wait: 5s}", "e, 3s, e, 3s, e, 9s, e, 9s", "3 1"),
        ("debounce: {wait: 5s, max: 6s}", "e, 3s, e, 3s, e, 9s", "2 1"),
        ("throttle: {every: 10s}", "e, e, 1s, e, 10s, e", "0 2"),
    ] {
        let item = |step: &str| match step {
            "e" => "      - {type: t, data: {}}\n".to_owned(),
            time => format!("      - {{after: {time}}}\n"),
        };
        let given: String = given.split(", ").map(item).collect();
        let expect: String =
            expected.split(' ').map(|count| format!("      - publish: {{body: {count}}}\n")).collect();
        let rule = topology(&format!("on: {{bus: events, type: t}}\n    {memory}"), ".count");
        let text = format!("{rule}tests:\n  one:\n    given:\n{given}    expect:\n{expect}");
        let report = run_tests(&check("test.yaml", &text).unwrap(), None).unwrap();
        assert!(report.passed(), "{memory}:\n{report}");
    }
}

#[test]
fn no_rule_takes_the_queue_of_another_ones_memory() {
    let text = topology("on: {type: t}\n    throttle: {every: 1m}", ".");
    let text = format!("{text}  it.due:\n    on: {{type: t}}\n    do: [publish: {{exchange: ''}}]\n");
    let error = check("test.yaml", &text).unwrap_err().to_string();
    let wanted = "test.yaml:13: rules.it.due: found the rule name 'it.due', expected another: 'it' on line 8 has a queue of that name";
    assert!(error.contains(wanted), "{error}");
}

#[test]
fn what_cannot_be_remembered_is_named() {
    let on = "on: {type: t}\n    ";
    for (head, wanted) in [
        (
            "count: {every: 1, within: 1m}",
            "rules.it: found no 'on', expected 'on': which messages it acts on",
        ),
        ("on: {type: t}\n    all_of: {}", "rules.it: found 'on' beside 'all_of', expected 'all_of' alone"),
        ("count: {within: 1m}", "rules.it.count: found neither 'at_least' nor 'every', expected one of them"),
        ("count: {every: 1, at_least: 1, within: 1m}", "rules.it.count: found both 'at_least' and 'every'"),
        (
            "count: {every: 0, within: 1m}",
            "rules.it.count.every: found the number 0, expected a whole number from 1 to 10000",
        ),
        (
            "count: {every: 2}",
            "rules.it.count: found no 'within', expected 'within': a time such as 5s, 1m, 1h or 7d",
        ),
        (
            "count: {every: 2, within: 1m, window: hopping}",
            "rules.it.count.window: found 'hopping', expected sliding or tumbling",
        ),
        ("count: {every: 2, within: 1m, by: .a +}", "rules.it.count.by: "),
        ("debounce: {}", "rules.it.debounce: found no 'wait'"),
        ("throttle: {every: 5}", "rules.it.throttle.every: found the number 5, expected a time such as"),
        (
            "throttle: {every: 5s}\n    debounce: {wait: 5s}",
            "rules.it: found both 'debounce' and 'throttle', expected one of them",
        ),
        ("all_of: {within: 1h, correlate: .k}", "rules.it.all_of: found no 'events'"),
        (
            "all_of: {within: 1h, correlate: .k, events: {a: {type: x}}}",
            "rules.it.all_of.events: found 1 events, expected from 2 to 16",
        ),
        (
            "all_of: {within: 1h, correlate: .k, events: {a-b: {type: x}, b: {}}}",
            "rules.it.all_of.events.a-b: found the name 'a-b'",
        ),
        ("all_of: {within: 1h, correlate: .k, events: {a: {tpye: x}, b: {type: y}}}", "did you mean 'type'?"),
        (
            "all_of: {within: 1h, events: {a: {type: x}, b: {type: y}}}",
            "rules.it.all_of: found no 'correlate'",
        ),
    ] {
        let head = match head.starts_with("on") || head.starts_with("all_of") || wanted.contains("no 'on'") {
            true => head.to_owned(),
            false => format!("{on}{head}"),
        };
        let error = check("test.yaml", &topology(&head, ".")).unwrap_err().to_string();
        assert!(error.contains(wanted), "{head}:\n{error}\n{wanted}");
    }
}

#[tokio::test]
async fn what_an_event_says_of_count_and_key_itself_is_not_believed() {
    let head = "on: {bus: events, type: t}\n    count: {every: 1, within: 1m, by: .data}";
    let it = engine(head, "'[.count, .key]'").await;
    let mut client = it.client();
    let mut properties = persistent();
    for name in ["cloudEvents_count", "cloudEvents:count", "cloudEvents_key", "cloudEvents:key"] {
        properties.headers.push(name, "theirs");
    }
    client.publish_with("events", "t", br#""ours""#, &properties).await;
    assert_eq!(client.get("out").await.json(), json!([1, "ours"]));
}
