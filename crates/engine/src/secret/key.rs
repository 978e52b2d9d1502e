//! The key that the table of secrets is sealed with.
//!
//! A file with 64 hexadecimal digits that nobody but its owner may read, beside the store and not in it: a copy of the
//! store alone tells no secrets.

use super::SECRET_MAX_BYTES;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// First byte of a sealed value: how it is sealed.
const SEALED_VERSION: u8 = 1;

/// Part of what is authenticated, so that a value sealed for something else is not taken for a secret.
const PURPOSE: &str = "millpond secret";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("the key of the secrets cannot be read: {path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Others may read it.
    #[error(
        "the key of the secrets may be read by others: {path} has the mode {mode:04o}, expected 0600: chmod it"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// There is something else in it.
    #[error(
        "{path} is no key of secrets: expected 64 hexadecimal digits, such as 'openssl rand -hex 32' prints"
    )]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// It could not be made.
    #[error("the key of the secrets cannot be made: {path}: {reason}")]
    NotMade {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Seals and opens.
pub(super) struct Key(LessSafeKey);

impl Key {
    /// Reads the file; blocks on the disk.
    pub(super) fn read(path: &Path) -> Result<Self, KeyError> {
        let unreadable =
            |error: io::Error| KeyError::Unreadable { path: path.into(), reason: error.to_string() };
        let state = std::fs::metadata(path).map_err(unreadable)?;
        let mode = state.permissions().mode() & 0o777;
        if mode & 0o007 != 0 {
            return Err(KeyError::Open { path: path.into(), mode });
        }
        if state.len() > SECRET_MAX_BYTES as u64 {
            return Err(KeyError::NoKey { path: path.into() });
        }
        let text = std::fs::read(path).map_err(unreadable)?;
        Self::of_hex(text.trim_ascii()).ok_or_else(|| KeyError::NoKey { path: path.into() })
    }

    /// As [`Self::read`]; a file that is not there is made.
    pub(super) fn read_or_make(path: &Path) -> Result<Self, KeyError> {
        match std::fs::exists(path) {
            Ok(true) | Err(_) => Self::read(path),
            Ok(false) => {
                make(path).map_err(|reason| KeyError::NotMade { path: path.into(), reason })?;
                Self::read(path)
            }
        }
    }

    fn of_hex(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; KEY_BYTES];
        if text.len() != 2 * KEY_BYTES {
            return None;
        }
        for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).ok()?)))
    }

    /// The value, readable by those who have the key and ask for it by the same name. Nothing: the system gave no
    /// randomness.
    pub(super) fn seal(&self, name: &str, value: &str) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).ok()?;
        let mut sealed = value.as_bytes().to_vec();
        let nonce_used = Nonce::assume_unique_for_key(nonce);
        self.0.seal_in_place_append_tag(nonce_used, bound_to(name), &mut sealed).ok()?;
        Some([&[SEALED_VERSION], nonce.as_slice(), &sealed].concat())
    }

    /// The value, unless it was sealed with another key, by another name, or is damaged.
    pub(super) fn open(&self, name: &str, sealed: &[u8]) -> Option<String> {
        let (version, rest) = sealed.split_first()?;
        let (nonce, rest) = rest.split_at_checked(NONCE_LEN)?;
        if *version != SEALED_VERSION {
            return None;
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut rest = rest.to_vec();
        let opened = self.0.open_in_place(nonce, bound_to(name), &mut rest).ok()?.len();
        rest.truncate(opened);
        String::from_utf8(rest).ok()
    }
}

fn bound_to(name: &str) -> Aad<Vec<u8>> {
    Aad::from(format!("{PURPOSE}\0{name}").into_bytes())
}

/// Makes a file with a new key. It gets its name when it is whole and on the disk, so that no crash leaves half a key.
fn make(path: &Path) -> Result<(), String> {
    let mut bytes = [0; KEY_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the system gives no randomness".to_owned())?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let write = || -> io::Result<()> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(format!("{hex}\n").as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => std::fs::File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    };
    write().map_err(|error| error.to_string())
}
