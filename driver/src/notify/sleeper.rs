//! Sleeping on the events of all queue pairs of a ring, with one system call a sleep.
//!
//! The events are watched edge-triggered: one that was raised since the last sleep ended ends the next
//! at once, and no read is needed to forget it.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

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

    /// Sleeps until an event has been raised since the last sleep; false when `limit` has passed first. A
    /// signal counts as an event: the caller looks and comes back.
    pub(crate) fn sleep(&self, limit: Duration) -> Result<bool, Error> {
        let limit = EpollTimeout::try_from(limit).unwrap_or(EpollTimeout::MAX);
        match self.epoll.wait(&mut [EpollEvent::empty(); 8], limit) {
            Ok(raised) => Ok(raised > 0),
            Err(Errno::EINTR) => Ok(true),
            Err(errno) => Err(Error::Os { call: "epoll_wait", reason: io::Error::from(errno) }),
        }
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
        assert!(!sleeper.sleep(SHORT).unwrap());
        event.write(1).unwrap();
        event.write(1).unwrap();
        assert!(sleeper.sleep(SHORT).unwrap());
        assert!(!sleeper.sleep(SHORT).unwrap(), "nothing was raised since");
        event.write(1).unwrap();
        assert!(sleeper.sleep(SHORT).unwrap(), "raised anew though never read");
    }
}
