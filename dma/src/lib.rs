//! Memory a PCI function can see, and the function itself.
//!
//! Everything here is *cold*: it runs when a device is opened, when memory is mapped and when an
//! interrupt is configured. What the data path needs afterwards (a doorbell pointer, a ring
//! pointer, the difference between an address of the process and its [`Iova`]) is taken out once
//! and kept by the driver.
//!
//! | part | what it is |
//! |---|---|
//! | [`Transport`] | the way to one PCI function: registers, doorbells, mappings, interrupts, reset |
//! | [`vfio::VfioDevice`] | the transport of the kernel's VFIO (group and container, TYPE1v2) |
//! | [`AddressSpace`] | the I/O virtual addresses of one function, handed out and taken back |
//! | [`DmaRegion`], [`Mapping`] | memory of this process, and its place in an address space |
//! | [`DmaPool`], [`DmaBuf`] | buffers of any size with O(1) allocation, carved from few large regions |
//! | [`sysfs`] | finding functions, binding them to `vfio-pci`, and the guard that refuses those in use |

mod error;
pub mod fork;
mod iova;
mod mmio;
pub mod pci;
mod pool;
mod region;
mod space;
pub mod sysfs;
mod transport;
pub mod vfio;

pub use error::DmaError;
pub use iova::{Iova, IovaAllocator, IovaRange};
pub use mmio::{Mmio, MmioWindow};
pub use pool::{DmaBuf, DmaPool, PoolStats};
pub use region::DmaRegion;
pub use space::{AddressSpace, Mapping};
pub use transport::{Direction, Transport};
