//! The journal as a source: a real `systemd-journald`, in a namespace of its own, and the real `journalctl`. Where they
//! are not there, or the test does not run as root, it says so and looks at nothing.

use crate::support::*;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const JOURNALD: &str = "/usr/lib/systemd/systemd-journald";

/// Runs the journal until the test process is gone, whatever became of it; then nothing is left of it.
const KEEPER: &str = r#"name=$1; dir=$2; shift 2; "$@" </dev/null >/dev/null 2>&1 & pid=$!; read -r _; kill $pid; wait $pid; rm -rf "$dir" "/run/systemd/journal.$name" "/run/log/journal/${dir##*/}""#;

struct Journal {
    name: String,
    dir: PathBuf,
    keeper: Child,
}

impl Drop for Journal {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

impl Journal {
    #[expect(clippy::print_stderr, reason = "whoever runs the tests is to know what was left out")]
    async fn start() -> Option<Self> {
        let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
        let has_reader = Command::new("journalctl").arg("--version").output().is_ok();
        if !rustix::process::geteuid().is_root()
            || !Path::new(JOURNALD).exists()
            || !has_reader
            || machine.len() < 32
        {
            eprintln!("left out: it needs systemd-journald, journalctl, /etc/machine-id and to be root");
            return None;
        }
        let name = format!("millpond{}", std::process::id());
        let journal = format!("{}.{name}", machine.trim());
        let kept = Path::new("/var/log/journal").join(&journal);
        let mut keeper = Command::new("/bin/sh");
        keeper.args(["-c", KEEPER, "keeper", &name]).arg(&kept).args([JOURNALD, &name]);
        let keeper = keeper.stdin(Stdio::piped()).spawn().unwrap();
        let mut it = Self { name, dir: kept.clone(), keeper };
        let folders = [kept, Path::new("/run/log/journal").join(&journal)];
        in_time("the journal", async {
            loop {
                // Not written before the journal is seen: it would keep each of several entries.
                if let Some(dir) = folders.iter().find(|dir| dir.join("system.journal").exists())
                    && it.try_write("begun", 6).is_ok()
                {
                    it.dir = dir.clone();
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        Some(it)
    }

    fn try_write(&self, message: &str, priority: u8) -> std::io::Result<()> {
        let entry = format!("MESSAGE={message}\nPRIORITY={priority}\nSYSLOG_IDENTIFIER=shop\nORDER=a7\n");
        let socket = format!("/run/systemd/journal.{}/socket", self.name);
        UnixDatagram::unbound()?.send_to(entry.as_bytes(), socket).map(drop)
    }

    fn write(&self, message: &str, priority: u8) {
        self.try_write(message, priority).unwrap();
    }

    fn topology(&self, more: &str) -> String {
        format!(
            "queues: {{seen: {{}}}}\nbindings: [{{exchange: millpond.events, queue: seen}}]\n\
             sources:\n  log:\n    journald: {{directory: {}, match: SYSLOG_IDENTIFIER=shop, {more}}}\n",
            self.dir.display()
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_a_real_journal_come_once_through_restarts_and_rotations() {
    let Some(journal) = Journal::start().await else { return };
    journal.write("one", 6);
    journal.write("not urgent", 7);
    let it = TestEngine::with(&journal.topology("from: start, priority: 6")).await;
    let mut client = it.client();
    assert_eq!(client.get("seen").await.json()["MESSAGE"], "begun");
    let one = client.get("seen").await;
    assert_eq!(one.routing_key, "millpond.journald.entry");
    assert_eq!(one.header("cloudEvents:subject").as_deref(), Some("shop"));
    assert!(one.header("cloudEvents:time").unwrap().starts_with("20"));
    let data = one.json();
    assert_eq!(
        (&data["MESSAGE"], &data["ORDER"], &data["_TRANSPORT"]),
        (&"one".into(), &"a7".into(), &"journal".into())
    );
    journal.write("two", 6);
    assert_eq!(client.get("seen").await.json()["MESSAGE"], "two");
    let it = {
        it.engine.stop_source("log").await.unwrap();
        // More than journalctl shows by itself.
        for number in 0..30 {
            journal.write(&format!("while it was stopped {number}"), 6);
        }
        it.reopen().await
    };
    it.engine.start_source("log").await.unwrap();
    let mut client = it.client();
    for number in 0..30 {
        assert_eq!(client.get("seen").await.json()["MESSAGE"], format!("while it was stopped {number}"));
    }
    let rotated =
        Command::new("journalctl").arg(format!("--namespace={}", journal.name)).arg("--rotate").output();
    assert!(rotated.unwrap().status.success());
    for number in 0..200 {
        journal.write(&format!("after {number}"), 6);
    }
    for number in 0..200 {
        assert_eq!(client.get("seen").await.json()["MESSAGE"], format!("after {number}"));
    }
    assert_eq!(client.ready("seen"), 0);
}
