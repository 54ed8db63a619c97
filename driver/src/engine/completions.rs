//! The completion ring as the engine fills it, and the backlog behind it.
//!
//! Nothing is dropped (`IORING_FEAT_NODROP`): a completion that finds the ring full waits in the
//! backlog, the SQ flag `CQ_OVERFLOW` says so, and the next entry into the ring that asks for events
//! moves as many as fit. While there is a backlog everything goes behind it, so order is kept.

use std::collections::VecDeque;

use crate::abi::entry::{Cqe, Sqe};
use crate::abi::flags::{IORING_SQ_CQ_OVERFLOW, IORING_SQ_TASKRUN};
use crate::abi::op::{IORING_CQE_F_32, IORING_CQE_F_SKIP};
use crate::abi::rings::RingView;
use crate::abi::slots::CqeRun;

/// Who is told when a command or a request has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// The program, by a completion with this user data.
    Program(u64),
    /// The engine, which has an operation of this index.
    Engine(u32),
}

/// What follows the first 16 bytes of a completion, of those that have more to say.
pub(crate) type Extra = Option<[u64; 2]>;

/// The end of what an operation of the engine's has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// Index of the operation.
    pub(crate) operation: u32,
    pub(crate) res: i32,
    pub(crate) extra: Extra,
}

/// The engine's side of the completion ring.
#[derive(Debug)]
pub(crate) struct Completions {
    rings: RingView,
    /// One past the last completion written; published by `commit`.
    tail: u32,
    backlog: VecDeque<(Cqe, Extra)>,
    /// Completions are not written into the ring as they come: there is a backlog, or they are of 32 bytes.
    indirect: bool,
    flags: u32,
    /// Ends that the engine has not taken notice of.
    ended: VecDeque<End>,
    /// Members of chains that have begun: their queue cannot go on with them.
    returned: VecDeque<Sqe>,
    /// What finds the ring full is lost: of an engine that is broken on purpose.
    loses: bool,
}

impl Completions {
    pub(crate) fn new(rings: RingView) -> Self {
        let indirect = rings.has_cqe32();
        let (backlog, ended, returned) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        Self { rings, tail: rings.cq_tail(), backlog, indirect, flags: 0, ended, returned, loses: false }
    }

    /// Free entries that stand side by side, none while there is a backlog. What is written into them is
    /// published by [`commit`](Self::commit).
    #[inline]
    pub(crate) fn run(&self) -> CqeRun {
        let free = if self.indirect { 0 } else { self.free() };
        self.rings.cqe_run(self.tail, free)
    }

    /// A [`run`](Self::run) of one entry.
    #[inline]
    pub(crate) fn slot(&self) -> Option<CqeRun> {
        (!self.indirect && self.free() != 0).then(|| self.rings.cqe_run(self.tail, 1))
    }

    /// A head beyond the tail is a program's mistake: it gains no more than the ring has.
    #[inline]
    fn free(&self) -> u32 {
        self.rings.cq_entries().saturating_sub(self.tail.wrapping_sub(self.rings.cq_head()))
    }

    /// Publishes the first `written` entries of a [`run`](Self::run).
    #[inline]
    pub(crate) fn commit(&mut self, written: u32) {
        self.tail = self.tail.wrapping_add(written);
        self.rings.set_cq_tail(self.tail);
    }

    /// Posts one completion, or keeps it for later.
    #[inline]
    pub(crate) fn post(&mut self, user_data: u64, res: i32, flags: u32) {
        if !self.indirect && self.free() != 0 {
            self.rings.write_cqe(self.tail, user_data, res, flags);
            self.commit(1);
        } else {
            self.post_big(Cqe { user_data, res, flags }, None);
        }
    }

    /// Posts one completion with what follows it, if there is room for that in entries of this ring.
    #[cold]
    pub(crate) fn post_big(&mut self, cqe: Cqe, extra: Extra) {
        if self.backlog.is_empty() {
            if self.write(cqe, extra) || self.loses {
                return;
            }
            // Before anything is behind the ring (`io_cqring_add_overflow`): a program that finds the ring empty
            // must not take that for all.
            self.indirect = true;
            self.flags |= IORING_SQ_CQ_OVERFLOW;
            self.rings.set_sq_flags(self.flags);
        }
        self.backlog.push_back((cqe, extra));
    }

    /// Whether what finds the ring full is lost.
    pub(super) fn loses_overflow(&mut self, yes: bool) {
        self.loses = yes;
    }

    /// Posts one completion if the ring has room for it now.
    pub(crate) fn post_if_room(&mut self, cqe: Cqe) -> bool {
        self.backlog.is_empty() && self.write(cqe, None)
    }

    /// Tells the caller of an end.
    #[inline]
    pub(crate) fn end(&mut self, caller: Caller, res: i32, extra: Extra) {
        match caller {
            Caller::Program(user_data) if extra.is_none() => self.post(user_data, res, 0),
            Caller::Program(user_data) => self.post_big(Cqe { user_data, res, flags: 0 }, extra),
            Caller::Engine(operation) => self.ended.push_back(End { operation, res, extra }),
        }
    }

    /// The next end that the engine has to take notice of.
    #[inline]
    pub(crate) fn next_end(&mut self) -> Option<End> {
        self.ended.pop_front()
    }

    /// The engine has to go on with a member of a chain; those behind it follow at once.
    #[cold]
    pub(crate) fn give_back(&mut self, entry: Sqe) {
        self.returned.push_back(entry);
    }

    /// Whether the engine has to go on with a chain.
    #[inline]
    pub(super) fn has_returned(&self) -> bool {
        !self.returned.is_empty()
    }

    /// The next member with which the engine has to go on.
    pub(super) fn next_returned(&mut self) -> Option<Sqe> {
        self.returned.pop_front()
    }

    /// Writes a completion if there is room.
    fn write(&mut self, cqe: Cqe, extra: Extra) -> bool {
        if self.rings.has_cqe32() {
            if self.free() == 0 {
                return false;
            }
            self.rings.write_cqe32(self.tail, cqe, extra.unwrap_or_default());
            self.commit(1);
            return true;
        }
        if let Some(extra) = extra.filter(|_| self.rings.is_mixed()) {
            return self.write_mixed(cqe, extra);
        }
        if self.free() == 0 {
            return false;
        }
        self.rings.write_cqe(self.tail, cqe.user_data, cqe.res, cqe.flags);
        self.commit(1);
        true
    }

    /// An entry of 32 bytes takes two places side by side: what is left of the ring before its wrap is filled
    /// (`io_fill_nop_cqe`).
    fn write_mixed(&mut self, cqe: Cqe, extra: [u64; 2]) -> bool {
        if self.rings.is_last(self.tail) && self.free() > 0 {
            self.rings.write_cqe(self.tail, 0, 0, IORING_CQE_F_SKIP);
            self.commit(1);
        }
        if self.free() < 2 || self.rings.is_last(self.tail) {
            return false;
        }
        self.rings.write_cqe(self.tail, cqe.user_data, cqe.res, cqe.flags | IORING_CQE_F_32);
        self.rings.write_cqe_words(self.tail.wrapping_add(1), extra);
        self.commit(2);
        true
    }

    /// Moves as much of the backlog into the ring as fits.
    #[inline]
    pub(crate) fn flush(&mut self) {
        if !self.backlog.is_empty() {
            self.flush_backlog();
        }
    }

    #[cold]
    fn flush_backlog(&mut self) {
        while let Some(&(cqe, extra)) = self.backlog.front()
            && self.write(cqe, extra)
        {
            self.backlog.pop_front();
        }
        self.indirect = self.rings.has_cqe32() || !self.backlog.is_empty();
    }

    /// Sets the SQ flags that programs look at: overflow, and that entering would make progress.
    #[inline]
    pub(crate) fn set_flags(&mut self, busy: bool) {
        let overflow = if self.backlog.is_empty() { 0 } else { IORING_SQ_CQ_OVERFLOW };
        let flags = overflow | if busy { IORING_SQ_TASKRUN } else { 0 };
        if flags != self.flags {
            self.flags = flags;
            self.rings.set_sq_flags(flags);
        }
    }

    /// [`set_flags`](Self::set_flags) for a ring that has no backlog and waits for nothing.
    #[inline]
    pub(crate) fn clear_flags(&mut self) {
        debug_assert!(self.backlog.is_empty(), "a backlog has a flag");
        if self.flags != 0 {
            self.flags = 0;
            self.rings.set_sq_flags(0);
        }
    }

    /// Completions that the program has not taken, in the ring.
    #[inline]
    pub(crate) fn ready(&self) -> u32 {
        self.tail.wrapping_sub(self.rings.cq_head())
    }

    /// Whether the program has something to take, in the ring or behind it.
    #[inline]
    pub(crate) fn has_any(&self) -> bool {
        self.ready() != 0 || !self.backlog.is_empty()
    }

    /// From now on completions go into these rings, which have taken over what was in the others.
    pub(super) fn move_to(&mut self, rings: RingView) {
        self.rings = rings;
    }

    /// One past the last completion that was ever in the ring.
    pub(crate) fn tail(&self) -> u32 {
        self.tail
    }

    /// Completions behind the ring.
    #[cfg(test)]
    pub(crate) fn backlog(&self) -> usize {
        self.backlog.len()
    }
}

#[cfg(test)]
mod tests {
    use io_uring::cqueue;

    use super::*;
    use crate::abi::memory::RingMemory;
    use crate::abi::params::Params;

    fn ring(entries: u32) -> (RingMemory, Completions) {
        let memory = RingMemory::new(&Params::layout(entries, 0, 0).unwrap()).unwrap();
        let completions = Completions::new(memory.view());
        (memory, completions)
    }

    #[test]
    fn a_full_ring_keeps_completions_in_order_and_says_so() {
        let (memory, mut cq) = ring(1);
        let view = memory.view();
        for i in 0..5 {
            cq.post(i, 0, 0);
        }
        cq.set_flags(false);
        assert_eq!((cq.ready(), cq.backlog()), (2, 3));
        assert_eq!(view.sq_flags(), IORING_SQ_CQ_OVERFLOW);
        let mut seen = Vec::new();
        while cq.ready() > 0 {
            let head = view.cq_head();
            seen.push(view.cqes::<cqueue::Entry>().read(head).user_data());
            view.set_cq_head(head.wrapping_add(1));
            cq.flush();
            cq.set_flags(true);
        }
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        assert_eq!(view.sq_flags(), IORING_SQ_TASKRUN);
        assert_eq!(view.cq_overflow(), 0);
    }

    #[test]
    fn the_overflow_flag_is_set_with_the_first_completion_behind_the_ring() {
        let (memory, mut cq) = ring(1);
        cq.set_flags(true);
        for i in 0..2 {
            cq.post(i, 0, 0);
        }
        assert_eq!(memory.view().sq_flags(), IORING_SQ_TASKRUN, "a full ring is no overflow");
        cq.post(2, 0, 0);
        assert_eq!(memory.view().sq_flags(), IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN);
    }

    #[test]
    fn entries_of_32_bytes_keep_their_order_and_never_take_the_way_of_16() {
        let flags = crate::abi::flags::IORING_SETUP_CQE32;
        let memory = RingMemory::new(&Params::layout(1, 0, flags).unwrap()).unwrap();
        let (view, mut cq) = (memory.view(), Completions::new(memory.view()));
        assert!(cq.run().len() == 0 && cq.slot().is_none());
        for i in 0..3 {
            cq.post(2 * i, 0, 0);
            cq.post_big(Cqe { user_data: 2 * i + 1, res: 7, flags: 0 }, Some([i, !i]));
        }
        assert_eq!((cq.ready(), cq.backlog()), (2, 4));
        for i in 0..6 {
            let cqe = view.cqes::<cqueue::Entry32>().read(view.cq_head());
            let extra = if i % 2 == 1 { [i / 2, !(i / 2)] } else { [0; 2] };
            assert_eq!((cqe.user_data(), *cqe.big_cqe()), (i, extra));
            view.set_cq_head(view.cq_head() + 1);
            cq.flush();
        }
        assert!(!cq.has_any() && cq.run().len() == 0);
    }

    #[test]
    fn nothing_passes_the_backlog() {
        let (memory, mut cq) = ring(1);
        for i in 0..3 {
            cq.post(i, 0, 0);
        }
        memory.view().set_cq_head(2);
        assert!(cq.ready() == 0 && cq.has_any(), "the backlog is to be taken as well");
        assert_eq!(cq.run().len(), 0, "there is room in the ring, but the backlog is first");
        cq.flush();
        assert_eq!((cq.ready(), cq.backlog()), (1, 0));
        assert_eq!(cq.run().len(), 1);
    }

    #[test]
    fn a_head_beyond_the_tail_gains_nothing() {
        let (memory, cq) = ring(4);
        memory.view().set_cq_head(77);
        assert_eq!(cq.run().len(), 0);
        memory.view().set_cq_head(u32::MAX - 3);
        assert_eq!(cq.run().len(), 4, "four are used");
    }
}
