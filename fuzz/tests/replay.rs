//! Kept inputs stay harmless, and the fuzzer finds what it should.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use millpond_fuzz::corpus::{corpus_dir, load, regressions_dir, save};
use millpond_fuzz::run::{Budget, check, fuzz};
use millpond_fuzz::{TARGETS, Target, target};

#[test]
fn every_kept_input_is_harmless_whole_and_cut_short() {
    for target in TARGETS {
        let mut inputs = load(&corpus_dir(target.name)).unwrap();
        assert!(!inputs.is_empty(), "{} has no corpus", target.name);
        inputs.extend(load(&regressions_dir(target.name)).unwrap());
        for (path, input) in inputs {
            for end in (0..input.len()).step_by(input.len() / 256 + 1).chain([input.len()]) {
                let verdict = check(target.run, &input[..end]);
                assert_eq!(verdict, Ok(()), "{} cut at {end}", path.display());
            }
        }
    }
}

#[test]
fn a_fixed_run_of_every_target_finds_nothing() {
    for target in TARGETS {
        let corpus = load(&corpus_dir(target.name)).unwrap().into_iter().map(|(_, bytes)| bytes).collect();
        let outcome = fuzz(*target, corpus, 1, Budget::Inputs(20_000));
        assert_eq!(outcome.finding, None, "{}", target.name);
    }
}

#[test]
fn a_planted_mistake_is_found_and_made_small() {
    fn planted(data: &[u8]) {
        if let Some(at) = data.iter().position(|byte| *byte == b'!') {
            assert!(data.get(at + 1) != Some(&0xff), "found");
        }
    }
    let outcome = fuzz(
        Target { name: "planted", run: planted },
        vec![b"a long input with a ! inside".to_vec()],
        7,
        Budget::Inputs(1_000_000),
    );
    let finding = outcome.finding.unwrap();
    assert_eq!((finding.input.as_slice(), finding.message.as_str()), (&b"!\xff"[..], "found"));
}

#[test]
fn one_seed_is_one_run() {
    fn late(data: &[u8]) {
        assert!(data.len() < 60 || data[3] != b'x');
    }
    let run =
        || fuzz(Target { name: "late", run: late }, vec![b"seed".to_vec()], 42, Budget::Inputs(1_000_000));
    let (first, second) = (run(), run());
    assert!(first.finding.is_some());
    assert_eq!((first.inputs, first.finding), (second.inputs, second.finding));
}

#[test]
fn kept_inputs_are_named_by_content_and_loaded_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = save(dir.path(), b"one").unwrap();
    assert_eq!(save(dir.path(), b"one").unwrap(), path);
    save(dir.path(), b"two").unwrap();
    let loaded = load(dir.path()).unwrap();
    assert_eq!(loaded.len(), 2);
    assert!(loaded.is_sorted_by(|a, b| a.0 <= b.0));
    assert_eq!(load(&dir.path().join("missing")).unwrap(), []);
}

#[test]
fn targets_are_found_by_name() {
    assert!(target("frame_decoder").is_some());
    assert!(target("no_such").is_none());
}
