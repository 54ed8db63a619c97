//! Reads into buffers that the ring picks from a ring of buffers, which the program refills with each batch
//! of completions. As [`super::bare`] otherwise.
#![expect(unsafe_code)] // owns the memory of the ring of buffers, and pushes entries that name none

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::Context;
use dmaring::mark::{BEGIN, END, mark};
use io_uring::{cqueue, opcode, squeue};

use super::bare::{Bad, Came, below, next};
use super::{DEVICE, Lanes, PAGE, Page};
use crate::plan::Region;

/// The only group of buffers.
const GROUP: u16 = 0;
/// `IORING_REGISTER_PBUF_RING`.
const REGISTER_PBUF_RING: u32 = 22;
/// Bytes of `struct io_uring_buf`.
const ENTRY: usize = 16;
/// Offset of the tail, which stands in the first entry.
const TAIL: usize = 14;
/// The flags of a completion that used buffer 0 (`IORING_CQE_F_BUFFER`).
const USED: u32 = 1;

/// A ring of buffers, one for each slot: `struct io_uring_buf_ring`.
pub(super) struct BufferRing {
    /// Aligned to pages, as the kernel wants it.
    pages: Vec<Page>,
    mask: u16,
    tail: u16,
}

impl BufferRing {
    /// Room for `buffers`.
    fn new(buffers: usize) -> Self {
        let entries = buffers.next_power_of_two();
        Self { pages: vec![Page([0; PAGE]); (entries * ENTRY).div_ceil(PAGE)], mask: (entries - 1) as u16, tail: 0 }
    }

    /// `struct io_uring_buf_reg`.
    fn registration(&mut self) -> [u64; 5] {
        let address = self.pages.as_mut_ptr() as u64;
        [address, u64::from(self.mask + 1) | u64::from(GROUP) << 32, 0, 0, 0]
    }

    /// Writes a buffer behind the last one.
    #[inline]
    fn add(&mut self, address: *mut u8, len: u32, id: u16) {
        let entry = self.pages.as_mut_ptr().cast::<u8>().wrapping_add(usize::from(self.tail & self.mask) * ENTRY);
        // SAFETY: inside the pages, as `new` made them for all indices. The other side only reads, and this
        // entry not before the tail says so; the tail in the first one is left alone.
        unsafe {
            entry.cast::<u64>().write_volatile(address as u64);
            entry.add(8).cast::<u32>().write_volatile(len);
            entry.add(12).cast::<u16>().write_volatile(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Hands over what was added.
    #[inline]
    fn publish(&mut self) {
        let tail = self.pages.as_mut_ptr().cast::<u8>().wrapping_add(TAIL).cast::<u16>();
        // SAFETY: inside the first page, and aligned; the program's side touches it only here.
        let tail = unsafe { AtomicU16::from_ptr(tail) };
        // Pairs with the acquiring load of whoever picks: the kernel's `io_ring_buffer_select`.
        tail.store(self.tail, Ordering::Release);
    }
}

impl Lanes {
    /// Hands all slots to the ring, as buffers to pick from. Once, and before [`select`](Self::select).
    ///
    /// # Errors
    /// The ring's answer.
    pub fn provide(&mut self) -> anyhow::Result<()> {
        let buffers = self.slots();
        let ring = self.provided.insert(BufferRing::new(buffers));
        let argument = ring.registration();
        // SAFETY: the argument is what the call wants; the ring of buffers is dropped after the ring.
        let registered = unsafe { self.ring.submitter().register(REGISTER_PBUF_RING, argument.as_ptr().cast(), 1) };
        registered.context("registering a ring of buffers, which takes Linux 5.19")?;
        let (base, len) = (self.slots.memory.base(), self.slots.slot_bytes);
        for slot in 0..buffers {
            ring.add(base.wrapping_add(slot * len), len as u32, slot as u16);
        }
        ring.publish();
        Ok(())
    }

    /// Runs `ios` random reads, as many at once as there are slots, with `marked` between the marks that
    /// count instructions. All slots must be provided.
    ///
    /// # Errors
    /// The ring's; what is in flight then stays so. [`io::ErrorKind::InvalidInput`] without buffers.
    pub fn select(&mut self, region: Region, ios: u64, marked: bool) -> io::Result<Came> {
        let (base, slot_bytes, slots) = (self.slots.memory.base(), self.slots.slot_bytes, self.slots());
        let len = slot_bytes as u32;
        let Some(mut buffers) = self.provided.take() else { return Err(io::ErrorKind::InvalidInput.into()) };
        let (mut left, mut idle, mut bad) = (ios, slots, Bad::default());
        let mut random = 1;
        if marked {
            mark::<BEGIN>();
        }
        let ended = loop {
            let mut entries = self.ring.submission();
            while left != 0 && idle != 0 {
                random = next(random);
                let offset = region.at(below(random, region.blocks));
                let read = opcode::Read::new(DEVICE, std::ptr::null_mut(), len).offset(offset).buf_group(GROUP);
                // SAFETY: the entry names no memory; that of the buffers outlives the ring.
                let pushed = unsafe { entries.push(&read.build().flags(squeue::Flags::BUFFER_SELECT)) };
                debug_assert!(pushed.is_ok(), "the ring has an entry for each slot");
                left -= 1;
                idle -= 1;
            }
            drop(entries);
            if idle == slots {
                break Ok(());
            }
            if let Err(error) = self.submit_and_wait() {
                break Err(error);
            }
            for completion in self.ring.completion() {
                idle += 1;
                let (res, flags) = (completion.result(), completion.flags());
                let used = cqueue::buffer_select(flags).filter(|id| usize::from(*id) < slots);
                match used {
                    Some(id) if res == len.cast_signed() && flags == USED | u32::from(id) << 16 => {
                        buffers.add(base.wrapping_add(usize::from(id) * slot_bytes), len, id);
                    }
                    _ => bad.add(res),
                }
            }
            buffers.publish();
        };
        if marked {
            mark::<END>();
        }
        self.provided = Some(buffers);
        ended.map(|()| Came::new(ios, &bad))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_in_the_first_entry_is_not_overwritten() {
        let mut ring = BufferRing::new(3);
        assert_eq!(ring.registration()[1], 4);
        for id in 0..5 {
            ring.add((0x1000 * (usize::from(id) + 1)) as *mut u8, 4096 + u32::from(id), id);
            ring.publish();
        }
        let entry = |index: usize| &ring.pages[0].0[index * ENTRY..(index + 1) * ENTRY];
        // The fifth stands where the first stood.
        assert_eq!(entry(0), [0, 0x50, 0, 0, 0, 0, 0, 0, 4, 0x10, 0, 0, 4, 0, 5, 0]);
        assert_eq!(entry(1), [0, 0x20, 0, 0, 0, 0, 0, 0, 1, 0x10, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn a_ring_of_many_buffers_takes_whole_pages() {
        let mut ring = BufferRing::new(300);
        assert_eq!((ring.pages.len(), ring.mask), (2, 511));
        assert!(ring.registration()[0].is_multiple_of(PAGE as u64));
    }
}
