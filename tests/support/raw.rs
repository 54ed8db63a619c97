//! Memory that operations use, and the promises that the ring asks for.

#![expect(unsafe_code)] // owns the memory of operations, and so keeps the promises of `push` and `register_buffers`

use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::Arc;

use dmaring::{DmaBuf, PushError, Ring, RingBuilder};
use io_uring::squeue::{Entry, Entry128};
use io_uring::{cqueue, squeue};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Where memory comes from, and so how it goes.
#[derive(Debug)]
enum Source {
    Map(NonNull<u8>, usize),
    Dma(#[expect(dead_code)] DmaBuf), // kept, for its memory
}

// SAFETY: the mapping is this value's alone and has no ties to a thread.
unsafe impl Send for Source {}
// SAFETY: shared, it is only read and written by copies, which a device does too; cases order them.
unsafe impl Sync for Source {}

impl Drop for Source {
    fn drop(&mut self) {
        if let Self::Map(start, len) = self {
            // SAFETY: mapped in `Memory::plain`, and nothing in flight names it: rigs drop their ring first.
            let _ = unsafe { munmap(start.cast(), *len) };
        }
    }
}

/// A range of memory. Clones and parts share it; it is accessed by copies only, as a device may be
/// writing it.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    source: Arc<Source>,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: as of the source, which it keeps alive.
unsafe impl Send for Memory {}

impl Memory {
    /// Zeroed memory of this process, aligned to a page.
    pub(crate) fn plain(len: usize) -> Self {
        let bytes = NonZeroUsize::new(len.next_multiple_of(4096)).expect("memory has a length");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, of no file and at no given address.
        let start = unsafe { mmap_anonymous(None, bytes, protection, MapFlags::MAP_PRIVATE) };
        let start = start.expect("memory for a case").cast();
        let source = Arc::new(Source::Map(start, bytes.get()));
        Self { source, start, len }
    }

    /// A buffer of a ring.
    pub(crate) fn of_ring(mut buffer: DmaBuf) -> Self {
        let len = buffer.len();
        let start = NonNull::new(buffer.as_mut_ptr()).expect("a buffer has an address");
        Self { source: Arc::new(Source::Dma(buffer)), start, len }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub(crate) fn address(&self) -> u64 {
        self.ptr() as u64
    }

    /// A part of it.
    #[track_caller]
    pub(crate) fn part(&self, offset: usize, len: usize) -> Self {
        assert!(offset <= self.len && len <= self.len - offset, "part {offset}+{len} of {}", self.len);
        // SAFETY: inside the range, or one past its end with length 0.
        let start = unsafe { self.start.add(offset) };
        Self { source: Arc::clone(&self.source), start, len }
    }

    pub(crate) fn iovec(&self) -> libc::iovec {
        libc::iovec { iov_base: self.ptr().cast(), iov_len: self.len }
    }

    #[track_caller]
    pub(crate) fn write(&self, data: &[u8]) {
        assert!(data.len() <= self.len);
        // SAFETY: inside the range; `data` is other memory, as nobody makes references to ours.
        unsafe { self.start.as_ptr().copy_from_nonoverlapping(data.as_ptr(), data.len()) };
    }

    pub(crate) fn read(&self) -> Vec<u8> {
        let mut data = vec![0; self.len];
        // SAFETY: inside the range; `data` is new.
        unsafe { self.start.as_ptr().copy_to_nonoverlapping(data.as_mut_ptr(), self.len) };
        data
    }

    /// Memory that holds an array of iovecs.
    pub(crate) fn of_iovecs(iovecs: &[libc::iovec]) -> Self {
        let bytes: Vec<u8> = iovecs
            .iter()
            .flat_map(|iovec| [iovec.iov_base as u64, iovec.iov_len as u64])
            .flat_map(u64::to_ne_bytes)
            .collect();
        let memory = Self::plain(bytes.len().max(1));
        memory.write(&bytes);
        memory
    }
}

/// Pushes an entry.
///
/// Safe to call, as cases only name memory of their rig, which goes after its ring, or memory that must
/// be refused.
pub(crate) fn push<S, C>(ring: &mut Ring<S, C>, entry: &S) -> Result<(), PushError>
where
    S: squeue::EntryMarker,
    C: cqueue::EntryMarker,
{
    // SAFETY: as above.
    unsafe { ring.submission().push(entry) }
}

/// Pushes to the submission queue of a split ring; as [`push`].
pub(crate) fn push_to(queue: &mut dmaring::SubmissionQueue<'_>, entry: &Entry) -> Result<(), PushError> {
    // SAFETY: as of `push`.
    unsafe { queue.push(entry) }
}

/// Pushes all or none; as [`push`].
pub(crate) fn push_all(ring: &mut Ring, entries: &[Entry]) -> Result<(), PushError> {
    // SAFETY: as of `push`.
    unsafe { ring.submission().push_multiple(entries) }
}

/// With rings at `rings` and submission entries at `sqes`: memory of a case that goes after its ring and that
/// nobody writes but as a program may, or addresses that must be refused.
pub(crate) fn in_memory(builder: RingBuilder, rings: u64, sqes: u64) -> RingBuilder {
    // SAFETY: as above.
    unsafe { builder.ring_memory(rings as *mut u8, sqes as *mut u8) }
}

/// Registers memory of a rig, which goes after its ring, or ranges that must be refused.
pub(crate) fn register_buffers<S, C>(ring: &Ring<S, C>, iovecs: &[libc::iovec]) -> std::io::Result<()>
where
    S: squeue::EntryMarker,
    C: cqueue::EntryMarker,
{
    // SAFETY: as above.
    unsafe { ring.submitter().register_buffers(iovecs) }
}

/// The 64 bytes of an entry, changed as the entry builders do not allow.
pub(crate) fn edit(entry: Entry, change: impl FnOnce(&mut [u8; 64])) -> Entry {
    // SAFETY: an entry is a C structure of 64 bytes without padding, of plain integers.
    let mut bytes: [u8; 64] = unsafe { std::mem::transmute(entry) };
    change(&mut bytes);
    // SAFETY: any 64 bytes are such integers.
    unsafe { std::mem::transmute::<[u8; 64], Entry>(bytes) }
}

/// As [`edit`], of an entry of 128 bytes.
pub(crate) fn edit128(entry: Entry128, change: impl FnOnce(&mut [u8; 128])) -> Entry128 {
    // SAFETY: as of `edit`, for 128 bytes.
    let mut bytes: [u8; 128] = unsafe { std::mem::transmute(entry) };
    change(&mut bytes);
    // SAFETY: as above.
    unsafe { std::mem::transmute::<[u8; 128], Entry128>(bytes) }
}
