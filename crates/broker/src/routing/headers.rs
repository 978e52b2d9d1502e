//! Header matching: what a binding of a headers exchange asks of a message (contracts D11, D12).
//!
//! Values compare as in RabbitMQ since 3.12, which looks at the value and not at its type: integers of all widths
//! and timestamps by number, floats of both widths by number, long strings and byte arrays by their bytes. An
//! integer is no float. A void in the binding asks for presence only.

use millpond_model::table::{RawTable, RawValue, Table, Value};

/// What a binding asks.
#[derive(Debug)]
pub(super) struct Criteria {
    any: bool,
    /// Only those that count: never `x-match`, and other `x-` ones only for the `-with-x` kinds.
    wanted: Box<[(Box<str>, Value)]>,
}

impl Criteria {
    /// From binding arguments; the error says what is wrong with `x-match`.
    pub(super) fn parse(arguments: &Table) -> Result<Self, String> {
        let (any, with_x) = match arguments.get("x-match") {
            None => (false, false),
            Some(kind @ Value::LongStr(bytes)) => match &**bytes {
                b"all" => (false, false),
                b"any" => (true, false),
                b"all-with-x" => (false, true),
                b"any-with-x" => (true, true),
                _ => {
                    return Err(format!(
                        "Invalid x-match field value {:?}; expected all, any, all-with-x, or any-with-x",
                        kind.as_str().unwrap_or("(not text)")
                    ));
                }
            },
            Some(other) => {
                return Err(format!("Invalid x-match field type {}; expected longstr", other.type_name()));
            }
        };
        let counts = |name: &str| name != "x-match" && (with_x || !name.starts_with("x-"));
        Ok(Self { any, wanted: arguments.iter().filter(|(name, _)| counts(name)).cloned().collect() })
    }

    /// Whether one of what is wanted is enough.
    pub(super) fn is_any(&self) -> bool {
        self.any
    }

    /// What counts, by name.
    pub(super) fn wanted(&self) -> &[(Box<str>, Value)] {
        &self.wanted
    }

    /// Whether a message with these headers is wanted; allocates nothing.
    pub(super) fn accept(&self, headers: RawTable<'_>) -> bool {
        let mut met =
            self.wanted.iter().map(|(name, value)| headers.get(name).is_some_and(|v| equal(v, value)));
        if self.any { met.any(|met| met) } else { met.all(|met| met) }
    }
}

fn equal(found: RawValue<'_>, wanted: &Value) -> bool {
    match (found, wanted) {
        (_, Value::Void) => true,
        (RawValue::LongStr(a) | RawValue::Bytes(a), Value::LongStr(b) | Value::Bytes(b)) => *a == **b,
        (RawValue::F32(a), Value::F64(b)) => f64::from(a) == *b,
        (RawValue::F64(a), Value::F32(b)) => a == f64::from(*b),
        _ => {
            let found_whole = match found {
                RawValue::Timestamp(v) => Some(v.into()),
                _ => found.as_i64().map(i128::from),
            };
            let wanted_whole = match wanted {
                Value::Timestamp(v) => Some((*v).into()),
                _ => wanted.as_i64().map(i128::from),
            };
            match (found_whole, wanted_whole) {
                (Some(a), Some(b)) => a == b,
                _ => found.matches(wanted),
            }
        }
    }
}
