//! I/O virtual addresses and who has which.
//!
//! An IOVA comes only from the ranges the IOMMU driver reports (PITFALLS: never "VA = IOVA", which
//! fails as soon as the IOMMU is narrower than the CPU). Two places are never handed out even when
//! reported: page 0, so that an unset address faults, and `0xfee0_0000..=0xfeef_ffff`, where x86
//! turns writes into interrupts (Intel SDM volume 3, "Message Address Register Format").

use std::collections::BTreeMap;
use std::fmt;

use crate::DmaError;

/// An address as the device sees it, translated by the IOMMU.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Iova(u64);

impl Iova {
    /// Wraps an address that is known to be an I/O virtual address.
    #[must_use]
    pub const fn new(address: u64) -> Self {
        Self(address)
    }

    /// The address as a number, as it is written into a command or a register.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The address `bytes` further on.
    ///
    /// # Panics
    /// When the sum does not fit 64 bits: the offset was not inside a mapping.
    #[must_use]
    pub const fn offset(self, bytes: u64) -> Self {
        match self.0.checked_add(bytes) {
            Some(sum) => Self(sum),
            None => panic!("offset leaves the address space"),
        }
    }
}

impl fmt::Debug for Iova {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Iova({:#x})", self.0)
    }
}

impl fmt::LowerHex for Iova {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// A range of usable I/O virtual addresses, both ends included (as the kernel reports it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IovaRange {
    /// First usable address.
    pub first: u64,
    /// Last usable address.
    pub last: u64,
}

/// Where x86 takes a write of a device for an interrupt message.
const MSI_WINDOW: IovaRange = IovaRange { first: 0xfee0_0000, last: 0xfeef_ffff };

/// Hands out I/O virtual addresses, first fit, in multiples of a granule.
#[derive(Debug)]
pub struct IovaAllocator {
    /// Start of each free extent and its length, both multiples of `granule`.
    free: BTreeMap<u64, u64>,
    granule: u64,
}

impl IovaAllocator {
    /// An allocator over `ranges`, in multiples of `granule` bytes.
    ///
    /// # Panics
    /// When `granule` is not a power of two.
    #[must_use]
    pub fn new(ranges: &[IovaRange], granule: u64) -> Self {
        assert!(granule.is_power_of_two(), "the IOMMU's granule is a power of two");
        let mut free = BTreeMap::new();
        for range in ranges {
            for part in without(*range, MSI_WINDOW) {
                let first = part.first.max(granule).next_multiple_of(granule);
                // The last page of the 64-bit space is left out, so that ends are representable.
                let end = part.last.saturating_add(1) & !(granule - 1);
                if first < end {
                    free.insert(first, end - first);
                }
            }
        }
        Self { free, granule }
    }

    /// The smallest unit that can be mapped, in bytes.
    #[must_use]
    pub fn granule(&self) -> u64 {
        self.granule
    }

    /// Takes `len_bytes` (rounded up to the granule) at an address that is a multiple of `align`.
    ///
    /// # Errors
    /// [`DmaError::IovaExhausted`] when no free extent is long enough.
    pub fn alloc(&mut self, len_bytes: u64, align: u64) -> Result<Iova, DmaError> {
        let exhausted = DmaError::IovaExhausted { len_bytes };
        let align = align.max(self.granule).next_power_of_two();
        let Some(len) = len_bytes.checked_next_multiple_of(self.granule).filter(|len| *len > 0) else {
            return Err(exhausted);
        };
        let found = self.free.iter().find_map(|(&start, &extent)| {
            let at = start.checked_next_multiple_of(align)?;
            (at - start).checked_add(len).filter(|needed| *needed <= extent).map(|_| (start, extent, at))
        });
        let Some((start, extent, at)) = found else {
            return Err(exhausted);
        };
        self.free.remove(&start);
        if at > start {
            self.free.insert(start, at - start);
        }
        let (end, extent_end) = (at + len, start + extent);
        if end < extent_end {
            self.free.insert(end, extent_end - end);
        }
        Ok(Iova(at))
    }

    /// Gives back what [`alloc`](Self::alloc) returned for the same length.
    ///
    /// # Panics
    /// When the range is already free: it was given back twice.
    pub fn free(&mut self, iova: Iova, len_bytes: u64) {
        let mut start = iova.0;
        let mut len = len_bytes.next_multiple_of(self.granule);
        if let Some((&before, &before_len)) = self.free.range(..=start).next_back() {
            assert!(before + before_len <= start, "{iova:?} was given back twice");
            if before + before_len == start {
                self.free.remove(&before);
                start = before;
                len += before_len;
            }
        }
        if let Some((&after, &after_len)) = self.free.range(start..).next() {
            assert!(start + len <= after, "{iova:?} was given back twice");
            if start + len == after {
                self.free.remove(&after);
                len += after_len;
            }
        }
        self.free.insert(start, len);
    }
}

/// What is left of `range` on either side of `hole`.
fn without(range: IovaRange, hole: IovaRange) -> impl Iterator<Item = IovaRange> {
    let below =
        (range.first < hole.first).then(|| IovaRange { first: range.first, last: range.last.min(hole.first - 1) });
    let above = (range.last > hole.last).then(|| IovaRange { first: range.first.max(hole.last + 1), last: range.last });
    below.into_iter().chain(above)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const X86: [IovaRange; 2] =
        [IovaRange { first: 0, last: 0xfedf_ffff }, IovaRange { first: 0xfef0_0000, last: 0x7f_ffff_ffff }];

    #[test]
    fn page_zero_and_the_interrupt_window_are_never_handed_out() {
        let whole = IovaRange { first: 0, last: u64::MAX };
        let mut space = IovaAllocator::new(&[whole], 4096);
        assert_eq!(space.alloc(1, 1).unwrap(), Iova(4096));
        let below = space.alloc(0xfee0_0000 - 8192, 1).unwrap();
        assert_eq!(below, Iova(8192));
        assert_eq!(space.alloc(4096, 1).unwrap(), Iova(0xfef0_0000));
    }

    #[test]
    fn narrow_spaces_run_out_with_an_error() {
        let mut space = IovaAllocator::new(&[IovaRange { first: 0, last: 0x3fff }], 4096);
        assert!(space.alloc(0x4000, 1).is_err());
        assert!(space.alloc(0, 1).is_err());
        assert!(space.alloc(u64::MAX, 1).is_err());
        assert!(space.alloc(0x3000, 1).is_ok());
        assert!(space.alloc(1, 1).is_err());
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn giving_back_twice_is_our_bug() {
        let mut space = IovaAllocator::new(&X86, 4096);
        let a = space.alloc(4096, 1).unwrap();
        space.free(a, 4096);
        space.free(a, 4096);
    }

    proptest! {
        #[test]
        fn extents_never_overlap_and_all_come_back(lens in prop::collection::vec((1u64..1 << 22, 0u32..22), 1..40)) {
            let mut space = IovaAllocator::new(&X86, 4096);
            let before = space.free.clone();
            let mut taken: Vec<(u64, u64)> = Vec::new();
            for (len, align) in lens {
                let iova = space.alloc(len, 1 << align).unwrap().get();
                let end = iova + len.next_multiple_of(4096);
                prop_assert_eq!(iova % (1 << align), 0);
                prop_assert!(X86.iter().any(|r| r.first < iova && end - 1 <= r.last));
                prop_assert!(taken.iter().all(|(s, e)| end <= *s || *e <= iova));
                taken.push((iova, end));
            }
            for (start, end) in taken.into_iter().rev() {
                space.free(Iova(start), end - start);
            }
            prop_assert_eq!(space.free, before);
        }
    }
}
