//! `broker`: what happens in the broker itself. See docs/guide/source-broker.md.

use super::{Desk, Found, Item, Kind, LOOK_ITEMS_MAX, Opening, Poll, Polling, Source, SourceError, Work};
use crate::topology::read::{list, text};
use crate::topology::{Fields, Kind as NodeKind, Node, Report};
use millpond_broker::{Notice, Noticed, Notices};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

/// The events there are; each is of the type `millpond.` and this.
const EVENTS: [&str; 5] = ["queue.created", "queue.deleted", "consumer.gone", "alarm.set", "alarm.cleared"];

#[derive(Debug)]
struct Happenings {
    wanted: Arc<[&'static str]>,
}

/// Reads `broker:`.
pub(super) fn read(node: &Node, path: &str, report: &mut Report) -> Option<Arc<dyn Kind>> {
    let fields = Fields::read(node, path, &["events"], report);
    let mut wanted = Vec::new();
    match fields.get("events") {
        None => wanted.extend(EVENTS),
        Some(node) => {
            let path = fields.path_of("events");
            let NodeKind::List(items) = &node.kind else {
                report.expected(node, &path, &format!("a list of {}", list(&EVENTS)));
                return None;
            };
            for item in items {
                let Some(name) = text(item, &path, &list(&EVENTS), report) else { continue };
                match EVENTS.iter().find(|event| **event == name) {
                    Some(event) => wanted.push(*event),
                    None => report.expected(item, &path, &list(&EVENTS)),
                }
            }
        }
    }
    Some(Arc::new(Happenings { wanted: wanted.into() }))
}

impl Kind for Happenings {
    fn name(&self) -> &'static str {
        "broker"
    }

    fn polling(&self) -> Polling {
        Polling { default: Poll::Long(Duration::from_secs(30)), every: false, long: false }
    }

    fn event_type(&self) -> String {
        "millpond.broker".to_owned()
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn Source>, SourceError> {
        let notices = opening.tools.broker.notices();
        let (wanted, waiting, run) = (self.wanted.clone(), VecDeque::new(), rand::random());
        Ok(Box::new(Listener { wanted, notices, waiting, missed: 0, run, count: 0 }))
    }
}

struct Listener {
    wanted: Arc<[&'static str]>,
    notices: Notices,
    /// Heard and not given yet.
    waiting: VecDeque<Noticed>,
    missed: u64,
    /// Tells apart what happened in one run from others.
    run: u64,
    count: u64,
}

impl Listener {
    async fn find(&mut self, now_ms: u64, wait: Duration) -> Found {
        if self.waiting.is_empty() {
            let mut heard = Vec::new();
            let next = poll_fn(|cx| self.notices.poll(cx, &mut heard));
            let Ok(missed) = tokio::time::timeout(wait, next).await else { return Found::default() };
            self.missed += missed;
            self.waiting.extend(heard);
        }
        let mut found = Found::default();
        while found.items.len() < LOOK_ITEMS_MAX
            && let Some(noticed) = self.waiting.pop_front()
        {
            let (event, subject, data) = describe(&noticed.notice);
            if self.wanted.contains(&event) {
                found.items.push(self.item(event, &subject, noticed.at_ms, data));
            }
        }
        if self.waiting.is_empty() && self.missed > 0 {
            let data = json!({"missed": std::mem::take(&mut self.missed)});
            found.items.push(self.item("broker.missed", "", now_ms, data));
        }
        found
    }

    fn item(&mut self, event: &str, subject: &str, at_ms: u64, data: Value) -> Item {
        self.count += 1;
        Item {
            event_type: Some(format!("millpond.{event}")),
            subject: (!subject.is_empty()).then(|| subject.to_owned()),
            time_ms: Some(at_ms),
            ..Item::json(format!("{:x}-{}", self.run, self.count), data)
        }
    }
}

/// Event, subject and data of a notice.
fn describe(notice: &Notice) -> (&'static str, String, Value) {
    match notice {
        Notice::QueueCreated { vhost, queue, durable, exclusive } => {
            let data = json!({
                "vhost": vhost.as_str(), "queue": queue.as_str(), "durable": durable, "exclusive": exclusive,
            });
            ("queue.created", queue.to_string(), data)
        }
        Notice::QueueDeleted { vhost, queue } => {
            let data = json!({"vhost": vhost.as_str(), "queue": queue.as_str()});
            ("queue.deleted", queue.to_string(), data)
        }
        Notice::ConsumerGone { vhost, queue, tag, left } => {
            let data = json!({
                "vhost": vhost.as_str(), "queue": queue.as_str(), "consumer": tag.as_str(), "left": left,
            });
            ("consumer.gone", queue.to_string(), data)
        }
        Notice::AlarmSet { resource } => ("alarm.set", (*resource).to_owned(), json!({"resource": resource})),
        Notice::AlarmCleared { resource } => {
            ("alarm.cleared", (*resource).to_owned(), json!({"resource": resource}))
        }
    }
}

impl Source for Listener {
    fn look<'a>(
        &'a mut self,
        desk: &'a mut Desk,
        _cursor: Option<&'a Value>,
        wait: Duration,
    ) -> Work<'a, Found> {
        Box::pin(async move { Ok(self.find(desk.now_ms(), wait).await) })
    }
}
