//! The measured loop: completions are taken in a batch, their slots filled again, one submission.
//!
//! The clock is read once a batch: I/Os of one submission begin together, and completions taken
//! together are seen at the same moment. Without `CLOCK` it is not read at all.
//!
//! The loop, with the filling and the draining of the ring, stands between the marks that count
//! instructions.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use dmaring::mark::{BEGIN, END, mark};

use super::places::Places;
use super::tally::Tally;
use crate::lanes::{Kind, Lanes, Op};
use crate::pattern::Pattern;

/// When the loop ends; what is in flight then is waited for.
pub struct Until<'a> {
    /// After so many I/Os.
    pub ios: u64,
    /// At this time.
    pub deadline: Option<Instant>,
    /// When the user says so.
    pub stop: &'a AtomicBool,
    /// Whether this is measured, and so counted where somebody counts.
    pub marked: bool,
    /// I/Os done so far, for whoever shows progress.
    pub done: &'a AtomicU64,
}

/// A device on which nothing but errors has come back after so many I/Os is given up.
const HOPELESS: u64 = 1000;

/// What is in a slot.
#[derive(Clone, Copy)]
pub struct Flight {
    /// The I/O, also after it has ended.
    pub op: Op,
    started: Instant,
}

/// Runs I/Os until told to end; with `pattern`, writes carry it.
///
/// # Errors
/// The ring's. Errors of single I/Os are counted in `tally`.
pub fn run<const CLOCK: bool>(
    lanes: &mut Lanes,
    places: &mut Places,
    block: &mut [u8],
    pattern: Option<Pattern>,
    until: &Until<'_>,
    tally: &mut Tally,
    flights: &mut Vec<Option<Flight>>,
) -> io::Result<()> {
    let begin = Instant::now();
    let mut idle: Vec<usize> = (0..lanes.slots()).rev().collect();
    flights.clear();
    flights.resize(lanes.slots(), None);
    let (mut now, mut issued, mut ended) = (begin, 0, false);
    let (full, before) = (places.result(block.len()), until.done.load(Ordering::Relaxed));
    if until.marked {
        mark::<BEGIN>();
    }
    loop {
        let mut batch = lanes.batch();
        while !ended
            && issued < until.ios
            && let Some(&slot) = idle.last()
        {
            let Some(op) = places.next(batch.in_flight()) else {
                break;
            };
            if let Some(pattern) = pattern
                && op.kind == Kind::Write
            {
                pattern.fill(block, op.offset, places.generation());
                batch.write_slot(slot, block);
            }
            idle.pop();
            flights[slot] = Some(Flight { op, started: now });
            batch.push(slot, op);
            issued += 1;
        }
        drop(batch);
        if lanes.in_flight() == 0 {
            if until.marked {
                mark::<END>();
            }
            return Ok(());
        }
        lanes.submit_and_wait()?;
        if CLOCK {
            now = Instant::now();
        }
        lanes.reap(|slot, result| {
            idle.push(slot);
            let Some(flight) = &flights[slot] else { return };
            if result == full {
                tally.good(flight.op.kind);
            } else {
                tally.bad(flight.op, result, full);
            }
            if CLOCK {
                tally.latency(now.duration_since(flight.started));
            }
        });
        until.done.store(before + tally.ios(), Ordering::Relaxed);
        ended = until.stop.load(Ordering::Relaxed)
            || CLOCK && until.deadline.is_some_and(|deadline| now >= deadline)
            || tally.errors >= HOPELESS && tally.errors == tally.ios();
    }
}
