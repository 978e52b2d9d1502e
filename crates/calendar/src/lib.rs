//! When something recurs: cron expressions in time zones. Pure: told the time, milliseconds since 1970.
//!
//! Five fields (minute, hour, day of month, month, day of week), or six with the second in front, or `@daily` and its
//! like. Day of month and day of week restricted both: either is enough, as cron has it. The zones are those of the
//! IANA, compiled in: the same on every machine, and no files needed.
//!
//! Where the clock is put forward or back, what cron's users expect happens: an expression that names one time of day
//! comes once on every such day (in the gap: at its end; in the repeated hour: the first time), one with lists, ranges
//! or steps goes by the time that passes (nothing in the gap, twice in the repeated hour).

use croner::parser::{CronParser, Year};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, Zoned};
use std::sync::LazyLock;

/// Longest text of a cron expression. Bytes.
pub const CRON_MAX_BYTES: usize = 255;

/// The zone if none is named.
pub const DEFAULT_ZONE: &str = "UTC";

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// When something recurs.
#[derive(Debug, Clone)]
pub struct Calendar {
    cron: croner::Cron,
    zone: TimeZone,
}

/// Why a text is no calendar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// The expression cannot be read.
    #[error(
        "'{cron}' is no cron expression: {reason} (five fields: minute, hour, day of month, month, day of week)"
    )]
    Cron {
        /// As given, cut if it is long.
        cron: String,
        /// What is wrong.
        reason: String,
    },
    /// It names days that do not exist.
    #[error("the cron expression '{cron}' never comes: is there such a day?")]
    Never {
        /// As given.
        cron: String,
    },
    /// There is no such time zone.
    #[error("there is no time zone '{zone}': use a name such as Europe/Berlin or UTC")]
    Zone {
        /// As given, cut if it is long.
        zone: String,
    },
}

impl Calendar {
    /// Reads an expression and the name of a zone (upper and lower case are the same; empty: UTC).
    pub fn new(cron: &str, zone: &str) -> Result<Self, CalendarError> {
        let bad = |reason: String| CalendarError::Cron { cron: shorten(cron), reason };
        if cron.len() > CRON_MAX_BYTES {
            return Err(bad(format!("it has {} bytes, at most {CRON_MAX_BYTES} are allowed", cron.len())));
        }
        // The parser looks for `@` anywhere and takes what it does not know for fields.
        if cron.contains('@') && !NICKNAMES.iter().any(|known| known.eq_ignore_ascii_case(cron.trim())) {
            return Err(bad(format!("of the short names there are {}", NICKNAMES.join(", "))));
        }
        let parser = CronParser::builder().year(Year::Disallowed).build();
        let parsed = parser.parse(cron).map_err(|error| bad(error.to_string()))?;
        let zone = if zone.is_empty() { DEFAULT_ZONE } else { zone };
        let zone = ZONES.get(zone).map_err(|_| CalendarError::Zone { zone: shorten(zone) })?;
        let this = Self { cron: parsed, zone };
        if this.next_after(0).is_none() {
            return Err(CalendarError::Never { cron: shorten(cron) });
        }
        Ok(this)
    }

    /// The first moment after this one; `None`: never, or beyond all calendars.
    pub fn next_after(&self, after_ms: u64) -> Option<u64> {
        let found = self.cron.find_next_occurrence(&self.zoned(after_ms)?, false).ok()?;
        millis(&found).filter(|found| *found > after_ms)
    }

    /// The last moment up to this one, itself included; `None`: there was none since 1970.
    pub fn last_up_to(&self, up_to_ms: u64) -> Option<u64> {
        let found = self.cron.find_previous_occurrence(&self.zoned(up_to_ms)?, true).ok()?;
        millis(&found).filter(|found| *found <= up_to_ms)
    }

    /// A moment as the zone's clocks show it: `2026-03-29 03:00:00 +02:00`.
    pub fn show(&self, at_ms: u64) -> String {
        self.zoned(at_ms)
            .map_or_else(|| format!("{at_ms} ms"), |at| at.strftime("%Y-%m-%d %H:%M:%S %:z").to_string())
    }

    /// The name of its zone.
    pub fn zone(&self) -> &str {
        self.zone.iana_name().unwrap_or(DEFAULT_ZONE)
    }

    /// The begun second: moments are whole ones, and within the last second before a repeated hour the search takes
    /// the repeated hour for past.
    fn zoned(&self, at_ms: u64) -> Option<Zoned> {
        let at = Timestamp::from_second(i64::try_from(at_ms / 1000).ok()?).ok()?;
        Some(at.to_zoned(self.zone.clone()))
    }
}

/// Short names of expressions.
const NICKNAMES: &[&str] = &["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

fn millis(at: &Zoned) -> Option<u64> {
    u64::try_from(at.timestamp().as_millisecond()).ok()
}

fn shorten(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
