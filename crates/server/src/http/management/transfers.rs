//! Messages browsed, moved, copied and sent back to where they died.

use super::fields::Fields;
use super::listing::parameter;
use super::messages::{show_payload, show_properties};
use super::{Answer, Asker, LISTING, Shared, exchange_name, exchanges, queue_name, queues, vhost_name};
use crate::engine_door::{ChooseRequest, EngineDoor};
use crate::http::refusal::Refusal;
use crate::progress::Progress;
use crate::transfers::{count_json, run};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use millpond_broker::{
    Browsed, MessageFilter, Operation, Right, Thing, TransferOf, TransferRequest, TransferTo,
};
use millpond_model::properties::RawProperties;
use millpond_model::{QueueName, VhostName};
use serde_json::{Value, json};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Messages of one answer unless the request says how many.
const COUNT_DEFAULT: usize = 50;
/// Most messages of one answer.
const COUNT_MAX: usize = 1000;
/// Messages that one request looks at for those that fit; it says where to go on.
const LOOKED_AT_MAX: u64 = 100_000;
/// Messages looked at in one go.
const CHUNK: usize = 256;
/// Bytes of a body that are shown unless the request says how many.
const TRUNCATE_DEFAULT: usize = 50_000;
/// How long an expression may choose for one request; then it says where to go on.
const JQ_TIME_MAX: Duration = Duration::from_secs(5);
/// Bodies of one answer; then it says where to go on. Bytes.
const ANSWER_MAX_BYTES: usize = 16 * 1024 * 1024;

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/queues/{vhost}/{queue}/messages", get(browse))
        .route("/queues/{vhost}/{queue}/move", post(move_on))
        .route("/queues/{vhost}/{queue}/redrive", post(redrive))
}

// ---- browse

fn number<T: std::str::FromStr>(uri: &Uri, name: &str) -> Result<Option<T>, Refusal> {
    let Some(text) = parameter(uri, name).filter(|text| !text.is_empty()) else { return Ok(None) };
    let wrong = |_| Refusal::bad_request(format!("{name}: a number is expected, not '{text}'"));
    text.parse().map(Some).map_err(wrong)
}

async fn browse(
    State(shared): State<Shared>,
    asker: Asker,
    Path((vhost, queue)): Path<(String, String)>,
    uri: Uri,
) -> Answer {
    look(&shared, &asker, (&vhost, &queue), &uri).await
}

/// What a queue holds, as the query asks.
pub(super) async fn look(shared: &Shared, asker: &Asker, (vhost, queue): (&str, &str), uri: &Uri) -> Answer {
    let (vhost, found) = queues::find(asker, vhost, queue)?;
    let name = found.name;
    let broker = asker.may(Operation::Use(&vhost, Right::Read, Thing::Queue(name.as_str())))?;
    let from = number(uri, "from")?.unwrap_or(0);
    let count = number(uri, "count")?.unwrap_or(COUNT_DEFAULT).min(COUNT_MAX);
    let truncate = number(uri, "truncate")?.unwrap_or(TRUNCATE_DEFAULT);
    let text = |name| parameter(uri, name).filter(|text| !text.is_empty());
    let filter = MessageFilter {
        text: text("search"),
        routing_key: text("routing_key"),
        died_of: text("died_of"),
        died_in: text("died_in"),
        ..MessageFilter::default()
    };
    let state = text("state").unwrap_or_else(|| "ready".to_owned());
    let mut look = match state.as_str() {
        "ready" => broker.browse_from(&vhost, &name, from)?,
        "unacked" => broker.browse_unacked(&vhost, &name, from)?,
        other => {
            return Err(Refusal::bad_request(format!("state '{other}' is not known: use ready or unacked")));
        }
    };
    let mut choice = Choice::new(shared, (&vhost, &name), text("jq"))?;
    let (mut shown, mut seen, mut looked_at, mut next) = (Vec::new(), Vec::new(), 0u64, None);
    let mut size_bytes = 0;
    let mut more = true;
    'all: while more {
        if looked_at >= LOOKED_AT_MAX {
            break;
        }
        seen.clear();
        more = poll_fn(|cx| look.poll_next(cx, CHUNK, &mut seen)).await;
        let fits = choice.of(&seen, &filter).await?;
        for (it, fits) in seen.iter().zip(&fits) {
            if shown.len() >= count || size_bytes >= ANSWER_MAX_BYTES {
                next = Some(it.place);
                break 'all;
            }
            looked_at += 1;
            if *fits {
                size_bytes += it.message.body().len().min(truncate);
                shown.push(show(it, &state, truncate));
            }
            next = Some(it.place + 1);
        }
        if fits.len() < seen.len() {
            // Its time is over.
            next = next.or(seen.first().map(|it| it.place));
            more = true;
            break;
        }
    }
    let next = next.filter(|_| more || shown.len() >= count);
    let mut answer = json!({ "messages": shown, "next": next, "looked_at": looked_at });
    choice.tell(&mut answer);
    Ok(Json(answer).into_response())
}

/// Which messages fit: a filter, and an expression if there is one.
struct Choice {
    jq: Option<(Arc<dyn EngineDoor>, ChooseRequest)>,
    failed: u64,
    error: Option<String>,
}

impl Choice {
    fn new(
        shared: &Shared,
        (vhost, queue): (&VhostName, &QueueName),
        jq: Option<String>,
    ) -> Result<Self, Refusal> {
        let without = || Refusal::unavailable("jq: this server runs without the engine, use search");
        let jq = match jq {
            None => None,
            Some(expression) => {
                let (vhost, queue) = (vhost.clone(), queue.clone());
                let until = Instant::now() + JQ_TIME_MAX;
                let request = ChooseRequest { expression, vhost, queue, messages: Vec::new(), until };
                Some((shared.engine.clone().ok_or_else(without)?, request))
            }
        };
        Ok(Self { jq, failed: 0, error: None })
    }

    /// For each message whether it fits; fewer than there are if the time is over.
    async fn of(&mut self, seen: &[Browsed], filter: &MessageFilter) -> Result<Vec<bool>, Refusal> {
        let mut fits: Vec<bool> = seen.iter().map(|it| filter.matches(&it.message)).collect();
        let Some((engine, request)) = &self.jq else { return Ok(fits) };
        let mut request = request.clone();
        let asked: Vec<usize> = (0..seen.len()).filter(|at| fits[*at]).collect();
        request.messages = asked.iter().map(|at| (seen[*at].place, seen[*at].message.clone())).collect();
        // Never closed; if it were, there would only be more at once.
        let _slot = LISTING.acquire().await;
        let chosen = engine.choose(request).await?;
        self.failed += chosen.failed;
        self.error = self.error.take().or(chosen.error);
        for (at, fit) in asked.iter().zip(&chosen.fits) {
            fits[*at] = *fit;
        }
        if let Some(first_open) = asked.get(chosen.fits.len()) {
            fits.truncate(*first_open);
        }
        Ok(fits)
    }

    /// What went wrong with single messages.
    fn tell(self, answer: &mut Value) {
        if self.jq.is_some() {
            answer["jq_failed"] = self.failed.into();
        }
        if let Some(error) = self.error {
            answer["jq_error"] = error.into();
        }
    }
}

fn show(it: &Browsed, state: &str, truncate: usize) -> Value {
    let message = &it.message;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (payload, encoding) = show_payload(message.body(), false, truncate);
    let mut shown = json!({
        "seq": it.place,
        "state": state,
        "published_at": message.published_ms(),
        "exchange": text(message.exchange()),
        "routing_key": text(message.routing_key()),
        "redelivered": it.handed > 0,
        "delivery_count": it.handed,
        "properties": show_properties(&RawProperties::from_checked(message.properties())),
        "payload": payload,
        "payload_bytes": message.body_size_bytes(),
        "payload_encoding": encoding,
    });
    if let Some(tag) = &it.holder {
        shown["consumer_tag"] = tag.as_str().into();
    }
    shown
}

// ---- move, redrive

/// Which messages are meant, how many, how fast.
struct Terms {
    filter: MessageFilter,
    limit: Option<u64>,
    rate: Option<u32>,
    dry_run: bool,
}

fn terms(fields: &Fields) -> Result<Terms, Refusal> {
    let rate = fields.integer("rate")?.map(u32::try_from).transpose();
    let rate = rate.ok().filter(|rate| *rate != Some(0));
    let limit = fields.integer("limit")?.map(u64::try_from).transpose();
    let wrong = |name: &str| Refusal::bad_request(format!("{name}: a number above 0 is expected"));
    Ok(Terms {
        filter: filter_of(fields.get("filter"))?,
        limit: limit.map_err(|_| wrong("limit"))?,
        rate: rate.ok_or_else(|| wrong("rate"))?,
        dry_run: fields.flag("dry_run")?,
    })
}

/// `{"headers": {NAME: TEXT}, "routing_key", "body", "search", "died_of", "died_in"}`: all hold.
fn filter_of(given: Option<&Value>) -> Result<MessageFilter, Refusal> {
    let Some(given) = given else { return Ok(MessageFilter::default()) };
    let fields = Fields::of(given.clone())?;
    fields.only(&["headers", "routing_key", "body", "search", "died_of", "died_in"])?;
    let text = |name| -> Result<Option<String>, Refusal> { Ok(fields.text(name)?.map(str::to_owned)) };
    let mut headers = Vec::new();
    if let Some(given) = fields.get("headers") {
        let wrong = || Refusal::bad_request("filter.headers: an object with names and values is expected");
        for (name, value) in given.as_object().ok_or_else(wrong)? {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            headers.push((name.clone(), value));
        }
    }
    Ok(MessageFilter {
        headers,
        routing_key: text("routing_key")?,
        body: text("body")?.map(String::into_bytes),
        text: text("search")?,
        died_of: text("died_of")?,
        died_in: text("died_in")?,
    })
}

/// `{"queue": NAME}` or `{"exchange": NAME, "routing_key": KEY}`, where the asker may write.
fn target(asker: &Asker, vhost: &VhostName, fields: &Fields) -> Result<TransferTo, Refusal> {
    let wrong = || {
        Refusal::bad_request(
            "to: {\"queue\": NAME} or {\"exchange\": NAME, \"routing_key\": KEY} is expected",
        )
    };
    let to = Fields::of(fields.get("to").cloned().ok_or_else(wrong)?)?;
    match (to.text("queue")?, to.text("exchange")?) {
        (Some(queue), None) => {
            let queue = queue_name(queue)?;
            asker.may(Operation::Use(vhost, Right::Write, Thing::Queue(queue.as_str())))?;
            Ok(TransferTo::Queue(queue))
        }
        (None, Some(exchange)) => {
            let exchange = exchange_name(exchange)?;
            exchanges::find(asker, vhost.as_str(), exchange.as_str())?;
            asker.may(Operation::Use(vhost, Right::Write, Thing::Exchange(exchange.as_str())))?;
            Ok(TransferTo::Exchange(exchange, to.text("routing_key")?.map(Into::into)))
        }
        _ => Err(wrong()),
    }
}

async fn move_on(asker: Asker, Path((vhost, queue)): Path<(String, String)>, body: Bytes) -> Answer {
    let fields = Fields::read(&body)?;
    fields.only(&["to", "to_vhost", "filter", "limit", "rate", "copy", "dry_run"])?;
    let (vhost, found) = queues::find(&asker, &vhost, &queue)?;
    let to_vhost = fields.text("to_vhost")?.map(vhost_name).transpose()?;
    let to = target(&asker, to_vhost.as_ref().unwrap_or(&vhost), &fields)?;
    let request = TransferRequest {
        from: found.name,
        to,
        to_vhost,
        of: TransferOf::Ready,
        keep: fields.flag("copy")?,
        filter: MessageFilter::default(),
        limit: None,
        dry_run: false,
    };
    transfer(&asker, &vhost, request, terms(&fields)?).await
}

async fn redrive(asker: Asker, Path((vhost, queue)): Path<(String, String)>, body: Bytes) -> Answer {
    let fields = Fields::read(&body)?;
    fields.only(&["filter", "limit", "rate", "dry_run"])?;
    let (vhost, found) = queues::find(&asker, &vhost, &queue)?;
    let request = TransferRequest {
        from: found.name,
        to: TransferTo::WhereItDied,
        to_vhost: None,
        of: TransferOf::Ready,
        keep: false,
        filter: MessageFilter::default(),
        limit: None,
        dry_run: false,
    };
    transfer(&asker, &vhost, request, terms(&fields)?).await
}

async fn transfer(asker: &Asker, vhost: &VhostName, request: TransferRequest, terms: Terms) -> Answer {
    let Terms { filter, limit, rate, dry_run } = terms;
    let request = TransferRequest { filter, limit, dry_run, ..request };
    let from = request.from.clone();
    let broker = asker.may(Operation::Use(vhost, Right::Read, Thing::Queue(from.as_str())))?;
    let mut transfer = broker.transfer(vhost, request)?;
    // Where each died, and with which key it goes on, is not known before; what may not go there stays.
    transfer.in_name_of(asker.0.clone());
    let (report, preview) = run(transfer, rate, &Progress::default()).await?;
    let mut shown = count_json(&report, dry_run);
    shown["preview"] = preview.iter().map(|it| show(it, "ready", TRUNCATE_DEFAULT)).collect();
    Ok(Json(shown).into_response())
}
