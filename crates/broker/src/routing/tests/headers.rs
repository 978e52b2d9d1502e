//! Header bindings: left what the binding asks, right the message's headers and whether it matches.

use crate::request::Destination;
use crate::routing::BindingSlot;
use crate::routing::headers::Criteria;
use crate::routing::headers_index::HeadersIndex;
use crate::routing::targets::Target;
use millpond_model::QueueName;
use millpond_model::properties::{Properties, RawProperties};
use millpond_model::table::{Table, Value};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// `name=value` entries between commas: a number is a 64-bit integer, `3i32` or `7u8` other widths, `1.5` and
/// `1.5f32` floats, `true` a bool, `@5` a timestamp, `-` a void, `x'ab'` bytes, `[]` an array, anything else text.
fn table(text: &str) -> Table {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| entry.split_once('=').expect("name=value"))
        .map(|(name, v)| (name, value(v)))
        .collect()
}

fn value(text: &str) -> Value {
    let number = |suffix: &str| text.strip_suffix(suffix).and_then(|v| v.parse::<i64>().ok());
    if let Ok(v) = text.parse::<i64>() {
        return Value::I64(v);
    }
    if let Some(v) = number("i32") {
        return Value::I32(v as i32);
    }
    if let Some(v) = number("u8") {
        return Value::U8(v as u8);
    }
    if let Some(v) = text.strip_suffix("f32").and_then(|v| v.parse().ok()) {
        return Value::F32(v);
    }
    match text {
        "-" => Value::Void,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "[]" => Value::Array(vec![Value::I32(1)]),
        _ if text.starts_with('@') => Value::Timestamp(text[1..].parse().expect("seconds")),
        _ if text.starts_with("x'") => Value::Bytes(text.as_bytes()[2..text.len() - 1].into()),
        _ => text.parse().map_or_else(|_| Value::from(text), Value::F64),
    }
}

fn check(rows: &str) {
    for row in rows.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let [asked, headers, wanted] = row.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("three columns: {row}")
        };
        let criteria = Criteria::parse(&table(asked)).expect("a good binding");
        let encoded = Properties { headers: table(headers), ..Properties::default() }.encode().expect("fits");
        let raw = RawProperties::parse(&encoded).expect("just encoded");
        let accepted = criteria.accept(raw.headers().unwrap_or_default());
        assert_eq!(accepted, wanted == "yes", "{row}");
    }
}

#[test]
fn all_wants_every_one_and_any_wants_one() {
    check(
        "
        x-match=all, a=1, b=2   | a=1, b=2, c=3     | yes
        x-match=all, a=1, b=2   | a=1               | no
        x-match=all, a=1, b=2   | a=1, b=3          | no
        x-match=any, a=1, b=2   | b=2               | yes
        x-match=any, a=1, b=2   | a=2, b=1          | no
        x-match=any, a=1, b=2   |                   | no
        a=1, b=2                | b=2, a=1          | yes
        a=1, b=2                | a=1               | no
        ",
    );
}

#[test]
fn without_criteria_all_takes_everything_and_any_nothing() {
    check(
        "
                                |                   | yes
                                | a=1               | yes
        x-match=all             | a=1               | yes
        x-match=any             | a=1               | no
        x-match=any-with-x      | x-match=any-with-x| no
        ",
    );
}

#[test]
fn x_names_count_only_with_x() {
    check(
        "
        x-match=all, x-a=1          | b=1           | yes
        x-match=any, x-a=1          | x-a=1         | no
        x-match=all-with-x, x-a=1   | b=1           | no
        x-match=all-with-x, x-a=1   | x-a=1         | yes
        x-match=any-with-x, x-a=1,b=2 | x-a=1       | yes
        x-match=any-with-x, x-a=1   | b=1           | no
        ",
    );
}

#[test]
fn a_void_asks_for_presence() {
    check(
        "
        a=-     | a=1   | yes
        a=-     | a=-   | yes
        a=-     | b=1   | no
        a=1     | a=-   | no
        ",
    );
}

#[test]
fn values_compare_and_types_do_not() {
    check(
        "
        a=1         | a=1i32        | yes
        a=1u8       | a=1           | yes
        a=-1i32     | a=-1          | yes
        a=@5        | a=5           | yes
        a=5         | a=@5          | yes
        a=5         | a=@6          | no
        a=1.5       | a=1.5f32      | yes
        a=1.5f32    | a=1.5         | yes
        a=1         | a=1.0         | no
        a=1         | a=one         | no
        a=one       | a=one         | yes
        a=one       | a=x'one'      | yes
        a=one       | a=One         | no
        a=true      | a=true        | yes
        a=true      | a=false       | no
        a=true      | a=1           | no
        a=[]        | a=[]          | yes
        a=[]        | a=1           | no
        ",
    );
}

#[test]
fn a_bad_x_match_is_named() {
    for (arguments, part) in [
        ("x-match=some", "Invalid x-match field value \"some\""),
        ("x-match=5", "Invalid x-match field type long"),
        ("x-match=true", "Invalid x-match field type bool"),
        ("x-match=-", "Invalid x-match field type void"),
    ] {
        let error = Criteria::parse(&table(arguments)).expect_err("a bad x-match");
        assert!(error.starts_with(part), "{error}");
    }
}

fn some_table(random: &mut StdRng, most: usize) -> String {
    let values = [
        "1", "1i32", "2u8", "-1", "1.5", "1.5f32", "0.0", "-0.0", "true", "false", "one", "x'one'", "@1",
        "-", "[]",
    ];
    let entries = (0..random.random_range(0..=most)).map(|_| {
        let name = ["a", "b", "c", "x-d"].choose(random).expect("some");
        format!("{name}={}", values.choose(random).expect("some"))
    });
    entries.collect::<Vec<_>>().join(", ")
}

#[test]
fn the_index_finds_what_asking_each_binding_does() {
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut index = HeadersIndex::default();
        let mut all: Vec<(BindingSlot, Table, u32)> = Vec::new();
        for step in 0..400u32 {
            if random.random_bool(0.6) || all.is_empty() {
                let kind = ["all", "any", "all-with-x", "any-with-x"].choose(&mut random).expect("some");
                let mut arguments = table(&some_table(&mut random, 3));
                arguments.push("x-match", *kind);
                let queue = QueueName::new(&format!("q{step}")).expect("short");
                let slot = BindingSlot {
                    destination: Destination::Queue(queue),
                    key: Box::default(),
                    arguments: arguments.encode().expect("fits").into_bytes().into(),
                };
                let criteria = Criteria::parse(&arguments).expect("a good binding");
                index.add(&slot, criteria, Target::Queue(step));
                all.push((slot, arguments, step));
            } else {
                let (slot, _, target) = all.swap_remove(random.random_range(0..all.len()));
                index.remove(&slot, &Target::Queue(target));
            }
            let headers = table(&some_table(&mut random, 4));
            let encoded = Properties { headers, ..Properties::default() }.encode().expect("fits");
            let raw = RawProperties::parse(&encoded).expect("just encoded").headers().unwrap_or_default();
            let mut found = Vec::new();
            index.find(raw, &mut |target| found.push(target.clone()));
            found.sort_by_key(|target| format!("{target:?}"));
            found.dedup();
            let accepts = |arguments: &Table| Criteria::parse(arguments).expect("good").accept(raw);
            let mut wanted: Vec<_> =
                all.iter().filter(|it| accepts(&it.1)).map(|it| Target::Queue(it.2)).collect();
            wanted.sort_by_key(|target| format!("{target:?}"));
            assert_eq!(found, wanted, "seed {seed}, step {step}");
        }
        for (slot, _, target) in all.drain(..) {
            index.remove(&slot, &Target::Queue(target));
        }
        assert_eq!(index.place_count(), 0, "nothing is left behind");
    }
}
