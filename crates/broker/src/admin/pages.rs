//! Pages of queues: of very many, those that are not on the page cost no more than a look at what they are sorted by.

use super::queues::describe;
use super::{QueueInfo, VhostMissing};
use crate::Broker;
use crate::queue::QueueCell;
use crate::queue::settings::is_paused;
use crate::stats::{Count, Meter};
use millpond_model::VhostName;
use millpond_model::table::Value;
use std::ops::Range;
use std::sync::Arc;

/// What queues are sorted by; those that are equal in it by vhost and name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueOrderBy<'a> {
    /// Vhost and name.
    Vhost,
    /// Name.
    Name,
    /// `classic`, `quorum`, `stream`.
    Type,
    /// Paused ones first.
    State,
    /// Durable ones last.
    Durable,
    /// Those of single connections last.
    Exclusive,
    /// Those that go with their last consumer last.
    AutoDelete,
    /// The name of the policy in force.
    Policy,
    /// The name of the operator policy in force.
    OperatorPolicy,
    /// An argument that it was declared with.
    Argument(&'a str),
    /// All messages.
    Messages,
    /// Messages to be delivered.
    Ready,
    /// Messages delivered and not settled.
    Unacked,
    /// Messages that wait out a delay.
    Waiting,
    /// Consumers.
    Consumers,
    /// What these have come to since the broker began, together.
    Counts(&'static [Count]),
    /// How fast these move, together.
    Rates(&'static [Count]),
}

/// What a queue is sorted by: what is missing comes first, then truth values, numbers, texts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Missing,
    Bool(bool),
    Number(u64),
    Text(Box<str>),
    Other,
}

impl Key {
    fn text(text: Option<&str>) -> Self {
        text.map_or(Self::Missing, |text| Self::Text(text.into()))
    }

    fn value(value: Option<&Value>) -> Self {
        let Some(value) = value else { return Self::Missing };
        match (value.as_i64(), value) {
            (Some(number), _) => Self::Number(ordered(number as f64)),
            (_, Value::F64(number)) => Self::Number(ordered(*number)),
            (_, Value::Bool(it)) => Self::Bool(*it),
            (_, Value::Void) => Self::Missing,
            (_, Value::LongStr(text)) => Self::Text(String::from_utf8_lossy(text).into()),
            _ => Self::Other,
        }
    }
}

impl QueueOrderBy<'_> {
    /// `None`: nothing but vhost and name.
    fn key(self, cell: &QueueCell) -> Key {
        let spec = cell.spec();
        let [ready, unacked, waiting, consumers] = match self {
            Self::Messages | Self::Ready | Self::Unacked | Self::Waiting | Self::Consumers => cell.levels(),
            _ => [0; 4],
        };
        let rate = |meter: &Arc<Meter>, counts: &[Count]| {
            let stats = meter.stats();
            stats.map_or(0.0, |stats| counts.iter().map(|count| stats.rate(meter, *count)).sum())
        };
        Key::Number(match self {
            Self::Vhost | Self::Name => return Key::Missing,
            // In the order of the alphabet, which is that of the words.
            Self::Type => {
                return Key::text(
                    spec.arguments.get("x-queue-type").and_then(Value::as_str).or(Some("classic")),
                );
            }
            Self::State => return Key::Bool(!is_paused(&cell.effective().arguments)),
            Self::Durable => return Key::Bool(spec.durable),
            Self::Exclusive => return Key::Bool(spec.exclusive.is_some()),
            Self::AutoDelete => return Key::Bool(spec.auto_delete),
            Self::Policy => return Key::text(cell.effective().policy.as_deref()),
            Self::OperatorPolicy => return Key::text(cell.effective().operator_policy.as_deref()),
            Self::Argument(name) => return Key::value(spec.arguments.get(name)),
            Self::Messages => ready + unacked + waiting,
            Self::Ready => ready,
            Self::Unacked => unacked,
            Self::Waiting => waiting,
            Self::Consumers => consumers,
            Self::Counts(counts) => {
                cell.counted().map_or(0, |meter| counts.iter().map(|count| meter.get(*count)).sum())
            }
            Self::Rates(counts) => ordered(cell.counted().map_or(0.0, |meter| rate(meter, counts))),
        })
    }
}

/// Numbers in the order of these; they may be negative.
fn ordered(number: f64) -> u64 {
    let bits = number.to_bits();
    if number.is_sign_negative() { !bits } else { bits | 1 << 63 }
}

/// An order of queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueOrder<'a> {
    /// By what.
    pub by: QueueOrderBy<'a>,
    /// The other way round.
    pub reverse: bool,
}

/// A page of queues.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuePage {
    /// All queues.
    pub total: usize,
    /// Those whose names fit.
    pub fitting: usize,
    /// Those asked for, each with its vhost.
    pub queues: Vec<(VhostName, QueueInfo)>,
}

/// A queue and the place of its vhost.
type Placed = (usize, Arc<QueueCell>);

impl Broker {
    /// Those queues of these vhosts whose names `fits` says yes to (`None`: all), in this order, of which `range` is
    /// described. A range behind the end is empty.
    pub fn page_queues(
        &self,
        vhosts: &[VhostName],
        fits: Option<&dyn Fn(&str) -> bool>,
        order: QueueOrder<'_>,
        range: Range<usize>,
    ) -> Result<QueuePage, VhostMissing> {
        let is_cut = fits.is_none()
            && (order.by == QueueOrderBy::Vhost || order.by == QueueOrderBy::Name && vhosts.len() == 1);
        if is_cut {
            return self.cut(vhosts, order.reverse, range);
        }
        let mut found: Vec<Placed> = Vec::new();
        for (at, vhost) in vhosts.iter().enumerate() {
            let vhost = self.vhost(vhost)?;
            // Cloned before anything is looked at, so that the lock is held for as short as can be.
            found.extend(vhost.read().queues().map(|it| (at, it.0.clone())));
        }
        let total = found.len();
        if let Some(fits) = fits {
            found.retain(|(_, cell)| fits(cell.spec().name.as_str()));
        }
        let fitting = found.len();
        let range = range.start.min(fitting)..range.end.min(fitting);
        let page = sort(found, order, range);
        Ok(QueuePage { total, fitting, queues: described(vhosts, &page) })
    }

    /// A part of all queues by vhost and name, as the vhosts have them.
    fn cut(
        &self,
        vhosts: &[VhostName],
        reverse: bool,
        range: Range<usize>,
    ) -> Result<QueuePage, VhostMissing> {
        let found = vhosts.iter().map(|vhost| self.vhost(vhost)).collect::<Result<Vec<_>, _>>()?;
        let total = found.iter().map(|vhost| vhost.read().queues().len()).sum::<usize>();
        let mut range = range.start.min(total)..range.end.min(total);
        if reverse {
            range = total - range.end..total - range.start;
        }
        let (mut page, mut before): (Vec<Placed>, _) = (Vec::new(), 0);
        for (at, vhost) in found.iter().enumerate() {
            let router = vhost.read();
            let from = range.start.saturating_sub(before);
            let wanted = range.len() - page.len().min(range.len());
            page.extend(router.queues().skip(from).take(wanted).map(|it| (at, it.0.clone())));
            before += router.queues().len();
        }
        if reverse {
            page.reverse();
        }
        Ok(QueuePage { total, fitting: total, queues: described(vhosts, &page) })
    }
}

fn described(vhosts: &[VhostName], page: &[Placed]) -> Vec<(VhostName, QueueInfo)> {
    page.iter().map(|(at, cell)| (vhosts[*at].clone(), describe(cell))).collect()
}

/// That part of an order, out of queues by vhost and name.
fn sort(mut found: Vec<Placed>, order: QueueOrder<'_>, range: Range<usize>) -> Vec<Placed> {
    if range.is_empty() {
        return Vec::new();
    }
    if order.by == QueueOrderBy::Name && found.first().map(|it| it.0) != found.last().map(|it| it.0) {
        found.sort_by(|a, b| a.1.spec().name.cmp(&b.1.spec().name));
    }
    if matches!(order.by, QueueOrderBy::Vhost | QueueOrderBy::Name) {
        if order.reverse {
            found.reverse();
        }
        found.truncate(range.end);
        return found.split_off(range.start);
    }
    let mut keys: Vec<_> = found.iter().enumerate().map(|(at, (_, cell))| (order.by.key(cell), at)).collect();
    let compare = |a: &(Key, usize), b: &(Key, usize)| if order.reverse { b.cmp(a) } else { a.cmp(b) };
    if range.end < keys.len() {
        keys.select_nth_unstable_by(range.end, compare);
        keys.truncate(range.end);
    }
    if range.start > 0 {
        keys.select_nth_unstable_by(range.start, compare);
    }
    let page = &mut keys[range];
    page.sort_unstable_by(compare);
    page.iter().map(|(_, at)| found[*at].clone()).collect()
}
