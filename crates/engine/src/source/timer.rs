//! `timer`: an event at every moment that a cron expression or an interval names. See docs/guide/source-timer.md.
//!
//! The cursor is a mark: what was due up to there is done.

use super::{Desk, Found, Item, Kind, LOOK_ITEMS_MAX, Opening, Poll, Polling, Source, SourceError, Work};
use crate::topology::{Fields, Node, Report, read_missed};
use millpond_broker::Missed;
use millpond_calendar::Calendar;
use millpond_events::show_time;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// The shortest interval; faster ones are polling, not time.
const EVERY_MIN: Duration = Duration::from_millis(10);

/// The longest interval.
const EVERY_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Moments made up for by [`Missed::All`], the latest ones.
const MISSED_MAX: usize = LOOK_ITEMS_MAX;

/// So far the clock may have been ahead when the mark was made: moments up to the mark are waited for, for each has had
/// its event. A clock that was further ahead was wrong, and the timer must not be silent for as long.
const AHEAD_MAX_MS: u64 = 3 * 3600 * 1000;

/// When it is looked whether the clock has jumped.
const LOOK_WAIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Timer {
    moments: Moments,
    missed: Missed,
}

/// When it is due.
#[derive(Debug, Clone)]
enum Moments {
    Cron(Box<Calendar>),
    /// Multiples since 1970, so that a restart shifts nothing. Milliseconds.
    Every(u64),
}

impl Moments {
    fn next_after(&self, after_ms: u64) -> Option<u64> {
        match self {
            Self::Cron(calendar) => calendar.next_after(after_ms),
            Self::Every(every_ms) => (after_ms / every_ms + 1).checked_mul(*every_ms),
        }
    }

    fn last_up_to(&self, up_to_ms: u64) -> Option<u64> {
        match self {
            Self::Cron(calendar) => calendar.last_up_to(up_to_ms),
            Self::Every(every_ms) => Some(up_to_ms / every_ms * every_ms),
        }
    }
}

/// Reads `timer:`.
pub(super) fn read(node: &Node, path: &str, report: &mut Report) -> Option<Arc<dyn Kind>> {
    let fields = Fields::read(node, path, &["cron", "zone", "every", "missed"], report);
    let missed = read_missed(&fields, report);
    let moments = match (fields.get("cron"), fields.get("every")) {
        (Some(cron), None) => {
            let text = fields.text("cron", "a cron expression", report)?;
            let zone = fields.text("zone", "a time zone", report).unwrap_or_default();
            match Calendar::new(text, zone) {
                Ok(calendar) => Moments::Cron(Box::new(calendar)),
                Err(error) => {
                    report.add(cron.line, path, error.to_string());
                    return None;
                }
            }
        }
        (None, Some(every)) => {
            if let Some(zone) = fields.get("zone") {
                report.add(zone.line, path, "found 'zone' beside 'every', expected it beside 'cron' only");
            }
            let interval = fields.duration("every", Duration::from_secs(60), EVERY_MAX, report);
            if interval < EVERY_MIN {
                report.expected(every, &fields.path_of("every"), "at least 10ms");
            }
            Moments::Every(interval.max(EVERY_MIN).as_millis() as u64)
        }
        (Some(_), Some(_)) => {
            report.add(node.line, path, "found both 'cron' and 'every', expected one of them");
            return None;
        }
        (None, None) => {
            report.add(node.line, path, "found neither 'cron' nor 'every', expected one of them");
            return None;
        }
    };
    Some(Arc::new(Timer { moments, missed }))
}

impl Kind for Timer {
    fn name(&self) -> &'static str {
        "timer"
    }

    fn polling(&self) -> Polling {
        Polling { default: Poll::Long(LOOK_WAIT), every: false, long: false }
    }

    fn event_type(&self) -> String {
        "millpond.timer".to_owned()
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn Source>, SourceError> {
        let name = opening.name.to_owned();
        Ok(Box::new(Ticking { moments: self.moments.clone(), missed: self.missed, name, starting: true }))
    }
}

struct Ticking {
    moments: Moments,
    missed: Missed,
    name: String,
    starting: bool,
}

impl Ticking {
    async fn tick(&mut self, desk: &Desk, cursor: Option<&Value>, wait: Duration) -> Found {
        let Some(mark_ms) = cursor.and_then(|cursor| cursor.get("mark_ms")?.as_u64()) else {
            // Moments count from the first start.
            self.starting = false;
            return Found { cursor: Some(mark(desk.now_ms())), ..Found::default() };
        };
        let starting = std::mem::replace(&mut self.starting, false);
        let now_ms = desk.now_ms();
        if mark_ms > now_ms.saturating_add(AHEAD_MAX_MS) {
            tracing::warn!(
                source = self.name,
                mark_ms,
                now_ms,
                "the clock was set back: the timer begins anew"
            );
            return Found { cursor: Some(mark(now_ms)), ..Found::default() };
        }
        let Some(next_ms) = self.moments.next_after(mark_ms) else {
            tokio::time::sleep(wait).await;
            return Found::default();
        };
        if !starting {
            let latest_ms = desk.now_ms().saturating_add(wait.as_millis() as u64);
            desk.sleep_until(next_ms.min(latest_ms)).await;
        }
        let now_ms = desk.now_ms();
        if next_ms > now_ms {
            return Found::default();
        }
        let items = due(&self.moments, self.missed, mark_ms, now_ms, starting);
        let items = items.into_iter().map(|due_ms| self.item(due_ms)).collect();
        Found { items, cursor: Some(mark(now_ms)), ..Found::default() }
    }

    fn item(&self, due_ms: u64) -> Item {
        let due = UNIX_EPOCH.checked_add(Duration::from_millis(due_ms)).map(show_time);
        Item {
            subject: Some(self.name.clone()),
            time_ms: Some(due_ms),
            ..Item::json(due_ms.to_string(), json!({"due": due}))
        }
    }
}

fn mark(at_ms: u64) -> Value {
    json!({"mark_ms": at_ms})
}

/// The moments after the mark that get an event now, in order. What passed while the source was not there is missed;
/// what passed between two looks is late, and gets its event.
fn due(moments: &Moments, missed: Missed, mark_ms: u64, now_ms: u64, starting: bool) -> Vec<u64> {
    let Some(newest) = moments.last_up_to(now_ms).filter(|newest| *newest > mark_ms) else {
        return Vec::new();
    };
    match missed {
        Missed::Skip if starting => Vec::new(),
        Missed::Skip | Missed::Once => vec![newest],
        Missed::All => {
            let before = |at: &u64| moments.last_up_to(at.checked_sub(1)?).filter(|at| *at > mark_ms);
            let mut due: Vec<u64> = std::iter::successors(Some(newest), before).take(MISSED_MAX).collect();
            due.reverse();
            due
        }
    }
}

impl Source for Ticking {
    fn look<'a>(
        &'a mut self,
        desk: &'a mut Desk,
        cursor: Option<&'a Value>,
        wait: Duration,
    ) -> Work<'a, Found> {
        Box::pin(async move { Ok(self.tick(desk, cursor, wait).await) })
    }
}
