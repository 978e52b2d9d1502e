//! `file`: lines that are written to files. See docs/guide/source-file.md.
//!
//! A file is its device and inode, whatever it is called; a fingerprint of its first bytes tells a new content from
//! the old one. The cursor holds, for each file, where the next entry begins. inotify only wakes: what is new is
//! found by reading, so a lost notice costs time and no lines.

mod follow;
mod format;
mod glob;
mod tail;

use super::{Desk, Found, Kind, Opening, Poll, Polling, Source, SourceError, Work};
use crate::topology::read::text;
use crate::topology::{Fields, Kind as NodeKind, Node, Report, shorten};
use fancy_regex::Regex;
use format::Format;
use glob::Pattern;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tail::{Step, Tail, Wake};

/// Longest entry unless the file says otherwise. Bytes.
const LINE_DEFAULT_BYTES: u64 = 256 * 1024;

/// Longest entry that may be asked for: it has to fit a message. Bytes.
const LINE_MAX_BYTES: u64 = 8 * 1024 * 1024;

/// Patterns of one source.
const PATTERNS_MAX: usize = 100;

/// How often it is looked which files there are, though nobody told of a change.
const RESCAN_EVERY: Duration = Duration::from_secs(1);

/// How often files are looked at that cannot be watched.
const UNWATCHED_EVERY: Duration = Duration::from_millis(100);

/// What the file says.
#[derive(Debug)]
struct FileSpec {
    /// As written; relative ones are under `files/` in the data directory.
    paths: Vec<String>,
    format: Format,
    multiline: Option<Multiline>,
    from_start: bool,
    line_max_bytes: usize,
    /// After how much quiet a file that was renamed away is done with.
    gone_after: Duration,
}

/// Entries of several lines.
#[derive(Debug)]
struct Multiline {
    begins: Regex,
    /// After how much quiet the last entry counts as whole.
    flush: Duration,
}

impl Multiline {
    fn begins(&self, line: &[u8]) -> bool {
        // An expression that gives up begins nothing.
        self.begins.is_match(String::from_utf8_lossy(line).as_ref()).unwrap_or(false)
    }
}

#[derive(Debug)]
struct FileKind(Arc<FileSpec>);

/// Reads `file:`.
pub(super) fn read(node: &Node, path: &str, report: &mut Report) -> Option<Arc<dyn Kind>> {
    let known = ["path", "format", "regex", "multiline", "from", "max_line", "gone_after"];
    let fields = Fields::read(node, path, &known, report);
    fields.required("path", "'path', such as /var/log/app/*.log", report);
    let paths = fields.get("path").map_or_else(Vec::new, |node| paths(node, &fields.path_of("path"), report));
    let format = read_format(&fields, report);
    let multiline =
        fields.get("multiline").and_then(|node| read_multiline(node, &fields.path_of("multiline"), report));
    let from = fields.text("from", "start or end", report).unwrap_or("end");
    if !matches!(from, "start" | "end")
        && let Some(node) = fields.get("from")
    {
        report.expected(node, &fields.path_of("from"), "start or end");
    }
    let line_max = fields.size("max_line", LINE_DEFAULT_BYTES, 1, report);
    if line_max > LINE_MAX_BYTES
        && let Some(node) = fields.get("max_line")
    {
        report.expected(node, &fields.path_of("max_line"), "at most 8MiB");
    }
    let hour = Duration::from_secs(3600);
    let gone_after = fields.duration("gone_after", Duration::from_secs(5), hour, report);
    let spec = FileSpec {
        paths,
        format: format?,
        multiline,
        from_start: from == "start",
        line_max_bytes: line_max.min(LINE_MAX_BYTES) as usize,
        gone_after,
    };
    Some(Arc::new(FileKind(Arc::new(spec))))
}

fn paths(node: &Node, path: &str, report: &mut Report) -> Vec<String> {
    let expected = "a path such as /var/log/app/*.log, without '..'";
    let items = match &node.kind {
        NodeKind::List(items) if !items.is_empty() && items.len() <= PATTERNS_MAX => items.as_slice(),
        NodeKind::List(_) => {
            report.expected(node, path, &format!("1 to {PATTERNS_MAX} paths"));
            return Vec::new();
        }
        _ => std::slice::from_ref(node),
    };
    let mut paths = Vec::new();
    for item in items {
        let Some(found) = text(item, path, expected, report) else { continue };
        if absolute(found, Path::new("/")).is_none() {
            report.expected(item, path, expected);
        }
        paths.push(found.to_owned());
    }
    paths
}

fn absolute(path: &str, files: &Path) -> Option<Pattern> {
    match path.starts_with('/') {
        true => Pattern::new(path),
        false => Pattern::new(&format!("{}/{path}", files.display())),
    }
}

fn read_format(fields: &Fields<'_>, report: &mut Report) -> Option<Format> {
    let name = fields.text("format", "lines, json or regex", report);
    let regex = fields.get("regex").and_then(|node| regex(node, &fields.path_of("regex"), report));
    let wrong = |text: &str, report: &mut Report| {
        let line = fields.get("format").map_or(fields.line, |node| node.line);
        report.add(line, &fields.path_of("format"), text);
    };
    match name.unwrap_or(if fields.has("regex") { "regex" } else { "lines" }) {
        "regex" if !fields.has("regex") => {
            wrong("found no 'regex', expected it beside this format", report);
            None
        }
        "regex" => {
            let regex = regex?;
            if regex.capture_names().flatten().next().is_none()
                && let Some(node) = fields.get("regex")
            {
                report.expected(node, &fields.path_of("regex"), "named groups such as (?<level>[A-Z]+)");
            }
            Some(Format::Regex(regex))
        }
        _ if fields.has("regex") => {
            wrong("found another format beside 'regex', expected 'regex'", report);
            None
        }
        "lines" => Some(Format::Lines),
        "json" => Some(Format::Json),
        other => {
            wrong(&format!("found '{}', expected lines, json or regex", shorten(other)), report);
            None
        }
    }
}

fn regex(node: &Node, path: &str, report: &mut Report) -> Option<Regex> {
    let source = text(node, path, "a regular expression", report)?;
    Regex::new(source)
        .map_err(|error| report.add(node.line, path, format!("'{}': {error}", shorten(source))))
        .ok()
}

fn read_multiline(node: &Node, path: &str, report: &mut Report) -> Option<Multiline> {
    let fields = Fields::read(node, path, &["begins", "flush"], report);
    let begins = fields.required("begins", "'begins', a regular expression for first lines", report)?;
    let begins = regex(begins, &fields.path_of("begins"), report);
    let flush = fields.duration("flush", Duration::from_secs(1), Duration::from_secs(60), report);
    Some(Multiline { begins: begins?, flush })
}

impl Kind for FileKind {
    fn name(&self) -> &'static str {
        "file"
    }

    fn polling(&self) -> Polling {
        Polling { default: Poll::Long(Duration::from_secs(30)), every: true, long: true }
    }

    fn event_type(&self) -> String {
        "millpond.file.line".to_owned()
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn Source>, SourceError> {
        let files = opening.tools.data_dir.join("files");
        let patterns = self.0.paths.iter().filter_map(|path| absolute(path, &files)).collect();
        let wake = Arc::new(Wake::default());
        Ok(Box::new(Files { spec: self.0.clone(), patterns, wake, tail: None }))
    }
}

struct Files {
    spec: Arc<FileSpec>,
    patterns: Vec<Pattern>,
    wake: Arc<Wake>,
    /// Made by the first look, from the cursor. Gone while it works aside.
    tail: Option<Tail>,
}

impl Files {
    /// One step, aside from the runtime's threads.
    async fn step(&mut self, now_ms: u64, cursor: Option<&Value>) -> Result<(Step, Value), SourceError> {
        let tail = self.tail.take();
        let (spec, patterns, wake) = (self.spec.clone(), self.patterns.clone(), self.wake.clone());
        let cursor = if tail.is_none() { cursor.cloned() } else { None };
        let work = move || {
            let mut tail = tail.unwrap_or_else(|| Tail::open(spec, patterns, cursor.as_ref(), now_ms, wake));
            let step = tail.step(RESCAN_EVERY);
            let cursor = tail.cursor();
            (tail, step, cursor)
        };
        let (tail, step, cursor) = tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| SourceError::new("reading the files broke off"))?;
        self.tail = Some(tail);
        let step = step.map_err(|error| SourceError::new(format!("a followed file: {error}")))?;
        Ok((step, cursor))
    }

    async fn find(
        &mut self,
        desk: &Desk,
        cursor: Option<&Value>,
        wait: Duration,
    ) -> Result<Found, SourceError> {
        let until = Instant::now() + wait;
        loop {
            let (step, now_at) = self.step(desk.now_ms(), cursor).await?;
            let moved = cursor != Some(&now_at);
            let left = until.saturating_duration_since(Instant::now());
            if moved || !step.items.is_empty() || left.is_zero() {
                return Ok(Found {
                    items: step.items,
                    cursor: Some(now_at),
                    more: step.more,
                    ..Found::default()
                });
            }
            let watching = self.tail.as_ref().is_some_and(Tail::is_watching);
            let look_after = if watching { RESCAN_EVERY } else { UNWATCHED_EVERY };
            let due = step.due.map(|due| due.saturating_duration_since(Instant::now()));
            let pause = left.min(look_after).min(due.unwrap_or(look_after));
            // Told of something or not: it is looked at again.
            let _ = tokio::time::timeout(pause.max(Duration::from_millis(1)), self.wake.something.notified())
                .await;
        }
    }
}

impl Source for Files {
    fn look<'a>(
        &'a mut self,
        desk: &'a mut Desk,
        cursor: Option<&'a Value>,
        wait: Duration,
    ) -> Work<'a, Found> {
        Box::pin(async move { self.find(desk, cursor, wait).await })
    }
}
