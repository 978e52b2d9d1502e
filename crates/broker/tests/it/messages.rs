//! Messages browsed, moved, copied and sent back to where they died.

use crate::support::*;
use millpond_broker::*;
use millpond_model::VhostName;
use millpond_model::table::Value;

fn root() -> VhostName {
    VhostName::new("/").unwrap()
}

fn declare(client: &mut Client, name: &str, args: &[(&str, Value)]) {
    let request = DeclareQueue { arguments: arguments(args), ..queue_request(name, "d") };
    let (_, durability) = client.session.declare_queue(&request).unwrap();
    client.wait_commit(durability);
}

fn browse(broker: &TestBroker, name: &str) -> Vec<String> {
    let mut browse = broker.broker().browse(&root(), &queue(name)).unwrap();
    let mut found = Vec::new();
    let mut more = true;
    while more {
        block_on(|cx| browse.poll_next(cx, 7, &mut found).map(|it| more = it));
    }
    found.iter().map(|it| String::from_utf8_lossy(it.message.body()).into_owned()).collect()
}

fn moving(from: &str, to: &str) -> TransferRequest {
    TransferRequest {
        to_vhost: None,
        from: queue(from),
        to: TransferTo::Queue(queue(to)),
        of: TransferOf::Ready,
        keep: false,
        filter: MessageFilter::default(),
        limit: None,
        dry_run: false,
    }
}

fn counts(report: &TransferReport) -> (u64, Vec<(&str, u64)>) {
    (report.looked_at, report.moved.iter().map(|(name, n)| (name.as_str(), *n)).collect())
}

#[test]
fn browsing_shows_what_is_ready_and_changes_nothing() {
    for paging in [false, true] {
        let broker = if paging { TestBroker::paging(options()) } else { TestBroker::new() };
        let mut client = broker.session();
        client.declare("q", "d");
        let bodies: Vec<String> = (0..100).map(|n| format!("message {n:03}")).collect();
        for body in &bodies {
            client.publish("", "q", &[body]);
        }
        assert_eq!(browse(&broker, "q"), bodies, "paging {paging}");
        let got = client.get("q", false).unwrap();
        assert!(!got.delivery.redelivered, "a look does not count as a delivery");
        assert_eq!(browse(&broker, "q"), bodies[1..]);
        assert_eq!(client.drain("q"), bodies[1..]);
    }
}

#[test]
fn messages_move_in_order_with_a_filter_and_a_limit_and_a_copy_stays() {
    let by_body = |part: &str| MessageFilter { body: Some(part.into()), ..MessageFilter::default() };
    let table = [
        (moving("a", "b"), 5, "", "a1 b1 a2 b2 a3"),
        (TransferRequest { limit: Some(2), ..moving("a", "b") }, 2, "a2 b2 a3", "a1 b1"),
        (TransferRequest { filter: by_body("b"), ..moving("a", "b") }, 2, "a1 a2 a3", "b1 b2"),
        (TransferRequest { keep: true, ..moving("a", "b") }, 5, "a1 b1 a2 b2 a3", "a1 b1 a2 b2 a3"),
        (TransferRequest { dry_run: true, ..moving("a", "b") }, 5, "a1 b1 a2 b2 a3", ""),
    ];
    for (request, moved, left, there) in table {
        let mut broker = TestBroker::new();
        let mut client = broker.session();
        client.declare("a", "d");
        client.declare("b", "d");
        client.publish("", "a", &["a1", "b1", "a2", "b2", "a3"]);
        let report = transfer(&broker, request.clone());
        assert_eq!(report.moved_count(), moved, "{request:?}");
        drop(client);
        broker.reopen();
        let mut client = broker.session();
        assert_eq!(client.drain("a").join(" "), left, "{request:?}");
        assert_eq!(client.drain("b").join(" "), there, "{request:?}");
    }
}

#[test]
fn dead_messages_are_sent_back_to_where_each_died() {
    let clock = Clock::fake(1_700_000_000_000);
    let broker = TestBroker::with(BrokerOptions { clock: clock.clone(), ..options() });
    let mut client = broker.session();
    client.declare("grave", "d");
    let to_grave: [(&str, Value); 2] =
        [("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", "grave".into())];
    declare(&mut client, "rejects", &to_grave);
    declare(&mut client, "expires", &[&to_grave[..], &[("x-message-ttl", 1000i64.into())]].concat());
    client.bind("amq.topic", "rejects", "order.*");
    client.publish("amq.topic", "order.new", &["r1", "r2"]);
    client.publish("", "expires", &["e1"]);
    client.publish("", "grave", &["never died"]);
    client.consume("rejects", 1);
    let seen = client.deliveries(2);
    client.settle(&seen, Outcome::Reject);
    clock.advance(1000);
    let all = TransferRequest { to: TransferTo::WhereItDied, ..moving("grave", "") };
    let rehearsal = loop {
        let report = transfer(&broker, TransferRequest { dry_run: true, ..all.clone() });
        if report.looked_at == 4 {
            break report;
        }
    };
    assert_eq!(counts(&rehearsal), (4, vec![("expires", 1), ("rejects", 2)]));
    assert_eq!(rehearsal.stayed.values().sum::<u64>(), 1);
    let filter = MessageFilter { died_of: Some("expired".into()), ..MessageFilter::default() };
    let report = transfer(&broker, TransferRequest { filter, ..all.clone() });
    assert_eq!(counts(&report), (4, vec![("expires", 1)]));
    assert_eq!(client.drain("expires"), ["e1"], "its time to live begins anew");
    let report = transfer(&broker, all);
    assert_eq!(counts(&report), (3, vec![("rejects", 2)]));
    let again = client.deliveries(2);
    assert_eq!(bodies(&again), ["r1", "r2"]);
    assert_eq!(client.drain("grave"), ["never died"]);
}

#[test]
fn a_full_target_takes_what_it_has_room_for_and_nothing_is_lost() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    client.declare("a", "d");
    declare(&mut client, "b", &[("x-max-length", 2i64.into()), ("x-overflow", "reject-publish".into())]);
    client.publish("", "a", &["1", "2", "3", "4"]);
    let report = transfer(&broker, moving("a", "b"));
    assert_eq!((report.moved_count(), report.stayed.values().sum::<u64>()), (2, 2));
    assert_eq!(
        (client.drain("a"), client.drain("b")),
        (vec!["3".into(), "4".into()], vec!["1".into(), "2".into()])
    );
}

#[test]
fn what_a_full_target_does_not_take_stays_in_its_place_and_dies_nowhere() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    declare(&mut client, "a", &[("x-max-length", 4i64.into()), ("x-overflow", "reject-publish".into())]);
    client.declare("grave", "d");
    let bounded = [
        ("x-max-length", 1i64.into()),
        ("x-overflow", "reject-publish-dlx".into()),
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", "grave".into()),
    ];
    declare(&mut client, "b", &bounded);
    client.publish("", "a", &["1", "2", "3", "4"]);
    let report = transfer(&broker, moving("a", "b"));
    assert_eq!((report.moved_count(), report.stayed["queue 'b' is full"]), (1, 3));
    assert_eq!(client.drain("grave"), Vec::<String>::new());
    assert_eq!(client.drain("b"), ["1"]);
    assert_eq!(client.drain("a"), ["2", "3", "4"]);
}

#[test]
fn a_transfer_that_cannot_be_says_why() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    client.declare("a", "d");
    for (request, text) in [
        (moving("a", "missing"), "no queue 'missing' in vhost '/'"),
        (moving("missing", "a"), "no queue 'missing' in vhost '/'"),
        (moving("a", "a"), "queue 'a' is both source and target: name another"),
    ] {
        assert_eq!(broker.broker().transfer(&root(), request).unwrap_err().to_string(), text);
    }
}
