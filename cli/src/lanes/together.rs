//! Batches whose entries are submitted together and waited for together, for counting what order costs:
//! links, drains, timeouts, and plain reads to compare them with. As [`super::bare`] otherwise.
#![expect(unsafe_code)] // pushes entries on slots that it knows to be idle

use std::io;

use dmaring::mark::{BEGIN, END, mark};
use io_uring::{opcode, squeue, types};

use super::bare::{Bad, Came, below, next};
use super::{BUFFER, DEVICE, Lanes};
use crate::plan::Region;

/// Much longer than anything here takes.
const HOUR: types::Timespec = types::Timespec::new().sec(3600);

/// What the entries of a batch are; there is one for each slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Together {
    /// Reads, nothing between them.
    Reads,
    /// Pairs of reads, the second of which begins when the first has ended.
    Links,
    /// Reads, of which the one in the middle begins when all before it have ended; of a single one, that one.
    Drain,
    /// Pairs of a timeout and its removal.
    Timeouts,
}

impl Lanes {
    /// Runs `batches` of as many entries as there are slots, with `marked` between the marks that count
    /// instructions. All slots must be idle; they are registered memory.
    ///
    /// # Errors
    /// The ring's; what is in flight then stays so.
    pub fn together(&mut self, what: Together, region: Region, batches: u64, marked: bool) -> io::Result<Came> {
        let base = self.slots.memory.base();
        let len = self.slots.slot_bytes as u32;
        let read = |slot: u32, random| {
            let pointer = base.wrapping_add(slot as usize * len as usize);
            let offset = region.at(below(random, region.blocks));
            opcode::ReadFixed::new(DEVICE, pointer, len, BUFFER).offset(offset).build()
        };
        let whole = |_, res| res == len.cast_signed();
        let middle = self.slots() as u32 / 2;
        match what {
            Together::Reads => self.batches(batches, marked, read, whole),
            Together::Links => {
                let link = |slot: u32| if slot & 1 == 0 { squeue::Flags::IO_LINK } else { squeue::Flags::empty() };
                self.batches(batches, marked, |slot, random| read(slot, random).flags(link(slot)), whole)
            }
            Together::Drain => {
                let drain = |slot: u32| if slot == middle { squeue::Flags::IO_DRAIN } else { squeue::Flags::empty() };
                self.batches(batches, marked, |slot, random| read(slot, random).flags(drain(slot)), whole)
            }
            Together::Timeouts => {
                let entry = |slot: u32, _| match slot & 1 {
                    0 => opcode::Timeout::new(&HOUR).build(),
                    _ => opcode::TimeoutRemove::new(u64::from(slot - 1)).build(),
                };
                self.batches(batches, marked, entry, |slot, res| {
                    res == if slot & 1 == 0 { -libc::ECANCELED } else { 0 }
                })
            }
        }
    }

    #[inline(always)] // once for each kind of batch
    fn batches(
        &mut self,
        batches: u64,
        marked: bool,
        entry: impl Fn(u32, u64) -> squeue::Entry,
        good: impl Fn(u64, i32) -> bool,
    ) -> io::Result<Came> {
        let slots = self.slots() as u32;
        let (mut random, mut bad) = (1, Bad::default());
        if marked {
            mark::<BEGIN>();
        }
        for _ in 0..batches {
            let mut entries = self.ring.submission();
            for slot in 0..slots {
                random = next(random);
                // SAFETY: the slot is idle, as all completions of the batch before have come; the memory
                // outlives the ring, and `HOUR` everything. The ring has an entry for each slot.
                let pushed = unsafe { entries.push(&entry(slot, random).user_data(slot.into())) };
                debug_assert!(pushed.is_ok(), "the ring has an entry for each slot");
            }
            drop(entries);
            let mut left = slots as usize;
            while left != 0 {
                self.submit_and_wait_for(left)?;
                for completion in self.ring.completion() {
                    left -= 1;
                    if !good(completion.user_data(), completion.result()) || completion.flags() != 0 {
                        bad.add(completion.result());
                    }
                }
            }
        }
        if marked {
            mark::<END>();
        }
        Ok(Came::new(batches * u64::from(slots), &bad))
    }
}
