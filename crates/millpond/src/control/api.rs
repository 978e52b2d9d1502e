//! What the command line asks of the management API: its handlers answer here as they do over HTTP, without a
//! password, so that the command line can do each thing that the API can.

use super::{Rooms, Shown};
use anyhow::{Result, anyhow, bail};
use millpond_server::{ApiRequest, Progress};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// From here on a status is a refusal.
const REFUSED: u16 = 400;

/// A request as over HTTP.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ApiAsk {
    pub(crate) method: String,
    /// Below `/api`, with its query.
    pub(crate) path: String,
    pub(crate) body: Option<Value>,
    /// Told to the client whose connection is closed.
    pub(crate) reason: Option<String>,
}

/// The JSON that is answered, or nothing.
pub(super) async fn carry_out(ask: ApiAsk, rooms: &Rooms, progress: Progress) -> Result<Shown> {
    let body = ask.body.map(|body| body.to_string()).unwrap_or_default();
    let ApiAsk { method, path, reason, .. } = ask;
    let actor = Some(rooms.broker.actor().clone());
    let answer =
        rooms.api.ask(ApiRequest { method, path, body: body.into(), reason, progress, actor }).await?;
    let text = String::from_utf8(answer.body.into()).map_err(|_| anyhow!("the answer is no text"))?;
    if answer.status >= REFUSED {
        let json: Option<Value> = serde_json::from_str(&text).ok();
        let reason = json.as_ref().and_then(|json| json["reason"].as_str());
        bail!("{}", reason.unwrap_or(&text));
    }
    Ok(text.into())
}
