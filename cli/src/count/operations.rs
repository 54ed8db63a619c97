//! The guest's part, of what the engine does besides plain reads: links, drains, timeouts and provided
//! buffers, each on both backends by the same loop.

use anyhow::Context;
use dmaring_qemu::Section;
use serde::{Deserialize, Serialize};

use crate::job::{Completion, Data, Job, Limit};
use crate::lanes::{Came, Lanes, Options, Together};
use crate::plan::Region;
use crate::target::Target;

/// Batches before those that are counted.
const WARM_UP: u64 = 4;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Batches that are submitted together and waited for together.
    Together(Together),
    /// Reads into buffers that the ring picks.
    Select,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    what: What,
    /// Pairs, or reads, in a batch or in flight.
    at_once: u32,
}

/// What one row has counted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OperationRun {
    pub device: String,
    /// `nvme` or `kernel`.
    pub backend: String,
    /// `poll` or `interrupt`.
    pub completion: String,
    pub operation: String,
    /// Of what the figures are: `read` or `pair`.
    pub per: String,
    /// How many of them in a batch, or in flight.
    pub at_once: u32,
    pub bs: u64,
    /// How many were counted.
    pub count: u64,
    /// Completions that were not as they should be.
    pub errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
    pub syscalls: f64,
    /// What QEMU counted between the marks, where it did.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Each>,
}

/// Of one pair or read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Each {
    /// Without those of empty polls.
    pub user_instructions: f64,
    /// Interrupts and ticks included, whoever they were for.
    pub kernel_instructions: f64,
    /// Of NVMe controllers.
    pub mmio: f64,
    /// All that was counted.
    pub section: Section,
}

/// All rows of a backend, in the order of the table.
pub fn operations() -> impl Iterator<Item = Operation> {
    let together = |what, at_once| Operation { what: What::Together(what), at_once };
    let select = |at_once| Operation { what: What::Select, at_once };
    [
        together(Together::Reads, 1),
        together(Together::Links, 1),
        together(Together::Reads, 16),
        together(Together::Links, 16),
        together(Together::Drain, 1),
        together(Together::Drain, 32),
        together(Together::Timeouts, 1),
        select(1),
        select(32),
    ]
    .into_iter()
}

impl Operation {
    /// In io_uring's words.
    fn name(self) -> &'static str {
        match (self.what, self.at_once) {
            (What::Together(Together::Reads), _) => "two reads",
            (What::Together(Together::Links), _) => "two reads, IO_LINK",
            (What::Together(Together::Drain), 1) => "read, IO_DRAIN",
            (What::Together(Together::Drain), _) => "reads, one IO_DRAIN",
            (What::Together(Together::Timeouts), _) => "TIMEOUT, TIMEOUT_REMOVE",
            (What::Select, _) => "read, BUFFER_SELECT",
        }
    }

    /// Entries of one of what is counted.
    fn entries(self) -> u32 {
        match self.what {
            What::Together(Together::Reads | Together::Links | Together::Timeouts) => 2,
            What::Together(Together::Drain) | What::Select => 1,
        }
    }

    fn per(self) -> &'static str {
        if self.entries() == 2 { "pair" } else { "read" }
    }

    /// Runs it, the last part between the marks.
    ///
    /// # Errors
    /// The ring cannot be had, or fails; completions that are not as they should be are counted.
    pub fn measure(
        self,
        target: &Target,
        name: &str,
        completion: Completion,
        job: &Job,
        region: Region,
    ) -> anyhow::Result<OperationRun> {
        let (slots, slot_bytes) = (self.at_once * self.entries(), job.bs as usize);
        let data = if self.what == What::Select { Data::Ring } else { Data::Registered };
        let ring = target.ring(slots, completion)?;
        let mut lanes = Lanes::new(ring, Options { slots, slot_bytes, data, fua: false })?;
        if self.what == What::Select {
            lanes.provide()?;
        }
        let Limit::Ios(wanted) = job.limit else { anyhow::bail!("what is counted is a number of I/Os") };
        let batches = wanted.div_ceil(self.at_once.into());
        let run = |lanes: &mut Lanes, batches: u64, marked: bool| {
            let came = match self.what {
                What::Together(what) => lanes.together(what, region, batches, marked),
                What::Select => lanes.select(region, batches * u64::from(self.at_once), marked),
            };
            came.with_context(|| format!("{}: the ring has failed", self.name()))
        };
        run(&mut lanes, WARM_UP, false)?;
        let before = lanes.ring().stats().system_calls;
        let came = run(&mut lanes, batches, true)?;
        let calls = lanes.ring().stats().system_calls.wrapping_sub(before);
        let count = batches * u64::from(self.at_once);
        let Came { bad, .. } = came;
        Ok(OperationRun {
            device: name.to_owned(),
            backend: lanes.ring().backend().to_string(),
            completion: completion.word().to_owned(),
            operation: self.name().to_owned(),
            per: self.per().to_owned(),
            at_once: self.at_once,
            bs: job.bs,
            count,
            errors: bad.map_or(0, |(_, count)| count),
            first_error: bad.map(|(res, _)| format!("a completion with the result {res}")),
            syscalls: calls as f64 / count as f64,
            counted: None,
        })
    }
}

impl OperationRun {
    /// Takes over what was counted meanwhile.
    pub fn set_counted(&mut self, section: &Section) {
        let each = |count: u64| count as f64 / self.count.max(1) as f64;
        self.counted = Some(Each {
            user_instructions: each(section.user),
            kernel_instructions: each(section.kernel),
            mmio: each(section.nvme_accesses()),
            section: section.clone(),
        });
    }

    /// What makes the exit status other than 0.
    pub fn complaint(&self) -> Option<String> {
        let first = self.first_error.as_ref()?;
        let Self { backend, operation, at_once, errors, count, per, .. } = self;
        let word = if *errors == 1 { "is" } else { "are" };
        Some(format!(
            "{backend}: {operation}, {at_once} at once: {errors} completions of {count} {per}s {word} wrong; the first: {first}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Rw;

    fn job() -> Job {
        Job {
            rw: Rw::RandRead,
            bs: 4096,
            iodepth: 1,
            numjobs: 1,
            limit: Limit::Ios(200),
            read_percent: 100,
            seed: 1,
            fua: false,
            data: Data::Registered,
            latency: false,
        }
    }

    /// A file where direct I/O works, which it does not in some temporary folders.
    fn beside_the_tests() -> tempfile::NamedTempFile {
        let program = std::env::current_exe().unwrap();
        tempfile::NamedTempFile::new_in(program.parent().unwrap()).unwrap()
    }

    /// The one loop, on a model and on a kernel ring.
    fn measure_all(name: &str) {
        let target = Target::open(name, false).unwrap();
        let region = Region { offset: 0, blocks: 64, block_bytes: 4096 };
        for operation in operations() {
            let run = operation.measure(&target, name, target.usual_completion(), &job(), region).unwrap();
            assert_eq!(run.complaint(), None, "{run:?}");
            assert!((200..232).contains(&run.count), "{run:?}");
            assert!(run.count.is_multiple_of(run.at_once.into()), "{run:?}");
        }
    }

    #[test]
    fn every_operation_does_on_a_model_what_it_should() {
        measure_all("model:1MiB");
    }

    #[test]
    fn every_operation_does_on_a_kernel_ring_what_it_should() {
        let file = beside_the_tests();
        file.as_file().set_len(64 * 4096).unwrap();
        measure_all(file.path().to_str().unwrap());
    }

    #[test]
    fn completions_that_are_wrong_are_told_of() {
        // Shorter than the reads: nothing comes of any.
        let file = beside_the_tests();
        file.as_file().set_len(4096).unwrap();
        let name = file.path().to_str().unwrap();
        let target = Target::open(name, false).unwrap();
        let beyond = Region { offset: 8192, blocks: 64, block_bytes: 4096 };
        for operation in operations().filter(|operation| operation.what != What::Together(Together::Timeouts)) {
            let run = operation.measure(&target, name, Completion::Interrupt, &job(), beyond).unwrap();
            assert_eq!(run.errors, run.count * u64::from(operation.entries()), "{run:?}");
            assert!(run.complaint().is_some_and(|complaint| complaint.contains(operation.name())), "{run:?}");
        }
    }

    #[test]
    fn figures_are_of_what_was_counted() {
        let target = Target::open("model:1MiB", false).unwrap();
        let region = Region { offset: 0, blocks: 64, block_bytes: 4096 };
        let links = operations().find(|operation| operation.what == What::Together(Together::Links)).unwrap();
        let mut run = links.measure(&target, "x", Completion::Poll, &job(), region).unwrap();
        run.set_counted(&Section { user: 20_000, kernel: 400, ..Section::default() });
        let each = run.counted.unwrap();
        assert_eq!((each.user_instructions, each.kernel_instructions, each.mmio), (100.0, 2.0, 0.0));
    }
}
