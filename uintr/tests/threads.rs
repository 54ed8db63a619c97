//! User interrupts of threads, by the software backend.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;

use uintr::{Error, Receiver, Vector, mask};

fn vector(number: u8) -> Vector {
    Vector::new(number).unwrap()
}

/// A receiver that counts how often each vector came, and in what order they came first.
struct Counted {
    counts: Arc<[AtomicU64; 64]>,
    order: Arc<AtomicU64>,
    receiver: Receiver,
}

impl Counted {
    fn new() -> Self {
        let counts = Arc::new([const { AtomicU64::new(0) }; 64]);
        let order = Arc::new(AtomicU64::new(0));
        let (counted, ordered) = (Arc::clone(&counts), Arc::clone(&order));
        let receiver = Receiver::new(move |vector: Vector| {
            counted[usize::from(vector.number())].fetch_add(1, SeqCst);
            ordered.fetch_update(SeqCst, SeqCst, |order| Some(order << 8 | u64::from(vector.number()))).unwrap();
        });
        Self { counts, order, receiver: receiver.unwrap() }
    }

    fn count(&self, number: u8) -> u64 {
        self.counts[usize::from(number)].load(SeqCst)
    }
}

#[test]
fn a_thread_interrupts_itself_before_the_next_instruction() {
    let counted = Counted::new();
    for number in [0, 5, 63] {
        let sender = counted.receiver.sender(vector(number));
        for times in 1..100 {
            sender.post().unwrap();
            assert_eq!(counted.count(number), times, "vector {number}");
        }
    }
}

#[test]
fn what_is_posted_while_masked_comes_afterwards_once_and_the_highest_first() {
    let counted = Counted::new();
    let senders = [3, 40, 7].map(|number| counted.receiver.sender(vector(number)));
    let outer = mask();
    let inner = mask();
    for _ in 0..3 {
        senders.iter().for_each(|sender| sender.post().unwrap());
    }
    assert_eq!(counted.order.load(SeqCst), 0, "masked");
    drop(inner);
    assert_eq!(counted.order.load(SeqCst), 0, "still masked");
    drop(outer);
    assert_eq!(counted.order.load(SeqCst), 40 << 16 | 7 << 8 | 3);
    assert_eq!([3, 7, 40].map(|number| counted.count(number)), [1; 3]);
}

#[test]
fn a_thread_that_computes_is_interrupted_and_none_is_lost() {
    const POSTS: u64 = 20_000;
    let seen = Arc::new(AtomicU64::new(0));
    let sequence = Arc::new(AtomicU64::new(0));
    let (handler_seen, handler_sequence) = (Arc::clone(&seen), Arc::clone(&sequence));
    let receiver = Receiver::new(move |_| handler_seen.store(handler_sequence.load(SeqCst), SeqCst)).unwrap();
    let sender = receiver.sender(vector(9));
    let other = {
        let (seen, sequence) = (Arc::clone(&seen), Arc::clone(&sequence));
        thread::spawn(move || {
            for number in 1..=POSTS {
                sequence.store(number, SeqCst);
                sender.post().unwrap();
                // One that is lost is waited for for ever.
                while seen.load(SeqCst) < number {
                    thread::yield_now();
                }
            }
        })
    };
    // Floating-point work, whose results the handlers must leave alone.
    let mut rounds = 0u64;
    while !other.is_finished() {
        let sum: f64 = (0..16).map(|i| std::hint::black_box(f64::from(i)) * 1.5 + 0.25).sum();
        assert_eq!(sum, 184.0);
        rounds += 1;
    }
    other.join().unwrap();
    assert_eq!(seen.load(SeqCst), POSTS);
    assert!(rounds > 0);
}

#[test]
fn a_sender_without_a_pause_does_not_starve_the_thread() {
    let counted = Counted::new();
    let sender = counted.receiver.sender(vector(1));
    let stop = Arc::new(AtomicBool::new(false));
    let storm = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            let mut posts = 0u64;
            while !stop.load(SeqCst) {
                sender.post().unwrap();
                posts += 1;
            }
            posts
        })
    };
    while counted.count(1) == 0 {
        thread::yield_now();
    }
    let work: u64 = (0..20_000_000u64).map(std::hint::black_box).sum();
    stop.store(true, SeqCst);
    let posts = storm.join().unwrap();
    assert_eq!(work, 199_999_990_000_000);
    assert!(counted.count(1) <= posts);
}

#[test]
fn each_thread_has_its_own() {
    let here = Counted::new();
    let again = Receiver::new(|_| ()).unwrap_err();
    assert!(matches!(again, Error::ThreadHasReceiver), "{again}");
    let there = thread::spawn(|| {
        let there = Counted::new();
        there.receiver.sender(vector(2)).post().unwrap();
        (there.count(2), there.receiver.sender(vector(2)))
    });
    let (count, stale) = there.join().unwrap();
    assert_eq!((count, here.count(2)), (1, 0));
    assert!(matches!(stale.post(), Err(Error::Closed)), "its receiver went with the thread");
    let sender = here.receiver.sender(vector(2));
    drop(here);
    assert!(matches!(sender.post(), Err(Error::Closed)));
    // The thread may have another.
    let here = Counted::new();
    here.receiver.sender(vector(3)).post().unwrap();
    assert_eq!(here.count(3), 1);
    assert!(matches!(sender.post(), Err(Error::Closed)), "the old one stays closed");
}
