//! A store that takes no writes.

use crate::support::*;
use millpond_broker::*;
use millpond_store::fs::FakeFs;
use millpond_store::{Store, StoreOptions};
use std::sync::Arc;
use std::task::{Context, Poll};

fn on_fake(fs: &FakeFs) -> TestBroker {
    let mut store_options = StoreOptions::new("/data");
    store_options.wal_segment_size_bytes = 64 << 10;
    let (store, recovery) = Store::open_on(Arc::new(fs.clone()), store_options).unwrap();
    TestBroker::of(Broker::open(store, recovery, options()).unwrap())
}

/// Publishes until the store says no, at the door or by a failed commit; how many were confirmed.
fn fill(client: &mut Client) -> usize {
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
fn a_poisoned_store_confirms_nothing() {
    let fs = FakeFs::new(2);
    let broker = on_fake(&fs);
    let mut client = broker.session();
    client.declare("q", "d");
    fs.plan(millpond_store::fs::Fault::FailSync(1));
    let durability = client.publish_with("", "q", &["m"], &persistent());
    assert!(matches!(client.commit_result(durability), Err(CommitError::Poisoned { .. })));
    let mut batch = vec![client.message("", "q", "m", &persistent()).unwrap()];
    assert!(matches!(client.session.publish(&mut batch), Err(WriteRefused(CommitError::Poisoned { .. }))));
}
