//! Messages chosen by an expression, for somebody who looks for them.

use crate::event::Event;
use crate::jq::{Jq, with_deep_stack};
use millpond_broker::Delivery;
use millpond_events::Origin;
use millpond_model::Message;
use std::time::{Instant, SystemTime};

/// Where an expression is, for its errors.
const PLACE: &str = "the expression";

/// What was chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// For each message, in order; fewer if the time was over.
    pub fits: Vec<bool>,
    /// Messages that the expression failed for; they do not fit.
    pub failed: u64,
    /// Why it failed for the first of them.
    pub error: Option<String>,
}

/// Chooses of messages (each with its place in `queue` of `vhost`) those for which the first result of `expression` is
/// neither null nor false, as a rule's `when` does, with its limits for each. No message is begun after `until`. The
/// error: why it is no expression. Takes its time: not to be called by what must not block.
pub fn choose(
    expression: &str,
    (vhost, queue): (&str, &str),
    messages: &[(u64, Message)],
    until: Instant,
) -> Result<Choice, String> {
    with_deep_stack(|| {
        let jq = Jq::new(expression, PLACE)
            .map_err(|error| format!("jq '{expression}', byte {}: {}", error.at, error.reason))?;
        let mut choice = Choice::default();
        for (seq, message) in messages {
            if Instant::now() >= until {
                break;
            }
            let delivery = Delivery { seq: *seq, redelivered: false, message: message.clone() };
            let origin = Origin { vhost, queue, seq: *seq, now: SystemTime::now() };
            let fits = jq.is_true(&Event::glance(&delivery, origin, jq.needs()));
            choice.fits.push(matches!(fits, Ok(true)));
            if let Err(error) = fits {
                choice.failed += 1;
                choice.error.get_or_insert_with(|| error.to_string());
            }
        }
        Ok(choice)
    })
}
