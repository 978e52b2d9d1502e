//! Frames, content and the protocol header, cut anywhere and malformed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use millpond_amqp_codec::*;
use millpond_model::properties::{EMPTY, PropertiesError};
use proptest::prelude::*;

fn frame(kind: u8, channel: u16, payload: &[u8], end: u8) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
    out.push(end);
    out
}

#[test]
fn frames_are_taken_one_after_the_other() {
    let input = [
        frame(1, 3, b"method", 0xCE),
        frame(2, 3, b"", 0xCE),
        frame(3, 3, b"body", 0xCE),
        HEARTBEAT.to_vec(),
        b"\x01\x00".to_vec(),
    ]
    .concat();
    let mut frames = FrameReader::new(&input, 4096);
    let mut next = || frames.next().unwrap();
    assert_eq!(next(), Some(Frame { kind: FrameKind::Method, channel: 3, payload: b"method" }));
    assert_eq!(next(), Some(Frame { kind: FrameKind::Header, channel: 3, payload: b"" }));
    assert_eq!(next(), Some(Frame { kind: FrameKind::Body, channel: 3, payload: b"body" }));
    assert_eq!(next(), Some(Frame { kind: FrameKind::Heartbeat, channel: 0, payload: b"" }));
    assert_eq!(next(), None);
    assert_eq!(frames.consumed(), input.len() - 2);
    assert_eq!(frames.missing(), 6);
}

#[test]
fn a_frame_cut_anywhere_needs_more_and_says_how_much() {
    let whole = frame(3, 1, &[7; 20], 0xCE);
    for end in 0..whole.len() {
        let mut frames = FrameReader::new(&whole[..end], 4096);
        assert_eq!(frames.next(), Ok(None), "cut at {end}");
        assert_eq!(frames.consumed(), 0);
        let known = if end < 7 { 8 } else { whole.len() };
        assert_eq!(frames.missing(), known - end, "cut at {end}");
    }
}

#[test]
fn bad_frames_are_refused_with_the_contracts_code() {
    let check = |input: &[u8], error: FrameError, code: u16| {
        let mut frames = FrameReader::new(input, 4096);
        assert_eq!(frames.next(), Err(error));
        assert_eq!(frames.consumed(), 0);
        assert_eq!(error.reply_code().code(), code);
        assert!(error.reply_code().is_hard());
    };
    check(b"\x04\x00\x01\x00\x00\x00\x00", FrameError::UnknownKind { kind: 4, channel: 1 }, 501);
    check(b"GET / HTTP/1.1", FrameError::UnknownKind { kind: b'G', channel: 0x4554 }, 501);
    check(&frame(1, 1, b"x", 0xCD), FrameError::BadEnd { kind: 1, size_bytes: 1, found: 0xCD }, 501);
    let large = FrameError::TooLarge { kind: 3, size_bytes: 4097, frame_max_bytes: 4096 };
    check(&frame(3, 1, &[0; 4097], 0xCE)[..7], large, 501);
    check(&frame(8, 1, b"", 0xCE), FrameError::HeartbeatOnChannel { channel: 1 }, 505);
    check(&frame(8, 0, b"x", 0xCE), FrameError::HeartbeatWithPayload { size_bytes: 1 }, 501);
}

#[test]
fn a_frame_may_be_eight_bytes_over_the_agreed_size() {
    let input = frame(3, 1, &[0; 4096], 0xCE);
    assert_eq!(input.len(), 4096 + 8);
    assert!(FrameReader::new(&input, 4096).next().unwrap().is_some());
    let input = frame(3, 1, &[0; 200_000], 0xCE);
    assert!(FrameReader::new(&input, 0).next().unwrap().is_some(), "0 is no limit");
}

#[test]
fn the_protocol_header_is_told_from_everything_else() {
    use Greeting::{Amqp, NeedMore};
    use millpond_amqp_codec::Foreign::*;
    let check = |input: &[u8], expected: Greeting| assert_eq!(Greeting::parse(input), expected, "{input:?}");
    check(b"AMQP\x00\x00\x09\x01", Amqp);
    check(b"AMQP\x00\x00\x09\x01\x01\x00", Amqp);
    check(b"AMQP\x01\x01\x00\x09", Amqp);
    check(b"AMQP\x00\x01\x00\x00", Greeting::Foreign(OtherAmqp([0, 1, 0, 0])));
    check(b"AMQP\x01\x01\x08\x00", Greeting::Foreign(OtherAmqp([1, 1, 8, 0])));
    check(b"\x16\x03\x01\x02", Greeting::Foreign(Tls));
    check(b"\x16\x03", Greeting::Foreign(Tls));
    check(b"\x16", NeedMore);
    check(b"\x16\x00", Greeting::Foreign(Unknown));
    check(b"GET / HTTP/1.1\r\n", Greeting::Foreign(Http));
    check(b"GE", NeedMore);
    check(b"PRI * HTTP/2.0", Greeting::Foreign(Http));
    check(b"XYZ", Greeting::Foreign(Unknown));
    check(b"AMQX", Greeting::Foreign(Unknown));
    for end in 0..8 {
        check(&PROTOCOL_HEADER[..end], NeedMore);
    }
}

#[test]
fn a_content_header_carries_size_and_properties() {
    let mut out = Vec::new();
    encode_content_header(&mut out, 9, 0x0102, b"\x10\x00\x02");
    let frame = FrameReader::new(&out, 4096).next().unwrap().unwrap();
    assert_eq!((frame.kind, frame.channel), (FrameKind::Header, 9));
    assert_eq!(frame.payload, b"\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x01\x02\x10\x00\x02");
    let header = ContentHeader::decode(frame.payload).unwrap();
    assert_eq!(header.body_size_bytes, 0x0102);
    assert!(header.properties.is_persistent());
    for end in 0..frame.payload.len() {
        let error = ContentHeader::decode(&frame.payload[..end]).unwrap_err();
        assert_eq!(error.reply_code(), ReplyCode::FrameError, "cut at {end}");
    }
}

#[test]
fn bad_content_headers_are_refused_with_the_contracts_code() {
    let check = |payload: &[u8], error: ContentHeaderError, code: u16| {
        assert_eq!(ContentHeader::decode(payload).unwrap_err(), error);
        assert_eq!(error.reply_code().code(), code);
    };
    check(&[0; 11], ContentHeaderError::TooShort { size_bytes: 11 }, 501);
    check(&[0; 14], ContentHeaderError::WrongClass { class_id: 0 }, 505);
    let fixed = |weight: u8, rest: &[u8]| [&[0, 60, 0, weight][..], &[0; 8], rest].concat();
    check(&fixed(1, EMPTY), ContentHeaderError::Weight { weight: 1 }, 505);
    let trailing = PropertiesError::Trailing { size_bytes: 1 };
    check(&fixed(0, b"\0\0\0"), ContentHeaderError::Properties(trailing), 501);
}

#[test]
fn a_body_is_split_to_fit_frame_max() {
    let check = |body_len: usize, frame_max: u32, sizes: &[usize]| {
        let body: Vec<u8> = (0..body_len).map(|i| i as u8).collect();
        let mut out = Vec::new();
        encode_content(&mut out, 2, EMPTY, &body, frame_max);
        let mut frames = FrameReader::new(&out, 0);
        let header = ContentHeader::decode(frames.next().unwrap().unwrap().payload).unwrap();
        assert_eq!(header.body_size_bytes, body_len as u64);
        let mut pieces = Vec::new();
        while let Some(frame) = frames.next().unwrap() {
            assert_eq!((frame.kind, frame.channel), (FrameKind::Body, 2));
            assert!(frame_max == 0 || frame.payload.len() + FRAME_OVERHEAD_BYTES <= frame_max as usize);
            pieces.push(frame.payload);
        }
        assert_eq!(frames.consumed(), out.len());
        assert_eq!(pieces.iter().map(|piece| piece.len()).collect::<Vec<_>>(), sizes);
        assert_eq!(pieces.concat(), body);
    };
    check(0, 4096, &[]);
    check(1, 4096, &[1]);
    check(4088, 4096, &[4088]);
    check(4089, 4096, &[4088, 1]);
    check(10_000, 4096, &[4088, 4088, 1824]);
    check(10_000, 0, &[10_000]);
}

#[test]
fn the_fast_encoders_write_what_the_general_one_writes() {
    let (exchange, routing_key) = (&b"ex"[..], &b"key"[..]);
    let address = b"\x02ex\x03key";
    let check = |method: Method<'_>, fast: Vec<u8>| {
        let mut general = Vec::new();
        method.encode(5, &mut general);
        assert_eq!(fast, general, "{method:?}");
    };
    let fast = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        out
    };
    let deliver =
        basic::Deliver { consumer_tag: "tag", delivery_tag: 77, redelivered: true, exchange, routing_key };
    check(deliver.into(), fast(&|out| encode_deliver_head(out, 5, "tag", 77, true, address)));
    let got = basic::GetOk { delivery_tag: 77, redelivered: false, exchange, routing_key, message_count: 4 };
    check(got.into(), fast(&|out| encode_get_ok_head(out, 5, 77, false, address, 4)));
    let returned = basic::Return { reply_code: 312, reply_text: "NO_ROUTE", exchange, routing_key };
    check(returned.into(), fast(&|out| encode_return_head(out, 5, ReplyCode::NoRoute, address)));
    let ack = basic::Ack { delivery_tag: 1 << 40, multiple: true };
    check(ack.into(), fast(&|out| encode_ack(out, 5, 1 << 40, true)));
    let nack = basic::Nack { delivery_tag: 1 << 40, multiple: true, requeue: false };
    check(nack.into(), fast(&|out| encode_nack(out, 5, 1 << 40, true)));
}

/// Drains `input` and reads what is in the frames; returns how many there were.
fn drain(input: &[u8]) -> usize {
    let mut frames = FrameReader::new(input, 4096);
    let mut count = 0;
    while let Ok(Some(frame)) = frames.next() {
        count += 1;
        match frame.kind {
            FrameKind::Method => drop(Method::decode(frame.payload).map(|method| format!("{method:?}"))),
            FrameKind::Header => {
                drop(ContentHeader::decode(frame.payload).map(|header| format!("{header:?}")))
            }
            FrameKind::Body | FrameKind::Heartbeat => {}
        }
    }
    assert!(frames.consumed() <= input.len());
    let _ = frames.missing();
    count
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(input in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Greeting::parse(&input);
        let _ = Method::decode(&input);
        let _ = ContentHeader::decode(&input);
        drain(&input);
    }

    #[test]
    fn arbitrary_arguments_of_real_methods_never_panic(
        class in prop::sample::select(vec![10u16, 20, 30, 40, 50, 60, 85, 90]),
        method in 0u16..130,
        arguments in prop::collection::vec(prop_oneof![Just(0u8), 0u8..8, any::<u8>()], 0..60),
    ) {
        let payload = [&class.to_be_bytes()[..], &method.to_be_bytes(), &arguments].concat();
        if let Ok(decoded) = Method::decode(&payload) {
            // What decodes can be sent on, and means the same then.
            let mut out = Vec::new();
            decoded.encode(1, &mut out);
            let again = FrameReader::new(&out, 0).next().unwrap().unwrap();
            prop_assert_eq!(Method::decode(again.payload).unwrap(), decoded);
        }
    }

    #[test]
    fn a_stream_reads_the_same_in_pieces_as_whole(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut stream = Vec::new();
        for (tag, body) in bodies.iter().enumerate() {
            encode_deliver_head(&mut stream, 1, "c", tag as u64, false, b"\x00\x01q");
            encode_content(&mut stream, 1, EMPTY, body, 32);
        }
        let whole = drain(&stream);
        let cut = cut.index(stream.len());
        let mut first = FrameReader::new(&stream[..cut], 4096);
        while let Some(_frame) = first.next().unwrap() {}
        let consumed = first.consumed();
        prop_assert_eq!(drain(&stream[..cut]) + drain(&stream[consumed..]), whole);
    }
}
