//! Events in the other direction: from devices to the program.
//!
//! Polling needs nothing of this. An interrupt is an event descriptor that VFIO raises; a thread sleeps
//! on those of its queues ([`sleep`]), and a program that has an event loop of its own watches one
//! descriptor for the whole ring ([`Notifier`]).

mod notifier;

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub(crate) use notifier::Notifier;

use crate::error::Error;

/// Sleeps until one of `events` is raised; false when `limit` has passed first. A signal counts as an
/// event: the caller looks and comes back.
pub(crate) fn sleep(events: &[BorrowedFd<'_>], limit: Duration) -> Result<bool, Error> {
    let mut fds: Vec<PollFd<'_>> = events.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, limit) {
        Ok(raised) => Ok(raised > 0),
        Err(Errno::EINTR) => Ok(true),
        Err(errno) => Err(Error::Os { call: "poll", reason: io::Error::from(errno) }),
    }
}
