//! How a ring is made.

#![expect(unsafe_code)] // takes the promise of memory for the rings

use std::marker::PhantomData;

use io_uring::{cqueue, squeue};

use crate::abi::flags::{
    IORING_SETUP_CQSIZE, IORING_SETUP_IOPOLL, IORING_SETUP_NO_MMAP, IORING_SETUP_NO_SQARRAY,
    IORING_SETUP_REGISTERED_FD_ONLY, IORING_SETUP_SQ_AFF, IORING_SETUP_SQPOLL,
};
use crate::abi::params::{CqRingOffsets, Params, SqRingOffsets, UNSERVED_SETUP_FLAGS, check_setup_flags};
use crate::body::BodyOptions;
use crate::device::{Device, DeviceName};
use crate::engine::{CompletionMode, Fault};
use crate::error::Error;
use crate::kernel::{KernelFile, KernelRing};
use crate::nvme::QueueOptions;
use crate::options::DeviceOptions;
use crate::report::FallbackReason;
use crate::ring::Ring;

/// Bounce memory of each queue pair unless told otherwise, in bytes.
const BOUNCE_BYTES: usize = 2 << 20;

/// Options of a ring. Made by [`Ring::builder`].
#[derive(Debug)]
pub struct RingBuilder<S = squeue::Entry, C = cqueue::Entry>
where
    S: squeue::EntryMarker,
    C: cqueue::EntryMarker,
{
    entries: u32,
    cq_entries: Option<u32>,
    completion: CompletionMode,
    fallback: bool,
    sq_array: bool,
    bounce_bytes: usize,
    admin_commands: bool,
    setup_flags: u32,
    strict: bool,
    /// Addresses of memory for both rings, and for the submission entries.
    memory: Option<(usize, usize)>,
    fault: Fault,
    _entries: PhantomData<fn(S) -> C>,
}

impl RingBuilder {
    pub(crate) fn new(entries: u32) -> Self {
        Self {
            entries,
            cq_entries: None,
            completion: CompletionMode::default(),
            fallback: false,
            sq_array: false,
            bounce_bytes: BOUNCE_BYTES,
            admin_commands: false,
            setup_flags: 0,
            strict: false,
            memory: None,
            fault: Fault::default(),
            _entries: PhantomData,
        }
    }
}

impl<S: squeue::EntryMarker, C: cqueue::EntryMarker> RingBuilder<S, C> {
    /// The same options for a ring of other entries.
    fn with_entries<T: squeue::EntryMarker, D: cqueue::EntryMarker>(self) -> RingBuilder<T, D> {
        RingBuilder {
            entries: self.entries,
            cq_entries: self.cq_entries,
            completion: self.completion,
            fallback: self.fallback,
            sq_array: self.sq_array,
            bounce_bytes: self.bounce_bytes,
            admin_commands: self.admin_commands,
            setup_flags: self.setup_flags,
            strict: self.strict,
            memory: self.memory,
            fault: self.fault,
            _entries: PhantomData,
        }
    }

    /// Submission entries of 128 bytes, as NVMe commands need. Every other operation takes them as well
    /// (`Entry128::from`). On a device all entries go by the general path then. Kernel:
    /// `IORING_SETUP_SQE128` (5.19).
    #[must_use]
    pub fn sqe128(self) -> RingBuilder<squeue::Entry128, C> {
        self.with_entries()
    }

    /// Completion entries of 32 bytes: the second half is zeroes but for what an NVMe command answers. On a
    /// device all entries go by the general path then. Kernel: `IORING_SETUP_CQE32` (5.19).
    #[must_use]
    pub fn cqe32(self) -> RingBuilder<S, cqueue::Entry32> {
        self.with_entries()
    }

    /// How completions are awaited. Default: [`CompletionMode::Poll`]. On a kernel ring, `Poll` is
    /// `IORING_SETUP_IOPOLL` (5.1), which needs a device with poll queues; the others are the ordinary
    /// mode. [`Ring::set_completion_mode`] changes it later.
    #[must_use]
    pub fn completion(mut self, mode: CompletionMode) -> Self {
        self.completion = mode;
        self
    }

    /// Entries of the completion ring: at least those of the submission ring, rounded up to a power of
    /// two, at most 65,536. Default: twice the submission ring. Kernel: `IORING_SETUP_CQSIZE` (5.5).
    #[must_use]
    pub fn cq_entries(mut self, entries: u32) -> Self {
        self.cq_entries = Some(entries);
        self
    }

    /// Whether a `pci:` device that cannot be had is replaced by a kernel ring on its block device, if
    /// the kernel's driver has it; completion is the ordinary mode then. Default: false. [`Ring::fallback_reason`] says why it happened.
    #[must_use]
    pub fn fallback(mut self, yes: bool) -> Self {
        self.fallback = yes;
        self
    }

    /// Whether the submission ring has the index array of kernels before 6.6. Default: false
    /// (`IORING_SETUP_NO_SQARRAY`), which is faster.
    #[must_use]
    pub fn sq_array(mut self, yes: bool) -> Self {
        self.sq_array = yes;
        self
    }

    /// Most memory of each queue pair for data that the device cannot reach in place, in bytes, rounded
    /// down to pages. Default: 2 MiB. Transfers beyond it wait for each other; with 0, plain memory that
    /// is neither registered nor from [`Ring::alloc`] is refused with `EFAULT`, and so is a vector of several
    /// segments that are not whole blocks, and an NVMe command whose data does not fit.
    #[must_use]
    pub fn bounce_limit(mut self, bytes: usize) -> Self {
        self.bounce_bytes = bytes;
        self
    }

    /// Whether the program may send admin commands to a device ([`NVME_URING_CMD_ADMIN`]). Default: false;
    /// they are answered with `EACCES`, as the kernel answers a process without `CAP_SYS_ADMIN`.
    ///
    /// An admin command goes to the controller itself, past all that the ring checks: it can lose data of
    /// every namespace (Sanitize), and other rings of the process see what it changes. Those that would take
    /// the controller away from the driver are answered with `EPERM`: Create and Delete I/O Queue,
    /// Asynchronous Event Request, Doorbell Buffer Config, Virtualization Management, Format NVM, Namespace
    /// Management and Attachment, and Set Features of Number of Queues, Host Memory Buffer and Keep Alive
    /// Timer. Each is carried out inside [`Ring::submit`], which returns when the controller has
    /// answered, or has been stopped because it did not within 60 s (or the command's `timeout_ms`, if that
    /// is longer). A kernel ring asks the kernel instead.
    ///
    /// [`NVME_URING_CMD_ADMIN`]: crate::abi::nvme::NVME_URING_CMD_ADMIN
    #[must_use]
    pub fn admin_passthrough(mut self, yes: bool) -> Self {
        self.admin_commands = yes;
        self
    }

    /// Further flags of `io_uring_setup(2)` (`IORING_SETUP_*`), beside those that the other options stand for.
    /// Default: none.
    #[must_use]
    pub fn setup_flags(mut self, flags: u32) -> Self {
        self.setup_flags |= flags;
        self
    }

    /// Memory of the program's for the rings: `rings` holds both (`Params::rings_len` bytes), `sqes` the
    /// submission entries (`Params::sqes_len` bytes), both page aligned, whole pages, zeroed. Kernel:
    /// `IORING_SETUP_NO_MMAP` (6.5). Default: the ring brings its own.
    ///
    /// # Safety
    /// The memory is valid for as long as the ring, and nothing but the ring's faces and atomic accesses of
    /// the program use it meanwhile.
    #[must_use]
    pub unsafe fn ring_memory(mut self, rings: *mut u8, sqes: *mut u8) -> Self {
        self.memory = Some((rings as usize, sqes as usize));
        self.setup_flags |= IORING_SETUP_NO_MMAP;
        self
    }

    /// Whether memory that an entry names is looked for before it is used, so that a bad address is answered
    /// with `EFAULT` as by the kernel, instead of being the program's broken promise. Costs a system call for
    /// each transfer on a device. Default: false. A kernel ring does so always.
    #[must_use]
    pub fn strict(mut self, yes: bool) -> Self {
        self.strict = yes;
        self
    }

    /// An engine that is broken on purpose.
    #[cfg(feature = "broken")]
    #[must_use]
    pub fn broken(mut self, broken: crate::Broken) -> Self {
        self.fault = Fault::new(Some(broken));
        self
    }

    /// Opens `name` (see [`DeviceName`]) as fixed file 0 of a new ring.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Entries`], and what is in the way of the device or of a kernel ring.
    pub fn open(self, name: &str) -> Result<Ring<S, C>, Error> {
        let params = self.params()?;
        match name.parse()? {
            DeviceName::Path(path) => self.open_path(&path, name, params, None),
            DeviceName::Model { size_bytes, null, nsid } => {
                self.open_device(&Device::open_model(size_bytes, null, &DeviceOptions::default())?, nsid)
            }
            DeviceName::Pci { address, nsid } => {
                let error = match Device::open_pci(address, &DeviceOptions::default())
                    .and_then(|device| self.open_device(&device, nsid))
                {
                    Ok(ring) => return Ok(ring),
                    Err(error) => error,
                };
                if !self.fallback {
                    return Err(error);
                }
                let Some(path) = crate::ring::block_device(address, nsid) else {
                    tracing::warn!("no fallback: the kernel has no block device for namespace {nsid} of {address}");
                    return Err(error);
                };
                let reason = FallbackReason::new(name, error);
                tracing::info!(%reason, path = %path.display(), "falling back to the kernel's io_uring");
                // A disk of the kernel's has poll queues only where someone asked for them; the ordinary mode
                // works on all.
                let ordinary = Self { completion: CompletionMode::Interrupt, ..self };
                ordinary.open_path(&path, &path.display().to_string(), params, Some(reason))
            }
        }
    }

    /// Opens a namespace of an opened device as fixed file 0 of a new ring.
    ///
    /// # Errors
    /// [`Error::NoNamespace`], [`Error::Namespace`], [`Error::NoQueue`], memory and mappings.
    pub fn open_device(&self, device: &Device, nsid: u32) -> Result<Ring<S, C>, Error> {
        let params = self.params()?;
        check_device_flags(params.flags)?;
        let namespace = device.namespace(nsid)?.clone();
        let queues = QueueOptions {
            depth: params.cq_entries,
            interrupts: self.completion.sleeps(),
            bounce_bytes: self.bounce_bytes,
            admin_commands: self.admin_commands,
            strict: self.strict,
        };
        let options = BodyOptions { queues, mode: self.completion, fault: self.fault };
        Ring::on_device(device, namespace, params, options)
    }

    fn open_path(
        &self,
        path: &std::path::Path,
        name: &str,
        params: Params,
        reason: Option<FallbackReason>,
    ) -> Result<Ring<S, C>, Error> {
        let file = KernelFile::open(path)?;
        let iopoll = if self.completion == CompletionMode::Poll { IORING_SETUP_IOPOLL } else { 0 };
        let flags = params.flags | iopoll;
        let cq_entries = self.cq_entries.unwrap_or(0);
        let mode = if iopoll == 0 { CompletionMode::Interrupt } else { CompletionMode::Poll };
        if flags & IORING_SETUP_REGISTERED_FD_ONLY != 0 {
            return Err(Error::Unsupported { call: "open", what: "a kernel ring has its descriptor here" });
        }
        let (sq_off, cq_off) = (
            SqRingOffsets { user_addr: params.sq_off.user_addr, ..SqRingOffsets::default() },
            CqRingOffsets { user_addr: params.cq_off.user_addr, ..CqRingOffsets::default() },
        );
        let asked = Params { flags, cq_entries, sq_off, cq_off, ..Params::default() };
        let kernel = KernelRing::new(file, self.entries, asked)?;
        Ok(Ring::on_kernel(kernel, name, mode, reason))
    }

    /// Sizes and offsets, checked before anything is opened.
    fn params(&self) -> Result<Params, Error> {
        let mut flags = S::BUILD_FLAGS | C::BUILD_FLAGS | self.setup_flags;
        if !self.sq_array {
            flags |= IORING_SETUP_NO_SQARRAY;
        }
        if self.cq_entries.is_some() {
            flags |= IORING_SETUP_CQSIZE;
        }
        let unfit = |what| Error::SetupFlags { flags, errno: libc::EINVAL, what };
        check_setup_flags(flags).map_err(unfit)?;
        let layout = Params::layout(self.entries, self.cq_entries.unwrap_or(0), flags);
        let mut params = layout.map_err(|errno| match errno {
            libc::EOVERFLOW => Error::SetupFlags { flags, errno, what: "CQE_MIXED needs two completion entries" },
            _ => Error::Entries {
                entries: self.entries,
                what: "1 to 32768 submission entries, and at least as many completion entries (to 65536), are possible",
            },
        })?;
        if flags & IORING_SETUP_NO_MMAP != 0 {
            let (rings, sqes) = self.memory.ok_or(Error::SetupFlags {
                flags,
                errno: libc::EFAULT,
                what: "NO_MMAP needs memory for the rings (`ring_memory`)",
            })?;
            params.cq_off.user_addr = rings as u64;
            params.sq_off.user_addr = sqes as u64;
        }
        if flags & IORING_SETUP_SQ_AFF != 0 && flags & IORING_SETUP_SQPOLL == 0 {
            return Err(unfit("SQ_AFF needs SQPOLL"));
        }
        Ok(params)
    }
}

/// Refuses the set-up flags that rings on devices do not know yet
/// ([`UNSERVED_SETUP_FLAGS`](crate::abi::params::UNSERVED_SETUP_FLAGS)).
fn check_device_flags(flags: u32) -> Result<(), Error> {
    let what = match flags & UNSERVED_SETUP_FLAGS {
        0 => return Ok(()),
        // Who relies on it submits nothing, and would wait for ever.
        unserved if unserved & IORING_SETUP_SQPOLL != 0 => {
            "a ring on a device has no polling thread yet: leave SQPOLL out"
        }
        _ => "a ring on a device has no workers to share: leave ATTACH_WQ out",
    };
    Err(Error::SetupFlags { flags, errno: libc::EINVAL, what })
}

// Derived, it would ask for entries that can be cloned.
impl<S: squeue::EntryMarker, C: cqueue::EntryMarker> Clone for RingBuilder<S, C> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}
