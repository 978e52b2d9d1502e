//! What is remembered of a key, as bytes.
//!
//! A version, a letter for what it is, then numbers (64 bits, little-endian) and texts with their lengths. What
//! cannot be read is none: a version that is to come has taken care of it.

use super::machine::State;
use bytes::{Buf, BufMut, Bytes};

const VERSION: u8 = 1;

/// Prefix of the keyed values of all rules.
pub(crate) const PREFIX: &str = "state/";

/// Prefix of the keyed values of a rule. Names of rules have no slash.
pub(crate) fn prefix(rule: &str) -> String {
    format!("{PREFIX}{rule}/")
}

/// As the value that is kept.
pub(super) fn encode(state: &State) -> Vec<u8> {
    let mut out = vec![VERSION];
    match state {
        State::Times { times, armed } => {
            out.put_u8(b't');
            out.put_u8(u8::from(*armed));
            times.iter().for_each(|time| out.put_u64_le(*time));
        }
        State::Window { start_ms, count } => {
            out.put_u8(b'w');
            [start_ms, count].iter().for_each(|number| out.put_u64_le(**number));
        }
        State::Quiet { first_ms, last_ms, count, event } => {
            out.put_u8(b'q');
            [first_ms, last_ms, count].iter().for_each(|number| out.put_u64_le(**number));
            out.extend_from_slice(event);
        }
        State::Throttled { since_ms, last_ms, swallowed } => {
            out.put_u8(b's');
            [since_ms, last_ms, swallowed].iter().for_each(|number| out.put_u64_le(**number));
        }
        State::Parts { since_ms, events } => {
            out.put_u8(b'p');
            out.put_u64_le(*since_ms);
            for (number, event) in events {
                out.put_u64_le(*number as u64);
                out.put_u64_le(event.len() as u64);
                out.extend_from_slice(event);
            }
        }
    }
    out
}

/// The reverse of [`encode`].
pub(super) fn decode(mut bytes: Bytes) -> Option<State> {
    if bytes.try_get_u8().ok()? != VERSION {
        return None;
    }
    let number = |bytes: &mut Bytes| bytes.try_get_u64_le().ok();
    Some(match bytes.try_get_u8().ok()? {
        b't' => {
            let armed = bytes.try_get_u8().ok()? != 0;
            let mut times = std::collections::VecDeque::new();
            while bytes.has_remaining() {
                times.push_back(number(&mut bytes)?);
            }
            State::Times { times, armed }
        }
        b'w' => State::Window { start_ms: number(&mut bytes)?, count: number(&mut bytes)? },
        b'q' => State::Quiet {
            first_ms: number(&mut bytes)?,
            last_ms: number(&mut bytes)?,
            count: number(&mut bytes)?,
            event: bytes,
        },
        b's' => State::Throttled {
            since_ms: number(&mut bytes)?,
            last_ms: number(&mut bytes)?,
            swallowed: number(&mut bytes)?,
        },
        b'p' => {
            let since_ms = number(&mut bytes)?;
            let mut events = std::collections::BTreeMap::new();
            while bytes.has_remaining() {
                let at = usize::try_from(number(&mut bytes)?).ok()?;
                let len = usize::try_from(number(&mut bytes)?).ok()?;
                if len > bytes.len() {
                    return None;
                }
                events.insert(at, bytes.split_to(len));
            }
            State::Parts { since_ms, events }
        }
        _ => return None,
    })
}
