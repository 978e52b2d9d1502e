//! The broker under test: a child process on a port of its own.

use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// A running broker; killed when dropped.
pub(crate) struct Broker {
    child: Child,
    port: u16,
    http_port: u16,
    binary: PathBuf,
    data_dir: PathBuf,
}

impl Broker {
    /// Starts it on a free port and waits until it listens.
    pub(crate) async fn start(
        binary: &Path,
        dir: &Path,
        flags: &[String],
        patience: Duration,
    ) -> Result<Self> {
        let [port, http_port] = free_ports().await?;
        let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("broker.log"))?;
        let mut child = Command::new(binary)
            .arg("serve")
            .arg("--data-dir")
            .arg(dir.join("data"))
            .arg(format!("--amqp-listen=127.0.0.1:{port}"))
            .arg(format!("--http-listen=127.0.0.1:{http_port}"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let deadline = Instant::now() + patience;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("the broker stopped by itself ({status}); see {}", dir.join("broker.log").display());
            }
            if Instant::now() > deadline {
                bail!("the broker does not listen after {} s", patience.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(Self { child, port, http_port, binary: binary.into(), data_dir: dir.join("data") })
    }

    /// Where clients connect.
    pub(crate) fn uri(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f?heartbeat=0", self.port)
    }

    /// Where events are posted.
    pub(crate) fn http_port(&self) -> u16 {
        self.http_port
    }

    /// Brings what a queue remembers to another one.
    pub(crate) async fn replay(&self, queue: &str, to: &str) -> Result<()> {
        self.ask(&["messages", "replay", queue, "--to", to]).await
    }

    /// A command of the command line.
    pub(crate) async fn ask(&self, arguments: &[&str]) -> Result<()> {
        let output = self.command(arguments).output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// The same, not begun yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--data-dir").arg(&self.data_dir);
        command
    }

    /// SIGKILL, and the end of it.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the broker stopped by itself: {status}");
        }
        self.child.kill().await.context("kill -9")
    }
}

/// Two ports that nobody listens on.
async fn free_ports() -> Result<[u16; 2]> {
    let listeners = [TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?];
    Ok([listeners[0].local_addr()?.port(), listeners[1].local_addr()?.port()])
}
