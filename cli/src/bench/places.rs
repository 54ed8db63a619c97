//! Which block comes next.

use crate::job::{Job, Rw};
use crate::lanes::{Bare, Kind, Op};
use crate::pattern::{SplitMix, mix};
use crate::plan::Region;

/// In place of a percentage: nothing is read or written.
const NOPS: u64 = u64::MAX;

/// The I/Os of one thread, in order.
#[derive(Debug, Clone)]
pub struct Places {
    region: Region,
    random: bool,
    read_percent: u64,
    numbers: SplitMix,
    reads: u64,
    /// Each block is written once before any is written again.
    order: Option<Order>,
    writes: u64,
}

/// A write in verify mode: which block, and how often it was written before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Byte offset on the device.
    pub offset: u64,
    /// 0 for the first time.
    pub generation: u64,
}

impl Places {
    /// `each_once`: writes cover every block before any is written again, as verification needs.
    pub fn new(job: &Job, index: u64, region: Region, each_once: bool) -> Self {
        let seed = mix(job.seed) ^ mix(index + 1);
        let random = job.rw.is_random();
        Self {
            region,
            random,
            read_percent: if job.rw == Rw::Nop { NOPS } else { u64::from(job.read_percent) },
            numbers: SplitMix::new(seed),
            reads: 0,
            order: each_once.then(|| Order::new(region.blocks, random.then_some(seed))),
            writes: 0,
        }
    }

    /// The loop that does the same with the least effort, where there is one.
    pub fn bare(&self) -> Option<Bare> {
        match self.read_percent {
            NOPS => Some(Bare::Nop),
            100 if self.random && self.region.blocks <= 1 << 32 => Some(Bare::Read(self.region)),
            _ => None,
        }
    }

    /// The next I/O, or none until everything in flight is done: a block is never in flight twice.
    #[inline]
    pub fn next(&mut self, in_flight: usize) -> Option<Op> {
        let read = match self.read_percent {
            0 => false,
            100 => true,
            NOPS => return Some(Op { kind: Kind::Nop, offset: 0 }),
            percent => self.numbers.below(100) < percent,
        };
        let kind = if read { Kind::Read } else { Kind::Write };
        let block = match &self.order {
            Some(order) if !read => {
                let place = self.writes % self.region.blocks;
                if place == 0 && self.writes > 0 && in_flight > 0 {
                    return None;
                }
                self.writes += 1;
                order.block(place)
            }
            _ if self.random => self.numbers.below(self.region.blocks),
            _ => {
                let counter = if read { &mut self.reads } else { &mut self.writes };
                let block = *counter;
                *counter = if block + 1 == self.region.blocks { 0 } else { block + 1 };
                block
            }
        };
        let offset = self.region.at(block);
        Some(Op { kind, offset })
    }

    /// What an I/O of `len` bytes gives as its result.
    pub fn result(&self, len: usize) -> i32 {
        // A slot is at most 1 GiB (see `job`).
        if self.read_percent == NOPS { 0 } else { len as i32 }
    }

    /// The generation that the write just handed out belongs to.
    pub fn generation(&self) -> u64 {
        self.writes.saturating_sub(1) / self.region.blocks
    }

    /// Every block written so far, with its last generation; nothing without `each_once`.
    pub fn written(&self) -> impl Iterator<Item = Written> + use<> {
        let (blocks, writes, region) = (self.region.blocks, self.writes, self.region);
        let order = self.order.clone();
        let count = if order.is_some() { writes.min(blocks) } else { 0 };
        (0..count).filter_map(move |place| {
            let (passes, rest) = (writes / blocks, writes % blocks);
            Some(Written {
                offset: region.at(order.as_ref()?.block(place)),
                generation: if place < rest { passes } else { passes - 1 },
            })
        })
    }
}

/// An order of the numbers below `count`: the natural one, or one that a seed determines.
#[derive(Debug, Clone)]
struct Order {
    count: u64,
    seed: Option<u64>,
    /// Of the smallest power of two that is not below `count`.
    bits: u32,
}

impl Order {
    fn new(count: u64, seed: Option<u64>) -> Self {
        let bits = count.next_power_of_two().ilog2().max(1);
        Self { count, seed, bits }
    }

    /// A bijection on `bits` bits, walked until it lands below `count`: at most two steps on average.
    fn block(&self, place: u64) -> u64 {
        let Some(seed) = self.seed else {
            return place;
        };
        let mask = u64::MAX >> (64 - self.bits);
        let mut value = place;
        loop {
            for round in 0..3 {
                let key = mix(seed.wrapping_add(round));
                value = value.wrapping_mul(key | 1).wrapping_add(key >> 7) & mask;
                value ^= value >> (self.bits / 2).max(1);
            }
            if value < self.count {
                return value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;
    use crate::job::{Data, Limit};

    fn job(rw: Rw, read_percent: u8) -> Job {
        Job {
            rw,
            bs: 4096,
            iodepth: 4,
            numjobs: 1,
            limit: Limit::Time(Duration::from_secs(1)),
            read_percent,
            seed: 1,
            fua: false,
            data: Data::Registered,
            latency: true,
        }
    }

    fn region(blocks: u64) -> Region {
        Region { offset: 8192, blocks, block_bytes: 4096 }
    }

    #[test]
    fn an_order_meets_every_number_once() {
        for count in [1, 2, 3, 7, 8, 1000, 4096, 5000] {
            for seed in [None, Some(1), Some(99)] {
                let order = Order::new(count, seed);
                let met: HashSet<u64> = (0..count).map(|place| order.block(place)).collect();
                assert_eq!(met.len() as u64, count);
                assert!(met.iter().all(|block| *block < count));
            }
        }
    }

    #[test]
    fn places_stay_in_the_region() {
        for rw in [Rw::Read, Rw::Write, Rw::RandRead, Rw::RandWrite, Rw::Mixed, Rw::RandMixed] {
            for once in [false, true] {
                let mut places = Places::new(&job(rw, 40), 0, region(10), once);
                for _ in 0..1000 {
                    let offset = places.next(0).unwrap().offset;
                    assert!((8192..8192 + 10 * 4096).contains(&offset));
                    assert!(offset.is_multiple_of(4096));
                }
            }
        }
    }

    #[test]
    fn a_pass_begins_when_the_one_before_is_done() {
        let mut places = Places::new(&job(Rw::RandWrite, 0), 0, region(5), true);
        let first: HashSet<u64> = (0..5).map(|_| places.next(3).unwrap().offset).collect();
        assert_eq!((first.len(), places.generation()), (5, 0));
        assert_eq!(places.next(3), None);
        let again = places.next(0).unwrap().offset;
        assert_eq!(places.generation(), 1);
        let written: Vec<Written> = places.written().collect();
        assert_eq!(written.len(), 5);
        for block in written {
            assert_eq!(block.generation, u64::from(block.offset == again));
        }
    }

    #[test]
    fn the_mix_is_as_asked() {
        let mut places = Places::new(&job(Rw::RandMixed, 70), 0, region(100), false);
        let kinds = (0..10_000).map(|_| places.next(0).unwrap().kind);
        let reads = kinds.filter(|kind| *kind == Kind::Read).count();
        assert!((6800..7200).contains(&reads), "{reads}");
    }

    #[test]
    fn sequential_places_wrap() {
        let mut places = Places::new(&job(Rw::Read, 100), 0, region(3), false);
        let blocks: Vec<u64> = (0..7).map(|_| (places.next(0).unwrap().offset - 8192) / 4096).collect();
        assert_eq!(blocks, [0, 1, 2, 0, 1, 2, 0]);
    }
}
