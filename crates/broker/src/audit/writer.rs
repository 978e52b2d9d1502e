//! The thread that writes the file: all that waits with one write, a sync a second.

use super::{Audit, AuditEntry, AuditFile};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the disk is asked to have what was written, and sums of refusals are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Entries written at once.
const AT_ONCE_MAX: usize = 1024;

pub(super) type Started = (SyncSender<Arc<AuditEntry>>, JoinHandle<()>);

/// Begins to write what comes.
pub(super) fn start(file: AuditFile, audit: &Arc<Audit>, waiting_max: usize) -> io::Result<Started> {
    let (sender, entries) = sync_channel(waiting_max);
    let mut this = Writer { file, audit: Arc::downgrade(audit), unwritten: 0 };
    let checked = this.file.check();
    this.tell(checked.err());
    let run = move || this.run(&entries);
    let thread = std::thread::Builder::new().name("millpond-audit".into()).spawn(run)?;
    Ok((sender, thread))
}

struct Writer {
    file: AuditFile,
    audit: Weak<Audit>,
    /// Not written, and not said yet.
    unwritten: u64,
}

impl Writer {
    fn run(mut self, entries: &Receiver<Arc<AuditEntry>>) {
        let mut lines = Vec::new();
        let mut last = Instant::now();
        loop {
            let came = entries.recv_timeout(EVERY.saturating_sub(last.elapsed()));
            let is_over = came == Err(RecvTimeoutError::Disconnected);
            if let Ok(first) = came {
                lines.clear();
                for entry in std::iter::once(first).chain(entries.try_iter().take(AT_ONCE_MAX - 1)) {
                    lines.extend_from_slice(entry.to_json().to_string().as_bytes());
                    lines.push(b'\n');
                }
                self.write(&lines);
            }
            if is_over || last.elapsed() >= EVERY {
                last = Instant::now();
                if let Err(error) = self.file.sync() {
                    self.tell(Some(error));
                }
                if let Some(audit) = self.audit.upgrade().filter(|_| !is_over) {
                    audit.settle_refusals(false);
                }
            }
            if is_over {
                return;
            }
        }
    }

    fn write(&mut self, mut lines: &[u8]) {
        let written = self.file.append(&mut lines);
        let failed = written.is_err();
        self.tell(written.err());
        let Some(audit) = self.audit.upgrade() else { return };
        if failed {
            let count = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.unwritten += count;
            audit.note_unwritten(count);
        } else if self.unwritten > 0 {
            let lost = audit.entry_of_lost(self.unwritten, "the file could not be written");
            self.unwritten = 0;
            audit.enter(lost);
        }
    }

    fn tell(&self, error: Option<io::Error>) {
        if let Some(audit) = self.audit.upgrade() {
            audit.set_trouble(error.map(|error| error.to_string()));
        }
    }
}
