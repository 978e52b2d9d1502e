//! The messages of PostgreSQL's output plugin `pgoutput`, version 1. Manual, section "Logical Replication Message
//! Formats".
//!
//! Pure: bytes in, changes out. What cannot be read is an error and never a panic.

use serde_json::{Map, Value};
use std::collections::HashMap;

/// Relations that are remembered; one that is used again is described again by the server.
const RELATIONS_MAX: usize = 10_000;

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    /// A transaction begins: where its commit is in the log, and when that was, in microseconds since 2000.
    Begin { commit_lsn: u64, committed_us: i64 },
    /// It ends: where the log is after it.
    Commit,
    /// A row has changed.
    Change(Change),
    /// Tables were emptied.
    Truncate { tables: Vec<String> },
    /// Of no concern here: origin, type, relation, message.
    Other,
}

/// What happened to a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) kind: ChangeKind,
    /// `schema.table`.
    pub(super) table: String,
    /// The row as it was: all of it with REPLICA IDENTITY FULL, else its key, and that only if it was changed.
    pub(super) before: Option<Row>,
    /// The row as it is.
    pub(super) after: Option<Row>,
    /// The columns of the key.
    pub(super) key: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangeKind {
    Insert,
    Update,
    Delete,
}

impl ChangeKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

pub(super) type Row = Map<String, Value>;

/// How a table looks.
#[derive(Debug, Clone)]
struct Relation {
    name: String,
    columns: Vec<Column>,
}

#[derive(Debug, Clone)]
struct Column {
    name: String,
    type_oid: u32,
    is_key: bool,
}

/// Remembers how tables look.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    relations: HashMap<u32, Relation>,
}

/// The rest of a message.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8], String> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("found a message that breaks off")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or("found a message that breaks off")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, String> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, String> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// Up to the next zero.
    fn text(&mut self) -> Result<String, String> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or("found a text without its end")?;
        let text = String::from_utf8_lossy(self.take(end)?).into_owned();
        self.take(1)?;
        Ok(text)
    }
}

impl Decoder {
    /// Reads one message.
    pub(super) fn read(&mut self, message: &[u8]) -> Result<Message, String> {
        let mut bytes = Bytes(message);
        match bytes.u8()? {
            b'B' => {
                let commit_lsn = bytes.i64()?.cast_unsigned();
                Ok(Message::Begin { commit_lsn, committed_us: bytes.i64()? })
            }
            b'C' => Ok(Message::Commit),
            b'R' => self.relation(&mut bytes).map(|()| Message::Other),
            b'I' => {
                let relation = self.known(bytes.u32()?)?;
                expect(bytes.u8()?, b'N')?;
                let after = Some(relation.row(&mut bytes, None)?);
                Ok(Message::Change(relation.change(ChangeKind::Insert, None, after)))
            }
            b'U' => {
                let relation = self.known(bytes.u32()?)?;
                let mut tag = bytes.u8()?;
                let mut before = None;
                if matches!(tag, b'K' | b'O') {
                    before = Some(relation.old(&mut bytes, tag)?);
                    tag = bytes.u8()?;
                }
                expect(tag, b'N')?;
                let after = Some(relation.row(&mut bytes, before.as_ref())?);
                Ok(Message::Change(relation.change(ChangeKind::Update, before, after)))
            }
            b'D' => {
                let relation = self.known(bytes.u32()?)?;
                let tag = bytes.u8()?;
                let before = Some(relation.old(&mut bytes, tag)?);
                Ok(Message::Change(relation.change(ChangeKind::Delete, before, None)))
            }
            b'T' => {
                let count = bytes.u32()?;
                let _options = bytes.u8()?;
                let mut tables = Vec::new();
                for _ in 0..count {
                    tables.push(self.known(bytes.u32()?)?.name.clone());
                }
                Ok(Message::Truncate { tables })
            }
            b'O' | b'Y' | b'M' => Ok(Message::Other),
            other => {
                Err(format!("found the message '{}', which is not known", char::from(other).escape_debug()))
            }
        }
    }

    fn relation(&mut self, bytes: &mut Bytes<'_>) -> Result<(), String> {
        let oid = bytes.u32()?;
        let (schema, table) = (bytes.text()?, bytes.text()?);
        let _identity = bytes.u8()?;
        let count = bytes.u16()?;
        let mut columns = Vec::new();
        for _ in 0..count {
            let is_key = bytes.u8()? & 1 == 1;
            let name = bytes.text()?;
            let type_oid = bytes.u32()?;
            let _modifier = bytes.u32()?;
            columns.push(Column { name, type_oid, is_key });
        }
        if self.relations.len() >= RELATIONS_MAX {
            self.relations.clear();
        }
        // The empty name stands for pg_catalog.
        let schema = if schema.is_empty() { "pg_catalog" } else { &schema };
        self.relations.insert(oid, Relation { name: format!("{schema}.{table}"), columns });
        Ok(())
    }

    fn known(&self, oid: u32) -> Result<&Relation, String> {
        self.relations
            .get(&oid)
            .ok_or_else(|| format!("found a change of table {oid}, which was not described"))
    }
}

fn expect(found: u8, expected: u8) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!(
            "found the part '{}', expected '{}'",
            char::from(found).escape_debug(),
            char::from(expected)
        )),
    }
}

impl Relation {
    fn change(&self, kind: ChangeKind, before: Option<Row>, after: Option<Row>) -> Change {
        let key = self.columns.iter().filter(|column| column.is_key).map(|column| column.name.clone());
        Change { kind, table: self.name.clone(), before, after, key: key.collect() }
    }

    /// The row as it was: `K` has the key's columns alone, the others are null there.
    fn old(&self, bytes: &mut Bytes<'_>, tag: u8) -> Result<Row, String> {
        match tag {
            b'O' => self.row(bytes, None),
            b'K' => {
                let mut row = self.row(bytes, None)?;
                row.retain(|name, _| self.columns.iter().any(|column| column.is_key && column.name == *name));
                Ok(row)
            }
            other => {
                Err(format!("found the part '{}', expected 'O' or 'K'", char::from(other).escape_debug()))
            }
        }
    }

    /// A value that is large and was not changed is not sent: it is taken from the row as it was, or left out.
    fn row(&self, bytes: &mut Bytes<'_>, before: Option<&Row>) -> Result<Row, String> {
        let count = usize::from(bytes.u16()?);
        if count != self.columns.len() {
            return Err(format!("found a row of {count} columns, expected {}", self.columns.len()));
        }
        let mut row = Row::new();
        for column in &self.columns {
            let value = match bytes.u8()? {
                b'n' => Value::Null,
                b'u' => match before.and_then(|before| before.get(&column.name)) {
                    Some(value) => value.clone(),
                    None => continue,
                },
                b't' => {
                    let size = bytes.u32()? as usize;
                    let text = String::from_utf8_lossy(bytes.take(size)?);
                    crate::database::postgres::text::to_json(column.type_oid, &text)
                }
                other => {
                    let shown = char::from(other).escape_debug();
                    return Err(format!("found a value of the form '{shown}', expected n, u or t"));
                }
            };
            row.insert(column.name.clone(), value);
        }
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::{Decoder, Message};
    use proptest::prelude::*;

    /// A table `t` with the key `id` (int4) and `v` (text).
    const RELATION: &[u8] =
        b"R\0\0\0\x01public\0t\0d\0\x02\x01id\0\0\0\0\x17\xff\xff\xff\xff\0v\0\0\0\0\x19\xff\xff\xff\xff";
    const UPDATE: &[u8] = b"U\0\0\0\x01K\0\x02t\0\0\0\x017nN\0\x02t\0\0\0\x018u";

    #[test]
    fn a_value_that_was_not_sent_is_left_out_and_a_key_is_the_key_alone() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.read(RELATION), Ok(Message::Other));
        let Ok(Message::Change(change)) = decoder.read(UPDATE) else { unreachable!("an update is a change") };
        let shown = format!("{} {:?} {:?} {:?}", change.table, change.before, change.after, change.key);
        let expected = r#"public.t Some({"id": Number(7)}) Some({"id": Number(8)}) ["id"]"#;
        assert_eq!(shown, expected);
    }

    #[test]
    fn every_message_that_breaks_off_is_an_error() {
        for whole in [RELATION, UPDATE] {
            for end in 0..whole.len() {
                let mut decoder = Decoder::default();
                decoder.read(RELATION).unwrap_or(Message::Other);
                assert!(decoder.read(&whole[..end]).is_err(), "{end} bytes");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(kind in prop::sample::select(b"BCRIUDTOYM".to_vec()), rest: Vec<u8>) {
            let mut decoder = Decoder::default();
            let _ = decoder.read(RELATION);
            let _ = decoder.read(&[&[kind][..], &rest].concat());
            let _ = decoder.read(&[&[kind][..], &[0, 0, 0, 1], &rest].concat());
        }

        #[test]
        fn no_text_makes_a_value_panic(oid in 0u32..5000, text: String) {
            let _ = crate::database::postgres::text::to_json(oid, &text);
        }

        #[test]
        fn no_bytes_make_a_value_panic(oid in 0u32..5000, raw: Vec<u8>) {
            if let Some(kind) = tokio_postgres::types::Type::from_oid(oid) {
                let _ = crate::database::postgres::value::to_json(&kind, &raw);
            }
        }
    }
}
