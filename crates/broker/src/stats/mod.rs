//! Statistics: what is counted, the sampler that notes it every few seconds, and the sums.
//!
//! Nothing is counted by message: whoever works on a batch adds its counts once, to the [`Meter`] of the queue, the
//! exchange, the channel, under a lock that is held anyway or in a value of its own. The first count after a quiet time
//! puts the meter on a list; the sampler looks only at that list, so it costs what moves and not what there is. From
//! there the sums of vhosts and node grow by differences. A meter that has been still for as long as its ring goes
//! back is taken off the list and its ring given back.

mod count;
mod figures;
mod meter;
mod ring;
#[cfg(test)]
mod tests;

use crate::core::Core;
use crate::queue::QueueCell;
use crate::timer::OnTimer;
pub use count::{Count, Kind};
use figures::Row;
pub use figures::{Figures, Window};
use hashbrown::HashMap;
pub use meter::Meter;
use meter::{Collected, ROWS};
use millpond_model::VhostName;
use parking_lot::Mutex;
use ring::Ring;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};

/// How the node's totals are kept: rows, and intervals between them. Of the default interval of 5 s: ten minutes, an
/// hour by the minute, a day by half hours.
const NODE_RINGS: [(usize, u64); 3] = [(121, 1), (61, 12), (49, 360)];

/// See the module.
#[derive(Debug)]
pub(crate) struct Stats {
    interval_ms: u64,
    core: Weak<Core>,
    this: Weak<Self>,
    /// Meters that move and are not on the list.
    newcomers: Mutex<Vec<Arc<Meter>>>,
    /// The timer will call.
    armed: AtomicBool,
    list: Mutex<List>,
    /// What comes and goes.
    pub(crate) churn: Arc<Meter>,
}

#[derive(Debug)]
struct List {
    moving: Vec<Moving>,
    node: Totals,
    vhosts: HashMap<VhostName, Totals>,
}

#[derive(Debug)]
struct Moving {
    meter: Arc<Meter>,
    /// Rows since it moved last.
    still: usize,
}

/// The sums of a vhost, or of the node.
#[derive(Debug)]
struct Totals {
    counts: Row,
    /// As they were when the sampler noted them last.
    sampled: Row,
    /// The finest first, each with how far apart its rows are, in milliseconds.
    rings: Vec<(u64, Ring)>,
}

impl Totals {
    fn new(rings: Vec<(u64, Ring)>) -> Self {
        let zeros: Row = Kind::Totals.counts().iter().map(|_| 0).collect();
        Self { sampled: zeros.clone(), counts: zeros, rings }
    }

    fn of_vhost(interval_ms: u64) -> Self {
        Self::new(vec![(interval_ms, Ring::new(ROWS))])
    }

    fn add(&mut self, count: Count, change: u64) {
        if let Some(at) = Kind::Totals.place(count) {
            self.counts[at] = self.counts[at].wrapping_add(change);
        }
    }

    fn sample(&mut self, at_ms: u64, interval_ms: u64) {
        for (step_ms, ring) in &mut self.rings {
            let before_ms = at_ms.saturating_sub(interval_ms);
            let last_ms = ring.last_ms();
            if *step_ms == interval_ms && last_ms.is_none_or(|last_ms| last_ms < before_ms) {
                // Nothing was noted because nothing moved.
                ring.push(before_ms, &self.sampled);
            }
            if last_ms.is_none_or(|last_ms| last_ms / *step_ms < at_ms / *step_ms) {
                ring.push(at_ms, &self.counts);
            }
        }
        self.sampled.copy_from_slice(&self.counts);
    }

    fn figures(&self, window: Option<Window>, now_ms: u64, interval_ms: u64) -> Figures {
        // The finest that goes back as far as is asked.
        let reaches = |ring: &&(u64, Ring)| {
            let age_ms = window.map_or(0, |window| window.age_ms);
            ring.1.rows_max() as u64 * ring.0 > age_ms
        };
        let found = self.rings.iter().find(reaches).or(self.rings.last());
        let mut rows = found.map(|(_, ring)| ring.rows()).unwrap_or_default();
        if let (Some((_, finest)), Some((_, ring))) = (self.rings.first(), found)
            && !std::ptr::eq(finest, ring)
        {
            // Rates are of the last interval whatever the window.
            let from = rows.last().map_or(0, |(at_ms, _)| *at_ms);
            rows.extend(finest.rows().into_iter().filter(|(at_ms, _)| *at_ms > from));
        }
        Figures::new(Kind::Totals, self.counts.clone(), rows, now_ms, interval_ms)
    }
}

impl Stats {
    pub(crate) fn new(interval_ms: u64, core: Weak<Core>) -> Arc<Self> {
        let interval_ms = interval_ms.max(1);
        let rings = NODE_RINGS.map(|(rows, intervals)| (interval_ms * intervals, Ring::new(rows)));
        let node = Totals::new(rings.into());
        let list = List { moving: Vec::new(), node, vhosts: HashMap::new() };
        Arc::new_cyclic(|this: &Weak<Self>| Self {
            interval_ms,
            core,
            this: this.clone(),
            newcomers: Mutex::default(),
            armed: AtomicBool::new(false),
            list: Mutex::new(list),
            churn: Arc::new(Meter::new(Kind::Churn, None, this.clone())),
        })
    }

    /// A meter for something in a vhost.
    pub(crate) fn meter(&self, kind: Kind, vhost: &VhostName) -> Arc<Meter> {
        Arc::new(Meter::new(kind, Some(vhost.clone()), self.this.clone()))
    }

    /// A meter for a queue, of whose messages [`Self::adopt`] has told.
    pub(crate) fn queue_meter(
        &self,
        vhost: Option<VhostName>,
        queue: Weak<QueueCell>,
        ready: u64,
    ) -> Arc<Meter> {
        Arc::new(Meter::new(Kind::Queue, vhost, self.this.clone()).of_queue(queue, ready))
    }

    /// Messages were found in the store.
    pub(crate) fn adopt(&self, vhost: &VhostName, ready: u64) {
        let mut list = self.list.lock();
        list.node.add(Count::Ready, ready);
        list.vhost(vhost, self.interval_ms).add(Count::Ready, ready);
    }

    /// A vhost is no more.
    pub(crate) fn forget(&self, vhost: &VhostName) {
        self.collect();
        self.list.lock().vhosts.remove(vhost);
    }

    /// To be put on the list. Called with a queue's lock, so it takes none that is held over queues.
    fn is_moving(&self, meter: Arc<Meter>) {
        self.newcomers.lock().push(meter);
        if !self.armed.swap(true, Relaxed)
            && let Some(core) = self.core.upgrade()
        {
            self.arm(&core);
        }
    }

    fn arm(&self, core: &Core) {
        let now_ms = core.options.clock.now_ms();
        let whom: Weak<Self> = self.this.clone();
        core.timer.arm(now_ms - now_ms % self.interval_ms + self.interval_ms, whom);
    }

    fn now_ms(&self) -> u64 {
        self.core.upgrade().map_or(0, |core| core.options.clock.now_ms())
    }

    // ---- questions

    /// How a meter stands.
    pub(crate) fn figures(&self, meter: &Meter) -> Figures {
        meter.figures(self.now_ms(), self.interval_ms)
    }

    /// How fast a count moves.
    pub(crate) fn rate(&self, meter: &Meter, count: Count) -> f64 {
        meter.rate(count, self.now_ms(), self.interval_ms)
    }

    /// The sums of a vhost, or of the node.
    pub(crate) fn totals(&self, vhost: Option<&VhostName>, window: Option<Window>) -> Figures {
        let now_ms = self.now_ms();
        let mut list = self.list.lock();
        self.collect_into(&mut list, now_ms);
        match vhost {
            None => list.node.figures(window, now_ms, self.interval_ms),
            Some(vhost) => list.vhost(vhost, self.interval_ms).figures(window, now_ms, self.interval_ms),
        }
    }

    // ---- the sampler

    /// Brings the sums up to date.
    pub(crate) fn collect(&self) {
        let now_ms = self.now_ms();
        self.collect_into(&mut self.list.lock(), now_ms);
    }

    fn collect_into(&self, list: &mut List, now_ms: u64) {
        let floor_ms = now_ms - now_ms % self.interval_ms;
        self.take_in(list, floor_ms);
        self.sum_up(list);
    }

    /// `from_ms`: when none of the newcomers had moved.
    fn take_in(&self, list: &mut List, from_ms: u64) {
        let newcomers = std::mem::take(&mut *self.newcomers.lock());
        for meter in newcomers {
            meter.begin(from_ms);
            list.moving.push(Moving { meter, still: 0 });
        }
    }

    fn sum_up(&self, list: &mut List) {
        let List { moving, node, vhosts } = list;
        moving.retain_mut(|it| {
            let mut of_vhost = it.meter.vhost().map(|name| {
                if !vhosts.contains_key(name) {
                    vhosts.insert(name.clone(), Totals::of_vhost(self.interval_ms));
                }
                vhosts.get_mut(name)
            });
            let found = it.meter.collect(|count, change| {
                node.add(count, change);
                if let Some(Some(totals)) = &mut of_vhost {
                    totals.add(count, change);
                }
            });
            if found == Collected::Moved {
                it.still = 0;
            }
            !it.meter.is_gone()
        });
    }

    /// Notes how everything stands that moves.
    fn tick(&self, now_ms: u64) -> bool {
        let at_ms = now_ms - now_ms % self.interval_ms;
        let mut list = self.list.lock();
        self.take_in(&mut list, at_ms.saturating_sub(self.interval_ms));
        self.sum_up(&mut list);
        let List { moving, node, vhosts } = &mut *list;
        moving.retain_mut(|it| {
            it.meter.sample(at_ms);
            it.still += 1;
            if it.still > ROWS {
                it.meter.rest();
            }
            it.still <= ROWS
        });
        node.sample(at_ms, self.interval_ms);
        vhosts.values_mut().for_each(|totals| totals.sample(at_ms, self.interval_ms));
        !moving.is_empty()
    }
}

impl List {
    fn vhost(&mut self, name: &VhostName, interval_ms: u64) -> &mut Totals {
        self.vhosts.entry(name.clone()).or_insert_with(|| Totals::of_vhost(interval_ms))
    }
}

impl OnTimer for Stats {
    fn on_timer(self: Arc<Self>, core: &Arc<Core>) {
        self.armed.store(false, Relaxed);
        let goes_on = self.tick(core.options.clock.now_ms());
        if goes_on && !self.armed.swap(true, Relaxed) {
            self.arm(core);
        }
    }
}
