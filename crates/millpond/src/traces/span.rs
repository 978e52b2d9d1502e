//! A span, and where it is in its trace.

use std::time::{SystemTime, UNIX_EPOCH};

/// Attributes of a span; further ones are left out.
const ATTRIBUTES_MAX: usize = 32;
/// Of a text; the rest is cut off. Bytes.
const TEXT_MAX_BYTES: usize = 1024;

/// What an attribute is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Attribute {
    Text(String),
    Int(i64),
    Bool(bool),
}

/// One piece of work.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub(super) place: Place,
    pub(super) name: String,
    /// Somebody outside asked for it.
    pub(super) is_server: bool,
    pub(super) failed: bool,
    /// Nanoseconds since 1970.
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    pub(super) attributes: Vec<(&'static str, Attribute)>,
}

/// Where a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) trace: u128,
    pub(super) span: u64,
    /// 0: it is the first.
    pub(super) parent: u64,
    /// Whether it is sent.
    pub(super) is_sampled: bool,
}

impl Place {
    /// The first of a trace; a share from 0 to 1 of them is sent.
    pub(super) fn first(share: f64) -> Self {
        let trace = rand::random::<u128>().max(1);
        // The low half is as good as any other chance.
        let is_sampled = share >= 1.0 || (trace as u64) < (share * u64::MAX as f64) as u64;
        Self { trace, span: rand::random::<u64>().max(1), parent: 0, is_sampled }
    }

    /// One below.
    pub(super) fn below(&self) -> Self {
        Self { span: rand::random::<u64>().max(1), parent: self.span, ..*self }
    }

    /// That of a caller, by W3C's header: `00-TRACE-SPAN-FLAGS`; what the caller samples is sampled here.
    pub(super) fn of_traceparent(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let mut hex = |digits: usize| {
            let part = parts.next()?;
            let is_hex = part.len() == digits && part.bytes().all(|it| it.is_ascii_hexdigit());
            is_hex.then_some(part)
        };
        let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let trace = u128::from_str_radix(trace, 16).ok().filter(|it| *it != 0)?;
        let span = u64::from_str_radix(span, 16).ok().filter(|it| *it != 0)?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        (version != "ff").then_some(Self { trace, span, parent: 0, is_sampled: flags & 1 == 1 })
    }
}

impl Span {
    pub(super) fn set(&mut self, key: &'static str, value: Attribute) {
        let value = match value {
            Attribute::Text(mut text) if text.len() > TEXT_MAX_BYTES => {
                let end = (0..=TEXT_MAX_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                text.truncate(end);
                Attribute::Text(text)
            }
            other => other,
        };
        if let Some((_, known)) = self.attributes.iter_mut().find(|(known, _)| *known == key) {
            *known = value;
        } else if self.attributes.len() < ATTRIBUTES_MAX {
            self.attributes.push((key, value));
        }
    }
}

/// Nanoseconds since 1970.
pub(super) fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_place_is_taken_from_its_header_or_not_at_all() {
        let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let place = Place::of_traceparent(given).unwrap();
        assert_eq!(place.trace, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!((place.span, place.is_sampled), (0x00f0_67aa_0ba9_02b7, true));
        let below = place.below();
        assert_eq!((below.trace, below.parent, below.is_sampled), (place.trace, place.span, true));
        let wrong = [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
        ];
        for text in wrong {
            assert_eq!(Place::of_traceparent(text), None, "{text}");
        }
        let unsampled = Place::of_traceparent(&given.replace("-01", "-00")).unwrap();
        assert!(!unsampled.below().is_sampled);
    }

    #[test]
    fn a_share_of_the_traces_is_sent() {
        assert!(!(0..100).any(|_| Place::first(0.0).is_sampled));
        assert!((0..100).all(|_| Place::first(1.0).is_sampled));
    }
}
