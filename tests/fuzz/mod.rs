//! Fuzzing: rounds of random calls and entries, half of which make sense, on a ring on a model.
//!
//! ```text
//! cargo run --release -p dmaring-tests --bin fuzz -- TARGET [--seconds N] [--seed S [--rounds N]]
//!   entries     entries of all kinds in batches
//!   registers   io_uring_register(2)
//!   indices     a program that writes what it likes into the memory of its rings
//!   enter       io_uring_enter(2)
//! ```
//! A round is made of its seed, and ends with the ring: nothing panics, hangs, writes where no entry has said
//! so, or completes what was never begun, and all descriptors are gone. Whatever fails, the seed of the round
//! is printed; `--seed` of it with `--rounds 1` runs it again. What a threaded model and short timeouts do is
//! up to the moment, so such a round may need several runs.

mod arena;
mod enter;
mod entries;
mod indices;
mod lab;
mod ledger;
mod program;
mod registers;
mod watch;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::arena::Arena;
use self::lab::Outcome;
use crate::support::pattern::Random;

/// What can be fuzzed.
pub const TARGETS: [&str; 4] = ["entries", "registers", "indices", "enter"];

/// How long, unless it is said.
const SECONDS: u64 = 60;

struct Plan {
    target: String,
    limit: Duration,
    seed: u64,
    rounds: u64,
}

/// Fuzzes as the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let plan = match plan(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(what) => {
            eprintln!("{what}\nusage: fuzz {} [--seconds N] [--seed S] [--rounds N]", TARGETS.join("|"));
            return ExitCode::from(2);
        }
    };
    println!("fuzz {}: seeds from {} on", plan.target, plan.seed);
    watch::start();
    let mut arena = Arena::new();
    let start = Instant::now();
    let open = descriptors();
    let mut rounds = 0;
    while rounds < plan.rounds && start.elapsed() < plan.limit {
        let seed = plan.seed.wrapping_add(rounds);
        watch::round(seed);
        let result = catch_unwind(AssertUnwindSafe(|| round(&plan.target, seed, &mut arena)));
        let result = result.unwrap_or_else(|_| Err("it panicked".to_owned()));
        if let Err(what) = result.and_then(|()| same_descriptors(&open)) {
            println!("fuzz {}: round of seed {seed}: {what}", plan.target);
            println!("again: fuzz {} --seed {seed} --rounds 1", plan.target);
            return ExitCode::FAILURE;
        }
        rounds += 1;
    }
    println!("fuzz {}: {rounds} rounds in {:.1} s, all well", plan.target, start.elapsed().as_secs_f32());
    ExitCode::SUCCESS
}

fn round(target: &str, seed: u64, arena: &mut Arena) -> Outcome {
    // Rounds of neighbouring seeds have nothing in common.
    let mut scrambler = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let random = Random::new(scrambler.below(u64::MAX));
    match target {
        "entries" => lab::round(&entries::Entries, random, arena),
        "registers" => lab::round(&registers::Registers, random, arena),
        "indices" => lab::round(&indices::Indices, random, arena),
        _ => lab::round(&enter::Enter, random, arena),
    }
}

fn plan(mut args: impl Iterator<Item = String>) -> Result<Plan, String> {
    let target = args.next().filter(|target| TARGETS.contains(&target.as_str())).ok_or("which target?")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut plan =
        Plan { target, limit: Duration::from_secs(SECONDS), seed: now.as_nanos() as u64 >> 10, rounds: u64::MAX };
    while let Some(option) = args.next() {
        let value = args.next().and_then(|value| value.parse::<u64>().ok());
        let value = value.ok_or_else(|| format!("{option} takes a number"))?;
        match option.as_str() {
            "--seconds" => plan.limit = Duration::from_secs(value),
            "--seed" => plan.seed = value,
            "--rounds" => plan.rounds = value,
            _ => return Err(format!("there is no option {option}")),
        }
    }
    Ok(plan)
}

/// Descriptors of the process, and what they are of.
fn descriptors() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let name = |entry: std::fs::DirEntry| {
        let link = std::fs::read_link(entry.path()).ok()?;
        // The one that this list is read by is gone when it is asked for, or names the directory.
        (!link.ends_with("fd")).then(|| format!("{} {}", entry.file_name().display(), link.display()))
    };
    let mut names: Vec<String> = entries.filter_map(name).collect();
    names.sort();
    names
}

fn same_descriptors(before: &[String]) -> Outcome {
    let now = descriptors();
    if now == before { Ok(()) } else { Err(format!("descriptors are left: {now:?}, there were {before:?}")) }
}
