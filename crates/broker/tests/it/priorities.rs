//! Priorities of messages (contract T6).

use crate::support::*;
use millpond_broker::*;
use millpond_model::properties::Properties;
use millpond_model::table::Value;

fn declare(client: &mut Client, name: &str, args: &[(&str, Value)]) {
    let request = DeclareQueue { arguments: arguments(args), ..queue_request(name, "d") };
    let (_, durability) = client.session.declare_queue(&request).unwrap();
    client.wait_commit(durability);
}

fn publish(client: &mut Client, queue: &str, body: &str, priority: Option<u8>) {
    let durability = client.publish_with("", queue, &[body], &Properties { priority, ..persistent() });
    client.wait_commit(durability);
}

#[test]
fn the_highest_priority_goes_first_and_within_one_the_oldest() {
    type Case<'a> = (&'a [(&'a str, Value)], &'a [(&'a str, Option<u8>)], &'a str);
    let table: [Case<'_>; 4] = [
        (
            &[("x-max-priority", 5i64.into())],
            &[("a", None), ("b", Some(1)), ("c", Some(5)), ("d", Some(9)), ("e", Some(1)), ("f", Some(0))],
            "cdbeaf",
        ),
        (&[], &[("a", None), ("b", Some(9)), ("c", Some(1))], "abc"),
        (&[("x-max-priority", 0i64.into())], &[("a", None), ("b", Some(9))], "ab"),
        (
            &[("x-queue-type", "quorum".into())],
            &[("a", Some(0)), ("b", None), ("c", Some(4)), ("d", Some(40)), ("e", Some(31)), ("f", Some(5))],
            "defbca",
        ),
    ];
    for (args, published, order) in table {
        for restart in [false, true] {
            let mut broker = TestBroker::new();
            let mut client = broker.session();
            declare(&mut client, "q", args);
            for (body, priority) in published {
                publish(&mut client, "q", body, *priority);
            }
            if restart {
                drop(client);
                broker.reopen();
                client = broker.session();
            }
            assert_eq!(client.ready("q"), published.len() as u64);
            assert_eq!(client.drain("q").concat(), order, "{args:?}, restart {restart}");
        }
    }
}

#[test]
fn a_requeued_message_returns_to_its_place_among_those_of_its_priority() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    declare(&mut client, "q", &[("x-max-priority", 3i64.into())]);
    for (body, priority) in [("a", 1), ("b", 1), ("c", 2)] {
        publish(&mut client, "q", body, Some(priority));
    }
    client.session.consume(ConsumeRequest { prefetch: 2, ..consume_request("q", 1) }).unwrap();
    let seen = client.deliveries(2);
    assert_eq!(bodies(&seen), ["c", "a"]);
    client.settle(&seen[1..], Outcome::Requeue);
    let again = client.deliveries(1);
    assert_eq!((bodies(&again), again[0].redelivered), (vec!["a"], true));
    publish(&mut client, "q", "d", Some(3));
    client.settle(&seen[..1], Outcome::Accept);
    assert_eq!(bodies(&client.deliveries(1)), ["d"]);
}

#[test]
fn messages_of_every_priority_expire_and_a_limit_drops_from_the_head() {
    let clock = Clock::fake(1_000_000);
    let broker = TestBroker::with(BrokerOptions { clock: clock.clone(), ..options() });
    let mut client = broker.session();
    let limits = [("x-message-ttl", 100i64.into()), ("x-max-length", 3i64.into())];
    declare(&mut client, "q", &[&[("x-max-priority", 9i64.into())], &limits[..]].concat());
    publish(&mut client, "q", "low", Some(0));
    clock.advance(60);
    for body in ["a", "b"] {
        publish(&mut client, "q", body, Some(9));
    }
    assert_eq!(client.ready("q"), 3);
    clock.advance(40);
    assert_eq!(client.drain("q"), ["a", "b"]);
    for (body, priority) in [("low", 0), ("a", 9), ("b", 9), ("c", 9)] {
        publish(&mut client, "q", body, Some(priority));
    }
    assert_eq!(client.drain("q"), ["b", "c", "low"]);
}

#[test]
fn a_long_queue_with_priorities_pages_out_and_comes_back_in_order() {
    for restart in [false, true] {
        let mut broker = TestBroker::paging(options());
        let mut client = broker.session();
        declare(&mut client, "q", &[("x-max-priority", 9i64.into())]);
        let mut wanted = Vec::new();
        for n in 0..600u32 {
            let priority = (n * 7 % 10) as u8;
            let body = format!("{}-{n:04}", 9 - priority);
            publish(&mut client, "q", &body, Some(priority));
            wanted.push(body);
        }
        wanted.sort();
        if restart {
            drop(client);
            broker.reopen();
            client = broker.session();
        }
        assert_eq!(client.drain("q"), wanted, "restart {restart}");
    }
}
