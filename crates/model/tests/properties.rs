//! Message properties through their public door.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use millpond_model::properties::{EMPTY, Properties, PropertiesEncodeError, PropertiesError, RawProperties};
use millpond_model::table::{RawValue, Table, TableError, Value};
use proptest::prelude::*;

fn full() -> Properties {
    Properties {
        content_type: Some("text/plain".into()),
        content_encoding: Some("gzip".into()),
        headers: Table::from_iter([("CC", Value::from(vec!["a".into()])), ("BCC", Value::Void)]),
        delivery_mode: Some(2),
        priority: Some(7),
        correlation_id: Some("correlation".into()),
        reply_to: Some("reply".into()),
        expiration: Some("60000".into()),
        message_id: Some("message".into()),
        timestamp: Some(1_700_000_000),
        type_: Some("type".into()),
        user_id: Some("guest".into()),
        app_id: Some("app".into()),
        cluster_id: Some("cluster".into()),
    }
}

#[test]
fn every_property_is_read_where_it_lies() {
    let bytes = full().encode().unwrap();
    let raw = RawProperties::parse(&bytes).unwrap();
    assert_eq!(raw.content_type(), Some(&b"text/plain"[..]));
    assert_eq!(raw.content_encoding(), Some(&b"gzip"[..]));
    assert_eq!(raw.headers().unwrap().get("BCC"), Some(RawValue::Void));
    assert_eq!(raw.delivery_mode(), Some(2));
    assert!(raw.is_persistent());
    assert_eq!(raw.priority(), Some(7));
    assert_eq!(raw.correlation_id(), Some(&b"correlation"[..]));
    assert_eq!(raw.reply_to(), Some(&b"reply"[..]));
    assert_eq!(raw.expiration(), Some(&b"60000"[..]));
    assert_eq!(raw.message_id(), Some(&b"message"[..]));
    assert_eq!(raw.timestamp(), Some(1_700_000_000));
    assert_eq!(raw.type_(), Some(&b"type"[..]));
    assert_eq!(raw.user_id(), Some(&b"guest"[..]));
    assert_eq!(raw.app_id(), Some(&b"app"[..]));
    assert_eq!(raw.cluster_id(), Some(&b"cluster"[..]));
    assert_eq!(Properties::from(raw), full());
}

#[test]
fn no_property_is_two_bytes() {
    assert_eq!(Properties::default().encode().unwrap(), EMPTY);
    assert_eq!(Properties::from(RawProperties::parse(EMPTY).unwrap()), Properties::default());
    assert_eq!(Properties::from(RawProperties::default()), Properties::default());
}

#[test]
fn the_flags_stand_where_the_specification_puts_them() {
    let check = |properties: Properties, bytes: &[u8]| assert_eq!(properties.encode().unwrap(), bytes);
    let none = Properties::default;
    check(Properties { content_type: Some("a".into()), ..none() }, b"\x80\x00\x01a");
    check(Properties { delivery_mode: Some(2), ..none() }, b"\x10\x00\x02");
    check(Properties { reply_to: Some("q".into()), ..none() }, b"\x02\x00\x01q");
    check(Properties { cluster_id: Some("c".into()), ..none() }, b"\x00\x04\x01c");
    let headers = Table::from_iter([("a", true)]);
    check(Properties { headers, ..none() }, b"\x20\x00\x00\x00\x00\x04\x01at\x01");
}

#[test]
fn malformed_lists_are_refused_by_name() {
    let check = |bytes: &[u8], error: PropertiesError| {
        assert_eq!(RawProperties::parse(bytes).unwrap_err(), error, "{bytes:x?}");
    };
    check(b"\x80", PropertiesError::Truncated { field: "flags", size_bytes: 1 });
    check(b"\x00\x01\x00\x00", PropertiesError::UnknownFlags { flags: 1 });
    check(b"\x00\x02", PropertiesError::UnknownFlags { flags: 2 });
    check(b"\x80\x00\x05abc", PropertiesError::Truncated { field: "content-type", size_bytes: 6 });
    check(b"\x20\x00\x00\x00\x00\x09x", PropertiesError::Truncated { field: "headers", size_bytes: 7 });
    check(b"\x20\x00\xff\xff\xff\xffx", PropertiesError::Truncated { field: "headers", size_bytes: 7 });
    check(b"\x00\x40\x00\x00", PropertiesError::Truncated { field: "timestamp", size_bytes: 4 });
    check(b"\x10\x00\x02\x00", PropertiesError::Trailing { size_bytes: 1 });
    let headers = TableError::UnknownType { letter: b'?', position: 2 };
    check(b"\x20\x00\x00\x00\x00\x03\x01a?", PropertiesError::Headers(headers));
}

#[test]
fn a_text_over_255_bytes_has_no_encoding() {
    let properties = Properties { message_id: Some("m".repeat(256).into()), ..Default::default() };
    let error = PropertiesEncodeError::TooLong { field: "message-id", size_bytes: 256 };
    assert_eq!(properties.encode(), Err(error));
}

#[test]
fn a_header_is_taken_out_and_everything_else_stays() {
    let bytes = full().encode().unwrap();
    let raw = RawProperties::parse(&bytes).unwrap();
    assert_eq!(raw.without_header("absent"), None);
    let changed = raw.without_header("BCC").unwrap();
    let mut expected = full();
    expected.headers.remove("BCC");
    assert_eq!(changed, expected.encode().unwrap());

    let changed = raw.with_headers(None);
    expected.headers = Table::new();
    assert_eq!(changed, expected.encode().unwrap());
    assert_eq!(RawProperties::parse(&changed).unwrap().with_headers(raw.headers()), bytes);
}

#[test]
fn reply_to_is_replaced_or_added() {
    let check = |before: Properties| {
        let bytes = before.encode().unwrap();
        let changed = RawProperties::parse(&bytes).unwrap().with_reply_to(b"elsewhere");
        let expected = Properties { reply_to: Some("elsewhere".into()), ..before };
        assert_eq!(changed, expected.encode().unwrap());
    };
    check(full());
    check(Properties { reply_to: None, ..full() });
    check(Properties::default());
}

fn properties() -> impl Strategy<Value = Properties> {
    let text = || prop::option::of("[a-zé0-9/.]{0,40}".prop_map(String::into_boxed_str));
    let headers = prop::collection::vec(("[a-z]{1,9}", any::<i64>()), 0..4);
    let first = (text(), text(), headers, any::<Option<u8>>(), any::<Option<u8>>(), text(), text());
    let second = (text(), text(), any::<Option<u64>>(), text(), text(), text(), text());
    (first, second).prop_map(|(a, b)| Properties {
        content_type: a.0,
        content_encoding: a.1,
        headers: a.2.into_iter().collect(),
        delivery_mode: a.3,
        priority: a.4,
        correlation_id: a.5,
        reply_to: a.6,
        expiration: b.0,
        message_id: b.1,
        timestamp: b.2,
        type_: b.3,
        user_id: b.4,
        app_id: b.5,
        cluster_id: b.6,
    })
}

proptest! {
    #[test]
    fn any_properties_survive_the_wire(properties in properties()) {
        let bytes = properties.encode().unwrap();
        prop_assert_eq!(&Properties::from(RawProperties::parse(&bytes).unwrap()), &properties);
        prop_assert_eq!(&Properties::from(RawProperties::from_checked(&bytes)), &properties);
    }

    #[test]
    fn a_list_cut_anywhere_is_refused(properties in properties()) {
        let bytes = properties.encode().unwrap();
        for end in 0..bytes.len() {
            prop_assert!(RawProperties::parse(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let raw = RawProperties::from_checked(&bytes);
        let _ = (Properties::from(raw), raw.with_reply_to(b"x"), raw.with_headers(None), raw.without_header("a"));
        if let Ok(checked) = RawProperties::parse(&bytes) {
            prop_assert!(Properties::from(checked).encode().is_ok());
        }
    }
}
