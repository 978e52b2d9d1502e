//! Bindings of events exchanges: left what the binding asks, in the middle the message, right whether it matches.

use crate::request::{Binding, DeclareExchange, Destination};
use crate::routing::events::Wanted;
use crate::routing::events_index::EventsIndex;
use crate::routing::targets::Target;
use crate::routing::{BindingSlot, Resolution, Router, View};
use millpond_model::properties::{Properties, RawProperties};
use millpond_model::table::{Table, Value};
use millpond_model::{ExchangeName, QueueName, VhostName};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// `pre*` is a beginning, `*post` an end, `pre*post` both, `#7` a number, anything else text; `a|b` a list.
fn asked_value(text: &str) -> Value {
    if text.contains('|') {
        return Value::Array(text.split('|').map(asked_value).collect());
    }
    let table = |parts: &[(&str, &str)]| Value::Table(parts.iter().copied().collect());
    match text.split_once('*') {
        Some((prefix, "")) => table(&[("prefix", prefix)]),
        Some(("", suffix)) => table(&[("suffix", suffix)]),
        Some((prefix, suffix)) => table(&[("prefix", prefix), ("suffix", suffix)]),
        None => {
            text.strip_prefix('#').map_or_else(|| text.into(), |n| Value::I32(n.parse().expect("a number")))
        }
    }
}

fn asked(text: &str) -> Table {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let entries = entries.map(|entry| entry.split_once('=').expect("name=value"));
    entries.map(|(name, value)| (name, asked_value(value))).collect()
}

/// `type.=x` is the property, `id.=x` the message id, `content.=x` the content type; other names are headers
/// `cloudEvents:NAME`, `_NAME` the other spelling, `=name` a header as it is.
fn message(text: &str) -> Vec<u8> {
    let mut properties = Properties::default();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (name, value) = entry.rsplit_once('=').expect("name=value");
        let value = match value {
            "-" => Value::Void,
            "true" => Value::Bool(true),
            _ => value.parse().map_or_else(|_| Value::from(value), Value::I64),
        };
        match name {
            "type." => properties.type_ = value.as_str().map(Into::into),
            "id." => properties.message_id = value.as_str().map(Into::into),
            "content." => properties.content_type = value.as_str().map(Into::into),
            _ => match (name.strip_prefix('_'), name.strip_prefix('=')) {
                (Some(name), _) => properties.headers.push(format!("cloudEvents_{name}"), value),
                (_, Some(name)) => properties.headers.push(name, value),
                _ => properties.headers.push(format!("cloudEvents:{name}"), value),
            },
        }
    }
    properties.encode().expect("fits")
}

/// What a message that was published to `bus` by the routing key `key` looks like to a binding.
fn with_view<T>(encoded: &[u8], vhost: &str, work: impl FnOnce(&View<'_>) -> T) -> T {
    let properties = RawProperties::parse(encoded).expect("just encoded");
    let headers = properties.headers().unwrap_or_default();
    work(&View { properties: &properties, headers, exchange: b"bus", routing_key: b"key", vhost })
}

fn check(rows: &str) {
    for row in rows.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let [asks, says, answer] = row.split(';').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("three columns: {row}")
        };
        let wanted = Wanted::parse(b"", &asked(asks)).expect("a good binding");
        let accepted = with_view(&message(says), "/", |view| wanted.accepts(view));
        assert_eq!(if accepted { "yes" } else { "no" }, answer, "{row}");
    }
}

#[test]
fn attributes_are_compared_as_exact_texts_beginnings_ends_and_lists() {
    check(
        "
        type=order.created              ; type=order.created            ; yes
        type=order.created              ; type=order.created2           ; no
        type=order.created              ; type=Order.created            ; no
        type=order.*                    ; type=order.created            ; yes
        type=order.*                    ; type=orders                   ; no
        type=*.created                  ; type=order.created            ; yes
        type=*.created                  ; type=order.deleted            ; no
        type=order.*.created            ; type=order.eu.created         ; yes
        type=order.*.created            ; type=order.created            ; yes
        type=a|b|c*                     ; type=b                        ; yes
        type=a|b|c*                     ; type=cd                       ; yes
        type=a|b|c*                     ; type=d                        ; no
        type=a, subject=b               ; type=a, subject=b             ; yes
        type=a, subject=b               ; type=a, subject=c             ; no
        type=a, subject=b               ; subject=b                     ; no
                                        ; type=any                      ; yes
        tenant=*                        ; tenant=x                      ; yes
        tenant=*                        ; type=x                        ; no
        ",
    );
}

#[test]
fn an_attribute_is_what_a_rule_sees_of_it() {
    check(
        "
        type=key                        ;                               ; yes
        type=property                   ; type.=property                ; yes
        type=key                        ; type.=property                ; no
        type=header                     ; type.=property, type=header   ; yes
        type=property                   ; type.=property, type=header   ; no
        type=first                      ; type=first, _type=second      ; yes
        type=second                     ; type=first, _type=second      ; no
        type=other                      ; _type=other                   ; yes
        type=x                          ; =type=x                       ; no
        type=                           ; type=                         ; yes
        type=key                        ; type=-                        ; no
        subject=key                     ;                               ; yes
        subject=s                       ; subject=s                     ; yes
        source=/bus                     ;                               ; yes
        source=/shop                    ; source=/shop                  ; yes
        source=/bus                     ; source=/shop                  ; no
        id=m1                           ; id.=m1                        ; yes
        id=e1                           ; id.=m1, id=e1                 ; yes
        id=*                            ;                               ; no
        datacontenttype=text/*          ; content.=text/csv             ; yes
        specversion=1.0                 ;                               ; yes
        time=*                          ;                               ; no
        version=#7                      ; version=7                     ; yes
        version=7                       ; version=7                     ; yes
        urgent=true                     ; urgent=true                   ; yes
        ",
    );
    let wanted = Wanted::parse(b"", &asked("source=/shop/bus")).expect("a good binding");
    assert!(with_view(&message(""), "shop", |view| wanted.accepts(view)));
}

#[test]
fn a_key_is_an_exact_type() {
    let wanted = Wanted::parse(b"order.created", &asked("subject=s")).expect("a good binding");
    for (says, answer) in
        [("type=order.created, subject=s", true), ("type=order.created", false), ("subject=s", false)]
    {
        assert_eq!(with_view(&message(says), "/", |view| wanted.accepts(view)), answer, "{says}");
    }
}

#[test]
fn a_binding_that_cannot_match_is_refused_with_its_reason() {
    let number = |value: Value| Table::from_iter([("type", value)]);
    let long = Value::from("x".repeat(1025).as_str());
    let many = Value::Array((0..1025).map(|n| Value::from(n.to_string().as_str())).collect());
    let expected = "expected a text, a table with 'prefix' or 'suffix', or a list of these";
    for (key, arguments, reason) in [
        ("order.#", Table::new(), "knows no wildcards: leave it empty for every event"),
        ("order.*", Table::new(), "or use the argument type with a table {prefix: ...}"),
        (
            "",
            asked("x-match=all"),
            "the argument 'x-match' is no attribute of an event: expected lower-case letters",
        ),
        ("", asked("Type=a"), "the argument 'Type' is no attribute of an event"),
        ("", asked("data=a"), "the argument 'data' is no attribute of an event"),
        ("", number(Value::F64(1.5)), &format!("the argument 'type' is a double: {expected}")),
        ("", number(Value::Void), "the argument 'type' is a void"),
        ("", number(Value::Array(vec![])), "the argument 'type' is an empty list, which no event matches"),
        ("", number(Value::Array(vec![Value::Array(vec![])])), "the argument 'type' is a array"),
        ("", number(Value::Table(Table::new())), "the argument 'type' is an empty table"),
        ("", number(Value::Table(asked("prefx=a"))), "the argument 'type' has the unknown key 'prefx'"),
        ("", number(Value::Table(asked("prefix=a|b"))), "'prefix' of the argument 'type' is a array"),
        ("", number(long), "the argument 'type' has 1025 bytes, and at most 1024 may be"),
        ("", number(many), "1025 texts are listed, and at most 1024 may be"),
        (
            "",
            (0..17).map(|n| (format!("a{n}"), "x")).collect(),
            "17 attributes are asked for, and at most 16 may be",
        ),
    ] {
        let error = Wanted::parse(key.as_bytes(), &arguments).expect_err(reason);
        assert!(error.contains(reason), "{error}\n{reason}");
    }
}

fn some_value(random: &mut StdRng) -> String {
    (0..random.random_range(0..4)).map(|_| *["a", "b", "."].choose(random).expect("some")).collect()
}

fn some_pattern(random: &mut StdRng) -> String {
    match random.random_range(0..6) {
        0 | 1 => some_value(random),
        2 => format!("{}*", some_value(random)),
        3 => format!("*{}", some_value(random)),
        4 => format!("{}*{}", some_value(random), some_value(random)),
        _ => format!("{}|{}", some_value(random), some_value(random)),
    }
}

fn some_table(random: &mut StdRng, most: usize, value: fn(&mut StdRng) -> String) -> String {
    let names = ["type", "subject", "source", "tenant", "region"];
    let some = (0..random.random_range(0..=most)).map(|_| {
        let name = *names.choose(random).expect("some");
        format!("{name}={}", value(random))
    });
    some.collect::<Vec<_>>().join(",")
}

fn slot_of(number: u32, arguments: &Table) -> BindingSlot {
    let queue = QueueName::new(&format!("q{number}")).expect("short");
    let arguments = arguments.encode().expect("fits").into_bytes().into();
    BindingSlot { destination: Destination::Queue(queue), key: Box::default(), arguments }
}

#[test]
fn the_index_finds_what_asking_each_binding_does() {
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut index = EventsIndex::default();
        let mut all: Vec<(Table, u32)> = Vec::new();
        for step in 0..400u32 {
            if random.random_bool(0.6) || all.is_empty() {
                let arguments = asked(&some_table(&mut random, 3, some_pattern));
                // Some queues are bound more than once.
                let target = if random.random_bool(0.2) { step / 2 } else { step };
                let wanted = Wanted::parse(b"", &arguments).expect("a good binding");
                if !all.contains(&(arguments.clone(), target)) {
                    index.add(&slot_of(target, &arguments), wanted, Target::Queue(target));
                    all.push((arguments, target));
                }
            } else {
                let (arguments, target) = all.swap_remove(random.random_range(0..all.len()));
                index.remove(&slot_of(target, &arguments), &Target::Queue(target));
            }
            let encoded = message(&some_table(&mut random, 4, some_value));
            let (mut found, mut wanted) = (Vec::new(), Vec::new());
            with_view(&encoded, "/", |view| {
                index.find(view, &mut |target| found.push(target.clone()));
                for (arguments, target) in &all {
                    if Wanted::parse(b"", arguments).expect("good").accepts(view) {
                        wanted.push(Target::Queue(*target));
                    }
                }
            });
            for list in [&mut found, &mut wanted] {
                list.sort_by_key(|target| format!("{target:?}"));
                list.dedup();
            }
            assert_eq!(found, wanted, "seed {seed}, step {step}");
            assert_eq!(index.takes_all(), all.iter().all(|(arguments, _)| arguments.is_empty()));
        }
        for (arguments, target) in all.drain(..) {
            index.remove(&slot_of(target, &arguments), &Target::Queue(target));
        }
        assert_eq!(index.place_count(), 0, "nothing is left behind");
    }
}

fn bus() -> Router<u32> {
    let mut router = Router::new(VhostName::new("/").expect("short"));
    let request = DeclareExchange {
        name: ExchangeName::new("bus").expect("short"),
        kind: "x-events".into(),
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Table::new(),
    };
    assert!(router.declare_exchange(&request).expect("a good declaration"));
    router
}

fn bind(router: &mut Router<u32>, number: u32, arguments: Table) {
    let queue = QueueName::new(&format!("q{number}")).expect("short");
    router.add_queue(queue.clone(), number);
    let source = ExchangeName::new("bus").expect("short");
    let binding = Binding { source, destination: Destination::Queue(queue), key: Box::default(), arguments };
    assert!(router.bind(&binding).expect("a good binding"));
}

fn queues(router: &Router<u32>, says: &str) -> (Vec<u32>, bool) {
    let encoded = message(says);
    let properties = RawProperties::parse(&encoded).expect("just encoded");
    let mut out = Resolution::default();
    router.route(b"bus", b"key", &properties, &mut out).expect("the exchange is there");
    out.queues.sort_unstable();
    (out.queues, out.keyed_only)
}

#[test]
fn a_route_is_remembered_only_while_every_binding_takes_everything() {
    let mut router = bus();
    assert_eq!(queues(&router, ""), (vec![], true));
    bind(&mut router, 0, Table::new());
    assert_eq!(queues(&router, "type=a"), (vec![0], true));
    bind(&mut router, 1, asked("type=a"));
    assert_eq!(queues(&router, "type=a"), (vec![0, 1], false));
    assert_eq!(queues(&router, "type=b"), (vec![0], false));
}
