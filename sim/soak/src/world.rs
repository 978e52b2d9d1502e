//! What all clients share, and how long each goes on: through restarts, until the end.

use crate::broker::Place;
use crate::ledger::Ledger;
use anyhow::Result;
use lapin::{Channel, Connection, ConnectionProperties};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// After an error, how long it takes at most until it is known whether the broker was being ended.
const EXCUSE: Duration = Duration::from_secs(1);

/// How it stands with the broker. The number tells its processes apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not there.
    Down,
    /// Everybody works, and whoever gets an error has found a fault.
    Up(u32),
    /// Everybody works, and may get errors: it is about to be ended.
    Ending(u32),
    /// Consumers work, publishers do not.
    Drain(u32),
    /// The end.
    Over,
}

/// See the module.
pub(crate) struct World {
    pub(crate) place: Place,
    pub(crate) ledger: Ledger,
    pub(crate) phase: watch::Sender<Phase>,
    /// Messages a second, of one publisher.
    pub(crate) rate: f64,
    seed: AtomicU64,
    /// Connections opened so far.
    pub(crate) connections: AtomicU64,
}

/// A program that uses the broker.
pub(crate) trait Client: Send + 'static {
    /// For the report of a fault.
    fn name(&self) -> String;

    /// Whether it works while the queues are drained.
    fn drains(&self) -> bool;

    /// Whether its errors are no faults.
    fn is_reckless(&self) -> bool {
        false
    }

    /// Connects, works for a while and goes, in good order or not.
    fn live(&mut self, world: &World) -> impl Future<Output = Result<()>> + Send;
}

impl World {
    pub(crate) fn new(place: Place, ledger: Ledger, rate: f64, seed: u64) -> Arc<Self> {
        let (seed, connections) = (AtomicU64::new(seed), AtomicU64::new(0));
        Arc::new(Self { place, ledger, phase: watch::Sender::new(Phase::Down), rate, seed, connections })
    }

    /// Chance for one client's life.
    pub(crate) fn dice(&self) -> StdRng {
        StdRng::seed_from_u64(self.seed.fetch_add(1, Ordering::Relaxed))
    }

    /// A new connection with one channel.
    pub(crate) async fn connect(&self) -> Result<(Connection, Channel)> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let connection = Connection::connect(&self.place.uri(), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        Ok((connection, channel))
    }

    /// Lets a client live again and again.
    pub(crate) fn keep(self: &Arc<Self>, mut client: impl Client) -> JoinHandle<()> {
        let world = Arc::clone(self);
        tokio::spawn(async move {
            let mut phases = world.phase.subscribe();
            while let Some(epoch) = wait_for_work(&mut phases, client.drains()).await {
                let drains = client.drains();
                let lived = tokio::select! {
                    lived = client.live(&world) => lived,
                    _ = phases.wait_for(|phase| epoch_of(*phase, drains) != Some(epoch)) => Ok(()),
                };
                let Err(error) = lived else { continue };
                let ended = phases.wait_for(|phase| !matches!(phase, Phase::Up(_) | Phase::Drain(_)));
                let excused = tokio::time::timeout(EXCUSE, ended).await.is_ok();
                if !excused && !client.is_reckless() {
                    world.ledger.fault(format!("{}: {error:#}", client.name()));
                }
            }
        })
    }
}

/// Which process of the broker a client may work with now.
fn epoch_of(phase: Phase, drains: bool) -> Option<u32> {
    match phase {
        Phase::Up(epoch) | Phase::Ending(epoch) => Some(epoch),
        Phase::Drain(epoch) if drains => Some(epoch),
        _ => None,
    }
}

async fn wait_for_work(phases: &mut watch::Receiver<Phase>, drains: bool) -> Option<u32> {
    let next =
        phases.wait_for(|phase| epoch_of(*phase, drains).is_some() || *phase == Phase::Over).await.ok()?;
    epoch_of(*next, drains)
}

/// So long, more or less.
pub(crate) fn about(dice: &mut StdRng, mean: Duration) -> Duration {
    mean.mul_f64(dice.random_range(0.3..1.7))
}
