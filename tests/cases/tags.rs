//! Tags of registered files and buffers: completions that say when they are no longer used.

use io_uring::opcode;
use io_uring::squeue::Flags;

use super::buffer_table::{BUFFERS_UPDATE, BUFFERS2, UNREGISTER_BUFFERS, hole, iovec};
use super::cancel::sorted;
use super::file_table::{FILES_UPDATE2, FILES2, UNREGISTER_FILES, own_fd};
use super::messages::{arrived, fd_of};
use super::send_fd::read_of;
use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::control::{Table, Update, of_fds, of_tags, register, register_at};
use crate::support::fields::{Fields, endless, nop};
use crate::support::raw::Memory;
use crate::support::rig::{Rig, read_fixed};

pub(super) const ALL: &[Case] = cases![
    file_tags_come_when_their_files_go,
    file_tags_come_even_when_the_update_fails,
    file_tags_come_with_updates_by_entry,
    file_tags_come_behind_the_last_read_of_their_file,
    file_tags_come_with_files_sent_into_their_slot,
    buffer_tags_come_when_their_buffers_go,
    buffer_tags_come_behind_the_last_read_of_their_buffer,
    buffer_tags_stay_with_their_ring,
    tags_do_not_wait_for_what_has_not_begun,
    tags_of_a_table_that_goes_come_from_its_end,
    tags_of_a_table_that_failed_never_come,
    tags_beyond_the_ring_are_kept,
];

const CLONE_BUFFERS: u32 = 30;
const BLOCK: usize = 4096;

/// A ring whose table of files is these, with these tags.
fn with_files(bench: &Bench, there: &[bool], tags: &[u64]) -> Result<(Rig, i32), Stop> {
    let rig = bench.rig(8)?;
    let fd = own_fd(&rig)?;
    rig.ring.submitter().unregister_files()?;
    let fds: Vec<i32> = there.iter().map(|&there| if there { fd } else { -1 }).collect();
    assert_eq!(files(&rig, &fds, tags), Ok(0));
    Ok((rig, fd))
}

fn files(rig: &Rig, fds: &[i32], tags: &[u64]) -> Result<u32, i32> {
    let (data, tags) = (of_fds(fds), of_tags(tags));
    let table = Table { nr: fds.len() as u32, data: data.address(), tags: tags.address(), ..Table::default() };
    table.register(&rig.ring, FILES2)
}

fn update_files(rig: &Rig, offset: u32, fds: &[i32], tags: &[u64]) -> Result<u32, i32> {
    let (data, tags) = (of_fds(fds), of_tags(tags));
    let (data, tags, nr) = (data.address(), tags.address(), fds.len() as u32);
    Update { offset, data, tags, nr, ..Update::default() }.register(&rig.ring, FILES_UPDATE2)
}

fn buffers(rig: &Rig, iovecs: &[libc::iovec], tags: &[u64]) -> Result<u32, i32> {
    let (data, tags) = (Memory::of_iovecs(iovecs), of_tags(tags));
    let table = Table { nr: iovecs.len() as u32, data: data.address(), tags: tags.address(), ..Table::default() };
    table.register(&rig.ring, BUFFERS2)
}

fn update_buffers(rig: &Rig, offset: u32, iovecs: &[libc::iovec], tags: &[u64]) -> Result<u32, i32> {
    let (data, tags) = (Memory::of_iovecs(iovecs), of_tags(tags));
    let (data, tags, nr) = (data.address(), tags.address(), iovecs.len() as u32);
    Update { offset, data, tags, nr, ..Update::default() }.register(&rig.ring, BUFFERS_UPDATE)
}

/// Fails unless exactly these tags have come, without entering the ring.
#[track_caller]
fn expect_tags(rig: &mut Rig, tags: &[u64]) {
    let mut done: Vec<_> = rig.ready().iter().map(|done| (done.user_data, done.res, done.flags)).collect();
    done.sort_unstable();
    assert_eq!(done, tags.iter().map(|&tag| (tag, 0, 0)).collect::<Vec<_>>());
}

fn file_tags_come_when_their_files_go(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let (mut rig, fd) = with_files(bench, &[true, true, false, true], &[10, 11, 0, 0])?;
    expect_tags(&mut rig, &[]);
    // Replaced, removed, and added; the same file is another registration.
    assert_eq!(update_files(&rig, 0, &[fd, -1, fd], &[20, 0, 22]), Ok(3));
    expect_tags(&mut rig, &[10, 11]);
    assert_eq!(update_files(&rig, 0, &[-2, fd, -2, -1], &[0; 4]), Ok(4));
    // What is skipped keeps its tag; no tag says nothing.
    expect_tags(&mut rig, &[]);
    assert_eq!(update_files(&rig, 0, &[fd, fd, fd], &[u64::MAX, 1 << 63, 0]), Ok(3));
    expect_tags(&mut rig, &[20, 22]);
    // Without tags as well.
    let fds = of_fds(&[-1, -1]);
    let plain = Update { nr: 2, data: fds.address(), ..Update::default() };
    assert_eq!(plain.register(&rig.ring, FILES_UPDATE2), Ok(2));
    expect_tags(&mut rig, &[1 << 63, u64::MAX]);
    assert_eq!(rig.one(nop(0))?, 0, "nothing else came");
    Ok(())
}

fn file_tags_come_even_when_the_update_fails(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let (mut rig, fd) = with_files(bench, &[true; 3], &[10, 11, 12])?;
    assert_eq!(update_files(&rig, 0, &[9999], &[20]), Err(libc::EBADF));
    expect_tags(&mut rig, &[10]);
    assert_eq!(update_files(&rig, 0, &[fd, 9999, fd], &[20, 21, 22]), Ok(1));
    expect_tags(&mut rig, &[11]);
    // A tag where none can be is found before the slot is touched.
    for hole in [-1, -2] {
        assert_eq!(update_files(&rig, 2, &[hole], &[5]), Err(libc::EINVAL));
        assert_eq!(update_files(&rig, 0, &[fd, -2, hole], &[20, 0, 5]), Ok(2));
        expect_tags(&mut rig, &[20]);
    }
    assert_eq!(register_at(&rig.ring, UNREGISTER_FILES, 0, 0), Ok(0));
    expect_tags(&mut rig, &[12, 20]);
    Ok(())
}

fn file_tags_come_with_updates_by_entry(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let (mut rig, fd) = with_files(bench, &[true, true], &[10, 11])?;
    let update = |rig: &mut Rig, fds: &[i32]| {
        let array = rig.keep(of_fds(fds));
        let len = fds.len() as u32;
        let fields = Fields { opcode: opcode::FilesUpdate::CODE, addr: array.address(), len, ..Fields::default() };
        fields.entry().user_data(1000)
    };
    let both = update(&mut rig, &[fd, -1]);
    rig.push(&both)?;
    // The tags come first.
    let done: Vec<_> = rig.wait(3)?.iter().map(|done| (done.user_data, done.res)).collect();
    assert_eq!(done, [(10, 0), (11, 0), (1000, 2)]);
    // Files so registered have none.
    let again = update(&mut rig, &[fd, fd]);
    rig.push(&again)?;
    assert_eq!(sorted(rig.wait(1)?), [(1000, 2)]);
    // Silent or failed, it posts them all the same.
    assert_eq!(update_files(&rig, 0, &[fd, fd], &[20, 21]), Ok(2));
    let silent = update(&mut rig, &[-1]).flags(Flags::SKIP_SUCCESS);
    rig.push(&silent)?;
    assert_eq!(sorted(rig.wait(1)?), [(20, 0)]);
    let bad = update(&mut rig, &[-2, 9999]);
    rig.push(&bad)?;
    assert_eq!(sorted(rig.wait(2)?), [(21, 0), (1000, 1)]);
    Ok(())
}

fn file_tags_come_behind_the_last_read_of_their_file(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let (mut rig, fd) = with_files(bench, &[true, true], &[100, 0])?;
    let memory = rig.plain(8 * BLOCK);
    for round in 1..50 {
        for i in 0..8 {
            // Others use the other slot, and no tag waits for them.
            rig.push(&read_of(i % 2, &memory.part(i as usize * BLOCK, BLOCK)).user_data(i.into()))?;
        }
        assert_eq!(rig.ring.submit()?, 8);
        assert_eq!(update_files(&rig, 0, &[fd], &[100 + round]), Ok(1));
        let done = rig.wait(9)?;
        let place = |name: u64| done.iter().position(|done| done.user_data == name).expect("its completion");
        for name in [0, 2, 4, 6] {
            assert!(place(name) < place(99 + round), "{done:?}");
        }
        let mut expected: Vec<_> = (0..8).map(|i| (i, 4096)).collect();
        expected.push((99 + round, 0));
        assert_eq!(sorted(done), expected);
    }
    Ok(())
}

fn file_tags_come_with_files_sent_into_their_slot(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let (mut to, fd) = with_files(bench, &[true, true], &[10, 11])?;
    let mut from = bench.rig(8)?;
    let send = Fields { opcode: opcode::MsgRingSendFd::CODE, fd: fd_of(&to), addr: 1, off: 77, ..Fields::default() };
    assert_eq!(from.one(Fields { file_index: 2, ..send }.entry())?, 0);
    assert_eq!(arrived(&mut to, 2)?, [(11, 0, 0), (77, 0, 0)], "the tag comes first");
    // What arrived has none; and the sender's tags stay where they are.
    assert_eq!(update_files(&to, 1, &[fd], &[0]), Ok(1));
    expect_tags(&mut to, &[]);
    assert_eq!(from.one(Fields { file_index: 9, ..send }.entry())?, -libc::EINVAL);
    expect_tags(&mut to, &[]);
    Ok(())
}

fn buffer_tags_come_when_their_buffers_go(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(4 * BLOCK);
    let part = |i: usize| memory.part(i * BLOCK, BLOCK).iovec();
    assert_eq!(buffers(&rig, &[part(0), part(1), hole(), part(3)], &[10, 11, 0, 0]), Ok(0));
    expect_tags(&mut rig, &[]);
    assert_eq!(update_buffers(&rig, 0, &[part(0), hole(), part(2)], &[20, 0, 22]), Ok(3));
    expect_tags(&mut rig, &[10, 11]);
    // A bad one leaves its slot, and so its tag.
    assert_eq!(update_buffers(&rig, 0, &[iovec(0, 1)], &[5]), Err(libc::EFAULT));
    assert_eq!(update_buffers(&rig, 0, &[hole()], &[5]), Err(libc::EINVAL));
    expect_tags(&mut rig, &[]);
    assert_eq!(update_buffers(&rig, 0, &[part(3), part(1), iovec(0, 1)], &[30, 0, 0]), Ok(2));
    expect_tags(&mut rig, &[20]);
    assert_eq!(register_at(&rig.ring, UNREGISTER_BUFFERS, 0, 0), Ok(0));
    expect_tags(&mut rig, &[22, 30]);
    assert_eq!(rig.one(nop(0))?, 0, "nothing else came");
    Ok(())
}

fn buffer_tags_come_behind_the_last_read_of_their_buffer(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let mut rig = bench.rig(8)?;
    let memory = rig.plain(9 * BLOCK);
    let (all, other) = (memory.part(0, 8 * BLOCK), memory.part(8 * BLOCK, BLOCK));
    for unregister in [false, true] {
        for round in 0..30 {
            let tag = 100 + round;
            assert_eq!(buffers(&rig, &[all.iovec()], &[tag]), Ok(0));
            for i in 0..8 {
                rig.push(&read_fixed(&all.part(i * BLOCK, BLOCK), 0, 0).user_data(i as u64))?;
            }
            assert_eq!(rig.ring.submit()?, 8);
            if unregister {
                assert_eq!(register_at(&rig.ring, UNREGISTER_BUFFERS, 0, 0), Ok(0));
            } else {
                assert_eq!(update_buffers(&rig, 0, &[other.iovec()], &[0]), Ok(1));
            }
            let done = rig.wait(9)?;
            assert_eq!(done.last().map(|done| done.user_data), Some(tag), "{done:?}");
            let mut expected: Vec<_> = (0..8).map(|i| (i, 4096)).collect();
            expected.push((tag, 0));
            assert_eq!(sorted(done), expected);
            if !unregister {
                assert_eq!(register_at(&rig.ring, UNREGISTER_BUFFERS, 0, 0), Ok(0));
            }
        }
    }
    Ok(())
}

fn buffer_tags_stay_with_their_ring(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let memory = Memory::plain(3 * BLOCK);
    let part = |i: usize| memory.part(i * BLOCK, BLOCK).iovec();
    let (mut source, mut to) = (bench.rig(8)?, bench.rig(8)?);
    for rig in [&mut source, &mut to] {
        rig.keep(memory.clone());
    }
    assert_eq!(buffers(&source, &[part(0)], &[10]), Ok(0));
    assert_eq!(buffers(&to, &[part(1), part(2)], &[20, 21]), Ok(0));
    // `struct io_uring_clone_buffers`: source, flags DST_REPLACE; source's and own place, number.
    let words = [fd_of(&source).cast_unsigned(), 2, 0, 0, 1, 0, 0, 0];
    let clone: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    assert_eq!(register(&to.ring, CLONE_BUFFERS, &clone, 1), Ok(0));
    // That of the one replaced; the other stays with its buffer.
    expect_tags(&mut to, &[20]);
    assert_eq!(register_at(&to.ring, UNREGISTER_BUFFERS, 0, 0), Ok(0));
    expect_tags(&mut to, &[21]);
    // The source's comes though a copy is used on.
    assert_eq!(register(&to.ring, CLONE_BUFFERS, &clone, 1), Ok(0));
    expect_tags(&mut source, &[]);
    assert_eq!(register_at(&source.ring, UNREGISTER_BUFFERS, 0, 0), Ok(0));
    expect_tags(&mut source, &[10]);
    assert_eq!(to.one(read_fixed(&memory.part(0, BLOCK), 0, 0))?, 4096);
    assert_eq!(register_at(&to.ring, UNREGISTER_BUFFERS, 0, 0), Ok(0));
    expect_tags(&mut to, &[]);
    Ok(())
}

fn tags_do_not_wait_for_what_has_not_begun(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let (mut rig, fd) = with_files(bench, &[true], &[10])?;
    let memory = rig.plain(BLOCK);
    assert_eq!(buffers(&rig, &[memory.iovec()], &[20]), Ok(0));
    let head = endless(&mut rig, 7).flags(Flags::IO_HARDLINK);
    rig.push(&head)?;
    rig.push(&read_fixed(&memory, 0, 0).user_data(2))?;
    assert_eq!(rig.ring.submit()?, 2);
    assert_eq!(update_files(&rig, 0, &[fd], &[11]), Ok(1));
    assert_eq!(update_buffers(&rig, 0, &[memory.iovec()], &[21]), Ok(1));
    expect_tags(&mut rig, &[10, 20]);
    rig.push(&opcode::AsyncCancel::new(7).build().user_data(8))?;
    assert_eq!(sorted(rig.wait(3)?), [(2, 4096), (7, -libc::ECANCELED), (8, 0)]);
    Ok(())
}

fn tags_of_a_table_that_goes_come_from_its_end(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let (mut rig, _) = with_files(bench, &[true; 4], &[13, 12, 0, 10])?;
    let memory = rig.plain(BLOCK);
    assert_eq!(buffers(&rig, &[memory.iovec(); 4], &[23, 22, 0, 20]), Ok(0));
    let names = |rig: &mut Rig| rig.ready().iter().map(|done| done.user_data).collect::<Vec<_>>();
    assert_eq!(register_at(&rig.ring, UNREGISTER_FILES, 0, 0), Ok(0));
    assert_eq!(names(&mut rig), [10, 12, 13]);
    assert_eq!(register_at(&rig.ring, UNREGISTER_BUFFERS, 0, 0), Ok(0));
    assert_eq!(names(&mut rig), [20, 22, 23]);
    Ok(())
}

fn tags_of_a_table_that_failed_never_come(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let fd = own_fd(&rig)?;
    let memory = rig.plain(BLOCK);
    rig.ring.submitter().unregister_files()?;
    assert_eq!(files(&rig, &[fd, fd, 9999], &[10, 11, 12]), Err(libc::EBADF));
    assert_eq!(files(&rig, &[fd, -1], &[10, 11]), Err(libc::EINVAL));
    assert_eq!(buffers(&rig, &[memory.iovec(), iovec(0, 1)], &[20, 21]), Err(libc::EFAULT));
    assert_eq!(buffers(&rig, &[memory.iovec(), hole()], &[20, 21]), Err(libc::EINVAL));
    assert_eq!(register_at(&rig.ring, UNREGISTER_FILES, 0, 0), Err(libc::ENXIO));
    assert_eq!(register_at(&rig.ring, UNREGISTER_BUFFERS, 0, 0), Err(libc::ENXIO));
    assert_eq!(rig.one(nop(0))?, 0, "nothing came");
    Ok(())
}

fn tags_beyond_the_ring_are_kept(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let mut rig = bench.open(bench.builder(4).cq_entries(4))?;
    let memory = rig.plain(BLOCK);
    let tags: Vec<u64> = (1..=10).collect();
    assert_eq!(buffers(&rig, &[memory.iovec(); 10], &tags), Ok(0));
    assert_eq!(register_at(&rig.ring, UNREGISTER_BUFFERS, 0, 0), Ok(0));
    assert!(rig.ring.submission().cq_overflow());
    assert_eq!(rig.ring.completion().overflow(), 0, "none is dropped");
    let names: Vec<u64> = rig.wait(10)?.iter().map(|done| done.user_data).collect();
    assert_eq!(names, (1..=10).rev().collect::<Vec<_>>());
    Ok(())
}
