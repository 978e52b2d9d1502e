//! Spans as OTLP has them: `ExportTraceServiceRequest` of opentelemetry-proto 1.x, in protobuf.
//!
//! Four messages that have been stable since 1.0 need no generated code: a field is its number and its wire type,
//! then the value.

use super::span::{Attribute, Span};

/// Wire types of protobuf.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;

/// `SpanKind`.
const KIND_INTERNAL: u64 = 1;
const KIND_SERVER: u64 = 2;
/// `StatusCode`.
const STATUS_ERROR: u64 = 2;

/// A message that is being written.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3 | VARINT);
        self.varint(value);
        self
    }

    fn fixed(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3 | FIXED64);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | BYTES);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn message(self, field: u64, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }
}

/// `KeyValue`.
fn key_value(key: &str, value: &Attribute) -> Message {
    let value = match value {
        Attribute::Text(text) => Message::default().bytes(1, text.as_bytes()),
        Attribute::Bool(value) => Message::default().number(2, (*value).into()),
        Attribute::Int(value) => Message::default().number(3, *value as u64),
    };
    Message::default().bytes(1, key.as_bytes()).message(2, &value)
}

/// `Span`.
fn span_message(span: &Span) -> Message {
    let kind = if span.is_server { KIND_SERVER } else { KIND_INTERNAL };
    let mut out = Message::default()
        .bytes(1, &span.place.trace.to_be_bytes())
        .bytes(2, &span.place.span.to_be_bytes())
        .bytes(5, span.name.as_bytes())
        .number(6, kind)
        .fixed(7, span.start_ns)
        .fixed(8, span.end_ns);
    if span.place.parent != 0 {
        out = out.bytes(4, &span.place.parent.to_be_bytes());
    }
    for (key, value) in &span.attributes {
        out = out.message(9, &key_value(key, value));
    }
    if span.failed {
        out = out.message(15, &Message::default().number(3, STATUS_ERROR));
    }
    out
}

/// The body of a request to `/v1/traces`.
pub(super) fn request(service: &str, spans: &[Span]) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let resource = [("service.name", service), ("service.version", version)]
        .into_iter()
        .map(|(key, value)| key_value(key, &Attribute::Text(value.to_owned())))
        .fold(Message::default(), |out, attribute| out.message(1, &attribute));
    let scope = Message::default().bytes(1, b"millpond").bytes(2, version.as_bytes());
    let scoped = spans
        .iter()
        .fold(Message::default().message(1, &scope), |out, span| out.message(2, &span_message(span)));
    let of_resource = Message::default().message(1, &resource).message(2, &scoped);
    Message::default().message(1, &of_resource).0
}

#[cfg(test)]
mod tests {
    use super::super::span::Place;
    use super::*;

    #[test]
    fn a_span_is_written_field_by_field() {
        let span = Span {
            place: Place { trace: 1, span: 2, parent: 3, is_sampled: true },
            name: "GET".to_owned(),
            is_server: true,
            failed: true,
            start_ns: 4,
            end_ns: 300,
            attributes: vec![("n", Attribute::Int(300)), ("b", Attribute::Bool(true))],
        };
        let mut wanted = vec![0x0a, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        wanted.extend([0x12, 8, 0, 0, 0, 0, 0, 0, 0, 2, 0x2a, 3]);
        wanted.extend(b"GET");
        wanted.extend([0x30, 2, 0x39, 4, 0, 0, 0, 0, 0, 0, 0, 0x41, 44, 1, 0, 0, 0, 0, 0, 0]);
        wanted.extend([0x22, 8, 0, 0, 0, 0, 0, 0, 0, 3]);
        wanted.extend([0x4a, 8, 0x0a, 1, b'n', 0x12, 3, 0x18, 0xac, 2]);
        wanted.extend([0x4a, 7, 0x0a, 1, b'b', 0x12, 2, 0x10, 1, 0x7a, 2, 0x18, 2]);
        assert_eq!(span_message(&span).0, wanted);
    }
}
