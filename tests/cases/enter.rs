//! `io_uring_enter`: what it submits, its flags, and disabled and overflowing rings.

use io_uring::opcode;
use io_uring::squeue::Entry;

use crate::case::{Bench, Case, Outcome, cases};
use crate::support::calls::{
    ABS_TIMER, EXT_ARG, EXT_ARG_REG, GETEVENTS, NO_IOWAIT, NOTHING, REGISTER_ENABLE_RINGS, REGISTERED_RING, enter,
    getevents, register,
};
use crate::support::raw::edit;
use crate::support::rig::Rig;

pub(super) const ALL: &[Case] = cases![
    entering_submits_as_many_as_it_is_told,
    entering_submits_no_more_than_there_is,
    entering_waits_only_after_all_was_submitted,
    entering_waits_only_for_events,
    a_wait_for_more_than_the_ring_holds_is_cut,
    unknown_enter_flags_are_invalid,
    enter_flags_that_change_nothing_are_accepted,
    a_wait_counts_as_no_iowait_if_asked,
    a_disabled_ring_cannot_be_entered,
    an_error_of_the_wait_does_not_undo_the_submission,
    a_backlog_is_flushed_for_events_only,
    a_ring_that_is_not_registered_has_no_index,
];

const R_DISABLED: u32 = 1 << 6;
const SQ_WAKEUP: u32 = 2;
const SQ_WAIT: u32 = 4;
const EINVAL: i32 = -libc::EINVAL;

fn nop(user_data: u64) -> Entry {
    opcode::Nop::new().build().user_data(user_data)
}

fn push(rig: &mut Rig, entries: impl IntoIterator<Item = Entry>) -> Outcome {
    for entry in entries {
        rig.push(&entry)?;
    }
    Ok(())
}

fn order(rig: &mut Rig) -> Vec<u64> {
    rig.ready().iter().map(|done| done.user_data).collect()
}

fn entering_submits_as_many_as_it_is_told(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    push(&mut rig, (0..8).map(nop))?;
    for (to_submit, left) in [(0, 8), (1, 7), (3, 4), (2, 2)] {
        assert_eq!(enter(&rig.ring, to_submit, 0, 0, NOTHING), to_submit as i32);
        assert_eq!(rig.ring.submission().len(), left);
    }
    assert_eq!(order(&mut rig), (0..6).collect::<Vec<_>>());
    assert_eq!(enter(&rig.ring, 2, 2, GETEVENTS, NOTHING), 2);
    assert_eq!(order(&mut rig), [6, 7]);
    Ok(())
}

fn entering_submits_no_more_than_there_is(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    assert_eq!(enter(&rig.ring, 5, 0, 0, NOTHING), 0);
    push(&mut rig, (0..3).map(nop))?;
    assert_eq!(enter(&rig.ring, 100, 0, 0, NOTHING), 3);
    push(&mut rig, [nop(3)])?;
    assert_eq!(enter(&rig.ring, u32::MAX, 0, GETEVENTS, NOTHING), 1);
    assert_eq!(order(&mut rig), [0, 1, 2, 3]);
    Ok(())
}

fn entering_waits_only_after_all_was_submitted(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    // None of these could come back if it waited.
    assert_eq!(enter(&rig.ring, 5, 1, GETEVENTS, NOTHING), 0);
    push(&mut rig, [nop(0)])?;
    assert_eq!(enter(&rig.ring, 2, 9, GETEVENTS, NOTHING), 1);
    let bad = edit(nop(1), |bytes| bytes[0] = 200);
    push(&mut rig, [bad, nop(2)])?;
    assert_eq!(enter(&rig.ring, 2, 9, GETEVENTS, NOTHING), 1);
    assert_eq!(order(&mut rig), [0, 1]);
    assert_eq!(enter(&rig.ring, 1, 1, GETEVENTS, NOTHING), 1);
    assert_eq!(order(&mut rig), [2]);
    Ok(())
}

fn entering_waits_only_for_events(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    assert_eq!(enter(&rig.ring, 0, 5, 0, NOTHING), 0);
    assert_eq!(enter(&rig.ring, 0, 0, GETEVENTS, NOTHING), 0);
    push(&mut rig, [nop(0)])?;
    assert_eq!(enter(&rig.ring, 1, 5, 0, NOTHING), 1);
    assert_eq!(order(&mut rig), [0]);
    Ok(())
}

fn a_wait_for_more_than_the_ring_holds_is_cut(bench: &Bench) -> Outcome {
    let mut rig = bench.open(bench.builder(8).cq_entries(8))?;
    push(&mut rig, (0..8).map(nop))?;
    assert_eq!(enter(&rig.ring, 8, u32::MAX, GETEVENTS, NOTHING), 8);
    assert_eq!(enter(&rig.ring, 0, 9, GETEVENTS, NOTHING), 0);
    assert_eq!(order(&mut rig), (0..8).collect::<Vec<_>>());
    Ok(())
}

fn unknown_enter_flags_are_invalid(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    push(&mut rig, [nop(0)])?;
    for bit in 8..32 {
        assert_eq!(enter(&rig.ring, 1, 0, 1 << bit, NOTHING), EINVAL, "bit {bit}");
        assert_eq!(enter(&rig.ring, 1, 1, 1 << bit | GETEVENTS, NOTHING), EINVAL, "bit {bit}");
    }
    assert_eq!(rig.ring.submission().len(), 1, "nothing is submitted");
    assert_eq!(enter(&rig.ring, 1, 1, GETEVENTS, NOTHING), 1);
    Ok(())
}

fn enter_flags_that_change_nothing_are_accepted(bench: &Bench) -> Outcome {
    bench.since(6, 13)?;
    let mut rig = bench.rig(8)?;
    // Those of a ring with a thread; those of a wait, where there is none, with an argument that is not read.
    for flags in [SQ_WAKEUP, SQ_WAIT, SQ_WAKEUP | SQ_WAIT | GETEVENTS, ABS_TIMER, ABS_TIMER | GETEVENTS] {
        push(&mut rig, [nop(flags.into())])?;
        assert_eq!(enter(&rig.ring, 1, 0, flags, NOTHING), 1, "flags {flags:#x}");
        assert_eq!(order(&mut rig), [u64::from(flags)]);
    }
    for flags in [EXT_ARG, EXT_ARG | EXT_ARG_REG, EXT_ARG_REG, EXT_ARG_REG | GETEVENTS] {
        assert_eq!(enter(&rig.ring, 0, 0, flags, NOTHING), 0, "flags {flags:#x}");
        assert_eq!(enter(&rig.ring, 0, 0, flags, None::<&[u8; 3]>), 0, "flags {flags:#x}");
    }
    Ok(())
}

fn a_wait_counts_as_no_iowait_if_asked(bench: &Bench) -> Outcome {
    bench.since(6, 15)?;
    let mut rig = bench.rig(8)?;
    for flags in [NO_IOWAIT, NO_IOWAIT | GETEVENTS] {
        push(&mut rig, [nop(1)])?;
        assert_eq!(enter(&rig.ring, 1, 1, flags, NOTHING), 1);
        assert_eq!(order(&mut rig), [1]);
    }
    Ok(())
}

fn a_disabled_ring_cannot_be_entered(bench: &Bench) -> Outcome {
    let mut rig = bench.open(bench.builder(8).setup_flags(R_DISABLED))?;
    push(&mut rig, [nop(1)])?;
    let disabled = -libc::EBADFD;
    for (to_submit, flags) in [(0, 0), (1, 0), (0, GETEVENTS), (1, GETEVENTS | EXT_ARG)] {
        assert_eq!(enter(&rig.ring, to_submit, 0, flags, NOTHING), disabled, "{to_submit}, flags {flags:#x}");
    }
    assert_eq!(enter(&rig.ring, 1, 0, 1 << 8, NOTHING), EINVAL, "unknown flags come first");
    assert_eq!(register(&rig.ring, REGISTER_ENABLE_RINGS, 8, 0), EINVAL);
    assert_eq!(register(&rig.ring, REGISTER_ENABLE_RINGS, 0, 1), EINVAL);
    assert_eq!(enter(&rig.ring, 0, 0, 0, NOTHING), disabled);
    assert_eq!(register(&rig.ring, REGISTER_ENABLE_RINGS, 0, 0), 0);
    assert_eq!(register(&rig.ring, REGISTER_ENABLE_RINGS, 0, 0), disabled, "it is no more");
    assert_eq!(enter(&rig.ring, 1, 1, GETEVENTS, NOTHING), 1, "what was pushed before");
    assert_eq!(order(&mut rig), [1]);
    rig.put(1, 0, 4096)?;
    rig.expect(1, 0, 4096)?;
    let rig = bench.rig(4)?;
    assert_eq!(register(&rig.ring, REGISTER_ENABLE_RINGS, 0, 0), disabled, "a ring that never was disabled");
    Ok(())
}

fn an_error_of_the_wait_does_not_undo_the_submission(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(8)?;
    let wait = GETEVENTS | EXT_ARG;
    push(&mut rig, [nop(1)])?;
    assert_eq!(enter(&rig.ring, 1, 1, wait, Some(&[0; 23])), 1, "an argument of the wrong length");
    push(&mut rig, [nop(2)])?;
    assert_eq!(enter(&rig.ring, 1, 1, wait, None::<&[u8; 24]>), 1, "no argument");
    push(&mut rig, [nop(3)])?;
    assert_eq!(enter(&rig.ring, 1, 1, wait, Some(&getevents(0, 0, 0, 4096))), 1, "a timespec at a bad address");
    assert_eq!(order(&mut rig), [1, 2, 3]);
    // Alone they are told.
    assert_eq!(enter(&rig.ring, 0, 1, wait, Some(&[0; 23])), EINVAL);
    assert_eq!(enter(&rig.ring, 0, 1, wait, None::<&[u8; 24]>), -libc::EFAULT);
    Ok(())
}

fn a_backlog_is_flushed_for_events_only(bench: &Bench) -> Outcome {
    let mut rig = bench.open(bench.builder(8).cq_entries(8))?;
    for start in [0, 8] {
        push(&mut rig, (start..start + 8).map(nop))?;
        assert_eq!(enter(&rig.ring, 8, 0, 0, NOTHING), 8);
    }
    assert!(rig.ring.submission().cq_overflow());
    // A queue that is not empty is taken without entering the ring.
    let take = |rig: &mut Rig| -> Vec<u64> { rig.ring.completion().map(|done| done.user_data()).collect() };
    assert_eq!(take(&mut rig), (0..8).collect::<Vec<_>>());
    assert_eq!(enter(&rig.ring, 0, 0, 0, NOTHING), 0);
    push(&mut rig, [nop(16)])?;
    assert_eq!(enter(&rig.ring, 1, 0, 0, NOTHING), 1);
    assert_eq!(enter(&rig.ring, 1, 0, GETEVENTS, NOTHING), 0, "told to submit what is not there");
    assert!(rig.ring.submission().cq_overflow(), "none of these flushes");
    assert_eq!(enter(&rig.ring, 0, 0, GETEVENTS, NOTHING), 0);
    assert!(rig.ring.submission().cq_overflow(), "one is still waiting");
    assert_eq!(take(&mut rig), (8..16).collect::<Vec<_>>());
    assert_eq!(enter(&rig.ring, 0, 1, GETEVENTS, NOTHING), 0);
    assert!(!rig.ring.submission().cq_overflow());
    assert_eq!(take(&mut rig), [16]);
    Ok(())
}

fn a_ring_that_is_not_registered_has_no_index(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    push(&mut rig, [nop(1)])?;
    // The face passes the descriptor, which is beyond the table or names a hole in it.
    let refused = enter(&rig.ring, 1, 1, GETEVENTS | REGISTERED_RING, NOTHING);
    assert!([EINVAL, -libc::EBADF].contains(&refused), "{refused}");
    assert_eq!(enter(&rig.ring, 1, 1, GETEVENTS, NOTHING), 1);
    Ok(())
}
