//! All files of a source: which there are, and what is new in them. Everything here may wait for the disk, so it runs
//! aside from the runtime's threads.

use super::FileSpec;
use super::follow::{Ask, Budget, Follow, Kept, take};
use super::glob::{self, Pattern};
use crate::source::{Item, LOOK_BYTES_MAX, LOOK_ITEMS_MAX};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use serde_json::{Value, json};
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Files that one source follows; each is held open. The rest is left out, and the log says so.
const FILES_MAX: usize = 1000;

/// Directories that are watched.
const DIRS_MAX: usize = 1000;

/// How often a directory is listed before a file counts as gone, or a list as it is.
const LISTINGS: usize = 10;

/// Told by the watcher.
#[derive(Debug, Default)]
pub(super) struct Wake {
    pub(super) something: Notify,
    /// Names came or went.
    names: AtomicBool,
}

/// See the module.
pub(super) struct Tail {
    spec: Arc<FileSpec>,
    patterns: Vec<Pattern>,
    files: Vec<Follow>,
    next: u64,
    born: String,
    wake: Arc<Wake>,
    watcher: Option<RecommendedWatcher>,
    watched: Vec<PathBuf>,
    scanned: Option<Instant>,
    too_many: bool,
    /// The file that is read first, so that a busy one does not starve the others.
    turn: usize,
}

/// What one step found.
pub(super) struct Step {
    pub(super) items: Vec<Item>,
    pub(super) more: bool,
    /// When something is to be done though nothing is written.
    pub(super) due: Option<Instant>,
}

impl Tail {
    /// Goes on from a cursor, or begins.
    pub(super) fn open(
        spec: Arc<FileSpec>,
        patterns: Vec<Pattern>,
        cursor: Option<&Value>,
        now_ms: u64,
        wake: Arc<Wake>,
    ) -> Self {
        let born = cursor.and_then(|cursor| Some(cursor.get("born")?.as_str()?.to_owned()));
        let next = cursor.and_then(|cursor| cursor.get("next")?.as_u64()).unwrap_or(1);
        let watcher = watcher(&wake);
        let mut this = Self {
            spec,
            patterns,
            files: Vec::new(),
            next,
            born: born.clone().unwrap_or_else(|| format!("{now_ms:x}")),
            wake,
            watcher,
            watched: Vec::new(),
            scanned: None,
            too_many: false,
            turn: 0,
        };
        let kept = cursor.and_then(|cursor| cursor.get("files")?.as_array()).cloned().unwrap_or_default();
        this.restore(kept.iter().filter_map(Kept::of_json).collect());
        let at_end = born.is_none() && !this.spec.from_start;
        this.scan(at_end);
        this
    }

    /// Whether changes are told of, and need not be looked for.
    pub(super) fn is_watching(&self) -> bool {
        self.watcher.is_some()
    }

    pub(super) fn cursor(&self) -> Value {
        let files: Vec<_> = self.files.iter().map(|file| file.kept.to_json()).collect();
        json!({"born": self.born, "next": self.next, "files": files})
    }

    /// Finds the files of the cursor again: under a name that is looked at, or under another in the same directory if
    /// they were rotated away meanwhile.
    fn restore(&mut self, kept: Vec<Kept>) {
        let matches = glob::find(&self.patterns);
        for mut kept in kept {
            let id = (kept.dev, kept.ino);
            let old_path = kept.path.clone();
            let path = Path::new(&old_path);
            let named = matches.files.iter().find(|(_, it)| (it.dev(), it.ino()) == id);
            let file =
                open_again(named.map(|(path, _)| path.as_path()), path, |it| (it.dev(), it.ino()) == id)
                    // Devices may be numbered anew when a machine starts; what is in the file tells whether it is the same.
                    .or_else(|| open_again(Some(path), path, |it| it.ino() == id.1));
            let Some((file, dev)) = file else {
                tracing::warn!(path = kept.path, "a followed file is gone: what was not read of it is lost");
                continue;
            };
            let named = named.is_some() || (dev != id.0 && matches.files.iter().any(|(it, _)| it == path));
            kept.dev = dev;
            match Follow::resume(kept, file) {
                Ok(mut follow) => {
                    follow.matched = named;
                    self.files.push(follow);
                }
                // The scan takes it for a new one.
                Err(_) => tracing::info!(path = old_path, "a followed file has another content now"),
            }
        }
    }

    /// Looks which files there are.
    fn scan(&mut self, at_end: bool) {
        self.scanned = Some(Instant::now());
        let mut matches = glob::find(&self.patterns);
        // What came between the listing and the watch is told by neither.
        for _ in 0..LISTINGS {
            if !self.watch(&matches.dirs) {
                break;
            }
            matches = glob::find(&self.patterns);
        }
        // Of those that came together, the older first: what was rotated away before what has its place.
        matches.files.sort_by_key(|(_, metadata)| (metadata.mtime(), metadata.mtime_nsec()));
        for file in &mut self.files {
            file.matched = false;
        }
        let mut too_many = matches.cut;
        for (path, metadata) in &matches.files {
            let id = (metadata.dev(), metadata.ino());
            let shown = path.to_string_lossy();
            if let Some(known) = self.files.iter_mut().find(|it| (it.kept.dev, it.kept.ino) == id) {
                known.matched = true;
                if known.kept.path != shown {
                    known.kept.path = shown.into_owned();
                }
                continue;
            }
            if self.files.len() >= FILES_MAX {
                too_many = true;
                break;
            }
            let line_max = at_end.then_some(self.spec.line_max_bytes as u64);
            let begun = File::open(path)
                .and_then(|file| Follow::begin(file, shown.clone().into_owned(), self.next, line_max));
            match begun {
                // It got this name while the names were listed.
                Ok(follow) if self.follows(&follow) => {}
                Ok(follow) => {
                    take(&mut self.next);
                    self.files.push(follow);
                }
                Err(error) => tracing::warn!(path = %shown, %error, "a file cannot be read"),
            }
        }
        if too_many && !self.too_many {
            tracing::warn!(limit = FILES_MAX, "a source of files matches more than it follows");
        }
        self.too_many = too_many;
    }

    /// Whether that file is followed already.
    fn follows(&self, other: &Follow) -> bool {
        self.files.iter().any(|it| (it.kept.dev, it.kept.ino) == (other.kept.dev, other.kept.ino))
    }

    /// Whether directories are watched that were not before.
    fn watch(&mut self, dirs: &[PathBuf]) -> bool {
        let mut new = false;
        let Some(watcher) = &mut self.watcher else { return false };
        self.watched.retain(|dir| {
            let stays = dirs.contains(dir) && dir.is_dir();
            if !stays {
                // It may be gone, and its watch with it.
                let _ = watcher.unwatch(dir);
            }
            stays
        });
        for dir in dirs.iter().take(DIRS_MAX) {
            if self.watched.contains(dir) || !dir.is_dir() {
                continue;
            }
            match watcher.watch(dir, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.push(dir.clone());
                    new = true;
                }
                Err(error) => {
                    tracing::warn!(dir = %dir.display(), %error, "a directory cannot be watched: it is looked at");
                    self.watcher = None;
                    return false;
                }
            }
        }
        new
    }

    /// Reads what is new, and looks for files if names changed or `rescan_after` has passed.
    pub(super) fn step(&mut self, rescan_after: Duration) -> std::io::Result<Step> {
        let old = self.scanned.is_none_or(|scanned| scanned.elapsed() >= rescan_after);
        if self.wake.names.swap(false, Ordering::AcqRel) || old {
            self.scan(false);
        }
        let now = Instant::now();
        let mut budget = Budget { items: LOOK_ITEMS_MAX, bytes: LOOK_BYTES_MAX };
        let (mut items, mut more) = (Vec::new(), false);
        // What was rotated away is older than what has its place now.
        let mut order: Vec<usize> = (0..self.files.len()).collect();
        let count = order.len().max(1);
        order.sort_by_key(|at| (self.files[*at].matched, (at + count - self.turn % count) % count));
        for at in order {
            if budget.is_spent() {
                more = true;
                self.turn = at;
                break;
            }
            let ask = Ask { spec: &self.spec, born: &self.born, now };
            more |= self.files[at].read(&ask, &mut self.next, &mut budget, &mut items)?;
        }
        let spec = &self.spec;
        // A file without a name, or with one that is not looked at, is let go once it is read and quiet.
        self.files.retain(|it| it.matched || !it.is_at_end() || it.quiet(now) < spec.gone_after);
        let due = self.files.iter().filter_map(|it| {
            let left = |after: Duration| now + after.saturating_sub(it.quiet(now));
            let flush = spec.multiline.as_ref().filter(|_| it.pending).map(|multi| left(multi.flush));
            let gone = (!it.matched).then(|| left(spec.gone_after));
            flush.into_iter().chain(gone).min()
        });
        Ok(Step { items, more, due: due.min() })
    }
}

fn watcher(wake: &Arc<Wake>) -> Option<RecommendedWatcher> {
    let wake = wake.clone();
    let told = move |event: notify::Result<notify::Event>| {
        match event.map(|event| event.kind) {
            // Reading is no change.
            Ok(EventKind::Access(_)) => return,
            Ok(EventKind::Modify(notify::event::ModifyKind::Data(_))) => {}
            _ => wake.names.store(true, Ordering::Release),
        }
        wake.something.notify_one();
    };
    match notify::recommended_watcher(told) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "files cannot be watched: they are looked at again and again");
            None
        }
    }
}

/// Opens a file that is known by its number: under the name it has, or under any in the directory of the one it had.
/// A name that changes while a directory is listed may be in no listing, and another file may have it when it is
/// opened: a file is gone only if several looks do not find it. With the number of its device.
fn open_again(named: Option<&Path>, old: &Path, is_it: impl Fn(&Metadata) -> bool) -> Option<(File, u64)> {
    let open = |path: &Path| {
        let file = File::open(path).ok()?;
        let metadata = file.metadata().ok().filter(&is_it)?;
        Some((file, metadata.dev()))
    };
    named.and_then(open).or_else(|| (0..LISTINGS).find_map(|_| open(&find_in_dir(old, &is_it)?)))
}

/// A file by its number, in the directory of a path.
fn find_in_dir(path: &Path, is_it: impl Fn(&Metadata) -> bool) -> Option<PathBuf> {
    let entries = std::fs::read_dir(path.parent()?).ok()?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| std::fs::metadata(path).is_ok_and(|it| it.is_file() && is_it(&it)))
}
