//! A kernel ring: its descriptor, its memory, the file it was opened on.

#![expect(unsafe_code)] // owns the calls that let the kernel consume the program's entries

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use dmaring_dma::{DmaBuf, DmaPool};

use super::path::KernelFile;
use super::sys;
use crate::abi::flags::{
    IORING_ENTER_GETEVENTS, IORING_SETUP_IOPOLL, IORING_SETUP_NO_SQARRAY, IORING_SQ_CQ_OVERFLOW, IORING_SQ_TASKRUN,
};
use crate::abi::memory::RingMemory;
use crate::abi::params::Params;
use crate::abi::rings::RingView;
use crate::error::Error;

/// Register opcodes (`enum io_uring_register_op`).
const REGISTER_BUFFERS: u32 = 0;
const UNREGISTER_BUFFERS: u32 = 1;
const REGISTER_FILES: u32 = 2;
const UNREGISTER_FILES: u32 = 3;

#[derive(Debug)]
pub(crate) struct KernelRing {
    ring: OwnedFd,
    memory: RefCell<RingMemory>,
    /// What the set-up answered.
    params: Cell<Params>,
    iopoll: bool,
    file: KernelFile,
    pool: DmaPool,
    system_calls: Cell<u64>,
    submitted: Cell<u64>,
}

impl KernelRing {
    pub(crate) fn new(file: KernelFile, entries: u32, params: Params) -> Result<Self, Error> {
        let mut answered = params;
        let ring = match sys::setup(entries, &mut answered) {
            // Kernels before 6.6 have no rings without an index array.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) && params.flags & IORING_SETUP_NO_SQARRAY != 0 => {
                answered = Params { flags: params.flags & !IORING_SETUP_NO_SQARRAY, ..params };
                sys::setup(entries, &mut answered)
            }
            result => result,
        };
        let ring = ring.map_err(|reason| Error::KernelRing { reason })?;
        let memory = RingMemory::of_kernel(ring.as_fd(), &answered).map_err(|reason| Error::KernelRing { reason })?;
        let iopoll = answered.flags & IORING_SETUP_IOPOLL != 0;
        let pool = DmaPool::new();
        let counter = || Cell::new(0);
        let this = Self {
            ring,
            memory: RefCell::new(memory),
            params: Cell::new(answered),
            iopoll,
            file,
            pool,
            system_calls: counter(),
            submitted: counter(),
        };
        this.register_files(&[this.file.file.as_raw_fd()])
            .map_err(|reason| Error::Os { call: "registering the file", reason })?;
        this.system_calls.set(0);
        Ok(this)
    }

    pub(crate) fn view(&self) -> RingView {
        self.memory.borrow().view()
    }

    pub(crate) fn params(&self) -> Params {
        self.params.get()
    }

    /// `IORING_REGISTER_RESIZE_RINGS`: the kernel's rings are mapped anew.
    ///
    /// # Safety
    /// As [`register`](Self::register).
    pub(crate) unsafe fn resize(&self, opcode: u32, arg: *const libc::c_void, count: u32) -> io::Result<u32> {
        // SAFETY: passed on from the caller.
        let done = unsafe { self.register(opcode, arg, count) }?;
        // SAFETY: the kernel has read and written a `struct io_uring_params` there.
        let answered = unsafe { arg.cast::<Params>().read_unaligned() };
        let flags = answered.flags | self.params.get().flags;
        let answered = Params { flags, ..answered };
        self.memory.replace(RingMemory::of_kernel(self.ring.as_fd(), &answered)?);
        self.params.set(answered);
        Ok(done)
    }

    pub(crate) fn file(&self) -> &KernelFile {
        &self.file
    }

    pub(crate) fn ring_bytes(&self) -> usize {
        self.memory.borrow().len_bytes()
    }

    /// System calls made since the ring was set up, and entries submitted.
    pub(crate) fn counters(&self) -> (u64, u64) {
        (self.system_calls.get(), self.submitted.get())
    }

    /// Hands the new entries to the kernel and waits for `want` completions.
    pub(crate) fn submit_and_wait(&self, want: u32) -> io::Result<u32> {
        let view = self.view();
        let new = view.sq_tail().wrapping_sub(view.sq_head());
        let overflow = view.sq_flags() & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN) != 0;
        if new == 0 && want == 0 && !overflow {
            return Ok(0);
        }
        let flags = if want > 0 || overflow { IORING_ENTER_GETEVENTS } else { 0 };
        // SAFETY: there is no argument.
        unsafe { self.enter(new, want, flags, sys::NO_ARGUMENT) }
    }

    /// `io_uring_enter(2)`.
    ///
    /// # Safety
    /// The argument is what `flags` say.
    pub(crate) unsafe fn enter(
        &self,
        to_submit: u32,
        want: u32,
        flags: u32,
        argument: sys::EnterArgument,
    ) -> io::Result<u32> {
        self.system_calls.set(self.system_calls.get() + 1);
        // SAFETY: the program promised the entries when it pushed them, and the argument.
        let submitted = unsafe { sys::enter(self.ring.as_fd(), to_submit, want, flags, argument) }?;
        self.submitted.set(self.submitted.get() + u64::from(submitted));
        Ok(submitted)
    }

    /// Enters when the kernel says that it has completions which are not in the ring yet, or when only
    /// entering finds them (IOPOLL).
    pub(crate) fn progress(&self) -> io::Result<()> {
        let view = self.view();
        let waiting = view.sq_flags() & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN) != 0;
        let empty = view.cq_tail() == view.cq_head();
        if waiting || (self.iopoll && empty && self.in_flight()) {
            // SAFETY: there is no argument.
            unsafe { self.enter(0, 0, IORING_ENTER_GETEVENTS, sys::NO_ARGUMENT) }?;
        }
        Ok(())
    }

    fn in_flight(&self) -> bool {
        self.submitted.get() as u32 != self.view().cq_tail()
    }

    pub(crate) fn alloc(&self, len: usize) -> Result<DmaBuf, Error> {
        // Direct I/O pins the pages it moves, but their next user must not share them.
        if !self.in_flight() {
            self.pool.reclaim();
        }
        if let Some(buffer) = self.pool.try_alloc(len) {
            return Ok(buffer);
        }
        self.pool.grow(len)?;
        let buffer = self.pool.try_alloc(len);
        buffer.ok_or(Error::Unsupported { call: "alloc", what: "no buffer of that length is possible" })
    }

    /// # Safety
    /// The memory stays valid until it is unregistered or the ring is dropped.
    pub(crate) unsafe fn register_buffers(&self, iovecs: &[libc::iovec]) -> io::Result<()> {
        // SAFETY: an array of that many iovecs; the memory is the caller's promise.
        unsafe { self.register_array(REGISTER_BUFFERS, iovecs) }
    }

    pub(crate) fn unregister_buffers(&self) -> io::Result<()> {
        // SAFETY: takes no argument.
        unsafe { self.register(UNREGISTER_BUFFERS, std::ptr::null(), 0) }.map(drop)
    }

    pub(crate) fn register_files(&self, fds: &[RawFd]) -> io::Result<()> {
        // SAFETY: an array of that many descriptors.
        unsafe { self.register_array(REGISTER_FILES, fds) }
    }

    pub(crate) fn unregister_files(&self) -> io::Result<()> {
        // SAFETY: takes no argument.
        unsafe { self.register(UNREGISTER_FILES, std::ptr::null(), 0) }.map(drop)
    }

    /// `io_uring_register(2)`.
    ///
    /// # Safety
    /// As [`sys::register`].
    pub(crate) unsafe fn register(&self, opcode: u32, arg: *const libc::c_void, count: u32) -> io::Result<u32> {
        self.system_calls.set(self.system_calls.get() + 1);
        // SAFETY: passed on from the caller.
        unsafe { sys::register(self.ring.as_fd(), opcode, arg, count) }
    }

    /// # Safety
    /// As [`sys::register`], of an array of `items`.
    unsafe fn register_array<T>(&self, opcode: u32, items: &[T]) -> io::Result<()> {
        let count = u32::try_from(items.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: passed on from the caller.
        unsafe { self.register(opcode, items.as_ptr().cast(), count) }.map(drop)
    }
}

impl AsFd for KernelRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
