//! The completion mode, changed under way.

use std::time::Duration;

use dmaring::CompletionMode::{Adaptive, Interrupt, Poll};
use dmaring::Error;

use crate::case::{Bench, Case, Outcome, cases};
use crate::support::rig::{Rig, read};

pub(super) const ALL: &[Case] = cases![
    the_mode_changes_while_operations_are_in_flight,
    a_ring_whose_descriptor_is_watched_changes_its_mode,
    an_adaptive_ring_that_was_calm_sleeps_again,
];

/// Reads in flight while the mode changes.
const DEPTH: usize = 8;

/// Kernel rings keep their mode; says whether this is one.
fn keeps_its_mode(rig: &Rig, bench: &Bench) -> bool {
    if bench.is_device() {
        return false;
    }
    let (now, other) = (rig.ring.completion_mode(), if rig.ring.completion_mode() == Poll { Interrupt } else { Poll });
    assert!(rig.ring.set_completion_mode(now).is_ok());
    let error = rig.ring.set_completion_mode(other).expect_err("a kernel ring keeps its mode");
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    assert_eq!(rig.ring.completion_mode(), now);
    true
}

fn submit_reads(rig: &mut Rig) -> Outcome {
    for i in 0..DEPTH {
        let memory = rig.filled(9, 0, 4096);
        rig.push(&read(&memory, i as u64 * 4096))?;
    }
    rig.ring.submit()?;
    Ok(())
}

fn the_mode_changes_while_operations_are_in_flight(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(DEPTH as u32)?;
    if keeps_its_mode(&rig, bench) {
        return Ok(());
    }
    for mode in [Interrupt, Poll, Adaptive, Interrupt, Adaptive, Poll, Poll, Interrupt, Interrupt, Poll] {
        submit_reads(&mut rig)?;
        rig.ring.set_completion_mode(mode)?;
        assert_eq!(rig.ring.completion_mode(), mode);
        assert!(rig.wait(DEPTH)?.iter().all(|done| done.res == 4096), "{mode:?}");
        // And once more without a change, one at a time.
        for _ in 0..3 {
            let memory = rig.plain(4096);
            assert_eq!(rig.one(read(&memory, 0))?, 4096, "{mode:?}");
        }
        assert!(rig.ring.stats().poll_limit_ns == 0 || mode == Adaptive, "only an adaptive ring has a limit");
    }
    Ok(())
}

fn a_ring_whose_descriptor_is_watched_changes_its_mode(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(DEPTH as u32)?;
    // Asking for the descriptor arms it: whatever the mode, it is raised by what ends.
    assert!(!rig.is_readable(Duration::ZERO)?);
    if keeps_its_mode(&rig, bench) {
        return Ok(());
    }
    for mode in [Adaptive, Poll, Interrupt, Poll, Adaptive] {
        rig.ring.set_completion_mode(mode)?;
        submit_reads(&mut rig)?;
        let mut done = 0;
        while done < DEPTH {
            assert!(rig.is_readable(Duration::from_secs(20))?, "never raised: {mode:?}");
            done += rig.ready().len();
        }
        rig.settle()?;
    }
    Ok(())
}

fn an_adaptive_ring_that_was_calm_sleeps_again(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(DEPTH as u32)?;
    if keeps_its_mode(&rig, bench) {
        return Ok(());
    }
    rig.ring.set_completion_mode(Adaptive)?;
    let memory = rig.alloc(64 << 10)?;
    let long = memory.len();
    let short = memory.part(0, 4096);
    for _ in 0..3 {
        // Enough waits for a ring that finds its completions to take the interrupts away.
        for i in 0..400u64 {
            assert_eq!(rig.one(read(&short, i % 64 * 4096))?, 4096);
        }
        // From here on every wait may sleep, and must be woken.
        rig.ring.set_completion_mode(Interrupt)?;
        assert_eq!(rig.one(read(&memory, 0))?, long as i32);
        rig.ring.set_completion_mode(Adaptive)?;
    }
    Ok(())
}
