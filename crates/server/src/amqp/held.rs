//! Publishes without confirms that a full store did not take: they are held until there is room.

use super::core::Core;
use super::reply::Fault;
use millpond_amqp_codec::ReplyCode;
use millpond_broker::{CommitError, WriteRefused};

impl Core {
    /// Tries again what a full store refused; false: it still waits.
    pub(crate) fn retry_held(&mut self) -> bool {
        let publisher = &mut self.publisher;
        match self.session.publish(&mut publisher.held) {
            Ok(_) => publisher.refusal_logged = false,
            // There will be no room any more.
            Err(refused) if is_poisoned(&refused) => {
                publisher.fault = Some((0, lost(&refused)));
            }
            Err(_) => return false,
        }
        publisher.held = Vec::new();
        self.session.set_confirming(true);
        true
    }
}

/// Whether nothing will be taken any more, however long one waits.
pub(super) fn is_poisoned(refused: &WriteRefused) -> bool {
    matches!(refused, WriteRefused::Store(CommitError::Poisoned { .. }))
}

/// For a publisher that asked for no confirms and whose messages are not taken and never will be.
#[cold]
pub(super) fn lost(refused: &WriteRefused) -> Fault {
    Fault::new(ReplyCode::InternalError, format_args!("publishes are lost: {refused}")).of(60, 40)
}
