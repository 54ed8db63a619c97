//! `dmaring vm compare`: a guest with two controllers, one on VFIO, one with the kernel, then the other
//! way round.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use dmaring_qemu::{GuestExit, Vm};

use crate::chart::SvgSink;
use crate::count;
use crate::job::{JobArgs, Limit, parse_length};
use crate::machine::Machine;
use crate::output::{self, JsonSink};
use crate::report::Report;
use crate::table;
use crate::vm::{self, VmOptions};

/// Where the guest leaves its figures.
const GUEST_JSON: &str = "/tmp/compare.json";
/// Booting, checking data, swapping: everything but measuring.
const PATIENCE: Duration = Duration::from_secs(300);
/// Of each device with each completion, in each round.
const DEFAULT_TIME: Duration = Duration::from_secs(1);
/// Of each row that is counted.
const COUNTED_IOS: u64 = 20_000;
/// Longest for all rows that are counted.
const COUNTING_PATIENCE: Duration = Duration::from_secs(1800);
/// Rows of a round: two controllers, polled and by interrupt.
const ROWS: u32 = 4;

/// `dmaring vm compare`.
#[derive(Args)]
pub struct VmCompare {
    #[command(flatten)]
    options: VmOptions,
    /// --runtime and --ios are of each row and round
    #[command(flatten)]
    job: JobArgs,
    /// The part of each controller that is used
    #[arg(long, value_name = "SIZE", default_value = "16m", value_parser = parse_length)]
    region: u64,
    /// Rounds; the controllers swap their roles between them
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Count instead of timing: instructions and MMIO per I/O, polled and by interrupt, at several depths,
    /// on null storage; --ios is of each row [default: 20000]
    #[arg(long, conflicts_with_all = ["iodepth", "runtime", "rounds", "numjobs", "plain", "no_latency"])]
    count: bool,
    /// Write the figures as JSON; - is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the figures as a chart
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl VmCompare {
    /// Boots, compares, prints; the exit status is that of the comparison.
    ///
    /// # Errors
    /// Whatever kept the guest from coming to its end.
    pub fn run(mut self: Box<Self>, command_line: String) -> anyhow::Result<ExitCode> {
        if self.options.controllers > 2 {
            bail!("--controllers {}: a comparison takes two", self.options.controllers);
        }
        self.options.controllers = 2;
        if self.count {
            return self.run_counting(command_line);
        }
        let job = self.job.resolve(DEFAULT_TIME)?;
        self.job.runtime = match job.limit {
            Limit::Time(time) => Some(time),
            Limit::Ios(_) => None,
        };
        // The kernel at its best: no translation of its own DMA, and queues to poll.
        for (name, usual) in [("iommu", "iommu=pt"), ("nvme.poll_queues", "nvme.poll_queues=1")] {
            let given = |arg: &String| arg.split_once('=').is_some_and(|(given, _)| given == name);
            if !self.options.kernel_arg.iter().any(given) {
                self.options.kernel_arg.push(usual.to_owned());
            }
        }
        let measuring = self.job.runtime.unwrap_or_default() * self.rounds * ROWS;
        self.options.timeout.get_or_insert(PATIENCE + measuring * 2);
        let json = self.json.as_deref().map(JsonSink::open).transpose()?;
        let svg = self.svg.as_deref().map(SvgSink::open).transpose()?;
        let figures = tempfile::NamedTempFile::new().context("making a temporary file")?;
        let vm = self.options.to_vm()?.get(GUEST_JSON, figures.path());
        let exit = vm::finish(&vm, self.guest_command())?;
        let Some(report) = read(&figures, command_line)? else {
            return Ok(failure(&exit));
        };
        output::publish(json, &report, &table::render(&report))?;
        svg.map_or(Ok(()), |svg| svg.write(&report))?;
        Ok(vm::exit_code(&exit))
    }

    fn run_counting(mut self: Box<Self>, command_line: String) -> anyhow::Result<ExitCode> {
        self.job.ios.get_or_insert(COUNTED_IOS);
        self.job.no_latency = true;
        let job = self.job.resolve(DEFAULT_TIME)?;
        if job.rw.writes() {
            bail!("--count --rw {}: reads are counted (--rw randread or read)", job.rw.word());
        }
        self.options.storage.get_or_insert_with(|| "null".into());
        self.options.timeout.get_or_insert(COUNTING_PATIENCE);
        let json = self.json.as_deref().map(JsonSink::open).transpose()?;
        let svg = self.svg.as_deref().map(SvgSink::open).transpose()?;
        let figures = tempfile::NamedTempFile::new().context("making a temporary file")?;
        let vm = vm::counting(self.options.to_vm()?, &self.options).get(GUEST_JSON, figures.path());
        let mut words = vec!["dmaring".to_owned(), "count-rows".to_owned()];
        words.extend(["--swap".to_owned(), pair(), "--size".to_owned(), self.region.to_string()]);
        words.extend(["--json", GUEST_JSON].map(str::to_owned));
        words.extend(self.job.words());
        let exit = vm::finish(&vm, words)?;
        let Some(mut report) = read(&figures, command_line)? else {
            return Ok(failure(&exit));
        };
        count::merge(&mut report, &exit.sections)?;
        output::publish(json, &report, &count::render(&report))?;
        svg.map_or(Ok(()), |svg| svg.write(&report))?;
        Ok(vm::exit_code(&exit))
    }

    fn guest_command(&self) -> Vec<String> {
        let pair = pair();
        let (size, rounds) = (self.region.to_string(), self.rounds.to_string());
        let own = ["dmaring", "compare", "--swap", &pair, "--rounds", &rounds, "--size", &size];
        let mut words: Vec<String> = own.map(str::to_owned).to_vec();
        words.extend(["--verify", "--no-table", "--json", GUEST_JSON].map(str::to_owned));
        words.extend(self.job.words());
        if io::stderr().is_terminal() {
            words.push("--stages".to_owned());
        }
        words
    }
}

/// The two controllers.
fn pair() -> String {
    format!("{},{}", Vm::controller_address(0), Vm::controller_address(1))
}

/// The guest's report, or nothing if there is none: the guest has said why itself.
fn read(figures: &tempfile::NamedTempFile, command_line: String) -> anyhow::Result<Option<Report>> {
    let text = fs::read_to_string(figures.path()).context("reading what the guest has measured")?;
    if text.is_empty() {
        return Ok(None);
    }
    let mut report: Report = serde_json::from_str(&text).context("reading what the guest has measured")?;
    report.host = Machine::this().host;
    report.command = command_line;
    Ok(Some(report))
}

/// The exit status without a report, which is never success.
fn failure(exit: &GuestExit) -> ExitCode {
    if exit.success() { ExitCode::FAILURE } else { vm::exit_code(exit) }
}
