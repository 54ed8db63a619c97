//! A bounded run in the test suite; the program `differential` does longer ones.

use super::errnos::malformed_arguments_get_the_same_errno;
use super::generate::generate;
use super::pair::{Pair, Verdict};
use super::places;
use crate::case::{Bench, Case, Outcome, cases, fail};

pub(crate) const ALL: &[&[Case]] = &[cases![drawn_programs_end_alike, malformed_arguments_get_the_same_errno]];

/// On the model.
#[cfg(not(feature = "broken"))]
pub(crate) const ON_MODEL: &[&[Case]] = ALL;
/// On the model.
#[cfg(feature = "broken")]
pub(crate) const ON_MODEL: &[&[Case]] = &[ALL[0], super::broken::ALL];

/// Always the same programs: the suite is not where new ones are found.
const SEED: u64 = 2000;
const PROGRAMS: u64 = 300;

fn drawn_programs_end_alike(bench: &Bench) -> Outcome {
    let (place, kernel, other, _disk) = places::of_bench(bench)?;
    let features = place.features();
    let mut pair = Pair::new(kernel, vec![other])?;
    for seed in SEED..SEED + PROGRAMS {
        let program = generate(seed, place.limits(features));
        if let Verdict::Differs(found) = pair.judge(&program)? {
            let (small, found) = pair.shrink(&program, found);
            return fail(format!("seed {seed:#x} differs: {}\n{small}", found.join("\n")));
        }
    }
    let complaints = pair.histogram.complaints(features);
    if complaints.is_empty() { Ok(()) } else { fail(format!("{}\n{}", complaints.join("\n"), pair.histogram)) }
}
