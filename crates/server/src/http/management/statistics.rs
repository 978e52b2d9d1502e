//! `message_stats` and the like: what was counted, how fast it moves, and how it was, as RabbitMQ shows it.
//!
//! | Parameters, in seconds | For the samples of |
//! |---|---|
//! | `msg_rates_age`, `msg_rates_incr` | messages: publishes, deliveries |
//! | `lengths_age`, `lengths_incr` | the lengths of queues |
//! | `data_rates_age`, `data_rates_incr` | bytes of connections |

use super::listing::parameter;
use axum::http::Uri;
use millpond_broker::{Count, Figures, Window};
use serde_json::{Map, Value, json};
use std::time::UNIX_EPOCH;

/// A member: its name, and the counts that it is the sum of.
pub(super) type Member = (&'static str, &'static [Count]);

const DELIVER_GET: &[Count] = &[Count::Deliver, Count::DeliverNoAck, Count::Get, Count::GetNoAck];

/// Of queues, and of all there is.
pub(super) const DELIVERIES: &[Member] = &[
    ("ack", &[Count::Ack]),
    ("deliver", &[Count::Deliver]),
    ("deliver_get", DELIVER_GET),
    ("deliver_no_ack", &[Count::DeliverNoAck]),
    ("get", &[Count::Get]),
    ("get_empty", &[Count::GetEmpty]),
    ("get_no_ack", &[Count::GetNoAck]),
    ("publish", &[Count::Publish]),
    ("redeliver", &[Count::Redeliver]),
];

/// Of channels, and of all there is.
pub(super) const PUBLISHES: &[Member] = &[
    ("confirm", &[Count::Confirm]),
    ("drop_unroutable", &[Count::DropUnroutable]),
    ("return_unroutable", &[Count::ReturnUnroutable]),
];

/// Of queues, and of all there is; shown where there are any, for RabbitMQ has none of them here.
pub(super) const ENDS: &[Member] = &[
    ("requeue", &[Count::Requeue]),
    ("reject", &[Count::Reject]),
    ("expire", &[Count::Expired]),
    ("drop", &[Count::Dropped]),
    ("dead_letter", DEAD),
    ("dead_letter_rejected", &[Count::DeadRejected]),
    ("dead_letter_expired", &[Count::DeadExpired]),
    ("dead_letter_maxlen", &[Count::DeadMaxLength]),
    ("dead_letter_delivery_limit", &[Count::DeadDeliveryLimit]),
];

/// Dead-lettered for whatever reason.
pub(super) const DEAD: &[Count] =
    &[Count::DeadRejected, Count::DeadExpired, Count::DeadMaxLength, Count::DeadDeliveryLimit];

/// Of exchanges.
pub(super) const EXCHANGE: &[Member] =
    &[("publish_in", &[Count::PublishIn]), ("publish_out", &[Count::PublishOut])];

/// Of connections.
pub(super) const TRAFFIC: &[Member] = &[
    ("recv_oct", &[Count::RecvOct]),
    ("recv_cnt", &[Count::RecvCnt]),
    ("send_oct", &[Count::SendOct]),
    ("send_cnt", &[Count::SendCnt]),
];

/// How long queues are.
pub(super) const LENGTHS: &[Member] = &[
    ("messages", &[Count::Ready, Count::Unacked, Count::Waiting]),
    ("messages_ready", &[Count::Ready]),
    ("messages_unacknowledged", &[Count::Unacked]),
];

/// What comes and goes.
pub(super) const CHURN: &[Member] = &[
    ("channel_closed", &[Count::ChannelClosed]),
    ("channel_created", &[Count::ChannelCreated]),
    ("connection_closed", &[Count::ConnectionClosed]),
    ("connection_created", &[Count::ConnectionCreated]),
    ("queue_created", &[Count::QueueCreated]),
    ("queue_declared", &[Count::QueueDeclared]),
    ("queue_deleted", &[Count::QueueDeleted]),
];

/// Which samples a request wants.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Windows {
    pub(super) messages: Option<Window>,
    pub(super) lengths: Option<Window>,
    pub(super) data: Option<Window>,
}

impl Windows {
    /// What cannot be read is ignored, as RabbitMQ does.
    pub(super) fn read(uri: &Uri) -> Self {
        let seconds = |name: &str| parameter(uri, name)?.parse::<u64>().ok().filter(|it| *it > 0);
        let window = |of: &str| {
            let age_ms = seconds(&format!("{of}_age"))?.saturating_mul(1000);
            let step_ms = seconds(&format!("{of}_incr"))?.saturating_mul(1000);
            Some(Window { age_ms, step_ms })
        };
        Self { messages: window("msg_rates"), lengths: window("lengths"), data: window("data_rates") }
    }

    /// The one that goes back farthest.
    pub(super) fn longest(self) -> Option<Window> {
        [self.messages, self.lengths, self.data].into_iter().flatten().max_by_key(|window| window.age_ms)
    }
}

/// What a member has come to.
pub(super) fn total(figures: &Figures, counts: &[Count]) -> u64 {
    counts.iter().map(|count| figures.get(*count)).sum()
}

/// How fast a member moves.
pub(super) fn rate(figures: &Figures, counts: &[Count]) -> f64 {
    counts.iter().map(|count| figures.rate(*count)).sum()
}

fn details(figures: &Figures, counts: &[Count], window: Option<Window>) -> Value {
    let mut shown = json!({ "rate": rate(figures, counts) });
    let Some(window) = window else { return shown };
    let mut all = counts.iter().map(|count| figures.samples(*count, window));
    let mut samples = all.next().unwrap_or_default();
    for more in all {
        samples.iter_mut().zip(more).for_each(|(sum, (_, value))| sum.1 += value);
    }
    if let [newest, .., oldest] = samples.as_slice() {
        let sum: u64 = samples.iter().map(|(_, value)| value).sum();
        let change = newest.1.wrapping_sub(oldest.1) as i64;
        shown["avg"] = (sum as f64 / samples.len() as f64).into();
        shown["avg_rate"] = (change as f64 * 1000.0 / (newest.0 - oldest.0) as f64).into();
    }
    let show = |(timestamp, sample): &(u64, u64)| json!({ "sample": sample, "timestamp": timestamp });
    shown["samples"] = samples.iter().map(show).collect();
    shown
}

/// Adds `NAME` and `NAME_details` of each member.
pub(super) fn put_members(
    into: &mut Map<String, Value>,
    figures: &Figures,
    members: &[Member],
    window: Option<Window>,
) {
    for (name, counts) in members {
        into.insert((*name).to_owned(), total(figures, counts).into());
        into.insert(format!("{name}_details"), details(figures, counts, window));
    }
}

/// Adds `NAME_details` of the lengths to what shows the lengths themselves.
pub(super) fn put_lengths(into: &mut Value, figures: Option<&Figures>, window: Option<Window>) {
    for (name, counts) in LENGTHS {
        into[format!("{name}_details")] = match figures {
            Some(figures) => details(figures, counts, window),
            None => still(&into[*name], window),
        };
    }
}

/// The details of a length that has never moved. Who asks for samples gets one: clients take the newest without looking.
fn still(length: &Value, window: Option<Window>) -> Value {
    let mut shown = json!({ "rate": 0.0 });
    if window.is_some() {
        let now_ms = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64);
        shown["samples"] = json!([{ "sample": length, "timestamp": now_ms }]);
    }
    shown
}

/// `message_stats`.
pub(super) fn message_stats(figures: &Figures, members: &[&[Member]], window: Option<Window>) -> Value {
    let mut shown = Map::new();
    members.iter().for_each(|members| put_members(&mut shown, figures, members, window));
    if figures.counts().contains(&Count::Reject) {
        let any: Vec<_> = ENDS.iter().filter(|(_, counts)| total(figures, counts) > 0).copied().collect();
        put_members(&mut shown, figures, &any, window);
    }
    shown.into()
}

/// The counts behind a column that is sorted by, and whether it is their rate: `message_stats.publish`,
/// `message_stats.publish_details.rate`, `messages_details.rate`.
pub(super) fn column(path: &[String]) -> Option<(&'static [Count], bool)> {
    let find = |members: &[&'static [Member]], name: &str| {
        members.iter().copied().flatten().find(|(it, _)| *it == name).map(|(_, counts)| *counts)
    };
    let rate_of = |name: &'_ str, rate: &str| match rate {
        "rate" => name.strip_suffix("_details").map(str::to_owned),
        _ => None,
    };
    match path {
        [stats, name] if stats == "message_stats" => Some((find(&[DELIVERIES, ENDS], name)?, false)),
        [stats, name, rate] if stats == "message_stats" => {
            Some((find(&[DELIVERIES, ENDS], &rate_of(name, rate)?)?, true))
        }
        [name, rate] => Some((find(&[LENGTHS], &rate_of(name, rate)?)?, true)),
        _ => None,
    }
}
