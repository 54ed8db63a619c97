//! Ctrl-C: the first one asks for an orderly end, the second one ends at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

/// Whether the user has asked to stop.
#[derive(Debug, Clone)]
pub struct Interrupt {
    asked: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Catches SIGINT, SIGTERM and SIGHUP from now on.
    ///
    /// # Errors
    /// What the kernel answered to sigaction.
    pub fn catch() -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let signal = Arc::new(AtomicUsize::new(0));
        for number in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: at the second signal the flag is set, and the process ends.
            flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&asked))?;
            flag::register_usize(number, Arc::clone(&signal), number as usize)?;
            flag::register(number, Arc::clone(&asked))?;
        }
        Ok(Self { asked, signal })
    }

    /// The flag, for a loop to look at.
    pub fn flag(&self) -> &AtomicBool {
        &self.asked
    }

    /// The exit status if a signal has come: 128 and its number.
    pub fn status(&self) -> Option<u8> {
        let number = self.signal.load(Ordering::Relaxed);
        (number != 0).then(|| 128 + number as u8)
    }
}

/// The name of a signal, such as `SIGINT`.
pub fn name(status: u8) -> &'static str {
    low_level::signal_name(i32::from(status) - 128).unwrap_or("a signal")
}
