//! MSG_RING: completions that one ring posts on another.

use std::os::fd::AsRawFd;

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};

use super::cancel::{IOPOLL, sorted};
use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::control::{register, register_at};
use crate::support::fields::{Fields, nop};
use crate::support::rig::{Completion, Rig, read};

pub(super) const ALL: &[Case] = cases![
    messages_arrive_as_they_were_sent,
    messages_carry_flags_where_asked,
    messages_to_the_own_ring_come_before_their_own_completion,
    messages_want_a_ring,
    messages_with_fields_they_do_not_take_are_invalid,
    messages_ignore_other_fields,
    messages_beyond_the_ring_are_kept,
    messages_to_a_ring_that_is_not_enabled_are_refused,
    messages_reach_a_ring_that_is_polled,
    messages_reach_a_ring_that_completes_on_entering,
    messages_reach_a_ring_of_long_completions,
    messages_fail_their_chain,
    messages_may_be_silent_where_they_are_sent,
    messages_without_a_ring_are_not_sent_through_one,
];

/// `IORING_MSG_RING_*`.
const CQE_SKIP: u32 = 1;
const FLAGS_PASS: u32 = 2;

/// `IORING_SETUP_*`.
const R_DISABLED: u32 = 1 << 6;
const SINGLE_ISSUER: u32 = 1 << 12;
const DEFER_TASKRUN: u32 = 1 << 13;

const ENABLE_RINGS: u32 = 12;
const SEND_MSG_RING: u32 = 31;

/// MSG_DATA to a descriptor: what arrives is user data, result, and with `FLAGS_PASS` flags.
pub(super) fn message(target: i32, user_data: u64, res: i32) -> Fields {
    let len = res.cast_unsigned();
    Fields { opcode: opcode::MsgRingData::CODE, fd: target, off: user_data, len, user_data: 1000, ..Fields::default() }
}

pub(super) fn fd_of<C: Completion>(rig: &Rig<Entry, C>) -> i32 {
    rig.ring.as_raw_fd()
}

/// Completions that are there: user data, result, flags.
pub(super) fn arrived<C: Completion>(rig: &mut Rig<Entry, C>, count: usize) -> Result<Vec<(u64, i32, u32)>, Stop> {
    let done = rig.wait(count)?;
    assert!(done.iter().all(|done| done.extra == [0; 2]), "{done:?}");
    Ok(done.iter().map(|done| (done.user_data, done.res, done.flags)).collect())
}

fn messages_arrive_as_they_were_sent(bench: &Bench) -> Outcome {
    let (mut from, mut to) = (bench.rig(8)?, bench.rig(8)?);
    let target = fd_of(&to);
    for (user_data, res) in [(0, 0), (1, 5), (u64::MAX, i32::MAX), (1 << 63, -1), (7, i32::MIN), (8, -libc::EIO)] {
        assert_eq!(from.one(message(target, user_data, res).entry())?, 0);
        assert_eq!(arrived(&mut to, 1)?, [(user_data, res, 0)], "it is there at once");
    }
    // In their order, between completions of its own.
    for i in 0..4 {
        from.push(&message(target, i, 10 + i as i32).entry())?;
    }
    to.push(&nop(100))?;
    assert_eq!(to.ring.submit()?, 1);
    assert_eq!(from.ring.submit()?, 4);
    to.push(&nop(101))?;
    assert_eq!(to.ring.submit()?, 1);
    assert_eq!(sorted(from.wait(4)?), [(1000, 0); 4]);
    let names: Vec<u64> = arrived(&mut to, 6)?.iter().map(|done| done.0).collect();
    assert_eq!(names, [100, 0, 1, 2, 3, 101]);
    Ok(())
}

fn messages_carry_flags_where_asked(bench: &Bench) -> Outcome {
    bench.since(6, 3)?;
    let (mut from, mut to) = (bench.rig(8)?, bench.rig(8)?);
    let target = fd_of(&to);
    for flags in [0, 1, 2, 1 << 16, 0xdead_beef, u32::MAX] {
        let entry = Fields { op_flags: FLAGS_PASS, file_index: flags, ..message(target, 5, 6) };
        assert_eq!(from.one(entry.entry())?, 0);
        assert_eq!(arrived(&mut to, 1)?, [(5, 6, flags)]);
    }
    Ok(())
}

fn messages_to_the_own_ring_come_before_their_own_completion(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let target = fd_of(&rig);
    rig.push(&message(target, 5, 6).entry())?;
    assert_eq!(rig.ring.submit()?, 1);
    assert_eq!(arrived(&mut rig, 2)?, [(5, 6, 0), (1000, 0, 0)]);
    // And before those of the whole batch.
    rig.push(&nop(1))?;
    rig.push(&message(target, 5, 6).entry())?;
    rig.push(&nop(2))?;
    assert_eq!(rig.ring.submit()?, 3);
    assert_eq!(sorted(rig.wait(4)?), [(1, 0), (2, 0), (5, 6), (1000, 0)]);
    Ok(())
}

fn messages_want_a_ring(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let own = rig.ring.device_fd(0).ok_or(Stop::Fail("file 0 has no descriptor".into()))?;
    let fixed = |file: i32| Fields { flags: Flags::FIXED_FILE.bits(), ..message(file, 5, 6) };
    let rows = [
        (message(own, 5, 6), libc::EBADFD),
        (fixed(0), libc::EBADFD),
        (fixed(1), libc::EBADF),
        (fixed(9999), libc::EBADF),
        (message(-1, 5, 6), libc::EBADF),
        (message(9999, 5, 6), libc::EBADF),
        // Before the kind of message, and its fields.
        (Fields { addr: 9, ..message(own, 5, 6) }, libc::EBADFD),
        (Fields { addr3: 9, ..message(own, 5, 6) }, libc::EBADFD),
        (Fields { addr: 9, ..message(9999, 5, 6) }, libc::EBADF),
    ];
    for (entry, expected) in rows {
        rig.push(&entry.entry())?;
        rig.push(&nop(2))?;
        assert_eq!(rig.ring.submit()?, 2, "found when it is issued: {entry:?}");
        assert_eq!(sorted(rig.wait(2)?), [(2, 0), (1000, -expected)], "{entry:?}");
    }
    // A ring cannot be a registered file.
    let target = fd_of(&rig);
    rig.ring.submitter().unregister_files()?;
    let error = rig.ring.submitter().register_files(&[target]).expect_err("a ring");
    assert_eq!(error.raw_os_error(), Some(libc::EBADF), "{error}");
    Ok(())
}

fn messages_with_fields_they_do_not_take_are_invalid(bench: &Bench) -> Outcome {
    bench.since(6, 3)?;
    let (mut from, mut to) = (bench.rig(8)?, bench.rig(8)?);
    let good = message(fd_of(&to), 5, 6);
    let at_preparation = [
        Fields { buf_index: 1, ..good },
        Fields { personality: 1, ..good },
        Fields { ioprio: 1, ..good },
        Fields { op_flags: 4, ..good },
        Fields { op_flags: 1 << 31, ..good },
        Fields { op_flags: 4, fd: 9999, ..good },
        Fields { buf_index: 1, fd: 9999, ..good },
    ];
    for entry in at_preparation {
        from.push(&entry.entry())?;
        from.push(&nop(2))?;
        assert_eq!(from.ring.submit()?, 1, "it ends its batch: {entry:?}");
        assert_eq!(sorted(from.wait(1)?), [(1000, -libc::EINVAL)], "{entry:?}");
        assert_eq!(sorted(from.wait(1)?), [(2, 0)]);
    }
    let at_issue = [
        // Kinds there are not.
        Fields { addr: 2, ..good },
        Fields { addr: u64::from(u32::MAX), ..good },
        // Of the other kind.
        Fields { op_flags: CQE_SKIP, ..good },
        Fields { op_flags: CQE_SKIP | FLAGS_PASS, ..good },
        Fields { addr3: 1, ..good },
        Fields { addr3: u64::from(u32::MAX), ..good },
        // Flags to pass that are not asked for.
        Fields { file_index: 1, ..good },
    ];
    for entry in at_issue {
        from.push(&entry.entry())?;
        from.push(&nop(2))?;
        assert_eq!(from.ring.submit()?, 2, "{entry:?}");
        assert_eq!(sorted(from.wait(2)?), [(2, 0), (1000, -libc::EINVAL)], "{entry:?}");
    }
    let select = Fields { flags: Flags::BUFFER_SELECT.bits(), ..good };
    assert_eq!(from.one(select.entry())?, -libc::EOPNOTSUPP);
    assert_eq!(to.one(nop(0))?, 0, "none of them arrived");
    Ok(())
}

fn messages_ignore_other_fields(bench: &Bench) -> Outcome {
    let (mut from, mut to) = (bench.rig(8)?, bench.rig(8)?);
    let good = message(fd_of(&to), 5, 6);
    // Half of the words that say the kind and the source.
    for entry in [Fields { addr: 7 << 32, ..good }, Fields { addr3: 7 << 32, ..good }] {
        assert_eq!(from.one(entry.entry())?, 0, "{entry:?}");
        assert_eq!(arrived(&mut to, 1)?, [(5, 6, 0)], "{entry:?}");
    }
    Ok(())
}

fn messages_beyond_the_ring_are_kept(bench: &Bench) -> Outcome {
    let mut from = bench.rig(8)?;
    let mut to = bench.open(bench.builder(2).cq_entries(4))?;
    let target = fd_of(&to);
    for i in 0..10 {
        assert_eq!(from.one(message(target, i, i as i32).entry())?, 0, "message {i}");
    }
    // A ring on a device takes notice when it is entered.
    assert_eq!(to.ring.submit()?, 0);
    assert!(to.ring.submission().cq_overflow());
    assert_eq!(to.ring.completion().overflow(), 0, "none is dropped");
    let expected: Vec<_> = (0..10).map(|i| (i, i as i32, 0)).collect();
    assert_eq!(arrived(&mut to, 10)?, expected);
    assert_eq!(to.one(nop(0))?, 0);
    assert!(!to.ring.submission().cq_overflow());
    Ok(())
}

fn messages_to_a_ring_that_is_not_enabled_are_refused(bench: &Bench) -> Outcome {
    let mut from = bench.rig(8)?;
    let mut to = bench.open(bench.builder(8).setup_flags(R_DISABLED))?;
    let good = message(fd_of(&to), 5, 6);
    assert_eq!(from.one(good.entry())?, -libc::EBADFD);
    // The fields come first.
    assert_eq!(from.one(Fields { addr: 9, ..good }.entry())?, -libc::EINVAL);
    assert_eq!(from.one(Fields { addr3: 9, ..good }.entry())?, -libc::EINVAL);
    assert_eq!(register_at(&to.ring, ENABLE_RINGS, 0, 0), Ok(0));
    assert_eq!(from.one(good.entry())?, 0);
    assert_eq!(arrived(&mut to, 1)?, [(5, 6, 0)]);
    Ok(())
}

fn messages_reach_a_ring_that_is_polled(bench: &Bench) -> Outcome {
    let mut from = bench.rig(8)?;
    let mut to = bench.open(bench.builder(8).setup_flags(IOPOLL))?;
    let target = fd_of(&to);
    for i in 0..4 {
        assert_eq!(from.one(message(target, i, 6).entry())?, 0);
    }
    assert_eq!(arrived(&mut to, 4)?, [(0, 6, 0), (1, 6, 0), (2, 6, 0), (3, 6, 0)]);
    // And leave one.
    let back = fd_of(&from);
    assert_eq!(to.one(message(back, 7, 8).entry())?, 0);
    assert_eq!(arrived(&mut from, 1)?, [(7, 8, 0)]);
    Ok(())
}

fn messages_reach_a_ring_that_completes_on_entering(bench: &Bench) -> Outcome {
    let mut from = bench.rig(8)?;
    let mut to = bench.open(bench.builder(8).setup_flags(SINGLE_ISSUER | DEFER_TASKRUN))?;
    let target = fd_of(&to);
    for i in 0..4 {
        assert_eq!(from.one(message(target, i, 6).entry())?, 0);
    }
    // The kernel puts them there by work that entering does.
    let mut done = arrived(&mut to, 4)?;
    done.sort_unstable();
    assert_eq!(done, [(0, 6, 0), (1, 6, 0), (2, 6, 0), (3, 6, 0)]);
    let flags = Fields { op_flags: FLAGS_PASS, file_index: 0x55, ..message(target, 9, -9) };
    assert_eq!(from.one(flags.entry())?, 0);
    assert_eq!(arrived(&mut to, 1)?, [(9, -9, 0x55)]);
    Ok(())
}

fn messages_reach_a_ring_of_long_completions(bench: &Bench) -> Outcome {
    let mut from = bench.rig(8)?;
    let mut to = bench.open(bench.builder(8).cqe32())?;
    let target = fd_of(&to);
    assert_eq!(from.one(message(target, 5, 6).entry())?, 0);
    assert_eq!(arrived(&mut to, 1)?, [(5, 6, 0)]);
    let back = fd_of(&from);
    assert_eq!(to.command(message(back, 7, 8).entry())?, (0, [0; 2]));
    assert_eq!(arrived(&mut from, 1)?, [(7, 8, 0)]);
    Ok(())
}

fn messages_fail_their_chain(bench: &Bench) -> Outcome {
    let (mut from, mut to) = (bench.rig(8)?, bench.rig(8)?);
    let target = fd_of(&to);
    // A result below zero is no failure where it is sent.
    for (entry, own, next) in [
        (message(target, 5, -6), 0, 0),
        (message(9999, 5, 6), -libc::EBADF, -libc::ECANCELED),
        (Fields { addr3: 1, ..message(target, 5, 6) }, -libc::EINVAL, -libc::ECANCELED),
    ] {
        from.push(&Fields { flags: Flags::IO_LINK.bits(), ..entry }.entry())?;
        from.push(&message(target, 9, 9).entry().user_data(2000))?;
        assert_eq!(sorted(from.wait(2)?), [(1000, own), (2000, next)], "{entry:?}");
    }
    // Behind a read: sent when it has completed.
    let memory = from.plain(4096);
    from.push(&read(&memory, 0).user_data(1).flags(Flags::IO_LINK))?;
    from.push(&message(target, 10, 10).entry())?;
    assert_eq!(sorted(from.wait(2)?), [(1, 4096), (1000, 0)]);
    assert_eq!(arrived(&mut to, 3)?, [(5, -6, 0), (9, 9, 0), (10, 10, 0)]);
    Ok(())
}

fn messages_may_be_silent_where_they_are_sent(bench: &Bench) -> Outcome {
    let (mut from, mut to) = (bench.rig(8)?, bench.rig(8)?);
    let silent = |entry: Fields| Fields { flags: Flags::SKIP_SUCCESS.bits(), ..entry };
    from.push(&silent(message(fd_of(&to), 5, 6)).entry())?;
    assert_eq!(from.ring.submit()?, 1);
    assert_eq!(arrived(&mut to, 1)?, [(5, 6, 0)]);
    from.push(&silent(message(9999, 5, 6)).entry())?;
    assert_eq!(sorted(from.wait(1)?), [(1000, -libc::EBADF)]);
    assert_eq!(from.one(nop(0))?, 0, "nothing else came");
    Ok(())
}

fn messages_without_a_ring_are_not_sent_through_one(bench: &Bench) -> Outcome {
    let mut to = bench.rig(8)?;
    let from = bench.rig(8)?;
    // The kernel takes it with descriptor -1 only.
    let entry = message(fd_of(&to), 5, 6);
    for ring in [&from.ring, &to.ring] {
        assert_eq!(register(ring, SEND_MSG_RING, &entry.bytes(), 1), Err(libc::EINVAL));
        assert_eq!(register_at(ring, SEND_MSG_RING, 0, 0), Err(libc::EINVAL));
    }
    assert_eq!(to.one(nop(0))?, 0, "nothing arrived");
    Ok(())
}
