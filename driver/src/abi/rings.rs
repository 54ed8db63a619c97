//! The rings: two index pairs, two arrays of entries.
//!
//! ```text
//!              program                         engine (or kernel)
//!   SQ tail    writes, Release      ->         reads, Acquire: the entries below it are complete
//!   SQ head    reads, Acquire       <-         writes, Release: the entries below it may be reused
//!   CQ tail    reads, Acquire       <-         writes, Release
//!   CQ head    writes, Release      ->         reads, Acquire
//! ```
//! Indices run freely over 32 bits and are masked at each access, so nothing a hostile program writes
//! into them leads outside the arrays.

#![expect(unsafe_code)] // owns every access to ring memory

use std::ptr::NonNull;

use io_uring::{cqueue, squeue};

use super::cells::Cells;
use super::entry::{Cqe, Sqe};
use super::slots::{CqeRun, Cqes, SqeRun, SqeSlot, Sqes};
use crate::sync::{AtomicU32, Ordering};

/// Pointers into ring memory with the masks that keep accesses inside. Copied freely by those who keep
/// the [`RingMemory`](super::memory::RingMemory) alive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingView {
    pub(super) sq_head: NonNull<AtomicU32>,
    pub(super) sq_tail: NonNull<AtomicU32>,
    pub(super) sq_flags: NonNull<AtomicU32>,
    pub(super) sq_dropped: NonNull<AtomicU32>,
    pub(super) cq_head: NonNull<AtomicU32>,
    pub(super) cq_tail: NonNull<AtomicU32>,
    pub(super) cq_overflow: NonNull<AtomicU32>,
    pub(super) cq_flags: NonNull<AtomicU32>,
    pub(super) array: Option<NonNull<AtomicU32>>,
    pub(super) sqes: NonNull<Sqe>,
    pub(super) cqes: NonNull<Cqe>,
    pub(super) sq_mask: u32,
    pub(super) cq_mask: u32,
    /// Submission entries are two of `Sqe` long (`SQE128`): 1, otherwise 0.
    pub(super) sqe_shift: u8,
    /// Completion entries are two of `Cqe` long (`CQE32`).
    pub(super) cqe32: bool,
    /// Completion entries may be two of `Cqe` long (`CQE_MIXED`).
    pub(super) mixed: bool,
    pub(super) cells: Cells,
}

// SAFETY: ring memory is shared by design: indices are atomics, and entries are handed from one side to
// the other by Release and Acquire on them.
unsafe impl Send for RingView {}

macro_rules! index {
    ($get:ident, $set:ident, $field:ident, $load:ident, $store:ident, $doc:literal) => {
        #[doc = $doc]
        #[inline]
        pub(crate) fn $get(&self) -> u32 {
            // SAFETY: inside the ring memory, which whoever holds the view keeps alive.
            unsafe { self.$field.as_ref() }.load(Ordering::$load)
        }

        #[doc = $doc]
        #[inline]
        pub(crate) fn $set(&self, value: u32) {
            // SAFETY: as above.
            unsafe { self.$field.as_ref() }.store(value, Ordering::$store);
        }
    };
}

impl RingView {
    // Each pairs with the other side's access of the table at the top of this file.
    index!(sq_head, set_sq_head, sq_head, Acquire, Release, "First entry that has not been consumed.");
    index!(sq_tail, set_sq_tail, sq_tail, Acquire, Release, "One past the last entry that is complete.");
    index!(cq_head, set_cq_head, cq_head, Acquire, Release, "First completion that has not been taken.");
    index!(cq_tail, set_cq_tail, cq_tail, Acquire, Release, "One past the last completion.");
    index!(sq_flags, set_sq_flags, sq_flags, Acquire, Release, "`IORING_SQ_*` flags.");
    index!(sq_dropped, set_sq_dropped, sq_dropped, Relaxed, Relaxed, "Entries dropped for a bad index.");

    /// Completions lost: never, with NODROP.
    pub(crate) fn cq_overflow(&self) -> u32 {
        // SAFETY: inside the ring memory, which whoever holds the view keeps alive.
        unsafe { self.cq_overflow.as_ref() }.load(Ordering::Relaxed)
    }

    pub(crate) fn sq_entries(&self) -> u32 {
        self.sq_mask + 1
    }

    pub(crate) fn cq_entries(&self) -> u32 {
        self.cq_mask + 1
    }

    /// Whether submission entries stand in their order, without an index array, and all entries are of the
    /// ordinary lengths.
    pub(crate) fn is_plain(&self) -> bool {
        self.array.is_none() && self.sqe_shift == 0 && !self.cqe32
    }

    /// Whether submission entries are of 128 bytes.
    pub(crate) fn has_sqe128(&self) -> bool {
        self.sqe_shift != 0
    }

    /// Whether completion entries are of 32 bytes.
    pub(crate) fn has_cqe32(&self) -> bool {
        self.cqe32
    }

    /// Whether completion entries may be of 32 bytes.
    pub(crate) fn is_mixed(&self) -> bool {
        self.mixed
    }

    /// Whether the completion at `tail` stands in the last place before the wrap.
    pub(crate) fn is_last(&self, tail: u32) -> bool {
        tail & self.cq_mask == self.cq_mask
    }

    /// Program: the submission entries.
    #[inline]
    pub(crate) fn sqes<E: squeue::EntryMarker>(&self) -> Sqes<E> {
        const { assert!(size_of::<E>() == 64 || size_of::<E>() == 128) };
        debug_assert_eq!(size_of::<E>(), 64 << self.sqe_shift, "entries as the ring was made for");
        Sqes { first: self.sqes.cast(), mask: self.sq_mask, cells: self.cells }
    }

    /// Program: the completion entries.
    #[inline]
    pub(crate) fn cqes<E: cqueue::EntryMarker>(&self) -> Cqes<E> {
        const { assert!(size_of::<E>() == 16 || size_of::<E>() == 32) };
        debug_assert_eq!(size_of::<E>(), 16 << u8::from(self.cqe32), "entries as the ring was made for");
        Cqes { first: self.cqes.cast(), mask: self.cq_mask, cells: self.cells }
    }

    /// Engine: which entry stands at position `head`; `None` when the array names one that does not exist.
    #[inline]
    pub(crate) fn slot(&self, head: u32) -> Option<SqeSlot> {
        let index = match self.array {
            None => head & self.sq_mask,
            Some(array) => {
                // SAFETY: masked into the index array.
                let index = unsafe { array.add((head & self.sq_mask) as usize).as_ref() }.load(Ordering::Relaxed);
                if index > self.sq_mask {
                    return None;
                }
                index
            }
        };
        self.cells.read_sqes(index, 1);
        // SAFETY: at most the mask, and there are as many entries of that length.
        Some(SqeSlot(unsafe { self.sqes.add((index as usize) << self.sqe_shift) }))
    }

    /// Engine: the second half of an entry of 128 bytes that this view has given out, zeroes for others.
    #[inline]
    pub(crate) fn second_half(&self, slot: SqeSlot) -> [u64; 8] {
        if self.sqe_shift == 0 {
            return [0; 8];
        }
        // SAFETY: entries are of 128 bytes.
        unsafe { slot.second_half() }
    }

    /// Flags of the completion ring, which the program sets.
    pub(crate) fn cq_flags(&self) -> u32 {
        // SAFETY: inside the ring memory, which whoever holds the view keeps alive.
        unsafe { self.cq_flags.as_ref() }.load(Ordering::Relaxed)
    }

    /// Program: sets the flags of the completion ring.
    pub(crate) fn set_cq_flags(&self, flags: u32) {
        // SAFETY: as above.
        unsafe { self.cq_flags.as_ref() }.store(flags, Ordering::Relaxed);
    }

    /// Takes over what is in the rings of `old`, at the same positions; false when that does not fit. Nobody
    /// else accesses either.
    pub(crate) fn take_over(&self, old: &Self) -> bool {
        let (sq_head, sq_tail) = (old.sq_head(), old.sq_tail());
        let (cq_head, cq_tail) = (old.cq_head(), old.cq_tail());
        let (pushed, ready) = (sq_tail.wrapping_sub(sq_head), cq_tail.wrapping_sub(cq_head));
        let fits =
            pushed <= old.sq_entries().min(self.sq_entries()) && ready <= old.cq_entries().min(self.cq_entries());
        if !fits {
            return false;
        }
        for i in 0..pushed {
            let at = sq_head.wrapping_add(i);
            // An entry that does not exist will be dropped as one of zeroes is refused: by nobody.
            let Some(SqeSlot(from)) = old.slot(at) else { continue };
            // SAFETY: masked into the array, which has as many entries of that length.
            let to = unsafe { self.sqes.add(((at & self.sq_mask) as usize) << self.sqe_shift) };
            // SAFETY: one entry of either, of the same length in both.
            unsafe { to.copy_from_nonoverlapping(from, 1 << self.sqe_shift) };
        }
        let shift = u8::from(self.cqe32);
        for i in 0..ready {
            let at = cq_head.wrapping_add(i);
            // SAFETY: masked into the array.
            let from = unsafe { old.cqes.add(((at & old.cq_mask) as usize) << shift) };
            // SAFETY: as above.
            let to = unsafe { self.cqes.add(((at & self.cq_mask) as usize) << shift) };
            // SAFETY: one entry of either, of the same length in both.
            unsafe { to.copy_from_nonoverlapping(from, 1 << shift) };
        }
        self.set_sq_dropped(old.sq_dropped());
        self.set_sq_flags(old.sq_flags());
        self.set_cq_flags(old.cq_flags());
        self.set_sq_head(sq_head);
        self.set_sq_tail(sq_tail);
        self.set_cq_head(cq_head);
        self.set_cq_tail(cq_tail);
        true
    }

    /// Makes position `at` of the index array name entry `index`.
    #[cfg(test)]
    pub(crate) fn set_array(&self, at: u32, index: u32) {
        let array = self.array.expect("a ring with an index array");
        // SAFETY: masked into the index array.
        let word = unsafe { array.add((at & self.sq_mask) as usize) };
        // SAFETY: inside the ring memory, which whoever holds the view keeps alive.
        unsafe { word.as_ref() }.store(index, Ordering::Relaxed);
    }

    /// Engine: the entry at position `head` of a [plain](Self::is_plain) ring.
    #[inline]
    pub(crate) fn plain_slot(&self, head: u32) -> SqeSlot {
        self.cells.read_sqes(head & self.sq_mask, 1);
        // SAFETY: masked into the array.
        SqeSlot(unsafe { self.sqes.add((head & self.sq_mask) as usize) })
    }

    /// Engine: the entries from `head` on that stand side by side in a [plain](Self::is_plain) ring, at
    /// most `most`.
    #[inline]
    pub(crate) fn sqe_run(&self, head: u32, most: u32) -> SqeRun {
        let index = head & self.sq_mask;
        let len = most.min(self.sq_mask + 1 - index);
        self.cells.read_sqes(index, len);
        // SAFETY: masked into the array.
        SqeRun { first: unsafe { self.sqes.add(index as usize) }, len }
    }

    /// Engine: writes the completion of 32 bytes at `tail`.
    pub(crate) fn write_cqe32(&self, tail: u32, cqe: Cqe, extra: [u64; 2]) {
        self.cells.write_cqes(tail & self.cq_mask, 1);
        // SAFETY: masked into the array, which holds two of `Cqe` for each entry (`cqe32`).
        let first = unsafe { self.cqes.add(2 * (tail & self.cq_mask) as usize) };
        // SAFETY: as above; above the tail only the engine writes.
        unsafe {
            first.write(cqe);
            first.add(1).cast().write(extra);
        }
    }

    /// Engine: writes the completion at `tail`, to be published by [`set_cq_tail`](Self::set_cq_tail).
    #[inline]
    pub(crate) fn write_cqe(&self, tail: u32, user_data: u64, res: i32, flags: u32) {
        self.cells.write_cqes(tail & self.cq_mask, 1);
        // SAFETY: masked into the array; above the tail only the engine writes.
        unsafe { self.cqes.add((tail & self.cq_mask) as usize).write(Cqe { user_data, res, flags }) };
    }

    /// Engine: writes the two words that follow the completion before `tail`, in its place.
    pub(crate) fn write_cqe_words(&self, tail: u32, words: [u64; 2]) {
        self.cells.write_cqes(tail & self.cq_mask, 1);
        // SAFETY: masked into the array; above the tail only the engine writes; an entry is two words.
        unsafe { self.cqes.add((tail & self.cq_mask) as usize).cast().write(words) };
    }

    /// Engine: the entries from `tail` on that stand side by side, at most `most`, to be published by
    /// [`set_cq_tail`](Self::set_cq_tail). They must be free.
    #[inline]
    pub(crate) fn cqe_run(&self, tail: u32, most: u32) -> CqeRun {
        let index = tail & self.cq_mask;
        let len = most.min(self.cq_mask + 1 - index);
        self.cells.write_cqes(index, len);
        // SAFETY: masked into the array.
        CqeRun { first: unsafe { self.cqes.add(index as usize) }, len }
    }
}

#[cfg(all(test, loom))]
mod models;

#[cfg(test)]
mod tests {
    use io_uring::{opcode, types};

    use super::super::flags::{IORING_SETUP_CQE32, IORING_SETUP_NO_SQARRAY, IORING_SETUP_SQE128};
    use super::super::memory::RingMemory;
    use super::super::params::Params;
    use super::*;

    #[test]
    fn entries_travel_both_ways_across_the_wrap_of_the_indices() {
        for flags in [0, IORING_SETUP_NO_SQARRAY] {
            let params = Params::layout(4, 0, flags).unwrap();
            let memory = RingMemory::new(&params).unwrap();
            let view = memory.view();
            let start = u32::MAX - 1;
            for i in 0..4 {
                let at = start.wrapping_add(i);
                view.sqes::<squeue::Entry>().write(at, &Sqe { user_data: u64::from(i), ..Sqe::default() }.into());
                let slot = view.slot(at).unwrap();
                assert_eq!(slot.copy().user_data, u64::from(i));
                assert_eq!(slot.word::<4>(), u64::from(i));
                view.write_cqe(at, u64::from(i), -1, 2);
                let cqe = view.cqes::<cqueue::Entry>().read(at);
                assert_eq!((cqe.user_data(), cqe.result(), cqe.flags()), (u64::from(i), -1, 2));
            }
        }
    }

    #[test]
    fn large_entries_keep_both_halves_across_the_wrap_of_the_indices() {
        for flags in [0, IORING_SETUP_NO_SQARRAY] {
            let params = Params::layout(4, 0, flags | IORING_SETUP_SQE128 | IORING_SETUP_CQE32).unwrap();
            let memory = RingMemory::new(&params).unwrap();
            let view = memory.view();
            assert!(!view.is_plain());
            let start = u32::MAX - 1;
            for i in 0..4 {
                let command = std::array::from_fn(|byte| byte as u8 + i as u8);
                let entry = opcode::UringCmd80::new(types::Fixed(0), 1).cmd(command).build().user_data(i.into());
                view.sqes::<squeue::Entry128>().write(start.wrapping_add(i), &entry);
                view.write_cqe32(start.wrapping_add(i), Cqe { user_data: i.into(), res: -1, flags: 2 }, [5, i.into()]);
            }
            for i in 0..4 {
                let at = start.wrapping_add(i);
                let slot = view.slot(at).unwrap();
                assert_eq!(slot.copy().user_data, u64::from(i));
                // SAFETY: the ring was made with SQE128.
                let half = unsafe { slot.second_half() };
                assert_eq!(half.map(u64::to_ne_bytes).as_flattened()[..3], [16 + i as u8, 17 + i as u8, 18 + i as u8]);
                let cqe = view.cqes::<cqueue::Entry32>().read(at);
                assert_eq!((cqe.user_data(), cqe.result(), cqe.flags()), (u64::from(i), -1, 2));
                assert_eq!(cqe.big_cqe(), &[5, u64::from(i)]);
            }
        }
    }

    #[test]
    fn an_index_outside_the_entries_names_none() {
        let params = Params::layout(4, 0, 0).unwrap();
        let memory = RingMemory::new(&params).unwrap();
        memory.word(params.sq_off.array).unwrap().store(4, Ordering::Relaxed);
        assert!(memory.view().slot(0).is_none());
        assert!(memory.view().slot(1).is_some());
    }
}
