//! Whom the rule calls: a small HTTP server that outlives the broker and remembers every call.

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// One in so many calls is refused with a status that asks to come again.
const REFUSED_ONE_IN: u32 = 50;

/// See the module.
#[derive(Debug)]
pub(crate) struct Outside {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    dice: Mutex<StdRng>,
}

#[derive(Debug, Default)]
struct State {
    /// Which of the broker's lives it is.
    life: u32,
    /// Calls that were answered with 200, by event.
    done: BTreeMap<u64, Vec<Call>>,
}

#[derive(Debug)]
struct Call {
    life: u32,
    key: String,
}

impl Outside {
    pub(crate) async fn start(seed: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let dice = Mutex::new(StdRng::seed_from_u64(seed ^ 1));
        let shared = Arc::new(Shared { state: Mutex::default(), dice });
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let shared = serving.clone();
                // A caller that is killed breaks its connection.
                tokio::spawn(async move { drop(shared.serve(socket).await) });
            }
        });
        Ok(Self { port, shared })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Calls from now on come from another process.
    pub(crate) fn begin_life(&self, life: u32) {
        self.shared.state.lock().life = life;
    }

    pub(crate) fn was_called(&self, n: u64) -> bool {
        self.shared.state.lock().done.contains_key(&n)
    }

    /// All calls, and those that came again.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.shared.state.lock();
        let calls: usize = state.done.values().map(Vec::len).sum();
        (calls, calls - state.done.len())
    }

    /// Every repetition has the same key, and comes from another process than the call before.
    pub(crate) fn verify(&self) -> Result<()> {
        for (n, calls) in &self.shared.state.lock().done {
            for pair in calls.windows(2) {
                let (one, other) = (&pair[0], &pair[1]);
                ensure!(
                    one.key == other.key,
                    "event {n}: called with key '{}', then '{}'",
                    one.key,
                    other.key
                );
                ensure!(
                    one.life != other.life,
                    "event {n}: called twice by one process (life {}), though the first call was answered",
                    one.life
                );
            }
        }
        Ok(())
    }
}

impl Shared {
    async fn serve(&self, socket: TcpStream) -> Result<()> {
        let mut stream = BufReader::new(socket);
        loop {
            let Some((key, n)) = read_request(&mut stream).await? else { return Ok(()) };
            let (refuses, pause_us) = {
                let mut dice = self.dice.lock();
                (dice.random_ratio(1, REFUSED_ONE_IN), dice.random_range(0..2000))
            };
            tokio::time::sleep(Duration::from_micros(pause_us)).await;
            let status = if refuses { "503 Service Unavailable" } else { "200 OK" };
            if !refuses {
                // Counted before it is answered: the caller may be killed in between, and does not know then.
                let mut state = self.state.lock();
                let life = state.life;
                state.done.entry(n).or_default().push(Call { life, key });
            }
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok");
            stream.get_mut().write_all(answer.as_bytes()).await?;
        }
    }
}

/// Idempotency key and number of the next call; none at the end.
async fn read_request(stream: &mut BufReader<TcpStream>) -> Result<Option<(String, u64)>> {
    let (mut key, mut size) = (String::new(), 0);
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let text = line.trim();
        if text.is_empty() {
            break;
        }
        if let Some((name, value)) = text.split_once(": ") {
            match name.to_ascii_lowercase().as_str() {
                "idempotency-key" => key = value.to_owned(),
                "content-length" => size = value.parse()?,
                _ => {}
            }
        }
    }
    let mut body = vec![0; size];
    stream.read_exact(&mut body).await?;
    let n = std::str::from_utf8(&body)?.parse().context("a number")?;
    ensure!(!key.is_empty(), "a call without an idempotency key");
    Ok(Some((key, n)))
}
