//! Fuzzing of whatever reads bytes from outside: targets, and a plain mutating fuzzer that needs no nightly
//! compiler.
//!
//! A target is a function from bytes to nothing that panics when something does not hold, so libFuzzer can run it
//! too (see `fuzz/README.md`). To add one: write the function in [`targets`], name it in [`TARGETS`], and put a few
//! inputs that are valid into `fuzz/corpus/<name>/`; mutations of valid inputs get further than noise does.

pub mod corpus;
pub mod mutate;
pub mod run;
pub mod targets;

/// Something to fuzz.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// As on the command line, and the name of its folders.
    pub name: &'static str,
    /// Panics on a finding.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "frame_decoder", run: targets::frame_decoder },
    Target { name: "method_decoder", run: targets::method_decoder },
    Target { name: "field_table", run: targets::field_table },
    Target { name: "log_recovery", run: targets::log_recovery },
    Target { name: "topology_parser", run: targets::topology_parser },
];

/// The target of that name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|target| target.name == name).copied()
}
