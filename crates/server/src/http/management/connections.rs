//! `/api/connections`, `/api/channels`, `/api/consumers`: what the broker knows of those who are connected.

use super::listing::Listing;
use super::queues::consumers_of;
use super::statistics::{DELIVERIES, PUBLISHES, TRAFFIC, Windows, message_stats, put_members, rate};
use super::{Answer, Asker, Shared, aside, missing, user_name, vhost_name};
use crate::http::Facts;
use crate::http::refusal::Refusal;
use crate::tls::TlsFacts;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use millpond_broker::{
    Broker, ChannelInfo, ChannelMode, ClientFacts, ConnectionInfo, ConsumerFigures, Count, Operation,
    json as table,
};
use millpond_model::{QueueName, VhostName};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;

/// Where a client says why it closes a connection.
pub(in crate::http) const REASON: &str = "x-reason";

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/connections", get(list))
        .route("/connections/username/{user}", get(list_of_user).delete(close_of_user))
        .route("/connections/{name}", get(one).delete(close))
        .route("/connections/{name}/channels", get(channels_of))
        .route("/vhosts/{vhost}/connections", get(list_in_vhost))
        .route("/vhosts/{vhost}/channels", get(channels_in_vhost))
        .route("/channels", get(channels))
        .route("/channels/{name}", get(channel).put(super::operations::change_channel))
        .route("/consumers", get(consumers))
        .route("/consumers/{vhost}", get(consumers_in_vhost))
}

/// Peer and own address, as AMQP connections are named: `127.0.0.1:4711 -> 127.0.0.1:5672`.
fn addresses(name: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (peer, own) = name.split_once(" -> ")?;
    Some((peer.parse().ok()?, own.parse().ok()?))
}

fn show(broker: &Broker, connection: &ConnectionInfo, facts: &Facts, windows: Windows) -> Value {
    let mut shown = json!({
        "name": connection.name,
        "user": connection.user.as_str(),
        "user_who_performed_action": connection.user.as_str(),
        "vhost": connection.vhost.as_str(),
        "node": facts.node,
        "state": "running",
        "channels": connection.channels.len(),
        "connected_at": connection.opened_ms,
        "ssl": false,
    });
    if let Some(client) = &connection.client {
        show_client(&mut shown, client);
    }
    if let (Some(counts), Some(shown)) =
        (broker.connection_figures(connection.session), shown.as_object_mut())
    {
        put_members(shown, &counts, TRAFFIC, windows.data);
    }
    match addresses(&connection.name) {
        Some((peer, own)) => {
            shown["type"] = "network".into();
            shown["protocol"] = "AMQP 0-9-1".into();
            shown["peer_host"] = peer.ip().to_string().into();
            shown["peer_port"] = peer.port().into();
            shown["host"] = own.ip().to_string().into();
            shown["port"] = own.port().into();
            show_tls(&mut shown, facts.secured.get(&connection.name).as_deref());
        }
        None => {
            shown["type"] = "direct".into();
            shown["protocol"] = "HTTP".into();
        }
    }
    shown
}

/// What the client said, and what was agreed with it.
fn show_client(shown: &mut Value, client: &ClientFacts) {
    let properties = table::of_table(&client.properties);
    if let Some(name) = properties.get("connection_name").filter(|name| name.is_string()) {
        shown["user_provided_name"] = name.clone();
    }
    shown["client_properties"] = properties.into();
    shown["auth_mechanism"] = (*client.mechanism).into();
    shown["channel_max"] = client.channel_max.into();
    shown["frame_max"] = client.frame_max_bytes.into();
    shown["timeout"] = client.heartbeat_secs.into();
}

/// As RabbitMQ shows it; where there is no TLS, only that.
fn show_tls(shown: &mut Value, tls: Option<&TlsFacts>) {
    shown["ssl"] = tls.is_some().into();
    let Some(TlsFacts { protocol, suite: [exchange, cipher, hash], certificate, .. }) = tls else { return };
    shown["ssl_protocol"] = (*protocol).into();
    shown["ssl_key_exchange"] = exchange.as_str().into();
    shown["ssl_cipher"] = cipher.as_str().into();
    shown["ssl_hash"] = hash.as_str().into();
    if let Some(certificate) = certificate {
        shown["peer_cert_subject"] = certificate.subject.as_str().into();
        shown["peer_cert_issuer"] = certificate.issuer.as_str().into();
        shown["peer_cert_validity"] = certificate.validity().into();
    }
}

/// Everybody's for those who see all, else one's own.
pub(super) fn seen(asker: &Asker) -> Result<Vec<ConnectionInfo>, Refusal> {
    let mut all = asker.may(Operation::Enter)?.list_connections();
    if !asker.can(Operation::SeeAll) {
        all.retain(|it| asker.can(Operation::Connections(&it.user)));
    }
    Ok(all)
}

fn answer(shared: &Shared, connections: &[ConnectionInfo], uri: &Uri) -> Answer {
    let (broker, windows) = (&shared.broker, Windows::read(uri));
    let shown = connections.iter().map(|it| show(broker, it, &shared.facts, windows)).collect();
    Listing::read(uri)?.answer(shown)
}

async fn list(State(shared): State<Shared>, asker: Asker, uri: Uri) -> Answer {
    answer(&shared, &seen(&asker)?, &uri)
}

async fn list_of_user(
    State(shared): State<Shared>,
    asker: Asker,
    Path(user): Path<String>,
    uri: Uri,
) -> Answer {
    let user = user_name(&user)?;
    let mut found = seen(&asker)?;
    found.retain(|it| it.user == user);
    answer(&shared, &found, &uri)
}

async fn list_in_vhost(
    State(shared): State<Shared>,
    asker: Asker,
    Path(vhost): Path<String>,
    uri: Uri,
) -> Answer {
    answer(&shared, &in_vhost(&asker, &vhost)?, &uri)
}

fn in_vhost(asker: &Asker, vhost: &str) -> Result<Vec<ConnectionInfo>, Refusal> {
    let vhost = vhost_name(vhost)?;
    asker.see(&vhost)?.totals(&vhost).map_err(|_| missing())?;
    let mut found = seen(asker)?;
    found.retain(|it| it.vhost == vhost);
    Ok(found)
}

pub(super) fn find(asker: &Asker, name: &str) -> Result<ConnectionInfo, Refusal> {
    seen(asker)?.into_iter().find(|it| *it.name == *name).ok_or_else(missing)
}

async fn one(State(shared): State<Shared>, asker: Asker, Path(name): Path<String>, uri: Uri) -> Answer {
    let found = find(&asker, &name)?;
    let shown = show(&shared.broker, &found, &shared.facts, Windows::read(&uri));
    Ok(Json(Listing::read(&uri)?.pick(shown)).into_response())
}

fn reason(headers: &HeaderMap) -> &str {
    let given = headers.get(REASON).and_then(|value| value.to_str().ok());
    given.filter(|text| !text.is_empty()).unwrap_or("Closed via management plugin")
}

async fn close(asker: Asker, Path(name): Path<String>, headers: HeaderMap) -> Answer {
    let found = find(&asker, &name)?;
    asker.may(Operation::Connections(&found.user))?.close_connections(&found.name, reason(&headers));
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn close_of_user(asker: Asker, Path(user): Path<String>, headers: HeaderMap) -> Answer {
    let user = user_name(&user)?;
    let broker = asker.may(Operation::Connections(&user))?;
    for connection in broker.list_connections().iter().filter(|it| it.user == user) {
        broker.close_connections(&connection.name, reason(&headers));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

// ---- channels

fn channel_name(connection: &ConnectionInfo, number: u16) -> String {
    format!("{} ({number})", connection.name)
}

fn show_channel(connection: &ConnectionInfo, channel: &ChannelInfo, node: &str, windows: Windows) -> Value {
    let mut details = json!({ "name": connection.name });
    if let Some((peer, _)) = addresses(&connection.name) {
        details["peer_host"] = peer.ip().to_string().into();
        details["peer_port"] = peer.port().into();
    }
    let (own, shared) = if channel.prefetch_shared { (0, channel.prefetch) } else { (channel.prefetch, 0) };
    json!({
        "name": channel_name(connection, channel.number),
        "number": channel.number,
        "user": connection.user.as_str(),
        "user_who_performed_action": connection.user.as_str(),
        "vhost": connection.vhost.as_str(),
        "node": node,
        "state": "running",
        "connection_details": details,
        "confirm": channel.mode == ChannelMode::Confirm,
        "transactional": channel.mode == ChannelMode::Transaction,
        "prefetch_count": own,
        "global_prefetch_count": shared,
        "consumer_count": channel.consumers,
        "messages_unacknowledged": channel.unacked,
        "messages_unconfirmed": channel.unconfirmed,
        "messages_uncommitted": channel.uncommitted,
        "acks_uncommitted": channel.acks_uncommitted,
        "pending_raft_commands": 0,
        "message_stats":
            message_stats(&channel.figures, &[DELIVERIES, PUBLISHES], windows.messages),
    })
}

fn show_channels(shared: &Shared, connections: &[ConnectionInfo], uri: &Uri) -> Vec<Value> {
    let (windows, node) = (Windows::read(uri), &shared.facts.node);
    let mut shown = Vec::new();
    for connection in connections {
        let channels = shared.broker.list_channels(connection.session);
        shown.extend(channels.iter().map(|channel| show_channel(connection, channel, node, windows)));
    }
    shown
}

async fn channels(State(shared): State<Shared>, asker: Asker, uri: Uri) -> Answer {
    Listing::read(&uri)?.answer(show_channels(&shared, &seen(&asker)?, &uri))
}

async fn channels_of(
    State(shared): State<Shared>,
    asker: Asker,
    Path(name): Path<String>,
    uri: Uri,
) -> Answer {
    Listing::read(&uri)?.answer(show_channels(&shared, &[find(&asker, &name)?], &uri))
}

async fn channels_in_vhost(
    State(shared): State<Shared>,
    asker: Asker,
    Path(vhost): Path<String>,
    uri: Uri,
) -> Answer {
    Listing::read(&uri)?.answer(show_channels(&shared, &in_vhost(&asker, &vhost)?, &uri))
}

async fn channel(State(shared): State<Shared>, asker: Asker, Path(name): Path<String>, uri: Uri) -> Answer {
    let all = show_channels(&shared, &seen(&asker)?, &uri);
    let found = all.into_iter().find(|it| it["name"] == *name).ok_or_else(missing)?;
    Ok(Json(Listing::read(&uri)?.pick(found)).into_response())
}

// ---- consumers

/// What a channel is given a second, if it has one consumer, by its number.
type AloneRates = HashMap<u16, f64>;

/// Connections by the number of their session.
pub(super) struct Connections {
    broker: Broker,
    by_session: HashMap<u64, ConnectionInfo>,
    /// Of the sessions that were asked for.
    rates: RefCell<HashMap<u64, AloneRates>>,
}

impl Connections {
    pub(super) fn of(broker: &Broker) -> Self {
        let by_session = broker.list_connections().into_iter().map(|it| (it.session, it)).collect();
        Self { broker: broker.clone(), by_session, rates: RefCell::default() }
    }

    /// What a consumer is given a second that is alone on its channel: deliveries are counted by channel.
    fn rate_delivered(&self, consumer: &ConsumerFigures) -> Option<f64> {
        let mut rates = self.rates.borrow_mut();
        let of_session = rates.entry(consumer.session).or_insert_with(|| {
            let channels = self.broker.list_channels(consumer.session).into_iter();
            let alone = channels.filter(|it| it.consumers == 1);
            alone.map(|it| (it.number, rate(&it.figures, &[Count::Deliver, Count::DeliverNoAck]))).collect()
        });
        of_session.get(&consumer.channel).copied()
    }
}

pub(super) fn show_consumer(
    consumer: &ConsumerFigures,
    (vhost, queue): (&VhostName, &QueueName),
    connections: &Connections,
    node: &str,
) -> Value {
    let mut details = json!({ "node": node, "number": consumer.channel });
    if let Some(connection) = connections.by_session.get(&consumer.session) {
        details["connection_name"] = (*connection.name).into();
        details["name"] = channel_name(connection, consumer.channel).into();
        details["user"] = connection.user.as_str().into();
        if let Some((peer, _)) = addresses(&connection.name) {
            details["peer_host"] = peer.ip().to_string().into();
            details["peer_port"] = peer.port().into();
        }
    }
    let mut shown = json!({
        "consumer_tag": consumer.tag.as_str(),
        "queue": { "name": queue.as_str(), "vhost": vhost.as_str() },
        "ack_required": !consumer.no_ack,
        "active": consumer.active,
        "paused": consumer.paused,
        "activity_status": if consumer.active { "up" } else { "waiting" },
        "exclusive": consumer.exclusive,
        "prefetch_count": consumer.prefetch,
        "priority": consumer.priority,
        "arguments": table::of_table(&consumer.arguments),
        "channel_details": details,
        "messages_unacknowledged": consumer.unacked,
    });
    // What a consumer does not have is left out: rabbitmqadmin cannot show a null.
    if let Some(pace) = consumer.pace {
        shown["rate_promised"] = pace.promised_per_s.into();
        shown["rate_window_ms"] = pace.window_ms.into();
    }
    let delivered_per_s = match consumer.pace {
        Some(pace) => pace.delivered_per_s,
        None => connections.rate_delivered(consumer),
    };
    if let Some(delivered_per_s) = delivered_per_s {
        shown["rate_delivered"] = delivered_per_s.into();
    }
    if let Some(lease_ms) = consumer.lease_ms {
        shown["lease_ms"] = lease_ms.into();
    }
    shown
}

fn all_consumers(shared: &Shared, asker: &Asker, vhost: Option<&str>, uri: &Uri) -> Answer {
    let mut shown = Vec::new();
    let connections = Connections::of(asker.may(Operation::Enter)?);
    for vhost in asker.vhosts_meant(vhost)? {
        let broker = asker.see(&vhost)?;
        for queue in &broker.queues_with_consumers(&vhost).map_err(|_| missing())? {
            shown.extend(consumers_of(broker, (&vhost, queue), &connections, &shared.facts.node));
        }
    }
    Listing::read(uri)?.answer(shown)
}

async fn consumers(State(shared): State<Shared>, asker: Asker, uri: Uri) -> Answer {
    aside(move || all_consumers(&shared, &asker, None, &uri)).await
}

async fn consumers_in_vhost(
    State(shared): State<Shared>,
    asker: Asker,
    Path(vhost): Path<String>,
    uri: Uri,
) -> Answer {
    aside(move || all_consumers(&shared, &asker, Some(&vhost), &uri)).await
}
