//! Who is connected: the open sessions by vhost and user, and the limits they count against.
//!
//! In-process clients (`Login::peer` is `None`: rules, the control socket) count against nothing: a limit must not
//! lock out whoever is to lift it.

use crate::OpenSessionError;
use crate::admin::{ClientFacts, ConnectionInfo};
use crate::request::{UserLimits, VhostLimits};
use crate::session::ChannelState;
use crate::session::inbox::Inbox;
use crate::stats::Meter;
use hashbrown::HashMap;
use millpond_model::{UserName, VhostName};
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: HashMap<u64, Open>,
    /// Of them those that count.
    counted: usize,
    users: HashMap<UserName, UserUse>,
    vhosts: HashMap<VhostName, u64>,
}

#[derive(Debug)]
struct Open {
    inbox: Weak<Inbox>,
    vhost: VhostName,
    /// `None`: it does not count.
    user: Option<UserName>,
    /// Those that are open, ascending by number.
    channels: Vec<(u16, Arc<ChannelState>)>,
    traffic: Arc<Meter>,
    name: Box<str>,
    peer: Option<IpAddr>,
    opened_ms: u64,
    client: Option<Arc<ClientFacts>>,
}

/// What a user has, and may have.
#[derive(Debug, Default)]
struct UserUse {
    connections: u64,
    channels: u64,
    limits: UserLimits,
}

impl UserUse {
    fn is_idle(&self) -> bool {
        self.connections == 0 && self.limits == UserLimits::default()
    }
}

/// A session to be counted.
pub(crate) struct Newcomer<'a> {
    pub(crate) inbox: &'a Arc<Inbox>,
    pub(crate) vhost: &'a VhostName,
    pub(crate) vhost_limits: VhostLimits,
    pub(crate) user: &'a UserName,
    pub(crate) is_internal: bool,
    pub(crate) sessions_max: usize,
    pub(crate) name: &'a str,
    pub(crate) peer: Option<IpAddr>,
    pub(crate) opened_ms: u64,
    pub(crate) traffic: Arc<Meter>,
}

fn is_reached(limit: Option<u64>, count: u64) -> Option<u64> {
    limit.filter(|limit| count >= *limit)
}

impl Sessions {
    /// Takes a session in; its key. Errors: a limit of the node, the vhost or the user.
    pub(crate) fn add(&self, new: &Newcomer<'_>) -> Result<u64, OpenSessionError> {
        let mut state = self.0.lock();
        if !new.is_internal {
            if state.counted >= new.sessions_max {
                return Err(OpenSessionError::TooManySessions { limit: new.sessions_max });
            }
            let user = new.user.clone();
            let in_vhost = state.vhosts.get(new.vhost).copied().unwrap_or(0);
            if let Some(limit) = is_reached(new.vhost_limits.connections_max, in_vhost) {
                return Err(OpenSessionError::VhostLimit { vhost: new.vhost.clone(), user, limit });
            }
            let used = state.users.entry(user.clone()).or_default();
            if let Some(limit) = is_reached(used.limits.connections_max, used.connections) {
                return Err(OpenSessionError::UserLimit { user, limit });
            }
            used.connections += 1;
            *state.vhosts.entry(new.vhost.clone()).or_default() += 1;
            state.counted += 1;
        }
        state.next += 1;
        let key = state.next;
        let open = Open {
            inbox: Arc::downgrade(new.inbox),
            vhost: new.vhost.clone(),
            user: (!new.is_internal).then(|| new.user.clone()),
            channels: Vec::new(),
            name: new.name.into(),
            peer: new.peer,
            opened_ms: new.opened_ms,
            client: None,
            traffic: new.traffic.clone(),
        };
        state.open.insert(key, open);
        Ok(key)
    }

    /// A session is gone, with its channels; how many those were, if it counted.
    pub(crate) fn remove(&self, key: u64) -> Option<usize> {
        let mut state = self.0.lock();
        let Open { vhost, user, channels, traffic, .. } = state.open.remove(&key)?;
        let user = user?;
        traffic.end();
        channels.iter().for_each(|(_, channel)| channel.end());
        state.counted = state.counted.saturating_sub(1);
        if let Some(used) = state.users.get_mut(&user) {
            used.connections = used.connections.saturating_sub(1);
            used.channels = used.channels.saturating_sub(channels.len() as u64);
            if used.is_idle() {
                state.users.remove(&user);
            }
        }
        if let Some(count) = state.vhosts.get_mut(&vhost) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.vhosts.remove(&vhost);
            }
        }
        Some(channels.len())
    }

    /// What the client of a session says of itself.
    pub(crate) fn describe_client(&self, key: u64, client: ClientFacts) {
        if let Some(open) = self.0.lock().open.get_mut(&key) {
            open.client = Some(Arc::new(client));
        }
    }

    /// A session opens a channel; the error is the limit of its user.
    pub(crate) fn open_channel(&self, key: u64, number: u16, channel: &Arc<ChannelState>) -> Result<(), u64> {
        let state = &mut *self.0.lock();
        let Some(open) = state.open.get_mut(&key) else { return Ok(()) };
        let Some(used) = open.user.as_ref().and_then(|user| state.users.get_mut(user)) else { return Ok(()) };
        if let Some(limit) = is_reached(used.limits.channels_max, used.channels) {
            return Err(limit);
        }
        if let Err(at) = open.find(number) {
            used.channels += 1;
            open.channels.insert(at, (number, channel.clone()));
        }
        Ok(())
    }

    /// A session closes a channel; whether it was open.
    pub(crate) fn close_channel(&self, key: u64, number: u16) -> bool {
        let state = &mut *self.0.lock();
        let Some(open) = state.open.get_mut(&key) else { return false };
        let Some(used) = open.user.as_ref().and_then(|user| state.users.get_mut(user)) else { return false };
        let Ok(at) = open.find(number) else { return false };
        used.channels = used.channels.saturating_sub(1);
        open.channels.remove(at).1.end();
        true
    }

    /// Where a connection's bytes are counted; `None`: it does not count.
    pub(crate) fn traffic(&self, key: u64) -> Option<Arc<Meter>> {
        let state = self.0.lock();
        let open = state.open.get(&key)?;
        open.user.as_ref().map(|_| open.traffic.clone())
    }

    /// A connection's channels, ascending by number.
    pub(crate) fn channels(&self, key: u64) -> Vec<(u16, Arc<ChannelState>)> {
        self.0.lock().open.get(&key).map(|open| open.channels.clone()).unwrap_or_default()
    }

    /// What a user may have; `None` for what is not limited.
    pub(crate) fn limits_of(&self, user: &UserName) -> UserLimits {
        self.0.lock().users.get(user).map(|used| used.limits).unwrap_or_default()
    }

    /// Every user with limits.
    pub(crate) fn limited_users(&self) -> Vec<(UserName, UserLimits)> {
        let state = self.0.lock();
        let limited = state.users.iter().filter(|(_, used)| used.limits != UserLimits::default());
        limited.map(|(user, used)| (user.clone(), used.limits)).collect()
    }

    /// Sets what a user may have; what is open stays open.
    pub(crate) fn set_limits(&self, user: &UserName, limits: UserLimits) {
        let mut state = self.0.lock();
        let used = state.users.entry(user.clone()).or_default();
        used.limits = limits;
        if used.is_idle() {
            state.users.remove(user);
        }
    }

    /// Connections of a vhost that count.
    pub(crate) fn count_in(&self, vhost: &VhostName) -> u64 {
        self.0.lock().vhosts.get(vhost).copied().unwrap_or(0)
    }

    /// Every session that counts, by age.
    pub(crate) fn list(&self) -> Vec<ConnectionInfo> {
        let state = self.0.lock();
        let mut list: Vec<_> = state.open.iter().filter_map(|(key, open)| describe(*key, open)).collect();
        drop(state);
        list.sort_unstable_by_key(|connection| connection.session);
        list
    }

    /// The inboxes of the sessions of that name that count.
    pub(crate) fn inboxes_named(&self, name: &str) -> Vec<Arc<Inbox>> {
        let state = self.0.lock();
        let open = state.open.values().filter(|open| open.user.is_some() && *open.name == *name);
        open.filter_map(|open| open.inbox.upgrade()).collect()
    }

    /// The inboxes of a user's open sessions.
    pub(crate) fn inboxes_of(&self, user: &UserName) -> Vec<Arc<Inbox>> {
        let state = self.0.lock();
        let open = state.open.values().filter(|open| open.user.as_ref() == Some(user));
        open.filter_map(|open| open.inbox.upgrade()).collect()
    }

    /// The inboxes of the open sessions of clients.
    pub(crate) fn inboxes_of_clients(&self) -> Vec<Arc<Inbox>> {
        let state = self.0.lock();
        let open = state.open.values().filter(|open| open.user.is_some());
        open.filter_map(|open| open.inbox.upgrade()).collect()
    }

    /// All open sessions' inboxes, or those of one vhost.
    pub(crate) fn inboxes(&self, vhost: Option<&VhostName>) -> Vec<Arc<Inbox>> {
        let state = self.0.lock();
        let open = state.open.values().filter(|open| vhost.is_none_or(|vhost| open.vhost == *vhost));
        open.filter_map(|open| open.inbox.upgrade()).collect()
    }
}

impl Open {
    fn find(&self, number: u16) -> Result<usize, usize> {
        self.channels.binary_search_by_key(&number, |(number, _)| *number)
    }
}

fn describe(session: u64, open: &Open) -> Option<ConnectionInfo> {
    Some(ConnectionInfo {
        session,
        name: open.name.clone(),
        user: open.user.clone()?,
        vhost: open.vhost.clone(),
        peer: open.peer,
        channels: open.channels.iter().map(|(number, _)| *number).collect(),
        opened_ms: open.opened_ms,
        client: open.client.clone(),
    })
}
