//! A vhost's schedules, and the messages of their moments.

use super::{SCHEDULES_MAX, ScheduleInfo, ScheduleSpec, due};
use crate::Saved;
use crate::admin::ScheduleError;
use crate::core::Core;
use crate::definition::{ScheduleState, encode_schedule, schedule_key, schedule_state_key};
use crate::queue::Work;
use crate::routing::Resolution;
use crate::timer::OnTimer;
use crate::vhost::Vhost;
use millpond_calendar::Calendar;
use millpond_model::Message;
use millpond_model::properties::RawProperties;
use millpond_store::Batch;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// Moments of one schedule in one batch.
const FIRED_AT_ONCE: usize = 64;

/// When a store that takes no writes is tried again.
const RETRY_MS: u64 = 1000;

/// The schedules of a vhost. Its lock comes before the topology's and is held while they are carried out, so that one
/// that is paused or removed does nothing afterwards.
#[derive(Debug)]
pub(crate) struct Schedules(Mutex<State>);

#[derive(Debug)]
struct State {
    entries: BTreeMap<Box<str>, Entry>,
    /// When the timer is to ring, the earliest that was asked for.
    armed_ms: u64,
    deleted: bool,
}

#[derive(Debug)]
struct Entry {
    spec: ScheduleSpec,
    calendar: Calendar,
    state: ScheduleState,
    /// The moment that is waited for.
    next_ms: Option<u64>,
    /// The store took no writes when a moment came.
    held_up: bool,
    fired: u64,
    unrouted: u64,
}

impl Default for Schedules {
    fn default() -> Self {
        let state = State { entries: BTreeMap::new(), armed_ms: u64::MAX, deleted: false };
        Self(Mutex::new(state))
    }
}

impl Entry {
    fn new(spec: ScheduleSpec, calendar: Calendar, state: ScheduleState) -> Self {
        let mut this = Self { spec, calendar, state, next_ms: None, held_up: false, fired: 0, unrouted: 0 };
        this.look_ahead();
        this
    }

    fn look_ahead(&mut self) {
        self.next_ms = if self.state.paused { None } else { self.calendar.next_after(self.state.mark_ms) };
    }

    fn save(&self, vhost: &Vhost, batch: &mut Batch) {
        batch.put(&schedule_state_key(&vhost.name, &self.spec.name), &self.state.encode());
    }
}

impl Schedules {
    /// Puts one there that was found at the start.
    pub(crate) fn restore(&self, spec: ScheduleSpec, calendar: Calendar, state: ScheduleState) {
        self.0.lock().entries.insert(spec.name.clone(), Entry::new(spec, calendar, state));
    }

    /// Begins: makes up for what was missed.
    pub(crate) fn start(&self, vhost: &Arc<Vhost>, core: &Core) {
        self.run(vhost, core, true);
    }

    /// Adds a schedule or changes the one of its name. `false`: it was so already.
    pub(crate) fn set(
        &self,
        vhost: &Arc<Vhost>,
        core: &Core,
        spec: ScheduleSpec,
        calendar: Calendar,
    ) -> Result<(bool, Saved), ScheduleError> {
        let mut state = self.0.lock();
        if state.deleted {
            return Err(crate::VhostMissing { vhost: vhost.name.clone() }.into());
        }
        let fresh = ScheduleState { mark_ms: core.options.clock.now_ms(), last_ms: None, paused: false };
        let kept = match state.entries.get(&spec.name) {
            Some(known) if known.spec == spec => return Ok((false, Saved::already())),
            Some(known) if (&known.spec.cron, &known.spec.zone) == (&spec.cron, &spec.zone) => {
                known.state.clone()
            }
            // Other moments count from now on.
            Some(known) => ScheduleState { mark_ms: fresh.mark_ms, ..known.state.clone() },
            None if state.entries.len() >= SCHEDULES_MAX => {
                return Err(ScheduleError::TooMany { vhost: vhost.name.clone(), limit: SCHEDULES_MAX });
            }
            None => fresh,
        };
        tracing::info!(vhost = %vhost.name, schedule = %spec.name, cron = %spec.cron, zone = %spec.zone, "schedule set");
        let mut batch = core.store.begin();
        batch.put(&schedule_key(&vhost.name, &spec.name), &encode_schedule(&spec));
        let entry = Entry::new(spec, calendar, kept);
        entry.save(vhost, &mut batch);
        let saved = core.save(batch);
        state.entries.insert(entry.spec.name.clone(), entry);
        state.arm(vhost, core);
        Ok((true, saved))
    }

    /// Takes a schedule away.
    pub(crate) fn remove(&self, vhost: &Vhost, core: &Core, name: &str) -> Result<Saved, ScheduleError> {
        let mut state = self.0.lock();
        if state.entries.remove(name).is_none() {
            return Err(missing(vhost, name));
        }
        tracing::info!(vhost = %vhost.name, schedule = name, "schedule removed");
        let mut batch = core.store.begin();
        forget(vhost, name, &mut batch);
        Ok(core.save(batch))
    }

    /// Pauses or resumes. What is due meanwhile is left out: it was asked for.
    pub(crate) fn set_paused(
        &self,
        vhost: &Arc<Vhost>,
        core: &Core,
        name: &str,
        paused: bool,
    ) -> Result<Saved, ScheduleError> {
        let mut state = self.0.lock();
        let entry = state.entries.get_mut(name).ok_or_else(|| missing(vhost, name))?;
        if entry.state.paused == paused {
            return Ok(Saved::already());
        }
        entry.state.paused = paused;
        entry.state.mark_ms = entry.state.mark_ms.max(core.options.clock.now_ms());
        entry.look_ahead();
        let mut batch = core.store.begin();
        entry.save(vhost, &mut batch);
        let saved = core.save(batch);
        state.arm(vhost, core);
        Ok(saved)
    }

    /// Publishes a schedule's message now, beside those of its moments; whether anything takes it.
    pub(crate) fn run_now(
        &self,
        vhost: &Arc<Vhost>,
        core: &Core,
        name: &str,
    ) -> Result<(bool, Saved), ScheduleError> {
        let mut state = self.0.lock();
        let entry = state.entries.get_mut(name).ok_or_else(|| missing(vhost, name))?;
        let now_ms = core.options.clock.now_ms();
        let (routed, batch) = core.with_batch(|work| entry.publish(vhost, now_ms, now_ms, work));
        entry.fired += 1;
        entry.unrouted += u64::from(!routed);
        tracing::info!(vhost = %vhost.name, schedule = name, routed, "schedule published by hand");
        Ok((routed, core.save(batch)))
    }

    /// All of them, by name.
    pub(crate) fn list(&self, vhost: &Vhost) -> Vec<ScheduleInfo> {
        let state = self.0.lock();
        let describe = |entry: &Entry| ScheduleInfo {
            spec: entry.spec.clone(),
            vhost: vhost.name.clone(),
            paused: entry.state.paused,
            last_ms: entry.state.last_ms,
            next_ms: entry.next_ms,
            fired: entry.fired,
            unrouted: entry.unrouted,
            calendar: entry.calendar.clone(),
        };
        state.entries.values().map(describe).collect()
    }

    /// The vhost goes.
    pub(crate) fn forget_all(&self, vhost: &Vhost, batch: &mut Batch) {
        let mut state = self.0.lock();
        state.deleted = true;
        for name in std::mem::take(&mut state.entries).into_keys() {
            forget(vhost, &name, batch);
        }
    }

    /// Publishes what is due, and asks to be called again for the rest.
    fn run(&self, vhost: &Arc<Vhost>, core: &Core, starting: bool) {
        let mut state = self.0.lock();
        if !starting {
            state.armed_ms = u64::MAX;
        }
        let now_ms = core.options.clock.now_ms();
        for entry in state.entries.values_mut() {
            if entry.next_ms.is_none_or(|next_ms| next_ms > now_ms) {
                continue;
            }
            if core.check_writable().is_err() {
                // Nothing is done, so nothing is lost: once it takes writes again, this counts as missed.
                entry.next_ms = Some(now_ms + RETRY_MS);
                entry.held_up = true;
                continue;
            }
            let late = std::mem::take(&mut entry.held_up) || starting;
            let moments = due(&entry.calendar, entry.spec.missed, entry.state.mark_ms, now_ms, late);
            for some in moments.chunks(FIRED_AT_ONCE) {
                core.work(|work| entry.fire(vhost, some, now_ms, work));
            }
            // What was skipped is done as well.
            entry.state.mark_ms = entry.state.mark_ms.max(now_ms);
            entry.look_ahead();
        }
        state.arm(vhost, core);
    }
}

impl State {
    /// Has the timer ring at the next moment.
    fn arm(&mut self, vhost: &Arc<Vhost>, core: &Core) {
        let next_ms = self.entries.values().filter_map(|entry| entry.next_ms).min();
        if let Some(next_ms) = next_ms.filter(|next_ms| *next_ms < self.armed_ms) {
            self.armed_ms = next_ms;
            let weak: Weak<Vhost> = Arc::downgrade(vhost);
            core.timer.arm(next_ms, weak);
        }
    }
}

impl Entry {
    /// The messages of these moments and the mark behind them, in one batch.
    fn fire(&mut self, vhost: &Arc<Vhost>, moments: &[u64], now_ms: u64, work: &mut Work<'_>) {
        for due_ms in moments {
            if !self.publish(vhost, *due_ms, now_ms, work) {
                self.unrouted += 1;
                tracing::warn!(
                    vhost = %vhost.name, schedule = %self.spec.name, exchange = %self.spec.exchange,
                    "no queue takes a schedule's message: it is dropped"
                );
            }
            self.fired += 1;
            self.state.mark_ms = *due_ms;
            self.state.last_ms = Some(*due_ms);
        }
        self.save(vhost, work.batch);
    }

    /// Publishes the message of a moment as a client would; whether anything takes it.
    fn publish(&self, vhost: &Arc<Vhost>, due_ms: u64, now_ms: u64, work: &mut Work<'_>) -> bool {
        let Ok(encoded) = self.spec.properties_of(due_ms) else { return false };
        let properties = RawProperties::from_checked(&encoded);
        let (exchange, key) = (self.spec.exchange.as_str().as_bytes(), &self.spec.routing_key);
        let mut found = Resolution::default();
        let mut delays = Vec::new();
        let kept = properties.without_header("BCC");
        let kept = kept.as_deref().unwrap_or(&encoded);
        let of = |properties: &[u8]| {
            let persistent = RawProperties::from_checked(properties).is_persistent();
            Message::published_at(now_ms, exchange, key, properties, persistent, &self.spec.body)
        };
        let message = of(kept);
        {
            let router = vhost.read();
            if router.route_inside(exchange, key, &properties, &mut found).is_err() {
                return false;
            }
            for name in &found.histories {
                if let Some(history) = vhost.history(&router, name) {
                    history.remember(&message);
                }
            }
            for (name, delay_ms) in &found.delays {
                let cell = vhost.delay_cell(&router, work.core, name);
                delays.extend(cell.map(|cell| (cell, *delay_ms)));
            }
        }
        for (cell, delay_ms) in &delays {
            // Its copies are made when it is released.
            cell.hold(of(&encoded), *delay_ms, work);
        }
        for queue in &found.queues {
            queue.0.publish(&mut std::iter::once(message.clone()), work);
        }
        !found.queues.is_empty() || !delays.is_empty()
    }
}

fn missing(vhost: &Vhost, name: &str) -> ScheduleError {
    ScheduleError::Missing { vhost: vhost.name.clone(), schedule: name.to_owned() }
}

fn forget(vhost: &Vhost, name: &str, batch: &mut Batch) {
    batch.delete(&schedule_key(&vhost.name, name));
    batch.delete(&schedule_state_key(&vhost.name, name));
}

impl OnTimer for Vhost {
    fn on_timer(self: Arc<Self>, core: &Arc<Core>) {
        self.schedules.run(&self, core, false);
    }
}
