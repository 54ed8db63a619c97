//! Chains and drains: in what order operations begin.
//!
//! ```text
//!   entry -- prepared --+-- plain ---------------------------------> issued at once
//!                       +-- of a chain --> kept until its last member is there, then its head is queued
//!                       +-- drained -----> kept until everything before it has ended
//!   end   --------------+-- the next member of its chain, or the failure of the rest
//! ```
//! As `io_submit_sqe`, `io_init_req`, `io_drain_req` and `io_queue_deferred` of kernel 6.18 have it
//! (io_uring/io_uring.c). A chain never spans two submissions.

use std::collections::VecDeque;

use super::operations::{Operation, Operations};
use super::timeouts::Expired;
use crate::abi::entry::Sqe;
use crate::abi::op::{IOSQE_CQE_SKIP_SUCCESS, IOSQE_IO_DRAIN};

/// A chain whose last member has not come yet.
#[derive(Clone, Copy, Debug)]
struct Open {
    head: u32,
    last: u32,
}

/// Where an operation has been put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Into a chain that is not complete.
    Kept,
    /// Behind a drain, as the last of the chain with this head.
    Deferred(u32),
    /// The chain with this head may begin.
    Begins(u32),
    /// The chain with this head has failed before it began.
    Fails(u32),
}

/// What is done when everything before it has been told (the kernel's task work).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Later {
    /// It is the turn of this operation.
    Begin(u32),
    /// This one, and what follows it in its chain, ends without having begun; told of, or not.
    Fail { first: u32, silenced: bool },
    /// This one has ended.
    End { operation: u32, res: i32, failed: bool },
    /// This timeout has expired.
    Expired(Expired),
}

/// The order of a ring's operations.
#[derive(Debug, Default)]
pub(super) struct Order {
    open: Option<Open>,
    /// Heads of chains, and single ones, that wait for a drain (`defer_list`).
    deferred: VecDeque<u32>,
    /// Operations in those chains (`nr_drained`).
    drained: usize,
    drain_active: bool,
    drain_next: bool,
    /// An entry has asked for a skipped completion: from then on the ring drains no more.
    drain_disabled: bool,
}

impl Order {
    /// Whether an entry that asks for nothing is issued at once.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_none() && !self.drain_active && !self.drain_next
    }

    pub(super) fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// What `io_init_req` makes of the flags of an entry, before its preparation.
    pub(super) fn admit(&mut self, sqe: &Sqe, operations: &mut Operations) -> Result<(), i32> {
        if sqe.flags & IOSQE_CQE_SKIP_SUCCESS != 0 {
            self.drain_disabled = true;
        }
        if sqe.flags & IOSQE_IO_DRAIN != 0 {
            if self.drain_disabled {
                return Err(libc::EOPNOTSUPP);
            }
            self.drain_active = true;
            if let Some(open) = self.open {
                // In the middle of a chain: the chain drains, and what follows it.
                operations.at_mut(open.head).drains = true;
                self.drain_next = true;
            }
        }
        Ok(())
    }

    /// Whether the entry at hand is drained although it does not say so: it follows a chain that drained.
    pub(super) fn takes_drain(&mut self) -> bool {
        let takes = self.drain_next && self.open.is_none();
        if takes {
            self.drain_next = false;
            self.drain_active = true;
        }
        takes
    }

    /// The last member so far of the chain that is open.
    pub(super) fn last(&self) -> Option<u32> {
        self.open.map(|open| open.last)
    }

    /// Puts an operation in its place (`io_submit_sqe`, `io_submit_fail_init`). One that was refused while
    /// it was prepared has failed already.
    pub(super) fn place(&mut self, index: u32, operations: &mut Operations) -> Place {
        let (linked, failed) = (operations.at(index).is_linked(), operations.at(index).failed);
        let Some(open) = &mut self.open else {
            if linked {
                self.open = Some(Open { head: index, last: index });
                return Place::Kept;
            }
            return self.queue(index, operations);
        };
        let head = open.head;
        if failed && !operations.at(head).failed {
            operations.at_mut(head).fail_with(-libc::ECANCELED);
        }
        operations.at_mut(open.last).next = Some(index);
        open.last = index;
        if linked {
            return Place::Kept;
        }
        self.open = None;
        self.queue(head, operations)
    }

    /// The submission is over, and with it a chain that was left open (`io_submit_state_end`).
    pub(super) fn close(&mut self, operations: &mut Operations) -> Place {
        self.open.take().map_or(Place::Kept, |open| self.queue(open.head, operations))
    }

    fn queue(&mut self, head: u32, operations: &mut Operations) -> Place {
        if operations.at(head).failed {
            return Place::Fails(head);
        }
        if !self.drain_active {
            return Place::Begins(head);
        }
        self.drained += operations.chain(head).count();
        self.deferred.push_back(head);
        Place::Deferred(head)
    }

    /// Lets chains begin that may do so now (`io_queue_deferred`). `quiet` says that no device has anything in
    /// flight; of the operations kept here `operations` knows.
    pub(super) fn release(&mut self, quiet: bool, operations: &Operations, later: &mut VecDeque<Later>) {
        let mut drain_seen = false;
        let mut first = true;
        while let Some(&head) = self.deferred.front() {
            drain_seen |= operations.at(head).drains;
            if (drain_seen || first) && !(quiet && operations.len() == self.drained) {
                return;
            }
            self.deferred.pop_front();
            self.drained -= operations.chain(head).count();
            later.push_back(Later::Begin(head));
            first = false;
        }
    }

    /// The chain with this head has been deferred, and what may begin has been released: if that was
    /// everything, the drain is over.
    pub(super) fn settle(&mut self, head: u32, operations: &Operations) {
        if self.deferred.is_empty() && !operations.at(head).drains {
            self.drain_active = false;
        }
    }
}

/// An operation that ends without having begun, and is told to the program.
pub(super) fn canceled(operation: &mut Operation, silenced: bool) -> i32 {
    operation.skips = silenced;
    if operation.failed { operation.res } else { -libc::ECANCELED }
}
