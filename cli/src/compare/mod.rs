//! `dmaring compare`: the same job on several devices and with several ways of completion.
//!
//! Each pair of device and completion has its rings open all the time and runs in short slices, one
//! after the other and round again, so that what drifts in the machine meets all of them alike.
//!
//! Data is checked outside the measured slices, so that checking costs none of them anything: with
//! `--verify` each pair first writes the pattern and reads all of it back; after every slice that only
//! reads, what its last reads have left in memory is compared; jobs that write are followed by one more
//! round of writing and reading back. Where roles are swapped, a controller is first read by the backend
//! that did not write it.

mod round;

use std::collections::{HashMap, HashSet};
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;

use crate::bench::conclude;
use crate::bench::session::Sample;
use crate::chart::SvgSink;
use crate::interrupt::Interrupt;
use crate::job::{Completion, Job, JobArgs, RegionArgs};
use crate::machine::Machine;
use crate::output::{self, JsonSink};
use crate::report::{Checked, Report, Run};
use crate::swap::{Pair, Roles, parse_pair};
use crate::table;
use crate::verify::Verified;

use round::{Outcome, Round};

const DEFAULT_TIME: Duration = Duration::from_secs(2);

/// `dmaring compare`.
#[derive(Debug, Args)]
pub struct CompareCommand {
    /// What to run on: pci:ADDRESS[/NAMESPACE], model:SIZE, or paths of files or block devices
    #[arg(required_unless_present = "swap", value_name = "DEVICE")]
    devices: Vec<String>,
    /// --runtime and --ios are of each device with each completion
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    region: RegionArgs,
    /// Only this way of completion; may be repeated [default: poll and interrupt, where they work]
    #[arg(long, value_name = "poll|interrupt|adaptive", hide_possible_values = true)]
    completion: Vec<Completion>,
    /// Write a pattern before and check the data; this writes even if the job only reads
    #[arg(long)]
    verify: bool,
    /// Write even if a device carries a partition table, a file system or the like
    #[arg(long)]
    force: bool,
    /// Write the figures as JSON; - is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the figures as a chart
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Two controllers that swap between vfio-pci and the kernel's driver from round to round
    #[arg(long, value_name = "ADDRESS,ADDRESS", hide = true, value_parser = parse_pair, conflicts_with = "devices")]
    swap: Option<Pair>,
    /// How often, with --swap
    #[arg(long, value_name = "N", default_value_t = 1, hide = true,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Say on standard error what is being done
    #[arg(long, hide = true)]
    stages: bool,
    /// Print no table
    #[arg(long, hide = true)]
    no_table: bool,
}

/// What does not change from round to round.
pub struct Request {
    pub job: Job,
    pub region: RegionArgs,
    /// Empty: all that work.
    pub completions: Vec<Completion>,
    pub verify: bool,
    pub force: bool,
    stages: bool,
}

impl Request {
    /// Tells people what is being done.
    pub fn stage(&self, text: &str) {
        if self.stages {
            output::note(text);
        }
    }
}

/// Generations of the pattern, by device, as far as written.
pub type Generations = HashMap<String, u64>;

impl CompareCommand {
    /// Runs all; the exit status tells whether all I/O succeeded and all data was right.
    ///
    /// # Errors
    /// Whatever kept a device from being measured.
    pub fn run(self, command_line: String) -> anyhow::Result<ExitCode> {
        let mut completions = self.completion;
        let mut seen = HashSet::new();
        completions.retain(|completion| seen.insert(*completion));
        let request = Request {
            job: self.job.resolve(DEFAULT_TIME)?,
            region: self.region,
            completions,
            verify: self.verify,
            force: self.force,
            stages: self.stages || io::stderr().is_terminal(),
        };
        let interrupt = Interrupt::catch()?;
        let json = self.json.as_deref().map(JsonSink::open).transpose()?;
        let svg = self.svg.as_deref().map(SvgSink::open).transpose()?;
        let mut report = Report::new(Machine::this(), command_line);
        let outcomes = match self.swap {
            None => {
                let names: Vec<(String, String)> =
                    self.devices.iter().map(|name| (name.clone(), name.clone())).collect();
                Round::new(&request, &mut Generations::new(), &interrupt).run(&names)?
            }
            Some(pair) => swapped(&request, pair, self.rounds, &interrupt)?,
        };
        if outcomes.iter().all(|outcome| outcome.run.is_none()) && interrupt.status().is_none() {
            bail!("nothing could be measured: {}", notes(&outcomes).join("; "));
        }
        report.notes = notes(&outcomes);
        report.notes.push(what_was_checked(&request, self.swap.is_some()));
        report.summary = if self.swap.is_some() { summarise(&outcomes) } else { Vec::new() };
        report.runs = outcomes.into_iter().filter_map(|outcome| outcome.run).collect();
        report.interrupted = interrupt.status().is_some();
        let text = if self.no_table { String::new() } else { table::render(&report) };
        output::publish(json, &report, &text)?;
        svg.map_or(Ok(()), |svg| svg.write(&report))?;
        conclude(&report, &interrupt)
    }
}

fn swapped(request: &Request, pair: Pair, rounds: u32, interrupt: &Interrupt) -> anyhow::Result<Vec<Outcome>> {
    let roles = Roles::new(pair)?;
    let (mut all, mut generations) = (Vec::new(), Generations::new());
    for number in 0..rounds {
        if interrupt.status().is_some() {
            break;
        }
        let round = roles.assign(number)?;
        request.stage(&format!(
            "round {} of {rounds}: {} on vfio-pci, {} with the kernel as {}",
            number + 1,
            round.vfio,
            round.kernel,
            round.disk.display()
        ));
        let names = [
            (format!("pci:{}", round.vfio), round.vfio.to_string()),
            (round.disk.display().to_string(), round.kernel.to_string()),
        ];
        let mut outcomes = Round::new(request, &mut generations, interrupt).run(&names)?;
        for run in outcomes.iter_mut().filter_map(|outcome| outcome.run.as_mut()) {
            run.round = Some(number + 1);
        }
        all.extend(outcomes);
    }
    Ok(all)
}

/// Runs with the same backend and completion, over all rounds and so over both controllers.
fn summarise(outcomes: &[Outcome]) -> Vec<Run> {
    let mut groups: Vec<(Run, Vec<Sample>, Option<Verified>)> = Vec::new();
    for outcome in outcomes {
        let Some(run) = &outcome.run else { continue };
        let same = |group: &&mut (Run, _, _)| group.0.backend == run.backend && group.0.completion == run.completion;
        match groups.iter_mut().find(same) {
            Some((first, samples, verified)) => {
                if first.device != run.device {
                    first.device = "both in turn".to_owned();
                }
                samples.extend_from_slice(&outcome.samples);
                if let (Some(sum), Some(more)) = (verified.as_mut(), &outcome.verified) {
                    sum.add(more.clone());
                }
            }
            None => groups.push((run.clone(), outcome.samples.clone(), outcome.verified.clone())),
        }
    }
    let sum = |(mut run, samples, verified): (Run, Vec<Sample>, Option<Verified>)| {
        run.set_figures(&samples);
        run.round = None;
        run.slices.clear();
        run.verified = verified.as_ref().map(Checked::from);
        run
    };
    groups.into_iter().map(sum).collect()
}

fn notes(outcomes: &[Outcome]) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for note in outcomes.iter().filter_map(|outcome| outcome.left_out.clone()) {
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    notes
}

fn what_was_checked(request: &Request, swapped: bool) -> String {
    if !request.verify {
        return "data was not checked (--verify writes a pattern and checks it)".to_owned();
    }
    let mut text = "data: each row wrote the pattern to all of the region and read it back".to_owned();
    text += if request.job.rw.writes() {
        ", before and after measuring"
    } else {
        "; what the last reads of every slice left in memory was compared too"
    };
    if swapped {
        text += "; after each swap a controller was first read by the backend that had not written it";
    }
    text
}
