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
        if self.stuck.load(Relaxed) {
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
