//! The elementary types of arguments (section 4.2.5), read and written.

use bytes::BytesMut;
use millpond_model::limits::SHORT_STRING_MAX_BYTES;
use millpond_model::table::{RawTable, TableError};

/// Why an argument could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The payload ends before it does.
    #[error("the frame ends inside it")]
    Truncated,
    /// Short strings are text.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// A malformed field table.
    #[error("{0}")]
    Table(#[from] TableError),
}

/// Where encoders append.
pub trait Sink {
    /// Appends.
    fn put(&mut self, bytes: &[u8]);
    /// How many bytes it holds.
    fn size_bytes(&self) -> usize;
    /// Writes over four bytes that it holds.
    fn patch(&mut self, at: usize, bytes: [u8; 4]);
    /// Makes room for so many more.
    fn reserve_more(&mut self, additional_bytes: usize);
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn size_bytes(&self) -> usize {
        self.len()
    }

    fn patch(&mut self, at: usize, bytes: [u8; 4]) {
        self[at..at + 4].copy_from_slice(&bytes);
    }

    #[inline]
    fn reserve_more(&mut self, additional_bytes: usize) {
        self.reserve(additional_bytes);
    }
}

impl Sink for BytesMut {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn size_bytes(&self) -> usize {
        self.len()
    }

    fn patch(&mut self, at: usize, bytes: [u8; 4]) {
        self[at..at + 4].copy_from_slice(&bytes);
    }

    #[inline]
    fn reserve_more(&mut self, additional_bytes: usize) {
        self.reserve(additional_bytes);
    }
}

/// Reads arguments one by one. Bits share octets while they follow each other, lowest first.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    bits: u8,
    next_bit: u8,
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn new(arguments: &'a [u8]) -> Self {
        Self { rest: arguments, bits: 0, next_bit: 0 }
    }

    /// Bytes that no argument took.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], FieldError> {
        let (value, rest) = self.rest.split_first_chunk().ok_or(FieldError::Truncated)?;
        self.rest = rest;
        self.next_bit = 0;
        Ok(*value)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], FieldError> {
        let (value, rest) = self.rest.split_at_checked(len).ok_or(FieldError::Truncated)?;
        self.rest = rest;
        Ok(value)
    }

    #[inline]
    pub(crate) fn octet(&mut self) -> Result<u8, FieldError> {
        self.array().map(u8::from_be_bytes)
    }

    #[inline]
    pub(crate) fn short(&mut self) -> Result<u16, FieldError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn long(&mut self) -> Result<u32, FieldError> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn longlong(&mut self) -> Result<u64, FieldError> {
        self.array().map(u64::from_be_bytes)
    }

    #[inline]
    pub(crate) fn bit(&mut self) -> Result<bool, FieldError> {
        if self.next_bit == 0 {
            self.bits = self.octet()?;
            self.next_bit = 1;
        }
        let set = self.bits & self.next_bit != 0;
        self.next_bit <<= 1;
        Ok(set)
    }

    /// A short string that is kept as bytes; checked for UTF-8 like every other, as RabbitMQ does.
    #[inline]
    pub(crate) fn shortbytes(&mut self) -> Result<&'a [u8], FieldError> {
        let len = self.octet()?;
        let value = self.take(len as usize)?;
        if !value.is_ascii() {
            std::str::from_utf8(value).map_err(|_| FieldError::NotUtf8)?;
        }
        Ok(value)
    }

    #[inline]
    pub(crate) fn shortstr(&mut self) -> Result<&'a str, FieldError> {
        let len = self.octet()?;
        std::str::from_utf8(self.take(len as usize)?).map_err(|_| FieldError::NotUtf8)
    }

    #[inline]
    pub(crate) fn longstr(&mut self) -> Result<&'a [u8], FieldError> {
        let len = self.long()?;
        self.take(len as usize)
    }

    pub(crate) fn table(&mut self) -> Result<RawTable<'a>, FieldError> {
        Ok(RawTable::parse(self.longstr()?)?)
    }
}

/// Writes arguments one by one.
pub(crate) struct Writer<'o, S: Sink> {
    out: &'o mut S,
    bits: u8,
    next_bit: u8,
}

impl<'o, S: Sink> Writer<'o, S> {
    pub(crate) fn new(out: &'o mut S) -> Self {
        Self { out, bits: 0, next_bit: 0 }
    }

    /// Writes the octet of bits begun, if any; call it last.
    pub(crate) fn finish(&mut self) {
        if self.next_bit != 0 {
            self.out.put(&[self.bits]);
            (self.bits, self.next_bit) = (0, 0);
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.finish();
        self.out.put(bytes);
    }

    pub(crate) fn octet(&mut self, value: u8) {
        self.put(&[value]);
    }

    pub(crate) fn short(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    pub(crate) fn long(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    pub(crate) fn longlong(&mut self, value: u64) {
        self.put(&value.to_be_bytes());
    }

    pub(crate) fn bit(&mut self, value: bool) {
        if self.next_bit == 0 {
            self.next_bit = 1;
        }
        self.bits |= if value { self.next_bit } else { 0 };
        self.next_bit <<= 1;
        if self.next_bit == 0 {
            self.out.put(&[self.bits]);
            self.bits = 0;
        }
    }

    pub(crate) fn shortbytes(&mut self, value: &[u8]) {
        let value = &value[..value.len().min(SHORT_STRING_MAX_BYTES)];
        self.put(&[value.len() as u8]);
        self.out.put(value);
    }

    pub(crate) fn shortstr(&mut self, value: &str) {
        let mut len = value.len().min(SHORT_STRING_MAX_BYTES);
        while !value.is_char_boundary(len) {
            len -= 1;
        }
        self.shortbytes(&value.as_bytes()[..len]);
    }

    pub(crate) fn longstr(&mut self, value: &[u8]) {
        self.put(&(value.len() as u32).to_be_bytes());
        self.out.put(value);
    }

    pub(crate) fn table(&mut self, value: RawTable<'_>) {
        self.longstr(value.as_bytes());
    }
}
