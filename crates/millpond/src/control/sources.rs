//! What is asked about sources.

use super::{Listing, Rooms, Shown};
use anyhow::Result;
use millpond_broker::AuditObject;
use millpond_engine::Engine;
use serde::{Deserialize, Serialize};

/// What may be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum SourceRequest {
    /// Every source with its state.
    List,
    /// Start a source.
    Start {
        /// Its name.
        source: String,
    },
    /// Stop a source.
    Stop {
        /// Its name.
        source: String,
    },
}

pub(super) async fn carry_out(ask: SourceRequest, rooms: &Rooms) -> Result<Shown> {
    let engine = &rooms.engine;
    let enter = |operation, name: &str| rooms.broker.audit(operation, AuditObject::named("source", name), "");
    match ask {
        SourceRequest::List => Ok(list(engine).into()),
        SourceRequest::Start { source } => {
            engine.start_source(&source).await?;
            enter("source.started", &source);
            Ok(format!("source {source} is started").into())
        }
        SourceRequest::Stop { source } => {
            engine.stop_source(&source).await?;
            enter("source.stopped", &source);
            Ok(format!("source {source} is stopped; it goes on from there when it is started").into())
        }
    }
}

fn list(engine: &Engine) -> Listing {
    let head = ["SOURCE", "KIND", "EVENTS", "DROPPED", "FAILED", "ERRORS", "STATE"];
    let rows = engine.sources().into_iter().map(|source| {
        [
            source.name.to_string().into(),
            source.kind.to_string().into(),
            source.events.into(),
            source.dropped.into(),
            source.failed.into(),
            source.errors.into(),
            source.state.to_string().into(),
        ]
    });
    Listing::new(&head, "no sources: `millpond apply FILE` brings them").with(rows)
}
