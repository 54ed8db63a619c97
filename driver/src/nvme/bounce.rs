//! Memory for data that the device cannot reach in place: single pages, taken and given back in O(1),
//! chained by index. A transfer gathers as many as it needs; a list of pages does not mind where they
//! are.

use std::sync::Arc;

use dmaring_dma::{AddressSpace, Direction, DmaError, DmaRegion, Mapping};
use vm_memory::VolatileSlice;

use super::prp::PAGE_BYTES;

const NONE: u32 = u32::MAX;
const PAGE: usize = PAGE_BYTES as usize;

/// The pages, with a free list through `next`.
#[derive(Debug)]
pub(super) struct BouncePool {
    region: Option<(Arc<DmaRegion>, Mapping)>,
    next: Box<[u32]>,
    free: u32,
    free_pages: u32,
}

/// Pages in use by one command, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BouncePages {
    first: u32,
    count: u32,
}

impl BouncePool {
    /// `bytes` of pages; 0 makes a pool that has none.
    pub(super) fn new(space: &Arc<AddressSpace>, bytes: usize) -> Result<Self, DmaError> {
        let pages = bytes / PAGE;
        let region = if pages == 0 {
            None
        } else {
            let region = Arc::new(DmaRegion::new(pages * PAGE)?);
            let mapping = space.map(Arc::clone(&region), Direction::Both)?;
            Some((region, mapping))
        };
        Ok(Self { region, ..Self::chain(pages) })
    }

    fn chain(pages: usize) -> Self {
        let mut next: Box<[u32]> = (1..=pages as u32).collect();
        if let Some(last) = next.last_mut() {
            *last = NONE;
        }
        Self { region: None, free: if pages == 0 { NONE } else { 0 }, free_pages: pages as u32, next }
    }

    /// Pages of the whole pool.
    pub(super) fn pages(&self) -> usize {
        self.next.len()
    }

    /// Takes up to `most` pages and appends their I/O virtual addresses; `None` when none is free.
    pub(super) fn take(&mut self, most: u32, addresses: &mut Vec<u64>) -> Option<BouncePages> {
        let count = most.min(self.free_pages);
        let base = self.region.as_ref().map_or(0, |(_, mapping)| mapping.iova().get());
        if count == 0 {
            return None;
        }
        let first = self.free;
        let mut last = first;
        for i in 0..count {
            last = if i == 0 { first } else { self.next[last as usize] };
            addresses.push(base + u64::from(last) * PAGE_BYTES);
        }
        self.free = std::mem::replace(&mut self.next[last as usize], NONE);
        self.free_pages -= count;
        Some(BouncePages { first, count })
    }

    /// The command of these pages has completed.
    pub(super) fn give_back(&mut self, pages: BouncePages) {
        let mut last = pages.first;
        for _ in 1..pages.count {
            last = self.next[last as usize];
        }
        self.next[last as usize] = std::mem::replace(&mut self.free, pages.first);
        self.free_pages += pages.count;
    }

    /// The memory of `pages`, page by page.
    pub(super) fn memory(&self, pages: BouncePages) -> impl Iterator<Item = VolatileSlice<'_>> {
        let mut at = pages.first;
        (0..pages.count).filter_map(move |_| {
            let (region, _) = self.region.as_ref()?;
            let slice = region.slice(at as usize * PAGE, PAGE);
            at = self.next[at as usize];
            Some(slice)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_back_and_are_never_shared() {
        let mut pool = BouncePool::chain(10);
        let mut seen = Vec::new();
        let a = pool.take(4, &mut seen).unwrap();
        let b = pool.take(4, &mut seen).unwrap();
        let c = pool.take(4, &mut seen).unwrap();
        assert_eq!((a.count, b.count, c.count), (4, 4, 2), "the last one gets what is left");
        assert!(pool.take(1, &mut seen).is_none());
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 10);
        pool.give_back(b);
        let mut again = Vec::new();
        assert_eq!(pool.take(9, &mut again).unwrap().count, 4);
        assert!(again.iter().all(|page| seen.contains(page)));
        pool.give_back(a);
        pool.give_back(c);
        assert_eq!(pool.free_pages, 6);
    }

    #[test]
    fn an_empty_pool_gives_nothing() {
        assert!(BouncePool::chain(0).take(1, &mut Vec::new()).is_none());
    }
}
