//! What other threads leave for the one that has the ring, and the bell that ends its sleep.

use std::collections::VecDeque;
use std::sync::PoisonError;

use nix::sys::eventfd::EventFd;

use crate::sync::{AtomicBool, Mutex, Ordering};

/// What a sleeping thread hears: raised since its last sleep ended, it ends the next at once.
pub(super) trait Bell {
    fn ring(&self);
    /// What was raised is forgotten.
    fn silence(&self);
}

impl Bell for EventFd {
    fn ring(&self) {
        // The counter cannot overflow: it would take 2^64 letters that nobody reads.
        if let Err(error) = self.write(1) {
            tracing::error!(%error, "the bell of a ring");
        }
    }

    fn silence(&self) {
        let _ = self.read();
    }
}

/// Letters that have not been read.
#[derive(Debug)]
pub(super) struct Letters<T, B> {
    letters: Mutex<VecDeque<T>>,
    /// There are letters, or have been.
    has_mail: AtomicBool,
    bell: B,
}

impl<T, B: Bell> Letters<T, B> {
    pub(super) fn new(bell: B) -> Self {
        Self { letters: Mutex::new(VecDeque::new()), has_mail: AtomicBool::new(false), bell }
    }

    pub(super) fn bell(&self) -> &B {
        &self.bell
    }

    /// Leaves a letter and rings the bell.
    pub(super) fn send(&self, letter: T) {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.push_back(letter);
        // Before the bell: whoever is woken by that must see it. Release, for the Acquire of `take`.
        self.has_mail.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// All letters; the bell is silent then.
    #[inline]
    pub(super) fn take(&self) -> VecDeque<T> {
        if !self.has_mail.load(Ordering::Relaxed) || !self.has_mail.swap(false, Ordering::Acquire) {
            return VecDeque::new();
        }
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        // Silenced while nobody can leave another.
        self.bell.silence();
        std::mem::take(&mut *letters)
    }
}

#[cfg(all(test, loom))]
mod tests {
    use loom::thread;

    use super::*;
    use crate::sync::AtomicU32;

    /// An eventfd in an edge-triggered epoll: what was raised ends one sleep, unless it has been read before.
    #[derive(Debug)]
    struct Edge(Mutex<(u64, bool)>);

    impl Edge {
        /// Whether a sleep would end now.
        fn ends_sleep(&self) -> bool {
            let mut raised = self.0.lock().unwrap();
            std::mem::take(&mut raised.1) && raised.0 > 0
        }
    }

    impl Bell for Edge {
        fn ring(&self) {
            let mut raised = self.0.lock().unwrap();
            *raised = (raised.0 + 1, true);
        }

        fn silence(&self) {
            self.0.lock().unwrap().0 = 0;
        }
    }

    type Post = Letters<u32, Edge>;

    /// Two threads leave a letter each; a third reads as `wait_within` does: looks, and sleeps unless that was
    /// all it wants. A sleep that nobody is left to end is a panic.
    fn post(send: fn(&Post, u32)) {
        loom::model(move || {
            // Without destructors, in which a model that fails cannot be left.
            let post: &'static Post = Box::leak(Box::new(Post::new(Edge(Mutex::new((0, false))))));
            let gone: &'static AtomicU32 = Box::leak(Box::new(AtomicU32::new(0)));
            for letter in [1, 2] {
                thread::spawn(move || {
                    send(post, letter);
                    gone.fetch_add(1, Ordering::Release);
                });
            }
            let mut sum = 0;
            loop {
                sum += post.take().iter().sum::<u32>();
                if sum == 3 {
                    break;
                }
                loop {
                    let all = gone.load(Ordering::Acquire) == 2;
                    if post.bell.ends_sleep() {
                        break;
                    }
                    assert!(!all, "asleep for ever, with {sum} of 3");
                    thread::yield_now();
                }
            }
            assert!(post.take().is_empty());
        });
    }

    #[test]
    fn loom_every_letter_is_read_and_ends_a_sleep() {
        post(Post::send);
    }

    #[test]
    #[should_panic(expected = "asleep for ever")]
    fn loom_a_flag_that_follows_the_bell_leaves_the_reader_asleep() {
        post(|post, letter| {
            post.letters.lock().unwrap().push_back(letter);
            post.bell.ring();
            post.has_mail.store(true, Ordering::Release);
        });
    }

    #[test]
    #[should_panic(expected = "asleep for ever")]
    fn loom_a_bell_that_is_rung_before_the_letter_is_there_rings_in_vain() {
        post(|post, letter| {
            post.bell.ring();
            post.letters.lock().unwrap().push_back(letter);
            post.has_mail.store(true, Ordering::Release);
        });
    }
}
