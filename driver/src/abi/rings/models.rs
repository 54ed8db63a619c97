//! Models of the agreement on the indices of a ring.

use io_uring::{cqueue, squeue};
use loom::sync::Mutex;
use loom::thread;

use super::*;
use crate::abi::flags::{IORING_SETUP_NO_SQARRAY, IORING_SQ_CQ_OVERFLOW};
use crate::abi::memory::RingMemory;
use crate::abi::params::Params;
use crate::engine::completions::Completions;
use crate::face::SubmissionQueue;

/// Ring memory that outlives the threads of a model.
fn ring(entries: u32) -> (RingMemory, RingView) {
    let memory = RingMemory::new(&Params::layout(entries, 0, IORING_SETUP_NO_SQARRAY).unwrap()).unwrap();
    let view = memory.view();
    (memory, view)
}

fn entry(user_data: u64) -> squeue::Entry {
    Sqe { user_data, ..Sqe::default() }.into()
}

/// A program pushes `count` entries, each published by itself, into a ring that has room for fewer; an engine
/// takes batches of them as `Engine::consume` does. `publish` is what the program does with the tail.
fn submission(count: u64, publish: fn(&RingView, u32), give_back: fn(&RingView, u32)) {
    loom::model(move || {
        let (memory, view) = ring(2);
        let engine = thread::spawn(move || {
            let (mut head, mut seen) = (view.sq_head(), 0);
            while seen != count {
                let tail = view.sq_tail();
                if tail == head {
                    thread::yield_now();
                    continue;
                }
                while head != tail {
                    assert_eq!(view.plain_slot(head).copy().user_data, seen, "each once, in order");
                    head = head.wrapping_add(1);
                    seen += 1;
                }
                give_back(&view, head);
            }
        });
        let mut pushed = 0;
        while pushed != count {
            let tail = view.sq_tail();
            if tail.wrapping_sub(view.sq_head()) == view.sq_entries() {
                thread::yield_now();
                continue;
            }
            view.sqes::<squeue::Entry>().write(tail, &entry(pushed));
            publish(&view, tail.wrapping_add(1));
            pushed += 1;
        }
        engine.join().unwrap();
        drop(memory);
    });
}

#[test]
fn loom_each_entry_is_seen_once_and_whole() {
    submission(3, RingView::set_sq_tail, RingView::set_sq_head);
}

fn relaxed_tail(view: &RingView, tail: u32) {
    // SAFETY: inside the ring memory, which the model keeps.
    unsafe { view.sq_tail.as_ref() }.store(tail, Ordering::Relaxed);
}

fn relaxed_head(view: &RingView, head: u32) {
    // SAFETY: as above.
    unsafe { view.sq_head.as_ref() }.store(head, Ordering::Relaxed);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_a_tail_that_is_no_release_shows_entries_that_are_not_written() {
    submission(1, relaxed_tail, RingView::set_sq_head);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_a_head_that_is_no_release_lets_entries_be_overwritten() {
    submission(3, RingView::set_sq_tail, relaxed_head);
}

/// The faces of the library on the program's side: entries are published together when the queue is dropped.
#[test]
fn loom_a_batch_is_seen_whole() {
    loom::model(|| {
        let (memory, view) = ring(2);
        let engine = thread::spawn(move || {
            loop {
                let tail = view.sq_tail();
                for head in 0..tail {
                    assert_eq!(view.plain_slot(head).copy().user_data, u64::from(head));
                }
                if tail != 0 {
                    return tail;
                }
                thread::yield_now();
            }
        });
        let mut queue = SubmissionQueue::<squeue::Entry>::new(&view);
        for user_data in 0..2 {
            // SAFETY: the entry is not issued.
            unsafe { queue.push(&entry(user_data)) }.unwrap();
        }
        assert!(queue.is_full());
        drop(queue);
        assert_eq!(engine.join().unwrap(), 2);
        drop(memory);
    });
}

/// Without destructors, in which a model that fails cannot be left.
type Shared = &'static Mutex<Completions>;

fn shared(view: RingView) -> Shared {
    Box::leak(Box::new(Mutex::new(Completions::new(view))))
}

/// What the program of a model does when it finds the completion ring empty: it looks at the flag, and enters.
fn enter_if_told(view: &RingView, cq: Shared) {
    if view.sq_flags() & IORING_SQ_CQ_OVERFLOW != 0 {
        let mut cq = cq.lock().unwrap();
        cq.flush();
        cq.set_flags(false);
    } else {
        thread::yield_now();
    }
}

/// An engine posts `count` completions, more than the ring holds, each by `post`; a program takes them.
fn completion(count: u64, post: fn(&RingView, &mut Completions, u64)) {
    loom::model(move || {
        let (memory, view) = ring(1);
        let cq = shared(view);
        let engine = thread::spawn(move || {
            for user_data in 0..count {
                post(&view, &mut cq.lock().unwrap(), user_data);
            }
            cq.lock().unwrap().set_flags(false);
        });
        let mut seen = 0;
        while seen != count {
            let head = view.cq_head();
            if head == view.cq_tail() {
                enter_if_told(&view, cq);
                continue;
            }
            let cqe = view.cqes::<cqueue::Entry>().read(head);
            assert_eq!(cqe.user_data(), seen, "each once, in order");
            view.set_cq_head(head.wrapping_add(1));
            seen += 1;
        }
        engine.join().unwrap();
        assert!(!cq.lock().unwrap().has_any());
        drop(memory);
    });
}

#[test]
fn loom_nothing_is_lost_behind_a_full_ring() {
    completion(4, |_, cq, user_data| cq.post(user_data, 0, 0));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn loom_a_completion_that_is_written_after_it_is_published_is_found_out() {
    completion(1, |view, cq, user_data| {
        cq.commit(1);
        view.write_cqe(cq.tail().wrapping_sub(1), user_data, 0, 0);
    });
}

/// Whoever knows that there is a backlog, sees the flag.
#[test]
fn loom_a_backlog_is_never_without_its_flag() {
    loom::model(|| {
        let (memory, view) = ring(1);
        let cq = shared(view);
        let engine = thread::spawn(move || {
            for user_data in 0..4 {
                cq.lock().unwrap().post(user_data, 0, 0);
            }
            cq.lock().unwrap().set_flags(true);
        });
        let behind = cq.lock().unwrap().backlog();
        if behind != 0 {
            assert_ne!(view.sq_flags() & IORING_SQ_CQ_OVERFLOW, 0, "{behind} wait behind the ring");
        }
        engine.join().unwrap();
        assert_ne!(view.sq_flags() & IORING_SQ_CQ_OVERFLOW, 0);
        drop(memory);
    });
}
