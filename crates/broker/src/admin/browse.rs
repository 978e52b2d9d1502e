//! Messages looked at without being consumed.

use super::messages::{TransferError, find};
use crate::queue::QueueCell;
use crate::queue::browse::Looked;
use crate::{Broker, QueueError};
use millpond_model::{ConsumerTag, Message, QueueName, VhostName};
use std::sync::Arc;
use std::task::{Context, Poll};

/// A message that was looked at.
#[derive(Debug, Clone)]
pub struct Browsed {
    /// Its place in the queue; ascends in the order of delivery.
    pub place: u64,
    /// The message.
    pub message: Message,
    /// How often it was handed out; not known of what is remembered.
    pub handed: u16,
    /// The tag of the consumer that holds it.
    pub holder: Option<ConsumerTag>,
}

/// A look through the messages of a queue. Holds nothing: what is consumed meanwhile is not seen.
#[derive(Debug)]
pub struct Browse {
    pub(super) cell: Arc<QueueCell>,
    /// Those that somebody holds, not those that are ready.
    unacked: bool,
    at: Option<u64>,
}

impl Browse {
    /// Through the ready messages, from a place on.
    pub(super) fn ready(cell: Arc<QueueCell>, place: u64) -> Self {
        Self { cell, unacked: false, at: Some(place) }
    }

    /// Adds the next messages to `out`, about `count_max`; `false`: that was the last of them.
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        count_max: usize,
        out: &mut Vec<Browsed>,
    ) -> Poll<bool> {
        let Some(from) = self.at else { return Poll::Ready(false) };
        let (count_max, waker) = (count_max.max(1), cx.waker());
        let looked = match self.unacked {
            true => self.cell.look_unacked(from, count_max, waker, out),
            false => {
                let mut seen = Vec::new();
                let looked = self.cell.look(from, count_max, waker, &mut seen);
                self.cell.with_pasts(seen, out);
                looked
            }
        };
        self.at = match looked {
            Looked::Next(at) => Some(at),
            Looked::End => None,
            Looked::Loading => return Poll::Pending,
        };
        Poll::Ready(self.at.is_some())
    }
}

impl Broker {
    /// Looks through the ready messages of a queue.
    pub fn browse(&self, vhost: &VhostName, queue: &QueueName) -> Result<Browse, TransferError> {
        self.browse_from(vhost, queue, 0)
    }

    /// The same from a place on.
    pub fn browse_from(
        &self,
        vhost: &VhostName,
        queue: &QueueName,
        place: u64,
    ) -> Result<Browse, TransferError> {
        let vhost = self.vhost(vhost)?;
        Ok(Browse::ready(find(&vhost, queue)?, place))
    }

    /// Looks through the messages that were handed out and not settled, from a place on; not of a stream.
    pub fn browse_unacked(
        &self,
        vhost: &VhostName,
        queue: &QueueName,
        place: u64,
    ) -> Result<Browse, TransferError> {
        let vhost = self.vhost(vhost)?;
        let cell = find(&vhost, queue)?;
        if cell.stream().is_some() {
            let (queue, vhost) = (queue.clone(), vhost.name.clone());
            return Err(QueueError::NotForStreams { queue, vhost, what: "a look at what is unacked" }.into());
        }
        Ok(Browse { cell, unacked: true, at: Some(place) })
    }
}
