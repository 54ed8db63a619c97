//! The emulated NVMe controllers of a guest.

use std::path::PathBuf;

/// Size of a namespace unless told otherwise.
const DEFAULT_SIZE_BYTES: u64 = 1 << 30;

/// Where a namespace keeps its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// Nowhere: reads give zeros, writes are dropped. For measuring.
    Null {
        /// Size in bytes.
        size_bytes: u64,
    },
    /// In the host's memory, sparse, gone with the guest.
    Mem {
        /// Size in bytes.
        size_bytes: u64,
    },
    /// In a raw file or a block device of the host.
    File {
        /// The file; it must exist.
        path: PathBuf,
    },
}

/// One namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Where its data is.
    pub storage: Storage,
    /// Logical block size in bytes: 512 or 4096.
    pub block_size: u32,
    /// Metadata bytes with each block, kept apart from the data; 0 is usual.
    pub metadata_size: u16,
    /// More properties of QEMU's `nvme-ns` device, such as `zoned=on`.
    pub props: Vec<String>,
}

impl Namespace {
    /// A namespace of 512-byte blocks without metadata.
    #[must_use]
    pub fn new(storage: Storage) -> Self {
        Self { storage, block_size: 512, metadata_size: 0, props: Vec::new() }
    }

    /// With another logical block size.
    #[must_use]
    pub fn block_size(mut self, bytes: u32) -> Self {
        self.block_size = bytes;
        self
    }

    /// With metadata.
    #[must_use]
    pub fn metadata_size(mut self, bytes: u16) -> Self {
        self.metadata_size = bytes;
        self
    }
}

impl Default for Namespace {
    /// 1 GiB of memory.
    fn default() -> Self {
        Self::new(Storage::Mem { size_bytes: DEFAULT_SIZE_BYTES })
    }
}

/// One controller: a PCI function in a slot, and so an IOMMU group, of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// Namespaces 1, 2, ….
    pub namespaces: Vec<Namespace>,
    /// Largest transfer, as a power of two of 4096 bytes; QEMU's default is 7 (512 KiB), 0 means no limit.
    pub mdts: Option<u8>,
    /// I/O queue pairs; QEMU's default is 64.
    pub max_ioqpairs: Option<u16>,
    /// MSI-X vectors; QEMU's default is 65.
    pub msix_qsize: Option<u16>,
    /// More properties of QEMU's `nvme` device, such as `cmb_size_mb=4`.
    pub props: Vec<String>,
}

impl Controller {
    /// A controller with these namespaces and QEMU's defaults.
    #[must_use]
    pub fn new(namespaces: Vec<Namespace>) -> Self {
        Self { namespaces, mdts: None, max_ioqpairs: None, msix_qsize: None, props: Vec::new() }
    }
}

impl Default for Controller {
    /// One namespace of 1 GiB of memory.
    fn default() -> Self {
        Self::new(vec![Namespace::default()])
    }
}
