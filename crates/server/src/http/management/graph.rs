//! `/api/graph`: exchanges, queues, consumers, sources, rules and their actions as nodes and edges.

use super::engine::ask;
use super::listing::parameter;
use super::statistics::rate;
use super::{Answer, Asker, Shared, aside, missing};
use crate::engine_door::EngineRequest;
use crate::http::refusal::Refusal;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use millpond_broker::{Broker, Count, Destination, Figures, Operation, QueueOrder, QueueOrderBy, QueueType};
use millpond_model::{QueueName, VhostName};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet, VecDeque};

/// What comes and goes.
const PUBLISH_IN: &[Count] = &[Count::PublishIn];
const PUBLISH_OUT: &[Count] = &[Count::PublishOut];
const PUBLISH: &[Count] = &[Count::Publish];
const DELIVER: &[Count] = &[Count::Deliver, Count::DeliverNoAck];
/// The label of the way of dead letters.
const DEAD_LETTERS: &str = "dead letters";
/// Most nodes of an answer.
const NODES_MAX: usize = 2000;
/// Most edges of an answer.
const EDGES_MAX: usize = 10_000;
/// Steps from the node in the middle, unless the request says.
const DEPTH_DEFAULT: usize = 2;
/// Most steps from there.
const DEPTH_MAX: usize = 20;

pub(super) fn router() -> Router<Shared> {
    Router::new().route("/graph", get(all)).route("/graph/{vhost}", get(of_vhost))
}

async fn all(State(shared): State<Shared>, asker: Asker, uri: Uri) -> Answer {
    graph(shared, asker, None, uri).await
}

async fn of_vhost(State(shared): State<Shared>, asker: Asker, Path(vhost): Path<String>, uri: Uri) -> Answer {
    graph(shared, asker, Some(vhost), uri).await
}

async fn graph(shared: Shared, asker: Asker, vhost: Option<String>, uri: Uri) -> Answer {
    let vhosts = asker.vhosts_meant(vhost.as_deref())?;
    // Rules and sources are in the vhost '/', and shown to whom the engine is.
    let with_engine = shared.engine.is_some()
        && asker.can(Operation::SeeEngine)
        && vhosts.iter().any(|it| it.as_str() == "/");
    let (rules, sources) = match with_engine {
        true => (
            ask(&shared, &asker, Operation::SeeEngine, EngineRequest::Rules).await?,
            ask(&shared, &asker, Operation::SeeEngine, EngineRequest::Sources).await?,
        ),
        false => (Value::Null, Value::Null),
    };
    aside(move || {
        let mut graph = Graph::default();
        let around = parameter(&uri, "around").filter(|around| !around.is_empty());
        let is_whole = around.is_none();
        for vhost in &vhosts {
            let broker = asker.see(vhost)?;
            broker.totals(vhost).map_err(|_| missing())?;
            let queues_max = if is_whole { NODES_MAX.saturating_sub(graph.nodes.len()) } else { usize::MAX };
            graph.add_vhost(broker, vhost, queues_max);
        }
        graph.add_engine(&rules, &sources);
        let depth = parameter(&uri, "depth").and_then(|depth| depth.parse().ok()).unwrap_or(DEPTH_DEFAULT);
        Ok(Json(graph.answer(around.as_deref(), depth.min(DEPTH_MAX))?).into_response())
    })
    .await
}

#[derive(Default)]
struct Graph {
    nodes: Vec<Value>,
    at: HashMap<String, usize>,
    /// From, to, label.
    edges: Vec<(String, String, String)>,
    /// Queues that nobody looked at, for there are more than can be shown.
    left_out: usize,
    /// Messages a second into an exchange or queue, and out of it.
    rates: HashMap<String, (f64, f64)>,
}

fn id(kind: &str, vhost: &str, name: &str) -> String {
    format!("{kind}:{vhost}:{name}")
}

fn href(page: &str, parts: &[&str]) -> String {
    let parts = parts.iter().map(|part| format!("/{}", utf8_percent_encode(part, NON_ALPHANUMERIC)));
    format!("#/{page}{}", parts.collect::<String>())
}

impl Graph {
    fn add(&mut self, id: String, node: Value) {
        if !self.at.contains_key(&id) {
            self.at.insert(id.clone(), self.nodes.len());
            let mut node = node;
            node["id"] = id.into();
            self.nodes.push(node);
        }
    }

    /// What comes in a second, and what goes out, if it has ever been used.
    fn rates(&mut self, id: &str, counts: Option<&Figures>, into: &[Count], out: &[Count]) {
        if let Some(counts) = counts {
            self.rates.insert(id.to_owned(), (rate(counts, into), rate(counts, out)));
        }
    }

    fn link(&mut self, from: &str, to: &str, label: &str) {
        self.edges.push((from.to_owned(), to.to_owned(), label.to_owned()));
    }

    fn add_vhost(&mut self, broker: &Broker, vhost: &VhostName, queues_max: usize) {
        let place = vhost.as_str();
        for exchange in broker.list_exchanges(vhost).unwrap_or_default() {
            let name = exchange.name.as_str();
            let node = json!({"kind": "exchange", "name": name, "vhost": place, "type": exchange.kind,
                              "internal": exchange.internal, "href": href("exchanges", &[place, name])});
            let counts = broker.exchange_counts(vhost, &exchange.name).ok().flatten();
            let key = id("exchange", place, name);
            self.rates(&key, counts.as_ref(), PUBLISH_IN, PUBLISH_OUT);
            self.add(key, node);
        }
        let mut kinds = HashMap::new();
        let order = QueueOrder { by: QueueOrderBy::Vhost, reverse: false };
        let Ok(page) = broker.page_queues(std::slice::from_ref(vhost), None, order, 0..queues_max) else {
            return;
        };
        self.left_out += page.total - page.queues.len();
        for (_, queue) in page.queues {
            let kind = if queue.queue_type == QueueType::Stream { "stream" } else { "queue" };
            let name = queue.name.as_str();
            let node = json!({"kind": kind, "name": name, "vhost": place,
                              "messages": queue.ready + queue.waiting + queue.unacked,
                              "messages_ready": queue.ready, "messages_unacknowledged": queue.unacked,
                              "consumers": queue.consumers,
                              "state": if queue.paused { "paused" } else { "running" },
                              "href": href("queues", &[place, name])});
            let key = id(kind, place, name);
            self.rates(&key, queue.counts.as_ref(), PUBLISH, DELIVER);
            self.add(key.clone(), node);
            kinds.insert(queue.name.clone(), key.clone());
            if queue.consumers > 0 {
                self.add_consumers(broker, vhost, &queue.name, &key);
            }
            let dead = queue.effective.get("x-dead-letter-exchange").and_then(|value| value.as_str());
            if let Some(exchange) = dead {
                self.link(&key, &id("exchange", place, exchange), DEAD_LETTERS);
            }
        }
        // Without those of the default exchange: it leads everywhere, which tells nothing.
        for binding in broker.list_made_bindings(vhost).unwrap_or_default() {
            let to = match &binding.destination {
                Destination::Queue(queue) => kinds.get(queue).cloned().unwrap_or_default(),
                Destination::Exchange(exchange) => id("exchange", place, exchange.as_str()),
            };
            let from = id("exchange", place, binding.source.as_str());
            self.link(&from, &to, &String::from_utf8_lossy(&binding.key));
        }
    }

    fn add_consumers(&mut self, broker: &Broker, vhost: &VhostName, queue: &QueueName, key: &str) {
        let Ok(figures) = broker.queue_figures(vhost, queue) else { return };
        for consumer in figures.consumers.iter().filter(|consumer| consumer.channel != 0) {
            let tag = consumer.tag.as_str();
            let name = format!("{}:{}:{}:{tag}", queue.as_str(), consumer.session, consumer.channel);
            let rate = consumer.pace.as_ref().and_then(|pace| pace.delivered_per_s);
            let node = json!({"kind": "consumer", "name": tag, "vhost": vhost.as_str(), "rate": rate,
                              "messages": consumer.unacked, "state": if consumer.paused { "paused" } else { "running" },
                              "href": href("queues", &[vhost.as_str(), queue.as_str()])});
            let consumer = id("consumer", vhost.as_str(), &name);
            self.add(consumer.clone(), node);
            self.link(key, &consumer, "");
        }
    }

    fn add_engine(&mut self, rules: &Value, sources: &Value) {
        let text = |it: &Value, member: &str| it[member].as_str().unwrap_or_default().to_owned();
        for source in sources.as_array().into_iter().flatten() {
            let name = text(source, "name");
            let node = json!({"kind": "source", "name": name, "vhost": "/", "type": source["kind"],
                              "state": source["state"], "href": href("sources", &[&name])});
            let key = id("source", "/", &name);
            self.add(key.clone(), node);
            self.link(&key, &id("exchange", "/", &text(source, "exchange")), "");
        }
        for rule in rules.as_array().into_iter().flatten() {
            let name = text(rule, "name");
            let key = id("rule", "/", &name);
            let node = json!({"kind": "rule", "name": name, "vhost": "/", "state": rule["state"],
                              "messages": rule["unacked"], "href": href("rules", &[&name])});
            self.add(key.clone(), node);
            let queue = self.queue_named(&text(rule, "queue"));
            self.link(&queue, &key, "");
            let parking = self.queue_named(&text(rule, "parking_queue"));
            self.link(&key, &parking, "failed");
            for (number, action) in rule["actions"].as_array().into_iter().flatten().enumerate() {
                self.add_action(&key, &name, number, action);
            }
        }
    }

    fn add_action(&mut self, rule: &str, name: &str, number: usize, action: &Value) {
        let kind = action["kind"].as_str().unwrap_or_default();
        let shown = action["name"].as_str().unwrap_or(kind);
        let key = id("action", "/", &format!("{name}/{number}"));
        let node = json!({"kind": "action", "name": shown, "vhost": "/", "type": kind,
                          "on_error": action["on_error"], "href": href("rules", &[name])});
        self.add(key.clone(), node);
        self.link(rule, &key, if action["on_error"] == true { "on error" } else { "" });
        // To the default exchange means to a queue that is known only when it is done.
        if let Some(exchange) = action["exchange"].as_str().filter(|exchange| !exchange.is_empty()) {
            self.link(&key, &id("exchange", "/", exchange), "");
        }
    }

    /// A queue or stream of the vhost `/`.
    fn queue_named(&self, name: &str) -> String {
        let stream = id("stream", "/", name);
        if self.at.contains_key(&stream) { stream } else { id("queue", "/", name) }
    }

    /// Those that are left of more than fit: a node and what is near it, or the first ones.
    fn answer(self, around: Option<&str>, depth: usize) -> Result<Value, Refusal> {
        let Self { mut nodes, at, edges, left_out, rates } = self;
        for node in &mut nodes {
            if let Some((into, _)) = node["id"].as_str().and_then(|id| rates.get(id)) {
                node["rate"] = (*into).into();
            }
        }
        let total = nodes.len() + left_out;
        let known = |id: &str| at.contains_key(id);
        let edges: Vec<_> = edges.into_iter().filter(|(from, to, _)| known(from) && known(to)).collect();
        let kept: HashSet<String> = match around {
            None => {
                nodes.iter().take(NODES_MAX).filter_map(|it| it["id"].as_str()).map(str::to_owned).collect()
            }
            Some(middle) if known(middle) => near(middle, depth, &edges),
            Some(middle) => {
                return Err(Refusal::bad_request(format!(
                    "around: there is no '{middle}', write KIND:VHOST:NAME"
                )));
            }
        };
        let is_kept = |id: &str| kept.contains(id);
        let nodes: Vec<_> =
            nodes.into_iter().filter(|node| node["id"].as_str().is_some_and(is_kept)).collect();
        let fitting: Vec<_> = edges.iter().filter(|(from, to, _)| is_kept(from) && is_kept(to)).collect();
        let truncated = (around.is_none() && nodes.len() < total)
            || fitting.len() > EDGES_MAX
            || nodes.len() >= NODES_MAX && around.is_some();
        let mut ways: HashMap<&str, usize> = HashMap::new();
        edges
            .iter()
            .filter(|it| it.2 != DEAD_LETTERS)
            .for_each(|(from, ..)| *ways.entry(from).or_default() += 1);
        let show = |(from, to, label): &(String, String, String)| {
            let mut shown = json!({ "from": from, "to": to, "label": label });
            // What goes out by several ways is not counted by way.
            if let (Some((_, out)), 1, true) =
                (rates.get(from), ways.get(from.as_str()).copied().unwrap_or(0), label != DEAD_LETTERS)
            {
                shown["rate"] = (*out).into();
            }
            shown
        };
        let edges: Vec<_> = fitting.into_iter().take(EDGES_MAX).map(show).collect();
        Ok(json!({ "nodes": nodes, "edges": edges, "total": total, "truncated": truncated }))
    }
}

/// What can be reached from a node in so many steps, against the edges too.
fn near(middle: &str, depth: usize, edges: &[(String, String, String)]) -> HashSet<String> {
    let mut next: HashMap<&str, Vec<&str>> = HashMap::new();
    for (from, to, _) in edges {
        next.entry(from).or_default().push(to);
        next.entry(to).or_default().push(from);
    }
    let mut kept = HashSet::from([middle.to_owned()]);
    let mut ahead = VecDeque::from([(middle, 0)]);
    while let Some((at, steps)) = ahead.pop_front() {
        if steps == depth || kept.len() >= NODES_MAX {
            continue;
        }
        for to in next.get(at).into_iter().flatten() {
            if kept.len() < NODES_MAX && kept.insert((*to).to_owned()) {
                ahead.push_back((to, steps + 1));
            }
        }
    }
    kept
}
