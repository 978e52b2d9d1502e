//! Typed fields as JSON and back: arguments, headers and policies as people and management tools write them.
//!
//! | JSON | Field | | Field | JSON |
//! |---|---|---|---|---|
//! | whole number | i64 (beyond it f64) | | integers, timestamps | number |
//! | other number | f64 | | floats, decimals | number, or null if JSON has none |
//! | text | long string | | long string | text (bytes that are no UTF-8 replaced) |
//! | true, false, null | bool, void | | byte array | Base64 |
//! | list, object | array, table | | array, table | list, object (of doubles the last) |

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millpond_model::limits::TABLE_DEPTH_MAX;
use millpond_model::table::{Table, Value};
use serde_json::{Map, Value as Json};

/// A table out of an object. One that nests too deep has no encoding: ask [`Table::encode`].
pub fn table_of(object: Map<String, Json>) -> Table {
    object.into_iter().map(|(name, value)| (name, value_of(value))).collect()
}

/// A typed value.
pub fn value_of(json: Json) -> Value {
    match json {
        Json::Null => Value::Void,
        Json::Bool(v) => v.into(),
        Json::Number(v) => match v.as_i64() {
            Some(v) => v.into(),
            None => Value::F64(v.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(v) => v.into(),
        Json::Array(items) => Value::Array(items.into_iter().map(value_of).collect()),
        Json::Object(entries) => Value::Table(table_of(entries)),
    }
}

/// An object out of a table.
pub fn of_table(table: &Table) -> Map<String, Json> {
    object(table, TABLE_DEPTH_MAX)
}

fn object(table: &Table, depth_left: usize) -> Map<String, Json> {
    table.iter().map(|(name, value)| (name.to_string(), json(value, depth_left))).collect()
}

/// JSON out of a typed value.
pub fn of_value(value: &Value) -> Json {
    json(value, TABLE_DEPTH_MAX)
}

fn json(value: &Value, depth_left: usize) -> Json {
    let Some(depth_left) = depth_left.checked_sub(1) else { return Json::Null };
    if let Some(v) = value.as_i64() {
        return v.into();
    }
    match value {
        Value::Bool(v) => (*v).into(),
        Value::LongStr(text) => String::from_utf8_lossy(text).into(),
        Value::Bytes(bytes) => STANDARD.encode(bytes).into(),
        Value::F32(v) => f64::from(*v).into(),
        Value::F64(v) => (*v).into(),
        Value::Decimal { scale, value } => (f64::from(*value) / 10f64.powi((*scale).into())).into(),
        Value::Timestamp(v) => (*v).into(),
        Value::Array(items) => items.iter().map(|item| json(item, depth_left)).collect(),
        Value::Table(inner) => Json::Object(object(inner, depth_left)),
        _ => Json::Null,
    }
}
