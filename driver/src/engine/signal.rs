//! The eventfd that a program registers: it is signalled when completions have been posted
//! (io_uring/eventfd.c, 6.18).

#![expect(unsafe_code)] // duplicates a descriptor that the program has named

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use crate::abi::flags::IORING_CQ_EVENTFD_DISABLED;
use crate::abi::rings::RingView;

/// The registered eventfd of a ring, if there is one.
#[derive(Debug, Default)]
pub(super) struct Signal {
    event: Option<OwnedFd>,
    /// Signalled only for completions of operations that a worker of the kernel's would end
    /// (`EVENTFD_ASYNC`): those with `IOSQE_ASYNC` that need no device.
    only_async: bool,
    /// There is such a completion.
    by_worker: bool,
    /// The last completion that was signalled.
    told: u32,
}

impl Signal {
    #[inline]
    pub(super) fn is_registered(&self) -> bool {
        self.event.is_some()
    }

    /// `io_eventfd_register`, when `posted` completions have ever been in the ring.
    pub(super) fn register(&mut self, fd: Result<RawFd, i32>, only_async: bool, posted: u32) -> Result<(), i32> {
        if self.event.is_some() {
            return Err(libc::EBUSY);
        }
        let fd = fd?;
        *self = Self { event: Some(duplicate(fd)?), only_async, by_worker: false, told: posted };
        Ok(())
    }

    pub(super) fn unregister(&mut self) -> Result<(), i32> {
        self.event.take().map(drop).ok_or(libc::ENXIO)
    }

    /// An operation has ended that a worker would have ended.
    pub(super) fn worked(&mut self) {
        self.by_worker = true;
    }

    /// Completions have been posted, `posted` ever.
    pub(super) fn tell(&mut self, posted: u32, rings: &RingView) {
        let Some(event) = &self.event else { return };
        if posted == self.told {
            return;
        }
        self.told = posted;
        if (self.only_async && !std::mem::take(&mut self.by_worker))
            || rings.cq_flags() & IORING_CQ_EVENTFD_DISABLED != 0
        {
            return;
        }
        // A counter at its limit blocks nobody: the program has not read the last one either.
        let _ = nix::unistd::write(event, &1u64.to_ne_bytes());
    }
}

/// Another descriptor of an eventfd.
fn duplicate(fd: RawFd) -> Result<OwnedFd, i32> {
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).map_err(|_| libc::EBADF)?;
    // `eventfd_ctx_fdget`.
    if link.as_os_str() != "anon_inode:[eventfd]" {
        return Err(libc::EINVAL);
    }
    // SAFETY: makes another descriptor, or fails.
    let own = Errno::result(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) }).map_err(|errno| errno as i32)?;
    // SAFETY: a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(own) })
}
