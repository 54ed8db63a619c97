//! What a model is made of.

use super::storage::Storage;

/// A namespace of a model.
#[derive(Debug)]
pub struct ModelNamespace {
    /// What holds the blocks.
    pub storage: Storage,
    /// Blocks are of `2^block_shift` bytes, 9 or 12.
    pub block_shift: u8,
    /// Bytes of metadata that each block claims to carry; 0 for none.
    pub metadata_bytes: u16,
    /// Writes are answered with Namespace is Write Protected.
    pub write_protected: bool,
}

impl ModelNamespace {
    /// Blocks of 512 bytes in `storage`.
    #[must_use]
    pub fn new(storage: Storage) -> Self {
        Self { storage, block_shift: 9, metadata_bytes: 0, write_protected: false }
    }

    /// Blocks of `2^shift` bytes.
    #[must_use]
    pub fn block_shift(mut self, shift: u8) -> Self {
        self.block_shift = shift;
        self
    }
}

/// Limits and contents of a model. Values that no controller could report become the nearest that one could.
#[derive(Debug)]
pub struct ModelConfig {
    /// Namespaces, from nsid 1.
    pub namespaces: Vec<ModelNamespace>,
    /// MDTS: transfers of up to `2^mdts` pages of 4 KiB; 0 is no limit. Default: 7 (512 KiB).
    pub mdts: u8,
    /// Most entries of a queue. Default: 1024.
    pub queue_entries: u16,
    /// I/O queue pairs. Default: 16.
    pub queue_pairs: u16,
    /// MSI-X vectors. Default: one for each queue pair and one for the admin queue.
    pub vectors: u16,
    /// Doorbells are `4 << dstrd` bytes apart. Default: 0.
    pub dstrd: u8,
    /// Whether there is a volatile write cache. Default: true.
    pub volatile_write_cache: bool,
    /// Whether [`Model::power_cut`](super::Model::power_cut) takes away what is only in the volatile write
    /// cache. Default: false, since remembering what was there costs a read before every write.
    pub power_cuts: bool,
    /// Whether Doorbell Buffer Config is offered. A queue that has run empty is then worked on only when its
    /// doorbell register is written, as on a device that sleeps. Default: false, since the registers of a
    /// model are memory anyway, and a second copy only costs.
    pub shadow_doorbells: bool,
}

impl ModelConfig {
    /// The defaults, with these namespaces.
    #[must_use]
    pub fn new(namespaces: Vec<ModelNamespace>) -> Self {
        Self {
            namespaces,
            mdts: 7,
            queue_entries: 1024,
            queue_pairs: 16,
            vectors: 17,
            dstrd: 0,
            volatile_write_cache: true,
            power_cuts: false,
            shadow_doorbells: false,
        }
    }

    /// What registers and structures cannot say becomes the nearest that they can.
    pub(super) fn bring_into_range(&mut self) {
        self.queue_entries = self.queue_entries.max(1);
        self.queue_pairs = self.queue_pairs.clamp(1, u16::MAX - 1);
        self.dstrd = self.dstrd.min(15);
        self.namespaces.iter_mut().for_each(|namespace| namespace.block_shift = namespace.block_shift.min(63));
    }

    /// One namespace of `bytes` in memory.
    ///
    /// # Errors
    /// What [`Storage::ram`] answers.
    pub fn ram(bytes: u64) -> std::io::Result<Self> {
        Ok(Self::new(vec![ModelNamespace::new(Storage::ram(bytes)?)]))
    }
}
