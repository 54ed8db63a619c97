//! PCI functions through the kernel's VFIO: group and container, TYPE1v2.
//!
//! ```text
//!   /dev/vfio/vfio   container: one I/O address space          container.rs
//!   /dev/vfio/N      IOMMU group N: what the hardware isolates group.rs
//!   device fd        registers, configuration space, interrupts device.rs, irq.rs
//! ```
//!
//! Kernel documentation: `Documentation/driver-api/vfio.rst`; structures:
//! `include/uapi/linux/vfio.h` (the crate vfio-bindings).

mod container;
mod device;
mod group;
mod ioctl;
mod irq;
mod removal;

pub use device::VfioDevice;
