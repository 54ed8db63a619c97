//! Learning that a function is wanted back, without a system call where it matters.
//!
//! The kernel raises an event when the function is to be removed (`VFIO_PCI_REQ_IRQ_INDEX`) or its bus
//! has reported a fatal error (`VFIO_PCI_ERR_IRQ_INDEX`). A thread sleeps on it and sets a flag, so that
//! asking is a load, also for a program that polls and makes no system calls.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use vfio_bindings::bindings::vfio::{VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX};

use super::irq;
use crate::fork;

#[derive(Debug)]
pub(super) struct Removal {
    requested: Arc<AtomicBool>,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
    generation: u32,
}

impl Removal {
    /// Watches `device`. `None` when the kernel offers no such event, or no thread can be had: removal
    /// still shows in the registers then.
    pub(super) fn watch(device: &File) -> Option<Self> {
        let event = event_fd().ok()?;
        let connected = [VFIO_PCI_REQ_IRQ_INDEX, VFIO_PCI_ERR_IRQ_INDEX]
            .into_iter()
            .filter(|index| irq::count(device, *index).is_ok_and(|n| n > 0))
            .filter(|index| irq::connect(device, *index, 0, &[Some(event.as_fd())]).is_ok())
            .count();
        if connected == 0 {
            return None;
        }
        Self::on(event).ok()
    }

    fn on(event: EventFd) -> io::Result<Self> {
        let stop = Arc::new(event_fd()?);
        let requested = Arc::new(AtomicBool::new(false));
        let (until, flag) = (Arc::clone(&stop), Arc::clone(&requested));
        let thread = std::thread::Builder::new().name("dmaring-removal".into()).spawn(move || {
            let mut fds =
                [PollFd::new(event.as_fd(), PollFlags::POLLIN), PollFd::new(until.as_fd(), PollFlags::POLLIN)];
            while poll(&mut fds, PollTimeout::NONE) == Err(Errno::EINTR) {}
            if fds[0].any() == Some(true) {
                // Pairs with nothing: the flag says only that someone should look at the device.
                flag.store(true, Ordering::Relaxed);
            }
        })?;
        Ok(Self { requested, stop, thread: Some(thread), generation: fork::generation() })
    }

    /// Whether the function is wanted back. Once true it stays so.
    pub(super) fn requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }
}

fn event_fd() -> nix::Result<EventFd> {
    EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
}

impl Drop for Removal {
    fn drop(&mut self) {
        // A child of fork has the descriptor of its parent's event, but not the thread.
        if self.generation != fork::current() {
            return;
        }
        if self.stop.write(1).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_sets_the_flag_for_good_and_the_thread_ends_either_way() {
        let event = event_fd().unwrap();
        let raise = event.as_fd().try_clone_to_owned().unwrap();
        let removal = Removal::on(event).unwrap();
        assert!(!removal.requested());
        nix::unistd::write(&raise, &1u64.to_ne_bytes()).unwrap();
        while !removal.requested() {
            std::thread::yield_now();
        }
        drop(removal);
        drop(Removal::on(event_fd().unwrap()).unwrap());
    }
}
