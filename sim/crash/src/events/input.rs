//! What comes in: lines of log files that are rotated, and events over HTTP.

use anyhow::{Context, Result};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Who posts at the same time.
const POSTERS: usize = 4;

/// Lines of a file before it is rotated.
const LINES_MAX: u64 = 200;

/// Events are numbered; a line's number is even.
#[derive(Debug, Clone)]
pub(crate) struct Input(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    lines: u64,
    /// Whether it was answered with 202.
    posted: BTreeMap<u64, bool>,
}

/// The load of a round.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Result<()>>,
}

impl Load {
    /// Ends it.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}

impl Input {
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let folder = folder.join("in");
        std::fs::create_dir_all(&folder).context("the folder of the logs")?;
        Ok(Self(Arc::new(Shared { folder, state: Mutex::default() })))
    }

    /// Writes lines and posts events until it is stopped.
    pub(crate) fn start(&self, port: u16, seed: u64) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let (input, stopped) = (self.clone(), stop.clone());
        tasks.spawn(async move { input.write(&stopped, StdRng::seed_from_u64(seed)).await });
        for _ in 0..POSTERS {
            let (input, stopped) = (self.clone(), stop.clone());
            tasks.spawn(async move {
                while !stopped.load(Ordering::Relaxed) {
                    input.post(port).await;
                }
                Ok(())
            });
        }
        Load { stop, tasks }
    }

    async fn write(&self, stop: &AtomicBool, mut dice: StdRng) -> Result<()> {
        let path = self.0.folder.join("app.log");
        while !stop.load(Ordering::Relaxed) {
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path)?;
            let mut text = String::new();
            let count = dice.random_range(1..=10);
            for _ in 0..count {
                text.push_str(&format!("{{\"n\": {}}}\n", self.number(0)));
            }
            // A writer that is stopped in the middle of a line finishes it later.
            let at = dice.random_range(0..=text.len());
            file.write_all(&text.as_bytes()[..at])?;
            tokio::task::yield_now().await;
            file.write_all(&text.as_bytes()[at..])?;
            let written = {
                let mut state = self.0.state.lock();
                state.lines += count;
                state.lines
            };
            if written % LINES_MAX < count {
                let to = self.0.folder.join(format!("app.log.{written}"));
                std::fs::rename(&path, to)?;
            }
            tokio::time::sleep(Duration::from_millis(dice.random_range(1..=10))).await;
        }
        Ok(())
    }

    async fn post(&self, port: u16) {
        let n = self.number(1);
        self.0.state.lock().posted.insert(n, false);
        match post(port, n).await {
            Some(true) => drop(self.0.state.lock().posted.insert(n, true)),
            Some(false) => {}
            // The broker is not there: a moment's rest.
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }

    fn number(&self, kind: u64) -> u64 {
        let mut state = self.0.state.lock();
        state.next += 1;
        state.next * 2 + kind
    }

    /// What must come out.
    pub(crate) fn required(&self) -> impl Iterator<Item = u64> + use<> {
        let state = self.0.state.lock();
        let lines = (1..=state.next).map(|n| n * 2).filter(|n| !state.posted.contains_key(&(n + 1)));
        let posted = state.posted.iter().filter(|(_, answered)| **answered).map(|(n, _)| *n);
        lines.chain(posted).collect::<Vec<_>>().into_iter()
    }

    /// Whether it went in.
    pub(crate) fn is_known(&self, n: u64) -> bool {
        let state = self.0.state.lock();
        let was_posted = state.posted.contains_key(&(n | 1));
        n / 2 <= state.next && was_posted == (n % 2 == 1)
    }

    pub(crate) fn lines(&self) -> u64 {
        self.0.state.lock().lines
    }

    pub(crate) fn posted(&self) -> usize {
        self.0.state.lock().posted.len()
    }

    pub(crate) fn answered(&self) -> usize {
        self.0.state.lock().posted.values().filter(|answered| **answered).count()
    }
}

/// Whether an event was taken; none if nobody answered.
async fn post(port: u16, n: u64) -> Option<bool> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let body = format!(
        "{{\"specversion\":\"1.0\",\"id\":\"{n}\",\"source\":\"/crash\",\"type\":\"posted\",\"data\":{{\"n\":{n}}}}}"
    );
    // guest:guest
    let request = format!(
        "POST /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Basic \
         Z3Vlc3Q6Z3Vlc3Q=\r\nContent-Type: application/cloudevents+json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.ok()?;
    (!answer.is_empty()).then(|| answer.starts_with(b"HTTP/1.1 202"))
}
