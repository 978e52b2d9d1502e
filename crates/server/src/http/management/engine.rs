//! `/api/rules`, `/api/sources`, `/api/topology`, `/api/secrets`: the engine, by the door that the binary gives.
//!
//! Whoever may see the node may see the engine; who may administer it may change it. A plan and a replay read files and
//! messages, so they are changes here.

use super::fields::Fields;
use super::listing::{Listing, parameter};
use super::{Answer, Asker, Shared, transfers};
use crate::engine_door::{EngineRefused, EngineReplay, EngineRequest, RuleChange};
use crate::http::refusal::Refusal;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use millpond_broker::Operation;
use serde_json::Value;

/// The name of a topology that comes without one.
const FILE_DEFAULT: &str = "topology.yaml";

/// Longest topology. Bytes.
const TOPOLOGY_MAX_BYTES: usize = 8 * 1024 * 1024;

/// Messages that a replay looks at unless it says how many.
const REPLAY_COUNT_DEFAULT: u64 = 1000;

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/rules", get(rules))
        .route("/rules/{rule}", get(rule))
        .route("/rules/{rule}/{change}", put(change_rule))
        .route("/rules/{rule}/dead-letters", get(dead_letters))
        .route("/rules/{rule}/history", get(history))
        .route("/rules/{rule}/test", post(test))
        .route("/rules/{rule}/replay", post(replay))
        .route("/sources", get(sources))
        .route("/sources/{source}", get(source))
        .route("/sources/{source}/start", put(start_source))
        .route("/sources/{source}/stop", put(stop_source))
        .route("/topology", get(topology).put(apply))
        .route("/topology/plan", post(plan))
        .route("/secrets", get(secrets))
}

impl From<EngineRefused> for Refusal {
    fn from(refused: EngineRefused) -> Self {
        let reason = refused.to_string();
        match refused {
            EngineRefused::Missing(_) => Self::new(StatusCode::NOT_FOUND, reason),
            EngineRefused::Invalid { diagnostics, .. } if !diagnostics.is_empty() => {
                Self::bad_request(reason).with("diagnostics", diagnostics)
            }
            EngineRefused::Invalid { .. } => Self::bad_request(reason),
            EngineRefused::Unavailable(_) => Self::unavailable(reason),
        }
    }
}

/// Asks the engine, for somebody who may.
pub(super) async fn ask(
    shared: &Shared,
    asker: &Asker,
    operation: Operation<'_>,
    request: EngineRequest,
) -> Result<Value, Refusal> {
    let broker = asker.may(operation)?;
    match &shared.engine {
        Some(engine) => {
            let change = request.audited();
            let answer = engine.ask(request).await?;
            if let Some((operation, object)) = change {
                // Of a topology, what holds now.
                broker.audit(operation, object, answer["holds"].as_str().unwrap_or_default());
            }
            Ok(answer)
        }
        None => Err(Refusal::unavailable("this server runs without the engine")),
    }
}

async fn list(shared: &Shared, asker: &Asker, request: EngineRequest, uri: &Uri) -> Answer {
    let listing = Listing::read(uri)?;
    match ask(shared, asker, Operation::SeeEngine, request).await? {
        Value::Array(items) => listing.answer(items),
        other => Ok(Json(other).into_response()),
    }
}

async fn see(shared: &Shared, asker: &Asker, request: EngineRequest) -> Answer {
    Ok(Json(ask(shared, asker, Operation::SeeEngine, request).await?).into_response())
}

async fn change(shared: &Shared, asker: &Asker, request: EngineRequest) -> Answer {
    Ok(Json(ask(shared, asker, Operation::ChangeEngine, request).await?).into_response())
}

// ---- rules

async fn rules(State(shared): State<Shared>, asker: Asker, uri: Uri) -> Answer {
    list(&shared, &asker, EngineRequest::Rules, &uri).await
}

async fn rule(State(shared): State<Shared>, asker: Asker, Path(rule): Path<String>) -> Answer {
    see(&shared, &asker, EngineRequest::Rule(rule)).await
}

async fn change_rule(
    State(shared): State<Shared>,
    asker: Asker,
    Path((rule, wanted)): Path<(String, String)>,
) -> Answer {
    let wanted = match wanted.as_str() {
        "start" => RuleChange::Start,
        "stop" => RuleChange::Stop,
        "pause" => RuleChange::Pause,
        "drain" => RuleChange::Drain,
        _ => return Err(super::missing()),
    };
    change(&shared, &asker, EngineRequest::ChangeRule(rule, wanted)).await
}

/// What stands in its parking queue, for those who may read that.
async fn dead_letters(
    State(shared): State<Shared>,
    asker: Asker,
    Path(rule): Path<String>,
    uri: Uri,
) -> Answer {
    let found = ask(&shared, &asker, Operation::SeeEngine, EngineRequest::Rule(rule)).await?;
    let queue = found["parking_queue"].as_str().unwrap_or_default();
    transfers::look(&shared, &asker, ("/", queue), &uri).await
}

async fn history(State(shared): State<Shared>, asker: Asker, Path(rule): Path<String>) -> Answer {
    see(&shared, &asker, EngineRequest::RuleHistory(rule)).await
}

async fn test(State(shared): State<Shared>, asker: Asker, Path(rule): Path<String>, body: Bytes) -> Answer {
    let fields = Fields::read(&body)?;
    let event = fields.get("event").cloned().ok_or_else(|| {
        Refusal::bad_request(
            "event: an object is expected, a CloudEvent or its members such as {\"data\": ...}",
        )
    })?;
    see(&shared, &asker, EngineRequest::TestRule(rule, event)).await
}

async fn replay(State(shared): State<Shared>, asker: Asker, Path(rule): Path<String>, body: Bytes) -> Answer {
    let fields = Fields::read(&body)?;
    // Times and ages may be numbers, too.
    let text = |name: &str| -> Result<Option<String>, Refusal> {
        match fields.get(name) {
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            _ => Ok(fields.text(name)?.map(str::to_owned)),
        }
    };
    let number = |name: &str| -> Result<Option<u64>, Refusal> {
        let wrong = |_| Refusal::bad_request(format!("{name}: a number from 0 on is expected"));
        fields.integer(name)?.map(u64::try_from).transpose().map_err(wrong)
    };
    let dry_run = match fields.get("dry_run") {
        None => true,
        Some(_) => fields.flag("dry_run")?,
    };
    let request = EngineReplay {
        rule,
        from: text("from")?,
        of: text("of")?,
        since: text("since")?,
        until: text("until")?,
        file: text("text")?.map(|text| (FILE_DEFAULT.to_owned(), text)),
        limit: Some(number("count")?.unwrap_or(REPLAY_COUNT_DEFAULT)),
        dry_run,
    };
    change(&shared, &asker, EngineRequest::Replay(request)).await
}

// ---- sources

async fn sources(State(shared): State<Shared>, asker: Asker, uri: Uri) -> Answer {
    list(&shared, &asker, EngineRequest::Sources, &uri).await
}

async fn source(State(shared): State<Shared>, asker: Asker, Path(source): Path<String>) -> Answer {
    see(&shared, &asker, EngineRequest::Source(source)).await
}

async fn start_source(State(shared): State<Shared>, asker: Asker, Path(source): Path<String>) -> Answer {
    change(&shared, &asker, EngineRequest::ChangeSource(source, true)).await
}

async fn stop_source(State(shared): State<Shared>, asker: Asker, Path(source): Path<String>) -> Answer {
    change(&shared, &asker, EngineRequest::ChangeSource(source, false)).await
}

// ---- topology

async fn topology(State(shared): State<Shared>, asker: Asker) -> Answer {
    see(&shared, &asker, EngineRequest::Topology).await
}

/// Name and text: an object with `text` and perhaps `file`, or the text itself and perhaps `?file=`.
fn file_of(headers: &HeaderMap, uri: &Uri, body: &[u8]) -> Result<(String, String), Refusal> {
    if body.len() > TOPOLOGY_MAX_BYTES {
        let reason = format!("a topology of {} bytes is over the limit of {TOPOLOGY_MAX_BYTES}", body.len());
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason));
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let (file, text) = if content_type.is_some_and(|it| it.starts_with("application/json")) {
        let fields = Fields::read(body)?;
        let text = fields.text("text")?.ok_or_else(|| {
            Refusal::bad_request(
                "text: the topology is expected, as a text; or send it alone, as application/yaml",
            )
        })?;
        (fields.text("file")?.map(str::to_owned), text.to_owned())
    } else {
        let text = std::str::from_utf8(body)
            .map_err(|error| Refusal::bad_request(format!("the topology is no UTF-8: {error}")))?;
        (parameter(uri, "file"), text.to_owned())
    };
    Ok((file.filter(|file| !file.is_empty()).unwrap_or_else(|| FILE_DEFAULT.to_owned()), text))
}

async fn plan(
    State(shared): State<Shared>,
    asker: Asker,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Answer {
    let (file, text) = file_of(&headers, &uri, &body)?;
    change(&shared, &asker, EngineRequest::Plan(file, text)).await
}

async fn apply(
    State(shared): State<Shared>,
    asker: Asker,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Answer {
    let (file, text) = file_of(&headers, &uri, &body)?;
    change(&shared, &asker, EngineRequest::Apply(file, text)).await
}

// ---- secrets

async fn secrets(State(shared): State<Shared>, asker: Asker, uri: Uri) -> Answer {
    list(&shared, &asker, EngineRequest::Secrets, &uri).await
}
