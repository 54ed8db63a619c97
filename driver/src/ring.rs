//! The ring.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::PathBuf;
use std::ptr::NonNull;

use dmaring_dma::DmaBuf;
use dmaring_dma::pci::PciAddress;
use dmaring_dma::sysfs::Sysfs;
use io_uring::{cqueue, squeue, types};

use crate::abi::params::Params;
use crate::body::{Body, BodyOptions};
use crate::builder::RingBuilder;
use crate::device::Device;
use crate::engine::CompletionMode;
use crate::error::Error;
use crate::face::{CompletionQueue, SubmissionQueue, Submitter};
use crate::kernel::KernelRing;
use crate::nvme::Namespace;
use crate::report::{Backend, FallbackReason, RingStats, TargetInfo};

/// An io_uring ring on an NVMe device, or on the kernel.
///
/// Made by [`Ring::builder`]. It can be sent to another thread but not shared by two: every method that
/// makes progress works on the one engine inside.
///
/// `S` and `C` are the types of its entries, as those of the io-uring crate's `IoUring`. Larger ones are for
/// NVMe commands ([`RingBuilder::sqe128`], [`RingBuilder::cqe32`]); the fastest path of a device is for the
/// ordinary ones.
#[derive(Debug)]
pub struct Ring<S = squeue::Entry, C = cqueue::Entry>
where
    S: squeue::EntryMarker,
    C: cqueue::EntryMarker,
{
    body: Body,
    target: TargetInfo,
    fallback: Option<FallbackReason>,
    _entries: PhantomData<fn(S) -> C>,
}

impl Ring {
    /// Options for a ring of `entries` submission entries: 1 to 32,768, rounded up to a power of two.
    #[must_use]
    pub fn builder(entries: u32) -> RingBuilder {
        RingBuilder::new(entries)
    }
}

impl<S: squeue::EntryMarker, C: cqueue::EntryMarker> Ring<S, C> {
    pub(crate) fn on_device(
        device: &Device,
        namespace: Namespace,
        params: Params,
        options: BodyOptions,
    ) -> Result<Self, Error> {
        let target = target_info(device, &namespace);
        let body = Body::on_device(device, namespace, params, options)?;
        Ok(Self { body, target, fallback: None, _entries: PhantomData })
    }

    pub(crate) fn on_kernel(
        kernel: KernelRing,
        name: &str,
        mode: CompletionMode,
        fallback: Option<FallbackReason>,
    ) -> Self {
        let info = kernel.file().info.clone();
        let target = TargetInfo {
            name: name.to_owned(),
            size_bytes: info.size_bytes,
            block_bytes: info.block_bytes,
            read_only: info.read_only,
            regular_file: info.regular_file,
            direct: info.direct,
        };
        Self { body: Body::on_kernel(kernel, mode), target, fallback, _entries: PhantomData }
    }

    /// Where the ring is in the table of rings of the thread that made it, if it was made with
    /// `IORING_SETUP_REGISTERED_FD_ONLY` (6.5): 0 to 15. Entering it needs `IORING_ENTER_REGISTERED_RING` then only
    /// of those who enter it by that index; this library has it by its descriptor all the same.
    #[must_use]
    pub fn index(&self) -> Option<u32> {
        self.body.index()
    }

    /// The submission queue.
    #[inline]
    pub fn submission(&mut self) -> SubmissionQueue<'_, S> {
        SubmissionQueue::new(self.body.view())
    }

    /// The completion queue. Lets the ring advance first, unless completions are waiting to be taken.
    #[inline]
    pub fn completion(&mut self) -> CompletionQueue<'_, C> {
        let view = self.body.view();
        let (head, mut tail) = (view.cq_head(), view.cq_tail());
        if head == tail {
            self.body.progress();
            tail = view.cq_tail();
        }
        CompletionQueue::new(&self.body, head, tail)
    }

    /// The control plane.
    #[inline]
    pub fn submitter(&self) -> Submitter<'_> {
        Submitter::new(&self.body)
    }

    /// All three faces at once. The completion queue advances with its `sync`.
    pub fn split(&mut self) -> (Submitter<'_>, SubmissionQueue<'_, S>, CompletionQueue<'_, C>) {
        let view = self.body.view();
        let (head, tail) = (view.cq_head(), view.cq_tail());
        (
            Submitter::new(&self.body),
            SubmissionQueue::new(self.body.view()),
            CompletionQueue::new(&self.body, head, tail),
        )
    }

    /// Submits everything pushed. Answers how many entries were consumed: with the first that is refused
    /// while it is prepared the batch ends, as in the kernel; the rest stays in the ring.
    ///
    /// # Errors
    /// [`Error::Forked`] in a child of the process that made the ring; a kernel ring's errors.
    #[inline]
    pub fn submit(&self) -> io::Result<usize> {
        self.body.submit()
    }

    /// Submits everything pushed and waits until `want` completions are in the ring, or as many as can
    /// still come.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    #[inline]
    pub fn submit_and_wait(&self, want: usize) -> io::Result<usize> {
        self.body.submit_and_wait(want)
    }

    /// A buffer that the ring's devices reach in place, of at least one byte, aligned to its size up to a
    /// page. It goes back to the ring's pool when it is dropped, and to its next user only when nothing
    /// is in flight that might still use it.
    ///
    /// # Errors
    /// Memory, and the limit of locked memory.
    pub fn alloc(&self, len: usize) -> Result<DmaBuf, Error> {
        self.body.alloc(len)
    }

    /// Who serves the ring.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.body.backend()
    }

    /// Why the kernel serves it though a device was asked for.
    #[must_use]
    pub fn fallback_reason(&self) -> Option<&FallbackReason> {
        self.fallback.as_ref()
    }

    /// How completions are awaited now.
    #[must_use]
    pub fn completion_mode(&self) -> CompletionMode {
        self.body.completion_mode()
    }

    /// Changes how completions are awaited, from the next wait on. For all queue pairs of the ring, or on an
    /// error for none.
    ///
    /// # Errors
    /// [`Error::NoVector`](crate::Error) and others when a device's interrupts cannot be had;
    /// [`Error::Unsupported`] on a kernel ring, whose mode is chosen when it is set up.
    pub fn set_completion_mode(&self, mode: CompletionMode) -> Result<(), Error> {
        self.body.set_completion_mode(mode)
    }

    /// What the ring was opened on.
    #[must_use]
    pub fn target(&self) -> &TargetInfo {
        &self.target
    }

    /// The descriptor that stands for fixed file `index` of those opened by the ring, for operations
    /// without `FIXED_FILE` and for [`Submitter::register_files`]. On a device ring it is an empty file of
    /// the namespace's size, good for naming and for `fstat`, not for the kernel's own I/O.
    #[must_use]
    pub fn device_fd(&self, index: usize) -> Option<RawFd> {
        self.body.device_fd(index)
    }

    /// Adds a namespace of a device, the same or another, as the next fixed file. Its queue pair is made
    /// with the first operation on it.
    ///
    /// # Errors
    /// [`Error::NoNamespace`], [`Error::Namespace`]; [`Error::Unsupported`] on a kernel ring.
    pub fn add_device(&self, device: &Device, nsid: u32) -> Result<types::Fixed, Error> {
        self.body.add_device(device, nsid)
    }

    /// What the ring has done since it was made.
    #[must_use]
    pub fn stats(&self) -> RingStats {
        self.body.stats()
    }

    /// What the set-up answered: sizes, offsets, flags and features, as `io_uring_setup(2)`.
    #[must_use]
    pub fn params(&self) -> Params {
        self.body.params()
    }

    /// Where both rings and where the submission entries of a device ring stand, with their lengths: what a
    /// program maps from the descriptor of a kernel ring. Its words are atomics; for programs that misuse them.
    #[doc(hidden)]
    #[must_use]
    pub fn ring_memory(&self) -> Option<[(NonNull<u8>, usize); 2]> {
        self.body.ring_memory()
    }

    /// Memory of both rings and the submission entries, in bytes.
    #[must_use]
    pub fn ring_bytes(&self) -> usize {
        self.body.ring_bytes()
    }
}

fn target_info(device: &Device, namespace: &Namespace) -> TargetInfo {
    let device = device.name();
    TargetInfo {
        name: if namespace.nsid == 1 { device } else { format!("{device}/{}", namespace.nsid) },
        size_bytes: namespace.size_bytes(),
        block_bytes: namespace.block_bytes(),
        read_only: namespace.read_only,
        regular_file: false,
        direct: true,
    }
}

/// The kernel's block device for a namespace, when the kernel's driver has the controller.
pub(crate) fn block_device(address: PciAddress, nsid: u32) -> Option<PathBuf> {
    let function = Sysfs::new().function(address).ok()?;
    let device = function.block_devices.iter().find(|b| b.nsid == Some(nsid))?;
    Some(PathBuf::from("/dev").join(&device.name))
}

impl<S: squeue::EntryMarker, C: cqueue::EntryMarker> AsFd for Ring<S, C> {
    /// A descriptor that is readable whenever the completion queue is, or may be, non-empty. Asking for
    /// it arms the devices' interrupts; a queue for which none can be had leaves it always readable.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.body.as_fd()
    }
}

impl<S: squeue::EntryMarker, C: cqueue::EntryMarker> AsRawFd for Ring<S, C> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
