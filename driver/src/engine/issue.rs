//! What a prepared operation does when its turn has come. Errors found here are results of the operation;
//! they never end a batch.

use super::broken::Broken;
use super::completions::Caller;
use super::entry::Entry;
use super::extent::{Extent, check_rw_flags, clip, verify_area};
use super::files::Target;
use super::prepare::{Memory, Prepared};
use super::ranges::{check_discard, check_fadvise, check_fallocate, check_sync_file_range};
use super::{Engine, Outcome};
use crate::abi::entry::Sqe;
use crate::abi::op::{
    IORING_NOP_CQE32, IORING_NOP_FILE, IORING_NOP_FIXED_BUFFER, IORING_NOP_FIXED_FILE, IORING_NOP_INJECT_RESULT,
    IOSQE_FIXED_FILE, MAX_RW_COUNT,
};
use crate::nvme::{Health, LineTarget, Segment, Transfer};

/// An operation that sets its result without failing, once its file is there.
fn result(checked: Result<(), i32>) -> Result<Outcome, i32> {
    Ok(Outcome::Done(checked.map_or_else(|errno| -errno, |()| 0)))
}

impl Engine {
    /// Issues an operation. Its segments, if it has any from its preparation, stand in `self.segments`.
    pub(super) fn issue(&mut self, entry: &Entry, caller: Caller) -> Result<Outcome, i32> {
        let sqe = &entry.sqe;
        match entry.prepared {
            Prepared::Transfer { write, memory } => {
                // Plain memory is not kept: it stands in the entry.
                if memory == Memory::Plain {
                    self.segments.clear();
                    let len = u64::from(sqe.len).min(MAX_RW_COUNT);
                    self.segments.push(Segment { address: sqe.addr, len, delta: None });
                }
                let target = self.target(sqe)?;
                match memory {
                    Memory::Plain | Memory::Vector => {}
                    Memory::Fixed => {
                        self.segments.clear();
                        let segment = self.buffers.segment(sqe.buf_index, sqe.addr, sqe.len.into());
                        self.segments.push(segment.ok_or(libc::EFAULT)?);
                    }
                    Memory::FixedVector => self.buffers.check_segments(sqe.buf_index, &self.segments)?,
                    Memory::Selected | Memory::SelectedVector => self.select_buffer(sqe)?,
                }
                self.transfer(sqe, write, target, caller)
            }
            Prepared::Nop => self.nop(sqe),
            Prepared::Fsync => {
                let target = self.target(sqe)?;
                self.fsync(target, caller)
            }
            Prepared::SyncFileRange => {
                self.target(sqe)?;
                result(check_sync_file_range(sqe))
            }
            Prepared::Fadvise => {
                self.target(sqe)?;
                check_fadvise(sqe).map(|()| Outcome::Done(0))
            }
            Prepared::Fallocate => {
                let target = self.target(sqe)?;
                self.fallocate(sqe, target, caller).or_else(|errno| result(Err(errno)))
            }
            Prepared::Command => self.command(entry, caller),
            Prepared::Timeout(timeout) => {
                if let Caller::Engine(operation) = caller {
                    let posted = self.posted_before.unwrap_or(self.cq.tail());
                    let posted = posted.wrapping_add(self.fault.is(Broken::TimeoutCount).into());
                    self.timers.add(operation, sqe.user_data, timeout, posted);
                }
                Ok(Outcome::Issued)
            }
            // Started with what it watches over, never by itself (`io_no_issue`).
            Prepared::LinkTimeout(_) => Err(libc::ECANCELED),
            Prepared::TimeoutRemove => self.remove_timeout(sqe),
            Prepared::TimeoutUpdate { linked, timeout } => self.update_timeout(sqe, linked, &timeout),
            Prepared::Cancel => self.cancel(sqe).map(Outcome::Done),
            Prepared::FilesUpdate => self.update_files_by_entry(sqe).map(Outcome::Done),
            Prepared::ProvideBuffers => self.provide_buffers(sqe),
            Prepared::RemoveBuffers => self.groups.remove(sqe.buf_index, sqe.fd.cast_unsigned()).map(Outcome::Done),
            Prepared::Message => self.send_message(sqe).map(Outcome::Done),
        }
    }

    /// The target that an entry names.
    pub(super) fn target(&mut self, sqe: &Sqe) -> Result<usize, i32> {
        let found = if sqe.flags & IOSQE_FIXED_FILE != 0 {
            self.files.fixed(sqe.fd.cast_unsigned())
        } else {
            self.files.descriptor(sqe.fd)
        };
        let Some(target) = found else {
            let open = sqe.flags & IOSQE_FIXED_FILE == 0 && is_open(sqe.fd);
            // A descriptor of the kernel's is served once operations are forwarded.
            return Err(if open { libc::EOPNOTSUPP } else { libc::EBADF });
        };
        match self.files.target(target).owner.health() {
            Health::Good => Ok(target),
            Health::Stopped => Err(libc::EIO),
            Health::Gone => Err(libc::ENODEV),
        }
    }

    /// `io_nop`.
    fn nop(&mut self, sqe: &Sqe) -> Result<Outcome, i32> {
        let has = |flag| sqe.op_flags & flag != 0;
        let extra = has(IORING_NOP_CQE32).then_some([sqe.off, sqe.addr]);
        if has(IORING_NOP_FILE)
            && let Err(errno) = self.check_file(sqe.fd, has(IORING_NOP_FIXED_FILE))
        {
            return Ok(Outcome::Failed(-errno, extra));
        }
        if has(IORING_NOP_FIXED_BUFFER) && !self.buffers.has(sqe.buf_index) {
            return Ok(Outcome::Failed(-libc::EFAULT, extra));
        }
        let res = if has(IORING_NOP_INJECT_RESULT) { sqe.len.cast_signed() } else { 0 };
        Ok(extra.map_or(Outcome::Done(res), |extra| Outcome::DoneBig(res, extra)))
    }

    fn fsync(&mut self, target: usize, caller: Caller) -> Result<Outcome, i32> {
        let owner = &self.files.target(target).owner;
        if !owner.info().identify.has_volatile_write_cache() {
            return Ok(Outcome::Done(0));
        }
        let queue = self.queue_of(target)?;
        let namespace = &self.files.target(target).namespace;
        self.queues[queue].flush(caller, namespace, &self.user);
        Ok(Outcome::Issued)
    }

    fn fallocate(&mut self, sqe: &Sqe, target: usize, caller: Caller) -> Result<Outcome, i32> {
        let Target { namespace, owner, .. } = self.files.target(target);
        let zeroes = check_fallocate(sqe, namespace, owner.info().max_write_zeroes_bytes.is_some())?;
        let queue = self.queue_of(target)?;
        let namespace = &self.files.target(target).namespace;
        self.queues[queue].zeroes(caller, zeroes, namespace, &self.user);
        Ok(Outcome::Issued)
    }

    pub(super) fn discard(&mut self, sqe: &Sqe, target: usize, caller: Caller) -> Result<Outcome, i32> {
        let Target { namespace, owner, .. } = self.files.target(target);
        let range = check_discard(sqe, namespace, owner.info().identify.has_dataset_management())?;
        let queue = self.queue_of(target)?;
        let namespace = &self.files.target(target).namespace;
        self.queues[queue].discard(caller, range, namespace, &self.user);
        Ok(Outcome::Issued)
    }

    fn transfer(&mut self, sqe: &Sqe, write: bool, target: usize, caller: Caller) -> Result<Outcome, i32> {
        let durable = check_rw_flags(sqe.op_flags, write, self.rules.iopoll)?;
        // These namespaces have no protection information.
        if sqe.attr_type_mask != 0 {
            return Err(libc::EINVAL);
        }
        let Target { namespace, owner, .. } = self.files.target(target);
        let total = self.segments.iter().fold(0u64, |sum, s| sum.saturating_add(s.len)).min(MAX_RW_COUNT);
        self.expected = total;
        let offset = verify_area(sqe.off, total)?;
        let (offset, len) = match clip(namespace, write, offset, total) {
            Ok(Extent::Done(res)) => return Ok(Outcome::Done(res)),
            Ok(Extent::Move { offset, len }) => (offset, len),
            Err(errno) => return Ok(Outcome::Refused(errno)),
        };
        // `write_stream` (6.16), a byte: these namespaces have none (`blkdev_direct_IO`).
        if write && sqe.file_index as u8 != 0 {
            return Ok(Outcome::Refused(libc::EINVAL));
        }
        if self.fault.is(Broken::ShortCount) && len < total {
            return Ok(Outcome::Done(total as i32));
        }
        // NVMe wants dwords; the kernel's NVMe driver announces the same (dma_alignment 3).
        if used_parts(&self.segments, len).any(|(segment, used)| (segment.address | used) & 3 != 0) {
            return Ok(Outcome::Refused(libc::EINVAL));
        }
        // Found out when the pages are taken, after everything else.
        for (segment, used) in used_parts(&self.segments, len) {
            if !self.user.plausible(segment.address, segment.len) || !self.user.is_usable(segment.address, used, !write)
            {
                return Ok(Outcome::Refused(libc::EFAULT));
            }
        }
        let fua = durable && owner.info().identify.has_volatile_write_cache();
        let queue = self.queue_of(target)?;
        self.make_hot(sqe, target, queue);
        let queue = &mut self.queues[queue];
        let namespace = &self.files.target(target).namespace;
        if !queue.accepts(&mut self.segments, namespace) {
            return Ok(Outcome::Refused(libc::EFAULT));
        }
        let transfer = Transfer { caller, write, fua, offset, len };
        queue.transfer(&transfer, namespace, &mut self.segments, &self.user);
        Ok(Outcome::Issued)
    }

    /// Lets the straight line serve the file of an entry that it could have served.
    fn make_hot(&mut self, sqe: &Sqe, target: usize, queue: usize) {
        let file = sqe.fd.cast_unsigned();
        if LineTarget::could_serve(sqe) && (self.hot, self.hot_file) != (queue, file) {
            self.hot = queue;
            self.hot_file = file;
            self.queues[queue].set_line(LineTarget::new(file, &self.files.target(target).namespace));
        }
    }

    /// Index of the queue pair for a target, made now if this is its first use.
    pub(super) fn queue_of(&mut self, target: usize) -> Result<usize, i32> {
        match self.files.target(target).queue {
            Some(queue) => Ok(queue),
            None => self.make_queue(target).map_err(|error| {
                tracing::error!(%error, "no queue pair for this device");
                error.errno()
            }),
        }
    }
}

/// Segments, with how much of each the first `len` bytes take.
fn used_parts(segments: &[Segment], len: u64) -> impl Iterator<Item = (&Segment, u64)> {
    segments.iter().scan(len, |left, segment| {
        let used = segment.len.min(*left);
        *left -= used;
        Some((segment, used))
    })
}

/// Whether the process has such a descriptor.
pub(super) fn is_open(fd: i32) -> bool {
    std::fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_ok()
}
