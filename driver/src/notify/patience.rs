//! How long a waiting thread looks before it sleeps.
//!
//! Looking costs the processor, sleeping costs the way into the kernel and back. A thread that looks for
//! twice the time that completions have lately taken nearly always finds them; one for which that would
//! be too long sleeps at once. What is measured is the whole wait, the sleep included, so a device that
//! becomes fast again is looked for again.
//!
//! ```text
//!   mean wait       0 ... 50 us                    50 us ...
//!   looks for       twice the mean, at least 5 us  not at all
//! ```

use std::time::{Duration, Instant};

/// Nobody looks for less than a sleep costs.
const LEAST: Duration = Duration::from_micros(5);
/// Nor for longer than this.
const MOST: Duration = Duration::from_micros(100);
/// A wait moves the mean by this part of the difference.
const WEIGHT: u32 = 8;
/// The clock is read once in so many looks.
const LOOKS: u32 = 8;
/// After so many waits without a sleep the device need not interrupt.
const CALM: u32 = 256;

/// The waits of a ring, and the one under way.
#[derive(Debug)]
pub(crate) struct Patience {
    mean: Duration,
    since: Option<Instant>,
    looks: u32,
    slept: bool,
    calm: u32,
}

impl Patience {
    pub(crate) fn new() -> Self {
        // The latency of a fast disk.
        Self { mean: Duration::from_micros(20), since: None, looks: 0, slept: false, calm: 0 }
    }

    /// How long a wait looks before it sleeps.
    pub(crate) fn limit(&self) -> Duration {
        let twice = self.mean * 2;
        if twice > MOST { Duration::ZERO } else { twice.max(LEAST) }
    }

    /// Told of each look in vain. True when it is time to sleep.
    pub(crate) fn is_over(&mut self) -> bool {
        let Some(since) = self.since else {
            self.since = Some(Instant::now());
            return self.limit().is_zero();
        };
        self.looks = self.looks.wrapping_add(1);
        (self.looks.is_multiple_of(LOOKS) || self.slept) && since.elapsed() >= self.limit()
    }

    /// The thread sleeps now.
    pub(crate) fn sleeps(&mut self) {
        self.slept = true;
    }

    /// The wait is over.
    pub(crate) fn end(&mut self) {
        if let Some(since) = self.since.take() {
            self.learn(since.elapsed());
            self.calm = if self.slept { 0 } else { self.calm.saturating_add(1) };
            (self.looks, self.slept) = (0, false);
        }
    }

    /// Whether there have been so many waits without a sleep that interrupts are not worth their cost.
    pub(crate) fn is_calm(&self) -> bool {
        self.calm >= CALM
    }

    /// From now on it is time to sleep at once.
    #[cfg(test)]
    pub(crate) fn expect_long_waits(&mut self) {
        self.mean = MOST;
    }

    /// One wait that is far too long says no more than one that is too long.
    fn learn(&mut self, wait: Duration) {
        self.mean = (self.mean * (WEIGHT - 1) + wait.min(2 * MOST)) / WEIGHT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(waits: impl IntoIterator<Item = u64>) -> Patience {
        let mut patience = Patience::new();
        waits.into_iter().for_each(|micros| patience.learn(Duration::from_micros(micros)));
        patience
    }

    #[test]
    fn the_limit_follows_the_latency() {
        let limit = |micros, waits| after(std::iter::repeat_n(micros, waits)).limit();
        assert_eq!(limit(30, 100).as_micros(), 59, "rounded down");
        assert_eq!(limit(1, 100), LEAST);
        assert_eq!(limit(60, 100), Duration::ZERO, "too long to look for");
        assert_eq!(limit(10_000, 100), Duration::ZERO);
    }

    #[test]
    fn one_long_wait_is_forgotten_soon_and_a_device_that_is_fast_again_is_found_out() {
        let long = after(std::iter::repeat_n(20, 100).chain([1_000_000]));
        assert!(!long.limit().is_zero(), "one long wait");
        let slow = after(std::iter::repeat_n(1_000_000, 100));
        assert!(slow.limit().is_zero());
        let again = after(std::iter::repeat_n(1_000_000, 100).chain(std::iter::repeat_n(20, 20)));
        assert!(!again.limit().is_zero());
    }

    #[test]
    fn a_wait_begins_with_its_first_look_in_vain() {
        let mut patience = after(std::iter::repeat_n(1_000_000, 100));
        patience.end();
        assert_eq!(patience.calm, 0, "nothing was waited for");
        assert!(patience.is_over(), "sleeps at once");
        patience.sleeps();
        patience.end();
        assert!(patience.since.is_none() && !patience.slept);
    }

    #[test]
    fn many_waits_without_a_sleep_are_calm_and_one_sleep_ends_that() {
        let mut patience = Patience::new();
        for _ in 0..CALM {
            assert!(!patience.is_calm());
            patience.is_over();
            patience.end();
        }
        assert!(patience.is_calm());
        patience.is_over();
        patience.sleeps();
        patience.end();
        assert!(!patience.is_calm());
    }
}
