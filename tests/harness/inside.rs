//! The runner in a guest: each case in a process of its own.

use std::process::ExitCode;
use std::time::Duration;

use super::machine::{Machine, suites};
use super::report::Report;
use super::run::{self, say};
use crate::case::{Bench, Case, Stop};
use crate::support::isolate::isolate;

/// Ends a case that hangs; the device's own limit is 30 s.
const CASE_LIMIT: Duration = Duration::from_secs(150);
/// What a report shows of standard error, in bytes.
const TAIL_BYTES: usize = 4000;

/// Arguments: the machine, then the trials.
pub(super) fn main(mut args: impl Iterator<Item = String>) -> ExitCode {
    let Some(machine) = args.next().and_then(|name| Machine::from_name(&name)) else {
        return ExitCode::from(2);
    };
    run::catch_panics();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .init();
    if let Err(Stop::Fail(reason) | Stop::Skip(reason)) = machine.set_up() {
        for name in args {
            say(&Report::failed(&name, format!("the guest could not be set up: {reason}")).line());
        }
        return ExitCode::FAILURE;
    }
    for name in args {
        say(&one(machine, &name).line());
    }
    ExitCode::SUCCESS
}

fn one(machine: Machine, name: &str) -> Report {
    let Some((case, bench)) = find(machine, name) else {
        return Report::failed(name, "there is no such case in this guest");
    };
    let isolated = isolate(CASE_LIMIT, || run::run(&case, &bench).json());
    let isolated = match isolated {
        Ok(isolated) => isolated,
        Err(error) => return Report::failed(name, format!("no process for the case: {error}")),
    };
    let report = isolated.answer.as_deref().and_then(Report::from_json);
    let mut report = report.unwrap_or_else(|| Report::failed(name, isolated.death));
    if report.status == super::report::Status::Failed && !isolated.stderr.is_empty() {
        let text = isolated.stderr;
        let cut = text.ceil_char_boundary(text.len().saturating_sub(TAIL_BYTES));
        report.message += &format!("\nit wrote:\n{}", &text[cut..]);
    }
    report
}

fn find(machine: Machine, name: &str) -> Option<(Case, Bench)> {
    let (case, backend) = name.rsplit_once("::")?;
    let suite = suites().into_iter().find(|s| s.machine == Some(machine) && s.backend == backend)?;
    let case = suite.cases().find(|known| known.name == case)?;
    match machine.bench(backend) {
        Ok(bench) => Some((case, bench)),
        Err(_) => None,
    }
}
