//! `io_uring_enter(2)`: random flags and arguments. Waits end: whatever an argument says of time, it says soon.

use std::time::Duration;

use dmaring::abi::flags::{IORING_SETUP_IOPOLL, IORING_SETUP_R_DISABLED, IORING_SETUP_SINGLE_ISSUER};

use super::lab::{Lab, Outcome, Slot, Target};
use super::ledger::is_errno;
use super::program::Program;
use crate::support::calls::low;
use crate::support::calls::{
    self, ABS_TIMER, EXT_ARG, EXT_ARG_REG, GETEVENTS, NO_IOWAIT, NOTHING, REGISTERED_RING, fields, getevents, reg_wait,
};
use crate::support::pattern::Random;
use crate::support::rig::Completion;

/// Offsets into the region of waits, as addresses: where arguments stand, and beyond.
const OFFSETS: [u64; 4] = [65536, 65600, 65540, 131_072];

#[derive(Debug)]
pub(super) struct Enter;

impl Target for Enter {
    fn setup_flags(&self, random: &mut Random) -> u32 {
        match random.below(4) {
            0 => IORING_SETUP_R_DISABLED,
            1 => IORING_SETUP_SINGLE_ISSUER,
            2 => IORING_SETUP_IOPOLL,
            _ => 0,
        }
    }

    fn run<S: Slot, C: Completion>(&self, lab: &mut Lab<S, C>, program: &mut Program<'_>) -> Outcome {
        let disabled = lab.rig.ring.params().flags & IORING_SETUP_R_DISABLED != 0;
        lab.register(program)?;
        if disabled {
            region(lab, program)?;
        }
        let enables = program.below(6);
        for step in 0..=program.below(25) {
            if disabled && step == enables {
                calls::register(&lab.rig.ring, calls::REGISTER_ENABLE_RINGS, 0, 0);
            }
            if program.one_in(2) {
                let count = program.below(10);
                lab.push(program, count);
            }
            let answer = enter(lab, program);
            if answer < 0 && !is_errno(-answer) {
                return Err(format!("enter answers {answer}, which the kernel does not"));
            }
            if program.one_in(2) {
                lab.take(program)?;
            }
        }
        if disabled {
            calls::register(&lab.rig.ring, calls::REGISTER_ENABLE_RINGS, 0, 0);
        }
        lab.quiesce(program)?;
        program.ledger.check()
    }
}

/// Memory for arguments of waits: of the engine, whose offsets begin at 0, so that they can be 65536 and more.
fn region<S: Slot, C: Completion>(lab: &Lab<S, C>, program: &mut Program<'_>) -> Outcome {
    let (first, len) = program.arena.tables();
    let desc = fields::<64>(&[&first.to_ne_bytes(), &len.to_ne_bytes(), &1u64.to_ne_bytes(), &[0; 40]]);
    let own = fields::<64>(&[&[0; 8], &(1u64 << 17).to_ne_bytes(), &[0; 48]]);
    // The tables are read-only, so they cannot be had; memory of the engine's can.
    for desc in [desc, own] {
        let desc = program.arena.argument(&desc);
        let argument = fields::<32>(&[&desc.to_ne_bytes(), &1u64.to_ne_bytes(), &[0; 16]]);
        let argument = program.arena.argument(&argument);
        let answer = calls::register(&lab.rig.ring, calls::REGISTER_MEM_REGION, argument, 1);
        if answer < 0 && !is_errno(-answer) {
            return Err(format!("registering a region: {answer}"));
        }
    }
    Ok(())
}

fn enter<S: Slot, C: Completion>(lab: &mut Lab<S, C>, program: &mut Program<'_>) -> i32 {
    let submit = program.pick(&[0, 1, 2, 7, 1000, u32::MAX]);
    let want = program.pick(&[0, 1, 1, 2, 8, u32::MAX]);
    let mut flags = 0;
    for flag in [GETEVENTS, GETEVENTS, 2, 4, REGISTERED_RING, ABS_TIMER, NO_IOWAIT] {
        if program.one_in(if flag == GETEVENTS { 2 } else { 8 }) {
            flags |= flag;
        }
    }
    if program.one_in(20) {
        flags |= 1 << (8 + program.below(24));
    }
    // A wait without a limit, where other rings can reach this one, has no end.
    let bounded = lab.armed || program.one_in(2);
    let ring = &lab.rig.ring;
    // As in the kernel, one without a limit waits for what never comes.
    let want_at_last = if flags & GETEVENTS != 0 { 0 } else { want };
    if !bounded {
        let want = want_at_last;
        return match program.below(4) {
            0 => {
                let mask = program.word().to_ne_bytes();
                calls::enter(ring, submit, want, flags, Some(&mask))
            }
            1 => calls::enter(ring, submit, want, flags, Some(&[0u8; 7])),
            2 => calls::enter(ring, submit, want, flags, None::<&[u8; 8]>),
            _ => calls::enter(ring, submit, want, flags, NOTHING),
        };
    }
    flags |= EXT_ARG;
    let time = time(program, flags & ABS_TIMER != 0);
    let (mask, mask_len) = match program.below(4) {
        0 => (program.arena.argument(&[0xff; 8]), program.pick(&[8, 8, 4, 0])),
        1 => (program.bad_address(), 8),
        _ => (0, program.pick(&[0, 8])),
    };
    let least = program.pick(&[0, 0, 1, 500, 2000]);
    match program.below(6) {
        // What stands there is zeroes: no limit.
        0 if !lab.armed => {
            calls::enter(ring, submit, want_at_last, flags | EXT_ARG_REG, Some(low(program.pick(&OFFSETS) as usize)))
        }
        1 => {
            let wait = reg_wait((0, 1000), least, program.below(3) as u32, (mask, mask_len));
            // Its address is far beyond any region.
            calls::enter(ring, submit, want, flags | EXT_ARG_REG, Some(&wait))
        }
        2 => calls::enter(ring, submit, want, flags, Some(&[0u8; 23])),
        _ => calls::enter(ring, submit, want, flags, Some(&getevents(mask, mask_len, least, time))),
    }
}

/// The address of a time that comes soon, or is refused.
fn time(program: &mut Program<'_>, absolute: bool) -> u64 {
    if program.one_in(8) {
        return program.bad_address() | 1 << 60;
    }
    let soon = Duration::from_micros(program.below(2000));
    let time = if absolute {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map(Duration::from);
        now.unwrap_or_default() + soon
    } else {
        soon
    };
    let (seconds, nanos) = (time.as_secs() as i64, i64::from(time.subsec_nanos()));
    let seconds = if program.one_in(10) { -1 } else { seconds };
    program.arena.argument(&[seconds, nanos].map(i64::to_ne_bytes).concat())
}
