//! Message groups. Messages are a letter for the group (`-`: none) and a number, `*` marks a redelivered one. After
//! each line the machine is told the groups it asks for, all runs that it has are handed out, and it is checked.

use crate::queue::machine::{
    Backoff, ConsumerKey, Machine, OwnerKey, Reason, Retry, RetryOn, Return, Terms, TimedSettings,
};
use std::fmt::Write as _;

struct Table {
    machine: Machine,
    names: Vec<String>,
    /// How many times it was asked for groups.
    asked: u64,
}

fn number(word: &str) -> u64 {
    word[1..].parse().expect("a letter and a number, as c1")
}

fn option(words: &[&str], name: &str) -> Option<u64> {
    words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

impl Table {
    fn group_of(&self, seq: u64) -> Option<u64> {
        let letter = self.names[seq as usize].as_bytes()[0];
        (letter != b'-').then_some(letter.into())
    }

    fn seqs(&self, names: &[&str]) -> Vec<u64> {
        let seq = |name: &&str| self.names.iter().position(|known| known == name).expect("published before");
        names.iter().map(|name| seq(name) as u64).collect()
    }

    /// Tells what `seqs` are, two at a time.
    fn learn(&mut self, seqs: std::ops::Range<u64>) {
        self.asked += 1;
        let seqs = seqs.start..seqs.end.min(seqs.start + 2);
        let found: Vec<_> = seqs.clone().filter_map(|seq| Some((seq, self.group_of(seq)?))).collect();
        self.machine.learn(seqs, &found);
    }

    fn settle(&mut self, how: &str, owner: OwnerKey, seq: u64) {
        let (one, mut settled) = (seq..seq + 1, Vec::new());
        let n = match how {
            "accept" => {
                self.machine.settle(owner, one, &mut settled);
                settled.len() as u64
            }
            "reject" => self.machine.doom(owner, one, Reason::Rejected),
            "requeue" => self.machine.requeue(owner, one, Return::Given),
            _ => self.machine.requeue(owner, one, Return::Failed),
        };
        assert_eq!(n, 1, "{owner:?} does not hold {}", self.names[seq as usize]);
    }

    fn get(&mut self, owner: OwnerKey, no_ack: bool) -> String {
        while let Some(seqs) = self.machine.wants_groups_to_get(owner) {
            self.learn(seqs);
        }
        let wanted = self.machine.next_to_get(owner);
        let taken = self.machine.get(owner, no_ack).map(|taken| taken.seq);
        assert_eq!(taken, wanted);
        taken.map_or_else(|| "empty".into(), |seq| format!("got {}", self.names[seq as usize]))
    }

    fn command(&mut self, words: &[&str]) -> Option<String> {
        match words {
            ["groups", rest @ ..] => {
                self.machine.set_groups(Some(option(rest, "window").unwrap_or(100) as usize));
            }
            ["no-groups"] => self.machine.set_groups(None),
            ["publish", rest @ ..] => {
                let start = self.names.len() as u64;
                self.names.extend(rest.iter().map(|name| (*name).to_owned()));
                self.machine.enqueued(start..self.names.len() as u64);
            }
            ["consume", consumer, owner, rest @ ..] => self.machine.add_consumer(
                ConsumerKey(number(consumer)),
                Terms {
                    owner: OwnerKey(number(owner)),
                    priority: option(rest, "priority").unwrap_or(0) as i64,
                    prefetch: option(rest, "prefetch").unwrap_or(0) as u32,
                    no_ack: rest.contains(&"no-ack"),
                    lease_ms: option(rest, "lease"),
                    rate: None,
                },
            ),
            ["cancel", consumer] => assert!(self.machine.remove_consumer(ConsumerKey(number(consumer)))),
            ["close", consumer] => self.machine.set_open(ConsumerKey(number(consumer)), false),
            ["open", consumer] => self.machine.set_open(ConsumerKey(number(consumer)), true),
            [how @ ("accept" | "reject" | "requeue" | "fail"), owner, rest @ ..] => {
                self.seqs(rest).into_iter().for_each(|seq| self.settle(how, OwnerKey(number(owner)), seq));
            }
            ["leave", owner] => {
                self.machine.close_owner(OwnerKey(number(owner)));
            }
            ["get", owner, rest @ ..] => {
                return Some(self.get(OwnerKey(number(owner)), rest.contains(&"no-ack")));
            }
            ["drop", rest @ ..] => {
                for seq in self.seqs(rest) {
                    self.machine.doom_range(seq..seq + 1, Reason::Expired);
                }
            }
            ["drop-first", n] => {
                let mut n = n.parse().expect("a number");
                while n > 0 {
                    n -= self.machine.doom_ready(n, Reason::MaxLength);
                }
            }
            ["purge"] => drop(self.machine.purge()),
            ["single"] => self.machine.set_single_active(false),
            ["retry", delay_ms] => {
                let min_ms = delay_ms.parse().expect("a number");
                let (on, backoff) = (RetryOn::All, Backoff::Fixed);
                let retry = Some(Retry { on, backoff, min_ms, max_ms: min_ms, jitter_percent: 0 });
                self.machine.apply(TimedSettings { retry, ..TimedSettings::default() });
            }
            ["at", now_ms] => self.machine.advance(now_ms.parse().expect("a number"), &mut Vec::new()),
            ["limit", limit] => self.machine.set_delivery_limit(Some(limit.parse().expect("a number"))),
            ["figures"] => {
                let figures = self.machine.group_figures().expect("there are groups");
                return Some(format!("in use {} looked at {}", figures.in_use, figures.looked_at));
            }
            ["asked?"] => return Some(std::mem::take(&mut self.asked).to_string()),
            other => panic!("no such command: {other:?}"),
        }
        None
    }

    /// All that can be handed out.
    fn runs(&mut self) -> Vec<String> {
        let mut runs = Vec::new();
        loop {
            while let Some(seqs) = self.machine.wants_groups() {
                self.learn(seqs);
            }
            let has_work = self.machine.has_work();
            let run = self.machine.next_run(100);
            assert_eq!(run.is_some(), has_work);
            let Some(run) = run else { return runs };
            let mut text = format!("c{}", run.consumer.0);
            for seq in run.seqs.clone() {
                let mark = if run.redelivered() { "*" } else { "" };
                write!(text, " {}{mark}", self.names[seq as usize]).expect("a string takes all");
            }
            runs.push(text);
        }
    }
}

fn check(table: &str) {
    let mut state = Table { machine: Machine::default(), names: Vec::new(), asked: 0 };
    state.machine.set_groups(Some(100));
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (command, wanted) = line.split_once('|').unwrap_or((line, ""));
        let words: Vec<&str> = command.split_whitespace().collect();
        let mut effects: Vec<String> = state.command(&words).into_iter().collect();
        effects.extend(state.runs());
        assert_eq!(effects.join(", "), wanted.trim(), "effects of `{}` in:{table}", command.trim());
        state.machine.check_conservation().unwrap_or_else(|e| panic!("after `{}`: {e}", command.trim()));
    }
}

#[test]
fn a_group_goes_to_one_consumer_while_others_flow() {
    check(
        "
        consume c1 s1 prefetch=2    |
        consume c2 s2 prefetch=2    |
        publish a1 a2 a3 b1 b2      | c1 a1, c1 a2, c2 b1, c2 b2
        accept s1 a1                | c1 a3
        publish b3 -1 a4            |
        accept s2 b1                | c2 b3
        accept s2 b2 b3             | c2 -1
        accept s1 a2 a3             | c2 a4
        figures                     | in use 1 looked at 0
        ",
    );
}

#[test]
fn a_group_whose_messages_were_all_settled_goes_to_whoever_is_next() {
    check(
        "
        consume c1 s1 prefetch=1    |
        consume c2 s2 prefetch=1    |
        publish a1 a2 a3            | c1 a1
        accept s1 a1                | c2 a2
        accept s2 a2                | c1 a3
        accept s1 a3                |
        figures                     | in use 0 looked at 0
        ",
    );
}

#[test]
fn a_blocked_group_stalls_neither_others_nor_messages_without_one() {
    check(
        "
        consume c1 s1 prefetch=1            |
        consume c2 s2                       |
        publish a1 a2 a3 a4 b1 -1 a5 b2     | c1 a1, c2 b1 -1, c2 b2
        accept s1 a1                        | c2 a2, c2 a3 a4, c2 a5
        ",
    );
}

#[test]
fn a_single_consumer_gets_all_in_order_and_in_few_runs() {
    check(
        "
        consume c1 s1               |
        publish a1 b1               | c1 a1 b1
        publish -1 a2               | c1 -1 a2
        accept s1 a1 b1 -1 a2       |
        ",
    );
}

#[test]
fn what_a_leaving_session_held_goes_on_in_order_with_another() {
    check(
        "
        consume c1 s1               |
        publish a1 a2 b1 a3         | c1 a1 a2, c1 b1 a3
        consume c2 s2               |
        publish a4 b2               | c1 a4 b2
        leave s1                    | c2 a1* a2* b1* a3* a4* b2*
        ",
    );
}

#[test]
fn a_cancelled_consumer_keeps_its_groups_until_it_has_settled() {
    check(
        "
        consume c1 s1 prefetch=2    |
        publish a1 a2 a3 b1         | c1 a1 a2
        consume c2 s2               | c2 b1
        cancel c1                   |
        accept s1 a1                |
        accept s1 a2                | c2 a3
        ",
    );
}

#[test]
fn what_is_requeued_goes_first_in_its_group() {
    check(
        "
        consume c1 s1 prefetch=2    |
        publish a1 a2 a3            | c1 a1 a2
        requeue s1 a1               | c1 a1*
        accept s1 a1 a2             | c1 a3
        publish a4 b1               | c1 a4
        cancel c1                   |
        requeue s1 a4               |
        consume c2 s2 prefetch=1    | c2 b1
        fail s1 a3                  |
        accept s2 b1                | c2 a3*
        accept s2 a3                | c2 a4*
        ",
    );
}

#[test]
fn a_group_waits_with_its_message_that_waits_out_a_retry() {
    check(
        "
        retry 100                   |
        consume c1 s1 prefetch=1    |
        publish a1 a2 b1 b2         | c1 a1
        requeue s1 a1               | c1 b1
        accept s1 b1                | c1 b2
        accept s1 b2                |
        at 99                       |
        at 100                      | c1 a1*
        accept s1 a1                | c1 a2
        requeue s1 a2               |
        purge                       |
        publish a3                  | c1 a3
        ",
    );
}

#[test]
fn a_lease_that_ends_frees_the_group() {
    check(
        "
        consume c1 s1 prefetch=1 lease=50   |
        publish a1 a2                       | c1 a1
        consume c2 s2 prefetch=1            |
        at 50                               | c2 a1*
        accept s2 a1                        | c1 a2
        ",
    );
}

#[test]
fn a_rejected_message_frees_its_group_and_so_does_one_that_failed_too_often() {
    check(
        "
        limit 0                     |
        consume c1 s1 prefetch=1    |
        publish a1 a2 a3            | c1 a1
        reject s1 a1                | c1 a2
        fail s1 a2                  | c1 a3
        ",
    );
}

#[test]
fn a_get_takes_what_no_consumer_is_at() {
    check(
        "
        consume c1 s1 prefetch=1    |
        publish a1 a2 b1 b2 c1      | c1 a1
        get s2                      | got b1
        get s2                      | got b2
        get s3                      | got c1
        get s2                      | empty
        cancel c1                   |
        accept s1 a1                |
        get s3 no-ack               | got a2
        ",
    );
}

#[test]
fn what_is_settled_at_once_uses_no_group() {
    check(
        "
        consume c1 s1 no-ack        |
        consume c2 s2 no-ack        |
        publish a1 a2 a3            | c1 a1, c2 a2, c1 a3
        figures                     | in use 0 looked at 0
        cancel c2                   |
        consume c3 s3 prefetch=1    |
        publish b1 b2 b3            | c1 b1, c3 b2
        accept s3 b2                | c1 b3
        ",
    );
}

#[test]
fn the_highest_priority_with_credit_gets_the_free_groups() {
    check(
        "
        consume c1 s1 priority=5 prefetch=2 |
        consume c2 s2 prefetch=3            |
        publish a1 b1 c1 b2 c2              | c1 a1 b1, c2 c1, c2 c2
        accept s1 a1                        | c1 b2
        publish d1                          | c2 d1
        ",
    );
}

#[test]
fn with_a_single_active_consumer_a_group_waits_for_the_one_before() {
    check(
        "
        single                      |
        consume c1 s1 prefetch=1    |
        consume c2 s2               |
        publish a1 a2 b1            | c1 a1
        cancel c1                   | c2 b1
        accept s1 a1                | c2 a2
        ",
    );
}

#[test]
fn what_lies_behind_the_window_waits_until_there_is_room() {
    check(
        "
        groups window=3             |
        consume c1 s1 prefetch=1    |
        consume c2 s2               |
        publish a1 a2 a3 a4         | c1 a1
        publish b1 b2               |
        figures                     | in use 1 looked at 3
        drop a3                     | c2 b1, c2 b2
        publish a5 a6 b3            |
        drop-first 1                |
        drop-first 1                | c2 b3
        figures                     | in use 2 looked at 2
        ",
    );
}

#[test]
fn nothing_is_asked_for_before_it_is_needed() {
    check(
        "
        publish a1 a2 b1 b2 c1      |
        asked?                      | 0
        consume c1 s1 prefetch=1    | c1 a1
        asked?                      | 1
        accept s1 a1                | c1 a2
        asked?                      | 0
        consume c2 s2 prefetch=1    | c2 b1
        asked?                      | 1
        ",
    );
}

#[test]
fn groups_come_and_go_on_a_queue_with_messages() {
    check(
        "
        no-groups                   |
        consume c1 s1 prefetch=2    |
        publish a1 a2 a3 b1 b2      | c1 a1 a2
        groups                      |
        consume c2 s2 prefetch=2    | c2 a3 b1
        requeue s1 a1               |
        accept s1 a2                |
        accept s2 b1                | c1 b2, c2 a1*
        publish a4 b3               | c1 b3
        no-groups                   |
        accept s1 b2                | c1 a4
        ",
    );
}
