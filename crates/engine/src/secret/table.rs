//! The table of secrets, and where the other kinds of secrets are looked up.
//!
//! Kept as keyed values `secret/NAME`, each sealed (AES-256-GCM) with its name bound to it. They are held in memory as
//! they are kept, sealed, and opened when they are used.

use super::SECRET_MAX_BYTES;
use super::key::{Key, KeyError};
use super::text::SecretRef;
use crate::values;
use millpond_broker::{Broker, CommitError, ReadValuesError};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Prefix of the keys of secrets.
const SECRET_PREFIX: &str = "secret/";

/// Longest name. Bytes.
const NAME_MAX_BYTES: usize = 128;

/// Secrets in the table, at most.
const SECRETS_MAX: usize = 10_000;

/// The key's file in the data directory, unless the settings name another.
const KEY_FILE: &str = "secrets.key";

/// Why a secret could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The environment has no such variable.
    #[error("the secret ${{env:{name}}} is missing: the broker's environment has no text variable {name}")]
    NoVariable {
        /// Its name.
        name: String,
    },
    /// The file cannot be read.
    #[error("the secret ${{file:{file}}} is missing: {}: {reason}", path.display())]
    NoFile {
        /// As the text names it.
        file: String,
        /// Where that is.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The table has none of that name.
    #[error("the secret ${{secret:{name}}} is missing: set it with 'millpond secrets set {name}'")]
    NotSet {
        /// Its name.
        name: String,
    },
    /// The key does not open it.
    #[error("the secret {name} cannot be opened: it was sealed with another key than that in {}, or is damaged; 'millpond secrets set {name}' replaces it", key.display())]
    Sealed {
        /// Its name.
        name: String,
        /// The key's file.
        key: PathBuf,
    },
    /// There is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Not a name.
    #[error(
        "'{name}' is no name of a secret: expected letters, digits, '.', '_' and '-', at most {NAME_MAX_BYTES}"
    )]
    Name {
        /// As given.
        name: String,
    },
    /// Not a value.
    #[error("the value has {size_bytes} bytes, expected 1 to {SECRET_MAX_BYTES}")]
    Size {
        /// How many.
        size_bytes: usize,
    },
    /// No room for another.
    #[error("there are {SECRETS_MAX} secrets, and no room for more: remove some")]
    Full,
    /// It could not be sealed.
    #[error("the value could not be sealed: the system gives no randomness")]
    NoRandomness,
    /// It could not be kept.
    #[error("the secret could not be kept: {0}")]
    NotKept(#[from] CommitError),
    /// What was read on the side broke off.
    #[error("the secret could not be read: {0}")]
    BrokeOff(String),
}

/// Where secrets are found; cloning counts a reference.
#[derive(Clone)]
pub struct Secrets(Arc<Inner>);

struct Inner {
    broker: Broker,
    /// Relative names of files begin here.
    base: PathBuf,
    key_path: PathBuf,
    /// Read when it is first needed.
    key: Mutex<Option<Arc<Key>>>,
    sealed: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Held while the table changes.
    changing: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({} in the table)", self.0.sealed.lock().len())
    }
}

impl Secrets {
    /// Reads the table; `key_path`: the key's file, if it is not the one in the data directory.
    pub(crate) fn open(
        broker: Broker,
        data_dir: &Path,
        key_path: Option<PathBuf>,
    ) -> Result<Self, ReadValuesError> {
        let sealed = broker.values(values::ROOM)?.into_iter().filter_map(|(key, value)| {
            let name = std::str::from_utf8(&key).ok()?.strip_prefix(SECRET_PREFIX)?;
            Some((name.to_owned(), value.to_vec()))
        });
        Ok(Self(Arc::new(Inner {
            sealed: Mutex::new(sealed.collect()),
            broker,
            base: data_dir.to_owned(),
            key_path: key_path.unwrap_or_else(|| data_dir.join(KEY_FILE)),
            key: Mutex::new(None),
            changing: tokio::sync::Mutex::new(()),
        })))
    }

    /// Puts a secret into the table, or another value in its place. When this returns it is on the disk. The first
    /// one makes the key.
    pub async fn set(&self, name: &str, value: &str) -> Result<(), SecretError> {
        check_name(name)?;
        if value.is_empty() || value.len() > SECRET_MAX_BYTES {
            return Err(SecretError::Size { size_bytes: value.len() });
        }
        let _changing = self.0.changing.lock().await;
        let (count, is_known) = {
            let sealed = self.0.sealed.lock();
            (sealed.len(), sealed.contains_key(name))
        };
        if count >= SECRETS_MAX && !is_known {
            return Err(SecretError::Full);
        }
        // A lost key must not be replaced in passing: the other secrets would be lost with it.
        let key = self.key(count == 0).await?;
        let sealed = key.seal(name, value).ok_or(SecretError::NoRandomness)?;
        values::put(&self.0.broker, &key_of(name), Some(&sealed)).await?;
        self.0.sealed.lock().insert(name.to_owned(), sealed);
        Ok(())
    }

    /// The names of those in the table, sorted.
    pub fn names(&self) -> Vec<String> {
        self.0.sealed.lock().keys().cloned().collect()
    }

    /// Takes a secret away.
    pub async fn remove(&self, name: &str) -> Result<(), SecretError> {
        let _changing = self.0.changing.lock().await;
        if !self.0.sealed.lock().contains_key(name) {
            return Err(SecretError::NotSet { name: name.to_owned() });
        }
        values::put(&self.0.broker, &key_of(name), None).await?;
        self.0.sealed.lock().remove(name);
        Ok(())
    }

    /// What a reference means now.
    pub(super) async fn find(&self, reference: &SecretRef) -> Result<String, SecretError> {
        match reference {
            SecretRef::Env(name) => {
                std::env::var(&**name).map_err(|_| SecretError::NoVariable { name: name.to_string() })
            }
            SecretRef::File(file) => {
                let path = self.0.base.join(&**file);
                {
                    let read = {
                        let path = path.clone();
                        move || read_file(&path)
                    };
                    let read = tokio::task::spawn_blocking(read).await;
                    let read = read.unwrap_or_else(|error| Err(error.to_string()));
                    read.map_err(|reason| SecretError::NoFile { file: file.to_string(), path, reason })
                }
            }
            SecretRef::Table(name) => {
                let sealed = self.0.sealed.lock().get(&**name).cloned();
                let sealed = sealed.ok_or_else(|| SecretError::NotSet { name: name.to_string() })?;
                let key = self.key(false).await?;
                key.open(name, &sealed).ok_or_else(|| SecretError::Sealed {
                    name: name.to_string(),
                    key: self.0.key_path.clone(),
                })
            }
        }
    }

    async fn key(&self, may_make: bool) -> Result<Arc<Key>, SecretError> {
        if let Some(key) = &*self.0.key.lock() {
            return Ok(key.clone());
        }
        let path = self.0.key_path.clone();
        let read = move || match may_make {
            true => Key::read_or_make(&path),
            false => Key::read(&path),
        };
        let key = tokio::task::spawn_blocking(read).await;
        let key = Arc::new(key.map_err(|error| SecretError::BrokeOff(error.to_string()))??);
        Ok(self.0.key.lock().get_or_insert(key).clone())
    }
}

fn key_of(name: &str) -> Vec<u8> {
    format!("{SECRET_PREFIX}{name}").into_bytes()
}

fn check_name(name: &str) -> Result<(), SecretError> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    match plain && !name.is_empty() && name.len() <= NAME_MAX_BYTES {
        true => Ok(()),
        false => Err(SecretError::Name { name: name.chars().take(NAME_MAX_BYTES).collect() }),
    }
}

/// The text of a file without the line end at its end; blocks on the disk.
fn read_file(path: &Path) -> Result<String, String> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(SECRET_MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = read().map_err(|error| error.to_string())?;
    if bytes.len() > SECRET_MAX_BYTES {
        return Err(format!("it has more than {SECRET_MAX_BYTES} bytes"));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    match text.is_empty() {
        true => Err("it is empty".to_owned()),
        false => Ok(text),
    }
}
