#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::queue::machine::Progress;
use crate::*;
use millpond_model::properties::Properties;
use millpond_model::table::{Table, Value};
use millpond_model::{ConsumerTag, Message, UserName};
use millpond_store::{Store, StoreOptions};

#[test]
fn a_queue_is_told_of_once_when_it_stands_still_for_as_long_as_its_cause_is_given() {
    let found = |cause, gone| {
        let progress = Progress { gone, ..Progress::default() };
        Look::Suspect(Found { cause, progress, ready: 1, able: 1 })
    };
    let undelivered = |gone| found(StuckCause::Undelivered, gone);
    let loading = found(StuckCause::Loading, 0);
    // Looks with their times, and at which of them it is told.
    let check = |looks: &[(u64, Look)], told: &[u64]| {
        let mut suspicion = None;
        let mut at = Vec::new();
        for (now_ms, look) in looks {
            let (next, tell) = Suspicion::judge(suspicion, *look, *now_ms);
            suspicion = next;
            at.extend(tell.then_some(*now_ms));
        }
        assert_eq!(at, told, "{looks:?}");
    };
    check(&[(0, undelivered(0)), (999, undelivered(0))], &[]);
    check(&[(0, undelivered(0)), (1000, undelivered(0)), (2000, undelivered(0))], &[1000]);
    check(&[(0, undelivered(0)), (1000, Look::Busy), (2000, undelivered(0))], &[2000]);
    check(&[(0, undelivered(0)), (1000, Look::Well), (2000, undelivered(0))], &[]);
    check(&[(0, undelivered(0)), (1000, undelivered(1)), (2000, undelivered(2))], &[]);
    check(&[(0, undelivered(0)), (1000, undelivered(1)), (2000, undelivered(1))], &[2000]);
    check(&[(0, loading), (29_000, loading), (30_000, loading)], &[30_000]);
    check(&[(0, loading), (29_000, undelivered(0)), (29_999, undelivered(0))], &[]);
    let stuck_twice = [undelivered(0), undelivered(0), Look::Well, undelivered(1), undelivered(1)];
    let looks: Vec<_> = (0..).step_by(1000).zip(stuck_twice).collect();
    check(&looks, &[1000, 4000]);
}

struct Fixture {
    broker: Broker,
    clock: Clock,
    session: Session,
    _dir: tempfile::TempDir,
}

impl Fixture {
    /// A broker whose time stands still, with queue `q` of these arguments.
    fn new(arguments: &[(&str, Value)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, recovery) = Store::open(StoreOptions::new(dir.path())).unwrap();
        let clock = Clock::fake(1_700_000_000_000);
        let options = BrokerOptions {
            message_size_max_bytes: 1 << 20,
            consumers_max_per_session: 100,
            sessions_max: 100,
            inbox_max_bytes: 1000,
            default_user: UserName::new("guest").unwrap(),
            default_password: "guest".into(),
            default_user_loopback_only: true,
            statistics_interval_ms: 5000,
            clock: clock.clone(),
            audit: Default::default(),
        };
        let broker = Broker::open(store, recovery, options).unwrap();
        let vhost = VhostName::new("/").unwrap();
        let request = OpenSession { login: broker.internal_login(), vhost, name: "test".into() };
        let mut session = broker.open_session(request).unwrap();
        let arguments: Table = arguments.iter().cloned().collect();
        let durable = arguments.get("x-queue-type").is_some();
        let name = QueueName::new("q").unwrap();
        session
            .declare_queue(&DeclareQueue {
                name,
                passive: false,
                durable,
                exclusive: false,
                auto_delete: false,
                arguments,
            })
            .unwrap();
        Self { broker, clock, session, _dir: dir }
    }

    fn consume(&mut self, prefetch: u32, arguments: &[(&str, Value)]) -> Result<ConsumerId, ConsumeError> {
        self.session.consume(ConsumeRequest {
            queue: QueueName::new("q").unwrap(),
            tag: ConsumerTag::new("tag").unwrap(),
            no_ack: false,
            exclusive: false,
            priority: 0,
            prefetch,
            prefetch_shared: false,
            cookie: 0,
            channel: 0,
            arguments: arguments.iter().cloned().collect(),
        })
    }

    fn cell(&self) -> Arc<QueueCell> {
        let vhost = self.broker.core.vhost(&VhostName::new("/").unwrap()).unwrap();
        vhost.read().queue("q").unwrap().0.clone()
    }

    /// All of one group, where that matters.
    fn messages(count: usize, now_ms: u64) -> impl Iterator<Item = Message> {
        let properties = Properties { app_id: Some("a".into()), ..Properties::default() }.encode().unwrap();
        let body = [7; 200];
        std::iter::repeat_with(move || Message::published_at(now_ms, b"", b"q", &properties, false, &body))
            .take(count)
    }

    fn publish(&self, count: usize) {
        let (cell, now_ms) = (self.cell(), self.clock.now_ms());
        self.broker.core.work(|work| cell.put(&mut Self::messages(count, now_ms), work));
    }

    /// Deliveries that wait in the inbox; they stay unwritten.
    fn come(&mut self) -> usize {
        let mut events = Vec::new();
        self.session.try_events(&mut events);
        let count = |event: &SessionEvent| match event {
            SessionEvent::Deliveries(it) => it.items.len(),
            _ => 0,
        };
        events.iter().map(count).sum()
    }

    /// Looks once a second for so many seconds; what was found after that.
    fn watch(&self, seconds: u64) -> StuckReport {
        for _ in 0..=seconds {
            self.broker.look_for_stuck_queues();
            self.clock.advance(1000);
        }
        self.broker.stuck_queues()
    }
}

fn text(value: &str) -> Value {
    Value::LongStr(value.as_bytes().into())
}

#[test]
fn what_is_held_back_by_right_is_no_bug() {
    let quiet = |fixture: &Fixture, what: &str| {
        assert_eq!(fixture.watch(100), StuckReport::default(), "{what}");
    };
    let mut spent = Fixture::new(&[]);
    spent.consume(1, &[]).unwrap();
    spent.publish(3);
    quiet(&spent, "credit is spent");
    assert_eq!(spent.come(), 1);

    let mut full = Fixture::new(&[]);
    full.consume(0, &[]).unwrap();
    full.publish(100);
    quiet(&full, "the inbox is full");

    let idle = Fixture::new(&[]);
    idle.publish(3);
    quiet(&idle, "nobody consumes");

    let mut single = Fixture::new(&[("x-single-active-consumer", Value::Bool(true))]);
    single.consume(1, &[]).unwrap();
    single.consume(1, &[]).unwrap();
    single.publish(3);
    quiet(&single, "the active one has no credit, the other stands by");

    let mut stream = Fixture::new(&[("x-queue-type", text("stream"))]);
    stream.consume(1, &[("x-stream-offset", text("first"))]).unwrap();
    stream.publish(3);
    quiet(&stream, "a reader has no credit");

    let mut grouped = Fixture::new(&[("x-group-by", text("property:app-id"))]);
    grouped.consume(1, &[]).unwrap();
    grouped.consume(10, &[]).unwrap();
    grouped.publish(3);
    quiet(&grouped, "the group is in use by a consumer without credit");
    assert_eq!(grouped.come(), 1);

    let mut paced = Fixture::new(&[("x-rate", Value::F64(0.001))]);
    paced.consume(0, &[]).unwrap();
    paced.publish(3);
    quiet(&paced, "the pace lets nothing go for a quarter of an hour");
}

#[test]
fn a_queue_where_something_was_forgotten_is_told_of_and_goes_on() {
    type Forget = fn(&mut Fixture, &Arc<QueueCell>);
    let cases: [(&str, u64, StuckCause, Forget); 4] = [
        ("never handed out", 1, StuckCause::Undelivered, |fixture, cell| {
            let now_ms = fixture.clock.now_ms();
            fixture.broker.core.work(|work| cell.append_and_forget(&mut Fixture::messages(2, now_ms), work));
        }),
        ("never loaded", 30, StuckCause::Loading, |fixture, cell| {
            cell.forget_to_load();
            fixture.publish(2);
        }),
        ("never opened", 1, StuckCause::TapClosed, |fixture, cell| {
            cell.shut_taps();
            fixture.publish(2);
        }),
        ("never called", 3, StuckCause::Overdue, |fixture, cell| {
            let pace: Table = [("x-rate", Value::F64(1000.0))].into_iter().collect();
            fixture
                .broker
                .change_consumers(
                    &VhostName::new("/").unwrap(),
                    crate::ConsumersMeant { queue: Some(&cell.spec().name), ..Default::default() },
                    &crate::ConsumerChange { arguments: pace, ..Default::default() },
                )
                .unwrap();
            fixture.broker.core.timer.close();
            fixture.publish(2);
        }),
    ];
    for (what, seconds, cause, forget) in cases {
        let mut fixture = Fixture::new(&[]);
        fixture.consume(0, &[]).unwrap();
        let cell = fixture.cell();
        forget(&mut fixture, &cell);
        let came = fixture.come();
        assert_eq!(fixture.watch(seconds - 1).total, 0, "{what}: too early");
        fixture.broker.look_for_stuck_queues();
        let report = fixture.broker.stuck_queues();
        assert_eq!(report.total, 1, "{what}");
        assert_eq!(
            report.now.iter().map(|it| (it.queue.as_str(), it.cause)).collect::<Vec<_>>(),
            [("q", cause)]
        );
        assert_eq!(came + fixture.come(), 2, "{what}: after the push");
        let later = fixture.watch(2);
        assert_eq!((later.total, later.now.len()), (1, 0), "{what}: it goes on");
    }
}

#[test]
fn a_stream_whose_reader_was_forgotten_is_told_of_and_goes_on() {
    let mut fixture = Fixture::new(&[("x-queue-type", text("stream"))]);
    fixture.consume(10, &[("x-stream-offset", text("first"))]).unwrap();
    let stream = fixture.cell().stream().unwrap().clone();
    stream.shut_taps();
    fixture.publish(2);
    assert_eq!(fixture.come(), 0);
    let report = fixture.watch(1);
    assert_eq!((report.total, report.now[0].cause, report.now[0].ready), (1, StuckCause::TapClosed, 2));
    assert_eq!(fixture.come(), 2);
    assert_eq!(fixture.watch(2).now, []);
}
