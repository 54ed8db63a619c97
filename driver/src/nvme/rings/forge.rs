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

    /// What writes one completion of `cid` after the other, `most` of them.
    pub(in crate::nvme) fn repeat(&self, cid: u16, most: u32) -> impl Fn() + Send + Sync + use<> {
        let words: Vec<&'static AtomicU32> = (0..self.len).map(|at| self.last_word(at)).collect();
        let (next, phase) = (AtomicU32::new(self.head), self.old_phase ^ PHASE);
        move || {
            let at = next.fetch_add(1, Ordering::Relaxed) as usize;
            let phase = if (at / words.len()).is_multiple_of(2) { phase } else { phase ^ PHASE };
            if at < most as usize {
                words[at % words.len()].store(u32::from(cid) | phase, Ordering::Release);
            }
        }
    }

    /// The fourth word of the entry at `at` modulo the length. Tests look at it only while the ring lives.
    fn last_word(&self, at: u32) -> &'static AtomicU32 {
        // SAFETY: masked into the ring; the word is only ever accessed atomically.
        unsafe { AtomicU32::from_ptr(self.entries.add((at & (self.len - 1)) as usize).cast::<u32>().add(3).as_ptr()) }
    }
}
