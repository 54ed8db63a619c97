//! From entry to command.

#![expect(unsafe_code)] // writes slots of runs whose length its callers know

use super::super::fixed::{FixedBuffer, FixedBuffers};
use super::super::ids::{LINKED, STRAIGHT, Tracker};
use super::super::prp::PAGE_BYTES;
use super::super::rings::SlotRun;
use super::{LINK_BIT, LineTarget, MOST_BYTES};
use crate::abi::slots::{SqeRun, SqeSlot};

/// Where entries have their memory.
pub(super) trait Memory: Copy {
    /// What differs in the first word from `READ_FIXED` or `WRITE_FIXED`.
    const DIFFERS: u64;

    /// The memory that an entry with this sixth word may name, or a piece of length 0.
    fn buffer(self, word: u64) -> FixedBuffer;
}

impl Memory for &FixedBuffers {
    const DIFFERS: u64 = 0;

    #[inline(always)] // into `make`
    fn buffer(self, word: u64) -> FixedBuffer {
        *self.find(word)
    }
}

/// Memory that is not registered, for `READ` and `WRITE`: the piece that the device reaches in place in which
/// the last such entry had its memory.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::nvme) struct PlainMemory(FixedBuffer);

impl PlainMemory {
    /// A piece that the device reaches in place.
    pub(in crate::nvme) fn new(base: u64, len: u64, delta: u64) -> Self {
        Self(FixedBuffer { base, len, delta })
    }

    /// Whether `address` is in it.
    #[inline]
    pub(in crate::nvme) fn has(&self, address: u64) -> bool {
        address.wrapping_sub(self.0.base) < self.0.len
    }
}

impl Memory for PlainMemory {
    /// `READ` is 22 and `READ_FIXED` 4, `WRITE` 23 and `WRITE_FIXED` 5.
    const DIFFERS: u64 = 22 ^ 4;

    #[inline(always)] // into `make`
    fn buffer(self, word: u64) -> FixedBuffer {
        if word == 0 { self.0 } else { FixedBuffer::default() }
    }
}

/// An entry, word by word: in ring memory, or a copy.
pub(super) trait Words: Copy {
    fn word<const N: usize>(self) -> u64;
}

impl Words for SqeSlot {
    #[inline(always)] // into `make`
    fn word<const N: usize>(self) -> u64 {
        SqeSlot::word::<N>(self)
    }
}

/// Makes commands of the first entries of a run, each in its slot and with its tracker. Answers how many.
///
/// # Safety
/// There are no more trackers than slots, and no more slots than entries.
#[inline(always)] // into its two callers, which keep what they load in registers
pub(super) unsafe fn make_run<M: Memory>(
    line: LineTarget,
    memory: M,
    trackers: &mut [Tracker],
    sqes: SqeRun,
    slots: SlotRun,
) -> u32 {
    let mut made = 0;
    for tracker in trackers {
        // SAFETY: the caller's promise.
        if !unsafe { make::<_, _, STRAIGHT>(&line, memory, tracker, sqes.at(made), slots, made) } {
            break;
        }
        made += 1;
    }
    made as u32
}

/// Makes a command of an entry in slot `index`, unless the entry is not plain or the tracker is not idle. One
/// that is to be [`LINKED`] says so.
///
/// # Safety
/// `index` is below the length of the run, and the ring has not been dropped.
#[inline(always)] // once in a loop, once without: the compiler must see both
pub(super) unsafe fn make<E: Words, M: Memory, const TAG: u32>(
    line: &LineTarget,
    memory: M,
    tracker: &mut Tracker,
    sqe: E,
    slots: SlotRun,
    index: usize,
) -> bool {
    // Checked in the order that keeps the fewest values alive; all of it must hold, in any order.
    let link = if TAG == LINKED { LINK_BIT } else { 0 };
    let kind = sqe.word::<0>() ^ line.read_word ^ link ^ M::DIFFERS;
    let offset = sqe.word::<1>();
    // Flags stand above the length: with any set, it is longer than two pages.
    let len = sqe.word::<3>();
    if kind > line.writes || (offset | len) & line.block_mask != 0 || offset > line.size.wrapping_sub(len) {
        return false;
    }
    let address = sqe.word::<2>();
    // Personality and file index stand above the buffer index: with any set, it finds none.
    let FixedBuffer { base, len: buffer_len, delta } = memory.buffer(sqe.word::<5>());
    let into = address.wrapping_sub(base);
    let last = len.wrapping_sub(1);
    // A length that is neither 0 nor more than a buffer can have (1 GiB).
    if into >= buffer_len || last >= buffer_len.wrapping_sub(into) {
        return false;
    }
    let iova = address.wrapping_add(delta);
    let last_from_page = (iova & (PAGE_BYTES - 1)) + last;
    let cid = tracker.next_cid();
    if last_from_page >= MOST_BYTES || address & 3 | sqe.word::<7>() != 0 || cid > u16::MAX.into() {
        return false;
    }
    let second_page = if last_from_page >= PAGE_BYTES { (iova | (PAGE_BYTES - 1)).wrapping_add(1) } else { 0 };
    tracker.begin::<TAG>(cid, sqe.word::<4>(), len as u32);
    let head = (line.read_head - kind) | u64::from(cid) << 16;
    let (first_block, blocks) = (offset >> line.block_shift, last >> line.block_shift);
    // SAFETY: the caller's promise.
    unsafe { slots.write_transfer(index, head, [iova, second_page], first_block, blocks) };
    true
}
