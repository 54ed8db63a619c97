//! `dmaring copy`: bytes from a device, file or stream to another.
//!
//! 1. Names and options are looked at (`side`), and whether both names reach the same bytes (`same`).
//! 2. Both sides are opened, the copy is planned (`plan`), and the destination is guarded as `bench` does.
//!    Until here nothing has been changed, but for a file that was made, which goes again on failure.
//! 3. A pass moves the blocks (`pass`, `mover`), what was written is made durable, and with `--verify` it
//!    is read back.

mod differences;
mod holes;
mod mover;
mod pass;
mod plan;
mod prepare;
mod progress;
mod same;
mod side;
mod stream;
mod work;

use std::process::ExitCode;

use clap::Args;
use dmaring::parse_size;

use crate::interrupt::Interrupt;
use crate::job::{Completion, parse_length};

use prepare::Prepared;
use side::Named;

const MOST_IN_FLIGHT: i64 = 4096;

/// `dmaring copy`.
///
/// A block of the destination that the copy covers in part keeps the rest of what it holds. A file is cut
/// at --seek first, so that it ends with the copy. All is flushed before the command ends.
#[derive(Debug, Args)]
pub struct CopyCommand {
    /// Where from: pci:ADDRESS[/NAMESPACE], model:SIZE, a path, or - for standard input
    from: String,
    /// Where to: the same, or - for standard output; a file is made, or cut at --seek
    to: String,
    /// Bytes of each I/O, rounded up to whole blocks of both sides
    #[arg(long, value_name = "SIZE", default_value = "128k", value_parser = parse_length)]
    bs: u64,
    /// Blocks in flight
    #[arg(long, value_name = "N", default_value_t = 16,
          value_parser = clap::value_parser!(u32).range(1..=MOST_IN_FLIGHT))]
    iodepth: u32,
    /// Bytes (not blocks) of FROM to pass over
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = parse_size)]
    skip: u64,
    /// Bytes (not blocks) of TO to pass over
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = parse_size)]
    seek: u64,
    /// Bytes to copy [default: to the end of FROM]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    size: Option<u64>,
    /// Read TO back and compare every byte: once more with FROM after all was written and flushed, or,
    /// where FROM is a stream, with what is in memory after each write
    #[arg(long)]
    verify: bool,
    /// Leave blocks of zeros out of a file, as holes; holes of FROM are left out anyway
    #[arg(long, conflicts_with = "notrunc")]
    sparse: bool,
    /// Do not cut a file at --seek: what the copy does not cover stays
    #[arg(long)]
    notrunc: bool,
    /// Write even if a device carries a partition table, a file system or the like
    #[arg(long)]
    force: bool,
    /// How completions of pci: and model: are learnt of
    #[arg(long, value_name = "poll|interrupt|adaptive", default_value = "poll", hide_possible_values = true)]
    completion: Completion,
    /// Tell the progress even where standard error is no terminal
    #[arg(long)]
    progress: bool,
}

impl CopyCommand {
    /// Copies; the exit status tells whether every byte is where it should be.
    ///
    /// # Errors
    /// Whatever kept a byte from it.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        // Before signals are caught, as opening a pipe may wait for its other end.
        let (from, to) = (Named::source(&self.from)?, Named::destination(&self.to)?);
        let interrupt = Interrupt::catch()?;
        let prepared = Prepared::new(&self, from, to)?;
        prepared.copy(&interrupt)
    }
}
