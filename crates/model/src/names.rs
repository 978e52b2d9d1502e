//! Names as newtypes, so that a queue is never bound where an exchange was meant.

use crate::limits::SHORT_STRING_MAX_BYTES;
use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Why a text cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Longer than a short string of AMQP 0-9-1 can carry.
    #[error("a {kind} of {size_bytes} bytes is over the limit of {SHORT_STRING_MAX_BYTES}: shorten it")]
    TooLong {
        /// What kind of name.
        kind: &'static str,
        /// How long it is.
        size_bytes: usize,
    },
    /// Not UTF-8.
    #[error("a {kind} must be UTF-8 text")]
    NotUtf8 {
        /// What kind of name.
        kind: &'static str,
    },
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a text of at most 255 bytes.
            pub fn new(text: &str) -> Result<Self, NameError> {
                if text.len() > SHORT_STRING_MAX_BYTES {
                    return Err(NameError::TooLong { kind: $kind, size_bytes: text.len() });
                }
                Ok(Self(text.into()))
            }

            /// Takes bytes off the wire.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, NameError> {
                Self::new(std::str::from_utf8(bytes).map_err(|_| NameError::NotUtf8 { kind: $kind })?)
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether it is the empty name.
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(/// A virtual host: a namespace of exchanges and queues.
    VhostName, "vhost name");
name!(/// An exchange; empty is the default exchange.
    ExchangeName, "exchange name");
name!(/// A queue.
    QueueName, "queue name");
name!(/// A user.
    UserName, "user name");
name!(/// A consumer tag, unique on its channel.
    ConsumerTag, "consumer tag");
