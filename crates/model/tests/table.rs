//! Field tables through their public door.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use millpond_model::limits::TABLE_DEPTH_MAX;
use millpond_model::table::{RawTable, RawValue, Table, TableBuf, TableError, Value};
use proptest::prelude::*;

/// One entry `k` with these bytes of letter and value.
fn entry(value: &[u8]) -> Vec<u8> {
    [b"\x01k", value].concat()
}

fn nested(levels: usize) -> Table {
    (1..levels).fold(Table::new(), |inner, _| Table::from_iter([("t", inner)]))
}

#[test]
fn every_type_letter_of_rabbitmq_has_its_value() {
    let check = |bytes: &[u8], value: Value| {
        let bytes = entry(bytes);
        let table = Table::decode(&bytes).unwrap();
        assert_eq!(table.get("k"), Some(&value));
        assert_eq!(table.encode().unwrap().as_bytes(), bytes, "{value:?}");
        assert!(RawTable::parse(&bytes).unwrap().get("k").unwrap().matches(&value));
    };
    check(b"t\x01", Value::Bool(true));
    check(b"b\xff", Value::I8(-1));
    check(b"B\xff", Value::U8(255));
    check(b"s\xff\xfe", Value::I16(-2));
    check(b"u\xff\xfe", Value::U16(65534));
    check(b"I\xff\xff\xff\xfd", Value::I32(-3));
    check(b"i\xff\xff\xff\xfd", Value::U32(u32::MAX - 2));
    check(b"l\xff\xff\xff\xff\xff\xff\xff\xfc", Value::I64(-4));
    check(b"f\x3f\x80\x00\x00", Value::F32(1.0));
    check(b"d\x3f\xf0\x00\x00\x00\x00\x00\x00", Value::F64(1.0));
    check(b"D\x02\x00\x00\x01\x3a", Value::Decimal { scale: 2, value: 314 });
    check(b"S\x00\x00\x00\x02hi", "hi".into());
    check(b"x\x00\x00\x00\x02\x00\xff", Value::Bytes([0, 255].into()));
    check(b"A\x00\x00\x00\x03t\x00V", vec![Value::Bool(false), Value::Void].into());
    check(b"F\x00\x00\x00\x04\x01at\x01", Table::from_iter([("a", true)]).into());
    check(b"T\x00\x00\x00\x00\x00\x00\x00\x07", Value::Timestamp(7));
    check(b"V", Value::Void);
}

#[test]
fn readings_that_are_not_written_the_same_way() {
    let check = |bytes: &[u8], value: Value| {
        assert_eq!(Table::decode(&entry(bytes)).unwrap().get("k"), Some(&value));
    };
    check(b"t\x07", Value::Bool(true));
    check(b"L\x00\x00\x00\x00\x00\x00\x00\x05", Value::I64(5));
}

#[test]
fn malformed_tables_are_refused_with_the_place() {
    let check = |bytes: &[u8], error: TableError| assert_eq!(Table::decode(bytes), Err(error), "{bytes:x?}");
    check(b"\x01kU\x00\x01", TableError::UnknownType { letter: b'U', position: 2 });
    check(b"\x01kF\x00\x00\x00\x03\x01aU", TableError::UnknownType { letter: b'U', position: 9 });
    check(b"\x05k", TableError::Truncated { position: 0 });
    check(b"\x01kt\x01\x01j", TableError::Truncated { position: 4 });
    check(b"\x01kI\x00\x00\x00", TableError::Truncated { position: 0 });
    check(b"\x01kS\x00\x00\x00\x03hi", TableError::Truncated { position: 0 });
    check(b"\x01kS\xff\xff\xff\xffhi", TableError::Truncated { position: 0 });
    check(b"\x01kA\x00\x00\x00\x02I\x00", TableError::Truncated { position: 7 });
}

#[test]
fn nesting_ends_at_the_limit_when_read_and_when_written() {
    let deepest = nested(TABLE_DEPTH_MAX).encode().unwrap();
    assert_eq!(Table::decode(deepest.as_bytes()).unwrap(), nested(TABLE_DEPTH_MAX));
    assert_eq!(nested(TABLE_DEPTH_MAX + 1).encode(), Err(TableError::TooDeep));
    assert_eq!(TableBuf::new().push("t", RawValue::Table(deepest.as_raw())), Err(TableError::TooDeep));

    let mut bytes = deepest.as_bytes().to_vec();
    bytes = [&entry(b"F"), &(bytes.len() as u32).to_be_bytes()[..], &bytes].concat();
    assert_eq!(Table::decode(&bytes), Err(TableError::TooDeep));
}

#[test]
fn duplicates_are_kept_and_the_first_is_found() {
    let table = Table::from_iter([("a", 1), ("b", 2), ("a", 3)]);
    let bytes = table.encode().unwrap();
    assert_eq!(Table::decode(bytes.as_bytes()).unwrap(), table);
    assert_eq!(bytes.as_raw().get("a"), Some(RawValue::I32(1)));
    assert_eq!(bytes.as_raw().get("c"), None);

    let without = TableBuf::without(bytes.as_raw(), "a");
    assert_eq!(without.as_raw().to_table(), Table::from_iter([("b", 2)]));
}

#[test]
fn set_and_remove_change_entries_by_name() {
    let mut table = Table::from_iter([("a", 1), ("b", 2)]);
    table.set("a", 5);
    table.set("c", 6);
    table.remove("b");
    assert_eq!(table, Table::from_iter([("a", 5), ("c", 6)]));
}

#[test]
fn a_refused_entry_leaves_the_builder_as_it_was() {
    let mut out = TableBuf::new();
    out.push("a", RawValue::Bool(true)).unwrap();
    let long = "n".repeat(256);
    assert_eq!(out.push(&long, RawValue::Void), Err(TableError::NameTooLong { size_bytes: 256 }));
    assert_eq!(out.as_raw().to_table(), Table::from_iter([("a", true)]));
}

#[test]
fn names_that_are_not_utf8_survive_in_the_raw_form() {
    let bytes = b"\x02\xff\xfet\x01";
    let raw = RawTable::parse(bytes).unwrap();
    assert_eq!(raw.iter().next(), Some((&b"\xff\xfe"[..], RawValue::Bool(true))));
    assert_eq!(raw.to_table().len(), 1);
}

#[test]
fn numbers_of_different_widths_are_equivalent_as_arguments() {
    let check = |a: Value, b: Value, expected: bool| {
        assert_eq!(a.is_equivalent(&b), expected, "{a:?} {b:?}");
        assert_eq!(b.is_equivalent(&a), expected, "{b:?} {a:?}");
        let bytes = Table::from_iter([("k", a.clone())]).encode().unwrap();
        assert_eq!(bytes.as_raw().get("k").unwrap().is_equivalent(&b), expected, "raw {a:?} {b:?}");
    };
    check(Value::I8(5), Value::I64(5), true);
    check(Value::U32(5), Value::I32(5), true);
    check(Value::U8(255), Value::I8(-1), false);
    check(Value::F32(0.5), Value::F64(0.5), true);
    check(Value::I32(1), Value::F64(1.0), false);
    check(Value::I32(5), "5".into(), false);
    check(Value::I64(5), Value::Timestamp(5), false);
    check("a".into(), Value::Bytes(b"a".as_slice().into()), false);
    check(vec![Value::I8(1)].into(), vec![Value::I64(1)].into(), true);
    check(vec![Value::I8(1)].into(), vec![Value::I64(1), Value::Void].into(), false);
    let (ab, ba) = (Table::from_iter([("a", 1), ("b", 2)]), Table::from_iter([("b", 2i64), ("a", 1)]));
    check(ab.into(), ba.into(), true);
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i8>().prop_map(Value::I8),
        any::<u8>().prop_map(Value::U8),
        any::<i16>().prop_map(Value::I16),
        any::<u16>().prop_map(Value::U16),
        any::<i32>().prop_map(Value::I32),
        any::<u32>().prop_map(Value::U32),
        any::<i64>().prop_map(Value::I64),
        any::<f32>().prop_map(Value::F32),
        any::<f64>().prop_map(Value::F64),
        any::<(u8, i32)>().prop_map(|(scale, value)| Value::Decimal { scale, value }),
        any::<Vec<u8>>().prop_map(|v| Value::LongStr(v.into())),
        any::<Vec<u8>>().prop_map(|v| Value::Bytes(v.into())),
        any::<u64>().prop_map(Value::Timestamp),
        Just(Value::Void),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
            prop::collection::vec(("[a-zé-]{0,20}", inner), 0..8)
                .prop_map(|entries| Value::Table(entries.into_iter().collect())),
        ]
    })
}

fn table() -> impl Strategy<Value = Table> {
    prop::collection::vec(("[a-zé-]{0,20}", value()), 0..8).prop_map(|entries| entries.into_iter().collect())
}

proptest! {
    #[test]
    fn any_table_survives_the_wire(table in table()) {
        let bytes = table.encode().unwrap();
        prop_assert_eq!(&Table::decode(bytes.as_bytes()).unwrap(), &table);
        for ((raw_name, raw), (name, value)) in bytes.as_raw().iter().zip(&table) {
            prop_assert_eq!(raw_name, name.as_bytes());
            prop_assert!(raw.matches(value));
            prop_assert!(raw.is_equivalent(value));
        }
        let mut rebuilt = TableBuf::new();
        for (name, value) in bytes.as_raw().iter() {
            rebuilt.push(std::str::from_utf8(name).unwrap(), value).unwrap();
        }
        prop_assert_eq!(rebuilt, bytes);
    }

    #[test]
    fn a_table_cut_anywhere_is_a_shorter_table_or_an_error(table in table()) {
        let bytes = table.encode().unwrap();
        for end in 0..bytes.as_bytes().len() {
            if let Ok(shorter) = Table::decode(&bytes.as_bytes()[..end]) {
                prop_assert!(shorter.len() < table.len());
                prop_assert!(shorter.iter().zip(&table).all(|(a, b)| a == b));
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let unchecked = RawTable::from_checked(&bytes);
        let _ = (unchecked.to_table(), format!("{unchecked:?}"), TableBuf::without(unchecked, "a"));
        if let Ok(raw) = RawTable::parse(&bytes) {
            let written = raw.to_table().encode();
            prop_assert!(written.is_ok() || raw.iter().any(|(name, _)| name.len() > 85));
        }
    }
}
