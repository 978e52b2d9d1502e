//! Users, their tags, and what they may do.

use super::VhostMissing;
use crate::access::{BadHash, HashAlgorithm, PasswordHash, Permissions, TopicPermission, User, tag};
use crate::audit::AuditObject;
use crate::definition::{
    HAD_USERS, HAD_USERS_VALUE, encode_permissions, encode_topic_permission, encode_user, permission_key,
    topic_permission_key, user_key, user_limits_key,
};
use crate::request::UserLimits;
use crate::{BadPattern, Broker, Saved, WriteRefused};
use millpond_model::{ExchangeName, UserName, VhostName};
use millpond_store::Batch;
use std::sync::Arc;

/// Users a broker may have.
const USERS_MAX: usize = 100_000;
/// Tags a user may have, and the longest. Bytes.
const TAGS_MAX: usize = 64;
const TAG_MAX_BYTES: usize = 255;
/// Longest password. Bytes.
const PASSWORD_MAX_BYTES: usize = 4096;

/// What a user logs in with.
#[derive(Clone, PartialEq, Eq)]
pub enum NewPassword {
    /// As before; a new user has none.
    AsBefore,
    /// None: no password lets the user in.
    None,
    /// This one.
    Plain(Box<[u8]>),
    /// One that was hashed elsewhere, as definitions carry it.
    Hashed {
        /// By what.
        algorithm: HashAlgorithm,
        /// Base64 of salt and digest.
        hash: Box<str>,
    },
}

impl std::fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AsBefore => "AsBefore",
            Self::None => "None",
            Self::Plain(_) => "Plain(..)",
            Self::Hashed { .. } => "Hashed(..)",
        })
    }
}

/// What a user is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserSpec {
    /// Its name.
    pub name: UserName,
    /// What it logs in with.
    pub password: NewPassword,
    /// What it may do on the management side: [`tag`]s, and others that mean nothing here. `None`: as before.
    pub tags: Option<Vec<Box<str>>>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserInfo {
    /// Its name.
    pub name: UserName,
    /// Its tags.
    pub tags: Vec<Box<str>>,
    /// How its password is hashed, and the hash in Base64; `None`: no password lets it in.
    pub hash: Option<(HashAlgorithm, Box<str>)>,
    /// What it may have.
    pub limits: UserLimits,
    /// What it may do, by vhost.
    pub permissions: Vec<(VhostName, Permissions)>,
    /// What it may do with topic exchanges, by vhost.
    pub topic_permissions: Vec<(VhostName, TopicPermission)>,
}

/// Why a user or its permissions are not changed.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// There is none.
    #[error("no user '{user}'")]
    Missing {
        /// As asked.
        user: UserName,
    },
    /// Nobody could log in without a name.
    #[error("a user needs a name of 1 to 255 bytes")]
    NoName,
    /// A password that is too long to be meant.
    #[error("a password of {size_bytes} bytes is over the limit of {PASSWORD_MAX_BYTES}")]
    PasswordTooLong {
        /// How long it is.
        size_bytes: usize,
    },
    /// A password of no bytes lets nobody in.
    #[error("a password must not be empty; for a user without one, say so")]
    EmptyPassword,
    /// A hash that is none.
    #[error(transparent)]
    BadHash(#[from] BadHash),
    /// A tag that is none.
    #[error("a user has at most {TAGS_MAX} tags of 1 to {TAG_MAX_BYTES} bytes: '{tag}'")]
    BadTags {
        /// The first that is wrong, shortened.
        tag: String,
    },
    /// Too many.
    #[error("there are {USERS_MAX} users already, which is the limit: delete some")]
    TooMany,
    /// No such vhost.
    #[error(transparent)]
    Vhost(#[from] VhostMissing),
    /// A permission that is no pattern.
    #[error(transparent)]
    BadPattern(#[from] BadPattern),
    /// The store takes no writes.
    #[error(transparent)]
    Refused(#[from] WriteRefused),
}

impl Broker {
    /// Every user, by name.
    pub fn list_users(&self) -> Vec<UserInfo> {
        self.core.access.all().into_iter().map(|(name, user)| self.describe_user(name, &user)).collect()
    }

    /// A password as RabbitMQ hashes it (SHA-256), in Base64: what [`NewPassword::Hashed`] takes.
    pub fn rabbitmq_hash(password: &[u8]) -> String {
        PasswordHash::of_rabbitmq(password).export()
    }

    /// One user.
    pub fn user(&self, name: &UserName) -> Result<UserInfo, UserError> {
        let user = self.core.access.get(name).ok_or_else(|| UserError::Missing { user: name.clone() })?;
        Ok(self.describe_user(name.clone(), &user))
    }

    fn describe_user(&self, name: UserName, user: &User) -> UserInfo {
        let hash = user.hash.as_ref().map(|hash| (hash.algorithm(), hash.export().into()));
        let (limits, tags) = (self.user_limits(&name), user.tags.clone());
        let (permissions, topic_permissions) = (user.permissions(), user.topic_permissions());
        UserInfo { name, tags, hash, limits, permissions, topic_permissions }
    }

    /// Adds a user, or changes one; `true`: it is new, and may do nothing in any vhost yet. Connections that are open
    /// stay. Hashing a password takes tens of milliseconds of CPU.
    pub fn set_user(&self, spec: &UserSpec) -> Result<(bool, Saved), UserError> {
        let set = self.put_user(spec)?;
        let password = match &spec.password {
            NewPassword::AsBefore => "as before",
            NewPassword::None => "none",
            NewPassword::Plain(_) => "set",
            NewPassword::Hashed { .. } => "set (given hashed)",
        };
        let tags =
            spec.tags.as_ref().map_or_else(|| "as before".to_owned(), |tags| format!("[{}]", tags.join(",")));
        let operation = if set.0 { "user.created" } else { "user.changed" };
        let detail = format!("password {password}, tags {tags}");
        self.audit(operation, AuditObject::named("user", spec.name.as_str()), &detail);
        Ok(set)
    }

    /// As [`Self::set_user`], which is entered into the audit log besides.
    pub(crate) fn put_user(&self, spec: &UserSpec) -> Result<(bool, Saved), UserError> {
        if spec.name.is_empty() {
            return Err(UserError::NoName);
        }
        if let Some(tags) = &spec.tags {
            let fits = |tag: &str| !tag.is_empty() && tag.len() <= TAG_MAX_BYTES && !tag.contains(',');
            let wrong = tags.iter().find(|tag| !fits(tag)).or(tags.get(TAGS_MAX));
            if let Some(tag) = wrong {
                return Err(UserError::BadTags { tag: tag.chars().take(80).collect() });
            }
        }
        let password = match &spec.password {
            NewPassword::AsBefore => None,
            NewPassword::None => Some(None),
            NewPassword::Plain(password) if password.is_empty() => return Err(UserError::EmptyPassword),
            NewPassword::Plain(password) if password.len() > PASSWORD_MAX_BYTES => {
                return Err(UserError::PasswordTooLong { size_bytes: password.len() });
            }
            NewPassword::Plain(password) => Some(Some(PasswordHash::new(password))),
            NewPassword::Hashed { algorithm, hash } => Some(Some(PasswordHash::import(*algorithm, hash)?)),
        };
        self.core.check_writable()?;
        let access = &self.core.access;
        let _order = access.changing.lock();
        let was = access.get(&spec.name);
        if was.is_none() && access.count() >= USERS_MAX {
            return Err(UserError::TooMany);
        }
        let before = || was.as_ref().and_then(|user| user.hash.clone());
        let hash = password.unwrap_or_else(before);
        let tags =
            spec.tags.clone().or_else(|| was.as_ref().map(|user| user.tags.clone())).unwrap_or_default();
        let mut batch = self.core.store.begin();
        batch.put(HAD_USERS, HAD_USERS_VALUE);
        batch.put(&user_key(&spec.name), &encode_user(hash.as_ref(), &tags));
        let is_new = access.set(&spec.name, hash, tags);
        tracing::info!(user = %spec.name, is_new, "user set");
        Ok((is_new, self.core.save(batch)))
    }

    /// Deletes a user with its permissions and limits; its connections are closed (320).
    pub fn delete_user(&self, name: &UserName) -> Result<Saved, UserError> {
        self.core.check_writable()?;
        let _order = self.core.access.changing.lock();
        let user = self.core.access.remove(name).ok_or_else(|| UserError::Missing { user: name.clone() })?;
        let mut batch = self.core.store.begin();
        batch.delete(&user_key(name));
        batch.delete(&user_limits_key(name));
        user.permissions().iter().for_each(|(vhost, _)| batch.delete(&permission_key(vhost, name)));
        for (vhost, permission) in user.topic_permissions() {
            batch.delete(&topic_permission_key(&vhost, name, &permission.exchange));
        }
        self.core.sessions.set_limits(name, UserLimits::default());
        self.routes_anew(None);
        let saved = self.core.save(batch);
        let reason: Arc<str> = format!("user '{name}' is deleted").into();
        self.core.sessions.inboxes_of(name).iter().for_each(|inbox| inbox.end(reason.clone()));
        tracing::info!(user = %name, "user deleted");
        self.audit("user.deleted", AuditObject::named("user", name.as_str()), "");
        Ok(saved)
    }

    /// Sets what a user may do in a vhost, in place of what it was allowed there.
    pub fn set_permissions(
        &self,
        user: &UserName,
        vhost: &VhostName,
        permissions: Permissions,
    ) -> Result<Saved, UserError> {
        self.vhost(vhost)?;
        self.core.check_writable()?;
        let _order = self.core.access.changing.lock();
        let value = encode_permissions(&permissions);
        let Permissions { configure, write, read } = &permissions;
        let detail = format!("configure '{configure}', write '{write}', read '{read}'");
        self.found(user, self.core.access.permit(user, vhost, permissions)?)?;
        let mut batch = self.core.store.begin();
        batch.put(&permission_key(vhost, user), &value);
        self.routes_anew(Some(vhost));
        tracing::info!(%user, %vhost, "permissions set");
        self.audit("permission.created", of_user("permission", user, vhost), &detail);
        Ok(self.core.save(batch))
    }

    /// Takes what a user may do in a vhost away; having none is fine. Connections that are open stay, and may do
    /// nothing that is asked for.
    pub fn clear_permissions(&self, user: &UserName, vhost: &VhostName) -> Result<Saved, UserError> {
        self.vhost(vhost)?;
        self.core.check_writable()?;
        let _order = self.core.access.changing.lock();
        self.found(user, self.core.access.get(user))?;
        let mut batch = self.core.store.begin();
        if self.core.access.forbid(user, vhost) {
            batch.delete(&permission_key(vhost, user));
            self.routes_anew(Some(vhost));
            tracing::info!(%user, %vhost, "permissions cleared");
            self.audit("permission.deleted", of_user("permission", user, vhost), "");
        }
        Ok(self.core.save(batch))
    }

    /// Sets which keys of a topic exchange a user may use.
    pub fn set_topic_permission(
        &self,
        user: &UserName,
        vhost: &VhostName,
        permission: TopicPermission,
    ) -> Result<Saved, UserError> {
        self.vhost(vhost)?;
        self.core.check_writable()?;
        let _order = self.core.access.changing.lock();
        let (key, value) =
            (topic_permission_key(vhost, user, &permission.exchange), encode_topic_permission(&permission));
        let TopicPermission { exchange, write, read } = &permission;
        let detail = format!("exchange '{exchange}', write '{write}', read '{read}'");
        self.found(user, self.core.access.permit_topic(user, vhost, permission)?)?;
        let mut batch = self.core.store.begin();
        batch.put(&key, &value);
        self.routes_anew(Some(vhost));
        tracing::info!(%user, %vhost, "topic permissions set");
        self.audit("topic.permission.created", of_user("topic_permission", user, vhost), &detail);
        Ok(self.core.save(batch))
    }

    /// Takes topic permissions of a user in a vhost away, of one exchange or all of them; having none is fine.
    pub fn clear_topic_permissions(
        &self,
        user: &UserName,
        vhost: &VhostName,
        exchange: Option<&ExchangeName>,
    ) -> Result<Saved, UserError> {
        self.vhost(vhost)?;
        self.core.check_writable()?;
        let _order = self.core.access.changing.lock();
        self.found(user, self.core.access.get(user))?;
        let mut batch = self.core.store.begin();
        for exchange in self.core.access.forbid_topic(user, vhost, exchange) {
            batch.delete(&topic_permission_key(vhost, user, &exchange));
            let detail = format!("exchange '{exchange}'");
            self.audit("topic.permission.deleted", of_user("topic_permission", user, vhost), &detail);
        }
        self.routes_anew(Some(vhost));
        tracing::info!(%user, %vhost, "topic permissions cleared");
        Ok(self.core.save(batch))
    }

    fn found<T>(&self, user: &UserName, found: Option<T>) -> Result<T, UserError> {
        found.ok_or_else(|| UserError::Missing { user: user.clone() })
    }

    /// What sessions remember of where they may publish to is asked again.
    fn routes_anew(&self, vhost: Option<&VhostName>) {
        let vhosts = self.core.vhosts.read();
        vhosts.values().filter(|it| vhost.is_none_or(|vhost| it.name == *vhost)).for_each(|it| it.changed());
    }

    // ---- the default user

    /// Makes the default user of the options, with everything in every vhost, in a store that never had a user.
    pub(crate) fn ensure_default_user(&self) {
        let options = &self.core.options;
        let name = options.default_user.clone();
        let hash = PasswordHash::new(options.default_password.as_bytes());
        let tags: Vec<Box<str>> = vec![tag::ADMINISTRATOR.into()];
        let mut batch = self.core.store.begin();
        batch.put(HAD_USERS, HAD_USERS_VALUE);
        batch.put(&user_key(&name), &encode_user(Some(&hash), &tags));
        self.core.access.set(&name, Some(hash), tags);
        let vhosts: Vec<_> = self.core.vhosts.read().keys().cloned().collect();
        vhosts.iter().for_each(|vhost| self.permit_default_user(vhost, &mut batch));
        self.core.store.commit(batch, None);
        let detail = "the default user of a new store, with all permissions";
        self.audit("user.created", AuditObject::named("user", name.as_str()), detail);
    }

    /// The default user, if there is one, may do everything in a new vhost: whoever makes one without saying who may
    /// use it could not use it otherwise.
    pub(super) fn permit_default_user(&self, vhost: &VhostName, batch: &mut Batch) {
        let user = &self.core.options.default_user;
        if let Ok(Some(())) = self.core.access.permit(user, vhost, Permissions::all()) {
            batch.put(&permission_key(vhost, user), &encode_permissions(&Permissions::all()));
        }
    }
}

/// What belongs to a user in a vhost.
fn of_user(kind: &'static str, user: &UserName, vhost: &VhostName) -> AuditObject {
    AuditObject::in_vhost(kind, vhost, user.as_str())
}
