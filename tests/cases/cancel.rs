//! ASYNC_CANCEL: what it finds, and how many.

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::fields::{Fields, endless, nop};
use crate::support::rig::{Done, Rig, read};

pub(super) const ALL: &[Case] = cases![
    cancel_ends_a_pending_timeout,
    cancel_of_what_is_not_there_finds_nothing,
    cancel_takes_the_oldest_match_and_no_other,
    cancel_counts_all_matches,
    cancel_of_any_ignores_names,
    cancel_by_operation,
    cancel_by_file_finds_no_timeout,
    cancel_of_a_bad_file_is_a_bad_descriptor,
    cancel_with_fields_it_does_not_take_is_invalid,
    cancel_ignores_other_fields,
    cancel_is_invalid_on_a_polled_ring,
    cancel_lets_a_read_in_flight_complete,
];

/// `IORING_ASYNC_CANCEL_*`.
pub(super) const ONE_OF_MANY: u32 = 1;
pub(super) const FD: u32 = 2;
pub(super) const ANY: u32 = 4;
pub(super) const FD_FIXED: u32 = 8;
pub(super) const USERDATA: u32 = 16;
pub(super) const OP: u32 = 32;

/// `IORING_SETUP_IOPOLL`.
pub(super) const IOPOLL: u32 = 1;

const NOP: u32 = 0;
pub(super) const TIMEOUT: u32 = 11;
const READ: u32 = 22;

/// By user data.
pub(super) fn cancel(target: u64) -> Fields {
    Fields { opcode: opcode::AsyncCancel::CODE, addr: target, user_data: 1000, ..Fields::default() }
}

pub(super) fn flagged(target: u64, flags: u32) -> Fields {
    Fields { op_flags: flags, ..cancel(target) }
}

pub(super) fn sorted(mut done: Vec<Done>) -> Vec<(u64, i32)> {
    done.sort_by_key(|done| (done.user_data, done.res));
    done.iter().map(|done| (done.user_data, done.res)).collect()
}

/// Makes timeouts of these names pend.
pub(super) fn pend(rig: &mut Rig, names: &[u64]) -> Outcome {
    for &name in names {
        let entry = endless(rig, name);
        rig.push(&entry)?;
    }
    assert_eq!(rig.ring.submit()?, names.len());
    Ok(())
}

/// Cancels, with `count` completions beside its own; answers its result and their names.
#[track_caller]
pub(super) fn cancelled(rig: &mut Rig, entry: Fields, count: usize) -> Result<(i32, Vec<u64>), Stop> {
    rig.push(&entry.entry())?;
    let mut done = rig.wait(count + 1)?;
    assert_eq!(done.len(), count + 1, "{done:?}");
    let own = done.iter().position(|done| done.user_data == entry.user_data).expect("its own completion");
    let own = done.remove(own);
    assert!(done.iter().all(|done| (done.res, done.flags) == (-libc::ECANCELED, 0)), "{done:?}");
    Ok((own.res, done.iter().map(|done| done.user_data).collect()))
}

/// Cancels whatever pends, which must be so many.
fn clear(rig: &mut Rig, count: usize) -> Outcome {
    let (res, _) = cancelled(rig, flagged(0, ANY), count)?;
    assert_eq!(res, count as i32, "still pending");
    Ok(())
}

fn cancel_ends_a_pending_timeout(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    pend(&mut rig, &[7])?;
    assert_eq!(cancelled(&mut rig, cancel(7), 1)?, (0, vec![7]));
    // One that was submitted with it.
    let timeout = endless(&mut rig, 8);
    rig.push(&timeout)?;
    assert_eq!(cancelled(&mut rig, cancel(8), 1)?, (0, vec![8]));
    // One that waits for completions as well.
    let timeout = endless(&mut rig, 9);
    rig.push(&Fields { off: 100, ..timeout_fields(&timeout) }.entry())?;
    assert_eq!(cancelled(&mut rig, cancel(9), 1)?, (0, vec![9]));
    assert_eq!(rig.one(nop(0))?, 0, "nothing else came");
    Ok(())
}

/// A TIMEOUT to change.
fn timeout_fields(entry: &Entry) -> Fields {
    let mut fields = Fields { opcode: opcode::Timeout::CODE, user_data: entry.get_user_data(), ..Fields::default() };
    let _ = crate::support::raw::edit(entry.clone(), |bytes| {
        fields.addr = u64::from_ne_bytes(bytes[16..24].try_into().expect("8 bytes"));
        fields.len = u32::from_ne_bytes(bytes[24..28].try_into().expect("4 bytes"));
    });
    fields
}

fn cancel_of_what_is_not_there_finds_nothing(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    assert_eq!(cancelled(&mut rig, cancel(7), 0)?, (-libc::ENOENT, vec![]));
    // What has completed, and itself.
    rig.push(&read(&memory, 0).user_data(7))?;
    assert_eq!(sorted(rig.wait(1)?), [(7, 4096)]);
    assert_eq!(cancelled(&mut rig, cancel(7), 0)?, (-libc::ENOENT, vec![]));
    assert_eq!(cancelled(&mut rig, cancel(1000), 0)?, (-libc::ENOENT, vec![]));
    pend(&mut rig, &[7])?;
    assert_eq!(cancelled(&mut rig, cancel(7), 1)?, (0, vec![7]));
    assert_eq!(cancelled(&mut rig, cancel(7), 0)?, (-libc::ENOENT, vec![]), "twice");
    Ok(())
}

fn cancel_takes_the_oldest_match_and_no_other(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    pend(&mut rig, &[5, 5, 5])?;
    assert_eq!(cancelled(&mut rig, cancel(5), 1)?, (0, vec![5]));
    assert_eq!(cancelled(&mut rig, flagged(5, ONE_OF_MANY), 2)?, (2, vec![5, 5]));
    bench.since(6, 6)?;
    pend(&mut rig, &[30, 10, 20])?;
    for name in [30, 10, 20] {
        assert_eq!(cancelled(&mut rig, Fields { len: TIMEOUT, ..flagged(0, OP) }, 1)?, (0, vec![name]));
    }
    Ok(())
}

fn cancel_counts_all_matches(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(16)?;
    pend(&mut rig, &[5, 6, 5, 6, 5])?;
    assert_eq!(cancelled(&mut rig, flagged(5, ONE_OF_MANY), 3)?, (3, vec![5, 5, 5]));
    // None is no error.
    assert_eq!(cancelled(&mut rig, flagged(5, ONE_OF_MANY), 0)?, (0, vec![]));
    assert_eq!(cancelled(&mut rig, flagged(6, ONE_OF_MANY), 2)?, (2, vec![6, 6]));
    Ok(())
}

fn cancel_of_any_ignores_names(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(16)?;
    assert_eq!(cancelled(&mut rig, flagged(5, ANY), 0)?, (0, vec![]), "none is no error");
    for flags in [ANY, ANY | ONE_OF_MANY, ANY | FD_FIXED] {
        pend(&mut rig, &[3, 1, 2])?;
        assert_eq!(cancelled(&mut rig, flagged(77, flags), 3)?, (3, vec![3, 1, 2]), "flags {flags:#x}");
    }
    bench.since(6, 6)?;
    pend(&mut rig, &[3, 1, 2])?;
    assert_eq!(cancelled(&mut rig, flagged(1, ANY | USERDATA), 3)?, (3, vec![3, 1, 2]));
    Ok(())
}

fn cancel_by_operation(bench: &Bench) -> Outcome {
    bench.since(6, 6)?;
    let mut rig = bench.rig(16)?;
    let by = |op: u32, name: u64, flags: u32| Fields { len: op, ..flagged(name, OP | flags) };
    let none = (-libc::ENOENT, vec![]);
    pend(&mut rig, &[1, 2, 2, 3, 0])?;
    for op in [NOP, READ, 255] {
        assert_eq!(cancelled(&mut rig, by(op, 2, 0), 0)?, none, "operation {op}");
        assert_eq!(cancelled(&mut rig, by(op, 2, ONE_OF_MANY), 0)?, (0, vec![]), "operation {op}");
        assert_eq!(cancelled(&mut rig, by(op, 2, USERDATA), 0)?, none, "operation {op}");
    }
    assert_eq!(cancelled(&mut rig, by(TIMEOUT, 9, USERDATA), 0)?, none, "both must match");
    assert_eq!(cancelled(&mut rig, by(TIMEOUT, 2, USERDATA | ONE_OF_MANY), 2)?, (2, vec![2, 2]));
    // Without USERDATA the name is of no account.
    assert_eq!(cancelled(&mut rig, by(TIMEOUT, 9, 0), 1)?, (0, vec![1]));
    // Eight bits of the length are the operation.
    assert_eq!(cancelled(&mut rig, by(TIMEOUT | 0x100, 9, ONE_OF_MANY), 2)?, (2, vec![3, 0]));
    // Alone, USERDATA says what is the case anyway.
    pend(&mut rig, &[1])?;
    assert_eq!(cancelled(&mut rig, flagged(2, USERDATA), 0)?, none);
    assert_eq!(cancelled(&mut rig, flagged(1, USERDATA), 1)?, (0, vec![1]));
    Ok(())
}

fn cancel_by_file_finds_no_timeout(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    pend(&mut rig, &[1, 2])?;
    let fd = rig.ring.device_fd(0).ok_or(Stop::Fail("file 0 has no descriptor".into()))?;
    let by = |flags: u32, fd: i32| Fields { fd, ..flagged(1, flags) };
    let fixed = Flags::FIXED_FILE.bits();
    for entry in [by(FD, fd), by(FD | FD_FIXED, 0), Fields { flags: fixed, ..by(FD, 0) }] {
        assert_eq!(cancelled(&mut rig, entry, 0)?, (-libc::ENOENT, vec![]), "{entry:?}");
        let all = Fields { op_flags: entry.op_flags | ONE_OF_MANY, ..entry };
        assert_eq!(cancelled(&mut rig, all, 0)?, (0, vec![]), "{all:?}");
    }
    // Without FD the descriptor is of no account.
    for entry in [by(FD_FIXED, 999), Fields { flags: fixed, ..by(0, 999) }] {
        assert_eq!(cancelled(&mut rig, entry, 1)?, (0, vec![1]), "{entry:?}");
        pend(&mut rig, &[1])?;
    }
    clear(&mut rig, 2)
}

fn cancel_of_a_bad_file_is_a_bad_descriptor(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    pend(&mut rig, &[1])?;
    let fixed = Flags::FIXED_FILE.bits();
    for all in [0, ONE_OF_MANY] {
        for fd in [-1, 9999, i32::MAX] {
            let entry = Fields { fd, ..flagged(1, FD | all) };
            assert_eq!(cancelled(&mut rig, entry, 0)?, (-libc::EBADF, vec![]), "descriptor {fd}");
        }
        for file in [1, 9999, -1] {
            let entry = Fields { fd: file, ..flagged(1, FD | FD_FIXED | all) };
            assert_eq!(cancelled(&mut rig, entry, 0)?, (-libc::EBADF, vec![]), "fixed file {file}");
            let entry = Fields { fd: file, flags: fixed, ..flagged(1, FD | all) };
            assert_eq!(cancelled(&mut rig, entry, 0)?, (-libc::EBADF, vec![]), "fixed file {file}");
        }
    }
    // Found when it is issued, so that the batch goes on.
    rig.push(&Fields { fd: -1, ..flagged(1, FD) }.entry())?;
    rig.push(&nop(2))?;
    assert_eq!(rig.ring.submit()?, 2);
    assert_eq!(sorted(rig.wait(2)?), [(2, 0), (1000, -libc::EBADF)]);
    clear(&mut rig, 1)
}

fn cancel_with_fields_it_does_not_take_is_invalid(bench: &Bench) -> Outcome {
    bench.since(6, 6)?; // OP and USERDATA are unknown before
    let mut rig = bench.rig(8)?;
    pend(&mut rig, &[1])?;
    let bad = [
        Fields { off: 1, ..cancel(1) },
        Fields { off: 1 << 63, ..cancel(1) },
        Fields { file_index: 1, ..cancel(1) },
        Fields { ioprio: 1, ..cancel(1) },
        flagged(1, 64),
        flagged(1, 1 << 31),
        flagged(1, FD | ANY),
        flagged(1, OP | ANY),
        // Before the descriptor is looked at.
        Fields { fd: -1, ..flagged(1, FD | ANY) },
        Fields { fd: -1, off: 1, ..flagged(1, FD) },
    ];
    for entry in bad {
        rig.push(&entry.entry())?;
        rig.push(&nop(2))?;
        assert_eq!(rig.ring.submit()?, 1, "it ends its batch: {entry:?}");
        assert_eq!(sorted(rig.wait(1)?), [(1000, -libc::EINVAL)], "{entry:?}");
        assert_eq!(sorted(rig.wait(1)?), [(2, 0)], "{entry:?}");
    }
    // No operation with buffers to choose; found before the rest.
    for entry in [cancel(1), flagged(1, 64), Fields { off: 1, ..cancel(1) }] {
        let entry = Fields { flags: Flags::BUFFER_SELECT.bits(), ..entry };
        assert_eq!(cancelled(&mut rig, entry, 0)?, (-libc::EOPNOTSUPP, vec![]), "{entry:?}");
    }
    clear(&mut rig, 1)
}

fn cancel_ignores_other_fields(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let entries = [
        Fields { fd: 9999, ..cancel(1) },
        Fields { fd: -1, len: 77, ..cancel(1) },
        Fields { buf_index: 77, ..cancel(1) },
        Fields { addr3: 77, ..cancel(1) },
        Fields { flags: Flags::ASYNC.bits(), ..cancel(1) },
    ];
    for entry in entries {
        pend(&mut rig, &[1])?;
        assert_eq!(cancelled(&mut rig, entry, 1)?, (0, vec![1]), "{entry:?}");
    }
    Ok(())
}

fn cancel_lets_a_read_in_flight_complete(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(16)?;
    // The kernel splits a large one and hands it to a worker, where a cancel may end it.
    rig.put(5, 0, 4096)?;
    let fd = rig.ring.device_fd(0).ok_or(Stop::Fail("file 0 has no descriptor".into()))?;
    let memory = rig.plain(4096);
    for entry in [cancel(1), Fields { fd, ..flagged(1, FD) }, Fields { fd: 0, ..flagged(1, FD | FD_FIXED) }] {
        memory.write(&vec![0; 4096]);
        rig.push(&read(&memory, 0).user_data(1))?;
        rig.push(&entry.entry())?;
        let done = sorted(rig.wait(2)?);
        assert_eq!(done[0], (1, 4096));
        // EALREADY where a worker of the kernel has it.
        assert!([-libc::ENOENT, -libc::EALREADY].contains(&done[1].1), "{done:?}");
        crate::support::pattern::check(5, 0, &memory.read());
    }
    for flags in [ONE_OF_MANY, ANY] {
        rig.push(&read(&memory, 0).user_data(1))?;
        rig.push(&flagged(1, flags).entry())?;
        let done = sorted(rig.wait(2)?);
        assert_eq!(done[0], (1, 4096));
        assert!([0, 1].contains(&done[1].1), "{done:?}");
    }
    Ok(())
}

fn cancel_is_invalid_on_a_polled_ring(bench: &Bench) -> Outcome {
    let mut rig = bench.open(bench.builder(8).setup_flags(IOPOLL))?;
    rig.push(&cancel(1).entry())?;
    rig.push(&nop(2))?;
    assert_eq!(rig.ring.submit()?, 1, "it ends its batch");
    assert_eq!(sorted(rig.wait(1)?), [(1000, -libc::EINVAL)]);
    assert_eq!(sorted(rig.wait(1)?), [(2, 0)]);
    Ok(())
}
