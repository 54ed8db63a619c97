//! Rings that change their sizes: `IORING_REGISTER_RESIZE_RINGS`.

use io_uring::opcode;

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::calls::{REGISTER_RESIZE_RINGS, register, register_bytes};
use crate::support::pattern;
use crate::support::rig::{Rig, read};

pub(super) const ALL: &[Case] = cases![
    a_resized_ring_goes_on,
    a_resize_that_cannot_be_told_of_changes_nothing,
    entries_and_completions_move_along,
    a_backlog_follows_into_a_larger_ring,
];

/// SINGLE_ISSUER and DEFER_TASKRUN, without which there is no resizing.
const DEFERRED: u32 = 1 << 12 | 1 << 13;
const CQSIZE: u32 = 8;

/// Nothing of the ring's queues is held by callers.
fn resize(rig: &Rig, sq_entries: u32, cq_entries: u32) -> Outcome {
    let mut bytes = [0; 120];
    for (at, word) in [sq_entries, cq_entries, CQSIZE].into_iter().enumerate() {
        bytes[4 * at..4 * at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    match register_bytes(&rig.ring, REGISTER_RESIZE_RINGS, &bytes, 1) {
        0 => Ok(()),
        errno => Err(Stop::Fail(format!("{sq_entries}, {cq_entries}: errno {errno}"))),
    }
}

fn nop(user_data: u64) -> io_uring::squeue::Entry {
    opcode::Nop::new().build().user_data(user_data)
}

fn a_resized_ring_goes_on(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let mut rig = bench.open(bench.builder(8).setup_flags(DEFERRED))?;
    rig.put(3, 0, 64 << 10)?;
    let memory = rig.plain(64 << 10);
    for (sq_entries, cq_entries) in [(16, 64), (2, 4), (1, 1), (128, 4096), (8, 16)] {
        resize(&rig, sq_entries, cq_entries)?;
        assert_eq!(rig.ring.submission().capacity(), sq_entries as usize);
        assert_eq!(rig.ring.completion().capacity(), cq_entries as usize);
        let reads: Vec<_> = (0..16).map(|i| read(&memory.part(i * 4096, 4096), 4096 * i as u64)).collect();
        assert_eq!(rig.all(&reads)?, [4096; 16]);
        pattern::check(3, 0, &memory.read());
    }
    Ok(())
}

fn a_resize_that_cannot_be_told_of_changes_nothing(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    // 16 and 32 entries, in memory that nobody can write to.
    static PARAMS: [u32; 30] = {
        let mut words = [0; 30];
        (words[0], words[1], words[2]) = (16, 32, CQSIZE);
        words
    };
    let mut rig = bench.open(bench.builder(4).setup_flags(DEFERRED))?;
    let answer = register(&rig.ring, REGISTER_RESIZE_RINGS, (&raw const PARAMS) as u64, 1);
    assert_eq!(answer, -libc::EFAULT);
    assert_eq!(rig.ring.submission().capacity(), 4);
    for i in 0..20 {
        assert_eq!(rig.one(nop(i))?, 0);
    }
    resize(&rig, 8, 8)?;
    assert_eq!(rig.one(nop(0))?, 0);
    Ok(())
}

fn entries_and_completions_move_along(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let mut rig = bench.open(bench.builder(4).setup_flags(DEFERRED))?;
    // Indices that have gone round.
    for i in 0..7 {
        assert_eq!(rig.one(nop(i))?, 0);
    }
    for (sq_entries, cq_entries) in [(16, 32), (4, 8), (4, 4)] {
        for i in 0..3 {
            rig.push(&nop(10 + i))?;
        }
        assert_eq!(rig.ring.submit_and_wait(3)?, 3);
        for i in 0..3 {
            rig.push(&nop(20 + i))?;
        }
        resize(&rig, sq_entries, cq_entries)?;
        assert_eq!(rig.ring.submission().len(), 3);
        let names = |rig: &mut Rig| rig.ready().iter().map(|done| done.user_data).collect::<Vec<_>>();
        assert_eq!(names(&mut rig), [10, 11, 12]);
        assert_eq!(rig.ring.submit_and_wait(3)?, 3);
        assert_eq!(names(&mut rig), [20, 21, 22]);
    }
    Ok(())
}

fn a_backlog_follows_into_a_larger_ring(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let mut rig = bench.open(bench.builder(4).cq_entries(4).setup_flags(DEFERRED))?;
    for round in 0..3 {
        for i in 0..4 {
            rig.push(&nop(4 * round + i))?;
        }
        assert_eq!(rig.ring.submit()?, 4);
    }
    resize(&rig, 4, 32)?;
    let names: Vec<u64> = rig.wait(12)?.iter().map(|done| done.user_data).collect();
    assert_eq!(names, (0..12).collect::<Vec<_>>());
    assert!(!rig.ring.submission().cq_overflow());
    Ok(())
}
