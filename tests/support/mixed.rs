//! Completion rings that mix entries of 16 and 32 bytes (`IORING_SETUP_CQE_MIXED`).

use super::rig::{Done, Rig};

/// `IORING_CQE_F_SKIP`: the entry fills the ring to its end and says nothing.
pub(crate) const F_SKIP: u32 = 1 << 5;
/// `IORING_CQE_F_32`: the next slot holds this entry's second half.
pub(crate) const F_32: u32 = 1 << 15;

/// A completion of either length, with the slot that it began at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mixed {
    pub(crate) slot: u32,
    pub(crate) done: Done,
}

/// Takes the completions that are there, fillers among them; `taken` counts the slots since the ring was
/// made.
pub(crate) fn ready(rig: &mut Rig, taken: &mut u32) -> Vec<Mixed> {
    let mask = rig.ring.params().cq_entries - 1;
    let slots = rig.ready();
    let mut rest = slots.iter();
    let mut all = Vec::new();
    while let Some(first) = rest.next() {
        let slot = *taken & mask;
        let mut done = *first;
        *taken += 1;
        if first.flags & F_32 != 0 {
            let second = rest.next().expect("a long entry is published whole");
            assert_ne!(slot, mask, "a long entry does not wrap");
            // Its second half is read as if it were an entry.
            done.extra = [second.user_data, u64::from(second.flags) << 32 | u64::from(second.res.cast_unsigned())];
            *taken += 1;
        }
        all.push(Mixed { slot, done });
    }
    all
}
