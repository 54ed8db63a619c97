//! TIMEOUT: when it fires, and what that does to a chain.

use std::time::{Duration, Instant};

use io_uring::squeue::Entry;
use io_uring::types::TimeoutFlags;
use io_uring::{cqueue, opcode};
use nix::time::{ClockId, clock_gettime};

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::rig::{Rig, read};
use crate::support::script::{Flagged, LONG, SHORT, nop, sorted};

pub(super) const ALL: &[Case] = cases![
    a_timeout_fires_and_never_early,
    a_timeout_of_nothing_fires_at_once,
    absolute_timeouts_are_of_their_clock,
    absolute_timeouts_in_the_past_fire_at_once,
    nanoseconds_may_be_more_than_a_second,
    timeouts_too_far_away_do_not_fire,
    a_short_timeout_does_not_wait_for_a_long_one,
    many_timeouts_all_fire,
    a_timeout_that_fired_breaks_a_link,
    a_timeout_that_may_fire_does_not_break_a_link,
    a_hard_link_survives_a_timeout,
    a_linked_timeout_runs_from_its_turn_on,
    an_absolute_timeout_does_not_care_for_its_turn,
    a_timeout_waits_for_its_turn,
    a_multishot_timeout_fires_as_often_as_it_says,
    a_multishot_timeout_without_a_number_fires_until_it_is_removed,
    the_last_shot_ends_the_turn_of_a_multishot_timeout,
    a_wait_ends_when_a_timeout_fires,
    a_counted_timeout_ends_while_it_is_waited_for,
    operations_go_on_beside_timeouts,
];

const ECANCELED: i32 = -libc::ECANCELED;
const ETIME: i32 = -libc::ETIME;
const MORE: u32 = 2;

fn with(rig: &mut Rig, span: Duration, flags: TimeoutFlags) -> Entry {
    opcode::Timeout::new(rig.span(span)).flags(flags).build()
}

/// A timeout of `clock` at `span` from now.
fn at(rig: &mut Rig, clock: ClockId, span: Duration, flags: TimeoutFlags) -> Result<Entry, Stop> {
    let until = Duration::from(clock_gettime(clock)?) + span;
    Ok(with(rig, until, flags | TimeoutFlags::ABS))
}

fn a_timeout_fires_and_never_early(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    for flags in [TimeoutFlags::empty(), TimeoutFlags::BOOTTIME, TimeoutFlags::REALTIME, TimeoutFlags::ETIME_SUCCESS] {
        let entry = with(&mut rig, SHORT, flags);
        let start = Instant::now();
        assert_eq!(rig.one(entry)?, ETIME, "{flags:?}");
        assert!(start.elapsed() >= SHORT, "{flags:?}: {:?}", start.elapsed());
    }
    rig.works()
}

fn a_timeout_of_nothing_fires_at_once(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    for span in [Duration::ZERO, Duration::from_nanos(1)] {
        let entry = with(&mut rig, span, TimeoutFlags::empty());
        assert_eq!(rig.one(entry)?, ETIME);
        let entry = with(&mut rig, span, TimeoutFlags::MULTISHOT);
        assert_eq!(rig.send(0, &[put_count(entry, 1)])?, 1);
        assert_eq!(rig.take(1)?, [(0, ETIME)]);
    }
    rig.works()
}

fn absolute_timeouts_are_of_their_clock(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    for (clock, flags) in [
        (ClockId::CLOCK_MONOTONIC, TimeoutFlags::empty()),
        (ClockId::CLOCK_BOOTTIME, TimeoutFlags::BOOTTIME),
        (ClockId::CLOCK_REALTIME, TimeoutFlags::REALTIME),
    ] {
        let start = Duration::from(clock_gettime(clock)?);
        let entry = at(&mut rig, clock, SHORT, flags)?;
        assert_eq!(rig.one(entry)?, ETIME, "{flags:?}");
        assert!(Duration::from(clock_gettime(clock)?) >= start + SHORT, "{flags:?}");
        let entry = at(&mut rig, clock, LONG, flags)?;
        assert_eq!(rig.send(0, &[entry, opcode::TimeoutRemove::new(0).build()])?, 2);
        assert_eq!(sorted(rig.take(2)?), [(0, ECANCELED), (1, 0)], "{flags:?}");
    }
    rig.works()
}

fn absolute_timeouts_in_the_past_fire_at_once(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    for flags in [TimeoutFlags::empty(), TimeoutFlags::BOOTTIME, TimeoutFlags::REALTIME] {
        for past in [Duration::ZERO, Duration::from_nanos(1)] {
            let entry = with(&mut rig, past, flags | TimeoutFlags::ABS);
            assert_eq!(rig.one(entry)?, ETIME, "{flags:?}");
        }
    }
    rig.works()
}

fn nanoseconds_may_be_more_than_a_second(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let time = rig.timespec(0, 1_010_000_000);
    let start = Instant::now();
    assert_eq!(rig.one(opcode::Timeout::new(time.ptr().cast()).build())?, ETIME);
    assert!(start.elapsed() >= Duration::from_millis(1010));
    Ok(())
}

fn timeouts_too_far_away_do_not_fire(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    for flags in [TimeoutFlags::empty(), TimeoutFlags::ABS, TimeoutFlags::REALTIME] {
        // The last is negative when it is made a number of nanoseconds without care.
        let far = [(i64::MAX, 0), (i64::MAX, 999_999_999), (0, i64::MAX), (9_223_372_036, 854_775_807), (1 << 40, 0)];
        for (i, (seconds, nanoseconds)) in (0..).zip(far) {
            let time = rig.timespec(seconds, nanoseconds);
            assert_eq!(rig.send(i, &[opcode::Timeout::new(time.ptr().cast()).flags(flags).build()])?, 1);
        }
        std::thread::sleep(SHORT);
        rig.quiet()?;
        for i in 0..5 {
            assert_eq!(rig.send(9, &[opcode::TimeoutRemove::new(i).build()])?, 1);
            assert_eq!(sorted(rig.take(2)?), [(i, ECANCELED), (9, 0)], "{flags:?}");
        }
    }
    rig.works()
}

fn a_short_timeout_does_not_wait_for_a_long_one(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let entries = [rig.timeout(LONG), rig.timeout(SHORT), rig.timeout(LONG), rig.timeout(SHORT)];
    assert_eq!(rig.send(0, &entries)?, 4);
    assert_eq!(sorted(rig.take(2)?), [(1, ETIME), (3, ETIME)]);
    rig.quiet()?;
    assert_eq!(rig.send(4, &[opcode::TimeoutRemove::new(2).build(), opcode::TimeoutRemove::new(0).build()])?, 2);
    assert_eq!(sorted(rig.take(4)?), [(0, ECANCELED), (2, ECANCELED), (4, 0), (5, 0)]);
    rig.works()
}

fn many_timeouts_all_fire(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(64)?;
    for round in 0..4 {
        let entries: Vec<_> = (0..64).map(|i| rig.timeout(Duration::from_micros((i * 37) % 2000))).collect();
        assert_eq!(rig.send(0, &entries)?, 64, "round {round}");
        assert_eq!(sorted(rig.take(64)?), (0..64).map(|i| (i, ETIME)).collect::<Vec<_>>());
    }
    rig.works()
}

fn a_timeout_that_fired_breaks_a_link(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let entry = rig.timeout(SHORT);
    assert_eq!(rig.send(0, &[entry.link(), nop().link(), nop()])?, 3);
    assert_eq!(rig.take(3)?, [(0, ETIME), (1, ECANCELED), (2, ECANCELED)]);
    rig.works()
}

fn a_timeout_that_may_fire_does_not_break_a_link(bench: &Bench) -> Outcome {
    bench.since(5, 16)?;
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    let entry = with(&mut rig, SHORT, TimeoutFlags::ETIME_SUCCESS);
    assert_eq!(rig.send(0, &[entry.link(), read(&memory, 0).link(), nop()])?, 3);
    assert_eq!(rig.take(3)?, [(0, ETIME), (1, 4096), (2, 0)]);
    // Cancelled it does.
    let entry = with(&mut rig, LONG, TimeoutFlags::ETIME_SUCCESS);
    assert_eq!(rig.send(0, &[entry.link(), nop(), opcode::TimeoutRemove::new(0).build()])?, 3);
    assert_eq!(sorted(rig.take(3)?), [(0, ECANCELED), (1, ECANCELED), (2, 0)]);
    rig.works()
}

fn a_hard_link_survives_a_timeout(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let entry = rig.timeout(SHORT);
    assert_eq!(rig.send(0, &[entry.hard(), nop().hard(), nop()])?, 3);
    assert_eq!(rig.take(3)?, [(0, ETIME), (1, 0), (2, 0)]);
    rig.works()
}

fn a_linked_timeout_runs_from_its_turn_on(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let chain: Vec<_> = (0..4).map(|_| rig.timeout(SHORT).hard()).collect();
    let start = Instant::now();
    assert_eq!(rig.send(0, &chain)?, 4);
    assert_eq!(rig.take(4)?, [(0, ETIME), (1, ETIME), (2, ETIME), (3, ETIME)]);
    assert!(start.elapsed() >= 4 * SHORT, "{:?}", start.elapsed());
    rig.works()
}

fn an_absolute_timeout_does_not_care_for_its_turn(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let second = at(&mut rig, ClockId::CLOCK_MONOTONIC, Duration::from_millis(1), TimeoutFlags::empty())?;
    let first = rig.timeout(SHORT);
    assert_eq!(rig.send(0, &[first.hard(), second.hard(), nop()])?, 3);
    assert_eq!(rig.take(3)?, [(0, ETIME), (1, ETIME), (2, 0)]);
    rig.works()
}

fn a_timeout_waits_for_its_turn(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(65536);
    let chain = [read(&memory, 0).link(), rig.timeout(SHORT).hard(), read(&memory, 0)];
    assert_eq!(rig.send(0, &chain)?, 3);
    assert_eq!(rig.take(3)?, [(0, 65536), (1, ETIME), (2, 65536)]);
    // It is not there to be removed before; with its chain it ends without ever running.
    let (head, last) = (rig.timeout(LONG), rig.timeout(Duration::ZERO));
    assert_eq!(rig.send(0, &[head.link(), last, opcode::TimeoutRemove::new(1).build()])?, 3);
    assert_eq!(rig.take(1)?, [(2, -libc::ENOENT)]);
    rig.quiet()?;
    assert_eq!(rig.send(3, &[opcode::TimeoutRemove::new(0).build()])?, 1);
    assert_eq!(sorted(rig.take(3)?), [(0, ECANCELED), (1, ECANCELED), (3, 0)]);
    rig.works()
}

fn put_count(entry: Entry, count: u32) -> Entry {
    crate::support::script::put_u64(entry, crate::support::script::OFF, u64::from(count))
}

fn shots(rig: &mut Rig, count: usize) -> Result<Vec<(i32, u32)>, Stop> {
    let done = rig.take_whole(count)?;
    assert!(done.iter().all(|done| done.user_data == 0), "{done:?}");
    Ok(done.iter().map(|done| (done.res, done.flags)).collect())
}

fn a_multishot_timeout_fires_as_often_as_it_says(bench: &Bench) -> Outcome {
    bench.since(6, 4)?;
    let mut rig = bench.rig(4)?;
    for (flags, times) in [
        (TimeoutFlags::empty(), 1),
        (TimeoutFlags::empty(), 5),
        (TimeoutFlags::REALTIME, 2),
        (TimeoutFlags::BOOTTIME | TimeoutFlags::ETIME_SUCCESS, 3),
    ] {
        let entry = with(&mut rig, SHORT, flags | TimeoutFlags::MULTISHOT);
        let start = Instant::now();
        assert_eq!(rig.send(0, &[put_count(entry, times)])?, 1);
        let mut expected = vec![(ETIME, MORE); times as usize];
        expected[times as usize - 1].1 = 0;
        assert_eq!(shots(&mut rig, times as usize)?, expected, "{flags:?}");
        assert!(start.elapsed() >= times * SHORT);
        rig.works()?;
    }
    assert!(cqueue::more(MORE));
    Ok(())
}

fn a_multishot_timeout_without_a_number_fires_until_it_is_removed(bench: &Bench) -> Outcome {
    bench.since(6, 4)?;
    let mut rig = bench.rig(4)?;
    let entry = with(&mut rig, SHORT, TimeoutFlags::MULTISHOT);
    assert_eq!(rig.send(0, &[entry])?, 1);
    let mut seen = 0;
    while seen < 4 {
        rig.enter(0, 1)?;
        let done = rig.ready();
        seen += done.len();
        assert!(done.iter().all(|done| (done.user_data, done.res, done.flags) == (0, ETIME, MORE)), "{done:?}");
    }
    // Between its shots it cannot be found, for a moment.
    let removal = opcode::TimeoutRemove::new(0).build();
    let mut all = Vec::new();
    while !all.contains(&(1, 0, 0)) {
        assert_eq!(rig.send(1, std::slice::from_ref(&removal))?, 1);
        rig.enter(0, 1)?;
        all.extend(rig.ready().iter().map(|done| (done.user_data, done.res, done.flags)));
    }
    while !all.contains(&(0, ECANCELED, 0)) {
        rig.enter(0, 1)?;
        all.extend(rig.ready().iter().map(|done| (done.user_data, done.res, done.flags)));
    }
    let mut rest = all.iter().filter(|done| done.0 == 0 && **done != (0, ECANCELED, 0));
    assert!(rest.all(|done| *done == (0, ETIME, MORE)), "{all:?}");
    assert_eq!(all.last(), Some(&(0, ECANCELED, 0)));
    std::thread::sleep(2 * SHORT);
    rig.works()
}

fn the_last_shot_ends_the_turn_of_a_multishot_timeout(bench: &Bench) -> Outcome {
    bench.since(6, 4)?;
    let mut rig = bench.rig(4)?;
    for (flags, res) in [(TimeoutFlags::empty(), ECANCELED), (TimeoutFlags::ETIME_SUCCESS, 0)] {
        let entry = with(&mut rig, Duration::from_millis(1), flags | TimeoutFlags::MULTISHOT);
        assert_eq!(rig.send(0, &[put_count(entry, 3).link(), nop()])?, 2);
        let done = rig.take_whole(4)?;
        let done: Vec<_> = done.iter().map(|done| (done.user_data, done.res, done.flags)).collect();
        assert_eq!(done, [(0, ETIME, MORE), (0, ETIME, MORE), (0, ETIME, 0), (1, res, 0)]);
    }
    rig.works()
}

/// `io_should_wake`: a wait for more ends with any timeout.
fn a_wait_ends_when_a_timeout_fires(bench: &Bench) -> Outcome {
    bench.since(6, 4)?;
    let mut rig = bench.rig(8)?;
    // Only what fires during the wait ends it: should the first one fire before, others follow.
    let again = with(&mut rig, Duration::from_secs(1), TimeoutFlags::MULTISHOT).user_data(1);
    let once = rig.timeout(SHORT);
    for entry in [once, again, nop().user_data(2)] {
        rig.push(&entry)?;
    }
    assert_eq!(rig.ring.submit_and_wait(16)?, 3);
    let done: Vec<_> = rig.ready().iter().map(|done| (done.user_data, done.res)).collect();
    assert_eq!(done[..2], [(2, 0), (0, ETIME)]);
    assert!(done.len() < 16);
    // Alone, none of the others would have come to 16 either.
    assert_eq!(rig.ring.submit_and_wait(16)?, 0);
    let done = rig.ready();
    assert!((1..16).contains(&done.len()) && done.iter().all(|done| (done.user_data, done.res) == (1, ETIME)));
    Ok(())
}

fn a_counted_timeout_ends_while_it_is_waited_for(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(65536);
    for _ in 0..20 {
        for entry in [rig.counted(1), read(&memory, 0).user_data(1)] {
            rig.push(&entry)?;
        }
        assert_eq!(rig.ring.submit_and_wait(2)?, 2);
        let done: Vec<_> = rig.ready().iter().map(|done| (done.user_data, done.res)).collect();
        assert_eq!(done, [(1, 65536), (0, 0)]);
    }
    rig.works()
}

fn operations_go_on_beside_timeouts(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(16)?;
    let time = rig.timeout(SHORT);
    assert_eq!(rig.send(0, &[time])?, 1);
    let memory = rig.plain(4096);
    let (mut done, mut sent) = (Vec::new(), 1);
    while !done.contains(&(0, ETIME)) {
        assert_eq!(rig.send(1, &[read(&memory, 0), nop()])?, 2);
        sent += 2;
        done.extend(rig.take_at_least(1)?);
    }
    done.extend(rig.take(sent - done.len())?);
    let count = |wanted| done.iter().filter(|done| **done == wanted).count();
    assert_eq!((count((0, ETIME)), count((1, 4096)), count((2, 0))), (1, (sent - 1) / 2, (sent - 1) / 2));
    rig.works()
}
