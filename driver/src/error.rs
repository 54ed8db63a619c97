//! What can go wrong in the library, with the remedy where the user can act.

use std::io;
use std::time::Duration;

use dmaring_dma::DmaError;

use crate::spec::status::Status;

/// An error of a device or of a ring.
///
/// The result of an operation is never one of these: it stands in the completion's `result`, as with
/// the kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Memory, mappings, or the PCI function.
    #[error(transparent)]
    Dma(#[from] DmaError),
    /// The function is not an NVMe controller that this driver can drive.
    #[error("{device} is not an NVMe controller that can be used: {what}")]
    NotNvme {
        /// Name of the device.
        device: String,
        /// What is wrong with it.
        what: String,
    },
    /// Reads of the device's registers return all-ones, or the kernel is removing it.
    #[error("{device} is gone: it has left the bus or is being removed")]
    Gone {
        /// Name of the device.
        device: String,
    },
    /// CSTS.CFS is set.
    #[error("{device} reports a fatal status: reset it by opening it again")]
    Fatal {
        /// Name of the device.
        device: String,
    },
    /// A bounded wait ended.
    #[error("{device}: waited {waited:?} for {what}")]
    Timeout {
        /// Name of the device.
        device: String,
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
    },
    /// An admin command was answered with an error.
    #[error("{device}: admin command {opcode:#04x} failed: {status}")]
    Admin {
        /// Name of the device.
        device: String,
        /// Opcode of the command.
        opcode: u8,
        /// What the controller answered.
        status: Status,
    },
    /// All queue pairs are taken.
    #[error("{device}: all {queue_pairs} queue pairs are in use: close another ring first")]
    NoQueue {
        /// Name of the device.
        device: String,
        /// How many the controller grants.
        queue_pairs: u16,
    },
    /// A queue pair cannot raise interrupts.
    #[error("{device} cannot complete by interrupt: {what}")]
    NoInterrupt {
        /// Name of the device.
        device: String,
        /// Why not, and what to do.
        what: String,
    },
    /// A namespace exists but cannot be used.
    #[error("namespace {nsid} of {device} cannot be used: {what}")]
    Namespace {
        /// Name of the device.
        device: String,
        /// The namespace.
        nsid: u32,
        /// Why not.
        what: String,
    },
    /// As [`Namespace`](Self::Namespace), said again when the namespace is asked for.
    #[error("{what}")]
    Unusable {
        /// Which, and why not.
        what: String,
    },
    /// There is no such namespace.
    #[error("{device} has no active namespace {nsid}; it has {}", list(present))]
    NoNamespace {
        /// Name of the device.
        device: String,
        /// The namespace asked for.
        nsid: u32,
        /// Those that are active.
        present: Vec<u32>,
    },
    /// A device name that cannot be understood.
    #[error("cannot open `{name}`: {what}")]
    Name {
        /// As given.
        name: String,
        /// What is wrong, and the accepted form.
        what: String,
    },
    /// The number of ring entries is not possible.
    #[error("a ring of {entries} entries is not possible: {what}")]
    Entries {
        /// As given.
        entries: u32,
        /// The bounds.
        what: &'static str,
    },
    /// Set-up flags that do not go together, or that there are not.
    #[error("a ring with set-up flags {flags:#x} is not possible: {what}")]
    SetupFlags {
        /// As given.
        flags: u32,
        /// The kernel's answer.
        errno: i32,
        /// What is wrong with them.
        what: &'static str,
    },
    /// A kernel ring cannot be had.
    #[error("io_uring is not available: {reason}{}", io_uring_remedy(reason))]
    KernelRing {
        /// The kernel's answer.
        reason: io::Error,
    },
    /// A file cannot be opened for a kernel ring.
    #[error("cannot open {name}: {reason}{remedy}")]
    OpenFile {
        /// As given.
        name: String,
        /// The kernel's answer.
        reason: io::Error,
        /// What to do about it, or nothing.
        remedy: &'static str,
    },
    /// The call is not possible on this ring.
    #[error("{call}: {what}")]
    Unsupported {
        /// The call.
        call: &'static str,
        /// Why, and what to do.
        what: &'static str,
    },
    /// The ring was made in another process.
    #[error("the ring belongs to the process that made it: open another one after fork")]
    Forked,
    /// A call of the operating system failed.
    #[error("{call}: {reason}")]
    Os {
        /// The call.
        call: &'static str,
        /// The kernel's answer.
        reason: io::Error,
    },
}

fn list(present: &[u32]) -> String {
    if present.is_empty() {
        return "none".into();
    }
    present.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

fn io_uring_remedy(reason: &io::Error) -> &'static str {
    match reason.raw_os_error() {
        Some(libc::ENOSYS) => ": this kernel has no io_uring (5.1 or newer is needed, built with CONFIG_IO_URING)",
        Some(libc::EPERM) => {
            ": it is forbidden here; see /proc/sys/kernel/io_uring_disabled, or the container's seccomp profile"
        }
        Some(libc::ENOMEM) => ": the ring does not fit the limit of locked memory, raise `ulimit -l`",
        _ => "",
    }
}

impl Error {
    /// The errno that describes this error best.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Dma(error) => error.errno(),
            Self::NotNvme { .. } | Self::Gone { .. } => libc::ENODEV,
            Self::Fatal { .. } => libc::EIO,
            Self::Timeout { .. } => libc::ETIMEDOUT,
            Self::Admin { status, .. } => status.errno(),
            Self::NoQueue { .. } => libc::EBUSY,
            Self::NoInterrupt { .. } | Self::Namespace { .. } | Self::Unusable { .. } | Self::Unsupported { .. } => {
                libc::EOPNOTSUPP
            }
            Self::NoNamespace { .. } => libc::ENXIO,
            Self::Name { .. } | Self::Entries { .. } => libc::EINVAL,
            Self::SetupFlags { errno, .. } => *errno,
            Self::Forked => libc::EOWNERDEAD,
            Self::KernelRing { reason } | Self::OpenFile { reason, .. } | Self::Os { reason, .. } => {
                reason.raw_os_error().unwrap_or(libc::EIO)
            }
        }
    }
}

impl From<Error> for io::Error {
    /// The system's own answer stays what it is, so that `raw_os_error` finds it, as after the calls of the
    /// io-uring crate.
    fn from(error: Error) -> Self {
        if let Error::Os { reason, .. } = error {
            return reason;
        }
        Self::new(io::Error::from_raw_os_error(error.errno()).kind(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_the_system_keeps_its_number_and_others_keep_their_text() {
        let busy = io::Error::from_raw_os_error(libc::EBUSY);
        let error = io::Error::from(Error::Os { call: "register_buffers", reason: busy });
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
        assert!(io::Error::from(Error::Forked).to_string().contains("fork"));
    }
}
