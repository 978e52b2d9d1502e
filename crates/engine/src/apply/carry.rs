//! Carries out what was worked out.

use super::ApplyError;
use super::change::{Change, ChangeKind, Op, TopologyPlan};
use millpond_broker::{
    Broker, DeleteQueueError, Durability, OpenSession, OpenSessionError, Saved, ScheduleError, Session,
    SessionEvent, SetPolicyError,
};
use millpond_model::VhostName;
use std::fmt;
use std::future::poll_fn;

/// A session, and the end of what it changes.
pub(crate) struct Carrier<'a> {
    broker: &'a Broker,
    vhost: &'a VhostName,
    session: Session,
    last: Option<u64>,
    events: Vec<SessionEvent>,
    /// What was done, one line each.
    pub(crate) done: Vec<String>,
}

impl<'a> Carrier<'a> {
    pub(crate) fn open(broker: &'a Broker, vhost: &'a VhostName) -> Result<Self, OpenSessionError> {
        let request =
            OpenSession { login: broker.internal_login(), vhost: vhost.clone(), name: "topology".into() };
        let session = broker.open_session(request)?;
        Ok(Self { broker, vhost, session, last: None, events: Vec::new(), done: Vec::new() })
    }

    /// Adds and changes what is not so yet; durable when this returns.
    pub(crate) async fn add(&mut self, plan: &TopologyPlan) -> Result<(), ApplyError> {
        for change in plan.changes.iter().filter(|change| change.op.is_addition()) {
            self.add_one(change).await?;
            self.done.push(change.line());
        }
        self.settle().await
    }

    async fn add_one(&mut self, change: &Change) -> Result<(), ApplyError> {
        let place = &change.place;
        let durability = match &change.op {
            Op::DeclareExchange(it) => {
                self.session.declare_exchange(it).map_err(|error| refuse(place, &error))?
            }
            Op::DeclareQueue(it) => self.session.declare_queue(it).map_err(|error| refuse(place, &error))?.1,
            Op::Bind(it) => self.session.bind(it).map_err(|error| refuse(place, &error))?,
            Op::SetPolicy(kind, it) => {
                // What its pattern matches must be there for it to be in force with the report.
                self.settle().await?;
                let set = self.broker.set_policy(self.vhost, *kind, it.clone());
                set.map_err(|error| refuse(place, &error))?.await?;
                Durability::Now
            }
            Op::SetSchedule(it) => {
                self.settle().await?;
                let set = self.broker.set_schedule(self.vhost, (**it).clone());
                set.map_err(|error| refuse(place, &error))?.1.await?;
                Durability::Now
            }
            _ => Durability::Now,
        };
        if let Durability::Pending(token) = durability {
            self.last = Some(token);
        }
        Ok(())
    }

    /// Takes away what the new topology does not say; durable when this returns.
    pub(crate) async fn remove(&mut self, plan: &TopologyPlan) -> Result<(), ApplyError> {
        for change in plan.changes.iter().filter(|change| !change.op.is_addition()) {
            if let Some(instead) = self.remove_one(change).await? {
                self.done.push(format!("{} {}: {instead}", change.what, change.name));
            } else {
                self.done.push(change.line());
            }
        }
        self.settle().await
    }

    /// What to say instead, if it came differently.
    async fn remove_one(&mut self, change: &Change) -> Result<Option<String>, ApplyError> {
        debug_assert!(change.kind != ChangeKind::Add || change.op == Op::Engine, "additions come before");
        let durability = match &change.op {
            Op::Unbind(it) => match self.session.unbind(it) {
                Ok(durability) => durability,
                // Its exchange has gone, and the binding with it.
                Err(error) => {
                    tracing::debug!(%error, "a binding of an earlier topology is not there any more");
                    return Ok(None);
                }
            },
            Op::DeleteQueue(it) => match self.session.delete_queue(it, false, true) {
                Ok((_, durability)) => durability,
                Err(DeleteQueueError::NotEmpty { .. }) => {
                    return Ok(Some("left, it is not empty".to_owned()));
                }
                Err(error) => return Ok(Some(format!("left: {error}"))),
            },
            Op::ClearPolicy(kind, name) => {
                match self.broker.clear_policy(self.vhost, *kind, name) {
                    Err(SetPolicyError::Missing { .. }) => {}
                    other => saved(other, &change.name).await?,
                }
                Durability::Now
            }
            Op::RemoveSchedule(name) => {
                match self.broker.remove_schedule(self.vhost, name) {
                    Err(ScheduleError::Missing { .. }) => {}
                    other => saved(other, &change.name).await?,
                }
                Durability::Now
            }
            _ => Durability::Now,
        };
        if let Durability::Pending(token) = durability {
            self.last = Some(token);
        }
        Ok(None)
    }

    /// Waits until all changes are on the disk.
    async fn settle(&mut self) -> Result<(), ApplyError> {
        while let Some(last) = self.last {
            let Self { session, events, .. } = self;
            poll_fn(|cx| session.poll_events(cx, events)).await;
            for event in self.events.drain(..) {
                match event {
                    SessionEvent::Committed { token, result } => {
                        result?;
                        if token == last {
                            self.last = None;
                        }
                    }
                    SessionEvent::Shutdown | SessionEvent::Closed { .. } => return Err(ApplyError::ShutDown),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

async fn saved<E: fmt::Display>(done: Result<Saved, E>, name: &str) -> Result<(), ApplyError> {
    Ok(done.map_err(|error| refuse(name, &error))?.await?)
}

fn refuse(place: &str, error: &dyn fmt::Display) -> ApplyError {
    ApplyError::Refused { place: place.to_owned(), reason: error.to_string() }
}
