//! How much memory an evaluation takes: counted by the allocator, a thread at a time.
//!
//! An expression can make values without end, and the interpreter asks nobody for memory but the allocator. So the
//! allocator counts, and an evaluation is given a budget: at each step (`jq::limit`) it is looked at, and one that has
//! taken more than [`SOFT_MAX_BYTES`] ends with an error. A single built-in function takes no steps; one that goes on
//! to [`HARD_MAX_BYTES`] finds its thread held where it is, for an allocator can neither fail without ending the
//! process nor unwind. The pool then gives thread and message up (`pool`).
//!
//! Counting costs an addition an allocation. Where the binary does not install [`Allocator`], nothing is counted and
//! there is no limit.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

/// What an evaluation may take before it ends with an error. Bytes.
pub(crate) const SOFT_MAX_BYTES: i64 = 256 * 1024 * 1024;

/// What it may take at all, in a built-in function that does not end. Bytes.
const HARD_MAX_BYTES: i64 = 1024 * 1024 * 1024;

/// What a thread may take that evaluates nothing: everything. Frees of what other threads took add to it.
const NO_LIMIT: i64 = i64::MAX / 2;

thread_local! {
    /// What the thread may still take.
    static LEFT: Cell<i64> = const { Cell::new(NO_LIMIT) };
}

/// Gives what `work` does on this thread a budget.
pub(crate) fn limited<T>(work: impl FnOnce() -> T) -> T {
    /// Takes the budget back, also when `work` panics.
    struct Unlimited;
    impl Drop for Unlimited {
        fn drop(&mut self) {
            LEFT.set(NO_LIMIT);
        }
    }
    let _unlimited = Unlimited;
    LEFT.set(HARD_MAX_BYTES);
    work()
}

/// What this thread's work has taken and not given back; 0 where nothing is counted. Bytes.
pub(crate) fn taken() -> i64 {
    HARD_MAX_BYTES - LEFT.get()
}

/// Whether the budget of this thread's work is used up.
pub(crate) fn is_spent() -> bool {
    LEFT.get() < HARD_MAX_BYTES - SOFT_MAX_BYTES
}

fn take(size_bytes: usize) {
    // A thread that ends has no counter any more; it evaluates nothing either.
    let left = LEFT.try_with(|left| {
        left.set(left.get().wrapping_sub(size_bytes as i64));
        left.get()
    });
    if left.is_ok_and(|left| left < 0) {
        hold();
    }
}

fn give(size_bytes: usize) {
    let _ = LEFT.try_with(|left| left.set(left.get().wrapping_add(size_bytes as i64)));
}

/// The end of an evaluation that cannot be ended otherwise.
#[cold]
fn hold() -> ! {
    loop {
        std::thread::park();
    }
}

/// An allocator that counts what the evaluations of rules take, and passes everything on to another. To be the
/// binary's global allocator.
#[derive(Debug)]
pub struct Allocator<A>(A);

impl<A> Allocator<A> {
    /// Counts what `inner` allocates.
    pub const fn new(inner: A) -> Self {
        Self(inner)
    }
}

// SAFETY: every call is passed on as it came; the counting beside it allocates nothing and does not unwind.
#[expect(unsafe_code, reason = "an allocator is unsafe to implement")]
unsafe impl<A: GlobalAlloc> GlobalAlloc for Allocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: what the caller promises us, we promise `inner`.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: as above.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size_bytes: usize) -> *mut u8 {
        take(size_bytes);
        give(layout.size());
        // SAFETY: as above.
        unsafe { self.0.realloc(old, layout, size_bytes) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        give(layout.size());
        // SAFETY: as above.
        unsafe { self.0.dealloc(old, layout) }
    }
}
