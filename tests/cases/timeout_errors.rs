//! TIMEOUT, LINK_TIMEOUT and TIMEOUT_REMOVE that are refused, and by which check first.

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::rig::Rig;
use crate::support::script::{
    ADDR, BUF_INDEX, Flagged, IOPRIO, LEN, LONG, OFF, OP_FLAGS, SPLICE_FD_IN, nop, put_u16, put_u32, put_u64, sorted,
};

pub(super) const ALL: &[Case] = cases![
    timeouts_without_one_timespec_are_invalid,
    fields_that_timeouts_do_not_have_are_invalid,
    flags_that_timeouts_do_not_have_are_invalid,
    timespecs_out_of_reach_are_a_fault,
    negative_timespecs_are_invalid,
    the_fields_of_a_timeout_are_checked_before_its_timespec,
    fields_that_timeouts_ignore,
    the_last_words_of_timeouts_are_zero,
    a_refused_timeout_ends_its_batch,
    link_timeouts_without_a_head_are_invalid,
    link_timeouts_are_checked_like_timeouts,
    a_link_timeout_takes_no_count,
    removals_take_no_other_fields,
    removals_take_no_other_flags,
    updates_take_a_timespec,
    malformed_removals_are_refused_before_they_look,
];

const EINVAL: i32 = -libc::EINVAL;
const EFAULT: i32 = -libc::EFAULT;
const ECANCELED: i32 = -libc::ECANCELED;
const EOPNOTSUPP: i32 = -libc::EOPNOTSUPP;

/// `IORING_TIMEOUT_*`.
const ABS: u32 = 1;
const UPDATE: u32 = 2;
const BOOTTIME: u32 = 4;
const REALTIME: u32 = 8;
const LINK_TIMEOUT_UPDATE: u32 = 16;
const ETIME_SUCCESS: u32 = 32;
const MULTISHOT: u32 = 64;

/// Each of `entries` is refused at once with `error`, and nothing of it stays.
#[track_caller]
fn expect_refused(rig: &mut Rig, entries: impl IntoIterator<Item = Entry>, error: i32) -> Outcome {
    for (i, entry) in entries.into_iter().enumerate() {
        assert_eq!(rig.send(1, std::slice::from_ref(&entry))?, 1);
        assert_eq!(rig.take_at_least(0)?, [(1, error)], "entry {i}: {entry:?}");
    }
    rig.works()
}

/// `entry` waits until it is removed.
#[track_caller]
fn expect_accepted(rig: &mut Rig, entry: Entry) -> Outcome {
    assert_eq!(rig.send(1, std::slice::from_ref(&entry))?, 1);
    rig.quiet()?;
    assert_eq!(rig.send(2, &[opcode::TimeoutRemove::new(1).build()])?, 1);
    assert_eq!(sorted(rig.take(2)?), [(1, ECANCELED), (2, 0)], "{entry:?}");
    rig.works()
}

fn timeouts_without_one_timespec_are_invalid(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let good = rig.timeout(LONG);
    expect_refused(&mut rig, [0, 2, 16, u32::MAX].map(|len| put_u32(good.clone(), LEN, len)), EINVAL)
}

fn bad_fields(good: &Entry) -> [Entry; 5] {
    let good = || good.clone();
    [
        put_u16(good(), IOPRIO, 1),
        put_u16(good(), BUF_INDEX, 1),
        put_u32(good(), SPLICE_FD_IN, 1),
        put_u32(good(), SPLICE_FD_IN, u32::MAX),
        good().personality(77),
    ]
}

fn fields_that_timeouts_do_not_have_are_invalid(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let good = rig.timeout(LONG);
    expect_refused(&mut rig, bad_fields(&good), EINVAL)?;
    expect_refused(&mut rig, [good.flags(Flags::BUFFER_SELECT)], EOPNOTSUPP)
}

/// Flags that TIMEOUT and LINK_TIMEOUT refuse.
const BAD_FLAGS: &[u32] = &[
    UPDATE,
    LINK_TIMEOUT_UPDATE,
    128,
    256,
    1 << 31,
    UPDATE | ABS,
    BOOTTIME | REALTIME,
    BOOTTIME | REALTIME | ABS,
    MULTISHOT | ABS,
    MULTISHOT | ABS | REALTIME,
    u32::MAX,
];

fn flags_that_timeouts_do_not_have_are_invalid(bench: &Bench) -> Outcome {
    bench.since(6, 4)?;
    let mut rig = bench.rig(4)?;
    let good = rig.timeout(LONG);
    expect_refused(&mut rig, BAD_FLAGS.iter().map(|flags| put_u32(good.clone(), OP_FLAGS, *flags)), EINVAL)?;
    for flags in [0, BOOTTIME, REALTIME, ETIME_SUCCESS, MULTISHOT, MULTISHOT | ETIME_SUCCESS | REALTIME] {
        expect_accepted(&mut rig, put_u32(good.clone(), OP_FLAGS, flags))?;
    }
    // At this time after the epoch, monotonic and boot time have not been yet.
    let far = opcode::Timeout::new(rig.span(100 * 365 * 24 * LONG)).build();
    for flags in [ABS, ABS | BOOTTIME, ABS | REALTIME, ABS | ETIME_SUCCESS] {
        expect_accepted(&mut rig, put_u32(far.clone(), OP_FLAGS, flags))?;
    }
    Ok(())
}

/// Addresses where no timespec can be.
const NOWHERE: [u64; 4] = [0, 512, 1 << 63, u64::MAX - 7];

fn timespecs_out_of_reach_are_a_fault(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let good = rig.timeout(LONG);
    expect_refused(&mut rig, NOWHERE.map(|address| put_u64(good.clone(), ADDR, address)), EFAULT)?;
    expect_refused(&mut rig, NOWHERE.map(|address| put_u64(good.clone(), ADDR, address).asynchronous()), EFAULT)
}

const NEGATIVE: [(i64, i64); 5] = [(-1, 0), (0, -1), (-1, -1), (i64::MIN, 0), (1, i64::MIN)];

fn negative_timespecs_are_invalid(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    for (seconds, nanoseconds) in NEGATIVE {
        let time = rig.timespec(seconds, nanoseconds);
        let entry = opcode::Timeout::new(time.ptr().cast()).build();
        let absolute = put_u32(entry.clone(), OP_FLAGS, ABS | REALTIME);
        expect_refused(&mut rig, [entry.clone(), absolute, put_u64(entry, OFF, 1)], EINVAL)?;
    }
    Ok(())
}

fn the_fields_of_a_timeout_are_checked_before_its_timespec(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let lost = put_u64(rig.timeout(LONG), ADDR, 0);
    let flags = [UPDATE, 128, BOOTTIME | REALTIME, MULTISHOT | ABS];
    expect_refused(&mut rig, flags.map(|flags| put_u32(lost.clone(), OP_FLAGS, flags)), EINVAL)?;
    expect_refused(&mut rig, bad_fields(&lost), EINVAL)?;
    expect_refused(&mut rig, [put_u32(lost.clone(), LEN, 2)], EINVAL)?;
    expect_refused(&mut rig, [put_u32(lost, LEN, 2).flags(Flags::BUFFER_SELECT)], EOPNOTSUPP)
}

/// No file is looked up.
fn fields_that_timeouts_ignore(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let good = rig.timeout(LONG);
    for fd in [0, 77, u32::MAX] {
        expect_accepted(&mut rig, put_u32(good.clone(), 4, fd))?;
        expect_accepted(&mut rig, put_u32(good.clone(), 4, fd).flags(Flags::FIXED_FILE))?;
    }
    Ok(())
}

/// `addr3` and `__pad2`; no other operation looks at them like that.
fn the_last_words_of_timeouts_are_zero(bench: &Bench) -> Outcome {
    bench.since(6, 18)?;
    let mut rig = bench.rig(4)?;
    let (time, time_of_update, missing) = (rig.timeout(LONG), rig.span(LONG), opcode::TimeoutRemove::new(99).build());
    let update = opcode::TimeoutUpdate::new(99, time_of_update).build();
    for at in [48, 52, 56, 60] {
        for good in [&time, &missing, &update, &put_u64(time.clone(), ADDR, 0), &put_u64(update.clone(), OFF, 0)] {
            expect_refused(&mut rig, [put_u32(good.clone(), at, 1)], EINVAL)?;
        }
        let guard = link_timeout(&mut rig);
        expect_refused_in_chain(&mut rig, put_u32(guard, at, 1), EINVAL)?;
    }
    rig.works()
}

fn a_refused_timeout_ends_its_batch(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let lost = put_u64(rig.timeout(LONG), ADDR, 0);
    assert_eq!(rig.send(0, &[nop(), lost, nop()])?, 2);
    assert_eq!(rig.take(2)?, [(0, 0), (1, EFAULT)]);
    assert_eq!(rig.ring.submit()?, 1);
    assert_eq!(rig.take(1)?, [(2, 0)]);
    rig.works()
}

fn link_timeout(rig: &mut Rig) -> Entry {
    opcode::LinkTimeout::new(rig.span(LONG)).build()
}

fn link_timeouts_without_a_head_are_invalid(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let alone = link_timeout(&mut rig);
    expect_refused(&mut rig, [alone.clone(), alone.clone().asynchronous(), alone.clone().skip()], EINVAL)?;
    // An entry before it that is not linked is no head.
    assert_eq!(rig.send(0, &[nop(), alone.clone(), nop()])?, 2);
    assert_eq!(rig.take(2)?, [(0, 0), (1, EINVAL)]);
    assert_eq!(rig.ring.submit()?, 1);
    assert_eq!(rig.take(1)?, [(2, 0)]);
    // As the first of a chain it is a member that is refused.
    assert_eq!(rig.results(&[alone.clone().link(), nop().link(), nop()])?, [EINVAL, ECANCELED, ECANCELED]);
    assert_eq!(rig.results(&[alone.clone().hard(), nop()])?, [EINVAL, ECANCELED]);
    // Of the timespec and the head, the timespec is looked for first.
    expect_refused(&mut rig, NOWHERE.map(|address| put_u64(alone.clone(), ADDR, address)), EFAULT)
}

/// Refused as the last of a chain, `entry` gets `error` and the NOP before it `ECANCELED`.
#[track_caller]
fn expect_refused_in_chain(rig: &mut Rig, entry: Entry, error: i32) -> Result<(), Stop> {
    assert_eq!(rig.results(&[nop().link(), entry.clone()])?, [ECANCELED, error], "{entry:?}");
    assert_eq!(rig.results(&[nop().hard(), entry.clone().link(), nop()])?, [ECANCELED, error, ECANCELED], "{entry:?}");
    Ok(())
}

fn link_timeouts_are_checked_like_timeouts(bench: &Bench) -> Outcome {
    bench.since(6, 4)?;
    let mut rig = bench.rig(4)?;
    let good = link_timeout(&mut rig);
    for entry in bad_fields(&good) {
        expect_refused_in_chain(&mut rig, entry, EINVAL)?;
    }
    for len in [0, 2] {
        expect_refused_in_chain(&mut rig, put_u32(good.clone(), LEN, len), EINVAL)?;
    }
    for flags in BAD_FLAGS {
        expect_refused_in_chain(&mut rig, put_u32(good.clone(), OP_FLAGS, *flags), EINVAL)?;
    }
    for address in NOWHERE {
        expect_refused_in_chain(&mut rig, put_u64(good.clone(), ADDR, address), EFAULT)?;
    }
    for (seconds, nanoseconds) in NEGATIVE {
        let time = rig.timespec(seconds, nanoseconds);
        expect_refused_in_chain(&mut rig, opcode::LinkTimeout::new(time.ptr().cast()).build(), EINVAL)?;
    }
    expect_refused_in_chain(&mut rig, good.clone().flags(Flags::BUFFER_SELECT), EOPNOTSUPP)?;
    // Even MULTISHOT, which means nothing here.
    for flags in [0, BOOTTIME, REALTIME, ETIME_SUCCESS, MULTISHOT] {
        assert_eq!(rig.results(&[nop().link(), put_u32(good.clone(), OP_FLAGS, flags)])?, [0, ECANCELED]);
    }
    rig.works()
}

fn a_link_timeout_takes_no_count(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let good = link_timeout(&mut rig);
    expect_refused_in_chain(&mut rig, put_u64(good.clone(), OFF, 1), EINVAL)?;
    // Of 64 bits, the lower half is looked at.
    assert_eq!(rig.results(&[nop().link(), put_u64(good, OFF, 1 << 32)])?, [0, ECANCELED]);
    rig.works()
}

fn removals_take_no_other_fields(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let waiting = rig.timeout(LONG);
    assert_eq!(rig.send(0, &[waiting])?, 1);
    let good = opcode::TimeoutRemove::new(0).build();
    expect_refused(&mut rig, bad_fields(&good), EINVAL)?;
    expect_refused(&mut rig, [put_u32(good.clone(), LEN, 1), good.clone().flags(Flags::FIXED_FILE)], EINVAL)?;
    expect_refused(&mut rig, [good.clone().flags(Flags::BUFFER_SELECT)], EOPNOTSUPP)?;
    // The descriptor and `off` are ignored.
    assert_eq!(rig.send(1, &[put_u64(put_u32(good, 4, 77), OFF, 5)])?, 1);
    assert_eq!(sorted(rig.take(2)?), [(0, ECANCELED), (1, 0)]);
    rig.works()
}

fn removals_take_no_other_flags(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let waiting = rig.timeout(LONG);
    assert_eq!(rig.send(0, &[waiting])?, 1);
    let time = rig.span(LONG);
    let update = opcode::TimeoutUpdate::new(0, time).build();
    for flags in [ABS, BOOTTIME, REALTIME, ETIME_SUCCESS, MULTISHOT, 128, 1 << 31] {
        expect_refused(&mut rig, [put_u32(update.clone(), OP_FLAGS, flags)], EINVAL)?;
    }
    // The clock is that of the timeout.
    for flags in [BOOTTIME, REALTIME, BOOTTIME | REALTIME, ETIME_SUCCESS, MULTISHOT, 128, LINK_TIMEOUT_UPDATE | 128] {
        expect_refused(&mut rig, [put_u32(update.clone(), OP_FLAGS, flags | UPDATE)], EINVAL)?;
    }
    assert_eq!(rig.send(1, &[opcode::TimeoutRemove::new(0).build()])?, 1);
    assert_eq!(sorted(rig.take(2)?), [(0, ECANCELED), (1, 0)]);
    rig.works()
}

fn updates_take_a_timespec(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let waiting = rig.timeout(LONG);
    assert_eq!(rig.send(0, &[waiting])?, 1);
    let time = rig.span(LONG);
    let good = opcode::TimeoutUpdate::new(0, time).build();
    for address in NOWHERE {
        let lost = put_u64(good.clone(), OFF, address);
        expect_refused(&mut rig, [lost.clone(), put_u32(lost.clone(), OP_FLAGS, LINK_TIMEOUT_UPDATE)], EFAULT)?;
        expect_refused(&mut rig, bad_fields(&lost), EINVAL)?;
        expect_refused(&mut rig, [put_u32(lost.clone(), LEN, 1), put_u32(lost, OP_FLAGS, UPDATE | 128)], EINVAL)?;
    }
    for (seconds, nanoseconds) in NEGATIVE {
        let time = rig.timespec(seconds, nanoseconds);
        expect_refused(&mut rig, [opcode::TimeoutUpdate::new(0, time.ptr().cast()).build()], EINVAL)?;
    }
    assert_eq!(rig.send(1, &[opcode::TimeoutRemove::new(0).build()])?, 1);
    assert_eq!(sorted(rig.take(2)?), [(0, ECANCELED), (1, 0)]);
    rig.works()
}

fn malformed_removals_are_refused_before_they_look(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let missing = opcode::TimeoutRemove::new(99).build();
    expect_refused(&mut rig, [missing.clone()], -libc::ENOENT)?;
    expect_refused(&mut rig, [put_u32(missing.clone(), LEN, 1), put_u32(missing.clone(), OP_FLAGS, ABS)], EINVAL)?;
    let lost = opcode::TimeoutUpdate::new(99, std::ptr::null()).build();
    expect_refused(&mut rig, [lost], EFAULT)?;
    // They end the batch; not to find what is to be removed does not.
    assert_eq!(rig.send(0, &[missing.clone(), put_u32(missing, LEN, 1), nop()])?, 2);
    assert_eq!(rig.take(2)?, [(0, -libc::ENOENT), (1, EINVAL)]);
    assert_eq!(rig.ring.submit()?, 1);
    assert_eq!(rig.take(1)?, [(2, 0)]);
    rig.works()
}
