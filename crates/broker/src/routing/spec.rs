//! What an exchange is, and when two declarations of it are the same (contracts D2, D9, D14).

use crate::error::{DeclareExchangeError, Inequivalent};
use crate::request::DeclareExchange;
use millpond_model::ExchangeName;
use millpond_model::table::{Table, Value};

/// The one argument that acts.
const ALTERNATE_EXCHANGE: &str = "alternate-exchange";

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
}

impl ExchangeKind {
    /// From `direct`, `fanout`, `topic`, `headers`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "direct" => Self::Direct,
            "fanout" => Self::Fanout,
            "topic" => Self::Topic,
            "headers" => Self::Headers,
            _ => return None,
        })
    }

    /// The text that `parse` takes.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
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
    /// All arguments as the client sent them; `alternate-exchange` acts.
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

    /// Whether the arguments of a new exchange can act.
    pub(super) fn check_arguments(&self, exchange: &ExchangeName) -> Result<(), DeclareExchangeError> {
        let reason = match self.arguments.get(ALTERNATE_EXCHANGE) {
            Some(value @ Value::LongStr(_)) => match self.alternate() {
                Some(_) => return Ok(()),
                None => format!("{} is no exchange name", show(value)),
            },
            Some(other) => format!("expected a longstr, got a {}", other.type_name()),
            None => return Ok(()),
        };
        let argument = ALTERNATE_EXCHANGE.into();
        Err(DeclareExchangeError::BadArgument { exchange: exchange.clone(), argument, reason })
    }

    /// The first difference to what exists. Arguments that do not act are not compared (D9).
    pub(super) fn difference(&self, current: &Self) -> Option<Inequivalent> {
        if self.kind != current.kind {
            return Some(Inequivalent {
                argument: "type".into(),
                received: format!("'{}'", self.kind.as_str()),
                current: format!("'{}'", current.kind.as_str()),
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
