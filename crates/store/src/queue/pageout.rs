//! Moving messages from memory to segment files.

use super::disk::{FILE_SPAN_MAX, Files, SegmentFile};
use super::segment::{BlockAt, Place, encode_blocks};
use super::{Inner, QueueState};
use crate::fs::{File, OpenMode};
use millpond_model::Message;
use std::io;
use std::sync::Arc;

/// Message bytes written at once.
const CHUNK_BYTES: u64 = 512 << 10;

/// What was written of one chunk to the files of one kind.
struct Written {
    seqs: Vec<u64>,
    blocks: Vec<BlockAt>,
    len: u64,
    file: Arc<dyn File>,
}

impl QueueState {
    /// Writes all messages below `to` that live in memory to segment files and drops them from memory. What a
    /// failure leaves behind is not referred to and is written over by the next attempt.
    pub(crate) fn page_out(self: &Arc<Self>, to: u64) -> io::Result<()> {
        // One at a time: the checkpointer and the pager both come here.
        let _one = self.shared.paging.lock();
        while let Some((chunk, end)) = self.next_chunk(to) {
            let mut durable = Vec::new();
            let mut spill = Vec::new();
            for (seq, message) in chunk {
                let lasting = self.durable && message.is_persistent();
                if lasting { &mut durable } else { &mut spill }.push((seq, message));
            }
            let durable = self.write_chunk(durable, |inner| &mut inner.disk_mut(self).durable)?;
            let spill = self.write_chunk(spill, |inner| &mut inner.disk_mut(self).spill)?;
            let mut inner = self.inner.lock();
            if inner.deleted {
                return Ok(());
            }
            let Inner { memory, disk, .. } = &mut *inner;
            let Some(disk) = disk else { return Ok(()) };
            let lives = |seq: u64| memory.get(seq).is_some();
            if let Some(written) = durable {
                register(&mut disk.durable, written, lives);
            }
            if let Some(written) = spill {
                register(&mut disk.spill, written, lives);
            }
            let from = inner.written_to;
            inner.memory.remove_range(from..end, |_, _| ());
            inner.written_to = end;
            self.account(&mut inner);
        }
        Ok(())
    }

    fn segment_size_bytes(&self, inner: &Inner) -> u64 {
        match inner.segment_size_bytes {
            0 => self.shared.options.queue_segment_size_bytes,
            size_bytes => size_bytes,
        }
    }

    /// The next messages to write, and where the chunk ends.
    fn next_chunk(&self, to: u64) -> Option<(Vec<(u64, Message)>, u64)> {
        let inner = self.inner.lock();
        let to = to.min(inner.memory.next_seq());
        if inner.written_to >= to || inner.deleted {
            return None;
        }
        let limit = CHUNK_BYTES.min(self.segment_size_bytes(&inner) / 2);
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        for (seq, message) in inner.memory.range(inner.written_to..to) {
            let span = chunk.first().is_some_and(|(first, _)| seq - first > FILE_SPAN_MAX / 2);
            if span || bytes > limit {
                return Some((chunk, seq));
            }
            bytes += message.size_bytes() as u64;
            chunk.push((seq, message.clone()));
        }
        Some((chunk, to))
    }

    /// Writes messages behind the last file of a kind, or to a new one.
    fn write_chunk(
        &self,
        chunk: Vec<(u64, Message)>,
        files: impl Fn(&mut Inner) -> &mut Files,
    ) -> io::Result<Option<Written>> {
        let Some((first, _)) = chunk.first() else { return Ok(None) };
        let options = &self.shared.options;
        let fs = &self.shared.fs;
        let (path, dir, mut place, open) = {
            let mut inner = self.inner.lock();
            let segment_size_bytes = self.segment_size_bytes(&inner);
            let files = files(&mut inner);
            let fits = files.files.back().is_some_and(|file| {
                !file.sealed && file.len < segment_size_bytes && *first - file.first_seq() < FILE_SPAN_MAX / 2
            });
            if !fits {
                seal_last(files);
                let number = files.next_file;
                files.next_file += 1;
                files.files.push_back(SegmentFile { end_seq: *first, ..SegmentFile::new(number) });
            }
            let Some(file) = files.files.back() else { return Ok(None) };
            let place = Place { queue: self.id.0, file: file.number, position: file.len };
            (files.path(file.number), files.dir.clone(), place, file.unsynced.clone())
        };
        let file = match open {
            Some(file) => file,
            None => {
                fs.create_dir_all(&dir)?;
                fs.open(&path, OpenMode::Create)?
            }
        };
        let mut bytes = Vec::new();
        let messages = chunk.iter().map(|(seq, message)| (*seq, message));
        let blocks = encode_blocks(place, messages, options.block_size_bytes(), &mut bytes);
        file.write_at(&bytes, place.position)?;
        place.position += bytes.len() as u64;
        let seqs = chunk.into_iter().map(|(seq, _)| seq).collect();
        Ok(Some(Written { seqs, blocks, len: place.position, file }))
    }
}

/// Ends the last file; one in which nothing lives is dead.
pub(crate) fn seal_last(files: &mut Files) {
    if let Some(last) = files.files.back_mut() {
        last.sealed = true;
        last.index_changed = true;
        if last.live.is_empty() {
            files.dead.push(last.number);
            files.files.pop_back();
        }
    }
}

/// Makes what was written part of the file; messages settled meanwhile do not live in it.
fn register(files: &mut Files, written: Written, lives: impl Fn(u64) -> bool) {
    let Some(file) = files.files.back_mut() else { return };
    file.blocks.extend(written.blocks);
    file.len = written.len;
    file.unsynced = Some(written.file);
    file.index_changed = true;
    file.live_changed = true;
    let mut run = 0..0;
    for seq in written.seqs {
        file.end_seq = seq + 1;
        if lives(seq) {
            if run.end != seq {
                file.live.insert(std::mem::replace(&mut run, seq..seq));
            }
            run.end = seq + 1;
        }
    }
    file.live.insert(run);
}
