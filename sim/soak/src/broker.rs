//! The broker under test: a child process that is restarted on the same port and directory, asked and measured.

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// How long it may take to listen, and to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where and how it runs.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) binary: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) port: u16,
    pub(crate) flags: Vec<String>,
}

impl Place {
    /// With a free port.
    pub(crate) async fn new(binary: &Path, dir: &Path, flags: &[String]) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        Ok(Self { binary: binary.into(), dir: dir.into(), port, flags: flags.into() })
    }

    /// Where clients connect.
    pub(crate) fn uri(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f?heartbeat=0", self.port)
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("broker.log")
    }

    /// What a command of the binary answers.
    pub(crate) async fn ask(&self, words: &[&str]) -> Result<String> {
        let output =
            Command::new(&self.binary).args(words).arg("--data-dir").arg(self.data_dir()).output().await?;
        ensure!(
            output.status.success(),
            "millpond {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// How often the running broker has found a queue stuck; the whole report if it was not 0.
    pub(crate) async fn stuck(&self) -> Result<Option<String>> {
        let report = self.ask(&["queues", "stuck"]).await?;
        let count = report.lines().next().and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        let count = count.with_context(|| format!("no count in '{report}'"))?;
        Ok((count != 0).then_some(report))
    }
}

/// A running broker; killed when dropped.
pub(crate) struct Broker {
    child: Child,
    pid: u32,
}

impl Broker {
    /// Starts it and waits until it listens.
    pub(crate) async fn start(place: &Place) -> Result<Self> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(place.log())?;
        let mut child = Command::new(&place.binary)
            .arg("serve")
            .arg("--data-dir")
            .arg(place.data_dir())
            .arg(format!("--amqp-listen=127.0.0.1:{}", place.port))
            .arg("--http-listen=127.0.0.1:0")
            .args(&place.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", place.binary.display()))?;
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", place.port)).await.is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("the broker stopped by itself ({status}); see {}", place.log().display());
            }
            ensure!(Instant::now() < deadline, "the broker does not listen after {} s", PATIENCE.as_secs());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let pid = child.id().context("the broker is gone")?;
        Ok(Self { child, pid })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends it: with SIGKILL, or by asking, in which case it must end well.
    pub(crate) async fn end(mut self, kill: bool) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the broker stopped by itself: {status}");
        }
        if kill {
            return self.child.kill().await.context("kill -9");
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, Signal::TERM).context("SIGTERM")?;
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = status.context("the broker does not stop when it is asked to")??;
        ensure!(status.success(), "the broker stopped with {status}");
        Ok(())
    }
}
