//! What is asked about sources.

use anyhow::Result;
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

pub(super) async fn carry_out(ask: SourceRequest, engine: &Engine) -> Result<String> {
    match ask {
        SourceRequest::List => Ok(table(engine)),
        SourceRequest::Start { source } => {
            engine.start_source(&source).await?;
            Ok(format!("source {source} is started"))
        }
        SourceRequest::Stop { source } => {
            engine.stop_source(&source).await?;
            Ok(format!("source {source} is stopped; it goes on from there when it is started"))
        }
    }
}

fn table(engine: &Engine) -> String {
    let sources = engine.sources();
    if sources.is_empty() {
        return "no sources: `millpond apply FILE` brings them".to_owned();
    }
    let width = sources.iter().map(|source| source.name.len()).max().unwrap_or(0).max("SOURCE".len());
    let mut lines = vec![format!(
        "{:width$}  {:9}  {:>10}  {:>10}  {:>8}  {:>8}  {}",
        "SOURCE", "KIND", "EVENTS", "DROPPED", "FAILED", "ERRORS", "STATE"
    )];
    lines.extend(sources.iter().map(|source| {
        format!(
            "{:width$}  {:9}  {:>10}  {:>10}  {:>8}  {:>8}  {}",
            source.name,
            source.kind,
            source.events,
            source.dropped,
            source.failed,
            source.errors,
            source.state
        )
    }));
    lines.join("\n")
}
