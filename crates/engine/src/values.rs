//! The engine's keyed values: what it keeps of itself in the store.

use millpond_broker::{Broker, CommitError};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The engine's room among the broker's keyed values.
pub(crate) const ROOM: &str = "engine";

/// Writes a value, or takes it away, and waits until that is durable.
pub(crate) async fn put(broker: &Broker, key: &[u8], value: Option<&[u8]>) -> Result<(), CommitError> {
    let (sender, receiver) = oneshot::channel();
    let told = Arc::new(Told(Mutex::new(Some(sender))));
    broker.put_value(ROOM, key, value, Some((told, 0)));
    receiver.await.unwrap_or(Err(CommitError::Closed))
}

/// Passes the end of a commit on to whoever waits for it.
struct Told(Mutex<Option<oneshot::Sender<Result<(), CommitError>>>>);

impl millpond_broker::OnCommit for Told {
    fn committed(&self, _token: u64, result: Result<(), CommitError>) {
        if let Some(sender) = self.0.lock().take() {
            // Whoever asked may have gone.
            let _ = sender.send(result);
        }
    }
}
