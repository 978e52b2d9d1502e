//! The end of a connection before the broker stops: nothing new is delivered, and it is closed when its client holds
//! nothing more.
//!
//! A client that holds deliveries is heard as before: it may publish what comes of them before it acks. One that
//! holds none is not read from any more; it is closed when what it published is confirmed.

use super::channel::{Channels, Mode};
use super::consumers::Kind;
use super::core::{Core, End};
use super::reply::Fault;
use millpond_amqp_codec::ReplyCode;

impl Core {
    /// Ends deliveries, without a word to the client: it would take its consumers for gone, and recover them.
    #[cold]
    pub(super) fn begin_drain(&mut self) {
        if std::mem::replace(&mut self.is_draining, true) {
            return;
        }
        let slots: Vec<u32> = self.channels.iter_mut().flat_map(|it| it.consumers.iter().copied()).collect();
        for slot in slots {
            self.starve(slot);
        }
    }

    /// Delivers nothing more to a consumer, which stays as it is for its client.
    pub(super) fn starve(&mut self, slot: u32) {
        if let Some(Kind::Queue(id)) = self.consumers.get(slot).map(|consumer| consumer.kind) {
            self.session.cancel(id);
        }
    }

    /// Whether the drain waits for nothing of this client.
    pub(super) fn holds_nothing(&mut self) -> bool {
        self.backlog.is_empty() && self.waiting_get.is_none() && self.channels.hold_nothing()
    }

    /// The end, when all is settled, confirmed and written.
    pub(super) fn end_of_drain(&mut self) -> Result<(), End> {
        if !self.is_draining || !self.holds_nothing() {
            return Ok(());
        }
        self.flush();
        if self.confirms.is_empty() && self.out.pending_bytes() == 0 {
            let text = "broker forced connection closure with reason 'drain'";
            return Err(Fault::new(ReplyCode::ConnectionForced, text).into());
        }
        Ok(())
    }
}

impl Channels {
    fn hold_nothing(&mut self) -> bool {
        self.iter_mut().all(|channel| {
            let in_transaction = match &channel.mode {
                Mode::Transaction(transaction) => !transaction.is_empty(),
                Mode::Plain | Mode::Confirm(_) => false,
            };
            channel.unacked.is_empty() && !in_transaction
        })
    }
}
