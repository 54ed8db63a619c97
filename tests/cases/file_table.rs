//! The table of registered files: how it comes and goes, free slots, and when an entry looks into it.

use std::os::fd::AsRawFd;

use io_uring::opcode;
use io_uring::squeue::Flags;

use super::cancel::sorted;
use super::send_fd::{read_of, reads};
use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::control::{Table, Update, of_fds, of_tags, register, register_at};
use crate::support::fields::{Fields, endless};
use crate::support::rig::Rig;

pub(super) const ALL: &[Case] = cases![
    file_updates_by_entry_find_free_slots,
    free_slots_are_sought_behind_the_last_that_was_filled,
    files_of_a_chain_are_looked_up_when_each_begins,
    file_tables_may_be_sparse,
    file_tables_with_bad_arguments_are_refused,
    file_tables_go_while_reads_are_in_flight,
];

pub(super) const REGISTER_FILES: u32 = 2;
pub(super) const UNREGISTER_FILES: u32 = 3;
pub(super) const FILES_UPDATE: u32 = 6;
pub(super) const FILES2: u32 = 13;
pub(super) const FILES_UPDATE2: u32 = 14;
/// `IORING_RSRC_REGISTER_SPARSE`.
pub(super) const SPARSE: u32 = 1;
/// `IORING_REGISTER_FILES_SKIP`.
pub(super) const SKIP: i32 = -2;
/// `IORING_FILE_INDEX_ALLOC`.
pub(super) const ALLOC: u64 = u32::MAX as u64;

pub(super) fn own_fd(rig: &Rig) -> Result<i32, Stop> {
    rig.ring.device_fd(0).ok_or(Stop::Fail("file 0 has no descriptor".into()))
}

/// A ring whose table is these files, and its own descriptor, which `true` stands for.
pub(super) fn with_table(bench: &Bench, files: &[bool]) -> Result<(Rig, i32), Stop> {
    let mut rig = bench.rig(8)?;
    rig.put(3, 0, 4096)?;
    let fd = own_fd(&rig)?;
    let fds: Vec<i32> = files.iter().map(|&there| if there { fd } else { -1 }).collect();
    assert_eq!(register_at(&rig.ring, UNREGISTER_FILES, 0, 0), Ok(0));
    assert_eq!(register_at(&rig.ring, REGISTER_FILES, of_fds(&fds).address(), fds.len() as u32), Ok(0));
    Ok((rig, fd))
}

/// The older call.
pub(super) fn update(rig: &Rig, offset: u32, fds: &[i32]) -> Result<u32, i32> {
    let array = of_fds(fds);
    let argument = Update { offset, data: array.address(), ..Update::default() };
    register(&rig.ring, FILES_UPDATE, &argument.bytes()[..16], fds.len() as u32)
}

/// Fails unless exactly these files can be read.
#[track_caller]
pub(super) fn expect_files(rig: &mut Rig, files: &[bool]) -> Outcome {
    let mut found = Vec::new();
    for file in 0..files.len() {
        found.push(reads(rig, file as u32, 3)?);
    }
    assert_eq!(found, files);
    Ok(())
}

/// FILES_UPDATE as an entry.
pub(super) fn entry(offset: u64, address: u64, len: u32) -> Fields {
    Fields { opcode: opcode::FilesUpdate::CODE, off: offset, addr: address, len, user_data: 1000, ..Fields::default() }
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
