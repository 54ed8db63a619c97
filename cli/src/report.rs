//! What bench and compare have measured, as JSON gives it.

use std::time::Duration;

use dmaring_qemu::Section;
use serde::{Deserialize, Serialize};

use crate::bench::session::{Sample, Session};
use crate::count::operations::OperationRun;
use crate::job::{Completion, Data};
use crate::machine::Machine;
use crate::verify::Verified;

/// A whole measurement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The machine's name, processor and number of CPUs.
    pub host: String,
    /// Release of the kernel that ran the job.
    pub kernel: String,
    /// The emulated machine and its accelerator; null outside QEMU.
    pub qemu: Option<String>,
    /// Whether instructions were emulated: times can then be compared with each other only.
    pub emulated: bool,
    /// The command line.
    pub command: String,
    /// Whether the user ended it early.
    pub interrupted: bool,
    /// One for each device, way of completion and round.
    pub runs: Vec<Run>,
    /// With rounds: the runs with the same backend and completion, added up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub summary: Vec<Run>,
    /// Operations besides plain I/O, where instructions are counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<OperationRun>,
    /// What was left out and why, and what was checked.
    pub notes: Vec<String>,
}

/// One device with one way of completion.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    pub device: String,
    /// `nvme` or `kernel`.
    pub backend: String,
    /// `poll` or `interrupt`.
    pub completion: String,
    /// Why the kernel serves a device that was not asked of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// In which round, where roles are swapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round: Option<u32>,
    pub rw: String,
    pub bs: u64,
    pub iodepth: u32,
    pub numjobs: u32,
    /// No registered memory: of the ring where instructions are counted, any memory elsewhere.
    #[serde(default, skip_serializing_if = "is_false")]
    pub plain: bool,
    pub seconds: f64,
    pub ios: u64,
    pub reads: u64,
    pub writes: u64,
    pub errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
    pub iops: f64,
    pub bytes_per_second: f64,
    /// Null without a clock (`--no-latency`).
    pub lat_ns: Option<Latency>,
    pub syscalls_per_io: f64,
    pub bytes_bounced_per_io: f64,
    /// Of the whole process, in the kernel and outside.
    pub cpu_ns_per_io: f64,
    /// 0 where the kernel writes them.
    pub doorbells_per_io: f64,
    /// 0 where the kernel handles them and nobody counts.
    pub interrupts_per_io: f64,
    /// What was counted between the marks, where QEMU counted.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Counted>,
    /// What the check of the data has found, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<Checked>,
    /// The slices that the run was made of.
    pub slices: Vec<Slice>,
}

/// Instructions and accesses to device memory, as QEMU counted them between the marks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    /// Without those of empty polls.
    pub user_instructions_per_io: f64,
    /// Interrupts and ticks included, whoever they were for.
    pub kernel_instructions_per_io: f64,
    /// Of NVMe controllers.
    pub mmio_per_io: f64,
    /// Null where there was no interrupt.
    pub completions_per_interrupt: Option<f64>,
    /// All that was counted.
    pub section: Section,
}

/// Latencies in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub mean: f64,
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

/// A check of data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Blocks that were read and compared.
    pub blocks: u64,
    /// Those whose data was wrong.
    pub wrong: u64,
    /// The first wrong place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// Whether the user ended it early.
    pub cut_short: bool,
}

/// Raw figures of one slice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    pub seconds: f64,
    pub ios: u64,
    pub errors: u64,
    pub cpu_ns: u64,
    pub syscalls: u64,
    pub bounced_bytes: u64,
}

impl Report {
    /// A report without runs.
    pub fn new(machine: Machine, command: String) -> Self {
        Self {
            host: machine.host,
            kernel: machine.kernel,
            qemu: machine.qemu,
            emulated: machine.emulated,
            command,
            interrupted: false,
            runs: Vec::new(),
            summary: Vec::new(),
            operations: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// What makes the exit status other than 0: failed I/O and wrong data.
    pub fn complaints(&self) -> Vec<String> {
        let operations = self.operations.iter().filter_map(OperationRun::complaint);
        self.runs.iter().flat_map(Run::complaints).chain(operations).collect()
    }
}

impl Run {
    /// What `samples`, at least none, of a session add up to.
    pub fn new(device: &str, session: &Session, completion: Completion, samples: &[Sample]) -> Self {
        let job = &session.plan().job;
        let mut run = Self {
            device: device.to_owned(),
            backend: session.backend().to_string(),
            completion: completion.word().to_owned(),
            fallback: session.fallback_reason(),
            round: None,
            rw: job.rw.word().to_owned(),
            bs: job.bs,
            iodepth: job.iodepth,
            numjobs: job.numjobs,
            plain: job.data != Data::Registered,
            seconds: 0.0,
            ios: 0,
            reads: 0,
            writes: 0,
            errors: 0,
            first_error: None,
            iops: 0.0,
            bytes_per_second: 0.0,
            lat_ns: None,
            syscalls_per_io: 0.0,
            bytes_bounced_per_io: 0.0,
            cpu_ns_per_io: 0.0,
            doorbells_per_io: 0.0,
            interrupts_per_io: 0.0,
            counted: None,
            verified: None,
            slices: Vec::new(),
        };
        run.set_figures(samples);
        run
    }

    /// Replaces what was measured.
    pub fn set_figures(&mut self, samples: &[Sample]) {
        let mut sum = Sample::default();
        samples.iter().for_each(|sample| sum.add(sample));
        let tally = &sum.tally;
        let good = tally.good_ios();
        let per_io = |count: u64| ratio(count as f64, tally.ios() as f64);
        self.seconds = sum.time.as_secs_f64();
        self.ios = tally.ios();
        self.reads = tally.reads;
        self.writes = tally.writes;
        self.errors = tally.errors;
        self.first_error = tally.first_error.map(|error| error.to_string());
        self.iops = ratio(good as f64, self.seconds);
        self.bytes_per_second = self.iops * self.bs as f64;
        let latencies = &tally.latencies;
        self.lat_ns = (!latencies.is_empty()).then(|| Latency {
            mean: latencies.mean(),
            p50: latencies.value_at_quantile(0.5),
            p99: latencies.value_at_quantile(0.99),
            p999: latencies.value_at_quantile(0.999),
            max: latencies.max(),
        });
        self.syscalls_per_io = per_io(sum.stats.system_calls);
        self.bytes_bounced_per_io = per_io(sum.stats.bounced_bytes);
        self.cpu_ns_per_io = per_io(nanoseconds(sum.cpu));
        self.doorbells_per_io = per_io(sum.stats.doorbells);
        self.interrupts_per_io = per_io(sum.stats.interrupts);
        let slice = |sample: &Sample| Slice {
            seconds: sample.time.as_secs_f64(),
            ios: sample.tally.ios(),
            errors: sample.tally.errors,
            cpu_ns: nanoseconds(sample.cpu),
            syscalls: sample.stats.system_calls,
            bounced_bytes: sample.stats.bounced_bytes,
        };
        self.slices = samples.iter().map(slice).collect();
    }

    /// Failed I/O and wrong data, in words.
    pub fn complaints(&self) -> Vec<String> {
        let name = format!("{} ({}, {})", self.device, self.backend, self.completion);
        let mut all = Vec::new();
        if let Some(first) = &self.first_error {
            let (errors, ios) = (self.errors, self.ios);
            let polls = self.backend == "kernel" && self.completion == "poll" && first.contains("EOPNOTSUPP");
            let hint =
                if polls { "; the kernel polls NVMe disks with poll queues only: --completion interrupt" } else { "" };
            all.push(format!("{name}: {errors} of {ios} I/Os failed; the first: {first}{hint}"));
        }
        if let Some(Checked { blocks, wrong, first: Some(first), .. }) = &self.verified {
            all.push(format!(
                "{name}: verification failed: {wrong} of {blocks} blocks are wrong; the first at {first}"
            ));
        }
        all
    }
}

impl Counted {
    /// The section of a run of so many I/Os, during which so many interrupts came.
    pub fn new(section: Section, ios: u64, interrupts: u64) -> Self {
        let per_io = |count: u64| ratio(count as f64, ios as f64);
        Self {
            user_instructions_per_io: per_io(section.user),
            kernel_instructions_per_io: per_io(section.kernel),
            mmio_per_io: per_io(section.nvme_accesses()),
            completions_per_interrupt: (interrupts > 0).then(|| ios as f64 / interrupts as f64),
            section,
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

impl From<&Verified> for Checked {
    fn from(found: &Verified) -> Self {
        Self {
            blocks: found.blocks,
            wrong: found.wrong,
            first: found.first.as_ref().map(ToString::to_string),
            cut_short: found.cut_short,
        }
    }
}

fn ratio(count: f64, of: f64) -> f64 {
    if of > 0.0 { count / of } else { 0.0 }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
