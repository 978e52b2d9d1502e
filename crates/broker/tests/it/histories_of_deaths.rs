//! Random histories of a queue that its messages leave in every way there is: each is in that queue, in the one its
//! dead messages go to, or settled, and never in two of them, also over restarts. Those that were acked are remembered,
//! each once, in the order of the acks.

use crate::support::*;
use millpond_broker::*;
use millpond_model::VhostName;
use millpond_model::properties::Properties;
use millpond_model::table::Value;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const STEPS: usize = 120;
const PATIENCE: Duration = Duration::from_secs(20);

struct History {
    rng: StdRng,
    clock: Clock,
    broker: TestBroker,
    client: Option<Client>,
    held: Vec<Seen>,
    consuming: bool,
    alive: BTreeSet<u32>,
    acked: Vec<u32>,
    next_message: u32,
    arguments: Vec<(&'static str, Value)>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let clock = Clock::fake(1_700_000_000_000);
        let options = BrokerOptions { clock: clock.clone(), ..options() };
        let mut arguments: Vec<(&'static str, Value)> =
            vec![("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", "grave".into())];
        arguments.push(("x-retain", "7D".into()));
        let more: [(&'static str, Value); 6] = [
            ("x-message-ttl", 300i64.into()),
            ("x-max-length", 30i64.into()),
            ("x-max-length-bytes", 150i64.into()),
            ("x-delivery-limit", 2i64.into()),
            ("x-max-priority", 3i64.into()),
            ("x-queue-type", "quorum".into()),
        ];
        arguments.extend(more.into_iter().filter(|_| rng.random_bool(0.5)));
        let broker =
            if rng.random_bool(0.5) { TestBroker::paging(options) } else { TestBroker::with(options) };
        let mut this = Self {
            rng,
            clock,
            broker,
            client: None,
            held: Vec::new(),
            consuming: false,
            alive: BTreeSet::new(),
            acked: Vec::new(),
            next_message: 0,
            arguments,
        };
        this.begin();
        this
    }

    fn begin(&mut self) {
        let mut client = self.broker.session();
        client.declare("grave", "d");
        let request = DeclareQueue { arguments: arguments(&self.arguments), ..queue_request("work", "d") };
        let (_, durability) = client.session.declare_queue(&request).unwrap();
        client.wait_commit(durability);
        self.client = Some(client);
        self.consuming = false;
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..35 => self.publish(),
            35..45 if !self.consuming => {
                let prefetch = self.rng.random_range(1..6);
                let request = ConsumeRequest { prefetch, ..consume_request("work", 1) };
                self.client.as_mut().unwrap().session.consume(request).unwrap();
                self.consuming = true;
            }
            45..80 => self.settle(),
            80..88 => {
                if let Some(got) = self.client.as_mut().unwrap().get("work", true) {
                    let body = String::from_utf8_lossy(got.delivery.message.body()).into_owned();
                    self.gone(&body);
                }
            }
            88..96 => self.clock.advance(self.rng.random_range(0..200)),
            _ => self.close(),
        }
    }

    fn publish(&mut self) {
        let count = self.rng.random_range(1..8);
        let client = self.client.as_mut().unwrap();
        let mut batch = Vec::new();
        for _ in 0..count {
            let expiration =
                self.rng.random_bool(0.2).then(|| self.rng.random_range(0..400).to_string().into());
            let priority = self.rng.random_bool(0.5).then(|| self.rng.random_range(0..6));
            let properties = Properties { expiration, priority, ..persistent() };
            let body = format!("{:06}", self.next_message);
            batch.push(client.message("", "work", &body, &properties).unwrap());
            self.alive.insert(self.next_message);
            self.next_message += 1;
        }
        let durability = client.session.publish(&mut batch).unwrap();
        client.wait_commit(durability);
    }

    fn gone(&mut self, body: &str) {
        let message = body.parse().unwrap();
        assert!(self.alive.remove(&message), "{body} was settled twice");
        self.acked.push(message);
    }

    fn settle(&mut self) {
        let client = self.client.as_mut().unwrap();
        self.held.extend(client.take_deliveries());
        if self.held.is_empty() {
            return;
        }
        let seen = self.held.swap_remove(self.rng.random_range(0..self.held.len()));
        let outcomes = [Outcome::Accept, Outcome::Reject, Outcome::Requeue, Outcome::Fail];
        let outcome = outcomes[self.rng.random_range(0..outcomes.len())];
        client.session.settle(&[seen.id], outcome);
        if outcome == Outcome::Accept {
            self.gone(&seen.body);
        }
    }

    fn close(&mut self) {
        self.client = None;
        self.held.clear();
        self.begin();
    }

    /// Closes all and counts; moves that wait for the disk or the timer's thread are waited for.
    fn check(&mut self, restart: bool) {
        self.client = None;
        self.held.clear();
        if restart {
            self.broker.reopen();
        }
        self.begin();
        self.wait_remembered();
        let client = self.client.as_mut().unwrap();
        let started = Instant::now();
        loop {
            let there = client.ready("work") + client.ready("grave");
            if there == self.alive.len() as u64 {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{there} messages, not {}", self.alive.len());
            std::thread::yield_now();
        }
    }

    /// What was read back from disk to be remembered has come.
    fn wait_remembered(&self) {
        let started = Instant::now();
        loop {
            let queues = self.broker.broker().list_queues(&VhostName::new("/").unwrap()).unwrap();
            let work = queues.into_iter().find(|queue| queue.name.as_str() == "work").unwrap();
            let count = work.retained.unwrap().count;
            if count == self.acked.len() as u64 {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{count} are remembered, not {}", self.acked.len());
            std::thread::yield_now();
        }
    }

    /// What is remembered, as a replay brings it.
    fn remembered(&mut self) -> Vec<u32> {
        let client = self.client.as_mut().unwrap();
        client.declare("copies", "d");
        let request = TransferRequest {
            to_vhost: None,
            from: queue("work"),
            to: TransferTo::Queue(queue("copies")),
            of: TransferOf::Retained(ReplayPeriod::default()),
            keep: true,
            filter: MessageFilter::default(),
            limit: None,
            dry_run: false,
        };
        transfer(&self.broker, request);
        let copies = self.client.as_mut().unwrap().drain("copies");
        copies.iter().map(|body| body.parse().unwrap()).collect()
    }

    /// Takes all there is; a message may still be on its way from one queue to the other meanwhile.
    fn end(&mut self) {
        assert_eq!(self.remembered(), self.acked);
        let client = self.client.as_mut().unwrap();
        let mut found: Vec<u32> = Vec::new();
        let started = Instant::now();
        while found.len() < self.alive.len() && started.elapsed() < PATIENCE {
            for queue in ["work", "grave"] {
                found.extend(client.drain(queue).iter().map(|body| body.parse::<u32>().unwrap()));
            }
        }
        found.sort_unstable();
        assert!(found.iter().eq(&self.alive), "found {found:?}, not {:?}", self.alive);
    }
}

#[test]
fn random_histories_of_deaths_leave_every_message_in_one_place() {
    for seed in 0..16 {
        let run = || {
            let mut history = History::new(seed);
            for round in 0..4 {
                (0..STEPS).for_each(|_| history.step());
                history.check(round % 2 == 1);
            }
            history.end();
        };
        assert!(std::panic::catch_unwind(run).is_ok(), "seed {seed} fails");
    }
}
