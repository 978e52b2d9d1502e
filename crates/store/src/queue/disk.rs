//! What of a queue is in segment files: which messages live there, where, and which have been read back.
//!
//! A file's index in the B-tree, all LEB128:
//!
//! ```text
//! flags u8 | length | end seq | blocks count | blocks x (first seq, less the one before | length before it | time)
//! ```
//!
//! `flags`: 1 = sealed, 2 = each block has a time: when its first message was published, in milliseconds since 1970.
//!
//! A queue's checkpoint has a *floor*: of the messages below it, those live that the files say, whatever the log
//! still holds of them.

use super::segment::{BlockAt, Place, decode_block};
use super::seqset::SeqSet;
use crate::encoding::{Reader, put_varint};
use crate::fs::{File, FileSystem, OpenMode};
use bytes::Bytes;
use millpond_model::Message;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Numbers that one file may span, so that its live set stays small.
pub(crate) const FILE_SPAN_MAX: u64 = 1 << 22;

/// Flags of a file's index.
const INDEX_SEALED: u8 = 1;
const INDEX_TIMED: u8 = 2;

/// Bytes of one read.
const READ_MAX_BYTES: u64 = 256 << 10;

/// One segment file.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) number: u32,
    /// How far it is written.
    pub(crate) len: u64,
    /// Behind the last number in it.
    pub(crate) end_seq: u64,
    pub(crate) blocks: Vec<BlockAt>,
    pub(crate) live: SeqSet,
    /// No more is written to it.
    pub(crate) sealed: bool,
    /// Blocks were added since the last checkpoint.
    pub(crate) index_changed: bool,
    /// Numbers were added or settled since the last checkpoint.
    pub(crate) live_changed: bool,
    /// Kept open while there is something to sync.
    pub(crate) unsynced: Option<Arc<dyn File>>,
    /// Its name survives a power loss.
    pub(crate) named: bool,
}

impl SegmentFile {
    pub(crate) fn encode_index(&self) -> Vec<u8> {
        let timed = self.blocks.iter().any(|block| block.time_ms != 0);
        let mut out = vec![if self.sealed { INDEX_SEALED } else { 0 } | if timed { INDEX_TIMED } else { 0 }];
        put_varint(&mut out, self.len);
        put_varint(&mut out, self.end_seq);
        put_varint(&mut out, self.blocks.len() as u64);
        let mut before = BlockAt { first_seq: 0, position: 0, time_ms: 0 };
        for block in &self.blocks {
            put_varint(&mut out, block.first_seq - before.first_seq);
            put_varint(&mut out, block.position - before.position);
            if timed {
                put_varint(&mut out, block.time_ms);
            }
            before = *block;
        }
        out
    }

    pub(crate) fn decode_index(number: u32, bytes: &[u8], live: SeqSet) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let flags = reader.u8()?;
        let (sealed, timed) = (flags & INDEX_SEALED != 0, flags & INDEX_TIMED != 0);
        let (len, end_seq, count) = (reader.varint()?, reader.varint()?, reader.varint()?);
        let mut blocks = Vec::new();
        let mut at = BlockAt { first_seq: 0, position: 0, time_ms: 0 };
        for _ in 0..count {
            at.first_seq = at.first_seq.checked_add(reader.varint()?)?;
            at.position = at.position.checked_add(reader.varint()?)?;
            if timed {
                at.time_ms = reader.varint()?;
            }
            blocks.push(at);
        }
        Some(Self {
            number,
            len,
            end_seq,
            blocks,
            live,
            sealed,
            index_changed: false,
            live_changed: false,
            unsynced: None,
            named: true,
        })
    }

    pub(crate) fn new(number: u32) -> Self {
        Self {
            number,
            len: 0,
            end_seq: 0,
            blocks: Vec::new(),
            live: SeqSet::default(),
            sealed: false,
            index_changed: true,
            live_changed: true,
            unsynced: None,
            named: false,
        }
    }

    pub(crate) fn first_seq(&self) -> u64 {
        self.blocks.first().map_or(self.end_seq, |block| block.first_seq)
    }
}

/// A block in memory; its messages leave when they are fetched.
#[derive(Debug)]
struct LoadedBlock {
    messages: Vec<(u64, Option<Message>)>,
    /// Where the next fetch probably finds its message.
    cursor: usize,
    left: usize,
    bytes: u64,
}

impl LoadedBlock {
    fn take(&mut self, seq: u64) -> Option<Message> {
        let at = match self.messages.get(self.cursor) {
            Some((at, _)) if *at == seq => self.cursor,
            _ => self.messages.binary_search_by_key(&seq, |(seq, _)| *seq).ok()?,
        };
        self.cursor = at + 1;
        let message = self.messages[at].1.take()?;
        self.left -= 1;
        Some(message)
    }
}

/// The files of one kind of a queue.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) dir: PathBuf,
    queue: u64,
    /// By number of file and of message alike.
    pub(crate) files: VecDeque<SegmentFile>,
    pub(crate) next_file: u32,
    /// Files that nothing lives in any more.
    pub(crate) dead: Vec<u32>,
    /// By first number.
    loaded: BTreeMap<u64, LoadedBlock>,
    pub(crate) loaded_bytes: u64,
}

/// What to read from a file.
#[derive(Debug)]
pub(crate) struct ReadPlan {
    pub(crate) path: PathBuf,
    pub(crate) queue: u64,
    pub(crate) file: u32,
    pub(crate) blocks: Vec<BlockAt>,
    pub(crate) end: u64,
}

/// Blocks off a disk.
pub(crate) type Blocks = Vec<(u64, Vec<(u64, Message)>)>;

impl ReadPlan {
    /// Reads and decodes the blocks; each with its length in the file.
    pub(crate) fn read(&self, fs: &dyn FileSystem) -> Result<Blocks, String> {
        let failed = |position: u64, what: &dyn std::fmt::Display| {
            format!("{} at position {position}: {what}", self.path.display())
        };
        let start = self.blocks.first().map_or(self.end, |block| block.position);
        let file = fs.open(&self.path, OpenMode::Read).map_err(|e| failed(start, &e))?;
        let mut bytes = vec![0; (self.end - start) as usize];
        file.read_exact_at(&mut bytes, start).map_err(|e| failed(start, &e))?;
        let bytes = Bytes::from(bytes);
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for (at, block) in self.blocks.iter().enumerate() {
            let end = self.blocks.get(at + 1).map_or(self.end, |next| next.position);
            let slice = bytes.slice((block.position - start) as usize..(end - start) as usize);
            let place = Place { queue: self.queue, file: self.file, position: block.position };
            let messages = decode_block(place, &slice).map_err(|what| failed(block.position, &what))?;
            blocks.push((end - block.position, messages));
        }
        Ok(blocks)
    }
}

impl Files {
    pub(crate) fn new(parent: &Path, queue: u64) -> Self {
        Self {
            dir: parent.join(format!("{queue:016x}")),
            queue,
            files: VecDeque::new(),
            next_file: 1,
            dead: Vec::new(),
            loaded: BTreeMap::new(),
            loaded_bytes: 0,
        }
    }

    pub(crate) fn path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:08x}.seg"))
    }

    pub(crate) fn file_from(&self, seq: u64) -> usize {
        self.files.partition_point(|file| file.end_seq <= seq)
    }

    /// The lowest live number from `seq` on.
    #[inline]
    pub(crate) fn next_live(&self, seq: u64) -> Option<u64> {
        // Mostly the first file: consumers are at the front.
        let from = if self.files.front()?.end_seq > seq { 0 } else { self.file_from(seq) };
        self.files.range(from..).find_map(|file| file.live.next(seq))
    }

    pub(crate) fn lives(&self, seq: u64) -> bool {
        self.next_live(seq) == Some(seq)
    }

    /// The message, if its block is in memory; it leaves the block.
    #[inline]
    pub(crate) fn take_loaded(&mut self, seq: u64) -> Option<Message> {
        let (first, block) = self.loaded.range_mut(..=seq).next_back()?;
        let message = block.take(seq)?;
        if block.left == 0 {
            let (first, bytes) = (*first, block.bytes);
            self.loaded.remove(&first);
            self.loaded_bytes -= bytes;
        }
        Some(message)
    }

    /// The message, if its block is in memory and it was not taken out of it.
    pub(crate) fn peek_loaded(&self, seq: u64) -> Option<&Message> {
        let (_, block) = self.loaded.range(..=seq).next_back()?;
        let at = block.messages.binary_search_by_key(&seq, |(seq, _)| *seq).ok()?;
        block.messages[at].1.as_ref()
    }

    /// Settles messages; returns how many lived.
    pub(crate) fn settle(&mut self, seqs: Range<u64>) -> u64 {
        let mut settled = 0;
        let mut at = self.file_from(seqs.start);
        while let Some(file) = self.files.get_mut(at).filter(|file| file.first_seq() < seqs.end) {
            let removed = file.live.remove(seqs.clone());
            settled += removed;
            file.live_changed |= removed > 0;
            if file.live.is_empty() && file.sealed {
                self.dead.push(file.number);
                self.files.remove(at);
            } else {
                at += 1;
            }
        }
        if settled > 0 && !self.loaded.is_empty() {
            self.unload(seqs);
        }
        settled
    }

    fn unload(&mut self, seqs: Range<u64>) {
        let mut gone = Vec::new();
        for (first, block) in self.loaded.range_mut(..seqs.end).rev() {
            if block.messages.last().is_none_or(|(last, _)| *last < seqs.start) {
                break;
            }
            let from = block.messages.partition_point(|(seq, _)| *seq < seqs.start);
            for (_, message) in block.messages[from..].iter_mut().take_while(|(seq, _)| *seq < seqs.end) {
                block.left -= usize::from(message.take().is_some());
            }
            if block.left == 0 {
                gone.push((*first, block.bytes));
            }
        }
        for (first, bytes) in gone {
            self.loaded.remove(&first);
            self.loaded_bytes -= bytes;
        }
    }

    /// What to read so that `seq` is in memory, with what follows in the same file; `None` if it does not live.
    pub(crate) fn plan(&self, seq: u64) -> Option<ReadPlan> {
        let seq = self.next_live(seq)?;
        let file = &self.files[self.file_from(seq)];
        let from = file.blocks.partition_point(|block| block.first_seq <= seq).checked_sub(1)?;
        let limit = file.blocks[from].position + READ_MAX_BYTES;
        // At least one block, no block twice, and none in which nothing lives.
        let mut to = from + 1;
        while let Some(block) = file.blocks.get(to) {
            let next = file.blocks.get(to + 1);
            let end_seq = next.map_or(file.end_seq, |next| next.first_seq);
            let lives = file.live.next(block.first_seq).is_some_and(|live| live < end_seq);
            let end = next.map_or(file.len, |next| next.position);
            if end > limit || !lives || self.loaded.contains_key(&block.first_seq) {
                break;
            }
            to += 1;
        }
        Some(ReadPlan {
            path: self.path(file.number),
            queue: self.queue,
            file: file.number,
            blocks: file.blocks[from..to].to_vec(),
            end: file.blocks.get(to).map_or(file.len, |next| next.position),
        })
    }

    /// Where reading ahead goes on: behind the block that was loaded for `seq` and those that follow it.
    pub(crate) fn loaded_to(&self, seq: u64) -> u64 {
        let mut to = seq;
        if let Some((_, block)) = self.loaded.range(..=seq).next_back()
            && let Some((last, _)) = block.messages.last()
        {
            to = to.max(last + 1);
        }
        while let Some(next) = self.next_live(to)
            && let Some((_, block)) = self.loaded.range(..=next).next_back()
            && let Some((last, _)) = block.messages.last()
            && *last >= next
        {
            to = last + 1;
        }
        to
    }

    /// Puts blocks in memory; what was settled meanwhile is left out.
    pub(crate) fn add_loaded(&mut self, blocks: Blocks) {
        for (bytes, messages) in blocks {
            let Some(first) = messages.first().map(|(seq, _)| *seq) else { continue };
            let at = self.file_from(first);
            let Some(file) = self.files.get(at) else { continue };
            let messages: Vec<(u64, Option<Message>)> = messages
                .into_iter()
                .map(|(seq, message)| (seq, Some(message).filter(|_| file.live.contains(seq))))
                .collect();
            let left = messages.iter().filter(|(_, message)| message.is_some()).count();
            if left > 0 {
                let block = LoadedBlock { messages, cursor: 0, left, bytes };
                self.loaded_bytes += bytes;
                if let Some(before) = self.loaded.insert(first, block) {
                    self.loaded_bytes -= before.bytes;
                }
            }
        }
    }

    /// The first number of the block that `seq`, which lives, is in.
    pub(crate) fn block_first(&self, seq: u64) -> Option<u64> {
        let file = self.files.get(self.file_from(seq))?;
        let at = file.blocks.partition_point(|block| block.first_seq <= seq).checked_sub(1)?;
        Some(file.blocks[at].first_seq)
    }

    /// The blocks from the first on in which something lives.
    pub(crate) fn live_blocks(&self) -> impl Iterator<Item = &BlockAt> {
        let first = self.next_live(0);
        self.files.iter().enumerate().flat_map(move |(at, file)| {
            let skipped = match first {
                Some(first) if at == 0 => file.blocks.partition_point(|block| block.first_seq <= first),
                Some(_) => 1,
                None => file.blocks.len() + 1,
            };
            file.blocks[skipped.saturating_sub(1)..].iter()
        })
    }

    /// Of the same blocks, how long each is and the number behind its last.
    pub(crate) fn live_block_sizes(&self) -> impl Iterator<Item = (u64, u64)> {
        let first = self.next_live(0).unwrap_or(u64::MAX);
        self.files.iter().flat_map(move |file| {
            file.blocks.iter().enumerate().filter_map(move |(at, block)| {
                let next = file.blocks.get(at + 1);
                let end_seq = next.map_or(file.end_seq, |next| next.first_seq);
                let end = next.map_or(file.len, |next| next.position);
                (end_seq > first).then(|| (end - block.position, end_seq))
            })
        })
    }

    /// Length of all blocks from the first on in which something lives.
    pub(crate) fn live_bytes(&self) -> u64 {
        let first = match self.live_blocks().next() {
            Some(first) => first.position,
            None => return 0,
        };
        let sum: u64 = self.files.iter().map(|file| file.len).sum();
        sum.saturating_sub(first)
    }

    /// Forgets everything that was read back.
    pub(crate) fn unload_all(&mut self) {
        self.loaded.clear();
        self.loaded_bytes = 0;
    }
}
