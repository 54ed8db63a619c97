//! Models of a program and an engine that share ring memory, each on a thread of its own.

use io_uring::{cqueue, squeue};
use loom::thread;

use super::*;
use crate::abi::entry::Sqe;
use crate::abi::flags::{IORING_SETUP_CQSIZE, IORING_SETUP_NO_SQARRAY, IORING_SQ_CQ_OVERFLOW};
use crate::abi::memory::RingMemory;
use crate::abi::params::Params;
use crate::face::SubmissionQueue;
use crate::sync::{AtomicBool, Ordering};

/// An engine without a device.
#[expect(unsafe_code)] // promises for entries that name no memory
fn engine(rings: RingView) -> Box<Engine> {
    let options = QueueOptions { depth: 8, interrupts: false, bounce_bytes: 0, admin_commands: false, strict: false };
    // SAFETY: NOPs name no memory.
    let user = unsafe { UserMemory::promised(false) };
    let notifier = Arc::new(Notifier::new().unwrap());
    Box::new(Engine::new(rings, 0, options, CompletionMode::Poll, user, notifier).unwrap())
}

/// A program submits two NOPs through rings of one entry each, and takes their completions. It enters only when the
/// overflow flag says that this brings more, and takes a flag that goes for the end of what was behind the ring.
#[expect(unsafe_code)] // pushes entries that name no memory
#[test]
fn loom_nothing_is_lost_between_a_program_and_an_engine() {
    const COUNT: u32 = 2;
    loom::model(|| {
        let flags = IORING_SETUP_NO_SQARRAY | IORING_SETUP_CQSIZE;
        let memory = RingMemory::new(&Params::layout(1, 1, flags).unwrap()).unwrap();
        let view = memory.view();
        // Without destructors, in which a model that fails cannot be left.
        let enters: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
        let served = thread::spawn(move || {
            let mut engine = engine(view);
            while engine.cq.tail() != COUNT {
                let submitted = engine.submit().unwrap();
                // Relaxed: what the program has told is in the rings.
                if enters.swap(false, Ordering::Relaxed) {
                    engine.progress();
                }
                if submitted == 0 {
                    thread::yield_now();
                }
            }
        });
        let (mut pushed, mut seen, mut told) = (0, 0, false);
        while seen != COUNT {
            let mut queue = SubmissionQueue::<squeue::Entry>::new(&view);
            if pushed != COUNT && !queue.is_full() {
                // SAFETY: a NOP names no memory.
                unsafe { queue.push(&Sqe { user_data: pushed.into(), ..Sqe::default() }.into()) }.unwrap();
                pushed += 1;
            }
            drop(queue);
            let overflow = view.sq_flags() & IORING_SQ_CQ_OVERFLOW != 0;
            let (head, tail) = (view.cq_head(), view.cq_tail());
            if head != tail {
                let cqe = view.cqes::<cqueue::Entry>().read(head);
                assert_eq!((cqe.user_data(), cqe.result()), (seen.into(), 0), "each once, in order");
                view.set_cq_head(head.wrapping_add(1));
                seen += 1;
                continue;
            }
            assert!(overflow || !told, "the flag is gone, and {seen} of {COUNT} have come");
            if overflow {
                // A read as well: loom gives plain stores of two threads no order, and this one might never be last.
                enters.swap(true, Ordering::Relaxed);
                // Looks at once when it has told for the first time: to whoever has yielded loom shows nothing old.
                if !std::mem::replace(&mut told, true) {
                    continue;
                }
            }
            thread::yield_now();
        }
        served.join().unwrap();
        drop(memory);
    });
}
