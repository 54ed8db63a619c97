//! More completions than the completion ring holds.

use std::time::Duration;

use io_uring::opcode;
use io_uring::squeue::Entry;
use io_uring::types::TimeoutFlags;

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::calls;
use crate::support::rig::{Done, Rig, read};

pub(super) const ALL: &[Case] = cases![
    completions_beyond_the_ring_are_kept_in_order,
    the_overflow_flag_is_set_and_cleared,
    submitting_goes_on_while_completions_overflow,
    reads_that_overflow_are_not_lost,
    a_multishot_timeout_ends_with_a_full_ring,
];

fn nop(user_data: u64) -> Entry {
    opcode::Nop::new().build().user_data(user_data)
}

/// Submits `count` entries, a ring at a time.
fn submit_many(rig: &mut Rig, count: u64, entry: impl Fn(u64) -> Entry) -> Result<(), Stop> {
    let entries = rig.ring.submission().capacity() as u64;
    for start in (0..count).step_by(entries as usize) {
        let end = count.min(start + entries);
        for i in start..end {
            rig.push(&entry(i).user_data(i))?;
        }
        assert_eq!(rig.ring.submit()? as u64, end - start);
    }
    Ok(())
}

/// Takes completions, entering the ring for more, until `count` have come.
fn drain(rig: &mut Rig, count: usize) -> Result<Vec<Done>, Stop> {
    let mut all = Vec::new();
    while all.len() < count {
        let ready = rig.ready();
        if ready.is_empty() {
            rig.ring.submit_and_wait(1)?;
        }
        all.extend(ready);
    }
    Ok(all)
}

fn completions_beyond_the_ring_are_kept_in_order(bench: &Bench) -> Outcome {
    let mut rig = bench.open(bench.builder(4).cq_entries(8))?;
    assert_eq!(rig.ring.completion().capacity(), 8);
    submit_many(&mut rig, 100, nop)?;
    assert_eq!(rig.ring.completion().overflow(), 0, "none is dropped");
    let order: Vec<u64> = drain(&mut rig, 100)?.iter().map(|done| done.user_data).collect();
    assert_eq!(order, (0..100).collect::<Vec<_>>());
    assert_eq!(rig.ready(), []);
    Ok(())
}

fn the_overflow_flag_is_set_and_cleared(bench: &Bench) -> Outcome {
    let mut rig = bench.open(bench.builder(4).cq_entries(4))?;
    submit_many(&mut rig, 4, nop)?;
    assert!(!rig.ring.submission().cq_overflow(), "a full ring is no overflow");
    submit_many(&mut rig, 3, nop)?;
    assert!(rig.ring.submission().cq_overflow());
    assert_eq!(rig.ring.submit_and_wait(4)?, 0, "the ring is full already");
    assert!(rig.ring.submission().cq_overflow(), "there is no room for the backlog yet");
    let taken = drain(&mut rig, 7)?;
    assert_eq!(taken.len(), 7);
    assert_eq!(rig.ring.submit_and_wait(0)?, 0);
    assert!(!rig.ring.submission().cq_overflow(), "everything is in the ring or taken");
    assert_eq!(rig.one(opcode::Nop::new().build())?, 0, "and the ring goes on");
    Ok(())
}

fn submitting_goes_on_while_completions_overflow(bench: &Bench) -> Outcome {
    let mut rig = bench.open(bench.builder(2).cq_entries(2))?;
    for round in 0..10 {
        submit_many(&mut rig, 20, nop)?;
        let done = drain(&mut rig, 20)?;
        assert_eq!(done.len(), 20, "round {round}");
    }
    Ok(())
}

fn reads_that_overflow_are_not_lost(bench: &Bench) -> Outcome {
    let mut rig = bench.open(bench.builder(8).cq_entries(8))?;
    rig.put(3, 0, 1 << 20)?;
    let memory = rig.plain(256 * 4096);
    submit_many(&mut rig, 256, |i| read(&memory.part(i as usize * 4096, 4096), i * 4096))?;
    let mut done = drain(&mut rig, 256)?;
    done.sort_by_key(|done| done.user_data);
    for (i, done) in done.iter().enumerate() {
        assert_eq!((done.user_data, done.res), (i as u64, 4096));
    }
    crate::support::pattern::check(3, 0, &memory.read());
    Ok(())
}

fn a_multishot_timeout_ends_with_a_full_ring(bench: &Bench) -> Outcome {
    let mut rig = bench.open(bench.builder(4).cq_entries(4))?;
    let period = rig.span(Duration::from_millis(1));
    let timeout = opcode::Timeout::new(period).flags(TimeoutFlags::MULTISHOT).build();
    rig.push(&timeout.user_data(1))?;
    assert_eq!(rig.ring.submit()?, 1);
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(3));
        assert_eq!(calls::enter(&rig.ring, 0, 0, calls::GETEVENTS, calls::NOTHING), 0);
    }
    let flags: Vec<_> = drain(&mut rig, 5)?.iter().map(|done| (done.user_data, done.res, done.flags)).collect();
    // `IORING_CQE_F_MORE` but for the last, which found no room.
    assert_eq!(flags, [2, 2, 2, 2, 0].map(|more| (1, -libc::ETIME, more)));
    std::thread::sleep(Duration::from_millis(10));
    assert_eq!(rig.ready(), []);
    Ok(())
}
