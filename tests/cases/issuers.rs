//! Rings that one thread submits to (`IORING_SETUP_SINGLE_ISSUER`).

use io_uring::opcode;

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::calls::{
    GETEVENTS, NOTHING, REGISTER_ENABLE_RINGS, REGISTER_PROBE, UNREGISTER_EVENTFD, enter, register,
};
use crate::support::rig::{Rig, read};

pub(super) const ALL: &[Case] = cases![
    another_thread_may_not_submit,
    another_thread_may_not_wait_for_deferred_work,
    whoever_enables_a_ring_is_its_issuer,
    an_ordinary_ring_is_anybodys,
];

const R_DISABLED: u32 = 1 << 6;
const SINGLE_ISSUER: u32 = 1 << 12;
const DEFER_TASKRUN: u32 = 1 << 13;
const EINVAL: i32 = -libc::EINVAL;
const EEXIST: i32 = -libc::EEXIST;
const ENXIO: i32 = -libc::ENXIO;

/// Does something in another thread.
fn elsewhere<T: Send>(rig: &mut Rig, what: impl FnOnce(&mut Rig) -> T + Send) -> Result<T, Stop> {
    let done = std::thread::scope(|scope| scope.spawn(|| what(rig)).join());
    done.map_err(|_| Stop::Fail("the other thread panicked".into()))
}

/// A ring with one NOP that is not submitted yet.
fn ring(bench: &Bench, flags: u32) -> Result<Rig, Stop> {
    let mut rig = bench.open(bench.builder(4).setup_flags(flags))?;
    rig.push(&opcode::Nop::new().build())?;
    Ok(rig)
}

fn enters(rig: &Rig) -> [i32; 4] {
    [(0, 0), (1, 0), (0, GETEVENTS), (1, GETEVENTS)].map(|(count, flags)| enter(&rig.ring, count, 0, flags, NOTHING))
}

/// Two that are refused for their own sake, and one for want of an event descriptor.
fn registers(rig: &Rig) -> [i32; 3] {
    [99, REGISTER_PROBE, UNREGISTER_EVENTFD].map(|opcode| register(&rig.ring, opcode, 0, 0))
}

fn another_thread_may_not_submit(bench: &Bench) -> Outcome {
    let mut rig = ring(bench, SINGLE_ISSUER)?;
    let (entered, registered, unknown) =
        elsewhere(&mut rig, |rig| (enters(rig), registers(rig), enter(&rig.ring, 1, 0, 1 << 8, NOTHING)))?;
    assert_eq!(entered, [0, EEXIST, 0, EEXIST], "submitting nothing is allowed, waiting too");
    assert_eq!(registered, [EINVAL, EEXIST, EEXIST], "an opcode that does not exist is refused first");
    assert_eq!(unknown, EINVAL, "as are unknown flags");
    assert_eq!(registers(&rig), [EINVAL, EINVAL, ENXIO]);
    assert_eq!(enters(&rig), [0, 1, 0, 0]);
    assert_eq!(rig.ready().len(), 1);
    // What its thread has submitted anybody may wait for.
    rig.push(&opcode::Nop::new().build())?;
    assert_eq!(enter(&rig.ring, 1, 0, 0, NOTHING), 1);
    assert_eq!(elsewhere(&mut rig, |rig| (enter(&rig.ring, 0, 1, GETEVENTS, NOTHING), rig.ready().len()))?, (0, 1));
    Ok(())
}

fn another_thread_may_not_wait_for_deferred_work(bench: &Bench) -> Outcome {
    let mut rig = ring(bench, SINGLE_ISSUER | DEFER_TASKRUN)?;
    assert_eq!(elsewhere(&mut rig, |rig| enters(rig))?, [0, EEXIST, EEXIST, EEXIST]);
    assert_eq!(elsewhere(&mut rig, |rig| registers(rig))?, [EINVAL, EEXIST, EEXIST]);
    assert_eq!(enters(&rig), [0, 1, 0, 0]);
    assert_eq!(rig.ready().len(), 1);
    Ok(())
}

fn whoever_enables_a_ring_is_its_issuer(bench: &Bench) -> Outcome {
    for flags in [SINGLE_ISSUER, SINGLE_ISSUER | DEFER_TASKRUN] {
        let mut rig = ring(bench, flags | R_DISABLED)?;
        // Until then it has none, and anybody may register.
        assert_eq!(registers(&rig), [EINVAL, EINVAL, ENXIO]);
        assert_eq!(elsewhere(&mut rig, |rig| registers(rig))?, [EINVAL, EINVAL, ENXIO]);
        assert_eq!(elsewhere(&mut rig, |rig| enters(rig))?, [-libc::EBADFD; 4]);
        let enable = |rig: &mut Rig| (register(&rig.ring, REGISTER_ENABLE_RINGS, 0, 0), enters(rig), rig.ready().len());
        let waited = if flags & DEFER_TASKRUN != 0 { EEXIST } else { 0 };
        assert_eq!(elsewhere(&mut rig, enable)?, (0, [0, 1, 0, 0], 1));
        rig.push(&opcode::Nop::new().build())?;
        assert_eq!(enters(&rig), [0, EEXIST, waited, EEXIST]);
        assert_eq!(registers(&rig), [EINVAL, EEXIST, EEXIST]);
    }
    Ok(())
}

fn an_ordinary_ring_is_anybodys(bench: &Bench) -> Outcome {
    let mut rig = ring(bench, 0)?;
    assert_eq!(elsewhere(&mut rig, |rig| (enters(rig), registers(rig)))?, ([0, 1, 0, 0], [EINVAL, EINVAL, ENXIO]));
    assert_eq!(rig.ready().len(), 1);
    let memory = rig.plain(4096);
    let entry = read(&memory, 0);
    let there = elsewhere(&mut rig, |rig| rig.one(entry).ok())?;
    assert_eq!(there, Some(4096));
    assert_eq!(rig.one(opcode::Nop::new().build())?, 0);
    Ok(())
}
