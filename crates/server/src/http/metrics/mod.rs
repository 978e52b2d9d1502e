//! The node in figures, as Prometheus reads them, by RabbitMQ's names.
//!
//! | Path | Answers |
//! |---|---|
//! | `/metrics` | sums only; they name nothing, so that no password is asked for |
//! | `/metrics/per-object` | each queue, exchange, channel and connection |
//! | `/metrics/detailed?family=F&vhost=V&queue=Q` | those families, of those vhosts and queues |
//!
//! What names things is for users with the tag `monitoring`; a listener for Prometheus alone asks for no password, as
//! RabbitMQ's.

mod engine;
mod families;
mod write;

use super::Facts;
use super::door::Door;
use super::management::{RABBITMQ_VERSION, parameters};
use super::refusal::Refusal;
use crate::engine_door::EngineDoor;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use engine::EngineFigures;
use families::{
    CHANNELS, CONNECTIONS, Connection, EXCHANGES, Exchange, QUEUES, Queue, churn, global, machine, store,
};
use millpond_broker::{
    Broker, ChannelInfo, ConnectionInfo, FrontEnd, Operation, QueueOrder, QueueOrderBy, QueuePage, Totals,
};
use millpond_model::VhostName;
use std::sync::Arc;
use tokio::sync::Semaphore;
use write::{Page, label};

/// The version of the text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Requests answered at once: each looks at all queues, some milliseconds of them, and anybody may ask.
static COUNTING: Semaphore = Semaphore::const_new(1);

/// Things of a kind that are shown one by one.
const OBJECTS_MAX: usize = 20_000;

struct Metrics {
    broker: Broker,
    facts: Arc<Facts>,
    /// `None`: nobody is asked who they are.
    door: Option<Arc<Door>>,
    engine: Option<Arc<dyn EngineDoor>>,
}

/// The metrics. Without a door nobody is asked for a password.
pub(super) fn router(
    broker: Broker,
    facts: Arc<Facts>,
    door: Option<Arc<Door>>,
    engine: Option<Arc<dyn EngineDoor>>,
) -> Router {
    Router::new()
        .route("/metrics", get(sums))
        .route("/metrics/per-object", get(per_object))
        .route("/metrics/detailed", get(detailed))
        .with_state(Arc::new(Metrics { broker, facts, door, engine }))
}

type Shared = Arc<Metrics>;

async fn sums(State(shared): State<Shared>) -> Response {
    let engine = EngineFigures::of(shared.engine.as_deref()).await;
    answer(move || shared.sums(&engine)).await
}

async fn per_object(State(shared): State<Shared>, request: Request) -> Result<Response, Refusal> {
    shared.let_in(request).await?;
    let engine = EngineFigures::of(shared.engine.as_deref()).await;
    let page = Page::new("rabbitmq_", Vec::new());
    Ok(answer(move || shared.each(page, &Wanted::default(), &engine, "per-object")).await)
}

async fn detailed(State(shared): State<Shared>, request: Request) -> Result<Response, Refusal> {
    let uri = request.uri().clone();
    shared.let_in(request).await?;
    let families: Vec<_> = parameters(&uri, "family").collect();
    if families.is_empty() {
        // As RabbitMQ: nothing is shown that was not asked for.
        return Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], "").into_response());
    }
    let wanted = Wanted::read(&uri);
    let engine = EngineFigures::of(shared.engine.as_deref()).await;
    let page = Page::new("rabbitmq_detailed_", families);
    Ok(answer(move || shared.each(page, &wanted, &engine, "detailed")).await)
}

async fn answer(text: impl FnOnce() -> String + Send + 'static) -> Response {
    // Never closed; if it were, there would only be more at once.
    let _slot = COUNTING.acquire().await;
    let text = tokio::task::spawn_blocking(text).await.unwrap_or_default();
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}

/// Of which vhosts and queues; empty: of all.
#[derive(Debug, Default)]
struct Wanted {
    vhosts: Vec<String>,
    queues: Vec<String>,
}

impl Wanted {
    fn read(uri: &Uri) -> Self {
        Self { vhosts: parameters(uri, "vhost").collect(), queues: parameters(uri, "queue").collect() }
    }

    fn vhost(&self, name: &str) -> bool {
        self.vhosts.is_empty() || self.vhosts.iter().any(|it| it == name)
    }

    fn queue(&self, name: &str) -> bool {
        self.queues.is_empty() || self.queues.iter().any(|it| it == name)
    }
}

impl Metrics {
    async fn let_in(&self, request: Request) -> Result<(), Refusal> {
        if let Some(door) = &self.door {
            let (parts, _) = request.into_parts();
            let login = door.login(&parts, FrontEnd::Management).await?;
            self.broker.operator(login).may(Operation::SeeAll)?;
        }
        Ok(())
    }

    fn totals(&self) -> Totals {
        let mut all = Totals::default();
        for vhost in self.broker.list_vhosts() {
            // One that has just gone has nothing.
            let Ok(totals) = self.broker.totals(&vhost.name) else { continue };
            all.queues += totals.queues;
            all.ready += totals.ready;
            all.waiting += totals.waiting;
            all.unacked += totals.unacked;
            all.consumers += totals.consumers;
        }
        all
    }

    fn sums(&self, engine: &EngineFigures) -> String {
        let mut page = Page::new("rabbitmq_", Vec::new());
        let (broker, totals) = (&self.broker, self.totals());
        let node = broker.node_counts(None);
        let connections = broker.list_connections();
        let channels: Vec<ChannelInfo> =
            connections.iter().flat_map(|it| broker.list_channels(it.session)).collect();
        let queues = Queue {
            ready: totals.ready,
            unacked: totals.unacked,
            waiting: totals.waiting,
            consumers: totals.consumers,
            figures: None,
        };
        let open = |it: &ConnectionInfo| Connection { channels: it.channels.len() as u64, figures: None };
        let open: Vec<_> = connections.iter().map(open).collect();
        self.identity(&mut page, "aggregated");
        page.one("connections", "Connections that are open", false, "", connections.len() as u64);
        page.one("channels", "Channels that are open", false, "", channels.len() as u64);
        page.one("consumers", "Consumers", false, "", totals.consumers);
        page.one("queues", "Queues", false, "", totals.queues);
        page.sums(QUEUES, &[queues], &node);
        page.sums(CHANNELS, &channels, &node);
        page.sums(CONNECTIONS, &open, &node);
        page.singles(churn(&node));
        page.singles(global(&node, totals.consumers, &channels));
        page.singles(machine(broker, &self.facts));
        page.singles(store(broker));
        engine.sums(&mut page);
        page.text()
    }

    /// `endpoint` tells the three paths apart, as RabbitMQ does: its dashboards choose among them by it.
    fn identity(&self, page: &mut Page, endpoint: &str) {
        let cluster = self.facts.cluster_name(&self.broker);
        let (node, cluster) = (label(&self.facts.node), label(&cluster));
        let identity = format!(
            "rabbitmq_node=\"{node}\",rabbitmq_cluster=\"{cluster}\",rabbitmq_endpoint=\"{endpoint}\""
        );
        let build = format!(
            "rabbitmq_version=\"{RABBITMQ_VERSION}\",product_name=\"Millpond\",product_version=\"{}\"",
            env!("CARGO_PKG_VERSION")
        );
        page.one("identity_info", "Node and cluster", false, &identity, 1);
        page.one("build_info", "Product and version", false, &build, 1);
    }

    /// Thing by thing.
    fn each(&self, mut page: Page, wanted: &Wanted, engine: &EngineFigures, endpoint: &str) -> String {
        let broker = &self.broker;
        let mut vhosts: Vec<_> = broker.list_vhosts().into_iter().map(|vhost| vhost.name).collect();
        vhosts.retain(|vhost| wanted.vhost(vhost.as_str()));
        self.queues(&mut page, wanted, &vhosts);
        self.exchanges(&mut page, &vhosts);
        self.clients(&mut page, wanted);
        let node = broker.node_counts(None);
        page.singles(churn(&node));
        page.singles(machine(broker, &self.facts));
        page.singles(store(broker));
        engine.each(&mut page);
        if page.wants_family("vhost_status") {
            let lines = vhosts.iter().map(|vhost| (format!("vhost=\"{}\"", label(vhost.as_str())), 1));
            page.lines("cluster_vhost_status", "1: the vhost runs", lines);
        }
        self.identity(&mut page, endpoint);
        page.text()
    }

    fn queues(&self, page: &mut Page, wanted: &Wanted, vhosts: &[VhostName]) {
        if !page.wants(QUEUES) {
            return;
        }
        let order = QueueOrder { by: QueueOrderBy::Vhost, reverse: false };
        let fits = |name: &str| wanted.queue(name);
        // A vhost that has just gone is gone with the next scrape.
        let Ok(found) = self.broker.page_queues(vhosts, Some(&fits), order, 0..OBJECTS_MAX) else { return };
        let QueuePage { fitting, queues, .. } = found;
        let show = |(vhost, queue): (VhostName, millpond_broker::QueueInfo)| {
            let labels =
                format!("vhost=\"{}\",queue=\"{}\"", label(vhost.as_str()), label(queue.name.as_str()));
            let millpond_broker::QueueInfo { ready, unacked, waiting, consumers, counts: figures, .. } =
                queue;
            (labels, Queue { ready, unacked, waiting, consumers, figures })
        };
        let shown: Vec<_> = queues.into_iter().map(show).collect();
        page.each(QUEUES, &shown);
        left_out(page, "queue", fitting - shown.len());
    }

    fn exchanges(&self, page: &mut Page, vhosts: &[VhostName]) {
        if !page.wants(EXCHANGES) {
            return;
        }
        let mut shown = Vec::new();
        for vhost in vhosts {
            for exchange in self.broker.list_exchanges(vhost).unwrap_or_default() {
                // What was never used has nothing to show.
                let Ok(Some(counts)) = self.broker.exchange_counts(vhost, &exchange.name) else { continue };
                let (vhost, name) = (label(vhost.as_str()), label(exchange.name.as_str()));
                shown.push((format!("vhost=\"{vhost}\",exchange=\"{name}\""), Exchange(Some(counts))));
            }
        }
        let out = shown.len().saturating_sub(OBJECTS_MAX);
        shown.truncate(OBJECTS_MAX);
        page.each(EXCHANGES, &shown);
        left_out(page, "exchange", out);
    }

    fn clients(&self, page: &mut Page, wanted: &Wanted) {
        if !page.wants(CONNECTIONS) && !page.wants(CHANNELS) {
            return;
        }
        let mut connections = self.broker.list_connections();
        connections.retain(|it| wanted.vhost(it.vhost.as_str()));
        let out = connections.len().saturating_sub(OBJECTS_MAX);
        connections.truncate(OBJECTS_MAX);
        let mut channels = Vec::new();
        let mut shown = Vec::with_capacity(connections.len());
        for it in &connections {
            let labels = format!("connection=\"{}\",vhost=\"{}\"", label(&it.name), label(it.vhost.as_str()));
            for channel in self.broker.list_channels(it.session) {
                let name = format!("{} ({})", it.name, channel.number);
                channels.push((format!("channel=\"{}\",{labels}", label(&name)), channel));
            }
            let figures = self.broker.connection_figures(it.session);
            shown.push((labels, Connection { channels: it.channels.len() as u64, figures }));
        }
        let channels_out = channels.len().saturating_sub(OBJECTS_MAX);
        channels.truncate(OBJECTS_MAX);
        page.each(CONNECTIONS, &shown);
        page.each(CHANNELS, &channels);
        left_out(page, "connection", out);
        left_out(page, "channel", channels_out);
    }
}

/// Says how many were too many, if any were.
fn left_out(page: &mut Page, kind: &str, count: usize) {
    if count > 0 {
        let labels = format!("kind=\"{kind}\"");
        let help = "Things that are not shown one by one, because there are too many";
        page.one("millpond_metrics_left_out", help, false, &labels, count as u64);
    }
}
