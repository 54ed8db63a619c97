//! IOSQE_CQE_SKIP_SUCCESS.

use io_uring::opcode;
use io_uring::squeue::Entry;
use io_uring::types::TimeoutFlags;

use crate::case::{Bench, Case, Outcome, cases};
use crate::support::rig::{FILE, Rig, read, write};
use crate::support::script::{Flagged, LONG, SHORT, inject, nop, refused, sorted};

pub(super) const ALL: &[Case] = cases![
    success_that_is_skipped_says_nothing,
    operations_that_are_skipped_are_done,
    errors_are_said_all_the_same,
    a_short_transfer_is_no_success,
    errors_that_do_not_fail_are_skipped,
    a_chain_may_say_only_how_it_ends,
    a_member_that_fails_and_skips_silences_the_rest,
    a_member_that_fails_without_it_lets_the_rest_speak,
    of_a_refused_chain_only_the_head_decides,
    hard_links_skip_each_for_itself,
    timeouts_that_end_well_are_skipped,
    a_multishot_timeout_skips_its_last_shot,
    removals_are_skipped,
    link_timeouts_are_skipped_by_their_own_flag,
    link_timeouts_that_are_skipped_never_speak,
    skipped_and_spoken_mix_in_a_batch,
];

const ECANCELED: i32 = -libc::ECANCELED;
const EINVAL: i32 = -libc::EINVAL;
const ETIME: i32 = -libc::ETIME;
const EBADF: i32 = -libc::EBADF;

/// Sends `entries`, all to be consumed; these completions come, in any order, and no others.
#[track_caller]
fn expect(rig: &mut Rig, entries: &[Entry], expected: &[(u64, i32)]) -> Outcome {
    assert_eq!(rig.send(0, entries)?, entries.len());
    assert_eq!(sorted(rig.take(expected.len())?), expected);
    rig.works()?;
    std::thread::yield_now();
    rig.works()
}

fn success_that_is_skipped_says_nothing(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    expect(&mut rig, &[nop().skip()], &[])?;
    expect(&mut rig, &[nop().skip(), nop(), nop().skip()], &[(1, 0)])?;
    for quiet in [read(&memory, 0), write(&memory, 0), opcode::Fsync::new(FILE).build()] {
        // The NOP comes after what is linked to it.
        expect(&mut rig, &[quiet.skip().link(), nop()], &[(1, 0)])?;
    }
    for _ in 0..100 {
        assert_eq!(rig.send(0, &[nop().skip()])?, 1);
    }
    rig.works()
}

fn operations_that_are_skipped_are_done(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    for seed in 0..4 {
        let (data, into) = (rig.filled(seed, 0, 65536), rig.plain(65536));
        expect(&mut rig, &[write(&data, 0).skip().link(), read(&into, 0).skip().link(), nop()], &[(2, 0)])?;
        crate::support::pattern::check(seed, 0, &into.read());
    }
    Ok(())
}

fn errors_are_said_all_the_same(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let end = rig.size();
    for (entry, error) in [
        (read(&memory, 1), EINVAL),
        (write(&memory, end), -libc::ENOSPC),
        (opcode::Fsync::new(io_uring::types::Fixed(99)).build(), EBADF),
        (opcode::Fadvise::new(FILE, 0, 6).build(), EINVAL),
        (opcode::TimeoutRemove::new(99).build(), -libc::ENOENT),
        (refused(), EINVAL),
    ] {
        expect(&mut rig, &[entry.clone().skip()], &[(0, error)])?;
    }
    bench.since(6, 10)?;
    expect(&mut rig, &[inject(5).skip(), inject(-5).skip()], &[(1, -5)])
}

fn a_short_transfer_is_no_success(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let end = rig.size();
    for (short, res) in [(read(&memory, end - 512), 512), (read(&memory, end), 0), (write(&memory, end - 1024), 1024)] {
        expect(&mut rig, &[short.skip()], &[(0, res)])?;
    }
    // What was asked for is done.
    expect(&mut rig, &[read(&memory.part(0, 0), end).skip().link(), nop()], &[(1, 0)])
}

/// `io_sync_file_range` and `io_fallocate` set a result without failing the request.
fn errors_that_do_not_fail_are_skipped(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let range = opcode::SyncFileRange::new(FILE, 4096).flags(8).build();
    let space = opcode::Fallocate::new(FILE, 4096).build();
    expect(&mut rig, &[range.skip().link(), nop()], &[(1, 0)])?;
    expect(&mut rig, &[space.skip().link(), nop()], &[(1, 0)])
}

fn a_chain_may_say_only_how_it_ends(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let quiet = || read(&memory, 0).skip().link();
    for _ in 0..10 {
        expect(&mut rig, &[quiet(), quiet(), quiet(), read(&memory, 0)], &[(3, 4096)])?;
        expect(&mut rig, &[quiet(), nop().link(), quiet(), nop()], &[(1, 0), (3, 0)])?;
    }
    Ok(())
}

/// `REQ_F_SKIP_LINK_CQES`.
fn a_member_that_fails_and_skips_silences_the_rest(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let end = rig.size();
    for (bad, res) in [(read(&memory, 1), EINVAL), (read(&memory, end - 512), 512)] {
        expect(&mut rig, &[bad.clone().skip().link(), nop().link(), nop().skip().link(), nop()], &[(0, res)])?;
        expect(&mut rig, &[nop().link(), bad.clone().skip().link(), nop().link(), nop()], &[(0, 0), (1, res)])?;
        expect(&mut rig, &[nop().skip().link(), bad.skip().link(), nop()], &[(1, res)])?;
    }
    Ok(())
}

fn a_member_that_fails_without_it_lets_the_rest_speak(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let bad = read(&memory, 1);
    let all = [(0, EINVAL), (1, ECANCELED), (2, ECANCELED), (3, ECANCELED)];
    expect(&mut rig, &[bad.clone().link(), nop().skip().link(), nop().link(), nop().skip()], &all)?;
    let chain = [nop().skip().link(), bad.link(), nop().skip().link(), nop().skip()];
    expect(&mut rig, &chain, &[(1, EINVAL), (2, ECANCELED), (3, ECANCELED)])
}

fn of_a_refused_chain_only_the_head_decides(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let loud = [(0, ECANCELED), (1, EINVAL), (2, ECANCELED)];
    expect(&mut rig, &[nop().link(), refused().skip().link(), nop().skip()], &loud)?;
    // Even the reason is not said.
    expect(&mut rig, &[nop().skip().link(), refused().link(), nop()], &[(0, ECANCELED)])?;
    expect(&mut rig, &[nop().skip().hard(), nop().link(), refused()], &[(0, ECANCELED)])?;
    expect(&mut rig, &[refused().skip().link(), refused().link(), nop()], &[(0, EINVAL)])?;
    expect(
        &mut rig,
        &[refused().link(), refused().skip().link(), nop().skip()],
        &[(0, EINVAL), (1, EINVAL), (2, ECANCELED)],
    )
}

fn hard_links_skip_each_for_itself(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let bad = read(&memory, 1);
    let chain = [bad.clone().skip().hard(), nop().skip().hard(), bad.clone().hard(), nop().hard(), nop().skip()];
    expect(&mut rig, &chain, &[(0, EINVAL), (2, EINVAL), (3, 0)])?;
    let chain = [bad.clone().skip().hard(), nop().hard(), bad.skip().link(), nop()];
    expect(&mut rig, &chain, &[(0, EINVAL), (1, 0), (2, EINVAL)])
}

fn timeouts_that_end_well_are_skipped(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let fires = rig.timeout(SHORT);
    expect(&mut rig, &[fires.clone().skip()], &[(0, ETIME)])?;
    expect(&mut rig, &[fires.skip().link(), nop()], &[(0, ETIME)])?;
    // With ETIME_SUCCESS to fire is no failure.
    let time = rig.span(SHORT);
    let may_fire = opcode::Timeout::new(time).flags(TimeoutFlags::ETIME_SUCCESS).build();
    expect(&mut rig, &[may_fire.skip().link(), nop()], &[(1, 0)])?;
    let counted = rig.counted(1);
    expect(&mut rig, &[counted.skip().link(), nop(), nop()], &[(1, 0), (2, 0)])?;
    let waits = rig.timeout(LONG);
    expect(&mut rig, &[waits.skip(), opcode::TimeoutRemove::new(0).build()], &[(0, ECANCELED), (1, 0)])
}

fn a_multishot_timeout_skips_its_last_shot(bench: &Bench) -> Outcome {
    bench.since(6, 4)?;
    let mut rig = bench.rig(8)?;
    // The last one that fails silences the rest; the last one that does not is itself not said.
    for (flags, last) in [(TimeoutFlags::empty(), (0, ETIME, 0)), (TimeoutFlags::ETIME_SUCCESS, (1, 0, 0))] {
        let time = rig.span(std::time::Duration::from_millis(1));
        let entry = opcode::Timeout::new(time).flags(flags | TimeoutFlags::MULTISHOT).count(3).build();
        assert_eq!(rig.send(0, &[entry.skip().link(), nop()])?, 2);
        let done = rig.take_whole(3)?;
        let done: Vec<_> = done.iter().map(|done| (done.user_data, done.res, done.flags)).collect();
        assert_eq!(done, [(0, ETIME, 2), (0, ETIME, 2), last], "{flags:?}");
        rig.works()?;
    }
    Ok(())
}

fn removals_are_skipped(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let (waits, time) = (rig.timeout(LONG), rig.span(LONG));
    let update = opcode::TimeoutUpdate::new(0, time).build();
    let removal = opcode::TimeoutRemove::new(0).build();
    let batch = [waits, update.skip(), removal.clone().skip(), removal.skip()];
    expect(&mut rig, &batch, &[(0, ECANCELED), (3, -libc::ENOENT)])
}

fn link_timeouts_are_skipped_by_their_own_flag(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let limit = opcode::LinkTimeout::new(rig.span(LONG)).build();
    expect(&mut rig, &[nop().skip().link(), limit.clone().link(), nop()], &[(1, ECANCELED), (2, 0)])?;
    expect(&mut rig, &[nop().link(), limit.clone().skip().link(), nop()], &[(0, 0), (2, 0)])?;
    expect(&mut rig, &[read(&memory, 0).skip().link(), limit.clone().skip().link(), nop()], &[(2, 0)])?;
    // A head that fails silences the rest, but not the limit, which has left the chain.
    let bad = read(&memory, 1);
    expect(&mut rig, &[bad.clone().skip().link(), limit.clone().link(), nop()], &[(0, EINVAL), (1, ECANCELED)])?;
    expect(&mut rig, &[bad.link(), limit.skip().link(), nop().skip()], &[(0, EINVAL), (2, ECANCELED)])
}

fn link_timeouts_that_are_skipped_never_speak(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let (waits, limit) = (rig.timeout(LONG), opcode::LinkTimeout::new(rig.span(SHORT)).build());
    // Not even when they fire.
    expect(&mut rig, &[waits.clone().link(), limit.clone().skip().link(), nop()], &[(0, ECANCELED), (2, ECANCELED)])?;
    expect(&mut rig, &[waits.clone().skip().link(), limit.clone().link(), nop()], &[(0, ECANCELED), (1, ETIME)])?;
    expect(&mut rig, &[waits.skip().hard(), limit.skip().link(), nop()], &[(0, ECANCELED), (2, 0)])
}

fn skipped_and_spoken_mix_in_a_batch(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(64)?;
    let memory = rig.plain(64 * 512);
    for _ in 0..10 {
        let entry = |i: usize| read(&memory.part(i * 512, 512), i as u64 * 512);
        let batch: Vec<_> = (0..64).map(|i| if i % 3 == 0 { entry(i) } else { entry(i).skip() }).collect();
        assert_eq!(rig.send(0, &batch)?, 64);
        let expected: Vec<_> = (0..64).filter(|i| i % 3 == 0).map(|i| (i, 512)).collect();
        assert_eq!(sorted(rig.take(expected.len())?), expected);
    }
    rig.works()
}
