//! A ring, whatever its entries are: what they mean to the engine or the kernel is found in ring memory.

#![expect(unsafe_code)] // makes the promise of `push` good for the engine

use std::cell::{Cell, RefCell, UnsafeCell};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;

use dmaring_dma::DmaBuf;
use io_uring::types;
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::abi::flags::{IORING_SETUP_REGISTERED_FD_ONLY, IORING_SQ_CQ_OVERFLOW};
use crate::abi::memory::RingMemory;
use crate::abi::params::Params;
use crate::abi::register::opcode::{REGISTER_RESIZE_RINGS, REGISTER_USE_REGISTERED_RING};
use crate::abi::rings::RingView;
use crate::device::Device;
use crate::engine::{CompletionMode, Engine, Fault};
use crate::error::Error;
use crate::kernel::KernelRing;
use crate::kernel::sys::EnterArgument;
use crate::notify::Notifier;
use crate::nvme::{Namespace, QueueOptions};
use crate::report::{Backend, RingStats};
use crate::usermem::UserMemory;

/// The part of a [`Ring`](crate::Ring) that does not depend on its types.
#[derive(Debug)]
pub(crate) struct Body {
    /// Changed only when the rings are resized.
    view: UnsafeCell<RingView>,
    inner: Inner,
    /// The mode of a kernel ring; a device ring's engine may change its own.
    mode: CompletionMode,
}

#[derive(Debug)]
enum Inner {
    Device(Box<DeviceRing>),
    Kernel(Box<KernelRing>),
}

/// Drop order: the engine deletes its queues on the device, then the ring memory goes, then the device.
#[derive(Debug)]
struct DeviceRing {
    engine: RefCell<Engine>,
    notifier: Arc<Notifier>,
    memory: RefCell<RingMemory>,
    params: Cell<Params>,
    /// Where it is in its thread's table of rings, if it was made for that.
    index: Option<u32>,
    /// Stand for the namespaces where a descriptor is wanted: empty files of their sizes.
    placeholders: RefCell<Vec<File>>,
    _devices: RefCell<Vec<Device>>,
}

/// What a ring on a device is to be like, beside its parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyOptions {
    pub(crate) queues: QueueOptions,
    pub(crate) mode: CompletionMode,
    pub(crate) fault: Fault,
}

impl Body {
    pub(crate) fn on_device(
        device: &Device,
        namespace: Namespace,
        params: Params,
        options: BodyOptions,
    ) -> Result<Self, Error> {
        let memory = RingMemory::new(&params).map_err(|reason| Error::Os { call: "mapping the rings", reason })?;
        let view = memory.view();
        let notifier = Arc::new(Notifier::new()?);
        let BodyOptions { queues, mode, fault } = options;
        // SAFETY: entries reach the ring through `push` only, whose callers make the promise.
        let user = unsafe { UserMemory::promised(queues.strict) };
        let mut engine = Engine::new(view, params.flags, queues, mode, user, Arc::clone(&notifier))?;
        engine.break_it(fault);
        let size_bytes = namespace.size_bytes();
        let file = engine.add_target(Arc::clone(device.owner()), namespace);
        let placeholder = placeholder(size_bytes)?;
        engine.files().name(placeholder.as_raw_fd(), file);
        // The first device's queue pair is made now: what is in its way shows here, not in a completion.
        engine.make_queue(0)?;
        engine.warm(file);
        let index = match params.flags & IORING_SETUP_REGISTERED_FD_ONLY {
            0 => None,
            _ => Some(engine.take_index().map_err(|errno| Error::SetupFlags {
                flags: params.flags,
                errno,
                what: "a thread has at most 16 rings with an index: drop one, or leave REGISTERED_FD_ONLY out",
            })?),
        };
        let inner = DeviceRing {
            engine: RefCell::new(engine),
            notifier,
            memory: RefCell::new(memory),
            params: Cell::new(params),
            index,
            placeholders: RefCell::new(vec![placeholder]),
            _devices: RefCell::new(vec![device.clone()]),
        };
        Ok(Self { view: UnsafeCell::new(view), inner: Inner::Device(Box::new(inner)), mode })
    }

    pub(crate) fn on_kernel(kernel: KernelRing, mode: CompletionMode) -> Self {
        Self { view: UnsafeCell::new(kernel.view()), inner: Inner::Kernel(Box::new(kernel)), mode }
    }

    pub(crate) fn index(&self) -> Option<u32> {
        match &self.inner {
            Inner::Device(device) => device.index,
            Inner::Kernel(_) => None,
        }
    }

    #[inline]
    pub(crate) fn submit(&self) -> io::Result<usize> {
        match &self.inner {
            Inner::Device(device) => device.engine.borrow_mut().submit(),
            Inner::Kernel(kernel) => kernel.submit_and_wait(0).map(|n| n as usize),
        }
    }

    #[inline]
    pub(crate) fn submit_and_wait(&self, want: usize) -> io::Result<usize> {
        let want = u32::try_from(want).unwrap_or(u32::MAX);
        match &self.inner {
            Inner::Device(device) => device.engine.borrow_mut().submit_and_wait(want),
            Inner::Kernel(kernel) => kernel.submit_and_wait(want).map(|n| n as usize),
        }
    }

    /// # Safety
    /// As [`Submitter::enter`](crate::Submitter::enter).
    pub(crate) unsafe fn enter(
        &self,
        to_submit: u32,
        min_complete: u32,
        flags: u32,
        argument: EnterArgument,
    ) -> io::Result<usize> {
        let entered = match &self.inner {
            Inner::Device(device) => {
                let (address, len) = argument;
                return device.engine.borrow_mut().enter(to_submit, min_complete, flags, (address as u64, len as u64));
            }
            // SAFETY: the caller's promise.
            Inner::Kernel(kernel) => unsafe { kernel.enter(to_submit, min_complete, flags, argument) },
        };
        entered.map(|submitted| submitted as usize)
    }

    /// # Safety
    /// As [`Submitter::register`](crate::Submitter::register).
    pub(crate) unsafe fn register(&self, opcode: u32, arg: *const libc::c_void, nr_args: u32) -> io::Result<u32> {
        if opcode & !REGISTER_USE_REGISTERED_RING == REGISTER_RESIZE_RINGS {
            // SAFETY: the caller's promise.
            return unsafe { self.resize(opcode, arg, nr_args) };
        }
        match &self.inner {
            // SAFETY: the caller's promise.
            Inner::Device(device) => unsafe { Ok(device.engine.borrow_mut().register(opcode, arg as u64, nr_args)?) },
            // SAFETY: the caller's promise.
            Inner::Kernel(kernel) => unsafe { kernel.register(opcode, arg, nr_args) },
        }
    }

    pub(crate) fn buffer_ring(&self, group: u16) -> Option<*mut libc::c_void> {
        match &self.inner {
            Inner::Device(device) => device.engine.borrow().buffer_ring(group).map(|address| address as *mut _),
            Inner::Kernel(_) => None,
        }
    }

    pub(crate) fn params(&self) -> Params {
        match &self.inner {
            Inner::Device(device) => device.params.get(),
            Inner::Kernel(kernel) => kernel.params(),
        }
    }

    #[inline]
    pub(crate) fn view(&self) -> &RingView {
        // SAFETY: `set_view` has no other user meanwhile.
        unsafe { &*self.view.get() }
    }

    /// The rings have moved.
    ///
    /// # Safety
    /// Nobody keeps a reference of [`view`](Self::view).
    unsafe fn set_view(&self, view: RingView) {
        // SAFETY: the caller's promise; a `Body` is not shared by threads.
        unsafe { *self.view.get() = view };
    }

    /// `IORING_REGISTER_RESIZE_RINGS`.
    ///
    /// # Safety
    /// As [`Submitter::register`](crate::Submitter::register).
    unsafe fn resize(&self, opcode: u32, arg: *const libc::c_void, nr_args: u32) -> io::Result<u32> {
        match &self.inner {
            Inner::Device(device) => {
                let mut engine = device.engine.borrow_mut();
                let params = engine.check_resize(opcode, arg as u64, nr_args)?;
                let memory = RingMemory::new(&params)?;
                engine.resize(arg as u64, &params, memory.view())?;
                // SAFETY: the caller's promise: no queue of the ring is held.
                unsafe { self.set_view(memory.view()) };
                // What was there goes now: the engine has left it.
                device.memory.replace(memory);
                device.params.set(params);
                Ok(0)
            }
            Inner::Kernel(kernel) => {
                // SAFETY: the caller's promise.
                let done = unsafe { kernel.resize(opcode, arg, nr_args) }?;
                // SAFETY: as above.
                unsafe { self.set_view(kernel.view()) };
                Ok(done)
            }
        }
    }

    #[inline(never)] // when nothing waits to be taken: nearly never after a wait
    pub(crate) fn progress(&self) {
        match &self.inner {
            Inner::Device(device) => {
                let mut engine = device.engine.borrow_mut();
                if engine.is_ours() {
                    engine.progress();
                }
            }
            Inner::Kernel(kernel) => {
                if let Err(error) = kernel.progress() {
                    tracing::debug!(%error, "entering the kernel ring");
                }
            }
        }
    }

    /// The program has given completions back: the ring's descriptor may have to change.
    #[inline]
    pub(crate) fn completions_taken(&self) {
        if let Inner::Device(device) = &self.inner {
            let overflow = || self.view().sq_flags() & IORING_SQ_CQ_OVERFLOW != 0;
            device.notifier.update(|| self.view().cq_tail() != self.view().cq_head() || overflow());
        }
    }

    pub(crate) fn alloc(&self, len: usize) -> Result<DmaBuf, Error> {
        if len == 0 || isize::try_from(len).is_err() {
            return Err(Error::Unsupported { call: "alloc", what: "a buffer has at least one byte" });
        }
        match &self.inner {
            Inner::Device(device) => device.engine.borrow_mut().alloc(len),
            Inner::Kernel(kernel) => kernel.alloc(len),
        }
    }

    pub(crate) fn backend(&self) -> Backend {
        match self.inner {
            Inner::Device(_) => Backend::Nvme,
            Inner::Kernel(_) => Backend::Kernel,
        }
    }

    pub(crate) fn completion_mode(&self) -> CompletionMode {
        match &self.inner {
            Inner::Device(device) => device.engine.borrow().mode(),
            Inner::Kernel(_) => self.mode,
        }
    }

    pub(crate) fn set_completion_mode(&self, mode: CompletionMode) -> Result<(), Error> {
        match &self.inner {
            Inner::Device(device) => device.engine.borrow_mut().set_mode(mode),
            Inner::Kernel(_) if mode == self.mode => Ok(()),
            Inner::Kernel(_) => Err(Error::Unsupported {
                call: "set_completion_mode",
                what: "a kernel ring keeps the mode it was set up with",
            }),
        }
    }

    pub(crate) fn device_fd(&self, index: usize) -> Option<RawFd> {
        match &self.inner {
            Inner::Device(device) => device.placeholders.borrow().get(index).map(AsRawFd::as_raw_fd),
            Inner::Kernel(kernel) => (index == 0).then(|| kernel.file().file.as_raw_fd()),
        }
    }

    pub(crate) fn add_device(&self, device: &Device, nsid: u32) -> Result<types::Fixed, Error> {
        let Inner::Device(inner) = &self.inner else {
            return Err(Error::Unsupported { call: "add_device", what: "the ring is on the kernel" });
        };
        let namespace = device.namespace(nsid)?.clone();
        let placeholder = placeholder(namespace.size_bytes())?;
        let mut engine = inner.engine.borrow_mut();
        let file = engine.add_target(Arc::clone(device.owner()), namespace);
        engine.files().name(placeholder.as_raw_fd(), file);
        inner.placeholders.borrow_mut().push(placeholder);
        inner._devices.borrow_mut().push(device.clone());
        Ok(types::Fixed(file))
    }

    pub(crate) fn stats(&self) -> RingStats {
        match &self.inner {
            Inner::Kernel(kernel) => {
                let (system_calls, commands) = kernel.counters();
                RingStats { system_calls, commands, ..RingStats::default() }
            }
            Inner::Device(device) => {
                let engine = device.engine.borrow();
                let (system_calls, interrupts, idle_polls) = engine.counters();
                let poll_limit_ns = engine.poll_limit().as_nanos() as u64;
                let mut stats =
                    RingStats { system_calls, interrupts, idle_polls, poll_limit_ns, ..RingStats::default() };
                for queue in engine.queues() {
                    let of_queue = queue.stats();
                    stats.bounced_bytes += of_queue.bounced_bytes;
                    stats.commands += of_queue.commands;
                    stats.sq_doorbells += of_queue.sq_doorbells;
                    stats.cq_doorbells += of_queue.cq_doorbells;
                    stats.saved_doorbells += of_queue.saved_doorbells;
                    stats.stale_completions += of_queue.stale;
                    stats.locked_bytes += queue.locked_bytes() as u64;
                }
                stats
            }
        }
    }

    pub(crate) fn ring_memory(&self) -> Option<[(NonNull<u8>, usize); 2]> {
        match &self.inner {
            Inner::Device(device) => Some(device.memory.borrow().parts()),
            Inner::Kernel(_) => None,
        }
    }

    pub(crate) fn ring_bytes(&self) -> usize {
        match &self.inner {
            Inner::Device(device) => device.memory.borrow().len_bytes(),
            Inner::Kernel(kernel) => kernel.ring_bytes(),
        }
    }

    /// # Safety
    /// As [`Submitter::register_buffers`].
    pub(crate) unsafe fn register_buffers(&self, buffers: &[libc::iovec]) -> io::Result<()> {
        match &self.inner {
            // SAFETY: the caller's promise.
            Inner::Device(device) => Ok(unsafe { device.engine.borrow_mut().register_buffers(buffers, &[]) }?),
            // SAFETY: the caller's promise.
            Inner::Kernel(kernel) => unsafe { kernel.register_buffers(buffers) },
        }
    }

    pub(crate) fn unregister_buffers(&self) -> io::Result<()> {
        match &self.inner {
            Inner::Device(device) => Ok(device.engine.borrow_mut().unregister_buffers()?),
            Inner::Kernel(kernel) => kernel.unregister_buffers(),
        }
    }

    pub(crate) fn register_files(&self, fds: &[RawFd]) -> io::Result<()> {
        match &self.inner {
            Inner::Device(device) => {
                device.engine.borrow_mut().register_files(fds, &[]).map_err(io::Error::from_raw_os_error)
            }
            Inner::Kernel(kernel) => kernel.register_files(fds),
        }
    }

    pub(crate) fn unregister_files(&self) -> io::Result<()> {
        match &self.inner {
            Inner::Device(device) => {
                device.engine.borrow_mut().unregister_files().map_err(io::Error::from_raw_os_error)
            }
            Inner::Kernel(kernel) => kernel.unregister_files(),
        }
    }
}

fn placeholder(size_bytes: u64) -> Result<File, Error> {
    let failed = |reason| Error::Os { call: "a descriptor for the namespace", reason };
    let fd = memfd_create(c"dmaring-namespace", MFdFlags::MFD_CLOEXEC).map_err(|e| failed(e.into()))?;
    let file = File::from(fd);
    file.set_len(size_bytes).map_err(failed)?;
    Ok(file)
}

impl AsFd for Body {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.inner {
            Inner::Kernel(kernel) => kernel.as_fd(),
            Inner::Device(device) => {
                if !device.notifier.is_armed() {
                    device.engine.borrow_mut().arm();
                }
                device.notifier.as_fd()
            }
        }
    }
}
