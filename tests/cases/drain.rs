//! IO_DRAIN.

use io_uring::opcode;

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::pattern;
use crate::support::rig::{FILE, Rig, read, write};
use crate::support::script::{Flagged, IOPRIO, LONG, SHORT, inject, nop, put_u16, refused, sorted};

pub(super) const ALL: &[Case] = cases![
    a_drain_with_nothing_before_it_runs,
    a_drain_waits_for_what_is_in_flight,
    a_drain_waits_for_earlier_submissions,
    what_follows_a_drain_waits_for_it,
    drains_run_one_after_the_other,
    a_drain_waits_for_a_timeout,
    what_follows_a_waiting_drain_waits_as_well,
    a_drain_waits_for_whole_chains,
    a_drained_head_holds_up_its_chain,
    a_drain_inside_a_chain_drains_its_head,
    a_drain_inside_a_chain_drains_what_follows_the_chain,
    a_drain_at_the_end_of_a_chain_drains_its_head,
    a_drain_that_fails_does_not_hold_up_what_follows,
    a_refused_drain_does_not_wait,
    a_refused_member_of_a_drained_chain_does_not_wait,
    a_drain_runs_while_completions_overflow,
    a_flush_that_drains_follows_all_writes,
    skipping_disables_draining_for_good,
    even_a_refused_entry_that_skips_disables_draining,
    a_drain_that_was_accepted_survives_skipping,
];

const ECANCELED: i32 = -libc::ECANCELED;
const EINVAL: i32 = -libc::EINVAL;
const ETIME: i32 = -libc::ETIME;
const EOPNOTSUPP: i32 = -libc::EOPNOTSUPP;

fn a_drain_with_nothing_before_it_runs(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    for _ in 0..4 {
        assert_eq!(rig.one(nop().drain())?, 0);
        assert_eq!(rig.one(read(&memory, 0).drain())?, 4096);
        assert_eq!(rig.one(read(&memory, 1).drain())?, EINVAL);
    }
    rig.works()
}

fn a_drain_waits_for_what_is_in_flight(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(32)?;
    let memory = rig.plain(16 * 65536);
    for _ in 0..10 {
        let mut batch: Vec<_> = (0..16).map(|i| read(&memory.part(i * 65536, 65536), i as u64 * 65536)).collect();
        batch.push(nop().drain());
        assert_eq!(rig.send(0, &batch)?, 17);
        let done = rig.take(17)?;
        assert_eq!(done[16], (16, 0), "{done:?}");
        assert!(done[..16].iter().all(|done| done.1 == 65536));
    }
    Ok(())
}

fn a_drain_waits_for_earlier_submissions(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(32)?;
    let memory = rig.plain(8 * 65536);
    for _ in 0..10 {
        for i in 0..8 {
            assert_eq!(rig.send(i as u64, &[read(&memory.part(i * 65536, 65536), 0)])?, 1);
        }
        assert_eq!(rig.send(8, &[nop().drain()])?, 1);
        let done = rig.take(9)?;
        assert_eq!(done[8], (8, 0), "{done:?}");
    }
    Ok(())
}

fn what_follows_a_drain_waits_for_it(bench: &Bench) -> Outcome {
    bench.since(6, 16)?;
    let mut rig = bench.rig(32)?;
    let memory = rig.plain(8 * 4096);
    for seed in 0..10 {
        let data = rig.filled(seed, 0, 4096);
        let mut batch: Vec<_> = (0..4).map(|i| read(&memory.part(i * 4096, 4096), 0)).collect();
        batch.push(write(&data, 0).drain());
        batch.extend((4..8).map(|i| read(&memory.part(i * 4096, 4096), 0)));
        assert_eq!(rig.send(0, &batch)?, 9);
        let done = rig.take(9)?;
        assert_eq!(done[4], (4, 4096), "{done:?}");
        assert!(done[..4].iter().all(|done| done.0 < 4), "{done:?}");
        for i in 4..8 {
            pattern::check(seed, 0, &memory.part(i * 4096, 4096).read());
        }
    }
    Ok(())
}

fn drains_run_one_after_the_other(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(32)?;
    let memory = rig.plain(65536);
    for _ in 0..10 {
        let batch: Vec<_> =
            (0..16).map(|i| if i % 2 == 0 { read(&memory, 0).drain() } else { nop().drain() }).collect();
        assert_eq!(rig.send(0, &batch)?, 16);
        let order: Vec<u64> = rig.take(16)?.iter().map(|done| done.0).collect();
        assert_eq!(order, (0..16).collect::<Vec<_>>());
    }
    Ok(())
}

/// Holds up the ring for a while: the first of `send`'s entries is a timeout, the first to end.
fn held_up(rig: &mut Rig, rest: &[io_uring::squeue::Entry]) -> Result<Vec<(u64, i32)>, Stop> {
    let mut batch = vec![rig.timeout(SHORT)];
    batch.extend_from_slice(rest);
    assert_eq!(rig.send(0, &batch)?, batch.len());
    rig.take(batch.len())
}

/// On rings of their own: after a drain a worker issues what comes next, here perhaps after what follows it.
fn a_drain_waits_for_a_timeout(bench: &Bench) -> Outcome {
    for _ in 0..5 {
        let mut rig = bench.rig(8)?;
        assert_eq!(held_up(&mut rig, &[nop().drain()])?, [(0, ETIME), (1, 0)]);
        rig.works()?;
        // One that counts: the NOP before the drain ends it.
        let mut rig = bench.rig(8)?;
        let counted = rig.counted(1);
        assert_eq!(rig.send(0, &[counted, nop(), nop().drain()])?, 3);
        assert_eq!(rig.take(3)?, [(1, 0), (0, 0), (2, 0)]);
        rig.works()?;
    }
    Ok(())
}

fn what_follows_a_waiting_drain_waits_as_well(bench: &Bench) -> Outcome {
    bench.since(6, 16)?;
    for _ in 0..5 {
        let mut rig = bench.rig(8)?;
        let memory = rig.plain(4096);
        let time = rig.timeout(SHORT);
        assert_eq!(rig.send(0, &[time, nop(), nop().drain(), nop(), read(&memory, 0)])?, 5);
        // Of a later submission, too; and even a removal of the timeout would wait for it.
        let removal = opcode::TimeoutRemove::new(0).build();
        assert_eq!(rig.send(5, &[nop(), removal])?, 2);
        let done = rig.take(7)?;
        assert_eq!(done[..3], [(1, 0), (0, ETIME), (2, 0)]);
        assert_eq!(sorted(done[3..].to_vec()), [(3, 0), (4, 4096), (5, 0), (6, -libc::ENOENT)]);
        rig.works()?;
    }
    Ok(())
}

fn a_drain_waits_for_whole_chains(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(65536);
    for _ in 0..10 {
        let chain = [read(&memory, 0).link(), read(&memory, 0).link(), nop(), nop().drain()];
        assert_eq!(rig.send(0, &chain)?, 4);
        assert_eq!(rig.take(4)?, [(0, 65536), (1, 65536), (2, 0), (3, 0)]);
        let broken = [read(&memory, 1).link(), read(&memory, 0).link(), nop(), nop().drain()];
        assert_eq!(rig.send(0, &broken)?, 4);
        assert_eq!(rig.take(4)?, [(0, EINVAL), (1, ECANCELED), (2, ECANCELED), (3, 0)]);
    }
    rig.works()
}

fn a_drained_head_holds_up_its_chain(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(65536);
    for _ in 0..3 {
        let done = held_up(&mut rig, &[nop().drain().link(), read(&memory, 0).link(), nop()])?;
        assert_eq!(done, [(0, ETIME), (1, 0), (2, 65536), (3, 0)]);
    }
    rig.works()
}

fn a_drain_inside_a_chain_drains_its_head(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    for _ in 0..3 {
        let done = held_up(&mut rig, &[nop().link(), nop().drain().link(), nop()])?;
        assert_eq!(done, [(0, ETIME), (1, 0), (2, 0), (3, 0)]);
    }
    rig.works()
}

/// `io_init_drain`: `drain_next`.
fn a_drain_inside_a_chain_drains_what_follows_the_chain(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(16)?;
    let memory = rig.plain(65536);
    for _ in 0..10 {
        let batch = [
            read(&memory, 0),
            nop().link(),
            read(&memory, 0).drain().link(),
            read(&memory, 0),
            nop(), // as if it said to drain
        ];
        assert_eq!(rig.send(0, &batch)?, 5);
        assert_eq!(rig.take(5)?, [(0, 65536), (1, 0), (2, 65536), (3, 65536), (4, 0)]);
        // In the next submission as well.
        assert_eq!(rig.send(0, &[nop().link(), read(&memory, 0).drain()])?, 2);
        assert_eq!(rig.send(2, &[read(&memory, 0).link(), nop()])?, 2);
        assert_eq!(rig.take(4)?, [(0, 0), (1, 65536), (2, 65536), (3, 0)]);
    }
    rig.works()
}

fn a_drain_at_the_end_of_a_chain_drains_its_head(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    for _ in 0..3 {
        let done = held_up(&mut rig, &[nop().link(), nop().link(), nop().drain(), nop()])?;
        assert_eq!(done, [(0, ETIME), (1, 0), (2, 0), (3, 0), (4, 0)]);
    }
    rig.works()
}

fn a_drain_that_fails_does_not_hold_up_what_follows(bench: &Bench) -> Outcome {
    bench.since(6, 10)?;
    let mut rig = bench.rig(8)?;
    for _ in 0..5 {
        assert_eq!(
            rig.send(0, &[inject(-5).drain(), nop().drain(), inject(-6).drain().link(), nop(), nop().drain()])?,
            5
        );
        assert_eq!(rig.take(5)?, [(0, -5), (1, 0), (2, -6), (3, ECANCELED), (4, 0)]);
    }
    rig.works()
}

fn a_refused_drain_does_not_wait(bench: &Bench) -> Outcome {
    bench.since(6, 16)?;
    // An opcode that does not exist is found before the flag is looked at: nothing is drained.
    let mut rig = bench.rig(8)?;
    let time = rig.timeout(LONG);
    assert_eq!(rig.send(0, &[time, refused().drain()])?, 2);
    assert_eq!(rig.take_at_least(0)?, [(1, EINVAL)]);
    assert_eq!(rig.one(nop())?, 0);
    assert_eq!(rig.send(2, &[opcode::TimeoutRemove::new(0).build()])?, 1);
    assert_eq!(sorted(rig.take(2)?), [(0, ECANCELED), (2, 0)]);
    // A priority is found after: the entry itself does not wait, but what follows does.
    let mut rig = bench.rig(8)?;
    let time = rig.timeout(SHORT);
    assert_eq!(rig.send(0, &[time, put_u16(nop(), IOPRIO, 1).drain()])?, 2);
    assert_eq!(rig.send(2, &[nop()])?, 1);
    assert_eq!(rig.take(3)?, [(1, EINVAL), (0, ETIME), (2, 0)]);
    rig.works()
}

fn a_refused_member_of_a_drained_chain_does_not_wait(bench: &Bench) -> Outcome {
    for drained in 0..3 {
        let mut rig = bench.rig(8)?;
        let mut chain = [nop().link(), refused().link(), nop()];
        chain[drained] = chain[drained].clone().drain();
        let mut batch = vec![rig.timeout(SHORT)];
        batch.extend(chain);
        assert_eq!(rig.send(0, &batch)?, 4);
        let done = rig.take(4)?;
        assert_eq!(done[0], (1, ECANCELED), "{drained}: {done:?}");
        assert_eq!(sorted(done), [(0, ETIME), (1, ECANCELED), (2, EINVAL), (3, ECANCELED)], "{drained}");
        rig.works()?;
    }
    Ok(())
}

fn a_drain_runs_while_completions_overflow(bench: &Bench) -> Outcome {
    let mut rig = bench.open(bench.builder(4).cq_entries(4))?;
    for i in 0..3 {
        assert_eq!(rig.send(i * 4, &[nop(), nop(), nop(), nop().drain()])?, 4);
    }
    let mut order = Vec::new();
    while order.len() < 12 {
        order.extend(rig.take_at_least(1)?);
    }
    assert!(order.iter().all(|done| done.1 == 0), "{order:?}");
    let position = |user_data| order.iter().position(|done| done.0 == user_data);
    for drain in [3, 7, 11] {
        assert!((0..drain).all(|before| position(before) < position(drain)), "{order:?}");
    }
    rig.works()
}

fn a_flush_that_drains_follows_all_writes(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(32)?;
    let memory = rig.plain(65536);
    for seed in 0..5 {
        let data = rig.filled(seed, 0, 65536);
        let part = |i: usize| data.part(i * 4096, 4096);
        let mut batch: Vec<_> = (0..16).map(|i| write(&part(i), i as u64 * 4096)).collect();
        batch.push(opcode::Fsync::new(FILE).build().drain());
        batch.push(read(&memory, 0).drain());
        assert_eq!(rig.send(0, &batch)?, 18);
        assert_eq!(rig.take(18)?[16..], [(16, 0), (17, 65536)]);
        pattern::check(seed, 0, &memory.read());
    }
    Ok(())
}

fn skipping_disables_draining_for_good(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    assert_eq!(rig.one(nop().drain())?, 0);
    assert_eq!(rig.send(0, &[nop().skip()])?, 1);
    rig.works()?;
    for _ in 0..2 {
        assert_eq!(rig.send(0, &[nop().drain(), nop()])?, 1, "refused: it ends the batch");
        assert_eq!(rig.take(1)?, [(0, EOPNOTSUPP)]);
        assert_eq!(rig.ring.submit()?, 1);
        assert_eq!(rig.take(1)?, [(1, 0)]);
    }
    assert_eq!(rig.results(&[nop().link(), nop().drain().link(), nop()])?, [ECANCELED, EOPNOTSUPP, ECANCELED]);
    let mut other = bench.rig(8)?;
    assert_eq!(other.one(nop().drain())?, 0, "each ring for itself");
    assert_eq!(other.one(nop().drain().skip())?, EOPNOTSUPP);
    assert_eq!(other.one(nop().drain())?, EOPNOTSUPP);
    other.works()
}

fn even_a_refused_entry_that_skips_disables_draining(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    assert_eq!(rig.one(refused().skip())?, EINVAL);
    assert_eq!(rig.one(refused().drain().skip())?, EINVAL);
    assert_eq!(rig.one(nop().drain())?, 0, "an opcode that does not exist is found before");
    assert_eq!(rig.one(put_u16(nop(), IOPRIO, 1).skip())?, EINVAL);
    assert_eq!(rig.one(nop().drain())?, EOPNOTSUPP);
    assert_eq!(rig.one(put_u16(nop(), IOPRIO, 1).drain())?, EOPNOTSUPP, "before the priority");
    assert_eq!(rig.one(nop().drain().personality(77))?, EOPNOTSUPP);
    assert_eq!(rig.one(refused().drain())?, EINVAL);
    rig.works()
}

/// Before 6.16, which counts requests instead of completions, it ran too early.
fn a_drain_that_was_accepted_survives_skipping(bench: &Bench) -> Outcome {
    bench.since(6, 16)?;
    let mut rig = bench.rig(8)?;
    let time = rig.timeout(SHORT);
    assert_eq!(rig.send(0, &[time, nop().drain(), nop().skip(), nop().drain()])?, 4);
    assert_eq!(rig.take(3)?, [(3, EOPNOTSUPP), (0, ETIME), (1, 0)]);
    rig.works()
}
