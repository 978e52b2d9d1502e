//! Memory and disk run out (contract C11).

use crate::support::*;
use millpond_broker::*;
use std::task::{Context, Poll};

const LIMITS: ResourceLimits =
    ResourceLimits { memory_max_bytes: 100, disk_free_min_bytes: 50, refuse_after_ms: Some(1000) };

fn look(broker: &TestBroker, memory_bytes: u64, disk_free_bytes: u64) {
    let measured = Resources { memory_bytes: Some(memory_bytes), disk_free_bytes: Some(disk_free_bytes) };
    broker.broker().check_resources(measured, &LIMITS);
}

#[test]
fn publishers_wait_until_the_last_alarm_is_clear() {
    let broker = TestBroker::new();
    let mut client = broker.client("/").unwrap();
    let waker = waker();
    let mut cx = Context::from_waker(&waker);
    look(&broker, 100, 50);
    assert_eq!(client.session.alarm_level(), AlarmLevel::Clear);
    look(&broker, 101, 50);
    assert_eq!(client.session.alarm_level(), AlarmLevel::Blocking);
    assert_eq!(&*client.session.alarm_reason(), "low on memory");
    assert!(client.session.poll_alarm(AlarmLevel::Blocking, &mut cx).is_pending());
    look(&broker, 101, 49);
    assert_eq!(&*client.session.alarm_reason(), "low on memory & disk");
    assert_eq!(broker.broker().alarms().len(), 2);
    look(&broker, 100, 49);
    assert_eq!(&*client.session.alarm_reason(), "low on disk");
    assert!(client.session.poll_alarm(AlarmLevel::Blocking, &mut cx).is_pending());
    look(&broker, 100, 50);
    assert_eq!(client.session.poll_alarm(AlarmLevel::Blocking, &mut cx), Poll::Ready(AlarmLevel::Clear));
    // What is not known is no alarm.
    broker.broker().check_resources(Resources::default(), &LIMITS);
    assert!(broker.broker().alarms().is_empty());
}

#[test]
fn an_old_alarm_refuses_publishes_of_clients_and_nothing_else() {
    let clock = Clock::fake(1_700_000_000_000);
    let broker = TestBroker::with(BrokerOptions { clock: clock.clone(), ..options() });
    let (mut client, mut rule) = (broker.client("/").unwrap(), broker.session());
    client.declare("q", "d");
    let publish = |client: &mut Client, properties| {
        let mut batch = vec![client.message("", "q", "m", &properties).unwrap()];
        client.session.publish(&mut batch).map(|durability| client.wait_commit(durability))
    };
    look(&broker, 101, 50);
    clock.advance(999);
    look(&broker, 101, 50);
    publish(&mut client, persistent()).unwrap();
    clock.advance(1);
    look(&broker, 101, 50);
    let refused = publish(&mut client, transient()).unwrap_err().to_string();
    assert_eq!(refused, "the broker is low on memory, publishes are refused until the alarm is over");
    publish(&mut rule, persistent()).unwrap();
    let waker = waker();
    let mut cx = Context::from_waker(&waker);
    client.session.set_confirming(false);
    assert!(client.session.poll_publish_ready(&mut cx).is_pending());
    assert_eq!(client.drain("q"), ["m", "m"]);
    look(&broker, 100, 50);
    assert!(client.session.poll_publish_ready(&mut cx).is_ready());
    publish(&mut client, persistent()).unwrap();
    // The next alarm is young again.
    look(&broker, 101, 50);
    publish(&mut client, persistent()).unwrap();
}
