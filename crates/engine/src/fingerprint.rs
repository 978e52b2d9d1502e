//! Fingerprints: FNV-1a with 64 bits. They stand in ids and on disk, so they are the same in every version; nothing
//! relies on them against an attacker.

/// Taken of one piece after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    /// Of nothing.
    pub(crate) const NONE: Self = Self(0xcbf2_9ce4_8422_2325);

    /// With the bytes behind those before.
    #[must_use]
    pub(crate) fn and(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
    }

    /// With a piece that the one behind it cannot be taken for a part of.
    #[must_use]
    pub(crate) fn and_piece(self, bytes: &[u8]) -> Self {
        self.and(&(bytes.len() as u64).to_le_bytes()).and(bytes)
    }

    pub(crate) const fn value(self) -> u64 {
        self.0
    }
}

/// Of these bytes.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    Fingerprint::NONE.and(bytes).value()
}
