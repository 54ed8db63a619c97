//! Shadow doorbells: doorbells in memory, of which the controller says when it wants the register
//! written as well (Doorbell Buffer Config, section 5.8, and annex B.5, "Updating Controller Doorbell
//! Properties using a Shadow Doorbell Buffer").
//!
//! Two buffers in host memory, laid out as the doorbell registers are: one holds the doorbells, the other,
//! EventIdx, is the controller's. Writing a register leaves a virtual machine; storing a word does not.
//!
//! 1. store the shadow doorbell
//! 2. full fence
//! 3. load EventIdx; write the register if EventIdx lies between the old value and the new
//!
//! The controller does the same crosswise: it stores EventIdx, fences, and looks at the doorbell once more
//! before it goes to sleep. Without the fence both could miss what the other has just stored, and the queue
//! would stand still.
//!
//! Linux: `nvme_dbbuf_update_and_check_event` in drivers/nvme/host/pci.c.

#![expect(unsafe_code)] // owns every access to the two buffers

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use dmaring_dma::{AddressSpace, Direction, DmaError, DmaRegion, Mapping};

use super::prp::PAGE_BYTES;
use crate::spec::regs::{DOORBELLS, sq_tail_doorbell};

/// A stride and a number of queues that need more than this do without: no controller has them.
const MOST_BYTES: u64 = 1 << 20;

/// Both buffers. The controller may touch them from Doorbell Buffer Config until it is disabled.
#[derive(Debug)]
pub(super) struct ShadowBuffers {
    doorbells: Buffer,
    events: Buffer,
}

#[derive(Debug)]
struct Buffer {
    mapping: Mapping,
    region: Arc<DmaRegion>,
}

impl Buffer {
    fn new(space: &Arc<AddressSpace>, bytes: usize) -> Result<Self, DmaError> {
        let region = Arc::new(DmaRegion::new(bytes)?);
        Ok(Self { mapping: space.map(Arc::clone(&region), Direction::Both)?, region })
    }

    /// The word at byte `at`.
    fn word(&self, at: u64) -> NonNull<u32> {
        assert!(at.is_multiple_of(4) && at + 4 <= self.region.len() as u64, "the buffers hold all queues");
        // SAFETY: inside the region, checked above.
        unsafe { self.region.as_ptr().add(at as usize).cast() }
    }
}

impl ShadowBuffers {
    /// Zeroed buffers for the admin queue and `queue_pairs` more; `None` when they would be unreasonably
    /// large.
    pub(super) fn new(space: &Arc<AddressSpace>, queue_pairs: u16, dstrd: u8) -> Result<Option<Self>, DmaError> {
        // As the kernel's, they hold all queues, also where that is more than the page of the document.
        let bytes = sq_tail_doorbell(queue_pairs, dstrd) + (8 << dstrd) - DOORBELLS;
        if bytes > MOST_BYTES {
            return Ok(None);
        }
        let bytes = bytes.next_multiple_of(PAGE_BYTES) as usize;
        Ok(Some(Self { doorbells: Buffer::new(space, bytes)?, events: Buffer::new(space, bytes)? }))
    }

    /// Where the controller sees the shadow doorbells and the event indexes.
    pub(super) fn iovas(&self) -> (u64, u64) {
        (self.doorbells.mapping.iova().get(), self.events.mapping.iova().get())
    }
}

/// One doorbell's words in the two buffers.
#[derive(Debug)]
pub(super) struct Shadow {
    doorbell: NonNull<u32>,
    event: NonNull<u32>,
    last: u16,
    /// The register is written in any case.
    always: bool,
    /// Writes of the register that were not needed.
    saved: u64,
    _buffers: Arc<ShadowBuffers>,
}

impl Shadow {
    /// The words of the doorbell whose register is at `offset` of BAR 0, set to 0. A queue that begins has
    /// nothing of the one that had its words before.
    pub(super) fn new(buffers: &Arc<ShadowBuffers>, offset: u64) -> Self {
        let at = offset - DOORBELLS;
        let (doorbell, event) = (buffers.doorbells.word(at), buffers.events.word(at));
        let shadow = Self { doorbell, event, last: 0, always: false, saved: 0, _buffers: Arc::clone(buffers) };
        // Relaxed: the controller learns of the queue by a doorbell, which is a Release.
        shadow.doorbell().store(0, Ordering::Relaxed);
        shadow.event().store(0, Ordering::Relaxed);
        shadow
    }

    /// For the admin queue, which has the value `now` already: its register is written whatever EventIdx
    /// says. The document asks for both, and there are controllers that look at one only.
    pub(super) fn of_admin_queue(buffers: &Arc<ShadowBuffers>, offset: u64, now: u32) -> Self {
        let shadow = Self { always: true, ..Self::new(buffers, offset) };
        shadow.doorbell().store(now, Ordering::Relaxed);
        shadow
    }

    fn doorbell(&self) -> &AtomicU32 {
        // SAFETY: a word inside a buffer that `_buffers` keeps mapped; only ever accessed atomically.
        unsafe { AtomicU32::from_ptr(self.doorbell.as_ptr()) }
    }

    fn event(&self) -> &AtomicU32 {
        // SAFETY: as in `doorbell`.
        unsafe { AtomicU32::from_ptr(self.event.as_ptr()) }
    }

    /// Tells the controller the new index by memory. True when the register has to be written too.
    pub(super) fn tell(&mut self, index: u32) -> bool {
        // Release: pairs with the controller's read of the queue after it sees the index.
        self.doorbell().store(index, Ordering::Release);
        // Pairs with the controller's fence between its store of EventIdx and its last look at the doorbell.
        fence(Ordering::SeqCst);
        let old = std::mem::replace(&mut self.last, index as u16);
        let asked = self.always || passes(self.event().load(Ordering::Relaxed) as u16, index as u16, old);
        self.saved += u64::from(!asked);
        asked
    }

    /// Writes of the register that were not needed.
    pub(super) fn saved(&self) -> u64 {
        self.saved
    }
}

/// Whether going from `old` to `new` passes `event`. Modulo 2^16, and right for any smaller ring too.
///
/// Linux: `nvme_dbbuf_need_event`, which is virtio's `vring_need_event`.
fn passes(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_is_asked_for_exactly_when_the_event_is_passed() {
        for entries in [2u16, 3, 8, 16] {
            for old in 0..entries {
                for steps in 1..entries {
                    let new = (old + steps) % entries;
                    let passed: Vec<u16> = (0..steps).map(|i| (old + i) % entries).collect();
                    for event in 0..entries {
                        let expected = passed.contains(&event);
                        assert_eq!(passes(event, new, old), expected, "{entries}: {old} to {new}, event {event}");
                    }
                }
            }
        }
        assert!(passes(u16::MAX, 0, u16::MAX));
        assert!(!passes(u16::MAX - 1, 0, u16::MAX));
    }
}
