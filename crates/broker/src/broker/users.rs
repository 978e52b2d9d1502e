//! Users and permissions as the store holds them.

use super::found::bad;
use crate::OpenBrokerError;
use crate::access::{Access, Permissions, TopicPermission};
use crate::definition::{self, StoredUser};
use millpond_model::{UserName, VhostName};
use millpond_store::Store;

/// See the module.
pub(super) struct StoredUsers {
    had_users: bool,
    users: Vec<(UserName, StoredUser)>,
    permissions: Vec<(VhostName, UserName, Permissions)>,
    topics: Vec<(VhostName, UserName, TopicPermission)>,
}

impl StoredUsers {
    pub(super) fn read(store: &Store) -> Result<Self, OpenBrokerError> {
        let had_users = !store.values(definition::HAD_USERS)?.is_empty();
        let mut found = Self { had_users, users: Vec::new(), permissions: Vec::new(), topics: Vec::new() };
        for (key, value) in store.values(definition::USERS)? {
            let name = UserName::from_bytes(&key[definition::USERS.len()..]);
            let name = name.map_err(|e| bad(&key)(e.to_string()))?;
            found.users.push((name, definition::decode_user(&value).map_err(bad(&key))?));
        }
        for (key, value) in store.values(definition::PERMISSIONS)? {
            let (vhost, user) =
                definition::decode_name_key(definition::PERMISSIONS, &key).map_err(bad(&key))?;
            let user = UserName::from_bytes(user).map_err(|e| bad(&key)(e.to_string()))?;
            let permissions = definition::decode_permissions(&value).map_err(bad(&key))?;
            found.permissions.push((vhost, user, permissions));
        }
        for (key, value) in store.values(definition::TOPIC_PERMISSIONS)? {
            let (vhost, user, exchange) = definition::decode_topic_key(&key).map_err(bad(&key))?;
            let permission = definition::decode_topic_permission(exchange, &value).map_err(bad(&key))?;
            found.topics.push((vhost, user, permission));
        }
        Ok(found)
    }

    /// Puts them into the table; whether there was a user once.
    pub(super) fn restore(self, access: &Access) -> bool {
        for (name, (hash, tags)) in self.users {
            access.set(&name, hash, tags);
        }
        for (vhost, user, permissions) in self.permissions {
            if let Err(error) = access.permit(&user, &vhost, permissions) {
                tracing::error!(%user, %vhost, %error, "stored permissions are not in force");
            }
        }
        for (vhost, user, permission) in self.topics {
            if let Err(error) = access.permit_topic(&user, &vhost, permission) {
                tracing::error!(%user, %vhost, %error, "stored topic permissions are not in force");
            }
        }
        self.had_users
    }
}
