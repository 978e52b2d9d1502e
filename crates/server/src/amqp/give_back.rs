//! Deliveries that are given back by a publish: basic.nack has no field that says for how long.
//!
//! A message to the default exchange with the key [`millpond_broker::GIVE_BACK_KEY`] is none: its headers name a
//! delivery of its channel and a delay. Any client can send that, in order with its acks and publishes. A confirm
//! answers it as any publish.

use super::core::Core;
use super::reply::Fault;
use millpond_amqp_codec::ReplyCode;
use millpond_broker::{GIVE_BACK_KEY, Outcome};
use millpond_model::Message;
use millpond_model::properties::RawProperties;
use millpond_model::table::RawValue;

/// The delivery.
const TAG: &str = "x-delivery-tag";
/// For how long: milliseconds.
const DELAY: &str = "x-delay";

/// Longest delay: a year, as of a queue's own rule for retries. Milliseconds.
const DELAY_MAX_MS: u64 = 365 * 24 * 3600 * 1000;

impl Core {
    /// Gives back what publishes named.
    #[inline]
    pub(super) fn give_back_published(&mut self) {
        if !self.publisher.given_back.is_empty() {
            self.give_back_all();
        }
    }

    #[cold]
    fn give_back_all(&mut self) {
        for (number, word) in std::mem::take(&mut self.publisher.given_back) {
            let read = tag_and_delay(&word);
            let done =
                read.and_then(|(tag, delay_ms)| self.nack(number, tag, false, Outcome::Retry { delay_ms }));
            if let Err(fault) = done {
                // Those of other channels go on.
                self.publisher.fault.get_or_insert((number, fault.of(60, 40)));
            }
        }
    }
}

fn tag_and_delay(word: &Message) -> Result<(u64, u64), Fault> {
    Ok((whole_number(word, TAG, u64::MAX)?, whole_number(word, DELAY, DELAY_MAX_MS)?))
}

/// A header that has to be there: a whole number, or its digits (not every client can say what type a number is).
fn whole_number(word: &Message, name: &str, max: u64) -> Result<u64, Fault> {
    let headers = RawProperties::from_checked(word.properties()).headers();
    let found = match headers.and_then(|headers| headers.get(name)) {
        Some(RawValue::LongStr(text)) => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
        Some(number) => number.as_i64().and_then(|number| u64::try_from(number).ok()),
        None => None,
    };
    found.filter(|number| *number <= max).ok_or_else(|| {
        Fault::new(
            ReplyCode::PreconditionFailed,
            format_args!("{GIVE_BACK_KEY} needs the header {name}: a whole number from 0 to {max}"),
        )
    })
}

/// For a channel with transactions.
pub(super) fn in_transaction() -> Fault {
    let text =
        format_args!("{GIVE_BACK_KEY} is not possible in a transaction: use basic.nack, or another channel");
    Fault::new(ReplyCode::PreconditionFailed, text).of(60, 40)
}
