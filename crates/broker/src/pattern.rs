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

/// A search through names, as management tools ask for it: without regard to case.
#[derive(Debug)]
pub enum NameSearch {
    /// Names with this text in them, which is in lower case.
    Text(String),
    /// Names in which this is found.
    Pattern(Box<Regex>),
}

impl NameSearch {
    /// For names with this text in them.
    pub fn text(text: &str) -> Self {
        Self::Text(text.to_lowercase())
    }

    /// For names in which this regular expression is found.
    pub fn pattern(pattern: &str) -> Result<Self, BadPattern> {
        Ok(Self::Pattern(compile(&format!("(?i){pattern}"))?.into()))
    }

    /// Whether a name is one of them.
    pub fn finds(&self, name: &str) -> bool {
        match self {
            Self::Text(text) if name.is_ascii() => {
                let same = |part: &[u8]| part.eq_ignore_ascii_case(text.as_bytes());
                text.is_empty() || name.as_bytes().windows(text.len()).any(same)
            }
            Self::Text(text) => name.to_lowercase().contains(text.as_str()),
            Self::Pattern(pattern) => is_match(pattern, name),
        }
    }
}
