//! What a ring says of itself.

use std::fmt;

use crate::error::Error;

/// Who serves a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// Queue pairs of NVMe controllers; no kernel on the data path.
    Nvme,
    /// A kernel io_uring.
    Kernel,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nvme => "nvme",
            Self::Kernel => "kernel",
        })
    }
}

/// Why a ring is on the kernel though a device was asked for.
#[derive(Debug)]
pub struct FallbackReason {
    name: String,
    error: Error,
}

impl FallbackReason {
    pub(crate) fn new(name: &str, error: Error) -> Self {
        Self { name: name.to_owned(), error }
    }

    /// What was in the way of the device.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }
}

impl fmt::Display for FallbackReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} could not be had: {}", self.name, self.error)
    }
}

/// What the ring was opened on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TargetInfo {
    /// As a user opens it.
    pub name: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Offsets and lengths are multiples of this, in bytes.
    pub block_bytes: u32,
    /// Writes are refused.
    pub read_only: bool,
    /// It is a regular file, not a device.
    pub regular_file: bool,
    /// Transfers pass no page cache. False for files on file systems without direct I/O, and for files
    /// that do not end with a block, whose end direct I/O cannot reach.
    pub direct: bool,
}

/// What a ring has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingStats {
    /// System calls that the ring made.
    pub system_calls: u64,
    /// Bytes copied because the device could not reach the program's memory.
    pub bounced_bytes: u64,
    /// Commands given to devices, or entries given to the kernel.
    pub commands: u64,
    /// Writes of submission doorbell registers.
    pub sq_doorbells: u64,
    /// Writes of completion doorbell registers.
    pub cq_doorbells: u64,
    /// Doorbells that were told in memory only, because the controller did not ask for the register (shadow
    /// doorbells).
    pub saved_doorbells: u64,
    /// Interrupts that ended a wait or were found raised.
    pub interrupts: u64,
    /// Looks at the completion queues that found nothing.
    pub idle_polls: u64,
    /// Completions that belonged to nothing in flight, and were dropped.
    pub stale_completions: u64,
    /// Locked memory of the queue pairs, besides data and bounce buffers, in bytes.
    pub locked_bytes: u64,
    /// How long a wait of an adaptive ring polls before it sleeps, now, in nanoseconds; 0 when it sleeps at
    /// once, and for other rings.
    pub poll_limit_ns: u64,
}
