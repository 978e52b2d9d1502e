//! What belongs to no session (the management side), and who may do it: one table.

use super::{Access, AccessRefused, Right, Thing, tag};
use crate::audit::AuditObject;
use crate::{Broker, Login};
use millpond_model::{UserName, VhostName};
use std::fmt;

/// What somebody wants to do outside a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Use the management side at all.
    Enter,
    /// See what is in a vhost.
    See(&'a VhostName),
    /// See what belongs to no single vhost: the node, everybody's connections.
    SeeAll,
    /// See or close connections of a user.
    Connections(&'a UserName),
    /// Set or clear policies and parameters of a vhost.
    SetPolicy(&'a VhostName),
    /// See parameters, the node's among them.
    SeeParameters,
    /// Change users, permissions, vhosts, limits, operator policies, definitions; see who may do what.
    Administer,
    /// See the engine: its rules, sources and topology.
    SeeEngine,
    /// Start, stop and change rules and sources, apply a topology.
    ChangeEngine,
    /// What a session would do with a thing of a vhost: look into a queue, pause it, move messages.
    Use(&'a VhostName, Right, Thing<'a>),
}

impl Operation<'_> {
    /// What the audit log calls it, and what it is about.
    fn audited(&self) -> (&'static str, AuditObject) {
        match *self {
            Self::Enter => ("management.enter", AuditObject::named("node", "")),
            Self::See(vhost) => ("vhost.see", AuditObject::named("vhost", vhost.as_str())),
            Self::SeeAll => ("node.see", AuditObject::named("node", "")),
            Self::Connections(user) => ("connections.manage", AuditObject::named("user", user.as_str())),
            Self::SetPolicy(vhost) => ("policies.manage", AuditObject::named("vhost", vhost.as_str())),
            Self::SeeParameters => ("parameters.see", AuditObject::named("node", "")),
            Self::Administer => ("node.administer", AuditObject::named("node", "")),
            Self::SeeEngine => ("engine.see", AuditObject::named("engine", "")),
            Self::ChangeEngine => ("engine.manage", AuditObject::named("engine", "")),
            Self::Use(vhost, right, thing) => thing.audited(right, vhost),
        }
    }
}

impl fmt::Display for Operation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enter => f.write_str("the management side is not open to"),
            Self::See(vhost) => write!(f, "vhost '{vhost}' is not shown to"),
            Self::SeeAll => f.write_str("the node and others' connections are not shown to"),
            Self::Connections(of) => write!(f, "connections of '{of}' are not in the hands of"),
            Self::SetPolicy(vhost) => write!(f, "policies of vhost '{vhost}' are not in the hands of"),
            Self::SeeParameters => f.write_str("parameters are not shown to"),
            Self::Administer => f.write_str("administration is not in the hands of"),
            Self::SeeEngine => f.write_str("rules and sources are not shown to"),
            Self::ChangeEngine => f.write_str("rules and sources are not in the hands of"),
            Self::Use(vhost, right, thing) => {
                write!(f, "{right} access to {thing} in vhost '{vhost}' refused for")
            }
        }
    }
}

/// Why an operation is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationRefused {
    /// The user's tags, or the lack of permissions in a vhost.
    #[error("{what} user '{user}': {needs} is needed")]
    Tags {
        /// What was wanted, as the beginning of a sentence.
        what: String,
        /// Who.
        user: UserName,
        /// Which tags, permissions.
        needs: &'static str,
    },
    /// The user's permissions.
    #[error(transparent)]
    Access(#[from] AccessRefused),
}

/// A user at the door of the operations that belong to no session.
#[derive(Debug, Clone)]
pub struct Operator {
    /// In the hands of the login.
    broker: Broker,
    login: Login,
    /// What is asked of the front end, for the audit log.
    request: Box<str>,
}

impl Operator {
    pub(crate) fn new(broker: &Broker, login: Login) -> Self {
        let broker = broker.in_hands_of((*login.actor).clone());
        Self { broker, login, request: Box::default() }
    }

    /// The same, who asks this of the front end (`PUT /users/ann`): an entry of a refusal says so. No secret.
    pub fn asking(self, request: impl Into<Box<str>>) -> Self {
        Self { request: request.into(), ..self }
    }

    /// Who it is.
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// Its tags.
    pub fn tags(&self) -> Vec<Box<str>> {
        self.broker.core.access.tags(&self.login)
    }

    /// The operations, if the user may do this one of them.
    pub fn may(&self, operation: Operation<'_>) -> Result<&Broker, OperationRefused> {
        let core = &self.broker.core;
        match core.access.may(&self.login, operation) {
            Ok(()) => Ok(&self.broker),
            Err(refused) => {
                let (name, object) = operation.audited();
                core.audit.refused(&self.login.actor, name, object, (&self.request, &refused.to_string()));
                Err(refused)
            }
        }
    }

    /// Whether the user may bring a message with these keys to an exchange, beside writing to it: topic permissions.
    pub(crate) fn may_use_keys(
        &self,
        vhost: &VhostName,
        exchange: &str,
        keys: &[&[u8]],
    ) -> Result<(), AccessRefused> {
        let core = &self.broker.core;
        let check = |key: &&[u8]| core.access.check_topic(&self.login, vhost, Right::Write, (exchange, *key));
        keys.iter().try_for_each(check).inspect_err(|refused| {
            let (name, object) = Thing::Exchange(exchange).audited(Right::Write, vhost);
            core.audit.refused(&self.login.actor, name, object, (&self.request, &refused.to_string()));
        })
    }

    /// Whether the user may.
    pub fn can(&self, operation: Operation<'_>) -> bool {
        self.broker.core.access.may(&self.login, operation).is_ok()
    }
}

impl Access {
    /// The table.
    pub(super) fn may(&self, login: &Login, operation: Operation<'_>) -> Result<(), OperationRefused> {
        if login.is_inside() {
            return Ok(());
        }
        let tags = self.tags(login);
        let has = |wanted: &[&str]| tags.iter().any(|tag| wanted.contains(&&**tag));
        let is_admin = has(&[tag::ADMINISTRATOR]);
        let sees_all = is_admin || has(&[tag::MONITORING]);
        let enters = sees_all || has(&[tag::MANAGEMENT, tag::POLICYMAKER]);
        let in_vhost = |vhost: &VhostName| self.may_enter(login, vhost);
        let (allowed, needs) = match operation {
            Operation::Enter => {
                (enters, "one of the tags management, policymaker, monitoring and administrator")
            }
            Operation::See(vhost) => {
                (sees_all || enters && in_vhost(vhost), "permissions there, or the tag monitoring")
            }
            Operation::SeeAll | Operation::SeeEngine => (sees_all, "the tag monitoring or administrator"),
            Operation::Connections(of) => {
                (is_admin || enters && *of == login.user, "to be that user, or the tag administrator")
            }
            Operation::SetPolicy(vhost) => (
                is_admin || has(&[tag::POLICYMAKER]) && in_vhost(vhost),
                "the tag policymaker with permissions there, or the tag administrator",
            ),
            Operation::SeeParameters => {
                (is_admin || has(&[tag::POLICYMAKER]), "the tag policymaker or administrator")
            }
            Operation::Administer | Operation::ChangeEngine => (is_admin, "the tag administrator"),
            Operation::Use(vhost, right, thing) => {
                if !enters {
                    return self.may(login, Operation::Enter);
                }
                return Ok(self.check(login, vhost, right, thing)?);
            }
        };
        match allowed {
            true => Ok(()),
            false => {
                Err(OperationRefused::Tags { what: operation.to_string(), user: login.user.clone(), needs })
            }
        }
    }
}
