//! Entries of all kinds, in batches: chains, drains, timeouts, provided buffers, commands.

use std::time::Duration;

use dmaring::abi::flags::{
    IORING_SETUP_COOP_TASKRUN, IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_IOPOLL, IORING_SETUP_SINGLE_ISSUER,
};

use super::lab::{Lab, Outcome, Slot, Target, failed};
use super::program::Program;
use crate::support::pattern::Random;
use crate::support::rig::Completion;

#[derive(Debug)]
pub(super) struct Entries;

impl Target for Entries {
    fn setup_flags(&self, random: &mut Random) -> u32 {
        match random.below(8) {
            0 => IORING_SETUP_IOPOLL,
            1 => IORING_SETUP_COOP_TASKRUN,
            2 => IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
            _ => 0,
        }
    }

    fn run<S: Slot, C: Completion>(&self, lab: &mut Lab<S, C>, program: &mut Program<'_>) -> Outcome {
        program.endless = program.one_in(2);
        program.silent = program.one_in(3);
        lab.register(program)?;
        for _ in 0..=program.below(12) {
            let count = program.below(40);
            lab.push(program, count);
            match program.below(4) {
                0 => {
                    let limit = Duration::from_micros(program.below(2000));
                    let count = program.below(8) as u32;
                    lab.wait(program, count, limit);
                }
                // Nothing lasts, so it ends by itself.
                1 if !program.endless && !lab.armed => {
                    let count = program.below(8) as usize;
                    lab.rig.ring.submit_and_wait(count).map_err(failed("submit_and_wait"))?;
                }
                _ => {
                    lab.rig.ring.submit().map_err(failed("submit"))?;
                }
            }
            if program.one_in(3) {
                program.refill();
            }
            // Otherwise the completion ring may run over.
            if program.one_in(2) {
                lab.take(program)?;
            }
        }
        lab.quiesce(program)?;
        if program.silent {
            program.ledger.forgive_all();
        }
        program.ledger.check()
    }
}
