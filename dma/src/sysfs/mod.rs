//! PCI functions as the kernel shows them: finding, guarding, binding, giving back.
//!
//! A controller goes through this life:
//!
//! 1. [`Sysfs::nvme_controllers`] finds it, with the kernel's `nvme` driver on it;
//! 2. [`Sysfs::uses`] lists what would be lost if it were taken: mounts, swap, holders;
//! 3. [`Sysfs::bind`] refuses if there is any, otherwise moves it to `vfio-pci`;
//! 4. [`Sysfs::group`] says whether its IOMMU group is viable, and which function is in the way;
//! 5. VFIO opens it (not here);
//! 6. [`Sysfs::unbind`] gives it back to the driver of the kernel.
//!
//! ```text
//!   nvme --(driver_override = vfio-pci, unbind, drivers_probe)--> vfio-pci
//!   nvme <--(driver_override = "",      unbind, drivers_probe)--- vfio-pci
//! ```
//!
//! Only `driver_override` is used: it names one function. `new_id` would claim every function with
//! the same ids, now and when one is plugged in later.
//!
//! Everything reads and writes below one root ([`Sysfs::at`]), so the same code runs on a tree of
//! plain files. Kernel documentation: `Documentation/ABI/testing/sysfs-bus-pci`,
//! `Documentation/driver-api/vfio.rst`.

mod bind;
mod block;
mod error;
#[cfg(test)]
mod fake;
mod function;
mod group;
mod guard;
mod guard_tables;
mod process;
mod tree;

pub use bind::{BindOptions, Bound, Unbound};
pub use error::SysfsError;
pub use function::{BlockDevice, PciFunction};
pub use group::{Group, GroupMember};
pub use guard::Use;
pub use process::Process;
pub use tree::Sysfs;
