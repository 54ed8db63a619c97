//! How completions are awaited, and changing it.

use std::time::Duration;

use super::Engine;
use crate::error::Error;
use crate::nvme::IoQueue;

/// How completions are awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CompletionMode {
    /// The program's thread looks at the completion queue until something is there. No system call.
    #[default]
    Poll,
    /// The thread sleeps on an event that the device's MSI-X interrupt raises.
    Interrupt,
    /// The thread looks for a while, then sleeps. How long it looks follows the latency that is measured:
    /// twice the mean, if that is no more than 100 microseconds. A ring that has not slept for 256 waits
    /// takes the device's interrupts away until it wants to sleep again.
    Adaptive,
}

impl CompletionMode {
    /// Whether a thread that waits may sleep.
    pub(crate) fn sleeps(self) -> bool {
        self != Self::Poll
    }
}

impl Engine {
    pub(crate) fn mode(&self) -> CompletionMode {
        self.mode
    }

    /// How long an adaptive ring looks before it sleeps.
    pub(crate) fn poll_limit(&self) -> Duration {
        if self.mode == CompletionMode::Adaptive { self.patience.limit() } else { Duration::ZERO }
    }

    /// Changes how completions are awaited, for every queue pair or for none.
    pub(crate) fn set_mode(&mut self, mode: CompletionMode) -> Result<(), Error> {
        self.check_ours()?;
        if mode.sleeps() {
            if let Err(error) = self.connect_events() {
                if !self.mode.sleeps() {
                    self.disconnect_events();
                }
                return Err(error);
            }
        } else {
            self.disconnect_events();
        }
        self.mode = mode;
        self.choose_path();
        self.options.interrupts = mode.sleeps();
        Ok(())
    }

    /// From now on interrupts end the sleep of a waiting thread.
    pub(super) fn connect_events(&mut self) -> Result<(), Error> {
        for queue in &mut self.queues {
            queue.arm()?;
            queue.event().map_or(Ok(()), |event| self.sleeper.watch(event))?;
        }
        self.quiet = false;
        Ok(())
    }

    /// No interrupts, unless the ring's descriptor needs them.
    pub(super) fn disconnect_events(&mut self) {
        if !self.notifier.is_armed() {
            self.queues.iter_mut().for_each(IoQueue::disarm);
            self.quiet = true;
        }
    }
}
