//! LINK_TIMEOUT: a limit for the member of a chain before it.

use std::time::{Duration, Instant};

use io_uring::opcode;
use io_uring::squeue::Entry;
use io_uring::types::TimeoutFlags;
use nix::time::{ClockId, clock_gettime};

use crate::case::{Bench, Case, Outcome, cases};
use crate::support::rig::{Rig, read};
use crate::support::script::{Flagged, LONG, SHORT, nop, refused, sorted};

pub(super) const ALL: &[Case] = cases![
    a_link_timeout_that_is_not_needed_is_cancelled,
    a_link_timeout_that_fires_cancels_its_head,
    a_link_timeout_never_fires_early,
    a_link_timeout_that_is_due_when_its_head_ends_is_told_of_once,
    a_link_timeout_of_nothing_fires_at_once,
    link_timeouts_have_clocks,
    a_chain_goes_on_after_a_link_timeout,
    a_head_that_fails_cancels_its_link_timeout_and_the_rest,
    a_hard_head_that_fails_goes_on_after_its_link_timeout,
    a_link_timeout_that_fires_breaks_the_chain,
    a_hard_chain_survives_a_link_timeout_that_fires,
    the_link_of_the_link_timeout_does_not_matter,
    it_does_not_matter_that_a_link_timeout_may_fire,
    each_member_may_have_a_limit,
    a_limit_in_the_middle_starts_with_its_member,
    two_link_timeouts_in_a_row_are_refused,
    a_refused_member_cancels_link_timeouts_too,
    a_link_timeout_does_not_cancel_a_transfer,
    a_head_that_is_removed_takes_its_link_timeout_along,
    a_counted_head_ends_before_its_limit,
    a_multishot_head_has_one_limit,
    a_link_timeout_can_be_put_off,
    an_open_chain_may_end_with_a_link_timeout,
];

const EALREADY: i32 = -libc::EALREADY;
const ECANCELED: i32 = -libc::ECANCELED;
const EINVAL: i32 = -libc::EINVAL;
const ENOENT: i32 = -libc::ENOENT;
const ETIME: i32 = -libc::ETIME;

/// LINK_TIMEOUT after `span`.
fn limit(rig: &mut Rig, span: Duration) -> Entry {
    opcode::LinkTimeout::new(rig.span(span)).build()
}

/// Sends `chain` and answers its results.
#[track_caller]
fn run(rig: &mut Rig, chain: &[Entry]) -> Result<Vec<i32>, crate::case::Stop> {
    let results = rig.results(chain)?;
    rig.works()?;
    Ok(results)
}

fn a_link_timeout_that_is_not_needed_is_cancelled(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(65536);
    let limit = limit(&mut rig, LONG);
    for _ in 0..10 {
        assert_eq!(run(&mut rig, &[nop().link(), limit.clone()])?, [0, ECANCELED]);
        assert_eq!(run(&mut rig, &[read(&memory, 0).link(), limit.clone()])?, [65536, ECANCELED]);
        assert_eq!(run(&mut rig, &[read(&memory, 0).hard(), limit.clone()])?, [65536, ECANCELED]);
    }
    Ok(())
}

fn a_link_timeout_that_fires_cancels_its_head(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let heads = [rig.timeout(LONG), rig.counted(9)];
    let limit = limit(&mut rig, SHORT);
    for head in heads {
        assert_eq!(run(&mut rig, &[head.link(), limit.clone()])?, [ECANCELED, ETIME]);
    }
    Ok(())
}

fn a_link_timeout_never_fires_early(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let (head, limit) = (rig.timeout(LONG), limit(&mut rig, SHORT));
    let start = Instant::now();
    assert_eq!(rig.results(&[head.link(), limit])?, [ECANCELED, ETIME]);
    assert!(start.elapsed() >= SHORT, "{:?}", start.elapsed());
    Ok(())
}

fn a_link_timeout_that_is_due_when_its_head_ends_is_told_of_once(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(65536);
    let limit = limit(&mut rig, Duration::ZERO);
    for _ in 0..20 {
        // A cancellation looks at what is due, and the read cannot be cancelled.
        let cancel = opcode::AsyncCancel::new(1 << 40).build();
        let results = run(&mut rig, &[read(&memory, 0).link(), limit.clone(), cancel])?;
        assert!(matches!(results[..], [65536, ECANCELED | ENOENT | EALREADY, ENOENT]), "{results:?}");
    }
    Ok(())
}

fn a_link_timeout_of_nothing_fires_at_once(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let (head, limit) = (rig.timeout(LONG), limit(&mut rig, Duration::ZERO));
    assert_eq!(run(&mut rig, &[head.link(), limit.clone()])?, [ECANCELED, ETIME]);
    // It fires even after an operation that ends at once: its completion is only posted with the batch. Then
    // there was nothing to cancel. Had it fired later, it would not have been needed.
    let results = run(&mut rig, &[nop().link(), limit.link(), nop()])?;
    assert!(results == [0, ENOENT, 0] || results == [0, ECANCELED, 0], "{results:?}");
    Ok(())
}

fn link_timeouts_have_clocks(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    for (clock, flags) in [
        (ClockId::CLOCK_MONOTONIC, TimeoutFlags::empty()),
        (ClockId::CLOCK_BOOTTIME, TimeoutFlags::BOOTTIME),
        (ClockId::CLOCK_REALTIME, TimeoutFlags::REALTIME),
    ] {
        let until = Duration::from(clock_gettime(clock)?) + SHORT;
        for (time, flags) in [(SHORT, flags), (until, flags | TimeoutFlags::ABS)] {
            let (head, time) = (rig.timeout(LONG), rig.span(time));
            let limit = opcode::LinkTimeout::new(time).flags(flags).build();
            assert_eq!(run(&mut rig, &[head.link(), limit])?, [ECANCELED, ETIME], "{flags:?}");
        }
        assert!(Duration::from(clock_gettime(clock)?) >= until);
    }
    Ok(())
}

fn a_chain_goes_on_after_a_link_timeout(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let limit = limit(&mut rig, LONG);
    for limit in [limit.clone().link(), limit.hard()] {
        let chain = [read(&memory, 0).link(), limit, read(&memory, 0).link(), nop()];
        assert_eq!(run(&mut rig, &chain)?, [4096, ECANCELED, 4096, 0]);
    }
    Ok(())
}

fn a_head_that_fails_cancels_its_link_timeout_and_the_rest(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let (end, limit) = (rig.size(), limit(&mut rig, LONG));
    for (head, res) in [(read(&memory, 1), EINVAL), (read(&memory, end - 512), 512), (read(&memory, end), 0)] {
        let chain = [head.link(), limit.clone().link(), nop().link(), nop()];
        assert_eq!(run(&mut rig, &chain)?, [res, ECANCELED, ECANCELED, ECANCELED]);
    }
    let fires = rig.timeout(SHORT);
    assert_eq!(run(&mut rig, &[fires.link(), limit.link(), nop()])?, [ETIME, ECANCELED, ECANCELED]);
    Ok(())
}

fn a_hard_head_that_fails_goes_on_after_its_link_timeout(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let limit = limit(&mut rig, LONG);
    let chain = [read(&memory, 1).hard(), limit.link(), nop().link(), nop()];
    assert_eq!(run(&mut rig, &chain)?, [EINVAL, ECANCELED, 0, 0]);
    Ok(())
}

fn a_link_timeout_that_fires_breaks_the_chain(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let (head, limit) = (rig.timeout(LONG), limit(&mut rig, SHORT));
    assert_eq!(
        run(&mut rig, &[head.link(), limit.link(), nop().link(), nop()])?,
        [ECANCELED, ETIME, ECANCELED, ECANCELED]
    );
    Ok(())
}

fn a_hard_chain_survives_a_link_timeout_that_fires(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let (head, limit) = (rig.timeout(LONG), limit(&mut rig, SHORT));
    assert_eq!(
        run(&mut rig, &[head.hard(), limit.link(), read(&memory, 0).link(), nop()])?,
        [ECANCELED, ETIME, 4096, 0]
    );
    Ok(())
}

fn the_link_of_the_link_timeout_does_not_matter(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let (head, limit) = (rig.timeout(LONG), limit(&mut rig, SHORT));
    for limit in [limit.clone().link(), limit.hard()] {
        assert_eq!(run(&mut rig, &[head.clone().link(), limit.clone(), nop()])?, [ECANCELED, ETIME, ECANCELED]);
        assert_eq!(run(&mut rig, &[head.clone().hard(), limit, nop()])?, [ECANCELED, ETIME, 0]);
    }
    Ok(())
}

fn it_does_not_matter_that_a_link_timeout_may_fire(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let (head, time) = (rig.timeout(LONG), rig.span(SHORT));
    let limit = opcode::LinkTimeout::new(time).flags(TimeoutFlags::ETIME_SUCCESS).build();
    assert_eq!(run(&mut rig, &[head.link(), limit.link(), nop()])?, [ECANCELED, ETIME, ECANCELED]);
    Ok(())
}

fn each_member_may_have_a_limit(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let (long, short) = (limit(&mut rig, LONG), limit(&mut rig, SHORT));
    let waits = rig.timeout(LONG);
    let chain = [
        read(&memory, 0).link(),
        long.clone().link(),
        nop().link(),
        long.clone().link(),
        read(&memory, 0).link(),
        long.clone(),
    ];
    assert_eq!(run(&mut rig, &chain)?, [4096, ECANCELED, 0, ECANCELED, 4096, ECANCELED]);
    let chain = [nop().link(), long.clone().link(), waits.clone().hard(), short.link(), read(&memory, 1).link(), long];
    assert_eq!(run(&mut rig, &chain)?, [0, ECANCELED, ECANCELED, ETIME, EINVAL, ECANCELED]);
    Ok(())
}

fn a_limit_in_the_middle_starts_with_its_member(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let (first, second) = (rig.timeout(2 * SHORT), rig.timeout(LONG));
    let limit = limit(&mut rig, SHORT);
    let start = Instant::now();
    assert_eq!(run(&mut rig, &[first.hard(), second.hard(), limit.hard(), nop()])?, [ETIME, ECANCELED, ETIME, 0]);
    assert!(start.elapsed() >= 3 * SHORT, "{:?}", start.elapsed());
    Ok(())
}

fn two_link_timeouts_in_a_row_are_refused(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let limit = limit(&mut rig, LONG);
    let both = [nop().link(), limit.clone().link(), limit.clone()];
    assert_eq!(run(&mut rig, &both)?, [ECANCELED, ECANCELED, EINVAL]);
    let more = [nop().hard(), limit.clone().link(), limit.clone().link(), nop()];
    assert_eq!(run(&mut rig, &more)?, [ECANCELED, ECANCELED, EINVAL, ECANCELED]);
    let three = [nop().hard(), limit.clone().link(), limit.clone().link(), limit];
    assert_eq!(run(&mut rig, &three)?, [ECANCELED, ECANCELED, EINVAL, EINVAL]);
    Ok(())
}

fn a_refused_member_cancels_link_timeouts_too(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let limit = limit(&mut rig, LONG);
    assert_eq!(run(&mut rig, &[nop().link(), refused().link(), limit.clone()])?, [ECANCELED, EINVAL, ECANCELED]);
    assert_eq!(run(&mut rig, &[refused().hard(), limit.clone().link(), nop()])?, [EINVAL, ECANCELED, ECANCELED]);
    assert_eq!(run(&mut rig, &[nop().link(), limit.link(), refused()])?, [ECANCELED, ECANCELED, EINVAL]);
    Ok(())
}

/// Block I/O that has been started ends by itself; that it could not be cancelled is the limit's result.
fn a_link_timeout_does_not_cancel_a_transfer(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(65536);
    let limit = limit(&mut rig, Duration::ZERO);
    for _ in 0..50 {
        let results = run(&mut rig, &[read(&memory, 0).link(), limit.clone().link(), nop()])?;
        // The limit may also come when the read is over or just ending, and, where a worker is to start the
        // read, before it has.
        let late = [ENOENT, ECANCELED, ETIME, -libc::EALREADY].contains(&results[1]);
        let ended = (results[0], results[2]) == (65536, 0) && late;
        assert!(ended || results == [ECANCELED, ETIME, ECANCELED], "{results:?}");
    }
    Ok(())
}

fn a_head_that_is_removed_takes_its_link_timeout_along(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let (head, limit) = (rig.timeout(LONG), limit(&mut rig, LONG));
    for removal in [opcode::TimeoutRemove::new(0).build(), opcode::AsyncCancel::new(0).build()] {
        assert_eq!(rig.send(0, &[head.clone().link(), limit.clone().link(), nop()])?, 3);
        // The limit itself cannot be taken away.
        assert_eq!(rig.one(opcode::TimeoutRemove::new(1).build())?, ENOENT);
        assert_eq!(rig.one(opcode::AsyncCancel::new(1).build())?, ENOENT);
        assert_eq!(rig.send(3, &[removal])?, 1);
        assert_eq!(sorted(rig.take(4)?), [(0, ECANCELED), (1, ECANCELED), (2, ECANCELED), (3, 0)]);
    }
    rig.works()
}

fn a_counted_head_ends_before_its_limit(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let (head, limit) = (rig.counted(1), limit(&mut rig, LONG));
    assert_eq!(rig.send(0, &[head.link(), limit.link(), nop()])?, 3);
    rig.quiet()?;
    assert_eq!(rig.send(3, &[nop()])?, 1);
    assert_eq!(sorted(rig.take(4)?), [(0, 0), (1, ECANCELED), (2, 0), (3, 0)]);
    rig.works()
}

fn a_multishot_head_has_one_limit(bench: &Bench) -> Outcome {
    bench.since(6, 4)?;
    let mut rig = bench.rig(8)?;
    let time = rig.span(Duration::from_millis(1));
    let head = opcode::Timeout::new(time).count(3).flags(TimeoutFlags::MULTISHOT).build();
    let long = limit(&mut rig, LONG);
    assert_eq!(rig.send(0, &[head.hard(), long.link(), nop()])?, 3);
    let done = rig.take_whole(5)?;
    let mut done: Vec<_> = done.iter().map(|done| (done.user_data, done.res, done.flags)).collect();
    done.sort_by_key(|done| done.0);
    assert_eq!(done, [(0, ETIME, 2), (0, ETIME, 2), (0, ETIME, 0), (1, ECANCELED, 0), (2, 0, 0)]);
    rig.works()
}

fn a_link_timeout_can_be_put_off(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let (head, first) = (rig.timeout(LONG), limit(&mut rig, LONG));
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
    let link = TimeoutFlags::LINK_TIMEOUT_UPDATE;
    for (time, flags) in [(SHORT, link), (now + SHORT, link | TimeoutFlags::ABS), (Duration::ZERO, link)] {
        assert_eq!(rig.send(0, &[head.clone().hard(), first.clone().link(), nop()])?, 3);
        rig.quiet()?;
        let longer = rig.span(2 * LONG);
        assert_eq!(rig.one(opcode::TimeoutUpdate::new(1, longer).flags(link).build())?, 0);
        rig.quiet()?;
        let time = rig.span(time);
        assert_eq!(rig.send(3, &[opcode::TimeoutUpdate::new(1, time).flags(flags).build()])?, 1);
        assert_eq!(sorted(rig.take(4)?), [(0, ECANCELED), (1, ETIME), (2, 0), (3, 0)]);
    }
    rig.works()
}

fn an_open_chain_may_end_with_a_link_timeout(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let (head, limit) = (rig.timeout(LONG), limit(&mut rig, SHORT));
    assert_eq!(run(&mut rig, &[head.link(), limit.clone().link()])?, [ECANCELED, ETIME]);
    assert_eq!(run(&mut rig, &[nop().link(), limit.link()])?, [0, ECANCELED]);
    Ok(())
}
