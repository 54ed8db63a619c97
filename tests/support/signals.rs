//! Signals for one thread: SIGUSR2, which does nothing but interrupt.

#![expect(unsafe_code)] // owns the handler of SIGUSR2 and the system's names of threads

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

const SIGNAL: Signal = Signal::SIGUSR2;

extern "C" fn nothing(_: libc::c_int) {}

fn handle() {
    // Without SA_RESTART.
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler touches nothing.
    unsafe { sigaction(SIGNAL, &action) }.expect("a handler for SIGUSR2");
}

/// Blocks the signal for this thread and raises it, until dropped.
#[derive(Debug)]
pub(crate) struct Pending(());

impl Pending {
    pub(crate) fn new() -> Self {
        handle();
        SigSet::from(SIGNAL).thread_block().expect("a mask");
        // SAFETY: this thread is there.
        let raised = unsafe { libc::pthread_kill(libc::pthread_self(), SIGNAL as libc::c_int) };
        assert_eq!(raised, 0);
        Self(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // It is delivered now, if it has not been.
        let _ = SigSet::from(SIGNAL).thread_unblock();
    }
}

/// Raises the signal for the thread that made it again and again, until dropped.
#[derive(Debug)]
pub(crate) struct Striker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Striker {
    pub(crate) fn new() -> Self {
        handle();
        let stop = Arc::new(AtomicBool::new(false));
        // SAFETY: always answers.
        let target = unsafe { libc::pthread_self() };
        let stopped = Arc::clone(&stop);
        let strike = move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
                // SAFETY: the target waits for this thread's end when it drops the `Striker`.
                unsafe { libc::pthread_kill(target, SIGNAL as libc::c_int) };
            }
        };
        Self { stop, thread: Some(std::thread::spawn(strike)) }
    }
}

impl Drop for Striker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
