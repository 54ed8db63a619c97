//! The system calls of a ring with all their arguments.

#![expect(unsafe_code)] // makes the promises of `enter` and `register` for memory of this file's making

use std::io;
use std::time::Duration;

use dmaring::Ring;

use super::raw::Memory;

const ENTER_EXT_ARG: u32 = 1 << 3;
const REGISTER_PBUF_RING: u32 = 22;

/// `struct io_uring_getevents_arg`.
#[repr(C)]
struct GetEventsArg {
    sigmask: u64,
    sigmask_sz: u32,
    min_wait_usec: u32,
    ts: u64,
}

/// `struct __kernel_timespec`.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

/// `struct io_uring_buf_reg`.
#[repr(C)]
struct BufReg {
    ring_addr: u64,
    ring_entries: u32,
    bgid: u16,
    flags: u16,
    resv: [u64; 3],
}

const _: () = assert!(size_of::<GetEventsArg>() == 24 && size_of::<BufReg>() == 40);

/// `io_uring_enter(2)`, waiting no longer than `limit`.
///
/// Safe to call for the reason for which [`raw::push`](super::raw::push) is.
pub(crate) fn enter(
    ring: &Ring,
    to_submit: u32,
    min_complete: u32,
    flags: u32,
    limit: Option<Duration>,
) -> io::Result<usize> {
    let Some(limit) = limit else {
        // SAFETY: there is no argument; entries as of `push`.
        return unsafe { ring.submitter().enter::<()>(to_submit, min_complete, flags & !ENTER_EXT_ARG, None) };
    };
    let time = Timespec { seconds: limit.as_secs() as i64, nanoseconds: limit.subsec_nanos().into() };
    let argument = GetEventsArg { sigmask: 0, sigmask_sz: 0, min_wait_usec: 0, ts: &raw const time as u64 };
    // SAFETY: the argument is what `EXT_ARG` says, and lives through the call.
    unsafe { ring.submitter().enter(to_submit, min_complete, flags | ENTER_EXT_ARG, Some(&argument)) }
}

/// Registers `memory`, which outlives the ring, as a ring of `entries` provided buffers.
pub(crate) fn register_buffer_ring(
    ring: &Ring,
    memory: &Memory,
    entries: u16,
    group: u16,
    flags: u16,
) -> io::Result<u32> {
    assert!(memory.len() >= 16 * usize::from(entries));
    let ring_addr = memory.address();
    let argument = BufReg { ring_addr, ring_entries: entries.into(), bgid: group, flags, resv: [0; 3] };
    // SAFETY: one `io_uring_buf_reg`, and memory of that many entries that its owner keeps.
    unsafe { ring.submitter().register(REGISTER_PBUF_RING, (&raw const argument).cast(), 1) }
}
