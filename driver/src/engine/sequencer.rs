//! Operations from their place in the order to their end: each begins, ends, and lets others begin.
//!
//! As in the kernel, the head of a chain is issued where its last member is submitted, and what follows from
//! the end of an operation is done [`Later`], in the order of the ends. [`Engine::attend`] works until nothing
//! is left, and nothing calls itself: a chain of any length needs no stack.

use super::broken::Broken;
use super::chains::{Later, Place, canceled};
use super::completions::{Caller, Extra};
use super::entry::Entry;
use super::operations::Operation;
use super::prepare::{Memory, Prepared};
use super::timeouts::{Expired, Pending};
use super::{Engine, Outcome};
use crate::abi::entry::{Cqe, Sqe};
use crate::abi::op::IORING_CQE_F_MORE;
use crate::nvme::IoQueue;

/// The opcode of `WRITE_FIXED`.
const WRITE_FIXED: u8 = 5;

impl Engine {
    /// Keeps an entry, or what was wrong with it, and puts it in its place.
    #[cold] // out of the way of plain entries
    pub(super) fn keep(&mut self, sqe: Sqe, words: [u64; 8], prepared: Result<Prepared, i32>, drains: bool) {
        let entry = Entry { sqe, prepared: prepared.unwrap_or(Prepared::Nop), words };
        let mut operation = Operation::new(entry);
        operation.drains |= drains;
        if let Err(errno) = prepared {
            operation.fail_with(-errno);
        } else if matches!(entry.prepared, Prepared::Transfer { .. }) && !self.segments.is_empty() {
            std::mem::swap(&mut operation.segments, &mut self.segments);
        }
        let arms = operation.is_link_timeout() && !operation.failed;
        let index = self.operations.insert(operation);
        if let Some(last) = self.order.last().filter(|_| arms) {
            self.operations.at_mut(last).arms = true;
        }
        let place = self.order.place(index, &mut self.operations);
        self.take_place(place);
    }

    /// A submission is over.
    pub(super) fn close_chain(&mut self) {
        let place = self.order.close(&mut self.operations);
        self.take_place(place);
    }

    fn take_place(&mut self, place: Place) {
        match place {
            Place::Kept => {}
            Place::Begins(head) => self.start(head),
            Place::Deferred(head) => {
                self.release();
                self.order.settle(head, &self.operations);
            }
            Place::Fails(head) => {
                // `io_queue_sqe_fallback`: hard links break as well.
                self.operations.at_mut(head).hard = false;
                let res = self.operations.at(head).res;
                self.complete(head, res, true, None);
            }
        }
    }

    /// Goes on with chains that the straight line has begun.
    #[cold]
    fn take_over(&mut self) {
        let mut ends = None;
        while let Some(sqe) = self.cq.next_returned() {
            // The straight line has nothing else.
            let prepared = Prepared::Transfer { memory: Memory::Fixed, write: sqe.opcode == WRITE_FIXED };
            let operation = Operation::new(Entry { sqe, prepared, words: [0; 8] });
            let linked = operation.is_linked();
            let index = self.operations.insert(operation);
            match ends {
                Some(last) => self.operations.at_mut(last).next = Some(index),
                None => self.later.push_back(Later::Begin(index)),
            }
            ends = linked.then_some(index);
        }
    }

    fn release(&mut self) {
        let quiet = !self.is_busy() && !self.cq.has_returned();
        self.order.release(quiet, &self.operations, &mut self.later);
    }

    /// Takes notice of everything that has ended, been released, or become due, until nothing is left.
    #[inline(never)]
    pub(super) fn attend(&mut self) {
        // Once: a timeout that is pending again at once must not keep us here.
        self.look_at_clocks(true);
        loop {
            if self.cq.has_returned() {
                self.take_over();
            }
            if let Some(end) = self.cq.next_end() {
                self.ended(end.operation, end.res, end.extra);
            } else if let Some(later) = self.later.pop_front() {
                match later {
                    Later::Begin(index) => self.start(index),
                    Later::Fail { first, silenced } => self.fail_chain(first, silenced),
                    Later::End { operation, res, failed } => self.complete(operation, res, failed, None),
                    Later::Expired(Expired::Linked(operation)) => self.link_timeout_expired(operation),
                    Later::Expired(Expired::Timeout(pending)) => self.timeout_expired(pending),
                }
            } else if !self.look_at_counts() && !self.look_for_release() {
                break;
            }
        }
        self.queues.iter_mut().for_each(IoQueue::publish);
        self.choose_path();
    }

    fn look_for_release(&mut self) -> bool {
        if self.order.has_deferred() {
            self.release();
        }
        !self.later.is_empty()
    }

    /// Begins an operation whose turn it is.
    fn start(&mut self, index: u32) {
        let operation = self.operations.at_mut(index);
        let entry = operation.entry;
        // Others find their memory when they are issued; a vector of none has none.
        self.segments.clear();
        if !operation.segments.is_empty() {
            std::mem::swap(&mut operation.segments, &mut self.segments);
        }
        self.selected = 0;
        let outcome = self.issue(&entry, Caller::Engine(index));
        let operation = self.operations.at_mut(index);
        operation.cqe_flags = self.selected;
        operation.expected = self.expected;
        if self.puts_off(&entry, &outcome, Some(index)) {
            return self.watch_over(index);
        }
        match outcome {
            Ok(Outcome::Issued) => self.watch_over(index),
            Ok(Outcome::Done(res)) => self.ended(index, res, None),
            Ok(Outcome::DoneBig(res, extra)) => self.ended(index, res, Some(extra)),
            Ok(Outcome::Failed(res, extra)) => self.complete(index, res, true, extra),
            Ok(Outcome::Refused(errno)) | Err(errno) => self.complete(index, -errno, true, None),
        }
    }

    /// Starts the `LINK_TIMEOUT` of an operation that has not ended at once (`io_queue_linked_timeout`). It
    /// leaves the chain.
    fn watch_over(&mut self, index: u32) {
        let Some(timer) = self.take_link_timeout(index) else { return };
        let Prepared::LinkTimeout(timeout) = self.operations.at(timer).entry.prepared else { return };
        let watched = self.operations.at_mut(index);
        watched.watched_by = Some(timer);
        let watched_data = watched.entry.sqe.user_data;
        let operation = self.operations.at_mut(timer);
        operation.watches = Some(index);
        operation.watched_data = watched_data;
        let user_data = operation.entry.sqe.user_data;
        self.timers.add_linked(timer, user_data, timeout);
    }

    /// Takes a `LINK_TIMEOUT` that has not been started out of the chain.
    fn take_link_timeout(&mut self, index: u32) -> Option<u32> {
        let operation = self.operations.at_mut(index);
        if !std::mem::take(&mut operation.arms) {
            return None;
        }
        let timer = operation.next?;
        if !self.operations.at(timer).is_link_timeout() {
            return None;
        }
        self.operations.at_mut(index).next = self.operations.at_mut(timer).next.take();
        Some(timer)
    }

    /// What an operation began has ended.
    fn ended(&mut self, index: u32, res: i32, extra: Extra) {
        let operation = self.operations.at(index);
        let failed = operation.entry.prepared.fails(res, operation.expected);
        self.complete(index, res, failed, extra);
    }

    /// Ends an operation: tells the program, and lets its chain go on or fail (`io_disarm_next`,
    /// `io_fail_links`).
    pub(super) fn complete(&mut self, index: u32, res: i32, failed: bool, extra: Extra) {
        let operation = self.operations.at_mut(index);
        if failed {
            operation.fail();
        }
        let breaks = operation.failed && !operation.hard && !self.fault.is(Broken::Link);
        let silenced = operation.silences;
        self.tell(index, res, extra);
        let started = self.operations.at_mut(index).watched_by.take();
        if let Some(timer) = started {
            self.operations.at_mut(timer).watches = None;
        }
        // One that has expired already ends by that.
        let disarmed = started.filter(|timer| self.timers.remove_linked(*timer));
        if let Some(operation) = disarmed.or_else(|| self.take_link_timeout(index)) {
            self.later.push_back(Later::End { operation, res: -libc::ECANCELED, failed: false });
        }
        let next = self.operations.at(index).next;
        self.operations.remove(index);
        let follow = |first| if breaks { Later::Fail { first, silenced } } else { Later::Begin(first) };
        self.later.extend(next.map(follow));
    }

    fn fail_chain(&mut self, first: u32, silenced: bool) {
        let mut next = Some(first);
        while let Some(member) = next {
            let res = canceled(self.operations.at_mut(member), silenced);
            self.tell(member, res, None);
            next = self.operations.at(member).next;
            self.operations.remove(member);
        }
    }

    /// Posts the completion of an operation, unless it is skipped.
    fn tell(&mut self, index: u32, res: i32, extra: Extra) {
        let operation = self.operations.at(index);
        if !operation.skips {
            let (user_data, flags) = (operation.entry.sqe.user_data, operation.cqe_flags);
            match extra {
                None => self.cq.post(user_data, res, flags),
                Some(_) => self.cq.post_big(Cqe { user_data, res, flags }, extra),
            }
        }
    }

    /// Ends the next timeout that has had its completions. Answers whether there was one.
    fn look_at_counts(&mut self) -> bool {
        let counted_out = self.timers.counted_out(self.cq.tail());
        if let Some(operation) = counted_out {
            self.complete(operation, 0, false, None);
        }
        counted_out.is_some()
    }

    /// Timeouts that are due are pending no more. As in the kernel, that is so from the moment on in which they
    /// are due; their completions come later.
    pub(super) fn look_at_clocks(&mut self, shots: bool) {
        if !self.timers.is_empty() {
            while let Some(expired) = self.timers.expired(shots) {
                self.later.push_back(Later::Expired(expired));
            }
        }
    }

    fn timeout_expired(&mut self, pending: Pending) {
        let operation = pending.operation;
        let entry = &self.operations.at(operation).entry;
        let cqe = Cqe { user_data: entry.sqe.user_data, res: -libc::ETIME, flags: IORING_CQE_F_MORE };
        // It ends with a ring that is full (`io_timeout_complete`): however short, it floods nobody.
        if pending.goes_on() && self.cq.post_if_room(cqe) {
            self.timers.renew(pending);
        } else {
            let succeeds = matches!(entry.prepared, Prepared::Timeout(timeout) if timeout.succeeds);
            self.complete(operation, -libc::ETIME, !succeeds, None);
        }
    }

    /// What a `LINK_TIMEOUT` watches over is cancelled if it can be: a command of a device cannot. It is looked
    /// for by its user data, and may have ended meanwhile (`io_req_task_link_timeout`).
    fn link_timeout_expired(&mut self, timer: u32) {
        let operation = self.operations.at_mut(timer);
        let watched_data = operation.watched_data;
        if let Some(watched) = operation.watches.take() {
            self.operations.at_mut(watched).watched_by = None;
        }
        let found = self.cancel_timeout(|_, data| data == watched_data);
        let res = if found { -libc::ETIME } else { -libc::ENOENT };
        self.complete(timer, res, false, None);
    }

    /// Cancels the first `TIMEOUT` that `matches` (`io_timeout_cancel`).
    pub(super) fn cancel_timeout(&mut self, matches: impl FnMut(u32, u64) -> bool) -> bool {
        // One that expires again and again stays within reach between its shots.
        self.look_at_clocks(false);
        let found = self.timers.remove(matches);
        if let Some(operation) = found {
            self.later.push_back(Later::End { operation, res: -libc::ECANCELED, failed: true });
        }
        found.is_some()
    }
}
