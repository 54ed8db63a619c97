//! `MSG_RING`: completions and fixed files for other rings of the process (io_uring/msg_ring.c, 6.18).

use std::sync::Arc;

use super::Engine;
use super::files::Target;
use super::mailbox::{self, Letter, Mailbox, lock};
use crate::abi::entry::Sqe;
use crate::abi::op::{
    IORING_FILE_INDEX_ALLOC, IORING_MSG_DATA, IORING_MSG_RING_CQE_SKIP, IORING_MSG_RING_FLAGS_PASS, IORING_MSG_SEND_FD,
    IOSQE_FIXED_FILE,
};

impl Engine {
    /// `io_msg_ring`.
    pub(super) fn send_message(&mut self, sqe: &Sqe) -> Result<i32, i32> {
        // A ring cannot be a fixed file.
        let fixed = sqe.flags & IOSQE_FIXED_FILE != 0;
        self.check_file(sqe.fd, fixed)?;
        let to = mailbox::find(sqe.fd).filter(|_| !fixed).ok_or(libc::EBADFD)?;
        // Of two words the lower half counts.
        match u64::from(sqe.addr as u32) {
            IORING_MSG_DATA => {
                let passes = sqe.op_flags & IORING_MSG_RING_FLAGS_PASS != 0;
                let unknown = sqe.op_flags & !IORING_MSG_RING_FLAGS_PASS != 0;
                if sqe.addr3 as u32 != 0 || unknown || (!passes && sqe.file_index != 0) {
                    return Err(libc::EINVAL);
                }
                if to.is_disabled() {
                    return Err(libc::EBADFD);
                }
                let flags = if passes { sqe.file_index } else { 0 };
                self.deliver(&to, sqe.off, sqe.len.cast_signed(), flags);
                Ok(0)
            }
            IORING_MSG_SEND_FD => self.send_file(sqe, &to),
            _ => Err(libc::EINVAL),
        }
    }

    fn deliver(&mut self, to: &Arc<Mailbox>, user_data: u64, res: i32, flags: u32) {
        if Arc::ptr_eq(to, &self.mailbox) {
            self.cq.post(user_data, res, flags);
        } else {
            to.send(Letter::Completion { user_data, res, flags });
        }
    }

    /// `io_msg_send_fd`.
    fn send_file(&mut self, sqe: &Sqe, to: &Arc<Mailbox>) -> Result<i32, i32> {
        if sqe.len != 0 || Arc::ptr_eq(to, &self.mailbox) {
            return Err(libc::EINVAL);
        }
        if to.is_disabled() {
            return Err(libc::EBADFD);
        }
        let target = self.files.fixed(sqe.addr3 as u32).ok_or(libc::EBADF)?;
        let target = self.files.target(target).clone();
        let place = {
            let mut places = lock(&to.places);
            let place = match sqe.file_index {
                IORING_FILE_INDEX_ALLOC => places.free().ok_or(libc::ENFILE)?,
                _ if places.len() == 0 => return Err(libc::ENXIO),
                0 => return Err(libc::EINVAL),
                place if place as usize > places.len() => return Err(libc::EINVAL),
                place => place - 1,
            };
            places.take(place);
            place
        };
        to.send(Letter::File { place, target });
        let res = if sqe.file_index == IORING_FILE_INDEX_ALLOC { place as i32 } else { 0 };
        if sqe.op_flags & IORING_MSG_RING_CQE_SKIP == 0 {
            self.deliver(to, sqe.off, res, 0);
        }
        Ok(res)
    }

    /// Reads the ring's mail, which comes only to one whose descriptor is known.
    pub(super) fn read_mail(&mut self) {
        for letter in self.mailbox.take() {
            match letter {
                Letter::Completion { user_data, res, flags } => self.cq.post(user_data, res, flags),
                Letter::File { place, target } => {
                    let known = self.queues.iter().position(|queue| Arc::ptr_eq(queue.owner(), &target.owner));
                    self.put_file(place, Target { queue: known, ..target });
                }
            }
        }
    }
}
