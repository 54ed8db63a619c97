//! A kernel io_uring that init keeps open.
//!
//! The kernel patches its own text when the first io_uring is made and again when the last one has gone
//! (static key `io_key_has_sqarray`, since 6.8). Patching while several CPUs run is what QEMU 7.2 gets
//! wrong at times, and programs that make rings one after another would do it over and over.
#![expect(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd};

use nix::libc;

/// Size of `struct io_uring_params`, in 64-bit words.
const PARAMS_WORDS: usize = 15;

/// Makes a ring that is not used; `None` where the kernel has or allows none.
pub(crate) fn hold() -> Option<OwnedFd> {
    let mut params = [0u64; PARAMS_WORDS];
    // SAFETY: the kernel reads and writes one `io_uring_params`, which `params` is as large as.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}
