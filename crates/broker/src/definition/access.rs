//! Records of users and what they may do. Layouts in the module above.

use super::{Reader, VERSION, key, put_name};
use crate::access::{HashAlgorithm, PasswordHash, Permissions, TopicPermission};
use millpond_model::{ExchangeName, UserName, VhostName};

/// Prefixes of the keys.
pub(crate) const USERS: &[u8] = b"us/";
pub(crate) const PERMISSIONS: &[u8] = b"pe/";
pub(crate) const TOPIC_PERMISSIONS: &[u8] = b"tp/";
/// There once was a user: the default one is not made again.
pub(crate) const HAD_USERS: &[u8] = b"m/users";
pub(crate) const HAD_USERS_VALUE: &[u8] = &[VERSION];

pub(crate) fn user_key(user: &UserName) -> Vec<u8> {
    [USERS, user.as_str().as_bytes()].concat()
}

pub(crate) fn permission_key(vhost: &VhostName, user: &UserName) -> Vec<u8> {
    let mut out = key(PERMISSIONS, vhost);
    out.extend_from_slice(user.as_str().as_bytes());
    out
}

pub(crate) fn topic_permission_key(vhost: &VhostName, user: &UserName, exchange: &ExchangeName) -> Vec<u8> {
    let mut out = key(TOPIC_PERMISSIONS, vhost);
    put_name(&mut out, user.as_str().as_bytes());
    out.extend_from_slice(exchange.as_str().as_bytes());
    out
}

/// Splits the key of a topic permission.
pub(crate) fn decode_topic_key(key: &[u8]) -> Result<(VhostName, UserName, ExchangeName), String> {
    let mut rest = Reader::after(TOPIC_PERMISSIONS, key)?;
    let vhost = VhostName::from_bytes(rest.name()?).map_err(|e| e.to_string())?;
    let user = UserName::from_bytes(rest.name()?).map_err(|e| e.to_string())?;
    Ok((vhost, user, ExchangeName::from_bytes(rest.0).map_err(|e| e.to_string())?))
}

pub(crate) fn encode_user(hash: Option<&PasswordHash>, tags: &[Box<str>]) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_name(&mut out, hash.map_or("", |hash| hash.algorithm().as_str()).as_bytes());
    put_name(&mut out, hash.map_or(&[], |hash| hash.as_bytes()));
    tags.iter().for_each(|tag| put_name(&mut out, tag.as_bytes()));
    out
}

/// A user as it is stored.
pub(crate) type StoredUser = (Option<PasswordHash>, Vec<Box<str>>);

pub(crate) fn decode_user(value: &[u8]) -> Result<StoredUser, String> {
    let mut rest = Reader::of_version(value)?;
    let (algorithm, bytes) = (rest.text()?.to_owned(), rest.name()?);
    let hash = if algorithm.is_empty() {
        None
    } else {
        let known = HashAlgorithm::parse(&algorithm);
        let known = known.ok_or_else(|| format!("passwords hashed by {algorithm} are not known here"))?;
        Some(PasswordHash::of_bytes(known, bytes.into())?)
    };
    let mut tags = Vec::new();
    while !rest.0.is_empty() {
        tags.push(rest.text()?.into());
    }
    Ok((hash, tags))
}

pub(crate) fn encode_permissions(permissions: &Permissions) -> Vec<u8> {
    let mut out = vec![VERSION];
    [&permissions.configure, &permissions.write, &permissions.read]
        .iter()
        .for_each(|it| put_text(&mut out, it));
    out
}

pub(crate) fn decode_permissions(value: &[u8]) -> Result<Permissions, String> {
    let mut rest = Reader::of_version(value)?;
    Ok(Permissions {
        configure: long_text(&mut rest)?,
        write: long_text(&mut rest)?,
        read: long_text(&mut rest)?,
    })
}

pub(crate) fn encode_topic_permission(permission: &TopicPermission) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_text(&mut out, &permission.write);
    put_text(&mut out, &permission.read);
    out
}

pub(crate) fn decode_topic_permission(
    exchange: ExchangeName,
    value: &[u8],
) -> Result<TopicPermission, String> {
    let mut rest = Reader::of_version(value)?;
    Ok(TopicPermission { exchange, write: long_text(&mut rest)?, read: long_text(&mut rest)? })
}

/// Patterns are longer than names may be; their own limit is far below 4 GiB.
fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u32).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn long_text(rest: &mut Reader<'_>) -> Result<Box<str>, String> {
    let length = rest.take(4)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    std::str::from_utf8(rest.take(length)?).map(Box::from).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_permissions_read_back_as_they_were_written() {
        let tags: Vec<Box<str>> = vec!["administrator".into(), "é".into()];
        for hash in [None, Some(PasswordHash::new(b"p"))] {
            let value = encode_user(hash.as_ref(), &tags);
            assert_eq!(decode_user(&value), Ok((hash, tags.clone())));
        }
        let permissions =
            Permissions { configure: "".into(), write: "^a.*".repeat(200).into(), read: ".*".into() };
        let value = encode_permissions(&permissions);
        assert_eq!(decode_permissions(&value), Ok(permissions));
        assert!((0..value.len()).all(|end| decode_permissions(&value[..end]).is_err()));
        let (vhost, user) = (VhostName::new("v/w").unwrap(), UserName::new("u").unwrap());
        let exchange = ExchangeName::new("x").unwrap();
        let permission = TopicPermission { exchange: exchange.clone(), write: "a".into(), read: "b".into() };
        let value = encode_topic_permission(&permission);
        assert_eq!(decode_topic_permission(exchange.clone(), &value), Ok(permission));
        let found = decode_topic_key(&topic_permission_key(&vhost, &user, &exchange));
        assert_eq!(found, Ok((vhost, user, exchange)));
    }
}
