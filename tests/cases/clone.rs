//! Tables of registered buffers that one ring takes from another.

use std::os::fd::AsRawFd;
use std::thread;

use super::buffer_table::{UNREGISTER_BUFFERS, hole, is_at, update};
use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::control::{Update, register, register_at};
use crate::support::pattern;
use crate::support::raw::{Memory, register_buffers};
use crate::support::rig::{Rig, read_fixed};

pub(super) const ALL: &[Case] = cases![
    cloned_buffers_work_and_outlive_their_source,
    cloned_parts_land_where_asked,
    cloned_buffers_replace_where_asked,
    cloned_buffers_may_come_from_the_own_ring,
    cloned_buffers_want_a_source_and_room,
    cloned_buffers_with_bad_arguments_are_refused,
    cloned_buffers_may_come_from_a_registered_ring,
    cloned_buffers_of_another_issuer_are_refused,
    cloned_buffers_leave_reads_in_flight_alone,
];

const CLONE_BUFFERS: u32 = 30;
const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;
const SRC_REGISTERED: u32 = 1;
const DST_REPLACE: u32 = 2;
const SINGLE_ISSUER: u32 = 1 << 12;
const BLOCK: usize = 4096;
const MOST: u32 = 1 << 14;

/// `struct io_uring_clone_buffers`.
#[derive(Clone, Copy, Debug, Default)]
struct Clone {
    src_fd: i32,
    flags: u32,
    src_off: u32,
    dst_off: u32,
    nr: u32,
    pad: [u32; 3],
}

impl Clone {
    fn of(source: &Rig) -> Self {
        Self { src_fd: source.ring.as_raw_fd(), ..Self::default() }
    }

    fn bytes(&self) -> Vec<u8> {
        let [first, second, third] = self.pad;
        let words =
            [self.src_fd.cast_unsigned(), self.flags, self.src_off, self.dst_off, self.nr, first, second, third];
        words.into_iter().flat_map(u32::to_ne_bytes).collect()
    }

    fn call(&self, rig: &Rig) -> Result<u32, i32> {
        register(&rig.ring, CLONE_BUFFERS, &self.bytes(), 1)
    }
}

/// Parts of memory that all rings of a case share, which goes after them.
fn parts(bench: &Bench, count: usize) -> Result<Vec<Memory>, Stop> {
    bench.rig(8)?.put(3, 0, BLOCK)?;
    let memory = Memory::plain(count * BLOCK);
    Ok((0..count).map(|i| memory.part(i * BLOCK, BLOCK)).collect())
}

/// A ring with these parts registered, `None` for holes.
fn ring_of(bench: &Bench, parts: &[Memory], table: &[Option<usize>]) -> Result<Rig, Stop> {
    let mut rig = bench.rig(8)?;
    for part in parts {
        rig.keep(part.clone());
    }
    let iovecs: Vec<_> = table.iter().map(|part| part.map_or(hole(), |part| parts[part].iovec())).collect();
    if !iovecs.is_empty() {
        register_buffers(&rig.ring, &iovecs)?;
    }
    Ok(rig)
}

/// Fails unless the table is of exactly these parts.
#[track_caller]
fn expect_table(rig: &mut Rig, parts: &[Memory], table: &[Option<usize>]) -> Outcome {
    for (index, &there) in table.iter().enumerate() {
        for (part, memory) in parts.iter().enumerate() {
            assert_eq!(is_at(rig, index as u16, memory)?, there == Some(part), "buffer {index}, part {part}");
        }
    }
    // And of no more.
    let behind = update(rig, table.len() as u32, &[hole()]);
    assert_eq!(behind, Err(if table.is_empty() { libc::ENXIO } else { libc::EINVAL }));
    Ok(())
}

fn cloned_buffers_work_and_outlive_their_source(bench: &Bench) -> Outcome {
    bench.since(6, 12)?;
    let parts = parts(bench, 3)?;
    let source = ring_of(bench, &parts, &[Some(0), None, Some(1)])?;
    let mut to = ring_of(bench, &parts, &[])?;
    assert_eq!(Clone::of(&source).call(&to), Ok(0));
    expect_table(&mut to, &parts, &[Some(0), None, Some(1)])?;
    assert_eq!(Clone::of(&source).call(&to), Err(libc::EBUSY));
    // Changes of one do not reach the other.
    assert_eq!(update(&source, 0, &[parts[2].iovec()]), Ok(1));
    assert_eq!(update(&to, 2, &[hole()]), Ok(1));
    expect_table(&mut to, &parts, &[Some(0), None, None])?;
    // A copy of the copy.
    let mut third = ring_of(bench, &parts, &[])?;
    assert_eq!(Clone::of(&to).call(&third), Ok(0));
    assert_eq!(register_at(&source.ring, UNREGISTER_BUFFERS, 0, 0), Ok(0));
    drop(source);
    expect_table(&mut to, &parts, &[Some(0), None, None])?;
    assert_eq!(register_at(&to.ring, UNREGISTER_BUFFERS, 0, 0), Ok(0));
    drop(to);
    expect_table(&mut third, &parts, &[Some(0), None, None])
}

fn cloned_parts_land_where_asked(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let parts = parts(bench, 3)?;
    let source = ring_of(bench, &parts, &[Some(0), Some(1), Some(2)])?;
    let rows: [(u32, u32, u32, &[Option<usize>]); 5] = [
        (0, 0, 2, &[Some(0), Some(1)]),
        (1, 0, 2, &[Some(1), Some(2)]),
        (1, 2, 1, &[None, None, Some(1)]),
        (2, 1, 1, &[None, Some(2)]),
        (0, 1, 3, &[None, Some(0), Some(1), Some(2)]),
    ];
    for (src_off, dst_off, nr, expected) in rows {
        let mut to = ring_of(bench, &parts, &[])?;
        let clone = Clone { src_off, dst_off, nr, ..Clone::of(&source) };
        assert_eq!(clone.call(&to), Ok(0), "{clone:?}");
        expect_table(&mut to, &parts, expected)?;
    }
    // The last that there can be.
    let mut to = ring_of(bench, &parts, &[])?;
    assert_eq!(Clone { dst_off: MOST - 1, nr: 1, ..Clone::of(&source) }.call(&to), Ok(0));
    assert!(is_at(&mut to, MOST as u16 - 1, &parts[0])?);
    Ok(())
}

fn cloned_buffers_replace_where_asked(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let parts = parts(bench, 4)?;
    let source = ring_of(bench, &parts, &[Some(0), None])?;
    let before = [Some(3), Some(2), Some(3)];
    let rows: [(u32, u32, u32, &[Option<usize>]); 6] = [
        // No number is all; the rest of a longer table stays.
        (0, 0, 0, &[Some(0), None, Some(3)]),
        (0, 0, 1, &[Some(0), Some(2), Some(3)]),
        (0, 2, 1, &[Some(3), Some(2), Some(0)]),
        (1, 1, 1, &[Some(3), None, Some(3)]),
        // It grows, with holes between.
        (0, 2, 2, &[Some(3), Some(2), Some(0), None]),
        (0, 4, 1, &[Some(3), Some(2), Some(3), None, Some(0)]),
    ];
    for (src_off, dst_off, nr, expected) in rows {
        let mut to = ring_of(bench, &parts, &before)?;
        let clone = Clone { src_off, dst_off, nr, ..Clone::of(&source) };
        assert_eq!(clone.call(&to), Err(libc::EBUSY), "{clone:?}");
        let clone = Clone { flags: DST_REPLACE, ..clone };
        assert_eq!(clone.call(&to), Ok(0), "{clone:?}");
        expect_table(&mut to, &parts, expected)?;
    }
    // Where there is nothing to replace.
    let mut to = ring_of(bench, &parts, &[])?;
    assert_eq!(Clone { flags: DST_REPLACE, ..Clone::of(&source) }.call(&to), Ok(0));
    expect_table(&mut to, &parts, &[Some(0), None])
}

fn cloned_buffers_may_come_from_the_own_ring(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let parts = parts(bench, 3)?;
    let mut rig = ring_of(bench, &parts, &[Some(0), Some(1)])?;
    assert_eq!(Clone::of(&rig).call(&rig), Err(libc::EBUSY));
    let replace = Clone { flags: DST_REPLACE, ..Clone::of(&rig) };
    assert_eq!(replace.call(&rig), Ok(0));
    expect_table(&mut rig, &parts, &[Some(0), Some(1)])?;
    assert_eq!(Clone { src_off: 1, nr: 1, ..replace }.call(&rig), Ok(0));
    expect_table(&mut rig, &parts, &[Some(1), Some(1)])?;
    assert_eq!(Clone { dst_off: 1, nr: 2, ..replace }.call(&rig), Ok(0));
    expect_table(&mut rig, &parts, &[Some(1), Some(1), Some(1)])?;
    assert_eq!(register_at(&rig.ring, UNREGISTER_BUFFERS, 0, 0), Ok(0));
    assert_eq!(Clone::of(&rig).call(&rig), Err(libc::ENXIO));
    Ok(())
}

fn cloned_buffers_want_a_source_and_room(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let parts = parts(bench, 2)?;
    let empty = ring_of(bench, &parts, &[])?;
    let source = ring_of(bench, &parts, &[Some(0), Some(1)])?;
    let mut to = ring_of(bench, &parts, &[Some(1)])?;
    let own = to.ring.device_fd(0).ok_or(Stop::Fail("file 0 has no descriptor".into()))?;
    let good = Clone { flags: DST_REPLACE, ..Clone::of(&source) };
    let none = Clone { flags: DST_REPLACE, ..Clone::of(&empty) };
    let rows = [
        (none, libc::ENXIO, "nothing to clone"),
        (Clone { nr: 9, ..none }, libc::ENXIO, "nothing, and too many"),
        (Clone { src_off: 1, ..none }, libc::EINVAL, "nothing, and a place but no number"),
        (Clone { src_fd: own, ..good }, libc::EOPNOTSUPP, "no ring"),
        (Clone { src_fd: 9999, ..good }, libc::EBADF, "not open"),
        (Clone { src_fd: -1, ..good }, libc::EBADF, "not open"),
        (Clone { src_off: 1, ..good }, libc::EINVAL, "a place but no number"),
        (Clone { dst_off: 1, ..good }, libc::EINVAL, "a place but no number"),
        (Clone { nr: 3, ..good }, libc::EINVAL, "more than there are"),
        (Clone { nr: u32::MAX, src_off: u32::MAX, ..good }, libc::EINVAL, "more than there are"),
        (Clone { nr: 2, src_off: 1, ..good }, libc::EOVERFLOW, "beyond the source"),
        (Clone { nr: 1, src_off: 2, ..good }, libc::EOVERFLOW, "beyond the source"),
        (Clone { nr: 1, src_off: u32::MAX, ..good }, libc::EOVERFLOW, "beyond all"),
        (Clone { nr: 1, dst_off: u32::MAX, ..good }, libc::EOVERFLOW, "beyond all"),
        (Clone { nr: 1, dst_off: MOST, ..good }, libc::EINVAL, "beyond the largest table"),
        (Clone { nr: 2, dst_off: MOST - 1, ..good }, libc::EINVAL, "beyond the largest table"),
        (Clone { nr: 1, src_off: 2, dst_off: MOST, ..good }, libc::EOVERFLOW, "the source comes first"),
    ];
    for (clone, expected, what) in rows {
        assert_eq!(clone.call(&to), Err(expected), "{what}: {clone:?}");
        // A table that may not be replaced comes first of all.
        assert_eq!(Clone { flags: 0, ..clone }.call(&to), Err(libc::EBUSY), "{what}: {clone:?}");
        expect_table(&mut to, &parts, &[Some(1)])?;
    }
    Ok(())
}

fn cloned_buffers_with_bad_arguments_are_refused(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let parts = parts(bench, 2)?;
    let source = ring_of(bench, &parts, &[Some(0)])?;
    let mut to = ring_of(bench, &parts, &[])?;
    let good = Clone::of(&source);
    for nr_args in [0, 2, 32, u32::MAX] {
        assert_eq!(register(&to.ring, CLONE_BUFFERS, &good.bytes(), nr_args), Err(libc::EINVAL), "{nr_args}");
        assert_eq!(register_at(&to.ring, CLONE_BUFFERS, 8, nr_args), Err(libc::EINVAL), "{nr_args}");
    }
    assert_eq!(register_at(&to.ring, CLONE_BUFFERS, 0, 1), Err(libc::EINVAL), "no argument");
    for address in [8, 1 << 63] {
        assert_eq!(register_at(&to.ring, CLONE_BUFFERS, address, 1), Err(libc::EFAULT), "{address:#x}");
    }
    let pads = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
    for flags in [4, 8, 1 << 31] {
        assert_eq!(Clone { flags, ..good }.call(&to), Err(libc::EINVAL), "flags {flags:#x}");
    }
    for pad in pads {
        assert_eq!(Clone { pad, ..good }.call(&to), Err(libc::EINVAL), "{pad:?}");
        assert_eq!(Clone { pad, src_fd: 9999, ..good }.call(&to), Err(libc::EINVAL), "{pad:?}");
    }
    assert_eq!(good.call(&to), Ok(0), "none of them left anything behind");
    expect_table(&mut to, &parts, &[Some(0)])?;
    // Flags, then the table that is there, then what is padding.
    assert_eq!(Clone { flags: 4, pad: pads[0], ..good }.call(&to), Err(libc::EINVAL));
    assert_eq!(Clone { pad: pads[0], ..good }.call(&to), Err(libc::EBUSY));
    assert_eq!(Clone { pad: pads[0], flags: DST_REPLACE, ..good }.call(&to), Err(libc::EINVAL));
    Ok(())
}

fn cloned_buffers_may_come_from_a_registered_ring(bench: &Bench) -> Outcome {
    bench.since(6, 12)?;
    let parts = parts(bench, 2)?;
    let source = ring_of(bench, &parts, &[Some(0), Some(1)])?;
    let mut to = ring_of(bench, &parts, &[])?;
    let registered = |src_fd: i32| Clone { src_fd, flags: SRC_REGISTERED, ..Clone::default() };
    for index in [16, 17, 9999, -1] {
        assert_eq!(registered(index).call(&to), Err(libc::EINVAL), "index {index}");
    }
    assert_eq!(registered(15).call(&to), Err(libc::EBADF), "nothing there");
    let place = |data: u64| Update { offset: 7, data, ..Update::default() }.bytes()[..16].to_vec();
    let fd = source.ring.as_raw_fd() as u64;
    assert_eq!(register(&source.ring, REGISTER_RING_FDS, &place(fd), 1), Ok(1));
    assert_eq!(registered(7).call(&to), Ok(0));
    expect_table(&mut to, &parts, &[Some(0), Some(1)])?;
    assert_eq!(register(&source.ring, UNREGISTER_RING_FDS, &place(0), 1), Ok(1));
    assert_eq!(register_at(&to.ring, UNREGISTER_BUFFERS, 0, 0), Ok(0));
    assert_eq!(registered(7).call(&to), Err(libc::EBADF), "it has gone");
    Ok(())
}

fn cloned_buffers_of_another_issuer_are_refused(bench: &Bench) -> Outcome {
    bench.since(6, 18)?;
    let parts = parts(bench, 2)?;
    let other = bench.clone();
    let there = thread::spawn(move || -> Result<Rig, Stop> { other.open(other.builder(8).setup_flags(SINGLE_ISSUER)) });
    let source = there.join().map_err(|_| Stop::Fail("the other thread panicked".into()))??;
    let mut to = ring_of(bench, &parts, &[])?;
    assert_eq!(Clone::of(&source).call(&to), Err(libc::EEXIST));
    expect_table(&mut to, &parts, &[])
}

fn cloned_buffers_leave_reads_in_flight_alone(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let parts = parts(bench, 2)?;
    let source = ring_of(bench, &parts, &[Some(0)])?;
    let mut to = ring_of(bench, &parts, &[Some(1)])?;
    for _ in 0..20 {
        parts[1].write(&vec![0; BLOCK]);
        to.push(&read_fixed(&parts[1], 0, 0).user_data(1))?;
        assert_eq!(to.ring.submit()?, 1);
        assert_eq!(Clone { flags: DST_REPLACE, ..Clone::of(&source) }.call(&to), Ok(0));
        assert_eq!(to.wait(1)?[0].res, 4096);
        pattern::check(3, 0, &parts[1].read());
        assert!(is_at(&mut to, 0, &parts[0])?);
        assert_eq!(update(&to, 0, &[parts[1].iovec()]), Ok(1));
    }
    Ok(())
}
