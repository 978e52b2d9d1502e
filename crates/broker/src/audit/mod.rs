//! The audit log: who changed what, and who was refused.
//!
//! | File | Holds |
//! |---|---|
//! | `entry` | an entry, and what it looks like as JSON |
//! | `refusals` | refusals of one address counted together, so that an attack fills nothing |
//! | `file` | the file: lines, rotation, what is read back of it |
//! | `writer` | the thread that writes it |
//! | `query` | which entries somebody wants to see |
//!
//! An entry is made where a change is carried out or a refusal is judged, with the [`Actor`] whose hand the broker or
//! the session is in. It goes into a ring in memory at once, and to the writer over a channel with a limit: nobody who
//! changes anything waits for the disk of the log. What finds no room is counted, and the count is an entry.
//!
//! What a connection makes for itself and what goes with it (exclusive queues, queues that the broker names and that go
//! with their last consumer) is no change that others see, and clients make thousands of them: none of that is entered.

mod entry;
mod file;
mod query;
mod refusals;
mod writer;

use crate::{Broker, Clock};
pub(crate) use entry::LOGIN_REFUSED;
pub use entry::{Actor, AuditEntry, AuditObject, AuditResult, Credential, FrontEnd};
use file::AuditFile;
use parking_lot::Mutex;
pub use query::{AuditQuery, read_time_ms};
use refusals::Refusals;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;

/// Newest entries that are kept in memory: some 5 MB.
pub const AUDIT_REMEMBERED_MAX: usize = 10_000;
/// Entries that may wait for the writer.
const WAITING_MAX: usize = 16_384;
/// Longest detail or reason. Bytes.
const TEXT_MAX_BYTES: usize = 1024;

/// Where the audit log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditOptions {
    /// The file; `None`: entries are kept in memory only.
    pub path: Option<PathBuf>,
    /// Where a file ends and the next begins. Bytes.
    pub size_max_bytes: u64,
    /// Files of before that are kept beside the one that is written.
    pub keep: usize,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self { path: None, size_max_bytes: 16 << 20, keep: 10 }
    }
}

/// How the log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditStatus {
    /// The file, if there is one.
    pub path: Option<PathBuf>,
    /// Why nothing is written to it at the moment.
    pub trouble: Option<String>,
    /// Entries since the start that are not in the file.
    pub lost: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Audit {
    path: Option<PathBuf>,
    clock: Clock,
    state: Mutex<State>,
    refusals: Mutex<Refusals>,
    /// Why the file cannot be written.
    trouble: Mutex<Option<String>>,
    writing: Mutex<Option<JoinHandle<()>>>,
    is_closed: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// The newest last.
    ring: VecDeque<Arc<AuditEntry>>,
    next_id: u64,
    /// `None`: no file, or the end.
    sender: Option<SyncSender<Arc<AuditEntry>>>,
    /// For which there was no room, not said yet.
    unsaid: u64,
    lost: u64,
}

impl Audit {
    /// Reads what was written last and begins to write. A file that cannot be written is said, and stops nothing.
    pub(crate) fn open(options: &AuditOptions, clock: &Clock) -> Arc<Self> {
        let mut state = State { next_id: 1, ..State::default() };
        let file =
            options.path.as_ref().map(|path| AuditFile::new(path, options.size_max_bytes, options.keep));
        if let Some(file) = &file {
            state.ring = file.read_newest(AUDIT_REMEMBERED_MAX).into();
            state.next_id = state.ring.back().map_or(1, |newest| newest.id.saturating_add(1));
        }
        let this = Arc::new(Self {
            path: options.path.clone(),
            clock: clock.clone(),
            state: Mutex::new(state),
            refusals: Mutex::default(),
            trouble: Mutex::default(),
            writing: Mutex::default(),
            is_closed: AtomicBool::new(false),
        });
        if let Some(file) = file {
            match writer::start(file, &this, WAITING_MAX) {
                Ok((sender, thread)) => {
                    this.state.lock().sender = Some(sender);
                    *this.writing.lock() = Some(thread);
                }
                Err(error) => this.set_trouble(Some(format!("no thread to write it: {error}"))),
            }
        }
        this
    }

    /// Enters a change that was made.
    pub(crate) fn done(&self, actor: &Actor, operation: &'static str, object: AuditObject, detail: &str) {
        self.enter(AuditEntry {
            detail: shortened(detail),
            ..AuditEntry::new(self.clock.now_ms(), operation, AuditResult::Done, actor, object)
        });
    }

    /// Enters a refusal, with others of its kind if there are many. `reason` must hold no secret.
    pub(crate) fn refused(
        &self,
        actor: &Actor,
        operation: &'static str,
        object: AuditObject,
        (detail, reason): (&str, &str),
    ) {
        let now_ms = self.clock.now_ms();
        let entry = AuditEntry {
            detail: shortened(detail),
            reason: shortened(reason),
            ..AuditEntry::new(now_ms, operation, AuditResult::Refused, actor, object)
        };
        let ready = self.refusals.lock().take(entry, now_ms);
        ready.into_iter().for_each(|entry| self.enter(entry));
    }

    /// Enters the sums of refusals whose time is over; `all`: of the others too.
    fn settle_refusals(&self, all: bool) {
        let ready = self.refusals.lock().settle(self.clock.now_ms(), all);
        ready.into_iter().for_each(|entry| self.enter(entry));
    }

    fn enter(&self, entry: AuditEntry) {
        let mut state = self.state.lock();
        if !state.push(entry) {
            if state.unsaid == 0 {
                tracing::error!("the audit log cannot keep up: entries are lost");
            }
            state.unsaid += 1;
            state.lost += 1;
        } else if state.unsaid > 0 {
            let count = std::mem::take(&mut state.unsaid);
            let lost = self.entry_of_lost(count, "they came faster than they could be written");
            if !state.push(lost) {
                state.unsaid = count;
            }
        }
    }

    /// Told by the writer: so many could not be written.
    fn note_unwritten(&self, count: u64) {
        self.state.lock().lost += count;
    }

    fn entry_of_lost(&self, count: u64, why: &str) -> AuditEntry {
        let actor = Actor::inside();
        AuditEntry {
            detail: format!("{count} entries are not in the file: {why}").into(),
            count,
            ..AuditEntry::new(
                self.clock.now_ms(),
                "audit.lost",
                AuditResult::Done,
                &actor,
                AuditObject::named("audit", ""),
            )
        }
    }

    fn set_trouble(&self, trouble: Option<String>) {
        let mut current = self.trouble.lock();
        match (&*current, &trouble) {
            (None, Some(why)) => {
                let path = self.path.as_deref().unwrap_or_else(|| "".as_ref());
                tracing::error!(path = %path.display(), reason = %why, "the audit log cannot be written; the broker goes on");
            }
            (Some(_), None) => tracing::info!("the audit log is written again"),
            _ => {}
        }
        *current = trouble;
    }

    /// Writes what waits, and ends. What is entered later is in memory only.
    pub(crate) fn close(&self) {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.settle_refusals(true);
        self.state.lock().sender = None;
        if let Some(thread) = self.writing.lock().take() {
            // It has said what is wrong; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        // The thread ends with its channel; it may be the one that drops this, so nobody waits for it here.
        self.state.get_mut().sender = None;
    }
}

impl State {
    /// Into the ring and to the writer; `false`: there was no room at the writer's.
    fn push(&mut self, mut entry: AuditEntry) -> bool {
        entry.id = self.next_id;
        self.next_id += 1;
        let entry = Arc::new(entry);
        if self.ring.len() >= AUDIT_REMEMBERED_MAX {
            self.ring.pop_front();
        }
        self.ring.push_back(entry.clone());
        self.sender.as_ref().is_none_or(|sender| sender.try_send(entry).is_ok())
    }
}

fn shortened(text: &str) -> Box<str> {
    let cut = text.floor_char_boundary(TEXT_MAX_BYTES);
    match cut < text.len() {
        true => format!("{}…", &text[..cut]).into(),
        false => text.into(),
    }
}

impl Broker {
    /// The same broker in the hands of a front end, before it is known who is there.
    pub fn at(&self, front_end: FrontEnd) -> Self {
        self.in_hands_of(Actor { front_end, ..Actor::inside() })
    }

    /// The same broker in somebody's hands: what is changed through it is entered as their doing.
    pub fn in_hands_of(&self, actor: Actor) -> Self {
        Self { core: self.core.clone(), actor: Arc::new(actor) }
    }

    /// In whose hands it is.
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// Enters into the audit log what was changed elsewhere by whoever has this broker in hands: rules, sources,
    /// certificates. `detail` must hold no secret.
    pub fn audit(&self, operation: &'static str, object: AuditObject, detail: &str) {
        self.core.audit.done(&self.actor, operation, object, detail);
    }

    /// How the audit log is.
    pub fn audit_status(&self) -> AuditStatus {
        let audit = &self.core.audit;
        let (path, trouble) = (audit.path.clone(), audit.trouble.lock().clone());
        AuditStatus { path, trouble, lost: audit.state.lock().lost }
    }

    /// Writes what waits of the audit log; what is changed later is not in its file. [`Self::shut_down`] does it too.
    pub fn close_audit(&self) {
        self.core.audit.close();
    }
}
