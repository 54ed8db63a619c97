//! Data that says where it belongs.
//!
//! A cell of 512 bytes, so that one pattern serves every block size. Words are little-endian.
//!
//! ```text
//! word 0    1        2            3      4..64
//!      magic offset  generation   seed   a stream that follows from the three before
//! ```
//!
//! A block written in the wrong place, an older one, one of another run and a torn one all look
//! different, and each is named.

use std::fmt;

/// Bytes of a cell.
pub const CELL: usize = 512;
const MAGIC: u64 = u64::from_le_bytes(*b"dmaring\x01");
const HEADER: usize = 4;

/// The pattern of one seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    seed: u64,
}

/// The first place where data is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Byte offset on the device.
    pub at: u64,
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Zeros,
    NoPattern,
    Misplaced { offset: u64 },
    Seed { found: u64, expected: u64 },
    Generation { found: u64, expected: u64 },
    Byte { found: u8, expected: u8 },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {}: ", self.at)?;
        match self.what {
            What::Zeros => write!(f, "zeros, not the pattern"),
            What::NoPattern => write!(f, "data that is not the pattern"),
            What::Misplaced { offset } => write!(f, "the data of offset {offset}"),
            What::Seed { found, expected } => {
                write!(f, "data of seed {found}, not of seed {expected}")
            }
            What::Generation { found, expected } => {
                write!(f, "data of generation {found}, not of generation {expected}")
            }
            What::Byte { found, expected } => {
                write!(f, "byte {found:#04x}, not {expected:#04x}")
            }
        }
    }
}

impl Pattern {
    /// The pattern of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Fills `block`, whole cells, with what belongs at `offset`.
    pub fn fill(self, block: &mut [u8], offset: u64, generation: u64) {
        for (cell, at) in block.chunks_exact_mut(CELL).zip((offset..).step_by(CELL)) {
            let words = cell.as_chunks_mut::<8>().0;
            for (word, value) in words.iter_mut().zip(self.words(at, generation)) {
                *word = value.to_le_bytes();
            }
        }
    }

    /// Checks `block`, read at `offset`; without `generation`, any one will do.
    ///
    /// # Errors
    /// The first mismatch.
    pub fn check(self, block: &[u8], offset: u64, generation: Option<u64>) -> Result<(), Mismatch> {
        for (cell, at) in block.chunks_exact(CELL).zip((offset..).step_by(CELL)) {
            self.check_cell(cell, at, generation)?;
        }
        Ok(())
    }

    fn check_cell(self, cell: &[u8], at: u64, generation: Option<u64>) -> Result<(), Mismatch> {
        let words = cell.as_chunks::<8>().0;
        let word = |index: usize| u64::from_le_bytes(words[index]);
        let expected = generation.unwrap_or_else(|| word(2));
        let wrong =
            words.iter().zip(self.words(at, expected)).position(|(found, expected)| *found != expected.to_le_bytes());
        let Some(wrong) = wrong else {
            return Ok(());
        };
        let here = |what| Err(Mismatch { at, what });
        match wrong {
            0 if cell.iter().all(|byte| *byte == 0) => here(What::Zeros),
            0 => here(What::NoPattern),
            1 => here(What::Misplaced { offset: word(1) }),
            _ if word(3) != self.seed => here(What::Seed { found: word(3), expected: self.seed }),
            2 => here(What::Generation { found: word(2), expected }),
            _ => {
                let value = self.words(at, expected).nth(wrong).unwrap_or_default();
                let pairs = words[wrong].into_iter().zip(value.to_le_bytes());
                let first = pairs.enumerate().find(|(_, (found, good))| found != good);
                let (index, (found, expected)) = first.unwrap_or_default();
                Err(Mismatch { at: at + (wrong * 8 + index) as u64, what: What::Byte { found, expected } })
            }
        }
    }

    fn words(self, offset: u64, generation: u64) -> impl Iterator<Item = u64> {
        let header: [u64; HEADER] = [MAGIC, offset, generation, self.seed];
        let mut stream = SplitMix::new(self.seed ^ offset.rotate_left(20) ^ generation << 56);
        header.into_iter().chain(std::iter::repeat_with(move || stream.next())).take(CELL / 8)
    }
}

/// The SplitMix64 generator (Steele, Lea, Flood 2014): one addition and a mix for each number.
#[derive(Debug, Clone)]
pub struct SplitMix(u64);

impl SplitMix {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// The next number below `bound`, all alike likely but for one part in 2^64 / `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// The mixing step of SplitMix64.
pub fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(seed: u64, offset: u64, generation: u64) -> Vec<u8> {
        let mut block = vec![0; 4096];
        Pattern::new(seed).fill(&mut block, offset, generation);
        block
    }

    fn why(data: &[u8], generation: Option<u64>) -> String {
        let found = Pattern::new(7).check(data, 8192, generation);
        found.unwrap_err().to_string()
    }

    #[test]
    fn what_was_filled_is_right_at_any_block_size() {
        let data = block(7, 8192, 3);
        let pattern = Pattern::new(7);
        assert_eq!(pattern.check(&data, 8192, Some(3)), Ok(()));
        assert_eq!(pattern.check(&data, 8192, None), Ok(()));
        assert_eq!(pattern.check(&data[1024..1536], 8192 + 1024, Some(3)), Ok(()));
    }

    #[test]
    fn each_way_to_be_wrong_has_its_name() {
        let texts = [
            (vec![0; 4096], "offset 8192: zeros"),
            (vec![1; 4096], "offset 8192: data that is not the pattern"),
            (block(7, 4096, 3), "offset 8192: the data of offset 4096"),
            (block(8, 8192, 3), "offset 8192: data of seed 8, not of seed 7"),
            (block(7, 8192, 2), "generation 2, not of generation 3"),
        ];
        for (data, text) in texts {
            assert!(why(&data, Some(3)).contains(text), "{}", why(&data, Some(3)));
        }
    }

    #[test]
    fn a_single_changed_byte_is_found_where_it_is() {
        for at in [40, 511, 512, 4095] {
            let mut data = block(7, 8192, 3);
            data[at] ^= 0x10;
            let text = why(&data, None);
            let place = if at % 512 < 32 { 8192 + at / 512 * 512 } else { 8192 + at };
            assert!(text.starts_with(&format!("offset {place}: ")), "{at}: {text}");
        }
    }

    #[test]
    fn bounded_numbers_stay_below() {
        let mut numbers = SplitMix::new(1);
        let found: Vec<u64> = (0..1000).map(|_| numbers.below(10)).collect();
        assert!(found.iter().all(|number| *number < 10));
        assert!((0..10).all(|number| found.contains(&number)));
    }
}
