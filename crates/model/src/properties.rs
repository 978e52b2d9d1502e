//! Message properties: the basic class's property list of AMQP 0-9-1 (section 4.2.6.1), kept as bytes.
//!
//! `flags u16 | the properties whose flag is set, in the order of the table`, big-endian:
//!
//! | Bit | Property | Form | | Bit | Property | Form |
//! |---|---|---|---|---|---|---|
//! | 15 | content-type | short string | | 8 | expiration | short string |
//! | 14 | content-encoding | short string | | 7 | message-id | short string |
//! | 13 | headers | table | | 6 | timestamp | u64, seconds |
//! | 12 | delivery-mode | u8 | | 5 | type | short string |
//! | 11 | priority | u8 | | 4 | user-id | short string |
//! | 10 | correlation-id | short string | | 3 | app-id | short string |
//! | 9 | reply-to | short string | | 2 | cluster-id | short string |
//!
//! Bit 0 would announce a second flag word, which the basic class has no use for: set, it is an error, and so is
//! bit 1. Short strings are any bytes, as in RabbitMQ, which does not check them either.
//!
//! [`RawProperties`] reads fields where they lie and writes changed copies; [`Properties`] is for whoever makes
//! a message from nothing.

mod owned;

pub use owned::{Properties, PropertiesEncodeError};

use crate::table::{RawTable, TableBuf, TableError};

const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const EXPIRATION: u16 = 1 << 8;
const MESSAGE_ID: u16 = 1 << 7;
const TIMESTAMP: u16 = 1 << 6;
const TYPE: u16 = 1 << 5;
const USER_ID: u16 = 1 << 4;
const APP_ID: u16 = 1 << 3;
const CLUSTER_ID: u16 = 1 << 2;
const UNUSED: u16 = 0b11;

/// The delivery-mode that asks to survive a restart.
pub const DELIVERY_MODE_PERSISTENT: u8 = 2;

/// An encoded list without any property.
pub const EMPTY: &[u8] = &[0, 0];

/// What follows the headers, in order.
const AFTER_HEADERS: [(u16, Form, &str); 11] = [
    (DELIVERY_MODE, Form::Octet, "delivery-mode"),
    (PRIORITY, Form::Octet, "priority"),
    (CORRELATION_ID, Form::ShortString, "correlation-id"),
    (REPLY_TO, Form::ShortString, "reply-to"),
    (EXPIRATION, Form::ShortString, "expiration"),
    (MESSAGE_ID, Form::ShortString, "message-id"),
    (TIMESTAMP, Form::LongLong, "timestamp"),
    (TYPE, Form::ShortString, "type"),
    (USER_ID, Form::ShortString, "user-id"),
    (APP_ID, Form::ShortString, "app-id"),
    (CLUSTER_ID, Form::ShortString, "cluster-id"),
];

#[derive(Debug, Clone, Copy)]
enum Form {
    Octet,
    LongLong,
    ShortString,
}

impl Form {
    /// Encoded length of the field at `at`; `None` if it does not fit.
    #[inline]
    fn size(self, bytes: &[u8], at: usize) -> Option<usize> {
        let size = match self {
            Self::Octet => 1,
            Self::LongLong => 8,
            Self::ShortString => 1 + *bytes.get(at)? as usize,
        };
        (at + size <= bytes.len()).then_some(size)
    }
}

/// Why bytes are not a property list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PropertiesError {
    /// It ends before its fields do.
    #[error("a property list of {size_bytes} bytes ends inside its {field}")]
    Truncated {
        /// Which.
        field: &'static str,
        /// Of the whole list.
        size_bytes: usize,
    },
    /// Bits 0 or 1.
    #[error("property flags {flags:#06x} name properties that the basic class does not have")]
    UnknownFlags {
        /// All flags.
        flags: u16,
    },
    /// Bytes behind the last property.
    #[error("{size_bytes} bytes follow the last property")]
    Trailing {
        /// How many.
        size_bytes: usize,
    },
    /// The header table is malformed.
    #[error("headers: {0}")]
    Headers(#[from] TableError),
}

/// A checked view of an encoded property list; reading a field walks the few before it and allocates nothing.
#[derive(Debug, Clone, Copy)]
pub struct RawProperties<'a> {
    bytes: &'a [u8],
    flags: u16,
    /// Where the header table's length is, or would be.
    headers_at: u32,
    /// Where what follows the header table is.
    rest_at: u32,
}

impl Default for RawProperties<'_> {
    fn default() -> Self {
        Self { bytes: EMPTY, flags: 0, headers_at: 2, rest_at: 2 }
    }
}

impl<'a> RawProperties<'a> {
    /// Checks a whole list, the header table included.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PropertiesError> {
        let this = Self::heads(bytes)?;
        if this.flags & HEADERS != 0 {
            RawTable::parse(this.header_bytes())?;
        }
        let mut at = this.rest_at as usize;
        for (flag, form, field) in AFTER_HEADERS {
            if this.flags & flag != 0 {
                at += form
                    .size(bytes, at)
                    .ok_or(PropertiesError::Truncated { field, size_bytes: bytes.len() })?;
            }
        }
        if at != bytes.len() {
            return Err(PropertiesError::Trailing { size_bytes: bytes.len() - at });
        }
        Ok(this)
    }

    /// A view of a list that [`Self::parse`] has accepted before (a kept message's), without a second look.
    /// A list it would have refused reads as one with fewer properties, never a panic.
    #[inline]
    pub fn from_checked(bytes: &'a [u8]) -> Self {
        Self::heads(bytes).unwrap_or_default()
    }

    /// Finds the header table and what follows it.
    #[inline]
    fn heads(bytes: &'a [u8]) -> Result<Self, PropertiesError> {
        let cut = |field| PropertiesError::Truncated { field, size_bytes: bytes.len() };
        let flags = u16::from_be_bytes(*bytes.first_chunk().ok_or(cut("flags"))?);
        if flags & UNUSED != 0 {
            return Err(PropertiesError::UnknownFlags { flags });
        }
        let mut at = 2;
        if flags & CONTENT_TYPE != 0 {
            at += Form::ShortString.size(bytes, at).ok_or(cut("content-type"))?;
        }
        if flags & CONTENT_ENCODING != 0 {
            at += Form::ShortString.size(bytes, at).ok_or(cut("content-encoding"))?;
        }
        let headers_at = at;
        if flags & HEADERS != 0 {
            let len = bytes[at..].first_chunk().ok_or(cut("headers"))?;
            at += 4 + u32::from_be_bytes(*len) as usize;
            if at > bytes.len() {
                return Err(cut("headers"));
            }
        }
        Ok(Self { bytes, flags, headers_at: headers_at as u32, rest_at: at as u32 })
    }

    /// The list as it was given.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// MIME type of the body.
    pub fn content_type(&self) -> Option<&'a [u8]> {
        (self.flags & CONTENT_TYPE != 0).then(|| self.short_string(2))
    }

    /// MIME encoding of the body.
    pub fn content_encoding(&self) -> Option<&'a [u8]> {
        if self.flags & CONTENT_ENCODING == 0 {
            return None;
        }
        let before = self.content_type().map_or(0, |v| 1 + v.len());
        Some(self.short_string(2 + before))
    }

    /// The header table, if there is one.
    #[inline]
    pub fn headers(&self) -> Option<RawTable<'a>> {
        (self.flags & HEADERS != 0).then(|| RawTable::from_checked(self.header_bytes()))
    }

    /// 1 transient, 2 persistent, by custom; other values are kept.
    #[inline]
    pub fn delivery_mode(&self) -> Option<u8> {
        if self.flags & DELIVERY_MODE == 0 {
            return None;
        }
        self.bytes.get(self.rest_at as usize).copied()
    }

    /// Whether it asks to survive a restart.
    #[inline]
    pub fn is_persistent(&self) -> bool {
        self.delivery_mode() == Some(DELIVERY_MODE_PERSISTENT)
    }

    /// Message priority.
    pub fn priority(&self) -> Option<u8> {
        self.field(PRIORITY).and_then(|v| v.first().copied())
    }

    /// Which request this answers.
    pub fn correlation_id(&self) -> Option<&'a [u8]> {
        self.text(CORRELATION_ID)
    }

    /// Where to answer.
    pub fn reply_to(&self) -> Option<&'a [u8]> {
        self.text(REPLY_TO)
    }

    /// Time to live in milliseconds, as decimal digits; not checked here.
    pub fn expiration(&self) -> Option<&'a [u8]> {
        self.text(EXPIRATION)
    }

    /// The application's id of the message.
    pub fn message_id(&self) -> Option<&'a [u8]> {
        self.text(MESSAGE_ID)
    }

    /// When it was made, in seconds since 1970.
    pub fn timestamp(&self) -> Option<u64> {
        self.field(TIMESTAMP).and_then(|v| v.first_chunk().copied()).map(u64::from_be_bytes)
    }

    /// The application's type of the message.
    pub fn type_(&self) -> Option<&'a [u8]> {
        self.text(TYPE)
    }

    /// Who published it, as claimed.
    pub fn user_id(&self) -> Option<&'a [u8]> {
        self.text(USER_ID)
    }

    /// Which application made it.
    pub fn app_id(&self) -> Option<&'a [u8]> {
        self.text(APP_ID)
    }

    /// Deprecated since 0-9-1, still carried.
    pub fn cluster_id(&self) -> Option<&'a [u8]> {
        self.text(CLUSTER_ID)
    }

    /// A copy with these headers in place of its own; an empty table stays as an empty table, `None` removes it.
    pub fn with_headers(&self, headers: Option<RawTable<'_>>) -> Vec<u8> {
        let table = headers.map(|headers| headers.as_bytes());
        let flags = if table.is_some() { self.flags | HEADERS } else { self.flags & !HEADERS };
        let mut out = Vec::with_capacity(self.bytes.len() + table.map_or(0, |table| table.len() + 4));
        out.extend_from_slice(&flags.to_be_bytes());
        out.extend_from_slice(&self.bytes[2..self.headers_at as usize]);
        if let Some(table) = table {
            out.extend_from_slice(&(table.len() as u32).to_be_bytes());
            out.extend_from_slice(table);
        }
        out.extend_from_slice(&self.bytes[self.rest_at as usize..]);
        out
    }

    /// A copy without the headers of that name (the BCC of a message to be delivered); `None` when it has none,
    /// and the bytes may stay as they are.
    pub fn without_header(&self, name: &str) -> Option<Vec<u8>> {
        let headers = self.headers()?;
        headers.get(name)?;
        Some(self.with_headers(Some(TableBuf::without(headers, name).as_raw())))
    }

    /// Appends a copy to `out` in which one header has this value, an integer of 64 bits; the others stay.
    pub fn put_with_header(&self, name: &str, value: i64, out: &mut Vec<u8>) {
        let name = &name.as_bytes()[..name.len().min(crate::limits::SHORT_STRING_MAX_BYTES)];
        let replaced;
        let before = match self.headers() {
            Some(headers) if headers.iter().any(|(known, _)| known == name) => {
                replaced = TableBuf::without(headers, &String::from_utf8_lossy(name)).into_bytes();
                &replaced[..]
            }
            _ => self.header_bytes(),
        };
        let added = 1 + name.len() + 1 + 8;
        out.reserve(self.bytes.len() + 4 + added);
        out.extend_from_slice(&(self.flags | HEADERS).to_be_bytes());
        out.extend_from_slice(&self.bytes[2..self.headers_at as usize]);
        out.extend_from_slice(&((before.len() + added) as u32).to_be_bytes());
        out.extend_from_slice(before);
        out.push(name.len() as u8);
        out.extend_from_slice(name);
        out.push(b'l');
        out.extend_from_slice(&value.to_be_bytes());
        out.extend_from_slice(&self.bytes[self.rest_at as usize..]);
    }

    /// A copy with another reply-to; more than 255 bytes have no encoding and are cut off.
    pub fn with_reply_to(&self, reply_to: &[u8]) -> Vec<u8> {
        let reply_to = &reply_to[..reply_to.len().min(crate::limits::SHORT_STRING_MAX_BYTES)];
        let (at, end) = self.position(REPLY_TO);
        let mut out = Vec::with_capacity(self.bytes.len() + reply_to.len() + 1);
        out.extend_from_slice(&(self.flags | REPLY_TO).to_be_bytes());
        out.extend_from_slice(&self.bytes[2..at]);
        out.push(reply_to.len() as u8);
        out.extend_from_slice(reply_to);
        out.extend_from_slice(&self.bytes[end..]);
        out
    }

    /// A copy without its expiration; `None` when it has none, and the bytes may stay as they are.
    pub fn without_expiration(&self) -> Option<Vec<u8>> {
        if self.flags & EXPIRATION == 0 {
            return None;
        }
        let (at, end) = self.position(EXPIRATION);
        let mut out = (self.flags & !EXPIRATION).to_be_bytes().to_vec();
        out.extend_from_slice(&self.bytes[2..at]);
        out.extend_from_slice(&self.bytes[end..]);
        Some(out)
    }

    fn header_bytes(&self) -> &'a [u8] {
        self.bytes.get(self.headers_at as usize + 4..self.rest_at as usize).unwrap_or_default()
    }

    fn short_string(&self, at: usize) -> &'a [u8] {
        let len = self.bytes.get(at).map_or(0, |len| *len as usize);
        self.bytes.get(at + 1..at + 1 + len).unwrap_or_default()
    }

    fn text(&self, flag: u16) -> Option<&'a [u8]> {
        self.field(flag).map(|v| v.get(1..).unwrap_or_default())
    }

    /// The encoded field of that flag, if it is there and whole.
    fn field(&self, flag: u16) -> Option<&'a [u8]> {
        if self.flags & flag == 0 {
            return None;
        }
        let (at, end) = self.position(flag);
        self.bytes.get(at..end).filter(|v| !v.is_empty())
    }

    /// Where a field that follows the headers is; where it would be, with no length, if it is absent.
    fn position(&self, wanted: u16) -> (usize, usize) {
        let mut at = self.rest_at as usize;
        for (flag, form, _) in AFTER_HEADERS {
            let size = if self.flags & flag == 0 { 0 } else { form.size(self.bytes, at).unwrap_or(0) };
            if flag == wanted {
                return (at, at + size);
            }
            at += size;
        }
        (at, at)
    }
}
