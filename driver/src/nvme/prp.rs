//! Physical Region Pages (section 4.1.1): where a command's data is, page by page.
//!
//! PRP 1 may begin anywhere in a page (at a multiple of 4). If the data ends in the next page, PRP 2
//! is that page; if it goes further, PRP 2 points to a list of all pages but the first. A list is of
//! memory pages as well: when it does not fit into one, its last entry points to the next page of the
//! list. Entries after PRP 1 have offset 0.
//!
//! Lists live in *slots* of one region, each long enough for the longest transfer.

use std::sync::Arc;

use dmaring_dma::{AddressSpace, Direction, DmaError, DmaRegion, Mapping};
use vm_memory::Bytes;

/// Bytes of a memory page, as set in CC.MPS.
pub(crate) const PAGE_BYTES: u64 = 4096;
const ENTRIES_PER_PAGE: usize = 512;

/// Entries of a list that describes `pages` pages besides the first, with the links between its pages.
const fn entries_with_links(pages: usize) -> usize {
    if pages <= ENTRIES_PER_PAGE {
        pages
    } else {
        // Every full page gives its last entry to the link, except the last page.
        pages + (pages - 2) / (ENTRIES_PER_PAGE - 1)
    }
}

/// Fills `list` with the entries for `pages` (all pages but the first), for a list that begins at
/// `base`, a multiple of the page size when it spans pages.
fn fill(list: &mut Vec<u64>, pages: &[u64], base: u64) {
    list.clear();
    for (i, page) in pages.iter().enumerate() {
        let more_follow = i + 1 < pages.len();
        if list.len() % ENTRIES_PER_PAGE == ENTRIES_PER_PAGE - 1 && more_follow {
            list.push(base + (list.len() as u64 + 1) * 8);
        }
        list.push(*page);
    }
}

/// Bytes of the list for data of `bytes` bytes, whole pages of it.
pub(super) fn list_bytes(bytes: usize) -> usize {
    let pages = bytes.div_ceil(PAGE_BYTES as usize);
    if pages <= 2 { 0 } else { (8 * entries_with_links(pages - 1)).next_multiple_of(PAGE_BYTES as usize) }
}

/// The list for `pages` (all pages but the first) that begins at `base`, the beginning of a page.
pub(super) fn lay_out(pages: &[u64], base: u64) -> Vec<u64> {
    let mut list = Vec::new();
    fill(&mut list, pages, base);
    list
}

/// Memory for lists, in slots of equal length.
#[derive(Debug)]
pub(super) struct PrpLists {
    region: Arc<DmaRegion>,
    mapping: Mapping,
    slot_bytes: usize,
    free: Vec<u32>,
    /// Where a list is put together before it is copied out.
    scratch: Vec<u64>,
}

/// A list in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PrpSlot(u32);

impl PrpLists {
    /// Room for `slots` lists (fewer when they are long), for transfers of up to `max_transfer` bytes.
    pub(super) fn new(space: &Arc<AddressSpace>, max_transfer: u64, slots: u32) -> Result<Self, DmaError> {
        // A transfer that begins in the middle of a page touches one page more than its length says.
        let pages = max_transfer.div_ceil(PAGE_BYTES) as usize;
        let bytes = 8 * entries_with_links(pages);
        let slot_bytes = if bytes > PAGE_BYTES as usize {
            bytes.next_multiple_of(PAGE_BYTES as usize)
        } else {
            bytes.next_power_of_two().max(64)
        };
        let slots = slots.min((Self::MOST_BYTES / slot_bytes).max(1) as u32);
        let region = Arc::new(DmaRegion::new(slot_bytes * slots as usize)?);
        let mapping = space.map(Arc::clone(&region), Direction::ToDevice)?;
        let scratch = Vec::with_capacity(slot_bytes / 8);
        Ok(Self { region, mapping, slot_bytes, free: (0..slots).rev().collect(), scratch })
    }

    /// Most memory for the lists of one queue pair: part of the locked memory it may cost.
    const MOST_BYTES: usize = 256 << 10;

    /// PRP 1 and PRP 2 for data in `pages`, the first of which may begin inside its page. `None` when all
    /// lists are in use.
    ///
    /// # Panics
    /// When `pages` is empty or longer than the longest transfer: a bug of the caller.
    pub(super) fn describe(&mut self, pages: &[u64]) -> Option<([u64; 2], Option<PrpSlot>)> {
        match pages {
            [] => panic!("a transfer has at least one page"),
            [only] => Some(([*only, 0], None)),
            [first, second] => Some(([*first, *second], None)),
            [first, rest @ ..] => {
                let slot = self.free.pop()?;
                let at = slot as usize * self.slot_bytes;
                let base = self.mapping.iova().get() + at as u64;
                fill(&mut self.scratch, rest, base);
                let memory = self.region.slice(at, self.slot_bytes);
                assert!(self.scratch.len() * 8 <= memory.len(), "a list longer than its slot");
                for (i, entry) in self.scratch.iter().enumerate() {
                    memory.write_obj(entry.to_le(), i * 8).expect("checked above");
                }
                Some(([*first, base], Some(PrpSlot(slot))))
            }
        }
    }

    /// As [`describe`](Self::describe), for a device that may look further than the pages go: there it finds
    /// address 0, which is never mapped, and not what the list held before.
    pub(super) fn describe_alone(&mut self, pages: &[u64]) -> Option<([u64; 2], Option<PrpSlot>)> {
        let described = self.describe(pages)?;
        if let Some(PrpSlot(slot)) = described.1 {
            let used = self.scratch.len() * 8;
            let rest = self.region.slice(slot as usize * self.slot_bytes + used, self.slot_bytes - used);
            rest.write_slice(&vec![0; rest.len()], 0).expect("as long as the slice");
        }
        Some(described)
    }

    /// Copies `bytes` (at most the shortest slot, 64) into a slot, for a command whose data is that.
    /// Answers where the device finds it. `None` when all slots are in use.
    pub(super) fn hold(&mut self, bytes: &[u8]) -> Option<(u64, PrpSlot)> {
        assert!(bytes.len() <= 64, "the shortest slot has 64 bytes");
        let slot = self.free.pop()?;
        let at = slot as usize * self.slot_bytes;
        self.region.slice(at, bytes.len()).copy_from(bytes);
        Some((self.mapping.iova().get() + at as u64, PrpSlot(slot)))
    }

    /// The command of this list has completed.
    pub(super) fn give_back(&mut self, slot: PrpSlot) {
        self.free.push(slot.0);
    }

    /// Locked memory of the lists, in bytes.
    pub(super) fn len_bytes(&self) -> usize {
        self.mapping.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a list as a controller does (section 4.1.1), page by page.
    fn walk(list: &[u64], base: u64, pages: usize) -> Vec<u64> {
        let mut found = Vec::new();
        let mut at = 0;
        while found.len() < pages {
            let left = pages - found.len();
            let in_page = ENTRIES_PER_PAGE - at % ENTRIES_PER_PAGE;
            if left > in_page {
                found.extend(&list[at..at + in_page - 1]);
                let link = list[at + in_page - 1];
                assert_eq!(link % PAGE_BYTES, 0, "links lead to page boundaries");
                at = ((link - base) / 8) as usize;
            } else {
                found.extend(&list[at..at + left]);
            }
        }
        found
    }

    #[test]
    fn lists_of_admin_data_fit_their_memory() {
        for pages in [1, 2, 3, 4, 512, 513, 514, 1023, 1024, 2000] {
            let all: Vec<u64> = (1..=pages).map(|page| page as u64 * PAGE_BYTES).collect();
            let bytes = list_bytes(pages * PAGE_BYTES as usize);
            if pages <= 2 {
                assert_eq!(bytes, 0);
                continue;
            }
            let list = lay_out(&all[1..], 1 << 32);
            assert!(8 * list.len() <= bytes && bytes.is_multiple_of(PAGE_BYTES as usize), "{pages}");
            assert_eq!(walk(&list, 1 << 32, pages - 1), all[1..], "{pages}");
        }
    }

    proptest! {
        #[test]
        fn a_controller_that_walks_the_list_finds_every_page_in_order(pages in 1usize..3000) {
            let expected: Vec<u64> = (0..pages as u64).map(|i| 0x10_0000_0000 + i * PAGE_BYTES).collect();
            let mut list = Vec::new();
            let base = 0x4000;
            fill(&mut list, &expected, base);
            prop_assert_eq!(list.len(), entries_with_links(pages));
            prop_assert_eq!(walk(&list, base, pages), expected);
        }
    }

    #[test]
    fn the_last_entry_of_a_page_links_only_if_more_follows() {
        let mut list = Vec::new();
        fill(&mut list, &vec![7 * PAGE_BYTES; 512], 0);
        assert_eq!(list.len(), 512, "512 pages fill one page of list and need no link");
        fill(&mut list, &vec![7 * PAGE_BYTES; 513], 0);
        assert_eq!(list.len(), 514);
        assert_eq!(list[511], PAGE_BYTES);
    }
}
