//! What systemd is told, where it has started us (`Type=notify`, `WatchdogSec=`): the protocol of sd_notify(3), which
//! is a line of text in a datagram.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

/// How long a datagram may wait for room; the runtime waits with it.
const SEND_TIMEOUT: Duration = Duration::from_millis(100);

/// Who is told. Where nobody has asked, telling does nothing.
#[derive(Debug, Default)]
pub(crate) struct Supervisor {
    socket: Option<UnixDatagram>,
    /// Longest silence until we are taken for hung.
    patience: Option<Duration>,
}

impl Supervisor {
    /// Of the environment that systemd gives: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    pub(crate) fn from_environment() -> Self {
        let text = |name: &str| std::env::var(name).ok();
        let Some(address) = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else {
            return Self::default();
        };
        // The variables are inherited; a watchdog for another process is none of ours.
        let ours = text("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let patience = text("WATCHDOG_USEC").filter(|_| ours).and_then(|usec| usec.parse().ok());
        match connect(&address) {
            Ok(socket) => Self { socket: Some(socket), patience: patience.map(Duration::from_micros) },
            Err(error) => {
                tracing::warn!(%error, address = %address.display(), "NOTIFY_SOCKET cannot be used");
                Self::default()
            }
        }
    }

    /// `READY=1`, `STOPPING=1`.
    pub(crate) fn tell(&self, state: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(state.as_bytes()) {
            tracing::warn!(%error, state, "the supervisor cannot be told");
        }
    }

    /// Says that we serve, then twice in its patience that we live, until the task is dropped. On the runtime, so
    /// that one that hangs is noticed.
    pub(crate) async fn run(self: Arc<Self>) {
        self.tell("READY=1");
        let Some(every) = self.patience.map(|patience| patience / 2).filter(|every| !every.is_zero()) else {
            return;
        };
        loop {
            self.tell("WATCHDOG=1");
            tokio::time::sleep(every).await;
        }
    }
}

/// A path, or with an `@` in front a name in Linux's abstract namespace.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match address.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(address)?,
    }
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_is_told_by_a_path_and_by_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("millpond-test-{}", std::process::id());
        let there = [
            (path.clone().into_os_string(), UnixDatagram::bind(&path).unwrap()),
            (
                format!("@{name}").into(),
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
            ),
        ];
        for (address, listener) in there {
            let supervisor = Supervisor { socket: Some(connect(&address).unwrap()), patience: None };
            supervisor.tell("STOPPING=1");
            let mut got = [0; 64];
            let length = listener.recv(&mut got).unwrap();
            assert_eq!(&got[..length], b"STOPPING=1");
        }
        Supervisor::default().tell("READY=1");
    }
}
