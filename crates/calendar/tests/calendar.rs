//! Cron expressions in time zones, as tables: what comes next, days on which clocks are changed, what is refused.
#![allow(clippy::unwrap_used)]

use millpond_calendar::Calendar;

/// Milliseconds of a moment such as `2026-03-29T01:00:00Z`, or with an offset.
fn ms(text: &str) -> u64 {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond() as u64
}

/// What comes after `from`, as the zone's clocks show it, without the year's and the seconds' zeros.
fn check(cron: &str, zone: &str, from: &str, wanted: &[&str]) {
    let calendar = Calendar::new(cron, zone).unwrap();
    let mut at = ms(from);
    let mut found = Vec::new();
    for _ in wanted {
        let next = calendar.next_after(at).unwrap();
        assert!(next > at);
        assert_eq!(calendar.last_up_to(next), Some(next), "{cron} {zone}: what comes is what came");
        assert_eq!(calendar.next_after(next - 1), Some(next), "{cron} {zone}: just before it");
        at = next;
        found.push(calendar.show(next));
    }
    assert_eq!(found, wanted, "{cron} {zone} from {from}");
}

#[test]
fn fields_lists_ranges_steps_and_names_say_when_it_comes() {
    for (cron, wanted) in [
        ("*/20 * * * *", ["2026-11-22 10:00:00 +00:00", "2026-11-22 10:20:00 +00:00"]),
        ("5,35 9-17 * * *", ["2026-11-22 10:05:00 +00:00", "2026-11-22 10:35:00 +00:00"]),
        ("0 9 * * MON-FRI", ["2026-11-23 09:00:00 +00:00", "2026-11-24 09:00:00 +00:00"]),
        ("0 0 1 jan *", ["2027-01-01 00:00:00 +00:00", "2028-01-01 00:00:00 +00:00"]),
        ("0 0 29 2 *", ["2028-02-29 00:00:00 +00:00", "2032-02-29 00:00:00 +00:00"]),
        // Sunday is 0 and 7.
        ("0 12 * * 7", ["2026-11-22 12:00:00 +00:00", "2026-11-29 12:00:00 +00:00"]),
        ("0 12 * * 0", ["2026-11-22 12:00:00 +00:00", "2026-11-29 12:00:00 +00:00"]),
        // Both days restricted: either is enough.
        ("0 0 25 * WED", ["2026-11-25 00:00:00 +00:00", "2026-12-02 00:00:00 +00:00"]),
        ("0 0 L * *", ["2026-11-30 00:00:00 +00:00", "2026-12-31 00:00:00 +00:00"]),
        ("0 0 * * FRI#2", ["2026-12-11 00:00:00 +00:00", "2027-01-08 00:00:00 +00:00"]),
        // Six fields: the second in front.
        ("*/30 * * * * *", ["2026-11-22 10:00:00 +00:00", "2026-11-22 10:00:30 +00:00"]),
        ("@daily", ["2026-11-23 00:00:00 +00:00", "2026-11-24 00:00:00 +00:00"]),
        ("@Hourly", ["2026-11-22 10:00:00 +00:00", "2026-11-22 11:00:00 +00:00"]),
        ("@weekly", ["2026-11-29 00:00:00 +00:00", "2026-12-06 00:00:00 +00:00"]),
        ("@yearly", ["2027-01-01 00:00:00 +00:00", "2028-01-01 00:00:00 +00:00"]),
    ] {
        check(cron, "", "2026-11-22T09:59:59.5Z", &wanted);
    }
}

#[test]
fn a_time_of_day_comes_once_on_days_on_which_clocks_change() {
    // Forward: 02:00 to 03:00 on 29 March 2026.
    check(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-03-28T00:00:00Z",
        &["2026-03-28 02:30:00 +01:00", "2026-03-29 03:00:00 +02:00", "2026-03-30 02:30:00 +02:00"],
    );
    // Back: 03:00 to 02:00 on 25 October 2026.
    check(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-10-24T00:00:00Z",
        &["2026-10-24 02:30:00 +02:00", "2026-10-25 02:30:00 +02:00", "2026-10-26 02:30:00 +01:00"],
    );
    // Midnight itself is missing in Santiago on 6 September 2026.
    check(
        "@daily",
        "America/Santiago",
        "2026-09-05T12:00:00Z",
        &["2026-09-06 01:00:00 -03:00", "2026-09-07 00:00:00 -03:00"],
    );
    // Half an hour on Lord Howe: 02:00 to 02:30 on 4 October 2026.
    check(
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T00:00:00Z",
        &["2026-10-04 02:30:00 +11:00", "2026-10-05 02:15:00 +11:00"],
    );
}

#[test]
fn what_comes_by_intervals_goes_by_the_time_that_passes() {
    check(
        "*/30 * * * *",
        "Europe/Berlin",
        "2026-03-29T00:15:00Z",
        &["2026-03-29 01:30:00 +01:00", "2026-03-29 03:00:00 +02:00", "2026-03-29 03:30:00 +02:00"],
    );
    check(
        "*/30 * * * *",
        "Europe/Berlin",
        "2026-10-25T00:15:00Z",
        &[
            "2026-10-25 02:30:00 +02:00",
            "2026-10-25 02:00:00 +01:00",
            "2026-10-25 02:30:00 +01:00",
            "2026-10-25 03:00:00 +01:00",
        ],
    );
    check(
        "0 * * * *",
        "America/New_York",
        "2026-11-01T05:30:00Z",
        &["2026-11-01 01:00:00 -05:00", "2026-11-01 02:00:00 -05:00"],
    );
}

#[test]
fn every_second_of_a_year_of_steps_agrees_with_counting() {
    // In a zone with changes, what comes every 15 minutes comes every 900 seconds, whatever the clocks show.
    for zone in ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Africa/Casablanca"] {
        let calendar = Calendar::new("*/15 * * * *", zone).unwrap();
        let mut at = ms("2026-01-01T00:00:00Z");
        for _ in 0..365 * 96 {
            let next = calendar.next_after(at).unwrap();
            assert_eq!(next, at + 900_000, "{zone}, {}", calendar.show(at));
            at = next;
        }
    }
}

#[test]
fn going_back_finds_what_going_forward_found_over_a_year_with_clock_changes() {
    let (from, to) = (ms("2026-01-01T00:00:00Z"), ms("2027-01-01T00:00:00Z"));
    for zone in ["UTC", "Europe/Berlin", "America/Santiago", "Australia/Lord_Howe", "Africa/Casablanca"] {
        for cron in
            ["30 2 * * *", "0 2 * * *", "0 */2 * * *", "*/30 * * * *", "30 1,2 * * *", "0 9 * * MON-FRI"]
        {
            let calendar = Calendar::new(cron, zone).unwrap();
            let next = |at: &u64| calendar.next_after(*at).filter(|next| *next < to);
            let forward: Vec<u64> = std::iter::successors(next(&from), next).collect();
            let before = |at: &u64| calendar.last_up_to(at - 1).filter(|last| *last > from);
            let mut back: Vec<u64> = std::iter::successors(before(&to), before).collect();
            back.reverse();
            assert_eq!(back.len(), forward.len(), "{cron} {zone}: from {}", calendar.show(back[0]));
            assert_eq!(back, forward, "{cron} {zone}");
        }
    }
}

#[test]
fn what_is_no_calendar_says_why() {
    for (cron, zone, wanted) in [
        ("", "", "empty"),
        ("* * * *", "", "five fields"),
        ("60 * * * *", "", "'60 * * * *' is no cron expression"),
        ("* * * * * * 2027", "", "fields"),
        ("@sometimes", "", "@daily"),
        ("0 9 * * MO", "", "is no cron expression"),
        ("*/0 * * * *", "", "is no cron expression"),
        ("0 0 30 2 *", "", "never comes"),
        ("* * * * *", "Europe/Atlantis", "there is no time zone 'Europe/Atlantis'"),
        ("* * * * *", "../etc/passwd", "there is no time zone"),
    ] {
        let error = Calendar::new(cron, zone).unwrap_err().to_string();
        assert!(error.contains(wanted), "{cron} {zone}: {error}");
    }
    assert!(Calendar::new(&"1,".repeat(2000), "").is_err());
    assert_eq!(Calendar::new("@daily", "europe/berlin").unwrap().zone(), "Europe/Berlin");
}

#[test]
fn moments_beyond_all_calendars_are_none_and_not_a_fault() {
    let calendar = Calendar::new("* * * * *", "Asia/Tokyo").unwrap();
    assert_eq!(calendar.next_after(u64::MAX), None);
    assert_eq!(calendar.next_after(i64::MAX as u64), None);
    assert_eq!(calendar.last_up_to(u64::MAX), None);
    assert!(!calendar.show(u64::MAX).is_empty());
}
