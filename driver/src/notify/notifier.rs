//! One descriptor for a whole ring: readable whenever the completion ring is, or may be, non-empty.
//!
//! ```text
//!   epoll <- event of each queue pair   raised by the device's interrupt
//!         <- ready                      raised by us: completions are in the ring already
//!         <- timer                      somebody has to look: after a device that answers nothing, or for a
//!                                       timeout that is due
//! ```
//! Nothing is raised before the program asks for the descriptor ([`Notifier::arm`]).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use dmaring_dma::fork;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::error::Error;

/// The flags are the ring's own, changed by the thread that has the ring: Relaxed orders nothing and
/// need not.
#[derive(Debug)]
pub(crate) struct Notifier {
    epoll: Epoll,
    ready: EventFd,
    timer: TimerFd,
    made: Instant,
    /// When the timer expires, in nanoseconds after `made`; 0 when it is not set.
    due_ns: AtomicU64,
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
            timer: TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)
                .map_err(failed("timerfd_create"))?,
            made: Instant::now(),
            due_ns: AtomicU64::new(0),
            armed: AtomicBool::new(false),
            raised: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            generation: fork::generation(),
        };
        this.watch(this.ready.as_fd())?;
        this.watch(this.timer.as_fd())?;
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

    /// The descriptor raises within this time. A system call only when it would not have done so. Only for a
    /// notifier that is armed.
    #[inline]
    pub(crate) fn tick_within(&self, limit: Option<Duration>) {
        let Some(limit) = limit else { return };
        // Not 0, which would unset it.
        let limit = limit.max(Duration::from_nanos(1));
        let at = self.elapsed_ns() + limit.as_nanos() as u64;
        let due = self.due_ns.load(Relaxed);
        if due == 0 || at < due {
            self.tick(limit, at);
        }
    }

    #[cold]
    fn tick(&self, limit: Duration, at: u64) {
        if self.generation != fork::current() {
            return;
        }
        self.due_ns.store(at, Relaxed);
        if let Err(error) = self.timer.set(Expiration::OneShot(limit.into()), TimerSetTimeFlags::empty()) {
            tracing::error!(%error, "the ring's timer");
        }
    }

    /// Whether the timer has expired since it was last asked. Only for a notifier that is armed.
    #[inline]
    pub(crate) fn has_ticked(&self) -> bool {
        let due = self.due_ns.load(Relaxed);
        due != 0 && self.elapsed_ns() >= due && self.forget_tick()
    }

    #[cold]
    fn forget_tick(&self) -> bool {
        // Setting it anew would do as well; unset takes it off the descriptor until commands are in flight.
        if let Err(error) = self.timer.unset() {
            tracing::error!(%error, "the ring's timer");
        }
        self.due_ns.store(0, Relaxed);
        true
    }

    fn elapsed_ns(&self) -> u64 {
        self.made.elapsed().as_nanos() as u64
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
    fn it_raises_once_within_the_time_it_was_told() {
        let notifier = Notifier::new().unwrap();
        let second = Some(Duration::from_secs(1));
        notifier.arm();
        notifier.tick_within(None);
        notifier.tick_within(second);
        notifier.tick_within(second);
        assert!(!readable(&notifier) && !notifier.has_ticked());
        poll(&mut [PollFd::new(notifier.as_fd(), PollFlags::POLLIN)], 2000u16).unwrap();
        assert!(notifier.has_ticked());
        assert!(!readable(&notifier) && !notifier.has_ticked());
        notifier.tick_within(Some(Duration::from_secs(1000)));
        notifier.tick_within(Some(Duration::ZERO));
        poll(&mut [PollFd::new(notifier.as_fd(), PollFlags::POLLIN)], 10_000u16).unwrap();
        assert!(notifier.has_ticked(), "the earlier one counts");
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
