//! Buffers provided by entries: `PROVIDE_BUFFERS`, `REMOVE_BUFFERS`, and reads that pick one.

use io_uring::squeue::{Entry, Flags};
use io_uring::{opcode, types};

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::buffer_ring::{provide, read_into, remove, submit_all, submit_one, used};
use crate::support::calls::UNMAPPED;
use crate::support::pattern;
use crate::support::raw::{Memory, edit};
use crate::support::rig::{FILE, Rig};

pub(super) const ALL: &[Case] = cases![
    reads_pick_provided_buffers_in_their_order,
    a_read_without_a_buffer_is_told_so,
    a_read_takes_no_more_than_its_buffer,
    vectors_pick_one_buffer,
    vectors_that_pick_are_checked_while_they_are_prepared,
    a_read_that_fails_names_the_buffer_it_used,
    a_read_that_is_refused_keeps_the_buffer,
    a_read_looks_for_its_buffer_before_it_is_checked,
    buffers_at_bad_addresses_are_used_up,
    short_reads_use_a_buffer,
    chains_pick_when_they_come_to_it,
    chains_provide_what_they_use,
    reads_that_skip_their_completion_use_a_buffer,
    only_reads_pick_buffers,
];

const GROUP: u16 = 1;
const OK: i32 = 4096;
const EINVAL: i32 = -libc::EINVAL;
const ENOBUFS: i32 = -libc::ENOBUFS;

/// Memory of `count` pages, provided one by one from id `id` on.
fn provided(rig: &mut Rig, count: u16, id: u16) -> Result<Memory, Stop> {
    let memory = rig.plain(usize::from(count) * 4096);
    assert_eq!(submit_one(rig, &provide(GROUP, memory.address(), 4096, count, id))?, (0, 0));
    Ok(memory)
}

/// The buffers that are left.
fn left(rig: &mut Rig, group: u16) -> Result<i32, Stop> {
    Ok(submit_one(rig, &many(remove(group, 1), 65536))?.0)
}

/// With a count that the builders' 16 bits cannot hold.
fn many(entry: Entry, count: i32) -> Entry {
    edit(entry, |bytes| bytes[4..8].copy_from_slice(&count.to_ne_bytes()))
}

fn reads_pick_provided_buffers_in_their_order(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    rig.put(1, 0, 8 * 4096)?;
    let first = provided(&mut rig, 2, 10)?;
    let second = provided(&mut rig, 2, 5)?;
    let reads: Vec<_> = (0..5).map(|i| read_into(GROUP, 4096, i * 4096)).collect();
    let expected = [(0, OK, used(10)), (1, OK, used(11)), (2, OK, used(5)), (3, OK, used(6)), (4, ENOBUFS, 0)];
    assert_eq!(submit_all(&mut rig, &reads)?, expected);
    pattern::check(1, 0, &first.read());
    pattern::check(1, 2 * 4096, &second.read());
    // An id may stand for several buffers.
    let again = provided(&mut rig, 1, 7)?;
    provided(&mut rig, 1, 7)?;
    let expected = [(0, OK, used(7)), (1, OK, used(7)), (2, ENOBUFS, 0)];
    assert_eq!(submit_all(&mut rig, &reads[..3])?, expected);
    pattern::check(1, 0, &again.read());
    Ok(())
}

fn a_read_without_a_buffer_is_told_so(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    assert_eq!(submit_one(&mut rig, &read_into(77, 4096, 0))?, (ENOBUFS, 0), "a group that never was");
    provided(&mut rig, 1, 0)?;
    assert_eq!(submit_one(&mut rig, &read_into(GROUP + 1, 4096, 0))?, (ENOBUFS, 0), "another group");
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 4096, 0))?, (OK, used(0)));
    let silent = read_into(GROUP, 4096, 0).flags(Flags::SKIP_SUCCESS);
    assert_eq!(submit_one(&mut rig, &silent)?, (ENOBUFS, 0));
    Ok(())
}

fn a_read_takes_no_more_than_its_buffer(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    rig.put(2, 0, 8192)?;
    let memory = provided(&mut rig, 5, 0)?;
    let lens = [0, 65536, 512, 0x8000_0000, u32::MAX];
    let reads: Vec<_> = lens.iter().map(|len| read_into(GROUP, *len, 0)).collect();
    let done = submit_all(&mut rig, &reads)?;
    let results: Vec<_> = done.iter().map(|(_, res, flags)| (*res, *flags)).collect();
    assert_eq!(results, [(OK, used(0)), (OK, used(1)), (512, used(2)), (OK, used(3)), (OK, used(4))]);
    pattern::check(2, 0, &memory.part(0, 4096).read());
    pattern::check(2, 0, &memory.part(4096, 4096).read());
    assert_eq!(memory.part(8192 + 512, 3584).read(), vec![0; 3584], "beyond what was asked for");
    // What the entry says of an address does not count.
    provided(&mut rig, 2, 8)?;
    for (address, id) in [(0xdead_beefu64, 8), (1 << 63, 9)] {
        let entry = edit(read_into(GROUP, 4096, 0), |bytes| bytes[16..24].copy_from_slice(&address.to_ne_bytes()));
        assert_eq!(submit_one(&mut rig, &entry)?, (OK, used(id)), "address {address:#x}");
    }
    Ok(())
}

fn vector(rig: &mut Rig, count: u32, len: usize, offset: u64) -> Entry {
    let iovec = libc::iovec { iov_base: 0xdead as *mut _, iov_len: len };
    let iovecs = rig.iovecs(&[iovec, iovec]);
    let readv = opcode::Readv::new(FILE, iovecs, count).offset(offset).buf_group(GROUP);
    readv.build().flags(Flags::BUFFER_SELECT)
}

fn vectors_pick_one_buffer(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    rig.put(3, 0, 4096)?;
    let memory = provided(&mut rig, 8, 0)?;
    // The address in the iovec is not looked at; its length is the read's, of any size.
    let lens = [(512, 512), (0, OK), (65536, OK), (1 << 31, OK), (1 << 40, OK), (usize::MAX, OK)];
    for (id, (len, res)) in lens.into_iter().enumerate() {
        let entry = vector(&mut rig, 1, len, 0);
        assert_eq!(submit_one(&mut rig, &entry)?, (res, used(id as u16)), "length {len:#x}");
        pattern::check(3, 0, &memory.part(id * 4096, res as usize).read());
    }
    let (odd, shifted) = (vector(&mut rig, 1, 100, 0), vector(&mut rig, 1, 512, 1));
    assert_eq!(submit_one(&mut rig, &odd)?, (EINVAL, used(6)));
    assert_eq!(submit_one(&mut rig, &shifted)?, (EINVAL, used(7)));
    assert_eq!(submit_one(&mut rig, &odd)?, (ENOBUFS, 0));
    Ok(())
}

fn vectors_that_pick_are_checked_while_they_are_prepared(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    provided(&mut rig, 1, 0)?;
    let two = vector(&mut rig, 2, 512, 0);
    let none = vector(&mut rig, 0, 512, 0);
    let unmapped = opcode::Readv::new(FILE, UNMAPPED as *const _, 1).buf_group(GROUP).build();
    let null = opcode::Readv::new(FILE, std::ptr::null(), 1).buf_group(GROUP).build();
    let errors = [
        (two, EINVAL),
        (none, EINVAL),
        (unmapped.flags(Flags::BUFFER_SELECT), -libc::EFAULT),
        (null.flags(Flags::BUFFER_SELECT), -libc::EFAULT),
    ];
    for (entry, errno) in errors {
        rig.push(&entry)?;
        rig.push(&opcode::Nop::new().build().user_data(1))?;
        assert_eq!(rig.ring.submit()?, 1, "the batch ends with it");
        let done = rig.wait(1)?;
        assert_eq!((done[0].user_data, done[0].res, done[0].flags), (0, errno, 0));
        assert_eq!(rig.ring.submit()?, 1);
        assert_eq!(rig.wait(1)?[0].user_data, 1);
    }
    assert_eq!(left(&mut rig, GROUP)?, 1);
    Ok(())
}

fn a_read_that_fails_names_the_buffer_it_used(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let flags =
        |flags: u32| edit(read_into(GROUP, 4096, 0), |bytes| bytes[28..32].copy_from_slice(&flags.to_ne_bytes()));
    let entries = [
        (read_into(GROUP, 4096, 1), libc::EINVAL, "offset inside a block"),
        (read_into(GROUP, 100, 0), libc::EINVAL, "part of a block"),
        (read_into(GROUP, 4096, u64::MAX - 1), libc::EINVAL, "offset -2"),
        (flags(1 << 30), libc::EOPNOTSUPP, "unknown rw_flags"),
        (flags(1), libc::EINVAL, "HIPRI"),
    ];
    provided(&mut rig, 2 * entries.len() as u16, 0)?;
    for (id, (entry, errno, what)) in entries.iter().enumerate() {
        assert_eq!(submit_one(&mut rig, entry)?, (-errno, used(id as u16)), "{what}");
    }
    for (id, (entry, errno, what)) in entries.iter().enumerate() {
        let silent = entry.clone().flags(Flags::SKIP_SUCCESS);
        assert_eq!(submit_one(&mut rig, &silent)?, (-errno, used((entries.len() + id) as u16)), "{what}");
    }
    assert_eq!(left(&mut rig, GROUP)?, 0);
    Ok(())
}

fn a_read_that_is_refused_keeps_the_buffer(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    provided(&mut rig, 1, 0)?;
    let other = |fixed| opcode::Read::new(types::Fixed(fixed), std::ptr::null_mut(), 512).buf_group(GROUP).build();
    let closed = opcode::Read::new(types::Fd(-1), std::ptr::null_mut(), 512).buf_group(GROUP).build();
    let entries = [
        (other(99), libc::EBADF, "no such fixed file"),
        (closed, libc::EBADF, "no such file"),
        (edit(read_into(GROUP, 512, 0), |bytes| bytes[2] = 7), libc::EINVAL, "priority"),
        (read_into(GROUP, 512, 0).personality(5), libc::EINVAL, "personality"),
    ];
    for (entry, errno, what) in entries {
        assert_eq!(submit_one(&mut rig, &entry.flags(Flags::BUFFER_SELECT))?, (-errno, 0), "{what}");
    }
    assert_eq!(submit_one(&mut rig, &read_into(GROUP, 4096, 0))?, (OK, used(0)));
    Ok(())
}

fn a_read_looks_for_its_buffer_before_it_is_checked(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let flags = edit(read_into(GROUP, 4096, 0), |bytes| bytes[28..32].copy_from_slice(&(1u32 << 30).to_ne_bytes()));
    for entry in [read_into(GROUP, 4096, 1), read_into(GROUP, 100, 0), read_into(GROUP, 512, u64::MAX - 1), flags] {
        assert_eq!(submit_one(&mut rig, &entry)?, (ENOBUFS, 0));
    }
    Ok(())
}

fn buffers_at_bad_addresses_are_used_up(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(8192);
    // A null pointer is what the kernel's `io_buffer_select` answers for none.
    let buffers = [
        (UNMAPPED, 4096, libc::EFAULT),
        (0, 4096, libc::ENOBUFS),
        (memory.address() + 1, 4096, libc::EINVAL),
        (memory.address(), 100, libc::EINVAL),
    ];
    for (id, (address, len, errno)) in buffers.into_iter().enumerate() {
        let id = id as u16;
        assert_eq!(submit_one(&mut rig, &provide(GROUP, address, len, 1, id))?, (0, 0));
        assert_eq!(submit_one(&mut rig, &read_into(GROUP, 4096, 0))?, (-errno, used(id)), "{address:#x}+{len}");
        assert_eq!(left(&mut rig, GROUP)?, 0);
    }
    Ok(())
}

fn short_reads_use_a_buffer(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let end = rig.size();
    rig.put(4, end - 512, 512)?;
    let memory = provided(&mut rig, 3, 0)?;
    let reads = [end - 512, end, end + 1].map(|offset| read_into(GROUP, 4096, offset));
    assert_eq!(submit_all(&mut rig, &reads)?, [(0, 512, used(0)), (1, 0, used(1)), (2, 0, used(2))]);
    pattern::check(4, end - 512, &memory.part(0, 512).read());
    assert_eq!(memory.part(512, 3 * 4096 - 512).read(), vec![0; 3 * 4096 - 512]);
    Ok(())
}

fn chains_pick_when_they_come_to_it(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let short = rig.size() - 512;
    provided(&mut rig, 6, 0)?;
    let read = |offset| read_into(GROUP, 4096, offset);
    let (link, hard) = (Flags::IO_LINK, Flags::IO_HARDLINK);
    let chain = [read(0).flags(link), read(short).flags(link), read(0)];
    assert_eq!(submit_all(&mut rig, &chain)?, [(0, OK, used(0)), (1, 512, used(1)), (2, -libc::ECANCELED, 0)]);
    let chain = [read(short).flags(hard), read(1).flags(hard), read(0)];
    assert_eq!(submit_all(&mut rig, &chain)?, [(0, 512, used(2)), (1, EINVAL, used(3)), (2, OK, used(4))]);
    let chain = [read_into(77, 512, 0).flags(link), read(0)];
    assert_eq!(submit_all(&mut rig, &chain)?, [(0, ENOBUFS, 0), (1, -libc::ECANCELED, 0)]);
    let chain = [read_into(77, 512, 0).flags(hard), read(0)];
    assert_eq!(submit_all(&mut rig, &chain)?, [(0, ENOBUFS, 0), (1, OK, used(5))]);
    Ok(())
}

fn chains_provide_what_they_use(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4096);
    let link = Flags::IO_LINK;
    let give = provide(GROUP, memory.address(), 4096, 1, 9).flags(link);
    let read = read_into(GROUP, 0, 0).flags(link);
    let chain = [give.clone(), read.clone(), give.clone(), remove(GROUP, 2).flags(link), read.clone(), give];
    let cancelled = -libc::ECANCELED;
    let expected = [(0, 0, 0), (1, OK, used(9)), (2, 0, 0), (3, 1, 0), (4, ENOBUFS, 0), (5, cancelled, 0)];
    assert_eq!(submit_all(&mut rig, &chain)?, expected);
    Ok(())
}

fn reads_that_skip_their_completion_use_a_buffer(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let short = rig.size() - 512;
    provided(&mut rig, 3, 0)?;
    let silent = |entry: Entry| entry.flags(Flags::SKIP_SUCCESS);
    rig.push(&silent(read_into(GROUP, 4096, 0)).flags(Flags::IO_LINK).user_data(1))?;
    rig.push(&read_into(GROUP, 4096, 0).user_data(2))?;
    assert_eq!(rig.ring.submit()?, 2);
    let done = rig.wait(1)?;
    assert_eq!((done[0].user_data, done[0].res, done[0].flags), (2, OK, used(1)), "{done:?}");
    assert_eq!(submit_one(&mut rig, &silent(read_into(GROUP, 4096, short)))?, (512, used(2)), "short is no success");
    // Of provided and removed buffers too.
    let memory = rig.plain(4096);
    rig.push(&silent(provide(GROUP, memory.address(), 4096, 1, 4)).user_data(1))?;
    rig.push(&silent(remove(GROUP, 1)).user_data(2))?;
    rig.push(&silent(provide(GROUP, memory.address(), 0, 1, 4)).user_data(3))?;
    assert_eq!(rig.ring.submit()?, 3);
    let done = rig.wait(1)?;
    assert_eq!((done[0].user_data, done[0].res), (3, EINVAL), "{done:?}");
    assert_eq!(left(&mut rig, GROUP)?, 0);
    Ok(())
}

fn only_reads_pick_buffers(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let memory = provided(&mut rig, 1, 0)?;
    let iovec = memory.iovec();
    let iovecs = rig.iovecs(&[iovec]);
    let entries = [
        opcode::Nop::new().build(),
        opcode::Write::new(FILE, memory.ptr(), 512).build(),
        opcode::Writev::new(FILE, iovecs, 1).build(),
        opcode::ReadFixed::new(FILE, memory.ptr(), 512, 0).build(),
        opcode::WriteFixed::new(FILE, memory.ptr(), 512, 0).build(),
        opcode::Fsync::new(FILE).build(),
        opcode::Timeout::new(std::ptr::null()).build(),
        provide(GROUP, memory.address(), 4096, 1, 1),
        remove(GROUP, 1),
    ];
    for entry in entries {
        // Before all that else may be wrong with it.
        let entry = edit(entry, |bytes| bytes[2] = 9).flags(Flags::BUFFER_SELECT);
        let what = format!("{entry:?}");
        assert_eq!(submit_one(&mut rig, &entry)?, (-libc::EOPNOTSUPP, 0), "{what}");
    }
    assert_eq!(left(&mut rig, GROUP)?, 1);
    Ok(())
}
