//! Queues paused, consumers changed and ended.

use super::connections;
use super::fields::Fields;
use super::{Answer, Asker, Shared, missing, queue_name, queues, vhost_name};
use crate::http::commit::saved;
use crate::http::refusal::Refusal;
use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{delete, post, put};
use millpond_broker::{ConnectionInfo, ConsumerChange, ConsumersMeant, Operation, QueueType, Right, Thing};
use millpond_model::VhostName;
use millpond_model::table::{Table, Value as Argument};

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/queues/{vhost}/{queue}/pause", put(pause))
        .route("/queues/{vhost}/{queue}/resume", put(resume))
        .route("/queues/{vhost}/{queue}/actions", post(actions))
        .route("/consumers/{vhost}/{connection}/{channel}/{tag}", delete(cancel).put(change))
}

// ---- queues

async fn pause(asker: Asker, Path((vhost, queue)): Path<(String, String)>) -> Answer {
    set_paused(&asker, &vhost, &queue, true).await
}

async fn resume(asker: Asker, Path((vhost, queue)): Path<(String, String)>) -> Answer {
    set_paused(&asker, &vhost, &queue, false).await
}

async fn set_paused(asker: &Asker, vhost: &str, queue: &str, paused: bool) -> Answer {
    let (vhost, found) = queues::find(asker, vhost, queue)?;
    let name = found.name;
    let broker = asker.may(Operation::Use(&vhost, Right::Configure, Thing::Queue(name.as_str())))?;
    saved(broker.pause_queue(&vhost, &name, paused)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What RabbitMQ has for mirrors of classic queues: there are none here, so nothing has to be done. An administrator's,
/// as it is there.
async fn actions(asker: Asker, Path((vhost, queue)): Path<(String, String)>, body: Bytes) -> Answer {
    let (vhost, queue) = (vhost_name(&vhost)?, queue_name(&queue)?);
    let found = asker.administer()?.queue(&vhost, &queue)?.ok_or_else(missing)?;
    let fields = Fields::read(&body)?;
    fields.need(&["action"])?;
    match fields.text("action")? {
        Some("sync" | "cancel_sync") if found.queue_type == QueueType::Classic => {
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Some(action @ ("sync" | "cancel_sync")) => {
            Err(Refusal::bad_request(format!("{action}: only a classic queue has mirrors")))
        }
        other => Err(Refusal::bad_request(format!(
            "action '{}' is not known: use sync or cancel_sync; to pause a queue, PUT .../pause",
            other.unwrap_or_default()
        ))),
    }
}

// ---- consumers

/// Where a consumer is: vhost, connection, channel, tag.
type Address = (String, String, String, String);

/// A consumer of a client, whose connection the asker may close, and so its consumers too.
fn find(asker: &Asker, address: &Address) -> Result<(VhostName, ConnectionInfo, u16), Refusal> {
    let (vhost, connection, channel, _) = address;
    let vhost = vhost_name(vhost)?;
    asker.see(&vhost)?;
    let connection = connections::find(asker, connection)?;
    let channel = channel.parse().ok().filter(|number| *number != 0).ok_or_else(missing)?;
    if connection.vhost != vhost {
        return Err(missing());
    }
    asker.may(Operation::Connections(&connection.user))?;
    Ok((vhost, connection, channel))
}

async fn cancel(asker: Asker, Path(address): Path<Address>) -> Answer {
    let (vhost, connection, channel) = find(&asker, &address)?;
    let broker = asker.may(Operation::Connections(&connection.user))?;
    let meant = ConsumersMeant {
        queue: None,
        session: Some(connection.session),
        channel: Some(channel),
        tag: Some(&address.3),
    };
    match broker.cancel_consumers(&vhost, meant)? {
        0 => Err(missing()),
        _ => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

async fn change(asker: Asker, Path(address): Path<Address>, body: Bytes) -> Answer {
    let (vhost, connection, channel) = find(&asker, &address)?;
    let broker = asker.may(Operation::Connections(&connection.user))?;
    let change = change_of(&Fields::read(&body)?)?;
    let meant = ConsumersMeant {
        queue: None,
        session: Some(connection.session),
        channel: Some(channel),
        tag: Some(&address.3),
    };
    match broker.change_consumers(&vhost, meant, &change)? {
        0 => Err(missing()),
        _ => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// `prefetch`, `paused`, `rate` (null: none), `rate_window_ms`, `lease_ms`.
fn change_of(fields: &Fields) -> Result<ConsumerChange, Refusal> {
    let mut arguments = Table::new();
    match fields.get("rate") {
        None => {}
        Some(rate) => match rate.as_f64() {
            Some(rate) => arguments.set("x-rate", Argument::F64(rate)),
            None => {
                return Err(Refusal::bad_request(
                    "rate: messages a second, or null for no pace, are expected",
                ));
            }
        },
    }
    for (name, argument) in [("rate_window_ms", "x-rate-window"), ("lease_ms", "x-consumer-timeout")] {
        if let Some(number) = fields.integer(name)? {
            arguments.set(argument, Argument::I64(number));
        }
    }
    let paused = match fields.get("paused") {
        None => None,
        Some(_) => Some(fields.flag("paused")?),
    };
    let change =
        ConsumerChange { prefetch: prefetch_of(fields)?, paused, unpaced: fields.is_null("rate"), arguments };
    let says =
        change.prefetch.is_some() || paused.is_some() || change.unpaced || !change.arguments.is_empty();
    match says {
        true => Ok(change),
        false => Err(Refusal::bad_request(
            "nothing to change: give prefetch, rate, rate_window_ms, lease_ms or paused",
        )),
    }
}

fn prefetch_of(fields: &Fields) -> Result<Option<u32>, Refusal> {
    let wrong = |_| Refusal::bad_request(format!("prefetch: a number from 0 to {} is expected", u16::MAX));
    let number = fields.integer("prefetch")?.map(u16::try_from).transpose().map_err(wrong)?;
    Ok(number.map(u32::from))
}

/// Changes all consumers of a channel, as LavinMQ does; those that it starts later have what it asks for itself.
pub(super) async fn change_channel(asker: Asker, Path(name): Path<String>, body: Bytes) -> Answer {
    let prefetch = prefetch_of(&Fields::read(&body)?)?
        .ok_or_else(|| Refusal::bad_request("prefetch: a number is expected"))?;
    // Others' connections are not there for those who do not see them.
    let found = connections::seen(&asker)?.into_iter().find_map(|it| {
        let number = name.strip_prefix(&*it.name)?.strip_prefix(" (")?.strip_suffix(')')?.parse().ok()?;
        it.channels.contains(&number).then_some((it, number))
    });
    let (connection, channel) = found.ok_or_else(missing)?;
    let broker = asker.may(Operation::Connections(&connection.user))?;
    let meant =
        ConsumersMeant { queue: None, session: Some(connection.session), channel: Some(channel), tag: None };
    let change = ConsumerChange { prefetch: Some(prefetch), ..ConsumerChange::default() };
    broker.change_consumers(&connection.vhost, meant, &change)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
