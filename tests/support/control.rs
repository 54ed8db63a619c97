//! `io_uring_register(2)` and `io_uring_enter(2)` as they are, and what they are given.

#![expect(unsafe_code)] // passes on the promises of `register` and `enter`

use dmaring::Ring;
use io_uring::{cqueue, squeue};

use super::raw::Memory;

/// `IORING_ENTER_GETEVENTS`.
const GETEVENTS: u32 = 1;

/// Calls `register` with what stands at `address`; answers the errno of a failure.
///
/// Safe to call, as cases only name memory that is there for the call, memory of a rig, which goes after its
/// ring, or addresses that must be refused.
pub(crate) fn register_at<S, C>(ring: &Ring<S, C>, opcode: u32, address: u64, nr_args: u32) -> Result<u32, i32>
where
    S: squeue::EntryMarker,
    C: cqueue::EntryMarker,
{
    // SAFETY: as above.
    unsafe { ring.submitter().register(opcode, address as *const _, nr_args) }.map_err(|error| errno(&error))
}

/// Calls `register` with an argument of its own.
pub(crate) fn register<S, C>(ring: &Ring<S, C>, opcode: u32, argument: &[u8], nr_args: u32) -> Result<u32, i32>
where
    S: squeue::EntryMarker,
    C: cqueue::EntryMarker,
{
    let memory = Memory::plain(argument.len().max(1));
    memory.write(argument);
    register_at(ring, opcode, memory.address(), nr_args)
}

/// Waits inside `enter`, submitting nothing, for `count` completions.
pub(crate) fn sleep<S, C>(ring: &Ring<S, C>, count: u32) -> Result<usize, i32>
where
    S: squeue::EntryMarker,
    C: cqueue::EntryMarker,
{
    // SAFETY: there is no argument.
    unsafe { ring.submitter().enter::<u8>(0, count, GETEVENTS, None) }.map_err(|error| errno(&error))
}

/// The errno in an error, directly or in what it wraps.
fn errno(error: &std::io::Error) -> i32 {
    let wrapped = error.get_ref().and_then(|inner| inner.downcast_ref::<dmaring::Error>());
    wrapped.map_or(error.raw_os_error().unwrap_or(0), dmaring::Error::errno)
}

/// Memory that holds an array of descriptors.
pub(crate) fn of_fds(fds: &[i32]) -> Memory {
    of_bytes(fds.iter().flat_map(|fd| fd.to_ne_bytes()).collect())
}

/// Memory that holds an array of tags.
pub(crate) fn of_tags(tags: &[u64]) -> Memory {
    of_bytes(tags.iter().flat_map(|tag| tag.to_ne_bytes()).collect())
}

fn of_bytes(bytes: Vec<u8>) -> Memory {
    let memory = Memory::plain(bytes.len().max(1));
    memory.write(&bytes);
    memory
}

/// `struct io_uring_rsrc_register`: a table of files or buffers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Table {
    pub(crate) nr: u32,
    pub(crate) flags: u32,
    pub(crate) resv2: u64,
    pub(crate) data: u64,
    pub(crate) tags: u64,
}

impl Table {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let words = [u64::from(self.nr) | u64::from(self.flags) << 32, self.resv2, self.data, self.tags];
        words.into_iter().flat_map(u64::to_ne_bytes).collect()
    }

    /// Registers it: `FILES2` or `BUFFERS2`.
    pub(crate) fn register<S, C>(&self, ring: &Ring<S, C>, opcode: u32) -> Result<u32, i32>
    where
        S: squeue::EntryMarker,
        C: cqueue::EntryMarker,
    {
        register(ring, opcode, &self.bytes(), 32)
    }
}

/// `struct io_uring_rsrc_update2`: a part of a table of files or buffers. Its first half is
/// `struct io_uring_rsrc_update`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Update {
    pub(crate) offset: u32,
    pub(crate) resv: u32,
    pub(crate) data: u64,
    pub(crate) tags: u64,
    pub(crate) nr: u32,
    pub(crate) resv2: u32,
}

impl Update {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let first = u64::from(self.offset) | u64::from(self.resv) << 32;
        let last = u64::from(self.nr) | u64::from(self.resv2) << 32;
        [first, self.data, self.tags, last].into_iter().flat_map(u64::to_ne_bytes).collect()
    }

    /// `FILES_UPDATE2` or `BUFFERS_UPDATE`.
    pub(crate) fn register<S, C>(&self, ring: &Ring<S, C>, opcode: u32) -> Result<u32, i32>
    where
        S: squeue::EntryMarker,
        C: cqueue::EntryMarker,
    {
        register(ring, opcode, &self.bytes(), 32)
    }
}
