//! What a user may do with the things of a vhost: permissions, and topic permissions on top of them.

use crate::audit::AuditObject;
use crate::pattern::{BadPattern, compile, is_match};
use fancy_regex::Regex;
use millpond_model::{ExchangeName, UserName, VhostName};
use std::collections::BTreeMap;
use std::fmt;

/// What somebody wants with a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// Declare it, delete it.
    Configure,
    /// Publish to it, bind it to something.
    Write,
    /// Consume from it, purge it, bind something to it.
    Read,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        })
    }
}

/// Something of a vhost that has permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thing<'a> {
    /// A queue or stream.
    Queue(&'a str),
    /// An exchange; the default one is matched as `amq.default`.
    Exchange(&'a str),
}

impl<'a> Thing<'a> {
    /// The name that patterns see.
    pub(super) fn name(self) -> &'a str {
        match self {
            Self::Exchange("") => "amq.default",
            Self::Exchange(name) | Self::Queue(name) => name,
        }
    }
}

impl Thing<'_> {
    /// What the audit log calls the use of it, and itself.
    pub(crate) fn audited(self, right: Right, vhost: &VhostName) -> (&'static str, AuditObject) {
        let (kind, operation) = match (self, right) {
            (Self::Queue(_), Right::Configure) => ("queue", "queue.configure"),
            (Self::Queue(_), Right::Write) => ("queue", "queue.write"),
            (Self::Queue(_), Right::Read) => ("queue", "queue.read"),
            (Self::Exchange(_), Right::Configure) => ("exchange", "exchange.configure"),
            (Self::Exchange(_), Right::Write) => ("exchange", "exchange.write"),
            (Self::Exchange(_), Right::Read) => ("exchange", "exchange.read"),
        };
        (operation, AuditObject::in_vhost(kind, vhost, self.name()))
    }
}

impl fmt::Display for Thing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if matches!(self, Self::Queue(_)) { "queue" } else { "exchange" };
        write!(f, "{kind} '{}'", self.name())
    }
}

/// A user may not do this (403). The text is RabbitMQ's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{right} access to {what} in vhost '{vhost}' refused for user '{user}'")]
pub struct AccessRefused {
    /// What was wanted.
    pub right: Right,
    /// Of what: `queue 'q'`, `topic 'a.b' in exchange 'x'`.
    pub what: String,
    /// Where.
    pub vhost: VhostName,
    /// Who.
    pub user: UserName,
}

/// What a user may do in a vhost: regular expressions, searched for in the names of queues and exchanges. `.*` is
/// everything, the empty text nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permissions {
    /// Declare and delete.
    pub configure: Box<str>,
    /// Publish to, bind.
    pub write: Box<str>,
    /// Consume from, bind to.
    pub read: Box<str>,
}

impl Permissions {
    /// Everything.
    pub fn all() -> Self {
        Self { configure: ".*".into(), write: ".*".into(), read: ".*".into() }
    }
}

/// On top of [`Permissions`], which routing keys and binding keys of a topic exchange a user may use. `{username}` and
/// `{vhost}` in them stand for those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPermission {
    /// The topic exchange.
    pub exchange: ExchangeName,
    /// Of routing keys that are published with.
    pub write: Box<str>,
    /// Of binding keys.
    pub read: Box<str>,
}

/// A compiled pattern; the two that everybody uses cost nothing.
#[derive(Debug)]
enum NamePattern {
    Nothing,
    Everything,
    Some(Regex),
}

impl NamePattern {
    fn new(text: &str) -> Result<Self, BadPattern> {
        Ok(match text {
            "" => Self::Nothing,
            ".*" | "^.*$" | "^.*" => Self::Everything,
            text => Self::Some(compile(text)?),
        })
    }

    fn fits(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Some(pattern) => is_match(pattern, name),
        }
    }
}

/// [`Permissions`] that can be asked.
#[derive(Debug)]
pub(super) struct Rights {
    pub(super) permissions: Permissions,
    configure: NamePattern,
    write: NamePattern,
    read: NamePattern,
}

impl Rights {
    pub(super) fn new(permissions: Permissions) -> Result<Self, BadPattern> {
        Ok(Self {
            configure: NamePattern::new(&permissions.configure)?,
            write: NamePattern::new(&permissions.write)?,
            read: NamePattern::new(&permissions.read)?,
            permissions,
        })
    }

    pub(super) fn allow(&self, right: Right, thing: Thing<'_>) -> bool {
        let pattern = match right {
            Right::Configure => &self.configure,
            Right::Write => &self.write,
            Right::Read => &self.read,
        };
        pattern.fits(thing.name())
    }
}

/// [`TopicPermission`]s of a user in a vhost that can be asked.
#[derive(Debug, Default)]
pub(super) struct TopicRights(BTreeMap<ExchangeName, TopicRight>);

#[derive(Debug)]
struct TopicRight {
    permission: TopicPermission,
    write: NamePattern,
    read: NamePattern,
}

impl TopicRights {
    pub(super) fn set(
        &mut self,
        permission: TopicPermission,
        (user, vhost): (&UserName, &VhostName),
    ) -> Result<(), BadPattern> {
        let filled = |text: &str| {
            let fill =
                |text: String, name: &str, value: &str| text.replace(name, &fancy_regex::escape(value));
            let text = fill(text.to_owned(), "{username}", user.as_str());
            NamePattern::new(&fill(text, "{vhost}", vhost.as_str()))
        };
        let (write, read) = (filled(&permission.write)?, filled(&permission.read)?);
        self.0.insert(permission.exchange.clone(), TopicRight { permission, write, read });
        Ok(())
    }

    /// Whether there was one.
    pub(super) fn clear(&mut self, exchange: &ExchangeName) -> bool {
        self.0.remove(exchange).is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &TopicPermission> {
        self.0.values().map(|right| &right.permission)
    }

    /// An exchange without topic permissions has none to keep.
    pub(super) fn allow(&self, right: Right, exchange: &str, key: &str) -> bool {
        let Some(found) = self.0.get(exchange) else { return true };
        match right {
            Right::Configure => true,
            Right::Write => found.write.fits(key),
            Right::Read => found.read.fits(key),
        }
    }
}
