//! Schedules: a message published again and again, at the moments that a cron expression names in a time zone.
//!
//! Every schedule has a *mark*: what was due up to there is done. The messages of a moment and the mark behind it are
//! one batch of the store, so a moment has its message once, whenever the process is killed. What was due beyond the
//! mark at the start was missed while the broker was down; the schedule says what becomes of it.
//!
//! - here: what a schedule is, and which moments are due: pure, told the time.
//! - `fire`: the vhost's list behind a lock, its alarm at the timer, publishing.

mod fire;

pub(crate) use fire::Schedules;
use millpond_calendar::{Calendar, CalendarError};
use millpond_model::limits::{PROPERTIES_MAX_BYTES, SHORT_STRING_MAX_BYTES};
use millpond_model::properties::Properties;
use millpond_model::{ExchangeName, VhostName};
use std::fmt;

/// Schedules that a vhost may have.
pub(crate) const SCHEDULES_MAX: usize = 10_000;

/// Longest name of a schedule, so that it fits into a message id with the moment behind. Bytes.
const NAME_MAX_BYTES: usize = 200;

/// Largest body of a scheduled message: it is kept in memory. Bytes.
const BODY_MAX_BYTES: usize = 1 << 20;

/// Moments made up for by [`Missed::All`], the latest ones.
const MISSED_MAX: usize = 1000;

/// The header that names the schedule a message is of.
const NAME_HEADER: &str = "x-schedule";

/// The header that says when a message was due: milliseconds since 1970.
const DUE_HEADER: &str = "x-schedule-due-ms";

/// What is published when.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleSpec {
    /// Unique in its vhost; at most 200 bytes.
    pub name: Box<str>,
    /// When: five fields, six with seconds, or `@daily` and its like.
    pub cron: Box<str>,
    /// In which IANA time zone.
    pub zone: Box<str>,
    /// To which exchange; empty: the default one, whose keys are queue names.
    pub exchange: ExchangeName,
    /// With which routing key.
    pub routing_key: Box<[u8]>,
    /// Persistent if it says nothing. `message_id` and `timestamp` are the moment's if they are missing.
    pub properties: Properties,
    /// At most 1 MiB.
    pub body: Box<[u8]>,
    /// What becomes of moments at which the broker was down.
    pub missed: Missed,
}

/// What becomes of moments that have passed before the broker got to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missed {
    /// Nothing.
    Skip,
    /// One message, of the last of them.
    #[default]
    Once,
    /// A message for each of them, the last 1000 at most.
    All,
}

impl Missed {
    const NAMES: [(&str, Self); 3] = [("skip", Self::Skip), ("once", Self::Once), ("all", Self::All)];

    /// `skip`, `once` or `all`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(name, _)| *name == text).map(|(_, missed)| *missed)
    }

    /// As [`Self::parse`] reads it.
    pub fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(_, missed)| *missed == self).map_or("", |(name, _)| name)
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why something is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    /// Empty, too long, or with characters that nobody can type.
    #[error(
        "'{name}' cannot be the name of a schedule: use 1 to {NAME_MAX_BYTES} bytes without control characters"
    )]
    Name {
        /// As given.
        name: String,
    },
    /// When is not clear.
    #[error(transparent)]
    Calendar(#[from] CalendarError),
    /// Over 255 bytes.
    #[error("a routing key of {size_bytes} bytes is over 255: shorten it")]
    RoutingKey {
        /// Its size.
        size_bytes: usize,
    },
    /// The properties have no encoding, or too long a one.
    #[error("the message's properties: {reason}")]
    Properties {
        /// Which, and why.
        reason: String,
    },
    /// The body is too long.
    #[error("a body of {size_bytes} bytes is over {BODY_MAX_BYTES}: publish a reference to it instead")]
    Body {
        /// Its size.
        size_bytes: usize,
    },
}

impl ScheduleSpec {
    /// Checks it; when it recurs.
    pub fn check(&self) -> Result<Calendar, BadSchedule> {
        let name = &self.name;
        if name.is_empty() || name.len() > NAME_MAX_BYTES || name.chars().any(char::is_control) {
            return Err(BadSchedule::Name { name: name.chars().take(60).collect() });
        }
        if self.routing_key.len() > SHORT_STRING_MAX_BYTES {
            return Err(BadSchedule::RoutingKey { size_bytes: self.routing_key.len() });
        }
        if self.body.len() > BODY_MAX_BYTES {
            return Err(BadSchedule::Body { size_bytes: self.body.len() });
        }
        let reason = match self.properties_of(u64::MAX) {
            Ok(encoded) if encoded.len() <= PROPERTIES_MAX_BYTES => None,
            Ok(encoded) => Some(format!("{} bytes are over {PROPERTIES_MAX_BYTES}", encoded.len())),
            Err(reason) => Some(reason),
        };
        if let Some(reason) = reason {
            return Err(BadSchedule::Properties { reason });
        }
        let expiration = self.properties.expiration.as_deref();
        if expiration.is_some_and(|text| text.parse::<u64>().is_err()) {
            let reason = "expiration is not a whole number of milliseconds".to_owned();
            return Err(BadSchedule::Properties { reason });
        }
        Ok(Calendar::new(&self.cron, &self.zone)?)
    }

    /// The encoded properties of the message of a moment.
    fn properties_of(&self, due_ms: u64) -> Result<Vec<u8>, String> {
        let mut properties = self.properties.clone();
        properties.headers.set(NAME_HEADER, &*self.name);
        properties.headers.set(DUE_HEADER, i64::try_from(due_ms).unwrap_or(i64::MAX));
        properties.delivery_mode.get_or_insert(2);
        properties.message_id.get_or_insert_with(|| format!("{}/{due_ms}", self.name).into());
        properties.timestamp.get_or_insert(due_ms / 1000);
        properties.encode().map_err(|error| error.to_string())
    }
}

/// Which moments have come since `mark_ms`, in order: those that get a message. `late`: the broker was not there when
/// they passed, or could not write; otherwise the last is the one that was waited for.
fn due(calendar: &Calendar, missed: Missed, mark_ms: u64, now_ms: u64, late: bool) -> Vec<u64> {
    let Some(first) = calendar.next_after(mark_ms).filter(|first| *first <= now_ms) else {
        return Vec::new();
    };
    let newest = calendar.last_up_to(now_ms).map_or(first, |newest| newest.max(first));
    match missed {
        Missed::Skip if late => Vec::new(),
        Missed::Skip | Missed::Once => vec![newest],
        Missed::All => {
            let before = |at: &u64| calendar.last_up_to(at.checked_sub(1)?).filter(|at| *at > mark_ms);
            let mut moments: Vec<u64> =
                std::iter::successors(Some(newest), before).take(MISSED_MAX).collect();
            moments.reverse();
            moments
        }
    }
}

/// A schedule as it stands.
#[derive(Debug, Clone)]
pub struct ScheduleInfo {
    /// What it is.
    pub spec: ScheduleSpec,
    /// Where.
    pub vhost: VhostName,
    /// Nothing is published until it is resumed.
    pub paused: bool,
    /// The last moment that got a message, in milliseconds since 1970.
    pub last_ms: Option<u64>,
    /// The next moment; `None` while it is paused.
    pub next_ms: Option<u64>,
    /// Moments that got their message since the broker's start.
    pub fired: u64,
    /// Of those, messages that no queue took.
    pub unrouted: u64,
    /// Tells further moments, and shows them as the zone's clocks do.
    pub calendar: Calendar,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(missed: Missed, late: bool, mark_s: u64, now_s: u64, wanted: &[u64]) {
        let calendar = Calendar::new("*/10 * * * * *", "UTC").unwrap();
        let found = due(&calendar, missed, mark_s * 1000, now_s * 1000, late);
        let seconds: Vec<u64> = found.iter().map(|ms| ms / 1000).collect();
        assert_eq!(seconds, wanted, "{missed}, late {late}, from {mark_s} to {now_s}");
    }

    #[test]
    fn what_was_missed_is_skipped_made_up_for_once_or_each_time() {
        for (missed, late, wanted) in [
            (Missed::Skip, true, &[][..]),
            (Missed::Skip, false, &[150]),
            (Missed::Once, true, &[150]),
            (Missed::Once, false, &[150]),
            (Missed::All, true, &[110, 120, 130, 140, 150]),
            (Missed::All, false, &[110, 120, 130, 140, 150]),
        ] {
            check(missed, late, 100, 159, wanted);
            check(missed, late, 150, 159, &[]);
            check(missed, late, 160, 159, &[]);
        }
        check(Missed::All, false, 100, 110, &[110]);
        let long: Vec<u64> = (0..1000).map(|n| 1_000_000 - 10 * (999 - n)).collect();
        check(Missed::All, true, 100, 1_000_000, &long);
    }
}
