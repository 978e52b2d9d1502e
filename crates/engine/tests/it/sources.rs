//! Sources: what all kinds have in common, seen at the timer.

use crate::support::TestEngine;
use millpond_broker::Clock;
use millpond_engine::check;

const NOON_MS: u64 = 1_700_049_600_000;

/// A bound queue and a source.
fn topology(source: &str) -> String {
    format!(
        "queues: {{seen: {{}}}}\nbindings:\n  - {{exchange: millpond.events, queue: seen}}\nsources:\n{source}"
    )
}

/// Turns the clock, and waits until the source has published so many events.
async fn turn(it: &TestEngine, clock: &Clock, by_ms: u64, events: u64) {
    clock.advance(by_ms);
    it.until_source("tick", |status| status.events == events).await;
}

fn mark_ms(it: &TestEngine) -> Option<u64> {
    let values = it.broker.values("engine").unwrap();
    let (_, value) = values.into_iter().find(|(key, _)| key == "source/tick")?;
    serde_json::from_slice::<serde_json::Value>(&value).unwrap()["cursor"]["mark_ms"].as_u64()
}

/// Waits until the timer has a mark at or after that moment, so that later ones count.
async fn marked(it: &TestEngine, at_ms: u64) {
    crate::support::in_time("the mark", async {
        while mark_ms(it).is_none_or(|mark_ms| mark_ms < at_ms) {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;
}

async fn begun(it: &TestEngine) {
    marked(it, NOON_MS).await;
}

#[tokio::test]
async fn a_timer_publishes_a_cloud_event_at_every_moment() {
    let clock = Clock::fake(NOON_MS);
    let it = TestEngine::with_clock(clock.clone()).await;
    it.apply(&topology("  tick:\n    timer: {cron: '*/10 * * * *', zone: Europe/Berlin}")).await;
    begun(&it).await;
    turn(&it, &clock, 600_000, 1).await;
    let mut client = it.client();
    let seen = client.get("seen").await;
    assert_eq!(seen.routing_key, "millpond.timer");
    assert_eq!(seen.json(), serde_json::json!({"due": "2023-11-15T12:10:00Z"}));
    let header = |name: &str| seen.header(&format!("cloudEvents:{name}")).unwrap();
    assert_eq!(header("specversion"), "1.0");
    assert_eq!(header("id"), format!("tick/{}", NOON_MS + 600_000));
    assert_eq!(header("source"), "/sources/tick");
    assert_eq!(header("type"), "millpond.timer");
    assert_eq!(header("subject"), "tick");
    assert_eq!(header("time"), "2023-11-15T12:10:00Z");
    assert_eq!(seen.properties.message_id.as_deref(), Some(header("id").as_str()));
    assert_eq!(seen.properties.content_type.as_deref(), Some("application/json"));
    assert_eq!(seen.properties.delivery_mode, Some(2));
}

#[tokio::test]
async fn moments_missed_while_it_was_down_are_skipped_made_up_for_once_or_all() {
    for (missed, wanted) in [("skip", vec![]), ("once", vec![4000u64]), ("all", vec![2000, 3000, 4000])] {
        let clock = Clock::fake(NOON_MS);
        let it = TestEngine::with_clock(clock.clone()).await;
        it.apply(&topology(&format!("  tick:\n    timer: {{every: 1s, missed: {missed}}}"))).await;
        begun(&it).await;
        turn(&it, &clock, 1000, 1).await;
        let clock = Clock::fake(NOON_MS + 4500);
        let it = it.reopen_at(clock.clone()).await;
        marked(&it, NOON_MS + 4500).await;
        turn(&it, &clock, 1000, wanted.len() as u64 + 1).await;
        let mut client = it.client();
        let mut found = Vec::new();
        while let Some(seen) = client.try_get("seen").await {
            let id = seen.header("cloudEvents:id").unwrap();
            let at: u64 = id.strip_prefix("tick/").unwrap().parse().unwrap();
            found.push(at - NOON_MS);
        }
        assert_eq!(found, [vec![1000], wanted, vec![5000]].concat(), "{missed}");
    }
}

/// A machine without a battery for its clock may begin in any year, and learn better from the network.
#[tokio::test]
async fn a_timer_is_not_silent_until_a_clock_that_was_wrong_is_right() {
    const DAY_MS: u64 = 86_400_000;
    let clock = Clock::fake(NOON_MS);
    let it = TestEngine::with_clock(clock.clone()).await;
    it.apply(&topology("  tick:\n    timer: {every: 1s}")).await;
    begun(&it).await;
    let clock = Clock::fake(NOON_MS - DAY_MS);
    let it = it.reopen_at(clock.clone()).await;
    crate::support::in_time("a mark of today", async {
        while mark_ms(&it).is_none_or(|mark_ms| mark_ms >= NOON_MS) {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;
    turn(&it, &clock, 1000, 1).await;
    // One hour is a clock that is put right: no moment has two events.
    let clock = Clock::fake(NOON_MS - DAY_MS - 3_600_000);
    let it = it.reopen_at(clock.clone()).await;
    turn(&it, &clock, 3_600_000, 0).await;
    turn(&it, &clock, 2000, 1).await;
}

#[tokio::test]
async fn type_subject_and_data_are_worked_out_over_the_event() {
    let clock = Clock::fake(NOON_MS);
    let it = TestEngine::with_clock(clock.clone()).await;
    it.apply(&topology(
        r#"  tick:
    timer: {every: 1s}
    source: https://example.com/clock
    type: tick.\(.data.minute)
    subject: '\(.data.at)'
    data: 'if (.data.due | contains(":02Z")) then empty else {at: .data.due, minute: .time[14:16]} end'"#,
    ))
    .await;
    begun(&it).await;
    turn(&it, &clock, 1000, 1).await;
    clock.advance(1000);
    it.until_source("tick", |status| status.dropped == 1).await;
    turn(&it, &clock, 1000, 2).await;
    let mut client = it.client();
    for second in [1, 3] {
        let seen = client.get("seen").await;
        assert_eq!(seen.routing_key, "tick.00");
        assert_eq!(seen.header("cloudEvents:source").unwrap(), "https://example.com/clock");
        let at = format!("2023-11-15T12:00:0{second}Z");
        assert_eq!(seen.header("cloudEvents:subject").unwrap(), at);
        assert_eq!(seen.json(), serde_json::json!({"at": at, "minute": "00"}));
    }
}

#[tokio::test]
async fn an_item_that_cannot_become_an_event_is_told_of_and_the_source_goes_on() {
    let clock = Clock::fake(NOON_MS);
    let it = TestEngine::with_clock(clock.clone()).await;
    it.apply(&topology("  tick:\n    timer: {every: 1s}\n    data: .data.due.nothing")).await;
    begun(&it).await;
    for count in 1..=2 {
        clock.advance(1000);
        it.until_source("tick", |status| status.failed == count).await;
    }
    let seen = it.client().get("seen").await;
    assert_eq!(seen.routing_key, "millpond.source.failed");
    let data = seen.json();
    assert_eq!(data["data"], r#"{"due":"2023-11-15T12:00:01Z"}"#);
    assert!(data["error"].as_str().unwrap().starts_with("test.yaml:7: jq '.data.due.nothing'"), "{data}");
}

#[tokio::test]
async fn a_changed_source_goes_on_where_it_was_and_a_removed_one_is_forgotten() {
    let clock = Clock::fake(NOON_MS);
    let it = TestEngine::with_clock(clock.clone()).await;
    let one = topology("  tick:\n    timer: {every: 1s, missed: all}");
    assert!(it.apply(&one).await.contains("source tick: added"));
    begun(&it).await;
    turn(&it, &clock, 1000, 1).await;
    assert!(it.apply(&one).await.contains("nothing to change"));
    it.engine.stop_source("tick").await.unwrap();
    clock.advance(3000);
    let report = it.apply(&topology("  tick:\n    timer: {every: 1s, missed: all}\n    type: tock")).await;
    assert!(report.contains("source tick: replaced, stopped"), "{report}");
    assert_eq!(it.source_state("tick"), "stopped");
    it.engine.start_source("tick").await.unwrap();
    it.until_source("tick", |status| status.events == 3).await;
    let report = it.apply("queues: {seen: {}}").await;
    assert!(report.contains("source tick: removed, its place is forgotten"), "{report}");
    assert!(it.engine.sources().is_empty());
    let values = it.broker.values("engine").unwrap();
    assert!(!values.iter().any(|(key, _)| key.starts_with(b"source")), "{values:?}");
}

#[tokio::test]
async fn a_stopped_source_stays_stopped_over_a_restart() {
    let clock = Clock::fake(NOON_MS);
    let it = TestEngine::with_clock(clock).await;
    it.apply(&topology("  tick:\n    timer: {every: 1s}")).await;
    it.engine.stop_source("tick").await.unwrap();
    let it = it.reopen().await;
    assert_eq!(it.source_state("tick"), "stopped");
    it.engine.start_source("tick").await.unwrap();
    begun(&it).await;
    let error = it.engine.start_source("tikc").await.unwrap_err().to_string();
    assert_eq!(error, "no source 'tikc' in the topology; did you mean 'tick'?");
}

#[tokio::test]
async fn a_source_whose_exchange_went_waits_for_it() {
    let clock = Clock::fake(NOON_MS);
    let it = TestEngine::with_clock(clock.clone()).await;
    it.apply("exchanges: {side: {type: fanout}}\nsources:\n  tick:\n    timer: {every: 1s, missed: all}\n    exchange: side")
        .await;
    begun(&it).await;
    let mut client = it.client();
    let side = crate::support::exchange("side", "fanout");
    client.session.delete_exchange(&side.name, false).unwrap();
    clock.advance(1000);
    it.until_source("tick", |status| status.state.to_string().contains("side")).await;
    client.session.declare_exchange(&side).unwrap();
    it.until_source("tick", |status| status.events == 1).await;
    assert_eq!(it.source_state("tick"), "running");
}

#[test]
fn mistakes_in_sources_are_reported_with_their_line() {
    let cases = [
        ("a: {}", "sources.a: found no kind of source, expected one of "),
        (
            "a: {timer: {every: 1s}, pull: 1}",
            "sources.a: found the unknown key 'pull', expected one of poll, ",
        ),
        ("a: {timer: {}}", "sources.a.timer: found neither 'cron' nor 'every', expected one of them"),
        ("a: {timer: {cron: 'x'}}", "sources.a.timer: 'x' is no cron expression"),
        ("a: {timer: {every: 1ms}}", "sources.a.timer.every: found '1ms', expected at least 10ms"),
        ("a: {timer: {every: 1s}, poll: {every: 5s}}", "sources.a.poll: found 'poll', expected none"),
        ("a: {timer: {every: 1s}, data: '.x |'}", "sources.a.data: jq '.x |': found its end"),
        ("a b: {timer: {every: 1s}}", "sources.a b: found the source name 'a b', expected letters"),
    ];
    for (source, wanted) in cases {
        let error = check("t.yaml", &format!("sources:\n  {source}\n")).unwrap_err().to_string();
        assert!(error.contains(&format!("t.yaml:2: {wanted}")), "{source}: {error}");
    }
}
