//! The guest's part: one marked run for each row of the table, one after the other.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::interrupts;
use super::operations::operations;
use crate::bench::conclude;
use crate::bench::session::Session;
use crate::guard;
use crate::interrupt::Interrupt;
use crate::job::{Completion, Data, Job, JobArgs, RegionArgs, Rw};
use crate::machine::Machine;
use crate::output::JsonSink;
use crate::plan::Plan;
use crate::report::{Report, Run};
use crate::swap::{Pair, Roles, parse_pair};
use crate::target::Target;

const DEPTHS: [u32; 4] = [1, 4, 32, 128];
/// Of our plain reads.
const PLAIN_DEPTHS: [u32; 2] = [1, 32];
/// Of entries that do nothing.
const NOP_DEPTH: u32 = 32;

/// `dmaring count-rows`.
#[derive(Debug, Args)]
pub struct CountRows {
    /// The first is taken to vfio-pci, the second to the kernel's driver
    #[arg(long, value_name = "ADDRESS,ADDRESS", value_parser = parse_pair)]
    swap: Pair,
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    region: RegionArgs,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    on_vfio: bool,
    completion: Completion,
    data: Data,
    depth: u32,
    rw: Rw,
}

impl CountRows {
    /// Runs all rows.
    ///
    /// # Errors
    /// A row cannot be run, but for polling by the kernel, which few are set up for.
    pub fn run(self, command_line: String) -> anyhow::Result<ExitCode> {
        let job = self.job.resolve(Duration::ZERO)?;
        let interrupt = Interrupt::catch()?;
        let json = JsonSink::open(&self.json)?;
        let roles = Roles::new(self.swap)?;
        let round = roles.assign(0)?;
        let device = Target::open(&format!("pci:{}", round.vfio), false)?;
        let disk = Target::open(&round.disk.display().to_string(), false)?;
        let (on_device, on_disk) = (guard::extent(&device)?, guard::extent(&disk)?);
        let mut report = Report::new(Machine::this(), command_line);
        for row in rows(job.rw) {
            if interrupt.status().is_some() {
                break;
            }
            let (target, extent, address) = match row.on_vfio {
                true => (&device, &on_device, round.vfio.to_string()),
                false => (&disk, &on_disk, round.kernel.to_string()),
            };
            let plan = Plan::new(row.job(job), &self.region, extent)?;
            match measure(row, target, (&extent.name, &address), &plan, &interrupt) {
                Ok(run) => report.runs.push(run),
                Err(error) if !row.on_vfio && row.completion == Completion::Poll => {
                    let note = format!("left out: {error:#}");
                    if !report.notes.contains(&note) {
                        report.notes.push(note);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        for (on_vfio, completion) in [(true, Completion::Poll), (false, Completion::Interrupt)] {
            let (target, extent) = if on_vfio { (&device, &on_device) } else { (&disk, &on_disk) };
            let plan = Plan::new(Job { iodepth: 1, ..job }, &self.region, extent)?;
            for operation in operations() {
                if interrupt.status().is_some() {
                    break;
                }
                match operation.measure(target, &extent.name, completion, &job, plan.regions[0]) {
                    Ok(run) => report.operations.push(run),
                    // An older kernel has not all of them.
                    Err(error) if !on_vfio => report.notes.push(format!("left out: {error:#}")),
                    Err(error) => return Err(error),
                }
            }
        }
        report.interrupted = interrupt.status().is_some();
        json.write(&report)?;
        conclude(&report, &interrupt)
    }
}

fn measure(
    row: Row,
    target: &Target,
    (name, address): (&str, &str),
    plan: &Plan,
    interrupt: &Interrupt,
) -> anyhow::Result<Run> {
    let mut session = Session::open(target, row.completion, plan, false)?;
    session.warm_up(interrupt.flag())?;
    let before = interrupts::taken(address);
    let sample = session.slice(plan.job.limit, false, interrupt.flag())?;
    let after = interrupts::taken(address);
    let mut run = Run::new(name, &session, row.completion, &[sample]);
    if let (Some(before), Some(after)) = (before, after) {
        // Those of the kernel's driver too.
        run.interrupts_per_io = after.saturating_sub(before) as f64 / run.ios.max(1) as f64;
    }
    Ok(run)
}

impl Row {
    fn job(self, job: Job) -> Job {
        Job { rw: self.rw, iodepth: self.depth, data: self.data, ..job }
    }
}

fn rows(rw: Rw) -> Vec<Row> {
    let (poll, interrupt) = (Completion::Poll, Completion::Interrupt);
    let mut rows = Vec::new();
    for (on_vfio, completion, data, depths) in [
        (true, poll, Data::Registered, &DEPTHS[..]),
        (true, interrupt, Data::Registered, &DEPTHS),
        (true, poll, Data::Ring, &PLAIN_DEPTHS),
        (false, poll, Data::Registered, &DEPTHS),
        (false, interrupt, Data::Registered, &DEPTHS),
        (false, interrupt, Data::Ring, &DEPTHS),
    ] {
        rows.extend(depths.iter().map(|&depth| Row { on_vfio, completion, data, depth, rw }));
    }
    for (on_vfio, completion) in [(true, poll), (false, interrupt)] {
        rows.push(Row { on_vfio, completion, data: Data::Registered, depth: NOP_DEPTH, rw: Rw::Nop });
    }
    rows
}
