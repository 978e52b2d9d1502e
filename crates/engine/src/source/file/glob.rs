//! Paths with `*`, `?` and `[..]` in them, in names of files and of directories.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Entries of directories looked at in one go, all patterns of a source together.
const ENTRIES_MAX: usize = 100_000;

/// A pattern over absolute paths.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pattern(Vec<String>);

/// What patterns match at one moment.
#[derive(Debug, Default)]
pub(super) struct Matches {
    /// Regular files, sorted by path, each once however many names it has.
    pub(super) files: Vec<(PathBuf, Metadata)>,
    /// Directories that were looked into: what changes there may change what matches.
    pub(super) dirs: Vec<PathBuf>,
    /// Entries that were looked at.
    entries: usize,
    /// There were more than are looked at.
    pub(super) cut: bool,
}

impl Pattern {
    /// `None`: the path is not absolute, or leads through `..`.
    pub(super) fn new(path: &str) -> Option<Self> {
        let parts: Vec<String> =
            path.strip_prefix('/')?.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        (!parts.is_empty() && !parts.iter().any(|part| part == "..")).then_some(Self(parts))
    }

    fn find(&self, at: &Path, depth: usize, found: &mut Matches) {
        let Some(part) = self.0.get(depth) else { return };
        let is_last = depth + 1 == self.0.len();
        if !is_pattern(part) {
            let path = at.join(part);
            if is_last {
                found.dir(at);
                found.file(path);
            } else {
                self.find(&path, depth + 1, found);
            }
            return;
        }
        let Ok(entries) = std::fs::read_dir(at) else { return };
        found.dir(at);
        for entry in entries.flatten() {
            found.entries += 1;
            if found.entries > ENTRIES_MAX {
                found.cut = true;
                return;
            }
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            // As in a shell: hidden ones have to be asked for.
            if (name.starts_with('.') && !part.starts_with('.')) || !matches(part, name) {
                continue;
            }
            if is_last {
                found.file(entry.path());
            } else if entry.path().is_dir() {
                self.find(&entry.path(), depth + 1, found);
            }
        }
    }
}

impl Matches {
    fn dir(&mut self, path: &Path) {
        if !self.dirs.iter().any(|dir| dir == path) {
            self.dirs.push(path.to_owned());
        }
    }

    fn file(&mut self, path: PathBuf) {
        if let Ok(metadata) = std::fs::metadata(&path)
            && metadata.is_file()
        {
            self.files.push((path, metadata));
        }
    }
}

/// Looks what matches now.
pub(super) fn find(patterns: &[Pattern]) -> Matches {
    let mut found = Matches::default();
    for pattern in patterns {
        pattern.find(Path::new("/"), 0, &mut found);
    }
    found.files.sort_by(|a, b| a.0.cmp(&b.0));
    let mut seen = std::collections::HashSet::new();
    found.files.retain(|(_, metadata)| seen.insert((metadata.dev(), metadata.ino())));
    found
}

fn is_pattern(part: &str) -> bool {
    part.contains(['*', '?', '['])
}

/// Whether a name matches: `*` any characters, `?` one, `[a-z]` or `[!a-z]` one of (not of) these. A star is tried
/// again from its latest place only, so the work is at most the product of both lengths.
fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some('?') => Some(p + 1),
            Some('[') => class(&pattern, p, name[n]),
            Some(c) => (*c == name[n]).then_some(p + 1),
            None => None,
        };
        match (step, star) {
            (Some(next), _) => (p, n) = (next, n + 1),
            (None, Some((at, from))) => {
                star = Some((at, from + 1));
                (p, n) = (at + 1, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Where the pattern goes on if the class at `at` holds `c`. A class without its end is a bracket.
fn class(pattern: &[char], at: usize, c: char) -> Option<usize> {
    let negated = matches!(pattern.get(at + 1), Some('!' | '^'));
    let from = at + 1 + usize::from(negated);
    let end = (from + 1..pattern.len()).find(|end| pattern[*end] == ']');
    let Some(end) = end else { return (c == '[').then_some(at + 1) };
    let (mut found, mut i) = (false, from);
    while i < end {
        if i + 2 < end && pattern[i + 1] == '-' {
            found |= (pattern[i]..=pattern[i + 2]).contains(&c);
            i += 3;
        } else {
            found |= pattern[i] == c;
            i += 1;
        }
    }
    (found != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn names_match_as_in_a_shell() {
        let cases = [
            ("*.log", "app.log", true),
            ("*.log", "app.log.1", false),
            ("app-?.log", "app-1.log", true),
            ("app-?.log", "app-12.log", false),
            ("app-[0-9].log", "app-7.log", true),
            ("app-[!0-9].log", "app-7.log", false),
            ("app-[]a].log", "app-].log", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("*", "", true),
            ("[x", "[x", true),
        ];
        for (pattern, name, wanted) in cases {
            assert_eq!(matches(pattern, name), wanted, "{pattern} {name}");
        }
        let long = "a".repeat(200);
        assert!(!matches(&format!("{}b", "*a".repeat(50)), &long));
    }
}
