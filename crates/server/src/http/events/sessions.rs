//! Sessions for requests that publish: kept for the next request, as a connection would keep its own.

use crate::http::refusal::Refusal;
use millpond_broker::{Broker, Login, OpenSession, Session, SessionEvent};
use millpond_model::{UserName, VhostName};
use parking_lot::Mutex;
use std::collections::HashMap;

/// Sessions kept for a user and vhost while nobody uses them.
const IDLE_MAX: usize = 32;

type Key = (UserName, VhostName);

/// See the module.
#[derive(Debug)]
pub(super) struct Sessions {
    broker: Broker,
    idle: Mutex<HashMap<Key, Vec<Session>>>,
}

impl Sessions {
    pub(super) fn new(broker: Broker) -> Self {
        Self { broker, idle: Mutex::default() }
    }

    /// A session of this user on that vhost.
    pub(super) fn take(&self, login: &Login, vhost: &VhostName) -> Result<Session, Refusal> {
        let key = (login.user.clone(), vhost.clone());
        // Of a token, no session is kept: the next one may say other things of a user of that name.
        while login.expires_ms().is_none() {
            let kept = self.idle.lock().get_mut(&key).and_then(Vec::pop);
            let Some(mut session) = kept else { break };
            if is_open(&mut session) {
                session.act_for(login);
                return Ok(session);
            }
        }
        let request = OpenSession {
            login: login.clone(),
            vhost: vhost.clone(),
            name: format!("http {}", login.user).into(),
        };
        let mut session = self.broker.open_session(request)?;
        // A full store refuses at once: the client is asked to come again, and waits on its side.
        session.set_confirming(true);
        Ok(session)
    }

    /// Keeps a session whose work has come to its end.
    pub(super) fn put_back(&self, user: &UserName, vhost: &VhostName, session: Session) {
        if session.login().expires_ms().is_some() {
            return;
        }
        let mut idle = self.idle.lock();
        let kept = idle.entry((user.clone(), vhost.clone())).or_default();
        if kept.len() < IDLE_MAX {
            kept.push(session);
        }
    }
}

/// Whether the broker has not ended a session meanwhile.
fn is_open(session: &mut Session) -> bool {
    let mut events = Vec::new();
    session.try_events(&mut events);
    !events.iter().any(|event| matches!(event, SessionEvent::Shutdown | SessionEvent::Closed { .. }))
}
