//! Fuzzes each target for a while, in a process of its own: for 10 s, or `DMARING_FUZZ_SECONDS`.

use std::process::{Command, ExitCode};

use dmaring_tests::fuzz::TARGETS;
use libtest_mimic::{Arguments, Failed, Trial};

const SECONDS: &str = "10";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = TARGETS.iter().map(|target| Trial::test(format!("fuzz_{target}"), || run(target))).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// What is printed of a failure names the seed.
fn run(target: &str) -> Result<(), Failed> {
    let seconds = std::env::var("DMARING_FUZZ_SECONDS").unwrap_or_else(|_| SECONDS.to_owned());
    let fuzz = Command::new(env!("CARGO_BIN_EXE_fuzz")).args([target, "--seconds", &seconds]).output()?;
    if fuzz.status.success() {
        return Ok(());
    }
    let (out, err) = (String::from_utf8_lossy(&fuzz.stdout), String::from_utf8_lossy(&fuzz.stderr));
    Err(format!("{}\n{out}{err}", fuzz.status).into())
}
