//! The faces of a ring: the same three as the io-uring crate's.

#![expect(unsafe_code)] // passes on the promise of `push` and of registered memory

use std::io;
use std::os::fd::RawFd;

use io_uring::{cqueue, squeue};

use crate::abi::flags::{IORING_CQ_EVENTFD_DISABLED, IORING_SQ_CQ_OVERFLOW, IORING_SQ_TASKRUN};
use crate::abi::rings::RingView;
use crate::abi::slots::{Cqes, Sqes};
use crate::body::Body;

/// The submission queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("submission queue is full")]
pub struct PushError;

/// The program's side of the submission ring. Entries are published when it is dropped or
/// [`sync`](Self::sync)ed.
#[derive(Debug)]
pub struct SubmissionQueue<'a, E: squeue::EntryMarker = squeue::Entry> {
    view: &'a RingView,
    entries: Sqes<E>,
    tail: u32,
    /// The tail at which the ring is full.
    full: u32,
}

impl<'a, E: squeue::EntryMarker> SubmissionQueue<'a, E> {
    #[inline]
    pub(crate) fn new(view: &'a RingView) -> Self {
        Self { view, entries: view.sqes(), tail: view.sq_tail(), full: view.sq_head().wrapping_add(view.sq_entries()) }
    }

    /// Publishes the pushed entries and learns which have been consumed.
    #[inline]
    pub fn sync(&mut self) {
        self.view.set_sq_tail(self.tail);
        self.full = self.view.sq_head().wrapping_add(self.view.sq_entries());
    }

    /// Entries of the ring.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.view.sq_entries() as usize
    }

    /// Entries pushed and not yet consumed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.capacity() - self.full.wrapping_sub(self.tail) as usize
    }

    /// Whether everything has been consumed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether no entry can be pushed.
    #[must_use]
    #[inline]
    pub fn is_full(&self) -> bool {
        self.tail == self.full
    }

    /// Entries dropped because the index array named one that does not exist.
    #[must_use]
    pub fn dropped(&self) -> u32 {
        self.view.sq_dropped()
    }

    /// Whether completions wait outside the completion ring for room.
    #[must_use]
    pub fn cq_overflow(&self) -> bool {
        self.view.sq_flags() & IORING_SQ_CQ_OVERFLOW != 0
    }

    /// Whether entering the ring would make progress.
    #[must_use]
    pub fn taskrun(&self) -> bool {
        self.view.sq_flags() & IORING_SQ_TASKRUN != 0
    }

    /// Pushes an entry.
    ///
    /// # Safety
    /// Everything the entry names (buffers, iovecs) is valid from the submission until the completion,
    /// and memory that the operation writes is not otherwise used meanwhile.
    ///
    /// # Errors
    /// [`PushError`] when the ring is full.
    #[inline]
    pub unsafe fn push(&mut self, entry: &E) -> Result<(), PushError> {
        if self.is_full() {
            return Err(PushError);
        }
        self.entries.write(self.tail, entry);
        self.tail = self.tail.wrapping_add(1);
        Ok(())
    }

    /// Pushes all of `entries`, or none.
    ///
    /// # Safety
    /// As [`push`](Self::push), for each.
    ///
    /// # Errors
    /// [`PushError`] when they do not all fit.
    pub unsafe fn push_multiple(&mut self, entries: &[E]) -> Result<(), PushError> {
        if self.capacity() - self.len() < entries.len() {
            return Err(PushError);
        }
        for entry in entries {
            self.entries.write(self.tail, entry);
            self.tail = self.tail.wrapping_add(1);
        }
        Ok(())
    }
}

impl<E: squeue::EntryMarker> Drop for SubmissionQueue<'_, E> {
    #[inline]
    fn drop(&mut self) {
        self.view.set_sq_tail(self.tail);
    }
}

/// The program's side of the completion ring. Taken entries are given back when it is dropped or
/// [`sync`](Self::sync)ed.
#[derive(Debug)]
pub struct CompletionQueue<'a, E: cqueue::EntryMarker = cqueue::Entry> {
    ring: &'a Body,
    entries: Cqes<E>,
    head: u32,
    tail: u32,
}

impl<'a, E: cqueue::EntryMarker> CompletionQueue<'a, E> {
    #[inline]
    pub(crate) fn new(ring: &'a Body, head: u32, tail: u32) -> Self {
        Self { ring, entries: ring.view().cqes(), head, tail }
    }

    /// Gives back what was taken, lets the ring advance, and learns what has arrived.
    pub fn sync(&mut self) {
        self.ring.view().set_cq_head(self.head);
        self.ring.progress();
        self.tail = self.ring.view().cq_tail();
    }

    /// Entries of the ring.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ring.view().cq_entries() as usize
    }

    /// Completions that can be taken now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tail.wrapping_sub(self.head) as usize
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the ring is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() == self.capacity()
    }

    /// Whether the registered eventfd is left alone (`IORING_CQ_EVENTFD_DISABLED`).
    #[must_use]
    pub fn eventfd_disabled(&self) -> bool {
        self.ring.view().cq_flags() & IORING_CQ_EVENTFD_DISABLED != 0
    }

    /// Leaves the registered eventfd alone, or signals it again.
    pub fn set_eventfd_disabled(&mut self, yes: bool) {
        self.ring.view().set_cq_flags(if yes { IORING_CQ_EVENTFD_DISABLED } else { 0 });
    }

    /// Completions lost for want of room: always 0, they wait instead.
    #[must_use]
    pub fn overflow(&self) -> u32 {
        self.ring.view().cq_overflow()
    }
}

impl<E: cqueue::EntryMarker> Iterator for CompletionQueue<'_, E> {
    type Item = E;

    #[inline]
    fn next(&mut self) -> Option<E> {
        if self.head == self.tail {
            return None;
        }
        let cqe = self.entries.read(self.head);
        self.head = self.head.wrapping_add(1);
        Some(cqe)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl<E: cqueue::EntryMarker> ExactSizeIterator for CompletionQueue<'_, E> {}

impl<E: cqueue::EntryMarker> Drop for CompletionQueue<'_, E> {
    #[inline]
    fn drop(&mut self) {
        self.ring.view().set_cq_head(self.head);
        self.ring.completions_taken();
    }
}

/// The control plane of a ring.
#[derive(Debug)]
pub struct Submitter<'a> {
    ring: &'a Body,
}

impl<'a> Submitter<'a> {
    pub(crate) fn new(ring: &'a Body) -> Self {
        Self { ring }
    }

    /// As [`Ring::submit`](crate::Ring::submit).
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn submit(&self) -> io::Result<usize> {
        self.ring.submit()
    }

    /// As [`Ring::submit_and_wait`](crate::Ring::submit_and_wait).
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn submit_and_wait(&self, want: usize) -> io::Result<usize> {
        self.ring.submit_and_wait(want)
    }

    /// `io_uring_enter(2)`, for all that the other calls do not say: how many entries are submitted, flags
    /// (`IORING_ENTER_*`), and an argument: a signal mask, or with `EXT_ARG` a `struct io_uring_getevents_arg`.
    ///
    /// # Safety
    /// The argument is what `flags` say, and memory that it names is valid.
    ///
    /// # Errors
    /// The kernel's, on a device ring as well.
    pub unsafe fn enter<T>(
        &self,
        to_submit: u32,
        min_complete: u32,
        flags: u32,
        argument: Option<&T>,
    ) -> io::Result<usize> {
        let address = argument.map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the caller's promise.
        unsafe { self.ring.enter(to_submit, min_complete, flags, (address.cast(), size_of::<T>())) }
    }

    /// `io_uring_register(2)`: `opcode` is one of `enum io_uring_register_op`.
    ///
    /// # Safety
    /// `arg` and `nr_args` are what `opcode` takes; memory that is handed over stays valid until it is
    /// unregistered or the ring is dropped. No [`SubmissionQueue`] or [`CompletionQueue`] of the ring exists
    /// when the rings are resized ([`REGISTER_RESIZE_RINGS`](crate::abi::register::opcode)).
    ///
    /// # Errors
    /// The kernel's, on a device ring as well.
    pub unsafe fn register(&self, opcode: u32, arg: *const libc::c_void, nr_args: u32) -> io::Result<u32> {
        // SAFETY: the caller's promise.
        unsafe { self.ring.register(opcode, arg, nr_args) }
    }

    /// Where the buffer ring of `group` is that was registered with `IOU_PBUF_RING_MMAP`: what a program maps
    /// from the descriptor of a kernel ring (at `IORING_OFF_PBUF_RING`), a device ring has in the program's
    /// memory already. It goes when the group is unregistered. `None` for other groups, and on a kernel ring.
    #[must_use]
    pub fn buffer_ring(&self, group: u16) -> Option<*mut libc::c_void> {
        self.ring.buffer_ring(group)
    }

    /// Registers buffers for `READ_FIXED` and `WRITE_FIXED`: they are mapped for the device and used in
    /// place, also when a plain operation names memory inside them. At most 16,384, each of 1 GiB at
    /// most; an iovec of null and 0 leaves a hole.
    ///
    /// # Safety
    /// The memory stays mapped in this process until it is unregistered or the ring is dropped.
    ///
    /// # Errors
    /// `EBUSY` when buffers are registered already, `EINVAL` and `EFAULT` for bad arguments, and
    /// [`DmaError::LockedMemory`](crate::DmaError) as the source of an `OutOfMemory`.
    pub unsafe fn register_buffers(&self, buffers: &[libc::iovec]) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.ring.register_buffers(buffers) }
    }

    /// Takes the registered buffers away, after what is in flight has completed.
    ///
    /// # Errors
    /// `ENXIO` when none are registered.
    pub fn unregister_buffers(&self) -> io::Result<()> {
        self.ring.unregister_buffers()
    }

    /// Replaces the fixed files. On a device ring each descriptor is one of [`Ring::device_fd`](crate::Ring::device_fd); -1
    /// leaves a hole.
    ///
    /// # Errors
    /// `EBUSY` when files are registered (unregister them first), `EBADF` when a descriptor names nothing
    /// that the ring can serve.
    pub fn register_files(&self, fds: &[RawFd]) -> io::Result<()> {
        self.ring.register_files(fds)
    }

    /// Takes the fixed files away.
    ///
    /// # Errors
    /// `ENXIO` when none are registered.
    pub fn unregister_files(&self) -> io::Result<()> {
        self.ring.unregister_files()
    }
}
