//! `messages`: messages of the broker itself become events, those of a queue, an exchange or a stream. See
//! docs/guide/source-messages.md.
//!
//! A message is settled in the commit that publishes its event, so there is nothing that a cursor would have to say
//! but what was bound.

use super::{
    Desk, Found, Item, Kind, LOOK_ITEMS_MAX, Opening, Payload, Poll, Polling, Source, SourceError, Work,
};
use crate::action::HOPS_MAX;
use crate::event::HOPS_HEADER;
use crate::topology::{
    Fields, Kind as NodeKind, Node, Report, named_exchange, named_queue, read_table, routing_key,
};
use bytes::Bytes;
use millpond_broker::{
    Binding, ConsumeRequest, DeclareQueue, Deliveries, Delivery, DeliveryId, Destination, Outcome,
};
use millpond_events::{Origin, is_structured, take_data, text_of};
use millpond_model::properties::RawProperties;
use millpond_model::table::{Table, Value as Header};
use millpond_model::{ConsumerTag, ExchangeName, QueueName};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a look waits for messages; nothing depends on it.
const LOOK_WAIT: Duration = Duration::from_secs(30);

/// Prefix of the queue that a source of an exchange has.
const OWN_QUEUE_PREFIX: &str = "source.";

#[derive(Debug, Clone)]
enum From {
    Queue(QueueName),
    Exchange { exchange: ExchangeName, key: Box<[u8]>, headers: Table },
    Stream { stream: QueueName, from: Start },
}

/// Where a stream is begun with at the first start.
#[derive(Debug, Clone)]
enum Start {
    Text(Box<str>),
    Offset(i64),
}

/// The queue that a source of an exchange has.
fn own_queue(name: &str) -> QueueName {
    QueueName::new(&format!("{OWN_QUEUE_PREFIX}{name}")).expect("names of sources are limited")
}

/// Reads `messages:`.
pub(super) fn read(node: &Node, path: &str, report: &mut Report) -> Option<Arc<dyn Kind>> {
    let fields = Fields::read(node, path, &["queue", "exchange", "stream", "key", "headers", "from"], report);
    let said: Vec<_> = ["queue", "exchange", "stream"].into_iter().filter(|key| fields.has(key)).collect();
    let [place] = said.as_slice() else {
        let text = format!("found {} of queue, exchange and stream, expected one of them", said.len());
        report.add(node.line, path, text);
        return None;
    };
    for (key, beside) in [("key", "exchange"), ("headers", "exchange"), ("from", "stream")] {
        if let Some(node) = fields.get(key)
            && *place != beside
        {
            report.add(
                node.line,
                path,
                format!("found '{key}' beside '{place}', expected it beside '{beside}' only"),
            );
        }
    }
    let from = match *place {
        "queue" => From::Queue(named_queue(&fields, "queue", report)?),
        "stream" => {
            From::Stream { stream: named_queue(&fields, "stream", report)?, from: start(&fields, report) }
        }
        _ => {
            let exchange = named_exchange(&fields, "exchange", report)?;
            if exchange.is_empty() {
                report.add(node.line, path, "found the default exchange, expected another: use 'queue'");
                return None;
            }
            let key = routing_key(&fields, "key", report).unwrap_or_default();
            let headers = fields.get("headers");
            let headers = headers.map(|node| read_table(node, &fields.path_of("headers"), report));
            From::Exchange { exchange, key, headers: headers.unwrap_or_default() }
        }
    };
    Some(Arc::new(from))
}

fn start(fields: &Fields<'_>, report: &mut Report) -> Start {
    let Some(node) = fields.get("from") else { return Start::Text("next".into()) };
    match &node.kind {
        NodeKind::Int(offset) if *offset >= 0 => return Start::Offset(*offset),
        NodeKind::Text(said)
            if matches!(&**said, "first" | "last" | "next")
                || millpond_broker::interval_ms(said).is_some() =>
        {
            return Start::Text(said.clone());
        }
        _ => {}
    }
    report.expected(node, &fields.path_of("from"), "first, last, next, an offset, or an age such as 1h");
    Start::Text("next".into())
}

impl Kind for From {
    fn name(&self) -> &'static str {
        "messages"
    }

    fn polling(&self) -> Polling {
        Polling { default: Poll::Long(LOOK_WAIT), every: false, long: false }
    }

    fn event_type(&self) -> String {
        "millpond.message".to_owned()
    }

    fn own_queue(&self, source: &str) -> Option<QueueName> {
        matches!(self, Self::Exchange { .. }).then(|| own_queue(source))
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn Source>, SourceError> {
        let vhost = opening.tools.vhost.as_str().to_owned();
        Ok(Box::new(Taker { from: self.clone(), name: opening.name.to_owned(), vhost, queue: None }))
    }
}

struct Taker {
    from: From,
    name: String,
    vhost: String,
    /// What it consumes, once it does.
    queue: Option<QueueName>,
}

fn refused(error: &dyn std::fmt::Display) -> SourceError {
    SourceError::new(error.to_string())
}

impl Taker {
    /// Declares what it needs and begins to consume.
    fn begin(&mut self, desk: &mut Desk, cursor: Option<&Value>) -> Result<QueueName, SourceError> {
        let mut arguments = Table::new();
        let queue = match &self.from {
            From::Queue(queue) => queue.clone(),
            From::Stream { stream, from } => {
                arguments.push("x-stream-automatic-offset-tracking", true);
                if cursor.is_none() {
                    match from {
                        Start::Text(text) => arguments.push("x-stream-offset", &**text),
                        Start::Offset(offset) => arguments.push("x-stream-offset", Header::I64(*offset)),
                    }
                }
                stream.clone()
            }
            From::Exchange { exchange, key, headers } => {
                let queue = own_queue(&self.name);
                let request = DeclareQueue {
                    name: queue.clone(),
                    passive: false,
                    durable: true,
                    exclusive: false,
                    auto_delete: false,
                    arguments: Table::new(),
                };
                desk.session.declare_queue(&request).map_err(|error| refused(&error))?;
                let binding = Binding {
                    source: exchange.clone(),
                    destination: Destination::Queue(queue.clone()),
                    key: key.clone(),
                    arguments: headers.clone(),
                };
                if let Some(old) = cursor.and_then(|cursor| binding_of(cursor, &queue))
                    && old != binding
                {
                    // Its exchange may have gone, and the binding with it.
                    let _ = desk.session.unbind(&old);
                }
                desk.session.bind(&binding).map_err(|error| refused(&error))?;
                queue
            }
        };
        let tag = ConsumerTag::new(&format!("source.{}", self.name)).map_err(|error| refused(&error))?;
        let request = ConsumeRequest {
            queue: queue.clone(),
            tag,
            no_ack: false,
            exclusive: false,
            priority: 0,
            prefetch: LOOK_ITEMS_MAX as u32,
            prefetch_shared: false,
            cookie: 0,
            channel: 0,
            arguments,
        };
        desk.session.consume(request).map_err(|error| refused(&error))?;
        Ok(queue)
    }

    async fn find(
        &mut self,
        desk: &mut Desk,
        cursor: Option<&Value>,
        wait: Duration,
    ) -> Result<Found, SourceError> {
        let queue = match &self.queue {
            Some(queue) => queue.clone(),
            None => {
                let queue = self.begin(desk, cursor)?;
                self.queue = Some(queue.clone());
                if let From::Exchange { exchange, key, headers } = &self.from {
                    // What is bound is kept at once, so that another definition can unbind it.
                    let bound = binding_json(exchange, key, headers);
                    return Ok(Found { cursor: Some(bound), ..Found::default() });
                }
                queue
            }
        };
        let Ok(deliveries) = tokio::time::timeout(wait, desk.deliveries()).await else {
            return Ok(Found::default());
        };
        let mut found = Found::default();
        let mut next = Some(deliveries?);
        while let Some(deliveries) = next {
            self.take(&deliveries, &queue, desk.now_ms(), &mut found);
            next = if found.items.len() < LOOK_ITEMS_MAX { desk.try_deliveries()? } else { None };
        }
        if matches!(self.from, From::Stream { .. }) && cursor.is_none() {
            // From here on the stream knows where this consumer stands.
            found.cursor = Some(json!({"begun": true}));
        }
        Ok(found)
    }

    fn take(&self, deliveries: &Deliveries, queue: &QueueName, now_ms: u64, found: &mut Found) {
        for delivery in &deliveries.items {
            found.settled_bytes += delivery.message.size_bytes();
            let id = DeliveryId { queue: deliveries.queue, seq: delivery.seq };
            let item = item_of(delivery, &self.vhost, queue, now_ms);
            // One that goes round in circles is rejected: dead-lettered, if the queue says so.
            let loops = item.hops > HOPS_MAX;
            if loops {
                tracing::warn!(source = self.name, queue = queue.as_str(), "a message goes round in circles");
            } else {
                found.items.push(item);
            }
            found.settles.push((id, if loops { Outcome::Reject } else { Outcome::Accept }));
        }
    }
}

/// A message as the event that a rule would see of it.
fn item_of(delivery: &Delivery, vhost: &str, queue: &QueueName, now_ms: u64) -> Item {
    let message = &delivery.message;
    let now = UNIX_EPOCH.checked_add(Duration::from_millis(now_ms)).unwrap_or_else(SystemTime::now);
    let origin = Origin { vhost, queue: queue.as_str(), seq: delivery.seq, now };
    let mut event = origin.read(message);
    let properties = RawProperties::from_checked(message.properties());
    let hops = properties.headers().and_then(|headers| headers.get(HOPS_HEADER)?.as_i64()).unwrap_or(0);
    let text = |event: &mut Map<String, Value>, name: &str| match event.remove(name) {
        Some(Value::String(text)) => Some(text),
        Some(other) => Some(other.to_string()),
        None => None,
    };
    let encoding = properties.content_encoding().filter(|it| !it.is_empty()).map(text_of);
    // The body may be the whole event; its data is a part of it then. One whose data cannot be read goes on as it is.
    let is_event = is_structured(message)
        && serde_json::from_slice(message.body()).is_ok_and(|it: Map<String, Value>| !it.is_empty());
    let data = is_event.then(|| take_data(&mut event).ok()).flatten();
    event.retain(|name, _| !["data", "data_base64", "specversion"].contains(&name.as_str()));
    let content_type = text(&mut event, "datacontenttype");
    let data = match data {
        Some(bytes) => Payload::Raw { content_type, encoding: None, bytes },
        None => Payload::Raw { content_type, encoding, bytes: Bytes::copy_from_slice(message.body()) },
    };
    Item {
        id: text(&mut event, "id").unwrap_or_default(),
        event_type: text(&mut event, "type").filter(|it| !it.is_empty()),
        subject: text(&mut event, "subject"),
        time_ms: None,
        data,
        origin: text(&mut event, "source"),
        hops: u64::try_from(hops).unwrap_or(0) + 1,
        attributes: event.into_iter().collect(),
    }
}

fn binding_json(exchange: &ExchangeName, key: &[u8], headers: &Table) -> Value {
    let headers: Vec<Value> = headers
        .iter()
        .filter_map(|(name, value)| {
            let value = match value {
                Header::Bool(value) => Value::Bool(*value),
                Header::LongStr(text) => String::from_utf8_lossy(text).into_owned().into(),
                other => other.as_i64()?.into(),
            };
            Some(json!([&**name, value]))
        })
        .collect();
    json!({"exchange": exchange.as_str(), "key": String::from_utf8_lossy(key), "headers": headers})
}

fn binding_of(cursor: &Value, queue: &QueueName) -> Option<Binding> {
    let header = |pair: &Value| {
        let value = match pair.get(1)? {
            Value::Bool(value) => Header::Bool(*value),
            Value::String(text) => Header::from(text.as_str()),
            other => {
                other.as_i64().map(|value| i32::try_from(value).map_or(Header::I64(value), Header::I32))?
            }
        };
        Some((pair.get(0)?.as_str()?.to_owned(), value))
    };
    Some(Binding {
        source: ExchangeName::new(cursor.get("exchange")?.as_str()?).ok()?,
        destination: Destination::Queue(queue.clone()),
        key: cursor.get("key")?.as_str()?.as_bytes().into(),
        arguments: cursor.get("headers")?.as_array()?.iter().filter_map(header).collect(),
    })
}

impl Source for Taker {
    fn look<'a>(
        &'a mut self,
        desk: &'a mut Desk,
        cursor: Option<&'a Value>,
        wait: Duration,
    ) -> Work<'a, Found> {
        Box::pin(self.find(desk, cursor, wait))
    }
}
