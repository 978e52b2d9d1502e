//! Tests of rules: `tests:` of a topology file, run without a broker.

use millpond_engine::{TestReport, check, run_tests};
use std::time::Duration;

const SHOP: &str = r##"
exchanges: {orders: {type: topic}, later: {type: x-delayed-message, arguments: {x-delayed-type: fanout}}}
rules:
  receipt:
    on: {exchange: orders, key: order.charged}
    when: .data.amount > 0
    do:
      - http: {endpoint: 'http://h/\(.data.order)', body: '{order: .data.order}'}
      - publish:
          exchange: orders
          routing_key: order.receipt
          headers: {amount: '\(.data.amount)'}
          body: '{order: .data.order, total: .data.amount}'
    retry: {max_attempts: 3, first: 1s, factor: 2, jitter: 0}
  remind:
    on: {exchange: orders, key: order.receipt}
    do: [publish: {exchange: later, headers: {x-delay: 60000}}]
  reminded:
    on: {exchange: later, key: ""}
    do: [file: {path: reminded.log, line: .data.order}]
"##;

fn run(tests: &str) -> TestReport {
    let topology =
        check("t.yaml", &format!("{SHOP}tests:\n{tests}")).unwrap_or_else(|error| panic!("{error}"));
    run_tests(&topology, None).unwrap()
}

/// What is said of the only test, without the time.
fn told(tests: &str) -> String {
    let report = run(tests);
    let result = &report.results[0];
    result.failures.join("\n")
}

#[test]
fn what_is_expected_comes_through_all_the_rules_it_reaches_and_no_time_passes() {
    let report = run(r#"
  a charged order gets a receipt and a reminder:
    given:
      - {exchange: orders, routing_key: order.charged, data: {order: a7, amount: 12.5}}
      - after: 59s
    expect:
      - http: {method: POST, url: http://h/a7, body: {order: a7}, headers: {idempotency-key: given-1/receipt/0}, attempts: 1}
      - publish: {exchange: orders, routing_key: order.receipt, headers: {amount: 12.5}, body: {order: a7, total: 12.5}}
      - publish: {exchange: later}
  the reminder comes a minute later:
    given:
      - {type: order.charged, data: {order: a7, amount: 1}}
      - after: 60s
    expect:
      - file: {path: reminded.log, line: a7}
    also: any
  a free sample gets none:
    rule: receipt
    given: [{data: {order: a8, amount: 0}}]
    expect: []
"#);
    assert!(report.passed(), "{report}");
    assert_eq!(report.results.len(), 3);
    assert!(report.results.iter().map(|it| it.took).sum::<Duration>() < Duration::from_secs(10));
}

#[test]
fn the_outside_answers_as_the_test_says() {
    let report = run(r#"
  one that fails is asked again and the last attempt is the last:
    rule: receipt
    given: [{id: e1, data: {order: a7, amount: 1}}, {after: 3s}]
    answers: {http: {status: 503}}
    expect:
      - http: {attempts: 3}
      - parked: {queue: receipt.failed, error: {contains: "503"}, attempts: 3}
  one that recovers is asked until it does:
    rule: receipt
    given: [{id: e1, data: {order: a7, amount: 1}}, {after: 1s}]
    answers: {http: [{fails: no connection}, {status: 201, body: {}}]}
    expect:
      - http: {attempts: 2}
      - publish: {message_id: e1/receipt/1}
  what waits for another attempt has not come yet:
    rule: receipt
    given: [{id: e1, data: {order: a7, amount: 1}}, {after: 999ms}]
    answers: {http: [{fails: no connection}, {status: 201, body: {}}]}
    expect: [http: {attempts: 1}]
  an expression that fails parks the message:
    rule: receipt
    given: [{data: {amount: 1}}]
    answers: {}
    expect: [parked: {error: {contains: "null"}}]
"#);
    assert!(report.passed(), "{report}");
}

#[test]
fn later_actions_see_what_the_stubbed_outside_answered() {
    let topology = r#"
exchanges: {in: {type: fanout}}
rules:
  r:
    on: {exchange: in}
    do:
      - {name: first, http: {endpoint: 'http://h/'}}
      - file: {path: f, line: '"\(.results.first.status) \(.results.first.body)"'}
tests:
  said: {given: [{exchange: in}], answers: {http: {body: yes}}, expect: [http: {}, file: {line: 200 yes}]}
  unsaid: {given: [{exchange: in}], expect: [http: {}, file: {line: 200 null}]}
"#;
    let report =
        run_tests(&check("t.yaml", topology).unwrap_or_else(|error| panic!("{error}")), None).unwrap();
    assert!(report.passed(), "{report}");
}

#[test]
fn what_differs_is_told_by_its_path_with_both_values() {
    let tests = r#"
  wrong:
    rule: receipt
    given: [{data: {order: a7, amount: 12.5}}]
    expect:
      - publish: {routing_key: order.receipt, body: {total: 13, currency: EUR}}
      - file: {path: audit.log}
"#;
    let expected = r#"publish of rule receipt is not as expected (t.yaml:27)
  body.currency
    - expected "EUR"
    + came     nothing
  body.total
    - expected 13
    + came     12.5
missing: file {"path":"audit.log"} (t.yaml:28)
unexpected: http of rule receipt: {"attempts":1,"#;
    let told = told(tests);
    assert!(told.starts_with(expected), "{told}");
    let report = run(tests);
    assert!(!report.passed());
    let text = report.to_string();
    assert!(text.starts_with("FAIL  wrong (t.yaml:23)\n      publish of rule receipt"), "{text}");
    assert!(text.contains("\n1 test, 1 failed, "), "{text}");
    assert_eq!(report.to_json()["failed"], 1);
    assert!(report.to_junit().contains("<failure message=\"3 wrong\">"), "{}", report.to_junit());
}

#[test]
fn rules_that_feed_each_other_without_end_are_given_up() {
    let topology = r#"
exchanges: {a: {type: fanout}}
rules:
  one: {on: {exchange: a}, do: [publish: {exchange: a}, publish: {exchange: a}]}
tests:
  loop: {given: [{exchange: a}], expect: [], also: any}
"#;
    let report = run_tests(&check("t.yaml", topology).unwrap(), None).unwrap();
    assert!(report.to_string().contains("do rules form a loop?"), "{report}");
}

#[test]
fn a_test_is_found_by_its_name_or_the_nearest_is_named() {
    let topology = check(
        "t.yaml",
        &format!("{SHOP}tests: {{one: {{given: [], expect: []}}, two: {{given: [], expect: []}}}}"),
    );
    let topology = topology.unwrap();
    assert_eq!(run_tests(&topology, Some("two")).unwrap().results.len(), 1);
    let error = run_tests(&topology, Some("tvo")).unwrap_err().to_string();
    assert_eq!(error, "no test 'tvo' in the file; did you mean 'two'?");
}

#[test]
fn mistakes_in_tests_are_told_with_all_others() {
    let tests = r#"tests:
  t:
    rule: recipt
    given: [{after: soon}, {after: 5s, type: x}, 5]
    expect: [publsh: {}, {publish: {}, http: {}}, {http: 5}]
    answers: {htp: {}, http: []}
    also: all
    extra: 1
  u: {given: []}
"#;
    let error = check("t.yaml", &format!("{SHOP}{tests}")).unwrap_err().to_string();
    for part in [
        "t.yaml:23: tests.t.rule: found 'recipt', expected a rule of the file; did you mean 'receipt'?",
        "tests.t.given[0].after: found 'soon', expected a time",
        "tests.t.given[1]: found 'after' beside others",
        "tests.t.given[2]: found the number 5, expected an event",
        "tests.t.expect[0]: found 'publsh', expected one of publish",
        "tests.t.expect[1]: found 2 keys",
        "tests.t.expect[2].http: found the number 5",
        "tests.t.answers: found 'htp'",
        "tests.t.answers.http: found a list",
        "tests.t.also: found 'all', expected any",
        "found the unknown key 'extra'",
        "tests.u: found no 'expect'",
    ] {
        assert!(error.contains(part), "{part}\nis not in\n{error}");
    }
}

#[test]
fn events_reach_rules_as_the_exchanges_route_them() {
    let topology = r##"
exchanges: {t: {type: topic}, d: {type: direct}, f: {type: fanout}, h: {type: headers}}
queues: {q: {}}
bindings:
  - {exchange: t, queue: q, key: "*.placed"}
  - {exchange: t, to_exchange: f, key: "a.#"}
rules:
  topic: {on: {exchange: t, key: "order.*.#"}, do: [file: {path: topic}]}
  direct: {on: {exchange: d, key: k}, do: [file: {path: direct}]}
  fanout: {on: {exchange: f}, when: .amqp.exchange == "t", do: [file: {path: fanout}]}
  any: {on: {exchange: h, headers: {x-match: any, colour: red, size: 5}}, do: [file: {path: any}]}
  all: {on: {exchange: h, headers: {colour: red, size: 5}}, do: [file: {path: all}]}
  queue: {on: {queue: q}, do: [file: {path: queue}]}
  event: {on: {type: [user.created, {prefix: "shop."}], tenant: acme}, do: [file: {path: event}]}
tests:
  1: {given: [{exchange: t, routing_key: order.placed}], expect: [file: {path: topic}, file: {path: queue}]}
  2: {given: [{exchange: t, routing_key: order}], expect: []}
  3: {given: [{exchange: t, routing_key: a.b.c}], expect: [file: {path: fanout}]}
  4: {given: [{exchange: d, routing_key: k}, {exchange: d, routing_key: l}], expect: [file: {path: direct}]}
  5: {given: [{exchange: h, headers: {colour: red}}], expect: [file: {path: any}]}
  6: {given: [{exchange: h, headers: {size: 5, colour: red}}], expect: [file: {path: any}, file: {path: all}]}
  8: {given: [{type: user.created, tenant: acme}, {type: shop.x, tenant: acme}, {type: shop.x}], expect: [file: {path: event}, file: {path: event}]}
  7: {given: [{queue: q}, {exchange: "", routing_key: q}], expect: [file: {path: queue}, file: {path: queue}]}
"##;
    let report = run_tests(&check("t.yaml", topology).unwrap(), None).unwrap();
    assert!(report.passed(), "{report}");
}
