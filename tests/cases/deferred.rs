//! When completions appear on a ring that defers its work (`IORING_SETUP_DEFER_TASKRUN`), and how a ring says that
//! entering would help (`IORING_SETUP_TASKRUN_FLAG`).

use std::thread;
use std::time::{Duration, Instant};

use crate::case::{Bench, Case, Outcome, cases, fail};
use crate::support::calls::{GETEVENTS, NOTHING, enter};
use crate::support::rig::{Rig, read};
use crate::support::script::{SHORT, nop, sorted};

pub(super) const ALL: &[Case] =
    cases![deferred_completions_appear_when_events_are_asked_for, a_ring_says_that_entering_would_help];

const COOP_TASKRUN: u32 = 1 << 8;
const TASKRUN_FLAG: u32 = 1 << 9;
const DEFERRED: u32 = 1 << 12 | 1 << 13;
const ETIME: i32 = -libc::ETIME;

/// Bounds what hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// How many completions are in the ring, which is neither entered nor asked to advance.
fn seen(rig: &mut Rig) -> usize {
    let (_, _, completions) = rig.ring.split();
    completions.len()
}

/// Waits, outside of the ring, until there is a completion or the ring says that entering would help.
fn until_told(rig: &mut Rig) -> Outcome {
    let start = Instant::now();
    while !rig.ring.submission().taskrun() && seen(rig) == 0 {
        if start.elapsed() > LIMIT {
            return fail("neither a completion nor a word of it");
        }
        std::hint::spin_loop();
    }
    Ok(())
}

fn deferred_completions_appear_when_events_are_asked_for(bench: &Bench) -> Outcome {
    let mut rig = bench.open(bench.builder(8).setup_flags(DEFERRED | TASKRUN_FLAG))?;
    let memory = rig.plain(4096);
    for (entry, res) in [(read(&memory, 0), 4096), (rig.timeout(SHORT), ETIME)] {
        rig.push(&entry.user_data(1))?;
        assert_eq!(enter(&rig.ring, 1, 0, 0, NOTHING), 1);
        until_told(&mut rig)?;
        // It has ended by now; however long that takes, nothing is to be seen of it.
        thread::sleep(5 * SHORT);
        assert_eq!(seen(&mut rig), 0);
        assert_eq!(enter(&rig.ring, 0, 0, 0, NOTHING), 0);
        assert_eq!(seen(&mut rig), 0, "entered, but not for events");
        assert!(rig.ring.submission().taskrun());
        assert_eq!(enter(&rig.ring, 0, 1, GETEVENTS, NOTHING), 0);
        assert_eq!(seen(&mut rig), 1);
        assert!(!rig.ring.submission().taskrun(), "no work is left");
        assert_eq!(rig.take(1)?, [(1, res)]);
    }
    // What ends while it is submitted is there at once, and does not bring the rest along.
    rig.push(&read(&memory, 0).user_data(2))?;
    assert_eq!(enter(&rig.ring, 1, 0, 0, NOTHING), 1);
    thread::sleep(5 * SHORT);
    rig.push(&nop().user_data(3))?;
    assert_eq!(enter(&rig.ring, 1, 0, 0, NOTHING), 1);
    assert_eq!(seen(&mut rig), 1);
    assert_eq!(enter(&rig.ring, 0, 2, GETEVENTS, NOTHING), 0);
    assert_eq!(sorted(rig.take(2)?), [(2, 4096), (3, 0)]);
    rig.works()
}

fn a_ring_says_that_entering_would_help(bench: &Bench) -> Outcome {
    for flags in [COOP_TASKRUN, DEFERRED, COOP_TASKRUN | DEFERRED] {
        let mut rig = bench.open(bench.builder(8).setup_flags(flags | TASKRUN_FLAG))?;
        let memory = rig.plain(4096);
        assert!(!rig.ring.submission().taskrun());
        for round in 0..20 {
            rig.push(&read(&memory, 0).user_data(round))?;
            assert_eq!(enter(&rig.ring, 1, 0, 0, NOTHING), 1);
            until_told(&mut rig)?;
            assert_eq!(enter(&rig.ring, 0, 1, GETEVENTS, NOTHING), 0);
            assert_eq!(rig.take(1)?, [(round, 4096)]);
            assert!(!rig.ring.submission().taskrun(), "round {round}");
        }
    }
    Ok(())
}
