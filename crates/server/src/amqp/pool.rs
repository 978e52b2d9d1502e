//! Buffers shared by the connections of a thread, so that an idle connection holds none.

use std::cell::RefCell;

/// What is read at once. Bytes.
const READ_BLOCK_BYTES: usize = 128 * 1024;

/// Output buffers kept by a thread.
const OUTPUTS_MAX: usize = 8;

/// What an output buffer begins with. Bytes.
const OUTPUT_MIN_BYTES: usize = 4 * 1024;

/// A larger output buffer is not kept. Bytes.
const OUTPUT_KEPT_MAX_BYTES: usize = 512 * 1024;

thread_local! {
    static READ: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static OUTPUTS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// The thread's read buffer, with room for a block behind `kept_bytes`; its content is arbitrary.
pub(super) fn take_read(kept_bytes: usize) -> Vec<u8> {
    let mut buffer = READ.with_borrow_mut(std::mem::take);
    if buffer.len() < kept_bytes + READ_BLOCK_BYTES {
        buffer.resize((kept_bytes + READ_BLOCK_BYTES).next_multiple_of(READ_BLOCK_BYTES), 0);
    }
    buffer
}

/// Gives the thread's read buffer back.
pub(super) fn give_read(buffer: Vec<u8>) {
    READ.with_borrow_mut(|kept| *kept = buffer);
}

/// An empty buffer with capacity.
pub(super) fn take_output() -> Vec<u8> {
    OUTPUTS.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(OUTPUT_MIN_BYTES))
}

/// Gives an output buffer back.
pub(super) fn give_output(mut buffer: Vec<u8>) {
    if buffer.capacity() > OUTPUT_KEPT_MAX_BYTES || buffer.capacity() == 0 {
        return;
    }
    buffer.clear();
    OUTPUTS.with_borrow_mut(|kept| {
        if kept.len() < OUTPUTS_MAX {
            kept.push(buffer);
        }
    });
}
