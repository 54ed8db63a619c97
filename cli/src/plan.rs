//! A job resolved against the device it runs on: every place it may touch is known before it starts.

use anyhow::bail;
use dmaring::TargetInfo;

use crate::job::{Job, RegionArgs};
use crate::pattern::CELL;

/// The longest buffer that io_uring registers.
const MAX_BUFFER_BYTES: u64 = 1 << 30;

/// What a job may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// As a user opens it.
    pub name: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Offsets and lengths are multiples of this.
    pub block_bytes: u32,
    /// Writes are refused.
    pub read_only: bool,
}

impl From<&TargetInfo> for Extent {
    fn from(target: &TargetInfo) -> Self {
        Self {
            name: target.name.clone(),
            size_bytes: target.size_bytes,
            block_bytes: target.block_bytes,
            read_only: target.read_only,
        }
    }
}

/// A part of a device, in blocks of the job's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub offset: u64,
    /// Number of blocks, at least one.
    pub blocks: u64,
    /// Bytes of a block.
    pub block_bytes: u64,
}

impl Region {
    /// Byte offset of a block.
    pub fn at(&self, block: u64) -> u64 {
        self.offset + block * self.block_bytes
    }
}

/// What will be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The job.
    pub job: Job,
    /// The part of each thread.
    pub regions: Vec<Region>,
}

impl Plan {
    /// Divides the device among the job's threads.
    ///
    /// # Errors
    /// What does not fit the device.
    pub fn new(job: Job, region: &RegionArgs, target: &Extent) -> anyhow::Result<Self> {
        let (name, block) = (&target.name, u64::from(target.block_bytes.max(1)));
        if job.rw.writes() && target.read_only {
            bail!("{name} is read-only: it can only be read (--rw read, --rw randread)");
        }
        if !job.bs.is_multiple_of(block) {
            let bs = job.bs;
            bail!("--bs {bs}: {name} has blocks of {block} bytes; take a multiple of that");
        }
        if !job.bs.is_multiple_of(CELL as u64) {
            bail!("--bs {}: take a multiple of {CELL}", job.bs);
        }
        if !region.offset.is_multiple_of(block) {
            let offset = region.offset;
            bail!("--offset {offset}: {name} has blocks of {block} bytes; take a multiple of that");
        }
        let left = target.size_bytes.saturating_sub(region.offset);
        let size = region.size.unwrap_or(left);
        if size > left || left == 0 {
            let (offset, end) = (region.offset, target.size_bytes);
            bail!("{name} ends at {end}: {size} bytes at {offset} go beyond it");
        }
        let jobs = u64::from(job.numjobs);
        let blocks = size / jobs / job.bs;
        if blocks == 0 {
            let bs = job.bs;
            bail!("{size} bytes of {name} are too few for {jobs} jobs with blocks of {bs} bytes");
        }
        let buffers = u64::from(job.iodepth) * job.bs;
        if buffers > MAX_BUFFER_BYTES {
            let (depth, bs) = (job.iodepth, job.bs);
            bail!(
                "--iodepth {depth} with --bs {bs} needs {buffers} bytes of buffers; a ring registers at most {MAX_BUFFER_BYTES}"
            );
        }
        let region = |index| Region { offset: region.offset + index * blocks * job.bs, blocks, block_bytes: job.bs };
        let regions = (0..jobs).map(region).collect();
        Ok(Self { job, regions })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::job::{Data, Limit, Rw};

    const SIZE: u64 = 1 << 20;

    fn plan(job: Job, offset: u64, size: Option<u64>) -> Result<Plan, String> {
        let target = Extent { name: "disk".into(), size_bytes: SIZE, block_bytes: 4096, read_only: true };
        let region = RegionArgs { offset, size };
        Plan::new(job, &region, &target).map_err(|error| error.to_string())
    }

    fn job() -> Job {
        Job {
            rw: Rw::Read,
            bs: 4096,
            iodepth: 4,
            numjobs: 1,
            limit: Limit::Time(Duration::from_secs(1)),
            read_percent: 100,
            seed: 1,
            fua: false,
            data: Data::Registered,
            latency: true,
        }
    }

    #[test]
    fn jobs_get_parts_of_their_own() {
        let three = Job { numjobs: 3, ..job() };
        let plan = plan(three, 4096, Some(100_000)).unwrap();
        let places: Vec<(u64, u64)> =
            plan.regions.iter().map(|region| (region.offset, region.blocks * region.block_bytes)).collect();
        assert_eq!(places, [(4096, 32768), (4096 + 32768, 32768), (4096 + 65536, 32768)]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let writes = Job { rw: Rw::Write, ..job() };
        let small = Job { bs: 512, ..job() };
        let many = Job { numjobs: 1024, ..job() };
        let deep = Job { iodepth: 32768, bs: 1 << 16, ..job() };
        for (job, offset, size, why) in [
            (writes, 0, None, "read-only"),
            (small, 0, None, "blocks of 4096"),
            (job(), 512, None, "--offset 512"),
            (job(), 0, Some(SIZE + 1), "beyond"),
            (job(), SIZE, None, "beyond"),
            (job(), u64::MAX - 4095, None, "beyond"),
            (job(), 4096, Some(u64::MAX), "beyond"),
            (job(), 0, Some(100), "too few"),
            (many, 0, None, "too few"),
            (deep, 0, None, "bytes of buffers"),
        ] {
            let error = plan(job, offset, size).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
