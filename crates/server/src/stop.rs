//! How a server is told to stop.

use tokio::sync::watch;

/// Tells every [`StopSignal`] made with it to stop; dropping it does so too.
#[derive(Debug)]
pub struct StopHandle(watch::Sender<bool>);

/// Waits for a [`StopHandle`]; cloning it waits for the same one.
#[derive(Debug, Clone)]
pub struct StopSignal(watch::Receiver<bool>);

/// A handle and its signal.
pub fn stop_pair() -> (StopHandle, StopSignal) {
    let (sender, receiver) = watch::channel(false);
    (StopHandle(sender), StopSignal(receiver))
}

impl StopHandle {
    /// Stops; more than once is fine.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl StopSignal {
    /// Comes back when the handle has stopped or is gone.
    pub async fn stopped(&mut self) {
        // An error means that the handle is gone, which is a stop as well.
        let _ = self.0.wait_for(|stopped| *stopped).await;
    }
}
