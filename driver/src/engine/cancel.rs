//! `ASYNC_CANCEL` and changes of timeouts (io_uring/cancel.c, io_uring/timeout.c, 6.18).
//!
//! What can be cancelled is a pending `TIMEOUT`. Commands that a device has, members of a chain whose turn
//! has not come and entries that wait for a drain are not found, as in the kernel on a block device.

use super::issue::is_open;
use super::timeouts::Timeout;
use super::{Engine, Outcome};
use crate::abi::entry::Sqe;
use crate::abi::op::{
    IORING_ASYNC_CANCEL_ALL, IORING_ASYNC_CANCEL_ANY, IORING_ASYNC_CANCEL_FD, IORING_ASYNC_CANCEL_FD_FIXED,
    IORING_ASYNC_CANCEL_OP, IORING_ASYNC_CANCEL_USERDATA, IORING_TIMEOUT_UPDATE, IOSQE_FIXED_FILE,
};

/// What is to be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) flags: u32,
    pub(super) user_data: u64,
    pub(super) opcode: u8,
}

/// The opcode of all that can be found.
const TIMEOUT: u8 = 11;

impl Wanted {
    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// `io_cancel_req_match`, of a `TIMEOUT`, which has no file.
    fn matches(&self, user_data: u64) -> bool {
        if self.has(IORING_ASYNC_CANCEL_FD) {
            return false;
        }
        if self.has(IORING_ASYNC_CANCEL_ANY) {
            return true;
        }
        let by_data = self.has(IORING_ASYNC_CANCEL_USERDATA) || !self.has(IORING_ASYNC_CANCEL_OP);
        (!self.has(IORING_ASYNC_CANCEL_OP) || self.opcode == TIMEOUT) && (!by_data || self.user_data == user_data)
    }
}

impl Engine {
    /// `io_async_cancel`.
    pub(super) fn cancel(&mut self, sqe: &Sqe) -> Result<i32, i32> {
        let wanted = Wanted { flags: sqe.op_flags, user_data: sqe.addr, opcode: sqe.len as u8 };
        if wanted.has(IORING_ASYNC_CANCEL_FD) {
            let fixed = sqe.flags & IOSQE_FIXED_FILE != 0 || wanted.has(IORING_ASYNC_CANCEL_FD_FIXED);
            self.check_file(sqe.fd, fixed)?;
        }
        self.cancel_all(&wanted)
    }

    /// Whether there is such a file, at all.
    pub(super) fn check_file(&self, fd: i32, fixed: bool) -> Result<(), i32> {
        let found = if fixed {
            self.files.fixed(fd.cast_unsigned()).is_some()
        } else {
            self.files.descriptor(fd).is_some() || is_open(fd)
        };
        if found { Ok(()) } else { Err(libc::EBADF) }
    }

    /// Cancels one, or all. Answers how many of all, or 0.
    pub(super) fn cancel_all(&mut self, wanted: &Wanted) -> Result<i32, i32> {
        let all = wanted.has(IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY);
        let mut count = 0;
        while self.cancel_timeout(|_, data| wanted.matches(data)) {
            count += 1;
            if !all {
                return Ok(0);
            }
        }
        if all { Ok(count) } else { Err(libc::ENOENT) }
    }

    /// `TIMEOUT_REMOVE`.
    pub(super) fn remove_timeout(&mut self, sqe: &Sqe) -> Result<Outcome, i32> {
        if self.cancel_timeout(|_, data| data == sqe.addr) { Ok(Outcome::Done(0)) } else { Err(libc::ENOENT) }
    }

    /// `io_timeout_update`, `io_linked_timeout_update`.
    pub(super) fn update_timeout(&mut self, sqe: &Sqe, linked: bool, timeout: &Timeout) -> Result<Outcome, i32> {
        // The flag for linked ones alone makes no update of a removal.
        if sqe.op_flags & IORING_TIMEOUT_UPDATE == 0 {
            return self.remove_timeout(sqe);
        }
        self.look_at_clocks(false);
        let timers = &mut self.timers;
        let found = if linked { timers.update_linked(sqe.addr, timeout) } else { timers.update(sqe.addr, timeout) };
        if found { Ok(Outcome::Done(0)) } else { Err(libc::ENOENT) }
    }
}
