//! Functions: WebAssembly components, here written as text.

use crate::support::*;
use millpond_engine::{check, run_tests};
use serde_json::json;

/// What the types of a handler look like in a component.
const TYPES: &str = r#"
  (type $call' (record (field "event" string) (field "event-id" string) (field "rule" string)
                       (field "idempotency-key" string)))
  (type $failure' (variant (case "final" string) (case "retry" string)))"#;

/// Memory, and a `realloc` that never frees.
const LIBC: &str = r#"
  (core module $libc
    (memory (export "memory") 2)
    (global $next (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (global.get $next)
      (global.set $next (i32.and (i32.add (i32.add (global.get $next) (local.get 3)) (i32.const 7)) (i32.const -8)))))
  (core instance $libc (instantiate $libc))"#;

/// Answers with what it was called with.
const ECHO: &str = "(call $ok (local.get 0) (local.get 1))";

/// A component whose `handle` is `body`, in the text format; the parameters 0 and 1 are where the event is. `imports`
/// are the component's, with their lowered functions; `core` gives and takes them.
fn component(imports: &str, (core, with): (&str, &str), body: &str) -> Vec<u8> {
    let text = format!(
        r#"(component {imports} {TYPES} {LIBC}
  {with}
  (core module $m
    (import "libc" "memory" (memory 1))
    {core}
    (global $calls (mut i32) (i32.const 0))
    (data (i32.const 100) "\"more\"")
    (data (i32.const 200) "not today")
    (data (i32.const 300) "TOKEN")
    (func $ok (param i32 i32) (result i32)
      (i32.store8 (i32.const 16) (i32.const 0))
      (i32.store (i32.const 20) (local.get 0))
      (i32.store (i32.const 24) (local.get 1))
      (i32.const 16))
    (func $fail (param $retry i32) (param i32 i32) (result i32)
      (i32.store8 (i32.const 16) (i32.const 1))
      (i32.store8 (i32.const 20) (local.get $retry))
      (i32.store (i32.const 24) (local.get 1))
      (i32.store (i32.const 28) (local.get 2))
      (i32.const 16))
    (func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))
    (func (export "handle") (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {body}))
  (core instance $m (instantiate $m (with "libc" (instance $libc)) {}))
  (component $shim
    {TYPES}
    (import "call" (type $call (eq $call')))
    (import "failure" (type $failure (eq $failure')))
    (import "handle" (func $handle (param "call" $call) (result (result string (error $failure)))))
    (export $call-out "call" (type $call'))
    (export $failure-out "failure" (type $failure'))
    (export "handle" (func $handle)
      (func (param "call" $call-out) (result (result string (error $failure-out))))))
  (func $handle (param "call" $call') (result (result string (error $failure')))
    (canon lift (core func $m "handle") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (instance $handler (instantiate $shim
    (with "call" (type $call')) (with "failure" (type $failure')) (with "handle" (func $handle))))
  (export "millpond:function/handler@1.0.0" (instance $handler)))"#,
        if with.is_empty() { "" } else { r#"(with "host" (instance $host))"# }
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn plain(body: &str) -> Vec<u8> {
    component("", ("", ""), body)
}

/// One that asks for its setting TOKEN and answers with it, or says that there is none.
fn asks_config() -> Vec<u8> {
    let imports = r#"(import "millpond:function/config@1.0.0" (instance $config
        (export "get" (func (param "name" string) (result (option string))))))"#;
    let with = r#"(core func $get (canon lower (func $config "get") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
        (core instance $host (export "get" (func $get)))"#;
    let body = "(call $get (i32.const 300) (i32.const 5) (i32.const 40))
        (if (result i32) (i32.load8_u (i32.const 40))
          (then (if (result i32) (i32.eq (local.get 1) (i32.const 2))
            (then (call $ok (i32.load (i32.const 44)) (i32.load (i32.const 48))))
            (else (call $fail (i32.const 0) (i32.load (i32.const 44)) (i32.load (i32.const 48))))))
          (else (call $fail (i32.const 0) (i32.const 200) (i32.const 9))))";
    component(imports, (r#"(import "host" "get" (func $get (param i32 i32 i32)))"#, with), body)
}

/// One that writes the event into the log, `times` times.
fn logs(times: u32) -> Vec<u8> {
    let imports = r#"(import "millpond:function/log@1.0.0" (instance $log
        (type $level' (enum "error" "warn" "info" "debug"))
        (export "level" (type $level (eq $level')))
        (export "write" (func (param "level" $level) (param "message" string)))))"#;
    let with = r#"(core func $write (canon lower (func $log "write") (memory (core memory $libc "memory"))))
        (core instance $host (export "write" (func $write)))"#;
    let body = format!(
        "(loop $again
          (call $write (i32.const 2) (local.get 0) (local.get 1))
          (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
          (br_if $again (i32.lt_u (global.get $calls) (i32.const {times}))))
        {ECHO}"
    );
    component(imports, (r#"(import "host" "write" (func $write (param i32 i32 i32)))"#, with), &body)
}

/// One that imports an interface and does not call it.
fn imports(name: &str) -> Vec<u8> {
    component(&format!(r#"(import "{name}" (instance (export "it" (func))))"#), ("", ""), ECHO)
}

fn topology(more: &str) -> String {
    format!(
        r#"
queues: {{in: {{}}, out: {{}}}}
functions:
  it: {{component: it.wasm{more}}}
rules:
  run:
    on: {{queue: in}}
    do:
      - function: {{call: it, input: .data}}
        name: said
      - publish: {{exchange: "", routing_key: out, body: .results.said}}
    retry: {{max_attempts: 2, first: 1ms}}
"#
    )
}

async fn engine_with(component: &[u8], topology: &str) -> TestEngine {
    let it = TestEngine::new().await;
    std::fs::write(it.data_dir().join("it.wasm"), component).unwrap();
    it.apply(topology).await;
    it
}

/// What comes of one event.
async fn answer(it: &TestEngine, event: &str) -> String {
    let mut client = it.client();
    client.publish("", "in", event).await;
    client.get("out").await.body
}

/// Runs it once and gives the error of the parked message with its attempts.
async fn parked(component: &[u8], more: &str) -> (String, String) {
    let it = engine_with(component, &topology(more)).await;
    let mut client = it.client();
    client.publish("", "in", "{}").await;
    let parked = client.get("run.failed").await;
    (parked.header("x-millpond-error").unwrap(), parked.header("x-millpond-attempts").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_what_later_actions_see() {
    let it = engine_with(&plain(ECHO), &topology("")).await;
    assert_eq!(answer(&it, r#"{"order": 7}"#).await, r#"{"order":7}"#);
    // The idempotency key, which is no JSON: a text.
    let key = plain("(call $ok (local.get 6) (local.get 7))");
    std::fs::write(it.data_dir().join("it.wasm"), key).unwrap();
    it.apply(&topology("")).await;
    let said = answer(&it, "{}").await;
    assert!(said.ends_with("/run/0"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_has_a_fresh_instance() {
    // The number of calls as a digit, which stands at 400.
    let counts = "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (i32.store8 (i32.const 400) (i32.add (i32.const 48) (global.get $calls)))
        (call $ok (i32.const 400) (i32.const 1))";
    let it = engine_with(&plain(counts), &topology("")).await;
    for _ in 0..3 {
        assert_eq!(answer(&it, "{}").await, "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_function_does_wrong_is_the_end_of_its_message_alone() {
    let endless = "(loop $again (br $again)) (unreachable)";
    let greedy =
        "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)";
    let fails = |retry: u32| format!("(call $fail (i32.const {retry}) (i32.const 200) (i32.const 9))");
    let beyond = "(call $ok (i32.const 8) (i32.const 0x7fffffff))";
    let no_text = "(i32.store8 (i32.const 400) (i32.const 0xff)) (call $ok (i32.const 400) (i32.const 1))";
    let cases = [
        (endless, ", time: 50ms", "it took more than 50 ms (time) and was ended", "1"),
        (greedy, ", memory: 8MiB", "it wanted more than 8388608 bytes (memory): wasm trap: ", "1"),
        ("(call $deep (i32.const 1))", "", "it broke off: wasm trap: call stack exhausted", "1"),
        ("(unreachable)", "", "it broke off: wasm trap: wasm `unreachable` instruction executed", "1"),
        ("(i32.load (i32.const -4))", "", "it broke off: wasm trap: out of bounds memory access", "1"),
        ("(i32.div_u (i32.const 1) (i32.const 0))", "", "integer divide by zero", "1"),
        (
            "(call $ok (i32.const 0) (i32.const 70000))",
            ", output_max: 64KiB",
            "its answer has 70000 bytes, at most 65536",
            "1",
        ),
        (beyond, "", "out of bounds", "1"),
        (no_text, "", "it broke off: ", "1"),
        ("(i32.const 3)", "", "it broke off: ", "1"),
        (&fails(0), "", "function 'it': not today", "1"),
        (&fails(1), "", "function 'it': not today", "2"),
    ];
    for (body, more, expected, times) in cases {
        let (error, attempts) = parked(&plain(body), more).await;
        assert!(error.starts_with("test.yaml:9: function 'it': "), "{body}: {error}");
        assert!(error.contains(expected), "{body}: {error}");
        assert_eq!(attempts, times, "{body}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_piece_of_memory_is_not_the_end() {
    let asks = format!("(drop (memory.grow (i32.const 16000))) (drop (memory.grow (i32.const 1))) {ECHO}");
    let it = engine_with(&plain(&asks), &topology(", memory: 1MiB")).await;
    assert_eq!(answer(&it, "[1]").await, "[1]");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_that_loops_holds_up_no_other_rule() {
    let both = r#"
queues: {in: {}, out: {}, looping: {}}
functions:
  it: {component: it.wasm, time: 60s}
  good: {component: good.wasm}
rules:
  loops:
    on: {queue: looping}
    do: [{function: {call: it}}]
  good:
    on: {queue: in}
    do:
      - function: {call: good, input: .data}
        name: said
      - publish: {exchange: "", routing_key: out, body: .results.said}
  plain:
    on: {exchange: amq.fanout}
    do: [{publish: {exchange: "", routing_key: out, body: .data}}]
"#;
    let it = TestEngine::new().await;
    std::fs::write(it.data_dir().join("it.wasm"), plain("(loop $again (br $again)) (unreachable)")).unwrap();
    std::fs::write(it.data_dir().join("good.wasm"), plain(ECHO)).unwrap();
    it.apply(both).await;
    let mut client = it.client();
    for _ in 0..20 {
        client.publish("", "looping", "{}").await;
    }
    it.until("loops", |(seen, ..)| seen == 20).await;
    for number in 0..20 {
        assert_eq!(answer(&it, &number.to_string()).await, number.to_string());
    }
    client.publish("amq.fanout", "", "99").await;
    assert_eq!(client.get("out").await.body, "99");
    // What computes is let go of, whatever its time.
    in_time("the end of the engine", it.engine.shut_down()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_function_is_refused_when_it_is_applied() {
    let good = plain(ECHO);
    let module = wat::parse_str("(module)").unwrap();
    let large = plain(ECHO);
    let cases: Vec<(Vec<u8>, &str, &str)> = vec![
        (Vec::new(), "", "it is not WebAssembly, expected a component"),
        (b"\x7fELF and more".to_vec(), "", "it is not WebAssembly, expected a component"),
        (module, "", "it is a core module, expected a component: build it for wasm32-wasip2"),
        (good[..good.len() / 2].to_vec(), "", "it.wasm: "),
        ([&good[..8], &[0xff; 100]].concat(), "", "it.wasm: "),
        (
            wat::parse_str("(component)").unwrap(),
            "",
            "it exports 'nothing', expected 'millpond:function/handler@1.0'",
        ),
        (
            imports("wasi:sockets/tcp@0.2.0"),
            ", grant: {log: true, clock: true}",
            "it imports 'wasi:sockets/tcp@0.2.0', and there is nothing of that name to be granted",
        ),
        (
            imports("millpond:function/log@2.0.0"),
            ", grant: {log: true}",
            "nothing of that name to be granted",
        ),
        (
            logs(1),
            "",
            "it imports 'millpond:function/log@1.0.0', which is not granted: write 'grant: {log: true}' if it may have it",
        ),
        (
            asks_config(),
            ", grant: {log: true}",
            "which is not granted: write 'grant: {config: {NAME: VALUE}}'",
        ),
        (imports("wasi:clocks/wall-clock@0.2.3"), "", "write 'grant: {clock: true}'"),
        (imports("wasi:random/random@0.2.0"), "", "write 'grant: {random: true}'"),
        (large, ", memory: 64KiB", "(memory)"),
    ];
    for (bytes, more, expected) in cases {
        let it = TestEngine::new().await;
        std::fs::write(it.data_dir().join("it.wasm"), &bytes).unwrap();
        let error = it.engine.apply("t.yaml", &topology(more)).await.unwrap_err().to_string();
        assert!(error.starts_with("t.yaml:4: functions.it: the component "), "{expected}: {error}");
        assert!(error.contains(expected), "expected {expected}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(it.engine.rules().is_empty());
        std::fs::write(it.data_dir().join("it.wasm"), &good).unwrap();
        it.apply(&topology("")).await;
        assert_eq!(answer(&it, "1").await, "1");
    }
    let it = TestEngine::new().await;
    let error = it.engine.apply("t.yaml", &topology("")).await.unwrap_err().to_string();
    assert!(error.contains("it.wasm: No such file"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_of_another_type_is_refused() {
    let text = r#"(component
      (core module $m (func (export "handle")))
      (core instance $m (instantiate $m))
      (func $handle (canon lift (core func $m "handle")))
      (instance $handler (export "handle" (func $handle)))
      (export "millpond:function/handler@1.0.0" (instance $handler)))"#;
    let it = TestEngine::new().await;
    std::fs::write(it.data_dir().join("it.wasm"), wat::parse_str(text).unwrap()).unwrap();
    let error = it.engine.apply("t.yaml", &topology("")).await.unwrap_err().to_string();
    assert!(error.contains("expected 1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_granted_and_their_secrets_do_not_show() {
    let granted = r#", grant: {config: {TOKEN: "${secret:t}"}}"#;
    let it = engine_with(&asks_config(), &topology(granted)).await;
    let mut client = it.client();
    // Not set: it may be, so it is tried again.
    client.publish("", "in", "{}").await;
    let parked = client.get("run.failed").await;
    assert!(parked.header("x-millpond-error").unwrap().contains("secret"), "{parked:?}");
    assert_eq!(parked.header("x-millpond-attempts").unwrap(), "2");
    it.engine.secrets().set("t", "s3cr3t-token").await.unwrap();
    // It tells the secret in its answer, then in its error.
    assert_eq!(answer(&it, "{}").await, "${secret:t}");
    client.publish("", "in", "[1, 2, 3]").await;
    let parked = client.get("run.failed").await;
    assert!(parked.header("x-millpond-error").unwrap().ends_with("function 'it': ${secret:t}"), "{parked:?}");
    it.apply(&topology(", grant: {config: {OTHER: x}}")).await;
    client.publish("", "in", "{}").await;
    let parked = client.get("run.failed").await;
    assert!(parked.header("x-millpond-error").unwrap().ends_with("not today"), "{parked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_granted_and_has_an_end() {
    let it = engine_with(&logs(1_000), &topology(", grant: {log: true}")).await;
    assert_eq!(answer(&it, "[7]").await, "[7]");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_component_is_another_version_of_the_rule() {
    let it = engine_with(&plain(ECHO), &topology("")).await;
    assert_eq!(answer(&it, "1").await, "1");
    let same = it.engine.plan("test.yaml", &topology("")).await.unwrap();
    assert!(!same.has_changes(), "{same}");
    std::fs::write(it.data_dir().join("it.wasm"), plain("(call $ok (i32.const 100) (i32.const 6))")).unwrap();
    assert_eq!(answer(&it, "2").await, "2", "until it is applied");
    let plan = it.engine.plan("test.yaml", &topology("")).await.unwrap().to_string();
    assert!(plan.contains("~ function it") && plan.contains("~ rule run"), "{plan}");
    assert!(plan.contains("- components (sha256): \"sha256:") || plan.contains("sha256:"), "{plan}");
    assert_eq!(answer(&it, "2").await, "2", "a plan changes nothing");
    it.apply(&topology("")).await;
    assert_eq!(answer(&it, "3").await, "more");
    let versions = it.engine.rule_history("run").unwrap();
    assert_eq!(versions.len(), 2, "{versions:?}");
    assert!(versions[1].difference.iter().any(|line| line.starts_with("+ ") && line.contains("sha256:")));
    let kept = std::fs::read_dir(it.data_dir().join("components")).unwrap().count();
    assert_eq!(kept, 1, "the first is not needed any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_applied_runs_after_a_restart_whatever_became_of_the_file() {
    let it = engine_with(&plain(ECHO), &topology("")).await;
    std::fs::write(it.data_dir().join("it.wasm"), b"something else").unwrap();
    let it = it.reopen().await;
    assert_eq!(answer(&it, "5").await, "5");
    assert_eq!(it.engine.rules()[0].version, 1);
    // What was kept is not taken for good.
    let kept = std::fs::read_dir(it.data_dir().join("components")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&kept, plain("(unreachable)")).unwrap();
    let it = it.reopen().await;
    let mut client = it.client();
    client.publish("", "in", "{}").await;
    let error = client.get("run.failed").await.header("x-millpond-error").unwrap();
    assert!(
        error.contains("its component cannot be used: ") && error.contains("was changed by somebody"),
        "{error}"
    );
    // No function at all any more: nothing is kept.
    it.apply("queues: {in: {}, out: {}}").await;
    assert_eq!(std::fs::read_dir(it.data_dir().join("components")).unwrap().count(), 0);
}

#[test]
fn the_file_is_read_carefully() {
    let error = |text: &str| check("t.yaml", text).unwrap_err().to_string();
    let it = error(&topology("").replace("call: it", "call: ti"));
    assert!(it.contains("t.yaml:9: rules.run.do[0].function.call: found 'ti', expected it"), "{it}");
    let it =
        error(&topology(", memory: 2GiB, time: 2m, output_max: 1GiB, grant: {net: true, log: 1}, fuel: 3"));
    for expected in [
        "functions.it.memory: found '2GiB', expected at most 1024MiB",
        "functions.it.time: found '2m', expected a time",
        "functions.it.output_max: found '1GiB', expected at most 16MiB",
        "functions.it.grant: found the unknown key 'net'",
        "functions.it.grant.log: found the number 1, expected true or false",
        "functions.it: found the unknown key 'fuel'",
    ] {
        assert!(it.contains(expected), "{expected}: {it}");
    }
    let it = error("functions: {a/b: {component: x}, c: {}}");
    assert!(it.contains("found the name 'a/b'") && it.contains("functions.c: found no 'component'"), "{it}");
}

#[test]
fn a_test_of_rules_says_what_a_function_answers() {
    let tests = r#"
tests:
  scored:
    rule: run
    given: [{data: {order: 7}}]
    answers: {function: {score: 3}}
    expect:
      - function: {call: it, input: {order: 7}}
      - publish: {routing_key: out, body: {score: 3}}
"#;
    let topology = check("t.yaml", &(topology("") + tests)).unwrap();
    let report = run_tests(&topology, None).unwrap();
    assert!(report.passed() && report.results.len() == 1, "{report}");
    let shown =
        millpond_engine::dry_run(&topology, "run", &json!({"data": {"order": 7}})).unwrap().to_string();
    assert!(shown.contains("function (t.yaml:9)\n   call: it\n   input: {\"order\":7}"), "{shown}");
}

/// A file of the example.
fn example(name: &str) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/functions");
    std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The component that examples/functions/rust was built to: what a language brings along is answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_of_rust_runs_with_what_it_was_granted() {
    let granted = r#", memory: 16MiB, grant: {log: true, config: {REBATE_PERCENT: "10"}}"#;
    let it = engine_with(&example("rust/total.wasm"), &topology(granted)).await;
    let order = json!({"order": 7, "items": [{"cents": 500, "count": 2}, {"cents": 100}]}).to_string();
    assert_eq!(answer(&it, &order).await, r#"{"cents":990,"order":7}"#);
    let mut client = it.client();
    client.publish("", "in", r#"{"order": 8}"#).await;
    let parked = client.get("run.failed").await;
    assert!(parked.header("x-millpond-error").unwrap().contains("the order has no items"), "{parked:?}");
    let order = json!({"order": 9, "items": []}).to_string();
    it.apply(&topology(&granted.replace("10", "much"))).await;
    client.publish("", "in", &order).await;
    let parked = client.get("run.failed").await;
    assert!(parked.header("x-millpond-error").unwrap().contains("REBATE_PERCENT is 'much'"), "{parked:?}");
    let error = it.engine.apply("t.yaml", &topology("")).await.unwrap_err().to_string();
    assert_eq!(error.lines().count(), 2, "log and config: {error}");
}
