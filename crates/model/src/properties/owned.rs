//! Properties as Rust values.

use super::*;
use crate::limits::SHORT_STRING_MAX_BYTES;
use crate::table::Table;

/// The properties of a message made here; all absent by default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Properties {
    /// MIME type of the body.
    pub content_type: Option<Box<str>>,
    /// MIME encoding of the body.
    pub content_encoding: Option<Box<str>>,
    /// Headers; an empty table is left out.
    pub headers: Table,
    /// 1 transient, 2 persistent.
    pub delivery_mode: Option<u8>,
    /// Message priority.
    pub priority: Option<u8>,
    /// Which request this answers.
    pub correlation_id: Option<Box<str>>,
    /// Where to answer.
    pub reply_to: Option<Box<str>>,
    /// Time to live in milliseconds, as decimal digits.
    pub expiration: Option<Box<str>>,
    /// The application's id of the message.
    pub message_id: Option<Box<str>>,
    /// When it was made, in seconds since 1970.
    pub timestamp: Option<u64>,
    /// The application's type of the message.
    pub type_: Option<Box<str>>,
    /// Who published it.
    pub user_id: Option<Box<str>>,
    /// Which application made it.
    pub app_id: Option<Box<str>>,
    /// Deprecated since 0-9-1.
    pub cluster_id: Option<Box<str>>,
}

/// Why properties have no encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PropertiesEncodeError {
    /// Over what a short string carries.
    #[error("the {field} of {size_bytes} bytes is over the limit of {SHORT_STRING_MAX_BYTES}: shorten it")]
    TooLong {
        /// Which property.
        field: &'static str,
        /// How long it is.
        size_bytes: usize,
    },
    /// The header table has no encoding.
    #[error("headers: {0}")]
    Headers(#[from] TableError),
}

impl Properties {
    /// The encoded list.
    pub fn encode(&self) -> Result<Vec<u8>, PropertiesEncodeError> {
        let mut out = Writer { out: vec![0, 0], flags: 0 };
        out.text(CONTENT_TYPE, "content-type", self.content_type.as_deref())?;
        out.text(CONTENT_ENCODING, "content-encoding", self.content_encoding.as_deref())?;
        if !self.headers.is_empty() {
            let table = self.headers.encode()?.into_bytes();
            let size_bytes = table.len();
            let size = u32::try_from(size_bytes).map_err(|_| TableError::ValueTooLong { size_bytes })?;
            out.put(HEADERS, &size.to_be_bytes());
            out.put(HEADERS, &table);
        }
        out.octet(DELIVERY_MODE, self.delivery_mode);
        out.octet(PRIORITY, self.priority);
        out.text(CORRELATION_ID, "correlation-id", self.correlation_id.as_deref())?;
        out.text(REPLY_TO, "reply-to", self.reply_to.as_deref())?;
        out.text(EXPIRATION, "expiration", self.expiration.as_deref())?;
        out.text(MESSAGE_ID, "message-id", self.message_id.as_deref())?;
        if let Some(timestamp) = self.timestamp {
            out.put(TIMESTAMP, &timestamp.to_be_bytes());
        }
        out.text(TYPE, "type", self.type_.as_deref())?;
        out.text(USER_ID, "user-id", self.user_id.as_deref())?;
        out.text(APP_ID, "app-id", self.app_id.as_deref())?;
        out.text(CLUSTER_ID, "cluster-id", self.cluster_id.as_deref())?;
        let Writer { mut out, flags } = out;
        out[..2].copy_from_slice(&flags.to_be_bytes());
        Ok(out)
    }
}

/// Text that is not UTF-8 gets replacement characters: to change one property of a message on its way, use the
/// `with_` methods of [`RawProperties`], which keep every other byte.
impl From<RawProperties<'_>> for Properties {
    fn from(raw: RawProperties<'_>) -> Self {
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into());
        Self {
            content_type: text(raw.content_type()),
            content_encoding: text(raw.content_encoding()),
            headers: raw.headers().map(|headers| headers.to_table()).unwrap_or_default(),
            delivery_mode: raw.delivery_mode(),
            priority: raw.priority(),
            correlation_id: text(raw.correlation_id()),
            reply_to: text(raw.reply_to()),
            expiration: text(raw.expiration()),
            message_id: text(raw.message_id()),
            timestamp: raw.timestamp(),
            type_: text(raw.type_()),
            user_id: text(raw.user_id()),
            app_id: text(raw.app_id()),
            cluster_id: text(raw.cluster_id()),
        }
    }
}

struct Writer {
    out: Vec<u8>,
    flags: u16,
}

impl Writer {
    fn put(&mut self, flag: u16, bytes: &[u8]) {
        self.flags |= flag;
        self.out.extend_from_slice(bytes);
    }

    fn octet(&mut self, flag: u16, value: Option<u8>) {
        if let Some(value) = value {
            self.put(flag, &[value]);
        }
    }

    fn text(
        &mut self,
        flag: u16,
        field: &'static str,
        value: Option<&str>,
    ) -> Result<(), PropertiesEncodeError> {
        if let Some(value) = value {
            if value.len() > SHORT_STRING_MAX_BYTES {
                return Err(PropertiesEncodeError::TooLong { field, size_bytes: value.len() });
            }
            self.put(flag, &[value.len() as u8]);
            self.put(flag, value.as_bytes());
        }
        Ok(())
    }
}
