//! Definitions that are imported at the start: `load_definitions`, a file or a directory of them.

use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use millpond_broker::Broker;
use millpond_server::load_definitions;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Largest file. Bytes.
const FILE_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Files of a directory.
const FILES_MAX: usize = 1000;
/// Where the data directory has the hash of what was imported last.
const HASH_FILE: &str = "definitions.sha256";

/// See the module. What is no JSON is refused before anything is touched.
#[derive(Debug)]
pub(crate) struct BootDefinitions {
    files: Vec<(PathBuf, Vec<u8>)>,
    have_users: bool,
}

impl BootDefinitions {
    /// Reads a file, or the `*.json` of a directory in the order of their names.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let mut paths = vec![path.to_owned()];
        if path.is_dir() {
            let entries = std::fs::read_dir(path).with_context(|| of(path))?;
            let all: std::io::Result<Vec<_>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
            paths = all.with_context(|| of(path))?;
            paths.retain(|path| path.extension().is_some_and(|kind| kind == "json"));
            paths.sort();
        }
        if paths.len() > FILES_MAX {
            bail!("{}: {} files, at most {FILES_MAX} are taken", of(path), paths.len());
        }
        let mut this = Self { files: Vec::with_capacity(paths.len()), have_users: false };
        for path in paths {
            let size = std::fs::metadata(&path).with_context(|| of(&path))?.len();
            if size > FILE_MAX_BYTES {
                bail!("{}: {size} bytes, at most {FILE_MAX_BYTES} are taken", of(&path));
            }
            let text = std::fs::read(&path).with_context(|| of(&path))?;
            let json: Value = serde_json::from_slice(&text).with_context(|| of(&path))?;
            if !json.is_object() {
                bail!("{}: a JSON object is expected, as RabbitMQ exports definitions", of(&path));
            }
            this.have_users |= json["users"].as_array().is_some_and(|users| !users.is_empty());
            this.files.push((path, text));
        }
        Ok(this)
    }

    /// Whether there are users among them.
    pub(crate) fn have_users(&self) -> bool {
        self.have_users
    }

    /// Imports them, unless they are those of last time and the settings leave those alone.
    pub(crate) async fn load(&self, broker: &Broker, settings: &Settings) -> Result<()> {
        let (hash_path, hash) = (settings.data_dir.join(HASH_FILE), self.hash());
        let last = std::fs::read_to_string(&hash_path).unwrap_or_default();
        if settings.load_definitions_skip_unchanged && last.trim() == hash {
            tracing::info!("definitions are those of the last import, and left alone");
            return Ok(());
        }
        for (path, text) in &self.files {
            let warnings = load_definitions(broker, text).await.with_context(|| of(path))?;
            for warning in warnings {
                tracing::warn!(file = %path.display(), "definitions: {warning}");
            }
            tracing::info!(file = %path.display(), "definitions imported");
        }
        std::fs::write(&hash_path, hash + "\n").with_context(|| hash_path.display().to_string())
    }

    fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        for (_, text) in &self.files {
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text);
        }
        hasher.finalize().iter().fold(String::new(), |mut hex, byte| {
            // Writing to a text does not fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

fn of(path: &Path) -> String {
    format!("`load_definitions`, {}", path.display())
}
