//! The table of registered files: parts that are replaced, by call and by entry.

use std::os::fd::AsRawFd;

use io_uring::opcode;
use io_uring::squeue::Flags;

use super::cancel::sorted;
use super::send_fd::{read_of, reads};
use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::control::{Table, Update, of_fds, of_tags, register, register_at};
use crate::support::fields::{Fields, endless, nop};
use crate::support::rig::Rig;

pub(super) const ALL: &[Case] = cases![
    file_updates_replace_remove_and_skip,
    file_updates_stop_at_a_bad_descriptor_which_empties_its_slot,
    file_updates_stay_inside_the_table,
    file_updates_with_bad_arguments_are_refused,
    file_updates_by_entry_answer_as_the_call_does,
    file_updates_by_entry_with_fields_they_do_not_take_are_invalid,
    file_updates_by_entry_find_free_slots,
    free_slots_are_sought_behind_the_last_that_was_filled,
    files_of_a_chain_are_looked_up_when_each_begins,
    file_tables_may_be_sparse,
    file_tables_with_bad_arguments_are_refused,
    file_tables_go_while_reads_are_in_flight,
];

pub(super) const REGISTER_FILES: u32 = 2;
pub(super) const UNREGISTER_FILES: u32 = 3;
const FILES_UPDATE: u32 = 6;
pub(super) const FILES2: u32 = 13;
pub(super) const FILES_UPDATE2: u32 = 14;
/// `IORING_RSRC_REGISTER_SPARSE`.
pub(super) const SPARSE: u32 = 1;
/// `IORING_REGISTER_FILES_SKIP`.
const SKIP: i32 = -2;
/// `IORING_FILE_INDEX_ALLOC`.
const ALLOC: u64 = u32::MAX as u64;

pub(super) fn own_fd(rig: &Rig) -> Result<i32, Stop> {
    rig.ring.device_fd(0).ok_or(Stop::Fail("file 0 has no descriptor".into()))
}

/// A ring whose table is these files, and its own descriptor, which `true` stands for.
fn with_table(bench: &Bench, files: &[bool]) -> Result<(Rig, i32), Stop> {
    let mut rig = bench.rig(8)?;
    rig.put(3, 0, 4096)?;
    let fd = own_fd(&rig)?;
    let fds: Vec<i32> = files.iter().map(|&there| if there { fd } else { -1 }).collect();
    assert_eq!(register_at(&rig.ring, UNREGISTER_FILES, 0, 0), Ok(0));
    assert_eq!(register_at(&rig.ring, REGISTER_FILES, of_fds(&fds).address(), fds.len() as u32), Ok(0));
    Ok((rig, fd))
}

/// The older call.
fn update(rig: &Rig, offset: u32, fds: &[i32]) -> Result<u32, i32> {
    let array = of_fds(fds);
    let argument = Update { offset, data: array.address(), ..Update::default() };
    register(&rig.ring, FILES_UPDATE, &argument.bytes()[..16], fds.len() as u32)
}

/// Fails unless exactly these files can be read.
#[track_caller]
fn expect_files(rig: &mut Rig, files: &[bool]) -> Outcome {
    let mut found = Vec::new();
    for file in 0..files.len() {
        found.push(reads(rig, file as u32, 3)?);
    }
    assert_eq!(found, files);
    Ok(())
}

/// FILES_UPDATE as an entry.
fn entry(offset: u64, address: u64, len: u32) -> Fields {
    Fields { opcode: opcode::FilesUpdate::CODE, off: offset, addr: address, len, user_data: 1000, ..Fields::default() }
}

fn file_updates_replace_remove_and_skip(bench: &Bench) -> Outcome {
    let (mut rig, fd) = with_table(bench, &[true, true, false, false])?;
    assert_eq!(update(&rig, 1, &[-1, fd]), Ok(2));
    expect_files(&mut rig, &[true, false, true, false])?;
    assert_eq!(update(&rig, 0, &[SKIP, SKIP, SKIP, SKIP]), Ok(4), "what is skipped is counted");
    expect_files(&mut rig, &[true, false, true, false])?;
    assert_eq!(update(&rig, 0, &[-1, SKIP, fd, fd]), Ok(4));
    expect_files(&mut rig, &[false, false, true, true])?;
    assert_eq!(update(&rig, 0, &[-1, -1, -1, -1]), Ok(4), "so are holes that stay holes");
    expect_files(&mut rig, &[false; 4])?;
    // The newer call does the same.
    let array = of_fds(&[fd, SKIP, fd]);
    let newer = Update { offset: 1, data: array.address(), nr: 3, ..Update::default() };
    assert_eq!(newer.register(&rig.ring, FILES_UPDATE2), Ok(3));
    expect_files(&mut rig, &[false, true, false, true])
}

fn file_updates_stop_at_a_bad_descriptor_which_empties_its_slot(bench: &Bench) -> Outcome {
    let (mut rig, fd) = with_table(bench, &[true; 4])?;
    let ring = rig.ring.as_raw_fd();
    for bad in [9999, -3, i32::MIN, i32::MAX, ring] {
        assert_eq!(update(&rig, 0, &[fd; 4]), Ok(4));
        assert_eq!(update(&rig, 0, &[bad, -1, -1, -1]), Err(libc::EBADF), "{bad}");
        expect_files(&mut rig, &[false, true, true, true])?;
        assert_eq!(update(&rig, 0, &[fd, SKIP, bad, -1]), Ok(2), "{bad}");
        expect_files(&mut rig, &[true, true, false, true])?;
    }
    Ok(())
}

fn file_updates_stay_inside_the_table(bench: &Bench) -> Outcome {
    let (mut rig, fd) = with_table(bench, &[true; 4])?;
    for (offset, nr) in [(4, 1), (3, 2), (0, 5), (100, 1), (u32::MAX - 1, 1)] {
        assert_eq!(update(&rig, offset, &vec![fd; nr]), Err(libc::EINVAL), "{nr} at {offset}");
    }
    for (offset, nr) in [(u32::MAX, 1), (u32::MAX - 1, 2)] {
        assert_eq!(update(&rig, offset, &vec![fd; nr]), Err(libc::EOVERFLOW), "{nr} at {offset}");
    }
    expect_files(&mut rig, &[true; 4])?;
    assert_eq!(register_at(&rig.ring, UNREGISTER_FILES, 0, 0), Ok(0));
    assert_eq!(update(&rig, 0, &[fd]), Err(libc::ENXIO));
    assert_eq!(update(&rig, 100, &[9999]), Err(libc::ENXIO));
    assert_eq!(update(&rig, u32::MAX, &[fd]), Err(libc::EOVERFLOW), "even without a table");
    let array = of_fds(&[fd]);
    assert_eq!(rig.one(entry(0, array.address(), 1).entry())?, -libc::ENXIO);
    assert_eq!(rig.one(entry(ALLOC, array.address(), 1).entry())?, -libc::ENXIO);
    Ok(())
}

fn file_updates_with_bad_arguments_are_refused(bench: &Bench) -> Outcome {
    let (mut rig, fd) = with_table(bench, &[true; 4])?;
    let array = of_fds(&[fd; 4]);
    let good = Update { data: array.address(), nr: 1, ..Update::default() };
    // The older call: the count, then the argument, then what is reserved.
    let older = |argument: &Update, nr: u32| register(&rig.ring, FILES_UPDATE, &argument.bytes()[..16], nr);
    assert_eq!(older(&good, 0), Err(libc::EINVAL), "none");
    assert_eq!(older(&Update { resv: 1, ..good }, 1), Err(libc::EINVAL));
    assert_eq!(older(&Update { resv: 1, offset: u32::MAX, ..good }, 1), Err(libc::EINVAL));
    assert_eq!(older(&Update { data: 8, ..good }, 1), Err(libc::EFAULT));
    assert_eq!(older(&Update { data: 8, offset: 9, ..good }, 1), Err(libc::EINVAL), "the range comes first");
    for address in [0, 8, 1 << 63] {
        assert_eq!(register_at(&rig.ring, FILES_UPDATE, address, 0), Err(libc::EINVAL), "{address:#x}");
        assert_eq!(register_at(&rig.ring, FILES_UPDATE, address, 1), Err(libc::EFAULT), "{address:#x}");
        assert_eq!(register_at(&rig.ring, FILES_UPDATE2, address, 32), Err(libc::EFAULT), "{address:#x}");
        assert_eq!(register_at(&rig.ring, FILES_UPDATE2, address, 31), Err(libc::EINVAL), "{address:#x}");
    }
    // The newer one: its size, then the same.
    for size in [0, 1, 16, 31, 33, 64, u32::MAX] {
        assert_eq!(register(&rig.ring, FILES_UPDATE2, &good.bytes(), size), Err(libc::EINVAL), "{size} bytes");
    }
    let rows = [
        (Update { nr: 0, ..good }, libc::EINVAL),
        (Update { resv: 1, ..good }, libc::EINVAL),
        (Update { resv2: 1, ..good }, libc::EINVAL),
        (Update { nr: 5, ..good }, libc::EINVAL),
        (Update { offset: u32::MAX, ..good }, libc::EOVERFLOW),
        (Update { offset: u32::MAX, resv2: 1, ..good }, libc::EINVAL),
        (Update { data: 8, ..good }, libc::EFAULT),
        (Update { tags: 8, ..good }, libc::EFAULT),
        (Update { data: 8, offset: 4, ..good }, libc::EINVAL),
    ];
    for (argument, expected) in rows {
        assert_eq!(argument.register(&rig.ring, FILES_UPDATE2), Err(expected), "{argument:?}");
    }
    // A hole and what is skipped have no tag.
    let tags = of_tags(&[5]);
    for fd in [-1, SKIP] {
        let hole = of_fds(&[fd]);
        let tagged = Update { data: hole.address(), tags: tags.address(), ..good };
        assert_eq!(tagged.register(&rig.ring, FILES_UPDATE2), Err(libc::EINVAL), "{fd}");
    }
    expect_files(&mut rig, &[true; 4])
}

fn file_updates_by_entry_answer_as_the_call_does(bench: &Bench) -> Outcome {
    let (mut rig, fd) = with_table(bench, &[true, true, false, false])?;
    let by_entry = |rig: &mut Rig, offset: u64, fds: &[i32]| {
        let array = rig.keep(of_fds(fds));
        rig.one(entry(offset, array.address(), fds.len() as u32).entry())
    };
    assert_eq!(by_entry(&mut rig, 1, &[-1, SKIP, fd])?, 3);
    expect_files(&mut rig, &[true, false, false, true])?;
    assert_eq!(by_entry(&mut rig, 0, &[SKIP, fd, 9999, -1])?, 2);
    expect_files(&mut rig, &[true, true, false, true])?;
    assert_eq!(by_entry(&mut rig, 0, &[9999])?, -libc::EBADF);
    expect_files(&mut rig, &[false, true, false, true])?;
    assert_eq!(by_entry(&mut rig, 4, &[fd])?, -libc::EINVAL);
    // Half of the word is the offset.
    assert_eq!(by_entry(&mut rig, 7 << 32, &[fd])?, 1);
    expect_files(&mut rig, &[true, true, false, true])?;
    assert_eq!(by_entry(&mut rig, u64::from(u32::MAX - 1), &[fd, fd])?, -libc::EOVERFLOW);
    assert_eq!(rig.one(entry(0, 8, 1).entry())?, -libc::EFAULT);
    // Below zero, it breaks its chain; a count does not.
    let bad = rig.keep(of_fds(&[fd, 9999]));
    for (first, own, next) in [(0, 1, 0), (4, -libc::EBADF, -libc::ECANCELED)] {
        let linked = Fields { flags: Flags::IO_LINK.bits(), ..entry(1, bad.address() + first, 2 - first as u32 / 4) };
        rig.push(&linked.entry())?;
        rig.push(&nop(2))?;
        assert_eq!(sorted(rig.wait(2)?), [(2, next), (1000, own)]);
    }
    expect_files(&mut rig, &[true, false, false, true])
}

fn file_updates_by_entry_with_fields_they_do_not_take_are_invalid(bench: &Bench) -> Outcome {
    let (mut rig, fd) = with_table(bench, &[true; 2])?;
    let array = rig.keep(of_fds(&[-1]));
    let good = entry(0, array.address(), 1);
    let bad = [
        Fields { len: 0, ..good },
        Fields { op_flags: 1, ..good },
        Fields { file_index: 1, ..good },
        Fields { ioprio: 1, ..good },
        Fields { flags: Flags::FIXED_FILE.bits(), ..good },
        Fields { len: 0, addr: 8, off: 9, ..good },
    ];
    for entry in bad {
        rig.push(&entry.entry())?;
        rig.push(&nop(2))?;
        assert_eq!(rig.ring.submit()?, 1, "it ends its batch: {entry:?}");
        assert_eq!(sorted(rig.wait(1)?), [(1000, -libc::EINVAL)], "{entry:?}");
        assert_eq!(sorted(rig.wait(1)?), [(2, 0)]);
    }
    let select = Fields { flags: Flags::BUFFER_SELECT.bits(), ..good };
    assert_eq!(rig.one(select.entry())?, -libc::EOPNOTSUPP);
    expect_files(&mut rig, &[true; 2])?;
    // Of no account.
    let fds = rig.keep(of_fds(&[fd]));
    assert_eq!(rig.one(Fields { fd: 77, buf_index: 7, addr3: 7, addr: fds.address(), ..good }.entry())?, 1);
    expect_files(&mut rig, &[true; 2])
}

fn file_updates_by_entry_find_free_slots(bench: &Bench) -> Outcome {
    bench.since(6, 0)?;
    let (mut rig, fd) = with_table(bench, &[true, false, true, false, false])?;
    let fds = rig.keep(of_fds(&[fd, fd]));
    assert_eq!(rig.one(entry(ALLOC, fds.address(), 2).entry())?, 2, "how many, not where");
    assert_eq!(fds.read(), of_fds(&[1, 3]).read(), "where stands in the array");
    expect_files(&mut rig, &[true, true, true, true, false])?;
    // One is left.
    fds.write(&of_fds(&[fd, fd]).read());
    assert_eq!(rig.one(entry(ALLOC, fds.address(), 2).entry())?, 1);
    assert_eq!(fds.read(), of_fds(&[4, fd]).read());
    assert_eq!(rig.one(entry(ALLOC, fds.part(4, 4).address(), 1).entry())?, -libc::ENFILE);
    // A bad descriptor, a hole: there is no skipping.
    assert_eq!(update(&rig, 0, &[-1; 5]), Ok(5));
    for bad in [9999, -1, SKIP] {
        let fds = rig.keep(of_fds(&[bad, fd]));
        assert_eq!(rig.one(entry(ALLOC, fds.address(), 2).entry())?, -libc::EBADF, "{bad}");
        assert_eq!(fds.read(), of_fds(&[bad, fd]).read());
    }
    let fds = rig.keep(of_fds(&[fd, 9999, fd]));
    assert_eq!(rig.one(entry(ALLOC, fds.address(), 3).entry())?, 1);
    assert_eq!(rig.one(entry(ALLOC, 8, 1).entry())?, -libc::EFAULT);
    Ok(())
}

fn free_slots_are_sought_behind_the_last_that_was_filled(bench: &Bench) -> Outcome {
    let (mut rig, fd) = with_table(bench, &[false; 6])?;
    let alloc = |rig: &mut Rig| -> Result<i32, Stop> {
        let fds = rig.keep(of_fds(&[fd]));
        let res = rig.one(entry(ALLOC, fds.address(), 1).entry())?;
        let slot = i32::from_ne_bytes(fds.read()[..4].try_into().expect("4 bytes"));
        Ok(if res == 1 { slot } else { res })
    };
    // `alloc_hint` is behind what was filled, and at what was emptied.
    assert_eq!(update(&rig, 2, &[fd]), Ok(1));
    for expected in [3, 4, 5, 0, 1, -libc::ENFILE] {
        assert_eq!(alloc(&mut rig)?, expected);
    }
    assert_eq!(update(&rig, 4, &[-1]), Ok(1));
    assert_eq!(update(&rig, 1, &[-1]), Ok(1));
    for expected in [1, 4, -libc::ENFILE] {
        assert_eq!(alloc(&mut rig)?, expected);
    }
    assert_eq!(update(&rig, 1, &[-1]), Ok(1));
    assert_eq!(update(&rig, 4, &[-1]), Ok(1));
    for expected in [4, 1, -libc::ENFILE] {
        assert_eq!(alloc(&mut rig)?, expected);
    }
    Ok(())
}

fn files_of_a_chain_are_looked_up_when_each_begins(bench: &Bench) -> Outcome {
    let (mut rig, fd) = with_table(bench, &[true, false])?;
    let memory = rig.plain(4096);
    let chained = |rig: &mut Rig, file: u32, fds: i32| -> Result<Vec<(u64, i32)>, Stop> {
        let array = rig.keep(of_fds(&[fds]));
        let change = entry(file.into(), array.address(), 1);
        rig.push(&Fields { flags: Flags::IO_LINK.bits(), ..change }.entry())?;
        rig.push(&read_of(file, &memory).user_data(2))?;
        Ok(sorted(rig.wait(2)?))
    };
    assert_eq!(chained(&mut rig, 1, fd)?, [(2, 4096), (1000, 1)], "there when the read begins");
    assert_eq!(chained(&mut rig, 1, -1)?, [(2, -libc::EBADF), (1000, 1)], "gone when the read begins");
    // What pends at the head gives a call the time to change it.
    for (there, res) in [(true, 4096), (false, -libc::EBADF)] {
        let before = if there { -1 } else { fd };
        assert_eq!(update(&rig, 1, &[before]), Ok(1));
        let head = endless(&mut rig, 7).flags(Flags::IO_HARDLINK);
        rig.push(&head)?;
        rig.push(&read_of(1, &memory).user_data(2))?;
        assert_eq!(rig.ring.submit()?, 2);
        assert_eq!(update(&rig, 1, &[if there { fd } else { -1 }]), Ok(1));
        rig.push(&opcode::AsyncCancel::new(7).build().user_data(8))?;
        assert_eq!(sorted(rig.wait(3)?), [(2, res), (7, -libc::ECANCELED), (8, 0)]);
    }
    Ok(())
}

fn file_tables_may_be_sparse(bench: &Bench) -> Outcome {
    let (mut rig, fd) = with_table(bench, &[true])?;
    assert_eq!(register_at(&rig.ring, UNREGISTER_FILES, 0, 0), Ok(0));
    let sparse = Table { nr: 4, flags: SPARSE, ..Table::default() };
    let tags = of_tags(&[0; 4]);
    // Without the flag, no array is the same.
    for table in [sparse, Table { flags: 0, ..sparse }, Table { tags: tags.address(), ..sparse }] {
        assert_eq!(table.register(&rig.ring, FILES2), Ok(0), "{table:?}");
        expect_files(&mut rig, &[false; 5])?;
        assert_eq!(update(&rig, 3, &[fd]), Ok(1));
        expect_files(&mut rig, &[false, false, false, true, false])?;
        assert_eq!(register_at(&rig.ring, UNREGISTER_FILES, 0, 0), Ok(0));
    }
    Ok(())
}

fn file_tables_with_bad_arguments_are_refused(bench: &Bench) -> Outcome {
    let (mut rig, fd) = with_table(bench, &[true])?;
    let array = of_fds(&[fd, -1]);
    let good = Table { nr: 2, data: array.address(), ..Table::default() };
    assert_eq!(good.register(&rig.ring, FILES2), Err(libc::EBUSY));
    // The argument comes before the table that is there.
    let invalid = [
        Table { nr: 0, ..good },
        Table { resv2: 1, ..good },
        Table { flags: 2, ..good },
        Table { flags: 1 << 31, ..good },
        Table { flags: SPARSE, ..good },
    ];
    for registered in [true, false] {
        for table in invalid {
            assert_eq!(table.register(&rig.ring, FILES2), Err(libc::EINVAL), "{table:?}");
        }
        for size in [0, 16, 31, 33, 64, u32::MAX] {
            assert_eq!(register(&rig.ring, FILES2, &good.bytes(), size), Err(libc::EINVAL), "{size} bytes");
            assert_eq!(register_at(&rig.ring, FILES2, 8, size), Err(libc::EINVAL), "{size} bytes");
        }
        for address in [0, 8, 1 << 63] {
            assert_eq!(register_at(&rig.ring, FILES2, address, 32), Err(libc::EFAULT), "{address:#x}");
        }
        // No array is a fault to the older call, whatever is there and however many.
        assert_eq!(register_at(&rig.ring, REGISTER_FILES, 0, 1), Err(libc::EFAULT));
        assert_eq!(register_at(&rig.ring, REGISTER_FILES, 0, 0), Err(libc::EFAULT));
        let expected = if registered { libc::EBUSY } else { libc::EINVAL };
        assert_eq!(register_at(&rig.ring, REGISTER_FILES, array.address(), 0), Err(expected), "none");
        let expected = if registered { libc::EBUSY } else { libc::EMFILE };
        let many = Table { nr: (1 << 20) + 1, flags: SPARSE, ..Table::default() };
        assert_eq!(many.register(&rig.ring, FILES2), Err(expected), "too many");
        let expected = if registered { libc::EBUSY } else { libc::EFAULT };
        assert_eq!(Table { data: 8, ..good }.register(&rig.ring, FILES2), Err(expected));
        assert_eq!(Table { tags: 8, ..good }.register(&rig.ring, FILES2), Err(expected));
        for (address, nr) in [(0, 1), (array.address(), 0), (array.address(), 1)] {
            assert_eq!(register_at(&rig.ring, UNREGISTER_FILES, address, nr), Err(libc::EINVAL));
        }
        assert_eq!(register_at(&rig.ring, UNREGISTER_FILES, 0, 0), if registered { Ok(0) } else { Err(libc::ENXIO) });
    }
    // A hole has no tag; and a ring is no file.
    let tags = of_tags(&[5, 6]);
    assert_eq!(Table { tags: tags.address(), ..good }.register(&rig.ring, FILES2), Err(libc::EINVAL));
    let sparse = Table { nr: 2, flags: SPARSE, tags: tags.address(), ..Table::default() };
    assert_eq!(sparse.register(&rig.ring, FILES2), Err(libc::EINVAL));
    let itself = of_fds(&[fd, rig.ring.as_raw_fd()]);
    assert_eq!(Table { data: itself.address(), ..good }.register(&rig.ring, FILES2), Err(libc::EBADF));
    assert_eq!(good.register(&rig.ring, FILES2), Ok(0), "none of them left anything behind");
    expect_files(&mut rig, &[true, false])
}

fn file_tables_go_while_reads_are_in_flight(bench: &Bench) -> Outcome {
    let (mut rig, fd) = with_table(bench, &[true, true])?;
    let memory = rig.plain(8 * 4096);
    for round in 0..20 {
        for i in 0..8 {
            rig.push(&read_of(i % 2, &memory.part(i as usize * 4096, 4096)).user_data(i.into()))?;
        }
        assert_eq!(rig.ring.submit()?, 8);
        if round % 2 == 0 {
            assert_eq!(register_at(&rig.ring, UNREGISTER_FILES, 0, 0), Ok(0));
            assert_eq!(register_at(&rig.ring, REGISTER_FILES, of_fds(&[fd, fd]).address(), 2), Ok(0));
        } else {
            assert_eq!(update(&rig, 0, &[-1, fd]), Ok(2));
            assert_eq!(update(&rig, 0, &[fd]), Ok(1));
        }
        assert!(rig.wait(8)?.iter().all(|done| done.res == 4096));
    }
    expect_files(&mut rig, &[true, true])
}
