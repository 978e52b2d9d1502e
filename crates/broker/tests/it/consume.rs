//! Consuming: credit, turns, acks, requeues, cancels, closing, get.

use crate::support::*;
use millpond_broker::*;

#[test]
fn a_consumer_gets_as_much_as_it_may_hold() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    client.declare("q", "");
    client.publish("", "q", &["a", "b", "c", "d"]);
    let consumer = client.session.consume(ConsumeRequest { prefetch: 2, ..consume_request("q", 1) }).unwrap();
    let seen = client.deliveries(2);
    assert_eq!(bodies(&seen), ["a", "b"]);
    client.settle(&seen[1..], Outcome::Accept);
    assert_eq!(bodies(&client.deliveries(1)), ["c"]);
    client.session.set_prefetch(consumer, 3);
    assert_eq!(bodies(&client.deliveries(1)), ["d"]);
}

#[test]
fn higher_priorities_first_and_turns_among_equals() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    client.declare("q", "");
    let mut start = |cookie, priority, prefetch| {
        client
            .session
            .consume(ConsumeRequest { priority, prefetch, ..consume_request("q", cookie) })
            .unwrap();
    };
    start(1, 0, 0);
    start(2, 5, 2);
    start(3, 0, 0);
    client.publish("", "q", &["a", "b", "c", "d", "e", "f"]);
    let seen = client.deliveries(6);
    let of = |cookie| seen.iter().filter(|seen| seen.cookie == cookie).count();
    assert_eq!((of(1), of(2), of(3)), (2, 2, 2));
    let first: Vec<_> = seen.iter().filter(|seen| seen.cookie == 2).map(|seen| seen.body.as_str()).collect();
    assert_eq!(first, ["a", "b"]);
}

#[test]
fn requeued_messages_return_to_their_place_as_redelivered() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    client.declare("q", "");
    client.publish("", "q", &["a", "b", "c"]);
    let got: Vec<_> = (0..2).map(|_| client.get("q", false).unwrap()).collect();
    let ids: Vec<_> = got.iter().map(|got| DeliveryId { queue: got.queue, seq: got.delivery.seq }).collect();
    client.session.settle(&[ids[1], ids[0]], Outcome::Requeue);
    client.session.settle(&ids, Outcome::Accept);
    let again: Vec<_> = std::iter::from_fn(|| client.get("q", true))
        .map(|got| (got.delivery.redelivered, got.delivery.message.body().to_vec(), got.ready))
        .collect();
    assert_eq!(again, [(true, b"a".to_vec(), 2), (true, b"b".to_vec(), 1), (false, b"c".to_vec(), 0)]);
}

#[test]
fn rejected_messages_are_gone() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    client.declare("q", "d");
    client.publish("", "q", &["a"]);
    client.consume("q", 1);
    let seen = client.deliveries(1);
    client.settle(&seen, Outcome::Reject);
    drop(client);
    assert_eq!(broker.session().ready("q"), 0);
}

#[test]
fn what_waits_in_the_inbox_of_a_cancelled_consumer_goes_to_the_next() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    client.declare("q", "");
    let first = client.consume("q", 1);
    client.publish("", "q", &["a", "b"]);
    client.session.cancel(first);
    client.session.cancel(first);
    assert!(client.take_deliveries().is_empty());
    client.consume("q", 2);
    let seen = client.deliveries(2);
    assert_eq!(bodies(&seen), ["a", "b"]);
    assert!(seen.iter().all(|seen| seen.cookie == 2 && !seen.redelivered));
}

#[test]
fn a_closing_session_gives_back_what_it_holds() {
    let broker = TestBroker::new();
    let mut first = broker.session();
    let mut second = broker.session();
    first.declare("q", "");
    first.consume("q", 1);
    first.publish("", "q", &["a", "b", "c"]);
    let seen = first.deliveries(3);
    first.settle(&seen[1..2], Outcome::Accept);
    second.consume("q", 2);
    assert!(second.take_deliveries().is_empty());
    drop(first);
    let seen = second.deliveries(2);
    assert_eq!(bodies(&seen), ["a", "c"]);
    assert!(seen.iter().all(|seen| seen.redelivered));
}

#[test]
fn only_the_holder_can_settle() {
    let broker = TestBroker::new();
    let mut first = broker.session();
    let mut second = broker.session();
    first.declare("q", "");
    first.publish("", "q", &["a"]);
    let got = first.get("q", false).unwrap();
    assert!(second.get("q", false).is_none());
    second.session.settle(&[DeliveryId { queue: got.queue, seq: got.delivery.seq }], Outcome::Accept);
    second.session.settle(&[DeliveryId { queue: QueueRef(900), seq: 0 }], Outcome::Accept);
    drop(first);
    assert_eq!(second.ready("q"), 1);
}

#[test]
fn a_late_ack_of_a_deleted_queue_meets_no_other_queue() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    for _ in 0..200 {
        client.declare("q", "");
        client.publish("", "q", &["a"]);
        let old = client.get("q", false).unwrap();
        client.session.delete_queue(&queue("q"), false, false).unwrap();
        client.declare("q", "");
        client.publish("", "q", &["b"]);
        let new = client.get("q", false).unwrap();
        let id = |got: &Got| DeliveryId { queue: got.queue, seq: got.delivery.seq };
        assert_ne!(id(&old), id(&new));
        client.session.settle(&[id(&old)], Outcome::Accept);
        client.session.settle(&[id(&new)], Outcome::Requeue);
        assert_eq!(client.ready("q"), 1);
        client.session.delete_queue(&queue("q"), false, false).unwrap();
    }
}

#[test]
fn an_exclusive_consumer_is_alone() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    client.declare("q", "");
    let exclusive = || ConsumeRequest { exclusive: true, ..consume_request("q", 1) };
    let plain = client.consume("q", 2);
    let error = client.session.consume(exclusive()).unwrap_err();
    assert_eq!(error.to_string(), "queue 'q' in vhost '/' in exclusive use");
    client.session.cancel(plain);
    let alone = client.session.consume(exclusive()).unwrap();
    let mut other = broker.session();
    assert!(matches!(other.session.consume(consume_request("q", 1)), Err(ConsumeError::ExclusiveUse { .. })));
    client.session.cancel(alone);
    other.consume("q", 1);
    drop(other);
    client.session.consume(exclusive()).unwrap();
    drop(client);
    broker.session().consume("q", 1);
}

#[test]
fn bad_consumers_are_refused() {
    let broker = TestBroker::with(BrokerOptions { consumers_max_per_session: 2, ..options() });
    let mut client = broker.session();
    client.declare("q", "");
    let mut request = consume_request("q", 1);
    request.arguments = arguments(&[("x-priority", "high".into())]);
    let error = client.session.consume(request).unwrap_err().to_string();
    assert!(error.contains("invalid arg 'x-priority'"), "{error}");
    assert!(matches!(
        client.session.consume(consume_request("none", 1)),
        Err(ConsumeError::Queue(QueueError::Missing { .. }))
    ));
    client.consume("q", 1);
    client.consume("q", 2);
    assert!(matches!(
        client.session.consume(consume_request("q", 3)),
        Err(ConsumeError::TooMany { limit: 2 })
    ));
}

#[test]
fn no_ack_deliveries_are_settled_when_they_are_handed_out() {
    let mut broker = TestBroker::new();
    let mut client = broker.session();
    client.declare("q", "d");
    client.session.consume(ConsumeRequest { no_ack: true, ..consume_request("q", 1) }).unwrap();
    client.publish("", "q", &["a", "b"]);
    assert_eq!(client.deliveries(2).len(), 2);
    drop(client);
    broker.reopen();
    assert_eq!(broker.session().ready("q"), 0);
}

#[test]
fn purge_takes_the_ready_ones_only() {
    let broker = TestBroker::new();
    let mut client = broker.session();
    client.declare("q", "d");
    client.publish("", "q", &["a", "b", "c"]);
    let _held = client.get("q", false).unwrap();
    let (count, durability) = client.session.purge_queue(&queue("q")).unwrap();
    assert_eq!(count, 2);
    client.wait_commit(durability);
    drop(client);
    assert_eq!(broker.session().drain("q"), ["a"]);
}
