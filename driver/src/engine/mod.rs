//! What submission entries mean, and the state of one ring on devices.
//!
//! One pass down ([`Engine::submit`]): entries are decoded once and become commands; one doorbell a
//! batch. One pass up ([`Engine::progress`]): completions become CQEs. All work happens inside these
//! calls; between them only the device works.

pub(crate) mod buffers;
mod command;
pub(crate) mod completions;
pub(crate) mod decode;
pub(crate) mod files;
mod memory;
mod mode;
mod ranges;
mod submit;
#[cfg(test)]
mod tests;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use dmaring_dma::{DmaPool, fork};

use self::buffers::Buffers;
use self::completions::Completions;
use self::decode::{Extent, Memory, Prepared, Refusal, check_rw_flags, clip, issue, prepare};
use self::files::{Files, Target};
pub use self::mode::CompletionMode;
use self::ranges::{check_discard, check_fadvise, check_fallocate, check_sync_file_range};
use crate::abi::entry::Sqe;
use crate::abi::op::{IOSQE_FIXED_FILE, MAX_RW_COUNT};
use crate::abi::rings::RingView;
use crate::error::Error;
use crate::notify::{Notifier, Patience, Sleeper};
use crate::nvme::{Health, IoQueue, LineTarget, Namespace, Owner, QueueOptions, Segment, Transfer};
use crate::usermem::UserMemory;

/// State of a ring on devices.
#[derive(Debug)]
pub(crate) struct Engine {
    rings: RingView,
    /// First entry not yet consumed; published at the end of each `submit`.
    sq_head: u32,
    pub(crate) cq: Completions,
    queues: Vec<IoQueue>,
    /// The queue whose straight line is tried first.
    hot: usize,
    /// The file that the straight line of the hot queue serves.
    hot_file: u32,
    straight: bool,
    /// Position of the entry at hand, on a ring that is not straight.
    at: u32,
    files: Files,
    buffers: Buffers,
    user: UserMemory,
    pool: DmaPool,
    /// Segments of the entry at hand.
    segments: Vec<Segment>,
    mode: CompletionMode,
    /// Waits poll, and nobody watches the ring's descriptor.
    polls_only: bool,
    options: QueueOptions,
    notifier: Arc<Notifier>,
    sleeper: Sleeper,
    patience: Patience,
    /// An adaptive ring has taken the devices' interrupts away.
    quiet: bool,
    generation: u32,
    system_calls: u64,
    interrupts: u64,
    idle_polls: u64,
    /// The number of idle polls at which the clock is looked at.
    next_look: u64,
    /// When the devices were last looked after, on the clock of `coarse_now`.
    looked: Duration,
}

/// What became of an entry.
enum Outcome {
    /// It is finished, with this result.
    Done(i32),
    /// The device has it, or its completion has been posted.
    Issued,
}

impl Engine {
    pub(crate) fn new(
        rings: RingView,
        options: QueueOptions,
        mode: CompletionMode,
        user: UserMemory,
        notifier: Arc<Notifier>,
    ) -> Result<Self, Error> {
        Ok(Self {
            rings,
            sq_head: rings.sq_head(),
            cq: Completions::new(rings),
            queues: Vec::new(),
            hot: 0,
            hot_file: u32::MAX,
            straight: rings.is_plain(),
            at: 0,
            files: Files::default(),
            buffers: Buffers::default(),
            user,
            pool: DmaPool::new(),
            segments: Vec::with_capacity(8),
            mode,
            polls_only: !mode.sleeps(),
            options,
            notifier,
            sleeper: Sleeper::new()?,
            patience: Patience::new(),
            quiet: false,
            generation: fork::generation(),
            system_calls: 0,
            interrupts: 0,
            idle_polls: 0,
            next_look: 0,
            looked: Duration::ZERO,
        })
    }

    /// One entry, by the general path.
    fn take(&mut self, sqe: &Sqe) -> Result<Outcome, Refusal> {
        let prepared = prepare(sqe)?;
        match prepared {
            Prepared::Nop { res } => Ok(Outcome::Done(res)),
            Prepared::Fsync => {
                let target = self.target(sqe)?;
                self.fsync(sqe, target)
            }
            Prepared::SyncFileRange => {
                self.target(sqe)?;
                check_sync_file_range(sqe).map(|()| Outcome::Done(0))
            }
            Prepared::Fadvise => {
                self.target(sqe)?;
                check_fadvise(sqe).map(|()| Outcome::Done(0))
            }
            Prepared::Fallocate => {
                let target = self.target(sqe)?;
                self.fallocate(sqe, target)
            }
            Prepared::Command => self.command(sqe),
            Prepared::Transfer { write, memory } => {
                self.segments.clear();
                // Memory that cannot be is refused while preparing, a bad registered range at issue.
                if memory != Memory::Fixed {
                    self.plain_segments(sqe, memory)?;
                }
                let target = self.target(sqe)?;
                if memory == Memory::FixedVector {
                    self.buffers.check_segments(sqe.buf_index, &self.segments).map_err(issue)?;
                }
                if memory == Memory::Fixed {
                    let segment = self.buffers.segment(sqe.buf_index, sqe.addr, sqe.len.into());
                    self.segments.push(segment.ok_or(issue(libc::EFAULT))?);
                }
                self.transfer(sqe, write, target)
            }
        }
    }

    /// The program's memory that a plain or vectored entry names.
    fn plain_segments(&mut self, sqe: &Sqe, memory: Memory) -> Result<(), Refusal> {
        let fault = Refusal { errno: libc::EFAULT, ends_batch: true };
        if matches!(memory, Memory::Vector | Memory::FixedVector) {
            self.user.read_iovecs(sqe.addr, sqe.len, &mut self.segments).ok_or(fault)?;
        } else {
            let len = u64::from(sqe.len).min(MAX_RW_COUNT);
            self.segments.push(Segment { address: sqe.addr, len, delta: None });
        }
        for segment in &self.segments {
            if segment.len.cast_signed() < 0 {
                return Err(Refusal { errno: libc::EINVAL, ends_batch: true });
            }
            // The segments of a registered vector are looked at when it is issued (`io_prep_reg_iovec`).
            if memory != Memory::FixedVector && !self.user.addressable(segment.address, segment.len) {
                return Err(fault);
            }
        }
        Ok(())
    }

    /// The target that an entry names.
    fn target(&mut self, sqe: &Sqe) -> Result<usize, Refusal> {
        let found = if sqe.flags & IOSQE_FIXED_FILE != 0 {
            self.files.fixed(sqe.fd.cast_unsigned())
        } else {
            self.files.descriptor(sqe.fd)
        };
        let Some(target) = found else {
            let open = sqe.flags & IOSQE_FIXED_FILE == 0 && is_open(sqe.fd);
            // A descriptor of the kernel's is served once operations are forwarded.
            return Err(issue(if open { libc::EOPNOTSUPP } else { libc::EBADF }));
        };
        match self.files.target(target).owner.health() {
            Health::Good => Ok(target),
            Health::Stopped => Err(issue(libc::EIO)),
            Health::Gone => Err(issue(libc::ENODEV)),
        }
    }

    fn fsync(&mut self, sqe: &Sqe, target: usize) -> Result<Outcome, Refusal> {
        let owner = &self.files.target(target).owner;
        if !owner.info().identify.has_volatile_write_cache() {
            return Ok(Outcome::Done(0));
        }
        let queue = self.queue_of(target)?;
        let namespace = &self.files.target(target).namespace;
        self.queues[queue].flush(sqe.user_data, namespace, &self.user);
        Ok(Outcome::Issued)
    }

    fn fallocate(&mut self, sqe: &Sqe, target: usize) -> Result<Outcome, Refusal> {
        let Target { namespace, owner, .. } = self.files.target(target);
        let zeroes = check_fallocate(sqe, namespace, owner.info().max_write_zeroes_bytes.is_some())?;
        let queue = self.queue_of(target)?;
        let namespace = &self.files.target(target).namespace;
        self.queues[queue].zeroes(sqe.user_data, zeroes, namespace, &self.user);
        Ok(Outcome::Issued)
    }

    fn discard(&mut self, sqe: &Sqe, target: usize) -> Result<Outcome, Refusal> {
        let Target { namespace, owner, .. } = self.files.target(target);
        let range = check_discard(sqe, namespace, owner.info().identify.has_dataset_management())?;
        let queue = self.queue_of(target)?;
        let namespace = &self.files.target(target).namespace;
        self.queues[queue].discard(sqe.user_data, range, namespace, &self.user);
        Ok(Outcome::Issued)
    }

    fn transfer(&mut self, sqe: &Sqe, write: bool, target: usize) -> Result<Outcome, Refusal> {
        let durable = check_rw_flags(sqe.op_flags, write)?;
        let Target { namespace, owner, .. } = self.files.target(target);
        let total = self.segments.iter().fold(0u64, |sum, s| sum.saturating_add(s.len)).min(MAX_RW_COUNT);
        let (offset, len) = match clip(namespace, write, sqe.off, total)? {
            Extent::Done(res) => return Ok(Outcome::Done(res)),
            Extent::Move { offset, len } => (offset, len),
        };
        // NVMe wants dwords; the kernel's NVMe driver announces the same (dma_alignment 3).
        if self.segments.iter().any(|s| (s.address | s.len) & 3 != 0) {
            return Err(issue(libc::EINVAL));
        }
        // Found out when the pages are taken, after everything else.
        if self.segments.iter().any(|s| !self.user.plausible(s.address, s.len)) {
            return Err(issue(libc::EFAULT));
        }
        let fua = durable && owner.info().identify.has_volatile_write_cache();
        let queue = self.queue_of(target)?;
        self.make_hot(sqe, target, queue);
        let queue = &mut self.queues[queue];
        let namespace = &self.files.target(target).namespace;
        if !queue.accepts(&mut self.segments, namespace) {
            return Err(issue(libc::EFAULT));
        }
        let transfer = Transfer { user_data: sqe.user_data, write, fua, offset, len };
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
    fn queue_of(&mut self, target: usize) -> Result<usize, Refusal> {
        match self.files.target(target).queue {
            Some(queue) => Ok(queue),
            None => self.make_queue(target).map_err(|error| {
                tracing::error!(%error, "no queue pair for this device");
                issue(error.errno())
            }),
        }
    }

    /// Makes the ring's queue pair on the controller of a target.
    pub(crate) fn make_queue(&mut self, target: usize) -> Result<usize, Error> {
        let owner = Arc::clone(&self.files.target(target).owner);
        let mut options = self.options;
        options.interrupts |= self.notifier.is_armed();
        let mut queue = IoQueue::new(Arc::clone(&owner), options)?;
        self.give_memory(&mut queue)?;
        self.watch(&queue)?;
        self.queues.push(queue);
        let index = self.queues.len() - 1;
        self.files.set_queue(&owner, index);
        Ok(index)
    }

    /// Adds a namespace as the next fixed file. Answers the file's index.
    pub(crate) fn add_target(&mut self, owner: Arc<Owner>, namespace: Namespace) -> u32 {
        let known = self.queues.iter().position(|q| Arc::ptr_eq(q.owner(), &owner));
        self.files.add(Target { owner, namespace, queue: known })
    }

    pub(crate) fn files(&mut self) -> &mut Files {
        // The table may change: the straight line must not go by what it was.
        self.hot_file = u32::MAX;
        if let Some(queue) = self.queues.get_mut(self.hot) {
            queue.set_line(LineTarget::NONE);
        }
        &mut self.files
    }

    /// Lets the straight line serve fixed file `index` from the first entry on.
    pub(crate) fn warm(&mut self, index: u32) {
        if let Some(target) = self.files.fixed(index)
            && let Some(queue) = self.files.target(target).queue
        {
            self.hot = queue;
            self.hot_file = index;
            self.queues[queue].set_line(LineTarget::new(index, &self.files.target(target).namespace));
        }
    }

    /// Replaces the fixed files, or answers the kernel's errno.
    pub(crate) fn register_files(&mut self, fds: &[i32]) -> Result<(), i32> {
        if fds.is_empty() {
            return Err(libc::EINVAL);
        }
        if self.files.has_fixed() {
            return Err(libc::EBUSY);
        }
        self.files().replace_fixed(fds).ok_or(libc::EBADF)
    }

    /// Takes the fixed files away, or answers the kernel's errno.
    pub(crate) fn unregister_files(&mut self) -> Result<(), i32> {
        if self.files().clear_fixed() { Ok(()) } else { Err(libc::ENXIO) }
    }

    /// Whether this is the process that made the ring.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        self.generation == fork::current()
    }

    #[inline]
    pub(super) fn check_ours(&self) -> Result<(), Error> {
        if self.is_ours() { Ok(()) } else { Err(Error::Forked) }
    }

    pub(crate) fn queues(&self) -> &[IoQueue] {
        &self.queues
    }

    /// System calls, interrupts taken, and looks at the completion queue that found nothing.
    pub(crate) fn counters(&self) -> (u64, u64, u64) {
        (self.system_calls, self.interrupts, self.idle_polls)
    }
}

/// Whether the process has such a descriptor.
fn is_open(fd: i32) -> bool {
    std::fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_ok()
}
