//! A store that takes no writes.

use crate::support::*;
use millpond_broker::*;
use millpond_model::VhostName;
use millpond_store::fs::FakeFs;
use millpond_store::{Store, StoreOptions};
use std::sync::Arc;
use std::task::{Context, Poll};

fn on_fake(fs: &FakeFs) -> TestBroker {
    with_options(fs, options())
}

pub(crate) fn with_options(fs: &FakeFs, options: BrokerOptions) -> TestBroker {
    let mut store_options = StoreOptions::new("/data");
    store_options.wal_segment_size_bytes = 64 << 10;
    let (store, recovery) = Store::open_on(Arc::new(fs.clone()), store_options).unwrap();
    TestBroker::of(Broker::open(store, recovery, options).unwrap())
}

/// Publishes until the store says no, at the door or by a failed commit; how many were confirmed.
pub(crate) fn fill(client: &mut Client) -> usize {
    let body = "x".repeat(1000);
    for confirmed in 0..100_000 {
        let mut batch = vec![client.message("", "q", &body, &persistent()).unwrap()];
        match client.session.publish(&mut batch) {
            Ok(durability) => {
                if client.commit_result(durability).is_err() {
                    return confirmed;
                }
            }
            Err(_) => {
                assert_eq!(batch.len(), 1, "nothing was taken");
                return confirmed;
            }
        }
    }
    panic!("the store never fills up");
}

#[test]
fn a_full_store_refuses_what_it_must_keep_and_takes_it_again_when_there_is_room() {
    let fs = FakeFs::new(1);
    let broker = on_fake(&fs);
    let mut client = broker.session();
    client.declare("q", "d");
    client.declare("transient", "");
    fs.set_capacity_bytes(Some(fs.used_bytes() + (300 << 10)));
    fill(&mut client);
    let mut batch = vec![client.message("", "q", "m", &persistent()).unwrap()];
    client.session.publish(&mut batch).unwrap_err();
    assert_eq!(batch.len(), 1);
    assert!(client.session.declare_queue(&queue_request("more", "d")).is_err());
    client.declare("q", "d");
    client.publish_with("", "q", &["light"], &transient());
    client.publish_with("", "transient", &["light"], &persistent());
    assert_eq!(client.drain("transient"), ["light"]);
    // Who confirms gets nacks; who does not must wait.
    let waker = waker();
    let mut cx = Context::from_waker(&waker);
    client.session.set_confirming(true);
    assert!(client.session.poll_publish_ready(&mut cx).is_ready());
    client.session.set_confirming(false);
    assert_eq!(client.session.poll_publish_ready(&mut cx), Poll::Pending);
    fs.set_capacity_bytes(None);
    block_on(|cx| client.session.poll_publish_ready(cx));
    let durability = client.session.publish(&mut batch).unwrap();
    client.wait_commit(durability);
}

#[test]
fn messages_whose_commit_failed_are_not_in_their_queues() {
    let fs = FakeFs::new(3);
    let broker = on_fake(&fs);
    let mut client = broker.session();
    client.declare("q", "d");
    client.declare("other", "d");
    fs.set_capacity_bytes(Some(fs.used_bytes() + (300 << 10)));
    let body = "x".repeat(20_000);
    let (mut confirmed, mut tries) = (0, 0);
    // Several commits are on their way at once, so that some pass the door and fail behind it.
    let failed = loop {
        let mut tokens = Vec::new();
        for _ in 0..8 {
            let mut batch =
                ["q", "other"].map(|queue| client.message("", queue, &body, &persistent()).unwrap()).into();
            if let Ok(durability) = client.session.publish(&mut batch) {
                tokens.push(durability);
            }
        }
        if tokens.is_empty() {
            // All were refused at the door: the store was full between two rounds. Once more.
            tries += 1;
            assert!(tries < 100, "no commit failed behind the door");
            fs.set_capacity_bytes(None);
            block_on(|cx| client.session.poll_publish_ready(cx));
            fs.set_capacity_bytes(Some(fs.used_bytes() + (300 << 10)));
            continue;
        }
        let results: Vec<_> = tokens.into_iter().map(|token| client.commit_result(token)).collect();
        confirmed += results.iter().filter(|result| result.is_ok()).count();
        if results.iter().any(Result::is_err) {
            break results;
        }
    };
    assert!(
        failed.iter().flat_map(|r| r.as_ref().err()).all(|e| matches!(e, CommitError::OutOfSpace { .. }))
    );
    for queue in ["q", "other"] {
        assert_eq!(client.ready(queue), confirmed as u64);
        assert_eq!(client.drain(queue).len(), confirmed);
    }
}

#[test]
fn messages_of_a_failed_commit_that_were_handed_out_stay_with_their_consumer() {
    // The failing sync may be one that the store makes for itself: then another broker is tried.
    let tried = (0..100).any(|seed| {
        let fs = FakeFs::new(seed);
        let broker = on_fake(&fs);
        let (mut client, mut consumer) = (broker.session(), broker.session());
        client.declare("q", "d");
        let mut request = consume_request("q", 1);
        request.prefetch = 1;
        consumer.session.consume(request).unwrap();
        fs.plan(millpond_store::fs::Fault::FailSync(1));
        let mut batch =
            ["handed out", "ready"].map(|body| client.message("", "q", body, &persistent()).unwrap()).into();
        let Ok(durability) = client.session.publish(&mut batch) else { return false };
        if client.commit_result(durability).is_ok() {
            return false;
        }
        let seen = consumer.deliveries(1);
        assert_eq!(bodies(&seen), ["handed out"]);
        assert_eq!(client.ready("q"), 0);
        consumer.settle(&seen, Outcome::Accept);
        assert!(consumer.take_deliveries().is_empty());
        true
    });
    assert!(tried, "no commit failed behind the door");
}

#[test]
fn a_poisoned_store_confirms_nothing() {
    let fs = FakeFs::new(2);
    let broker = on_fake(&fs);
    let mut client = broker.session();
    client.declare("q", "d");
    fs.plan(millpond_store::fs::Fault::FailSync(1));
    // The failing sync may be one that the store makes for itself; every commit after it fails.
    let is_poisoned = (0..100).any(|_| {
        let mut batch = vec![client.message("", "q", "m", &persistent()).unwrap()];
        match client.session.publish(&mut batch) {
            Ok(durability) => matches!(client.commit_result(durability), Err(CommitError::Poisoned { .. })),
            Err(refused) => matches!(refused, WriteRefused::Store(CommitError::Poisoned { .. })),
        }
    });
    assert!(is_poisoned, "a failed sync poisons");
    let mut batch = vec![client.message("", "q", "m", &persistent()).unwrap()];
    assert!(matches!(
        client.session.publish(&mut batch),
        Err(WriteRefused::Store(CommitError::Poisoned { .. }))
    ));
}

#[test]
fn what_is_acked_while_the_store_is_full_is_remembered_when_there_is_room() {
    let fs = FakeFs::new(5);
    let clock = Clock::fake(1_700_000_000_000);
    let broker = with_options(&fs, BrokerOptions { clock: clock.clone(), ..options() });
    let mut client = broker.session();
    let retaining =
        DeclareQueue { arguments: arguments(&[("x-retain", "1D".into())]), ..queue_request("kept", "d") };
    let (_, durability) = client.session.declare_queue(&retaining).unwrap();
    client.wait_commit(durability);
    client.declare("q", "d");
    client.publish("", "kept", &["a", "b", "c"]);
    fs.set_capacity_bytes(Some(fs.used_bytes() + (300 << 10)));
    fill(&mut client);
    client.consume("kept", 1);
    let seen = client.deliveries(3);
    client.settle(&seen, Outcome::Accept);
    let count = || {
        let queues = broker.broker().list_queues(&VhostName::new("/").unwrap()).unwrap();
        queues.iter().find_map(|queue| queue.retained).unwrap().count
    };
    assert_eq!((client.ready("kept"), count()), (0, 0));
    fs.set_capacity_bytes(None);
    block_on(|cx| client.session.poll_publish_ready(cx));
    block_on(|cx| {
        clock.advance(1000);
        cx.waker().wake_by_ref();
        if count() == 3 { Poll::Ready(()) } else { Poll::Pending }
    });
    client.publish("", "q", &["the store works"]);
}
