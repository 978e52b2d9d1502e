//! House rules as programs. `cargo xtask layers` holds the arrows between crates against the map,
//! `cargo xtask tidy` the sizes, the banned calls and the links of the documents.

mod layers;
mod links;
mod tidy;

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

const USAGE: &str = "usage: cargo xtask layers | tidy | tidy --tighten";

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("xtask: {error:#}"));
            std::process::ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "a tool's output is its purpose")]
fn complain(text: &str) {
    eprintln!("{text}");
}

fn run() -> Result<()> {
    let root = root()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let complaints = match words[..] {
        ["layers"] => layers::check(&root)?,
        ["tidy"] => tidy::check(&root)?.into_iter().chain(links::check(&root)?).collect(),
        ["tidy", "--tighten"] => return tidy::tighten(&root),
        _ => bail!(USAGE),
    };
    if complaints.is_empty() {
        return Ok(());
    }
    bail!("{} complaints\n  {}", complaints.len(), complaints.join("\n  "))
}

/// The workspace's root: two folders above this crate's manifest.
fn root() -> Result<PathBuf> {
    let manifest = std::env::var("CARGO_MANIFEST_DIR").context("run it as `cargo xtask`")?;
    let root = Path::new(&manifest).ancestors().nth(2).context("crates/xtask lies two folders deep")?;
    Ok(root.to_owned())
}

/// The files git tracks whose names end with `ending`, relative to the root.
fn tracked(root: &Path, ending: &str) -> Result<Vec<String>> {
    let output = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root)
        .output()
        .context("git ls-files")?;
    let text = String::from_utf8(output.stdout).context("file names are UTF-8")?;
    let exists = |path: &&str| root.join(path).is_file();
    Ok(text.split('\0').filter(|path| path.ends_with(ending)).filter(exists).map(str::to_owned).collect())
}
