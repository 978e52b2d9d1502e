//! Programs, and lines in the log.

use crate::support::*;
use millpond_engine::check;

fn topology(exec: &str) -> String {
    format!(
        r#"
queues: {{in: {{}}, out: {{}}}}
rules:
  run:
    on: {{queue: in}}
    do:
      - exec: {{{exec}}}
      - publish: {{exchange: "", routing_key: out}}
    retry: {{max_attempts: 2, first: 1ms}}
"#
    )
}

/// A shell that writes what it is told into the file `out`: the test's program, not the engine's way.
fn script(text: &str, more: &str) -> String {
    topology(&format!("command: [/bin/sh, -c, '{text}', sh, '\\(.data.path)'], {more}"))
}

async fn engine(topology: &str) -> TestEngine {
    let it = TestEngine::allowing(&["/bin/sh", "/bin/cat"]).await;
    it.apply(topology).await;
    it
}

/// Runs it once and gives the error of the parked message with its attempts.
async fn parked(topology: &str) -> (String, String) {
    let it = engine(topology).await;
    let mut client = it.client();
    client.publish("", "in", r#"{"path": "x"}"#).await;
    let parked = client.get("run.failed").await;
    (parked.header("x-millpond-error").unwrap(), parked.header("x-millpond-attempts").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_gets_arguments_input_and_a_clean_environment() {
    let more = "env: {TOKEN: '${secret:t}', KIND: '\\(.type)'}";
    let it = engine(&script(r#"{ cat; echo; env | sort; echo "$1"; ulimit -a; } > "$1""#, more)).await;
    it.engine.secrets().set("t", "s3cr3t-exec").await.unwrap();
    let path = it.data_dir().join("out put; rm");
    let mut client = it.client();
    let event = serde_json::json!({"path": path}).to_string();
    let properties = millpond_model::properties::Properties { message_id: Some("m1".into()), ..persistent() };
    client.publish_with("", "in", event.as_bytes(), &properties).await;
    client.get("out").await;
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written.starts_with(r#"{"id":"m1""#) || written.contains(r#""id":"m1""#), "{written}");
    let lines: Vec<_> = written.lines().collect();
    for expected in
        ["TOKEN=s3cr3t-exec", "KIND=in", "MILLPOND_EVENT_ID=m1", "MILLPOND_IDEMPOTENCY_KEY=m1/run/0"]
    {
        assert!(lines.contains(&expected), "{expected}: {written}");
    }
    assert!(!written.contains("CARGO"), "nothing of the broker's environment: {written}");
    assert!(lines.contains(&path.to_str().unwrap()), "one argument, whatever is in it: {written}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_tried_again_unless_the_code_says_not_to() {
    let (error, attempts) = parked(&script("echo s3cr3t: no >&2; exit 3", "give_up: [65]")).await;
    assert!(error.contains("test.yaml:7: /bin/sh: exit status: 3: s3cr3t: no"), "{error}");
    assert_eq!(attempts, "2");
    let (error, attempts) = parked(&script("exit 65", "give_up: [65]")).await;
    assert!(error.contains("exit status: 65"), "{error}");
    assert_eq!(attempts, "1");
    let it = engine(&script("exit 7", "expect: [0, 7]")).await;
    let mut client = it.client();
    client.publish("", "in", r#"{"path": "x"}"#).await;
    client.get("out").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_takes_too_long_is_ended_with_all_it_started() {
    let it = TestEngine::new().await;
    let pid_file = it.data_dir().join("pid");
    let text = format!("sleep 600 & echo $! > {}; wait", pid_file.display());
    let (error, _) = parked(&script(&text, "timeout: 300ms")).await;
    assert!(error.contains("it took more than 300 ms and was ended"), "{error}");
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    let status = format!("/proc/{}/stat", pid.trim());
    in_time("the end of what it started", async {
        // Gone, or dead and not yet collected.
        while std::fs::read_to_string(&status).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_memory_and_processor_have_limits() {
    let (error, _) = parked(&script("while :; do echo more; done", "output_max: 10KiB")).await;
    assert!(error.contains("it wrote more than 10240 bytes (output_max) and was ended"), "{error}");
    let (error, _) = parked(&script("while :; do :; done", "limits: {cpu: 1s}, timeout: 30s")).await;
    assert!(error.contains("signal"), "{error}");
    let (error, _) =
        parked(&script("ulimit -v; ulimit -n; exit 1", "limits: {memory: 64MiB, files: 9}")).await;
    assert!(error.contains("exit status: 1"), "{error}");
    let text = "[ $(ulimit -v) = 65536 ] && [ $(ulimit -n) = 9 ] && [ $(ulimit -c) = 0 ]";
    let it = engine(&script(text, "limits: {memory: 64MiB, files: 9}")).await;
    let mut client = it.client();
    client.publish("", "in", r#"{"path": "x"}"#).await;
    client.get("out").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_has_its_whole_input_before_it_begins() {
    // Of a pipe the size is 0, and who writes to it may die in the middle.
    let text = "[ $(stat -L -c %s /dev/stdin) = 300000 ] && [ $(wc -c) = 300000 ] && ! echo x >&0";
    let it = engine(&script(text, "stdin: '\"x\" * 300000'")).await;
    let mut client = it.client();
    client.publish("", "in", r#"{"path": "x"}"#).await;
    client.get("out").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_reads_nothing_or_is_missing_hurts_nobody() {
    let it = engine(&topology("command: [/bin/sh, -c, 'exit 0'], stdin: '\"x\" * 1000000'")).await;
    let mut client = it.client();
    client.publish("", "in", "{}").await;
    client.get("out").await;
    let it = TestEngine::allowing(&["/no/such/program"]).await;
    it.apply(&topology("command: [/no/such/program]")).await;
    let mut client = it.client();
    client.publish("", "in", "{}").await;
    let error = client.get("run.failed").await.header("x-millpond-error").unwrap();
    assert!(error.contains("/no/such/program: exit status: ") && error.contains("No such file"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_allowed_is_refused_by_apply() {
    let it = TestEngine::new().await;
    let error = it.engine.apply("t.yaml", &topology("command: [/bin/cat]")).await.unwrap_err().to_string();
    let expected =
        "t.yaml:7: rules.run.do[0].exec.command: the program /bin/cat is not allowed: the setting exec_allow";
    assert!(error.starts_with(expected), "{error}");
    let error = check("t.yaml", &topology(r"command: ['\(.data.program)']")).unwrap_err().to_string();
    assert!(error.contains("expected the absolute path of a program, without jq"), "{error}");
    let error = check("t.yaml", &topology("command: cat")).unwrap_err().to_string();
    assert!(error.contains("expected a list: the program's absolute path"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_for_the_log_is_one_line() {
    let text = topology("command: [/bin/cat]")
        .replace("exec: {command: [/bin/cat]}", r"log: {level: warn, message: 'order \(.data.order)'}");
    let it = TestEngine::with(&text).await;
    let shown = it.engine.dry_run("run", &serde_json::json!({"order": "1\n2"})).unwrap().to_string();
    assert!(shown.contains("log (test.yaml:7)\n   warn: order 1\\n2\n"), "{shown}");
    let mut client = it.client();
    client.publish("", "in", r#"{"order": 1}"#).await;
    client.get("out").await;
    let error = check("t.yaml", &text.replace("warn", "loud")).unwrap_err().to_string();
    assert!(error.contains("found 'loud', expected error, warn, info, debug or trace"), "{error}");
}
