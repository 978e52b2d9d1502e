//! Queues that remember what was acked, and its replay.

use crate::support::*;
use millpond_broker::*;
use millpond_model::properties::RawProperties;
use millpond_model::table::Value;
use millpond_model::{Message, VhostName};

const START_MS: u64 = 1_700_000_000_000;

fn root() -> VhostName {
    VhostName::new("/").unwrap()
}

fn broker() -> (TestBroker, Clock) {
    let clock = Clock::fake(START_MS);
    (TestBroker::with(BrokerOptions { clock: clock.clone(), ..options() }), clock)
}

fn declare(client: &mut Client, name: &str, args: &[(&str, Value)]) {
    let request = DeclareQueue { arguments: arguments(args), ..queue_request(name, "d") };
    let (_, durability) = client.session.declare_queue(&request).unwrap();
    client.wait_commit(durability);
}

fn hour() -> (&'static str, Value) {
    ("x-retain", "1h".into())
}

fn figures(broker: &TestBroker, name: &str) -> Option<RetainedFigures> {
    let queues = broker.broker().list_queues(&root()).unwrap();
    queues.into_iter().find(|queue| queue.name.as_str() == name).unwrap().retained
}

fn count(broker: &TestBroker, name: &str) -> u64 {
    figures(broker, name).unwrap().count
}

fn replaying(from: &str, to: &str) -> TransferRequest {
    TransferRequest {
        from: queue(from),
        to: TransferTo::Queue(queue(to)),
        to_vhost: None,
        of: TransferOf::Retained(ReplayPeriod::default()),
        keep: true,
        filter: MessageFilter::default(),
        limit: None,
        dry_run: false,
    }
}

/// What a queue remembers, in order: replayed into another one.
fn remembered(broker: &TestBroker, client: &mut Client, name: &str) -> Vec<String> {
    client.declare("copies", "d");
    transfer(broker, replaying(name, "copies"));
    client.drain("copies")
}

fn ack(client: &mut Client, name: &str, count: usize) -> Vec<String> {
    let consumer = client.consume(name, 1);
    let seen = client.deliveries(count);
    client.settle(&seen[..count], Outcome::Accept);
    client.settle(&seen[count..], Outcome::Requeue);
    client.session.cancel(consumer);
    bodies(&seen[..count]).into_iter().map(str::to_owned).collect()
}

#[test]
fn what_a_consumer_acks_is_remembered_and_nothing_else_is() {
    for (kind, paging) in [("classic", false), ("quorum", false), ("classic", true), ("quorum", true)] {
        let options = BrokerOptions { clock: Clock::fake(START_MS), ..options() };
        let broker = if paging { TestBroker::paging(options) } else { TestBroker::with(options) };
        let mut client = broker.session();
        declare(&mut client, "q", &[hour(), ("x-queue-type", kind.into())]);
        let all: Vec<String> = (0..40).map(|n| format!("message {n:03} {}", "x".repeat(100))).collect();
        client.publish("", "q", &all.iter().map(String::as_str).collect::<Vec<_>>());
        let consumer = client.consume("q", 1);
        let seen = client.deliveries(40);
        client.settle(&seen[0..10], Outcome::Accept);
        client.settle(&seen[10..12], Outcome::Reject);
        client.settle(&seen[14..20], Outcome::Accept);
        client.session.cancel(consumer);
        client.settle(&seen[20..], Outcome::Requeue);
        client.settle(&seen[12..14], Outcome::Accept);
        for wanted in &all[20..25] {
            assert_eq!(client.get("q", true).unwrap().delivery.message.body(), wanted.as_bytes());
        }
        client.session.purge_queue(&queue("q")).unwrap();
        let order = [0..10, 14..20, 12..14, 20..25];
        let wanted: Vec<_> = order.into_iter().flatten().map(|n| all[n].clone()).collect();
        block_until(|| count(&broker, "q") == 23);
        assert_eq!(remembered(&broker, &mut client, "q"), wanted, "{kind} paging {paging}");
        assert_eq!(client.ready("q"), 0);
    }
}

/// What is read back from disk comes by itself.
fn block_until(mut is_so: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !is_so() {
        assert!(started.elapsed().as_secs() < 30, "it did not come to be");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_remembered_is_there_after_a_restart_once_and_goes_with_its_queue() {
    let (mut broker, _) = broker();
    let mut client = broker.session();
    declare(&mut client, "q", &[hour()]);
    client.publish("", "q", &["a", "b", "c", "d"]);
    assert_eq!(ack(&mut client, "q", 3), ["a", "b", "c"]);
    let kept = figures(&broker, "q").unwrap();
    assert_eq!((kept.count, kept.oldest_ms), (3, Some(START_MS)));
    for _ in 0..2 {
        drop(client);
        broker.reopen();
        client = broker.session();
        assert_eq!(figures(&broker, "q").unwrap(), kept);
        assert_eq!(client.ready("q"), 1);
    }
    assert_eq!(remembered(&broker, &mut client, "q"), ["a", "b", "c"]);
    client.session.delete_queue(&queue("q"), false, false).unwrap();
    declare(&mut client, "q", &[hour()]);
    assert_eq!(count(&broker, "q"), 0);
    drop(client);
    broker.reopen();
    assert_eq!(count(&broker, "q"), 0);
}

#[test]
fn what_is_too_old_since_its_ack_is_forgotten_also_when_nothing_happens() {
    let (mut broker, clock) = broker();
    let mut client = broker.session();
    declare(&mut client, "q", &[hour()]);
    client.publish("", "q", &["a", "b", "c"]);
    // The time counts from the ack, not from the publishing.
    clock.advance(7_200_000);
    ack(&mut client, "q", 1);
    clock.advance(1_800_000);
    ack(&mut client, "q", 1);
    clock.advance(1_800_000);
    assert_eq!(count(&broker, "q"), 2, "just as old as allowed");
    clock.advance(60_000);
    block_until(|| count(&broker, "q") == 1);
    drop(client);
    broker.reopen_after(|| clock.advance(3_600_000));
    block_until(|| count(&broker, "q") == 0);
}

#[test]
fn what_is_over_the_size_is_forgotten_the_oldest_first() {
    let (broker, _) = broker();
    let mut client = broker.session();
    declare(&mut client, "q", &[("x-retain-bytes", 2000i64.into()), ("x-retain", "7D".into())]);
    let all: Vec<String> = (0..100).map(|n| format!("{n:0100}")).collect();
    client.publish("", "q", &all.iter().map(String::as_str).collect::<Vec<_>>());
    for part in all.chunks(10) {
        assert_eq!(ack(&mut client, "q", 10), part);
    }
    let kept = figures(&broker, "q").unwrap();
    assert!((1900..2200).contains(&kept.size_bytes), "{kept:?}");
    assert_eq!(remembered(&broker, &mut client, "q"), all[100 - kept.count as usize..]);
}

#[test]
fn a_policy_turns_it_on_and_off_while_the_queue_works() {
    let (mut broker, _) = broker();
    let mut client = broker.session();
    declare(&mut client, "q", &[]);
    client.publish("", "q", &["a", "b", "c", "d"]);
    ack(&mut client, "q", 1);
    assert_eq!(figures(&broker, "q"), None);
    let missing = broker.broker().transfer(&root(), replaying("q", "q")).unwrap_err();
    assert!(missing.to_string().contains("give it x-retain"), "{missing}");
    let set = |broker: &TestBroker, key: &str, value: Value| {
        let spec = PolicySpec {
            name: "keep".into(),
            pattern: "^q$".into(),
            apply_to: ApplyTo::All,
            priority: 0,
            definition: PolicyDefinition::new(&arguments(&[(key, value)])).unwrap(),
        };
        broker.broker().set_policy(&root(), PolicyKind::User, spec).unwrap().wait().unwrap();
    };
    set(&broker, "retain", "7D".into());
    assert_eq!(count(&broker, "q"), 0);
    ack(&mut client, "q", 2);
    assert_eq!(remembered(&broker, &mut client, "q"), ["b", "c"]);
    set(&broker, "retain-bytes", 1i64.into());
    assert!(count(&broker, "q") <= 1, "what is too much goes at once");
    broker.broker().clear_policy(&root(), PolicyKind::User, "keep").unwrap().wait().unwrap();
    assert_eq!(figures(&broker, "q"), None);
    drop(client);
    broker.reopen();
    client = broker.session();
    set(&broker, "retain", "7D".into());
    assert_eq!(count(&broker, "q"), 0, "what was forgotten does not come back");
    ack(&mut client, "q", 1);
    assert_eq!(remembered(&broker, &mut client, "q"), ["d"]);
}

#[test]
fn all_priorities_are_remembered_together() {
    let (broker, _) = broker();
    let mut client = broker.session();
    declare(&mut client, "q", &[hour(), ("x-max-priority", 9i64.into())]);
    for (priority, body) in [(0, "low"), (9, "high"), (5, "middle"), (9, "high too")] {
        let properties = millpond_model::properties::Properties { priority: Some(priority), ..persistent() };
        let durability = client.publish_with("", "q", &[body], &properties);
        client.wait_commit(durability);
    }
    let order = ["high", "high too", "middle", "low"];
    assert_eq!(ack(&mut client, "q", 4), order);
    assert_eq!(remembered(&broker, &mut client, "q"), order);
}

#[test]
fn auto_ack_counts_as_acked_and_a_transient_message_is_remembered_on_disk() {
    let (mut broker, _) = broker();
    let mut client = broker.session();
    declare(&mut client, "q", &[hour()]);
    client.session.consume(ConsumeRequest { no_ack: true, ..consume_request("q", 1) }).unwrap();
    client.publish("", "q", &["a", "b"]);
    client.publish_with("", "q", &["transient"], &transient());
    client.deliveries(3);
    drop(client);
    broker.reopen();
    let mut client = broker.session();
    assert_eq!(remembered(&broker, &mut client, "q"), ["a", "b", "transient"]);
    transfer(&broker, replaying("q", "q"));
    let got: Vec<_> = std::iter::from_fn(|| client.get("q", true)).map(|got| got.delivery.message).collect();
    assert_eq!(got.iter().map(Message::is_persistent).collect::<Vec<_>>(), [true, true, false]);
}

#[test]
fn a_replay_says_where_from_and_may_go_back_without_being_remembered_twice() {
    let (broker, clock) = broker();
    let mut client = broker.session();
    declare(&mut client, "q", &[hour()]);
    declare(&mut client, "other", &[hour()]);
    client.publish("amq.fanout", "", &["nowhere"]);
    client.bind("amq.topic", "q", "#");
    client.publish("amq.topic", "some.key", &["a", "b"]);
    ack(&mut client, "q", 2);
    clock.advance(5_000);
    for _ in 0..3 {
        assert_eq!(transfer(&broker, replaying("q", "q")).moved_count(), 2);
        assert_eq!(ack(&mut client, "q", 2), ["a", "b"]);
        assert_eq!(count(&broker, "q"), 2);
    }
    transfer(&broker, replaying("q", "other"));
    let got = client.get("other", true).unwrap().delivery.message;
    assert_eq!((got.exchange(), got.routing_key()), (&b"amq.topic"[..], &b"some.key"[..]));
    assert_eq!(got.published_ms(), Some(START_MS + 5_000), "times to live count from the replay");
    let headers = RawProperties::from_checked(got.properties()).headers().unwrap().to_table();
    let wanted = [
        ("x-replayed-from", Value::from("q")),
        ("x-acked-at", Value::I64(START_MS as i64)),
        ("x-replayed-at", Value::I64((START_MS + 5_000) as i64)),
    ];
    assert_eq!(headers, wanted.into_iter().collect());
    assert_eq!(count(&broker, "other"), 1, "another queue remembers it");
}

#[test]
fn a_replay_takes_a_time_a_filter_and_a_limit_and_a_dry_run_does_nothing() {
    let (broker, clock) = broker();
    let mut client = broker.session();
    declare(&mut client, "q", &[hour()]);
    client.publish("", "q", &["0", "1", "2", "3", "4", "5"]);
    for _ in 0..6 {
        ack(&mut client, "q", 1);
        clock.advance(10);
    }
    client.declare("copies", "d");
    let of = |from: Option<u64>, until: Option<u64>| TransferRequest {
        of: TransferOf::Retained(ReplayPeriod {
            from_ms: from.map(|ms| START_MS + ms),
            until_ms: until.map(|ms| START_MS + ms),
        }),
        ..replaying("q", "copies")
    };
    let filter = MessageFilter { body: Some(b"4".to_vec()), ..MessageFilter::default() };
    let table = [
        (of(Some(20), None), "2345"),
        (of(Some(11), Some(30)), "23"),
        (of(None, Some(0)), "0"),
        (of(Some(1000), None), ""),
        (TransferRequest { limit: Some(4), ..of(Some(10), None) }, "1234"),
        (TransferRequest { filter, ..of(None, None) }, "4"),
        (TransferRequest { dry_run: true, ..of(None, None) }, ""),
    ];
    for (request, wanted) in table {
        let report = transfer(&broker, request.clone());
        assert_eq!(client.drain("copies").concat(), wanted, "{request:?}");
        assert_eq!(report.moved_count(), if request.dry_run { 6 } else { wanted.len() as u64 });
    }
    assert_eq!(count(&broker, "q"), 6, "a replay takes nothing away");
}

#[test]
fn a_stream_refuses_to_remember_and_can_be_replayed_as_it_is() {
    let (broker, _) = broker();
    let mut client = broker.session();
    for argument in [hour(), ("x-retain-bytes", 1000i64.into())] {
        let args = arguments(&[("x-queue-type", "stream".into()), argument]);
        let refused =
            client.session.declare_queue(&DeclareQueue { arguments: args, ..queue_request("s", "d") });
        assert!(refused.unwrap_err().to_string().contains("a stream keeps what is acked anyway"));
    }
    for bad in ["7", "7d", "", "soon"] {
        let args = arguments(&[("x-retain", bad.into())]);
        let refused =
            client.session.declare_queue(&DeclareQueue { arguments: args, ..queue_request("q", "d") });
        assert!(refused.unwrap_err().to_string().contains("a whole number and a unit"), "{bad}");
    }
    declare(&mut client, "s", &[("x-queue-type", "stream".into())]);
    client.publish("", "s", &["a", "b"]);
    assert_eq!(remembered(&broker, &mut client, "s"), ["a", "b"]);
    assert_eq!(figures(&broker, "s"), None);
}

#[test]
fn what_a_transient_queue_remembers_goes_with_it() {
    let (mut broker, _) = broker();
    let mut client = broker.session();
    let declare = |client: &mut Client| {
        let request = DeclareQueue { arguments: arguments(&[hour()]), ..queue_request("q", "") };
        let (_, durability) = client.session.declare_queue(&request).unwrap();
        client.wait_commit(durability);
    };
    declare(&mut client);
    client.publish_with("", "q", &["a", "b"], &persistent());
    ack(&mut client, "q", 2);
    assert_eq!(remembered(&broker, &mut client, "q"), ["a", "b"]);
    drop(client);
    broker.reopen();
    let mut client = broker.session();
    declare(&mut client);
    assert_eq!(count(&broker, "q"), 0);
}

#[test]
fn an_ack_in_a_transaction_is_remembered_when_it_is_committed() {
    let (broker, _) = broker();
    let mut client = broker.session();
    declare(&mut client, "q", &[hour()]);
    client.publish("", "q", &["a", "b"]);
    client.consume("q", 1);
    let seen = client.deliveries(2);
    let settled = [(seen[0].id, Outcome::Accept), (seen[1].id, Outcome::Reject)];
    let durability = client.session.transact(&mut Vec::new(), &settled, &[]).unwrap();
    assert_eq!(count(&broker, "q"), 1);
    client.wait_commit(durability);
    assert_eq!(remembered(&broker, &mut client, "q"), ["a"]);
}

#[test]
fn what_was_acked_and_is_still_to_be_read_from_disk_is_remembered_after_a_restart() {
    for (priorities, forget) in [(false, false), (true, false), (false, true)] {
        let mut broker = TestBroker::paging(options());
        let mut client = broker.session();
        let mut args = vec![hour()];
        if priorities {
            args.push(("x-max-priority", 3i64.into()));
        }
        declare(&mut client, "q", &args);
        let all: Vec<String> = (0..200).map(|n| format!("message {n:03} {}", "x".repeat(200))).collect();
        for part in all.chunks(20) {
            client.publish("", "q", &part.iter().map(String::as_str).collect::<Vec<_>>());
        }
        client.consume("q", 1);
        let seen = client.deliveries(200);
        // Odd ones first: many ranges are written down.
        let (even, odd): (Vec<_>, Vec<_>) =
            seen.into_iter().partition(|it| it.body[8..11].parse::<u32>().unwrap() % 2 == 0);
        client.settle(&odd, Outcome::Accept);
        client.settle(&even[..50], Outcome::Accept);
        if forget {
            let none = arguments(&[("x-retain", Value::Void)]);
            broker.broker().alter_queue(&root(), &queue("q"), &none).unwrap().wait().unwrap();
        }
        drop(client);
        broker.reopen();
        client = broker.session();
        assert_eq!(client.ready("q"), 50, "what was acked is not ready again");
        if forget {
            assert_eq!(figures(&broker, "q"), None);
        } else {
            block_until(|| count(&broker, "q") == 150);
            let wanted: Vec<_> = bodies(&odd).into_iter().chain(bodies(&even[..50])).collect();
            assert_eq!(remembered(&broker, &mut client, "q"), wanted);
        }
        assert_eq!(client.drain("q"), bodies(&even[50..]));
    }
}
