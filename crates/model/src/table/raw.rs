//! Tables read where they lie.

use super::{Table, TableError, Value};
use crate::limits::TABLE_DEPTH_MAX;
use std::fmt;

/// A value inside a [`RawTable`] or [`RawArray`]; letters as in [`Value`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RawValue<'a> {
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
    /// `D`
    Decimal {
        /// Digits after the point.
        scale: u8,
        /// All digits.
        value: i32,
    },
    /// `S`
    LongStr(&'a [u8]),
    /// `x`
    Bytes(&'a [u8]),
    /// `A`
    Array(RawArray<'a>),
    /// `T`, seconds since 1970
    Timestamp(u64),
    /// `F`
    Table(RawTable<'a>),
    /// `V`
    Void,
}

impl<'a> RawValue<'a> {
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

    /// The bytes of a long string.
    pub fn as_long_str(&self) -> Option<&'a [u8]> {
        match *self {
            Self::LongStr(v) => Some(v),
            _ => None,
        }
    }

    /// The same value, owned.
    pub fn to_value(&self) -> Value {
        match *self {
            Self::Bool(v) => Value::Bool(v),
            Self::I8(v) => Value::I8(v),
            Self::U8(v) => Value::U8(v),
            Self::I16(v) => Value::I16(v),
            Self::U16(v) => Value::U16(v),
            Self::I32(v) => Value::I32(v),
            Self::U32(v) => Value::U32(v),
            Self::I64(v) => Value::I64(v),
            Self::F32(v) => Value::F32(v),
            Self::F64(v) => Value::F64(v),
            Self::Decimal { scale, value } => Value::Decimal { scale, value },
            Self::LongStr(v) => Value::LongStr(v.into()),
            Self::Bytes(v) => Value::Bytes(v.into()),
            Self::Array(v) => Value::Array(v.iter().map(|v| v.to_value()).collect()),
            Self::Timestamp(v) => Value::Timestamp(v),
            Self::Table(v) => Value::Table(v.to_table()),
            Self::Void => Value::Void,
        }
    }

    /// Whether an owned value has this type and this value; allocates nothing.
    pub fn matches(&self, value: &Value) -> bool {
        match (*self, value) {
            (Self::Bool(a), Value::Bool(b)) => a == *b,
            (Self::I8(a), Value::I8(b)) => a == *b,
            (Self::U8(a), Value::U8(b)) => a == *b,
            (Self::I16(a), Value::I16(b)) => a == *b,
            (Self::U16(a), Value::U16(b)) => a == *b,
            (Self::I32(a), Value::I32(b)) => a == *b,
            (Self::U32(a), Value::U32(b)) => a == *b,
            (Self::I64(a), Value::I64(b)) => a == *b,
            (Self::F32(a), Value::F32(b)) => a == *b,
            (Self::F64(a), Value::F64(b)) => a == *b,
            (Self::Decimal { scale: s, value: v }, Value::Decimal { scale, value }) => {
                s == *scale && v == *value
            }
            (Self::LongStr(a), Value::LongStr(b)) | (Self::Bytes(a), Value::Bytes(b)) => *a == **b,
            (Self::Array(a), Value::Array(b)) => {
                a.iter().count() == b.len() && a.iter().zip(b).all(|(a, b)| a.matches(b))
            }
            (Self::Timestamp(a), Value::Timestamp(b)) => a == *b,
            (Self::Table(a), Value::Table(b)) => {
                a.iter().count() == b.len()
                    && a.iter().zip(b).all(|((an, av), (bn, bv))| an == bn.as_bytes() && av.matches(bv))
            }
            (Self::Void, Value::Void) => true,
            _ => false,
        }
    }

    /// As [`Self::matches`], but numbers of different widths compare by value ([`Value::is_equivalent`]).
    pub fn is_equivalent(&self, value: &Value) -> bool {
        match (self.as_i64(), value.as_i64()) {
            (Some(a), Some(b)) => a == b,
            _ => match *self {
                Self::LongStr(_) | Self::Bytes(_) => self.matches(value),
                _ => self.to_value().is_equivalent(value),
            },
        }
    }
}

/// Checked table entries where they lie: iterates and finds without allocating.
///
/// Equality compares bytes. The default is the empty table.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct RawTable<'a> {
    entries: &'a [u8],
}

impl<'a> RawTable<'a> {
    /// Checks entries as they are on the wire (without the length before them), nested ones included.
    pub fn parse(entries: &'a [u8]) -> Result<Self, TableError> {
        check_entries(entries, 0, TABLE_DEPTH_MAX, true)?;
        Ok(Self { entries })
    }

    /// Takes entries that [`Self::parse`] has accepted before, without a second look. Entries it would have
    /// refused give an iteration that ends early, never a panic.
    pub fn from_checked(entries: &'a [u8]) -> Self {
        Self { entries }
    }

    /// The entries as they go on the wire, without the length before them.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.entries
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries in order.
    #[inline]
    pub fn iter(&self) -> RawTableIter<'a> {
        RawTableIter { rest: self.entries }
    }

    /// The first value of that name.
    #[inline]
    pub fn get(&self, name: &str) -> Option<RawValue<'a>> {
        self.iter().find(|(n, _)| *n == name.as_bytes()).map(|(_, v)| v)
    }

    /// The same table, owned; names that are not UTF-8 get replacement characters.
    pub fn to_table(&self) -> Table {
        self.iter().map(|(name, value)| (String::from_utf8_lossy(name), value.to_value())).collect()
    }
}

impl fmt::Debug for RawTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.iter().map(|(name, value)| (String::from_utf8_lossy(name), value));
        f.debug_map().entries(entries).finish()
    }
}

impl<'a> IntoIterator for RawTable<'a> {
    type Item = (&'a [u8], RawValue<'a>);
    type IntoIter = RawTableIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Names and values of a [`RawTable`].
#[derive(Debug, Clone)]
pub struct RawTableIter<'a> {
    rest: &'a [u8],
}

impl<'a> RawTableIter<'a> {
    /// The bytes not yet passed; the difference before and after [`Iterator::next`] is one whole entry.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for RawTableIter<'a> {
    type Item = (&'a [u8], RawValue<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (&name_len, rest) = self.rest.split_first()?;
        let (name, rest) = rest.split_at_checked(name_len as usize)?;
        let (value, rest) = read_value(rest)?;
        self.rest = rest;
        Some((name, value))
    }
}

/// Checked array elements where they lie. Equality compares bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct RawArray<'a> {
    elements: &'a [u8],
}

impl<'a> RawArray<'a> {
    /// All elements in order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = RawValue<'a>> + use<'a> {
        let mut rest = self.elements;
        std::iter::from_fn(move || {
            let (value, after) = read_value(rest)?;
            rest = after;
            Some(value)
        })
    }

    /// The elements as they go on the wire, without the length before them.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.elements
    }
}

impl fmt::Debug for RawArray<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// One value and what follows it; `None` where the bytes are no value.
#[inline]
fn read_value(bytes: &[u8]) -> Option<(RawValue<'_>, &[u8])> {
    let (&letter, rest) = bytes.split_first()?;
    macro_rules! number {
        ($variant:ident, $type:ty) => {{
            let (value, rest) = rest.split_first_chunk()?;
            Some((RawValue::$variant(<$type>::from_be_bytes(*value)), rest))
        }};
    }
    match letter {
        b'S' => sized(rest).map(|(v, rest)| (RawValue::LongStr(v), rest)),
        b'I' => number!(I32, i32),
        b'l' | b'L' => number!(I64, i64),
        b't' => rest.split_first().map(|(v, rest)| (RawValue::Bool(*v != 0), rest)),
        b'T' => number!(Timestamp, u64),
        b'F' => sized(rest).map(|(entries, rest)| (RawValue::Table(RawTable { entries }), rest)),
        b'A' => sized(rest).map(|(elements, rest)| (RawValue::Array(RawArray { elements }), rest)),
        b'b' => number!(I8, i8),
        b'B' => number!(U8, u8),
        b's' => number!(I16, i16),
        b'u' => number!(U16, u16),
        b'i' => number!(U32, u32),
        b'f' => number!(F32, f32),
        b'd' => number!(F64, f64),
        b'D' => {
            let (&scale, rest) = rest.split_first()?;
            let (value, rest) = rest.split_first_chunk()?;
            Some((RawValue::Decimal { scale, value: i32::from_be_bytes(*value) }, rest))
        }
        b'x' => sized(rest).map(|(v, rest)| (RawValue::Bytes(v), rest)),
        b'V' => Some((RawValue::Void, rest)),
        _ => None,
    }
}

/// A length in four bytes and as many bytes.
#[inline]
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_be_bytes(*len) as usize)
}

/// Checks the entries of a table (`named`) or the elements of an array; `base` is where they begin, for errors.
fn check_entries(bytes: &[u8], base: usize, depth_left: usize, named: bool) -> Result<(), TableError> {
    let Some(depth_left) = depth_left.checked_sub(1) else {
        return Err(TableError::TooDeep);
    };
    let mut at = 0;
    while at < bytes.len() {
        let cut = TableError::Truncated { position: base + at };
        if named {
            at += 1 + bytes[at] as usize;
        }
        let letter = *bytes.get(at).ok_or(cut)?;
        at += 1;
        let fixed = match letter {
            b'S' | b'x' | b'F' | b'A' => {
                let body_at = at + 4;
                let (body, _) = bytes.get(at..).and_then(sized).ok_or(cut)?;
                if matches!(letter, b'F' | b'A') {
                    check_entries(body, base + body_at, depth_left, letter == b'F')?;
                }
                4 + body.len()
            }
            b't' | b'b' | b'B' => 1,
            b's' | b'u' => 2,
            b'I' | b'i' | b'f' => 4,
            b'D' => 5,
            b'l' | b'L' | b'd' | b'T' => 8,
            b'V' => 0,
            _ => return Err(TableError::UnknownType { letter, position: base + at - 1 }),
        };
        at += fixed;
        if at > bytes.len() {
            return Err(cut);
        }
    }
    Ok(())
}

/// Checks a table or array that is about to become an element of another table.
pub(super) fn check_nested(bytes: &[u8], named: bool) -> Result<(), TableError> {
    check_entries(bytes, 0, TABLE_DEPTH_MAX - 1, named)
}
