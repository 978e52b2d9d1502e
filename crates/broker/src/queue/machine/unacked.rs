//! Who holds which message: pages of 64 consecutive sequence numbers.
//!
//! A page costs 528 bytes while any of its messages is unacked: 8 bytes each where consumers take messages in order,
//! 528 at worst where one of 64 is never acked. Assigning or settling a piece of a page is one look-up and a fill or
//! a comparison of neighbours, so a batch of messages costs little more than one.

use super::ready::Past;
use hashbrown::HashMap;
use std::ops::Range;

const PAGE_MESSAGES: u64 = 64;

#[derive(Debug)]
struct Page {
    /// Bit n: message n of this page is unacked.
    held: u64,
    holders: [u32; PAGE_MESSAGES as usize],
    pasts: [Past; PAGE_MESSAGES as usize],
}

/// Unacked messages by sequence number; holders are slots of `Holders`.
#[derive(Debug, Default)]
pub(super) struct Unacked {
    pages: HashMap<u64, Box<Page>, foldhash::fast::FixedState>,
    /// The last page that emptied: a queue in steady flow allocates none.
    spare: Option<Box<Page>>,
    count: u64,
}

impl Unacked {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Notes that `holder` has these messages, all with the same past.
    pub(super) fn insert(&mut self, seqs: Range<u64>, holder: u32, past: Past) {
        self.count += seqs.end - seqs.start;
        let mut at = seqs.start;
        while at < seqs.end {
            let number = at / PAGE_MESSAGES;
            let until = seqs.end.min((number + 1) * PAGE_MESSAGES);
            let (from, to) = (bit(at), bit(until - 1) + 1);
            let spare = &mut self.spare;
            let page = self.pages.entry(number).or_insert_with(|| {
                spare.take().unwrap_or_else(|| {
                    Box::new(Page { held: 0, holders: [0; _], pasts: [Past::default(); _] })
                })
            });
            debug_assert_eq!(page.held & mask(from, to), 0, "a ready message was held");
            page.held |= mask(from, to);
            page.holders[from..to].fill(holder);
            page.pasts[from..to].fill(past);
            at = until;
        }
    }

    /// Shows `decide` the unacked messages among `seqs`, ascending, in pieces of one holder and one past:
    /// `decide(holder, seqs, past)`. Those it says `true` to are gone.
    pub(super) fn take(&mut self, seqs: Range<u64>, mut decide: impl FnMut(u32, Range<u64>, Past) -> bool) {
        if seqs.is_empty() {
            return;
        }
        let (first, last) = (seqs.start / PAGE_MESSAGES, (seqs.end - 1) / PAGE_MESSAGES);
        if last - first < self.pages.len() as u64 {
            for number in first..=last {
                self.take_from_page(number, &seqs, &mut decide);
            }
        } else {
            for number in self.page_numbers(first..=last) {
                self.take_from_page(number, &seqs, &mut decide);
            }
        }
    }

    /// As `take`, of everything, until `decide` is content.
    pub(super) fn take_any(&mut self, mut decide: impl FnMut(u32, Range<u64>, Past) -> bool) {
        for number in self.page_numbers(0..=u64::MAX) {
            self.take_from_page(number, &(0..u64::MAX), &mut decide);
        }
    }

    /// Who holds a message.
    #[cfg(test)]
    pub(super) fn holder(&self, seq: u64) -> Option<u32> {
        let page = self.pages.get(&(seq / PAGE_MESSAGES))?;
        (page.held & mask(bit(seq), bit(seq) + 1) != 0).then(|| page.holders[bit(seq)])
    }

    /// Ascending.
    fn page_numbers(&self, within: std::ops::RangeInclusive<u64>) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.pages.keys().copied().filter(|n| within.contains(n)).collect();
        numbers.sort_unstable();
        numbers
    }

    fn take_from_page(
        &mut self,
        number: u64,
        seqs: &Range<u64>,
        decide: &mut impl FnMut(u32, Range<u64>, Past) -> bool,
    ) {
        let Some(page) = self.pages.get_mut(&number) else { return };
        let base = number * PAGE_MESSAGES;
        let from = bit(seqs.start.max(base));
        let to = (seqs.end - base).min(PAGE_MESSAGES) as usize;
        let mut asked = page.held & mask(from, to);
        while asked != 0 {
            let start = asked.trailing_zeros() as usize;
            let (holder, past) = (page.holders[start], page.pasts[start]);
            let solid = start + (!(asked >> start)).trailing_zeros() as usize;
            let same = |i: &usize| page.holders[*i] == holder && page.pasts[*i] == past;
            let end = start + (start..solid).take_while(same).count();
            if decide(holder, base + start as u64..base + end as u64, past) {
                page.held &= !mask(start, end);
                self.count -= (end - start) as u64;
            }
            asked &= !mask(start, end);
        }
        if page.held == 0 {
            self.spare = self.pages.remove(&number);
        }
    }
}

/// A message's place in its page.
fn bit(seq: u64) -> usize {
    (seq % PAGE_MESSAGES) as usize
}

/// Bits `from` to `to`, at most 64, exclusive.
fn mask(from: usize, to: usize) -> u64 {
    debug_assert!(from < to && to <= 64);
    (u64::MAX >> (64 - (to - from))) << from
}
