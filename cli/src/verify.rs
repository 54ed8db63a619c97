//! Writing a pattern and checking that it is there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::bail;

use crate::bench::places::Written;
use crate::bench::tally::Failure;
use crate::lanes::{Kind, Lanes, Op};
use crate::pattern::{Mismatch, Pattern};
use crate::plan::Region;

/// What a check has found.
#[derive(Debug, Clone, Default)]
pub struct Verified {
    /// Blocks that were read and compared.
    pub blocks: u64,
    /// Blocks whose data is wrong.
    pub wrong: u64,
    /// The wrong place with the lowest offset.
    pub first: Option<Mismatch>,
    /// Whether the user ended it before its end.
    pub cut_short: bool,
}

impl Verified {
    /// Adds what another check has found.
    pub fn add(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.wrong += other.wrong;
        self.cut_short |= other.cut_short;
        let both = [self.first.take(), other.first];
        self.first = both.into_iter().flatten().min_by_key(|place| place.at);
    }
}

/// Writes the pattern to every block of a region and makes it durable.
///
/// # Errors
/// The first write that fails.
pub fn fill(
    lanes: &mut Lanes,
    pattern: Pattern,
    region: Region,
    generation: u64,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let (mut block, mut blocks) = (vec![0; region.block_bytes as usize], 0..region.blocks);
    lanes.pump(
        |lanes, slot| {
            let offset = region.at(blocks.next().filter(|_| !stop.load(Ordering::Relaxed))?);
            pattern.fill(&mut block, offset, generation);
            lanes.write_slot(slot, &block);
            let kind = Kind::Write;
            Some(Op { kind, offset })
        },
        |_, _, op, result| whole(op, result, region.block_bytes),
    )?;
    lanes.sync()?;
    Ok(())
}

/// All blocks of a region, with the generation they should have; `None`: any.
pub fn all(region: Region, generation: Option<u64>) -> impl Iterator<Item = (u64, Option<u64>)> {
    (0..region.blocks).map(move |block| (region.at(block), generation))
}

/// The blocks that a job has written.
pub fn these(written: impl Iterator<Item = Written>) -> impl Iterator<Item = (u64, Option<u64>)> {
    written.map(|block| (block.offset, Some(block.generation)))
}

/// Reads blocks and compares them with the pattern.
///
/// # Errors
/// The first read that fails; wrong data is in the result.
pub fn check(
    lanes: &mut Lanes,
    pattern: Pattern,
    block_bytes: u64,
    blocks: impl Iterator<Item = (u64, Option<u64>)>,
    stop: &AtomicBool,
) -> anyhow::Result<Verified> {
    let (mut block, mut blocks) = (vec![0; block_bytes as usize], blocks);
    let mut found = Verified::default();
    let mut expected: HashMap<usize, Option<u64>> = HashMap::new();
    let pending = std::cell::RefCell::new(&mut expected);
    lanes.pump(
        |_, slot| {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let (offset, generation) = blocks.next()?;
            pending.borrow_mut().insert(slot, generation);
            let kind = Kind::Read;
            Some(Op { kind, offset })
        },
        |lanes, slot, op, result| {
            whole(op, result, block_bytes)?;
            lanes.read_slot(slot, &mut block);
            let generation = pending.borrow_mut().remove(&slot).flatten();
            found.blocks += 1;
            if let Err(mismatch) = pattern.check(&block, op.offset, generation) {
                found.wrong += 1;
                if found.first.as_ref().is_none_or(|first| mismatch.at < first.at) {
                    found.first = Some(mismatch);
                }
            }
            Ok(())
        },
    )?;
    found.cut_short = stop.load(Ordering::Relaxed);
    Ok(found)
}

fn whole(op: Op, result: i32, block_bytes: u64) -> anyhow::Result<()> {
    let expected = block_bytes as i32;
    if result == expected {
        return Ok(());
    }
    let failure = Failure { op, result, expected };
    bail!("verification cannot go on: {failure}")
}
