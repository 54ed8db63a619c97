//! Entries in ring memory: as the program writes and reads them one by one, and as the engine does, one by
//! one or in *runs*, stretches that stand side by side.
//!
//! Handles of two words that hold no borrow: whoever has one keeps the
//! [`RingMemory`](super::memory::RingMemory) alive.

#![expect(unsafe_code)] // owns every access to entries in ring memory

use std::ptr::NonNull;

use io_uring::{cqueue, squeue};

use super::cells::Cells;
use super::entry::{Cqe, Sqe, words};

/// Words of a submission entry.
const SQE_WORDS: usize = 8;

/// Submission entries, as the program writes them.
#[derive(Debug)]
pub(crate) struct Sqes<E> {
    pub(super) first: NonNull<E>,
    pub(super) mask: u32,
    pub(super) cells: Cells,
}

impl<E: squeue::EntryMarker> Sqes<E> {
    /// Writes the entry at `tail`, to be published by [`RingView::set_sq_tail`](super::rings::RingView::set_sq_tail).
    #[inline]
    pub(crate) fn write(&self, tail: u32, entry: &E) {
        self.cells.write_sqe(tail & self.mask);
        // SAFETY: masked into the array.
        let first = unsafe { self.first.add((tail & self.mask) as usize) }.cast::<u64>();
        for (i, word) in words::<E, 0>(entry).into_iter().enumerate() {
            // SAFETY: one of the first eight words of an entry; between head and tail of the program's side
            // nobody else has it.
            unsafe { first.add(i).write(word) };
        }
        if size_of::<E>() == 128 {
            for (i, word) in words::<E, 8>(entry).into_iter().enumerate() {
                // SAFETY: as above, of the eight that follow.
                unsafe { first.add(8 + i).write(word) };
            }
        }
    }
}

/// Completion entries, as the program reads them.
#[derive(Debug)]
pub(crate) struct Cqes<E> {
    pub(super) first: NonNull<E>,
    pub(super) mask: u32,
    pub(super) cells: Cells,
}

impl<E: cqueue::EntryMarker> Cqes<E> {
    /// The completion at `head`, which is below the tail.
    #[inline]
    pub(crate) fn read(&self, head: u32) -> E {
        self.cells.read_cqe(head & self.mask);
        // SAFETY: masked into the array; below the tail the engine does not write; completion entries are
        // integers of which every bit pattern is one (abi/entry.rs).
        unsafe { self.first.add((head & self.mask) as usize).read() }
    }
}

/// Submission entries that stand side by side.
#[derive(Clone, Copy)]
pub(crate) struct SqeRun {
    pub(super) first: NonNull<Sqe>,
    pub(super) len: u32,
}

impl SqeRun {
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// # Safety
    /// `index` is below the length.
    #[inline]
    pub(crate) unsafe fn at(&self, index: usize) -> SqeSlot {
        // SAFETY: the caller's promise; `sqe_run` cut the length to the array.
        SqeSlot(unsafe { self.first.add(index) })
    }
}

/// Free completion entries that stand side by side.
#[derive(Clone, Copy)]
pub(crate) struct CqeRun {
    pub(super) first: NonNull<Cqe>,
    pub(super) len: u32,
}

impl CqeRun {
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Writes a completion without flags.
    ///
    /// # Safety
    /// `index` is below the length.
    #[inline]
    pub(crate) unsafe fn write(&self, index: usize, user_data: u64, res: u32) {
        // SAFETY: the caller's promise; `cqe_run` cut the length to the array, and above the tail only the
        // engine writes. An entry is two words: the user data, then result and flags.
        unsafe {
            let words = self.first.add(index).cast::<u64>();
            words.write(user_data);
            words.add(1).write(res.into());
        }
    }
}

/// A submission entry in ring memory, read word by word: the program may still change it, so nothing is
/// read twice and nothing is trusted to stay.
#[derive(Clone, Copy)]
pub(crate) struct SqeSlot(pub(super) NonNull<Sqe>);

impl SqeSlot {
    /// The `N`-th 64-bit word.
    #[inline]
    pub(crate) fn word<const N: usize>(self) -> u64 {
        const { assert!(N < SQE_WORDS) };
        // SAFETY: inside the entry; every bit pattern is a u64.
        unsafe { self.0.cast::<u64>().add(N).read_volatile() }
    }

    /// Whether it is a NOP of which nothing is asked: no flags of any kind, no priority, no personality.
    #[inline]
    pub(crate) fn is_bare_nop(self) -> bool {
        u64::from(self.word::<0>() as u32) | self.word::<3>() >> 32 | self.word::<5>() == 0
    }

    /// The second half of an entry of 128 bytes.
    ///
    /// # Safety
    /// The ring [`has_sqe128`](RingView::has_sqe128).
    pub(crate) unsafe fn second_half(self) -> [u64; SQE_WORDS] {
        // SAFETY: the caller's promise; every bit pattern is eight words.
        unsafe { self.0.add(1).cast::<[u64; SQE_WORDS]>().read_volatile() }
    }

    /// A copy that stays as it is.
    pub(crate) fn copy(self) -> Sqe {
        // SAFETY: inside the entries; every bit pattern is an `Sqe`.
        unsafe { self.0.read_volatile() }
    }
}
