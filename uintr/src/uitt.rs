//! Entries of the user-interrupt target table.

use crate::vector::Vector;

/// An entry of a user-interrupt target table (UITT): what SENDUIPI with its index posts, and where. 16 bytes,
/// aligned to 16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct UittEntry {
    /// V in bit 0, UV in bits 15:8.
    head: u64,
    /// Address of the UPID.
    upid: u64,
}

const _: () = assert!(size_of::<UittEntry>() == 16 && align_of::<UittEntry>() == 16);

impl UittEntry {
    /// Posts `vector` to the descriptor at `upid`, which is aligned to 64.
    #[must_use]
    pub const fn new(vector: Vector, upid: u64) -> Self {
        Self { head: 1 | (vector.number() as u64) << 8, upid }
    }

    /// What it posts and where; `None` if it is not valid: SENDUIPI faults then (#GP). So it does with reserved
    /// bits, a vector above 63, or a descriptor that is not aligned.
    #[must_use]
    pub fn target(&self) -> Option<(Vector, u64)> {
        let valid = self.head & !0xff00 == 1 && self.upid.is_multiple_of(64);
        Vector::new((self.head >> 8) as u8).ok().filter(|_| valid).map(|vector| (vector, self.upid))
    }

    /// Its two words, as they stand in memory.
    #[must_use]
    pub const fn words(&self) -> [u64; 2] {
        [self.head, self.upid]
    }

    /// The entry of two words.
    #[must_use]
    pub const fn of_words(words: [u64; 2]) -> Self {
        Self { head: words[0], upid: words[1] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_where_the_architecture_has_them() {
        let entry = UittEntry::new(Vector::new(0x2a).unwrap(), 0x7f00_1234_5640);
        assert_eq!(entry.words(), [0x2a01, 0x7f00_1234_5640]);
        assert_eq!(entry.target(), Some((Vector::new(0x2a).unwrap(), 0x7f00_1234_5640)));
        assert_eq!(UittEntry::of_words(entry.words()), entry);
    }

    #[test]
    fn what_faults_has_no_target() {
        assert_eq!(UittEntry::default().target(), None);
        for words in [[0x0500, 64], [0x0501, 32], [0x4001, 64], [0x0503, 64], [0x1_0001, 64], [1 << 63 | 1, 64]] {
            assert_eq!(UittEntry::of_words(words).target(), None, "{words:x?}");
        }
    }
}
