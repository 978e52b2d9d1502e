//! Dry runs: expressions, templates, and what is shown.

use millpond_engine::{check, dry_run};
use serde_json::json;

const RULES: &str = r#"rules:
  receipt:
    on: {queue: q}
    when: .data.amount > 0
    do:
      - publish:
          exchange: orders
          routing_key: order.\(.data.order).receipt
          headers: {amount: '\(.data.amount)', text: 'is \(.data.amount)', absent: '\(.data.nothing)', n: 5, b: true}
          body: '{order: .data.order}'
      - http: {method: PUT, endpoint: "http://localhost:8080/hooks/\\(.data.order)", body: .data.order}
      - file: {path: 'audit-\(.time[:10]).log', line: '"\(.data.order) \(.type)"'}
"#;

#[test]
fn a_dry_run_shows_all_that_would_be_done() {
    let topology = check("t.yaml", RULES).unwrap();
    let event = json!({"id": "e1", "type": "order.charged", "time": "2026-11-22T05:00:00Z",
                       "data": {"order": "a7", "amount": 12}});
    let shown = dry_run(&topology, "receipt", &event).unwrap();
    assert!(shown.would_act());
    assert_eq!(
        shown.to_string(),
        r#"rule receipt (t.yaml:2)
when: matches
1. publish (t.yaml:6)
   exchange: orders
   routing key: order.a7.receipt
   content type: application/json
   message id: e1/receipt/0
   header amount: 12
   header text: "is 12"
   header n: 5
   header b: true
   header x-millpond-hops: 1
   body: {"order":"a7"}
2. http (t.yaml:11)
   PUT http://localhost:8080/hooks/a7
   header content-type: text/plain; charset=utf-8
   header idempotency-key: e1/receipt/1
   body: a7
3. file (t.yaml:12)
   path: audit-2026-11-22.log
   line: a7 order.charged"#
    );
}

#[test]
fn a_dry_run_shows_that_when_does_not_match_or_what_fails() {
    let topology = check("t.yaml", RULES).unwrap();
    for (event, expected) in [
        (
            json!({"data": {"amount": 0}}),
            "rule receipt (t.yaml:2)\nwhen: does not match; nothing would be done",
        ),
        (json!({"other": 1}), "rule receipt (t.yaml:2)\nwhen: does not match; nothing would be done"),
        (
            json!({"data": {"amount": 1}}),
            "rule receipt (t.yaml:2)\nfails: t.yaml:8: jq '.data.order': it gave null, which is no text: write (... // \"none\") if it may be absent\nthe message would be parked in queue receipt.failed",
        ),
    ] {
        assert_eq!(dry_run(&topology, "receipt", &event).unwrap().to_string(), expected, "of {event}");
    }
    let error = dry_run(&topology, "reciept", &json!({})).unwrap_err().to_string();
    assert_eq!(error, "no rule 'reciept' in the topology; did you mean 'receipt'?");
}

/// What a file action would write for this expression.
#[track_caller]
fn gives(jq: &str, expected: &str) {
    let quoted = serde_json::to_string(jq).unwrap();
    let text = format!("rules: {{r: {{on: {{queue: q}}, do: [file: {{path: x, line: {quoted}}}]}}}}");
    let topology = check("t.yaml", &text).unwrap_or_else(|error| panic!("{error}"));
    let event = json!({"data": {"a": 1, "big": 12345678901234567890u64, "half": 0.5, "text": "x\ny", "list": [1, "b"]}});
    let shown = dry_run(&topology, "r", &event).unwrap().to_string();
    let shown = shown.split_once("line: ").or(shown.split_once("fails: t.yaml:1: ")).map(|it| it.1);
    assert_eq!(shown.map(|it| it.lines().next().unwrap()), Some(expected), "{jq}");
}

#[test]
fn expressions_are_jq() {
    gives(".data.a", "1");
    gives(".data.big", "12345678901234567890");
    gives(".data.half * 2", "1");
    gives(".data.half / 4", "0.125");
    gives(".data.text", "x\\ny");
    gives(".data.list | map(tostring) | join(\"+\")", "1+b");
    gives("\"\\(.data.a)-\\(.data.list)\"", "1-[1,\"b\"]");
    gives(".data | keys", "[\"a\",\"big\",\"half\",\"list\",\"text\"]");
    gives("[.data.list[] | select(type == \"number\")]", "[1]");
    gives("@json \"\\(.data.list)\" + @html \"<\\(\"&\")\" + @sh \"\\(\"a b\")\"", "[1,\"b\"]<&amp;'a b'");
    gives("@base64 \"\\(.data.a)\"", "MQ==");
    gives("{b: 1, a: 2} | tojson", "{\"b\":1,\"a\":2}");
    gives("\"2026-11-22T00:00:00Z\" | fromdateiso8601", "1795305600");
    gives("\"aXb\" | test(\"x\"; \"i\")", "true");
    gives("empty", "jq 'empty': it gave no result, one is expected");
    gives("1, 2", "jq '1, 2': it gave more than one result, one is expected: collect them with [...]");
    gives("error(\"no\")", "jq 'error(\"no\")': \"no\"");
    gives("env", "jq 'env': \"the environment cannot be read by a rule\"");
    gives("halt", "jq 'halt': 'halt' and 'break' out of the expression have no meaning here");
    gives(
        "reduce range(200) as $i (1; [.])",
        "jq 'reduce range(200) as $i (1; [.])': its result nests deeper than 128 levels",
    );
}

#[test]
fn an_expression_that_never_ends_is_given_up() {
    let endless = [
        "[repeat(1)]",
        "[repeat(empty)]",
        "repeat(empty)",
        "0 | [recurse(. + 1; true)]",
        "0 | until(false; . + 1)",
        "[range(infinite)]",
        "[range(1e18)] | length",
        "last(range(1e18))",
        "reduce range(1e18) as $i (0; . + 1)",
        "[limit(1e18; repeat(1))]",
        "first(repeat(1) | select(. > 1))",
        "[range(2000) as $a | range(2000)] | length",
        "try last(repeat(1)) catch 1",
        "[.[]?, last(repeat(1))?]",
        "isempty(repeat(empty))",
        "[range(30)] | map([., .]) | combinations | select(false)",
        "[path(repeat(.))]",
        "{a: 1} | (.a, repeat(.a)) |= . + 1",
        "\"\\(last(repeat(1)))\"",
        "[1, 1] | walk(last(repeat(.)))",
        "label $out | foreach repeat(1) as $x (0; . + $x; empty)",
    ];
    for jq in endless {
        let expected = format!(
            "jq '{jq}': it takes more than 1000000 steps: it never ends, or the event is too large for it; `limit`, \
             `first` and a smaller range help"
        );
        gives(jq, &expected);
    }
    gives("[range(1e5)] | map(. * 2) | add", "9999900000");
    gives("[limit(3; repeat(1))] | add", "3");
    gives("first(range(1e18))", "0");
}

#[test]
fn a_text_is_repeated_to_a_limit() {
    let refused = |jq: &str, bytes: usize, count: &str| {
        let reason = format!(
            "\"a text of {bytes} bytes is to be repeated {count} times: the result may have at most 16777216 bytes\""
        );
        gives(jq, &format!("jq '{jq}': {reason}"));
    };
    refused("\"ab\" * 8388609", 2, "8388609");
    refused("8388609 * \"ab\" | length", 2, "8388609");
    refused("\"ab\" * 9223372036854775807", 2, "9223372036854775807");
    refused("\"ab\" * 99999999999999999999", 2, "18446744073709551615");
    refused("{a: \"ab\"} | .a *= 1000000000", 2, "1000000000");
    gives("\"ab\" * 8388608 | length", "16777216");
    gives("\"ab\" * 2", "abab");
    gives("[\"ab\" * (0, -1)]", "[null,null]");
    gives("[(1, 2) * (10, 20)]", "[10,20,20,40]");
    gives("{a: {b: 1}} * {a: {c: 2}}", "{\"a\":{\"b\":1,\"c\":2}}");
    gives("[{a: 2} | .a *= (2, 3)] | map(.a)", "[4,6]");
    gives("{a: 2, b: 3} | (.a, .b) *= 2 | [.a, .b]", "[4,6]");
}

/// What a routing key would be for this template.
#[track_caller]
fn renders(template: &str, expected: &str) {
    let text = format!(
        "rules:\n  r:\n    on: {{queue: q}}\n    do:\n      - publish:\n          exchange: x\n          routing_key: '{}'\n",
        template.replace('\'', "''")
    );
    let topology = check("t.yaml", &text).unwrap_or_else(|error| panic!("{error}"));
    let shown = dry_run(&topology, "r", &json!({"data": {"a": "x", "n": 5}})).unwrap().to_string();
    let shown = shown.split_once("routing key: ").map(|it| it.1.lines().next().unwrap_or_default());
    assert_eq!(shown, Some(expected), "{template}");
}

#[test]
fn templates_are_text_with_jq_in_parentheses() {
    renders("plain", "plain");
    renders(r"\(.data.a)", "x");
    renders(r"a.\(.data.a).\(.data.n)", "a.x.5");
    renders(r#"\("(" + .data.a + ")")"#, "(x)");
    renders(r#"\("a\(.data.n)b")!"#, "a5b!");
    renders(r"\\(.data.a)", r"\(.data.a)");
    renders(r"back\slash", r"back\slash");
    renders(r"\(.data | {n} | tojson)", r#"{"n":5}"#);
    renders(r"./\(.data.n)", "./5");
}
