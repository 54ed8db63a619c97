//! Numbers by which programs are drawn.

use rand_core::{Rng, SeedableRng};
use rand_xorshift::XorShiftRng;

/// Xorshift of the `rand_xorshift` crate, whose algorithm *is* its definition (Marsaglia's, 128 bits), so that a
/// seed gives the same program with every version of the crate. Everything that is made of its words is made
/// here, as the distributions of `rand` may change from version to version.
#[derive(Debug)]
pub(super) struct Dice(XorShiftRng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        // Neighbouring seeds must not begin alike: two rounds of splitmix64.
        let mut bytes = [0; 16];
        let mut state = seed;
        for half in bytes.chunks_mut(8) {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut x = state;
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            half.copy_from_slice(&(x ^ (x >> 31)).to_le_bytes());
        }
        Self(XorShiftRng::from_seed(bytes))
    }

    /// One below `end`, 0 for an `end` of 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        let low = u64::from(self.0.next_u32());
        let word = u64::from(self.0.next_u32()) << 32 | low;
        word % end.max(1)
    }

    /// One from `first` to `last`.
    pub(super) fn within(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// True `percent` times of a hundred.
    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `from`.
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// One of `from`, each as often as its number says.
    pub(super) fn weighted<T: Copy>(&mut self, from: &[(u32, T)]) -> T {
        let mut left = self.below(from.iter().map(|(weight, _)| u64::from(*weight)).sum());
        for (weight, value) in from {
            match left.checked_sub((*weight).into()) {
                Some(rest) => left = rest,
                None => return *value,
            }
        }
        from[0].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A saved seed must go on meaning the program that it meant.
    #[test]
    fn the_sequence_of_a_seed_is_the_one_it_always_was() {
        let mut dice = Dice::new(1);
        let drawn: Vec<u64> = (0..4).map(|_| dice.below(1_000_000)).collect();
        assert_eq!(drawn, [377_449, 67_055, 26_636, 290_041]);
    }
}
