//! Data that says where it belongs.

/// Fills `data`, which stands at `offset` of a device, with what `seed` puts there. Offsets and lengths
/// are multiples of 4.
pub(crate) fn fill(seed: u64, offset: u64, data: &mut [u8]) {
    for (i, word) in data.chunks_mut(4).enumerate() {
        let at = offset / 4 + i as u64;
        let bytes = mix(seed, at).to_le_bytes();
        word.copy_from_slice(&bytes[..word.len()]);
    }
}

/// What `seed` puts at `offset`.
pub(crate) fn bytes(seed: u64, offset: u64, len: usize) -> Vec<u8> {
    let mut data = vec![0; len];
    fill(seed, offset, &mut data);
    data
}

fn mix(seed: u64, at: u64) -> u32 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x >> 32) as u32
}

/// Fails unless `found`, read at `offset`, is what `seed` put there; says where it differs first.
#[track_caller]
pub(crate) fn check(seed: u64, offset: u64, found: &[u8]) {
    let expected = bytes(seed, offset, found.len());
    if let Some(at) = (0..found.len()).find(|i| found[*i] != expected[*i]) {
        let end = (at + 16).min(found.len());
        panic!(
            "byte {at} of {} read at {offset:#x} is wrong: {:02x?}, expected {:02x?}",
            found.len(),
            &found[at..end],
            &expected[at..end]
        );
    }
}

/// Numbers that look random and are the same in each run.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        let high = u64::from(mix(!0, self.0));
        (high << 32 | u64::from(mix(0, self.0))) % end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_depends_on_place_and_seed_only() {
        let whole = bytes(7, 4096, 64);
        assert_eq!(whole[16..32], bytes(7, 4112, 16));
        assert_ne!(bytes(8, 4096, 64), whole);
        check(7, 4096, &whole);
    }
}
