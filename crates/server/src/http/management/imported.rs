//! What came of an import of definitions: what could not be taken, and what was taken and does nothing here.

use crate::http::refusal::Refusal;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Errors, and warnings, that an answer names.
const NAMED_MAX: usize = 20;

/// Sentences, of which the first are kept.
#[derive(Debug, Default)]
pub(super) struct Named {
    texts: Vec<String>,
    more: usize,
}

impl Named {
    pub(super) fn add(&mut self, text: impl FnOnce() -> String) {
        match self.texts.len() < NAMED_MAX {
            true => self.texts.push(text()),
            false => self.more += 1,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.texts.len() + self.more
    }

    fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    fn into_texts(self) -> Vec<String> {
        let more = (self.more > 0).then(|| format!("and {} more", self.more));
        self.texts.into_iter().chain(more).collect()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Imported {
    /// Left out, with the reason.
    pub(super) errors: Named,
    /// What definitions say that means nothing here.
    pub(super) warnings: Named,
}

impl Imported {
    /// 204; 200 with warnings; 400 if something could not be taken.
    pub(super) fn answer(self) -> Result<Response, Refusal> {
        match (self.errors.is_empty(), self.warnings.is_empty()) {
            (true, true) => Ok(StatusCode::NO_CONTENT.into_response()),
            (true, false) => Ok(Json(json!({ "warnings": self.warnings.into_texts() })).into_response()),
            (false, _) => {
                let left = self.errors.into_texts().join("; ");
                let warnings = self.warnings.into_texts();
                let warned = if warnings.is_empty() {
                    String::new()
                } else {
                    format!(". Warnings: {}", warnings.join("; "))
                };
                Err(Refusal::bad_request(format!("imported but for {left}{warned}")))
            }
        }
    }

    /// The warnings; whoever starts with definitions does not start without all of them.
    pub(super) fn at_the_start(self) -> Result<Vec<String>, DefinitionsError> {
        match self.errors.is_empty() {
            true => Ok(self.warnings.into_texts()),
            false => Err(DefinitionsError::Left { errors: self.errors.into_texts() }),
        }
    }
}

/// Why definitions are not taken at the start.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionsError {
    /// Not JSON, not an object, or the store takes no writes.
    #[error("{0}")]
    Refused(String),
    /// Some of them; the others were taken.
    #[error("some of the definitions cannot be taken:\n  {}", .errors.join("\n  "))]
    Left {
        /// Place, name and reason of each; the last may say how many more there are.
        errors: Vec<String>,
    },
}
