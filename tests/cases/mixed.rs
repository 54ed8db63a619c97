//! Completions of 16 and 32 bytes in one ring (`IORING_SETUP_CQE_MIXED`).

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::mixed::{F_32, F_SKIP, Mixed, ready};
use crate::support::raw::edit;
use crate::support::rig::Rig;

pub(super) const ALL: &[Case] = cases![
    long_completions_take_two_slots,
    a_long_completion_does_not_wrap,
    long_completions_overflow_and_come_later,
    a_wait_counts_slots,
    long_completions_want_a_ring_for_them,
    a_mixed_ring_has_two_slots_at_least,
    other_operations_complete_with_short_ones,
];

const CQE_MIXED: u32 = 1 << 18;
const INJECT_RESULT: u32 = 1;
const CQE32: u32 = 32;

/// NOP with `nop_flags`, and what its long completion says: `off` and `addr`.
fn nop(user_data: u64, flags: u32, extra: [u64; 2]) -> Entry {
    let entry = edit(opcode::Nop::new().build(), |bytes| {
        bytes[8..16].copy_from_slice(&extra[0].to_ne_bytes());
        bytes[16..24].copy_from_slice(&extra[1].to_ne_bytes());
        bytes[28..32].copy_from_slice(&flags.to_ne_bytes());
    });
    entry.user_data(user_data)
}

fn long(user_data: u64) -> Entry {
    nop(user_data, CQE32, [user_data + 100, u64::MAX - user_data])
}

fn short(user_data: u64) -> Entry {
    nop(user_data, 0, [1, 2])
}

fn mixed(bench: &Bench, cq_entries: u32) -> Result<Rig, Stop> {
    bench.since(6, 18)?;
    bench.open(bench.builder(8).cq_entries(cq_entries).setup_flags(CQE_MIXED))
}

fn submit(rig: &mut Rig, entries: &[Entry]) -> Outcome {
    for entry in entries {
        rig.push(entry)?;
    }
    assert_eq!(rig.ring.submit()?, entries.len());
    Ok(())
}

/// Slot and user data; long ones are checked to be what [`long`] makes.
fn seen(all: &[Mixed]) -> Vec<(u32, u64)> {
    for Mixed { done, .. } in all {
        let is_long = done.flags == F_32;
        assert!(is_long || done.flags == 0, "{done:?}");
        let expected = if is_long { [done.user_data + 100, u64::MAX - done.user_data] } else { [0; 2] };
        assert_eq!((done.res, done.extra), (0, expected), "{done:?}");
    }
    all.iter().map(|mixed| (mixed.slot, mixed.done.user_data)).collect()
}

fn long_completions_take_two_slots(bench: &Bench) -> Outcome {
    let mut rig = mixed(bench, 16)?;
    let mut taken = 0;
    submit(&mut rig, &[short(1), long(2), short(3), long(4), long(5)])?;
    assert_eq!(seen(&ready(&mut rig, &mut taken)), [(0, 1), (1, 2), (3, 3), (4, 4), (6, 5)]);
    let injected =
        edit(nop(6, CQE32 | INJECT_RESULT, [7, 8]), |bytes| bytes[24..28].copy_from_slice(&[0xfb, 255, 255, 255]));
    submit(
        &mut rig,
        &[injected.clone(), injected.flags(Flags::SKIP_SUCCESS), long(7).flags(Flags::SKIP_SUCCESS), short(8)],
    )?;
    let all = ready(&mut rig, &mut taken);
    assert_eq!(all.iter().map(|mixed| mixed.slot).collect::<Vec<_>>(), [8, 10, 12]);
    for Mixed { done, .. } in &all[..2] {
        assert_eq!((done.user_data, done.res, done.flags, done.extra), (6, -5, F_32, [7, 8]));
    }
    assert_eq!((all[2].done.user_data, all[2].done.flags), (8, 0));
    Ok(())
}

fn a_long_completion_does_not_wrap(bench: &Bench) -> Outcome {
    let mut rig = mixed(bench, 8)?;
    let mut taken = 0;
    for round in 0..3 {
        submit(&mut rig, &(0..7).map(short).collect::<Vec<_>>())?;
        assert_eq!(ready(&mut rig, &mut taken).len(), 7);
        submit(&mut rig, &[long(9)])?;
        let all = ready(&mut rig, &mut taken);
        assert_eq!(all.len(), 2, "round {round}");
        let filler = all[0];
        assert_eq!((filler.slot, filler.done.user_data, filler.done.res, filler.done.flags), (7, 0, 0, F_SKIP));
        assert_eq!(seen(&all[1..]), [(0, 9)]);
        // To the end, so that the next round begins at slot 0; a short one needs no filler there.
        submit(&mut rig, &(2..8).map(short).collect::<Vec<_>>())?;
        assert_eq!(seen(&ready(&mut rig, &mut taken)), (2..8).map(|i| (i, i.into())).collect::<Vec<_>>());
    }
    Ok(())
}

fn long_completions_overflow_and_come_later(bench: &Bench) -> Outcome {
    let mut rig = mixed(bench, 8)?;
    let mut taken = 0;
    submit(&mut rig, &(1..=6).map(long).collect::<Vec<_>>())?;
    assert!(rig.ring.submission().cq_overflow());
    let mut all = ready(&mut rig, &mut taken);
    assert_eq!(seen(&all), [(0, 1), (2, 2), (4, 3), (6, 4)]);
    rig.ring.submit_and_wait(1)?;
    assert!(!rig.ring.submission().cq_overflow());
    all = ready(&mut rig, &mut taken);
    assert_eq!(seen(&all), [(0, 5), (2, 6)]);
    // One slot is too little for a long one.
    submit(&mut rig, &[short(1), short(2), short(3), short(4), short(5), short(6), short(7)])?;
    submit(&mut rig, &[long(8)])?;
    assert!(rig.ring.submission().cq_overflow());
    let mut order = Vec::new();
    while order.len() < 8 {
        rig.ring.submit_and_wait(1)?;
        let all = ready(&mut rig, &mut taken);
        order.extend(all.iter().filter(|mixed| mixed.done.flags & F_SKIP == 0).map(|mixed| mixed.done.user_data));
    }
    assert_eq!(order, (1..=8).collect::<Vec<_>>());
    Ok(())
}

fn a_wait_counts_slots(bench: &Bench) -> Outcome {
    let mut rig = mixed(bench, 16)?;
    rig.push(&long(1))?;
    // It would not return if it counted completions.
    assert_eq!(rig.ring.submit_and_wait(2)?, 1);
    assert_eq!(seen(&ready(&mut rig, &mut 0)), [(0, 1)]);
    Ok(())
}

fn long_completions_want_a_ring_for_them(bench: &Bench) -> Outcome {
    bench.since(6, 18)?;
    let mut rig = bench.rig(8)?;
    assert_eq!(rig.one(nop(0, CQE32, [1, 2]))?, -libc::EINVAL);
    let mut rig = bench.open(bench.builder(8).cqe32())?;
    assert_eq!(rig.command(nop(0, CQE32, [3, 4]))?, (0, [3, 4]));
    assert_eq!(rig.command(nop(0, 0, [3, 4]))?, (0, [0, 0]));
    Ok(())
}

fn a_mixed_ring_has_two_slots_at_least(bench: &Bench) -> Outcome {
    bench.since(6, 18)?;
    let open = |cq_entries| bench.ring(bench.builder(1).cq_entries(cq_entries).setup_flags(CQE_MIXED)).map(drop);
    assert_eq!(open(1).unwrap_err().errno(), libc::EOVERFLOW);
    open(2)?;
    Ok(())
}

fn other_operations_complete_with_short_ones(bench: &Bench) -> Outcome {
    let mut rig = mixed(bench, 16)?;
    for round in 0..5 {
        rig.put(round, 0, 4096)?;
        rig.expect(round, 0, 4096)?;
    }
    Ok(())
}
