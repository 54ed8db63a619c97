//! What can go wrong on the sysfs side: what, why, and what to do about it.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use super::group::GroupMember;
use super::guard::Use;
use super::process::Process;
use crate::pci::PciAddress;

/// An operation on the kernel's view of PCI functions failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SysfsError {
    /// There is no such PCI function.
    #[error("there is no PCI function {address} ({path} is absent): `lspci -D` lists those there are")]
    NoFunction {
        /// The address asked for.
        address: PciAddress,
        /// Its folder, which is absent.
        path: PathBuf,
    },

    /// A file could not be used for lack of privilege.
    #[error(
        "not permitted to {action} {path}: run as root, or let root bind the controller to vfio-pci first and give you its /dev/vfio group"
    )]
    Permission {
        /// What was attempted ("read", "write", ...).
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// EACCES or EPERM.
        source: io::Error,
    },

    /// A file could not be used for another reason.
    #[error("cannot {action} {path}")]
    Io {
        /// What was attempted ("read", "write", ...).
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },

    /// A file of the kernel holds something unexpected.
    #[error("{path} holds `{value}` where {expected} was expected")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it holds.
        value: String,
        /// What it should hold.
        expected: &'static str,
    },

    /// The function is not an NVMe controller; it is left alone, forced or not.
    #[error(
        "{address} is not an NVMe controller: its class is {class:06x}, not 010802; it is left alone (`lspci -Dnn` shows the classes)"
    )]
    NotNvme {
        /// The function.
        address: PciAddress,
        /// Its class code, 24 bits.
        class: u32,
    },

    /// Taking the controller would cut off something that uses it.
    #[error("{address} is in use: {}; unmount, swapoff or stop these first (forcing loses their data)", joined(uses))]
    InUse {
        /// The controller.
        address: PciAddress,
        /// What uses it; only those uses that are a reason to refuse.
        uses: Vec<Use>,
    },

    /// A disk of the controller has no device node, so whether it is in use cannot be asked.
    #[error(
        "cannot tell whether {device} is in use: {path} is not its device node; is /dev a devtmpfs, and is this the host's /dev?"
    )]
    NoNode {
        /// The disk, such as `nvme0n1`.
        device: String,
        /// Where its node was looked for.
        path: PathBuf,
    },

    /// No IOMMU is active in this system.
    #[error(
        "{address} has no IOMMU group, and no IOMMU is active in this system (/sys/class/iommu is empty): enable VT-d or AMD-Vi in the firmware and boot with intel_iommu=on or amd_iommu=on (QEMU: -device intel-iommu,intremap=on)"
    )]
    NoIommu {
        /// The function.
        address: PciAddress,
    },

    /// An IOMMU is active but does not translate for this function.
    #[error("{address} has no IOMMU group although this system has {}: this function is not behind one (firmware tables, or a passthrough quirk; `dmesg | grep -i -e DMAR -e AMD-Vi -e iommu` tells)", iommus.join(", "))]
    NotBehindIommu {
        /// The function.
        address: PciAddress,
        /// The IOMMUs in `/sys/class/iommu`.
        iommus: Vec<String>,
    },

    /// Kernel drivers on other functions of the group keep it from user space.
    #[error("IOMMU group {group} is not viable: {} {} with a kernel driver that does DMA; unbind {}, or move the controller to a slot with a group of its own", joined(blockers), if blockers.len() == 1 { "shares it" } else { "share it" }, if blockers.len() == 1 { "it" } else { "them" })]
    NotViable {
        /// The number of the group.
        group: u32,
        /// The functions in the way.
        blockers: Vec<GroupMember>,
    },

    /// A driver is absent and its module could not be loaded.
    #[error(
        "the kernel has no {driver} driver and `modprobe {driver}` did not help: install the kernel's modules, or build it in"
    )]
    NoDriver {
        /// The driver.
        driver: &'static str,
        /// What modprobe said, or why it could not be run.
        source: io::Error,
    },

    /// The VFIO group of the function is open: unbinding would wait until it is closed.
    #[error("{address} is held through VFIO group {group} by {}: end {} first (the kernel would wait, without limit, until the group is closed)", holders_text(holders), if holders.len() == 1 { "it" } else { "that" })]
    Held {
        /// The function.
        address: PciAddress,
        /// The number of its group.
        group: u32,
        /// Who has it open; empty if the kernel says that it is open but no descriptor shows it.
        holders: Vec<Process>,
    },

    /// A driver would not let go of the function.
    #[error(
        "{address} is still bound to {driver} {waited_ms} ms after the kernel was told to unbind it: `dmesg` may say why"
    )]
    StillBound {
        /// The function.
        address: PciAddress,
        /// The driver that keeps it.
        driver: String,
        /// How long the kernel was given.
        waited_ms: u128,
    },

    /// The wanted driver did not take the function.
    #[error("{wanted} did not take {address}, which now has {}: `dmesg` says why", driver_text(found.as_deref()))]
    NotTaken {
        /// The function.
        address: PciAddress,
        /// The driver that should have taken it.
        wanted: String,
        /// The driver that has it.
        found: Option<String>,
        /// What the driver's probe answered, if it said.
        source: Option<io::Error>,
    },

    /// No driver of the kernel took the function back.
    #[error(
        "{address} was released from vfio-pci but no driver of the kernel took it: load its driver (`modprobe nvme`) and write {address} to /sys/bus/pci/drivers_probe"
    )]
    NoTaker {
        /// The function.
        address: PciAddress,
    },

    /// vfio-pci claims the function by its ids, so it cannot be given back.
    #[error(
        "vfio-pci took {address} again: it claims the function by its ids; remove them from the `ids=` option of vfio-pci (/etc/modprobe.d, kernel command line) or from new_id"
    )]
    ClaimedByIds {
        /// The function.
        address: PciAddress,
    },

    /// Binding failed; the function is as it was found.
    #[error("binding {address} to vfio-pci failed; it is back with {}, as it was found", driver_text(restored.as_deref()))]
    RolledBack {
        /// The function.
        address: PciAddress,
        /// The driver that has it again.
        restored: Option<String>,
        /// Why binding failed.
        source: Box<SysfsError>,
    },

    /// Binding failed, and so did putting things back.
    #[error("binding {address} to vfio-pci failed, and giving it back to {} failed too ({rollback}); it now has {}", driver_text(previous.as_deref()), driver_text(left.as_deref()))]
    NotRolledBack {
        /// The function.
        address: PciAddress,
        /// The driver it was found with.
        previous: Option<String>,
        /// The driver it has now.
        left: Option<String>,
        /// Why it could not be put back.
        rollback: Box<SysfsError>,
        /// Why binding failed.
        source: Box<SysfsError>,
    },
}

impl SysfsError {
    /// Wraps what the kernel answered, telling lack of privilege from the rest.
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        // The kernel answers EPERM to some and EACCES to others; Rust names both alike.
        if source.kind() == io::ErrorKind::PermissionDenied {
            Self::Permission { action, path, source }
        } else {
            Self::Io { action, path, source }
        }
    }
}

fn joined<T: Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join("; ")
}

fn holders_text(holders: &[Process]) -> String {
    if holders.is_empty() {
        "a process that shows no descriptor (in another PID namespace, or with only the device open)".to_owned()
    } else {
        joined(holders)
    }
}

fn driver_text(driver: Option<&str>) -> &str {
    driver.unwrap_or("no driver")
}
