//! Topic keys: each row a binding key, a routing key, and whether they match.

use crate::routing::targets::Target;
use crate::routing::topic::{Trie, hashes};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeSet;

fn found(trie: &Trie<u32>, key: &str) -> BTreeSet<u32> {
    let mut all = BTreeSet::new();
    trie.find(key.as_bytes(), &mut |target| {
        let Target::Queue(queue) = target else { unreachable!("only queues are bound here") };
        all.insert(*queue);
    });
    all
}

fn check(rows: &[(&str, &str, bool)]) {
    for (pattern, key, wanted) in rows {
        let mut trie = Trie::default();
        trie.add(pattern.as_bytes(), Target::Queue(1));
        assert_eq!(!found(&trie, key).is_empty(), *wanted, "binding key `{pattern}`, routing key `{key}`");
        assert_eq!(naive(pattern, key), *wanted, "naive: binding key `{pattern}`, routing key `{key}`");
        trie.remove(pattern.as_bytes(), &Target::Queue(1));
        assert_eq!(trie.node_count(), 0, "`{pattern}` leaves nothing behind");
    }
}

/// What the specification says, word by word.
fn naive(pattern: &str, key: &str) -> bool {
    fn words(text: &str) -> Vec<&str> {
        if text.is_empty() { Vec::new() } else { text.split('.').collect() }
    }
    fn matches(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern, key) {
            ([], []) => true,
            (["#", rest @ ..], _) => (0..=key.len()).any(|n| matches(rest, &key[n..])),
            (["*", rest @ ..], [_, key @ ..]) => matches(rest, key),
            ([word, rest @ ..], [first, key @ ..]) => word == first && matches(rest, key),
            _ => false,
        }
    }
    matches(&words(pattern), &words(key))
}

#[test]
fn words_match_themselves() {
    check(&[
        ("a", "a", true),
        ("a", "b", false),
        ("a", "a.a", false),
        ("a.b", "a.b", true),
        ("a.b", "a", false),
        ("a.b", "b.a", false),
        ("stock.usd.nyse", "stock.usd.nyse", true),
        ("Stock", "stock", false),
        ("a*", "ab", false),
        ("a*", "a*", true),
        ("#a", "#a", true),
        ("#a", "a", false),
    ]);
}

#[test]
fn a_star_is_one_word() {
    check(&[
        ("*", "a", true),
        ("*", "", false),
        ("*", "a.b", false),
        ("*.b", "a.b", true),
        ("a.*", "a.b", true),
        ("a.*", "a", false),
        ("a.*.c", "a.b.c", true),
        ("a.*.c", "a.c", false),
        ("*.*", "a.b", true),
        ("*", "*", true),
    ]);
}

#[test]
fn a_hash_is_any_number_of_words() {
    check(&[
        ("#", "", true),
        ("#", "a", true),
        ("#", "a.b.c", true),
        ("a.#", "a", true),
        ("a.#", "a.b.c", true),
        ("a.#", "b.a", false),
        ("#.a", "a", true),
        ("#.a", "b.c.a", true),
        ("#.a", "a.b", false),
        ("a.#.b", "a.b", true),
        ("a.#.b", "a.x.b", true),
        ("a.#.b", "a.x.y.b", true),
        ("a.#.b", "a.b.b", true),
        ("a.#.b", "a.b.c", false),
        ("a.#.b", "b", false),
        ("#.b.#", "b", true),
        ("#.b.#", "a.b.c", true),
        ("#.b.#", "a.c", false),
        ("#.#", "", true),
        ("#.#", "a.b.c", true),
        ("#.*", "", false),
        ("#.*", "a", true),
        ("*.#", "", false),
        ("*.#", "a", true),
        ("*.#.*", "a", false),
        ("*.#.*", "a.b", true),
        ("#.a.#.b", "x.a.y.b", true),
        ("#.a.#.b", "x.b.y.a", false),
    ]);
}

#[test]
fn an_empty_word_is_a_word_and_an_empty_key_has_none() {
    check(&[
        ("", "", true),
        ("", "a", false),
        ("", ".", false),
        (".", ".", true),
        ("*.*", ".", true),
        ("*", ".", false),
        ("a..b", "a..b", true),
        ("a.*.b", "a..b", true),
        ("a..b", "a.x.b", false),
        ("a.", "a.", true),
        ("a.*", "a.", true),
        ("a.#", "a.", true),
        ("a", "a.", false),
        (".a", ".a", true),
        ("*.a", ".a", true),
    ]);
}

#[test]
fn only_whole_words_count_as_hashes() {
    for (key, wanted) in [("", 0), ("#", 1), ("a.#.b.#", 2), ("#.#.#", 3), ("a#.##.#b", 0), ("#.", 1)] {
        assert_eq!(hashes(key.as_bytes()), wanted, "`{key}`");
    }
}

#[test]
fn a_long_key_against_overlapping_hashes_ends() {
    let mut trie = Trie::default();
    for (queue, key) in ["#.a.#.a", "#.a.#", "a.#.a", "#.b.#.a", "#.#", "*.#.*"].iter().enumerate() {
        trie.add(key.as_bytes(), Target::Queue(queue as u32));
    }
    assert_eq!(found(&trie, &vec!["a"; 128].join(".")), BTreeSet::from([0, 1, 2, 4, 5]));
}

#[test]
fn random_bindings_match_as_the_naive_matcher_says() {
    let alphabet = ["a", "b", "c", "", "*", "#"];
    let mut random = StdRng::seed_from_u64(11);
    let mut key = |words: &[&str], hashes_max: usize| loop {
        let n = random.random_range(0..6);
        let key = (0..n).map(|_| *words.choose(&mut random).expect("some")).collect::<Vec<_>>().join(".");
        if hashes(key.as_bytes()) <= hashes_max {
            return key;
        }
    };
    let mut trie = Trie::default();
    let mut bound: Vec<(String, u32)> = Vec::new();
    for round in 0..6000_u32 {
        // Grows to hundreds, shrinks to nothing, twice.
        if bound.is_empty() || (round / 1500) % 2 == 0 {
            let pattern = key(&alphabet, 2);
            trie.add(pattern.as_bytes(), Target::Queue(round));
            bound.push((pattern, round));
        } else {
            let (pattern, queue) = bound.swap_remove(round as usize % bound.len());
            trie.remove(pattern.as_bytes(), &Target::Queue(queue));
        }
        let routed = key(&alphabet[..4], 0);
        let wanted: BTreeSet<u32> =
            bound.iter().filter(|(pattern, _)| naive(pattern, &routed)).map(|(_, queue)| *queue).collect();
        assert_eq!(found(&trie, &routed), wanted, "round {round}, routing key `{routed}`");
    }
    for (pattern, queue) in bound {
        trie.remove(pattern.as_bytes(), &Target::Queue(queue));
    }
    assert_eq!(trie.node_count(), 0);
}
