//! PostgreSQL's values as JSON, and JSON as parameters.
//!
//! Parameters go as text: the server reads them as the types it found for them, so every type works. Answers come in
//! the binary form, of which the common types are known here.

use crate::database::value::{
    DAY_US, base64, base64_bytes, bytes_of, float, hex, json, show_date, show_time_of_day, show_timestamp,
    show_uuid,
};
use bytes::BytesMut;
use serde_json::Value;
use std::error::Error;
use tokio_postgres::Row;
use tokio_postgres::types::{Format, FromSql, IsNull, Kind, ToSql, Type, to_sql_checked};

/// Days from 1970 to 2000, where PostgreSQL begins to count.
const DAYS_TO_2000: i64 = 10_957;

/// How deep arrays may nest.
const DIMENSIONS_MAX: i32 = 6;

/// A value as a parameter.
#[derive(Debug)]
pub(super) struct Parameter<'v>(pub(super) &'v Value);

impl ToSql for Parameter<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match text_of(self.0, kind)? {
            None => Ok(IsNull::Yes),
            Some(text) => {
                out.extend_from_slice(text.as_bytes());
                Ok(IsNull::No)
            }
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// Domains are what they are made of.
fn base(kind: &Type) -> &Type {
    match kind.kind() {
        Kind::Domain(inner) => base(inner),
        _ => kind,
    }
}

fn text_of(value: &Value, kind: &Type) -> Result<Option<String>, String> {
    let kind = base(kind);
    if let Some(bytes) = bytes_of(value) {
        return bytes.map(|bytes| Some(format!("\\x{}", hex(&bytes))));
    }
    Ok(Some(match (value, kind) {
        (Value::Null, _) => return Ok(None),
        (value, &Type::JSON | &Type::JSONB) => value.to_string(),
        // As PostgreSQL itself writes it; no base64 begins so.
        (Value::String(text), &Type::BYTEA) if text.starts_with("\\x") => text.clone(),
        (Value::String(text), &Type::BYTEA) => format!("\\x{}", hex(&base64_bytes(text)?)),
        (Value::String(text), _) => text.clone(),
        (Value::Array(items), kind) if matches!(kind.kind(), Kind::Array(_)) => array_text(items, kind)?,
        (other, _) => other.to_string(),
    }))
}

/// `{1,2,NULL,"three"}`
fn array_text(items: &[Value], kind: &Type) -> Result<String, String> {
    let Kind::Array(member) = kind.kind() else { return Err(format!("{kind} is no array")) };
    let mut out = String::from("{");
    for (number, item) in items.iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        match item {
            Value::Array(inner) if !matches!(*member, Type::JSON | Type::JSONB) => {
                out.push_str(&array_text(inner, kind)?);
            }
            item => match text_of(item, member)? {
                None => out.push_str("NULL"),
                Some(text) => {
                    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
                    out.push('"');
                    out.push_str(&escaped);
                    out.push('"');
                }
            },
        }
    }
    out.push('}');
    Ok(out)
}

/// Whether [`to_json`] can show values of a type.
pub(crate) fn is_known(kind: &Type) -> bool {
    match kind.kind() {
        Kind::Enum(_) => true,
        Kind::Domain(inner) | Kind::Array(inner) => is_known(inner),
        Kind::Simple => matches!(
            *kind,
            Type::BOOL
                | Type::INT2
                | Type::INT4
                | Type::INT8
                | Type::OID
                | Type::FLOAT4
                | Type::FLOAT8
                | Type::NUMERIC
                | Type::TEXT
                | Type::VARCHAR
                | Type::BPCHAR
                | Type::NAME
                | Type::UNKNOWN
                | Type::CHAR
                | Type::BYTEA
                | Type::JSON
                | Type::JSONB
                | Type::UUID
                | Type::DATE
                | Type::TIME
                | Type::TIMESTAMP
                | Type::TIMESTAMPTZ
                | Type::INTERVAL
        ),
        // What a function without an answer gives.
        Kind::Pseudo => *kind == Type::VOID,
        _ => false,
    }
}

/// The columns of a row, by name.
pub(super) fn row_to_json(row: &Row) -> impl Iterator<Item = Result<(String, Value), String>> {
    row.columns().iter().enumerate().map(|(at, column)| {
        let name = column.name().to_owned();
        let value = row.try_get::<_, Option<Shown>>(at);
        let value = value.map_err(|error| match error.source() {
            Some(cause) => format!("column '{name}': {cause}"),
            None => format!("column '{name}': {error}"),
        })?;
        Ok((name, value.map_or(Value::Null, |Shown(value)| value)))
    })
}

struct Shown(Value);

impl<'a> FromSql<'a> for Shown {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(to_json(kind, raw)?))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn fixed<const N: usize>(raw: &[u8]) -> Result<[u8; N], String> {
    raw.try_into().map_err(|_| format!("found {} bytes, expected {N}", raw.len()))
}

fn utf8(raw: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(raw).map_err(|error| error.to_string())
}

/// A value in its binary form.
pub(crate) fn to_json(kind: &Type, raw: &[u8]) -> Result<Value, String> {
    let kind = base(kind);
    if let Kind::Array(member) = kind.kind() {
        return array(member, raw);
    }
    Ok(match *kind {
        Type::BOOL => (fixed::<1>(raw)?[0] != 0).into(),
        Type::INT2 => i16::from_be_bytes(fixed(raw)?).into(),
        Type::INT4 => i32::from_be_bytes(fixed(raw)?).into(),
        Type::INT8 => i64::from_be_bytes(fixed(raw)?).into(),
        Type::OID => u32::from_be_bytes(fixed(raw)?).into(),
        Type::FLOAT4 => {
            let value = f32::from_be_bytes(fixed(raw)?);
            // By way of its shortest text: 0.1 is to stay 0.1.
            float(value.to_string().parse().unwrap_or(f64::from(value)))
        }
        Type::FLOAT8 => float(f64::from_be_bytes(fixed(raw)?)),
        Type::NUMERIC => numeric(raw)?.into(),
        Type::BYTEA => base64(raw).into(),
        Type::JSON => json(utf8(raw)?),
        Type::JSONB => match raw {
            [1, text @ ..] => json(utf8(text)?),
            _ => return Err("found a version of jsonb that is not known, expected 1".to_owned()),
        },
        Type::UUID => show_uuid(raw).into(),
        Type::DATE => match i32::from_be_bytes(fixed(raw)?) {
            i32::MAX => "infinity".into(),
            i32::MIN => "-infinity".into(),
            days => show_date(i64::from(days) + DAYS_TO_2000).into(),
        },
        Type::TIME => show_time_of_day(i64::from_be_bytes(fixed(raw)?)).into(),
        Type::TIMESTAMP => timestamp(raw, "")?.into(),
        Type::TIMESTAMPTZ => timestamp(raw, "Z")?.into(),
        Type::INTERVAL => interval(raw)?.into(),
        Type::VOID => Value::Null,
        _ => utf8(raw)?.into(),
    })
}

fn timestamp(raw: &[u8], zone: &str) -> Result<String, String> {
    Ok(match i64::from_be_bytes(fixed(raw)?) {
        i64::MAX => "infinity".to_owned(),
        i64::MIN => "-infinity".to_owned(),
        us => format!("{}{zone}", show_timestamp(us.saturating_add(DAYS_TO_2000 * DAY_US))),
    })
}

/// `P1M2DT3.500000S`, as ISO 8601 has it.
fn interval(raw: &[u8]) -> Result<String, String> {
    let raw = fixed::<16>(raw)?;
    let us = i64::from_be_bytes(fixed(&raw[..8])?);
    let days = i32::from_be_bytes(fixed(&raw[8..12])?);
    let months = i32::from_be_bytes(fixed(&raw[12..])?);
    let sign = if us < 0 { "-" } else { "" };
    let (seconds, us) = (us.unsigned_abs() / 1_000_000, us.unsigned_abs() % 1_000_000);
    let mut out = String::from("P");
    for (count, unit) in [(months, 'M'), (days, 'D')] {
        if count != 0 {
            out.push_str(&format!("{count}{unit}"));
        }
    }
    match us {
        0 if seconds == 0 && out.len() > 1 => {}
        0 => out.push_str(&format!("T{sign}{seconds}S")),
        us => out.push_str(&format!("T{sign}{seconds}.{us:06}S")),
    }
    Ok(out)
}

/// A decimal with every digit: groups of four, the first with a weight, and how many digits are shown after the point.
fn numeric(raw: &[u8]) -> Result<String, String> {
    let mut words = raw.chunks_exact(2).map(|word| u16::from_be_bytes([word[0], word[1]]));
    let mut word = || words.next().ok_or_else(|| "found a numeric that breaks off".to_owned());
    let (count, weight, sign, scale) = (word()?, word()? as i16, word()?, word()?);
    match sign {
        0x0000 | 0x4000 => {}
        0xC000 => return Ok("NaN".to_owned()),
        0xD000 => return Ok("Infinity".to_owned()),
        0xF000 => return Ok("-Infinity".to_owned()),
        _ => return Err("found a numeric with an unknown sign".to_owned()),
    }
    let mut groups = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        groups.push(word()?);
    }
    let group = |at: i32| usize::try_from(at).ok().and_then(|at| groups.get(at)).copied().unwrap_or(0);
    let mut out = String::new();
    if sign == 0x4000 {
        out.push('-');
    }
    match weight {
        ..0 => out.push('0'),
        weight => {
            out.push_str(&group(0).to_string());
            (1..=i32::from(weight)).for_each(|at| out.push_str(&format!("{:04}", group(at))));
        }
    }
    if scale > 0 {
        // The first group after the point; the first that is there may stand further down, after zeros.
        let first = i32::from(weight) + 1;
        let groups = (i32::from(scale) + 3) / 4;
        let mut fraction: String = (first..first + groups).map(|at| format!("{:04}", group(at))).collect();
        fraction.truncate(usize::from(scale));
        out.push('.');
        out.push_str(&fraction);
    }
    Ok(out)
}

fn array(member: &Type, raw: &[u8]) -> Result<Value, String> {
    let mut rest = raw;
    let dimensions = int(&mut rest)?;
    let (_has_null, _member) = (int(&mut rest)?, int(&mut rest)?);
    if !(0..=DIMENSIONS_MAX).contains(&dimensions) {
        return Err(format!("found an array of {dimensions} dimensions, expected at most {DIMENSIONS_MAX}"));
    }
    let mut sizes = Vec::new();
    for _ in 0..dimensions {
        sizes.push(int(&mut rest)?);
        let _first = int(&mut rest)?;
    }
    // Each item has four bytes of its own: no more of them are there than that.
    let count = sizes.iter().try_fold(1i64, |count, size| count.checked_mul(i64::from(*size)));
    if !sizes.is_empty()
        && (sizes.iter().any(|size| *size < 1) || count.is_none_or(|count| count > rest.len() as i64 / 4))
    {
        return Err("found an array that breaks off".to_owned());
    }
    match sizes.as_slice() {
        [] => Ok(Value::Array(Vec::new())),
        sizes => items(member, sizes, &mut rest),
    }
}

fn int(rest: &mut &[u8]) -> Result<i32, String> {
    let (first, more) = rest.split_first_chunk::<4>().ok_or("found an array that breaks off")?;
    *rest = more;
    Ok(i32::from_be_bytes(*first))
}

fn items(member: &Type, sizes: &[i32], rest: &mut &[u8]) -> Result<Value, String> {
    let Some((size, inner)) = sizes.split_first() else { return item(member, rest) };
    let mut out = Vec::new();
    for _ in 0..*size {
        out.push(items(member, inner, rest)?);
    }
    Ok(Value::Array(out))
}

fn item(member: &Type, rest: &mut &[u8]) -> Result<Value, String> {
    let Ok(size) = usize::try_from(int(rest)?) else { return Ok(Value::Null) };
    let (raw, more) = rest.split_at_checked(size).ok_or("found an array that breaks off")?;
    *rest = more;
    to_json(member, raw)
}
