//! All shovels of a broker: what runs is what the parameters say.

use crate::properties::Painter;
use crate::run::{self, Job};
use crate::spec::{self, ShovelSpec};
use crate::state::ShovelStatus;
use millpond_broker::{Broker, Keeper, Parameter};
use millpond_model::VhostName;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// The component whose parameters are shovels.
pub const COMPONENT: &str = "shovel";

type Key = (VhostName, Box<str>);

/// What is known of them, for those who set and show them.
#[derive(Debug, Default)]
struct Room {
    changed: Notify,
    known: Mutex<BTreeMap<Key, Known>>,
    /// Those that are to begin anew.
    restarts: Mutex<HashSet<Key>>,
}

#[derive(Debug, Clone)]
struct Known {
    spec: Arc<ShovelSpec>,
    status: Arc<ShovelStatus>,
}

impl Keeper for Room {
    fn check(
        &self,
        vhost: &VhostName,
        _name: &str,
        value: &Value,
        kept: Option<&Value>,
    ) -> Result<Value, String> {
        let value = spec::unhidden(value, kept);
        ShovelSpec::read(vhost.as_str(), &value).map_err(|error| error.to_string())?;
        Ok(value)
    }

    fn shown(&self, value: &Value) -> Value {
        spec::shown(value)
    }

    fn changed(&self) {
        self.changed.notify_one();
    }

    fn states(&self) -> Vec<(VhostName, Value)> {
        let known = self.known.lock().clone();
        let show = |((vhost, name), known): (Key, Known)| {
            let shown = known.status.show(vhost.as_str(), &name, &known.spec);
            (vhost, shown)
        };
        known.into_iter().map(show).collect()
    }

    fn restart(&self, vhost: &VhostName, name: &str) -> bool {
        let key = (vhost.clone(), Box::from(name));
        if !self.known.lock().contains_key(&key) {
            return false;
        }
        self.restarts.lock().insert(key);
        self.changed();
        true
    }
}

/// The shovels of a broker; they run until [`Self::shut_down`].
#[derive(Debug)]
pub struct Shovels {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// One that runs.
struct Running {
    value: Value,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Shovels {
    /// Starts those that the broker keeps, and follows what is set and cleared.
    pub fn start(broker: Broker) -> Self {
        let room = Arc::new(Room::default());
        broker.set_keeper(COMPONENT, room.clone());
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(follow(broker, room, stopped));
        Self { stop, task }
    }

    /// Stops them all. What is on its way has a moment to arrive; what has not is where it was.
    pub async fn shut_down(self) {
        self.stop.send_replace(true);
        let _ = self.task.await;
    }
}

async fn follow(broker: Broker, room: Arc<Room>, mut stop: watch::Receiver<bool>) {
    let mut running = BTreeMap::new();
    loop {
        arrange(&broker, &room, &mut running).await;
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            () = room.changed.notified() => {}
        }
    }
    end(running.into_values().collect()).await;
}

/// Ends those, all at once.
async fn end(those: Vec<Running>) {
    for one in &those {
        one.stop.send_replace(true);
    }
    for one in those {
        let _ = one.task.await;
    }
}

/// Stops what is not wanted any more or has changed, and starts what is new.
async fn arrange(broker: &Broker, room: &Room, running: &mut BTreeMap<Key, Running>) {
    let wanted: BTreeMap<Key, Value> = broker
        .kept_parameters(COMPONENT)
        .into_iter()
        .filter_map(|Parameter { vhost, name, value, .. }| Some(((vhost?, name), value)))
        .collect();
    let restarts = std::mem::take(&mut *room.restarts.lock());
    let is_over = |key: &Key, one: &Running| wanted.get(key) != Some(&one.value) || restarts.contains(key);
    let keys: Vec<Key> =
        running.iter().filter(|(key, one)| is_over(key, one)).map(|it| it.0.clone()).collect();
    let mut over = Vec::new();
    for key in keys {
        over.extend(running.remove(&key));
        room.known.lock().remove(&key);
    }
    end(over).await;
    for (key, value) in wanted {
        if running.contains_key(&key) {
            continue;
        }
        let (vhost, name) = key.clone();
        let spec = match ShovelSpec::read(vhost.as_str(), &value) {
            Ok(spec) => Arc::new(spec),
            Err(error) => {
                tracing::error!(%vhost, shovel = %name, %error, "the shovel's definition cannot be used");
                continue;
            }
        };
        let status = Arc::new(ShovelStatus::new(broker.options().clock.now_ms()));
        let painter = Painter::new(vhost.as_str(), &name, &spec);
        room.known.lock().insert(key.clone(), Known { spec: spec.clone(), status: status.clone() });
        let job = Job { broker: broker.clone(), vhost, name, spec, painter, status };
        let (stop, stopped) = watch::channel(false);
        running.insert(key, Running { value, stop, task: tokio::spawn(run::run(job, stopped)) });
    }
}
