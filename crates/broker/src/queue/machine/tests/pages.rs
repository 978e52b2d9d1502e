//! Pages of unacked messages: edges, sparse use, and what they cost.

use crate::queue::machine::{ConsumerKey, Machine, OwnerKey, Return, Terms};

const ME: OwnerKey = OwnerKey(1);

pub(super) fn terms(owner: OwnerKey) -> Terms {
    Terms { owner, priority: 0, prefetch: 0, no_ack: false, lease_ms: None, rate: None }
}

fn drained(ready: std::ops::Range<u64>) -> Machine {
    let mut machine = Machine::new(&[]);
    machine.enqueued(ready);
    machine.add_consumer(ConsumerKey(1), terms(ME));
    while machine.next_run(u32::MAX).is_some() {}
    machine
}

#[test]
fn ranges_across_pages_settle_whole() {
    for (from, to) in [(0, 64), (0, 65), (1, 64), (63, 65), (0, 128), (10, 1000), (64, 128), (127, 129)] {
        let mut machine = drained(0..1000);
        let mut settled = Vec::new();
        machine.settle(ME, from..to, &mut settled);
        assert_eq!(settled, vec![from..to]);
        assert_eq!(machine.unacked_count(), 1000 - (to - from));
        machine.check_conservation().expect("the law holds");
        for seq in 0..1000 {
            assert_eq!(machine.owns(ME, seq), !(from..to).contains(&seq), "{seq} after {from}..{to}");
        }
    }
}

#[test]
fn a_boundless_range_settles_what_is_there() {
    let mut machine = drained(100..400);
    let mut settled = Vec::new();
    machine.settle(ME, 0..u64::MAX, &mut settled);
    assert_eq!(settled, vec![100..400]);
    machine.settle(ME, 0..u64::MAX, &mut settled);
    machine.settle(ME, 5..5, &mut settled);
    assert_eq!(settled, vec![100..400]);
}

#[test]
fn numbers_may_start_anywhere() {
    let start = u64::MAX / 2 - 70;
    let mut machine = drained(start..start + 200);
    assert_eq!(machine.requeue(ME, start + 3..start + 150, Return::Given), 147);
    assert_eq!(machine.ready_from(0), Some(start + 3..start + 150));
    assert_eq!(machine.close_owner(ME), 53);
    assert_eq!(machine.ready_count(), 200);
    machine.check_conservation().expect("the law holds");
}

#[test]
fn every_second_message_can_be_held_and_returned() {
    let mut machine = Machine::default();
    for (key, owner) in [(1, 1), (2, 2)] {
        machine.add_consumer(ConsumerKey(key), terms(OwnerKey(owner)));
    }
    machine.enqueued(0..20_000);
    while machine.next_run(u32::MAX).is_some() {}
    assert_eq!(machine.close_owner(OwnerKey(1)), 10_000);
    machine.check_conservation().expect("the law holds");
    let mut settled = Vec::new();
    machine.settle(OwnerKey(2), 0..20_000, &mut settled);
    assert_eq!(settled.len(), 10_000);
    assert_eq!(machine.purge().len(), 10_000);
    machine.check_conservation().expect("the law holds");
}
