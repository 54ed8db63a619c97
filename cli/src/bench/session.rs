//! Rings opened for a job, run in slices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use dmaring::{Backend, RingStats};
use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};

use super::hot::{self, Flight, Until};
use super::places::Places;
use super::tally::Tally;
use crate::job::{Completion, Limit};
use crate::lanes::{Kind, Lanes, Options};
use crate::pattern::Pattern;
use crate::plan::{Plan, Region};
use crate::target::Target;
use crate::verify::{self, Verified};

/// I/Os before measuring, as a multiple of the depth.
const WARM_UP: u64 = 4;

/// A job's threads on one device with one way of completion.
pub struct Session {
    plan: Plan,
    pattern: Pattern,
    workers: Vec<Worker>,
    done: Arc<[AtomicU64]>,
}

struct Worker {
    lanes: Lanes,
    places: Places,
    region: Region,
    block: Vec<u8>,
    /// What was last in each slot.
    flights: Vec<Option<Flight>>,
}

/// What one slice has measured.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// What came back.
    pub tally: Tally,
    /// Wall-clock time.
    pub time: Duration,
    /// Processor time of the whole process, in the kernel and outside.
    pub cpu: Duration,
    /// Counters of the rings.
    pub stats: Counters,
}

/// Differences of [`RingStats`], added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub system_calls: u64,
    pub bounced_bytes: u64,
    pub doorbells: u64,
    pub interrupts: u64,
}

impl Counters {
    fn of(stats: &RingStats) -> Self {
        Self {
            system_calls: stats.system_calls,
            bounced_bytes: stats.bounced_bytes,
            doorbells: stats.sq_doorbells + stats.cq_doorbells,
            interrupts: stats.interrupts,
        }
    }

    fn combine(self, other: Self, with: fn(u64, u64) -> u64) -> Self {
        Self {
            system_calls: with(self.system_calls, other.system_calls),
            bounced_bytes: with(self.bounced_bytes, other.bounced_bytes),
            doorbells: with(self.doorbells, other.doorbells),
            interrupts: with(self.interrupts, other.interrupts),
        }
    }
}

impl Sample {
    /// Adds another slice, or with `beside` one that ran at the same time.
    pub fn add(&mut self, other: &Self) {
        self.tally.add(&other.tally);
        self.time += other.time;
        self.cpu += other.cpu;
        self.stats = self.stats.combine(other.stats, u64::wrapping_add);
    }
}

impl Session {
    /// Opens a ring for each thread and reads one block with it.
    ///
    /// `each_once`: as [`Places::new`] has it; writes then carry the pattern.
    ///
    /// # Errors
    /// A ring or its memory cannot be had, or the device cannot be read in this way.
    pub fn open(target: &Target, completion: Completion, plan: &Plan, each_once: bool) -> anyhow::Result<Self> {
        let job = &plan.job;
        let mut workers = Vec::new();
        for (index, region) in (0..).zip(&plan.regions) {
            let ring = target.ring(job.iodepth, completion)?;
            let options = Options { slots: job.iodepth, slot_bytes: job.bs as usize, data: job.data, fua: job.fua };
            let mut lanes = Lanes::new(ring, options)?;
            probe(&mut lanes, region, job.bs as usize)?;
            let mut block = vec![0; job.bs as usize];
            // Something other than zeros, which a device may store without storing them.
            let pattern = Pattern::new(job.seed);
            for slot in 0..lanes.slots() {
                pattern.fill(&mut block, region.offset, slot as u64);
                lanes.write_slot(slot, &block);
            }
            workers.push(Worker {
                lanes,
                places: Places::new(job, index, *region, each_once),
                region: *region,
                block,
                flights: Vec::new(),
            });
        }
        let pattern = Pattern::new(job.seed);
        let done = workers.iter().map(|_| AtomicU64::new(0)).collect();
        let plan = plan.clone();
        Ok(Self { plan, pattern, workers, done })
    }

    /// Counts of I/Os done so far, one for each thread.
    pub fn counters(&self) -> Arc<[AtomicU64]> {
        Arc::clone(&self.done)
    }

    /// What serves the rings.
    pub fn backend(&self) -> Backend {
        self.workers.first().map_or(Backend::Kernel, |worker| worker.lanes.ring().backend())
    }

    /// Why it is not the backend that was asked for.
    pub fn fallback_reason(&self) -> Option<String> {
        let ring = self.workers.first()?.lanes.ring();
        ring.fallback_reason().map(ToString::to_string)
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs the first few I/Os, which are not measured.
    ///
    /// # Errors
    /// As [`Session::slice`].
    pub fn warm_up(&mut self, stop: &AtomicBool) -> anyhow::Result<()> {
        let ios = u64::from(self.plan.job.iodepth) * WARM_UP;
        self.run(Limit::Ios(ios), false, false, stop)?;
        self.done.iter().for_each(|done| done.store(0, Ordering::Relaxed));
        Ok(())
    }

    /// Runs the job until `limit`, or until the user stops it; with `stamped`, writes carry the pattern.
    ///
    /// # Errors
    /// A ring's own failure; those of single I/Os are in the sample.
    pub fn slice(&mut self, limit: Limit, stamped: bool, stop: &AtomicBool) -> anyhow::Result<Sample> {
        // Marks of several threads would be in each other's way.
        let marked = self.workers.len() == 1;
        self.run(limit, stamped, marked, stop)
    }

    fn run(&mut self, limit: Limit, stamped: bool, marked: bool, stop: &AtomicBool) -> anyhow::Result<Sample> {
        let before = self.stats();
        let clock = self.plan.job.latency;
        let pattern = stamped.then_some(self.pattern);
        let cpu_before = process_time()?;
        let begin = Instant::now();
        let (ios, deadline) = match limit {
            Limit::Ios(ios) => (ios, None),
            Limit::Time(time) => (u64::MAX, Some(begin + time)),
        };
        let each = self.workers.iter_mut().zip(self.done.iter());
        let tallies = on_threads(each, |(worker, done)| {
            let until = Until { ios, deadline, stop, marked, done };
            worker.run(clock, pattern, &until)
        });
        let (time, cpu) = (begin.elapsed(), process_time()?.saturating_sub(cpu_before));
        let mut tally = Tally::default();
        for result in tallies {
            tally.add(&result?);
        }
        Ok(Sample { tally, time, cpu, stats: self.stats().combine(before, u64::wrapping_sub) })
    }

    fn stats(&self) -> Counters {
        let all = self.workers.iter().map(|worker| Counters::of(&worker.lanes.ring().stats()));
        all.fold(Counters::default(), |sum, one| sum.combine(one, u64::wrapping_add))
    }

    /// Writes the pattern to all of the job's part of the device.
    ///
    /// # Errors
    /// A write that fails.
    pub fn fill(&mut self, generation: u64, stop: &AtomicBool) -> anyhow::Result<()> {
        let pattern = self.pattern;
        let each = self.workers.iter_mut();
        let results =
            on_threads(each, |worker| verify::fill(&mut worker.lanes, pattern, worker.region, generation, stop));
        results.into_iter().collect()
    }

    /// Reads all of the job's part of the device and compares it; `None` takes any generation.
    ///
    /// # Errors
    /// A read that fails; wrong data is in the result.
    pub fn check_all(&mut self, generation: Option<u64>, stop: &AtomicBool) -> anyhow::Result<Verified> {
        self.check(stop, |worker| Box::new(verify::all(worker.region, generation)))
    }

    /// Reads what stamped slices have written and compares it.
    ///
    /// # Errors
    /// As [`Session::check_all`].
    pub fn check_written(&mut self, stop: &AtomicBool) -> anyhow::Result<Verified> {
        for worker in &mut self.workers {
            worker.lanes.sync().context("flushing what was written")?;
        }
        self.check(stop, |worker| Box::new(verify::these(worker.places.written())))
    }

    fn check(
        &mut self,
        stop: &AtomicBool,
        blocks: impl Fn(&Worker) -> Box<dyn Iterator<Item = (u64, Option<u64>)>> + Sync,
    ) -> anyhow::Result<Verified> {
        let pattern = self.pattern;
        let results = on_threads(self.workers.iter_mut(), |worker| {
            let blocks = blocks(worker);
            let bytes = worker.region.block_bytes;
            verify::check(&mut worker.lanes, pattern, bytes, blocks, stop)
        });
        let mut sum = Verified::default();
        for found in results {
            sum.add(found?);
        }
        Ok(sum)
    }

    /// Compares the data that the last reads of a slice have left in the slots, without reading again.
    pub fn check_slots(&mut self, generation: u64) -> Verified {
        let mut sum = Verified::default();
        for worker in &mut self.workers {
            for slot in 0..worker.flights.len() {
                let Some(flight) = worker.flights[slot].filter(|flight| flight.op.kind == Kind::Read) else {
                    continue;
                };
                worker.lanes.read_slot(slot, &mut worker.block);
                let wrong = self.pattern.check(&worker.block, flight.op.offset, Some(generation));
                sum.add(Verified { blocks: 1, wrong: u64::from(wrong.is_err()), first: wrong.err(), cut_short: false });
            }
        }
        sum
    }
}

impl Worker {
    fn run(&mut self, clock: bool, pattern: Option<Pattern>, until: &Until<'_>) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        // Where instructions are counted, the loop is the least that a program does.
        if until.marked
            && !clock
            && pattern.is_none()
            && let Some(bare) = self.places.bare()
        {
            let came = self.lanes.bare(bare, until.ios, 1).context("the ring has failed")?;
            self.flights.clear();
            tally.bare(bare, &came);
            return Ok(tally);
        }
        let run = if clock { hot::run::<true> } else { hot::run::<false> };
        run(&mut self.lanes, &mut self.places, &mut self.block, pattern, until, &mut tally, &mut self.flights)
            .context("the ring has failed")?;
        Ok(tally)
    }
}

/// Reads one block, so that a device that cannot be used this way is found before anything is measured.
fn probe(lanes: &mut Lanes, region: &Region, len: usize) -> anyhow::Result<()> {
    let Err(error) = lanes.read_at(region.offset, &mut vec![0; len]) else {
        return Ok(());
    };
    let ring = lanes.ring();
    let (name, polled) = (&ring.target().name, ring.completion_mode() == dmaring::CompletionMode::Poll);
    let unsupported = matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EOPNOTSUPP | Errno::EINVAL));
    if polled && unsupported && ring.backend() == Backend::Kernel {
        bail!(
            "{name} cannot be polled by the kernel: that takes an NVMe disk and its driver loaded with nvme.poll_queues=1 or more (or --completion interrupt)"
        );
    }
    Err(anyhow!(error).context(format!("cannot read {name} at {}", region.offset)))
}

/// Calls `each` for every item, on threads if there are several.
fn on_threads<I: Send, T: Send>(
    items: impl Iterator<Item = I>,
    each: impl Fn(I) -> anyhow::Result<T> + Sync,
) -> Vec<anyhow::Result<T>> {
    let mut items: Vec<I> = items.collect();
    if items.len() == 1 {
        return items.pop().map(each).into_iter().collect();
    }
    let each = &each;
    thread::scope(|scope| {
        let handles: Vec<_> =
            items.into_iter().map(|item| thread::Builder::new().spawn_scoped(scope, move || each(item))).collect();
        let join = |handle: std::io::Result<thread::ScopedJoinHandle<'_, _>>| match handle {
            Ok(handle) => handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(error) => Err(anyhow!(error).context("starting a thread")),
        };
        handles.into_iter().map(join).collect()
    })
}

fn process_time() -> anyhow::Result<Duration> {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).context("reading the clock")?;
    Ok(Duration::from(time))
}

impl Drop for Session {
    /// For whoever shows progress.
    fn drop(&mut self) {
        for counter in self.done.iter() {
            counter.store(0, Ordering::Relaxed);
        }
    }
}
