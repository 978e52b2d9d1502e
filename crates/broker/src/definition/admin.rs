//! Records of what an operator sets: vhosts, policies, limits, altered arguments. Layouts in the module above.

use super::{Reader, VERSION, key, put_name, put_table};
use crate::admin::Parameter;
use crate::policy::{ApplyTo, PolicyDefinition, PolicySpec};
use crate::request::{UserLimits, VhostLimits};
use millpond_model::table::Table;
use millpond_model::{QueueName, UserName, VhostName};

/// Prefixes of the keys.
pub(crate) const VHOSTS: &[u8] = b"v/";
pub(crate) const USER_LIMITS: &[u8] = b"u/";
pub(crate) const POLICIES: &[u8] = b"p/";
pub(crate) const OPERATOR_POLICIES: &[u8] = b"o/";
pub(crate) const ALTERED: &[u8] = b"a/";
pub(crate) const PARAMETERS: &[u8] = b"pa/";

/// Of a vhost: it must not be deleted.
const PROTECTED: u8 = 1;

/// No limit, as RabbitMQ writes it.
const UNLIMITED: i64 = -1;

/// A vhost as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct VhostDefinition {
    pub(crate) limits: VhostLimits,
    /// `classic`, `quorum` or `stream`; empty: none is set.
    pub(crate) default_queue_type: Box<str>,
    pub(crate) description: Box<str>,
    /// Whether it must not be deleted.
    pub(crate) is_protected: bool,
    pub(crate) tags: Vec<Box<str>>,
}

impl VhostDefinition {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_limit(&mut out, self.limits.connections_max);
        put_limit(&mut out, self.limits.queues_max);
        put_name(&mut out, self.default_queue_type.as_bytes());
        put_name(&mut out, self.description.as_bytes());
        out.push(if self.is_protected { PROTECTED } else { 0 });
        self.tags.iter().for_each(|tag| put_name(&mut out, tag.as_bytes()));
        out
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, String> {
        let mut rest = Reader::of_version(value)?;
        let limits = VhostLimits { connections_max: limit(&mut rest)?, queues_max: limit(&mut rest)? };
        let (default_queue_type, description) = (rest.text()?.into(), rest.text()?.into());
        let mut this = Self { limits, default_queue_type, description, ..Self::default() };
        // Versions without protection and tags ended here.
        if !rest.0.is_empty() {
            this.is_protected = rest.flags(PROTECTED)? != 0;
        }
        while !rest.0.is_empty() {
            this.tags.push(rest.text()?.into());
        }
        Ok(this)
    }
}

pub(crate) fn vhost_key(vhost: &VhostName) -> Vec<u8> {
    [VHOSTS, vhost.as_str().as_bytes()].concat()
}

pub(crate) fn user_limits_key(user: &UserName) -> Vec<u8> {
    [USER_LIMITS, user.as_str().as_bytes()].concat()
}

pub(crate) fn encode_user_limits(limits: UserLimits) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_limit(&mut out, limits.connections_max);
    put_limit(&mut out, limits.channels_max);
    out
}

pub(crate) fn decode_user_limits(value: &[u8]) -> Result<UserLimits, String> {
    let mut rest = Reader::of_version(value)?;
    Ok(UserLimits { connections_max: limit(&mut rest)?, channels_max: limit(&mut rest)? })
}

/// All keys of a vhost under a prefix begin so.
pub(crate) fn vhost_prefix(prefix: &[u8], vhost: &VhostName) -> Vec<u8> {
    key(prefix, vhost)
}

/// The key of a policy; the prefix says of which kind.
pub(crate) fn policy_key(prefix: &[u8], vhost: &VhostName, policy: &str) -> Vec<u8> {
    let mut out = key(prefix, vhost);
    out.extend_from_slice(policy.as_bytes());
    out
}

pub(crate) fn encode_policy(policy: &PolicySpec) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_name(&mut out, policy.apply_to.as_str().as_bytes());
    out.extend_from_slice(&policy.priority.to_be_bytes());
    let pattern = policy.pattern.as_bytes();
    out.extend_from_slice(&(pattern.len() as u32).to_be_bytes());
    out.extend_from_slice(pattern);
    put_table(&mut out, policy.definition.as_table());
    out
}

pub(crate) fn decode_policy(name: &[u8], value: &[u8]) -> Result<PolicySpec, String> {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(Box::from).map_err(|e| e.to_string());
    let mut rest = Reader::of_version(value)?;
    let apply_to = ApplyTo::parse(rest.text()?).map_err(|e| e.to_string())?;
    let priority = rest.u64()?.cast_signed();
    let length = rest.take(4)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    Ok(PolicySpec {
        name: text(name)?,
        pattern: text(rest.take(length)?)?,
        apply_to,
        priority,
        definition: PolicyDefinition::new(&rest.table()?).map_err(|e| e.to_string())?,
    })
}

/// The key of a parameter.
pub(crate) fn parameter_key(vhost: Option<&VhostName>, component: &str, name: &str) -> Vec<u8> {
    let mut out = PARAMETERS.to_vec();
    put_name(&mut out, vhost.map_or("", |vhost| vhost.as_str()).as_bytes());
    put_name(&mut out, component.as_bytes());
    out.extend_from_slice(name.as_bytes());
    out
}

pub(crate) fn encode_parameter(value: &serde_json::Value) -> Vec<u8> {
    [&[VERSION][..], value.to_string().as_bytes()].concat()
}

pub(crate) fn decode_parameter(key: &[u8], value: &[u8]) -> Result<Parameter, String> {
    let mut named = Reader::after(PARAMETERS, key)?;
    let vhost = VhostName::new(named.text()?).map_err(|e| e.to_string())?;
    let component = named.text()?.into();
    Ok(Parameter {
        vhost: Some(vhost).filter(|vhost| !vhost.is_empty()),
        component,
        name: std::str::from_utf8(named.0).map_err(|e| e.to_string())?.into(),
        value: serde_json::from_slice(Reader::of_version(value)?.0).map_err(|e| e.to_string())?,
    })
}

/// The key of a queue's altered arguments.
pub(crate) fn altered_key(vhost: &VhostName, queue: &QueueName) -> Vec<u8> {
    let mut out = key(ALTERED, vhost);
    out.extend_from_slice(queue.as_str().as_bytes());
    out
}

pub(crate) fn encode_altered(altered: &Table) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_table(&mut out, altered);
    out
}

pub(crate) fn decode_altered(value: &[u8]) -> Result<Table, String> {
    Reader::of_version(value)?.table()
}

fn put_limit(out: &mut Vec<u8>, limit: Option<u64>) {
    let limit = limit.map_or(UNLIMITED, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    out.extend_from_slice(&limit.to_be_bytes());
}

fn limit(rest: &mut Reader<'_>) -> Result<Option<u64>, String> {
    Ok(u64::try_from(rest.u64()?.cast_signed()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_sets_reads_back_as_it_was_written() {
        let limits = VhostLimits { connections_max: Some(0), queues_max: None };
        let vhost = VhostDefinition {
            limits,
            default_queue_type: "quorum".into(),
            description: "é".into(),
            is_protected: true,
            tags: vec!["a".into(), "".into()],
        };
        assert_eq!(VhostDefinition::decode(&vhost.encode()), Ok(vhost));
        let limits = UserLimits { connections_max: None, channels_max: Some(7) };
        assert_eq!(decode_user_limits(&encode_user_limits(limits)), Ok(limits));
        let policy = PolicySpec {
            name: "p".into(),
            pattern: "^a.*".repeat(100).into(),
            apply_to: ApplyTo::QuorumQueues,
            priority: -3,
            definition: PolicyDefinition::from_json(r#"{"max-length": 5, "overflow": "drop-head"}"#).unwrap(),
        };
        assert_eq!(decode_policy(b"p", &encode_policy(&policy)), Ok(policy));
        let altered: Table = [("x-max-length", 5)].into_iter().collect();
        assert_eq!(decode_altered(&encode_altered(&altered)), Ok(altered));
    }

    #[test]
    fn every_cut_of_a_vhost_or_its_limits_is_an_error() {
        let vhost = VhostDefinition::default().encode();
        // Without its last byte it is what earlier versions wrote.
        assert_eq!(VhostDefinition::decode(&vhost[..vhost.len() - 1]), Ok(VhostDefinition::default()));
        assert!((0..vhost.len() - 1).all(|end| VhostDefinition::decode(&vhost[..end]).is_err()));
        let limits = encode_user_limits(UserLimits::default());
        assert!((0..limits.len()).all(|end| decode_user_limits(&limits[..end]).is_err()));
    }
}
