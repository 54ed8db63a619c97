//! What completes in the submission, and what is told by task work, which a ring that defers it does when it is
//! asked for events. A timeout that counts shows which.

use io_uring::squeue::Entry;
use io_uring::{opcode, types};

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::rig::{FILE, Rig, read, read_fixed, write};
use crate::support::script::{Flagged, LONG, OP_FLAGS, SHORT, nop, put_u32, refused, sorted};

pub(super) const ALL: &[Case] = cases![
    what_needs_nobody_is_counted_in_its_submission,
    a_write_that_is_refused_waits_on_a_ring_that_defers,
    what_workers_do_waits_on_a_ring_that_defers,
    chains_go_on_when_a_ring_that_defers_is_asked,
    what_is_removed_waits_on_a_ring_that_defers,
    timeouts_that_are_due_wait_on_a_ring_that_defers,
    drained_entries_wait_for_what_is_not_told_yet,
    counts_that_are_reached_together_end_together,
];

/// SINGLE_ISSUER and DEFER_TASKRUN.
const DEFERRED: u32 = 1 << 12 | 1 << 13;
const COUNTED: i32 = -libc::ENOENT;
const WAITS: i32 = 0;

fn remove(user_data: u64) -> Entry {
    opcode::TimeoutRemove::new(user_data).build()
}

fn ring(bench: &Bench, flags: u32) -> Result<Rig, Stop> {
    bench.since(6, 18)?;
    bench.open(bench.builder(16).setup_flags(flags))
}

/// What comes of a removal, in a call of its own, of a timeout that counts to `count`, after `entries`. All of
/// them then complete, with these results.
#[track_caller]
fn expect(rig: &mut Rig, count: u32, entries: &[(Entry, i32)], removal: i32) -> Outcome {
    let counted = rig.counted(count);
    assert_eq!(rig.send(0, &[counted])?, 1);
    let sent: Vec<Entry> = entries.iter().map(|(entry, _)| entry.clone()).collect();
    assert_eq!(rig.send(1, &sent)?, sent.len());
    assert_eq!(rig.send(99, &[remove(0)])?, 1);
    let timeout = if removal == COUNTED { 0 } else { -libc::ECANCELED };
    let mut wanted = vec![(0, timeout)];
    wanted.extend((1..).zip(entries.iter().map(|(_, res)| *res)));
    wanted.push((99, removal));
    assert_eq!(sorted(rig.take(wanted.len())?), wanted);
    rig.works()
}

fn what_needs_nobody_is_counted_in_its_submission(bench: &Bench) -> Outcome {
    for flags in [0, DEFERRED] {
        let mut rig = ring(bench, flags)?;
        let memory = rig.plain(4096);
        let (end, bad) = (rig.size(), read(&memory, 0));
        let advice = opcode::Fadvise::new(FILE, 4096, libc::POSIX_FADV_RANDOM).build();
        let rows = [
            (nop(), 0),
            (refused(), -libc::EINVAL),
            (read(&memory, end), 0),
            (read(&memory, u64::MAX - 1), -libc::EINVAL),
            // A read that is refused as well, other than a write.
            (read(&memory, 3), -libc::EINVAL),
            (put_u32(bad, OP_FLAGS, 1 << 20), -libc::EOPNOTSUPP),
            (read_fixed(&memory, 7, 0), -libc::EFAULT),
            (advice, 0),
            (remove(7), -libc::ENOENT),
        ];
        for row in rows {
            expect(&mut rig, 1, &[row], COUNTED)?;
        }
    }
    Ok(())
}

fn a_write_that_is_refused_waits_on_a_ring_that_defers(bench: &Bench) -> Outcome {
    for (flags, removal) in [(0, COUNTED), (DEFERRED, WAITS)] {
        let mut rig = ring(bench, flags)?;
        let memory = rig.plain(4096);
        let end = rig.size();
        for row in [(write(&memory, 3), -libc::EINVAL), (write(&memory, end), -libc::ENOSPC)] {
            expect(&mut rig, 1, std::slice::from_ref(&row), removal)?;
            expect(&mut rig, 2, &[row.clone(), (nop(), 0)], removal)?;
            expect(&mut rig, 1, &[row, (nop(), 0)], COUNTED)?;
        }
    }
    Ok(())
}

fn what_workers_do_waits_on_a_ring_that_defers(bench: &Bench) -> Outcome {
    let mut rig = ring(bench, DEFERRED)?;
    let memory = rig.plain(4096);
    let rows = [
        (opcode::Fsync::new(FILE).build(), 0),
        (opcode::Fsync::new(types::Fd(-1)).build(), -libc::EBADF),
        (opcode::SyncFileRange::new(FILE, 4096).build(), 0),
        (opcode::Fadvise::new(FILE, 4096, libc::POSIX_FADV_DONTNEED).build(), 0),
        (opcode::Fallocate::new(FILE, 4096).mode(1 << 10).build(), -libc::EOPNOTSUPP),
        (nop().asynchronous(), 0),
        (read(&memory, 0).asynchronous(), 4096),
        (read(&memory, 0), 4096),
    ];
    for row in rows {
        expect(&mut rig, 1, &[row], WAITS)?;
    }
    // By task work of its own accord (`IORING_NOP_TW`).
    expect(&mut rig, 1, &[(put_u32(nop(), OP_FLAGS, 1 << 4), 0)], WAITS)
}

fn chains_go_on_when_a_ring_that_defers_is_asked(bench: &Bench) -> Outcome {
    for (flags, removal) in [(0, COUNTED), (DEFERRED, WAITS)] {
        let mut rig = ring(bench, flags)?;
        let memory = rig.plain(4096);
        expect(&mut rig, 3, &[(nop().link(), 0), (nop().link(), 0), (nop(), 0)], removal)?;
        expect(&mut rig, 1, &[(nop().link(), 0), (nop().link(), 0), (nop(), 0)], COUNTED)?;
        let failing = [(write(&memory, 3).link(), -libc::EINVAL), (nop(), -libc::ECANCELED)];
        expect(&mut rig, 1, &failing, removal)?;
        let surviving = [(write(&memory, 3).hard(), -libc::EINVAL), (nop(), 0)];
        expect(&mut rig, 1, &surviving, removal)?;
        let failing = [(read(&memory, 3).link(), -libc::EINVAL), (nop(), -libc::ECANCELED)];
        expect(&mut rig, 1, &failing, COUNTED)?;
        expect(&mut rig, 2, &failing, removal)?;
        // A chain that is refused fails at once.
        expect(&mut rig, 1, &[(nop().link(), -libc::ECANCELED), (refused(), -libc::EINVAL)], COUNTED)?;
    }
    Ok(())
}

fn what_is_removed_waits_on_a_ring_that_defers(bench: &Bench) -> Outcome {
    for (flags, removal) in [(0, COUNTED), (DEFERRED, WAITS)] {
        let mut rig = ring(bench, flags)?;
        let long = rig.timeout(LONG);
        assert_eq!(rig.send(50, &[long])?, 1);
        let counted = rig.counted(2);
        assert_eq!(rig.send(0, &[counted])?, 1);
        assert_eq!(rig.send(1, &[remove(50)])?, 1);
        assert_eq!(rig.send(2, &[remove(0)])?, 1);
        let timeout = if removal == COUNTED { 0 } else { -libc::ECANCELED };
        assert_eq!(sorted(rig.take(4)?), [(0, timeout), (1, 0), (2, removal), (50, -libc::ECANCELED)]);
        rig.works()?;
    }
    Ok(())
}

fn drained_entries_wait_for_what_is_not_told_yet(bench: &Bench) -> Outcome {
    for flags in [0, DEFERRED] {
        let mut rig = ring(bench, flags)?;
        let memory = rig.plain(4096);
        let entries = [write(&memory, 3), nop().drain(), nop()];
        assert_eq!(rig.send(0, &entries)?, 3);
        assert_eq!(rig.take(3)?, [(0, -libc::EINVAL), (1, 0), (2, 0)]);
        rig.works()?;
    }
    Ok(())
}

fn counts_that_are_reached_together_end_together(bench: &Bench) -> Outcome {
    let mut rig = ring(bench, DEFERRED)?;
    for i in 0..2 {
        let counted = rig.counted(2);
        assert_eq!(rig.send(i, &[counted])?, 1);
    }
    assert_eq!(rig.send(2, &[nop(), nop()])?, 2);
    // Both have left, though neither says so before it is asked.
    assert_eq!(rig.send(4, &[remove(0), remove(1)])?, 2);
    let done = sorted(rig.take(6)?);
    assert_eq!(done, [(0, 0), (1, 0), (2, 0), (3, 0), (4, -libc::ENOENT), (5, -libc::ENOENT)]);
    rig.works()
}

fn timeouts_that_are_due_wait_on_a_ring_that_defers(bench: &Bench) -> Outcome {
    let mut rig = ring(bench, DEFERRED)?;
    let due = rig.timeout(SHORT);
    assert_eq!(rig.send(0, &[due])?, 1);
    std::thread::sleep(3 * SHORT);
    assert_eq!(rig.send(1, &[nop()])?, 1);
    let told: Vec<_> = rig.ready().iter().map(|done| (done.user_data, done.res)).collect();
    assert_eq!(told, [(1, 0)], "nobody has asked for events");
    assert_eq!(rig.take(1)?, [(0, -libc::ETIME)]);
    rig.works()
}
