//! Messages of the past given to a rule again, or only looked at.
//!
//! What a rule did then is worked out by the version of it that was in force when the message was there, with the
//! topology of now around it; what stands in its parking queue is known to have been parked. What was published then
//! is not looked for: it may have been consumed long ago.

use super::rules::settled;
use super::{Engine, check_aside};
use crate::dry_run::RuleError;
use crate::replay::{Known, Past, ReplayReport, Replayed, Versions, Would, compare, would};
use crate::topology::{Rule, Topology, TopologyError};
use crate::worker::NO_PROPERTIES;
use millpond_broker::{
    Browse, Browsed, Delivery, OpenSession, OpenSessionError, Remembered, ReplayPeriod, TransferError,
};
use millpond_events::Origin;
use millpond_model::properties::RawProperties;
use millpond_model::table::{RawValue, TableBuf, Value as Header};
use millpond_model::{Message, QueueName};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Messages read, worked out or given in one go; those given are one commit.
const CHUNK: usize = 256;

/// Messages looked at unless the request says else.
const LIMIT_DEFAULT: u64 = 100_000;

/// Messages shown of a dry run; the others are counted.
const SHOWN_MAX: usize = 100;

/// Messages of a parking queue that are looked at for what was parked.
const PARKED_MAX: usize = 100_000;

/// Where messages are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayFrom {
    /// What it remembers, or a stream holds; if it is neither, what is ready.
    Any,
    /// What was acked and is remembered, or a stream's messages.
    Remembered,
    /// What is ready.
    Ready,
}

/// What is to be replayed.
#[derive(Debug, Clone)]
pub struct ReplayRequest {
    /// To this rule.
    pub rule: String,
    /// The messages of this queue or stream.
    pub queue: String,
    /// Which of them.
    pub of: ReplayFrom,
    /// Published (of remembered ones: acked) then or later. Milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Published or acked then or before.
    pub until_ms: Option<u64>,
    /// At most so many; 100,000 if it is not said.
    pub limit: Option<u64>,
    /// The rule as this file has it (name and text), instead of as it is; for a dry run only.
    pub file: Option<(String, String)>,
    /// Only work out what the rule would do.
    pub dry_run: bool,
}

/// Why nothing is replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// No such rule, or the engine shuts down.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The file is wrong.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// No such queue, or it remembers nothing.
    #[error(transparent)]
    Queue(#[from] TransferError),
    /// The queue's name is none.
    #[error("'{queue}' cannot be the name of a queue: {reason}")]
    BadQueue {
        /// As asked.
        queue: String,
        /// Why.
        reason: String,
    },
    /// It cannot be done with this rule.
    #[error("rule '{rule}': {reason}")]
    NotThis {
        /// Which.
        rule: String,
        /// Why, and what to do.
        reason: String,
    },
    /// No session with the broker.
    #[error(transparent)]
    Session(#[from] OpenSessionError),
    /// The broker did not take the messages.
    #[error("after {given} messages: {reason}")]
    NotGiven {
        /// How many were given before.
        given: u64,
        /// Why.
        reason: String,
    },
}

enum Reader {
    Ready(Browse),
    Remembered(Remembered),
}

impl Reader {
    fn poll_next(&mut self, cx: &mut Context<'_>, out: &mut Vec<Browsed>) -> Poll<bool> {
        match self {
            Self::Ready(browse) => browse.poll_next(cx, CHUNK, out),
            Self::Remembered(remembered) => remembered.poll_next(cx, CHUNK, out),
        }
    }
}

impl Engine {
    /// Gives messages of the past to a rule once more, or says what it would do with them and how that differs from
    /// what it did.
    pub async fn replay(&self, request: &ReplayRequest) -> Result<ReplayReport, ReplayError> {
        let now = self.find(&request.rule)?;
        let reader = self.read_for(request, &now)?;
        let report = ReplayReport {
            rule: request.rule.clone(),
            from: request.queue.clone(),
            dry_run: request.dry_run,
            ..ReplayReport::default()
        };
        match request.dry_run {
            true => self.compare(request, now, reader, report).await,
            false => self.give(request, &now, reader, report).await,
        }
    }

    fn read_for(&self, request: &ReplayRequest, rule: &Rule) -> Result<Reader, ReplayError> {
        let tools = &self.inner.tools;
        let queue = QueueName::new(&request.queue).map_err(|error| ReplayError::BadQueue {
            queue: request.queue.clone(),
            reason: error.to_string(),
        })?;
        let not_this = |reason: String| ReplayError::NotThis { rule: rule.name.clone(), reason };
        if !request.dry_run && matches!(rule.on, crate::topology::Trigger::Stream(_)) {
            let reason =
                "it reads a stream, to which a replay would append: give its consumer an offset instead";
            return Err(not_this(reason.to_owned()));
        }
        if !request.dry_run && request.file.is_some() {
            return Err(not_this(
                "a rule of a file is not running: add --dry-run, or apply the file".to_owned(),
            ));
        }
        let period = ReplayPeriod { from_ms: request.since_ms, until_ms: request.until_ms };
        let remembered = || tools.broker.remembered(&tools.vhost, &queue, period).map(Reader::Remembered);
        let ready = || tools.broker.browse(&tools.vhost, &queue).map(Reader::Ready);
        let reader = match request.of {
            ReplayFrom::Remembered => remembered()?,
            ReplayFrom::Ready => ready()?,
            ReplayFrom::Any => match remembered() {
                Err(TransferError::NotRetaining { .. }) => ready()?,
                other => other?,
            },
        };
        if matches!(reader, Reader::Ready(_)) && !request.dry_run && queue == rule.queue() {
            return Err(not_this(format!("what is ready in queue '{queue}' it takes anyway")));
        }
        Ok(reader)
    }

    /// Reads on; what is out of time is left out. `false`: that was the last.
    async fn next(request: &ReplayRequest, reader: &mut Reader, out: &mut Vec<Browsed>, room: u64) -> bool {
        let more = poll_fn(|cx| reader.poll_next(cx, out)).await;
        out.retain(|it| {
            let at_ms = it.message.published_ms().unwrap_or(0);
            request.since_ms.is_none_or(|since| at_ms >= since)
                && request.until_ms.is_none_or(|until| at_ms <= until)
        });
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let full = out.len() >= room;
        out.truncate(room);
        more && !full
    }

    async fn give(
        &self,
        request: &ReplayRequest,
        rule: &Rule,
        mut reader: Reader,
        mut report: ReplayReport,
    ) -> Result<ReplayReport, ReplayError> {
        let tools = &self.inner.tools;
        let open = OpenSession {
            login: tools.broker.internal_login(),
            vhost: tools.vhost.clone(),
            name: format!("replay to rule {}", rule.name).into(),
        };
        let mut session = tools.broker.open_session(open)?;
        let target = rule.queue();
        let limit = request.limit.unwrap_or(u64::MAX);
        loop {
            let mut chunk = Vec::new();
            let more = Self::next(request, &mut reader, &mut chunk, limit - report.read).await;
            report.read += chunk.len() as u64;
            let not_given = |given: u64, reason: &dyn std::fmt::Display| ReplayError::NotGiven {
                given,
                reason: reason.to_string(),
            };
            let mut publishes = Vec::with_capacity(chunk.len());
            for it in &chunk {
                let now_ms = session.now_ms();
                let message = given(it, &request.queue, now_ms);
                // Whom its properties name beside was served when it was published.
                let no_properties = RawProperties::from_checked(&NO_PROPERTIES);
                let key = target.as_str().as_bytes();
                let route = session.route(b"", key, &no_properties, message.body().len() as u64);
                let route = route.map_err(|error| not_given(report.given, &error))?;
                publishes.push((message, route));
            }
            if !publishes.is_empty() {
                poll_fn(|cx| session.poll_publish_ready(cx)).await;
                let sent =
                    session.publish(&mut publishes).map_err(|error| not_given(report.given, &error))?;
                settled(&mut session, sent).await.map_err(|error| not_given(report.given, &error))?;
                report.given += chunk.len() as u64;
            }
            if !more {
                return Ok(report);
            }
        }
    }

    async fn compare(
        &self,
        request: &ReplayRequest,
        mut now: Arc<Rule>,
        mut reader: Reader,
        mut report: ReplayReport,
    ) -> Result<ReplayReport, ReplayError> {
        if let Some((file, text)) = &request.file {
            let topology = check_aside(file, text).await?;
            let names = || topology.rules.iter().map(|rule| rule.name.as_str());
            let found = topology.rule(&request.rule).cloned();
            now = found.ok_or_else(|| RuleError::missing(&request.rule, names()))?;
        }
        let parked = self.parked(&now).await;
        let versions = self.versions(&request.rule).await;
        let limit = request.limit.unwrap_or(LIMIT_DEFAULT);
        let past = Past::is_needed(&now, &versions).then(|| Arc::new(Mutex::new(Past::new(&now, &versions))));
        loop {
            let mut chunk = Vec::new();
            let more = Self::next(request, &mut reader, &mut chunk, limit - report.read).await;
            report.read += chunk.len() as u64;
            let known = match &past {
                None => self.work_out(chunk, &now, &versions, &request.queue).await,
                Some(past) => {
                    // What falls due behind the last message, up to now or to where it was asked to look.
                    let end_ms = (!more).then(|| request.until_ms.unwrap_or_else(now_ms));
                    self.go_through(chunk, past, &now, (&request.queue, end_ms)).await?
                }
            };
            for mut it in known {
                it.0.parked = it.0.id.as_ref().and_then(|id| parked.get(id).cloned());
                count(&mut report, it);
            }
            if !more {
                return Ok(report);
            }
        }
    }

    /// As [`Self::work_out`], one message after the other, for rules that remember.
    async fn go_through(
        &self,
        chunk: Vec<Browsed>,
        past: &Arc<Mutex<Past>>,
        now: &Arc<Rule>,
        (from, end_ms): (&str, Option<u64>),
    ) -> Result<Vec<Known>, ReplayError> {
        let (vhost, from, rule) = (self.inner.tools.vhost.clone(), from.to_owned(), now.clone());
        let work = move |(past, chunk): &(Arc<Mutex<Past>>, Arc<Vec<Browsed>>)| {
            let (mut past, queue) = (past.lock(), rule.queue());
            let mut known = Vec::with_capacity(chunk.len());
            for it in chunk.iter() {
                let (delivery, time) = delivered(it, &from);
                let origin =
                    Origin { vhost: vhost.as_str(), queue: queue.as_str(), seq: it.place, now: time };
                known.extend(past.take(nothing_known(it, &delivery), &delivery, origin));
            }
            known.extend(end_ms.and_then(|end_ms| past.finish(end_ms)));
            known
        };
        let done = self.inner.tools.pool.each(vec![(past.clone(), Arc::new(chunk))], work).await;
        let lost = |reason: String| ReplayError::NotThis { rule: now.name.clone(), reason };
        match done.into_iter().next() {
            Some((_, Ok(known))) => Ok(known),
            Some((_, Err(error))) => Err(lost(error.to_string())),
            None => Err(lost("the evaluation gave nothing".to_owned())),
        }
    }

    async fn work_out(
        &self,
        chunk: Vec<Browsed>,
        now: &Arc<Rule>,
        versions: &Arc<Versions>,
        from: &str,
    ) -> Vec<(Replayed, Would, Option<Would>)> {
        let (now, versions) = (now.clone(), versions.clone());
        let (vhost, from) = (self.inner.tools.vhost.clone(), from.to_owned());
        let work = move |it: &Browsed| {
            let ((delivery, time), queue) = (delivered(it, &from), now.queue());
            let mut replayed = nothing_known(it, &delivery);
            let origin = Origin { vhost: vhost.as_str(), queue: queue.as_str(), seq: it.place, now: time };
            let then = versions.range(..=replayed.at_ms.unwrap_or(u64::MAX)).next_back();
            let (version, rule) = then.map_or((0, None), |(_, (number, rule))| (*number, rule.clone()));
            replayed.version = version;
            (replayed, would(&now, &delivery, origin), rule.map(|rule| would(&rule, &delivery, origin)))
        };
        let done = self.inner.tools.pool.each(chunk, work).await;
        let lost = |it: &Browsed, error: String| Replayed {
            place: it.place,
            id: said_id(&it.message),
            at_ms: it.message.published_ms(),
            version: 0,
            parked: None,
            now: serde_json::json!([{"parked": {"error": error}}]),
            then: None,
            difference: Vec::new(),
        };
        done.into_iter()
            .map(|(it, result)| {
                result.unwrap_or_else(|error| {
                    let error = error.to_string();
                    (lost(&it, error.clone()), Would::Fails(error), None)
                })
            })
            .collect()
    }

    /// What stands in the rule's parking queue: errors by the ids of their events.
    async fn parked(&self, rule: &Rule) -> HashMap<String, String> {
        let tools = &self.inner.tools;
        let mut parked = HashMap::new();
        let Ok(mut browse) = tools.broker.browse(&tools.vhost, &rule.parking_queue()) else { return parked };
        loop {
            let mut chunk = Vec::new();
            let more = poll_fn(|cx| browse.poll_next(cx, CHUNK, &mut chunk)).await;
            for it in &chunk {
                let headers = RawProperties::from_checked(it.message.properties()).headers();
                let error = headers.and_then(|headers| headers.get("x-millpond-error"));
                if let (Some(id), Some(RawValue::LongStr(error))) = (said_id(&it.message), error) {
                    parked.insert(id, String::from_utf8_lossy(error).into_owned());
                }
            }
            if !more || parked.len() >= PARKED_MAX {
                return parked;
            }
        }
    }

    /// The versions of a rule by the time since which they are in force, each in the topology of now; one that does
    /// not fit there any more is not known.
    async fn versions(&self, rule: &str) -> Arc<Versions> {
        let mut versions = BTreeMap::new();
        let text = self.topology().text;
        for version in self.rule_history(rule).unwrap_or_default() {
            let file = format!("version {}", version.number);
            let definition = version.rule.clone();
            let with = Topology::text_with(&text, rule, &definition);
            let topology = match with {
                Some(text) if !definition.is_null() => check_aside(&file, &text).await.ok(),
                _ => None,
            };
            let old = topology.and_then(|topology| topology.rule(rule).cloned());
            versions.insert(version.since_ms, (version.number, old));
        }
        Arc::new(versions)
    }
}

/// A message as the rule gets it, and its time.
fn delivered(it: &Browsed, from: &str) -> (Delivery, SystemTime) {
    let at_ms = it.message.published_ms();
    let time = at_ms.map_or_else(SystemTime::now, |ms| UNIX_EPOCH + Duration::from_millis(ms));
    let message = given(it, from, at_ms.unwrap_or(0));
    (Delivery { seq: it.place, redelivered: false, message }, time)
}

fn nothing_known(it: &Browsed, delivery: &Delivery) -> Replayed {
    Replayed {
        place: it.place,
        id: said_id(&delivery.message),
        at_ms: it.message.published_ms(),
        version: 0,
        parked: None,
        now: serde_json::Value::Null,
        then: None,
        difference: Vec::new(),
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn count(report: &mut ReplayReport, (mut it, now, then): (Replayed, Would, Option<Would>)) {
    compare(&mut it, &now, then.as_ref());
    report.acts += u64::from(matches!(now, Would::Acts(_)));
    report.acted += u64::from(it.parked.is_none() && matches!(then, Some(Would::Acts(_))));
    report.would_park += u64::from(matches!(now, Would::Fails(_)));
    match &it.then {
        None => report.unknown += 1,
        Some(_) if it.difference.is_empty() => {
            report.same += 1;
            return;
        }
        Some(_) => report.differ += 1,
    }
    match report.messages.len() < SHOWN_MAX {
        true => report.messages.push(it),
        false => report.left_off += 1,
    }
}

/// The id that a message says as an event.
fn said_id(message: &Message) -> Option<String> {
    let properties = RawProperties::from_checked(message.properties());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = properties.headers();
    let header = headers.and_then(|it| it.get("cloudEvents:id").or_else(|| it.get("cloudEvents_id")));
    match header {
        Some(RawValue::LongStr(id)) => Some(text(id)),
        _ => properties.message_id().filter(|id| !id.is_empty()).map(text),
    }
}

/// A message as a rule gets it again. One that says no id gets that of its place, so that replayed twice it is the
/// same event; the ids of what the rule does follow from it.
fn given(it: &Browsed, from: &str, now_ms: u64) -> Message {
    let message = &it.message;
    let properties = RawProperties::from_checked(message.properties());
    let mut headers = TableBuf::without(properties.headers().unwrap_or_default(), "x-replayed-from");
    if said_id(message).is_none() {
        // Names are short and a name of a queue has an encoding.
        let _ = headers.push_value("cloudEvents:id", &Header::from(format!("{from}/{}", it.place).as_str()));
    }
    let _ = headers.push_value("x-replayed-from", &Header::from(from));
    // Its time to live was for its own queue.
    let plain = properties.without_expiration().unwrap_or_else(|| message.properties().to_vec());
    let encoded = RawProperties::from_checked(&plain).with_headers(Some(headers.as_raw()));
    // Exchange and routing key stay those of then: rules look at them.
    Message::published_at(
        now_ms,
        message.exchange(),
        message.routing_key(),
        &encoded,
        properties.is_persistent(),
        message.body(),
    )
}
