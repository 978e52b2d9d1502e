//! The loop of an open connection: reads, lets [`Core`] work, writes; never more than one of each per wake-up
//! reason, and no buffer held while idle.

use super::core::{Agreed, Core, End};
use super::handshake::Opened;
use super::reply::Fault;
use super::{farewell, pool};
use crate::oauth::Oauth;
use crate::options::AmqpOptions;
use crate::tls::Wire;
use millpond_amqp_codec::{HEARTBEAT, ReplyCode, connection};
use millpond_broker::{Broker, Count, SessionEvent};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// The socket is not read while so much waits to be written to it. Bytes.
const OUTPUT_FULL_BYTES: usize = 8 * 1024 * 1024;

/// The socket is not read while so many answers wait for commits of their own.
const BARRIERS_MAX: usize = 16 * 1024;

/// After so many rounds other connections get their turn.
const ROUNDS_MAX: usize = 16;

/// How long publishers wait for consumers that read at full speed and are behind, and how long not again after
/// they waited in vain: a slow consumer takes at most a tenth of a publisher's time.
const PATIENCE: Duration = Duration::from_millis(20);
const PATIENCE_PAUSE: Duration = Duration::from_millis(200);

/// Half intervals of silence after which a client is given up: two intervals, and the half that has begun.
const SILENT_TICKS_MAX: u32 = 5;

/// A token that holds longer is asked for again after that: 30 days. Milliseconds.
const EXPIRY_MAX_MS: u64 = 30 * 86_400_000;

/// A connection with its socket.
struct Connection {
    socket: Wire,
    core: Core,
    /// Read and not taken.
    unread: Vec<u8>,
    /// `unread` may hold whole frames: input was suspended.
    resume: bool,
    events: Vec<SessionEvent>,
    heartbeat: Option<Heartbeat>,
    /// When the token ends, and what waits for it.
    expiry: Option<(u64, Pin<Box<Sleep>>)>,
    patience: Patience,
}

/// See [`PATIENCE`].
#[derive(Default)]
struct Patience {
    timer: Option<Pin<Box<Sleep>>>,
    not_before: Option<Instant>,
}

struct Heartbeat {
    timer: Pin<Box<Sleep>>,
    /// Half the interval.
    tick: Duration,
    /// Since the last tick.
    read: bool,
    /// What waited in the socket to be read, at the last tick that asked. Bytes.
    waiting_bytes: u64,
    /// Where the output ended at the last tick.
    output_end: u64,
    silent_ticks: u32,
}

/// Serves an open connection to its end.
pub(super) async fn run(
    socket: Wire,
    opened: Opened,
    broker: Broker,
    (options, oauth): (Arc<AmqpOptions>, Option<Arc<Oauth>>),
) {
    let Opened { agreed, session, unread } = opened;
    let core = Core::new(broker, session, (options.clone(), oauth), &agreed);
    let heartbeat = Heartbeat::new(&agreed);
    let resume = !unread.is_empty();
    let patience = Patience::default();
    let (events, expiry) = (Vec::new(), None);
    let mut this = Connection { socket, core, unread, resume, events, heartbeat, expiry, patience };
    this.core.reply(0, connection::OpenOk::default());
    if this.core.broker.is_draining() {
        this.core.begin_drain();
    }
    let end = std::future::poll_fn(|cx| this.poll(cx)).await;
    let reason = match &end {
        End::Goodbye => "the client closed it",
        End::Fault(fault) => &fault.text,
        End::Gone(reason) => reason,
    };
    tracing::info!(connection = %agreed.name, user = %agreed.user, reason, "connection closed");
    let Connection { mut socket, core, unread, .. } = this;
    let Core { session, mut out, .. } = core;
    // Requeues, cancels and deletes what belongs to the connection.
    drop(session);
    out.drop_barred();
    match end {
        End::Goodbye => farewell::answer(socket, out, options.close_timeout).await,
        End::Fault(fault) => farewell::close(&mut socket, out, unread, &fault, options.close_timeout).await,
        End::Gone(_) => {}
    }
}

impl Connection {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        match self.poll_rounds(cx) {
            Ok(poll) => poll.map(|()| End::Goodbye),
            Err(end) => Poll::Ready(end),
        }
    }

    fn poll_rounds(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, End> {
        for _ in 0..ROUNDS_MAX {
            let mut progress = self.poll_input(cx)?;
            progress |= self.poll_events(cx)?;
            progress |= self.poll_output(cx)?;
            if !progress {
                self.core.end_of_drain()?;
                self.rest();
                self.poll_expiry(cx)?;
                return self.poll_heartbeat(cx).map(|()| Poll::Pending);
            }
        }
        self.poll_expiry(cx)?;
        self.poll_heartbeat(cx)?;
        cx.waker().wake_by_ref();
        Ok(Poll::Pending)
    }

    /// Reads a block, if the broker can take what may be in it; whether anything was done.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut progress = false;
        if self.core.is_draining && self.core.holds_nothing() {
            self.keep_alive();
            return Ok(progress);
        }
        if self.core.waits_for_alarm(cx) {
            self.keep_alive();
            return Ok(progress);
        }
        if self.core.is_suspended() {
            progress |= self.poll_suspension(cx)?;
            if self.core.is_suspended() {
                self.keep_alive();
                return Ok(progress);
            }
            self.resume = true;
        }
        let out = &self.core.out;
        if out.pending_bytes() >= OUTPUT_FULL_BYTES && out.is_writable() {
            // It is the client that does not read: whether it lives shows in what waits in the socket.
            return Ok(progress);
        }
        let is_full = out.pending_bytes() >= OUTPUT_FULL_BYTES || out.barriers() >= BARRIERS_MAX;
        if is_full || self.core.session.poll_publish_ready(cx).is_pending() || self.is_patient(cx) {
            self.keep_alive();
            return Ok(progress);
        }
        if self.resume {
            self.resume = false;
            let unread = std::mem::take(&mut self.unread);
            let taken = self.core.take_input(&unread)?;
            self.unread = unread;
            self.unread.drain(..taken);
            return Ok(true);
        }
        Ok(self.poll_read(cx)? || progress)
    }

    /// Whether to wait for consumers that are behind.
    fn is_patient(&mut self, cx: &mut Context<'_>) -> bool {
        if self.core.session.poll_consumers_caught_up(cx).is_ready() {
            self.patience = Patience::default();
            return false;
        }
        if let Some(not_before) = self.patience.not_before {
            if Instant::now() < not_before {
                return false;
            }
            self.patience.not_before = None;
        }
        let timer = self.patience.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
        if timer.as_mut().poll(cx).is_pending() {
            return true;
        }
        self.patience = Patience { timer: None, not_before: Some(Instant::now() + PATIENCE_PAUSE) };
        false
    }

    /// What input waits for: a message from disk, or room in the store.
    fn poll_suspension(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.core.waiting_get.is_some() && self.core.session.poll_loaded(cx).is_ready() {
            self.core.retry_get()?;
            return Ok(self.core.waiting_get.is_none());
        }
        if self.core.publisher.is_held() && self.core.session.poll_publish_ready(cx).is_ready() {
            return Ok(self.core.retry_held());
        }
        Ok(false)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let kept = self.unread.len();
        let mut block = pool::take_read(kept);
        let result = self.read_into(cx, &mut block, kept);
        pool::give_read(block);
        result
    }

    fn read_into(&mut self, cx: &mut Context<'_>, block: &mut [u8], kept: usize) -> Result<bool, End> {
        let mut buffer = ReadBuf::new(&mut block[kept..]);
        match Pin::new(&mut self.socket).poll_read(cx, &mut buffer) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Err(error)) => return Err(End::Gone(format!("reading failed: {error}"))),
            Poll::Ready(Ok(())) => {}
        }
        let end = kept + buffer.filled().len();
        if end == kept {
            return Err(End::Gone("the client closed the socket without a word".into()));
        }
        self.core.count_traffic([Count::RecvOct, Count::RecvCnt], end - kept);
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.read = true;
        }
        block[..kept].copy_from_slice(&self.unread);
        let input = &block[..end];
        let taken = self.core.take_input(input)?;
        self.unread.clear();
        self.unread.extend_from_slice(&input[taken..]);
        Ok(true)
    }

    fn poll_events(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut progress = false;
        while self.core.session.poll_events(cx, &mut self.events).is_ready() {
            self.core.take_events(&mut self.events)?;
            progress = true;
        }
        Ok(self.core.render() || progress)
    }

    fn poll_output(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if !self.core.out.is_writable() {
            // What TLS has taken and the socket has not.
            return match Pin::new(&mut self.socket).poll_flush(cx) {
                Poll::Ready(Err(error)) => Err(End::Gone(format!("writing failed: {error}"))),
                _ => Ok(false),
            };
        }
        match self.core.out.poll_write(cx, &mut self.socket) {
            Poll::Pending => Ok(false),
            Poll::Ready(Err(error)) => Err(End::Gone(format!("writing failed: {error}"))),
            Poll::Ready(Ok(written)) => {
                self.core.count_traffic([Count::SendOct, Count::SendCnt], written);
                let delivered = self.core.out.take_deliveries_written();
                if delivered > 0 {
                    self.core.session.deliveries_written(delivered);
                }
                Ok(true)
            }
        }
    }

    /// Whether the token still holds that let the client in, if it was one.
    fn poll_expiry(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let Some(expires_ms) = self.core.session.login().expires_ms() else { return Ok(()) };
        if self.expiry.as_ref().is_none_or(|(at_ms, _)| *at_ms != expires_ms) {
            let left_ms = expires_ms.saturating_sub(self.core.broker.options().clock.now_ms());
            let timer = Box::pin(tokio::time::sleep(Duration::from_millis(left_ms.min(EXPIRY_MAX_MS))));
            self.expiry = Some((expires_ms, timer));
        }
        let is_over = self.expiry.as_mut().is_some_and(|(_, timer)| timer.as_mut().poll(cx).is_ready());
        if is_over {
            let text = "the token has expired: connection.update-secret brings another one";
            return Err(Fault::new(ReplyCode::NotAllowed, text).into());
        }
        Ok(())
    }

    fn poll_heartbeat(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let Some(heartbeat) = &mut self.heartbeat else { return Ok(()) };
        while heartbeat.timer.as_mut().poll(cx).is_ready() {
            if std::mem::take(&mut heartbeat.read) || heartbeat.hears(&self.socket) {
                heartbeat.silent_ticks = 0;
            } else {
                heartbeat.silent_ticks += 1;
            }
            if heartbeat.silent_ticks >= SILENT_TICKS_MAX {
                return Err(End::Gone("missed heartbeats from the client".into()));
            }
            // Output that waits is a sign of life itself, once the client reads it.
            let out = &mut self.core.out;
            if out.end() == heartbeat.output_end && out.pending_bytes() == 0 {
                out.buffer().extend_from_slice(&HEARTBEAT);
                cx.waker().wake_by_ref();
            }
            heartbeat.output_end = out.end();
            heartbeat.timer.as_mut().reset(Instant::now() + heartbeat.tick);
        }
        Ok(())
    }

    /// While we do not read, the client cannot be heard.
    fn keep_alive(&mut self) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.read = true;
        }
    }

    /// Gives memory back that an idle connection does not need.
    fn rest(&mut self) {
        if self.unread.is_empty() && self.unread.capacity() > 0 {
            self.unread = Vec::new();
        }
        if self.events.capacity() > 16 {
            self.events = Vec::new();
        }
        self.core.rest();
    }
}

impl Heartbeat {
    fn new(agreed: &Agreed) -> Option<Self> {
        if agreed.heartbeat_secs == 0 {
            return None;
        }
        let tick = Duration::from_millis(u64::from(agreed.heartbeat_secs) * 500);
        let timer = Box::pin(tokio::time::sleep(tick));
        Some(Self { timer, tick, read: false, waiting_bytes: 0, output_end: 0, silent_ticks: 0 })
    }

    /// Whether something has come that is not read, since this was asked last.
    fn hears(&mut self, socket: &Wire) -> bool {
        let waiting_bytes = rustix::io::ioctl_fionread(socket.tcp()).unwrap_or(0);
        std::mem::replace(&mut self.waiting_bytes, waiting_bytes) != waiting_bytes
    }
}

impl Core {
    /// Counts bytes, and that some came or went. A heartbeat alone does not make a connection one that moves.
    fn count_traffic(&self, [octets, times]: [Count; 2], bytes: usize) {
        match bytes == HEARTBEAT.len() {
            true => {
                self.traffic.add_quietly(octets, bytes as u64);
                self.traffic.add_quietly(times, 1);
            }
            false => {
                self.traffic.add(octets, bytes as u64);
                self.traffic.add(times, 1);
            }
        }
    }

    /// Asks again for the message that was being read from disk.
    fn retry_get(&mut self) -> Result<(), End> {
        let Some(get) = self.waiting_get.take() else { return Ok(()) };
        let channel = get.channel;
        self.get_from(get).or_else(|fault: Fault| self.fail(channel, fault.of(60, 70)))
    }

    fn rest(&mut self) {
        self.out.shrink();
        self.publisher.shrink();
        if self.accepted.capacity() > 16 {
            self.accepted = Vec::new();
        }
        if self.taken.capacity() > 16 {
            self.taken = Vec::new();
        }
        if self.backlog.is_empty() && self.backlog.capacity() > 16 {
            self.backlog = std::collections::VecDeque::new();
        }
    }
}
