//! Links of the documents lead somewhere.

use anyhow::{Context, Result};
use std::path::Path;

/// Relative links in Markdown files whose target is missing.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for path in crate::tracked(root, ".md")? {
        let text = std::fs::read_to_string(root.join(&path)).with_context(|| path.clone())?;
        let folder = root.join(&path).parent().map(Path::to_owned).unwrap_or_default();
        for (number, line) in (1..).zip(text.lines()) {
            for target in targets(line) {
                let file = target.split('#').next().unwrap_or_default();
                if file.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                if !folder.join(file).exists() {
                    complaints.push(format!("{path}:{number}: the link to {target} leads nowhere"));
                }
            }
        }
    }
    Ok(complaints)
}

/// What stands in `](...)` on a line.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|target| !target.contains(' '))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_targets_of_a_line_are_found() {
        let line = "see [a](one.md), ![b](two.png#x) and [c](https://x.example/)";
        assert_eq!(super::targets(line).collect::<Vec<_>>(), ["one.md", "two.png#x", "https://x.example/"]);
    }
}
