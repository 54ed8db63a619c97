//! What was counted while measuring.

use std::fmt;
use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;
use nix::errno::Errno;

use crate::lanes::{Bare, Came, Kind, Op};

/// A minute: longer is counted as a minute.
const LONGEST_NS: u64 = 60_000_000_000;

/// Counts of one thread, or of several added up.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Reads that came back whole.
    pub reads: u64,
    /// Writes that came back whole.
    pub writes: u64,
    /// Entries that did nothing, as they should.
    pub nops: u64,
    /// I/Os that failed or were cut short.
    pub errors: u64,
    /// The first of them.
    pub first_error: Option<Failure>,
    /// Latencies in nanoseconds, to three digits.
    pub latencies: Histogram<u64>,
}

/// One I/O that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// The I/O.
    pub op: Op,
    /// The completion's result.
    pub result: i32,
    /// The result it should have had.
    pub expected: i32,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.op.kind {
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Nop => "nop",
        };
        let (offset, expected) = (self.op.offset, self.expected);
        write!(f, "{verb} of {expected} bytes at {offset}: ")?;
        if self.result >= 0 {
            return write!(f, "only {} bytes were transferred", self.result);
        }
        let number = self.result.saturating_neg();
        write!(f, "{:?}: {}", Errno::from_raw(number), io::Error::from_raw_os_error(number))
    }
}

impl Default for Tally {
    fn default() -> Self {
        // The arguments are in the range that `new_with_bounds` documents.
        let latencies = Histogram::new_with_bounds(1, LONGEST_NS, 3);
        let latencies = latencies.unwrap_or_else(|error| unreachable!("{error}"));
        Self { reads: 0, writes: 0, nops: 0, errors: 0, first_error: None, latencies }
    }
}

impl Tally {
    /// I/Os that ended, well or not.
    pub fn ios(&self) -> u64 {
        self.good_ios() + self.errors
    }

    /// I/Os that ended well.
    pub fn good_ios(&self) -> u64 {
        self.reads + self.writes + self.nops
    }

    /// Takes over what the bare loop has counted.
    pub(super) fn bare(&mut self, what: Bare, came: &Came) {
        let (kind, expected) = match what {
            Bare::Read(region) => (Kind::Read, region.block_bytes as i32),
            Bare::Nop => (Kind::Nop, 0),
        };
        match kind {
            Kind::Nop => self.nops += came.good,
            _ => self.reads += came.good,
        }
        if let Some((result, count)) = came.bad {
            self.errors += count;
            self.first_error = Some(Failure { op: Op { kind, offset: 0 }, result, expected });
        }
    }

    #[inline]
    pub(super) fn good(&mut self, kind: Kind) {
        match kind {
            Kind::Read => self.reads += 1,
            Kind::Write => self.writes += 1,
            Kind::Nop => self.nops += 1,
        }
    }

    #[cold]
    pub(super) fn bad(&mut self, op: Op, result: i32, expected: i32) {
        self.errors += 1;
        self.first_error.get_or_insert(Failure { op, result, expected });
    }

    #[inline]
    pub(super) fn latency(&mut self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(LONGEST_NS);
        self.latencies.saturating_record(ns);
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Self) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.nops += other.nops;
        self.errors += other.errors;
        self.first_error = self.first_error.or(other.first_error);
        // Both have the same bounds.
        let _ = self.latencies.add(&other.latencies);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_name_the_errno() {
        let op = Op { kind: Kind::Write, offset: 8192 };
        let mut tally = Tally::default();
        tally.bad(op, -libc::ENOSPC, 4096);
        tally.bad(op, 512, 4096);
        assert_eq!((tally.errors, tally.ios()), (2, 2));
        let first = tally.first_error.unwrap();
        assert_eq!(first.to_string(), "write of 4096 bytes at 8192: ENOSPC: No space left on device (os error 28)");
        let short = Failure { result: 512, ..first };
        assert!(short.to_string().contains("only 512 bytes"));
    }

    #[test]
    fn tallies_add_up() {
        let (mut one, mut two) = (Tally::default(), Tally::default());
        one.good(Kind::Read);
        one.latency(Duration::from_nanos(100));
        two.good(Kind::Write);
        two.latency(Duration::from_secs(100));
        one.add(&two);
        assert_eq!((one.reads, one.writes, one.latencies.len()), (1, 1, 2));
    }
}
