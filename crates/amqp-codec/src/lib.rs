//! AMQP 0-9-1 on the wire: protocol header, frames, methods, content, without any I/O.
//!
//! Decoding borrows from the read buffer and allocates nothing; "not enough bytes" is a normal answer. One
//! [`Method`] enum serves both directions, so test clients use the same code as the server. Field tables and
//! message properties are [`millpond_model`]'s, because the broker reads them too.
//!
//! | Wrong on the wire | Error | Reply code |
//! |---|---|---|
//! | frame end octet, frame type, frame over `frame_max` + 8 | [`FrameError`] | 501 |
//! | heartbeat on a channel other than 0 | [`FrameError`] | 505 |
//! | arguments that are cut short, too long, not UTF-8, a bad field table | [`MethodError`] | 501, as RabbitMQ answers (the specification would say 502) |
//! | class or method that does not exist | [`MethodError`] | 540; RabbitMQ drops the connection without an answer, and the specification's word for it is "not implemented" |
//! | content header cut short, or a bad property list | [`ContentHeaderError`] | 501 |
//! | content header of another class, or with a weight | [`ContentHeaderError`] | 505 |
//!
//! Whether a method is allowed now (state, channel, direction: 503, 504, 505) is for the caller to say;
//! [`Method::sender`] tells a method's direction.
//!
//! ```
//! use millpond_amqp_codec::{ContentHeader, FrameKind, FrameReader, Method, basic, encode_content};
//!
//! let mut wire = Vec::new();
//! Method::from(basic::Publish { routing_key: b"q", ..Default::default() }).encode(1, &mut wire);
//! encode_content(&mut wire, 1, b"\x10\x00\x02", b"hello", 131_072);
//!
//! let mut frames = FrameReader::new(&wire, 131_072);
//! while let Some(frame) = frames.next()? {
//!     match frame.kind {
//!         // The short way first for what comes most; anything else, malformed or not, is the long way's.
//!         FrameKind::Method => match basic::Publish::from_payload(frame.payload) {
//!             Some(publish) => assert_eq!(publish.routing_key, b"q"),
//!             None => drop(Method::decode(frame.payload)?),
//!         },
//!         FrameKind::Header => assert!(ContentHeader::decode(frame.payload)?.properties.is_persistent()),
//!         FrameKind::Body => assert_eq!(frame.payload, b"hello"),
//!         FrameKind::Heartbeat => {}
//!     }
//! }
//! let used_up = frames.consumed();
//! # assert_eq!(used_up, wire.len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Encoders append to any [`Sink`] (`Vec<u8>`, `BytesMut`) and cannot fail: a short string over 255 bytes, which
//! only a reply text can be, is cut at a character's boundary.

mod content;
mod frame;
mod greeting;
mod hot;
mod method;
mod methods;
mod reply;
mod wire;

pub use content::{
    BASIC_CLASS, ContentHeader, ContentHeaderError, body_frame_head, encode_body, encode_content,
    encode_content_header, split_body,
};
pub use frame::{
    FRAME_END, FRAME_MAX_MIN_BYTES, FRAME_OVERHEAD_BYTES, Frame, FrameError, FrameKind, FrameReader,
    HEARTBEAT,
};
pub use greeting::{Foreign, Greeting, PROTOCOL_HEADER};
pub use hot::{encode_ack, encode_deliver_head, encode_get_ok_head, encode_nack, encode_return_head};
pub use method::{MethodError, Sender};
pub use methods::{Method, access, basic, channel, confirm, connection, exchange, queue, tx};
pub use reply::ReplyCode;
pub use wire::{FieldError, Sink};
