//! `journald`: the system's journal, by following `journalctl`. See docs/guide/source-journald.md.
//!
//! The journal has cursors of its own, one an entry; the last one is what is kept. The program is the journal's only
//! stable interface for others than C, and reads what several machines' formats need.

use super::{
    Desk, Found, Item, Kind, LOOK_BYTES_MAX, LOOK_ITEMS_MAX, Opening, Poll, Polling, Source, SourceError,
    Work,
};
use crate::topology::read::text;
use crate::topology::{Fields, Kind as NodeKind, Node, Report};
use serde_json::{Map, Value, json};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The program that is followed.
const PROGRAM: &str = "journalctl";

/// Entries that were read and not looked at yet; beyond, the program waits.
const WAITING_MAX: usize = LOOK_ITEMS_MAX;

/// Longest entry as JSON; the program leaves out longer fields itself. Bytes.
const ENTRY_MAX_BYTES: u64 = 1024 * 1024;

/// So much of what the program complains of is shown. Bytes.
const COMPLAINT_MAX_BYTES: u64 = 1000;

/// Units and matches of one source.
const FILTERS_MAX: usize = 100;

#[derive(Debug, Clone)]
struct Journal {
    units: Vec<String>,
    /// `FIELD=value`.
    matches: Vec<String>,
    priority: Option<u8>,
    from_start: bool,
    /// Instead of the system's.
    directory: Option<String>,
}

/// Reads `journald:`.
pub(super) fn read(node: &Node, path: &str, report: &mut Report) -> Option<Arc<dyn Kind>> {
    let fields = Fields::read(node, path, &["units", "match", "priority", "from", "directory"], report);
    let units =
        texts(&fields, "units", "the name of a unit, such as ssh.service", |it| !it.starts_with('-'), report);
    let is_match = |it: &str| {
        let name = it.split_once('=').map_or("", |(name, _)| name);
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let matches = texts(&fields, "match", "FIELD=value, such as _UID=0", is_match, report);
    let priority = fields.has("priority").then(|| fields.integer("priority", 6, 0..=7, report) as u8);
    let from = fields.text("from", "start or end", report).unwrap_or("end");
    if !matches!(from, "start" | "end")
        && let Some(node) = fields.get("from")
    {
        report.expected(node, &fields.path_of("from"), "start or end");
    }
    let directory =
        fields.text("directory", "the path of a directory with journals", report).map(str::to_owned);
    Some(Arc::new(Journal { units, matches, priority, from_start: from == "start", directory }))
}

fn texts(
    fields: &Fields<'_>,
    key: &str,
    expected: &str,
    is_good: impl Fn(&str) -> bool,
    report: &mut Report,
) -> Vec<String> {
    let Some(node) = fields.get(key) else { return Vec::new() };
    let path = fields.path_of(key);
    let items = match &node.kind {
        NodeKind::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if items.len() > FILTERS_MAX {
        report.expected(node, &path, &format!("at most {FILTERS_MAX}"));
    }
    let mut found = Vec::new();
    for item in items {
        let Some(text) = text(item, &path, expected, report) else { continue };
        if text.is_empty() || text.contains('\0') || !is_good(text) {
            report.expected(item, &path, expected);
        }
        found.push(text.to_owned());
    }
    found
}

impl Journal {
    fn command(&self, cursor: Option<&str>) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["--output=json", "--follow", "--no-pager", "--quiet"]);
        match cursor {
            Some(cursor) => drop(command.arg(format!("--after-cursor={cursor}"))),
            None if self.from_start => drop(command.arg("--no-tail")),
            None => drop(command.arg("--lines=0")),
        }
        command.args(self.units.iter().map(|unit| format!("--unit={unit}")));
        command.args(self.priority.iter().map(|priority| format!("--priority={priority}")));
        command.args(self.directory.iter().map(|directory| format!("--directory={directory}")));
        command.args(&self.matches);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }
}

impl Kind for Journal {
    fn name(&self) -> &'static str {
        "journald"
    }

    fn polling(&self) -> Polling {
        Polling { default: Poll::Long(Duration::from_secs(30)), every: false, long: false }
    }

    fn event_type(&self) -> String {
        "millpond.journald.entry".to_owned()
    }

    fn open(&self, _opening: &Opening<'_>) -> Result<Box<dyn Source>, SourceError> {
        Ok(Box::new(Following { journal: self.clone(), running: None }))
    }
}

struct Following {
    journal: Journal,
    running: Option<Running>,
}

struct Running {
    entries: mpsc::Receiver<Result<Vec<u8>, String>>,
    /// Reads; ends, with the program, when this is dropped.
    _reading: JoinSet<()>,
}

impl Running {
    fn start(journal: &Journal, cursor: Option<&str>) -> Result<Self, SourceError> {
        let child = journal.command(cursor).spawn();
        let child = child.map_err(|error| SourceError::new(format!("the program '{PROGRAM}': {error}")))?;
        let (sender, entries) = mpsc::channel(WAITING_MAX);
        let mut reading = JoinSet::new();
        reading.spawn(follow(child, sender));
        Ok(Self { entries, _reading: reading })
    }
}

/// Hands over line by line; at the end, why it ended.
async fn follow(mut child: Child, sender: mpsc::Sender<Result<Vec<u8>, String>>) {
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else { return };
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        match (&mut stdout).take(ENTRY_MAX_BYTES).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        if sender.send(Ok(line)).await.is_err() {
            return;
        }
    }
    let mut complaint = String::new();
    // What it complains of may be no text; then there is none to show.
    let _ = stderr.take(COMPLAINT_MAX_BYTES).read_to_string(&mut complaint).await;
    let status = child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
    let _ = sender
        .send(Err(format!("'{PROGRAM}' has ended ({status}): {}", complaint.trim().escape_debug())))
        .await;
}

impl Following {
    async fn find(&mut self, cursor: Option<&Value>, wait: Duration) -> Result<Found, SourceError> {
        let kept = cursor.and_then(|cursor| cursor.get("after")?.as_str());
        let running = match &mut self.running {
            Some(running) => running,
            none => none.insert(Running::start(&self.journal, kept)?),
        };
        let Ok(first) = tokio::time::timeout(wait, running.entries.recv()).await else {
            return Ok(Found::default());
        };
        let (mut next, mut bytes, mut found) = (first, 0, Found::default());
        loop {
            match next {
                None if found.items.is_empty() => {
                    return Err(SourceError::new(format!("'{PROGRAM}' has ended")));
                }
                Some(Err(reason)) if found.items.is_empty() => return Err(SourceError::new(reason)),
                // The next look starts it anew.
                None | Some(Err(_)) => {
                    self.running = None;
                    break;
                }
                Some(Ok(line)) => {
                    bytes += line.len();
                    if let Some((item, after)) = entry(&line) {
                        found.items.push(item);
                        found.cursor = Some(json!({"after": after}));
                    }
                }
            }
            if found.items.len() >= LOOK_ITEMS_MAX || bytes >= LOOK_BYTES_MAX {
                break;
            }
            next = match running.entries.try_recv() {
                Ok(entry) => Some(entry),
                Err(_) => break,
            };
        }
        Ok(found)
    }
}

/// An entry, and the cursor behind it. `None`: it is none, such as the rest of one that was too long.
fn entry(line: &[u8]) -> Option<(Item, String)> {
    let Ok(Value::Object(fields)) = serde_json::from_slice::<Value>(line) else { return None };
    let after = fields.get("__CURSOR")?.as_str()?.to_owned();
    let micros =
        fields.get("__REALTIME_TIMESTAMP").and_then(Value::as_str).and_then(|it| it.parse::<u64>().ok());
    let unit = ["_SYSTEMD_UNIT", "SYSLOG_IDENTIFIER"].iter().find_map(|name| fields.get(*name)?.as_str());
    let subject = unit.map(str::to_owned);
    let data: Map<String, Value> = fields
        .into_iter()
        .filter(|(name, _)| name != "__CURSOR")
        .map(|(name, value)| (name, readable(value)))
        .collect();
    // Cursors have characters that ids of events may have, and tell entries apart on all machines.
    let item = Item {
        subject,
        time_ms: micros.map(|micros| micros / 1000),
        ..Item::json(after.clone(), data.into())
    };
    Some((item, after))
}

/// A field that is no text comes as a list of bytes.
fn readable(value: Value) -> Value {
    let bytes = match &value {
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_u64().and_then(|byte| u8::try_from(byte).ok()))
            .collect::<Option<Vec<u8>>>(),
        _ => None,
    };
    bytes.map_or(value, |bytes| String::from_utf8_lossy(&bytes).into_owned().into())
}

impl Source for Following {
    fn look<'a>(
        &'a mut self,
        _desk: &'a mut Desk,
        cursor: Option<&'a Value>,
        wait: Duration,
    ) -> Work<'a, Found> {
        Box::pin(self.find(cursor, wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Payload;

    #[test]
    fn an_entry_is_its_fields() {
        let line = r#"{"__CURSOR":"s=a;i=1","__REALTIME_TIMESTAMP":"1700049600123456","_SYSTEMD_UNIT":"ssh.service",
            "PRIORITY":"6","MESSAGE":[104,105,255],"TWICE":["a","b"],"NONE":null}"#;
        let (item, after) = entry(line.as_bytes()).unwrap_or_else(|| unreachable!());
        assert_eq!((after.as_str(), item.id.as_str()), ("s=a;i=1", "s=a;i=1"));
        assert_eq!((item.time_ms, item.subject.as_deref()), (Some(1_700_049_600_123), Some("ssh.service")));
        let Payload::Json(data) = item.data else { unreachable!() };
        assert_eq!(data["MESSAGE"], "hi\u{fffd}");
        assert_eq!(data["TWICE"], json!(["a", "b"]));
        assert!(data.get("__CURSOR").is_none());
        assert!(entry(b"\"the rest of a long one\"}").is_none());
    }

    #[test]
    fn the_program_is_asked_for_what_comes_after_the_cursor() {
        let journal = Journal {
            units: vec!["ssh.service".to_owned()],
            matches: vec!["_UID=0".to_owned()],
            priority: Some(4),
            from_start: true,
            directory: None,
        };
        let asked = |cursor| {
            let command = journal.command(cursor);
            let words: Vec<_> =
                command.as_std().get_args().map(|it| it.to_string_lossy().into_owned()).collect();
            words[4..].join(" ")
        };
        assert_eq!(asked(None), "--no-tail --unit=ssh.service --priority=4 _UID=0");
        assert_eq!(asked(Some("s=a;i=1")), "--after-cursor=s=a;i=1 --unit=ssh.service --priority=4 _UID=0");
    }
}
