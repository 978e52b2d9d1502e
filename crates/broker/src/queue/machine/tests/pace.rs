//! A pace is kept: over any window, whatever the wake-ups, the credit and the changes.

use super::pages::terms;
use super::table::check;
use crate::queue::machine::{ConsumerKey, Machine, OwnerKey, Rate, Terms, TimedSettings};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const ME: OwnerKey = OwnerKey(1);

#[test]
fn a_paced_consumer_is_given_one_message_an_interval() {
    check(
        "
        consume c1 s1 rate=10       |
        enqueue a-e                 | c1 a
        deadline?                   | 100
        at 99                       |
        at 100                      | c1 b
        at 200                      | c1 c
        at 310                      | c1 d
        at 390                      |
        at 400                      | c1 e
        ",
    );
}

#[test]
fn another_consumer_takes_what_a_paced_one_may_not() {
    check(
        "
        consume c1 s1 rate=10 priority=9    |
        consume c2 s2                       |
        enqueue a-c                         | c1 a, c2 b c
        at 100                              |
        enqueue d-e                         | c1 d, c2 e
        ",
    );
}

#[test]
fn idle_time_is_not_saved_up() {
    check(
        "
        consume c1 s1 rate=10       |
        at 10000                    |
        enqueue a-d                 | c1 a
        at 10099                    | c1 b
        at 10150                    |
        at 10180                    | c1 c
        ",
    );
}

#[test]
fn pace_and_prefetch_hold_together() {
    check(
        "
        consume c1 s1 rate=10 prefetch=1    |
        enqueue a-d                         | c1 a
        at 100                              |
        accept s1 a                         | settled a, c1 b
        accept s1 b                         | settled b
        at 200                              | c1 c
        ",
    );
}

#[test]
fn a_pace_changes_while_it_runs() {
    check(
        "
        consume c1 s1 rate=1        |
        enqueue a-f                 | c1 a
        rate c1 rate=10             |
        deadline?                   | 100
        at 100                      | c1 b
        rate c1 rate=1              |
        at 200                      | c1 c
        at 1100                     |
        at 1200                     | c1 d
        rate c1                     | c1 e f
        deadline?                   | none
        ",
    );
}

#[test]
fn a_queues_pace_holds_for_all_its_consumers_together() {
    check(
        "
        queue rate=10               |
        enqueue a-f                 |
        deadline?                   | none
        consume c1 s1               | c1 a
        consume c2 s2               |
        deadline?                   | 100
        at 100                      | c1 b
        at 200                      | c2 c
        get s3                      | got d
        cancel c1                   |
        cancel c2                   |
        at 300                      |
        queue                       |
        consume c3 s3               | c3 e f
        ",
    );
}

#[test]
fn what_is_given_back_does_not_count() {
    check(
        "
        pause                       |
        queue rate=10               |
        consume c1 s1 rate=20       |
        enqueue a-c                 |
        next 10                     | c1 a
        give-back a                 |
        next 10                     | c1 a
        next 10                     |
        at 50                       |
        next 10                     |
        at 100                      |
        next 10                     | c1 b
        ",
    );
}

/// Who keeps the pace.
#[derive(Debug, Clone, Copy)]
enum Keeper {
    Consumer,
    Queue,
}

/// The moments of deliveries in `total_ms`, with wake-ups late by up to `late_ms`.
fn moments(keeper: Keeper, rate: Rate, total_ms: u64, late_ms: u64, random: &mut StdRng) -> Vec<u64> {
    let mut machine = Machine::default();
    let mut now_ms = 5_000_000;
    let end_ms = now_ms + total_ms;
    machine.advance(now_ms, &mut Vec::new());
    match keeper {
        Keeper::Consumer => machine.add_consumer(ConsumerKey(1), Terms { rate: Some(rate), ..terms(ME) }),
        Keeper::Queue => {
            machine.apply(TimedSettings { rate: Some(rate), ..TimedSettings::default() });
            machine.add_consumer(ConsumerKey(1), terms(ME));
            machine.add_consumer(ConsumerKey(2), Terms { no_ack: true, ..terms(ME) });
        }
    }
    machine.enqueued(0..10_000_000);
    let mut moments = Vec::new();
    while now_ms < end_ms {
        while let Some(run) = machine.next_run(512) {
            moments.extend(run.seqs.clone().map(|_| now_ms));
            machine.settle(ME, run.seqs, &mut Vec::new());
        }
        let due_ms = machine.next_deadline_ms().expect("there is more to come");
        now_ms = due_ms + random.random_range(0..=late_ms);
        machine.advance(now_ms, &mut Vec::new());
        machine.check_conservation().expect("the law holds");
    }
    moments
}

#[test]
fn every_window_after_the_first_has_what_was_promised_within_two_percent() {
    let mut random = StdRng::seed_from_u64(7);
    for (per_s, window_ms, late_ms) in [
        (1.0, 1000, 15),
        (3.7, 5000, 15),
        (50.0, 1000, 15),
        (333.0, 1000, 9),
        (10_000.0, 1000, 15),
        (100_000.0, 100, 1),
        (2_000.0, 10_000, 150),
    ] {
        for keeper in [Keeper::Consumer, Keeper::Queue] {
            let rate = Rate::new(per_s, window_ms).expect("within bounds");
            let moments = moments(keeper, rate, u64::from(window_ms) * 8, late_ms, &mut random);
            let wanted = per_s * f64::from(window_ms) / 1000.0;
            // Counting whole messages in a window adds one at each side of it.
            let (least, most) = (wanted * 0.98 - 1.0, wanted * 1.02 + 1.0);
            let last_ms = moments.last().expect("some");
            for (at, from_ms) in moments.iter().enumerate() {
                let to_ms = from_ms + u64::from(window_ms);
                if to_ms > *last_ms {
                    break;
                }
                let n = moments[at..].partition_point(|ms| *ms < to_ms) as f64;
                let figure = format!("{n} messages in {window_ms} ms at {per_s}/s by {keeper:?}");
                assert!(least <= n && n <= most, "{figure}: {least} to {most} were promised");
            }
        }
    }
}

#[test]
fn figures_show_what_was_promised_and_what_was_delivered() {
    let mut machine = Machine::default();
    let rate = Rate::new(100.0, 1000).expect("within bounds");
    machine.add_consumer(ConsumerKey(1), Terms { rate: Some(rate), ..terms(ME) });
    machine.enqueued(0..1000);
    let delivered = |machine: &mut Machine, now_ms| {
        let figures = machine.figures(now_ms).consumers[0].pace.expect("it has a pace");
        assert_eq!(figures.rate.per_s(), 100.0);
        figures.delivered_per_s
    };
    for now_ms in 0..2000 {
        machine.advance(now_ms, &mut Vec::new());
        while machine.next_run(512).is_some() {}
        assert_eq!(delivered(&mut machine, now_ms), (now_ms >= 1000).then_some(100.0), "at {now_ms}");
    }
    machine.advance(5000, &mut Vec::new());
    assert_eq!(delivered(&mut machine, 5000), Some(0.0));
    let figures = machine.figures(5000);
    assert_eq!((figures.ready, figures.unacked, figures.waiting), (800, 200, 0));
}

#[test]
fn rates_out_of_bounds_are_none() {
    for (per_s, window_ms) in
        [(0.0, 1000), (-1.0, 1000), (f64::NAN, 1000), (1e9, 1000), (1.0, 0), (1.0, 3_600_001)]
    {
        assert_eq!(Rate::new(per_s, window_ms), None, "{per_s}/s over {window_ms} ms");
    }
}
