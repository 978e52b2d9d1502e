//! Scenes, each a line of commands and what readers are given.

use crate::queue::machine::{ConsumerKey, OwnerKey};
use crate::stream::machine::{Machine, Terms};

/// Plays a scene. Commands: `log A..B` (the log, first), `sac`, `+K@S/P` reader K starts at S with prefetch P (its
/// owner is K / 10), `-K` it goes, `xO` owner O goes, `>B` the log grows to B, `trim A`, `ack K A..B`, `stop K` and
/// `go K` (its inbox), `disk K`, `read` (what was on disk is there), `K=A..B` K is given that and nothing else now,
/// `K=` nothing.
fn check(scene: &str) {
    let mut machine = Machine::default();
    let mut single = false;
    for step in scene.split(',').map(str::trim) {
        let fail = |what: &str| -> ! { panic!("{what} at `{step}` of `{scene}`: {machine:?}") };
        let words: Vec<&str> = step.split(' ').collect();
        match words[..] {
            ["sac"] => single = true,
            ["log", range] => machine = Machine::new(bounds(range).start, bounds(range).end, single),
            ["trim", to] => machine.trimmed(number(to)),
            ["ack", key, range] => drop(machine.settle(reader(key), &[bounds(range)])),
            ["stop", key] => machine.set_open(reader(key), false),
            ["go", key] => machine.set_open(reader(key), true),
            ["back", key, from] => machine.take_back(reader(key), number(from)),
            ["disk", key, at] => machine.set_loading(reader(key), number(at)),
            ["read"] => machine.loaded(),
            [step] if step.starts_with('>') => machine.appended(number(&step[1..])),
            [step] if step.starts_with('x') => machine.close_owner(OwnerKey(number(&step[1..]))),
            [step] if step.starts_with('-') => {
                assert!(machine.remove(reader(&step[1..])), "{step} is not there")
            }
            [step] if step.starts_with('+') => {
                let (key, rest) = step[1..].split_once('@').unwrap_or_else(|| fail("no @"));
                let (start, prefetch) = rest.split_once('/').unwrap_or_else(|| fail("no /"));
                let prefetch = number(prefetch) as u32;
                let owner = OwnerKey(number(key) / 10);
                machine.add(reader(key), Terms { owner, prefetch, start: number(start) });
            }
            [step] => {
                let (key, wanted) = step.split_once('=').unwrap_or_else(|| fail("no command"));
                let key = reader(key);
                let turn = machine.turn(key);
                let Some(turn) = turn else {
                    if !wanted.is_empty() {
                        fail("nothing was given");
                    }
                    continue;
                };
                let given = turn.from..(turn.from + turn.count).min(machine.bounds().1);
                if format!("{}..{}", given.start, given.end) != wanted {
                    fail(&format!("{given:?} was given"));
                }
                machine.given(key, given.clone(), given.end);
            }
            _ => fail("no command"),
        }
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no number"))
}

fn reader(text: &str) -> ConsumerKey {
    ConsumerKey(number(text))
}

fn bounds(text: &str) -> std::ops::Range<u64> {
    let (start, end) = text.split_once("..").unwrap_or_else(|| panic!("`{text}` is no range"));
    number(start)..number(end)
}

#[test]
fn every_reader_reads_all_from_its_own_place() {
    check("log 0..10, +1@0/100, +2@4/100, 1=0..10, 2=4..10, 1=, >12, 1=10..12, 2=10..12");
}

#[test]
fn a_place_outside_the_log_is_moved_to_its_nearer_end() {
    check("log 5..10, +1@0/9, +2@99/9, 1=5..10, 2=, >11, 2=10..11");
}

#[test]
fn an_ack_gives_credit_and_nothing_else() {
    check("log 0..10, +1@0/4, 1=0..4, 1=, ack 1 1..3, 1=4..6, ack 1 1..3, 1=, ack 1 0..6, 1=6..10");
}

#[test]
fn what_is_trimmed_is_passed_over_and_what_was_given_before_still_counts() {
    check("log 0..10, +1@0/4, 1=0..4, trim 8, 1=, ack 1 0..4, 1=8..10, trim 5, >11, 1=10..11");
}

#[test]
fn a_reader_without_room_or_with_its_place_on_disk_holds_nobody_up() {
    check("log 0..4, +1@0/9, +2@0/9, stop 1, disk 2 0, 1=, 2=, go 1, 1=0..4, read, 2=0..4");
    check("log 0..9, +1@0/9, disk 1 5, read, 1=5..9");
}

#[test]
fn what_did_not_leave_is_given_again() {
    check("log 0..9, +1@0/5, 1=0..5, back 1 3, 1=3..5, ack 1 0..5, 1=5..9");
}

#[test]
fn of_a_single_active_consumer_the_first_reads_and_the_next_goes_on_where_it_stopped() {
    check(
        "sac, log 0..9, +1@0/4, +2@7/4, 1=0..4, 2=, ack 1 0..2, -1, 2=2..6, ack 2 2..6, +3@0/9, 3=, x0, 3=",
    );
    check("sac, log 0..9, +10@0/4, +20@7/4, +30@0/9, 10=0..4, ack 10 0..3, x1, 20=3..7, 30=, -20, 30=3..9");
    check("sac, log 0..9, +1@2/4, 1=2..6, -1, +2@7/4, 2=7..9");
    check("sac, log 0..9, +1@2/4, +2@7/4, -2, 1=2..6");
}

#[test]
fn where_a_reader_would_begin_again_is_its_lowest_unsettled_offset() {
    let key = ConsumerKey(1);
    let mut machine = Machine::new(0, 100, false);
    machine.add(key, Terms { owner: OwnerKey(1), prefetch: 10, start: 0 });
    machine.given(key, [0, 3, 4, 9].into_iter(), 20);
    let settle = |machine: &mut Machine, range| machine.settle(key, &[range]);
    assert_eq!(settle(&mut machine, 3..4), None);
    assert_eq!(settle(&mut machine, 0..1), Some(4));
    assert_eq!(settle(&mut machine, 4..5), Some(9));
    assert!(machine.remove(key));
    assert!(machine.knows(key) && machine.keys().next().is_none());
    assert_eq!(settle(&mut machine, 9..10), Some(20));
    assert!(!machine.knows(key));
}
