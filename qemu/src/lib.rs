//! Boots a Debian kernel with emulated NVMe controllers and a virtual IOMMU, and runs programs in it.
