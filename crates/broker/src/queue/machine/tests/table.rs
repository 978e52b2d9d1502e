//! Left the command, right every effect. Messages are letters, `*` marks a redelivered one. After each line all runs
//! that the machine has are handed out, and conservation is checked. `at N` turns the clock.

use crate::queue::machine::{
    Backoff, ConsumerKey, Machine, OwnerKey, Rate, Retry, RetryOn, Return, Run, Taken, Terms, TimedSettings,
};
use std::fmt::Write as _;
use std::ops::Range;

fn letter(seq: u64) -> char {
    char::from(b'a' + seq as u8)
}

fn mark(redelivered: bool) -> &'static str {
    if redelivered { "*" } else { "" }
}

fn seqs(words: &[&str]) -> Vec<Range<u64>> {
    let one = |word: &&str| {
        let bytes = word.as_bytes();
        let (first, last) = (u64::from(bytes[0] - b'a'), u64::from(bytes[bytes.len() - 1] - b'a'));
        first..last + 1
    };
    words.iter().map(one).collect()
}

fn number(word: &str) -> u64 {
    word[1..].parse().expect("a letter and a number, as c1")
}

fn option(words: &[&str], name: &str) -> Option<i64> {
    words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

fn rate(words: &[&str]) -> Option<Rate> {
    let per_s: f64 = words.iter().find_map(|word| word.strip_prefix("rate=")?.parse().ok())?;
    let window_ms = option(words, "window").map_or(Rate::WINDOW_MS_DEFAULT, |ms| ms as u32);
    Some(Rate::new(per_s, window_ms).expect("a rate within bounds"))
}

fn retry(words: &[&str]) -> Option<Retry> {
    let on = words.iter().find_map(|word| match word.strip_prefix("retry=")? {
        "all" => Some(RetryOn::All),
        "failed" => Some(RetryOn::Failed),
        "returned" => Some(RetryOn::Returned),
        other => panic!("no such retry type: {other}"),
    })?;
    let backoff = match words {
        _ if words.contains(&"fixed") => Backoff::Fixed,
        _ if words.contains(&"exponential") => Backoff::Exponential,
        _ => Backoff::Linear,
    };
    let min_ms = option(words, "min").unwrap_or(0) as u64;
    let max_ms = option(words, "max").map_or(min_ms, |ms| ms as u64);
    let jitter_percent = option(words, "jitter").unwrap_or(0) as u8;
    Some(Retry { on, backoff, min_ms, max_ms, jitter_percent })
}

fn show_ranges(ranges: &[Range<u64>]) -> String {
    let one = |r: &Range<u64>| match r.end - r.start {
        1 => letter(r.start).to_string(),
        _ => format!("{}-{}", letter(r.start), letter(r.end - 1)),
    };
    ranges.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn back(words: &[&str], give: impl FnMut(Range<u64>) -> u64) -> Vec<String> {
    vec![format!("back {}", seqs(words).into_iter().map(give).sum::<u64>())]
}

struct Table {
    machine: Machine,
    paused: bool,
    last_run: Option<Run>,
}

impl Table {
    fn command(&mut self, words: &[&str]) -> Vec<String> {
        let machine = &mut self.machine;
        match words {
            ["enqueue", rest @ ..] => seqs(rest).into_iter().for_each(|r| machine.enqueued(r)),
            ["recovered", rest @ ..] => {
                let ready = seqs(rest);
                *machine = Machine::new(&ready);
            }
            ["consume", consumer, owner, rest @ ..] => machine.add_consumer(
                ConsumerKey(number(consumer)),
                Terms {
                    owner: OwnerKey(number(owner)),
                    priority: option(rest, "priority").unwrap_or(0),
                    prefetch: option(rest, "prefetch").unwrap_or(0) as u32,
                    no_ack: rest.contains(&"no-ack"),
                    lease_ms: option(rest, "lease").map(|ms| ms as u64),
                    rate: rate(rest),
                },
            ),
            ["cancel", consumer] => assert!(machine.remove_consumer(ConsumerKey(number(consumer)))),
            ["prefetch", consumer, n] => {
                machine.set_prefetch(ConsumerKey(number(consumer)), n.parse().expect("a number"));
            }
            ["accept", owner, rest @ ..] => {
                let mut settled = Vec::new();
                for range in seqs(rest) {
                    machine.settle(OwnerKey(number(owner)), range, &mut settled);
                }
                return vec![format!("settled {}", show_ranges(&settled)).trim_end().into()];
            }
            ["requeue", owner, rest @ ..] => {
                return back(rest, |range| machine.requeue(OwnerKey(number(owner)), range, Return::Given));
            }
            ["release", owner, rest @ ..] => {
                return back(rest, |range| {
                    machine.requeue(OwnerKey(number(owner)), range, Return::Untouched)
                });
            }
            ["leave", owner] => {
                return vec![format!("back {}", machine.close_owner(OwnerKey(number(owner))))];
            }
            ["get", owner, rest @ ..] => {
                let taken = machine.get(OwnerKey(number(owner)), rest.contains(&"no-ack"));
                let show =
                    |taken: Taken| format!("got {}{}", letter(taken.seq), mark(taken.past.handed != 0));
                return vec![taken.map_or_else(|| "empty".into(), show)];
            }
            ["purge"] => return vec![format!("purged {}", show_ranges(&machine.purge())).trim_end().into()],
            ["pause"] => self.paused = true,
            ["resume"] => self.paused = false,
            ["next", max] => {
                self.last_run = machine.next_run(max.parse().expect("a number"));
                return self.last_run.iter().map(show_run).collect();
            }
            ["give-back", from] => {
                let run = self.last_run.take().expect("a run to give back");
                machine.give_back(&run, seqs(&[from])[0].start);
            }
            ["counts"] => {
                let (ready, unacked) = (machine.ready_count(), machine.unacked_count());
                return vec![format!(
                    "ready {ready} unacked {unacked} consumers {}",
                    machine.consumer_count()
                )];
            }
            ["idle?"] => return vec![machine.is_idle().to_string()],
            other => return self.timed_command(other),
        }
        Vec::new()
    }

    /// What has to do with room, leases, paces and retries.
    fn timed_command(&mut self, words: &[&str]) -> Vec<String> {
        let machine = &mut self.machine;
        match words {
            ["close", consumer] => machine.set_open(ConsumerKey(number(consumer)), false),
            ["open", consumer] => machine.set_open(ConsumerKey(number(consumer)), true),
            ["single", rest @ ..] => machine.set_single_active(rest == ["takeover"]),
            ["queue", rest @ ..] => machine.apply(TimedSettings {
                lease_ms: option(rest, "lease").map(|ms| ms as u64),
                rate: rate(rest),
                retry: retry(rest),
            }),
            ["rate", consumer, rest @ ..] => machine.set_rate(ConsumerKey(number(consumer)), rate(rest)),
            ["at", now_ms] => {
                let mut ended = Vec::new();
                machine.advance(now_ms.parse().expect("a number"), &mut ended);
                let show = |seqs: &Range<u64>| show_ranges(std::slice::from_ref(seqs));
                return ended
                    .iter()
                    .map(|end| format!("ended s{} {}", end.owner.0, show(&end.seqs)))
                    .collect();
            }
            ["renew", owner, rest @ ..] => {
                let renew = |range| machine.renew(OwnerKey(number(owner)), range);
                return vec![format!("renewed {}", seqs(rest).into_iter().map(renew).sum::<u64>())];
            }
            ["fail", owner, rest @ ..] => {
                return back(rest, |range| machine.requeue(OwnerKey(number(owner)), range, Return::Failed));
            }
            ["deadline?"] => {
                return vec![machine.next_deadline_ms().map_or_else(|| "none".into(), |ms| ms.to_string())];
            }
            ["waiting?"] => return vec![machine.waiting_count().to_string()],
            other => panic!("no such command: {other:?}"),
        }
        Vec::new()
    }
}

fn show_run(run: &Run) -> String {
    let mut text = format!("c{}", run.consumer.0);
    for seq in run.seqs.clone() {
        write!(text, " {}{}", letter(seq), mark(run.redelivered())).expect("a string takes all");
    }
    text
}

pub(super) fn check(table: &str) {
    let mut state = Table { machine: Machine::default(), paused: false, last_run: None };
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (command, wanted) = line.split_once('|').unwrap_or((line, ""));
        let words: Vec<&str> = command.split_whitespace().collect();
        let mut effects = state.command(&words);
        while !state.paused
            && let Some(run) = state.machine.next_run(100)
        {
            effects.push(show_run(&run));
        }
        assert_eq!(effects.join(", "), wanted.trim(), "effects of `{}` in:{table}", command.trim());
        state.machine.check_conservation().unwrap_or_else(|e| panic!("after `{}`: {e}", command.trim()));
    }
}

#[test]
fn a_single_consumer_gets_all_in_one_run() {
    check(
        "
        consume c1 s1   |
        enqueue a-e     | c1 a b c d e
        enqueue f       | c1 f
        accept s1 a-f   | settled a-f
        counts          | ready 0 unacked 0 consumers 1
        ",
    );
}

#[test]
fn equal_consumers_take_turns_message_by_message() {
    check(
        "
        consume c1 s1   |
        consume c2 s2   |
        enqueue a       | c1 a
        enqueue b-f     | c2 b, c1 c, c2 d, c1 e, c2 f
        ",
    );
}

#[test]
fn prefetch_bounds_the_unacked_of_each_consumer() {
    check(
        "
        consume c1 s1 prefetch=2    |
        enqueue a-e                 | c1 a b
        accept s1 b                 | settled b, c1 c
        accept s1 a c               | settled a c, c1 d e
        prefetch c1 1               |
        enqueue f                   |
        accept s1 d                 | settled d
        accept s1 e                 | settled e, c1 f
        enqueue g h                 |
        prefetch c1 0               | c1 g h
        ",
    );
}

#[test]
fn a_slow_consumer_does_not_hold_up_its_equal() {
    check(
        "
        consume c1 s1 prefetch=1    |
        consume c2 s1 prefetch=3    |
        enqueue a-f                 | c1 a, c2 b c d
        accept s1 b                 | settled b, c2 e
        accept s1 a                 | settled a, c1 f
        ",
    );
}

#[test]
fn the_highest_priority_with_credit_gets_all() {
    check(
        "
        consume c1 s1                       |
        consume c2 s2 priority=5 prefetch=2 |
        consume c3 s3 priority=-5           |
        enqueue a-d                         | c2 a b, c1 c d
        accept s2 a                         | settled a
        enqueue e f                         | c2 e, c1 f
        cancel c1                           |
        enqueue g                           | c3 g
        close c3                            |
        enqueue h                           |
        open c3                             | c3 h
        ",
    );
}

#[test]
fn a_requeued_message_returns_to_the_front_and_is_marked() {
    check(
        "
        consume c1 s1 prefetch=1    |
        enqueue a-c                 | c1 a
        requeue s1 a                | back 1, c1 a*
        accept s1 a                 | settled a, c1 b
        requeue s1 b                | back 1, c1 b*
        accept s1 b                 | settled b, c1 c
        ",
    );
}

#[test]
fn requeued_messages_return_to_where_they_were() {
    check(
        "
        consume c1 s1               |
        enqueue a-f                 | c1 a b c d e f
        cancel c1                   |
        requeue s1 e                | back 1
        requeue s1 b                | back 1
        requeue s1 c-d              | back 2
        enqueue g                   |
        consume c2 s2               | c2 b* c* d* e*, c2 g
        accept s1 a f               | settled a f
        counts                      | ready 0 unacked 5 consumers 1
        ",
    );
}

#[test]
fn a_session_that_leaves_gives_everything_back() {
    check(
        "
        consume c1 s1               |
        consume c2 s2               |
        enqueue a-f                 | c1 a, c2 b, c1 c, c2 d, c1 e, c2 f
        accept s1 c                 | settled c
        leave s1                    | back 2, c2 a*, c2 e*
        leave s2                    | back 5
        consume c3 s3               | c3 a*, c3 b*, c3 d*, c3 e*, c3 f*
        leave s3                    | back 5
        counts                      | ready 5 unacked 0 consumers 0
        ",
    );
}

#[test]
fn unacked_of_a_cancelled_consumer_stay_with_its_session() {
    check(
        "
        consume c1 s1 prefetch=2    |
        enqueue a-c                 | c1 a b
        cancel c1                   |
        accept s1 a                 | settled a
        requeue s1 b                | back 1
        counts                      | ready 2 unacked 0 consumers 0
        ",
    );
}

#[test]
fn nobody_settles_what_another_holds() {
    check(
        "
        consume c1 s1               |
        enqueue a-b                 | c1 a b
        accept s2 a-b               | settled
        requeue s2 a-b              | back 0
        accept s1 c-z               | settled
        accept s1 a-z               | settled a-b
        accept s1 a                 | settled
        ",
    );
}

#[test]
fn no_ack_settles_at_once_and_has_no_credit() {
    check(
        "
        consume c1 s1 prefetch=1 no-ack |
        enqueue a-c                     | c1 a b c
        accept s1 a                     | settled
        counts                          | ready 0 unacked 0 consumers 1
        leave s1                        | back 0
        idle?                           | true
        ",
    );
}

#[test]
fn get_takes_the_first_and_knows_no_prefetch() {
    check(
        "
        get s1                  | empty
        enqueue a-d             |
        get s1                  | got a
        get s1                  | got b
        get s1 no-ack           | got c
        requeue s1 a            | back 1
        get s2                  | got a*
        accept s1 a b           | settled b
        accept s2 a             | settled a
        counts                  | ready 1 unacked 0 consumers 0
        ",
    );
}

#[test]
fn what_waited_in_an_inbox_returns_unmarked() {
    check(
        "
        consume c1 s1           |
        enqueue a-c             | c1 a b c
        cancel c1               |
        release s1 b-c          | back 2
        consume c2 s1           | c2 b c
        leave s1                | back 3
        consume c3 s1           | c3 a* b* c*
        release s1 a-c          | back 3, c3 a* b* c*
        ",
    );
}

#[test]
fn recovered_messages_are_redelivered_before_new_ones() {
    check(
        "
        recovered a-b d         |
        enqueue e               |
        consume c1 s1           | c1 a* b*, c1 d*, c1 e
        ",
    );
}

#[test]
fn purge_drops_what_is_ready_only() {
    check(
        "
        consume c1 s1 prefetch=2    |
        enqueue a-e                 | c1 a b
        purge                       | purged c-e
        requeue s1 b                | back 1, c1 b*
        purge                       | purged
        accept s1 a-b               | settled a-b
        ",
    );
}

#[test]
fn a_run_given_back_is_as_if_it_had_not_been() {
    check(
        "
        pause                       |
        consume c1 s1 prefetch=3    |
        consume c2 s2 no-ack        |
        enqueue a-f                 |
        next 10                     | c1 a
        give-back a                 |
        next 10                     | c1 a
        next 10                     | c2 b
        give-back b                 |
        next 10                     | c2 b
        cancel c2                   |
        next 10                     | c1 c d
        give-back d                 |
        counts                      | ready 3 unacked 2 consumers 1
        next 10                     | c1 d
        next 10                     |
        accept s1 a                 | settled a
        next 10                     | c1 e
        ",
    );
}

#[test]
fn a_run_is_no_longer_than_asked() {
    check(
        "
        pause           |
        consume c1 s1   |
        enqueue a-f     |
        next 0          |
        next 2          | c1 a b
        next 3          | c1 c d e
        ",
    );
}

#[test]
fn closed_consumers_keep_their_credit_and_lose_their_turn() {
    check(
        "
        consume c1 s1 prefetch=1    |
        consume c2 s2 prefetch=9    |
        close c1                    |
        enqueue a-b                 | c2 a b
        close c2                    |
        enqueue c-d                 |
        accept s2 a-b               | settled a-b
        open c1                     | c1 c
        open c2                     | c2 d
        accept s1 c                 | settled c
        enqueue e-f                 | c2 e, c1 f
        ",
    );
}
