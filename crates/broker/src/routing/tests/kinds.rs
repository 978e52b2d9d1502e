//! Exchange types beyond the core four: what they refuse, how evenly they spread, what moves when one comes or goes.

use super::table::check;
use crate::request::{Binding, DeclareExchange, Destination};
use crate::routing::hash::StableHash;
use crate::routing::{Resolution, Router};
use millpond_model::properties::{Properties, RawProperties};
use millpond_model::table::{Table, Value};
use millpond_model::{ExchangeName, QueueName, VhostName};
use std::collections::BTreeMap;

#[test]
fn what_a_consistent_hash_exchange_refuses_is_named() {
    check(
        r#"
        queues q                            |
        exchange C x-consistent-hash        | new
        bind C q 1                          | new
        bind C q 1                          | there
        bind C q 0                          | error: invalid binding: the binding key "0" is the weight for an x-consistent-hash exchange, a whole number from 1 to 1000000
        bind C q                            | error: invalid binding: the binding key "" is the weight for an x-consistent-hash exchange, a whole number from 1 to 1000000
        bind C q -1                         | error: invalid binding: the binding key "-1" is the weight for an x-consistent-hash exchange, a whole number from 1 to 1000000
        bind C q orders                     | error: invalid binding: the binding key "orders" is the weight for an x-consistent-hash exchange, a whole number from 1 to 1000000
        bind C q 1000001                    | error: invalid binding: the binding key "1000001" is the weight for an x-consistent-hash exchange, a whole number from 1 to 1000000
        from C                              | C:1:q
        exchange D x-consistent-hash hash-header=h hash-property=message_id | error: invalid arg 'hash-header' for exchange 'D': hash-header and hash-property exclude each other
        exchange D x-consistent-hash hash-property=app_id | error: invalid arg 'hash-property' for exchange 'D': the value 'app_id' of type 'longstr' is none of message_id, correlation_id, timestamp
        exchange D direct hash-property=app_id | new
        "#,
    );
}

#[test]
fn a_consistent_hash_exchange_sends_a_message_to_one_place() {
    check(
        "
        queues p q                          |
        exchange C x-consistent-hash        | new
        route C any                         | (keyed)
        bind C q 1                          | new
        bind C q 2                          | new
        route C any                         | q (keyed)
        route C any CC=more                 | q
        unbind C q 1                        | -C:1:q
        route C any                         | q (keyed)
        unbind C q 2                        | -C:2:q
        route C any                         | (keyed)
        exchange F fanout                   | new
        bind F p                            | new
        bind F q                            | new
        bind C F 1                          | new
        route C any                         | p q (keyed)
        exchange H x-consistent-hash hash-header=user | new
        bind H q 1                          | new
        route H any user=1                  | q
        exchange A x-consistent-hash alternate-exchange=F | new
        route A any                         | p q (keyed)
        ",
    );
}

#[test]
fn an_exchange_of_chance_takes_one_binding_and_is_never_remembered() {
    check(
        "
        queues q                            |
        exchange R x-random                 | new
        route R any                         |
        bind R q any                        | new
        bind R q other                      | new
        route R k                           | q
        exchange L x-local-random           | new
        bind L q                            | new
        route L k                           | q
        bind L q k                          | error: invalid binding: an x-local-random exchange takes no binding key, and 'k' is not empty
        bind L R                            | error: invalid binding: an x-local-random exchange leads to queues only, and 'R' is an exchange
        unbind L q                          | -L::q
        route L k                           |
        exchange M x-modulus-hash           | new
        route M k                           | (keyed)
        bind M q any                        | new
        route M k                           | q (keyed)
        ",
    );
}

#[test]
fn a_history_has_a_length_within_its_limits() {
    check(
        "
        queues p q                                          |
        exchange H x-recent-history                         | new
        bind H p any                                        | new
        bind H q                                            | new
        route H k                                           | p q (keyed)
        exchange J x-recent-history x-recent-history-length=many | error: invalid arg 'x-recent-history-length' for exchange 'J': expected an integer, got a longstr
        exchange J fanout x-recent-history-length=many      | new
        ",
    );
    let mut router = Router::<String>::new(VhostName::new("/").expect("short"));
    for (length, good) in [(0, false), (-1, false), (1, true), (10_000, true), (10_001, false)] {
        let arguments = [("x-recent-history-length", length)].into_iter().collect();
        let name = format!("H{length}");
        let declared = router.declare_exchange(&request(&name, "x-recent-history", arguments));
        assert_eq!(declared.is_ok(), good, "{length}: {declared:?}");
        if good {
            assert_eq!(
                router.exchange(&name).expect("it is there").history_length() as i64,
                i64::from(length)
            );
        }
    }
}

fn request(name: &str, kind: &str, arguments: Table) -> DeclareExchange {
    DeclareExchange {
        name: ExchangeName::new(name).expect("short"),
        kind: kind.into(),
        passive: false,
        durable: false,
        auto_delete: false,
        internal: false,
        arguments,
    }
}

fn binding(queue: &str, key: &str) -> Binding {
    Binding {
        source: ExchangeName::new("X").expect("short"),
        destination: Destination::Queue(QueueName::new(queue).expect("short")),
        key: key.as_bytes().into(),
        arguments: Table::new(),
    }
}

/// A router with exchange X of a kind, and these queues bound to it by these keys.
fn router(kind: &str, arguments: Table, queues: &[(&str, &str)]) -> Router<String> {
    let mut router = Router::new(VhostName::new("/").expect("short"));
    router.declare_exchange(&request("X", kind, arguments)).expect("a good exchange");
    for (queue, key) in queues {
        bind(&mut router, queue, key);
    }
    router
}

fn bind(router: &mut Router<String>, queue: &str, key: &str) {
    router.add_queue(QueueName::new(queue).expect("short"), queue.into());
    router.bind(&binding(queue, key)).expect("a good binding");
}

fn place(router: &Router<String>, key: &str, properties: &Properties) -> String {
    let properties = properties.encode().expect("fits");
    let mut out = Resolution::default();
    let properties = RawProperties::parse(&properties).expect("just encoded");
    router.route(b"X", key.as_bytes(), &properties, &mut out).expect("it is there");
    assert_eq!(out.queues.len(), 1, "one place a message");
    out.queues.remove(0)
}

const KEYS: usize = 60_000;

/// Where each of many keys goes.
fn places(router: &Router<String>) -> Vec<String> {
    (0..KEYS).map(|n| place(router, &format!("order.{n}"), &Properties::default())).collect()
}

/// Shares are within a twentieth of what the weights say; by chance more would not happen in a lifetime.
fn check_shares(places: &[String], weights: &[(&str, u64)]) {
    let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
    places.iter().for_each(|place| *counts.entry(place.as_str()).or_default() += 1.0);
    let sum: u64 = weights.iter().map(|(_, weight)| weight).sum();
    for (queue, weight) in weights {
        let wanted = (places.len() as u64 * weight) as f64 / sum as f64;
        let found = counts.remove(*queue).unwrap_or_default();
        assert!((found / wanted - 1.0).abs() < 0.05, "{queue} got {found}, its share is {wanted}");
    }
    assert!(counts.is_empty(), "{counts:?}");
}

const EVEN: [(&str, &str); 6] = [("a", "1"), ("b", "1"), ("c", "1"), ("d", "1"), ("e", "1"), ("f", "1")];

#[test]
fn keys_are_shared_out_evenly_or_by_weight() {
    let even: Vec<_> = EVEN.iter().map(|(queue, _)| (*queue, 1)).collect();
    for kind in ["x-consistent-hash", "x-modulus-hash", "x-random"] {
        check_shares(&places(&router(kind, Table::new(), &EVEN)), &even);
    }
    let local: Vec<_> = EVEN.iter().map(|(queue, _)| (*queue, "")).collect();
    check_shares(&places(&router("x-local-random", Table::new(), &local)), &even);
    let weighted = router("x-consistent-hash", Table::new(), &[("a", "1"), ("b", "2"), ("c", "3")]);
    check_shares(&places(&weighted), &[("a", 1), ("b", 2), ("c", 3)]);
}

#[test]
fn a_queue_that_comes_takes_its_share_and_nothing_else_moves() {
    for kept in ["1", "7"] {
        let queues: Vec<_> = EVEN.iter().map(|(queue, _)| (*queue, kept)).collect();
        let mut router = router("x-consistent-hash", Table::new(), &queues);
        let before = places(&router);
        bind(&mut router, "new", "7");
        let after = places(&router);
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
        assert!(moved.clone().all(|(_, after)| after == "new"));
        let share = if kept == "7" { KEYS / 7 } else { KEYS * 7 / 13 };
        let moved = moved.count();
        assert!(moved.abs_diff(share) < share / 20, "{moved} moved, {share} is the share");
        router.remove_queue("new").expect("it is there");
        assert_eq!(places(&router), before, "all of it goes back");
    }
}

#[test]
fn the_order_of_bindings_is_no_difference() {
    let mut backwards = EVEN;
    backwards.reverse();
    for kind in ["x-consistent-hash", "x-modulus-hash"] {
        let (one, other) = (router(kind, Table::new(), &EVEN), router(kind, Table::new(), &backwards));
        assert_eq!(places(&one), places(&other), "{kind}");
    }
}

#[test]
fn weights_of_one_queue_add_up() {
    let mut router = router("x-consistent-hash", Table::new(), &[("a", "1"), ("b", "3")]);
    router.bind(&binding("a", "2")).expect("a good binding");
    check_shares(&places(&router), &[("a", 1), ("b", 1)]);
    router.unbind(&binding("a", "2")).expect("a good binding");
    check_shares(&places(&router), &[("a", 1), ("b", 3)]);
}

#[test]
fn a_header_or_property_decides_where_it_is_asked_for() {
    let by =
        |name: &str, value: &str| router("x-consistent-hash", [(name, value)].into_iter().collect(), &EVEN);
    let header = |value: Value| Properties {
        headers: [("user", value)].into_iter().collect(),
        ..Properties::default()
    };
    let with_header = by("hash-header", "user");
    let with_id = by("hash-property", "message_id");
    let with_correlation = by("hash-property", "correlation_id");
    let with_time = by("hash-property", "timestamp");
    let with_key = router("x-consistent-hash", Table::new(), &EVEN);
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..200u32 {
        let (text, any_key) = (n.to_string(), format!("k{n}"));
        let wanted = place(&with_key, &text, &Properties::default());
        for value in
            [Value::from(text.as_str()), Value::U32(n), Value::I64(n.into()), Value::Timestamp(n.into())]
        {
            assert_eq!(place(&with_header, &any_key, &header(value)), wanted);
        }
        let id = Properties { message_id: Some(text.as_str().into()), ..Properties::default() };
        assert_eq!(place(&with_id, &any_key, &id), wanted);
        let correlation = Properties { correlation_id: Some(text.as_str().into()), ..Properties::default() };
        assert_eq!(place(&with_correlation, &any_key, &correlation), wanted);
        let time = Properties { timestamp: Some(n.into()), ..Properties::default() };
        assert_eq!(place(&with_time, &any_key, &time), wanted);
        seen.insert(wanted);
    }
    assert_eq!(seen.len(), EVEN.len());
    let missing = place(&with_header, "x", &Properties::default());
    assert_eq!(
        missing,
        place(&with_key, "", &Properties::default()),
        "what has no such header has one place"
    );
}

#[test]
fn the_hash_is_the_one_that_is_written_down() {
    for (text, wanted) in
        [("", 0xefd0_1f60_ba99_2926), ("a", 0x82a2_a958_a9be_ce5b), ("order.4711", 0x2797_a5f2_0969_8a4c)]
    {
        let mut hash = StableHash::new();
        hash.push(text.as_bytes());
        assert_eq!(hash.finish(), wanted, "{text}");
    }
}
