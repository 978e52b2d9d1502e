//! The layering of docs/ARCHITECTURE.md as a table: dependencies point downward only.

use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;

/// Which of our crates a crate may use in its normal dependencies. A crate that is not here is a complaint:
/// a new room is put on the map first.
const MAP: &[(&str, &[&str])] = &[
    ("millpond-model", &[]),
    ("millpond-calendar", &[]),
    ("millpond-events", &["millpond-model"]),
    ("millpond-amqp-codec", &["millpond-model"]),
    ("millpond-amqp-client", &["millpond-model", "millpond-amqp-codec"]),
    ("millpond-bench", &["millpond-model", "millpond-amqp-client"]),
    ("millpond-store", &["millpond-model"]),
    ("millpond-broker", &["millpond-model", "millpond-calendar", "millpond-store"]),
    ("millpond-shovel", &["millpond-model", "millpond-amqp-client", "millpond-broker"]),
    ("millpond-engine", &["millpond-model", "millpond-calendar", "millpond-events", "millpond-broker"]),
    ("millpond-server", &["millpond-model", "millpond-amqp-codec", "millpond-events", "millpond-broker"]),
    (
        "millpond",
        &[
            "millpond-model",
            "millpond-amqp-client",
            "millpond-bench",
            "millpond-calendar",
            "millpond-events",
            "millpond-store",
            "millpond-broker",
            "millpond-engine",
            "millpond-server",
            "millpond-shovel",
        ],
    ),
    (
        "millpond-testkit",
        &["millpond-model", "millpond-amqp-codec", "millpond-store", "millpond-broker", "millpond-server"],
    ),
    ("millpond-fuzz", &["millpond-model", "millpond-amqp-codec", "millpond-store", "millpond-engine"]),
    ("millpond-crash", &[]),
    ("millpond-soak", &[]),
    ("millpond-conformance", &[]),
    ("xtask", &[]),
];

/// Every arrow that the map does not have.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata's JSON")?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let ours: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut complaints = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("a package has a name")?;
        let Some((_, allowed)) = MAP.iter().find(|(crate_name, _)| *crate_name == name) else {
            complaints.push(format!("{name} is not on the map: add it to MAP in crates/xtask/src/layers.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().context("dependencies")? {
            let target = dependency["name"].as_str().context("a dependency has a name")?;
            let is_normal = dependency["kind"].is_null();
            if is_normal && ours.contains(&target) && !allowed.contains(&target) {
                complaints.push(format!("{name} may not use {target}: the arrow points against the layers"));
            }
        }
    }
    Ok(complaints)
}
