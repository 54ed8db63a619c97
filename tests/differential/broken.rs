//! Engines that are broken on purpose. Each must be found out.
//!
//! They exist with the feature `broken` only.

use std::sync::Arc;

use dmaring::model::{Model, ModelConfig};
use dmaring::{Broken, CompletionMode, Device};

use super::generate::generate;
use super::pair::{Pair, Verdict};
use super::places::{self, BYTES, Place};
use super::side::Side;
use crate::case::{Bench, Case, Outcome, cases, fail};

pub(crate) const ALL: &[Case] = cases![
    an_engine_whose_links_do_not_break_is_found_out,
    an_engine_that_loses_overflowing_completions_is_found_out,
    an_engine_with_wrong_short_counts_is_found_out,
    an_engine_whose_timeouts_count_wrongly_is_found_out,
    an_engine_that_skips_drains_is_found_out,
];

const SEED: u64 = 0xb40c;
/// As many as the suite runs of an engine that is not broken.
const PROGRAMS: u64 = 300;
/// Entries of the smallest program that shows any of them, at most.
const SMALL: usize = 12;

/// Fails unless a program differs, and still does when it has shrunk to a few entries.
fn found_out(bench: &Bench, broken: Broken) -> Outcome {
    let place = Place::default();
    let (kernel, _disk) = places::kernel_side(&place)?;
    let os = |reason| dmaring::Error::Os { call: "memory of the model", reason };
    let device = Device::on(Arc::new(Model::stepped("model:", ModelConfig::ram(BYTES).map_err(os)?)))?;
    let mode = CompletionMode::Poll;
    let other = Bench { backend: bench.backend, name: device.name(), model: Some(device), mode };
    let mut pair = Pair::new(kernel, vec![Side::new(other)?.broken(broken)])?;
    for seed in SEED..SEED + PROGRAMS {
        let program = generate(seed, place.limits(place.features()));
        if let Verdict::Differs(found) = pair.judge(&program)? {
            let (small, _) = pair.shrink(&program, found);
            let count = small.entries().count();
            return if count <= SMALL { Ok(()) } else { fail(format!("{count} entries are left:\n{small}")) };
        }
    }
    fail(format!("{broken:?}: {PROGRAMS} programs do not show it"))
}

fn an_engine_whose_links_do_not_break_is_found_out(bench: &Bench) -> Outcome {
    found_out(bench, Broken::Link)
}

fn an_engine_that_loses_overflowing_completions_is_found_out(bench: &Bench) -> Outcome {
    found_out(bench, Broken::Overflow)
}

fn an_engine_with_wrong_short_counts_is_found_out(bench: &Bench) -> Outcome {
    found_out(bench, Broken::ShortCount)
}

fn an_engine_whose_timeouts_count_wrongly_is_found_out(bench: &Bench) -> Outcome {
    found_out(bench, Broken::TimeoutCount)
}

fn an_engine_that_skips_drains_is_found_out(bench: &Bench) -> Outcome {
    found_out(bench, Broken::Drain)
}
