//! `dmaring bench`: one job on one device.

mod hot;
pub mod places;
mod progress;
pub mod session;
pub mod tally;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;

use crate::guard;
use crate::interrupt::Interrupt;
use crate::job::{Completion, Job, JobArgs, Limit, RegionArgs};
use crate::machine::Machine;
use crate::output::{self, JsonSink};
use crate::plan::Plan;
use crate::report::{Checked, Report, Run};
use crate::table;
use crate::target::Target;
use crate::verify::Verified;

use progress::Progress;
use session::Session;

const DEFAULT_TIME: Duration = Duration::from_secs(5);

/// `dmaring bench`.
#[derive(Debug, Args)]
pub struct BenchCommand {
    /// What to run on: pci:ADDRESS[/NAMESPACE], model:SIZE, or the path of a file or block device
    device: String,
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    region: RegionArgs,
    /// How completions are learnt of [default: poll on pci:, interrupt on a path]
    #[arg(long, value_name = "poll|interrupt|adaptive", hide_possible_values = true)]
    completion: Option<Completion>,
    /// Take the kernel's disk if a pci: device cannot be had
    #[arg(long)]
    fallback: bool,
    /// Writes carry a pattern, which is read back and compared; a job that only reads compares with
    /// what an earlier one with the same --seed has written
    #[arg(long)]
    verify: bool,
    /// Write even if the device carries a partition table, a file system or the like
    #[arg(long)]
    force: bool,
    /// Write the figures as JSON; - is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Everything that was asked for, before any device is looked at.
struct Request {
    device: String,
    job: Job,
    region: RegionArgs,
    completion: Option<Completion>,
    fallback: bool,
    verify: bool,
    /// Neither a time nor a number was given.
    open_ended: bool,
    force: bool,
}

impl BenchCommand {
    /// Runs the job; the exit status tells whether all I/O succeeded and all data was right.
    ///
    /// # Errors
    /// Whatever kept it from running.
    pub fn run(self, command_line: String) -> anyhow::Result<ExitCode> {
        let open_ended = self.job.ios.is_none() && self.job.runtime.is_none();
        let request = Request {
            job: self.job.resolve(DEFAULT_TIME)?,
            device: self.device,
            region: self.region,
            completion: self.completion,
            fallback: self.fallback,
            verify: self.verify,
            open_ended,
            force: self.force,
        };
        let interrupt = Interrupt::catch()?;
        let target = Target::open(&request.device, request.fallback)?;
        let extent = guard::extent(&target)?;
        let mut plan = Plan::new(request.job, &request.region, &extent)?;
        if request.verify && request.open_ended {
            let blocks = plan.regions.iter().map(|region| region.blocks).max();
            plan.job.limit = Limit::Ios(blocks.unwrap_or(1));
        }
        let claim = match plan.job.rw.writes() {
            true => Some(guard::before_writing(&target, &extent, request.force)?),
            false => None,
        };
        let json = self.json.as_deref().map(JsonSink::open).transpose()?;
        let mut report = Report::new(Machine::this(), command_line);
        let run = measure(&request, &target, &plan, &interrupt)?;
        drop((target, claim));
        report.interrupted = interrupt.status().is_some();
        report.notes.extend(run.fallback.iter().map(|why| format!("on the kernel: {why}")));
        report.runs.push(run);
        output::publish(json, &report, &table::render(&report))?;
        conclude(&report, &interrupt)
    }
}

/// The exit status that a report deserves.
///
/// # Errors
/// Failed I/O or wrong data.
pub fn conclude(report: &Report, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let complaints = report.complaints();
    if let Some(status) = interrupt.status() {
        complaints.iter().for_each(|complaint| output::note(complaint));
        let signal = crate::interrupt::name(status);
        output::note(&format!("ended early by {signal}; nothing is in flight, and devices are given back"));
        return Ok(ExitCode::from(status));
    }
    if !complaints.is_empty() {
        bail!("{}", complaints.join("; "));
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(request: &Request, target: &Target, plan: &Plan, interrupt: &Interrupt) -> anyhow::Result<Run> {
    let completion = request.completion.unwrap_or(target.usual_completion());
    let (writes, stop) = (plan.job.rw.writes(), interrupt.flag());
    let stamped = request.verify && writes;
    let mut session = Session::open(target, completion, plan, stamped)?;
    if !stamped {
        session.warm_up(stop)?;
    }
    let progress = Progress::start(session.counters(), plan.job.limit);
    let sample = session.slice(plan.job.limit, stamped, stop)?;
    drop(progress);
    let mut run = Run::new(&request.device, &session, completion, &[sample]);
    // Data of a job that failed need not be read to know that something is wrong.
    if request.verify && run.errors == 0 && interrupt.status().is_none() {
        let found: Verified = if writes { session.check_written(stop)? } else { session.check_all(None, stop)? };
        run.verified = Some(Checked::from(&found));
    }
    Ok(run)
}
