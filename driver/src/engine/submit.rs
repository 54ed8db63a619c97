//! The pass down: a batch of entries, as much of it as goes by the straight line, the rest by the general
//! path, one doorbell, and what the program is told.

#![expect(unsafe_code)] // walks runs of both rings, which it has made of the same length

use std::io;

use super::broken::Broken;
use super::completions::Caller;
use super::entry::Entry;
use super::operations::Operation;
use super::prepare::{Memory, Prepared, check_flags, prepare};
use super::timeouts::{Timeout, nanos};
use super::{Engine, Outcome};
use crate::abi::entry::Sqe;
use crate::abi::op::{
    IOSQE_ASYNC, IOSQE_BUFFER_SELECT, IOSQE_CQE_SKIP_SUCCESS, IOSQE_IO_DRAIN, IOSQE_IO_HARDLINK, IOSQE_IO_LINK,
    MAX_RW_COUNT,
};
use crate::abi::slots::SqeSlot;
use crate::nvme::IoQueue;

impl Engine {
    /// Consumes what has been pushed. Answers how many entries, a refused one that ended the batch
    /// included.
    #[inline]
    pub(crate) fn submit(&mut self) -> io::Result<usize> {
        self.check_ours()?;
        self.gate.check(true, false).map_err(io::Error::from_raw_os_error)?;
        if self.attentive {
            self.read_mail();
        }
        let (submitted, _) = self.consume(u32::MAX);
        self.announce();
        Ok(submitted as usize)
    }

    /// Consumes at most `most` entries; does not tell the program what there is to wait for. Answers how many
    /// were submitted, and whether that was all.
    #[inline(always)] // as `submit_and_wait`
    pub(super) fn consume(&mut self, most: u32) -> (u32, bool) {
        let start = self.sq_head;
        // A tail that a hostile program moved means no more than a full ring.
        let new = self.rings.sq_tail().wrapping_sub(start).min(self.rings.sq_entries()).min(most);
        let end = start.wrapping_add(new);
        if new == 0 {
            return (0, true);
        }
        // A batch of one goes straight through here, as nearly always if there is one.
        if new == 1
            && self.straight
            && let Some(queue) = hot_queue(&mut self.queues, self.hot)
            && queue.submit_one(&self.rings, start)
        {
            queue.publish_batch(1);
            self.sq_head = end;
            self.rings.set_sq_head(end);
            return (1, true);
        }
        let submitted = self.consume_batch(start, end);
        (submitted, submitted == new)
    }

    /// A batch by the straight line, as far as it goes, and the rest. Answers how many entries were submitted.
    #[inline(never)] // away from a batch of one
    fn consume_batch(&mut self, start: u32, end: u32) -> u32 {
        let mut head = start;
        if self.straight
            && let Some(queue) = hot_queue(&mut self.queues, self.hot)
        {
            head = queue.submit_lines(&self.rings, head, end);
            if head == end {
                // The whole batch went straight through: one queue has something new.
                queue.publish();
                self.sq_head = end;
                self.rings.set_sq_head(end);
                return end.wrapping_sub(start);
            }
        }
        self.consume_rest(start, head, end)
    }

    /// What the straight line has left of a batch. Answers how many entries of the batch were submitted.
    #[inline(never)]
    fn consume_rest(&mut self, start: u32, head: u32, end: u32) -> u32 {
        let before = self.cq.tail();
        self.posted_before = Some(before);
        let (head, dropped) = self.submit_general(head, end);
        self.sq_head = head;
        self.rings.set_sq_head(head);
        self.close_chain();
        self.posted_before = None;
        if self.attentive || !self.later.is_empty() {
            self.signal.tell(self.cq.tail(), &self.rings);
            self.end_submission(before);
        }
        self.queues.iter_mut().for_each(IoQueue::publish);
        head.wrapping_sub(start) - dropped
    }

    /// Tells the program whether there is something to wait for, and something to take.
    #[inline]
    pub(super) fn announce(&mut self) {
        let busy = self.is_busy();
        self.cq.set_flags(busy || self.has_more());
        if self.attentive {
            self.signal.tell(self.cq.tail(), &self.rings);
        }
        if self.notifier.is_armed() {
            // A program that sleeps on the descriptor waits without us: a model is woken now.
            if busy {
                self.queues.iter().for_each(IoQueue::relax);
            }
            self.keep_ticking(busy);
            self.notifier.update(|| self.cq.has_any());
        }
    }

    /// Answers where it stopped, and how many of the entries were dropped.
    fn submit_general(&mut self, mut head: u32, end: u32) -> (u32, u32) {
        while head != end {
            let slot = if self.straight {
                head = self.submit_nops(head, end);
                if head == end {
                    break;
                }
                Some(self.rings.plain_slot(head))
            } else {
                self.rings.slot(head)
            };
            head = head.wrapping_add(1);
            let Some(slot) = slot else {
                // As the kernel: dropped, counted as that and not as submitted, and the batch ends.
                self.rings.set_sq_dropped(self.rings.sq_dropped().wrapping_add(1));
                return (head, 1);
            };
            if self.take(slot) && !self.submits_all {
                return (head, 0);
            }
            if self.straight
                && head != end
                && let Some(queue) = hot_queue(&mut self.queues, self.hot)
            {
                head = queue.submit_lines(&self.rings, head, end);
            }
        }
        (head, 0)
    }

    /// One entry, by the general path. Answers whether it ends its batch: it was refused while it was
    /// prepared, as the last of its chain.
    fn take(&mut self, slot: SqeSlot) -> bool {
        const ORDERED: u8 =
            IOSQE_IO_DRAIN | IOSQE_IO_LINK | IOSQE_IO_HARDLINK | IOSQE_BUFFER_SELECT | IOSQE_CQE_SKIP_SUCCESS;
        let mut sqe = slot.copy();
        let words = self.rings.second_half(slot);
        self.segments.clear();
        let mut drains = false;
        let prepared = self.prepare(&mut sqe, &mut drains);
        let plain = sqe.flags & ORDERED == 0 && self.order.is_idle();
        if !plain || matches!(prepared, Ok(Prepared::Timeout(_))) {
            self.keep(sqe, words, prepared, drains);
            // What follows is in order with it.
            self.straight = false;
            self.attentive = true;
            return prepared.is_err() && sqe.flags & (IOSQE_IO_LINK | IOSQE_IO_HARDLINK) == 0;
        }
        let entry = match prepared {
            Ok(prepared) => Entry { sqe, prepared, words },
            Err(errno) => {
                self.cq.post(sqe.user_data, -errno, 0);
                return true;
            }
        };
        let outcome = self.issue(&entry, Caller::Program(sqe.user_data));
        if sqe.flags & IOSQE_ASYNC != 0 && !matches!(outcome, Ok(Outcome::Issued)) {
            self.signal.worked();
        }
        if self.puts_off(&entry, &outcome, None) {
            return false;
        }
        match outcome {
            Ok(Outcome::Issued) => {}
            Ok(Outcome::Done(res)) => self.cq.post(sqe.user_data, res, 0),
            Ok(Outcome::Failed(res, extra)) => self.cq.end(Caller::Program(sqe.user_data), res, extra),
            Ok(Outcome::DoneBig(res, extra)) => self.cq.end(Caller::Program(sqe.user_data), res, Some(extra)),
            Ok(Outcome::Refused(errno)) | Err(errno) => self.cq.post(sqe.user_data, -errno, 0),
        }
        false
    }

    /// Prepares an entry: all that the kernel does with it before its turn comes, in the kernel's order. The
    /// memory that it names is copied where the kernel copies it (`SUBMIT_STABLE`). `drains` becomes true
    /// when it is to wait for everything before it although it does not say so.
    fn prepare(&mut self, sqe: &mut Sqe, drains: &mut bool) -> Result<Prepared, i32> {
        let opcode = check_flags(sqe)?;
        if self.fault.is(Broken::Drain) {
            sqe.flags &= !IOSQE_IO_DRAIN;
        }
        self.order.admit(sqe, &mut self.operations)?;
        if !self.restrictions.allows(sqe) {
            return Err(libc::EACCES);
        }
        *drains = self.order.takes_drain();
        match prepare(opcode, sqe, self.rules)? {
            Prepared::Transfer { memory, write } => {
                if sqe.attr_type_mask != 0 {
                    self.prepare_attribute(sqe.addr3)?;
                }
                self.prepare_memory(sqe, memory)?;
                Ok(Prepared::Transfer { memory, write })
            }
            Prepared::Timeout(timeout) => self.with_time(sqe.addr, timeout).map(Prepared::Timeout),
            Prepared::LinkTimeout(timeout) => {
                let timeout = self.with_time(sqe.addr, timeout)?;
                // It watches over the entry before it in its chain, and nothing watches over it.
                let last = self.order.last().map(|last| self.operations.at(last));
                if last.is_none_or(Operation::has_opcode_link_timeout) {
                    return Err(libc::EINVAL);
                }
                Ok(Prepared::LinkTimeout(timeout))
            }
            Prepared::TimeoutUpdate { linked, timeout } => {
                let timeout = self.with_time(sqe.off, timeout)?;
                Ok(Prepared::TimeoutUpdate { linked, timeout })
            }
            prepared => Ok(prepared),
        }
    }

    /// `io_prep_rw_pi`: the attribute is there and makes sense. That the namespace has none shows at issue.
    fn prepare_attribute(&self, address: u64) -> Result<(), i32> {
        // `struct io_uring_attr_pi`: flags, tag and length in the first word, address, seed, reserved.
        let [head, memory, _, reserved] = self.user.read::<[u64; 4]>(address).ok_or(libc::EFAULT)?;
        if reserved != 0 {
            return Err(libc::EINVAL);
        }
        if self.user.addressable(memory, head >> 32) { Ok(()) } else { Err(libc::EFAULT) }
    }

    fn with_time(&self, address: u64, timeout: Timeout) -> Result<Timeout, i32> {
        let time = self.user.read::<[i64; 2]>(address).ok_or(libc::EFAULT)?;
        Ok(Timeout { nanos: nanos(time).ok_or(libc::EINVAL)?, ..timeout })
    }

    /// The memory of a transfer, as far as the kernel looks at it while it prepares the entry.
    fn prepare_memory(&mut self, sqe: &mut Sqe, memory: Memory) -> Result<(), i32> {
        match memory {
            Memory::Fixed | Memory::Selected => Ok(()),
            Memory::Plain if self.user.addressable(sqe.addr, u64::from(sqe.len).min(MAX_RW_COUNT)) => Ok(()),
            Memory::Plain => Err(libc::EFAULT),
            // `io_iov_buffer_select_prep`: only the length counts.
            Memory::SelectedVector => {
                let [_, len] = self.user.read::<[u64; 2]>(sqe.addr).ok_or(libc::EFAULT)?;
                sqe.len = u32::try_from(len).unwrap_or(u32::MAX);
                Ok(())
            }
            Memory::Vector | Memory::FixedVector => {
                self.user.read_iovecs(sqe.addr, sqe.len, &mut self.segments).ok_or(libc::EFAULT)?;
                for segment in &self.segments {
                    if segment.len.cast_signed() < 0 {
                        return Err(libc::EINVAL);
                    }
                    // The segments of a registered vector are looked at when it is issued (`io_prep_reg_iovec`).
                    if memory == Memory::Vector && !self.user.addressable(segment.address, segment.len) {
                        return Err(libc::EFAULT);
                    }
                }
                Ok(())
            }
        }
    }

    /// Completes the entries from `head` on that do nothing, while there is room. Answers where it stopped.
    #[inline]
    fn submit_nops(&mut self, head: u32, end: u32) -> u32 {
        let room = self.cq.run();
        let sqes = self.rings.sqe_run(head, end.wrapping_sub(head).min(room.len()));
        let mut done = 0;
        while done < sqes.len() as usize {
            // SAFETY: below the length.
            let sqe = unsafe { sqes.at(done) };
            if !sqe.is_bare_nop() {
                break;
            }
            // SAFETY: there are no more entries than room.
            unsafe { room.write(done, sqe.word::<4>(), 0) };
            done += 1;
        }
        if done != 0 {
            self.cq.commit(done as u32);
        }
        head.wrapping_add(done as u32)
    }
}

/// The queue whose straight line is to be tried, if any: the only one, or that of the hot file.
#[inline(always)] // as `consume`
fn hot_queue(queues: &mut [IoQueue], hot: usize) -> Option<&mut IoQueue> {
    let queue = match queues {
        [queue] => queue,
        queues => queues.get_mut(hot)?,
    };
    (!queue.is_waiting()).then_some(queue)
}
