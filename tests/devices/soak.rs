//! A bounded soak; the program `soak` does the long one.

use dmaring::CompletionMode;

use super::zoo::{self, MANY, PLAIN, SHORT};
use crate::case::{Bench, Case, Outcome, cases};
use crate::soak::soak;

pub(super) const ALL: &[Case] = cases![
    a_soak_by_polling_verifies_every_byte,
    a_soak_by_interrupt_verifies_every_byte,
    a_soak_of_4096_byte_blocks_verifies_every_byte,
    a_soak_of_short_commands_verifies_every_byte,
];

/// Three quarters of 128 MiB go to the first two.
const BYTES: u64 = 48 << 20;

fn soaked(index: usize, nsid: u32, mode: CompletionMode, bytes: u64) -> Outcome {
    zoo::bind(index)?;
    let soaked = soak(&zoo::name(index, nsid), mode, bytes, 7 + index as u64)?;
    assert!(soaked.bytes >= bytes && soaked.operations > 0 && soaked.bounced_bytes > 0, "{soaked:?}");
    Ok(())
}

fn a_soak_by_polling_verifies_every_byte(_: &Bench) -> Outcome {
    soaked(PLAIN, 1, CompletionMode::Poll, BYTES)
}

fn a_soak_by_interrupt_verifies_every_byte(_: &Bench) -> Outcome {
    soaked(PLAIN, 1, CompletionMode::Interrupt, BYTES)
}

fn a_soak_of_4096_byte_blocks_verifies_every_byte(_: &Bench) -> Outcome {
    soaked(MANY, 2, CompletionMode::Poll, BYTES / 3)
}

fn a_soak_of_short_commands_verifies_every_byte(_: &Bench) -> Outcome {
    soaked(SHORT, 1, CompletionMode::Poll, BYTES / 3)
}
