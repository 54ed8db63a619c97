//! MSG_RING that sends a registered file into the table of another ring.

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types;

use super::cancel::sorted;
use super::messages::{arrived, fd_of};
use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::control::{of_fds, register_at};
use crate::support::fields::{Fields, nop};
use crate::support::pattern;
use crate::support::raw::Memory;
use crate::support::rig::{Rig, expect_errno};

pub(super) const ALL: &[Case] = cases![
    sent_files_work_where_they_arrive,
    sent_files_take_the_first_free_slot_where_asked,
    sent_files_outlive_the_table_they_came_from,
    sent_files_replace_what_was_there,
    sent_files_want_a_slot,
    sent_files_want_a_source,
    sent_files_with_fields_they_do_not_take_are_invalid,
    sent_files_may_arrive_silently,
    sent_files_fail_their_chain,
];

const SEND_FD: u64 = 1;
/// `IORING_FILE_INDEX_ALLOC`.
const ALLOC: u32 = u32::MAX;
const CQE_SKIP: u32 = 1;
const FLAGS_PASS: u32 = 2;
const R_DISABLED: u32 = 1 << 6;
const REGISTER_FILES: u32 = 2;

/// Sends fixed file `source` into `slot`, which counts from 1.
fn send(target: i32, source: u32, slot: u32) -> Fields {
    Fields {
        opcode: opcode::MsgRingSendFd::CODE,
        fd: target,
        addr: SEND_FD,
        addr3: u64::from(source),
        file_index: slot,
        off: 77,
        user_data: 1000,
        ..Fields::default()
    }
}

fn own_fd(rig: &Rig) -> Result<i32, Stop> {
    rig.ring.device_fd(0).ok_or(Stop::Fail("file 0 has no descriptor".into()))
}

/// Replaces the table of a ring.
fn table(rig: &Rig, fds: &[i32]) -> Outcome {
    rig.ring.submitter().unregister_files()?;
    assert_eq!(register_at(&rig.ring, REGISTER_FILES, of_fds(fds).address(), fds.len() as u32), Ok(0));
    Ok(())
}

pub(super) fn read_of(file: u32, memory: &Memory) -> Entry {
    opcode::Read::new(types::Fixed(file), memory.ptr(), memory.len() as u32).offset(0).build()
}

/// Whether fixed file `file` can be read, and holds what `seed` puts there.
#[track_caller]
pub(super) fn reads(rig: &mut Rig, file: u32, seed: u64) -> Result<bool, Stop> {
    let memory = rig.plain(4096);
    match rig.one(read_of(file, &memory))? {
        4096 => pattern::check(seed, 0, &memory.read()),
        res => {
            expect_errno(res, libc::EBADF, "a file that is not there");
            return Ok(false);
        }
    }
    Ok(true)
}

fn sent_files_work_where_they_arrive(bench: &Bench) -> Outcome {
    let (mut from, mut to) = (bench.rig(8)?, bench.rig(8)?);
    from.put(3, 0, 4096)?;
    let fd = own_fd(&to)?;
    table(&to, &[-1, fd, -1, -1])?;
    let target = fd_of(&to);
    for slot in [1, 4] {
        assert!(!reads(&mut to, slot - 1, 3)?);
        assert_eq!(from.one(send(target, 0, slot).entry())?, 0, "a given slot is not answered");
        assert_eq!(arrived(&mut to, 1)?, [(77, 0, 0)]);
        assert!(reads(&mut to, slot - 1, 3)?);
    }
    assert!(!reads(&mut to, 2, 3)?);
    // Back again.
    let fd = own_fd(&from)?;
    table(&from, &[fd, -1])?;
    let back = fd_of(&from);
    assert_eq!(to.one(send(back, 3, 2).entry())?, 0);
    assert_eq!(arrived(&mut from, 1)?, [(77, 0, 0)]);
    assert!(reads(&mut from, 1, 3)?);
    Ok(())
}

fn sent_files_take_the_first_free_slot_where_asked(bench: &Bench) -> Outcome {
    let (mut from, mut to) = (bench.rig(8)?, bench.rig(8)?);
    from.put(3, 0, 4096)?;
    let fd = own_fd(&to)?;
    table(&to, &[fd, -1, fd, -1])?;
    let target = fd_of(&to);
    for slot in [1, 3] {
        assert_eq!(from.one(send(target, 0, ALLOC).entry())?, slot, "the slot, from 0");
        assert_eq!(arrived(&mut to, 1)?, [(77, slot, 0)]);
        assert!(reads(&mut to, slot as u32, 3)?);
    }
    assert_eq!(from.one(send(target, 0, ALLOC).entry())?, -libc::ENFILE, "none is free");
    assert_eq!(to.one(nop(0))?, 0, "and nothing arrived");
    Ok(())
}

fn sent_files_outlive_the_table_they_came_from(bench: &Bench) -> Outcome {
    let mut to = bench.rig(8)?;
    to.put(3, 0, 4096)?;
    table(&to, &[-1])?;
    let mut from = bench.rig(8)?;
    assert_eq!(from.one(send(fd_of(&to), 0, 1).entry())?, 0);
    from.ring.submitter().unregister_files()?;
    assert_eq!(arrived(&mut to, 1)?, [(77, 0, 0)]);
    assert!(reads(&mut to, 0, 3)?);
    drop(from);
    assert!(reads(&mut to, 0, 3)?);
    Ok(())
}

fn sent_files_replace_what_was_there(bench: &Bench) -> Outcome {
    let (mut from, mut to) = (bench.rig(8)?, bench.rig(8)?);
    from.put(3, 0, 4096)?;
    let target = fd_of(&to);
    let memory = to.plain(4096);
    for _ in 0..8 {
        // One in flight keeps its file.
        to.push(&read_of(0, &memory).user_data(1))?;
        assert_eq!(to.ring.submit()?, 1);
        assert_eq!(from.one(send(target, 0, 1).entry())?, 0);
        assert_eq!(sorted(to.wait(2)?), [(1, 4096), (77, 0)]);
        assert!(reads(&mut to, 0, 3)?);
    }
    Ok(())
}

fn sent_files_want_a_slot(bench: &Bench) -> Outcome {
    let (mut from, mut to) = (bench.rig(8)?, bench.rig(8)?);
    let target = fd_of(&to);
    // The table has one.
    for slot in [0, 2, 100, u32::MAX - 1] {
        assert_eq!(from.one(send(target, 0, slot).entry())?, -libc::EINVAL, "slot {slot}");
    }
    assert_eq!(from.one(send(target, 0, ALLOC).entry())?, -libc::ENFILE);
    to.ring.submitter().unregister_files()?;
    for slot in [0, 1, 2] {
        assert_eq!(from.one(send(target, 0, slot).entry())?, -libc::ENXIO, "slot {slot} of no table");
    }
    assert_eq!(from.one(send(target, 0, ALLOC).entry())?, -libc::ENFILE, "of no table");
    assert_eq!(to.one(nop(0))?, 0, "nothing arrived");
    Ok(())
}

fn sent_files_want_a_source(bench: &Bench) -> Outcome {
    let (mut from, mut to) = (bench.rig(8)?, bench.rig(8)?);
    let target = fd_of(&to);
    for source in [1, 9999, u32::MAX] {
        assert_eq!(from.one(send(target, source, 1).entry())?, -libc::EBADF, "file {source}");
        // Before the slot.
        assert_eq!(from.one(send(target, source, 9).entry())?, -libc::EBADF, "file {source}");
    }
    let fd = own_fd(&from)?;
    table(&from, &[-1, fd])?;
    assert_eq!(from.one(send(target, 0, 1).entry())?, -libc::EBADF, "a hole");
    assert_eq!(from.one(send(target, 1, 1).entry())?, 0);
    assert_eq!(arrived(&mut to, 1)?, [(77, 0, 0)]);
    from.ring.submitter().unregister_files()?;
    assert_eq!(from.one(send(target, 1, 1).entry())?, -libc::EBADF, "no table");
    assert_eq!(to.one(nop(0))?, 0, "nothing else arrived");
    Ok(())
}

fn sent_files_with_fields_they_do_not_take_are_invalid(bench: &Bench) -> Outcome {
    let (mut from, mut to) = (bench.rig(8)?, bench.rig(8)?);
    let good = send(fd_of(&to), 0, 1);
    let own = own_fd(&from)?;
    let itself = fd_of(&from);
    let closed = bench.open(bench.builder(8).setup_flags(R_DISABLED))?;
    let disabled = fd_of(&closed);
    let rows = [
        (Fields { len: 1, ..good }, libc::EINVAL, "a length"),
        (Fields { fd: itself, ..good }, libc::EINVAL, "to itself"),
        (Fields { fd: disabled, ..good }, libc::EBADFD, "not enabled"),
        (Fields { fd: own, ..good }, libc::EBADFD, "no ring"),
        (Fields { fd: 9999, ..good }, libc::EBADF, "not open"),
        // Which comes first.
        (Fields { fd: disabled, len: 1, ..good }, libc::EINVAL, "a length, not enabled"),
        (Fields { fd: disabled, addr3: 9, ..good }, libc::EBADFD, "no source, not enabled"),
        (Fields { fd: itself, addr3: 9, ..good }, libc::EINVAL, "no source, to itself"),
        (Fields { fd: own, len: 1, ..good }, libc::EBADFD, "a length, no ring"),
        (Fields { len: 1, addr3: 9, ..good }, libc::EINVAL, "a length, no source"),
    ];
    for (entry, expected, what) in rows {
        expect_errno(from.one(entry.entry())?, expected, what);
    }
    for entry in [Fields { op_flags: 4, ..good }, Fields { buf_index: 1, ..good }] {
        from.push(&entry.entry())?;
        from.push(&nop(2))?;
        assert_eq!(from.ring.submit()?, 1, "it ends its batch: {entry:?}");
        assert_eq!(sorted(from.wait(1)?), [(1000, -libc::EINVAL)]);
        assert_eq!(sorted(from.wait(1)?), [(2, 0)]);
    }
    assert_eq!(to.one(nop(0))?, 0, "nothing arrived");
    // Flags to pass are of no account, nor is half of the word that names the source.
    let entries = [
        Fields { op_flags: FLAGS_PASS, ..good },
        Fields { addr3: 7 << 32, ..good },
        Fields { addr: 7 << 32 | 1, ..good },
    ];
    for entry in entries {
        assert_eq!(from.one(entry.entry())?, 0, "{entry:?}");
        assert_eq!(arrived(&mut to, 1)?, [(77, 0, 0)]);
    }
    Ok(())
}

fn sent_files_may_arrive_silently(bench: &Bench) -> Outcome {
    let (mut from, mut to) = (bench.rig(8)?, bench.rig(8)?);
    from.put(3, 0, 4096)?;
    table(&to, &[-1, -1])?;
    let target = fd_of(&to);
    assert_eq!(from.one(Fields { op_flags: CQE_SKIP, ..send(target, 0, 1) }.entry())?, 0);
    assert_eq!(from.one(Fields { op_flags: CQE_SKIP | FLAGS_PASS, ..send(target, 0, ALLOC) }.entry())?, 1);
    assert_eq!(to.one(nop(0))?, 0, "nothing arrived");
    assert!(reads(&mut to, 0, 3)? && reads(&mut to, 1, 3)?);
    // On the sender's side it is the entry's flag.
    from.push(&Fields { flags: Flags::SKIP_SUCCESS.bits(), ..send(target, 0, 2) }.entry())?;
    assert_eq!(from.ring.submit()?, 1);
    assert_eq!(arrived(&mut to, 1)?, [(77, 0, 0)]);
    assert_eq!(from.one(nop(0))?, 0, "nothing came");
    Ok(())
}

fn sent_files_fail_their_chain(bench: &Bench) -> Outcome {
    let (mut from, mut to) = (bench.rig(8)?, bench.rig(8)?);
    let target = fd_of(&to);
    for (slot, own, next) in [(1, 0, 0), (2, -libc::EINVAL, -libc::ECANCELED), (ALLOC, -libc::ENFILE, -libc::ECANCELED)]
    {
        from.push(&Fields { flags: Flags::IO_LINK.bits(), ..send(target, 0, slot) }.entry())?;
        from.push(&nop(2))?;
        assert_eq!(sorted(from.wait(2)?), [(2, next), (1000, own)], "slot {slot}");
    }
    assert_eq!(arrived(&mut to, 1)?, [(77, 0, 0)]);
    Ok(())
}
