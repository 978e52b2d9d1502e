//! The sampler by itself.

use super::*;

const STEP_MS: u64 = 5000;

fn stats() -> Arc<Stats> {
    Stats::new(STEP_MS, Weak::new())
}

fn vhost() -> VhostName {
    VhostName::new("/").unwrap()
}

fn figures(meter: &Meter, now_ms: u64) -> Figures {
    meter.figures(now_ms, STEP_MS)
}

#[test]
fn rates_are_of_the_last_interval_and_end_with_it() {
    let stats = stats();
    let meter = stats.meter(Kind::Exchange, &vhost());
    let mut now_ms = 100 * STEP_MS;
    assert_eq!(figures(&meter, now_ms).rate(Count::PublishIn), 0.0);
    for (came, rate) in [(50, 10.0), (100, 20.0), (0, 0.0), (5, 1.0)] {
        meter.add_shared(Count::PublishIn, came);
        now_ms += STEP_MS;
        stats.tick(now_ms);
        assert_eq!(figures(&meter, now_ms).rate(Count::PublishIn), rate);
        assert_eq!(meter.rate(Count::PublishIn, now_ms, STEP_MS), rate);
        let node = stats.list.lock().node.figures(None, now_ms, STEP_MS);
        assert_eq!(node.rate(Count::Publish), rate, "what exchanges take in is what is published");
    }
    assert_eq!(figures(&meter, now_ms + 3 * STEP_MS).rate(Count::PublishIn), 0.0);
    assert_eq!(figures(&meter, now_ms).get(Count::PublishIn), 155);
}

#[test]
fn what_is_still_is_taken_off_the_list_and_comes_back_with_its_counts() {
    let stats = stats();
    let meter = stats.meter(Kind::Exchange, &vhost());
    let mut now_ms = 100 * STEP_MS;
    let mut tick = || {
        now_ms += STEP_MS;
        (stats.tick(now_ms), now_ms)
    };
    meter.add_shared(Count::PublishIn, 7);
    let moving = (0..100).take_while(|_| tick().0).count();
    assert_eq!(moving, ROWS);
    assert!(stats.list.lock().moving.is_empty());
    tick();
    meter.add_shared(Count::PublishIn, 10);
    let (_, now_ms) = tick();
    let seen = figures(&meter, now_ms);
    assert_eq!((seen.get(Count::PublishIn), seen.rate(Count::PublishIn)), (17, 2.0));
    let window = Window { age_ms: 2 * STEP_MS, step_ms: STEP_MS };
    let samples = [(now_ms, 17), (now_ms - STEP_MS, 7), (now_ms - 2 * STEP_MS, 7)];
    assert_eq!(seen.samples(Count::PublishIn, window), samples);
    let node = stats.list.lock().node.figures(Some(window), now_ms, STEP_MS);
    assert_eq!((node.get(Count::Publish), node.rate(Count::Publish)), (17, 2.0));
    assert_eq!(node.samples(Count::Publish, window), samples);
}

#[test]
fn the_sums_keep_what_went() {
    let stats = stats();
    for _ in 0..3 {
        let meter = stats.meter(Kind::Channel, &vhost());
        meter.add(Count::Confirm, 4);
        meter.end();
    }
    stats.tick(STEP_MS);
    let list = stats.list.lock();
    assert!(list.moving.is_empty());
    for totals in [&list.node, &list.vhosts[&vhost()]] {
        assert_eq!(totals.figures(None, STEP_MS, STEP_MS).get(Count::Confirm), 12);
    }
}

#[test]
fn a_day_of_the_node_is_kept_coarsely() {
    let stats = stats();
    let meter = stats.meter(Kind::Exchange, &vhost());
    let day_ms = 24 * 3600 * 1000;
    let mut now_ms = day_ms;
    for _ in 0..2 * day_ms / STEP_MS {
        meter.add_shared(Count::PublishIn, 5);
        now_ms += STEP_MS;
        stats.tick(now_ms);
    }
    let list = stats.list.lock();
    for (age_ms, step_ms) in [(60_000, 5000), (600_000, 5000), (3_600_000, 60_000), (day_ms, 1_800_000)] {
        let window = Window { age_ms, step_ms };
        let node = list.node.figures(Some(window), now_ms, STEP_MS);
        let samples = node.samples(Count::Publish, window);
        assert_eq!(samples.len() as u64, age_ms / step_ms + 1);
        for pair in samples.windows(2) {
            assert_eq!(pair[0].0 - pair[1].0, step_ms);
            assert_eq!(pair[0].1 - pair[1].1, step_ms / 1000, "over {age_ms}: {pair:?}");
        }
        assert_eq!(node.rate(Count::Publish), 1.0);
    }
    let rows: usize = list.node.rings.iter().map(|(_, ring)| ring.rows().len()).sum();
    assert!(rows <= 231);
}
