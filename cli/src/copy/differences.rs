//! What differs between what was written and what was read back.

use std::fmt;

use super::mover::{Mover, Part};

/// Bytes that differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Bytes that were compared.
    pub compared: u64,
    /// How many of them differ.
    pub wrong: u64,
    /// The one with the lowest offset on the destination.
    pub first: Option<Wrong>,
}

/// A byte that differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrong {
    /// Byte offset on the destination.
    pub offset: u64,
    pub expected: u8,
    pub found: u8,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, expected, found } = self;
        write!(f, "offset {offset}: byte {found:#04x} where {expected:#04x} was written")
    }
}

impl Differences {
    /// Compares both parts of a slot: `len` bytes from `at` in each, which are at `offset` on the
    /// destination.
    pub fn look(&mut self, mover: &Mover, slot: usize, (at, len, offset): (usize, usize, u64)) {
        const PIECE: usize = 8192;
        let (mut expected, mut found) = ([0; PIECE], [0; PIECE]);
        for begin in (0..len).step_by(PIECE) {
            let piece = PIECE.min(len - begin);
            let (expected, found) = (&mut expected[..piece], &mut found[..piece]);
            mover.read(slot, Part::Data, at + begin, expected);
            mover.read(slot, Part::Back, at + begin, found);
            self.compare(offset + begin as u64, expected, found);
        }
    }

    fn compare(&mut self, offset: u64, expected: &[u8], found: &[u8]) {
        self.compared += expected.len() as u64;
        if expected == found {
            return;
        }
        for (place, (expected, found)) in (offset..).zip(expected.iter().copied().zip(found.iter().copied())) {
            if expected != found {
                self.wrong += 1;
                if self.first.is_none_or(|first| place < first.offset) {
                    self.first = Some(Wrong { offset: place, expected, found });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts_and_the_lowest_is_told() {
        let mut differences = Differences::default();
        differences.compare(100, b"abcd", b"abcd");
        assert_eq!((differences.wrong, differences.first), (0, None));
        differences.compare(50, b"abcd", b"aXcY");
        differences.compare(10, b"ab", b"aZ");
        differences.compare(90, b"a", b"Z");
        assert_eq!((differences.compared, differences.wrong), (11, 4));
        let first = differences.first.unwrap();
        assert_eq!(first, Wrong { offset: 11, expected: b'b', found: b'Z' });
        assert_eq!(first.to_string(), "offset 11: byte 0x5a where 0x62 was written");
    }
}
