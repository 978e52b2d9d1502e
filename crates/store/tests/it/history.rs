//! Random histories: what is done to a store, over several lives of it, and how each life ends.

use millpond_store::SyncMode;
use millpond_store::fs::Fault;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::fmt;

/// One step. Queues are named by a number that is taken modulo how many there are; `pick` seeds what is
/// chosen by chance when the step is carried out, so that a step means much the same in a shorter history.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    CreateQueue {
        durable: bool,
    },
    DeleteQueue {
        queue: usize,
        slot: usize,
    },
    /// The same messages to one or several queues.
    Append {
        queues: Vec<usize>,
        slot: usize,
        sizes: Vec<usize>,
        persistent: bool,
    },
    Settle {
        queue: usize,
        slot: usize,
        pick: u64,
    },
    Put {
        slot: usize,
        key: u8,
        size: usize,
    },
    Delete {
        slot: usize,
        key: u8,
    },
    /// `quiet`: nobody is told of the completion, so the store may take its time.
    Commit {
        slot: usize,
        wait: bool,
        quiet: bool,
    },
    WaitAll,
    Fetch {
        queue: usize,
        bytes_max: usize,
        pick: u64,
    },
    /// Leaves so many bytes free, or as many as one likes.
    Room(Option<u64>),
}

/// How a life of the store ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Closed, and after that the power goes.
    Close,
    /// Closed, and opened again by another process.
    Restart,
    /// The process is killed after the last step.
    Kill,
    /// The power goes after the last step, if no planned crash comes before.
    Crash,
}

/// One life of the store.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) faults: Vec<Fault>,
    /// A crash: the power goes in the next opening (and again, at twice as many operations, and so on). A sync that
    /// fails: the opening fails or the store is soon poisoned.
    pub(crate) fault_in_next_open: Option<Fault>,
    pub(crate) ops: Vec<Op>,
    pub(crate) end: End,
}

/// Several lives of one data directory.
#[derive(Debug, Clone)]
pub(crate) struct History {
    pub(crate) seed: u64,
    pub(crate) sync: SyncMode,
    pub(crate) wal_segment_size_bytes: u64,
    pub(crate) queue_memory_max_bytes: u64,
    pub(crate) lives: Vec<Life>,
}

/// Steps of a life that are worth printing.
const SHOWN_MAX: usize = 40;

/// What may go wrong in a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The power goes or the process is killed.
    Crash,
    /// Writes and syncs fail.
    Errors,
    /// The disk is full for a while.
    Full,
}

impl History {
    pub(crate) fn random(seed: u64, sync: SyncMode, trouble: Trouble) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let lives = (0..rng.random_range(2..6)).map(|_| Life::random(&mut rng, trouble)).collect();
        Self {
            seed,
            sync,
            wal_segment_size_bytes: [4, 8, 16, 64][rng.random_range(0..4)] << 10,
            queue_memory_max_bytes: [1, 4, 16, 256][rng.random_range(0..4)] << 10,
            lives,
        }
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, sync, wal_segment_size_bytes: wal, queue_memory_max_bytes: memory, lives } = self;
        writeln!(f, "history {seed}: {sync:?}, log segments of {wal} bytes, {memory} bytes a queue")?;
        for life in lives {
            writeln!(f, "  life with {:?}", life.faults)?;
            if life.ops.len() > SHOWN_MAX {
                writeln!(f, "    {} steps", life.ops.len())?;
            } else {
                life.ops.iter().try_for_each(|op| writeln!(f, "    {op:?}"))?;
            }
            writeln!(f, "  {:?}; in the next open: {:?}", life.end, life.fault_in_next_open)?;
        }
        Ok(())
    }
}

impl Life {
    fn random(rng: &mut StdRng, trouble: Trouble) -> Self {
        let steps = [20, 60, 200, 400][rng.random_range(0..4)];
        let mut ops: Vec<Op> = (0..steps).map(|_| Op::random(rng)).collect();
        let end = [End::Close, End::Restart, End::Kill, End::Crash, End::Crash][rng.random_range(0..5)];
        let mut faults = Vec::new();
        match trouble {
            Trouble::Crash if end == End::Crash && rng.random_bool(0.8) => {
                faults.push(Fault::CrashAt(rng.random_range(1..steps as u64 * 2)));
            }
            Trouble::Crash => {}
            Trouble::Errors => {
                let nth = rng.random_range(1..steps as u64);
                match rng.random_range(0..3) {
                    // Fewer than writes.
                    0 => faults.push(Fault::FailSync(1 + nth / 5)),
                    1 => faults.push(Fault::FailWrite(nth)),
                    _ => faults.push(Fault::ShortWrite(nth)),
                }
            }
            Trouble::Full => {
                for _ in 0..rng.random_range(1..4) {
                    let full = rng.random_range(0..ops.len());
                    ops.insert(full, Op::Room(Some(rng.random_range(0..24) << 10)));
                    let room = rng.random_range(full + 1..=ops.len());
                    ops.insert(room, Op::Room(None));
                }
            }
        }
        let fault_in_next_open = match rng.random_range(0..10) {
            0..3 if trouble == Trouble::Errors => Some(Fault::FailSync(rng.random_range(1..25))),
            0..3 => Some(Fault::CrashAt(rng.random_range(1..40))),
            3 => Some(Fault::CrashAt(rng.random_range(1..40))),
            _ => None,
        };
        Self { faults, fault_in_next_open, ops, end }
    }
}

impl Op {
    fn random(rng: &mut StdRng) -> Self {
        let queue = rng.random_range(0..8);
        let slot = usize::from(rng.random_bool(0.2));
        let pick = rng.random();
        match rng.random_range(0..100) {
            0..3 => Op::CreateQueue { durable: rng.random_bool(0.8) },
            3..4 => Op::DeleteQueue { queue, slot },
            4..34 => {
                let queues = if rng.random_bool(0.8) { 1 } else { rng.random_range(2..5) };
                let queues = (0..queues).map(|_| rng.random_range(0..8)).collect();
                let sizes = (0..rng.random_range(1..8)).map(|_| size(rng)).collect();
                Op::Append { queues, slot, sizes, persistent: rng.random_bool(0.85) }
            }
            34..54 => Op::Settle { queue, slot, pick },
            54..60 => Op::Put { slot, key: rng.random_range(0..12), size: size(rng) },
            60..63 => Op::Delete { slot, key: rng.random_range(0..12) },
            63..90 => Op::Commit { slot, wait: rng.random_bool(0.3), quiet: rng.random_bool(0.3) },
            90..92 => Op::WaitAll,
            _ => Op::Fetch { queue, bytes_max: size(rng), pick },
        }
    }
}

fn size(rng: &mut StdRng) -> usize {
    match rng.random_range(0..100) {
        0..80 => rng.random_range(0..200),
        80..98 => rng.random_range(200..3000),
        _ => rng.random_range(3000..20_000),
    }
}
