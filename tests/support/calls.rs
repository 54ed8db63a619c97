//! `io_uring_enter` and `io_uring_register` with raw arguments, and the structures that they take.

#![expect(unsafe_code)] // owns the promises of `enter` and `register`

use std::io;
use std::num::NonZeroUsize;
use std::sync::OnceLock;

use dmaring::{Backend, Ring};
use io_uring::{cqueue, squeue};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

use super::raw::Memory;

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
    // SAFETY: as above; cases keep what they register in their rig, which goes after its ring.
    result(unsafe { ring.submitter().register(opcode, address as *const libc::c_void, nr_args) })
}

/// As [`register`], of bytes that the kernel reads during the call.
pub(crate) fn register_bytes<S, C>(ring: &Ring<S, C>, opcode: u32, bytes: &[u8], nr_args: u32) -> i32
where
    S: squeue::EntryMarker,
    C: cqueue::EntryMarker,
{
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
    // SAFETY: as above; the entries were promised when they were pushed.
    result(unsafe { ring.submitter().enter(to_submit, min_complete, flags, argument) })
}

/// Enters a ring by the index that this thread has registered it at, without an argument. The face of a device
/// ring knows which ring is meant; the kernel is given nothing but the index.
pub(crate) fn enter_by_index(ring: &Ring, index: u32, to_submit: u32, min_complete: u32, flags: u32) -> i32 {
    let flags = flags | REGISTERED_RING;
    if ring.backend() == Backend::Nvme {
        return enter(ring, to_submit, min_complete, flags, NOTHING);
    }
    let (argument, len) = (std::ptr::null::<u8>(), 0usize);
    // SAFETY: there is no argument; the entries were promised when they were pushed.
    let answer =
        unsafe { libc::syscall(libc::SYS_io_uring_enter, index, to_submit, min_complete, flags, argument, len) };
    result(if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) })
}

/// As [`enter_by_index`], of [`register`].
pub(crate) fn register_by_index(ring: &Ring, index: u32, opcode: u32, address: u64, nr_args: u32) -> i32 {
    let opcode = opcode | USE_REGISTERED_RING;
    if ring.backend() == Backend::Nvme {
        return register(ring, opcode, address, nr_args);
    }
    // SAFETY: as of `register`.
    let answer = unsafe { libc::syscall(libc::SYS_io_uring_register, index, opcode, address, nr_args) };
    result(if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) })
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

/// Where [`low`] memory begins, and its bytes.
const LOW: usize = 65536;
const LOW_BYTES: usize = 2 * 65536;

/// The 64 bytes at an address of 65,536 and somewhat above: an argument whose address is an offset to the
/// kernel.
pub(crate) fn low(address: usize) -> &'static [u8; 64] {
    static START: OnceLock<usize> = OnceLock::new();
    let start = *START.get_or_init(|| {
        let (at, len) = (NonZeroUsize::new(LOW), NonZeroUsize::new(LOW_BYTES).expect("not 0"));
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED_NOREPLACE;
        // SAFETY: takes the place of no other mapping.
        let start = unsafe { mmap_anonymous(at, len, ProtFlags::PROT_READ, flags) };
        start.map_or(0, |start| start.as_ptr() as usize)
    });
    assert_eq!(start, LOW, "low memory is to be had");
    assert!((LOW..=LOW + LOW_BYTES - 64).contains(&address));
    // SAFETY: mapped above for good and never written.
    unsafe { &*(address as *const [u8; 64]) }
}
