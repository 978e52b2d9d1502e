//! Encoders for what is sent once a message: they take the message's own bytes and write each byte once.
//!
//! `address` is always exchange and routing key, each behind its length in one byte, as messages keep them.

use crate::frame::{FRAME_END, FRAME_OVERHEAD_BYTES, FrameKind, head};
use crate::{BASIC_CLASS, ReplyCode, Sink};
use millpond_model::limits::SHORT_STRING_MAX_BYTES;

/// Frame head, class and method: what a method frame begins with.
#[inline]
fn method_head(channel: u16, method_id: u16, arguments_bytes: usize) -> [u8; 11] {
    let mut bytes = [0; 11];
    bytes[..7].copy_from_slice(&head(FrameKind::Method, channel, arguments_bytes as u32 + 4));
    bytes[7..9].copy_from_slice(&BASIC_CLASS.to_be_bytes());
    bytes[9..].copy_from_slice(&method_id.to_be_bytes());
    bytes
}

/// Appends basic.deliver; content follows. A consumer tag over 255 bytes has no encoding and is cut.
#[inline]
pub fn encode_deliver_head<S: Sink>(
    out: &mut S,
    channel: u16,
    consumer_tag: &str,
    delivery_tag: u64,
    redelivered: bool,
    address: &[u8],
) {
    let tag = &consumer_tag.as_bytes()[..consumer_tag.len().min(SHORT_STRING_MAX_BYTES)];
    let arguments_bytes = 1 + tag.len() + 9 + address.len();
    out.reserve_more(arguments_bytes + 4 + FRAME_OVERHEAD_BYTES);
    let mut start = [0; 12];
    start[..11].copy_from_slice(&method_head(channel, 60, arguments_bytes));
    start[11] = tag.len() as u8;
    out.put(&start);
    out.put(tag);
    let mut delivery = [0; 9];
    delivery[..8].copy_from_slice(&delivery_tag.to_be_bytes());
    delivery[8] = redelivered.into();
    out.put(&delivery);
    out.put(address);
    out.put(&[FRAME_END]);
}

/// Appends basic.get-ok; content follows.
pub fn encode_get_ok_head<S: Sink>(
    out: &mut S,
    channel: u16,
    delivery_tag: u64,
    redelivered: bool,
    address: &[u8],
    message_count: u32,
) {
    out.put(&method_head(channel, 71, 9 + address.len() + 4));
    out.put(&delivery_tag.to_be_bytes());
    out.put(&[redelivered.into()]);
    out.put(address);
    out.put(&message_count.to_be_bytes());
    out.put(&[FRAME_END]);
}

/// Appends basic.return; content follows. The reply text is the code's name, as RabbitMQ's.
pub fn encode_return_head<S: Sink>(out: &mut S, channel: u16, code: ReplyCode, address: &[u8]) {
    let text = code.name().as_bytes();
    out.put(&method_head(channel, 50, 2 + 1 + text.len() + address.len()));
    out.put(&code.code().to_be_bytes());
    out.put(&[text.len() as u8]);
    out.put(text);
    out.put(address);
    out.put(&[FRAME_END]);
}

/// Appends basic.ack.
#[inline]
pub fn encode_ack<S: Sink>(out: &mut S, channel: u16, delivery_tag: u64, multiple: bool) {
    encode_settle(out, channel, 80, delivery_tag, multiple.into());
}

/// Appends basic.nack as the server sends it for publishes it could not keep (requeue means nothing there).
pub fn encode_nack<S: Sink>(out: &mut S, channel: u16, delivery_tag: u64, multiple: bool) {
    encode_settle(out, channel, 120, delivery_tag, multiple.into());
}

#[inline]
fn encode_settle<S: Sink>(out: &mut S, channel: u16, method_id: u16, delivery_tag: u64, bits: u8) {
    let mut frame = [0; 21];
    frame[..11].copy_from_slice(&method_head(channel, method_id, 9));
    frame[11..19].copy_from_slice(&delivery_tag.to_be_bytes());
    frame[19] = bits;
    frame[20] = FRAME_END;
    out.put(&frame);
}
