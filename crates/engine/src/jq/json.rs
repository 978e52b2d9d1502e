//! JSON text and the interpreter's values, without anything between them.

use bytes::Bytes;
use jaq_json::{Map, Num, Val};
use serde_json::Value;
use std::fmt;
use std::io::Write as _;

/// How deep a result may nest; guards the stack where it is turned into JSON.
pub(super) const RESULT_DEPTH_MAX: usize = 128;

/// Largest JSON text of a result: values share their parts, and texts do not. Bytes, one part beyond.
const RESULT_MAX_BYTES: usize = 128 * 1024 * 1024;

/// Why a value has no JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooMuch {
    Depth,
    Size,
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Depth => write!(f, "its result nests deeper than {RESULT_DEPTH_MAX} levels"),
            Self::Size => write!(f, "its result is larger than {RESULT_MAX_BYTES} bytes"),
        }
    }
}

/// A text as jq sees it.
pub(crate) fn text_val(text: &str) -> Val {
    Val::TStr(Box::new(Bytes::copy_from_slice(text.as_bytes())))
}

/// A name that is in the program.
pub(crate) fn name_val(name: &'static str) -> Val {
    Val::TStr(Box::new(Bytes::from_static(name.as_bytes())))
}

/// Reads JSON (RFC 8259, nesting at most 128 deep). Texts without escapes share `text`'s memory.
pub(crate) fn parse(text: &Bytes) -> Result<Val, serde_json::Error> {
    use serde::de::DeserializeSeed;
    let mut from = serde_json::Deserializer::from_slice(text);
    let val = Seed(text).deserialize(&mut from)?;
    from.end()?;
    Ok(val)
}

#[derive(Clone, Copy)]
struct Seed<'t>(&'t Bytes);

impl<'de> serde::de::DeserializeSeed<'de> for Seed<'_> {
    type Value = Val;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Val, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> serde::de::Visitor<'de> for Seed<'_> {
    type Value = Val;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Val, E> {
        Ok(Val::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Val, E> {
        Ok(Val::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Val, E> {
        Ok(Val::Num(Num::from_integral(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Val, E> {
        Ok(Val::Num(Num::from_integral(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Val, E> {
        Ok(Val::Num(Num::Float(value)))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Val, E> {
        Ok(Val::TStr(Box::new(self.0.slice_ref(value.as_bytes()))))
    }

    fn visit_str<E>(self, value: &str) -> Result<Val, E> {
        Ok(text_val(value))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Val, A::Error> {
        let mut found = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            found.push(item);
        }
        Ok(found.into_iter().collect())
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut fields: A) -> Result<Val, A::Error> {
        let mut found = Map::default();
        while let Some(key) = fields.next_key_seed(self)? {
            let value = fields.next_value_seed(self)?;
            found.insert(key, value);
        }
        Ok(Val::obj(found))
    }
}

/// JSON as jq sees it.
pub(crate) fn to_val(json: &Value) -> Val {
    match json {
        Value::Null => Val::Null,
        Value::Bool(value) => Val::Bool(*value),
        Value::Number(number) => Val::Num(match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Num::from_integral(value),
            (None, Some(value)) => Num::from_integral(value),
            _ => Num::Float(number.as_f64().unwrap_or(f64::NAN)),
        }),
        Value::String(text) => text_val(text),
        Value::Array(items) => items.iter().map(to_val).collect(),
        Value::Object(fields) => {
            Val::obj(fields.iter().map(|(key, value)| (text_val(key), to_val(value))).collect())
        }
    }
}

/// A value as JSON.
pub(super) fn to_json(val: &Val) -> Result<Value, TooMuch> {
    let mut room = RESULT_MAX_BYTES;
    value(val, RESULT_DEPTH_MAX, &mut room)
}

fn value(val: &Val, depth_left: usize, room: &mut usize) -> Result<Value, TooMuch> {
    let depth_left = depth_left.checked_sub(1).ok_or(TooMuch::Depth)?;
    let mut take = |size_bytes: usize| {
        *room = room.checked_sub(size_bytes).ok_or(TooMuch::Size)?;
        Ok(())
    };
    take(1)?;
    Ok(match val {
        Val::Null => Value::Null,
        Val::Bool(value) => Value::Bool(*value),
        Val::Num(Num::Int(value)) => Value::from(*value as i64),
        Val::Num(Num::Float(value)) => float(*value),
        Val::Num(number) => serde_json::from_str(&number.to_string()).unwrap_or(Value::Null),
        Val::TStr(bytes) | Val::BStr(bytes) => {
            take(bytes.len())?;
            Value::String(String::from_utf8_lossy(bytes).into_owned())
        }
        Val::Arr(items) => {
            Value::Array(items.iter().map(|item| value(item, depth_left, room)).collect::<Result<_, _>>()?)
        }
        Val::Obj(fields) => {
            let mut object = serde_json::Map::new();
            for (key, field) in fields.iter() {
                object.insert(key_text(key).into_owned(), value(field, depth_left, room)?);
            }
            Value::Object(object)
        }
    })
}

fn key_text(key: &Val) -> std::borrow::Cow<'_, str> {
    match key {
        Val::TStr(bytes) | Val::BStr(bytes) => String::from_utf8_lossy(bytes),
        other => other.to_string().into(),
    }
}

/// Writes a value as JSON, keys of objects sorted.
pub(super) fn write_json(val: &Val, out: &mut Vec<u8>) -> Result<(), TooMuch> {
    write(val, RESULT_DEPTH_MAX, out)
}

fn write(val: &Val, depth_left: usize, out: &mut Vec<u8>) -> Result<(), TooMuch> {
    let depth_left = depth_left.checked_sub(1).ok_or(TooMuch::Depth)?;
    if out.len() > RESULT_MAX_BYTES {
        return Err(TooMuch::Size);
    }
    // Writing to memory does not fail.
    match val {
        Val::Null => out.extend_from_slice(b"null"),
        Val::Bool(true) => out.extend_from_slice(b"true"),
        Val::Bool(false) => out.extend_from_slice(b"false"),
        Val::Num(Num::Int(value)) => drop(write!(out, "{value}")),
        Val::Num(_) => drop(write!(out, "{}", value(val, 1, &mut RESULT_MAX_BYTES.clone())?)),
        Val::TStr(bytes) | Val::BStr(bytes) => write_text(bytes, out),
        Val::Arr(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(item, depth_left, out)?;
            }
            out.push(b']');
        }
        Val::Obj(fields) => {
            let mut sorted: Vec<_> = fields.iter().map(|(key, field)| (key_text(key), field)).collect();
            sorted.sort_by(|one, other| one.0.cmp(&other.0));
            out.push(b'{');
            for (at, (key, field)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_text(key.as_bytes(), out);
                out.push(b':');
                write(field, depth_left, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_text(bytes: &[u8], out: &mut Vec<u8>) {
    let is_plain = |byte: &u8| (0x20..0x7f).contains(byte) && !matches!(byte, b'"' | b'\\');
    if bytes.iter().all(is_plain) {
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
    } else {
        drop(serde_json::to_writer(out, &*String::from_utf8_lossy(bytes)));
    }
}

/// Integers stay integers in JSON's text; what JSON cannot say is null.
fn float(value: f64) -> Value {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT_MAX {
        return Value::from(value as i64);
    }
    serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
}
