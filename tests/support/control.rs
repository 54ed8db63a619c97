//! `io_uring_register(2)` and `io_uring_enter(2)` as they are, and what they are given.

#![expect(unsafe_code)] // passes on the promises of `register` and `enter`
//! `io_uring_enter` and `io_uring_register` with raw arguments, and the structures that they take.

#![expect(unsafe_code)] // owns the promises of `enter` and `register`

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
/// Register opcodes (`enum io_uring_register_op`).
pub(crate) const REGISTER_EVENTFD: u32 = 4;
pub(crate) const UNREGISTER_EVENTFD: u32 = 5;
pub(crate) const REGISTER_EVENTFD_ASYNC: u32 = 7;
pub(crate) const REGISTER_PROBE: u32 = 8;
pub(crate) const REGISTER_PERSONALITY: u32 = 9;
pub(crate) const UNREGISTER_PERSONALITY: u32 = 10;
pub(crate) const REGISTER_RESTRICTIONS: u32 = 11;
pub(crate) const REGISTER_ENABLE_RINGS: u32 = 12;
pub(crate) const REGISTER_RING_FDS: u32 = 20;
pub(crate) const UNREGISTER_RING_FDS: u32 = 21;
pub(crate) const REGISTER_PBUF_RING: u32 = 22;
pub(crate) const UNREGISTER_PBUF_RING: u32 = 23;
pub(crate) const REGISTER_PBUF_STATUS: u32 = 26;
pub(crate) const REGISTER_CLOCK: u32 = 29;
pub(crate) const REGISTER_RESIZE_RINGS: u32 = 33;
pub(crate) const REGISTER_MEM_REGION: u32 = 34;
pub(crate) const REGISTER_QUERY: u32 = 35;
pub(crate) const USE_REGISTERED_RING: u32 = 1 << 31;

/// Flags of `io_uring_enter`.
pub(crate) const GETEVENTS: u32 = 1;
pub(crate) const EXT_ARG: u32 = 8;
pub(crate) const REGISTERED_RING: u32 = 16;
pub(crate) const ABS_TIMER: u32 = 32;
pub(crate) const EXT_ARG_REG: u32 = 64;
pub(crate) const NO_IOWAIT: u32 = 128;

/// An address that nothing is mapped at: below the lowest that a process may map.
pub(crate) const UNMAPPED: u64 = 4096;

/// What a call answered, as a completion would: an errno is negative.
fn result(answer: Result<impl TryInto<i32>, std::io::Error>) -> i32 {
    match answer {
        Ok(value) => value.try_into().unwrap_or(i32::MAX),
        Err(error) => -error.raw_os_error().unwrap_or(libc::EIO),
    }
}

/// `io_uring_register` with an argument at `address`: 0, that of a [`Memory`] that holds what `opcode` takes
/// and that lives as long as it stays registered, or one that must be refused.
pub(crate) fn register<S, C>(ring: &Ring<S, C>, opcode: u32, address: u64, nr_args: u32) -> i32
where
    S: squeue::EntryMarker,
    C: cqueue::EntryMarker,
{
    // SAFETY: as above.
    unsafe { ring.submitter().register(opcode, address as *const _, nr_args) }.map_err(|error| errno(&error))
}

/// Calls `register` with an argument of its own.
pub(crate) fn register<S, C>(ring: &Ring<S, C>, opcode: u32, argument: &[u8], nr_args: u32) -> Result<u32, i32>
    // SAFETY: as above; cases keep what they register in their rig, which goes after its ring.
    result(unsafe { ring.submitter().register(opcode, address as *const libc::c_void, nr_args) })
}

/// As [`register`], of bytes that the kernel reads during the call.
pub(crate) fn register_bytes<S, C>(ring: &Ring<S, C>, opcode: u32, bytes: &[u8], nr_args: u32) -> i32
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
    let memory = Memory::plain(bytes.len());
    memory.write(bytes);
    register(ring, opcode, memory.address(), nr_args)
}

/// No argument of `io_uring_enter`.
pub(crate) const NOTHING: Option<&[u8; 0]> = None;

/// `io_uring_enter` with an argument of `N` bytes, or with a null pointer and `N` as its length. What the
/// argument names is a rig's, or must be refused.
pub(crate) fn enter<S, C, const N: usize>(
    ring: &Ring<S, C>,
    to_submit: u32,
    min_complete: u32,
    flags: u32,
    argument: Option<&[u8; N]>,
) -> i32
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
    // SAFETY: as above; the entries were promised when they were pushed.
    result(unsafe { ring.submitter().enter(to_submit, min_complete, flags, argument) })
}

/// Joins the fields of a structure.
pub(crate) fn fields<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let bytes: Vec<u8> = parts.concat();
    bytes.try_into().expect("the fields fill the structure")
}

/// `struct io_uring_getevents_arg`: addresses of a signal mask and of a timespec, the mask's bytes.
pub(crate) fn getevents(sigmask: u64, sigmask_bytes: u32, min_wait_usec: u32, timespec: u64) -> [u8; 24] {
    let sizes = [sigmask_bytes.to_ne_bytes(), min_wait_usec.to_ne_bytes()].concat();
    fields(&[&sigmask.to_ne_bytes(), &sizes, &timespec.to_ne_bytes()])
}

/// `struct io_uring_reg_wait`, with a timespec that counts when `flags` say so.
pub(crate) fn reg_wait((seconds, nanos): (i64, i64), min_wait_usec: u32, flags: u32, sigmask: (u64, u32)) -> [u8; 64] {
    let times = [seconds.to_ne_bytes(), nanos.to_ne_bytes()].concat();
    let words = [min_wait_usec.to_ne_bytes(), flags.to_ne_bytes()].concat();
    fields(&[&times, &words, &sigmask.0.to_ne_bytes(), &sigmask.1.to_ne_bytes(), &[0; 28]])
}

/// Memory that holds a `struct __kernel_timespec`.
pub(crate) fn timespec(seconds: i64, nanos: i64) -> Memory {
    let memory = Memory::plain(16);
    memory.write(&fields::<16>(&[&seconds.to_ne_bytes(), &nanos.to_ne_bytes()]));
    memory
}

/// Memory that holds a signal mask.
pub(crate) fn sigmask(bits: u64) -> Memory {
    let memory = Memory::plain(8);
    memory.write(&bits.to_ne_bytes());
    memory
}

/// One of `struct io_uring_rsrc_update`: offset, reserved, data.
pub(crate) fn rsrc_update(offset: u32, reserved: u32, data: u64) -> [u8; 16] {
    fields(&[&offset.to_ne_bytes(), &reserved.to_ne_bytes(), &data.to_ne_bytes()])
}

/// One of `struct io_uring_restriction`: its kind, and the opcode or flags that it is about.
pub(crate) fn restriction(kind: u16, value: u8) -> [u8; 16] {
    fields(&[&kind.to_ne_bytes(), &[value, 0], &[0; 12]])
}

/// The word at `offset`.
pub(crate) fn word(memory: &Memory, offset: usize) -> u32 {
    u32::from_ne_bytes(memory.part(offset, 4).read().try_into().expect("four bytes"))
}

/// The double word at `offset`.
pub(crate) fn long(memory: &Memory, offset: usize) -> u64 {
    u64::from_ne_bytes(memory.part(offset, 8).read().try_into().expect("eight bytes"))
}
