//! The doorbell registers: memory of the model, which drivers write without asking.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What stands in a register that was looked at, of a queue with shadow doorbells.
const QUIET: u32 = u32::MAX;

/// Doorbell registers: written by the driver with plain stores, read here.
#[derive(Clone, Debug)]
pub(super) struct Doorbells {
    words: Arc<[AtomicU32]>,
    dstrd: u8,
}

impl Doorbells {
    pub(super) fn new(queues: u16, dstrd: u8) -> Self {
        let words = (usize::from(queues) * 2) << dstrd;
        Self { words: (0..words).map(|_| AtomicU32::new(0)).collect(), dstrd }
    }

    /// The register at byte `offset` of the doorbells.
    pub(super) fn pointer(&self, offset: u64) -> Option<NonNull<u32>> {
        let word = self.words.get(usize::try_from(offset / 4).ok()?)?;
        if !offset.is_multiple_of(4) {
            return None;
        }
        NonNull::new(word.as_ptr())
    }

    pub(super) fn index(&self, queue: u16, completion: bool) -> usize {
        (usize::from(queue) * 2 + usize::from(completion)) << self.dstrd
    }

    pub(super) fn get(&self, queue: u16, completion: bool) -> u32 {
        // Acquire: the entries before the doorbell are read after it.
        self.words[self.index(queue, completion)].load(Ordering::Acquire)
    }

    /// Whether the register was written since this was last asked.
    pub(super) fn was_rung(&self, queue: u16, completion: bool) -> bool {
        let word = &self.words[self.index(queue, completion)];
        // Drivers write indexes, never this; a swap only when there is something, since it takes the line.
        word.load(Ordering::Relaxed) != QUIET && word.swap(QUIET, Ordering::Acquire) != QUIET
    }

    pub(super) fn reset(&self, queue: u16, completion: bool) {
        self.words[self.index(queue, completion)].store(0, Ordering::Relaxed);
    }
}
