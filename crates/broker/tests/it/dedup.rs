//! Queues that take one message of each id within a window of time.

use crate::support::*;
use millpond_broker::*;
use millpond_model::properties::Properties;
use millpond_model::table::Value;

fn broker() -> (TestBroker, Clock) {
    let clock = Clock::fake(1_700_000_000_000);
    (TestBroker::with(BrokerOptions { clock: clock.clone(), ..options() }), clock)
}

fn declare(client: &mut Client, more: &[(&str, Value)]) {
    let args = [&[("x-message-deduplication", true.into()), ("x-cache-ttl", 1000i64.into())], more].concat();
    let request = DeclareQueue { arguments: arguments(&args), ..queue_request("q", "d") };
    let (_, durability) = client.session.declare_queue(&request).unwrap();
    client.wait_commit(durability);
}

fn publish(client: &mut Client, id: Option<&str>, body: &str) {
    let properties = Properties { message_id: id.map(Into::into), ..persistent() };
    let durability = client.publish_with("", "q", &[body], &properties);
    client.wait_commit(durability);
}

#[test]
fn a_message_that_comes_again_within_the_window_is_dropped_also_after_a_restart() {
    for restart in [false, true] {
        let (mut broker, clock) = broker();
        let mut client = broker.session();
        declare(&mut client, &[]);
        publish(&mut client, Some("1"), "a");
        publish(&mut client, Some("2"), "b");
        publish(&mut client, Some("1"), "a again");
        publish(&mut client, None, "no id");
        publish(&mut client, None, "no id");
        assert_eq!(client.drain("q"), ["a", "b", "no id", "no id"], "also when it was consumed meanwhile");
        clock.advance(999);
        if restart {
            drop(client);
            broker.reopen();
            client = broker.session();
        }
        publish(&mut client, Some("1"), "a again");
        assert_eq!(client.drain("q"), [""; 0]);
        clock.advance(1);
        publish(&mut client, Some("1"), "a, later");
        publish(&mut client, Some("1"), "a again");
        assert_eq!(client.drain("q"), ["a, later"]);
    }
}

#[test]
fn the_id_may_be_in_a_header_and_few_may_be_remembered() {
    let (broker, _) = broker();
    let mut client = broker.session();
    declare(&mut client, &[("x-deduplication-header", "order".into()), ("x-cache-size", 2i64.into())]);
    for (order, body) in [(1i64, "a"), (1, "dropped"), (2, "b"), (3, "c"), (3, "dropped"), (1, "forgotten")] {
        let headers = [("order", order)].into_iter().collect();
        let durability = client.publish_with("", "q", &[body], &Properties { headers, ..persistent() });
        client.wait_commit(durability);
    }
    assert_eq!(client.drain("q"), ["a", "b", "c", "forgotten"]);
}

#[test]
fn a_refused_message_may_come_again_and_a_deleted_queue_forgets() {
    let (mut broker, _) = broker();
    let mut client = broker.session();
    let bounded = [("x-max-length", 1i64.into()), ("x-overflow", "reject-publish".into())];
    declare(&mut client, &bounded);
    publish(&mut client, Some("1"), "a");
    publish(&mut client, Some("2"), "no room");
    assert_eq!(client.session.take_refused(), [0]);
    assert_eq!(client.drain("q"), ["a"]);
    publish(&mut client, Some("2"), "b");
    assert_eq!(client.drain("q"), ["b"]);
    client.session.delete_queue(&queue("q"), false, false).unwrap();
    declare(&mut client, &bounded);
    publish(&mut client, Some("2"), "b");
    drop(client);
    broker.reopen();
    assert_eq!(broker.session().drain("q"), ["b"]);
}
