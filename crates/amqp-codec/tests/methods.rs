//! Every method's bytes, both ways.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use millpond_amqp_codec::*;
use millpond_model::table::{RawTable, RawValue, TableBuf};

/// `{a: true}` with its length.
const TABLE: &str = "00000004 0161 7401";

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

/// Encodes `method` on channel 7, compares, decodes, compares; cut short or one byte too long it is refused.
fn check(method: impl Into<Method<'static>>, class_id: u16, method_id: u16, arguments: &str) {
    let method = method.into();
    let payload =
        [&class_id.to_be_bytes()[..], &method_id.to_be_bytes(), &hex(&arguments.replace('T', TABLE))]
            .concat();
    let mut frame = vec![1, 0, 7];
    frame.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    frame.extend_from_slice(&payload);
    frame.push(0xCE);

    let mut encoded = Vec::new();
    method.encode(7, &mut encoded);
    assert_eq!(encoded, frame, "{method:?}");
    let mut encoded = bytes::BytesMut::new();
    method.encode(7, &mut encoded);
    assert_eq!(encoded, frame, "{method:?} into BytesMut");

    assert_eq!(Method::decode(&payload), Ok(method));
    assert_eq!((method.class_id(), method.method_id()), (class_id, method_id));
    for end in 4..payload.len() {
        let error = Method::decode(&payload[..end]).unwrap_err();
        assert!(matches!(error, MethodError::Argument { .. }), "{method:?} cut at {end}: {error}");
        assert_eq!(error.reply_code(), ReplyCode::FrameError);
    }
    let long = [&payload[..], &[0]].concat();
    let error = MethodError::Trailing { method: method.name(), size_bytes: 1 };
    assert_eq!(Method::decode(&long), Err(error));
}

fn table() -> RawTable<'static> {
    let mut table = TableBuf::new();
    table.push("a", RawValue::Bool(true)).unwrap();
    RawTable::parse(table.into_bytes().leak()).unwrap()
}

#[test]
fn connection_methods_have_the_specifications_bytes() {
    use connection::*;
    let start = Start {
        version_major: 0,
        version_minor: 9,
        server_properties: table(),
        mechanisms: b"PLAIN",
        locales: b"en",
    };
    check(start, 10, 10, "00 09 T 00000005 504c41494e 00000002 656e");
    let start_ok =
        StartOk { client_properties: table(), mechanism: "PLAIN", response: b"\0u\0p", locale: "en" };
    check(start_ok, 10, 11, "T 05504c41494e 00000004 00750070 02656e");
    check(Secure { challenge: b"?" }, 10, 20, "00000001 3f");
    check(SecureOk { response: b"!" }, 10, 21, "00000001 21");
    check(Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 }, 10, 30, "07ff 00020000 003c");
    check(TuneOk { channel_max: 1, frame_max: 4096, heartbeat: 0 }, 10, 31, "0001 00001000 0000");
    check(Open { virtual_host: "/", capabilities: "", insist: true }, 10, 40, "012f 00 01");
    check(OpenOk { known_hosts: "" }, 10, 41, "00");
    check(
        Close { reply_code: 540, reply_text: "no", class_id: 60, method_id: 40 },
        10,
        50,
        "021c 026e6f 003c 0028",
    );
    check(CloseOk {}, 10, 51, "");
    check(Blocked { reason: "disk" }, 10, 60, "046469736b");
    check(Unblocked {}, 10, 61, "");
    check(UpdateSecret { new_secret: b"s", reason: "r" }, 10, 70, "00000001 73 0172");
    check(UpdateSecretOk {}, 10, 71, "");
}

#[test]
fn channel_and_access_methods_have_the_specifications_bytes() {
    use channel::*;
    check(Open { out_of_band: "" }, 20, 10, "00");
    check(OpenOk { channel_id: b"" }, 20, 11, "00000000");
    check(Flow { active: true }, 20, 20, "01");
    check(FlowOk { active: false }, 20, 21, "00");
    check(
        Close { reply_code: 404, reply_text: "é", class_id: 50, method_id: 10 },
        20,
        40,
        "0194 02c3a9 0032 000a",
    );
    check(CloseOk {}, 20, 41, "");
    let request = access::Request {
        realm: "/data",
        exclusive: false,
        passive: true,
        active: true,
        write: true,
        read: true,
    };
    check(request, 30, 10, "052f64617461 1e");
    check(access::RequestOk { ticket: 1 }, 30, 11, "0001");
}

#[test]
fn exchange_methods_have_the_specifications_bytes() {
    use exchange::*;
    let declare =
        Declare { exchange: "e", kind: "topic", durable: true, arguments: table(), ..Default::default() };
    check(declare, 40, 10, "0000 0165 05746f706963 02 T");
    let all = Declare {
        passive: true,
        durable: true,
        auto_delete: true,
        internal: true,
        no_wait: true,
        ..Declare::default()
    };
    check(all, 40, 10, "0000 00 00 1f 00000000");
    check(DeclareOk {}, 40, 11, "");
    check(Delete { ticket: 1, exchange: "e", if_unused: false, no_wait: true }, 40, 20, "0001 0165 02");
    check(DeleteOk {}, 40, 21, "");
    let bind = Bind {
        ticket: 0,
        destination: "d",
        source: "s",
        routing_key: b"k",
        no_wait: true,
        arguments: table(),
    };
    check(bind, 40, 30, "0000 0164 0173 016b 01 T");
    check(BindOk {}, 40, 31, "");
    let unbind = Unbind { destination: "d", source: "s", routing_key: b"k", ..Default::default() };
    check(unbind, 40, 40, "0000 0164 0173 016b 00 00000000");
    check(UnbindOk {}, 40, 51, "");
}

#[test]
fn queue_methods_have_the_specifications_bytes() {
    use queue::*;
    let declare =
        Declare { queue: "q", durable: true, exclusive: true, arguments: table(), ..Default::default() };
    check(declare, 50, 10, "0000 0171 06 T");
    let all = Declare {
        passive: true,
        durable: true,
        exclusive: true,
        auto_delete: true,
        no_wait: true,
        ..Declare::default()
    };
    check(all, 50, 10, "0000 00 1f 00000000");
    check(DeclareOk { queue: "q", message_count: 258, consumer_count: 3 }, 50, 11, "0171 00000102 00000003");
    let bind =
        Bind { queue: "q", exchange: "e", routing_key: b"k", arguments: table(), ..Default::default() };
    check(bind, 50, 20, "0000 0171 0165 016b 00 T");
    check(BindOk {}, 50, 21, "");
    check(Purge { ticket: 0, queue: "q", no_wait: true }, 50, 30, "0000 0171 01");
    check(PurgeOk { message_count: 9 }, 50, 31, "00000009");
    let delete = Delete { ticket: 0, queue: "q", if_unused: true, if_empty: false, no_wait: true };
    check(delete, 50, 40, "0000 0171 05");
    check(DeleteOk { message_count: 9 }, 50, 41, "00000009");
    let unbind = Unbind { ticket: 0, queue: "q", exchange: "e", routing_key: b"k", arguments: table() };
    check(unbind, 50, 50, "0000 0171 0165 016b T");
    check(UnbindOk {}, 50, 51, "");
}

#[test]
fn basic_methods_of_consumers_have_the_specifications_bytes() {
    use basic::*;
    check(Qos { prefetch_size: 1, prefetch_count: 2, global: true }, 60, 10, "00000001 0002 01");
    check(QosOk {}, 60, 11, "");
    let consume = Consume {
        ticket: 0,
        queue: "q",
        consumer_tag: "t",
        no_local: true,
        no_ack: false,
        exclusive: true,
        no_wait: false,
        arguments: table(),
    };
    check(consume, 60, 20, "0000 0171 0174 05 T");
    check(ConsumeOk { consumer_tag: "t" }, 60, 21, "0174");
    check(Cancel { consumer_tag: "t", no_wait: true }, 60, 30, "0174 01");
    check(CancelOk { consumer_tag: "t" }, 60, 31, "0174");
    check(Get { ticket: 0, queue: "q", no_ack: true }, 60, 70, "0000 0171 01");
    check(GetEmpty { cluster_id: "" }, 60, 72, "00");
    check(Ack { delivery_tag: 258, multiple: true }, 60, 80, "0000000000000102 01");
    check(Reject { delivery_tag: 1, requeue: true }, 60, 90, "0000000000000001 01");
    check(RecoverAsync { requeue: true }, 60, 100, "01");
    check(Recover { requeue: false }, 60, 110, "00");
    check(RecoverOk {}, 60, 111, "");
    check(Nack { delivery_tag: 1, multiple: false, requeue: true }, 60, 120, "0000000000000001 02");
}

#[test]
fn basic_methods_with_content_have_the_specifications_bytes() {
    use basic::*;
    let publish = Publish { ticket: 0, exchange: b"e", routing_key: b"k", mandatory: true, immediate: true };
    check(publish, 60, 40, "0000 0165 016b 03");
    let returned = Return { reply_code: 312, reply_text: "NO", exchange: b"e", routing_key: b"k" };
    check(returned, 60, 50, "0138 024e4f 0165 016b");
    let deliver =
        Deliver { consumer_tag: "t", delivery_tag: 5, redelivered: true, exchange: b"e", routing_key: b"k" };
    check(deliver, 60, 60, "0174 0000000000000005 01 0165 016b");
    let got =
        GetOk { delivery_tag: 5, redelivered: false, exchange: b"e", routing_key: b"k", message_count: 6 };
    check(got, 60, 71, "0000000000000005 00 0165 016b 00000006");
}

#[test]
fn confirm_and_tx_methods_have_the_specifications_bytes() {
    check(confirm::Select { no_wait: true }, 85, 10, "01");
    check(confirm::SelectOk {}, 85, 11, "");
    check(tx::Select {}, 90, 10, "");
    check(tx::SelectOk {}, 90, 11, "");
    check(tx::Commit {}, 90, 20, "");
    check(tx::CommitOk {}, 90, 21, "");
    check(tx::Rollback {}, 90, 30, "");
    check(tx::RollbackOk {}, 90, 31, "");
}

#[test]
fn methods_that_do_not_exist_are_not_implemented() {
    let check = |class_id: u16, method_id: u16| {
        let payload = [class_id.to_be_bytes(), method_id.to_be_bytes()].concat();
        let error = Method::decode(&payload).unwrap_err();
        assert_eq!(error, MethodError::Unknown { class_id, method_id });
        assert_eq!(error.reply_code(), ReplyCode::NotImplemented);
    };
    check(10, 12);
    check(40, 41);
    check(60, 73);
    check(70, 10);
    check(0, 0);
    for size_bytes in 0..4 {
        let error = Method::decode(&[0, 60, 0][..size_bytes.min(3)]).unwrap_err();
        assert_eq!(error.reply_code(), ReplyCode::FrameError);
    }
}

#[test]
fn a_name_that_is_not_utf8_is_a_frame_error_that_names_the_argument() {
    let error = Method::decode(&hex("0032 000a 0000 01ff 00 00000000")).unwrap_err();
    let text = error.to_string();
    assert_eq!(text, "queue.declare: argument queue: it is not UTF-8");
    assert_eq!(error.reply_code(), ReplyCode::FrameError);
    let error = Method::decode(&hex("003c 0028 0000 00 01ff 00")).unwrap_err();
    assert_eq!(error.to_string(), "basic.publish: argument routing_key: it is not UTF-8");
    assert!(Method::decode(&hex("003c 0028 0000 00 02c3a9 00")).is_ok());
}

#[test]
fn a_bad_table_is_refused_before_anyone_reads_it() {
    let error = Method::decode(&hex("0032 000a 0000 00 00 00000003 016155")).unwrap_err();
    assert!(
        error.to_string().starts_with("queue.declare: argument arguments: unknown field type 0x55"),
        "{error}"
    );
}

#[test]
fn the_short_ways_take_what_the_long_way_takes_and_nothing_else() {
    let check = |payload: &str| {
        let payload = hex(payload);
        let (publish, ack) = match Method::decode(&payload) {
            Ok(Method::BasicPublish(publish)) => (Some(publish), None),
            Ok(Method::BasicAck(ack)) => (None, Some(ack)),
            _ => (None, None),
        };
        assert_eq!(basic::Publish::from_payload(&payload), publish);
        assert_eq!(basic::Ack::from_payload(&payload), ack);
    };
    check("003c 0028 0000 0165 016b 01");
    check("003c 0028 0000 0165 016b 01 00");
    check("003c 0028 0000 0165 01ff 01");
    check("003c 0028 0000");
    check("003c 0050 0000000000000102 01");
    check("003c 0050 0000000000000102");
    check("003c 0078 0000000000000102 01");
    check("003c");
}

#[test]
fn a_reply_text_over_255_bytes_is_cut_at_a_characters_boundary() {
    let text = "é".repeat(200);
    let mut out = Vec::new();
    Method::from(channel::Close { reply_text: &text, ..Default::default() }).encode(1, &mut out);
    let frame = FrameReader::new(&out, 0).next().unwrap().unwrap();
    let Ok(Method::ChannelClose(close)) = Method::decode(frame.payload) else { panic!("not a close") };
    assert_eq!(close.reply_text, "é".repeat(127));
}

#[test]
fn directions_are_told_apart() {
    assert_eq!(Method::from(queue::Declare::default()).sender(), Sender::Client);
    assert_eq!(Method::from(queue::DeclareOk::default()).sender(), Sender::Server);
    assert_eq!(Method::from(basic::Ack::default()).sender(), Sender::Both);
    assert!(Method::from(basic::Publish::default()).has_content());
    assert!(!Method::from(basic::Ack::default()).has_content());
}

#[test]
fn reply_codes_are_the_specifications() {
    let hard: Vec<u16> =
        ReplyCode::ALL.iter().filter(|code| code.is_hard()).map(|code| code.code()).collect();
    assert_eq!(hard, [320, 402, 501, 502, 503, 504, 505, 506, 530, 540, 541]);
    for code in ReplyCode::ALL {
        assert_eq!(ReplyCode::from_code(code.code()), Some(*code));
    }
    assert_eq!(ReplyCode::from_code(1), None);
    assert_eq!(ReplyCode::NotFound.text("no queue 'q'"), "NOT_FOUND - no queue 'q'");
}
