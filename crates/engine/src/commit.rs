//! Handing a commit to the broker.

use millpond_broker::{
    CommitError, DeliveryId, Durability, Outcome, Publish, Session, ValueChange, WriteRefused,
};
use std::future::poll_fn;
use std::time::Duration;

/// How long to wait while the store takes no writes.
const REFUSED_WAIT: Duration = Duration::from_millis(200);

/// As [`Session::transact`], once there is room: waits while queues on the way are over their limits, or the store is
/// full. May be dropped before it is ready; then nothing was taken.
pub(crate) async fn transact(
    session: &mut Session,
    publishes: &mut Vec<Publish>,
    settles: &[(DeliveryId, Outcome)],
    values: &[ValueChange],
) -> Result<Durability, WriteRefused> {
    loop {
        poll_fn(|cx| session.poll_publish_ready(cx)).await;
        match session.transact(publishes, settles, values) {
            // Nothing was taken: it became full between question and commit.
            Err(WriteRefused::Store(CommitError::OutOfSpace { .. })) => {
                tokio::time::sleep(REFUSED_WAIT).await;
            }
            other => return other,
        }
    }
}
