//! Buffers of any size, carved from few large regions.
//!
//! Sizes are rounded up to powers of two; each power has a stack of free blocks, so taking and giving
//! back are O(1). A block is aligned to its size, up to a page.
//!
//! A dropped buffer may still be the target of a command in flight: its block is *parked* and goes to
//! the next taker only after [`DmaPool::reclaim`], which whoever drives the device calls when nothing
//! is in flight.

#![expect(unsafe_code)] // owns the pointers of the buffers it hands out

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard};

use vm_memory::bitmap::BitmapSlice;
use vm_memory::{Bytes, VolatileSlice};

use crate::{DmaError, DmaRegion};

/// Smallest block: one 512-byte logical block.
const MIN_SHIFT: u32 = 9;
/// Size of the first region, unless the first buffer is larger; each further one is twice as large.
const FIRST_REGION: usize = 256 << 10;
/// Regions stop growing at one 2 MiB page.
const MAX_REGION: usize = 2 << 20;

#[derive(Clone, Copy, Debug)]
struct Block {
    region: u32,
    offset: usize,
    shift: u32,
}

#[derive(Debug)]
struct Blocks {
    regions: Vec<Arc<DmaRegion>>,
    /// How much of the last region has been carved.
    carved: usize,
    free: [Vec<Block>; 64],
    parked: Vec<Block>,
    live: usize,
}

impl Default for Blocks {
    fn default() -> Self {
        Self { regions: Vec::new(), carved: 0, free: std::array::from_fn(|_| Vec::new()), parked: Vec::new(), live: 0 }
    }
}

/// How much a pool holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolStats {
    /// Bytes of all regions.
    pub region_bytes: usize,
    /// Buffers handed out and not yet dropped.
    pub live: usize,
    /// Dropped buffers whose blocks wait for [`DmaPool::reclaim`].
    pub parked: usize,
}

/// A source of DMA buffers. Clones share the same blocks.
#[derive(Clone, Debug, Default)]
pub struct DmaPool {
    blocks: Arc<Mutex<Blocks>>,
}

/// A buffer that a device can reach. Its block returns to the pool when it is dropped.
#[derive(Debug)]
pub struct DmaBuf {
    pool: DmaPool,
    region: Arc<DmaRegion>,
    block: Block,
    len: usize,
}

impl DmaPool {
    /// A pool with no memory yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a buffer of `len` bytes; `None` when the pool must [`grow`](Self::grow) first.
    ///
    /// The contents are whatever the block's last user left there.
    ///
    /// # Panics
    /// When `len` is 0 or above `isize::MAX`.
    #[must_use]
    pub fn try_alloc(&self, len: usize) -> Option<DmaBuf> {
        let shift = shift_for(len);
        let mut blocks = self.lock();
        let block = blocks.free[shift as usize].pop().or_else(|| blocks.carve(shift))?;
        blocks.live += 1;
        let region = Arc::clone(&blocks.regions[block.region as usize]);
        drop(blocks);
        Some(DmaBuf { pool: self.clone(), region, block, len })
    }

    /// Adds a region that holds at least one buffer of `len` bytes, and returns it: it must be mapped
    /// before any buffer of it is given to a device.
    ///
    /// # Errors
    /// [`DmaError::Allocate`].
    ///
    /// # Panics
    /// As [`try_alloc`](Self::try_alloc).
    pub fn grow(&self, len: usize) -> Result<Arc<DmaRegion>, DmaError> {
        let mut blocks = self.lock();
        let usual = FIRST_REGION.checked_shl(blocks.regions.len() as u32).unwrap_or(MAX_REGION).min(MAX_REGION);
        let region = Arc::new(DmaRegion::new(usual.max(1 << shift_for(len)))?);
        blocks.retire_tail();
        blocks.regions.push(Arc::clone(&region));
        blocks.carved = 0;
        Ok(region)
    }

    /// Takes back the region added last, when it could not be mapped.
    ///
    /// # Panics
    /// When a buffer has been taken from it.
    pub fn ungrow(&self) {
        let mut blocks = self.lock();
        assert_eq!(blocks.carved, 0, "a region in use cannot be taken back");
        blocks.regions.pop();
        // What was left of the region before stands in the free stacks already.
        blocks.carved = usize::MAX;
    }

    /// Makes the blocks of dropped buffers available again. Only when no command is in flight.
    pub fn reclaim(&self) {
        let mut blocks = self.lock();
        while let Some(block) = blocks.parked.pop() {
            blocks.free[block.shift as usize].push(block);
        }
    }

    /// The regions, for mapping them into another address space.
    #[must_use]
    pub fn regions(&self) -> Vec<Arc<DmaRegion>> {
        self.lock().regions.clone()
    }

    /// How much the pool holds.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let blocks = self.lock();
        PoolStats {
            region_bytes: blocks.regions.iter().map(|r| r.len()).sum(),
            live: blocks.live,
            parked: blocks.parked.len(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Blocks {
    /// Cuts a new block off the last region.
    fn carve(&mut self, shift: u32) -> Option<Block> {
        let last = self.regions.last()?;
        let offset = self.carved.checked_next_multiple_of(1 << shift)?;
        let end = offset.checked_add(1 << shift).filter(|end| *end <= last.len())?;
        let region = self.regions.len() as u32 - 1;
        self.free_range(region, self.carved, offset);
        self.carved = end;
        Some(Block { region, offset, shift })
    }

    /// Puts what is left of the last region into the free stacks.
    fn retire_tail(&mut self) {
        if let Some(last) = self.regions.last() {
            let len = last.len();
            self.free_range(self.regions.len() as u32 - 1, self.carved.min(len), len);
        }
    }

    /// Splits a range into aligned powers of two.
    fn free_range(&mut self, region: u32, mut start: usize, end: usize) {
        while start < end {
            let shift = start.trailing_zeros().min((end - start).ilog2());
            if shift >= MIN_SHIFT {
                self.free[shift as usize].push(Block { region, offset: start, shift });
            }
            start += 1 << shift;
        }
    }
}

fn shift_for(len: usize) -> u32 {
    assert!(len > 0 && isize::try_from(len).is_ok(), "a buffer has at least one byte");
    len.next_power_of_two().trailing_zeros().max(MIN_SHIFT)
}

impl DmaBuf {
    /// Length in bytes, as asked for.
    #[expect(clippy::len_without_is_empty)] // never empty
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The first byte, as an SQE wants it.
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.base().as_ptr()
    }

    /// The first byte, as an SQE wants it.
    #[must_use]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.base().as_ptr()
    }

    fn base(&self) -> NonNull<u8> {
        // SAFETY: the block lies inside the region, which `self` keeps alive.
        unsafe { self.region.as_ptr().add(self.block.offset) }
    }

    fn volatile(&self) -> VolatileSlice<'_, impl BitmapSlice + use<>> {
        self.region.slice(self.block.offset, self.len)
    }

    /// Copies `data` into the buffer from `offset`.
    ///
    /// # Panics
    /// When it does not fit.
    pub fn write(&mut self, offset: usize, data: &[u8]) {
        self.volatile().write_slice(data, offset).expect("data inside the buffer");
    }

    /// Copies from `offset` of the buffer into `data`.
    ///
    /// # Panics
    /// When the buffer ends before `data` is full.
    pub fn read(&self, offset: usize, data: &mut [u8]) {
        self.volatile().read_slice(data, offset).expect("a range inside the buffer");
    }

    /// Sets every byte.
    pub fn fill(&mut self, byte: u8) {
        let slice = self.volatile();
        let guard = slice.ptr_guard_mut();
        // SAFETY: the whole slice, which `self` borrows exclusively.
        unsafe { guard.as_ptr().write_bytes(byte, self.len) };
    }

    /// The contents in place.
    ///
    /// # Safety
    /// No command that may write the buffer is in flight for as long as the slice lives.
    #[must_use]
    pub unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: range inside the region; nobody writes it, by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len) }
    }

    /// The contents in place, writable.
    ///
    /// # Safety
    /// No command that uses the buffer is in flight for as long as the slice lives.
    #[must_use]
    pub unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        let base = self.as_mut_ptr();
        // SAFETY: range inside the region; nobody else touches it, by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(base, self.len) }
    }
}

impl Drop for DmaBuf {
    fn drop(&mut self) {
        let mut blocks = self.pool.lock();
        blocks.live -= 1;
        blocks.parked.push(self.block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool_with(len: usize) -> DmaPool {
        let pool = DmaPool::new();
        pool.grow(len).unwrap();
        pool
    }

    #[test]
    fn an_empty_pool_must_grow_first() {
        let pool = DmaPool::new();
        assert!(pool.try_alloc(1).is_none());
        let region = pool.grow(3 << 20).unwrap();
        assert_eq!(region.len(), 4 << 20);
        assert_eq!(pool.try_alloc(3 << 20).unwrap().len(), 3 << 20);
    }

    #[test]
    fn a_dropped_buffer_is_not_handed_out_before_reclaim() {
        let pool = pool_with(FIRST_REGION);
        let first = pool.try_alloc(FIRST_REGION).unwrap();
        let address = first.as_ptr();
        drop(first);
        assert!(pool.try_alloc(FIRST_REGION).is_none());
        assert_eq!(pool.stats(), PoolStats { region_bytes: FIRST_REGION, live: 0, parked: 1 });
        pool.reclaim();
        assert_eq!(pool.try_alloc(FIRST_REGION).unwrap().as_ptr(), address);
    }

    #[test]
    fn blocks_do_not_overlap_and_are_aligned() {
        let pool = pool_with(1);
        let mut taken: Vec<DmaBuf> = Vec::new();
        for i in 0..300usize {
            let len = 1 + (i * 977) % 20_000;
            let buf = pool.try_alloc(len).unwrap_or_else(|| {
                pool.grow(len).unwrap();
                pool.try_alloc(len).unwrap()
            });
            let align = len.next_power_of_two().clamp(512, 4096);
            assert_eq!(buf.as_ptr().addr() % align, 0);
            for other in &taken {
                let (a, b) = (buf.as_ptr().addr(), other.as_ptr().addr());
                assert!(a + buf.len() <= b || b + other.len() <= a);
            }
            taken.push(buf);
        }
    }

    #[test]
    fn contents_go_in_and_come_out() {
        let pool = pool_with(4096);
        let mut buf = pool.try_alloc(1000).unwrap();
        buf.fill(3);
        buf.write(10, b"dmaring");
        let mut back = [0; 9];
        buf.read(9, &mut back);
        assert_eq!(&back, b"\x03dmaring\x03");
    }

    #[test]
    fn a_region_that_cannot_be_mapped_is_taken_back() {
        let pool = pool_with(4096);
        let kept = pool.try_alloc(FIRST_REGION / 2).unwrap();
        pool.grow(1 << 20).unwrap();
        pool.ungrow();
        assert_eq!(pool.regions().len(), 1);
        assert!(pool.try_alloc(1 << 20).is_none());
        let other = pool.try_alloc(FIRST_REGION / 2).unwrap();
        assert_ne!(kept.as_ptr(), other.as_ptr());
    }
}
