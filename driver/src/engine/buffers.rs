//! Registered buffers: ranges of the program's memory, mapped for every controller of the ring.

#![expect(unsafe_code)] // owns the promise under which registered memory is mapped

use std::ptr::NonNull;
use std::sync::Arc;

use dmaring_dma::{AddressSpace, Direction, DmaError, Mapping};

use crate::nvme::{FixedBuffer, Segment};
use crate::usermem::{USER_END, UserMemory};

const PAGE: u64 = 4096;
/// Longest registered buffer (`io_buffer_validate`: 1 GiB).
const MOST_BYTES: u64 = 1 << 30;
/// Most registered buffers (`IORING_MAX_REG_BUFFERS`).
pub(crate) const MOST_BUFFERS: usize = 1 << 14;

/// One registered range; a length of 0 is a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) address: u64,
    pub(crate) len: u64,
}

impl Range {
    /// The range of an `iovec`, checked as the kernel does (`io_buffer_validate`).
    fn check(iovec: &libc::iovec) -> Result<Self, i32> {
        let range = Self { address: iovec.iov_base as u64, len: iovec.iov_len as u64 };
        match (range.address, range.len) {
            (0, 0) => Ok(range),
            _ if range.len.cast_signed() < 0 => Err(libc::EINVAL),
            // Nothing of a program is in page 0: pinning it would fail.
            (0..PAGE, _) | (_, 0) => Err(libc::EFAULT),
            _ if range.len > MOST_BYTES => Err(libc::EFAULT),
            _ if range.address.checked_add(range.len.next_multiple_of(PAGE)).is_none() => Err(libc::EOVERFLOW),
            // Not of the program's half.
            _ if range.address + range.len > USER_END => Err(libc::EFAULT),
            _ => Ok(range),
        }
    }

    /// Whether the memory is there, to be written to (`pin_user_pages_fast`).
    fn is_usable(&self, user: &UserMemory) -> bool {
        self.len == 0 || user.is_usable(self.address, self.len, true)
    }
}

/// The ring's registered buffers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers {
    ranges: Vec<Range>,
    /// What comes as a completion when a buffer is used no more; 0 for nothing.
    tags: Vec<u64>,
}

impl Buffers {
    /// The ranges of `iovecs`, checked as the kernel does, with their tags, of which there are as many or none.
    pub(crate) fn check(iovecs: &[libc::iovec], tags: &[u64]) -> Result<Self, i32> {
        if iovecs.is_empty() || iovecs.len() > MOST_BUFFERS {
            return Err(libc::EINVAL);
        }
        let ranges: Vec<Range> = iovecs.iter().map(Range::check).collect::<Result<_, _>>()?;
        Self::tagged(ranges, tags)
    }

    /// Whether the memory of all buffers is there.
    pub(super) fn are_usable(&self, user: &UserMemory) -> bool {
        self.ranges.iter().all(|range| range.is_usable(user))
    }

    fn tagged(ranges: Vec<Range>, tags: &[u64]) -> Result<Self, i32> {
        let mut tags = tags.to_vec();
        tags.resize(ranges.len(), 0);
        // A hole cannot go (`io_sqe_buffers_register`).
        if ranges.iter().zip(&tags).any(|(range, tag)| range.len == 0 && *tag != 0) {
            return Err(libc::EINVAL);
        }
        Ok(Self { ranges, tags })
    }

    /// Holes.
    pub(super) fn sparse(count: u32, tags: &[u64]) -> Result<Self, i32> {
        Self::tagged(vec![Range { address: 0, len: 0 }; count as usize], tags)
    }

    /// Replaces buffers from `offset` on, which are there, until one is not good. Answers how many, the tags
    /// of those that have gone, and what was wrong.
    pub(super) fn update(
        &mut self,
        offset: u32,
        iovecs: &[libc::iovec],
        tags: &[u64],
        user: &UserMemory,
    ) -> (u32, Vec<u64>, Option<i32>) {
        let mut gone = Vec::new();
        for (i, iovec) in iovecs.iter().enumerate() {
            let tag = tags.get(i).copied().unwrap_or(0);
            let range = match Range::check(iovec) {
                Ok(range) if range.len == 0 && tag != 0 => return (i as u32, gone, Some(libc::EINVAL)),
                Ok(range) if !range.is_usable(user) => return (i as u32, gone, Some(libc::EFAULT)),
                Ok(range) => range,
                Err(errno) => return (i as u32, gone, Some(errno)),
            };
            let place = offset as usize + i;
            self.ranges[place] = range;
            gone.push(std::mem::replace(&mut self.tags[place], tag));
        }
        (iovecs.len() as u32, gone, None)
    }

    /// A copy of `count` buffers of `source` in place of those from `offset` on; the table grows for them.
    /// Answers the tags of those that have gone.
    pub(super) fn copy_from(&mut self, source: &Self, from: usize, offset: usize, count: usize) -> Vec<u64> {
        let len = self.ranges.len().max(offset + count);
        self.ranges.resize(len, Range { address: 0, len: 0 });
        self.tags.resize(len, 0);
        self.ranges[offset..offset + count].copy_from_slice(&source.ranges[from..from + count]);
        let gone = self.tags[offset..offset + count].to_vec();
        self.tags[offset..offset + count].fill(0);
        gone
    }

    /// Places of the table.
    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// All tags.
    pub(super) fn tags(&self) -> Vec<u64> {
        self.tags.clone()
    }

    /// Whether there is a buffer of this index.
    pub(super) fn has(&self, index: u16) -> bool {
        self.ranges.get(usize::from(index)).is_some_and(|range| range.len != 0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The part of buffer `index` that an SQE names, as `io_import_fixed` checks it.
    pub(crate) fn segment(&self, index: u16, address: u64, len: u64) -> Option<Segment> {
        let range = self.ranges.get(usize::from(index)).filter(|range| range.len != 0)?;
        let end = address.checked_add(len)?;
        (range.address <= address && end <= range.address + range.len).then_some(Segment { address, len, delta: None })
    }

    /// Whether all `segments` are parts of buffer `index`, or the errno, as `io_import_reg_vec` and
    /// `io_vec_fill_bvec` check it: none is empty.
    pub(crate) fn check_segments(&self, index: u16, segments: &[Segment]) -> Result<(), i32> {
        self.ranges.get(usize::from(index)).filter(|range| range.len != 0).ok_or(libc::EFAULT)?;
        let inside = |s: &Segment| s.len != 0 && self.segment(index, s.address, s.len).is_some();
        if segments.iter().all(inside) { Ok(()) } else { Err(libc::EFAULT) }
    }

    /// Maps the buffers into an address space: what the straight line looks up, and what keeps it mapped.
    /// Buffers that share pages or touch share a mapping.
    ///
    /// # Safety
    /// The memory stays mapped in this process until the mappings are dropped.
    pub(crate) unsafe fn map(&self, space: &Arc<AddressSpace>) -> Result<(Vec<FixedBuffer>, Vec<Mapping>), DmaError> {
        let mut mappings: Vec<Mapping> = Vec::new();
        for (start, end) in self.page_runs() {
            let Some(address) = NonNull::new(start as *mut u8) else { continue };
            // SAFETY: the caller's promise.
            mappings.push(unsafe { space.map_user(address, (end - start) as usize, Direction::Both) }?);
        }
        let fixed = |range: &Range| {
            let holder = mappings.partition_point(|m| m.address() <= range.address).checked_sub(1);
            let delta = holder.map_or(0, |i| mappings[i].delta());
            FixedBuffer { base: range.address, len: range.len, delta }
        };
        Ok((self.ranges.iter().map(fixed).collect(), mappings))
    }

    /// The pages of all buffers, as few runs in ascending order.
    fn page_runs(&self) -> Vec<(u64, u64)> {
        let pages = |r: &Range| (r.address & !(PAGE - 1), (r.address + r.len).next_multiple_of(PAGE));
        let mut runs: Vec<(u64, u64)> = self.ranges.iter().filter(|r| r.len != 0).map(pages).collect();
        runs.sort_unstable();
        runs.dedup_by(|next, before| {
            let joins = next.0 <= before.1;
            if joins {
                before.1 = before.1.max(next.1);
            }
            joins
        });
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iovec(address: usize, len: usize) -> libc::iovec {
        libc::iovec { iov_base: address as *mut _, iov_len: len }
    }

    #[test]
    fn buffers_are_checked_as_the_kernel_does() {
        assert_eq!(Buffers::check(&[], &[]).unwrap_err(), libc::EINVAL);
        assert_eq!(Buffers::check(&[iovec(0, 1)], &[]).unwrap_err(), libc::EFAULT);
        assert_eq!(Buffers::check(&[iovec(4096, 0)], &[]).unwrap_err(), libc::EFAULT);
        assert_eq!(Buffers::check(&[iovec(4096, (1 << 30) + 1)], &[]).unwrap_err(), libc::EFAULT);
        assert_eq!(Buffers::check(&[iovec(4095, 512)], &[]).unwrap_err(), libc::EFAULT);
        assert_eq!(Buffers::check(&[iovec(usize::MAX - 10, 8)], &[]).unwrap_err(), libc::EOVERFLOW);
        assert_eq!(Buffers::check(&[iovec(usize::MAX - 4096, 8)], &[]).unwrap_err(), libc::EFAULT);
        assert!(Buffers::check(&[iovec(4096, 1 << 30), iovec(0, 0)], &[]).is_ok());
    }

    #[test]
    fn ranges_must_lie_inside_one_buffer() {
        let buffers = Buffers::check(&[iovec(0x10000, 512), iovec(0, 0), iovec(0x10200, 512)], &[]).unwrap();
        assert!(buffers.segment(0, 0x10000, 512).is_some());
        assert!(buffers.segment(0, 0x10000, 513).is_none(), "it would reach into the next one");
        assert!(buffers.segment(0, 0xffff, 1).is_none());
        assert!(buffers.segment(1, 0, 0).is_none(), "a hole");
        assert!(buffers.segment(2, 0x10200, 512).is_some());
        assert!(buffers.segment(3, 0x10000, 1).is_none());
        assert!(buffers.segment(0, u64::MAX, 2).is_none());
    }

    #[test]
    fn neighbours_share_a_mapping() {
        let buffers =
            Buffers::check(&[iovec(0x5800, 100), iovec(0x1000, 0x1000), iovec(0x2000, 1), iovec(0x5000, 10)], &[])
                .unwrap();
        assert_eq!(buffers.page_runs(), [(0x1000, 0x3000), (0x5000, 0x6000)]);
    }
}
