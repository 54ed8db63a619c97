//! `dmaring vm compare`: a guest with two controllers, one on VFIO, one with the kernel, then the other
//! way round.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use dmaring_qemu::Vm;

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
    /// Write the figures as JSON; - is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
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
        let job = self.job.resolve(DEFAULT_TIME)?;
        self.options.controllers = 2;
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
        let figures = tempfile::NamedTempFile::new().context("making a temporary file")?;
        let vm = self.options.to_vm()?.get(GUEST_JSON, figures.path());
        let status = vm::finish(&vm, self.guest_command())?;
        let text = fs::read_to_string(figures.path()).context("reading what the guest has measured")?;
        if text.is_empty() {
            // It has said why itself.
            return Ok(if status == ExitCode::SUCCESS { ExitCode::FAILURE } else { status });
        }
        let mut report: Report = serde_json::from_str(&text).context("reading what the guest has measured")?;
        report.host = Machine::this().host;
        report.command = command_line;
        output::publish(json, &report, &table::render(&report))?;
        Ok(status)
    }

    fn guest_command(&self) -> Vec<String> {
        let pair = format!("{},{}", Vm::controller_address(0), Vm::controller_address(1));
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
