//! One entry, and what it looks like as JSON: one line of the file, one item of the management API.

use crate::policy::PolicyKind;
use millpond_model::VhostName;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::net::IpAddr;

/// The operation of a login that was refused, as RabbitMQ's event is called.
pub(crate) const LOGIN_REFUSED: &str = "user.authentication.failure";

/// Through which door somebody came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrontEnd {
    /// AMQP 0-9-1.
    Amqp,
    /// The management API, the console and metrics.
    Management,
    /// Events over HTTP.
    Events,
    /// The control socket: the command line.
    Control,
    /// Nobody's: the process itself.
    Internal,
}

impl FrontEnd {
    const ALL: [Self; 5] = [Self::Amqp, Self::Management, Self::Events, Self::Control, Self::Internal];

    /// The word that entries have.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Amqp => "amqp",
            Self::Management => "management",
            Self::Events => "events",
            Self::Control => "control",
            Self::Internal => "internal",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == text)
    }
}

/// By what somebody showed who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// A password.
    Password,
    /// A client's certificate.
    Certificate,
    /// A token.
    Token,
    /// That they may open the control socket.
    ControlSocket,
    /// Nothing: the process itself.
    Internal,
}

impl Credential {
    const ALL: [Self; 5] =
        [Self::Password, Self::Certificate, Self::Token, Self::ControlSocket, Self::Internal];

    /// The word that entries have.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Certificate => "certificate",
            Self::Token => "token",
            Self::ControlSocket => "control_socket",
            Self::Internal => "internal",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == text)
    }
}

/// Who does something, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The user's name; as claimed, when a login is refused.
    pub user: Box<str>,
    /// How they came in.
    pub credential: Credential,
    /// Through which door.
    pub front_end: FrontEnd,
    /// From where.
    pub peer: Option<IpAddr>,
}

impl Actor {
    /// The process itself.
    pub fn inside() -> Self {
        let (credential, front_end) = (Credential::Internal, FrontEnd::Internal);
        Self { user: "millpond".into(), credential, front_end, peer: None }
    }

    /// Somebody at the control socket, by the number that the system knows them by.
    pub fn at_control_socket(uid: Option<u32>) -> Self {
        let user = uid.map_or_else(|| "control".to_owned(), |uid| format!("uid {uid}"));
        let (credential, front_end) = (Credential::ControlSocket, FrontEnd::Control);
        Self { user: user.into(), credential, front_end, peer: None }
    }
}

/// What was changed, or was to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditObject {
    /// `queue`, `user`, `policy`.
    pub kind: Cow<'static, str>,
    /// Where it is, if it is in a vhost.
    pub vhost: Option<Box<str>>,
    /// Its name.
    pub name: Box<str>,
}

impl AuditObject {
    /// Something that is in no vhost.
    pub fn named(kind: &'static str, name: impl Into<Box<str>>) -> Self {
        Self { kind: kind.into(), vhost: None, name: name.into() }
    }

    /// Something in a vhost.
    pub fn in_vhost(kind: &'static str, vhost: &VhostName, name: impl Into<Box<str>>) -> Self {
        Self { kind: kind.into(), vhost: Some(vhost.as_str().into()), name: name.into() }
    }

    pub(crate) fn policy(kind: PolicyKind, vhost: &VhostName, name: &str) -> Self {
        let kind = match kind {
            PolicyKind::User => "policy",
            PolicyKind::Operator => "operator_policy",
        };
        Self::in_vhost(kind, vhost, name)
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditResult {
    /// It is as they wanted it.
    Done,
    /// They may not.
    Refused,
}

impl AuditResult {
    /// The word that entries have.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Ascends by one from entry to entry, over restarts too.
    pub id: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// `queue.deleted`
    pub operation: Cow<'static, str>,
    /// How it ended.
    pub result: AuditResult,
    /// Who.
    pub actor: Actor,
    /// What it is about.
    pub object: AuditObject,
    /// What was changed, for a person.
    pub detail: Box<str>,
    /// Why it was refused.
    pub reason: Box<str>,
    /// How many it stands for; more than one of refusals that were counted together.
    pub count: u64,
}

impl AuditEntry {
    pub(super) fn new(
        at_ms: u64,
        operation: &'static str,
        result: AuditResult,
        actor: &Actor,
        object: AuditObject,
    ) -> Self {
        let (actor, operation) = (actor.clone(), operation.into());
        let (detail, reason) = (Box::default(), Box::default());
        Self { id: 0, at_ms, operation, result, actor, object, detail, reason, count: 1 }
    }

    /// As an object; what it does not have is left out.
    pub fn to_json(&self) -> Value {
        let time = jiff::Timestamp::from_millisecond(i64::try_from(self.at_ms).unwrap_or(i64::MAX));
        let mut shown = Map::new();
        let mut set = |name: &str, value: Value| shown.insert(name.to_owned(), value);
        set("id", self.id.into());
        set("time", time.unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string().into());
        set("timestamp", self.at_ms.into());
        set("operation", (*self.operation).into());
        set("result", self.result.as_str().into());
        set("user_who_performed_action", (*self.actor.user).into());
        set("authenticated_by", self.actor.credential.as_str().into());
        set("front_end", self.actor.front_end.as_str().into());
        if let Some(peer) = self.actor.peer {
            set("peer_host", peer.to_string().into());
        }
        set("kind", (*self.object.kind).into());
        if let Some(vhost) = &self.object.vhost {
            set("vhost", (**vhost).into());
        }
        set("name", (*self.object.name).into());
        for (name, text) in [("detail", &self.detail), ("reason", &self.reason)] {
            if !text.is_empty() {
                set(name, (**text).into());
            }
        }
        if self.count != 1 {
            set("count", json!(self.count));
        }
        Value::Object(shown)
    }

    /// From what [`Self::to_json`] gave; `None`: it is none.
    pub(super) fn from_json(value: &Value) -> Option<Self> {
        let text = |name: &str| value[name].as_str().map(Box::<str>::from);
        let owned = |name: &str| Some(Cow::Owned(value[name].as_str()?.to_owned()));
        Some(Self {
            id: value["id"].as_u64()?,
            at_ms: value["timestamp"].as_u64()?,
            operation: owned("operation")?,
            result: match value["result"].as_str()? {
                "refused" => AuditResult::Refused,
                _ => AuditResult::Done,
            },
            actor: Actor {
                user: text("user_who_performed_action")?,
                credential: Credential::parse(value["authenticated_by"].as_str()?)?,
                front_end: FrontEnd::parse(value["front_end"].as_str()?)?,
                peer: value["peer_host"].as_str().and_then(|peer| peer.parse().ok()),
            },
            object: AuditObject { kind: owned("kind")?, vhost: text("vhost"), name: text("name")? },
            detail: text("detail").unwrap_or_default(),
            reason: text("reason").unwrap_or_default(),
            count: value["count"].as_u64().unwrap_or(1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_as_it_was_written() {
        let actor = Actor { peer: Some(IpAddr::from([10, 0, 0, 1])), ..Actor::inside() };
        let object = AuditObject::in_vhost("queue", &VhostName::new("/").unwrap(), "é\n\"q");
        let entry = AuditEntry {
            id: 7,
            detail: "a\nb".into(),
            reason: "no".into(),
            count: 3,
            ..AuditEntry::new(1_700_000_000_123, "queue.deleted", AuditResult::Refused, &actor, object)
        };
        let line = entry.to_json().to_string();
        assert!(!line.contains('\n'), "{line}");
        assert!(line.contains("\"time\":\"2023-11-14T22:13:20.123Z\""), "{line}");
        assert_eq!(AuditEntry::from_json(&serde_json::from_str(&line).unwrap()), Some(entry));
        let plain = AuditEntry::new(0, "x", AuditResult::Done, &actor, AuditObject::named("node", ""));
        assert_eq!(AuditEntry::from_json(&plain.to_json()), Some(plain));
        assert_eq!(AuditEntry::from_json(&json!({ "id": 1 })), None);
    }

    #[test]
    fn each_word_is_read_as_what_it_was_written_for() {
        assert!(FrontEnd::ALL.iter().all(|it| FrontEnd::parse(it.as_str()) == Some(*it)));
        assert!(Credential::ALL.iter().all(|it| Credential::parse(it.as_str()) == Some(*it)));
    }
}
