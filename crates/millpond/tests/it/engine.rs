//! The engine over HTTP, beside the command line.

use crate::binary::{Broker, BrokerOptions};
use serde_json::{Value, json};

const TOPOLOGY: &str = r#"
exchanges: {in: {type: fanout}}
queues: {out: {}}
sources:
  beat: {timer: {every: 1h}}
rules:
  double:
    on: {exchange: in}
    when: .data.n > 1
    do:
      - publish: {exchange: "", routing_key: out, body: '{n: (.data.n * 2)}'}
  wrong:
    on: {exchange: in}
    do:
      - publish: {exchange: "", routing_key: out, body: '.data.n + {}'}
"#;

fn publish(broker: &Broker, n: u32) {
    let body = json!({
        "properties": {}, "routing_key": "", "payload": json!({ "n": n }).to_string(), "payload_encoding": "string",
    });
    assert_eq!(
        broker.http("POST /exchanges/%2F/in/publish", &body.to_string()),
        (200, json!({"routed": true}))
    );
}

/// Asks until it is so; the rules act beside.
fn until(broker: &Broker, line: &str, what: impl Fn(&Value) -> bool) -> Value {
    loop {
        let (status, answer) = broker.http(line, "");
        assert_eq!(status, 200, "{answer}");
        if what(&answer) {
            return answer;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_topology_is_planned_applied_and_shown() {
    let broker = Broker::start(BrokerOptions::default());
    let (_, before) = broker.http("GET /topology", "");
    assert_eq!(before, json!({"file": "", "text": "", "applied_ms": null}));
    let (status, plan) = broker.http("POST /topology/plan?file=a.yaml", TOPOLOGY);
    assert_eq!((status, &plan["valid"], &plan["file"]), (200, &json!(true), &json!("a.yaml")));
    assert_eq!(broker.http("GET /rules", "").1, json!([]), "a plan changes nothing");
    let (status, plan) = broker.http("POST /topology/plan", "rules: {r: 1}");
    assert_eq!((status, &plan["valid"], &plan["diagnostics"][0]["line"]), (200, &json!(false), &json!(1)));
    let (status, refused) = broker.http("PUT /topology", "rules: {r: 1}");
    assert_eq!((status, &refused["diagnostics"][0]["path"]), (400, &json!("rules.r")));
    assert_eq!(broker.http("PUT /topology?file=a.yaml", TOPOLOGY).0, 200);
    let (_, applied) = broker.http("GET /topology", "");
    assert_eq!((&applied["file"], &applied["text"]), (&json!("a.yaml"), &json!(TOPOLOGY)));
    assert!(applied["applied_ms"].as_u64() > Some(1_700_000_000_000));
    let (_, plan) = broker.http("POST /topology/plan", TOPOLOGY);
    assert_eq!(plan["changes"], json!([]));
}

#[test]
fn rules_are_seen_tried_stopped_and_replayed() {
    let broker = Broker::start(BrokerOptions::default());
    broker.http("PUT /topology", TOPOLOGY);
    for n in [1, 2, 3] {
        publish(&broker, n);
    }
    let wrong = until(&broker, "GET /rules/wrong", |rule| rule["failed"] == 3);
    assert_eq!(wrong["failures"].as_array().map(Vec::len), Some(3));
    assert_eq!(wrong["last_failure"]["parked"], true);
    let (_, parked) = broker.http("GET /rules/wrong/dead-letters?count=2", "");
    assert_eq!(parked["messages"].as_array().map(Vec::len), Some(2), "{parked}");
    let double = until(&broker, "GET /rules/double", |rule| rule["acted"] == 2);
    assert_eq!((&double["queue"], &double["rule"]["when"]), (&json!("rule.double"), &json!(".data.n > 1")));
    let (_, tried) = broker.http("POST /rules/double/test", r#"{"event": {"data": {"n": 21}}}"#);
    assert_eq!(
        (&tried["result"], &tried["actions"][0]["members"]["body"]["n"]),
        (&json!("acts"), &json!(42))
    );
    let (_, tried) = broker.http("POST /rules/double/test", r#"{"event": {"data": {"n": 1}}}"#);
    assert_eq!(tried["result"], "skips");
    let better = TOPOLOGY.replace(".data.n + {}", ".data.n");
    let (_, replayed) = broker.http("POST /rules/wrong/replay", &json!({ "text": better }).to_string());
    assert_eq!((&replayed["read"], &replayed["differ"]), (&json!(3), &json!(3)), "{replayed}");
    for (change, state) in
        [("pause", "paused"), ("start", "running"), ("stop", "stopped"), ("start", "running")]
    {
        let (status, rule) = broker.http(&format!("PUT /rules/double/{change}"), "");
        assert_eq!((status, &rule["state"]), (200, &json!(state)), "{change}");
    }
    let (_, history) = broker.http("GET /rules/double/history", "");
    assert_eq!(history[0]["version"], 1);
    let (_, told, _) = broker.ask(&["rules", "history", "double", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&told).unwrap(), history);
    assert_eq!(broker.http("PUT /rules/dubble/stop", "").0, 404);
    assert_eq!(broker.http("PUT /rules/double/melt", "").0, 404);
    assert_eq!(broker.http("POST /rules/double/test", "{}").0, 400);
    let (code, listed, _) = broker.ask(&["rules", "list", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((code, &listed[0]["state"]), (0, &json!("running")));
}

#[test]
fn the_command_line_explains_in_lines_and_in_json() {
    let broker = Broker::start(BrokerOptions::default());
    assert_eq!(broker.http("PUT /queues/%2F/orders", "{}").0, 201);
    assert_eq!(broker.http("PUT /exchanges/%2F/shop", r#"{"type": "topic"}"#).0, 201);
    broker.http("POST /bindings/%2F/e/shop/q/orders", r#"{"routing_key": "order.*"}"#);
    let (code, told, error) = broker.ask(&["explain", "shop", "order.new", "--header", "a=b"]);
    assert_eq!(code, 0, "{error}");
    assert_eq!(
        told,
        "it reaches orders\n+ shop (topic) -> queue orders: the routing key 'order.new' fits the pattern 'order.*'\n  \
         queue orders: it is put into the queue\n  queue orders: nobody consumes from the queue\n"
    );
    let (_, told, _) = broker.ask(&["explain", "shop", "other", "--queue", "orders", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["routed"], &told["queue_reasons"][0]["code"]), (&json!(false), &json!("not_routed")));
    let paused = broker.ask(&["queues", "pause", "orders"]);
    assert_eq!(
        (paused.0, broker.http("GET /queues/%2F/orders", "").1["state"].clone()),
        (0, json!("paused")),
        "{paused:?}"
    );
}

#[test]
fn sources_are_seen_stopped_and_started() {
    let broker = Broker::start(BrokerOptions::default());
    broker.http("PUT /topology", TOPOLOGY);
    let (_, sources) = broker.http("GET /sources?columns=name,kind", "");
    assert_eq!(sources, json!([{"name": "beat", "kind": "timer"}]));
    assert_eq!(broker.http("PUT /sources/beat/stop", "").1["state"], "stopped");
    assert_eq!(broker.http("GET /sources/beat", "").1["source"]["timer"]["every"], "1h");
    assert_eq!(broker.http("PUT /sources/beat/start", "").1["state"], "running");
    assert_eq!(broker.http("PUT /sources/beet/start", "").0, 404);
    assert_eq!(broker.http("GET /secrets", "").1, json!([]));
}

#[test]
fn messages_are_found_by_an_expression() {
    let broker = Broker::start(BrokerOptions::default());
    assert_eq!(broker.http("PUT /queues/%2F/q", "{}").0, 201);
    for payload in [json!({"n": 1}).to_string(), json!({"n": 7}).to_string(), "no json".to_owned()] {
        let properties = json!({"content_type": "application/json"});
        let body = json!({
            "properties": properties, "routing_key": "q", "payload": payload, "payload_encoding": "string",
        });
        assert_eq!(broker.http("POST /exchanges/%2F/amq.default/publish", &body.to_string()).0, 200);
    }
    let find = |jq: &str| broker.http(&format!("GET /queues/%2F/q/messages?jq={jq}"), "");
    let (status, found) = find(".data.n%20%3E%203%20and%20(.data%7Ctype)%20%3D%3D%20%22object%22");
    assert_eq!((status, found["messages"].as_array().map(Vec::len)), (200, Some(1)), "{found}");
    assert_eq!(found["messages"][0]["payload"], r#"{"n":7}"#);
    // What the expression fails for does not fit, and is told.
    assert_eq!(
        (&found["looked_at"], &found["jq_failed"], &found["next"]),
        (&json!(3), &json!(1), &json!(null))
    );
    assert!(found["jq_error"].as_str().unwrap().contains("jq"), "{found}");
    let (status, refused) = find(".data%20%7C");
    assert_eq!(status, 400, "{refused}");
    assert!(refused["reason"].as_str().unwrap().contains("jq '.data |'"), "{refused}");
    // One that never ends is ended, message by message.
    let (status, endless) = find("last(range(1e18))");
    assert_eq!((status, &endless["jq_failed"]), (200, &json!(3)), "{endless}");
}
