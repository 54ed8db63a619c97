//! What can go wrong below the driver, with the remedy where the user can act.
//!
//! Messages are whole: the operating system's reason stands in the text, where the remedy can follow
//! it, and not behind it in a chain.

use std::io;
use std::path::PathBuf;

use crate::pci::PciAddress;

/// An error of memory or of a PCI function.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DmaError {
    /// Anonymous shared memory could not be had.
    #[error("cannot allocate {len_bytes} bytes of DMA memory: {reason}")]
    Allocate {
        /// What was asked for.
        len_bytes: u64,
        /// The kernel's answer.
        reason: io::Error,
    },
    /// No free extent of I/O virtual addresses is long enough.
    #[error("no {len_bytes} bytes of I/O virtual addresses are left in the ranges the IOMMU offers")]
    IovaExhausted {
        /// What was asked for.
        len_bytes: u64,
    },
    /// Pinning the memory would pass the process's limit of locked memory.
    #[error(
        "mapping {len_bytes} bytes for the device needs {needed_bytes} bytes of locked memory in all, the limit is \
         {limit_bytes}: raise `ulimit -l` (LimitMEMLOCK= in systemd, memlock in /etc/security/limits.conf)"
    )]
    LockedMemory {
        /// Size of the mapping that failed.
        len_bytes: u64,
        /// What the process would have locked with it.
        needed_bytes: u64,
        /// `RLIMIT_MEMLOCK`, in bytes.
        limit_bytes: u64,
    },
    /// The IOMMU driver's table of mappings is full.
    #[error(
        "the IOMMU driver has no room for another mapping (its limit is the module parameter \
         vfio_iommu_type1.dma_entry_limit, 65535 unless changed): register fewer, larger buffers"
    )]
    TooManyMappings,
    /// The kernel refused to map the memory for the device.
    #[error("cannot map {len_bytes} bytes at {address:#x} for the device: {reason}")]
    Map {
        /// Address in this process.
        address: u64,
        /// Length of the mapping.
        len_bytes: u64,
        /// The kernel's answer.
        reason: io::Error,
    },
    /// Less was unmapped than had been mapped.
    #[error("unmapping {len_bytes} bytes at IOVA {iova:#x} removed {unmapped_bytes}")]
    Unmap {
        /// Where the mapping was.
        iova: u64,
        /// Its length.
        len_bytes: u64,
        /// What the kernel removed.
        unmapped_bytes: u64,
    },
    /// A file of the VFIO interface cannot be opened.
    #[error("cannot open {}: {reason}{}", path.display(), open_remedy(reason))]
    Open {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        reason: io::Error,
    },
    /// The function is bound to a driver of the kernel, or to none.
    #[error("{address} is bound to {driver}, not to vfio-pci: `dmaring bind {address}` hands it over")]
    NotBound {
        /// The function.
        address: PciAddress,
        /// What it is bound to (`no driver` when there is none).
        driver: String,
    },
    /// Another function of the group is in the kernel's hands.
    #[error(
        "IOMMU group {group} of {address} is not viable: {blockers}; bind those to vfio-pci as well, or unbind them"
    )]
    GroupNotViable {
        /// The function.
        address: PciAddress,
        /// Its group.
        group: u32,
        /// The functions in the way and their drivers.
        blockers: String,
    },
    /// The group or the function is open already.
    #[error("{address} is in use by {holder}: a VFIO group opens once; end that program first")]
    Busy {
        /// The function.
        address: PciAddress,
        /// Process id and command of the holder, or that it cannot be seen.
        holder: String,
    },
    /// A call of the VFIO interface failed.
    #[error("{call} failed: {reason}")]
    Vfio {
        /// The call and what it was for.
        call: &'static str,
        /// The kernel's answer.
        reason: io::Error,
    },
    /// Interrupts cannot be set up, in the way an IOMMU without remapping shows.
    #[error(
        "the kernel refused the device's interrupts ({reason}): the IOMMU offers no interrupt remapping (under QEMU give \
         intel-iommu intremap=on; on hardware enable it in the firmware)"
    )]
    InterruptRemapping {
        /// The kernel's answer.
        reason: io::Error,
    },
    /// The function lacks something a driver needs.
    #[error("{address}: {what}")]
    Unsupported {
        /// The function.
        address: PciAddress,
        /// What is missing.
        what: String,
    },
    /// Finding or describing the function in sysfs failed.
    #[error(transparent)]
    Sysfs(#[from] crate::sysfs::SysfsError),
}

fn open_remedy(reason: &io::Error) -> &'static str {
    match reason.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => ": run as root, or give your user the group's file (a udev rule, or chown)",
        Some(libc::ENOENT) => ": load the modules vfio-pci and vfio_iommu_type1",
        _ => "",
    }
}

impl DmaError {
    /// The errno that describes this error best, for a completion's result.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::IovaExhausted { .. } | Self::LockedMemory { .. } => libc::ENOMEM,
            Self::TooManyMappings => libc::ENOSPC,
            Self::NotBound { .. } => libc::ENODEV,
            Self::GroupNotViable { .. } | Self::Busy { .. } => libc::EBUSY,
            Self::Unsupported { .. } => libc::EOPNOTSUPP,
            Self::Unmap { .. } | Self::Sysfs(_) => libc::EIO,
            Self::Allocate { reason, .. }
            | Self::Map { reason, .. }
            | Self::Open { reason, .. }
            | Self::Vfio { reason, .. }
            | Self::InterruptRemapping { reason } => reason.raw_os_error().unwrap_or(libc::EIO),
        }
    }
}
