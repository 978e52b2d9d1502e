//! Passwords as they are kept: Argon2id of our own making, and RabbitMQ's salted digests as they are imported.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha2::{Digest, Sha256, Sha512};

/// Memory, passes and lanes of Argon2id: the first choice of OWASP's password storage cheat sheet.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Most of each that a stored or imported hash may ask for, so that no hash makes a login take minutes.
const MEMORY_MAX_KIB: u32 = 256 * 1024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;

const SALT_BYTES: usize = 16;
const DIGEST_BYTES: usize = 32;
/// Salt of RabbitMQ's hashes, in front of the digest.
const IMPORTED_SALT_BYTES: usize = 4;

/// How a password was hashed; the words are those of RabbitMQ's definitions, and one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// Argon2id (RFC 9106), what passwords are hashed with here.
    Argon2id,
    /// RabbitMQ's default.
    Sha256,
    /// RabbitMQ's.
    Sha512,
    /// RabbitMQ's before 3.6.
    Md5,
}

const ALGORITHMS: [(HashAlgorithm, &str); 4] = [
    (HashAlgorithm::Argon2id, "millpond_password_hashing_argon2id"),
    (HashAlgorithm::Sha256, "rabbit_password_hashing_sha256"),
    (HashAlgorithm::Sha512, "rabbit_password_hashing_sha512"),
    (HashAlgorithm::Md5, "rabbit_password_hashing_md5"),
];

impl HashAlgorithm {
    /// From the word in definitions.
    pub fn parse(text: &str) -> Option<Self> {
        ALGORITHMS.iter().find(|(_, word)| *word == text).map(|(it, _)| *it)
    }

    /// The word in definitions.
    pub fn as_str(self) -> &'static str {
        ALGORITHMS.iter().find(|(it, _)| *it == self).map_or("", |(_, word)| word)
    }
}

/// Why a hash is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a password hash of {} {reason}", .algorithm.as_str())]
pub struct BadHash {
    /// As given.
    pub algorithm: HashAlgorithm,
    /// What is wrong.
    pub reason: String,
}

/// A password as it is kept. Shown it says nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PasswordHash {
    algorithm: HashAlgorithm,
    /// Argon2id: memory, passes, lanes (u32, big-endian), salt, digest. Others: salt, digest.
    bytes: Box<[u8]>,
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PasswordHash({})", self.algorithm.as_str())
    }
}

impl PasswordHash {
    /// Hashes a password with a new salt. Takes tens of milliseconds of CPU.
    pub(crate) fn new(password: &[u8]) -> Self {
        let salt: [u8; SALT_BYTES] = rand::random();
        let costs = [MEMORY_KIB, PASSES, LANES];
        // These costs and sizes are within Argon2's limits, and passwords come in frames far below 4 GiB.
        let digest = argon2id(costs, &salt, password).unwrap_or_default();
        let mut bytes: Vec<u8> = costs.iter().flat_map(|cost| cost.to_be_bytes()).collect();
        bytes.extend_from_slice(&salt);
        bytes.extend_from_slice(&digest);
        Self { algorithm: HashAlgorithm::Argon2id, bytes: bytes.into() }
    }

    /// From the text that definitions carry.
    pub(crate) fn import(algorithm: HashAlgorithm, text: &str) -> Result<Self, BadHash> {
        let bad = |reason: String| BadHash { algorithm, reason };
        let bytes = STANDARD.decode(text).map_err(|error| bad(format!("is not Base64: {error}")))?;
        Self::of_bytes(algorithm, bytes.into()).map_err(bad)
    }

    pub(crate) fn of_bytes(algorithm: HashAlgorithm, bytes: Box<[u8]>) -> Result<Self, String> {
        let needed = match algorithm {
            HashAlgorithm::Argon2id => 12 + SALT_BYTES + DIGEST_BYTES,
            HashAlgorithm::Sha256 => IMPORTED_SALT_BYTES + 32,
            HashAlgorithm::Sha512 => IMPORTED_SALT_BYTES + 64,
            HashAlgorithm::Md5 => IMPORTED_SALT_BYTES + 16,
        };
        if bytes.len() != needed {
            return Err(format!("has {} bytes, not {needed}", bytes.len()));
        }
        let this = Self { algorithm, bytes };
        let [memory, passes, lanes] = this.costs();
        if memory > MEMORY_MAX_KIB || passes > PASSES_MAX || lanes > LANES_MAX {
            return Err(format!(
                "asks for {memory} KiB, {passes} passes and {lanes} lanes, over the limits of {MEMORY_MAX_KIB}, {PASSES_MAX} and {LANES_MAX}"
            ));
        }
        Ok(this)
    }

    /// How it was hashed.
    pub(crate) fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Hashes a password as RabbitMQ does, for those who want a hash to hand in.
    pub(crate) fn of_rabbitmq(password: &[u8]) -> Self {
        let salt: [u8; IMPORTED_SALT_BYTES] = rand::random();
        let digest = Sha256::new().chain_update(salt).chain_update(password).finalize();
        Self { algorithm: HashAlgorithm::Sha256, bytes: [&salt[..], &digest].concat().into() }
    }

    /// The text that definitions carry.
    pub(crate) fn export(&self) -> String {
        STANDARD.encode(&self.bytes)
    }

    fn costs(&self) -> [u32; 3] {
        if self.algorithm != HashAlgorithm::Argon2id {
            return [0; 3];
        }
        let cost = |at: usize| self.bytes[at..at + 4].iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        [cost(0), cost(4), cost(8)]
    }

    /// Whether this is its password. Takes tens of milliseconds of CPU with Argon2id.
    pub(crate) fn fits(&self, password: &[u8]) -> bool {
        let (salt, digest) = match self.algorithm {
            HashAlgorithm::Argon2id => self.bytes[12..].split_at(SALT_BYTES),
            _ => self.bytes.split_at(IMPORTED_SALT_BYTES),
        };
        let salted = || [salt, password].concat();
        let found: Vec<u8> = match self.algorithm {
            HashAlgorithm::Argon2id => argon2id(self.costs(), salt, password).unwrap_or_default(),
            HashAlgorithm::Sha256 => Sha256::digest(salted()).to_vec(),
            HashAlgorithm::Sha512 => Sha512::digest(salted()).to_vec(),
            HashAlgorithm::Md5 => Md5::digest(salted()).to_vec(),
        };
        same_bytes(&found, digest)
    }

    /// Whether the password should be hashed anew when it is known next.
    pub(crate) fn is_outdated(&self) -> bool {
        self.costs() != [MEMORY_KIB, PASSES, LANES]
    }
}

/// `None`: costs that Argon2 does not have.
fn argon2id([memory, passes, lanes]: [u32; 3], salt: &[u8], password: &[u8]) -> Option<Vec<u8>> {
    let params = Params::new(memory, passes, lanes, Some(DIGEST_BYTES)).ok()?;
    let mut digest = vec![0; DIGEST_BYTES];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_into(password, salt, &mut digest).ok()?;
    Some(digest)
}

/// Compares in a time that tells nothing about where they differ.
pub(super) fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_rabbitmq_are_verified() {
        // The example of RabbitMQ's documentation: password `test12`, salt 908DC60A.
        let hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
        let hash = PasswordHash::import(HashAlgorithm::Sha256, hash).unwrap();
        assert!(hash.fits(b"test12") && !hash.fits(b"test13") && !hash.fits(b""));
        assert!(hash.is_outdated());
    }

    #[test]
    fn a_password_fits_its_own_hash_only() {
        let hash = PasswordHash::new("pässword".as_bytes());
        assert!(hash.fits("pässword".as_bytes()) && !hash.fits(b"password") && !hash.is_outdated());
        let exported = PasswordHash::import(HashAlgorithm::Argon2id, &hash.export()).unwrap();
        assert_eq!(exported, hash);
        assert_ne!(PasswordHash::new(b"a"), PasswordHash::new(b"a"));
        assert!(!format!("{hash:?}").contains(&hash.export()));
    }

    #[test]
    fn a_hash_made_as_rabbitmq_does_fits() {
        let text = PasswordHash::of_rabbitmq(b"test12").export();
        assert!(PasswordHash::import(HashAlgorithm::Sha256, &text).unwrap().fits(b"test12"));
    }

    #[test]
    fn hashes_that_are_none_or_too_costly_are_refused() {
        let cases = [
            (HashAlgorithm::Sha256, "not base64!".to_owned()),
            (HashAlgorithm::Sha256, STANDARD.encode([0; 35])),
            (HashAlgorithm::Sha512, STANDARD.encode([0; 36])),
            (HashAlgorithm::Md5, String::new()),
            (HashAlgorithm::Argon2id, STANDARD.encode([255; 60])),
        ];
        for (algorithm, text) in cases {
            assert!(PasswordHash::import(algorithm, &text).is_err(), "{text}");
        }
    }
}
