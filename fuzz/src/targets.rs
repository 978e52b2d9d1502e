//! What is fuzzed, and what must hold for any input.

use millpond_amqp_codec::{ContentHeader, Frame, FrameError, FrameKind, FrameReader, Greeting, Method};
use millpond_model::properties::{Properties, RawProperties};
use millpond_model::table::{RawTable, TableBuf, TableError};

const FRAME_MAX_BYTES: u32 = 4096;

/// A connection's bytes: the frames are the same however the bytes arrive; what decodes encodes to the same.
pub fn frame_decoder(data: &[u8]) {
    let _ = Greeting::parse(data);
    let whole = frames(data);
    for frame in &whole.0 {
        payload(frame);
    }
    // Cut where the data itself says, so that one input means one run.
    let cut = data.iter().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte as usize));
    let (mut first, _, at) = frames(&data[..cut % (data.len() + 1)]);
    let (second, error, _) = frames(&data[at..]);
    first.extend(second);
    assert_eq!(first, whole.0, "frames depend on how the bytes arrive");
    assert_eq!(error, whole.1, "errors depend on how the bytes arrive");
}

fn frames(data: &[u8]) -> (Vec<Frame<'_>>, Option<FrameError>, usize) {
    let mut reader = FrameReader::new(data, FRAME_MAX_BYTES);
    let mut found = Vec::new();
    loop {
        match reader.next() {
            Ok(Some(frame)) => found.push(frame),
            Ok(None) => {
                assert!(reader.missing() > 0, "bytes are wanted that are there");
                return (found, None, reader.consumed());
            }
            Err(error) => return (found, Some(error), reader.consumed()),
        }
    }
}

fn payload(frame: &Frame<'_>) {
    match frame.kind {
        FrameKind::Method => {
            let Ok(method) = Method::decode(frame.payload) else { return };
            let mut out = Vec::new();
            method.encode(frame.channel, &mut out);
            let (again, error, consumed) = frames(&out);
            assert_eq!((error, consumed), (None, out.len()), "an encoded method is one frame");
            assert_eq!(Method::decode(again[0].payload), Ok(method), "a method changes on the way");
        }
        FrameKind::Header => {
            let Ok(header) = ContentHeader::decode(frame.payload) else { return };
            properties(header.properties.as_bytes());
        }
        FrameKind::Body | FrameKind::Heartbeat => {}
    }
}

/// A frame's payload, as a method and as a content header: mutations of whole streams rarely get past the frames.
pub fn method_decoder(data: &[u8]) {
    payload(&Frame { kind: FrameKind::Method, channel: 1, payload: data });
    payload(&Frame { kind: FrameKind::Header, channel: 1, payload: data });
}

/// Table entries and property lists, which come from clients and again from the disk.
pub fn field_table(data: &[u8]) {
    table(data);
    properties(data);
}

fn table(data: &[u8]) {
    // Bytes off a damaged disk may reach the unchecked view.
    let _ = RawTable::from_checked(data).to_table();
    let Ok(raw) = RawTable::parse(data) else { return };
    assert_eq!(TableBuf::without(raw, "no such name").as_bytes(), data, "a copy differs");
    let owned = raw.to_table();
    assert_eq!(owned.len(), raw.iter().count());
    match owned.encode() {
        Ok(written) => {
            // Compared as bytes: a NaN is not equal to itself.
            let again = written.as_raw().to_table().encode().map(TableBuf::into_bytes);
            assert_eq!(again, Ok(written.into_bytes()), "a table changes on the way");
        }
        Err(error) => {
            assert!(matches!(error, TableError::NameTooLong { .. }), "read but not written: {error}");
            assert!(utf8_grows(raw), "no name was long enough to grow over the limit");
        }
    }
}

/// Whether replacing what is not UTF-8 can make a name too long; nested tables are not looked into.
fn utf8_grows(raw: RawTable<'_>) -> bool {
    raw.as_bytes().len() > 85
}

fn properties(data: &[u8]) {
    let unchecked = RawProperties::from_checked(data);
    let _ = Properties::from(unchecked);
    let _ = (unchecked.with_reply_to(b"r"), unchecked.with_headers(None), unchecked.without_header("BCC"));
    let Ok(raw) = RawProperties::parse(data) else { return };
    let changed = raw.with_reply_to(b"elsewhere");
    let after = RawProperties::parse(&changed).expect("a changed list is a list");
    assert_eq!(after.reply_to(), Some(&b"elsewhere"[..]));
    assert_eq!(after.delivery_mode(), raw.delivery_mode());
    assert_eq!(after.headers(), raw.headers());
    assert_eq!(after.cluster_id(), raw.cluster_id());
    let bare = raw.with_headers(None);
    let bare = RawProperties::parse(&bare).expect("a list without headers is a list");
    assert_eq!((bare.headers(), bare.timestamp()), (None, raw.timestamp()));
    assert_eq!(bare.with_headers(raw.headers()), data, "headers put back change the list");
}

/// A topology file: it is taken or refused, and every refusal names a line that is there.
pub fn topology_parser(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match millpond_engine::check("f.yaml", &text) {
        Ok(topology) => assert!(!topology.to_string().is_empty()),
        Err(error) => {
            // A text may end its lines in more ways than one; there are never more lines than characters.
            let lines = text.chars().count() + 1;
            assert!(!error.diagnostics.is_empty(), "a refusal without a reason");
            assert!(
                error.diagnostics.iter().all(|it| (1..=lines).contains(&it.line)),
                "a line that is not there"
            );
        }
    }
}

/// A segment of the write-ahead log as a crash may leave it, and the payload of a batch.
pub fn log_recovery(data: &[u8]) {
    millpond_store::fuzz_log(data);
}
