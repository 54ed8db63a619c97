//! TIMEOUT_REMOVE: taking timeouts away and changing them.

use std::time::{Duration, Instant};

use io_uring::opcode;
use io_uring::squeue::Entry;
use io_uring::types::TimeoutFlags;
use nix::time::{ClockId, clock_gettime};

use crate::case::{Bench, Case, Outcome, cases};
use crate::support::rig::Rig;
use crate::support::script::{Flagged, LONG, OP_FLAGS, SHORT, nop, put_u32, sorted};

pub(super) const ALL: &[Case] = cases![
    a_removed_timeout_is_cancelled,
    a_timeout_is_removed_once,
    a_timeout_that_has_ended_is_not_found,
    only_timeouts_are_found,
    a_counted_timeout_can_be_removed,
    of_several_by_one_name_the_next_to_count_goes_first,
    a_removal_is_a_member_of_its_chain,
    a_removed_timeout_breaks_its_chain,
    an_update_changes_when_a_timeout_fires,
    an_update_may_be_absolute,
    an_absolute_update_is_of_the_clock_of_the_timeout,
    an_update_keeps_what_the_timeout_is,
    an_updated_timeout_counts_no_more,
    an_updated_multishot_timeout_fires_without_end,
    an_update_finds_no_link_timeout_and_its_kind_no_other,
    an_update_of_link_timeouts_alone_removes,
];

const ECANCELED: i32 = -libc::ECANCELED;
const ENOENT: i32 = -libc::ENOENT;
const ETIME: i32 = -libc::ETIME;

fn remove(user_data: u64) -> Entry {
    opcode::TimeoutRemove::new(user_data).build()
}

fn update(rig: &mut Rig, user_data: u64, span: Duration) -> Entry {
    opcode::TimeoutUpdate::new(user_data, rig.span(span)).build()
}

fn a_removed_timeout_is_cancelled(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let entry = rig.timeout(LONG);
    for _ in 0..3 {
        assert_eq!(rig.send(7, std::slice::from_ref(&entry))?, 1);
        rig.quiet()?;
        assert_eq!(rig.send(8, &[remove(7)])?, 1);
        assert_eq!(sorted(rig.take(2)?), [(7, ECANCELED), (8, 0)]);
        // In one submission as well.
        assert_eq!(rig.send(7, &[entry.clone(), remove(7)])?, 2);
        assert_eq!(sorted(rig.take(2)?), [(7, ECANCELED), (8, 0)]);
    }
    rig.works()
}

fn a_timeout_is_removed_once(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let entry = rig.timeout(LONG);
    assert_eq!(rig.send(7, &[entry, remove(7), remove(7)])?, 3);
    assert_eq!(sorted(rig.take(3)?), [(7, ECANCELED), (8, 0), (9, ENOENT)]);
    rig.works()
}

fn a_timeout_that_has_ended_is_not_found(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let entry = rig.timeout(SHORT);
    assert_eq!(rig.send(7, &[entry])?, 1);
    assert_eq!(rig.take(1)?, [(7, ETIME)]);
    let counted = rig.counted(1);
    assert_eq!(rig.send(8, &[counted, nop()])?, 2);
    assert_eq!(rig.take(2)?, [(9, 0), (8, 0)]);
    for user_data in [7, 8, 9, 0, u64::MAX] {
        let update = update(&mut rig, user_data, LONG);
        assert_eq!(rig.results(&[remove(user_data), update])?, [ENOENT, ENOENT], "{user_data}");
    }
    rig.works()
}

fn only_timeouts_are_found(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let (head, member) = (rig.timeout(LONG), rig.timeout(LONG));
    let guard = opcode::LinkTimeout::new(rig.span(LONG)).build();
    assert_eq!(rig.send(0, &[head.link(), guard.link(), member.link(), nop()])?, 4);
    for user_data in [1, 2, 3] {
        let update = update(&mut rig, user_data, LONG);
        assert_eq!(rig.send(8, &[remove(user_data), update])?, 2);
        assert_eq!(rig.take(2)?, [(8, ENOENT), (9, ENOENT)], "{user_data}");
    }
    assert_eq!(rig.send(8, &[remove(0)])?, 1);
    let cancelled = (0..4).map(|i| (i, ECANCELED));
    assert_eq!(sorted(rig.take(5)?), cancelled.chain([(8, 0)]).collect::<Vec<_>>());
    rig.works()
}

fn a_counted_timeout_can_be_removed(bench: &Bench) -> Outcome {
    bench.since(6, 18)?;
    let mut rig = bench.rig(8)?;
    let (three, two) = (rig.counted(4), rig.counted(3));
    assert_eq!(rig.send(0, &[three, two, nop()])?, 3);
    assert_eq!(rig.take(1)?, [(2, 0)]);
    // The removal and the timeout are two more for the other one.
    assert_eq!(rig.send(3, &[remove(1)])?, 1);
    assert_eq!(sorted(rig.take(2)?), [(1, ECANCELED), (3, 0)]);
    rig.quiet()?;
    assert_eq!(rig.send(4, &[nop()])?, 1);
    assert_eq!(rig.take(2)?, [(4, 0), (0, 0)]);
    rig.works()
}

/// They are found in the order of the list: those that count by their target, then the others by age.
fn of_several_by_one_name_the_next_to_count_goes_first(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(16)?;
    let time = rig.timeout(LONG);
    let chain = |entry: Entry| entry.user_data(7).hard();
    // Told apart by what is linked to them.
    let entries =
        [chain(time.clone()), nop(), chain(rig.counted(50)), nop(), chain(rig.counted(40)), nop(), chain(time), nop()];
    for (i, entry) in (0..).zip(entries) {
        rig.push(&if i % 2 == 0 { entry } else { entry.user_data(i) })?;
    }
    assert_eq!(rig.ring.submit()?, 8);
    for follower in [5, 3, 1, 7] {
        assert_eq!(rig.send(9, &[remove(7)])?, 1);
        assert_eq!(sorted(rig.take(3)?), sorted(vec![(7, ECANCELED), (follower, 0), (9, 0)]));
    }
    rig.works()
}

fn a_removal_is_a_member_of_its_chain(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let entry = rig.timeout(LONG);
    let updated = update(&mut rig, 0, LONG);
    let chain = [entry, updated.link(), nop().link(), remove(0).link(), remove(0).link(), nop()];
    assert_eq!(rig.send(0, &chain)?, 6);
    let expected = [(0, ECANCELED), (1, 0), (2, 0), (3, 0), (4, ENOENT), (5, ECANCELED)];
    assert_eq!(sorted(rig.take(6)?), expected);
    assert_eq!(rig.results(&[remove(0).hard(), nop()])?, [ENOENT, 0]);
    rig.works()
}

fn a_removed_timeout_breaks_its_chain(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let (entry, counted) = (rig.timeout(LONG), rig.counted(10));
    for head in [entry, counted] {
        assert_eq!(rig.send(0, &[head.clone().link(), nop().link(), nop(), remove(0)])?, 4);
        assert_eq!(sorted(rig.take(4)?), [(0, ECANCELED), (1, ECANCELED), (2, ECANCELED), (3, 0)]);
        assert_eq!(rig.send(0, &[head.hard(), nop().link(), nop(), remove(0)])?, 4);
        assert_eq!(sorted(rig.take(4)?), [(0, ECANCELED), (1, 0), (2, 0), (3, 0)]);
    }
    rig.works()
}

fn an_update_changes_when_a_timeout_fires(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let entry = rig.timeout(LONG);
    assert_eq!(rig.send(0, &[entry])?, 1);
    let (longer, shorter) = (update(&mut rig, 0, 2 * LONG), update(&mut rig, 0, SHORT));
    assert_eq!(rig.one(longer)?, 0);
    rig.quiet()?;
    let start = Instant::now();
    assert_eq!(rig.send(1, &[shorter])?, 1);
    assert_eq!(rig.take(2)?, [(1, 0), (0, ETIME)]);
    assert!(start.elapsed() >= SHORT, "from the update on");
    // Put off, it does not fire when it first was to.
    let entry = rig.timeout(Duration::from_millis(200));
    let later = update(&mut rig, 0, LONG);
    loop {
        assert_eq!(rig.send(0, &[entry.clone(), later.clone()])?, 2);
        let done = rig.take_at_least(1)?;
        if done == [(1, 0)] {
            break;
        }
        // A machine that stood still: it fired before it could be put off.
        assert_eq!(done[0], (1, ENOENT));
        rig.take(2 - done.len())?;
    }
    std::thread::sleep(Duration::from_millis(250));
    rig.quiet()?;
    let now = update(&mut rig, 0, Duration::ZERO);
    assert_eq!(rig.send(2, &[now])?, 1);
    assert_eq!(rig.take(2)?, [(2, 0), (0, ETIME)]);
    rig.works()
}

fn an_update_may_be_absolute(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    for past in [false, true] {
        let entry = rig.timeout(LONG);
        let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        let until = if past { Duration::from_nanos(1) } else { now + SHORT };
        let time = rig.span(until);
        assert_eq!(rig.send(0, &[entry, opcode::TimeoutUpdate::new(0, time).flags(TimeoutFlags::ABS).build()])?, 2);
        assert_eq!(rig.take(2)?, [(1, 0), (0, ETIME)]);
        assert!(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?) >= until);
    }
    rig.works()
}

fn an_absolute_update_is_of_the_clock_of_the_timeout(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    // Long ago on one clock, not for a long time on the other.
    let now = Duration::from(clock_gettime(ClockId::CLOCK_REALTIME)?);
    for (flags, fires) in
        [(TimeoutFlags::REALTIME, true), (TimeoutFlags::empty(), false), (TimeoutFlags::BOOTTIME, false)]
    {
        let time = rig.span(LONG);
        let entry = opcode::Timeout::new(time).flags(flags).build();
        let time = rig.span(now);
        assert_eq!(rig.send(0, &[entry, opcode::TimeoutUpdate::new(0, time).flags(TimeoutFlags::ABS).build()])?, 2);
        if !fires {
            assert_eq!(rig.take_at_least(1)?, [(1, 0)]);
            assert_eq!(rig.send(1, &[remove(0)])?, 1);
        }
        let res = if fires { ETIME } else { ECANCELED };
        assert_eq!(sorted(rig.take(2)?), [(0, res), (1, 0)], "{flags:?}");
    }
    rig.works()
}

fn an_update_keeps_what_the_timeout_is(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    for (flags, res) in [(TimeoutFlags::empty(), ECANCELED), (TimeoutFlags::ETIME_SUCCESS, 0)] {
        let time = rig.span(LONG);
        let head = opcode::Timeout::new(time).flags(flags).build();
        let updated = update(&mut rig, 0, SHORT);
        assert_eq!(rig.send(0, &[head.link(), nop(), updated])?, 3);
        assert_eq!(rig.take(3)?, [(2, 0), (0, ETIME), (1, res)]);
    }
    rig.works()
}

/// `io_timeout_update`: `off = 0`.
fn an_updated_timeout_counts_no_more(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let (counted, updated) = (rig.counted(2), update(&mut rig, 0, 2 * LONG));
    assert_eq!(rig.send(0, &[counted, updated])?, 2);
    for _ in 0..5 {
        assert_eq!(rig.send(2, &[nop()])?, 1);
    }
    assert_eq!(rig.take(6)?.len(), 6);
    rig.quiet()?;
    let updated = update(&mut rig, 0, SHORT);
    assert_eq!(rig.send(1, &[updated])?, 1);
    assert_eq!(rig.take(2)?, [(1, 0), (0, ETIME)]);
    rig.works()
}

/// The same line: the number of shots is forgotten on 6.18.44. 6.12.117 keeps to it.
fn an_updated_multishot_timeout_fires_without_end(bench: &Bench) -> Outcome {
    bench.since(6, 18)?;
    let mut rig = bench.rig(8)?;
    let time = rig.span(LONG);
    let entry = opcode::Timeout::new(time).flags(TimeoutFlags::MULTISHOT).count(2).build();
    let updated = update(&mut rig, 0, SHORT);
    assert_eq!(rig.send(0, &[entry, updated])?, 2);
    let mut done = Vec::new();
    while done.len() < 6 {
        rig.enter(0, 1)?;
        done.extend(rig.ready());
    }
    assert_eq!((done[0].user_data, done[0].res, done[0].flags), (1, 0, 0));
    assert!(done[1..].iter().all(|done| (done.user_data, done.res, done.flags) == (0, ETIME, 2)), "{done:?}");
    Ok(())
}

fn an_update_finds_no_link_timeout_and_its_kind_no_other(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let head = rig.timeout(LONG);
    let guard = opcode::LinkTimeout::new(rig.span(LONG)).build();
    assert_eq!(rig.send(0, &[head.link(), guard])?, 2);
    let time = rig.span(SHORT);
    let of_links =
        |user_data| opcode::TimeoutUpdate::new(user_data, time).flags(TimeoutFlags::LINK_TIMEOUT_UPDATE).build();
    let plain = update(&mut rig, 1, SHORT);
    assert_eq!(rig.send(8, &[plain, of_links(0), of_links(99)])?, 3);
    assert_eq!(rig.take(3)?, [(8, ENOENT), (9, ENOENT), (10, ENOENT)]);
    rig.quiet()?;
    assert_eq!(rig.send(8, &[of_links(1)])?, 1);
    assert_eq!(sorted(rig.take(3)?), [(0, ECANCELED), (1, ETIME), (8, 0)]);
    rig.works()
}

/// Without `IORING_TIMEOUT_UPDATE`, its timespec is checked and then not used (`io_timeout_remove`).
fn an_update_of_link_timeouts_alone_removes(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let entry = rig.timeout(LONG);
    let updated = put_u32(update(&mut rig, 0, SHORT), OP_FLAGS, 16);
    assert_eq!(rig.send(0, &[entry, updated])?, 2);
    assert_eq!(sorted(rig.take(2)?), [(0, ECANCELED), (1, 0)]);
    rig.works()
}
