//! Memory a PCI function can see, and the function itself.

pub mod pci;
pub mod sysfs;
