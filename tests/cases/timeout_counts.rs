//! TIMEOUT with a count: the completions that it counts, and those it does not.

use io_uring::opcode;
use io_uring::types::TimeoutFlags;

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::rig::{Rig, read};
use crate::support::script::{Flagged, LONG, OFF, SHORT, nop, put_u64, refused, sorted};

pub(super) const ALL: &[Case] = cases![
    a_counted_timeout_ends_with_zero,
    a_counted_timeout_that_fires_ends_with_etime,
    a_reached_count_does_not_break_a_link,
    completions_of_its_own_submission_are_counted,
    reads_errors_and_refusals_are_counted,
    all_completions_of_a_chain_are_counted,
    counted_timeouts_end_in_the_order_of_their_targets,
    counted_timeouts_do_not_count_each_other,
    timeouts_that_fire_are_not_counted,
    shots_of_a_multishot_timeout_are_not_counted,
    a_removal_and_what_it_removes_are_counted,
    link_timeouts_are_counted,
    completions_that_are_skipped_are_not_counted,
    completions_are_counted_when_they_are_in_the_ring,
    what_is_taken_from_the_ring_does_not_matter,
    a_count_starts_with_its_turn,
    only_the_low_half_of_a_count_is_looked_at,
    a_large_count_is_not_reached,
];

const ECANCELED: i32 = -libc::ECANCELED;
const ETIME: i32 = -libc::ETIME;

/// Fails unless counted timeout 0, sent alone, of which `left` are missing, ends with just so many more.
fn expect_left(rig: &mut Rig, left: u64) -> Outcome {
    for i in 1..left {
        assert_eq!(rig.send(100 + i, &[nop()])?, 1);
        assert_eq!(rig.take(1)?, [(100 + i, 0)], "too early by {}", left - i);
    }
    assert_eq!(rig.send(99, &[nop()])?, 1);
    assert_eq!(rig.take(2)?, [(99, 0), (0, 0)]);
    rig.works()
}

/// As 0: a timeout that counts to `count`; nothing came yet.
fn start(bench: &Bench, count: u32) -> Result<Rig, Stop> {
    let mut rig = bench.rig(16)?;
    let counted = rig.counted(count);
    assert_eq!(rig.send(0, &[counted])?, 1);
    rig.quiet()?;
    Ok(rig)
}

fn a_counted_timeout_ends_with_zero(bench: &Bench) -> Outcome {
    for count in [1, 2, 5, 20] {
        let mut rig = start(bench, count)?;
        expect_left(&mut rig, u64::from(count))?;
    }
    Ok(())
}

fn a_counted_timeout_that_fires_ends_with_etime(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let time = rig.span(SHORT);
    assert_eq!(rig.send(0, &[opcode::Timeout::new(time).count(3).build(), nop(), nop()])?, 3);
    assert_eq!(rig.take(3)?, [(1, 0), (2, 0), (0, ETIME)]);
    rig.works()
}

fn a_reached_count_does_not_break_a_link(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let head = rig.counted(1);
    assert_eq!(rig.send(0, &[head.link(), read(&memory, 0).link(), nop()])?, 3);
    rig.quiet()?;
    assert_eq!(rig.send(3, &[nop()])?, 1);
    assert_eq!(rig.take(4)?, [(3, 0), (0, 0), (1, 4096), (2, 0)]);
    rig.works()
}

/// Completions of a submission are posted at its end: also those of entries before the timeout count.
fn completions_of_its_own_submission_are_counted(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let counted = rig.counted(1);
    assert_eq!(rig.send(0, &[nop(), counted.clone()])?, 2);
    assert_eq!(rig.take(2)?, [(0, 0), (1, 0)]);
    assert_eq!(rig.send(0, &[nop(), counted.clone(), nop(), nop()])?, 4);
    assert_eq!(rig.take(4)?, [(0, 0), (2, 0), (3, 0), (1, 0)]);
    assert_eq!(rig.send(0, &[counted, nop(), refused()])?, 3);
    assert_eq!(rig.take(3)?, [(1, 0), (2, -libc::EINVAL), (0, 0)]);
    let three = rig.counted(3);
    assert_eq!(rig.send(0, &[nop(), three, nop()])?, 3);
    assert_eq!(rig.take(2)?, [(0, 0), (2, 0)]);
    rig.quiet()?;
    assert_eq!(rig.send(3, &[nop()])?, 1);
    assert_eq!(rig.take(2)?, [(3, 0), (1, 0)]);
    rig.works()
}

fn reads_errors_and_refusals_are_counted(bench: &Bench) -> Outcome {
    let mut rig = start(bench, 5)?;
    let memory = rig.plain(4096);
    let entries = [read(&memory, 0), read(&memory, 1), opcode::TimeoutRemove::new(7).build(), refused()];
    for (i, entry) in (1..).zip(&entries) {
        assert_eq!(rig.send(i, std::slice::from_ref(entry))?, 1);
        assert_eq!(rig.take(1)?.len(), 1);
    }
    expect_left(&mut rig, 1)
}

fn all_completions_of_a_chain_are_counted(bench: &Bench) -> Outcome {
    let mut rig = start(bench, 5)?;
    let memory = rig.plain(4096);
    assert_eq!(rig.send(1, &[nop().link(), read(&memory, 1).link(), nop().link(), nop()])?, 4);
    assert_eq!(rig.take(4)?, [(1, 0), (2, -libc::EINVAL), (3, ECANCELED), (4, ECANCELED)]);
    expect_left(&mut rig, 1)
}

fn counted_timeouts_end_in_the_order_of_their_targets(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(16)?;
    let counts = [3, 1, 2, 1, 3, 2];
    let entries: Vec<_> = counts.iter().map(|count| rig.counted(*count)).collect();
    assert_eq!(rig.send(0, &entries)?, 6);
    rig.quiet()?;
    for ended in [[1, 3], [2, 5], [0, 4]] {
        assert_eq!(rig.send(9, &[nop()])?, 1);
        assert_eq!(rig.take(3)?, [(9, 0), (ended[0], 0), (ended[1], 0)]);
        rig.quiet()?;
    }
    // Several targets reached at once, and one that is started late but ends first.
    assert_eq!(rig.send(0, &entries)?, 6);
    assert_eq!(rig.send(9, &[nop(), nop()])?, 2);
    assert_eq!(rig.take(6)?, [(9, 0), (10, 0), (1, 0), (3, 0), (2, 0), (5, 0)]);
    let one = rig.counted(1);
    assert_eq!(rig.send(7, &[one])?, 1);
    rig.quiet()?;
    assert_eq!(rig.send(9, &[nop()])?, 1);
    assert_eq!(rig.take(4)?, [(9, 0), (0, 0), (4, 0), (7, 0)]);
    rig.works()
}

fn counted_timeouts_do_not_count_each_other(bench: &Bench) -> Outcome {
    let mut rig = start(bench, 3)?;
    let one = rig.counted(1);
    for _ in 0..2 {
        assert_eq!(rig.send(1, std::slice::from_ref(&one))?, 1);
        assert_eq!(rig.send(2, &[nop()])?, 1);
        assert_eq!(rig.take(2)?, [(2, 0), (1, 0)]);
    }
    expect_left(&mut rig, 1)
}

fn timeouts_that_fire_are_not_counted(bench: &Bench) -> Outcome {
    let mut rig = start(bench, 2)?;
    for flags in [TimeoutFlags::empty(), TimeoutFlags::ETIME_SUCCESS] {
        let time = rig.span(SHORT);
        let entries = [opcode::Timeout::new(time).flags(flags).build(), opcode::Timeout::new(time).count(50).build()];
        for entry in entries {
            assert_eq!(rig.send(1, &[entry])?, 1);
            assert_eq!(rig.take(1)?, [(1, ETIME)]);
        }
    }
    expect_left(&mut rig, 2)
}

fn shots_of_a_multishot_timeout_are_not_counted(bench: &Bench) -> Outcome {
    bench.since(6, 4)?;
    let mut rig = start(bench, 2)?;
    let time = rig.span(SHORT);
    assert_eq!(rig.send(1, &[opcode::Timeout::new(time).count(3).flags(TimeoutFlags::MULTISHOT).build()])?, 1);
    assert!(rig.take_whole(3)?.iter().all(|done| (done.user_data, done.res) == (1, ETIME)));
    expect_left(&mut rig, 2)
}

/// Measured on 6.18.44; 6.12.117 does not count what is cancelled.
fn a_removal_and_what_it_removes_are_counted(bench: &Bench) -> Outcome {
    bench.since(6, 18)?;
    let mut rig = start(bench, 5)?;
    for removed in [rig.timeout(LONG), rig.counted(100)] {
        assert_eq!(rig.send(1, &[removed])?, 1);
        assert_eq!(rig.send(2, &[opcode::TimeoutRemove::new(1).build()])?, 1);
        assert_eq!(sorted(rig.take(2)?), [(1, ECANCELED), (2, 0)]);
    }
    expect_left(&mut rig, 1)
}

/// As with removals: on 6.12.117 the head that a link timeout has cancelled is not counted.
fn link_timeouts_are_counted(bench: &Bench) -> Outcome {
    bench.since(6, 18)?;
    // Not needed: one for the NOP, one for itself.
    let mut rig = start(bench, 3)?;
    let unneeded = opcode::LinkTimeout::new(rig.span(LONG)).build();
    assert_eq!(rig.send(1, &[nop().link(), unneeded])?, 2);
    assert_eq!(sorted(rig.take(2)?), [(1, 0), (2, ECANCELED)]);
    expect_left(&mut rig, 1)?;
    // Fired: itself and what it has cancelled.
    let mut rig = start(bench, 3)?;
    let (head, fires) = (rig.timeout(LONG), opcode::LinkTimeout::new(rig.span(SHORT)).build());
    assert_eq!(rig.send(1, &[head.link(), fires])?, 2);
    assert_eq!(sorted(rig.take(2)?), [(1, ECANCELED), (2, ETIME)]);
    expect_left(&mut rig, 1)
}

fn completions_that_are_skipped_are_not_counted(bench: &Bench) -> Outcome {
    let mut rig = start(bench, 2)?;
    assert_eq!(rig.send(1, &[nop().skip(), nop().skip(), nop().skip()])?, 3);
    rig.quiet()?;
    expect_left(&mut rig, 2)
}

fn completions_are_counted_when_they_are_in_the_ring(bench: &Bench) -> Outcome {
    let mut rig = bench.open(bench.builder(4).cq_entries(4))?;
    let counted = rig.counted(6);
    assert_eq!(rig.send(0, &[counted])?, 1);
    for _ in 0..2 {
        assert_eq!(rig.send(1, &[nop(), nop(), nop(), nop()])?, 4);
    }
    assert!(rig.ring.submission().cq_overflow());
    // Eight have ended, four of them outside the ring: it can still be removed.
    assert_eq!(rig.send(9, &[opcode::TimeoutRemove::new(0).build()])?, 1);
    let mut all = Vec::new();
    while all.len() < 10 {
        all.extend(rig.take_at_least(1)?);
    }
    assert_eq!(sorted(all)[..1], [(0, ECANCELED)]);
    // Let in, they count.
    let counted = rig.counted(6);
    assert_eq!(rig.send(0, &[counted])?, 1);
    for _ in 0..2 {
        assert_eq!(rig.send(1, &[nop(), nop(), nop(), nop()])?, 4);
    }
    let mut all = Vec::new();
    while all.len() < 9 {
        all.extend(rig.take_at_least(1)?);
    }
    assert_eq!(all[8], (0, 0), "{all:?}");
    rig.works()
}

fn what_is_taken_from_the_ring_does_not_matter(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    // Completions that wait to be taken do not count, later ones do.
    assert_eq!(rig.send(1, &[nop(), nop(), nop()])?, 3);
    let counted = rig.counted(2);
    assert_eq!(rig.send(0, &[counted])?, 1);
    assert_eq!(rig.send(4, &[nop()])?, 1);
    rig.enter(0, 0)?;
    assert_eq!(rig.take(4)?, [(1, 0), (2, 0), (3, 0), (4, 0)]);
    expect_left(&mut rig, 1)
}

fn a_count_starts_with_its_turn(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let (head, second) = (rig.counted(2), rig.counted(2));
    assert_eq!(rig.send(0, &[head.link(), second])?, 2);
    for (i, ended) in [(2, None), (3, Some((0, 0))), (4, None), (5, Some((1, 0)))] {
        assert_eq!(rig.send(i, &[nop()])?, 1);
        let expected: Vec<_> = [(i, 0)].into_iter().chain(ended).collect();
        assert_eq!(rig.take(expected.len())?, expected);
        rig.quiet()?;
    }
    rig.works()
}

/// `io_timeout_prep` reads `off` into 32 bits.
fn only_the_low_half_of_a_count_is_looked_at(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let counted = rig.timeout(LONG);
    assert_eq!(rig.send(0, &[put_u64(counted.clone(), OFF, (1 << 32) + 1)])?, 1);
    expect_left(&mut rig, 1)?;
    // None: it does not count at all.
    assert_eq!(rig.send(0, &[put_u64(counted, OFF, 7 << 32)])?, 1);
    for _ in 0..10 {
        rig.works()?;
    }
    assert_eq!(rig.send(1, &[opcode::TimeoutRemove::new(0).build()])?, 1);
    assert_eq!(sorted(rig.take(2)?), [(0, ECANCELED), (1, 0)]);
    rig.works()
}

fn a_large_count_is_not_reached(bench: &Bench) -> Outcome {
    for count in [1000, i32::MAX as u32] {
        let mut rig = start(bench, count)?;
        for _ in 0..20 {
            rig.works()?;
        }
        assert_eq!(rig.send(1, &[opcode::TimeoutRemove::new(0).build()])?, 1);
        assert_eq!(sorted(rig.take(2)?), [(0, ECANCELED), (1, 0)]);
    }
    Ok(())
}
