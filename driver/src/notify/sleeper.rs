//! Sleeping on the events of all queue pairs of a ring, with one system call a sleep.
//!
//! The events are watched edge-triggered: one that was raised since the last sleep ended ends the next
//! at once, and no read is needed to forget it.

#![expect(unsafe_code)] // owns the one system call that nix does not have

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::error::Error;

#[derive(Debug)]
pub(crate) struct Sleeper {
    epoll: Epoll,
}

impl Sleeper {
    pub(crate) fn new() -> Result<Self, Error> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|errno| Error::Os { call: "epoll_create1", reason: io::Error::from(errno) })?;
        Ok(Self { epoll })
    }

    /// Adds the event of a queue pair, unless it is watched already.
    pub(crate) fn watch(&self, event: BorrowedFd<'_>) -> Result<(), Error> {
        let edges = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0);
        match self.epoll.add(event, edges) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(Error::Os { call: "epoll_ctl", reason: io::Error::from(errno) }),
        }
    }

    /// Sleeps until an event has been raised since the last sleep; false when `limit` has passed first.
    /// Meanwhile the signals of `sigmask` (bit 0 is signal 1) are blocked instead of those that are.
    ///
    /// # Errors
    /// `EINTR` when a signal has been handled, and the kernel's others.
    pub(crate) fn sleep(&self, limit: Duration, sigmask: Option<u64>) -> io::Result<bool> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 8];
        // A limit is met in nanoseconds by `epoll_pwait2` (5.11).
        let time = libc::timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        };
        let mask = sigmask.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let epoll = self.epoll.0.as_raw_fd();
        // SAFETY: room for as many events as are told, a timespec, and eight bytes of signals or nothing; all
        // outlive the call.
        let raised = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                epoll,
                events.as_mut_ptr(),
                events.len(),
                &raw const time,
                mask,
                8usize,
            )
        };
        if raised < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(raised > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::sys::eventfd::EventFd;

    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    #[test]
    fn an_event_raised_before_the_sleep_ends_it_and_only_it() {
        let (sleeper, event) = (Sleeper::new().unwrap(), EventFd::new().unwrap());
        sleeper.watch(event.as_fd()).unwrap();
        assert!(!sleeper.sleep(SHORT, None).unwrap());
        event.write(1).unwrap();
        event.write(1).unwrap();
        assert!(sleeper.sleep(SHORT, None).unwrap());
        assert!(!sleeper.sleep(SHORT, None).unwrap(), "nothing was raised since");
        event.write(1).unwrap();
        assert!(sleeper.sleep(SHORT, None).unwrap(), "raised anew though never read");
    }
}
