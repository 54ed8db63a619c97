//! Registered files that are replaced, by call and by entry.

use std::os::fd::AsRawFd;

use io_uring::squeue::Flags;

use super::cancel::{IOPOLL, sorted};
use super::file_table::{
    ALLOC, FILES_UPDATE, FILES_UPDATE2, SKIP, UNREGISTER_FILES, entry, expect_files, update, with_table,
};
use crate::case::{Bench, Case, Outcome, cases};
use crate::support::control::{Update, of_fds, of_tags, register, register_at};
use crate::support::fields::{Fields, nop};
use crate::support::rig::Rig;

pub(super) const ALL: &[Case] = cases![
    file_updates_replace_remove_and_skip,
    file_updates_stop_at_a_bad_descriptor_which_empties_its_slot,
    file_updates_stay_inside_the_table,
    file_updates_with_bad_arguments_are_refused,
    file_updates_by_entry_answer_as_the_call_does,
    file_updates_by_entry_with_fields_they_do_not_take_are_invalid,
    file_updates_by_entry_work_on_a_polled_ring,
];

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

fn file_updates_by_entry_work_on_a_polled_ring(bench: &Bench) -> Outcome {
    let mut rig = bench.open(bench.builder(8).setup_flags(IOPOLL))?;
    let array = rig.keep(of_fds(&[-1]));
    assert_eq!(rig.one(entry(0, array.address(), 1).entry())?, 1);
    assert_eq!(rig.one(entry(1, array.address(), 1).entry())?, -libc::EINVAL);
    Ok(())
}
