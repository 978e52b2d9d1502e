//! Single active consumer, leases and delayed retries, as tables.

use super::table::check;

#[test]
fn a_single_active_consumer_gets_all_and_the_next_follows_when_it_goes() {
    check(
        "
        single                  |
        consume c1 s1           |
        consume c2 s2           |
        consume c3 s3           |
        enqueue a-c             | c1 a b c
        counts                  | ready 0 unacked 3 consumers 3
        cancel c2               |
        cancel c1               |
        enqueue d               | c3 d
        leave s1                | back 3, c3 a* b* c*
        leave s3                | back 4
        consume c4 s4           | c4 a* b* c*, c4 d*
        ",
    );
}

#[test]
fn the_highest_priority_that_waits_follows_first() {
    check(
        "
        single                      |
        consume c1 s1               |
        consume c2 s1               |
        consume c3 s1 priority=1    |
        consume c4 s1 priority=1    |
        enqueue a                   | c1 a
        cancel c1                   |
        enqueue b                   | c3 b
        cancel c3                   |
        enqueue c                   | c4 c
        cancel c4                   |
        enqueue d                   | c2 d
        ",
    );
}

#[test]
fn a_blocked_active_consumer_is_not_passed_over() {
    check(
        "
        single                      |
        consume c1 s1 prefetch=1    |
        consume c2 s2               |
        enqueue a-c                 | c1 a
        close c1                    |
        accept s1 a                 | settled a
        open c1                     | c1 b
        ",
    );
}

#[test]
fn with_takeover_a_newcomer_of_higher_priority_follows_once_the_active_one_holds_nothing() {
    check(
        "
        single takeover             |
        consume c1 s1 prefetch=2    |
        enqueue a-d                 | c1 a b
        consume c2 s2 priority=1    |
        accept s1 a                 | settled a
        accept s1 b                 | settled b, c2 c d
        consume c3 s3 priority=1    |
        consume c4 s4 priority=5    |
        enqueue e                   |
        cancel c4                   | c2 e
        consume c5 s5 priority=9    |
        enqueue f                   |
        fail s2 c-e                 | back 3, c5 c* d* e*, c5 f
        cancel c5                   |
        enqueue g                   | c2 g
        ",
    );
}

#[test]
fn with_takeover_one_that_holds_nothing_hands_over_at_once() {
    check(
        "
        single takeover             |
        consume c1 s1               |
        consume c2 s2 priority=1    |
        enqueue a                   | c2 a
        consume c3 s3 priority=2    |
        leave s2                    | back 1, c3 a*
        ",
    );
}

#[test]
fn without_takeover_the_active_one_stays() {
    check(
        "
        single                      |
        consume c1 s1               |
        consume c2 s2 priority=1    |
        enqueue a                   | c1 a
        ",
    );
}

#[test]
fn a_lease_that_ends_returns_that_message_alone() {
    check(
        "
        consume c1 s1 prefetch=2 lease=100  |
        enqueue a-b                         | c1 a b
        at 50                               |
        accept s1 a                         | settled a
        enqueue c                           | c1 c
        deadline?                           | 100
        at 99                               |
        at 100                              | ended s1 b, c1 b*
        accept s1 c                         | settled c
        deadline?                           | 200
        accept s1 b                         | settled b
        deadline?                           | none
        ",
    );
}

#[test]
fn a_lease_is_renewed_for_its_whole_length() {
    check(
        "
        consume c1 s1 lease=100     |
        consume c2 s2 lease=100     |
        enqueue a-b                 | c1 a, c2 b
        at 80                       |
        renew s1 a-b                | renewed 1
        at 100                      | ended s2 b, c1 b*
        at 180                      | ended s1 a, c2 a*
        renew s2 a-z                | renewed 1
        renew s3 a-z                | renewed 0
        at 280                      | ended s2 a, ended s1 b, c1 a*, c2 b*
        ",
    );
}

#[test]
fn the_consumers_lease_goes_before_the_queues() {
    check(
        "
        queue lease=100             |
        consume c1 s1 lease=500     |
        consume c2 s2               |
        enqueue a-b                 | c1 a, c2 b
        cancel c2                   |
        at 100                      | ended s2 b, c1 b*
        at 500                      | ended s1 a, c1 a*
        cancel c1                   |
        at 600                      | ended s1 b
        get s3                      | got b*
        at 700                      | ended s3 b
        queue                       |
        get s3 no-ack               | got b*
        deadline?                   | 1000
        ",
    );
}

#[test]
fn no_ack_and_released_messages_are_on_no_lease() {
    check(
        "
        consume c1 s1 lease=100     |
        enqueue a                   | c1 a
        cancel c1                   |
        release s1 a                | back 1
        consume c2 s1 lease=9 no-ack| c2 a
        at 100                      |
        deadline?                   | none
        ",
    );
}

#[test]
fn what_is_requeued_waits_and_nobody_waits_behind_it() {
    check(
        "
        queue retry=all min=100 max=250     |
        consume c1 s1 prefetch=1            |
        enqueue a-c                         | c1 a
        requeue s1 a                        | back 1, c1 b
        waiting?                            | 1
        accept s1 b                         | settled b, c1 c
        accept s1 c                         | settled c
        deadline?                           | 100
        at 100                              | c1 a*
        requeue s1 a                        | back 1
        at 299                              |
        at 300                              | c1 a*
        fail s1 a                           | back 1
        deadline?                           | 550
        ",
    );
}

#[test]
fn a_kind_of_retry_waits_only_for_its_kind() {
    check(
        "
        queue retry=failed min=100          |
        consume c1 s1 prefetch=1            |
        enqueue a                           | c1 a
        requeue s1 a                        | back 1, c1 a*
        fail s1 a                           | back 1
        queue retry=returned min=100        |
        at 100                              | c1 a*
        fail s1 a                           | back 1, c1 a*
        requeue s1 a                        | back 1
        queue                               |
        leave s1                            | back 0
        at 200                              |
        consume c2 s2                       | c2 a*
        ",
    );
}

#[test]
fn delays_double_up_to_the_longest() {
    check(
        "
        queue retry=all exponential min=10 max=55   |
        consume c1 s1                               |
        enqueue a                                   | c1 a
        fail s1 a                                   | back 1
        at 10                                       | c1 a*
        fail s1 a                                   | back 1
        at 30                                       | c1 a*
        fail s1 a                                   | back 1
        at 70                                       | c1 a*
        fail s1 a                                   | back 1
        deadline?                                   | 125
        ",
    );
}

#[test]
fn waiting_messages_are_purged_with_the_others() {
    check(
        "
        queue retry=all min=100     |
        get s1                      | empty
        enqueue a-d                 |
        get s1                      | got a
        get s1                      | got b
        requeue s1 a                | back 1
        purge                       | purged a c-d
        waiting?                    | 0
        at 100                      |
        accept s1 b                 | settled b
        idle?                       | true
        ",
    );
}

#[test]
fn a_lease_that_ends_waits_like_other_failures() {
    check(
        "
        queue retry=failed min=100 lease=50     |
        consume c1 s1                           |
        enqueue a                               | c1 a
        at 50                                   | ended s1 a
        at 150                                  | c1 a*
        ",
    );
}
