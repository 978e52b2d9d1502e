//! `/api/bindings`, and the bindings of one exchange or queue.
//!
//! A binding has no name; RabbitMQ gives it a `properties_key` made of its routing key and a hash of its arguments,
//! by which it is found between its two ends.

use super::fields::Fields;
use super::listing::Listing;
use super::{
    Answer, Asker, Shared, aside, exchange_name, exchanges, missing, queue_name, queues, vhost_name,
};
use crate::http::commit::durable;
use crate::http::refusal::Refusal;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use millpond_broker::{Binding, Destination, Operation, json};
use millpond_model::VhostName;
use millpond_model::table::Table;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::{Value, json};

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/bindings", get(list))
        .route("/bindings/{vhost}", get(list_of))
        .route("/bindings/{vhost}/e/{source}/{kind}/{destination}", get(between).post(bind))
        .route("/bindings/{vhost}/e/{source}/{kind}/{destination}/{properties}", get(one).delete(unbind))
        .route("/exchanges/{vhost}/{exchange}/bindings/source", get(from_exchange))
        .route("/exchanges/{vhost}/{exchange}/bindings/destination", get(to_exchange))
        .route("/queues/{vhost}/{queue}/bindings", get(to_queue))
}

/// What stays as it is in a properties key.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');

/// `~` for an empty key without arguments, `a.%23`, `KEY~HASH`.
fn properties_key(binding: &Binding) -> String {
    let key = percent_encode(&binding.key, PLAIN).to_string().replace("%20", "+");
    match (binding.arguments.is_empty(), key.is_empty()) {
        (true, true) => "~".to_owned(),
        (true, false) => key,
        (false, _) => format!("{key}~{}", hash(&binding.arguments)),
    }
}

/// FNV-1a, 32 bits, of the arguments in the order of their names: a short sign, stable over restarts.
fn hash(arguments: &Table) -> String {
    let mut entries: Vec<_> = arguments.iter().cloned().collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    // What is bound has an encoding.
    let encoded =
        entries.into_iter().collect::<Table>().encode().map(|it| it.into_bytes()).unwrap_or_default();
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    URL_SAFE_NO_PAD.encode(encoded.iter().fold(0x811c_9dc5, step).to_be_bytes())
}

fn ends(binding: &Binding) -> (&str, &'static str) {
    match &binding.destination {
        Destination::Queue(name) => (name.as_str(), "queue"),
        Destination::Exchange(name) => (name.as_str(), "exchange"),
    }
}

/// A binding as definitions have it; definitions of one vhost do not name it.
pub(super) fn define(binding: &Binding, vhost: Option<&VhostName>) -> Value {
    let (destination, destination_type) = ends(binding);
    let mut shown = json!({
        "source": binding.source.as_str(),
        "destination": destination,
        "destination_type": destination_type,
        "routing_key": String::from_utf8_lossy(&binding.key),
        "arguments": json::of_table(&binding.arguments),
    });
    if let Some(vhost) = vhost {
        shown["vhost"] = vhost.as_str().into();
    }
    shown
}

fn show(binding: &Binding, vhost: &VhostName) -> Value {
    let mut shown = define(binding, Some(vhost));
    shown["properties_key"] = properties_key(binding).into();
    shown
}

fn answer(bindings: &[Binding], vhost: &VhostName, uri: &Uri) -> Answer {
    Listing::read(uri)?.answer(bindings.iter().map(|binding| show(binding, vhost)).collect())
}

fn all(asker: &Asker, vhost: Option<&str>, uri: &Uri) -> Answer {
    let listing = Listing::read(uri)?;
    let vhosts = asker.vhosts_meant(vhost)?;
    let broker = asker.may(Operation::Enter)?;
    let is_plain = listing.sorted_by().is_none() && !listing.is_reversed() && !listing.is_filtered();
    let range = listing.range().filter(|_| is_plain);
    let page =
        broker.page_bindings(&vhosts, range.clone().unwrap_or(0..usize::MAX)).map_err(|_| missing())?;
    let show = |(vhost, binding): &(VhostName, Binding)| show(binding, vhost);
    match range {
        Some(_) => listing.answer_page(page.bindings.iter().map(show).collect(), page.total, page.total),
        None => listing.answer_of(page.bindings, column, show),
    }
}

fn column((vhost, binding): &(VhostName, Binding), name: &str) -> Option<String> {
    let (destination, destination_type) = ends(binding);
    Some(match name {
        "vhost" => vhost.to_string(),
        "source" => binding.source.to_string(),
        "destination" => destination.to_owned(),
        "destination_type" => destination_type.to_owned(),
        "routing_key" => String::from_utf8_lossy(&binding.key).into_owned(),
        "properties_key" => properties_key(binding),
        _ => return None,
    })
}

async fn list(asker: Asker, uri: Uri) -> Answer {
    aside(move || all(&asker, None, &uri)).await
}

async fn list_of(asker: Asker, Path(vhost): Path<String>, uri: Uri) -> Answer {
    aside(move || all(&asker, Some(&vhost), &uri)).await
}

async fn from_exchange(asker: Asker, Path((vhost, exchange)): Path<(String, String)>, uri: Uri) -> Answer {
    let (vhost, found) = exchanges::find(&asker, &vhost, &exchange)?;
    answer(&asker.see(&vhost)?.bindings_from(&vhost, &found.name)?, &vhost, &uri)
}

async fn to_exchange(asker: Asker, Path((vhost, exchange)): Path<(String, String)>, uri: Uri) -> Answer {
    let (vhost, found) = exchanges::find(&asker, &vhost, &exchange)?;
    answer(&asker.see(&vhost)?.bindings_to(&vhost, &Destination::Exchange(found.name))?, &vhost, &uri)
}

async fn to_queue(asker: Asker, Path((vhost, queue)): Path<(String, String)>, uri: Uri) -> Answer {
    let (vhost, found) = queues::find(&asker, &vhost, &queue)?;
    answer(&asker.see(&vhost)?.bindings_to(&vhost, &Destination::Queue(found.name))?, &vhost, &uri)
}

/// Vhost, source, `q` or `e`, destination.
type Ends = (String, String, String, String);

fn destination(kind: &str, name: &str) -> Result<Destination, Refusal> {
    match kind {
        "q" => Ok(Destination::Queue(queue_name(name)?)),
        "e" => Ok(Destination::Exchange(exchange_name(name)?)),
        _ => Err(missing()),
    }
}

/// All bindings between two ends, which must be there.
fn find(asker: &Asker, (vhost, source, kind, to): &Ends) -> Result<(VhostName, Vec<Binding>), Refusal> {
    let (vhost_found, source) = exchanges::find(asker, vhost, source)?;
    match kind.as_str() {
        "q" => drop(queues::find(asker, vhost, to)?),
        _ => drop(exchanges::find(asker, vhost, to)?),
    }
    let destination = destination(kind, to)?;
    let mut bindings = asker.see(&vhost_found)?.bindings_to(&vhost_found, &destination)?;
    bindings.retain(|binding| binding.source == source.name);
    Ok((vhost_found, bindings))
}

async fn between(asker: Asker, Path(ends): Path<Ends>, uri: Uri) -> Answer {
    let (vhost, bindings) = find(&asker, &ends)?;
    answer(&bindings, &vhost, &uri)
}

/// What a request or definitions want bound.
pub(super) fn binding_of(
    source: &str,
    destination: Destination,
    fields: &Fields,
) -> Result<Binding, Refusal> {
    Ok(Binding {
        source: exchange_name(source)?,
        destination,
        key: fields.text("routing_key")?.unwrap_or_default().as_bytes().into(),
        arguments: fields.table("arguments")?,
    })
}

/// 201 also for one that was there, as RabbitMQ answers.
async fn bind(asker: Asker, Path((vhost, source, kind, to)): Path<Ends>, body: Bytes) -> Answer {
    let vhost = vhost_name(&vhost)?;
    asker.see(&vhost)?;
    let binding = binding_of(&source, destination(&kind, &to)?, &Fields::read(&body)?)?;
    let mut session = asker.session(&vhost)?;
    let durability = session.bind(&binding)?;
    durable(&mut session, durability).await?;
    let to = percent_encode(to.as_bytes(), PLAIN);
    let key = properties_key(&binding);
    let location = format!("{to}/{}", percent_encode(key.as_bytes(), PLAIN));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)]).into_response())
}

type Named = (String, String, String, String, String);

fn named(asker: &Asker, (vhost, source, kind, to, key): Named) -> Result<(VhostName, Binding), Refusal> {
    let (vhost, bindings) = find(asker, &(vhost, source, kind, to))?;
    let is_meant = |binding: &Binding| {
        // Clients that do not encode the key once more for the path send what it stands for.
        let plain = binding.arguments.is_empty() && *binding.key == *key.as_bytes();
        properties_key(binding) == key || plain
    };
    let found = bindings.into_iter().find(is_meant).ok_or_else(missing)?;
    Ok((vhost, found))
}

async fn one(asker: Asker, Path(path): Path<Named>) -> Answer {
    let (vhost, binding) = named(&asker, path)?;
    Ok(Json(show(&binding, &vhost)).into_response())
}

async fn unbind(asker: Asker, Path(path): Path<Named>) -> Answer {
    let (vhost, binding) = named(&asker, path)?;
    let mut session = asker.session(&vhost)?;
    let durability = session.unbind(&binding)?;
    durable(&mut session, durability).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
