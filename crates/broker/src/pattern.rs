//! Regular expressions that operators write, compiled within bounds of size and matched within bounds of time.

use fancy_regex::{Regex, RegexBuilder};

/// Longest pattern. Bytes.
const PATTERN_MAX_BYTES: usize = 4096;
/// Largest compiled pattern. Bytes.
const COMPILED_MAX_BYTES: usize = 1 << 20;
/// Steps back that matching one name may take.
const BACKTRACK_MAX: usize = 100_000;

/// A pattern that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pattern '{pattern}' cannot be used: {reason}")]
pub struct BadPattern {
    /// As given, shortened.
    pub pattern: String,
    /// Why.
    pub reason: String,
}

/// Compiles a pattern.
pub(crate) fn compile(pattern: &str) -> Result<Regex, BadPattern> {
    let bad = |reason: String| {
        let shown: String = pattern.chars().take(80).collect();
        BadPattern { pattern: shown, reason }
    };
    if pattern.len() > PATTERN_MAX_BYTES {
        return Err(bad(format!("{} bytes are over the limit of {PATTERN_MAX_BYTES}", pattern.len())));
    }
    RegexBuilder::new(pattern)
        .delegate_size_limit(COMPILED_MAX_BYTES)
        .delegate_dfa_size_limit(COMPILED_MAX_BYTES)
        .backtrack_limit(BACKTRACK_MAX)
        .build()
        .map_err(|error| bad(error.to_string()))
}

/// Whether it is found in the name. One that takes too long for a name is not.
pub(crate) fn is_match(pattern: &Regex, name: &str) -> bool {
    pattern.is_match(name).unwrap_or_else(|error| {
        tracing::warn!(pattern = pattern.as_str(), name, %error, "the pattern does not come to an end");
        false
    })
}
