//! One descriptor for a whole ring: readable whenever the completion ring is, or may be, non-empty.
//!
//! ```text
//!   epoll <- event of each queue pair   raised by the device's interrupt
//!         <- ready                      raised by us: completions are in the ring already
//! ```
//! Nothing is raised before the program asks for the descriptor ([`Notifier::arm`]).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use dmaring_dma::fork;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::Error;

/// The flags are the ring's own, changed by the thread that has the ring: Relaxed orders nothing and
/// need not.
#[derive(Debug)]
pub(crate) struct Notifier {
    epoll: Epoll,
    ready: EventFd,
    armed: AtomicBool,
    raised: AtomicBool,
    /// An event cannot be had: the descriptor stays readable, and the program polls.
    stuck: AtomicBool,
    /// The process that made it: its descriptors are shared with children of `fork`.
    generation: u32,
}

fn failed(call: &'static str) -> impl Fn(nix::Error) -> Error {
    move |errno| Error::Os { call, reason: io::Error::from(errno) }
}

impl Notifier {
    pub(crate) fn new() -> Result<Self, Error> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed("epoll_create1"))?;
        let ready = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(failed("eventfd"))?;
        let this = Self {
            epoll,
            ready,
            armed: AtomicBool::new(false),
            raised: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            generation: fork::generation(),
        };
        this.watch(this.ready.as_fd())?;
        Ok(this)
    }

    /// The descriptor raises from now on.
    pub(crate) fn arm(&self) {
        self.armed.store(true, Relaxed);
    }

    #[inline]
    pub(crate) fn is_armed(&self) -> bool {
        self.armed.load(Relaxed)
    }

    /// Adds the event of a queue pair.
    pub(crate) fn watch(&self, event: BorrowedFd<'_>) -> Result<(), Error> {
        self.epoll.add(event, EpollEvent::new(EpollFlags::EPOLLIN, 0)).map_err(failed("epoll_ctl"))
    }

    /// Says whether completions are in the ring: `ready` is asked only when the descriptor is armed, and
    /// a system call is made only when the answer changes.
    #[inline]
    pub(crate) fn update(&self, ready: impl FnOnce() -> bool) {
        if self.is_armed() {
            let ready = ready();
            if ready != self.raised.load(Relaxed) {
                self.set(ready);
            }
        }
    }

    #[cold]
    fn set(&self, ready: bool) {
        // A child would take its parent's event away, or raise it.
        if self.stuck.load(Relaxed) || self.generation != fork::current() {
            return;
        }
        self.raised.store(ready, Relaxed);
        // A counter of 1 is written and read back: neither can block or overflow.
        let result = if ready { self.ready.write(1).map(drop) } else { self.ready.read().map(drop) };
        if let Err(error) = result {
            tracing::error!(%error, "the ring's ready event");
        }
    }

    /// From now on always readable: no event announces completions.
    pub(crate) fn stick(&self) {
        self.set(true);
        self.stuck.store(true, Relaxed);
    }
}

impl AsFd for Notifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn readable(notifier: &Notifier) -> bool {
        poll(&mut [PollFd::new(notifier.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() > 0
    }

    #[test]
    fn it_is_readable_while_completions_are_ready_once_it_is_armed() {
        let notifier = Notifier::new().unwrap();
        notifier.update(|| true);
        assert!(!readable(&notifier));
        notifier.arm();
        notifier.update(|| true);
        assert!(readable(&notifier));
        notifier.update(|| false);
        assert!(!readable(&notifier));
        notifier.stick();
        notifier.update(|| false);
        assert!(readable(&notifier));
    }

    #[test]
    #[expect(unsafe_code)] // forks
    fn a_child_leaves_its_parents_event_alone() {
        let notifier = Notifier::new().unwrap();
        notifier.arm();
        // SAFETY: the child makes no more than a system call and leaves by _exit.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            notifier.update(|| true);
            // SAFETY: ends the child at once, running no destructors.
            unsafe { libc::_exit(0) };
        }
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert!(!readable(&notifier));
    }
}
