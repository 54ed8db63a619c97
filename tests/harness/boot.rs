//! Guests, seen from the host: booted when the first of their trials is due, heard line by line.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use dmaring_qemu::GuestExit;

use super::INSIDE;
use super::machine::Machine;
use super::report::Report;

/// Where the running executable is in a guest.
const EXECUTABLE: &str = "/init";
/// Lines of output that a guest that ended too early is remembered by.
const TAIL_LINES: usize = 30;

static GUESTS: LazyLock<Mutex<HashMap<Machine, Arc<Guest>>>> = LazyLock::new(Mutex::default);
/// Two emulated machines at once are slower than one after the other.
static TURN: Mutex<()> = Mutex::new(());

#[derive(Debug, Default)]
struct Guest {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    trials: Vec<String>,
    reports: HashMap<String, Report>,
    /// What the guest said besides reports.
    said: Vec<String>,
    /// How it ended: for trials without a report.
    ended: Option<String>,
    failed: bool,
    thread: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says which trials a guest is to run, before any of them is asked for.
pub(super) fn choose(machine: Machine, trials: impl Iterator<Item = String>) {
    let guest = Arc::clone(lock(&GUESTS).entry(machine).or_default());
    lock(&guest.state).trials.extend(trials);
}

/// The report of one trial; boots the guest if it has not been, and waits.
pub(super) fn report(machine: Machine, name: &str) -> Report {
    let guest = Arc::clone(lock(&GUESTS).entry(machine).or_default());
    let mut state = lock(&guest.state);
    if state.thread.is_none() {
        let own = Arc::clone(&guest);
        state.thread = Some(thread::spawn(move || run(machine, &own)));
    }
    loop {
        if let Some(report) = state.reports.get(name) {
            return report.clone();
        }
        if let Some(reason) = &state.ended {
            return Report::failed(name, format!("the guest ended before this case had reported: {reason}"));
        }
        state = guest.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Waits until the guests have powered off; false when one of them failed.
pub(super) fn finish() -> bool {
    let guests: Vec<_> = lock(&GUESTS).drain().collect();
    let mut well = true;
    for (machine, guest) in guests {
        let thread = lock(&guest.state).thread.take();
        let Some(thread) = thread else { continue };
        let joined = thread.join();
        let state = lock(&guest.state);
        if joined.is_err() || state.failed {
            super::run::say(&format!("guest {}: {}", machine.name(), state.ended.as_deref().unwrap_or("it panicked")));
            well = false;
        }
    }
    well
}

fn run(machine: Machine, guest: &Guest) {
    let _turn = lock(&TURN);
    let start = Instant::now();
    let mut result = boot(machine, guest);
    if let Err(Failure { emulator_crashed: true, reason }) = &result {
        // A crash of the emulator says nothing about the cases, but for the one that was under way: all that
        // have not reported run once more. A second crash counts.
        super::run::say(&format!("guest {}: booted again, as QEMU itself has crashed: {reason}", machine.name()));
        result = boot(machine, guest);
    }
    let mut state = lock(&guest.state);
    let tail = state.said[state.said.len().saturating_sub(TAIL_LINES)..].join("\n");
    let (ended, failed) = match result {
        Ok(exit) if exit.success() => ("its runner ended".to_owned(), false),
        Ok(exit) => (format!("its runner ended with {}", exit.status()), true),
        Err(failure) => (failure.reason, true),
    };
    super::times::note(&format!("guest {}", machine.name()), start.elapsed().as_millis() as u64);
    state.ended = Some(if tail.is_empty() { ended } else { format!("{ended}\n{tail}") });
    state.failed = failed;
    drop(state);
    guest.changed.notify_all();
}

/// Why a guest gave no exit status.
struct Failure {
    /// QEMU was killed by a signal of its own making.
    emulator_crashed: bool,
    reason: String,
}

/// Runs the trials that have not reported yet.
fn boot(machine: Machine, guest: &Guest) -> Result<GuestExit, Failure> {
    let vm = machine.vm().map_err(|reason| Failure { emulator_crashed: false, reason })?;
    let mut command = vec![EXECUTABLE.to_owned(), INSIDE.to_owned(), machine.name().to_owned()];
    {
        let state = lock(&guest.state);
        command.extend(state.trials.iter().filter(|trial| !state.reports.contains_key(*trial)).cloned());
    }
    let mut stdout = Lines { guest, partial: Vec::new() };
    let mut stderr = Lines { guest, partial: Vec::new() };
    vm.run_into(command, &mut stdout, &mut stderr).map_err(|error| Failure {
        emulator_crashed: error.is_crash_of_emulator(),
        reason: match error.log() {
            Some(log) => format!("{error}\n{}", log.tail),
            None => error.to_string(),
        },
    })
}

/// Cuts a stream into lines: reports, and other things said.
struct Lines<'a> {
    guest: &'a Guest,
    partial: Vec<u8>,
}

impl Write for Lines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]).into_owned();
            let mut state = lock(&self.guest.state);
            match Report::parse(&line) {
                Some(report) => {
                    state.reports.insert(report.name.clone(), report);
                }
                None => state.said.push(line),
            }
            drop(state);
            self.guest.changed.notify_all();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
