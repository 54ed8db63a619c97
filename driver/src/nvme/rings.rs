//! One submission and one completion ring in DMA memory, and their doorbells.
//!
//! Publish: the entry's words, a Release fence, the doorbell. Consume: the word with the phase tag by
//! Acquire, the tag, the rest. The memory is the device's as much as ours: it is read and written by
//! volatile and atomic accesses, never through a reference to an entry.

#![expect(unsafe_code)] // owns every access to queue memory and doorbells

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use dmaring_dma::{AddressSpace, Direction, DmaError, DmaRegion, Mapping, Transport};

use super::shadow::Shadow;
use crate::spec::command::Command;
use crate::spec::completion::{COMPLETION_BYTES, Completion};

/// A doorbell register of the device.
#[derive(Debug)]
pub(super) struct Doorbell {
    register: NonNull<u32>,
    /// With it, the register is written only when the controller asks for that.
    shadow: Option<Box<Shadow>>,
    /// Keeps the register mapped.
    _transport: Arc<dyn Transport>,
}

impl Doorbell {
    /// The doorbell at `offset` of BAR 0; `None` when that part of the BAR is not mapped.
    pub(super) fn new(transport: &Arc<dyn Transport>, offset: u64) -> Option<Self> {
        Some(Self { register: transport.doorbell(offset)?, shadow: None, _transport: Arc::clone(transport) })
    }

    fn saved(&self) -> u64 {
        self.shadow.as_ref().map_or(0, |shadow| shadow.saved())
    }

    /// Tells the device the new index. Everything written before is visible to it first.
    #[inline]
    pub(super) fn ring(&mut self, index: u32) {
        if self.shadow.is_some() {
            return self.ring_in_memory(index);
        }
        self.write(index);
    }

    /// Apart and cold, so that doorbells without it pay one test for it.
    #[cold]
    #[inline(never)]
    fn ring_in_memory(&mut self, index: u32) {
        if self.shadow.as_mut().is_none_or(|shadow| shadow.tell(index)) {
            self.write(index);
        }
    }

    #[inline]
    fn write(&self, index: u32) {
        // Pairs with the device's read of the queue after it sees the doorbell.
        fence(Ordering::Release);
        // SAFETY: mapped and aligned for as long as the transport lives, which `self` keeps alive.
        unsafe { self.register.write_volatile(index) };
    }
}

/// The submission ring: entries the device reads.
#[derive(Debug)]
pub(super) struct SqRing {
    entries: NonNull<Command>,
    mask: u32,
    /// Position of the next entry; runs freely.
    tail: u32,
    rung: u32,
    /// There may be words in the slots that reads and writes do not write.
    foreign: bool,
    doorbell: Doorbell,
    mapping: Mapping,
}

/// The completion ring: entries the device writes.
#[derive(Debug)]
pub(super) struct CqRing {
    entries: NonNull<[u32; 4]>,
    len: u32,
    head: u32,
    /// Phase tag of entries of the pass before, in bit 16 as it stands in the last word.
    old_phase: u32,
    rung: u32,
    doorbell: Doorbell,
    mapping: Mapping,
}

// SAFETY: a ring is used by one thread at a time (methods that change it take `&mut self`); its pointers
// lead into mappings that it keeps.
unsafe impl Send for SqRing {}
// SAFETY: as above.
unsafe impl Send for CqRing {}

/// Bit 16 of the last word of a completion.
const PHASE: u32 = 1 << 16;

impl SqRing {
    /// A ring of `entries` (a power of two) in new memory.
    pub(super) fn new(space: &Arc<AddressSpace>, entries: u32, doorbell: Doorbell) -> Result<Self, DmaError> {
        let region = Arc::new(DmaRegion::new(entries as usize * size_of::<Command>())?);
        let base = region.as_ptr().cast();
        let mapping = space.map(region, Direction::Both)?;
        Ok(Self { entries: base, mask: entries - 1, tail: 0, rung: 0, foreign: false, doorbell, mapping })
    }

    /// Where the device sees it.
    pub(super) fn iova(&self) -> u64 {
        self.mapping.iova().get()
    }

    pub(super) fn entries(&self) -> u32 {
        self.mask + 1
    }

    pub(super) fn tail(&self) -> u32 {
        self.tail
    }

    /// The slots from the tail on that stand side by side, at most `most`. They must be free.
    #[inline]
    pub(super) fn run(&self, most: u32) -> SlotRun {
        let index = self.tail & self.mask;
        // SAFETY: masked into the ring.
        let first = unsafe { self.entries.add(index as usize) };
        SlotRun { first, len: most.min(self.mask + 1 - index) }
    }

    /// The first `written` slots of a [`run`](Self::run) hold commands.
    #[inline]
    pub(super) fn advance(&mut self, written: u32) {
        self.tail = self.tail.wrapping_add(written);
    }

    /// What the doorbell was last told.
    pub(super) fn rung(&self) -> u32 {
        self.rung & self.mask
    }

    /// Tells the controller by memory as well, or no longer.
    pub(super) fn set_shadow(&mut self, shadow: Option<Shadow>) {
        self.doorbell.shadow = shadow.map(Box::new);
    }

    /// Doorbell writes that the controller has not asked for.
    pub(super) fn saved_doorbells(&self) -> u64 {
        self.doorbell.saved()
    }

    /// Writes a whole command at the tail.
    pub(super) fn push(&mut self, command: &Command) {
        // SAFETY: masked into the ring; at the tail the device does not read yet.
        unsafe { self.entries.add((self.tail & self.mask) as usize).write_volatile(*command) };
        self.tail = self.tail.wrapping_add(1);
    }

    /// Writes a command of any words at the tail. From then on the straight line must not use the ring: it
    /// relies on zeroes.
    pub(super) fn push_foreign(&mut self, command: &Command) {
        self.foreign = true;
        self.push(command);
    }

    /// Puts back the zeroes at the tail.
    #[cold]
    fn clear(&mut self) {
        self.push(&Command::default());
        self.tail = self.tail.wrapping_sub(1);
    }

    /// Writes a read or write at the tail, as [`SlotRun::write_transfer`].
    pub(super) fn push_transfer(&mut self, head: u64, prp: [u64; 2], slba: u64, cdw12: u32) {
        if self.foreign {
            self.clear();
        }
        // SAFETY: a run of one slot; at the tail the device does not read yet.
        unsafe { self.run(1).write_transfer(0, head, prp, slba, cdw12.into()) };
        self.tail = self.tail.wrapping_add(1);
    }

    /// Commands written since the doorbell was rung.
    pub(super) fn unpublished(&self) -> u32 {
        self.tail.wrapping_sub(self.rung)
    }

    /// Rings the doorbell; once a batch, and never for nothing.
    #[inline]
    pub(super) fn publish(&mut self) {
        self.rung = self.tail;
        self.doorbell.ring(self.tail & self.mask);
    }
}

/// Slots of a submission ring that stand side by side.
#[derive(Clone, Copy)]
pub(super) struct SlotRun {
    first: NonNull<Command>,
    len: u32,
}

impl SlotRun {
    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Writes what differs between two reads or writes of a ring: opcode, identifier and namespace (the
    /// first two words), the data pointer, the first block, and dwords 12 and 13. The words in between are zero
    /// since the ring was made, and whoever writes others puts the zeroes back.
    ///
    /// # Safety
    /// `index` is below the length, and the ring has not been dropped.
    #[inline]
    pub(super) unsafe fn write_transfer(self, index: usize, head: u64, prp: [u64; 2], slba: u64, cdw12: u64) {
        // SAFETY: the caller's promise; `run` cut the length to the ring. 8-byte words at multiples of 8 of a
        // 64-byte entry.
        unsafe {
            let words = self.first.add(index).cast::<u64>();
            words.write_volatile(head);
            words.add(3).write_volatile(prp[0]);
            words.add(4).write_volatile(prp[1]);
            words.add(5).write_volatile(slba);
            words.add(6).write_volatile(cdw12);
        }
    }
}

impl CqRing {
    /// A ring of `len` entries (a power of two) in new, zeroed memory: the first pass has phase 1.
    pub(super) fn new(space: &Arc<AddressSpace>, len: u32, doorbell: Doorbell) -> Result<Self, DmaError> {
        let region = Arc::new(DmaRegion::new(len as usize * COMPLETION_BYTES)?);
        let base = region.as_ptr().cast();
        let mapping = space.map(region, Direction::Both)?;
        Ok(Self { entries: base, len, head: 0, old_phase: 0, rung: 0, doorbell, mapping })
    }

    /// Where the device sees it.
    pub(super) fn iova(&self) -> u64 {
        self.mapping.iova().get()
    }

    pub(super) fn entries(&self) -> u32 {
        self.len
    }

    /// The entries from the next one on that stand side by side, at most `most`.
    #[inline]
    pub(super) fn run(&self, most: u32) -> CqRun {
        // SAFETY: `head` is below `len`.
        let first = unsafe { self.entries.add(self.head as usize) };
        CqRun { first, len: most.min(self.len - self.head), old_phase: self.old_phase }
    }

    /// The first `taken` entries of a [`run`](Self::run) have been read; the expected phase flips at the
    /// wrap only.
    #[inline]
    pub(super) fn advance(&mut self, taken: u32) {
        self.head += taken;
        if self.head >= self.len {
            self.head = 0;
            self.old_phase ^= PHASE;
        }
    }

    /// Gives the consumed entries back to the device; once a batch, and never for nothing.
    #[inline]
    pub(super) fn publish(&mut self) {
        if self.head != self.rung {
            self.rung = self.head;
            self.doorbell.ring(self.head);
        }
    }

    /// As [`SqRing::rung`].
    pub(super) fn rung(&self) -> u32 {
        self.rung
    }

    /// As [`SqRing::set_shadow`].
    pub(super) fn set_shadow(&mut self, shadow: Option<Shadow>) {
        self.doorbell.shadow = shadow.map(Box::new);
    }

    /// As [`SqRing::saved_doorbells`].
    pub(super) fn saved_doorbells(&self) -> u64 {
        self.doorbell.saved()
    }

    /// The next completion, if there is one.
    pub(super) fn pop(&mut self) -> Option<Completion> {
        let run = self.run(1);
        // SAFETY: a run of one entry.
        let completion = unsafe { run.word(0).map(|_| run.copy(0)) }?;
        self.advance(1);
        Some(completion)
    }
}

/// Entries of a completion ring that stand side by side.
#[derive(Clone, Copy)]
pub(super) struct CqRun {
    first: NonNull<[u32; 4]>,
    len: u32,
    old_phase: u32,
}

impl CqRun {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// The last word of an entry (command identifier, status) if the device has written it; its phase tag
    /// is made 1 whatever the pass.
    ///
    /// # Safety
    /// `index` is below the length, and the ring has not been dropped.
    #[inline]
    pub(super) unsafe fn word(&self, index: usize) -> Option<u32> {
        // SAFETY: the caller's promise; the fourth word of the entry is aligned and only ever accessed
        // atomically here.
        let word = unsafe { AtomicU32::from_ptr(self.first.add(index).cast::<u32>().add(3).as_ptr()) };
        // Acquire: the rest of the entry, and the data, are read after the tag was seen.
        let word = word.load(Ordering::Acquire) ^ self.old_phase;
        (word & PHASE != 0).then_some(word)
    }

    /// Copies an entry that [`word`](Self::word) has seen.
    ///
    /// # Safety
    /// As there.
    unsafe fn copy(&self, index: usize) -> Completion {
        // SAFETY: the caller's promise; every bit pattern is four words.
        Completion::decode(unsafe { self.first.add(index).read_volatile() })
    }
}

#[cfg(test)]
mod forge;
