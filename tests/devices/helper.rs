//! Other processes that cases need: this executable, started with an argument.

use std::io::Write;
use std::process::{Child, Command, ExitCode, Stdio};

use dmaring::{CompletionMode, Ring};
use io_uring::opcode;
use nix::sys::resource::{Resource, setrlimit};

use crate::case::Stop;
use crate::support::pattern;
use crate::support::raw::Memory;
use crate::support::rig::{FILE, Rig};

/// First argument of a helper; the second says which.
pub(crate) const ARGUMENT: &str = "--dmaring-helper";

/// Blocks of [`BLOCK_BYTES`] that the loader goes through.
pub(super) const BLOCKS: u64 = 2048;
pub(super) const BLOCK_BYTES: usize = 4096;
/// Writes that it keeps in flight.
const DEPTH: usize = 16;

/// A command that runs helper `which`.
pub(super) fn command(which: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(ARGUMENT).arg(which).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

/// Ends a helper when the case ends, however that is.
pub(super) struct Running(pub(super) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Does what this process was started for. Arguments: which helper, and its own.
pub(crate) fn helper(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let which = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match (which.as_str(), arguments.as_slice()) {
        ("open", [name]) => open(name),
        ("hold", [name]) => hold(name),
        ("limited", [name, limit]) => limited(name, limit),
        ("load", [name, mode]) => load(name, mode),
        _ => Err(Stop::Fail(format!("no helper {which} {arguments:?}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Fail(reason) | Stop::Skip(reason)) => {
            say(&format!("error: {reason}"));
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

fn open(name: &str) -> Result<(), Stop> {
    let ring = Ring::builder(256).open(name)?;
    let mut rig = Rig::new(ring);
    rig.get(0, 4096)?;
    say("opened");
    Ok(())
}

/// Holds the device until standard input ends.
fn hold(name: &str) -> Result<(), Stop> {
    let ring = Ring::builder(8).open(name)?;
    say("held");
    let _ = std::io::stdin().read_line(&mut String::new());
    drop(ring);
    Ok(())
}

/// As `open`, with a limit of locked memory in bytes.
fn limited(name: &str, limit: &str) -> Result<(), Stop> {
    let limit = limit.parse()?;
    setrlimit(Resource::RLIMIT_MEMLOCK, limit, limit)?;
    open(name)
}

/// Writes block after block for ever, and says so of each that is durable.
fn load(name: &str, mode: &str) -> Result<(), Stop> {
    let mode = if mode == "poll" { CompletionMode::Poll } else { CompletionMode::Interrupt };
    let mut rig = Rig::new(Ring::builder(DEPTH as u32).completion(mode).open(name)?);
    let memory = [rig.alloc(DEPTH * BLOCK_BYTES)?, rig.plain(DEPTH * BLOCK_BYTES)];
    let mut in_slot = [0u64; DEPTH];
    let mut free: Vec<usize> = (0..DEPTH).collect();
    let mut next = 0u64;
    loop {
        while let Some(slot) = free.pop() {
            let block = next % BLOCKS;
            let data: Memory = memory[slot % 2].part(slot * BLOCK_BYTES, BLOCK_BYTES);
            data.write(&pattern::bytes(next, 0, BLOCK_BYTES));
            let entry = opcode::Write::new(FILE, data.ptr(), BLOCK_BYTES as u32)
                .offset(block * BLOCK_BYTES as u64)
                .rw_flags(libc::RWF_DSYNC)
                .build();
            rig.push(&entry.user_data(slot as u64))?;
            in_slot[slot] = next;
            next += 1;
        }
        rig.ring.submit_and_wait(1)?;
        for done in rig.ready() {
            assert_eq!(done.res, BLOCK_BYTES as i32);
            let slot = done.user_data as usize;
            say(&in_slot[slot].to_string());
            free.push(slot);
        }
    }
}
