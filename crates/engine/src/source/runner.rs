//! A running source: a task with a session of its own, which looks, publishes, commits, and looks again.

use super::shape::{self, Ready, Shaped};
use super::{
    CURSOR_PREFIX, Desk, Found, KeptCursor, Opening, Poll, Source, SourceError, SourceState, SourceVitals,
};
use crate::topology::SourceSpec;
use crate::values::ROOM;
use crate::worker::{Tools, add};
use millpond_broker::{Publish, PublishError, ValueChange};
use millpond_model::Message;
use millpond_model::properties::RawProperties;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The wait after the first error; it doubles with each that follows.
const BACK_OFF_FIRST: Duration = Duration::from_millis(200);

/// The longest wait of its own after an error.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);

/// The longest wait that the other side may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// How far a wait is spread at random: from 80 % to 120 %.
const JITTER: f64 = 0.2;

/// How long a source that is stopped waits for what it does outside after a commit.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Runs a source until `stop` says true.
pub(crate) async fn run(
    spec: Arc<SourceSpec>,
    tools: Tools,
    vitals: Arc<SourceVitals>,
    mut stop: watch::Receiver<bool>,
) {
    let mut errors = 0u32;
    loop {
        let error = match Runner::open(&spec, &tools, &vitals, stop.clone()) {
            Err(error) => error,
            Ok(mut runner) => match runner.work(&mut errors).await {
                Ok(()) => break,
                Err(error) => error,
            },
        };
        add(&vitals.errors, 1);
        vitals.failures.add(tools.now_ms(), &error.reason, errors.saturating_add(1), false);
        let wait = back_off(errors, error.retry_after, rand::random());
        errors = errors.saturating_add(1);
        let waiting = SourceState::Waiting { reason: error.reason };
        let known = std::mem::replace(&mut *vitals.state.lock(), waiting.clone()) == waiting;
        if !known {
            let wait_ms = wait.as_millis() as u64;
            tracing::warn!(source = %spec.name, state = %waiting, wait_ms, "the source waits");
        }
        if tokio::time::timeout(wait, told_to_stop(&mut stop)).await.is_ok() {
            break;
        }
    }
    *vitals.state.lock() = SourceState::Stopped;
}

/// How long to wait after `errors` earlier ones in a row; `random` is from 0 to 1.
fn back_off(errors: u32, retry_after: Option<Duration>, random: f64) -> Duration {
    if let Some(asked) = retry_after {
        return asked.min(RETRY_AFTER_MAX);
    }
    let grown = BACK_OFF_FIRST.saturating_mul(1u32.checked_shl(errors).unwrap_or(u32::MAX)).min(BACK_OFF_MAX);
    grown.mul_f64(1.0 + JITTER * (2.0 * random - 1.0))
}

/// Ready when the source is to stop, or nobody is there any more to say so.
async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// When to look next.
struct Pace {
    poll: Poll,
    began: Instant,
    more: bool,
    first: bool,
}

impl Pace {
    /// Waits for the moment; how long the look may take.
    async fn next(&mut self) -> Duration {
        let at_once = std::mem::replace(&mut self.more, false) | std::mem::replace(&mut self.first, false);
        match self.poll {
            Poll::Long(wait) => wait,
            Poll::Every(_) if at_once => Duration::ZERO,
            Poll::Every(every) => {
                // A multiple, so that looks that take long shift nothing; what was missed meanwhile is left out.
                let passed = self.began.elapsed().as_nanos() / every.as_nanos().max(1) + 1;
                let next = self.began + Duration::from_nanos((passed * every.as_nanos()) as u64);
                tokio::time::sleep_until(next).await;
                Duration::ZERO
            }
        }
    }
}

struct Runner<'s> {
    spec: &'s Arc<SourceSpec>,
    vitals: &'s SourceVitals,
    desk: Desk,
    source: Box<dyn Source>,
    cursor: Option<Value>,
    stop: watch::Receiver<bool>,
}

impl<'s> Runner<'s> {
    fn open(
        spec: &'s Arc<SourceSpec>,
        tools: &Tools,
        vitals: &'s SourceVitals,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, SourceError> {
        let desk = Desk::open(&spec.name, tools)?;
        let source = spec.kind.open(&Opening { name: &spec.name, tools })?;
        let kept = vitals.cursor.lock().clone();
        let cursor = kept.filter(|kept| kept.kind == spec.kind.name()).map(|kept| kept.cursor);
        Ok(Self { spec, vitals, desk, source, cursor, stop })
    }

    /// Looks and publishes until it is to stop; counts the errors that follow each other.
    async fn work(&mut self, errors: &mut u32) -> Result<(), SourceError> {
        let mut pace = Pace { poll: self.spec.poll, began: Instant::now(), more: false, first: true };
        loop {
            let Self { desk, source, cursor, stop, .. } = &mut *self;
            let look = async {
                let wait = pace.next().await;
                desk.ready().await?;
                source.look(desk, cursor.as_ref(), wait).await
            };
            let found = tokio::select! {
                biased;
                () = told_to_stop(stop) => return Ok(()),
                found = look => found?,
            };
            *errors = 0;
            *self.vitals.state.lock() = SourceState::Running;
            pace.more = found.more;
            let moved = found.cursor.is_some() && found.cursor != self.cursor;
            if !moved && found.items.is_empty() && found.settles.is_empty() {
                // A kind that says at once that there is nothing must not keep a core busy.
                tokio::task::yield_now().await;
                continue;
            }
            if !self.take(found).await? {
                return Ok(());
            }
        }
    }

    /// Publishes what was found and keeps the cursor, in one commit; `false`: it is to stop and nothing was done.
    async fn take(&mut self, mut found: Found) -> Result<bool, SourceError> {
        let now_ms = self.desk.now_ms();
        let items = std::mem::take(&mut found.items);
        let Self { spec, desk, stop, .. } = &mut *self;
        let mut counts = Counts::default();
        let changes: Vec<_> = found.cursor.iter().map(|cursor| cursor_change(spec, cursor)).collect();
        let submit = async {
            let shaped = shape::shape(spec, items, now_ms, &mut desk.thinker).await?;
            let mut publishes = counts.route(spec, desk, shaped, now_ms)?;
            desk.submit(&mut publishes, &found, &changes).await
        };
        let durability = tokio::select! {
            biased;
            () = told_to_stop(stop) => return Ok(false),
            durability = submit => durability?,
        };
        // From here to its end the commit is waited for, also by one that is to stop: its cursor must be known.
        self.desk.settled(durability).await?;
        add(&self.vitals.events, counts.events);
        add(&self.vitals.dropped, counts.dropped);
        add(&self.vitals.failed, counts.failed);
        if let Some(cursor) = found.cursor {
            let kind = self.spec.kind.name().to_owned();
            *self.vitals.cursor.lock() = Some(KeptCursor { kind, cursor: cursor.clone() });
            self.cursor = Some(cursor);
        }
        if let Some(cursor) = &self.cursor {
            let mut stop = self.stop.clone();
            let too_late = async {
                told_to_stop(&mut stop).await;
                tokio::time::sleep(STOP_GRACE).await;
            };
            tokio::select! {
                done = self.source.committed(cursor) => done?,
                () = too_late => return Ok(false),
            }
        }
        Ok(true)
    }
}

fn cursor_change(spec: &SourceSpec, cursor: &Value) -> ValueChange {
    ValueChange {
        room: ROOM,
        key: format!("{CURSOR_PREFIX}{}", spec.name).into_bytes().into(),
        value: Some(KeptCursor::encode(spec.kind.name(), cursor)),
    }
}

/// What became of the items of a look.
#[derive(Default)]
struct Counts {
    events: u64,
    dropped: u64,
    failed: u64,
}

impl Counts {
    fn route(
        &mut self,
        spec: &SourceSpec,
        desk: &mut Desk,
        shaped: Vec<Shaped>,
        now_ms: u64,
    ) -> Result<Vec<Publish>, SourceError> {
        let mut publishes = Vec::with_capacity(shaped.len());
        for shaped in shaped {
            let (ready, failed) = match shaped {
                Shaped::Dropped => {
                    self.dropped += 1;
                    continue;
                }
                Shaped::Event(ready) => (ready, false),
                Shaped::Failed(ready) => (ready, true),
            };
            let error = match route_one(spec, desk, &ready, now_ms) {
                Ok(publish) => {
                    publishes.push(publish);
                    if failed {
                        self.failed += 1
                    } else {
                        self.events += 1
                    }
                    continue;
                }
                Err(error) => error,
            };
            let reason = error.to_string();
            match error {
                PublishError::ExchangeMissing { .. } | PublishError::InternalExchange { .. } => {
                    return Err(SourceError::new(format!("{}: {reason}", spec.place)));
                }
                // Too large, or with properties that the broker refuses: it would be so again.
                _ => self.failed += 1,
            }
            if let Some(told) = shape::refused(spec, &ready, &reason, now_ms) {
                publishes.extend(route_one(spec, desk, &told, now_ms).ok());
            }
        }
        Ok(publishes)
    }
}

fn route_one(
    spec: &SourceSpec,
    desk: &mut Desk,
    ready: &Ready,
    now_ms: u64,
) -> Result<Publish, PublishError> {
    let raw = RawProperties::from_checked(&ready.properties);
    let (exchange, key) = (spec.exchange.as_str().as_bytes(), ready.event_type.as_bytes());
    let route = desk.session.route(exchange, key, &raw, ready.body.len() as u64)?;
    let message = Message::published_at(now_ms, exchange, key, &ready.properties, true, &ready.body);
    Ok((message, route))
}
