//! What the kinds of actions need to be filled in from an event.

use crate::event::Event;
use crate::jq::JqError;
use crate::pool::EvaluationError;
use crate::topology::Rule;
use jaq_json::Val;
use std::fmt;

/// Rules a message may come through, one publishing to the next, before it is taken for a loop.
pub(crate) const HOPS_MAX: u64 = 64;

/// Why a rule cannot act on an event; trying again would not help.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum PlanError {
    /// An expression failed.
    #[error(transparent)]
    Jq(#[from] JqError),
    /// An expression gave something that the action cannot use.
    #[error("{place}: {reason}")]
    Unusable {
        /// `FILE:LINE`.
        place: String,
        /// What, and what is needed.
        reason: String,
    },
    /// The evaluation did not come to an end of its own.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// It has come through too many rules.
    #[error(
        "the message has come through {hops} rules, at most {HOPS_MAX} may follow one another: do they form a loop?"
    )]
    Loop {
        /// How many.
        hops: u64,
    },
}

/// What an action is worked out for.
pub(crate) struct Context<'a> {
    pub(crate) rule: &'a Rule,
    pub(crate) event: &'a Event,
    /// What expressions see.
    pub(crate) val: &'a Val,
    /// Which action of the rule: `Doing::step`.
    pub(crate) step: &'a str,
}

impl Context<'_> {
    /// The same for every attempt: event, rule, step.
    pub(crate) fn step_id(&self) -> String {
        format!("{}/{}/{}", self.event.id, self.rule.name, self.step)
    }
}

/// A result (`Jq::body`) with its content type.
pub(super) fn body_of((body, is_text): (Vec<u8>, bool)) -> (Vec<u8>, Option<String>) {
    let content_type = if is_text { "text/plain; charset=utf-8" } else { "application/json" };
    (body, Some(content_type.to_owned()))
}

/// Characters that a header cannot carry are percent-encoded.
pub(super) fn visible(id: &str) -> String {
    let mut out = String::with_capacity(id.len());
    for byte in id.bytes() {
        match byte {
            b'%' => out.push_str("%25"),
            0x21..=0x7e => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The line of a dry run that shows a body.
pub(super) fn show_body(f: &mut fmt::Formatter<'_>, body: &[u8]) -> fmt::Result {
    match std::str::from_utf8(body) {
        Ok("") => Ok(()),
        Ok(text) => write!(f, "\n   body: {text}"),
        Err(_) => write!(f, "\n   body: {} bytes that are not text", body.len()),
    }
}
