//! Left the command, right the answer. Queues are lower case, exchanges upper case; `X:k:q` is a binding from X to q
//! with key k, `-` before a thing says that it went. A route ends in `(keyed)` if its answer may be kept.

use crate::request::{Binding, DeclareExchange, Destination};
use crate::routing::{Removed, Resolution, Router};
use millpond_model::properties::{Properties, RawProperties};
use millpond_model::table::{Table, Value};
use millpond_model::{ExchangeName, QueueName, VhostName};

fn exchange_name(text: &str) -> ExchangeName {
    ExchangeName::new(if text == "default" { "" } else { text }).expect("short")
}

fn destination(text: &str) -> Destination {
    if text == "default" || text.starts_with("amq.fanout") || text.starts_with(char::is_uppercase) {
        Destination::Exchange(exchange_name(text))
    } else {
        Destination::Queue(QueueName::new(text).expect("short"))
    }
}

fn arguments(words: &[&str]) -> Table {
    words.iter().filter_map(|word| word.split_once('=')).collect()
}

fn binding(words: &[&str]) -> Binding {
    let key = words.get(2).filter(|key| !key.contains('=')).copied().unwrap_or_default();
    Binding {
        source: exchange_name(words[0]),
        destination: destination(words[1]),
        key: key.as_bytes().into(),
        arguments: arguments(words),
    }
}

fn show_binding(binding: &Binding) -> String {
    let to = match &binding.destination {
        Destination::Queue(name) => name.as_str(),
        Destination::Exchange(name) => name.as_str(),
    };
    format!("{}:{}:{to}", binding.source, String::from_utf8_lossy(&binding.key))
}

fn show_removed(removed: &Removed) -> String {
    let mut bindings: Vec<_> = removed.bindings.iter().map(|b| format!("-{}", show_binding(b))).collect();
    bindings.sort();
    bindings.extend(removed.exchanges.iter().map(|(name, _)| format!("-{name}")));
    bindings.join(" ")
}

fn said<T>(answer: Result<T, impl std::fmt::Display>, good: impl FnOnce(T) -> String) -> String {
    answer.map_or_else(|error| format!("error: {error}"), good)
}

fn new_or_there(new: bool) -> String {
    if new { "new" } else { "there" }.into()
}

fn route(router: &Router<String>, words: &[&str]) -> String {
    let (exchange, key) = (words[0], words.get(1).filter(|key| !key.contains('=')).copied());
    let mut headers = Table::new();
    for (name, value) in words.iter().filter_map(|word| word.split_once('=')) {
        match (name, value) {
            ("CC" | "BCC", "5") => headers.push(name, 5),
            ("CC" | "BCC", "[5]") => headers.push(name, vec![Value::I32(5)]),
            ("CC" | "BCC", _) => headers.push(name, value.split('+').map(Value::from).collect::<Vec<_>>()),
            _ => headers.push(name, value),
        }
    }
    let properties = Properties { headers, ..Properties::default() }.encode().expect("fits");
    let properties = RawProperties::parse(&properties).expect("just encoded");
    let mut out = Resolution { queues: vec!["left from before".to_string()], ..Resolution::default() };
    let exchange = if exchange == "default" { "" } else { exchange };
    let answer = router.route(exchange.as_bytes(), key.unwrap_or_default().as_bytes(), &properties, &mut out);
    said(answer, |()| {
        out.queues.sort();
        out.queues.extend(out.alternate_missing.map(|name| format!("(no {name})")));
        out.queues.extend(out.keyed_only.then(|| "(keyed)".to_string()));
        out.queues.join(" ")
    })
}

fn command(router: &mut Router<String>, words: &[&str]) -> String {
    match words {
        ["exchange", name, kind, rest @ ..] => {
            let request = DeclareExchange {
                name: exchange_name(name),
                kind: (*kind).into(),
                passive: rest.contains(&"passive"),
                durable: rest.contains(&"durable"),
                auto_delete: rest.contains(&"auto-delete"),
                internal: rest.contains(&"internal"),
                arguments: arguments(rest),
            };
            said(router.declare_exchange(&request), new_or_there)
        }
        ["queues", names @ ..] => {
            for name in names {
                router.add_queue(QueueName::new(name).expect("short"), (*name).into());
            }
            String::new()
        }
        ["bind", rest @ ..] => said(router.bind(&binding(rest)), new_or_there),
        ["unbind", rest @ ..] => said(router.unbind(&binding(rest)), |removed| show_removed(&removed)),
        ["delete", "queue", name] => match router.remove_queue(name) {
            Some((handle, removed)) => {
                assert_eq!(handle, *name);
                show_removed(&removed)
            }
            None => "none".into(),
        },
        ["delete", name, rest @ ..] => {
            let removed = router.delete_exchange(&exchange_name(name), rest.contains(&"if-unused"));
            said(removed, |removed| show_removed(&removed))
        }
        ["route", rest @ ..] => route(router, rest),
        ["from", name] => router.bindings_from(name).iter().map(show_binding).collect::<Vec<_>>().join(" "),
        ["to", name] => {
            let bindings = router.bindings_to(&destination(name));
            bindings.iter().map(show_binding).collect::<Vec<_>>().join(" ")
        }
        ["exchanges"] => {
            let mut names: Vec<_> = router.exchanges().map(|(name, _)| name.to_string()).collect();
            names.sort();
            names.join(" ")
        }
        other => panic!("no such command: {other:?}"),
    }
}

pub(super) fn check(table: &str) {
    let mut router = Router::new(VhostName::new("/").expect("short"));
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (left, wanted) = line.split_once('|').unwrap_or((line, ""));
        let words: Vec<&str> = left.split_whitespace().collect();
        assert_eq!(command(&mut router, &words), wanted.trim(), "answer to `{}` in:{table}", left.trim());
        super::history::check_insides(&router);
    }
}

#[test]
fn each_kind_routes_its_way() {
    check(
        "
        queues p q r            |
        exchange D direct       | new
        bind D p k              | new
        bind D q k              | new
        bind D r other          | new
        route D k               | p q (keyed)
        route D none            | (keyed)
        exchange F fanout       | new
        bind F p                | new
        bind F r x              | new
        route F anything        | p r (keyed)
        exchange T topic        | new
        bind T p a.*            | new
        bind T q #.b            | new
        bind T r a.b            | new
        route T a.b             | p q r (keyed)
        route T a.c             | p (keyed)
        exchange H headers      | new
        bind H p type=order     | new
        bind H q type=order region=eu x-match=any | new
        route H k type=order    | p q
        route H k region=eu     | q
        route H k               |
        ",
    );
}

#[test]
fn the_default_exchange_knows_every_queue_by_name() {
    check(
        "
        queues p q              |
        route default p         | p (keyed)
        route default none      | (keyed)
        delete queue p          |
        route default p         | (keyed)
        delete queue p          | none
        bind default q q        | error: operation not permitted on the default exchange
        unbind default q q      | error: operation not permitted on the default exchange
        delete default          | error: operation not permitted on the default exchange
        exchange default direct | error: operation not permitted on the default exchange
        exchange default direct passive | error: operation not permitted on the default exchange
        ",
    );
}

#[test]
fn publishing_to_a_missing_or_internal_exchange_is_refused() {
    check(
        "
        route X k                       | error: no exchange 'X' in vhost '/'
        exchange X fanout internal      | new
        route X k                       | error: cannot publish to internal exchange 'X' in vhost '/'
        queues q                        |
        exchange Y fanout               | new
        bind Y X                        | new
        bind X q                        | new
        route Y k                       | q (keyed)
        ",
    );
}

#[test]
fn cc_and_bcc_add_routing_keys() {
    check(
        "
        queues p q r            |
        exchange D direct       | new
        bind D p a              | new
        bind D q b              | new
        bind D r c              | new
        route D a CC=b          | p q
        route D a CC=b BCC=c+b  | p q r
        route D x BCC=c         | r
        route default p CC=q    | p q
        route D a CC=5          | error: invalid CC: expected an array of routing keys, got a signedint
        route D a BCC=[5]       | error: invalid BCC: expected an array of long strings, got a signedint
        route D a other=5       | p (keyed)
        ",
    );
}

#[test]
fn a_message_reaches_a_queue_once() {
    check(
        "
        queues q                |
        exchange T topic        | new
        bind T q a.#            | new
        bind T q #.b            | new
        bind T q a.b            | new
        bind T q a.b            | there
        bind T q a.b x=1        | new
        bind T q a.b x=1        | there
        bind T q a.b x=1 y=2    | new
        bind T q a.b y=2 x=1    | there
        route T a.b             | q (keyed)
        unbind T q a.b          | -T:a.b:q
        unbind T q a.b          |
        route T a.b             | q (keyed)
        from T                  | T:#.b:q T:a.#:q T:a.b:q T:a.b:q
        ",
    );
}

#[test]
fn bindings_that_differ_in_arguments_go_one_by_one() {
    check(
        "
        queues q                |
        exchange D direct       | new
        bind D q k              | new
        bind D q k x=1          | new
        unbind D q k            | -D:k:q
        route D k               | q (keyed)
        unbind D q k x=1        | -D:k:q
        route D k               | (keyed)
        exchange H headers      | new
        bind H q k a=1          | new
        bind H q l a=1          | new
        unbind H q k a=1        | -H:k:q
        route H any a=1         | q
        unbind H q l a=2        |
        unbind H q l a=1        | -H:l:q
        route H any a=1         |
        ",
    );
}

#[test]
fn bad_bindings_leave_nothing_behind() {
    check(
        "
        queues q                |
        bind X q k              | error: no exchange 'X' in vhost '/'
        unbind X q k            |
        exchange T topic        | new
        exchange H headers      | new
        bind T none k           | error: no queue 'none' in vhost '/'
        bind T Y k              | error: no exchange 'Y' in vhost '/'
        unbind T none k         |
        bind T q #.#            | new
        bind T q #.a.#.b.#      | error: invalid binding: the binding key \"#.a.#.b.#\" has 3 words `#`, and at most 2 may be in one
        bind H q x-match=most   | error: invalid binding: Invalid x-match field value \"most\"; expected all, any, all-with-x, or any-with-x
        bind T default          | error: operation not permitted on the default exchange
        bind T amq.rabbitmq.reply-to      | error: operation not permitted on 'amq.rabbitmq.reply-to'
        bind T amq.rabbitmq.reply-to.g1h2 | error: operation not permitted on 'amq.rabbitmq.reply-to.g1h2'
        from T                  | T:#.#:q
        from H                  |
        to q                    | T:#.#:q
        ",
    );
}

#[test]
fn exchanges_are_declared_once_and_alike() {
    check(
        "
        exchange X direct passive           | error: no exchange 'X' in vhost '/'
        exchange X direct durable           | new
        exchange X direct durable           | there
        exchange X nonsense passive         | there
        exchange X direct durable unknown=1 | there
        exchange X fanout durable           | error: inequivalent arg 'type' for exchange 'X' in vhost '/': received 'fanout' but current is 'direct'
        exchange X direct                   | error: inequivalent arg 'durable' for exchange 'X' in vhost '/': received 'false' but current is 'true'
        exchange X direct durable auto-delete | error: inequivalent arg 'auto_delete' for exchange 'X' in vhost '/': received 'true' but current is 'false'
        exchange X direct durable internal  | error: inequivalent arg 'internal' for exchange 'X' in vhost '/': received 'true' but current is 'false'
        exchange X direct durable alternate-exchange=Y | error: inequivalent arg 'alternate-exchange' for exchange 'X' in vhost '/': received the value 'Y' of type 'longstr' but current is none
        exchange X nonsense                 | error: unknown exchange type 'nonsense': use direct, fanout, topic, headers, x-events, x-consistent-hash, x-modulus-hash, x-random, x-local-random, x-recent-history or x-delayed-message
        exchange amq.mine direct            | error: exchange name 'amq.mine' contains reserved prefix 'amq.*'
        exchange amq.mine direct passive    | error: no exchange 'amq.mine' in vhost '/'
        ",
    );
}

#[test]
fn exchanges_are_deleted_with_their_bindings_on_both_sides() {
    check(
        "
        queues q                    |
        exchange X fanout           | new
        exchange Y fanout           | new
        exchange Z fanout           | new
        bind X Y                    | new
        bind Y Z                    | new
        bind Y q a                  | new
        bind Y q b                  | new
        delete Y if-unused          | error: exchange 'Y' in vhost '/' in use
        delete Y                    | -X::Y -Y::Z -Y:a:q -Y:b:q -Y
        delete Y                    |
        delete Z if-unused          | -Z
        exchanges                   | X
        to q                        |
        delete amq.fanout           | error: exchange 'amq.fanout' in vhost '/' is built in and cannot be deleted
        ",
    );
}

#[test]
fn exchanges_pass_on_and_cycles_end() {
    check(
        "
        queues p q r                |
        exchange X direct           | new
        exchange Y topic            | new
        exchange Z fanout           | new
        bind X Y a.b                | new
        bind X p a.b                | new
        bind Y Z a.*                | new
        bind Y q a.*                | new
        bind Z X                    | new
        bind Z r                    | new
        bind Z Z                    | new
        bind Z q                    | new
        route X a.b                 | p q r (keyed)
        route Z a.b                 | p q r (keyed)
        route Z x                   | q r (keyed)
        route X x                   | (keyed)
        exchange H headers          | new
        bind Z H                    | new
        bind H p x-match=any n=1    | new
        route Z x n=1               | p q r
        route X x n=1               | (keyed)
        delete Z                    | -Y:a.*:Z -Z::H -Z::X -Z::Z -Z::q -Z::r -Z
        route X a.b                 | p q (keyed)
        ",
    );
}

#[test]
fn an_alternate_exchange_takes_what_nothing_else_does() {
    check(
        "
        queues p q r                            |
        exchange X direct alternate-exchange=Y  | new
        route X k                               | (no Y) (keyed)
        exchange Y topic alternate-exchange=Z   | new
        exchange Z fanout alternate-exchange=X  | new
        bind X p k                              | new
        bind Y q a.#                            | new
        route X k                               | p (keyed)
        route X a.b                             | q (keyed)
        route X none                            | (keyed)
        bind Z r                                | new
        route X none                            | r (keyed)
        route X none CC=k                       | p
        unbind Z r                              | -Z::r
        bind Z Y                                | new
        route Z a                               | q (keyed)
        route Z b                               | (keyed)
        exchange E direct alternate-exchange=   | new
        route E p                               | p (keyed)
        ",
    );
}

#[test]
fn an_alternate_exchange_serves_bound_exchanges_too() {
    check(
        "
        queues q                                |
        exchange X fanout                       | new
        exchange Y direct alternate-exchange=Z  | new
        exchange Z fanout internal              | new
        bind X Y                                | new
        bind Z q                                | new
        route X k                               | q (keyed)
        ",
    );
}

#[test]
fn auto_delete_exchanges_go_with_their_last_outgoing_binding() {
    check(
        "
        queues q r                      |
        exchange X fanout auto-delete   | new
        exchange Y fanout               | new
        bind Y X                        | new
        unbind Y X                      | -Y::X
        bind X q a                      | new
        bind X r                        | new
        unbind X q a                    | -X:a:q
        bind Y X                        | new
        unbind X r                      | -X::r -Y::X -X
        exchanges                       | Y
        ",
    );
}

#[test]
fn auto_delete_cascades_upstream() {
    check(
        "
        queues q r                      |
        exchange A fanout auto-delete   | new
        exchange B fanout auto-delete   | new
        exchange C fanout auto-delete   | new
        exchange D fanout auto-delete   | new
        exchange K fanout               | new
        bind A B                        | new
        bind B C                        | new
        bind C q x                      | new
        bind C q y                      | new
        bind K C                        | new
        bind D C                        | new
        bind D r                        | new
        delete queue q                  | -A::B -B::C -C:x:q -C:y:q -D::C -K::C -C -B -A
        exchanges                       | D K
        delete queue r                  | -D::r -D
        ",
    );
}

#[test]
fn auto_delete_in_a_circle_ends() {
    check(
        "
        queues q                        |
        exchange A fanout auto-delete   | new
        exchange B fanout auto-delete   | new
        bind A B                        | new
        bind B A                        | new
        bind A A                        | new
        bind B q                        | new
        delete queue q                  | -B::q
        delete A                        | -A::A -A::B -B::A -A -B
        exchanges                       |
        ",
    );
}

#[test]
fn a_queue_that_comes_back_has_no_bindings() {
    check(
        "
        queues p q              |
        exchange F fanout       | new
        bind F q                | new
        bind F p                | new
        delete queue q          | -F::q
        queues q                |
        route F                 | p (keyed)
        to q                    |
        to p                    | F::p
        ",
    );
}
