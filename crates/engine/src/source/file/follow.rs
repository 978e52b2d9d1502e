//! One file that is followed: where it was read up to, and whether it is still the same.
//!
//! What is pending (a line without its end, an entry that may go on) is not remembered but read again: the offset
//! stands at its beginning, in memory and in the cursor.

use super::FileSpec;
use super::format::Entry;
use crate::fingerprint::{Fingerprint, fingerprint};
use crate::source::Item;
use serde_json::{Value, json};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Instant;

/// Bytes of a file's head by which it is known again.
const HEAD_MAX_BYTES: u64 = 256;

/// What a text in UTF-8 may begin with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Bytes read in one go, unless an entry may be longer.
const READ_BYTES: u64 = 1 << 20;

/// What is kept of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    /// Which file of the source this is; another content has another number, so that ids are never used twice.
    pub(super) number: u64,
    pub(super) dev: u64,
    pub(super) ino: u64,
    /// Where the next entry begins. Bytes.
    pub(super) offset: u64,
    /// The offset stands in a line that was cut: what is left of it is passed over.
    pub(super) skipping: bool,
    head: Head,
    pub(super) path: String,
}

/// The fingerprint of a file's first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    len: u64,
    hash: u64,
}

impl Head {
    /// Of no bytes.
    const NONE: Self = Self { len: 0, hash: Fingerprint::NONE.value() };

    fn of(file: &File, len: u64) -> std::io::Result<Self> {
        let mut bytes = [0; HEAD_MAX_BYTES as usize];
        let bytes = &mut bytes[..len.min(HEAD_MAX_BYTES) as usize];
        let mut read = 0;
        while read < bytes.len() {
            match file.read_at(&mut bytes[read..], read as u64)? {
                0 => break,
                count => read += count,
            }
        }
        Ok(Self { len: read as u64, hash: fingerprint(&bytes[..read]) })
    }
}

impl Kept {
    pub(super) fn to_json(&self) -> Value {
        json!({
            "n": self.number, "dev": self.dev, "ino": self.ino, "at": self.offset, "skip": self.skipping,
            "head": [self.head.len, self.head.hash], "path": self.path,
        })
    }

    pub(super) fn of_json(json: &Value) -> Option<Self> {
        let number = |name: &str| json.get(name)?.as_u64();
        Some(Self {
            number: number("n")?,
            dev: number("dev")?,
            ino: number("ino")?,
            offset: number("at")?,
            skipping: json.get("skip")?.as_bool()?,
            head: Head { len: json.pointer("/head/0")?.as_u64()?, hash: json.pointer("/head/1")?.as_u64()? },
            path: json.get("path")?.as_str()?.to_owned(),
        })
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Follow {
    pub(super) kept: Kept,
    file: File,
    /// Its path is one that the source looks at.
    pub(super) matched: bool,
    /// It has no name any more.
    pub(super) unlinked: bool,
    size: u64,
    /// Since when it has not grown.
    quiet_since: Instant,
    /// Complete lines wait that may be an entry not yet ended.
    pub(super) pending: bool,
}

/// What may be read of a file in one look.
pub(super) struct Budget {
    pub(super) items: usize,
    pub(super) bytes: usize,
}

impl Budget {
    fn take(&mut self, bytes: usize) {
        self.items = self.items.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    pub(super) fn is_spent(&self) -> bool {
        self.items == 0 || self.bytes == 0
    }
}

/// What a look at a file asks.
pub(super) struct Ask<'a> {
    pub(super) spec: &'a FileSpec,
    /// Prefix of ids: which source this is, among those of one name.
    pub(super) born: &'a str,
    pub(super) now: Instant,
}

impl Follow {
    /// Begins with a file: at its end (the beginning of its last line, if that has no end yet), or at its start.
    pub(super) fn begin(file: File, path: String, number: u64, at_end: Option<u64>) -> std::io::Result<Self> {
        let metadata = file.metadata()?;
        let offset = match at_end {
            Some(line_max) => last_line(&file, metadata.len(), line_max)?,
            None => 0,
        };
        let head = Head::of(&file, offset)?;
        let (dev, ino) = (metadata.dev(), metadata.ino());
        let kept = Kept { number, dev, ino, offset, skipping: false, head, path };
        Ok(Self::of(kept, file, metadata.len()))
    }

    /// Goes on with a file. `Err` gives the file back if it has another content than the one that is remembered.
    pub(super) fn resume(kept: Kept, file: File) -> Result<Self, File> {
        let Ok(metadata) = file.metadata() else { return Err(file) };
        let same = metadata.len() >= kept.offset
            && (metadata.dev(), metadata.ino()) == (kept.dev, kept.ino)
            && Head::of(&file, kept.head.len).is_ok_and(|head| head == kept.head);
        if same { Ok(Self::of(kept, file, metadata.len())) } else { Err(file) }
    }

    fn of(kept: Kept, file: File, size: u64) -> Self {
        let quiet_since = Instant::now();
        Self { kept, file, matched: true, unlinked: false, size, quiet_since, pending: false }
    }

    /// It has another content now: begins at its start, as another file.
    fn replaced(&mut self, number: u64) {
        tracing::info!(path = self.kept.path, "a followed file was truncated: it is read from its start");
        self.kept.number = number;
        self.kept.offset = 0;
        self.kept.skipping = false;
        self.kept.head = Head::NONE;
        self.pending = false;
    }

    /// For how long nothing was written.
    pub(super) fn quiet(&self, now: Instant) -> std::time::Duration {
        now.saturating_duration_since(self.quiet_since)
    }

    /// All that was written is read, but for a last line without its end.
    pub(super) fn is_at_end(&self) -> bool {
        self.kept.offset == self.size
    }

    /// Reads what is new; whether there is more to read at once. `next` gives the number of a new content.
    pub(super) fn read(
        &mut self,
        ask: &Ask<'_>,
        next: &mut u64,
        budget: &mut Budget,
        items: &mut Vec<Item>,
    ) -> std::io::Result<bool> {
        let metadata = self.file.metadata()?;
        self.unlinked = metadata.nlink() == 0;
        if metadata.len() != self.size {
            self.size = metadata.len();
            self.quiet_since = ask.now;
        }
        if self.size < self.kept.offset {
            self.replaced(take(next));
        }
        if self.size == self.kept.offset {
            self.pending = false;
            return Ok(false);
        }
        let line_max = ask.spec.line_max_bytes;
        let wanted = READ_BYTES.max(line_max as u64 + 1).min(self.size - self.kept.offset);
        let mut bytes = vec![0; wanted as usize];
        let read = read_full(&self.file, &mut bytes, self.kept.offset)?;
        bytes.truncate(read);
        // Looked at behind the reading: what was truncated in between is not taken for what was there before.
        if self.file.metadata()?.len() < self.kept.offset + read as u64
            || Head::of(&self.file, self.kept.head.len)? != self.kept.head
        {
            self.replaced(take(next));
            return Ok(true);
        }
        let at_end = self.kept.offset + read as u64 >= self.size;
        let before = self.kept.offset;
        self.split(ask, &bytes, at_end, budget, items);
        if self.kept.head.len < HEAD_MAX_BYTES && self.kept.offset > self.kept.head.len {
            self.kept.head = Head::of(&self.file, self.kept.offset)?;
        }
        // Not at the end, or stopped by the budget: there is more. A reading that moved nothing must not be repeated
        // at once.
        Ok(self.kept.offset > before && (!at_end || budget.is_spent()))
    }

    /// Takes the entries out of what was read at the offset.
    fn split(
        &mut self,
        ask: &Ask<'_>,
        bytes: &[u8],
        at_end: bool,
        budget: &mut Budget,
        items: &mut Vec<Item>,
    ) {
        let base = self.kept.offset;
        let mut at = 0;
        self.pending = false;
        if self.kept.skipping {
            match find_end(bytes) {
                None => {
                    self.kept.offset += bytes.len() as u64;
                    return;
                }
                Some(end) => {
                    at = end + 1;
                    self.kept.skipping = false;
                }
            }
        }
        // Nobody writes to it any more: its last line counts without its end.
        let gone = !self.matched && at_end && self.quiet(ask.now) >= ask.spec.gone_after;
        while at < bytes.len() && !budget.is_spent() {
            let Some(entry) = self.entry(ask, &bytes[at..], at_end, gone) else { break };
            let text = &bytes[at..at + entry.text];
            // Windows programs begin a file so.
            let text =
                if base + at as u64 == 0 { text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text) } else { text };
            if !text.iter().all(u8::is_ascii_whitespace) || entry.cut {
                let id = format!("{}-{}-{}", ask.born, self.kept.number, base + at as u64);
                budget.take(entry.text);
                let path = &self.kept.path;
                items.push(ask.spec.format.item(Entry { id, bytes: text, cut: entry.cut, path }));
            }
            at += entry.len;
            if entry.skip {
                self.kept.skipping = true;
                // What is left of the line is looked for from here on.
                let rest = &bytes[at..];
                match find_end(rest) {
                    None => at = bytes.len(),
                    Some(end) => {
                        at += end + 1;
                        self.kept.skipping = false;
                    }
                }
            }
        }
        self.kept.offset = base + at as u64;
    }

    /// The entry at the beginning of `bytes`; `None`: it has not ended yet.
    fn entry(&mut self, ask: &Ask<'_>, bytes: &[u8], at_end: bool, gone: bool) -> Option<Extent> {
        let line_max = ask.spec.line_max_bytes;
        let first = match find_end(bytes) {
            Some(end) if end <= line_max => end,
            Some(_) => return Some(Extent { text: line_max, len: line_max, cut: true, skip: true }),
            None if bytes.len() > line_max => {
                return Some(Extent { text: line_max, len: line_max, cut: true, skip: true });
            }
            None if gone => return Some(Extent::whole(trimmed(bytes, bytes.len()), bytes.len())),
            None => return None,
        };
        let Some(multi) = &ask.spec.multiline else {
            return Some(Extent::whole(trimmed(bytes, first), first + 1));
        };
        // The entry's lines so far end before `end`.
        let mut end = first + 1;
        loop {
            let rest = &bytes[end..];
            let Some(line) = find_end(rest) else {
                if rest.len() + end > line_max {
                    return Some(Extent { text: trimmed(bytes, end - 1), len: end, cut: true, skip: false });
                }
                break;
            };
            if multi.begins(&rest[..trimmed(rest, line)]) {
                return Some(Extent::whole(trimmed(bytes, end - 1), end));
            }
            if end + line > line_max {
                return Some(Extent { text: trimmed(bytes, end - 1), len: end, cut: true, skip: false });
            }
            end += line + 1;
        }
        if gone {
            return Some(Extent::whole(trimmed(bytes, bytes.len()), bytes.len()));
        }
        if at_end && self.quiet(ask.now) >= multi.flush {
            return Some(Extent::whole(trimmed(bytes, end - 1), end));
        }
        self.pending = true;
        None
    }
}

/// Where an entry ends.
struct Extent {
    /// Of its text.
    text: usize,
    /// Of the bytes it takes, its line end included.
    len: usize,
    cut: bool,
    /// What is left of its line is passed over.
    skip: bool,
}

impl Extent {
    fn whole(text: usize, len: usize) -> Self {
        Self { text, len, cut: false, skip: false }
    }
}

pub(super) fn take(next: &mut u64) -> u64 {
    let number = *next;
    *next += 1;
    number
}

fn find_end(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

/// Where a text that ends before `end` ends without its line end.
fn trimmed(bytes: &[u8], end: usize) -> usize {
    let end = if end > 0 && bytes.get(end - 1) == Some(&b'\n') { end - 1 } else { end };
    if end > 0 && bytes[end - 1] == b'\r' { end - 1 } else { end }
}

fn read_full(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// Where the last line begins that has no end, at most `line_max` bytes back; else the end.
fn last_line(file: &File, size: u64, line_max: u64) -> std::io::Result<u64> {
    let from = size.saturating_sub(line_max);
    let mut bytes = vec![0; (size - from) as usize];
    let read = read_full(file, &mut bytes, from)?;
    let end = bytes[..read].iter().rposition(|byte| *byte == b'\n');
    Ok(match end {
        Some(end) => from + end as u64 + 1,
        None if from == 0 => 0,
        None => size,
    })
}
