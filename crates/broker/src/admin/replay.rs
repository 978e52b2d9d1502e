//! What a queue remembers, read to be replayed.

use super::browse::Browsed;
use crate::queue::QueueCell;
use crate::queue::retained::REPLAYED_FROM;
use millpond_model::Message;
use millpond_model::properties::RawProperties;
use millpond_model::table::{TableBuf, Value};
use millpond_store::QueueLog;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Headers that tell when a replayed message was acked and when it was replayed: milliseconds since 1970.
const ACKED_AT: &str = "x-acked-at";
const REPLAYED_AT: &str = "x-replayed-at";

/// Most bytes read in one piece.
const READ_MAX_BYTES: usize = 1 << 20;

/// Of which time acks are meant: milliseconds since 1970, both included; `None`: no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplayPeriod {
    /// Acked then or later.
    pub from_ms: Option<u64>,
    /// Acked then or before.
    pub until_ms: Option<u64>,
}

/// A read of what a queue remembered when it began, in the order of the acks.
#[derive(Debug)]
pub(super) struct Replay {
    cell: Arc<QueueCell>,
    log: Option<QueueLog>,
    period: ReplayPeriod,
    at: u64,
    /// What is remembered later is left alone: a replay into the queue itself would not end.
    end: u64,
}

impl Replay {
    pub(super) fn new(cell: Arc<QueueCell>, log: Option<QueueLog>, period: ReplayPeriod) -> Self {
        let (first, end) = log.as_ref().map_or((0, 0), QueueLog::bounds);
        let found = period.from_ms.and_then(|from_ms| Some(log.as_ref()?.find_time(from_ms)));
        Self { cell, log, period, at: found.unwrap_or(first), end }
    }

    /// Adds the next messages to `out`, about `count_max`; `false`: that was the last of them.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        count_max: usize,
        out: &mut Vec<Browsed>,
    ) -> Poll<bool> {
        let Some(log) = self.log.as_ref().filter(|_| self.at < self.end) else { return Poll::Ready(false) };
        // The wake-up is asked for first, so that a load that ends meanwhile is not missed.
        self.cell.wait(cx.waker());
        let mut seen = Vec::new();
        let read = log.read(self.at, count_max, READ_MAX_BYTES, &mut seen);
        if read.loading && seen.is_empty() {
            self.at = read.next;
            return Poll::Pending;
        }
        self.at = read.next;
        for (place, message) in seen.into_iter().filter(|(place, _)| *place < self.end) {
            let acked_ms = message.published_ms().unwrap_or(0);
            if self.period.until_ms.is_some_and(|until_ms| acked_ms > until_ms) {
                // Those behind it were acked later still.
                self.at = self.end;
                break;
            }
            if self.period.from_ms.is_none_or(|from_ms| acked_ms >= from_ms) {
                out.push(Browsed { place, message, handed: 0, holder: None });
            }
        }
        Poll::Ready(self.at < self.end)
    }
}

/// A look through what a queue remembers, or a stream holds; holds nothing and changes nothing.
#[derive(Debug)]
pub struct Remembered(pub(super) Replay);

impl Remembered {
    /// Adds the next messages to `out`, about `count_max`; `false`: that was the last of them.
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        count_max: usize,
        out: &mut Vec<Browsed>,
    ) -> Poll<bool> {
        self.0.poll_next(cx, count_max, out)
    }
}

/// A message as it is replayed: published now, and saying where it was remembered.
pub(super) fn replayed(message: &Message, from: &str, now_ms: u64) -> Message {
    let properties = RawProperties::from_checked(message.properties());
    let mut headers = TableBuf::without(properties.headers().unwrap_or_default(), REPLAYED_FROM);
    for name in [ACKED_AT, REPLAYED_AT] {
        headers = TableBuf::without(headers.as_raw(), name);
    }
    let acked_ms = message.published_ms().unwrap_or(0);
    // Names are short and these values have an encoding.
    let _ = headers.push_value(REPLAYED_FROM, &Value::from(from));
    let _ = headers.push_value(ACKED_AT, &Value::I64(acked_ms as i64));
    let _ = headers.push_value(REPLAYED_AT, &Value::I64(now_ms as i64));
    let encoded = properties.with_headers(Some(headers.as_raw()));
    let (exchange, routing_key) = (message.exchange(), message.routing_key());
    Message::published_at(now_ms, exchange, routing_key, &encoded, properties.is_persistent(), message.body())
}
