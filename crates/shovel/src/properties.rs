//! What a shovel changes of a message's properties: nothing, unless it is asked to.

use crate::spec::{From, ShovelSpec, To};
use millpond_broker::json::{table_of, value_of};
use millpond_model::properties::{Properties, RawProperties};
use millpond_model::table::{Table, Value as Field};
use serde_json::Value;
use std::borrow::Cow;

/// Changes of each message's properties.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PropertyChanges {
    /// Set in place of its own, by name.
    pub set: Vec<(String, Value)>,
    /// The header `x-shovelled`: by which shovel, from where, to where.
    pub forward: bool,
    /// The header `x-shovelled-timestamp`, in seconds.
    pub timestamp: bool,
}

impl PropertyChanges {
    /// Reads `dest-publish-properties`.
    pub(crate) fn read(value: &Value) -> Result<Vec<(String, Value)>, String> {
        let object = match value {
            Value::Object(object) => object,
            Value::Array(items) if items.is_empty() => return Ok(Vec::new()),
            _ => return Err("an object is expected".to_owned()),
        };
        let set: Vec<_> = object.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut trial = Properties::default();
        set.iter().try_for_each(|(name, value)| put(&mut trial, name, value))?;
        trial.encode().map_err(|error| error.to_string())?;
        Ok(set)
    }

    fn is_nothing(&self) -> bool {
        self.set.is_empty() && !self.forward && !self.timestamp
    }
}

fn put(properties: &mut Properties, name: &str, value: &Value) -> Result<(), String> {
    let text = || value.as_str().map(Box::from).ok_or(format!("{name}: a text is expected"));
    let small = |most: u64| match value.as_u64() {
        Some(number) if number <= most => Ok(number as u8),
        _ => Err(format!("{name}: a whole number up to {most} is expected")),
    };
    match name {
        "content_type" => properties.content_type = Some(text()?),
        "content_encoding" => properties.content_encoding = Some(text()?),
        "delivery_mode" => properties.delivery_mode = Some(small(2)?),
        "priority" => properties.priority = Some(small(255)?),
        "correlation_id" => properties.correlation_id = Some(text()?),
        "reply_to" => properties.reply_to = Some(text()?),
        "expiration" => properties.expiration = Some(text()?),
        "message_id" => properties.message_id = Some(text()?),
        "timestamp" => {
            let seconds = value.as_u64().ok_or("timestamp: seconds are expected")?;
            properties.timestamp = Some(seconds);
        }
        "type" => properties.type_ = Some(text()?),
        "user_id" => properties.user_id = Some(text()?),
        "app_id" => properties.app_id = Some(text()?),
        "cluster_id" => properties.cluster_id = Some(text()?),
        "headers" => {
            let object = value.as_object().ok_or("headers: an object is expected")?;
            for (name, value) in table_of(object.clone()).iter() {
                properties.headers.set(name, value.clone());
            }
        }
        _ => return Err(format!("'{name}' is no property of a message")),
    }
    Ok(())
}

/// Applies a shovel's changes.
#[derive(Debug)]
pub(crate) struct Painter {
    changes: PropertyChanges,
    /// What `x-shovelled` says.
    by: Table,
}

impl Painter {
    pub(crate) fn new(vhost: &str, name: &str, spec: &ShovelSpec) -> Self {
        let mut by = Table::new();
        by.push("shovelled-by", "millpond");
        by.push("shovel-type", "dynamic");
        by.push("shovel-name", name);
        by.push("shovel-vhost", vhost);
        by.push("src-uri", spec.source.shown());
        by.push("dest-uri", spec.dest.shown());
        match &spec.from {
            From::Queue { name, .. } => by.push("src-queue", name.as_str()),
            From::Exchange { name, .. } => by.push("src-exchange", name.as_str()),
        }
        match &spec.to {
            To::Queue { name, .. } => by.push("dest-queue", name.as_str()),
            To::Exchange { name, .. } => by.push("dest-exchange", name.as_str()),
            To::Same => {}
        }
        Self { changes: spec.changes.clone(), by }
    }

    /// The properties to publish with; those that came where nothing changes, or where what would come out has no
    /// encoding.
    pub(crate) fn paint<'p>(&self, came: &'p [u8], now_ms: u64) -> Cow<'p, [u8]> {
        if self.changes.is_nothing() {
            return came.into();
        }
        let mut properties = Properties::from(RawProperties::from_checked(came));
        for (name, value) in &self.changes.set {
            // Tried when the definition was read.
            let _ = put(&mut properties, name, value);
        }
        if self.changes.forward {
            let mut hops = match properties.headers.get("x-shovelled") {
                Some(Field::Array(hops)) => hops.clone(),
                _ => Vec::new(),
            };
            hops.insert(0, Field::Table(self.by.clone()));
            properties.headers.set("x-shovelled", Field::Array(hops));
        }
        if self.changes.timestamp {
            properties.headers.set("x-shovelled-timestamp", value_of((now_ms / 1000).into()));
        }
        properties.encode().map_or(came.into(), Cow::Owned)
    }
}
