//! A shovel's task: attempts, each with its connections, and the waits between them.

use crate::dest::Dest;
use crate::error::ShovelError;
use crate::properties::Painter;
use crate::room::COMPONENT;
use crate::source::Ready;
use crate::spec::{DeleteAfter, ShovelSpec};
use crate::state::{ShovelState, ShovelStatus};
use crate::{bridge, local};
use millpond_broker::Broker;
use millpond_model::VhostName;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The wait after the first error; it doubles with each that follows, up to `reconnect-delay`.
const BACK_OFF_FIRST: Duration = Duration::from_millis(200);

/// Why a shovel ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It was told to.
    Stopped,
    /// All that was wanted is moved.
    Done,
}

/// What a shovel is to do.
pub(crate) struct Job {
    pub(crate) broker: Broker,
    pub(crate) vhost: VhostName,
    pub(crate) name: Box<str>,
    pub(crate) spec: Arc<ShovelSpec>,
    pub(crate) painter: Painter,
    pub(crate) status: Arc<ShovelStatus>,
}

impl Job {
    pub(crate) fn now_ms(&self) -> u64 {
        self.broker.options().clock.now_ms()
    }

    fn tell(&self, state: ShovelState) {
        let shown = state.clone();
        if !self.status.set(state, self.now_ms()) {
            return;
        }
        let (vhost, name) = (&self.vhost, &self.name);
        match shown {
            ShovelState::Waiting { reason } => {
                tracing::warn!(%vhost, shovel = %name, %reason, "the shovel waits and tries again");
            }
            other => tracing::info!(%vhost, shovel = %name, state = other.word(), "shovel"),
        }
    }

    /// Both sides are there; the queue has so many messages.
    pub(crate) fn opened(&self, length: u64) {
        if self.status.remaining().is_none() {
            match self.spec.delete_after {
                DeleteAfter::Never => {}
                DeleteAfter::QueueLength => self.status.set_remaining(length),
                DeleteAfter::Messages(count) => self.status.set_remaining(count),
            }
        }
        self.tell(ShovelState::Running);
    }
}

/// Runs until it is told to stop, or has moved all that it was to move: then it removes itself.
pub(crate) async fn run(job: Job, mut stop: watch::Receiver<bool>) {
    let (mut attempts, mut errors, mut moved) = (0usize, 0u32, 0);
    loop {
        let error = match attempt(&job, attempts, &mut stop).await {
            Ok(End::Stopped) => return,
            Ok(End::Done) => return remove(&job).await,
            Err(error) => error,
        };
        job.status.set_pending(0);
        // One that moved something was well, and begins anew.
        if std::mem::replace(&mut moved, job.status.forwarded()) != moved {
            errors = 0;
        }
        job.tell(ShovelState::Waiting { reason: error.to_string() });
        attempts = attempts.wrapping_add(1);
        let delay = job.spec.reconnect_delay.map(|longest| back_off(errors, longest));
        let wait = async {
            match delay {
                Some(delay) => tokio::time::sleep(delay).await,
                None => std::future::pending().await,
            }
        };
        errors = errors.saturating_add(1);
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = wait => {}
        }
    }
}

fn back_off(errors: u32, longest: Duration) -> Duration {
    BACK_OFF_FIRST.saturating_mul(1u32.checked_shl(errors).unwrap_or(u32::MAX)).min(longest)
}

async fn attempt(job: &Job, number: usize, stop: &mut watch::Receiver<bool>) -> Result<End, ShovelError> {
    if job.spec.source.is_local() && job.spec.dest.is_local() {
        return local::run(job, stop).await;
    }
    let (broker, vhost, name, spec) = (&job.broker, &job.vhost, &job.name, &job.spec);
    let open = async {
        // The source first, or one that refuses the login leaves a queue behind at the destination. It consumes last:
        // what it got would come back redelivered, and count against a quorum queue's limit, while there is no
        // destination.
        let source = Ready::open(broker, vhost, name, spec, number).await?;
        let dest = Dest::open(broker, vhost, name, spec, number).await?;
        let (source, length) = source.consume(name, spec).await?;
        Ok::<_, ShovelError>((source, dest, length))
    };
    let (source, dest, length) = tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => return Ok(End::Stopped),
        opened = open => opened?,
    };
    job.opened(length);
    bridge::run(job, source, dest, stop).await
}

async fn remove(job: &Job) {
    tracing::info!(vhost = %job.vhost, shovel = %job.name, "the shovel has moved what it was to move, and goes");
    let cleared = job.broker.clear_parameter(Some(&job.vhost), COMPONENT, &job.name);
    let result = match cleared {
        Ok(saved) => saved.await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(reason) = result {
        tracing::warn!(vhost = %job.vhost, shovel = %job.name, reason, "it could not be removed");
    }
}
