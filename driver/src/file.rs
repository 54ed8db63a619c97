//! A device as ordinary code sees a file: blocking reads and writes at any offset, of any length, with
//! no system call.
//!
//! Reads and writes that are not whole blocks go through a block-aligned buffer; a write that covers a
//! block in part reads it first, changes it and writes it back. That is not atomic towards other
//! writers of the same block, on this file or elsewhere: whoever shares blocks takes turns.

#![expect(unsafe_code)] // pushes entries whose buffers it owns

use std::fmt;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use io_uring::{opcode, squeue, types};

use crate::abi::entry::Sqe;
use crate::abi::op::{BLOCK_URING_CMD_DISCARD, IOSQE_FIXED_FILE};
use crate::builder::RingBuilder;
use crate::report::TargetInfo;
use crate::ring::Ring;
use crate::{DmaBuf, Error};

/// Entries of the ring behind a file: one operation at a time.
const ENTRIES: u32 = 4;
/// Length of the buffer through which unaligned parts go, and the longest step of a long transfer.
const STEP_BYTES: usize = 256 << 10;

/// A namespace, or any path, with the methods of a file.
///
/// It can be shared by threads; they take turns. `Read` and `Write` are left out on purpose: a device
/// has no position. [`FileExt`] is implemented, so code that is generic over it takes a `DmaFile`.
pub struct DmaFile {
    inner: Mutex<Inner>,
    target: TargetInfo,
}

struct Inner {
    ring: Ring,
    buffer: DmaBuf,
}

impl fmt::Debug for DmaFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DmaFile").field("target", &self.target).finish_non_exhaustive()
    }
}

impl DmaFile {
    /// Opens a device by name, with polled completion on a device and ordinary completion on a path.
    ///
    /// # Errors
    /// As [`RingBuilder::open`].
    pub fn open(name: &str) -> Result<Self, Error> {
        let polled = !matches!(name.parse()?, crate::DeviceName::Path(_));
        let mode = if polled { crate::CompletionMode::Poll } else { crate::CompletionMode::Interrupt };
        Self::with(Ring::builder(ENTRIES).completion(mode), name)
    }

    /// Opens a device by name on a ring with other options, such as interrupt completion.
    ///
    /// # Errors
    /// As [`RingBuilder::open`].
    pub fn with(builder: RingBuilder, name: &str) -> Result<Self, Error> {
        let ring = builder.open(name)?;
        let buffer = ring.alloc(STEP_BYTES)?;
        let target = ring.target().clone();
        Ok(Self { inner: Mutex::new(Inner { ring, buffer }), target })
    }

    /// Size in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.target.size_bytes
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was opened.
    #[must_use]
    pub fn target(&self) -> &TargetInfo {
        &self.target
    }

    /// Reads at `offset` into `data`. Fewer bytes than asked for only at the end of the device, 0 beyond
    /// it.
    ///
    /// # Errors
    /// The errno of the operation; `InvalidInput` when the range does not fit 63 bits.
    pub fn read_at(&self, data: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(range) = self.clip(offset, data.len())? else { return Ok(0) };
        let mut inner = self.lock();
        let len = (range.end - range.start) as usize;
        for step in self.steps(range.clone()) {
            inner.transfer(false, step.aligned.clone())?;
            let at = (step.wanted.start - range.start) as usize;
            let take = (step.wanted.end - step.wanted.start) as usize;
            inner.buffer.read((step.wanted.start - step.aligned.start) as usize, &mut data[at..at + take]);
        }
        Ok(len)
    }

    /// Writes `data` at `offset`. Fewer bytes than given only at the end of the device.
    ///
    /// # Errors
    /// The errno of the operation; `StorageFull` (`ENOSPC`) at the end of the device or beyond.
    pub fn write_at(&self, data: &[u8], offset: u64) -> io::Result<usize> {
        let Some(range) = self.clip(offset, data.len())? else {
            return if data.is_empty() { Ok(0) } else { Err(io::Error::from_raw_os_error(libc::ENOSPC)) };
        };
        let mut inner = self.lock();
        let len = (range.end - range.start) as usize;
        for step in self.steps(range.clone()) {
            let block = u64::from(self.target.block_bytes);
            let (first, last) = (step.aligned.start, step.aligned.end - block);
            // Blocks that the data covers in part keep the rest of what they hold.
            if step.wanted.start > first {
                inner.transfer_into(first..first + block, 0)?;
            }
            if step.wanted.end < step.aligned.end && (last > first || step.wanted.start == first) {
                inner.transfer_into(last..last + block, (last - first) as usize)?;
            }
            let at = (step.wanted.start - range.start) as usize;
            let take = (step.wanted.end - step.wanted.start) as usize;
            inner.buffer.write((step.wanted.start - first) as usize, &data[at..at + take]);
            inner.transfer(true, step.aligned)?;
        }
        Ok(len)
    }

    /// Makes every write that has returned durable (`FSYNC`).
    ///
    /// # Errors
    /// The errno of the operation.
    pub fn sync_all(&self) -> io::Result<()> {
        let entry = opcode::Fsync::new(types::Fixed(0)).build();
        // SAFETY: an fsync names no memory.
        unsafe { self.lock().run(&entry) }.map(drop)
    }

    /// Tells the device that `len` bytes at `offset` are no longer needed. Whole blocks inside the range
    /// may read back as anything afterwards; blocks that it covers in part are left alone.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where it is not possible; the errno of the operation.
    pub fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let block = u64::from(self.target.block_bytes);
        let end = offset.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?.min(self.len()) / block * block;
        let start = offset.checked_next_multiple_of(block).ok_or(io::ErrorKind::InvalidInput)?;
        if start >= end {
            return Ok(());
        }
        let entry = self.discard_entry(start, end - start);
        // SAFETY: a discard names no memory.
        unsafe { self.lock().run(&entry) }.map(drop)
    }

    /// `BLOCK_URING_CMD_DISCARD` on devices, a hole punched in regular files.
    fn discard_entry(&self, start: u64, len: u64) -> squeue::Entry {
        if self.target.regular_file {
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            return opcode::Fallocate::new(types::Fixed(0), len).offset(start).mode(mode).build();
        }
        let sqe = Sqe {
            opcode: 46,
            flags: IOSQE_FIXED_FILE,
            off: BLOCK_URING_CMD_DISCARD.into(),
            addr: start,
            addr3: len,
            ..Sqe::default()
        };
        sqe.into()
    }

    /// What of a range lies on the device; `None` when nothing does.
    fn clip(&self, offset: u64, len: usize) -> io::Result<Option<Range<u64>>> {
        let end = offset.checked_add(len as u64).filter(|end| i64::try_from(*end).is_ok());
        let end = end.ok_or(io::ErrorKind::InvalidInput)?.min(self.len());
        Ok((offset < end).then_some(offset..end))
    }

    /// Cuts a range into steps that fit the buffer once they are widened to blocks.
    fn steps(&self, range: Range<u64>) -> impl Iterator<Item = Step> + use<> {
        let block = u64::from(self.target.block_bytes);
        let mut at = range.start;
        std::iter::from_fn(move || {
            let start = at / block * block;
            let wanted = at..range.end.min(start + STEP_BYTES as u64);
            at = wanted.end;
            let aligned = start..wanted.end.next_multiple_of(block);
            (wanted.start < wanted.end).then_some(Step { wanted, aligned })
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One pass through the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    /// What the caller wants, in bytes of the device.
    wanted: Range<u64>,
    /// The same, widened to blocks.
    aligned: Range<u64>,
}

impl Inner {
    /// Moves whole blocks between the device and the beginning of the buffer.
    fn transfer(&mut self, write: bool, range: Range<u64>) -> io::Result<()> {
        let len = (range.end - range.start) as u32;
        let pointer = self.buffer.as_mut_ptr();
        let entry = if write {
            opcode::Write::new(types::Fixed(0), pointer, len).offset(range.start).build()
        } else {
            opcode::Read::new(types::Fixed(0), pointer, len).offset(range.start).build()
        };
        // SAFETY: the buffer holds STEP_BYTES, no step is longer, and `run` waits for the completion.
        let moved = unsafe { self.run(&entry) }?;
        whole(moved, len)
    }

    /// Reads whole blocks to `at` of the buffer.
    fn transfer_into(&mut self, range: Range<u64>, at: usize) -> io::Result<()> {
        let len = (range.end - range.start) as u32;
        let pointer = self.buffer.as_mut_ptr().wrapping_add(at);
        let entry = opcode::Read::new(types::Fixed(0), pointer, len).offset(range.start).build();
        // SAFETY: one block at its place inside the buffer; `run` waits for the completion.
        let moved = unsafe { self.run(&entry) }?;
        whole(moved, len)
    }

    /// Runs one entry to its completion.
    ///
    /// # Safety
    /// As [`SubmissionQueue::push`](crate::SubmissionQueue::push); this call returns after the completion.
    unsafe fn run(&mut self, entry: &squeue::Entry) -> io::Result<u32> {
        // SAFETY: the caller's promise.
        unsafe { self.ring.submission().push(entry) }.map_err(io::Error::other)?;
        loop {
            match self.ring.submit_and_wait(1) {
                // A signal. To leave now would leave the buffer to an operation in flight.
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                result => drop(result?),
            }
            if let Some(completion) = self.ring.completion().next() {
                let result = completion.result();
                return u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
            }
        }
    }
}

/// Transfers are cut to the device beforehand, so a short one means that it has shrunk.
fn whole(moved: u32, wanted: u32) -> io::Result<()> {
    if moved == wanted { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

impl FileExt for DmaFile {
    fn read_at(&self, data: &mut [u8], offset: u64) -> io::Result<usize> {
        Self::read_at(self, data, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<usize> {
        Self::write_at(self, data, offset)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use proptest::prelude::*;

    use super::*;

    fn file_of(len: usize) -> (tempfile::NamedTempFile, DmaFile) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(len as u64).unwrap();
        let dma = DmaFile::open(file.path().to_str().unwrap()).unwrap();
        (file, dma)
    }

    #[test]
    fn the_end_of_the_device_cuts_and_stops() {
        let (_file, dma) = file_of(4096);
        let mut data = [1; 100];
        assert_eq!(dma.read_at(&mut data, 4096 - 10).unwrap(), 10);
        assert_eq!(dma.read_at(&mut data, 4096).unwrap(), 0);
        assert_eq!(dma.write_at(&data, 4096 - 10).unwrap(), 10);
        assert_eq!(dma.write_at(&data, 4096).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(dma.write_at(&[], 4096).unwrap(), 0);
        assert_eq!(dma.read_at(&mut data, u64::MAX).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(dma.len(), 4096);
        dma.sync_all().unwrap();
    }

    #[test]
    fn a_file_of_an_odd_length_is_read_and_written_to_its_last_byte() {
        let (file, dma) = file_of(1001);
        dma.write_all_at(&[5; 1001], 0).unwrap();
        let mut data = [0; 1100];
        assert_eq!(dma.read_at(&mut data, 0).unwrap(), 1001);
        assert!(data[..1001].iter().all(|b| *b == 5));
        assert_eq!(file.as_file().metadata().unwrap().len(), 1001);
    }

    #[test]
    fn a_discard_of_a_file_punches_whole_blocks_only() {
        let (_file, dma) = file_of(8192);
        dma.write_all_at(&[7; 8192], 0).unwrap();
        dma.discard(100, 4000).unwrap();
        let mut data = [1; 8192];
        dma.read_exact_at(&mut data, 0).unwrap();
        assert!(data[..512].iter().all(|b| *b == 7), "a block that the range covers in part");
        assert!(data[512..4096].iter().all(|b| *b == 0));
        assert!(data[4096..].iter().all(|b| *b == 7));
        dma.discard(4097, 100).unwrap();
        dma.discard(1 << 40, 100).unwrap();
        assert!(dma.discard(u64::MAX, 2).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_alignment_reads_back_and_leaves_its_neighbours(
            writes in prop::collection::vec((0u64..700_000, 0usize..600_000, any::<u8>()), 1..6),
        ) {
            const LEN: usize = 1 << 20;
            let (_file, dma) = file_of(LEN);
            let mut expected = vec![0u8; LEN];
            for (offset, len, byte) in writes {
                let data = vec![byte; len];
                let moved = dma.write_at(&data, offset).unwrap();
                prop_assert_eq!(moved, len.min(LEN - offset as usize));
                expected[offset as usize..][..moved].fill(byte);
            }
            let mut found = vec![9u8; LEN];
            dma.read_exact_at(&mut found, 0).unwrap();
            prop_assert!(found == expected);
        }
    }
}
