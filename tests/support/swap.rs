//! Swap.

#![expect(unsafe_code)] // owns the calls of swapon and swapoff

use std::ffi::{CStr, CString};
use std::io;

/// Swap that is in use until this is dropped.
#[derive(Debug)]
pub(crate) struct Swap(CString);

/// Uses a block device as swap.
pub(crate) fn on(path: &CStr) -> io::Result<Swap> {
    // SAFETY: a path that ends with NUL; the caller wrote the swap header for this.
    let rc = unsafe { libc::swapon(path.as_ptr(), 0) };
    if rc == 0 { Ok(Swap(path.to_owned())) } else { Err(io::Error::last_os_error()) }
}

impl Drop for Swap {
    fn drop(&mut self) {
        // SAFETY: the path of `on`.
        let _ = unsafe { libc::swapoff(self.0.as_ptr()) };
    }
}
