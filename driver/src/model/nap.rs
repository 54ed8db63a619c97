//! Going to sleep without missing what is told by a plain store, such as a doorbell.
//!
//! ```text
//!   sleeper   says that it naps      fence   looks once more    sleeps if there is nothing
//!   driver    stores the doorbell    fence   looks for a nap    wakes the sleeper if there is one
//! ```
//! Of the two that look at least one sees what the other has stored.

use crate::sync::{AtomicBool, Ordering, fence};

#[derive(Debug)]
pub(super) struct Nap {
    /// The thread sleeps, or is about to.
    napping: AtomicBool,
}

impl Nap {
    pub(super) fn new() -> Self {
        Self { napping: AtomicBool::new(false) }
    }

    /// The thread sleeps, unless it `finds` something to do once it has said that it is about to. Answers whether
    /// it did. `sleep` ends when the thread is woken, also if that was before.
    pub(super) fn unless(&self, finds: impl FnOnce() -> bool, sleep: impl FnOnce()) -> bool {
        self.napping.store(true, Ordering::Relaxed);
        // Pairs with the fence in `is_to_end`: either that look sees the nap, or this one what was told.
        fence(Ordering::SeqCst);
        let found = finds();
        if !found {
            sleep();
        }
        self.napping.store(false, Ordering::Relaxed);
        found
    }

    /// Whether the thread has to be woken, after something was stored that it looks for. One wakes it.
    pub(super) fn is_to_end(&self) -> bool {
        // Pairs with the fence in `unless`.
        fence(Ordering::SeqCst);
        self.napping.swap(false, Ordering::Relaxed)
    }
}

#[cfg(all(test, loom))]
mod tests {
    use loom::thread;

    use super::*;
    use crate::sync::AtomicU32;

    /// A thread sleeps, without a limit, until it finds a doorbell; whether it `looks` before it does. A sleep that
    /// nobody is left to end is a panic.
    fn doorbell(looks: bool) {
        loom::model(move || {
            // Without destructors, in which a model that fails cannot be left.
            let nap: &'static Nap = Box::leak(Box::new(Nap::new()));
            let [doorbell, woken, gone] = std::array::from_fn(|_| &*Box::leak(Box::new(AtomicU32::new(0))));
            thread::spawn(move || {
                doorbell.store(1, Ordering::Relaxed);
                if nap.is_to_end() {
                    woken.store(1, Ordering::Release);
                }
                gone.store(1, Ordering::Release);
            });
            let rung = || doorbell.load(Ordering::Relaxed) == 1;
            let sleep = || {
                loop {
                    let alone = gone.load(Ordering::Acquire) == 1;
                    if woken.load(Ordering::Acquire) == 1 {
                        break;
                    }
                    assert!(!alone, "asleep for ever");
                    thread::yield_now();
                }
            };
            while !rung() {
                nap.unless(|| looks && rung(), sleep);
            }
        });
    }

    #[test]
    fn loom_no_doorbell_is_slept_through() {
        doorbell(true);
    }

    #[test]
    #[should_panic(expected = "asleep for ever")]
    fn loom_without_the_second_look_a_doorbell_is_slept_through() {
        doorbell(false);
    }
}
