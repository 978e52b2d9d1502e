//! How a server is told to stop.

use tokio::sync::watch;

/// How far a stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    Draining,
    Stopped,
}

/// Tells every [`StopSignal`] made with it to stop; dropping it does so too.
#[derive(Debug)]
pub struct StopHandle(watch::Sender<Stage>);

/// Waits for a [`StopHandle`]; cloning it waits for the same one.
#[derive(Debug, Clone)]
pub struct StopSignal(watch::Receiver<Stage>);

/// A handle and its signal.
pub fn stop_pair() -> (StopHandle, StopSignal) {
    let (sender, receiver) = watch::channel(Stage::Serving);
    (StopHandle(sender), StopSignal(receiver))
}

impl StopHandle {
    /// Stops; more than once is fine.
    pub fn stop(&self) {
        self.0.send_replace(Stage::Stopped);
    }

    /// Takes nothing new and lets what is there come to its end, until [`Self::stop`].
    pub fn drain(&self) {
        self.0.send_if_modified(|stage| {
            let is_first = *stage < Stage::Draining;
            *stage = Stage::Draining.max(*stage);
            is_first
        });
    }
}

impl StopSignal {
    /// Comes back when the handle has stopped or is gone.
    pub async fn stopped(&mut self) {
        // An error means that the handle is gone, which is a stop as well.
        let _ = self.0.wait_for(|stage| *stage == Stage::Stopped).await;
    }

    /// Comes back when the handle drains, has stopped or is gone.
    pub(crate) async fn draining(&mut self) {
        let _ = self.0.wait_for(|stage| *stage >= Stage::Draining).await;
    }
}
