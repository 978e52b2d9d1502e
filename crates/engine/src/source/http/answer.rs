//! What an answer says: items, their ids, where to go on. Runs on the thread for expressions.

use super::{HttpSpec, fingerprint, payload};
use crate::jq::to_val;
use crate::source::Payload;
use serde_json::{Map, Value, json};

/// Items of one answer; they are published in one commit.
const ITEMS_MAX: usize = 10_000;

/// An answer with a status that is a success.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Map<String, Value>,
    pub(super) content_type: Option<String>,
    pub(super) body: Vec<u8>,
    pub(super) etag: Option<String>,
    pub(super) modified: Option<String>,
    /// Fingerprint of the URL that was asked.
    pub(super) url: u64,
}

/// What was read out of it.
#[derive(Debug)]
pub(super) struct Read {
    /// With their ids, if the file says how to find them.
    pub(super) items: Vec<(Option<String>, Value)>,
    /// Without `items`: the body as one item, with its fingerprint.
    pub(super) whole: Option<(u64, Payload)>,
    pub(super) cursor: Value,
    pub(super) more: bool,
}

pub(super) fn read_answer(spec: &HttpSpec, answer: Answer, cursor: &Value) -> Result<Read, String> {
    let shown = |error: crate::jq::JqError| error.to_string();
    let mut read = Read { items: Vec::new(), whole: None, cursor: cursor.clone(), more: false };
    if [&spec.items, &spec.cursor, &spec.more].iter().any(|jq| jq.is_some()) {
        let body: Value = serde_json::from_slice(&answer.body)
            .unwrap_or_else(|_| String::from_utf8_lossy(&answer.body).into_owned().into());
        let input = json!({
            "status": answer.status, "headers": answer.headers, "body": body, "cursor": cursor,
        });
        let val = to_val(&input);
        if let Some(jq) = &spec.items {
            for item in jq.all(&val, ITEMS_MAX).map_err(shown)? {
                let id = match &spec.id {
                    None => None,
                    Some(jq) => Some(match jq.one(&to_val(&item)).map_err(shown)? {
                        Value::Null => {
                            return Err(format!(
                                "the id of an item is null: {}",
                                crate::topology::shorten(&item.to_string())
                            ));
                        }
                        Value::String(text) => text,
                        other => other.to_string(),
                    }),
                };
                read.items.push((id, item));
            }
        }
        if let Some(jq) = &spec.cursor {
            read.cursor = jq.one(&val).map_err(shown)?;
        }
        if let Some(jq) = &spec.more {
            read.more = jq.is_true(&val).map_err(shown)?;
        }
    }
    if spec.items.is_none() && !answer.body.is_empty() {
        let print = fingerprint(&answer.body);
        read.whole = Some((print, payload(answer.body, answer.content_type)));
    }
    Ok(read)
}
