//! The straight line: a plain fixed read or write, from SQE to command and from completion to CQE.
//!
//! It serves entries that are all of: `READ_FIXED` or `WRITE_FIXED` on the ring's hot file with no flag
//! but `FIXED_FILE`, a registered buffer, at most two pages, block aligned, inside the namespace. The
//! first word of such an entry is one of two constants; every other condition is checked here as well,
//! and the first entry that fails one is left to the general path, which gives the kernel's answer.
//! `READ` and `WRITE` differ in one constant and in where their memory is looked up ([`Memory`]): they go
//! this way if the device reaches it in place. Chains of registered transfers have a file of their own.
//!
//! Kept apart from the general path on purpose: sharing a loop with it costs registers. Nothing here
//! allocates, locks or calls through a pointer. Both ways work on *runs*: stretches of all the rings and
//! tables concerned in which none of them wraps, so that their places advance together.

#![expect(unsafe_code)] // walks runs, which it has made of the same length

mod chain;

use super::fixed::{FixedBuffer, FixedBuffers};
use super::ids::{LINKED, STRAIGHT, Tracker};
use super::namespace::Namespace;
use super::prp::PAGE_BYTES;
use super::queue::{IoQueue, Sink};
use super::rings::SlotRun;
use crate::abi::entry::Sqe;
use crate::abi::rings::RingView;
use crate::abi::slots::{SqeRun, SqeSlot};
use crate::mark::{FOUND, mark};
use crate::spec::command::nvm;
use crate::usermem::UserMemory;

pub(super) use chain::Links;

/// Longest transfer of the straight line: two pages, which need no list.
const MOST_BYTES: u64 = 2 * PAGE_BYTES;

/// `IOSQE_IO_LINK` in the first word of an entry.
pub(super) const LINK_BIT: u64 = (crate::abi::op::IOSQE_IO_LINK as u64) << 8;

/// The file that the straight line serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineTarget {
    /// First word of a `READ_FIXED` of the file; that of `WRITE_FIXED` differs in bit 0.
    read_word: u64,
    /// 1 when both are served, 0 when the namespace is read-only.
    writes: u64,
    /// Size of the namespace, in bytes.
    size: u64,
    /// Low bits that offsets and lengths must not have.
    block_mask: u64,
    block_shift: u32,
    /// Opcode and namespace of a Read, as they stand in the first two words of the command. Those of a
    /// Write are one less.
    read_head: u64,
}

/// `READ_FIXED` (4) and `WRITE_FIXED` (5) become Read (2) and Write (1).
const _: () = assert!(nvm::READ == 2 && nvm::WRITE == nvm::READ - 1);

impl LineTarget {
    /// Serves nothing, not even an entry of ones: no length but 0 is a multiple of such a block.
    pub(crate) const NONE: Self =
        Self { read_word: u64::MAX, writes: 0, size: 0, block_mask: u64::MAX, block_shift: 9, read_head: 0 };

    /// Serves `namespace` under fixed file `index`.
    pub(crate) fn new(index: u32, namespace: &Namespace) -> Self {
        if namespace.size_bytes() < MOST_BYTES {
            return Self::NONE;
        }
        let flags = u64::from(crate::abi::op::IOSQE_FIXED_FILE);
        Self {
            read_word: 4 | flags << 8 | u64::from(index) << 32,
            writes: u64::from(!namespace.read_only),
            size: namespace.size_bytes(),
            block_mask: u64::from(namespace.block_bytes()) - 1,
            block_shift: namespace.block_shift.into(),
            read_head: u64::from(nvm::READ) | u64::from(namespace.nsid) << 32,
        }
    }

    /// In what the first word of an entry differs from one that is served; reads and writes are alike. All of
    /// it if the entry would write and nothing may.
    #[inline]
    fn differs(&self, word: u64) -> u64 {
        let differs = word ^ self.read_word;
        if differs & 1 <= self.writes { differs & !1 } else { u64::MAX }
    }

    /// Whether `sqe` is one that the general path should make this the hot file for.
    pub(crate) fn could_serve(sqe: &Sqe) -> bool {
        matches!(sqe.opcode, 4 | 5 | 22 | 23) && sqe.flags == crate::abi::op::IOSQE_FIXED_FILE && sqe.ioprio == 0
    }
}

/// What a look for the completion of the only command in flight has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Nothing,
    /// It has succeeded, and nothing is in flight any more.
    Taken,
    /// It has succeeded, and the next one of its chain is in flight.
    Followed,
    /// It is one for [`IoQueue::reap`].
    Other,
}

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
pub(super) struct PlainMemory(FixedBuffer);

impl PlainMemory {
    /// A piece that the device reaches in place.
    pub(super) fn new(base: u64, len: u64, delta: u64) -> Self {
        Self(FixedBuffer { base, len, delta })
    }

    /// Whether `address` is in it.
    #[inline]
    pub(super) fn has(&self, address: u64) -> bool {
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

impl IoQueue {
    /// Makes a command of the entry at `head`, unless it is not plain or too much is in flight. As
    /// [`submit_line`](Self::submit_line) of one entry; without a loop there is nothing to keep in
    /// registers, and so nothing to load twice.
    #[inline(always)] // into the one function that a batch of one goes through
    pub(crate) fn submit_one(&mut self, rings: &RingView, head: u32) -> bool {
        if self.ids.room() == 0 {
            return false;
        }
        self.submit_entry::<_, STRAIGHT>(rings.plain_slot(head))
    }

    /// As [`submit_one`](Self::submit_one) of an entry anywhere, and with the kind of its tag.
    #[inline(always)] // as `submit_one`
    pub(super) fn submit_entry<E: Words, const TAG: u32>(&mut self, entry: E) -> bool {
        let slots = self.grant.sq.run(1);
        let tracker = self.ids.trackers.at_mut(self.grant.sq.tail());
        // SAFETY: a run of one slot.
        if !unsafe { make::<_, _, TAG>(&self.line, &self.fixed, tracker, entry, slots, 0) } {
            return false;
        }
        self.ids.begun(1);
        self.grant.sq.advance(1);
        true
    }

    /// Takes entries from `head` to `tail` by the ways of the straight line, up to the first that is for none of
    /// them, or until no more may be in flight. Answers where it stopped. The doorbell is rung by
    /// [`publish`](IoQueue::publish).
    #[inline(always)] // what is not for the straight line costs no call
    pub(crate) fn submit_lines(&mut self, rings: &RingView, mut head: u32, tail: u32) -> u32 {
        match self.line.differs(rings.plain_slot(head).word::<0>()) {
            0 => head = self.submit_line(rings, head, tail),
            LINK_BIT | PlainMemory::DIFFERS => {}
            _ => return head,
        }
        if head == tail { head } else { self.submit_mixed(rings, head, tail) }
    }

    /// Makes commands of the entries from `head` to `tail`, up to the first that is not plain, or until
    /// no more may be in flight. Answers where it stopped.
    #[inline(never)]
    fn submit_line(&mut self, rings: &RingView, head: u32, tail: u32) -> u32 {
        self.submit_runs(rings, head, tail, |queue, sqes, slots| {
            let trackers = queue.ids.trackers.run_mut(queue.grant.sq.tail(), slots.len());
            // SAFETY: `submit_runs` cuts the slots to the entries, and the trackers are cut to the slots.
            unsafe { make_run(queue.line, &queue.fixed, trackers, sqes, slots) }
        })
    }

    /// As [`submit_line`](Self::submit_line), of entries whose memory is not registered but reached in place.
    #[inline(never)]
    fn submit_unregistered(&mut self, rings: &RingView, mut head: u32, tail: u32) -> u32 {
        loop {
            let memory = self.reached(rings.plain_slot(head).word::<2>());
            let after = self.submit_runs(rings, head, tail, |queue, sqes, slots| {
                let trackers = queue.ids.trackers.run_mut(queue.grant.sq.tail(), slots.len());
                // SAFETY: `submit_runs` cuts the slots to the entries, and the trackers are cut to the slots.
                unsafe { make_run(queue.line, memory, trackers, sqes, slots) }
            });
            // The next one may have its memory elsewhere.
            if after == head || after == tail {
                return after;
            }
            head = after;
        }
    }

    /// As [`submit_lines`](Self::submit_lines), each entry by the way where it belongs.
    #[inline(never)] // away from batches of one kind
    fn submit_mixed(&mut self, rings: &RingView, mut head: u32, tail: u32) -> u32 {
        loop {
            let after = match self.line.differs(rings.plain_slot(head).word::<0>()) {
                0 => self.submit_line(rings, head, tail),
                LINK_BIT => self.submit_chains(rings, head, tail),
                PlainMemory::DIFFERS => self.submit_unregistered(rings, head, tail),
                _ => return head,
            };
            if after == head || after == tail {
                return after;
            }
            head = after;
        }
    }

    /// Makes commands of entries as `submit` does of runs, as far as both rings go on.
    #[inline(always)] // into those that know what `submit` does
    fn submit_runs(
        &mut self,
        rings: &RingView,
        mut head: u32,
        tail: u32,
        mut submit: impl FnMut(&mut Self, SqeRun, SlotRun) -> u32,
    ) -> u32 {
        loop {
            let most = tail.wrapping_sub(head).min(self.ids.room());
            let sqes = rings.sqe_run(head, most);
            let slots = self.grant.sq.run(sqes.len());
            let made = submit(self, sqes, slots);
            self.ids.begun(made);
            self.grant.sq.advance(made);
            head = head.wrapping_add(made);
            // Further if a ring has wrapped, and neither is finished nor stuck.
            if made != slots.len() || made == most {
                return head;
            }
        }
    }

    /// Whether one command is in flight, and nothing else.
    #[inline]
    pub(crate) fn is_at_one(&self) -> bool {
        self.ids.in_flight() == 1 && !self.is_waiting()
    }

    /// Takes the completion of the only command in flight if it has come and is plain. As
    /// [`reap`](Self::reap), with nothing done twice.
    #[inline(always)] // as `submit_one`
    pub(crate) fn reap_one(&mut self, sink: &mut Sink) -> Look {
        let run = self.grant.cq.run(1);
        // SAFETY: a run of one entry.
        let Some(word) = (unsafe { run.word(0) }) else { return Look::Nothing };
        let step = self.ids.generation_step();
        let tracker = self.ids.trackers.at_mut(word);
        let Some(room) = sink.slot() else { return Look::Other };
        if !tracker.succeeded(word) {
            return if self.follow_one(sink) { Look::Followed } else { Look::Other };
        }
        // SAFETY: room for one.
        unsafe { room.write(0, tracker.user_data, tracker.res) };
        tracker.end(step);
        self.ids.ended(1);
        self.grant.cq.advance(1);
        sink.commit(1);
        self.give_back_entries();
        Look::Taken
    }

    /// Takes every completion that the device has written, posts what is finished to `sink`, and gives
    /// the entries back with one doorbell. Answers how many there were of commands in flight: a device that
    /// sends nothing but stale ones has not moved. It does not keep us here either: of those, no more are
    /// taken at once than the ring holds.
    #[inline(never)]
    pub(crate) fn reap(&mut self, sink: &mut Sink, user: &UserMemory) -> u32 {
        let (mut taken, mut stale) = (0, 0);
        let before = self.grant.sq.tail();
        loop {
            let (done, more) = self.reap_run(sink);
            taken += done;
            if !more {
                break;
            }
            if done == 0 {
                let followed = if self.next_is_linked() { self.follow_run(sink) } else { 0 };
                if followed != 0 {
                    taken += followed;
                    continue;
                }
                let Some(completion) = self.grant.cq.pop() else { break };
                if self.finish(completion, sink, user) {
                    taken += 1;
                } else {
                    stale += 1;
                    if stale == self.grant.cq.entries() {
                        break;
                    }
                }
            }
        }
        if taken + stale != 0 {
            mark::<FOUND>();
            self.give_back_entries();
            // Members of chains have begun.
            if self.grant.sq.tail() != before {
                self.publish();
            }
        }
        taken
    }

    #[inline]
    fn give_back_entries(&mut self) {
        self.grant.cq.publish();
        self.stats.cq_doorbells += 1;
    }

    /// Takes the completions of successful transfers of the straight line that stand next, as far as both
    /// rings go without a wrap. Answers how many, and whether there may be more.
    #[inline]
    fn reap_run(&mut self, sink: &mut Sink) -> (u32, bool) {
        let room = sink.run();
        let run = self.grant.cq.run(room.len());
        let step = self.ids.generation_step();
        let mut done = 0;
        let more = loop {
            if done == run.len() {
                break true;
            }
            // SAFETY: below the length; the ring is `self.grant`'s.
            let Some(word) = (unsafe { run.word(done) }) else { break false };
            let tracker = self.ids.trackers.at_mut(word);
            if !tracker.succeeded(word) {
                break true;
            }
            // SAFETY: the run is no longer than the room.
            unsafe { room.write(done, tracker.user_data, tracker.res) };
            tracker.end(step);
            done += 1;
        };
        let done = done as u32;
        if done != 0 {
            self.ids.ended(done);
            self.grant.cq.advance(done);
            sink.commit(done);
        }
        (done, more)
    }
}

/// Makes commands of the first entries of a run, each in its slot and with its tracker. Answers how many.
///
/// # Safety
/// There are no more trackers than slots, and no more slots than entries.
#[inline(always)] // into its two callers, which keep what they load in registers
unsafe fn make_run<M: Memory>(
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
unsafe fn make<E: Words, M: Memory, const TAG: u32>(
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

#[cfg(test)]
mod tests;
