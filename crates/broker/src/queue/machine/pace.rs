//! A steady pace: so many messages a second, spread evenly, for a consumer (sliding window) or a queue (peak
//! shaving).
//!
//! A schedule, not a bucket: each message has its moment, one interval after the one before. Whoever comes late finds
//! the moments missed since, but no more than `SLACK_PART` of the window; older ones are lost. So in any window there
//! are at most rate x window messages and that part more (and one, for a window that begins and ends on a moment),
//! whatever the past was, and a timer that rings late costs nothing while it is late by less than that part.

/// Which part of a window may be made up for: one in so many.
const SLACK_PART: u64 = 50;

const NS_PER_MS: u64 = 1_000_000;

/// Messages per second and the window over which they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Messages in 1000 seconds: a rate may be a fraction, and must be comparable.
    per_1000_s: u64,
    window_ms: u32,
}

impl Rate {
    /// Lowest messages per second.
    pub(crate) const PER_S_MIN: f64 = 0.001;
    /// Highest messages per second.
    pub(crate) const PER_S_MAX: f64 = 1_000_000.0;
    /// Shortest and longest window.
    pub(crate) const WINDOW_MS: std::ops::RangeInclusive<u32> = 10..=3_600_000;
    /// Where none is given.
    pub(crate) const WINDOW_MS_DEFAULT: u32 = 1000;

    /// `None` outside the bounds above.
    pub(crate) fn new(per_s: f64, window_ms: u32) -> Option<Self> {
        let within = (Self::PER_S_MIN..=Self::PER_S_MAX).contains(&per_s);
        (within && Self::WINDOW_MS.contains(&window_ms))
            .then(|| Self { per_1000_s: (per_s * 1000.0).round() as u64, window_ms })
    }

    /// Messages per second.
    pub(crate) fn per_s(self) -> f64 {
        self.per_1000_s as f64 / 1000.0
    }

    /// Over how long it is counted.
    pub(crate) fn window_ms(self) -> u32 {
        self.window_ms
    }

    fn interval_ns(self) -> u64 {
        1_000_000_000_000 / self.per_1000_s.max(1)
    }

    fn slack_ns(self) -> u64 {
        u64::from(self.window_ms) * NS_PER_MS / SLACK_PART
    }
}

/// What was promised and what was kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PaceFigures {
    pub(crate) rate: Rate,
    /// Messages per second in the last whole window; `None` before one has ended.
    pub(crate) delivered_per_s: Option<f64>,
}

/// A rate that is being kept.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Rate,
    /// The moment of the next message; the past: somebody is late, or has been idle.
    next_ns: u64,
    window_began_ms: u64,
    in_window: u64,
    in_last_window: Option<u64>,
}

impl Pace {
    pub(super) fn new(rate: Rate, now_ms: u64) -> Self {
        let next_ns = now_ms * NS_PER_MS;
        Self { rate, next_ns, window_began_ms: now_ms, in_window: 0, in_last_window: None }
    }

    /// From now on this rate. The next message comes no later than the new interval asks.
    pub(super) fn change(&mut self, rate: Rate, now_ms: u64) {
        let latest_ns = now_ms * NS_PER_MS + rate.interval_ns();
        *self = Self { next_ns: self.next_ns.min(latest_ns), ..Self::new(rate, now_ms) };
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// How many may go now.
    #[inline]
    pub(super) fn allowance(&self, now_ms: u64) -> u64 {
        let now_ns = now_ms * NS_PER_MS;
        match now_ns.checked_sub(self.earliest_ns(now_ns)) {
            Some(late_ns) => late_ns / self.rate.interval_ns() + 1,
            None => 0,
        }
    }

    /// The schedule's next moment, moments too old to be made up for left out.
    fn earliest_ns(&self, now_ns: u64) -> u64 {
        self.next_ns.max(now_ns.saturating_sub(self.rate.slack_ns()))
    }

    /// `n` went.
    #[inline]
    pub(super) fn take(&mut self, n: u64, now_ms: u64) {
        self.next_ns = self.earliest_ns(now_ms * NS_PER_MS).saturating_add(self.rate.interval_ns() * n);
        self.roll(now_ms);
        self.in_window += n;
    }

    /// `n` that were just taken did not go.
    pub(super) fn untake(&mut self, n: u64) {
        self.next_ns = self.next_ns.saturating_sub(self.rate.interval_ns() * n);
        self.in_window = self.in_window.saturating_sub(n);
    }

    /// When the next may go.
    pub(super) fn next_ms(&self) -> u64 {
        self.next_ns.div_ceil(NS_PER_MS)
    }

    pub(super) fn figures(&mut self, now_ms: u64) -> PaceFigures {
        self.roll(now_ms);
        let per_s = |n: u64| n as f64 * 1000.0 / f64::from(self.rate.window_ms);
        PaceFigures { rate: self.rate, delivered_per_s: self.in_last_window.map(per_s) }
    }

    fn roll(&mut self, now_ms: u64) {
        let window_ms = u64::from(self.rate.window_ms);
        let passed = now_ms.saturating_sub(self.window_began_ms) / window_ms;
        if passed != 0 {
            self.in_last_window = Some(if passed == 1 { self.in_window } else { 0 });
            self.window_began_ms += passed * window_ms;
            self.in_window = 0;
        }
    }
}
