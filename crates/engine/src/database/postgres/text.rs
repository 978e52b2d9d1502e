//! PostgreSQL's values in their text form as JSON: the same as `value` makes of the binary form.

use crate::database::value::{base64, float, json};
use serde_json::Value;
use tokio_postgres::types::{Kind, Type};

/// How deep arrays may nest.
const DIMENSIONS_MAX: usize = 6;

/// A value of the type with this number; one that is not known stays a text.
pub(crate) fn to_json(type_oid: u32, text: &str) -> Value {
    match Type::from_oid(type_oid) {
        Some(kind) => typed(&kind, text),
        None => text.into(),
    }
}

fn typed(kind: &Type, text: &str) -> Value {
    if let Kind::Array(member) = kind.kind() {
        let mut rest = text;
        return array(member, &mut rest, DIMENSIONS_MAX).unwrap_or_else(|| text.into());
    }
    match *kind {
        Type::BOOL => (text == "t").into(),
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => {
            text.parse::<i64>().map_or_else(|_| text.into(), Value::from)
        }
        Type::FLOAT4 | Type::FLOAT8 => text.parse::<f64>().map_or_else(|_| text.into(), float),
        Type::JSON | Type::JSONB => json(text),
        Type::BYTEA => bytes(text).map_or_else(|| text.into(), |bytes| base64(&bytes).into()),
        Type::TIMESTAMP => moment(text).into(),
        Type::TIMESTAMPTZ => match text.strip_suffix("+00") {
            Some(utc) => format!("{}Z", moment(utc)).into(),
            None => text.into(),
        },
        Type::TIME => fraction(text).into(),
        _ => text.into(),
    }
}

/// `2026-11-22 10:00:00.5` as `2026-11-22T10:00:00.500000`.
fn moment(text: &str) -> String {
    match text.split_once(' ') {
        Some((date, time)) if !time.contains(' ') => format!("{date}T{}", fraction(time)),
        _ => text.to_owned(),
    }
}

fn fraction(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, fraction)) => format!("{seconds}.{fraction:0<6}"),
        None => time.to_owned(),
    }
}

/// `\x00ff`
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    let pairs = digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    pairs.collect()
}

/// `{1,NULL,"a b"}`; nothing if it is none.
fn array(member: &Type, rest: &mut &str, depth_left: usize) -> Option<Value> {
    let depth_left = depth_left.checked_sub(1)?;
    *rest = rest.strip_prefix('{')?;
    let mut items = Vec::new();
    if let Some(after) = rest.strip_prefix('}') {
        *rest = after;
        return Some(Value::Array(items));
    }
    loop {
        items.push(match rest.as_bytes().first()? {
            b'{' => array(member, rest, depth_left)?,
            b'"' => typed(member, &quoted(rest)?),
            _ => {
                let end = rest.find([',', '}'])?;
                let (text, after) = rest.split_at(end);
                *rest = after;
                if text == "NULL" { Value::Null } else { typed(member, text) }
            }
        });
        let mut chars = rest.chars();
        let next = chars.next()?;
        *rest = chars.as_str();
        match next {
            ',' => {}
            '}' => return Some(Value::Array(items)),
            _ => return None,
        }
    }
}

fn quoted(rest: &mut &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = rest.strip_prefix('"')?.chars();
    loop {
        match chars.next()? {
            '"' => {
                *rest = chars.as_str();
                return Some(out);
            }
            '\\' => out.push(chars.next()?),
            other => out.push(other),
        }
    }
}
