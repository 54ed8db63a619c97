//! Which process this is, without a system call.
//!
//! DMA memory is shared, so after `fork` the child would see the parent's queues and could ring
//! the parent's doorbells. Our mappings are marked `MADV_DONTFORK`; whoever keeps a pointer into
//! them remembers the [`generation`] it was made in and refuses to work in another.

#![expect(unsafe_code)] // owns the registration of the fork handler

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);
static HANDLER: Once = Once::new();

/// A number that is another one in each process that `fork` made of this one.
#[must_use]
pub fn generation() -> u32 {
    HANDLER.call_once(|| {
        extern "C" fn in_child() {
            GENERATION.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the handler is a function of this program that touches one atomic, which is
        // allowed between fork and exec; it stays registered for the life of the process.
        let rc = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        if rc != 0 {
            tracing::warn!(errno = rc, "no fork handler: a child's use of this ring will not be noticed");
        }
    });
    current()
}

/// [`generation`] without the registration: one load, for the data path.
#[inline]
#[must_use]
pub fn current() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_another_generation() {
        let before = generation();
        // SAFETY: the child only compares two numbers and leaves by _exit.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let changed = current() != before;
            // SAFETY: ends the child at once, running no destructors.
            unsafe { libc::_exit(i32::from(!changed)) };
        }
        assert!(pid > 0);
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        assert_eq!(waited, pid);
        assert_eq!(status, 0, "the child saw its parent's generation");
        assert_eq!(current(), before);
    }
}
