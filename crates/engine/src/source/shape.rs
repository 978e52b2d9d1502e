//! Items become CloudEvents, and these messages: binary content mode, routing key = `type`.

use super::thinker::Thinker;
use super::{Item, Payload, SourceError};
use crate::action::short;
use crate::event::HOPS_HEADER;
use crate::jq::{JqError, Template, to_val};
use crate::topology::SourceSpec;
use bytes::Bytes;
use millpond_events::{CloudEvent, show_time};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// The type of an event that tells of an item that could not become one.
const FAILED_TYPE: &str = "millpond.source.failed";

/// Bytes of an item's data that such an event shows.
const FAILED_SHOWN_MAX_BYTES: usize = 4096;

/// What becomes of an item.
#[derive(Debug)]
pub(super) enum Shaped {
    /// It is published.
    Event(Ready),
    /// The source's `data` gave no result for it.
    Dropped,
    /// It could not be shaped; this tells of it.
    Failed(Ready),
}

/// An event, ready to be routed.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) event_type: String,
    /// Encoded properties.
    pub(super) properties: Vec<u8>,
    pub(super) body: Bytes,
    pub(super) id: String,
}

/// Shapes items, on the thread for expressions if the source has some.
pub(super) async fn shape(
    spec: &Arc<SourceSpec>,
    items: Vec<Item>,
    now_ms: u64,
    thinker: &mut Thinker,
) -> Result<Vec<Shaped>, SourceError> {
    if !spec.has_expressions() {
        return Ok(items.into_iter().map(|item| shape_one(spec, item, now_ms)).collect());
    }
    let spec = spec.clone();
    thinker.run(move || items.into_iter().map(|item| shape_one(&spec, item, now_ms)).collect()).await
}

fn shape_one(spec: &SourceSpec, item: Item, now_ms: u64) -> Shaped {
    let id = match item.origin {
        Some(_) => item.id.clone(),
        None => short(format!("{}/{}", spec.name, item.id)),
    };
    let source = spec.source.clone().or_else(|| item.origin.clone()).unwrap_or_else(|| spec.default_source());
    let time_ms = item.time_ms.unwrap_or(now_ms);
    let mut event = Draft { id, source, time_ms, item };
    let shaped = event.fill(spec).and_then(|filled| {
        let Some((event_type, subject)) = filled else { return Ok(None) };
        event.encode(event_type, subject).map(Some)
    });
    match shaped {
        Ok(Some(ready)) => Shaped::Event(ready),
        Ok(None) => Shaped::Dropped,
        Err(reason) => event.failed(&reason).map_or(Shaped::Dropped, Shaped::Failed),
    }
}

/// What tells of an event that the broker does not take.
pub(super) fn refused(spec: &SourceSpec, ready: &Ready, reason: &str, now_ms: u64) -> Option<Ready> {
    let item = Item::json(String::new(), String::from_utf8_lossy(&ready.body).into());
    Draft { id: ready.id.clone(), source: spec.default_source(), time_ms: now_ms, item }.failed(reason)
}

/// An event in the making.
struct Draft {
    id: String,
    source: String,
    time_ms: u64,
    item: Item,
}

impl Draft {
    /// Works the source's expressions out: `data` first, `type` and `subject` over what it gave. `None`: no event.
    fn fill(&mut self, spec: &SourceSpec) -> Result<Option<(String, Option<String>)>, String> {
        let default_type = self.item.event_type.clone().unwrap_or_else(|| spec.kind.event_type());
        let mut event_type = default_type;
        let mut subject = self.item.subject.clone();
        if let Some(data) = &spec.data {
            match data.maybe(&to_val(&self.json(&event_type))).map_err(|error| error.to_string())? {
                None => return Ok(None),
                Some(data) => self.item.data = Payload::Json(data),
            }
        }
        let fixed =
            |template: &Option<Template>| template.as_ref().and_then(Template::as_fixed).map(str::to_owned);
        let dynamic =
            |template: &'_ Option<Template>| template.as_ref().is_some_and(|it| it.as_fixed().is_none());
        if dynamic(&spec.event_type) || dynamic(&spec.subject) {
            let event = to_val(&self.json(&event_type));
            let work_out = |template: &Template| -> Result<Option<String>, JqError> {
                Ok(match template.value(&event)? {
                    Value::Null => None,
                    Value::String(text) => Some(text),
                    other => Some(other.to_string()),
                })
            };
            if let Some(template) = &spec.event_type {
                event_type = template.text(&event).map_err(|error| error.to_string())?;
            }
            if let Some(template) = &spec.subject {
                subject = work_out(template).map_err(|error| error.to_string())?;
            }
        } else {
            event_type = fixed(&spec.event_type).unwrap_or(event_type);
            subject = fixed(&spec.subject).or(subject);
        }
        Ok(Some((event_type, subject)))
    }

    /// The event as expressions see it.
    fn json(&self, event_type: &str) -> Value {
        let mut event = Map::new();
        for (name, value) in &self.item.attributes {
            event.insert(name.clone(), value.clone());
        }
        event.insert("specversion".to_owned(), "1.0".into());
        event.insert("id".to_owned(), self.id.clone().into());
        event.insert("source".to_owned(), self.source.clone().into());
        event.insert("type".to_owned(), event_type.into());
        event.entry("time").or_insert_with(|| self.time().into());
        if let Some(subject) = &self.item.subject {
            event.insert("subject".to_owned(), subject.clone().into());
        }
        match &self.item.data {
            Payload::Json(data) => {
                event.insert("data".to_owned(), data.clone());
            }
            Payload::Raw { content_type, encoding, bytes } => {
                if let Some(content_type) = content_type {
                    event.insert("datacontenttype".to_owned(), content_type.clone().into());
                }
                let encoding = encoding.as_deref().unwrap_or_default().as_bytes();
                millpond_events::put_data(&mut event, content_type.as_deref(), encoding, bytes);
            }
        }
        Value::Object(event)
    }

    fn time(&self) -> String {
        show_time(UNIX_EPOCH.checked_add(Duration::from_millis(self.time_ms)).unwrap_or(UNIX_EPOCH))
    }

    fn encode(&self, event_type: String, subject: Option<String>) -> Result<Ready, String> {
        let (content_type, encoding, body) = match &self.item.data {
            Payload::Json(data) => (Some("application/json".to_owned()), None, data.to_string().into()),
            Payload::Raw { content_type, encoding, bytes } => {
                (content_type.clone(), encoding.clone(), bytes.clone())
            }
        };
        let mut attributes: Map<String, Value> = self.item.attributes.iter().cloned().collect();
        attributes.entry("time").or_insert_with(|| self.time().into());
        let own = [
            ("id", Some(self.id.clone())),
            ("source", Some(self.source.clone())),
            ("type", Some(event_type)),
            ("subject", subject.filter(|subject| !subject.is_empty())),
            ("datacontenttype", content_type.filter(|it| !it.is_empty())),
        ];
        for (name, value) in own {
            attributes.extend(value.map(|value| (name.to_owned(), value.into())));
        }
        let event = CloudEvent::new(attributes, body).map_err(|error| error.to_string())?;
        let mut message = event.to_message(self.time_ms / 1000);
        if self.item.hops > 0 {
            message.properties.headers.set(HOPS_HEADER, i64::try_from(self.item.hops).unwrap_or(i64::MAX));
        }
        message.properties.content_encoding = encoding.map(Into::into);
        message.properties.message_id = Some(short(self.id.clone()).into());
        let properties = message.encode_properties().map_err(|error| error.to_string())?;
        let (size, max) = (properties.len(), millpond_model::limits::PROPERTIES_MAX_BYTES);
        if size > max {
            return Err(format!("the event's attributes have {size} bytes, expected at most {max}"));
        }
        let (event_type, body) = (message.routing_key, message.body);
        Ok(Ready { event_type, properties, body, id: self.id.clone() })
    }

    /// The event that tells of this one, which cannot be published.
    fn failed(&self, reason: &str) -> Option<Ready> {
        tracing::warn!(id = self.id, reason, "an item of a source cannot become an event");
        let shown = match &self.item.data {
            Payload::Json(Value::String(text)) => text.clone(),
            Payload::Json(data) => data.to_string(),
            Payload::Raw { bytes, .. } => String::from_utf8_lossy(bytes).into_owned(),
        };
        let at = (0..=FAILED_SHOWN_MAX_BYTES.min(shown.len())).rev().find(|at| shown.is_char_boundary(*at));
        let data = json!({"error": reason, "data": shown[..at.unwrap_or(0)], "size": shown.len()});
        let item = Item { hops: self.item.hops, ..Item::json(String::new(), data) };
        let draft = Draft { id: self.id.clone(), source: self.source.clone(), time_ms: self.time_ms, item };
        draft.encode(FAILED_TYPE.to_owned(), None).ok()
    }
}
