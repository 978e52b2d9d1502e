//! Sources of files: real files, really rotated.

use crate::support::{Client, TestEngine, in_time, open_engine};
use millpond_broker::{Clock, ValueChange};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A directory with logs, and an engine that follows them.
struct Logs {
    it: TestEngine,
    client: Client,
    dir: tempfile::TempDir,
}

fn topology(dir: &Path, pattern: &str, more: &str) -> String {
    format!(
        "queues: {{seen: {{}}}}\nbindings: [{{exchange: millpond.events, queue: seen}}]\nsources:\n  log:\n    \
         file: {{path: '{}/{pattern}', gone_after: 50ms{more}}}\n",
        dir.display()
    )
}

impl Logs {
    async fn new(pattern: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::with(dir, pattern, more).await
    }

    async fn with(dir: tempfile::TempDir, pattern: &str, more: &str) -> Self {
        let it = TestEngine::new().await;
        it.apply(&topology(dir.path(), pattern, more)).await;
        let client = it.client();
        let logs = Self { it, client, dir };
        logs.cursor_until(|_| true).await;
        logs
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        append(&self.path(name), text);
    }

    async fn next(&mut self) -> Value {
        self.client.get("seen").await.json()
    }

    async fn expect_lines(&mut self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.next().await, json!({"line": line}));
        }
    }

    fn cursor(&self) -> Option<Value> {
        let values = self.it.broker.values("engine").unwrap();
        let (_, value) = values.into_iter().find(|(key, _)| key == "source/log")?;
        Some(serde_json::from_slice::<Value>(&value).unwrap()["cursor"].take())
    }

    /// Waits until there is a cursor that is so.
    async fn cursor_until(&self, what: impl Fn(&Value) -> bool) {
        in_time("the cursor", async {
            while !self.cursor().is_some_and(|cursor| what(&cursor)) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[tokio::test]
async fn a_line_becomes_an_event_and_what_was_there_before_does_not() {
    let dir = tempfile::tempdir().unwrap();
    append(&dir.path().join("app.log"), "old\nunfini");
    let mut logs = Logs::with(dir, "*.log", "").await;
    logs.append("app.log", "shed\r\n\nnext\n");
    let seen = logs.client.get("seen").await;
    assert_eq!(seen.json(), json!({"line": "unfinished"}));
    assert_eq!(seen.routing_key, "millpond.file.line");
    assert_eq!(seen.header("cloudEvents:subject").unwrap(), logs.path("app.log").to_str().unwrap());
    assert!(seen.header("cloudEvents:id").unwrap().starts_with("log/"));
    logs.expect_lines(&["next"]).await;
    // A file that comes later is read from its start; one that does not match is not read.
    logs.append("other.log", "first\n");
    logs.append("other.txt", "never\n");
    logs.expect_lines(&["first"]).await;
}

#[tokio::test]
async fn json_lines_are_the_data_and_what_is_not_json_says_why() {
    let dir = tempfile::tempdir().unwrap();
    append(&dir.path().join("a.log"), "{\"user\": \"ann\", \"n\": 1}\nnot json\n[2]\n");
    let mut logs = Logs::with(dir, "a.log", ", format: json, from: start").await;
    assert_eq!(logs.next().await, json!({"user": "ann", "n": 1}));
    let wrong = logs.next().await;
    assert_eq!(wrong["line"], "not json");
    assert!(wrong["error"].as_str().unwrap().starts_with("this is not JSON: "), "{wrong}");
    assert_eq!(logs.next().await, json!([2]));
}

#[tokio::test]
async fn named_groups_are_the_data() {
    let regex = r", from: start, regex: '^(?<level>[A-Z]+) (?<text>.*?)(?: by (?<user>\w+))?$'";
    let dir = tempfile::tempdir().unwrap();
    append(&dir.path().join("a.log"), "INFO started by ann\nWARN slow\nlower\n");
    let mut logs = Logs::with(dir, "a.log", regex).await;
    assert_eq!(logs.next().await, json!({"level": "INFO", "text": "started", "user": "ann"}));
    assert_eq!(logs.next().await, json!({"level": "WARN", "text": "slow", "user": null}));
    assert_eq!(logs.next().await, json!({"line": "lower", "error": "the regular expression does not match"}));
}

#[tokio::test]
async fn a_rotated_file_is_read_to_its_end_and_the_new_one_from_its_start() {
    let mut logs = Logs::new("app.log", "").await;
    for round in 0..4 {
        let mut writer = OpenOptions::new().create(true).append(true).open(logs.path("app.log")).unwrap();
        writer.write_all(format!("{round} a\n").as_bytes()).unwrap();
        logs.expect_lines(&[&format!("{round} a")]).await;
        std::fs::rename(logs.path("app.log"), logs.path(&format!("app.log.{round}"))).unwrap();
        // The writer has not noticed yet.
        writer.write_all(format!("{round} b\n{round} c").as_bytes()).unwrap();
        logs.append("app.log", &format!("{round} d\n"));
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(logs.next().await["line"].as_str().unwrap().to_owned());
        }
        // The unfinished line counts once the file has been quiet.
        seen.sort();
        assert_eq!(seen, ["b", "c", "d"].map(|part| format!("{round} {part}")));
    }
    // Files under other names, and deleted ones, are forgotten.
    logs.cursor_until(|cursor| cursor["files"].as_array().unwrap().len() == 1).await;
    std::fs::remove_file(logs.path("app.log")).unwrap();
    logs.cursor_until(|cursor| cursor["files"].as_array().unwrap().is_empty()).await;
}

#[tokio::test]
async fn a_file_that_was_rotated_while_nobody_looked_is_found_again() {
    let mut logs = Logs::new("app.log", "").await;
    logs.append("app.log", "one\n");
    logs.expect_lines(&["one"]).await;
    logs.it.engine.stop_source("log").await.unwrap();
    logs.append("app.log", "two\n");
    std::fs::rename(logs.path("app.log"), logs.path("app.log.1")).unwrap();
    logs.append("app.log", "three\n");
    logs.it.engine.start_source("log").await.unwrap();
    logs.expect_lines(&["two", "three"]).await;
    // Deleted and another one in its place while nobody looked, perhaps with the same number.
    logs.it.engine.stop_source("log").await.unwrap();
    std::fs::remove_file(logs.path("app.log")).unwrap();
    logs.append("app.log", "four and more\n");
    logs.it.engine.start_source("log").await.unwrap();
    logs.expect_lines(&["four and more"]).await;
}

#[tokio::test]
async fn a_truncated_file_is_read_from_its_start() {
    let mut logs = Logs::new("app.log", "").await;
    logs.append("app.log", "one\ntwo\n");
    logs.expect_lines(&["one", "two"]).await;
    let file = File::create(logs.path("app.log")).unwrap();
    drop(file);
    logs.append("app.log", "3\n");
    logs.expect_lines(&["3"]).await;
    // Truncated and at once longer than before: its first bytes tell.
    std::fs::write(logs.path("app.log"), "four\nfive\n").unwrap();
    logs.expect_lines(&["four", "five"]).await;
}

#[tokio::test]
async fn entries_of_several_lines_end_where_the_next_begins_or_after_a_while() {
    let multiline = ", multiline: {begins: '^\\d+:', flush: 30ms}";
    let mut logs = Logs::new("app.log", multiline).await;
    logs.append("app.log", "1: failed\n  at a\n  at b\n2: done\n3: fai");
    logs.expect_lines(&["1: failed\n  at a\n  at b", "2: done"]).await;
    logs.append("app.log", "led\n\n  at c\n");
    logs.expect_lines(&["3: failed\n\n  at c"]).await;
    logs.append("app.log", "  alone\n4: end\n");
    logs.expect_lines(&["  alone", "4: end"]).await;
}

#[tokio::test]
async fn a_line_that_is_too_long_is_cut_marked_and_passed_over() {
    let mut logs = Logs::new("app.log", ", max_line: 10").await;
    let long = "x".repeat(3_000_000);
    logs.append("app.log", &format!("before\n{long}\nafter\n{}", "y".repeat(12)));
    logs.expect_lines(&["before"]).await;
    assert_eq!(logs.next().await, json!({"line": "xxxxxxxxxx", "truncated": true}));
    logs.expect_lines(&["after"]).await;
    assert_eq!(logs.next().await, json!({"line": "yyyyyyyyyy", "truncated": true}));
    logs.append("app.log", "yyyy\nexactly 10\n");
    logs.expect_lines(&["exactly 10"]).await;
}

#[tokio::test]
async fn fixed_polling_and_transforms_work_on_lines() {
    let dir = tempfile::tempdir().unwrap();
    let it = TestEngine::new().await;
    let text = topology(dir.path(), "*/app-[0-9].log", ", format: json, from: start")
        + "    poll: {every: 10ms}\n    type: app.\\(.data.level)\n    data: 'if .data.level == \"debug\" then empty else .data end'\n";
    it.apply(&text).await;
    std::fs::create_dir(dir.path().join("eu")).unwrap();
    append(&dir.path().join("eu/app-1.log"), "{\"level\":\"debug\"}\n{\"level\":\"warn\",\"n\":1}\n");
    append(&dir.path().join("eu/app-x.log"), "{\"level\":\"warn\",\"n\":2}\n");
    let mut client = it.client();
    let seen = client.get("seen").await;
    assert_eq!((seen.routing_key.as_str(), seen.json()), ("app.warn", json!({"level": "warn", "n": 1})));
    it.until_source("log", |status| (status.events, status.dropped) == (1, 1)).await;
}

/// Appends lines and rotates, by chance.
struct Writer {
    dir: PathBuf,
    lines: u64,
    files: u64,
}

impl Writer {
    fn write(&mut self, lines: u64) {
        for _ in 0..lines {
            let line = self.lines;
            self.lines += 1;
            let path = self.dir.join("app.log");
            append(&path, &format!("{line} {}\n", "-".repeat(rand::random_range(0..300))));
            if rand::random_range(0..40) == 0 {
                self.files += 1;
                std::fs::rename(&path, self.dir.join(format!("app.log.{}", self.files))).unwrap();
            }
        }
    }
}

/// Whatever the engine was doing when its process broke off: nothing is skipped, nothing repeated.
#[test]
fn lines_come_once_through_breaks_at_random_places() {
    let logs = tempfile::tempdir().unwrap();
    let mut data = tempfile::tempdir().unwrap();
    let mut writer = Writer { dir: logs.path().to_owned(), lines: 0, files: 0 };
    let mut seen: Vec<u64> = Vec::new();
    for round in 0..15 {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (it, client) = runtime.block_on(async {
            let it = open_engine(data, Clock::system()).await;
            if round == 0 {
                it.apply(&topology(logs.path(), "app.log*", ", from: start")).await;
            }
            let client = it.client();
            (it, client)
        });
        drop(client);
        for _ in 0..rand::random_range(1..6) {
            writer.write(rand::random_range(1..150));
            // Where it is cut is left to chance.
            let pause = std::time::Duration::from_micros(rand::random_range(0..4000));
            runtime.block_on(async { tokio::time::sleep(pause).await });
        }
        data = it.break_off(runtime);
        // What is written while it is down.
        writer.write(rand::random_range(0..100));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let it = open_engine(data, Clock::system()).await;
        let mut client = it.client();
        let mut ids = std::collections::HashSet::new();
        for _ in 0..writer.lines {
            let got = client.get("seen").await;
            assert!(ids.insert(got.header("cloudEvents:id").unwrap()));
            seen.push(got.json()["line"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap());
        }
        it.engine.shut_down().await;
        assert!(client.try_get("seen").await.is_none());
    });
    seen.sort_unstable();
    assert_eq!(seen, (0..writer.lines).collect::<Vec<_>>());
}

#[test]
fn mistakes_are_reported_with_their_line() {
    let cases = [
        ("{}", "sources.a.file: found no 'path', expected 'path', such as /var/log/app/*.log"),
        ("{path: /a/../b}", "sources.a.file.path: found '/a/../b', expected a path such as"),
        ("{path: /a, format: xml}", "sources.a.file.format: found 'xml', expected lines, json or regex"),
        (
            "{path: /a, format: regex}",
            "sources.a.file.format: found no 'regex', expected it beside this format",
        ),
        ("{path: /a, regex: '('}", "sources.a.file.regex: '(': "),
        ("{path: /a, regex: 'x'}", "sources.a.file.regex: found 'x', expected named groups"),
        ("{path: /a, from: now}", "sources.a.file.from: found 'now', expected start or end"),
        ("{path: /a, multiline: {}}", "sources.a.file.multiline: found no 'begins', expected 'begins'"),
        ("{path: /a, max_line: 1GiB}", "sources.a.file.max_line: found '1GiB', expected at most 8MiB"),
    ];
    for (file, wanted) in cases {
        let error =
            millpond_engine::check("t.yaml", &format!("sources:\n  a: {{file: {file}}}\n")).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(&format!("t.yaml:2: {wanted}")), "{file}: {error}");
    }
}

/// Devices of network file systems, volumes and containers are numbered anew when a machine starts.
#[tokio::test]
async fn a_file_whose_device_has_another_number_is_the_same() {
    let mut logs = Logs::new("*.log", ", from: start").await;
    logs.append("a.log", "\u{feff}one\ntwo\n");
    logs.expect_lines(&["one", "two"]).await;
    let Logs { it, client, dir } = logs;
    it.engine.stop_source("log").await.unwrap();
    let (_, kept) =
        it.broker.values("engine").unwrap().into_iter().find(|(key, _)| key == "source/log").unwrap();
    let mut kept: Value = serde_json::from_slice(&kept).unwrap();
    let dev = kept["cursor"]["files"][0]["dev"].as_u64().unwrap();
    kept["cursor"]["files"][0]["dev"] = (dev + 1).into();
    let change = ValueChange {
        room: "engine",
        key: b"source/log".as_slice().into(),
        value: Some(kept.to_string().into_bytes().into()),
    };
    let mut client = client;
    let durability = client.session.transact(&mut Vec::new(), &[], &[change]).unwrap();
    client.wait(durability).await;
    drop(client);
    append(&dir.path().join("a.log"), "three\n");
    let it = it.reopen().await;
    it.engine.start_source("log").await.unwrap();
    let client = it.client();
    let mut logs = Logs { it, client, dir };
    logs.expect_lines(&["three"]).await;
    logs.append("a.log", "four\n");
    logs.expect_lines(&["four"]).await;
}
