//! Tables written as bytes.

use super::{RawTable, RawValue, Table, TableError, Value};
use crate::limits::{SHORT_STRING_MAX_BYTES, TABLE_DEPTH_MAX};

/// Builds the bytes of a table, entry by entry; what it holds is always a valid table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableBuf {
    entries: Vec<u8>,
}

impl TableBuf {
    /// An empty table; allocates nothing.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// A copy of `table` without the entries of that name.
    pub fn without(table: RawTable<'_>, name: &str) -> Self {
        let mut out = Self::new();
        let mut entries = table.iter();
        loop {
            let before = entries.rest();
            let Some((found, _)) = entries.next() else { return out };
            if found != name.as_bytes() {
                out.entries.extend_from_slice(&before[..before.len() - entries.rest().len()]);
            }
        }
    }

    /// Adds an entry at the end. Nested values count towards the depth limit; on an error nothing is added.
    pub fn push(&mut self, name: &str, value: RawValue<'_>) -> Result<(), TableError> {
        self.push_with(name, |out| put_raw(out, value))?;
        Ok(())
    }

    /// Adds an entry with an owned value at the end; on an error nothing is added.
    pub fn push_value(&mut self, name: &str, value: &Value) -> Result<(), TableError> {
        self.push_with(name, |out| put_value(out, value, TABLE_DEPTH_MAX - 1))
    }

    /// A view of what was built.
    pub fn as_raw(&self) -> RawTable<'_> {
        RawTable::from_checked(&self.entries)
    }

    /// The entries as they go on the wire, without the length before them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.entries
    }

    /// The entries as they go on the wire, without the length before them.
    pub fn into_bytes(self) -> Vec<u8> {
        self.entries
    }

    fn push_with(
        &mut self,
        name: &str,
        put: impl FnOnce(&mut Vec<u8>) -> Result<(), TableError>,
    ) -> Result<(), TableError> {
        let start = self.entries.len();
        let result = put_name(&mut self.entries, name).and_then(|()| put(&mut self.entries));
        if result.is_err() {
            self.entries.truncate(start);
        }
        result
    }
}

impl TryFrom<&Table> for TableBuf {
    type Error = TableError;

    fn try_from(table: &Table) -> Result<Self, TableError> {
        let mut out = Self::new();
        put_entries(&mut out.entries, table, TABLE_DEPTH_MAX)?;
        Ok(out)
    }
}

fn put_name(out: &mut Vec<u8>, name: &str) -> Result<(), TableError> {
    if name.len() > SHORT_STRING_MAX_BYTES {
        return Err(TableError::NameTooLong { size_bytes: name.len() });
    }
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
    Ok(())
}

fn put_entries(out: &mut Vec<u8>, table: &Table, depth_left: usize) -> Result<(), TableError> {
    let depth_left = depth_left.checked_sub(1).ok_or(TableError::TooDeep)?;
    for (name, value) in table {
        put_name(out, name)?;
        put_value(out, value, depth_left)?;
    }
    Ok(())
}

fn put_value(out: &mut Vec<u8>, value: &Value, depth_left: usize) -> Result<(), TableError> {
    let plain = match value {
        Value::Array(elements) => {
            return put_nested(out, b'A', |out| {
                let depth_left = depth_left.checked_sub(1).ok_or(TableError::TooDeep)?;
                elements.iter().try_for_each(|element| put_value(out, element, depth_left))
            });
        }
        Value::Table(table) => return put_nested(out, b'F', |out| put_entries(out, table, depth_left)),
        Value::LongStr(v) => RawValue::LongStr(v),
        Value::Bytes(v) => RawValue::Bytes(v),
        Value::Bool(v) => RawValue::Bool(*v),
        Value::I8(v) => RawValue::I8(*v),
        Value::U8(v) => RawValue::U8(*v),
        Value::I16(v) => RawValue::I16(*v),
        Value::U16(v) => RawValue::U16(*v),
        Value::I32(v) => RawValue::I32(*v),
        Value::U32(v) => RawValue::U32(*v),
        Value::I64(v) => RawValue::I64(*v),
        Value::F32(v) => RawValue::F32(*v),
        Value::F64(v) => RawValue::F64(*v),
        Value::Decimal { scale, value } => RawValue::Decimal { scale: *scale, value: *value },
        Value::Timestamp(v) => RawValue::Timestamp(*v),
        Value::Void => RawValue::Void,
    };
    put_raw(out, plain)
}

fn put_raw(out: &mut Vec<u8>, value: RawValue<'_>) -> Result<(), TableError> {
    match value {
        RawValue::Bool(v) => put_plain(out, b't', &[v.into()]),
        RawValue::I8(v) => put_plain(out, b'b', &v.to_be_bytes()),
        RawValue::U8(v) => put_plain(out, b'B', &v.to_be_bytes()),
        RawValue::I16(v) => put_plain(out, b's', &v.to_be_bytes()),
        RawValue::U16(v) => put_plain(out, b'u', &v.to_be_bytes()),
        RawValue::I32(v) => put_plain(out, b'I', &v.to_be_bytes()),
        RawValue::U32(v) => put_plain(out, b'i', &v.to_be_bytes()),
        RawValue::I64(v) => put_plain(out, b'l', &v.to_be_bytes()),
        RawValue::F32(v) => put_plain(out, b'f', &v.to_be_bytes()),
        RawValue::F64(v) => put_plain(out, b'd', &v.to_be_bytes()),
        RawValue::Decimal { scale, value } => {
            put_plain(out, b'D', &[scale])?;
            out.extend_from_slice(&value.to_be_bytes());
            Ok(())
        }
        RawValue::Timestamp(v) => put_plain(out, b'T', &v.to_be_bytes()),
        RawValue::Void => put_plain(out, b'V', &[]),
        RawValue::LongStr(v) => put_nested(out, b'S', |out| put_bytes(out, v)),
        RawValue::Bytes(v) => put_nested(out, b'x', |out| put_bytes(out, v)),
        // Checked once more, because one level is added to their depth here.
        RawValue::Array(v) => put_nested(out, b'A', |out| {
            super::raw::check_nested(v.as_bytes(), false)?;
            put_bytes(out, v.as_bytes())
        }),
        RawValue::Table(v) => put_nested(out, b'F', |out| {
            super::raw::check_nested(v.as_bytes(), true)?;
            put_bytes(out, v.as_bytes())
        }),
    }
}

fn put_plain(out: &mut Vec<u8>, letter: u8, value: &[u8]) -> Result<(), TableError> {
    out.push(letter);
    put_bytes(out, value)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), TableError> {
    out.extend_from_slice(bytes);
    Ok(())
}

/// A letter, a length, and what `put` writes.
fn put_nested(
    out: &mut Vec<u8>,
    letter: u8,
    put: impl FnOnce(&mut Vec<u8>) -> Result<(), TableError>,
) -> Result<(), TableError> {
    out.push(letter);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    put(out)?;
    let size_bytes = out.len() - at - 4;
    let size = u32::try_from(size_bytes).map_err(|_| TableError::ValueTooLong { size_bytes })?;
    out[at..at + 4].copy_from_slice(&size.to_be_bytes());
    Ok(())
}
