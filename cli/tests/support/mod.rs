//! Running the command in tests.

#[allow(dead_code, reason = "not every test copies")]
pub mod copying;
#[allow(dead_code, reason = "not every test draws")]
pub mod svg;

use std::process::{Command, Output, Stdio};

/// Generous: a boot takes about 3 s on an idle machine.
pub const LIMIT: &str = "120";

pub fn dmaring() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dmaring"));
    // Logs of failed guests are kept, here out of the way.
    command.stdin(Stdio::null()).env("TMPDIR", env!("CARGO_TARGET_TMPDIR"));
    command
}

/// `dmaring vm run OPTIONS -- COMMAND`.
pub fn run(options: &[&str], command: &[&str]) -> Output {
    let mut run = dmaring();
    run.args(["vm", "run", "--timeout", LIMIT]).args(options).arg("--").args(command);
    run.output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
pub fn assert_status(output: &Output, status: i32) {
    assert_eq!(
        output.status.code(),
        Some(status),
        "stdout: {}\nstderr: {}",
        text(&output.stdout),
        text(&output.stderr)
    );
}
