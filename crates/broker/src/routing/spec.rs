//! What an exchange is, and when two declarations of it are the same (contracts D2, D9, D14).

use super::hash::HashOn;
use crate::error::{DeclareExchangeError, Inequivalent};
use crate::request::DeclareExchange;
use millpond_model::ExchangeName;
use millpond_model::table::{Table, Value};

/// Where messages go that no binding takes; any type.
const ALTERNATE_EXCHANGE: &str = "alternate-exchange";
/// `x-consistent-hash`: the header whose value is hashed, in place of the routing key.
pub(super) const HASH_HEADER: &str = "hash-header";
/// `x-consistent-hash`: the property whose value is hashed, in place of the routing key.
pub(super) const HASH_PROPERTY: &str = "hash-property";
/// `x-recent-history`: how many messages are kept.
const HISTORY_LENGTH: &str = "x-recent-history-length";

/// `x-delayed-message`: the type it routes by.
const DELAYED_TYPE: &str = "x-delayed-type";
/// Policy key: messages with a delay wait at any type of exchange.
const DELAYED_MESSAGE: &str = "delayed-message";

const HASH_PROPERTIES: &[&str] = &["message_id", "correlation_id", "timestamp"];

/// Messages that an `x-recent-history` exchange keeps if it is not told.
pub(crate) const HISTORY_LENGTH_DEFAULT: usize = 20;
/// Most messages that one may keep: they stay in memory.
pub(crate) const HISTORY_LENGTH_MAX: i64 = 10_000;

/// How an exchange chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ExchangeKind {
    /// Binding key equals routing key.
    Direct,
    /// Always.
    Fanout,
    /// Words and wildcards.
    Topic,
    /// Headers of the message.
    Headers,
    /// Attributes of the event that the message is.
    Events,
    /// One destination by the hash of a value, in proportion to weights.
    ConsistentHash,
    /// One binding by the routing key's hash modulo their number.
    ModulusHash,
    /// One binding by chance.
    Random,
    /// The same, of queues only.
    LocalRandom,
    /// Always, and the last messages once more to what is bound later.
    RecentHistory,
    /// As another type, named by an argument; messages with a delay wait first.
    Delayed,
}

/// As clients name them.
const KINDS: &[(&str, ExchangeKind)] = &[
    ("direct", ExchangeKind::Direct),
    ("fanout", ExchangeKind::Fanout),
    ("topic", ExchangeKind::Topic),
    ("headers", ExchangeKind::Headers),
    ("x-events", ExchangeKind::Events),
    ("x-consistent-hash", ExchangeKind::ConsistentHash),
    ("x-modulus-hash", ExchangeKind::ModulusHash),
    ("x-random", ExchangeKind::Random),
    ("x-local-random", ExchangeKind::LocalRandom),
    ("x-recent-history", ExchangeKind::RecentHistory),
    ("x-delayed-message", ExchangeKind::Delayed),
];

impl ExchangeKind {
    /// From the name of a type.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        KINDS.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind)
    }

    /// The text that `parse` takes.
    pub(crate) fn as_str(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Whether an argument of this name does something for an exchange of this type.
    fn acts_on(self, argument: &str) -> bool {
        match argument {
            ALTERNATE_EXCHANGE => true,
            HASH_HEADER | HASH_PROPERTY => self == Self::ConsistentHash,
            HISTORY_LENGTH => self == Self::RecentHistory,
            DELAYED_TYPE => self == Self::Delayed,
            DELAYED_MESSAGE => true,
            _ => false,
        }
    }
}

/// What an exchange is, apart from its name and bindings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExchangeSpec {
    /// How it chooses.
    pub(crate) kind: ExchangeKind,
    /// Survives a restart.
    pub(crate) durable: bool,
    /// Goes when its last outgoing binding goes.
    pub(crate) auto_delete: bool,
    /// Clients may not publish to it.
    pub(crate) internal: bool,
    /// All arguments as the client sent them; those that [`ExchangeKind::acts_on`] names act.
    pub(crate) arguments: Table,
}

impl ExchangeSpec {
    /// What a declaration asks for. Error: a type that is not served.
    pub(super) fn asked(request: &DeclareExchange) -> Result<Self, DeclareExchangeError> {
        let kind = ExchangeKind::parse(&request.kind)
            .ok_or_else(|| DeclareExchangeError::UnknownType { kind: request.kind.to_string() })?;
        Ok(Self {
            kind,
            durable: request.durable,
            auto_delete: request.auto_delete,
            internal: request.internal,
            arguments: request.arguments.clone(),
        })
    }

    /// Where messages go that no binding takes; the empty name is the default exchange.
    pub(super) fn alternate(&self) -> Option<ExchangeName> {
        Self::alternate_in(&self.arguments)
    }

    /// As [`Self::alternate`], of other arguments than those it was declared with.
    pub(super) fn alternate_in(arguments: &Table) -> Option<ExchangeName> {
        ExchangeName::new(arguments.get(ALTERNATE_EXCHANGE)?.as_str()?).ok()
    }

    /// The type it routes by: of a delayed exchange the one that its argument names.
    pub(crate) fn routes_as(&self) -> ExchangeKind {
        match self.kind {
            ExchangeKind::Delayed => {
                let named = self.arguments.get(DELAYED_TYPE).and_then(Value::as_str);
                named.and_then(ExchangeKind::parse).unwrap_or(ExchangeKind::Delayed)
            }
            kind => kind,
        }
    }

    /// Whether messages with a delay wait here, with these arguments in force.
    pub(super) fn delays(&self, effective: &Table) -> bool {
        let told = effective.get(DELAYED_MESSAGE).and_then(Value::as_bool);
        self.kind == ExchangeKind::Delayed || told.unwrap_or(false)
    }

    /// Whether an argument of this name does something here.
    pub(crate) fn acts_on(&self, argument: &str) -> bool {
        self.kind.acts_on(argument) || self.routes_as().acts_on(argument)
    }

    /// What an `x-consistent-hash` exchange hashes.
    pub(super) fn hash_on(&self) -> HashOn {
        HashOn::of(&self.arguments)
    }

    /// How many messages an `x-recent-history` exchange keeps.
    pub(crate) fn history_length(&self) -> usize {
        let stated = self.arguments.get(HISTORY_LENGTH).and_then(Value::as_i64);
        stated.map_or(HISTORY_LENGTH_DEFAULT, |length| length.clamp(1, HISTORY_LENGTH_MAX) as usize)
    }

    /// Whether the arguments of a new exchange can act.
    pub(super) fn check_arguments(&self, exchange: &ExchangeName) -> Result<(), DeclareExchangeError> {
        if self.kind == ExchangeKind::Delayed && self.routes_as() == ExchangeKind::Delayed {
            let (exchange, argument) = (exchange.clone(), DELAYED_TYPE.to_owned());
            let found = self.arguments.get(DELAYED_TYPE).map_or_else(|| "it is missing".into(), show);
            let reason = format!("{found}: it must be the type of exchange to route by, such as direct");
            return Err(DeclareExchangeError::BadArgument { exchange, argument, reason });
        }
        for argument in [ALTERNATE_EXCHANGE, HASH_HEADER, HASH_PROPERTY, HISTORY_LENGTH] {
            if let Some(value) = self.arguments.get(argument).filter(|_| self.acts_on(argument))
                && let Err(reason) = self.check_argument(argument, value)
            {
                let (exchange, argument) = (exchange.clone(), argument.to_owned());
                return Err(DeclareExchangeError::BadArgument { exchange, argument, reason });
            }
        }
        Ok(())
    }

    fn check_argument(&self, argument: &str, value: &Value) -> Result<(), String> {
        if argument == HISTORY_LENGTH {
            return match value.as_i64() {
                Some(1..=HISTORY_LENGTH_MAX) => Ok(()),
                Some(_) => Err(format!("{} is not within 1..={HISTORY_LENGTH_MAX}", show(value))),
                None => Err(format!("expected an integer, got a {}", value.type_name())),
            };
        }
        let Value::LongStr(_) = value else {
            return Err(format!("expected a longstr, got a {}", value.type_name()));
        };
        match argument {
            ALTERNATE_EXCHANGE if self.alternate().is_none() => {
                Err(format!("{} is no exchange name", show(value)))
            }
            HASH_HEADER if self.arguments.get(HASH_PROPERTY).is_some() => {
                Err(format!("{HASH_HEADER} and {HASH_PROPERTY} exclude each other"))
            }
            HASH_HEADER if value.as_str().is_none() => Err(format!("{} is no header's name", show(value))),
            HASH_PROPERTY if value.as_str().is_none_or(|name| !HASH_PROPERTIES.contains(&name)) => {
                Err(format!("{} is none of {}", show(value), HASH_PROPERTIES.join(", ")))
            }
            _ => Ok(()),
        }
    }

    /// The first difference to what exists. Of the arguments only
    /// `alternate-exchange` is compared, as in RabbitMQ (D9).
    pub(super) fn difference(&self, current: &Self) -> Option<Inequivalent> {
        if self.kind != current.kind {
            return Some(Inequivalent {
                argument: "type".into(),
                received: format!("'{}'", self.kind.as_str()),
                current: format!("'{}'", current.kind.as_str()),
            });
        }
        if self.routes_as() != current.routes_as() {
            return Some(Inequivalent {
                argument: DELAYED_TYPE.into(),
                received: format!("'{}'", self.routes_as().as_str()),
                current: format!("'{}'", current.routes_as().as_str()),
            });
        }
        let flags = [
            ("durable", self.durable, current.durable),
            ("auto_delete", self.auto_delete, current.auto_delete),
            ("internal", self.internal, current.internal),
        ];
        if let Some((name, received, current)) = flags.into_iter().find(|(_, a, b)| a != b) {
            return Some(Inequivalent {
                argument: name.into(),
                received: format!("'{received}'"),
                current: format!("'{current}'"),
            });
        }
        let (received, current) =
            (self.arguments.get(ALTERNATE_EXCHANGE), current.arguments.get(ALTERNATE_EXCHANGE));
        let same = match (received, current) {
            (Some(a), Some(b)) => a.is_equivalent(b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let text = |value: Option<&Value>| value.map_or_else(|| "none".into(), show);
        (!same).then(|| Inequivalent {
            argument: ALTERNATE_EXCHANGE.into(),
            received: text(received),
            current: text(current),
        })
    }
}

/// As RabbitMQ's messages show an argument.
fn show(value: &Value) -> String {
    let text = match value {
        Value::LongStr(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Bool(v) => v.to_string(),
        other => other.as_i64().map_or_else(|| format!("{other:?}"), |v| v.to_string()),
    };
    format!("the value '{text}' of type '{}'", value.type_name())
}
