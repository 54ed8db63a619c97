//! NOP.

use io_uring::opcode;
use io_uring::squeue::Entry;

use crate::case::{Bench, Case, Outcome, cases};
use crate::support::raw::edit;
use crate::support::rig::expect_errno;

pub(super) const ALL: &[Case] = cases![
    nop_completes_with_zero,
    nop_gives_its_user_data_back_exactly,
    nop_injects_a_result,
    nop_refuses_unknown_flags,
    nop_refuses_an_io_priority,
    nops_complete_in_order,
];

const INJECT_RESULT: u32 = 1;

fn nop() -> Entry {
    opcode::Nop::new().build()
}

/// With `nop_flags` and `len`.
fn nop_with(flags: u32, len: u32) -> Entry {
    edit(nop(), |bytes| {
        bytes[24..28].copy_from_slice(&len.to_ne_bytes());
        bytes[28..32].copy_from_slice(&flags.to_ne_bytes());
    })
}

fn nop_completes_with_zero(bench: &Bench) -> Outcome {
    assert_eq!(bench.rig(4)?.one(nop())?, 0);
    Ok(())
}

fn nop_gives_its_user_data_back_exactly(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let values = [0, 1, u64::MAX, 1 << 63, 0x0123_4567_89ab_cdef];
    for value in values {
        rig.push(&nop().user_data(value))?;
    }
    assert_eq!(rig.ring.submit_and_wait(values.len())?, values.len());
    let done: Vec<_> = rig.wait(values.len())?.iter().map(|done| (done.user_data, done.res, done.flags)).collect();
    assert_eq!(done, values.map(|value| (value, 0, 0)));
    Ok(())
}

fn nop_injects_a_result(bench: &Bench) -> Outcome {
    bench.since(6, 10)?;
    let mut rig = bench.rig(4)?;
    for result in [0, 1, i32::MAX, -1, -libc::EIO, i32::MIN] {
        assert_eq!(rig.one(nop_with(INJECT_RESULT, result.cast_unsigned()))?, result);
    }
    Ok(())
}

fn nop_refuses_unknown_flags(bench: &Bench) -> Outcome {
    bench.since(6, 10)?;
    let mut rig = bench.rig(4)?;
    for flags in [1 << 5, 1 << 16, 1 << 31] {
        expect_errno(rig.one(nop_with(flags, 0))?, libc::EINVAL, &format!("nop_flags {flags:#x}"));
    }
    Ok(())
}

fn nop_refuses_an_io_priority(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let entry = edit(nop(), |bytes| bytes[2] = 1);
    expect_errno(rig.one(entry)?, libc::EINVAL, "an operation without a priority");
    Ok(())
}

fn nops_complete_in_order(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(16)?;
    for round in 0..100 {
        for i in 0..16 {
            rig.push(&nop().user_data(round * 16 + i))?;
        }
        assert_eq!(rig.ring.submit_and_wait(16)?, 16);
        let order: Vec<u64> = rig.wait(16)?.iter().map(|done| done.user_data).collect();
        assert_eq!(order, (round * 16..round * 16 + 16).collect::<Vec<_>>());
    }
    Ok(())
}
