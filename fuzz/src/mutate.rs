//! The generator: mutations of known inputs, from a seeded stream of numbers.

/// Longest input made, in bytes.
pub const INPUT_MAX_BYTES: usize = 64 * 1024;

/// Mutations stacked on one input at most.
const STACKED_MAX: usize = 6;

/// Values at which lengths and counters tend to break.
const INTERESTING: [u64; 16] = [
    0,
    1,
    2,
    7,
    8,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    u64::MAX,
];

/// A stream of numbers that one seed determines (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of that seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number under `end`; 0 when that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next_u64() % end as u64) as usize }
    }
}

/// Changes `input` a few times; `other` is what splices take from.
pub fn mutate(random: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=random.below(STACKED_MAX) {
        mutate_once(random, input, other);
        input.truncate(INPUT_MAX_BYTES);
    }
}

fn mutate_once(random: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
    let at = random.below(input.len());
    let len = random.below(input.len() - at).min(random.below(64)) + 1;
    match random.below(11) {
        _ if input.is_empty() => input.extend_from_slice(other),
        0 => input[at] ^= 1 << random.below(8),
        1 => input[at] = random.next_u64() as u8,
        2 => input[at] = input[at].wrapping_add(if random.below(2) == 0 { 1 } else { 0xff }),
        3 | 4 => {
            let value = INTERESTING[random.below(INTERESTING.len())].to_be_bytes();
            let width = 1 << random.below(4);
            let end = input.len().min(at + width);
            input[at..end].copy_from_slice(&value[8 - width..][..end - at]);
        }
        5 => drop(input.drain(at..at + len)),
        6 => {
            let piece = input[at..at + len].to_vec();
            let to = random.below(input.len());
            input.splice(to..to, piece);
        }
        7 => {
            let noise: Vec<u8> = (0..len).map(|_| random.next_u64() as u8).collect();
            input.splice(at..at, noise);
        }
        8 => input.truncate(at),
        9 => {
            let from = random.below(other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => {
            let from = random.below(other.len());
            let to = from + random.below(other.len() - from).min(64);
            input.splice(at..at, other[from..to].iter().copied());
        }
    }
}
