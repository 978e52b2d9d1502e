//! Expressions that look at parts of the event, take much, or do not end.

use crate::support::{TestEngine, durable, in_time, persistent};

/// Rules that publish to the queue `out`, one a `when` and `body`.
fn topology(rules: &[(&str, &str, &str)]) -> String {
    let mut text = "queues: {out: {}, in: {}}\nrules:\n".to_owned();
    for (name, when, body) in rules {
        text += &format!(
            "  {name}:\n    on: {{queue: {name}.in}}\n    when: '{when}'\n    do:\n      - publish: {{exchange: \"\", \
             routing_key: out, body: '{body}'}}\n"
        );
    }
    for (name, ..) in rules {
        text = text.replace("queues: {", &format!("queues: {{{name}.in: {{}}, "));
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expression_sees_the_same_event_whatever_it_looks_at() {
    // Each pair gives the same by looking at a member and at the whole event.
    let members = [
        (".data.a", ".data.a | tostring", ". as $e | $e.data.a | tostring"),
        (".amqp.routing_key", ".amqp.queue", ".[\"amqp\"].queue"),
        (".id", ".id", "to_entries | map(select(.key == \"id\"))[0].value"),
        (".type", "{id, type, subject}", "{id: (. | .id), type: (. | .type), subject: (. | .subject)}"),
        ("true", "[.time, .source]", "[.] | map(.time, .source)"),
        (
            ".data.list[.data.at] == 7",
            "\"\\(.data.list[.data.at])\"",
            "[.][0] as $e | \"\\($e.data.list[$e.data.at])\"",
        ),
        ("\"x\"", "[.data.list[] | select(. > 1)]", ". as {data: {list: $l}} | [$l[] | select(. > 1)]"),
        ("[.specversion] == [\"1.0\"]", ".datacontenttype", "(. + {}).datacontenttype"),
        (
            "if .data.at then true else false end",
            "try .data.at.b catch \"no\"",
            "[.] | try .[0].data.at.b catch \"no\"",
        ),
    ];
    for (when, member, whole) in members {
        let engine = TestEngine::with(&topology(&[("r", when, &format!("[({member}), ({whole})]"))])).await;
        let mut client = engine.client();
        let mut properties = persistent();
        properties.content_type = Some("application/json".into());
        properties.timestamp = Some(1_700_000_000);
        client
            .publish_with("", "r.in", br#"{"a": 1.5, "at": 1, "list": [1, 7], "e": "\u00e9"}"#, &properties)
            .await;
        let seen = client.get("out").await.json();
        assert_eq!(seen[0], seen[1], "{member}");
        assert!(!seen[0].is_null(), "{member}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expression_that_takes_memory_without_end_is_parked_and_hurts_nobody() {
    let doubling = "[range(200)] | reduce .[] as $i (\"xxxxxxxxxxxxxxxx\"; . + .)";
    let engine =
        TestEngine::with(&topology(&[("greedy", "true", doubling), ("good", "true", ".data")])).await;
    let mut client = engine.client();
    for _ in 0..3 {
        client.publish("", "greedy.in", "{}").await;
        client.publish("", "good.in", "1").await;
    }
    for _ in 0..3 {
        assert_eq!(client.get("out").await.body, "1");
        let parked = client.get("greedy.failed").await;
        let error = parked.header("x-millpond-error").unwrap();
        assert!(error.contains("it takes more than 256 MiB of memory"), "{error}");
    }
    assert_eq!(engine.state("greedy"), "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_small_in_memory_and_endless_as_text_is_parked() {
    let shared = "reduce range(100) as $i (1; [., .])";
    let engine = TestEngine::with(&topology(&[("wide", "true", shared)])).await;
    let mut client = engine.client();
    client.publish("", "wide.in", "{}").await;
    let error = client.get("wide.failed").await.header("x-millpond-error").unwrap();
    assert!(error.contains("is larger than") || error.contains("levels"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_take_all_their_steps_leave_the_others_their_turn() {
    let endless = "last(repeat(.))";
    let rules: Vec<_> = (0..8).map(|n| format!("slow{n}")).collect();
    let mut all: Vec<_> = rules.iter().map(|name| (name.as_str(), "true", endless)).collect();
    all.push(("quick", "true", ".data"));
    let engine = TestEngine::with(&topology(&all)).await;
    let mut client = engine.client();
    for name in &rules {
        for _ in 0..20 {
            client.publish("", &format!("{name}.in"), "{}").await;
        }
    }
    client.publish("", "quick.in", "1").await;
    assert_eq!(client.get("out").await.body, "1");
    let failed = rules.iter().map(|name| engine.counts(name).3).sum::<u64>();
    assert!(failed < 160, "the quick rule waited for all of the slow ones");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_rules_have_no_thread_of_their_own() {
    let threads = || {
        std::fs::read_dir("/proc/self/task")
            .unwrap()
            .filter(|task| {
                let name = task.as_ref().map(|it| it.path().join("comm")).unwrap();
                std::fs::read_to_string(name).is_ok_and(|name| name.starts_with("millpond-rule"))
            })
            .count()
    };
    let names: Vec<_> = (0..1000).map(|n| format!("r{n}")).collect();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), "true", ".data")).collect();
    let engine = TestEngine::with(&topology(&all)).await;
    let mut client = engine.client();
    client.session.declare_queue(&durable("done")).unwrap();
    for name in &names {
        client.publish("", &format!("{name}.in"), "1").await;
    }
    in_time("all rules", async {
        while client.ready("out") < 1000 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Other tests of this process have pools of their own.
    assert!(threads() < 500, "{} threads", threads());
}

/// A stranger's text must not take the stack, and the broker with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_of_brackets_is_no_json_and_the_rule_goes_on() {
    let engine = TestEngine::with(&topology(&[("inner", "true", ".data.text | fromjson")])).await;
    let mut client = engine.client();
    for deep in ["[".repeat(500_000), r#"{"a":"#.repeat(100_000)] {
        client.publish("", "inner.in", &serde_json::json!({ "text": deep }).to_string()).await;
        let error = client.get("inner.failed").await.header("x-millpond-error").unwrap();
        assert!(error.contains("as JSON: recursion limit exceeded"), "{error}");
    }
    client.publish("", "inner.in", r#"{"text": "{\"b\": [1, \"x\"], \"a\": 12345678901}"}"#).await;
    assert_eq!(client.get("out").await.body, r#"{"a":12345678901,"b":[1,"x"]}"#);
    client.publish("", "inner.in", r#"{"text": 5}"#).await;
    let error = client.get("inner.failed").await.header("x-millpond-error").unwrap();
    assert!(error.contains("cannot use 5 as string"), "{error}");
}

/// Whoever writes a rule must not take the stack either: what prints, compares or drops a value goes as deep as it does.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_nests_without_end_is_parked_and_the_rule_goes_on() {
    let deep = [
        "reduce range(.data) as $i ([]; [.]) | tojson",
        "reduce range(.data) as $i ([0]; .[0] = .) | tojson",
        "reduce range(.data) as $i ({}; {a: .}) | tojson",
        "reduce range(.data) as $i ({}; {({b: 1} | tojson): .}) | . == .",
        "last(foreach range(.data) as $i ([]; [.])) | tojson",
        "last(limit(.data; [] | recurse([.]))) | tojson",
        "[limit(.data; [] | recurse([.]))] | length",
        "last(label $out | foreach range(.data) as $i ([]; [., [$i]])) | tojson",
        ".data as $n | null | setpath([range($n) | 0]; 1) | tojson",
    ];
    for body in deep {
        let engine = TestEngine::with(&topology(&[("r", "true", body)])).await;
        let mut client = engine.client();
        client.publish("", "r.in", "900000").await;
        let error = client.get("r.failed").await.header("x-millpond-error").unwrap();
        let reasons = ["nests deeper than", "takes more than", "deeper"];
        assert!(reasons.iter().any(|reason| error.contains(reason)), "{body}: {error}");
        // A path so long is no value.
        if !body.contains("setpath") {
            client.publish("", "r.in", "3").await;
            client.get("out").await;
        }
    }
}
