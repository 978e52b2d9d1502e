//! Field tables of AMQP 0-9-1 (section 4.2.5.5), with the type letters RabbitMQ uses.
//!
//! A table is a sequence of `name length u8 | name | type letter | value`; on the wire a length in four bytes
//! goes before it. The specification and its implementations disagree about the letters; Millpond follows
//! RabbitMQ's errata page, and nothing else:
//!
//! | Letter | Value | | Letter | Value |
//! |---|---|---|---|---|
//! | `t` | bool, one byte, non-zero is true | | `f` `d` | f32, f64 |
//! | `b` `B` | i8, u8 | | `D` | decimal: scale u8, value 32 bits |
//! | `s` `u` | i16, u16 | | `S` `x` | long string, byte array: u32 length and bytes |
//! | `I` `i` | i32, u32 | | `A` `F` | array, table: u32 length and entries |
//! | `l` `L` | i64, both | | `T` `V` | timestamp u64 (seconds), void |
//!
//! So `s` is a 16-bit integer, not the short string of the specification, and `U` does not exist.
//!
//! Three forms: [`RawTable`] is a checked view over bytes and allocates nothing; [`TableBuf`] builds such bytes;
//! [`Table`] owns its entries as Rust values, for whoever keeps or compares them. Names off the wire are any
//! bytes, as in RabbitMQ; only [`Table`] wants text and replaces what is not UTF-8.
//! Duplicates are kept, in order; a lookup finds the first.

mod build;
mod raw;

pub use build::TableBuf;
pub use raw::{RawArray, RawTable, RawTableIter, RawValue};

use crate::limits::{SHORT_STRING_MAX_BYTES, TABLE_DEPTH_MAX};

/// Why bytes are not a field table, or a table cannot be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// An entry, or a value inside one, ends after the bytes do.
    #[error("the field table ends inside an entry, at byte {position}: a length in it is wrong")]
    Truncated {
        /// Where, from the start of the outermost table.
        position: usize,
    },
    /// A letter that RabbitMQ does not know either.
    #[error(
        "unknown field type {letter:#04x} at byte {position}; known are t b B s u I i l L f d D S x A F T V"
    )]
    UnknownType {
        /// The byte found.
        letter: u8,
        /// Where, from the start of the outermost table.
        position: usize,
    },
    /// Tables in arrays in tables..., without end.
    #[error("field tables nest deeper than {TABLE_DEPTH_MAX} levels: flatten them")]
    TooDeep,
    /// A name over 255 bytes has no encoding.
    #[error("a field name of {size_bytes} bytes is over the limit of {SHORT_STRING_MAX_BYTES}: shorten it")]
    NameTooLong {
        /// How long it is.
        size_bytes: usize,
    },
    /// A string, array or table over 4 GiB has no encoding.
    #[error("a field value of {size_bytes} bytes is over the limit of 4294967295")]
    ValueTooLong {
        /// How long it is.
        size_bytes: usize,
    },
}

/// A typed value of a header or an argument.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l` and `L`; written as `l`
    I64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: `value` divided by ten to the power of `scale`
    Decimal {
        /// Digits after the point.
        scale: u8,
        /// All digits.
        value: i32,
    },
    /// `S`: text by custom, any bytes by right
    LongStr(Box<[u8]>),
    /// `x`
    Bytes(Box<[u8]>),
    /// `A`
    Array(Vec<Value>),
    /// `T`: seconds since 1970
    Timestamp(u64),
    /// `F`
    Table(Table),
    /// `V`
    Void,
}

impl Value {
    /// The integer, whatever its width; timestamps are not integers.
    pub fn as_i64(&self) -> Option<i64> {
        Some(match *self {
            Self::I8(v) => v.into(),
            Self::U8(v) => v.into(),
            Self::I16(v) => v.into(),
            Self::U16(v) => v.into(),
            Self::I32(v) => v.into(),
            Self::U32(v) => v.into(),
            Self::I64(v) => v,
            _ => return None,
        })
    }

    /// The text of a long string that is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::LongStr(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(v) => Some(*v),
            _ => None,
        }
    }

    /// RabbitMQ's equivalence of arguments (redeclare): integers of different widths with the same value are
    /// equal, floats of both widths likewise; otherwise type and value must be the same.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        if let (Some(a), Some(b)) = (self.as_i64(), other.as_i64()) {
            return a == b;
        }
        match (self, other) {
            (Self::F32(a), Self::F64(b)) | (Self::F64(b), Self::F32(a)) => f64::from(*a) == *b,
            (Self::Array(a), Self::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_equivalent(b))
            }
            (Self::Table(a), Self::Table(b)) => a.is_equivalent(b),
            (a, b) => a == b,
        }
    }

    /// What RabbitMQ calls the type in its messages (`longstr`, `signedint`...).
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::I8(_) => "byte",
            Self::U8(_) => "unsignedbyte",
            Self::I16(_) => "short",
            Self::U16(_) => "unsignedshort",
            Self::I32(_) => "signedint",
            Self::U32(_) => "unsignedint",
            Self::I64(_) => "long",
            Self::F32(_) => "float",
            Self::F64(_) => "double",
            Self::Decimal { .. } => "decimal",
            Self::LongStr(_) => "longstr",
            Self::Bytes(_) => "binary",
            Self::Array(_) => "array",
            Self::Timestamp(_) => "timestamp",
            Self::Table(_) => "table",
            Self::Void => "void",
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::LongStr(text.as_bytes().into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::LongStr(text.into_bytes().into())
    }
}

impl From<bool> for Value {
    fn from(v: bool) -> Self {
        Self::Bool(v)
    }
}

impl From<i32> for Value {
    fn from(v: i32) -> Self {
        Self::I32(v)
    }
}

impl From<i64> for Value {
    fn from(v: i64) -> Self {
        Self::I64(v)
    }
}

impl From<Table> for Value {
    fn from(v: Table) -> Self {
        Self::Table(v)
    }
}

impl From<Vec<Value>> for Value {
    fn from(v: Vec<Value>) -> Self {
        Self::Array(v)
    }
}

/// An ordered list of named values; duplicates are kept.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table(Vec<(Box<str>, Value)>);

impl Table {
    /// An empty table; allocates nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Reads entries as they are on the wire, without the length before them.
    pub fn decode(entries: &[u8]) -> Result<Self, TableError> {
        Ok(RawTable::parse(entries)?.to_table())
    }

    /// The entries as they go on the wire, without the length before them.
    pub fn encode(&self) -> Result<TableBuf, TableError> {
        TableBuf::try_from(self)
    }

    /// The first value of that name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(n, _)| **n == *name).map(|(_, v)| v)
    }

    /// Adds an entry at the end, beside any of the same name.
    pub fn push(&mut self, name: impl Into<Box<str>>, value: impl Into<Value>) {
        self.0.push((name.into(), value.into()));
    }

    /// Gives the first entry of that name this value, or adds it at the end.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        match self.0.iter_mut().find(|(n, _)| **n == *name) {
            Some((_, old)) => *old = value.into(),
            None => self.push(name, value),
        }
    }

    /// Drops every entry of that name.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(n, _)| **n != *name);
    }

    /// All entries in order.
    pub fn iter(&self) -> std::slice::Iter<'_, (Box<str>, Value)> {
        self.0.iter()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether both have the same names with equivalent values (see [`Value::is_equivalent`]), in any order
    /// but for entries of one name.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        let (mut ours, mut theirs): (Vec<_>, Vec<_>) = (self.iter().collect(), other.iter().collect());
        // Stable, so that entries of one name stay in order.
        ours.sort_by_key(|(name, _)| name);
        theirs.sort_by_key(|(name, _)| name);
        ours.len() == theirs.len()
            && ours.iter().zip(&theirs).all(|(a, b)| a.0 == b.0 && a.1.is_equivalent(&b.1))
    }
}

impl<N: Into<Box<str>>, V: Into<Value>> FromIterator<(N, V)> for Table {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(entries: I) -> Self {
        Self(entries.into_iter().map(|(n, v)| (n.into(), v.into())).collect())
    }
}

impl<'t> IntoIterator for &'t Table {
    type Item = &'t (Box<str>, Value);
    type IntoIter = std::slice::Iter<'t, (Box<str>, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
