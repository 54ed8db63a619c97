//! The straight line: a plain fixed read or write, from SQE to command and from completion to CQE.
//!
//! It serves entries that are all of: `READ_FIXED` or `WRITE_FIXED` on the ring's hot file with no flag
//! but `FIXED_FILE`, a registered buffer, at most two pages, block aligned, inside the namespace. The
//! first word of such an entry is one of two constants; every other condition is checked here as well,
//! and the first entry that fails one is left to the general path, which gives the kernel's answer.
//! `READ` and `WRITE` differ in one constant and in where their memory is looked up ([`Memory`]): they go
//! this way if the device reaches it in place.
//!
//! | file | what |
//! |---|---|
//! | this one | which entries go this way, and in what runs |
//! | `make` | one entry becomes a command |
//! | `chain` | chains of registered transfers |
//! | `reap` | completions become CQEs |
//!
//! Kept apart from the general path on purpose: sharing a loop with it costs registers. Nothing here
//! allocates, locks or calls through a pointer. Both ways work on *runs*: stretches of all the rings and
//! tables concerned in which none of them wraps, so that their places advance together.

#![expect(unsafe_code)] // walks runs, which it has made of the same length

mod chain;
mod make;
mod reap;

use super::ids::STRAIGHT;
use super::namespace::Namespace;
use super::prp::PAGE_BYTES;
use super::queue::IoQueue;
use super::rings::SlotRun;
use crate::abi::entry::Sqe;
use crate::abi::rings::RingView;
use crate::abi::slots::SqeRun;
use crate::spec::command::nvm;

pub(super) use chain::Links;
pub(super) use make::PlainMemory;
use make::{Memory, Words, make, make_run};
pub(crate) use reap::Look;

/// Longest transfer of the straight line: two pages, which need no list.
const MOST_BYTES: u64 = 2 * PAGE_BYTES;

/// `IOSQE_IO_LINK` in the first word of an entry.
const LINK_BIT: u64 = (crate::abi::op::IOSQE_IO_LINK as u64) << 8;

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
    fn submit_entry<E: Words, const TAG: u32>(&mut self, entry: E) -> bool {
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
}

#[cfg(test)]
mod tests;
