//! The three system calls of io_uring.

#![expect(unsafe_code)] // owns the raw system calls

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::abi::params::Params;

fn answer(result: i64) -> io::Result<u32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(u32::try_from(result).unwrap_or(u32::MAX)) }
}

/// `io_uring_setup(2)`.
///
/// # Errors
/// The kernel's.
pub(crate) fn setup(entries: u32, params: &mut Params) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads and writes one `struct io_uring_params`, whose layout is asserted.
    let fd = answer(unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, &raw mut *params) })?;
    // SAFETY: a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd.cast_signed()) })
}

/// What `io_uring_enter(2)` takes last: nothing, a signal mask, or what `EXT_ARG` says. Address and bytes.
pub(crate) type EnterArgument = (*const libc::c_void, usize);

/// No argument.
pub(crate) const NO_ARGUMENT: EnterArgument = (std::ptr::null(), 0);

/// `io_uring_enter(2)`.
///
/// # Safety
/// The submission entries that it consumes name memory that stays valid until their completion, and the
/// argument is what `flags` say.
///
/// # Errors
/// The kernel's.
pub(crate) unsafe fn enter(
    ring: BorrowedFd<'_>,
    to_submit: u32,
    min_complete: u32,
    flags: u32,
    (arg, len): EnterArgument,
) -> io::Result<u32> {
    let ring = ring.as_raw_fd();
    // SAFETY: the ring's memory is mapped for as long as the descriptor; the rest is the caller's promise.
    answer(unsafe { libc::syscall(libc::SYS_io_uring_enter, ring, to_submit, min_complete, flags, arg, len) })
}

/// `io_uring_register(2)`.
///
/// # Safety
/// `arg` and `nr_args` are what `opcode` takes, and memory handed over stays valid until it is
/// unregistered.
///
/// # Errors
/// The kernel's.
pub(crate) unsafe fn register(
    ring: BorrowedFd<'_>,
    opcode: u32,
    arg: *const libc::c_void,
    nr_args: u32,
) -> io::Result<u32> {
    // SAFETY: the caller's promise.
    answer(unsafe { libc::syscall(libc::SYS_io_uring_register, ring.as_raw_fd(), opcode, arg, nr_args) })
}
