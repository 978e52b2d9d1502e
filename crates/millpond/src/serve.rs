//! `millpond serve`: puts the rooms together, says where to connect, and takes them apart in order.

use crate::alarms::Watch;
use crate::boot_definitions::BootDefinitions;
use crate::cli;
use crate::control;
use crate::engine_room::EngineRoom;
use crate::settings::{LogFormat, Settings};
use crate::supervisor::Supervisor;
use crate::traces::{Exporter, SpanLayer};
use crate::{oauth, tls, watchdog};
use anyhow::{Context, Result};
use millpond_broker::{AuditObject, AuditOptions, Broker, BrokerOptions, Clock};
use millpond_engine::{Engine, EngineOptions};
use millpond_model::UserName;
use millpond_server::{
    AmqpOptions, HttpOptions, Oauth, Server, ServerOptions, StopHandle, StopSignal, Tls, stop_pair,
};
use millpond_shovel::Shovels;
use millpond_store::{Store, StoreOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::FilterExt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// How long connections may take to say goodbye.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// What rules and the store may take after that, as systemd is told.
const AFTER_TIMEOUT: Duration = Duration::from_secs(60);
/// Open files asked of the system: a connection is one, a queue's segments are some.
const OPEN_FILES: u64 = 1 << 20;

/// Serves until SIGINT, SIGTERM or `millpond shutdown`.
pub(crate) fn run(settings: &Settings) -> Result<()> {
    let (exporter, spans) = Exporter::new(settings)?.unzip();
    start_logging(&settings.log, settings.log_format, spans)?;
    raise_open_files();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if settings.worker_threads > 0 {
        builder.worker_threads(settings.worker_threads);
    }
    builder.enable_all().thread_name("millpond-net").build()?.block_on(async {
        let exporting = exporter.map(Exporter::run).transpose()?;
        let served = serve(settings).await;
        if let Some(exporting) = exporting {
            exporting.finish().await;
        }
        served
    })
}

async fn serve(settings: &Settings) -> Result<()> {
    // Addresses first: a second broker by mistake must not touch the first one's directory.
    let tls = tls::load(settings)?;
    let server = Server::bind(server_options(settings, tls.clone(), oauth::load(settings)?)?).await?;
    let (store, recovery) = Store::open(store_options(settings)).context("the store cannot be opened")?;
    let found = recovery.queues.len();
    let definitions = settings.load_definitions.as_deref().map(BootDefinitions::read).transpose()?;
    let mut options = broker_options(settings)?;
    // Who brings users along wants no other, least of all one with a known password.
    if definitions.as_ref().is_some_and(BootDefinitions::have_users) {
        options.default_password = "".into();
    }
    let broker = Broker::open(store.clone(), recovery, options)?;
    tracing::info!(data_dir = %settings.data_dir.display(), queues_with_messages = found, "store opened");
    // Before any definition is taken: it checks those that are shovels.
    let shovels = Shovels::start(broker.clone());
    if let Some(definitions) = &definitions {
        definitions.load(&broker, settings).await?;
    }
    let engine = Engine::start(broker.clone(), engine_options(settings)).await?;
    if let Some(path) = &settings.topology {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let report = engine.apply(&path.display().to_string(), &text).await?;
        tracing::info!(file = %path.display(), "{report}");
    }
    let socket = control::bind(&settings.data_dir)?;
    let watch = Watch::new(settings, broker.clone());
    let watching = [tokio::spawn(watch.clone().run()), tokio::spawn(watchdog::run(broker.clone()))];
    let (shutdown, orders) = mpsc::channel(1);
    let server = server.with_engine(Arc::new(EngineRoom::new(engine.clone(), broker.clone())));
    let rooms = control::Rooms {
        engine: engine.clone(),
        broker: broker.clone(),
        api: server.api(&broker),
        watch,
        tls: tls.clone(),
        amqp: [server.amqp_addresses(), server.amqps_addresses()].concat(),
        http: [server.http_addresses(), server.https_addresses()].concat(),
        shutdown,
    };
    let control = tokio::spawn(control::run(socket, rooms));
    let reloading = tokio::spawn(tls::reload_when_asked(tls, broker.clone()));
    let (stop, stopped) = stop_pair();
    let supervisor = Arc::new(Supervisor::from_environment());
    stop_when_asked(stop, orders, settings.stop_drain, supervisor.clone())?;
    announce(settings, &server)?;
    // The addresses are taken: who connects from now on is served.
    tokio::spawn(supervisor.run());
    run_to_the_end(server.run(broker.clone(), stopped.clone()), stopped, shovels.shut_down()).await;
    control.abort();
    reloading.abort();
    watching.iter().for_each(tokio::task::JoinHandle::abort);
    engine.shut_down().await;
    broker.audit("broker.stopped", AuditObject::named("broker", ""), "");
    broker.close_audit();
    store.close();
    tracing::info!("stopped");
    Ok(())
}

/// Ends the shovels while connections say goodbye, when what is on its way may still arrive; or after a drain, which
/// comes to its end without a stop.
async fn run_to_the_end(
    serving: impl Future<Output = ()>,
    mut stopping: StopSignal,
    ending_shovels: impl Future<Output = ()>,
) {
    let drained = Notify::new();
    let served = async {
        serving.await;
        drained.notify_one();
    };
    let shovels_end = async {
        tokio::select! {
            () = stopping.stopped() => {}
            () = drained.notified() => {}
        }
        ending_shovels.await;
    };
    tokio::join!(served, shovels_end);
}

fn engine_options(settings: &Settings) -> EngineOptions {
    EngineOptions {
        secrets_key: settings.secrets_key_file.clone(),
        exec_allow: settings.exec_allow.clone(),
        ..EngineOptions::new(&settings.data_dir)
    }
}

fn announce(settings: &Settings, server: &Server) -> Result<()> {
    let list = |addresses: Vec<SocketAddr>| {
        addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
    };
    let amqp = server.amqp_addresses();
    let mut out = std::io::stdout();
    writeln!(
        out,
        "Millpond {} keeps its messages in {}",
        env!("CARGO_PKG_VERSION"),
        settings.data_dir.display()
    )?;
    writeln!(out, "  AMQP 0-9-1  {}", list(amqp.clone()))?;
    if let Some(first) = amqp.first() {
        writeln!(out, "              connect with amqp://{}:PASSWORD@{first}/", settings.default_user)?;
    }
    let (amqps, https) = (server.amqps_addresses(), server.https_addresses());
    if !amqps.is_empty() || !https.is_empty() {
        writeln!(out, "  with TLS    amqps://{}  https://{}", list(amqps), list(https))?;
    }
    if let Some(first) = server.http_addresses().first() {
        writeln!(out, "  console     http://{first}/")?;
        writeln!(out, "  health      http://{first}/health")?;
    }
    out.flush().context("standard output")
}

fn start_logging(filter: &str, format: LogFormat, spans: Option<SpanLayer>) -> Result<()> {
    let filter = EnvFilter::builder().parse(filter).with_context(|| format!("`log` = `{filter}`"))?;
    // In a file or a journal, colours are noise.
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(cli::is_coloured(&std::io::stderr()));
    let log = match format {
        LogFormat::Text => log.boxed(),
        LogFormat::Json => log.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(log.with_filter(filter.and(SpanLayer::others())))
        .with(spans.map(|spans| spans.with_filter(SpanLayer::traces())))
        .init();
    Ok(())
}

/// `drain` is how long a drain at a signal may take; zero: there is none.
fn stop_when_asked(
    stop: StopHandle,
    mut orders: mpsc::Receiver<Duration>,
    drain: Duration,
    supervisor: Arc<Supervisor>,
) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        let mut drain = tokio::select! {
            _ = interrupt.recv() => drain,
            _ = terminate.recv() => drain,
            Some(order) = orders.recv() => order,
        };
        while !drain.is_zero() {
            tracing::info!(limit = ?drain, "draining: clients may settle what they hold");
            supervisor.tell(&stopping_within(drain + STOP_TIMEOUT + AFTER_TIMEOUT));
            stop.drain();
            let end = Instant::now() + drain;
            // Whoever asks again does not want to wait, or wants to wait another time.
            drain = tokio::select! {
                () = tokio::time::sleep_until(end) => {
                    tracing::warn!("some clients have not settled in time; what they hold goes back");
                    Duration::ZERO
                }
                _ = interrupt.recv() => Duration::ZERO,
                _ = terminate.recv() => Duration::ZERO,
                Some(order) = orders.recv() => order,
            };
        }
        tracing::info!("stopping");
        supervisor.tell("STOPPING=1");
        stop.stop();
    });
    Ok(())
}

/// That it may take longer than TimeoutStopSec= of the unit says.
fn stopping_within(time: Duration) -> String {
    format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", time.as_micros())
}

/// Ten thousand connections need as many files; the default of many systems is 1024.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let goal = limit.maximum.unwrap_or(OPEN_FILES).min(OPEN_FILES);
    if limit.current.is_some_and(|current| current < goal) {
        limit.current = Some(goal);
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files could not be raised; connections are limited by it");
        }
    }
}

fn store_options(settings: &Settings) -> StoreOptions {
    let defaults = StoreOptions::new(&settings.data_dir);
    StoreOptions {
        sync: settings.sync.0,
        wal_segment_size_bytes: settings.wal_segment_size.0,
        wal_segments_max: settings.wal_segments_max,
        queue_segment_size_bytes: settings.queue_segment_size.0,
        queue_memory_max_bytes: settings.queue_memory_max.0,
        memory_max_bytes: settings.memory_max.0,
        ..defaults
    }
}

fn broker_options(settings: &Settings) -> Result<BrokerOptions> {
    Ok(BrokerOptions {
        message_size_max_bytes: settings.message_size_max.0,
        consumers_max_per_session: settings.consumers_per_channel_max,
        sessions_max: settings.connections_max,
        inbox_max_bytes: size(settings.inbox_size_max.0, "inbox_size_max")?,
        default_user: UserName::new(&settings.default_user)?,
        default_password: settings.default_password.as_str().into(),
        default_user_loopback_only: settings.default_user_loopback_only,
        statistics_interval_ms: (settings.statistics_interval.as_millis() as u64).max(100),
        clock: Clock::system(),
        audit: AuditOptions {
            path: (settings.audit_log != "off").then(|| settings.data_dir.join(&settings.audit_log)),
            size_max_bytes: settings.audit_log_max_size.0,
            keep: settings.audit_log_keep,
        },
    })
}

fn server_options(
    settings: &Settings,
    tls: Option<Arc<Tls>>,
    oauth: Option<Arc<Oauth>>,
) -> Result<ServerOptions> {
    let frame_max = u32::try_from(settings.frame_size_max.0).ok().filter(|size| *size >= 4096);
    Ok(ServerOptions {
        amqp_listen: settings.amqp_listen.clone(),
        http_listen: vec![settings.http_listen],
        prometheus_listen: settings.prometheus_listen.clone(),
        amqps_listen: settings.amqps_listen.clone(),
        https_listen: settings.https_listen.clone(),
        tls,
        oauth,
        http: HttpOptions {
            login_idle: settings.http_login_idle,
            connections_max: settings.http_connections_max,
            header_timeout: settings.http_header_timeout,
            body_pause_max: settings.http_body_pause_max,
        },
        stop_timeout: STOP_TIMEOUT,
        amqp: AmqpOptions {
            connections_max: settings.connections_max,
            channel_max: settings.channels_max,
            frame_max_bytes: frame_max.context("`frame_size_max` must be between 4KiB and 4GiB")?,
            heartbeat_secs: u16::try_from(settings.heartbeat.as_secs())
                .context("`heartbeat` is at most 65535s")?,
            handshake_timeout: settings.handshake_timeout,
            header_max_bytes: size(settings.header_size_max.0, "header_size_max")?,
            consumers_max_per_channel: settings.consumers_per_channel_max,
            // A single message of the allowed size must come through.
            partial_bodies_max_bytes: size(
                settings.partial_bodies_max.0.max(settings.message_size_max.0),
                "partial_bodies_max",
            )?,
            ..AmqpOptions::default()
        },
    })
}

fn size(bytes: u64, key: &str) -> Result<usize> {
    usize::try_from(bytes).with_context(|| format!("`{key}` does not fit this machine's address space"))
}
