//! Cutting damage out, when an operator has decided to go on without what is lost.

use crate::db::{LIVE, SEGMENTS};
use crate::error::OpenError;
use crate::fs::{FileSystem, MarkingFs, OpenMode, RealFs};
use crate::options::StoreOptions;
use crate::queue::QueueId;
use crate::queue::disk::{Files, ReadPlan, SegmentFile};
use crate::recovery;
use crate::replayed::{ReplayState, Replayed};
use crate::store::Store;
use crate::wal::record;
use crate::wal::replay;
use crate::wal::segment::SegmentDir;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a repair found and dropped.
#[derive(Debug, Default)]
pub struct RepairReport {
    /// Where the log was cut: file, position, what was wrong there. What followed is lost: settlements, messages,
    /// definitions alike.
    pub cut: Option<(PathBuf, u64, String)>,
    /// Log files removed because they lay behind the cut.
    pub removed: Vec<PathBuf>,
    /// Blocks of queues' segment files that could not be read: file, position and what was wrong, and how many live
    /// messages were dropped with each.
    pub dropped: Vec<(String, u64)>,
}

impl RepairReport {
    /// Whether nothing had to be repaired.
    pub fn is_clean(&self) -> bool {
        self.cut.is_none() && self.dropped.is_empty()
    }
}

impl fmt::Display for RepairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            return write!(f, "nothing to repair");
        }
        if let Some((file, position, what)) = &self.cut {
            writeln!(f, "{} cut at position {position}: {what}", file.display())?;
        }
        for file in &self.removed {
            writeln!(f, "{} removed: it followed the cut", file.display())?;
        }
        for (place, messages) in &self.dropped {
            writeln!(f, "{place}: {messages} messages dropped")?;
        }
        Ok(())
    }
}

impl Store {
    /// Cuts the log of a data directory where it is damaged and drops messages that cannot be read from segment
    /// files; nothing may have the directory open. Reads everything there is.
    pub fn repair(dir: &Path) -> Result<RepairReport, OpenError> {
        Self::repair_on(Arc::new(RealFs), dir)
    }

    /// As [`Store::repair`], on another file system.
    pub fn repair_on(fs: Arc<dyn FileSystem>, dir: &Path) -> Result<RepairReport, OpenError> {
        fs.list(dir).map_err(OpenError::io("look into", dir))?;
        let fs: Arc<dyn FileSystem> = Arc::new(MarkingFs::new(fs, dir));
        let _lock = recovery::prepare_dir(&*fs, dir)?;
        let db = recovery::open_db(&fs, dir)?;
        let unreadable =
            |e: std::io::Error| OpenError::Values { file: db.path().to_owned(), cause: e.to_string() };
        let start = db.wal_start().map_err(unreadable)?;
        let mut report = RepairReport::default();
        let segments = SegmentDir::new(fs.clone(), dir, StoreOptions::new(dir).wal_segment_size());
        cut_log(&*fs, &segments, dir, start, &mut report)?;
        let (mut queues, _) = recovery::load_queues(&db).map_err(unreadable)?;
        let mut gone = Vec::new();
        let mut changed = Vec::new();
        for (id, queue) in &mut queues {
            check_queue(&*fs, dir, *id, queue, &mut report, &mut gone, &mut changed);
        }
        if !changed.is_empty() || !gone.is_empty() {
            let write = db.write(|transaction| {
                let (mut index, mut live) =
                    (transaction.open_table(SEGMENTS)?, transaction.open_table(LIVE)?);
                for (key, set) in &changed {
                    live.insert(key, &set[..])?;
                }
                for key in &gone {
                    index.remove(key)?;
                    live.remove(key)?;
                }
                Ok(())
            });
            write.map_err(unreadable)?;
        }
        Ok(report)
    }
}

/// Makes the log end in front of the damage.
fn cut_log(
    fs: &dyn FileSystem,
    segments: &SegmentDir,
    dir: &Path,
    start: u64,
    report: &mut RepairReport,
) -> Result<(), OpenError> {
    let mut state = ReplayState::default();
    let outcome = replay::replay(segments, dir, start, &mut |at, payload| state.apply(at, payload));
    let (file, position_bytes, what) = match outcome {
        Ok(_) => return Ok(()),
        Err(OpenError::Damaged { file, position_bytes, what, .. }) => (file, position_bytes, what),
        Err(other) => return Err(other),
    };
    let damaged = segments
        .numbers()
        .map_err(OpenError::io("list", segments.dir()))?
        .into_iter()
        .find(|number| segments.path(*number) == file);
    if let Some(number) = damaged {
        // Zeros to the end: neither the damaged record nor a later mark is left.
        let cut = || {
            let open = fs.open(&file, OpenMode::Write)?;
            let len = open.size_bytes()?.max(position_bytes + record::END_BYTES as u64);
            open.write_at(&vec![0; (len - position_bytes) as usize], position_bytes)?;
            open.sync_all()
        };
        cut().map_err(OpenError::io("cut", &segments.path(number)))?;
    }
    let last = damaged.unwrap_or(start);
    for number in segments.numbers().map_err(OpenError::io("list", segments.dir()))? {
        if number > last {
            let path = segments.path(number);
            segments.remove(number).map_err(OpenError::io("remove", &path))?;
            report.removed.push(path);
        }
    }
    fs.sync_dir(segments.dir()).map_err(OpenError::io("sync", segments.dir()))?;
    report.cut = Some((file, position_bytes, what));
    Ok(())
}

type Key = (u64, u32);

/// Reads all blocks of a queue in which something lives.
fn check_queue(
    fs: &dyn FileSystem,
    dir: &Path,
    id: QueueId,
    queue: &mut Replayed,
    report: &mut RepairReport,
    gone: &mut Vec<Key>,
    changed: &mut Vec<(Key, Vec<u8>)>,
) {
    let place = Files::new(&dir.join("queues"), id.0);
    for file in &mut queue.files {
        let key = (id.0, file.number);
        let path = place.path(file.number);
        let before = report.dropped.len();
        for at in 0..file.blocks.len() {
            check_block(fs, &path, id, file, at, report);
        }
        if report.dropped.len() == before {
            continue;
        }
        // A file that is too short would stop the start, even with nothing living in it.
        let len = fs.size_bytes(&path).ok().flatten().unwrap_or(0);
        if file.live.is_empty() && len < file.len {
            gone.push(key);
        } else {
            changed.push((key, file.live.encode()));
            if len < file.len {
                let lengthened = fs
                    .open(&path, OpenMode::Write)
                    .and_then(|open| open.set_len(file.len).and_then(|()| open.sync_all()));
                if let Err(e) = lengthened {
                    tracing::error!("cannot lengthen {}: {e}", path.display());
                }
            }
        }
    }
}

fn check_block(
    fs: &dyn FileSystem,
    path: &Path,
    id: QueueId,
    file: &mut SegmentFile,
    at: usize,
    report: &mut RepairReport,
) {
    let block = file.blocks[at];
    let next = file.blocks.get(at + 1);
    let seqs = block.first_seq..next.map_or(file.end_seq, |next| next.first_seq);
    if file.live.next(seqs.start).is_none_or(|live| live >= seqs.end) {
        return;
    }
    let plan = ReadPlan {
        path: path.to_owned(),
        queue: id.0,
        file: file.number,
        blocks: vec![block],
        end: next.map_or(file.len, |next| next.position),
    };
    if let Err(what) = plan.read(fs) {
        report.dropped.push((what, file.live.remove(seqs)));
    }
}
