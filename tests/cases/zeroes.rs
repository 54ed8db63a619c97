//! FALLOCATE: ranges that read as zeroes afterwards.

use io_uring::squeue::Entry;
use io_uring::{opcode, types};
use libc::{
    FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE, FALLOC_FL_KEEP_SIZE as KEEP, FALLOC_FL_PUNCH_HOLE as HOLE,
    FALLOC_FL_UNSHARE_RANGE, FALLOC_FL_ZERO_RANGE as ZERO,
};

use crate::case::{Bench, Case, Outcome, cases};
use crate::support::raw::edit;
use crate::support::rig::{FILE, Rig, expect_errno, write};

pub(super) const ALL: &[Case] = cases![
    ranges_that_were_zeroed_or_punched_read_as_zeroes,
    zeroes_longer_than_a_command_can_write_all_arrive,
    zeroes_are_cut_at_the_end_only_where_the_size_is_kept,
    zeroes_out_of_bounds_or_unaligned_are_invalid,
    other_modes_of_fallocate_are_not_supported,
    fallocate_with_bad_arguments_is_invalid,
    zeroes_among_writes_all_complete,
];

/// The three modes that are served.
const MODES: [i32; 3] = [ZERO, ZERO | KEEP, HOLE | KEEP];

fn fallocate(mode: i32, offset: u64, len: u64) -> Entry {
    opcode::Fallocate::new(FILE, len).offset(offset).mode(mode).build()
}

/// Fails unless `len` bytes at `offset` are zeroes.
fn expect_zeroes(rig: &mut Rig, offset: u64, len: usize) -> Outcome {
    assert!(rig.get(offset, len)?.iter().all(|byte| *byte == 0), "{len} bytes at {offset} are not all zeroes");
    Ok(())
}

fn ranges_that_were_zeroed_or_punched_read_as_zeroes(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let window = 2 << 20;
    for mode in MODES {
        // One block, a page, across pages, across the longest transfer.
        for (offset, len) in [(512, 512), (4096, 4096), (3584, 9216), (512 << 10, 1 << 20), (512, window - 1024)] {
            rig.put(1, 0, window as usize)?;
            assert_eq!(rig.one(fallocate(mode, offset, len))?, 0, "mode {mode:#x}: {len} at {offset}");
            expect_zeroes(&mut rig, offset, len as usize)?;
            rig.expect(1, 0, offset as usize)?;
            let after = offset + len;
            rig.expect(1, after, (window - after) as usize)?;
        }
    }
    Ok(())
}

fn zeroes_longer_than_a_command_can_write_all_arrive(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let size = rig.size();
    // A command counts 65,536 blocks at most.
    let blocks = size / 512;
    assert!(blocks > 65_537, "the device is too small for this case");
    for mode in MODES {
        let marks = [0, 512, 65_535 * 512, 65_536 * 512, size - 1024, size - 512];
        for mark in marks {
            rig.put(mark, mark, 512)?;
        }
        assert_eq!(rig.one(fallocate(mode, 512, size - 1024))?, 0, "mode {mode:#x}");
        rig.expect(0, 0, 512)?;
        rig.expect(size - 512, size - 512, 512)?;
        for mark in &marks[1..5] {
            expect_zeroes(&mut rig, *mark, 512)?;
        }
    }
    Ok(())
}

fn zeroes_are_cut_at_the_end_only_where_the_size_is_kept(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let size = rig.size();
    for mode in [ZERO | KEEP, HOLE | KEEP] {
        for len in [8192, 4097, 1 << 40] {
            rig.put(2, size - 8192, 8192)?;
            assert_eq!(rig.one(fallocate(mode, size - 4096, len))?, 0, "mode {mode:#x}, length {len}");
            rig.expect(2, size - 8192, 4096)?;
            expect_zeroes(&mut rig, size - 4096, 4096)?;
        }
        expect_errno(rig.one(fallocate(mode, size, 512))?, libc::EINVAL, "at the end");
    }
    rig.put(2, size - 4096, 4096)?;
    for (offset, len) in [(size - 4096, 8192), (size, 512), (size + 512, 512), (0, 1 << 40)] {
        expect_errno(rig.one(fallocate(ZERO, offset, len))?, libc::EINVAL, &format!("{len} at {offset}"));
    }
    rig.expect(2, size - 4096, 4096)
}

fn zeroes_out_of_bounds_or_unaligned_are_invalid(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    rig.put(3, 0, 8192)?;
    let last = i64::MAX as u64;
    for mode in MODES {
        for (offset, len) in [(1, 512), (0, 513), (256, 256), (511, 1), (0, 0), (u64::MAX, 512), (0, u64::MAX)] {
            let what = format!("mode {mode:#x}: {len} at {offset}");
            expect_errno(rig.one(fallocate(mode, offset, len))?, libc::EINVAL, &what);
        }
        for (offset, len) in [(last, 512), (last - 511, 512), (512, last)] {
            let what = format!("mode {mode:#x}: {len} at {offset}");
            expect_errno(rig.one(fallocate(mode, offset, len))?, libc::EFBIG, &what);
        }
    }
    rig.expect(3, 0, 8192)
}

fn other_modes_of_fallocate_are_not_supported(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    rig.put(4, 0, 4096)?;
    let size = rig.size();
    for mode in [
        0,
        KEEP,
        HOLE,
        HOLE | ZERO,
        HOLE | ZERO | KEEP,
        FALLOC_FL_COLLAPSE_RANGE,
        FALLOC_FL_INSERT_RANGE,
        FALLOC_FL_UNSHARE_RANGE,
        FALLOC_FL_UNSHARE_RANGE | KEEP,
        4,
        0x100,
        1 << 30,
    ] {
        expect_errno(rig.one(fallocate(mode, 0, 4096))?, libc::EOPNOTSUPP, &format!("mode {mode:#x}"));
        expect_errno(rig.one(fallocate(mode, 0, 0))?, libc::EINVAL, &format!("mode {mode:#x}, no length"));
    }
    // These two are looked at last.
    for mode in [0, KEEP] {
        expect_errno(rig.one(fallocate(mode, size, 512))?, libc::EINVAL, &format!("mode {mode:#x} at the end"));
        expect_errno(rig.one(fallocate(mode, 0, 513))?, libc::EINVAL, &format!("mode {mode:#x}, unaligned"));
    }
    expect_errno(rig.one(fallocate(HOLE, size, 513))?, libc::EOPNOTSUPP, "a hole that moves the end");
    rig.expect(4, 0, 4096)
}

fn fallocate_with_bad_arguments_is_invalid(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    rig.put(5, 0, 4096)?;
    for (field, what) in [(28, "rw_flags"), (40, "buf_index"), (44, "splice_fd_in"), (2, "ioprio")] {
        let entry = edit(fallocate(ZERO, 0, 4096), |bytes| bytes[field] = 1);
        rig.push(&entry)?;
        rig.push(&opcode::Nop::new().build())?;
        assert_eq!(rig.ring.submit()?, 1, "{what}: the batch ends");
        let done = rig.wait(1)?;
        expect_errno(done[0].res, libc::EINVAL, what);
        assert_eq!(rig.ring.submit()?, 1);
        assert_eq!(rig.wait(1)?[0].res, 0);
    }
    let gone = opcode::Fallocate::new(types::Fixed(99), 4096).mode(ZERO).build();
    expect_errno(rig.one(gone)?, libc::EBADF, "no such file");
    rig.expect(5, 0, 4096)
}

fn zeroes_among_writes_all_complete(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(16)?;
    let memory = rig.filled(6, 0, 64 * 4096);
    let mut entries = Vec::new();
    let mut expected = Vec::new();
    for i in 0..64 {
        let offset = i as u64 * 4096;
        entries.push(write(&memory.part(i * 4096, 4096), offset));
        expected.push(4096);
        // Elsewhere: what is in flight together has no order.
        entries.push(fallocate(MODES[i % 3], (8 << 20) + offset * 4, 16384));
        expected.push(0);
    }
    rig.put(7, 8 << 20, 64 * 16384)?;
    assert_eq!(rig.all(&entries)?, expected);
    rig.expect(6, 0, 64 * 4096)?;
    expect_zeroes(&mut rig, 8 << 20, 64 * 16384)
}
