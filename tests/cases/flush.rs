//! FSYNC.

use io_uring::squeue::Entry;
use io_uring::{opcode, types};

use crate::case::{Bench, Case, Outcome, cases};
use crate::support::raw::edit;
use crate::support::rig::{FILE, expect_errno, write};

pub(super) const ALL: &[Case] = cases![
    fsync_completes_with_zero,
    fsync_ignores_offset_and_length,
    fsync_with_bad_arguments_is_invalid,
    fsync_at_a_negative_offset_is_invalid,
    fsyncs_among_writes_all_complete,
];

fn fsync() -> Entry {
    opcode::Fsync::new(FILE).build()
}

fn fsync_completes_with_zero(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    assert_eq!(rig.one(fsync())?, 0, "with nothing written");
    rig.put(1, 0, 65536)?;
    assert_eq!(rig.one(fsync())?, 0);
    let data_only = opcode::Fsync::new(FILE).flags(types::FsyncFlags::DATASYNC).build();
    assert_eq!(rig.one(data_only)?, 0);
    rig.expect(1, 0, 65536)?;
    Ok(())
}

fn fsync_ignores_offset_and_length(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    for (offset, len) in [(0, 512), (512, 512), (3, 5), (1 << 40, 1)] {
        let entry = opcode::Fsync::new(FILE).offset(offset).len(len).build();
        assert_eq!(rig.one(entry)?, 0, "{len} at {offset}");
    }
    Ok(())
}

fn fsync_with_bad_arguments_is_invalid(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    for flags in [2u32, 3, 1 << 31] {
        let entry = edit(fsync(), |bytes| bytes[28..32].copy_from_slice(&flags.to_ne_bytes()));
        expect_errno(rig.one(entry)?, libc::EINVAL, &format!("fsync_flags {flags:#x}"));
    }
    for (field, what) in [(16, "addr"), (40, "buf_index"), (44, "splice_fd_in"), (2, "ioprio")] {
        let entry = edit(fsync(), |bytes| bytes[field] = 1);
        expect_errno(rig.one(entry)?, libc::EINVAL, what);
    }
    Ok(())
}

fn fsync_at_a_negative_offset_is_invalid(bench: &Bench) -> Outcome {
    bench.since(6, 18)?;
    let mut rig = bench.rig(4)?;
    let at = |offset: u64| edit(fsync(), |bytes| bytes[8..16].copy_from_slice(&offset.to_ne_bytes()));
    for offset in [u64::MAX, u64::MAX - 1, 1 << 63] {
        expect_errno(rig.one(at(offset))?, libc::EINVAL, &format!("offset {offset:#x}"));
    }
    // Not even the sum with a length overflows.
    let last = edit(at(i64::MAX as u64), |bytes| bytes[24..28].copy_from_slice(&512u32.to_ne_bytes()));
    assert_eq!(rig.one(last)?, 0);
    Ok(())
}

fn fsyncs_among_writes_all_complete(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(32)?;
    let memory = rig.filled(2, 0, 64 * 4096);
    let mut entries = Vec::new();
    let mut expected = Vec::new();
    for i in 0..64 {
        entries.push(write(&memory.part(i * 4096, 4096), i as u64 * 4096));
        expected.push(4096);
        if i % 5 == 0 {
            entries.push(fsync());
            expected.push(0);
        }
    }
    assert_eq!(rig.all(&entries)?, expected);
    rig.expect(2, 0, 64 * 4096)?;
    Ok(())
}
