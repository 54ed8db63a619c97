//! Rings as the device sees them, for tests: what it reads, and what it could write.

use super::*;

impl SqRing {
    /// What stands at `position`.
    pub(in crate::nvme) fn at(&self, position: u32) -> Command {
        // SAFETY: masked into the ring; every bit pattern is a command.
        unsafe { self.entries.add((position & self.mask) as usize).read_volatile() }
    }
}

impl CqRing {
    /// Writes a completion as the device could: `ahead` entries beyond the next, less than a ring.
    pub(in crate::nvme) fn forge(&self, ahead: u32, cid: u16, status: u16) {
        let at = self.head + ahead;
        let phase = if at < self.len { self.old_phase ^ PHASE } else { self.old_phase };
        self.last_word(at).store(u32::from(cid) | phase | u32::from(status) << 17, Ordering::Release);
    }

    /// What writes the whole ring with successes of `cid`, of one phase and then of the other.
    pub(in crate::nvme) fn hostile(&self, cid: u16) -> impl Fn() + Send + use<> {
        let words: Vec<&'static AtomicU32> = (0..self.len).map(|at| self.last_word(at)).collect();
        move || {
            for phase in [0, PHASE] {
                words.iter().for_each(|word| word.store(u32::from(cid) | phase, Ordering::Relaxed));
            }
        }
    }

    /// The fourth word of the entry at `at` modulo the length. Tests look at it only while the ring lives.
    fn last_word(&self, at: u32) -> &'static AtomicU32 {
        // SAFETY: masked into the ring; the word is only ever accessed atomically.
        unsafe { AtomicU32::from_ptr(self.entries.add((at & (self.len - 1)) as usize).cast::<u32>().add(3).as_ptr()) }
    }
}
