//! What a stream promises: every confirmed message, in order, at an offset that never changes.

use crate::ledger::Number;
use std::collections::BTreeMap;

/// What was read at which offset.
#[derive(Debug, Default)]
pub(crate) struct Offsets(BTreeMap<u64, Number>);

impl Offsets {
    /// Notes what is at an offset; what is wrong with it. Readings may begin anywhere, and go on one by one from there.
    pub(crate) fn note(
        &mut self,
        offset: u64,
        number: Number,
        is_confirmed: impl Fn(Number) -> bool,
    ) -> Vec<String> {
        let mut faults = Vec::new();
        if let Some((last, before)) = self.0.range(..offset).next_back() {
            if *last + 1 != offset {
                faults.push(format!("offset {offset} follows {last} in the stream"));
            }
            // All rounds' publishers number upwards.
            if *before >= number {
                faults.push(format!("number {number} at {offset} of the stream follows {before}"));
            }
        } else if offset != 0 {
            faults.push(format!("the stream begins at {offset}"));
        }
        if let Some(was) = self.0.insert(offset, number)
            && was != number
        {
            if is_confirmed(was) {
                faults
                    .push(format!("offset {offset} of the stream was {was}, confirmed, and is {number} now"));
            }
            // What followed was undone with it.
            self.0.split_off(&(offset + 1));
        }
        faults
    }

    /// The last offset whose message is so.
    pub(crate) fn last_with(&self, is: impl Fn(Number) -> bool) -> Option<u64> {
        self.0.iter().rev().find(|(_, number)| is(**number)).map(|(offset, _)| *offset)
    }
}

#[cfg(test)]
mod tests {
    use super::Offsets;

    #[test]
    fn offsets_neither_jump_nor_turn_back_nor_change_under_what_was_confirmed() {
        let check = |readings: &[(u64, u64)], confirmed_to: u64, faults: &[&str]| {
            let mut offsets = Offsets::default();
            let note =
                |(offset, number): &(u64, u64)| offsets.note(*offset, *number, |it| it <= confirmed_to);
            let found: Vec<String> = readings.iter().flat_map(note).collect();
            assert_eq!(found, faults, "{readings:?}");
        };
        check(&[(0, 5), (1, 7), (2, 8), (1, 7), (2, 8), (3, 9)], 9, &[]);
        check(&[(0, 5), (1, 7), (2, 8), (1, 9), (2, 10)], 5, &[]);
        check(&[(1, 5)], 0, &["the stream begins at 1"]);
        check(&[(0, 5), (2, 6)], 0, &["offset 2 follows 0 in the stream"]);
        check(&[(0, 5), (1, 4)], 0, &["number 4 at 1 of the stream follows 5"]);
        check(&[(0, 5), (0, 6)], 5, &["offset 0 of the stream was 5, confirmed, and is 6 now"]);
    }
}
