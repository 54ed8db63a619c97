//! Operations that the engine keeps: those of chains, drains and groups of buffers, and timeouts. A plain
//! operation is not kept: its device tells the program.

use super::entry::Entry;
use super::prepare::Prepared;
use crate::abi::op::{IOSQE_CQE_SKIP_SUCCESS, IOSQE_IO_DRAIN, IOSQE_IO_HARDLINK, IOSQE_IO_LINK};
use crate::nvme::Segment;

/// The opcode of `LINK_TIMEOUT`.
const LINK_TIMEOUT: u8 = 15;

/// An operation between its entry and its end. The names in brackets are those of the kernel's requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Operation {
    /// What it does, unless it was refused while it was prepared.
    pub(super) entry: Entry,
    /// The program's memory that it moves, as it was when the entry was submitted.
    pub(super) segments: Vec<Segment>,
    /// The next one of its chain.
    pub(super) next: Option<u32>,
    /// The chain goes on whatever becomes of this one (`REQ_F_HARDLINK`).
    pub(super) hard: bool,
    /// It begins when everything before it has ended (`REQ_F_IO_DRAIN`).
    pub(super) drains: bool,
    /// Its success is not told (`REQ_F_CQE_SKIP`).
    pub(super) skips: bool,
    /// The rest of its chain is not told of (`REQ_F_SKIP_LINK_CQES`).
    pub(super) silences: bool,
    /// It has failed (`REQ_F_FAIL`), with the result that follows if it never began.
    pub(super) failed: bool,
    pub(super) res: i32,
    /// A `LINK_TIMEOUT` stands next in the chain, and is to be started with it (`REQ_F_ARM_LTIMEOUT`).
    pub(super) arms: bool,
    /// The `LINK_TIMEOUT` that has been started with it.
    pub(super) watched_by: Option<u32>,
    /// The operation over which it watches, if it is a `LINK_TIMEOUT`, as long as that has not ended.
    pub(super) watches: Option<u32>,
    /// The user data of that operation.
    pub(super) watched_data: u64,
    /// Bytes that a transfer has to move.
    pub(super) expected: u64,
    /// Flags of its completion.
    pub(super) cqe_flags: u32,
}

impl Operation {
    pub(super) fn new(entry: Entry) -> Self {
        let flags = entry.sqe.flags;
        Self {
            entry,
            hard: flags & IOSQE_IO_HARDLINK != 0,
            drains: flags & IOSQE_IO_DRAIN != 0,
            skips: flags & IOSQE_CQE_SKIP_SUCCESS != 0,
            ..Self::default()
        }
    }

    /// Whether another entry of its chain follows.
    pub(super) fn is_linked(&self) -> bool {
        self.entry.sqe.flags & (IOSQE_IO_LINK | IOSQE_IO_HARDLINK) != 0
    }

    pub(super) fn is_link_timeout(&self) -> bool {
        matches!(self.entry.prepared, Prepared::LinkTimeout(_))
    }

    /// As [`is_link_timeout`](Self::is_link_timeout), refused or not.
    pub(super) fn has_opcode_link_timeout(&self) -> bool {
        self.entry.sqe.opcode == LINK_TIMEOUT
    }

    /// `req_set_fail`.
    pub(super) fn fail(&mut self) {
        self.failed = true;
        if self.skips {
            self.skips = false;
            self.silences = true;
        }
    }

    /// `req_fail_link_node`: it will never begin.
    pub(super) fn fail_with(&mut self, res: i32) {
        self.fail();
        self.res = res;
    }
}

/// All of a ring's, by index.
#[derive(Debug, Default)]
pub(super) struct Operations {
    all: Vec<Operation>,
    free: Vec<u32>,
}

impl Operations {
    /// How many there are.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.all.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, operation: Operation) -> u32 {
        if let Some(index) = self.free.pop() {
            let place = &mut self.all[index as usize];
            // The memory of its list of segments is used again.
            let segments = std::mem::take(&mut place.segments);
            *place = operation;
            if place.segments.capacity() == 0 {
                place.segments = segments;
            }
            return index;
        }
        self.all.push(operation);
        // As many indices must fit in the free list when all come back.
        self.free.reserve(self.all.len());
        self.all.len() as u32 - 1
    }

    pub(super) fn remove(&mut self, index: u32) {
        self.all[index as usize].segments.clear();
        self.free.push(index);
    }

    #[inline]
    pub(super) fn at(&self, index: u32) -> &Operation {
        &self.all[index as usize]
    }

    #[inline]
    pub(super) fn at_mut(&mut self, index: u32) -> &mut Operation {
        &mut self.all[index as usize]
    }

    /// The members of a chain from `first` on.
    pub(super) fn chain(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(Some(first), |index| self.at(*index).next)
    }
}
