//! SYNC_FILE_RANGE and FADVISE: nothing to do, but arguments to check.

use io_uring::{opcode, types};

use crate::case::{Bench, Case, Outcome, cases};
use crate::support::raw::edit;
use crate::support::rig::{FILE, expect_errno};

pub(super) const ALL: &[Case] = cases![syncing_a_range_succeeds, advice_is_taken, bad_ranges_and_advice_are_invalid];

fn syncing_a_range_succeeds(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    for flags in [0, 1, 2, 4, 7] {
        assert_eq!(rig.one(opcode::SyncFileRange::new(FILE, 4096).offset(512).flags(flags).build())?, 0, "{flags}");
    }
    let beyond = rig.size() + 4096;
    assert_eq!(rig.one(opcode::SyncFileRange::new(FILE, 0).offset(beyond).build())?, 0);
    Ok(())
}

fn advice_is_taken(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    for advice in 0..=5 {
        assert_eq!(rig.one(opcode::Fadvise::new(FILE, 4096, advice).offset(4096).build())?, 0, "{advice}");
    }
    Ok(())
}

fn bad_ranges_and_advice_are_invalid(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let sync = |offset: u64, flags| opcode::SyncFileRange::new(FILE, 4096).offset(offset).flags(flags).build();
    expect_errno(rig.one(sync(0, 8))?, libc::EINVAL, "flags");
    expect_errno(rig.one(sync(u64::MAX, 0))?, libc::EINVAL, "offset");
    expect_errno(rig.one(sync(i64::MAX as u64, 0))?, libc::EINVAL, "end");
    expect_errno(rig.one(opcode::Fadvise::new(FILE, 0, 6).build())?, libc::EINVAL, "advice");
    let negative = edit(opcode::Fadvise::new(FILE, 0, 0).build(), |bytes| bytes[23] = 0x80);
    expect_errno(rig.one(negative)?, libc::EINVAL, "a negative length");
    for entry in [sync(0, 0), opcode::Fadvise::new(FILE, 0, 0).build()] {
        let priority = edit(entry.clone(), |bytes| bytes[2] = 1);
        expect_errno(rig.one(priority)?, libc::EINVAL, "a priority");
        let buffer = edit(entry, |bytes| bytes[40] = 1);
        expect_errno(rig.one(buffer)?, libc::EINVAL, "a buffer");
    }
    let gone = types::Fixed(99);
    expect_errno(rig.one(opcode::Fadvise::new(gone, 0, 9).build())?, libc::EBADF, "no such file");
    expect_errno(rig.one(opcode::SyncFileRange::new(gone, 0).flags(9).build())?, libc::EBADF, "no such file");
    Ok(())
}
