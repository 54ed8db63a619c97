//! The least that a program does with a ring, for counting what the ring itself costs: random reads of
//! whole slots (or entries that do nothing), a batch of completions, their slots filled again, one
//! submission. No clock, no tally, no data looked at; a completion that is not what it should be is
//! counted.
#![expect(unsafe_code)] // pushes entries on slots that it knows to be idle

use std::io;

use dmaring::mark::{BEGIN, END, mark};
use io_uring::{opcode, squeue};

use super::{BUFFER, DEVICE, Lanes};
use crate::plan::Region;

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Came {
    /// As it should.
    pub good: u64,
    /// The result of the first that did not, and how many did not.
    pub bad: Option<(i32, u64)>,
}

impl Came {
    /// Of `all`.
    pub(super) fn new(all: u64, bad: &Bad) -> Self {
        Self { good: all - bad.count, bad: (bad.count != 0).then_some((bad.first, bad.count)) }
    }
}

/// Completions that are not what they should be.
#[derive(Debug, Default)]
pub(super) struct Bad {
    first: i32,
    count: u64,
}

impl Bad {
    #[cold]
    pub(super) fn add(&mut self, result: i32) {
        if self.count == 0 {
            self.first = result;
        }
        self.count += 1;
    }
}

/// What the loop does.
#[derive(Debug, Clone, Copy)]
pub enum Bare {
    /// Reads random blocks of a region.
    Read(Region),
    /// Does nothing.
    Nop,
}

impl Lanes {
    /// Runs `ios` I/Os between the marks that count instructions. All slots must be idle.
    ///
    /// # Errors
    /// The ring's; what is in flight then stays so.
    pub fn bare(&mut self, what: Bare, ios: u64, seed: u64) -> io::Result<Came> {
        let base = self.slots.memory.base();
        let len = self.slots.slot_bytes as u32;
        let pointer = |slot: u32| base.wrapping_add(slot as usize * len as usize);
        let whole = len.cast_signed();
        match (what, self.slots.memory.is_registered()) {
            (Bare::Nop, _) => self.spin(ios, seed, 0, |_, _| opcode::Nop::new().build()),
            (Bare::Read(region), true) => self.spin(ios, seed, whole, |slot, random| {
                let offset = region.at(below(random, region.blocks));
                opcode::ReadFixed::new(DEVICE, pointer(slot), len, BUFFER).offset(offset).build()
            }),
            (Bare::Read(region), false) => self.spin(ios, seed, whole, |slot, random| {
                let offset = region.at(below(random, region.blocks));
                opcode::Read::new(DEVICE, pointer(slot), len).offset(offset).build()
            }),
        }
    }

    #[inline(always)] // once for each kind of entry
    fn spin(
        &mut self,
        ios: u64,
        seed: u64,
        expected: i32,
        entry: impl Fn(u32, u64) -> squeue::Entry,
    ) -> io::Result<Came> {
        let slots = self.slots();
        let mut idle: Vec<u32> = (0..slots as u32).rev().collect();
        let (mut left, mut bad) = (ios, Bad::default());
        let mut random = seed | 1;
        mark::<BEGIN>();
        loop {
            let mut entries = self.ring.submission();
            while left != 0
                && let Some(slot) = idle.pop()
            {
                random = next(random);
                left -= 1;
                // SAFETY: the slot is idle, and this loop waits for its completion before it is used again;
                // the memory outlives the ring. The ring has an entry for each slot.
                let pushed = unsafe { entries.push(&entry(slot, random).user_data(slot.into())) };
                debug_assert!(pushed.is_ok(), "the ring has an entry for each slot");
            }
            drop(entries);
            if idle.len() == slots {
                mark::<END>();
                return Ok(Came::new(ios, &bad));
            }
            self.submit_and_wait()?;
            for completion in self.ring.completion() {
                idle.push(completion.user_data() as u32);
                if completion.result() != expected {
                    bad.add(completion.result());
                }
            }
        }
    }
}

/// Marsaglia's xorshift: three shifts a number.
#[inline(always)]
pub(super) fn next(mut random: u64) -> u64 {
    random ^= random << 13;
    random ^= random >> 7;
    random ^ random << 17
}

/// A number below `bound`, which is at most 2^32.
#[inline(always)]
pub(super) fn below(random: u64, bound: u64) -> u64 {
    (random & 0xffff_ffff).wrapping_mul(bound) >> 32
}
