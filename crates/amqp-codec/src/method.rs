//! How methods are declared, read and written; [`crate::methods`] lists them.

use crate::ReplyCode;
use crate::wire::{FieldError, Reader, Sink, Writer};

/// Who may send a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The client only: a server that gets it acts on it.
    Client,
    /// The server only: a server that gets it answers 503.
    Server,
    /// Either.
    Both,
}

/// Why a payload is not a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// Not even class and method.
    #[error("a method frame with a payload of {size_bytes} bytes; class and method alone take 4")]
    TooShort {
        /// How long it is.
        size_bytes: usize,
    },
    /// Neither the specification nor RabbitMQ has it.
    #[error("unknown method {method_id} of class {class_id}")]
    Unknown {
        /// The class, perhaps unknown too.
        class_id: u16,
        /// The method.
        method_id: u16,
    },
    /// An argument is malformed.
    #[error("{method}: argument {argument}: {error}")]
    Argument {
        /// As `queue.declare`.
        method: &'static str,
        /// Its name.
        argument: &'static str,
        /// What is wrong with it.
        error: FieldError,
    },
    /// Bytes behind the last argument.
    #[error("{method}: {size_bytes} bytes follow its last argument")]
    Trailing {
        /// As `queue.declare`.
        method: &'static str,
        /// How many.
        size_bytes: usize,
    },
}

impl MethodError {
    /// What to close the connection with: 540 for what does not exist, 501 for what cannot be decoded.
    pub fn reply_code(&self) -> ReplyCode {
        match self {
            Self::Unknown { .. } => ReplyCode::NotImplemented,
            _ => ReplyCode::FrameError,
        }
    }
}

/// The arguments of one method.
pub(crate) trait Arguments<'a>: Sized {
    const NAME: &'static str;

    fn read(reader: &mut Reader<'a>) -> Result<Self, MethodError>;

    fn write<S: Sink>(&self, writer: &mut Writer<'_, S>);

    /// Reads all arguments, and finds nothing behind them.
    #[inline]
    fn decode(bytes: &'a [u8]) -> Result<Self, MethodError> {
        let mut reader = Reader::new(bytes);
        let this = Self::read(&mut reader)?;
        match reader.left() {
            0 => Ok(this),
            size_bytes => Err(MethodError::Trailing { method: Self::NAME, size_bytes }),
        }
    }
}

/// Declares the classes as modules of argument structs, and [`crate::Method`] over all of them.
///
/// An argument is `name: Type [wire type]`; the wire types are the methods of `Reader` and `Writer`.
macro_rules! methods {
    ($a:lifetime $(
        $(#[$class_doc:meta])*
        $class:ident = $class_id:literal {
            $(
                $(#[$doc:meta])*
                $name:ident $(<$lt:lifetime>)? = $id:literal, $variant:ident, $wire_name:literal, $sender:ident
                { $($arg:ident: $type:ty [$kind:ident]),* $(,)? }
            )*
        }
    )*) => {
        $(
            $(#[$class_doc])*
            pub mod $class {
                #[allow(unused_imports, reason = "not every class has tables")]
                use super::RawTable;

                $(
                    $(#[$doc])*
                    #[derive(Debug, Clone, Copy, Default, PartialEq)]
                    pub struct $name $(<$lt>)? {
                        $(
                            #[doc = concat!("On the wire a ", stringify!($kind), ".")]
                            pub $arg: $type,
                        )*
                    }

                    impl $(<$lt>)? $name $(<$lt>)? {
                        /// As it is called in messages.
                        pub const NAME: &'static str = $wire_name;
                        /// The class's number.
                        pub const CLASS_ID: u16 = $class_id;
                        /// The method's number within its class.
                        pub const METHOD_ID: u16 = $id;
                    }
                )*
            }

            $(
                impl<$a> Arguments<$a> for $class::$name $(<$lt>)? {
                    const NAME: &'static str = $wire_name;

                    #[inline]
                    #[allow(unused_variables, reason = "some methods have no arguments")]
                    fn read(reader: &mut Reader<$a>) -> Result<Self, MethodError> {
                        $(
                            let $arg = reader.$kind().map_err(|error| MethodError::Argument {
                                method: $wire_name,
                                argument: stringify!($arg),
                                error,
                            })?;
                        )*
                        Ok(Self { $($arg),* })
                    }

                    #[inline]
                    #[allow(unused_variables, reason = "some methods have no arguments")]
                    fn write<S: Sink>(&self, writer: &mut Writer<'_, S>) {
                        $(writer.$kind(self.$arg);)*
                    }
                }

                impl<$a> From<$class::$name $(<$lt>)?> for Method<$a> {
                    fn from(arguments: $class::$name $(<$lt>)?) -> Self {
                        Self::$variant(arguments)
                    }
                }
            )*
        )*

        /// Any method, in either direction, borrowing from the read buffer.
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub enum Method<$a> {
            $($($(#[$doc])* $variant($class::$name $(<$lt>)?),)*)*
        }

        impl<$a> Method<$a> {
            /// Reads a method frame's payload, tables and all.
            pub fn decode(payload: &$a [u8]) -> Result<Self, MethodError> {
                let Some((&[c0, c1, m0, m1], arguments)) = payload.split_first_chunk::<4>() else {
                    return Err(MethodError::TooShort { size_bytes: payload.len() });
                };
                let (class_id, method_id) = (u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1]));
                match (class_id, method_id) {
                    $($(($class_id, $id) => $class::$name::decode(arguments).map(Self::$variant),)*)*
                    _ => Err(MethodError::Unknown { class_id, method_id }),
                }
            }

            /// Appends the method as a whole frame.
            pub fn encode<S: Sink>(&self, channel: u16, out: &mut S) {
                match self {
                    $($(Self::$variant(arguments) => {
                        encode_frame(out, channel, $class_id, $id, arguments)
                    })*)*
                }
            }

            /// As it is called in messages: `queue.declare`.
            pub fn name(&self) -> &'static str {
                match self { $($(Self::$variant(_) => $wire_name,)*)* }
            }

            /// The class's number.
            pub fn class_id(&self) -> u16 {
                match self { $($(Self::$variant(_) => $class_id,)*)* }
            }

            /// The method's number within its class.
            pub fn method_id(&self) -> u16 {
                match self { $($(Self::$variant(_) => $id,)*)* }
            }

            /// Who may send it.
            pub fn sender(&self) -> Sender {
                match self { $($(Self::$variant(_) => Sender::$sender,)*)* }
            }
        }
    };
}
pub(crate) use methods;

/// Appends a whole method frame.
pub(crate) fn encode_frame<'a, S: Sink>(
    out: &mut S,
    channel: u16,
    class_id: u16,
    method_id: u16,
    arguments: &impl Arguments<'a>,
) {
    let start = out.size_bytes();
    out.put(&crate::frame::head(crate::FrameKind::Method, channel, 0));
    let mut writer = Writer::new(out);
    writer.short(class_id);
    writer.short(method_id);
    arguments.write(&mut writer);
    writer.finish();
    let size_bytes = out.size_bytes() - start - 7;
    out.patch(start + 3, (size_bytes as u32).to_be_bytes());
    out.put(&[crate::FRAME_END]);
}
