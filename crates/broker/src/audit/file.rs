//! The file: one JSON object a line, appended; when it is full it becomes `NAME.1`, the one before `NAME.2`, and so on.
//!
//! Only the owner may read it (mode 0600). What is written is with the system at once, so nothing of it is lost with the
//! process; the disk has it a second later at most (fdatasync), or at once at a rotation and at the end.

use super::AuditEntry;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What only the owner may.
const MODE: u32 = 0o600;
/// What is read of each file at the start. Bytes.
const READ_BACK_MAX_BYTES: u64 = 8 << 20;
/// Files of before that may be kept.
const KEEP_MAX: usize = 1000;

/// See the module.
#[derive(Debug)]
pub(super) struct AuditFile {
    path: PathBuf,
    size_max_bytes: u64,
    keep: usize,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Device and inode.
    id: (u64, u64),
    size_bytes: u64,
    is_synced: bool,
}

impl AuditFile {
    /// Opens nothing yet.
    pub(super) fn new(path: &Path, size_max_bytes: u64, keep: usize) -> Self {
        Self { path: path.to_owned(), size_max_bytes, keep: keep.min(KEEP_MAX), open: None }
    }

    /// Opens it, so that it is known at the start whether it can be written.
    pub(super) fn check(&mut self) -> io::Result<()> {
        self.opened().map(drop)
    }

    /// Appends lines, each with its end, in as many files as they need. After an error `lines` is what is not written.
    pub(super) fn append(&mut self, lines: &mut &[u8]) -> io::Result<()> {
        while !lines.is_empty() {
            let (size_max_bytes, size_bytes) = (self.size_max_bytes, self.opened()?.size_bytes);
            let length = fitting(lines, size_max_bytes.saturating_sub(size_bytes), size_bytes == 0);
            if length == 0 {
                self.rotate()?;
                continue;
            }
            self.write(&lines[..length])?;
            *lines = &lines[length..];
        }
        Ok(())
    }

    /// After an error the file is as it was before, or closed.
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let open = self.opened()?;
        open.is_synced = false;
        let written = open.file.write_all(lines);
        match &written {
            Ok(()) => open.size_bytes += lines.len() as u64,
            // Half a line would spoil the next one.
            Err(_) if open.file.set_len(open.size_bytes).is_err() => self.open = None,
            Err(_) => {}
        }
        written
    }

    /// Has the disk take what was written.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        match &mut self.open {
            Some(open) if !open.is_synced => {
                open.file.sync_data()?;
                open.is_synced = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn opened(&mut self) -> io::Result<&mut Open> {
        // Somebody else may rotate it too: what is written goes to where people look for it.
        let there = std::fs::metadata(&self.path).ok().map(|it| (it.dev(), it.ino()));
        let open = match self.open.take().filter(|open| Some(open.id) == there) {
            Some(open) => open,
            None => open(&self.path)?,
        };
        Ok(self.open.insert(open))
    }

    fn numbered(&self, number: usize) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.sync()?;
        self.open = None;
        if self.keep == 0 {
            return std::fs::remove_file(&self.path);
        }
        for number in (1..self.keep).rev() {
            let (from, to) = (self.numbered(number), self.numbered(number + 1));
            match std::fs::rename(&from, &to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, self.numbered(1))
    }

    /// The newest entries of the file and those before it, the newest last. What cannot be read is left out.
    pub(super) fn read_newest(&self, count_max: usize) -> Vec<Arc<AuditEntry>> {
        let mut found = VecDeque::new();
        let files = std::iter::once(self.path.clone()).chain((1..=self.keep).map(|it| self.numbered(it)));
        for path in files {
            let text = match read_end(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "the audit log cannot be read back");
                    continue;
                }
            };
            for line in text.split(|byte| *byte == b'\n').rev() {
                if found.len() >= count_max {
                    return found.into();
                }
                let parsed = serde_json::from_slice(line).ok().and_then(|it| AuditEntry::from_json(&it));
                if let Some(entry) = parsed {
                    found.push_front(Arc::new(entry));
                }
            }
        }
        found.into()
    }
}

/// Bytes of the lines that have room; of an empty file at least one line.
fn fitting(lines: &[u8], room_bytes: u64, is_empty: bool) -> usize {
    let room = usize::try_from(room_bytes).unwrap_or(usize::MAX).min(lines.len());
    let end = lines[..room].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    match end {
        0 if is_empty => lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |at| at + 1),
        end => end,
    }
}

fn open(path: &Path) -> io::Result<Open> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(path)?;
    if file.metadata()?.permissions().mode() & 0o777 != MODE {
        file.set_permissions(Permissions::from_mode(MODE))?;
    }
    let found = file.metadata()?;
    let (id, mut size_bytes) = ((found.dev(), found.ino()), found.len());
    // A process that was killed may have left half a line.
    if size_bytes > 0 {
        let mut last = [0];
        file.seek(SeekFrom::Start(size_bytes - 1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            size_bytes += 1;
        }
    }
    Ok(Open { file, id, size_bytes, is_synced: true })
}

/// The end of a file; its first line may be half of one.
fn read_end(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let size_bytes = file.metadata()?.len();
    file.seek(SeekFrom::Start(size_bytes.saturating_sub(READ_BACK_MAX_BYTES)))?;
    let mut text = Vec::new();
    file.take(READ_BACK_MAX_BYTES).read_to_end(&mut text)?;
    Ok(text)
}
