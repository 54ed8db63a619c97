//! Task work of a ring that defers it (`DEFER_TASKRUN`).
//!
//! In the kernel (6.18) an entry that needs neither a device nor a worker completes in the submission. All else is
//! told by way of task work: writes that a file refuses (`io_complete_rw`; of a read `io_read` says so itself),
//! what a worker did, timeouts that end, and what follows in a chain or behind a drain. On a ring that defers, that
//! waits for a call that asks for events (`io_run_local_work_locked` in `io_uring_enter`), and nothing of it counts
//! for a timeout before. A look at the completions of a [`Ring`](crate::Ring), which is what makes devices' appear,
//! asks for them here.

use super::chains::Later;
use super::completions::Caller;
use super::entry::Entry;
use super::operations::Operation;
use super::prepare::Prepared;
use super::{Engine, Outcome};
use crate::abi::op::{IORING_NOP_TW, IOSQE_ASYNC};
use crate::nvme::IoQueue;

impl Entry {
    /// Whether the kernel never completes it in the submission (`REQ_F_FORCE_ASYNC`, `IORING_NOP_TW`).
    fn is_told_by_task_work(&self) -> bool {
        let by_itself = match self.prepared {
            Prepared::Fsync | Prepared::SyncFileRange | Prepared::Fallocate => true,
            // `io_fadvise_force_async`.
            Prepared::Fadvise => {
                let advice = self.sqe.op_flags.cast_signed();
                !matches!(advice, libc::POSIX_FADV_NORMAL | libc::POSIX_FADV_RANDOM | libc::POSIX_FADV_SEQUENTIAL)
            }
            Prepared::Nop => self.sqe.op_flags & IORING_NOP_TW != 0,
            _ => false,
        };
        by_itself || self.sqe.flags & IOSQE_ASYNC != 0
    }
}

impl Engine {
    /// Whether task work waits until the program asks for events. Who sleeps on the ring's descriptor or on an
    /// eventfd is woken by completions only, so it does not wait for those.
    fn defers_work(&self) -> bool {
        self.gate.defers() && !self.notifier.is_armed() && !self.signal.is_registered()
    }

    /// Keeps the end of an entry for later, if it is told by task work and that waits. `kept` is its operation, if
    /// it has one. Answers whether that was so.
    #[inline]
    pub(super) fn puts_off(&mut self, entry: &Entry, outcome: &Result<Outcome, i32>, kept: Option<u32>) -> bool {
        self.gate.defers() && self.put_off(entry, outcome, kept)
    }

    #[cold]
    fn put_off(&mut self, entry: &Entry, outcome: &Result<Outcome, i32>, kept: Option<u32>) -> bool {
        let writes = matches!(entry.prepared, Prepared::Transfer { write: true, .. });
        let refused = matches!(outcome, Ok(Outcome::Refused(_)));
        if !self.defers_work() || !(writes && refused || entry.is_told_by_task_work()) {
            return false;
        }
        let (res, failed, extra) = match *outcome {
            Ok(Outcome::Issued) => return false,
            Ok(Outcome::Done(res)) => (res, entry.prepared.fails(res, self.expected), None),
            Ok(Outcome::DoneBig(res, extra)) => (res, res < 0, Some(extra)),
            Ok(Outcome::Failed(res, extra)) => (res, true, extra),
            Ok(Outcome::Refused(errno)) | Err(errno) => (-errno, true, None),
        };
        let operation = kept.unwrap_or_else(|| self.operations.insert(Operation::new(*entry)));
        match extra {
            None => self.later.push_back(Later::End { operation, res, failed }),
            Some(_) => self.cq.end(Caller::Engine(operation), res, extra),
        }
        self.attentive = true;
        true
    }

    /// A submission is over, which has begun with `posted` completions ever in the ring.
    pub(super) fn end_submission(&mut self, posted: u32) {
        if !self.defers_work() {
            return self.attend();
        }
        self.look_at_clocks(true);
        // `io_flush_timeouts` follows completions: a timeout that has had its count is pending no more.
        if self.cq.tail() != posted {
            let later = &mut self.later;
            let mut end = |operation| later.push_back(Later::End { operation, res: 0, failed: false });
            self.timers.count_out(self.cq.tail(), &mut end);
        }
        self.queues.iter_mut().for_each(IoQueue::publish);
        self.choose_path();
    }
}
