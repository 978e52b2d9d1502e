//! Limits that the wire or the disk format imposes; settings have their own place in the binary.

/// Longest short string of AMQP 0-9-1 (section 4.2.5.3): names, keys, consumer tags. Bytes.
pub const SHORT_STRING_MAX_BYTES: usize = 255;

/// Largest body RabbitMQ accepts by default (`max_message_size`), and Millpond's default too. Bytes.
pub const MESSAGE_SIZE_DEFAULT_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Largest encoded property list of one message; it must fit one content header frame. Bytes.
pub const PROPERTIES_MAX_BYTES: usize = 128 * 1024;

/// How deep tables and arrays may nest before a decoder gives up; guards the stack.
pub const TABLE_DEPTH_MAX: usize = 32;
