//! The engine's keyed values: what it keeps of itself in the store.

use bytes::Bytes;
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

/// Values deleted before their end is waited for.
const DELETED_AT_ONCE: usize = 1000;

/// Deletes values, some at a time, and waits until that is durable.
pub(crate) async fn delete(broker: &Broker, keys: impl Iterator<Item = Bytes>) -> Result<(), CommitError> {
    let mut keys = keys.peekable();
    let mut begun = 0;
    while let Some(key) = keys.next() {
        begun += 1;
        // Commits keep their order: the last one ends when all have.
        if begun % DELETED_AT_ONCE == 0 || keys.peek().is_none() {
            put(broker, &key, None).await?;
        } else {
            broker.put_value(ROOM, &key, None, None);
        }
    }
    Ok(())
}

/// Deletes every value whose key begins so. What cannot be read is left for the next start.
pub(crate) async fn forget(broker: &Broker, prefix: &[u8]) -> Result<(), CommitError> {
    match broker.values_under(ROOM, prefix) {
        Ok(all) => delete(broker, all.into_iter().map(|(key, _)| key)).await,
        Err(error) => {
            tracing::error!(%error, "what is not needed any more cannot be read to be deleted");
            Ok(())
        }
    }
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
