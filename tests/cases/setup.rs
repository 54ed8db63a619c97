//! Flags of `io_uring_setup`, and what it answers.

use dmaring::Error;

use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::rig::Rig;
use io_uring::opcode;

pub(super) const ALL: &[Case] = cases![
    flags_are_refused_together_as_the_kernel_does,
    unknown_setup_flags_are_invalid,
    the_features_are_those_of_6_18,
    the_setup_answers_flags_and_sizes,
    sizes_are_checked,
    rings_of_all_flags_that_change_nothing_work,
    a_ring_that_submits_all_goes_on_after_errors,
    a_ring_that_defers_its_work_completes_when_waited_for,
];

const IOPOLL: u32 = 1;
const SQ_AFF: u32 = 1 << 2;
const CQSIZE: u32 = 1 << 3;
const CLAMP: u32 = 1 << 4;
const R_DISABLED: u32 = 1 << 6;
const SUBMIT_ALL: u32 = 1 << 7;
const COOP_TASKRUN: u32 = 1 << 8;
const TASKRUN_FLAG: u32 = 1 << 9;
const SQE128: u32 = 1 << 10;
const CQE32: u32 = 1 << 11;
const SINGLE_ISSUER: u32 = 1 << 12;
const DEFER_TASKRUN: u32 = 1 << 13;
const NO_MMAP: u32 = 1 << 14;
const REGISTERED_FD_ONLY: u32 = 1 << 15;
const NO_SQARRAY: u32 = 1 << 16;
const HYBRID_IOPOLL: u32 = 1 << 17;
const CQE_MIXED: u32 = 1 << 18;

/// SQPOLL and ATTACH_WQ are other cases' matter.
const FLAGS: [u32; 17] = [
    IOPOLL,
    SQ_AFF,
    CQSIZE,
    CLAMP,
    R_DISABLED,
    SUBMIT_ALL,
    COOP_TASKRUN,
    TASKRUN_FLAG,
    SQE128,
    CQE32,
    SINGLE_ISSUER,
    DEFER_TASKRUN,
    NO_MMAP,
    REGISTERED_FD_ONLY,
    NO_SQARRAY,
    HYBRID_IOPOLL,
    CQE_MIXED,
];

/// What the kernel says to flags without SQPOLL, or 0: `io_uring_sanitise_params`, then `io_allocate_scq_urings`,
/// then `io_sq_offload_create`.
fn verdict(flags: u32) -> i32 {
    let has = |flag: u32| flags & flag != 0;
    let known = FLAGS.iter().fold(0, |all, flag| all | flag);
    let refused = has(!known)
        || has(REGISTERED_FD_ONLY) && !has(NO_MMAP)
        || has(TASKRUN_FLAG) && !has(COOP_TASKRUN | DEFER_TASKRUN)
        || has(HYBRID_IOPOLL) && !has(IOPOLL)
        || has(DEFER_TASKRUN) && !has(SINGLE_ISSUER)
        || has(CQE32) && has(CQE_MIXED);
    match () {
        () if refused => libc::EINVAL,
        // No memory is given for the rings.
        () if has(NO_MMAP) => libc::EFAULT,
        () if has(SQ_AFF) => libc::EINVAL,
        () => 0,
    }
}

/// The errno of opening a ring with `flags`, or 0.
fn open(bench: &Bench, flags: u32) -> i32 {
    let builder = bench.builder(8).setup_flags(flags).sq_array(flags & NO_SQARRAY == 0);
    let builder = if flags & CQSIZE != 0 { builder.cq_entries(32) } else { builder };
    let errno = |result: Result<(), Error>| result.err().map_or(0, |error| error.errno());
    match (flags & SQE128 != 0, flags & CQE32 != 0) {
        (false, false) => errno(bench.ring(builder).map(drop)),
        (true, false) => errno(bench.ring(builder.sqe128()).map(drop)),
        (false, true) => errno(bench.ring(builder.cqe32()).map(drop)),
        (true, true) => errno(bench.ring(builder.sqe128().cqe32()).map(drop)),
    }
}

fn flags_are_refused_together_as_the_kernel_does(bench: &Bench) -> Outcome {
    bench.since(6, 18)?;
    let unknown = [1 << 19, 1 << 20];
    let flags: Vec<u32> = FLAGS.into_iter().chain(unknown).collect();
    let mut wrong = Vec::new();
    for (i, first) in flags.iter().enumerate() {
        for (j, second) in flags.iter().enumerate().skip(i) {
            // Of the flag alone, with another, and with two others.
            for third in &flags[j..] {
                let together = first | second | third;
                // A ring on a device is more to make: those of three flags are only made where they are refused.
                if bench.is_device() && third != second && verdict(together) == 0 {
                    continue;
                }
                let (found, expected) = (open(bench, together), verdict(together));
                if found != expected {
                    wrong.push(format!("{together:#x}: {found}, expected {expected}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} combinations: {:?}", wrong.len(), &wrong[..wrong.len().min(8)]);
    let all = FLAGS.iter().fold(0, |all, flag| all | flag) & !(NO_MMAP | REGISTERED_FD_ONLY | SQ_AFF);
    for flags in [all & !CQE32, all & !CQE_MIXED] {
        assert_eq!(open(bench, flags), 0, "all that go together");
    }
    Ok(())
}

fn unknown_setup_flags_are_invalid(bench: &Bench) -> Outcome {
    for bit in 21..32 {
        assert_eq!(open(bench, 1 << bit), libc::EINVAL, "bit {bit}");
        assert_eq!(open(bench, 1 << bit | NO_MMAP), libc::EINVAL, "bit {bit} comes before memory");
    }
    Ok(())
}

fn the_features_are_those_of_6_18(bench: &Bench) -> Outcome {
    bench.since(6, 18)?;
    let features = bench.rig(4)?.ring.params().features;
    let all = (1 << 18) - 1;
    if bench.is_device() {
        // Not CUR_PERSONALITY, FAST_POLL, POLL_32BITS, SQPOLL_NONFIXED, NATIVE_WORKERS, RECVSEND_BUNDLE, which
        // come with what they are about, nor RW_ATTR: these namespaces have no protection information.
        let missing = 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 9 | 1 << 14 | 1 << 16;
        assert_eq!(features, all & !missing, "{features:#x}");
    } else {
        assert_eq!(features & all, all, "{features:#x}");
    }
    Ok(())
}

fn the_setup_answers_flags_and_sizes(bench: &Bench) -> Outcome {
    let params = |builder| -> Result<_, Stop> {
        Ok(bench.ring::<io_uring::squeue::Entry, io_uring::cqueue::Entry>(builder)?.params())
    };
    let plain = params(bench.builder(5).sq_array(true))?;
    assert_eq!((plain.flags, plain.sq_entries, plain.cq_entries), (0, 8, 16));
    let flags = SUBMIT_ALL | COOP_TASKRUN | TASKRUN_FLAG | SINGLE_ISSUER;
    let some = params(bench.builder(8).sq_array(true).cq_entries(33).setup_flags(flags))?;
    assert_eq!((some.flags, some.sq_entries, some.cq_entries), (flags | CQSIZE, 8, 64));
    assert_eq!(some.features, plain.features);
    let clamped = params(bench.builder(40_000).cq_entries(100_000).setup_flags(CLAMP))?;
    assert_eq!((clamped.sq_entries, clamped.cq_entries), (32768, 65536));
    assert_eq!(clamped.flags & !NO_SQARRAY, CLAMP | CQSIZE);
    Ok(())
}

fn sizes_are_checked(bench: &Bench) -> Outcome {
    let errno = |entries, cq_entries, flags| {
        let builder = bench.builder(entries).setup_flags(flags);
        let builder = if flags & CQSIZE != 0 { builder.cq_entries(cq_entries) } else { builder };
        bench.ring(builder).map(drop).err().map_or(0, |error| error.errno())
    };
    for (entries, cq_entries, flags) in [
        (0, 0, 0),
        (0, 8, CLAMP | CQSIZE),
        (32769, 0, 0),
        (8, 0, CQSIZE),
        (8, 0, CQSIZE | CLAMP),
        (8, 4, CQSIZE),
        (5, 5, CQSIZE | 1 << 21),
        (8, 65537, CQSIZE),
    ] {
        assert_eq!(errno(entries, cq_entries, flags), libc::EINVAL, "{entries}, {cq_entries}, {flags:#x}");
    }
    // Both are rounded up before they are compared.
    for (entries, cq_entries, flags) in [(5, 5, CQSIZE), (1, 1, CQSIZE), (8, 9, CQSIZE)] {
        assert_eq!(errno(entries, cq_entries, flags), 0, "{entries}, {cq_entries}, {flags:#x}");
    }
    Ok(())
}

fn exercise(rig: &mut Rig) -> Outcome {
    for seed in 0..4 {
        rig.put(seed, 4096 * seed, 4096)?;
        rig.expect(seed, 4096 * seed, 4096)?;
        assert_eq!(rig.one(opcode::Nop::new().build())?, 0);
    }
    Ok(())
}

fn rings_of_all_flags_that_change_nothing_work(bench: &Bench) -> Outcome {
    let deferred = SINGLE_ISSUER | DEFER_TASKRUN;
    for flags in [
        SUBMIT_ALL,
        COOP_TASKRUN,
        COOP_TASKRUN | TASKRUN_FLAG,
        SINGLE_ISSUER,
        deferred,
        deferred | TASKRUN_FLAG,
        deferred | TASKRUN_FLAG | COOP_TASKRUN | SUBMIT_ALL | CLAMP,
    ] {
        for sq_array in [false, true] {
            let builder = bench.builder(4).setup_flags(flags).sq_array(sq_array);
            exercise(&mut bench.open(builder)?)?;
        }
    }
    Ok(())
}

fn a_ring_that_submits_all_goes_on_after_errors(bench: &Bench) -> Outcome {
    let mut rig = bench.open(bench.builder(8).setup_flags(SUBMIT_ALL))?;
    let bad = crate::support::raw::edit(opcode::Nop::new().build(), |bytes| bytes[0] = 200);
    for i in 0..8 {
        let entry = if i % 2 == 0 { bad.clone() } else { opcode::Nop::new().build() };
        rig.push(&entry.user_data(i))?;
    }
    assert_eq!(rig.ring.submit()?, 8);
    let mut done = rig.wait(8)?;
    done.sort_by_key(|done| done.user_data);
    for (i, done) in (0..).zip(done) {
        assert_eq!((done.user_data, done.res), (i, if i % 2 == 0 { -libc::EINVAL } else { 0 }));
    }
    Ok(())
}

fn a_ring_that_defers_its_work_completes_when_waited_for(bench: &Bench) -> Outcome {
    let mut rig = bench.open(bench.builder(8).setup_flags(SINGLE_ISSUER | DEFER_TASKRUN | TASKRUN_FLAG))?;
    let memory = rig.filled(1, 0, 8 * 4096);
    for i in 0..8 {
        let part = memory.part(i * 4096, 4096);
        rig.push(&crate::support::rig::write(&part, 4096 * i as u64).user_data(i as u64))?;
    }
    assert_eq!(rig.ring.submit_and_wait(8)?, 8);
    let done = rig.ready();
    assert_eq!(done.len(), 8, "all that was waited for is there");
    assert!(done.iter().all(|done| (done.res, done.flags) == (4096, 0)), "{done:?}");
    assert!(!rig.ring.submission().taskrun(), "and no work is left");
    rig.expect(1, 0, 8 * 4096)
}
