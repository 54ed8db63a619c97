//! From cases to trials: on the host, and in guests.
//!
//! ```text
//! main ── trials: every case on every backend
//!   ├─ kernel_loop, model_*: run here
//!   └─ the others: wait for a report of their guest ── boot ── this executable as `inside`
//!                                                                └─ one process a case
//! ```

mod boot;
#[cfg(test)]
mod document;
mod inside;
mod machine;
mod report;
mod run;
mod skips;
mod times;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use self::machine::Suite;
use self::report::{Report, Status};

/// First argument that makes this executable the runner in a guest.
const INSIDE: &str = "--dmaring-inside";

/// Lists and runs trials as `cargo test` asks, or, in a guest, runs the cases it was sent for.
pub fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some(INSIDE) => return inside::main(args),
        Some(crate::devices::ARGUMENT) => return crate::devices::helper(args),
        _ => {}
    }
    let arguments = Arguments::from_args();
    run::catch_panics();
    let trials: Vec<Trial> = machine::suites().iter().flat_map(trials).collect();
    for suite in machine::suites() {
        if let Some(machine) = suite.machine {
            let chosen = trials.iter().filter(|trial| trial.name().ends_with(&format!("::{}", suite.backend)));
            let chosen = chosen.filter(|trial| !arguments.is_filtered_out(trial) && !arguments.is_ignored(trial));
            boot::choose(machine, chosen.map(|trial| trial.name().to_owned()));
        }
    }
    // It panics when nobody reads what it prints any more.
    let conclusion = catch_unwind(AssertUnwindSafe(|| libtest_mimic::run(&arguments, trials)));
    let ended_well = arguments.list || boot::finish();
    skips::print();
    times::print();
    match conclusion {
        Ok(conclusion) if ended_well => conclusion.exit_code(),
        _ => ExitCode::from(101),
    }
}

fn trials(suite: &Suite) -> Vec<Trial> {
    let trial = |case: crate::case::Case, suite: Suite| {
        let name = format!("{}::{}", case.name, suite.backend);
        let own = name.clone();
        Trial::ignorable_test(name, move || {
            let report = match suite.machine {
                None if suite.backend.starts_with("model_") => run::on_model(&case, suite.backend),
                None => run::on_loop_device(&case, suite.backend),
                Some(machine) => boot::report(machine, &own),
            };
            times::note(&own, report.millis);
            conclude(&own, report)
        })
    };
    suite.cases().map(|case| trial(case, suite.clone())).collect()
}

/// A report as libtest-mimic wants it. A skip that is not on the committed list is a failure.
fn conclude(name: &str, report: Report) -> Result<Completion, Failed> {
    match report.status {
        Status::Passed => Ok(Completion::Completed),
        Status::Failed => Err(report.message.into()),
        Status::Skipped if skips::allowed(name, &report.message) => {
            skips::note(name, &report.message);
            Ok(Completion::ignored_with(report.message))
        }
        Status::Skipped => Err(format!("skipped, and tests/skips.txt does not list it: {}", report.message).into()),
    }
}
