//! A shovel's definition: the value of its parameter, with RabbitMQ's keys.

use crate::properties::PropertyChanges;
use millpond_amqp_client::{Uri, UriError};
use millpond_broker::json::table_of;
use millpond_model::limits::SHORT_STRING_MAX_BYTES;
use millpond_model::table::Table;
use serde_json::{Map, Value};
use std::time::Duration;

/// Deliveries that may be unacked where nothing is said.
const PREFETCH_DEFAULT: u16 = 1000;
/// The longest wait between attempts where nothing is said.
const RECONNECT_DELAY_DEFAULT: Duration = Duration::from_secs(5);
/// The longest that may be asked for.
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(24 * 3600);
/// URIs of one side.
const URIS_MAX: usize = 32;
/// What stands in place of a password that is shown.
const HIDDEN: &str = "***";

/// When the message is acked where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckMode {
    /// Once it is safe where it went: nothing is lost, and a message may come twice.
    OnConfirm,
    /// Once it was sent: it may be lost with the connection.
    OnPublish,
    /// It is not: it may be lost at either end.
    NoAck,
}

impl AckMode {
    /// As in definitions.
    pub fn word(self) -> &'static str {
        match self {
            Self::OnConfirm => "on-confirm",
            Self::OnPublish => "on-publish",
            Self::NoAck => "no-ack",
        }
    }
}

/// When a shovel removes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteAfter {
    /// It does not.
    Never,
    /// When it has moved what was in the queue when it began.
    QueueLength,
    /// When it has moved so many.
    Messages(u64),
}

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// One after the other is tried; empty: this broker.
    pub uris: Vec<Uri>,
}

impl Place {
    /// Without passwords.
    pub fn shown(&self) -> String {
        self.uris.first().map_or_else(|| "amqp://".to_owned(), Uri::to_string)
    }

    /// Whether it is this broker.
    pub fn is_local(&self) -> bool {
        self.uris.is_empty()
    }
}

/// What messages are taken from.
#[derive(Debug, Clone, PartialEq)]
pub enum From {
    /// A queue, declared durable where it is missing.
    Queue {
        /// Its name.
        name: String,
        /// With which arguments it is declared.
        arguments: Table,
        /// It is there, or the shovel waits.
        predeclared: bool,
    },
    /// An exchange, by a queue of the shovel's own that goes with its connection.
    Exchange {
        /// Its name.
        name: String,
        /// The binding key.
        key: String,
    },
}

/// Where they go.
#[derive(Debug, Clone, PartialEq)]
pub enum To {
    /// A queue, declared durable where it is missing.
    Queue {
        /// Its name.
        name: String,
        /// With which arguments it is declared.
        arguments: Table,
        /// It is there, or the shovel waits.
        predeclared: bool,
    },
    /// An exchange.
    Exchange {
        /// Its name.
        name: String,
        /// With another key than the message's.
        key: Option<String>,
    },
    /// The exchange and key that the message came with.
    Same,
}

/// A shovel.
#[derive(Debug, Clone, PartialEq)]
pub struct ShovelSpec {
    /// `src-uri`.
    pub source: Place,
    /// `src-queue`, or `src-exchange` with `src-exchange-key`.
    pub from: From,
    /// `src-consumer-args`.
    pub consumer_arguments: Table,
    /// `src-prefetch-count`.
    pub prefetch: u16,
    /// `src-delete-after`.
    pub delete_after: DeleteAfter,
    /// `dest-uri`.
    pub dest: Place,
    /// `dest-queue`, or `dest-exchange` with `dest-exchange-key`.
    pub to: To,
    /// `dest-publish-properties`, `dest-add-forward-headers`, `dest-add-timestamp-header`.
    pub changes: PropertyChanges,
    /// `ack-mode`.
    pub ack_mode: AckMode,
    /// `reconnect-delay`: the longest wait between attempts; `None`: it is not tried again.
    pub reconnect_delay: Option<Duration>,
}

/// Why a value is no shovel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadShovel {
    /// Not an object.
    #[error("a shovel is an object with src-uri, src-queue, dest-uri, dest-queue...")]
    NoObject,
    /// A key that has no meaning.
    #[error("'{key}' is no key of a shovel")]
    Unknown {
        /// Which.
        key: String,
    },
    /// One that must be there.
    #[error("'{key}' is missing")]
    Missing {
        /// Which.
        key: &'static str,
    },
    /// A value that cannot be.
    #[error("'{key}': {reason}")]
    Value {
        /// Of which key.
        key: &'static str,
        /// What is expected.
        reason: String,
    },
    /// A URI cannot be read.
    #[error("'{key}': {error}")]
    Uri {
        /// Of which key.
        key: &'static str,
        /// Why.
        error: UriError,
    },
    /// A shown password came back.
    #[error("'{key}': {HIDDEN} stands for a password that is not known here: write the password")]
    Hidden {
        /// Of which key.
        key: &'static str,
    },
}

/// The value's members, each taken once.
struct Members<'v>(&'v Map<String, Value>);

const KEYS: &[&str] = &[
    "ack-mode",
    "add-forward-headers",
    "add-timestamp-header",
    "delete-after",
    "dest-add-forward-headers",
    "dest-add-timestamp-header",
    "dest-exchange",
    "dest-exchange-key",
    "dest-predeclared",
    "dest-properties",
    "dest-protocol",
    "dest-publish-properties",
    "dest-queue",
    "dest-queue-args",
    "dest-uri",
    "prefetch-count",
    "publish-properties",
    "reconnect-delay",
    "src-consumer-args",
    "src-delete-after",
    "src-exchange",
    "src-exchange-key",
    "src-predeclared",
    "src-prefetch-count",
    "src-protocol",
    "src-queue",
    "src-queue-args",
    "src-uri",
];

impl<'v> Members<'v> {
    fn get(&self, key: &'static str) -> Option<&'v Value> {
        // RabbitMQ's tools send empty texts for what is not set.
        self.0.get(key).filter(|value| !value.is_null() && value.as_str() != Some(""))
    }

    /// By its key, or the older one.
    fn either(&self, key: &'static str, older: &'static str) -> Option<(&'static str, &'v Value)> {
        self.get(key).map(|it| (key, it)).or_else(|| self.get(older).map(|it| (older, it)))
    }

    fn text(&self, key: &'static str) -> Result<Option<&'v str>, BadShovel> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_str() {
            Some(text) if text.len() <= SHORT_STRING_MAX_BYTES => Ok(Some(text)),
            _ => Err(bad(key, "a text of at most 255 bytes is expected")),
        }
    }

    fn flag(&self, key: &'static str) -> Result<bool, BadShovel> {
        match self.get(key) {
            None => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| bad(key, "true or false is expected")),
        }
    }

    fn table(&self, key: &'static str) -> Result<Table, BadShovel> {
        match self.get(key) {
            None => Ok(Table::new()),
            Some(Value::Object(object)) => Ok(table_of(object.clone())),
            // PHP's and Erlang's empty objects.
            Some(Value::Array(items)) if items.is_empty() => Ok(Table::new()),
            Some(_) => Err(bad(key, "an object is expected")),
        }
    }
}

fn bad(key: &'static str, reason: impl Into<String>) -> BadShovel {
    BadShovel::Value { key, reason: reason.into() }
}

impl ShovelSpec {
    /// Reads the value of a parameter of that vhost.
    pub fn read(vhost: &str, value: &Value) -> Result<Self, BadShovel> {
        let object = value.as_object().ok_or(BadShovel::NoObject)?;
        if let Some(key) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(BadShovel::Unknown { key: key.clone() });
        }
        let members = Members(object);
        for key in ["src-protocol", "dest-protocol"] {
            if members.text(key)?.is_some_and(|protocol| protocol != "amqp091") {
                return Err(bad(key, "only amqp091 is spoken"));
            }
        }
        let ack_mode = match members.text("ack-mode")? {
            None | Some("on-confirm") => AckMode::OnConfirm,
            Some("on-publish") => AckMode::OnPublish,
            Some("no-ack") => AckMode::NoAck,
            Some(_) => return Err(bad("ack-mode", "on-confirm, on-publish or no-ack")),
        };
        let delete_after = delete_after(&members)?;
        if ack_mode == AckMode::NoAck && matches!(delete_after, DeleteAfter::Messages(_)) {
            let reason = "a number needs acks: take ack-mode on-confirm, or more would be taken than moved";
            return Err(bad("src-delete-after", reason));
        }
        let spec = Self {
            source: place(&members, "src-uri", vhost)?,
            from: from(&members)?,
            consumer_arguments: members.table("src-consumer-args")?,
            prefetch: prefetch(&members)?,
            delete_after,
            dest: place(&members, "dest-uri", vhost)?,
            to: to(&members)?,
            changes: changes(&members)?,
            ack_mode,
            reconnect_delay: reconnect_delay(&members)?,
        };
        match (&spec.from, &spec.to) {
            (From::Queue { name: from, .. }, To::Queue { name: to, .. })
                if from == to && spec.source == spec.dest =>
            {
                Err(bad(
                    "dest-queue",
                    "it is the queue that messages are taken from: they would go in a circle",
                ))
            }
            _ => Ok(spec),
        }
    }
}

fn changes(members: &Members<'_>) -> Result<PropertyChanges, BadShovel> {
    let properties = members
        .either("dest-publish-properties", "publish-properties")
        .or_else(|| members.get("dest-properties").map(|it| ("dest-properties", it)));
    let forward = members.flag("dest-add-forward-headers")? || members.flag("add-forward-headers")?;
    let timestamp = members.flag("dest-add-timestamp-header")? || members.flag("add-timestamp-header")?;
    let set = match properties {
        None => Vec::new(),
        Some((key, value)) => PropertyChanges::read(value).map_err(|reason| bad(key, reason))?,
    };
    Ok(PropertyChanges { set, forward, timestamp })
}

fn prefetch(members: &Members<'_>) -> Result<u16, BadShovel> {
    let Some((key, value)) = members.either("src-prefetch-count", "prefetch-count") else {
        return Ok(PREFETCH_DEFAULT);
    };
    match value.as_u64() {
        Some(count @ 1..=65535) => Ok(count as u16),
        _ => Err(bad(key, "a whole number from 1 to 65535 is expected")),
    }
}

fn delete_after(members: &Members<'_>) -> Result<DeleteAfter, BadShovel> {
    let Some((key, value)) = members.either("src-delete-after", "delete-after") else {
        return Ok(DeleteAfter::Never);
    };
    match (value.as_str(), value.as_u64()) {
        (Some("never"), _) => Ok(DeleteAfter::Never),
        (Some("queue-length"), _) => Ok(DeleteAfter::QueueLength),
        (_, Some(count)) if count < u64::MAX => Ok(DeleteAfter::Messages(count)),
        _ => Err(bad(key, "never, queue-length or a number of messages is expected")),
    }
}

fn reconnect_delay(members: &Members<'_>) -> Result<Option<Duration>, BadShovel> {
    let Some(value) = members.get("reconnect-delay") else { return Ok(Some(RECONNECT_DELAY_DEFAULT)) };
    match value.as_u64().map(Duration::from_secs) {
        Some(Duration::ZERO) => Ok(None),
        Some(delay) if delay <= RECONNECT_DELAY_MAX => Ok(Some(delay)),
        _ => Err(bad("reconnect-delay", "seconds are expected, 86400 at most, 0 for no other attempt")),
    }
}

fn from(members: &Members<'_>) -> Result<From, BadShovel> {
    match (members.text("src-queue")?, members.text("src-exchange")?) {
        (Some(name), None) => Ok(From::Queue {
            name: name.to_owned(),
            arguments: members.table("src-queue-args")?,
            predeclared: members.flag("src-predeclared")?,
        }),
        (None, Some(name)) => {
            let key = members.text("src-exchange-key")?.unwrap_or_default().to_owned();
            Ok(From::Exchange { name: name.to_owned(), key })
        }
        (None, None) => Err(BadShovel::Missing { key: "src-queue" }),
        (Some(_), Some(_)) => Err(bad("src-queue", "it stands beside src-exchange: one of the two is meant")),
    }
}

fn to(members: &Members<'_>) -> Result<To, BadShovel> {
    match (members.text("dest-queue")?, members.text("dest-exchange")?) {
        (Some(name), None) => Ok(To::Queue {
            name: name.to_owned(),
            arguments: members.table("dest-queue-args")?,
            predeclared: members.flag("dest-predeclared")?,
        }),
        (None, Some(name)) => Ok(To::Exchange {
            name: name.to_owned(),
            key: members.text("dest-exchange-key")?.map(str::to_owned),
        }),
        (None, None) => Ok(To::Same),
        (Some(_), Some(_)) => {
            Err(bad("dest-queue", "it stands beside dest-exchange: one of the two is meant"))
        }
    }
}

/// The texts of a member that is a URI or a list of them.
fn texts(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(items) => items.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

fn place(members: &Members<'_>, key: &'static str, vhost: &str) -> Result<Place, BadShovel> {
    let value = members.0.get(key).ok_or(BadShovel::Missing { key })?;
    let texts = texts(value).filter(|texts| (1..=URIS_MAX).contains(&texts.len()));
    let texts = texts.ok_or_else(|| bad(key, format!("a URI, or a list of 1 to {URIS_MAX}, is expected")))?;
    let mut uris = Vec::new();
    for text in &texts {
        let uri: Uri = text.parse().map_err(|error| BadShovel::Uri { key, error })?;
        if uri.password == HIDDEN {
            return Err(BadShovel::Hidden { key });
        }
        uris.push((uri, text));
    }
    let here = uris.iter().filter(|(uri, _)| uri.host.is_empty()).count();
    if here == 0 {
        return Ok(Place { uris: uris.into_iter().map(|it| it.0).collect() });
    }
    for (uri, text) in &uris {
        let names_vhost = !uri.host.is_empty() || has_path(text);
        if names_vhost && uri.vhost != vhost {
            let reason = format!(
                "without a host it is this broker, in the shovel's own vhost '{vhost}': name a host for '{}'",
                uri.vhost
            );
            return Err(bad(key, reason));
        }
    }
    match here == uris.len() {
        true => Ok(Place { uris: Vec::new() }),
        false => Err(bad(key, "either all URIs have a host or none has")),
    }
}

fn has_path(text: &str) -> bool {
    let rest = text.split_once("://").map_or("", |it| it.1).split('?').next().unwrap_or_default();
    rest.split_once('/').is_some_and(|(_, path)| !path.is_empty())
}

// ---- passwords

/// A URI without its password, everything else as it was written.
fn hide(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return HIDDEN.to_owned() };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    // A password may hold what ends it only if it is written wrongly; then all of it is hidden.
    let Some(at) = rest.rfind('@') else { return text.to_owned() };
    if at > end {
        return format!("{scheme}://{HIDDEN}");
    }
    match rest[..at].split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:{HIDDEN}{}", &rest[at..]),
        None => text.to_owned(),
    }
}

/// The value as it may be shown.
pub(crate) fn shown(value: &Value) -> Value {
    let mut value = value.clone();
    for key in ["src-uri", "dest-uri"] {
        match value.get_mut(key) {
            Some(Value::String(text)) => *text = hide(text),
            Some(Value::Array(items)) => {
                for item in items {
                    *item = item.as_str().map_or(Value::Null, |text| hide(text).into());
                }
            }
            Some(other) => *other = Value::Null,
            None => {}
        }
    }
    value
}

/// A value that was shown and came back has the passwords of the one that is kept, where the rest of a URI is the
/// same.
pub(crate) fn unhidden(value: &Value, kept: Option<&Value>) -> Value {
    let mut value = value.clone();
    let Some(kept) = kept else { return value };
    for key in ["src-uri", "dest-uri"] {
        let known: Vec<String> =
            kept.get(key).and_then(texts).unwrap_or_default().into_iter().map(str::to_owned).collect();
        let restore = |text: &mut String| {
            if let Some(known) = known.iter().find(|known| text.contains(HIDDEN) && hide(known) == *text) {
                text.clone_from(known);
            }
        };
        match value.get_mut(key) {
            Some(Value::String(text)) => restore(text),
            Some(Value::Array(items)) => {
                for item in items {
                    if let Value::String(text) = item {
                        restore(text);
                    }
                }
            }
            _ => {}
        }
    }
    value
}
