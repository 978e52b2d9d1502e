//! The guide's examples are files that are taken, and do what the guide says.

use millpond_engine::{check, dry_run, run_tests};
use std::path::Path;

/// Pages whose examples are topologies; a line each, so that two who add one do not meet.
#[rustfmt::skip]
const PAGES: &[&str] = &[
    "topology.md",
    "schedules.md",
    "rules.md",
    "windows.md",
    "secrets.md",
    "testing-rules.md",
    "databases.md",
    "source-postgres.md",
    "source-mysql.md",
    "source-sqlite.md",
];

/// The blocks of a language in a page of the guide, each with the line where it begins.
fn blocks(page: &str, language: &str) -> Vec<(usize, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in (1..).zip(text.lines()) {
        match &mut open {
            None if line == format!("```{language}") => open = Some((number, String::new())),
            None => {}
            Some(_) if line == "```" => blocks.extend(open.take()),
            Some((_, block)) => {
                block.push_str(line);
                block.push('\n');
            }
        }
    }
    blocks
}

/// The pages of the guide whose names begin so.
fn pages(prefix: &str) -> Vec<String> {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide");
    let names = std::fs::read_dir(guide).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(prefix)).collect()
}

#[test]
fn every_example_of_the_guide_is_a_topology() {
    for page in PAGES {
        let examples = blocks(page, "yaml");
        assert!(!examples.is_empty(), "{page} has no examples");
        for (line, example) in examples {
            // A page shows parts; each has its sections at the left edge.
            if let Err(error) = check(page, &example) {
                panic!("{page}:{line}:\n{error}");
            }
        }
    }
}

#[test]
fn every_example_of_an_action_is_a_topology() {
    let pages = pages("action");
    assert!(pages.len() > 8);
    for page in pages {
        let examples = blocks(&page, "yaml");
        assert!(!examples.is_empty(), "{page} has no examples");
        for (line, example) in examples {
            check(&page, &example).unwrap_or_else(|error| panic!("{page}:{line}:\n{error}"));
        }
    }
}

#[test]
fn every_example_of_a_source_is_a_topology() {
    let pages = pages("source");
    assert!(pages.len() > 2);
    for page in pages {
        for (line, example) in blocks(&page, "yaml") {
            check(&page, &example).unwrap_or_else(|error| panic!("{page}:{line}:\n{error}"));
        }
    }
}

#[test]
fn the_dry_run_of_the_guide_is_a_real_one() {
    let (_, example) = blocks("rules.md", "yaml").remove(0);
    let (_, event) = blocks("rules.md", "json").remove(0);
    let (_, shown) = blocks("rules.md", "text").remove(0);
    let topology = check("topology.yaml", &example).unwrap();
    let event = serde_json::from_str(&event).unwrap();
    assert_eq!(dry_run(&topology, "receipt", &event).unwrap().to_string(), shown.trim_end());
}

#[test]
fn the_tests_of_the_guide_pass() {
    let (_, example) = blocks("testing-rules.md", "yaml").remove(0);
    let report = run_tests(&check("topology.yaml", &example).unwrap(), None).unwrap();
    assert!(report.passed() && report.results.len() == 3, "{report}");
    let (_, example) =
        blocks("windows.md", "yaml").into_iter().find(|(_, it)| it.contains("tests:")).unwrap();
    let report = run_tests(&check("topology.yaml", &example).unwrap(), None).unwrap();
    assert!(report.passed() && report.results.len() == 2, "{report}");
}

#[test]
fn the_topologies_of_the_examples_are_taken_and_their_tests_pass() {
    for example in ["orders", "password-reset"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(example);
        let text = std::fs::read_to_string(folder.join("topology.yaml")).unwrap();
        let topology = check("topology.yaml", &text).unwrap_or_else(|error| panic!("{example}: {error}"));
        let report = run_tests(&topology, None).unwrap();
        assert!(report.passed() && !report.results.is_empty(), "{example}: {report}");
    }
}

#[cfg(feature = "wasm")]
#[test]
fn the_examples_of_functions_are_topologies_and_their_tests_pass() {
    let mut examples: Vec<_> =
        blocks("action-function.md", "yaml").into_iter().map(|(_, text)| text).collect();
    assert!(examples.len() > 1);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/functions");
    examples.push(std::fs::read_to_string(folder.join("topology.yaml")).unwrap());
    for example in examples {
        let topology = check("t.yaml", &example).unwrap_or_else(|error| panic!("{error}\n{example}"));
        let report = run_tests(&topology, None).unwrap();
        assert!(report.passed() && report.results.is_empty() != example.contains("tests:"), "{report}");
    }
}
