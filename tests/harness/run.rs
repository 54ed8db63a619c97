//! Running one case in this process.

use std::cell::RefCell;
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Instant;

use dmaring::model::{Model, ModelConfig};
use dmaring::{CompletionMode, Device};

use super::report::{Report, Status};
use crate::case::{Bench, Case, Stop};
use crate::support::loop_device::LoopDevice;

/// Size of the devices that cases run on, in bytes.
pub(super) const DEVICE_BYTES: u64 = 64 << 20;

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps what panics say, with their place, for the report instead of printing it.
pub(super) fn catch_panics() {
    panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or("panicked");
        let place = info.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
        PANIC.set(Some(format!("{text}{place}")));
    }));
}

/// Runs a case to its end, in a thread of its own: what rings of an earlier case have left to their thread (the
/// kernel's task work) interrupts no call of this one.
pub(super) fn run(case: &Case, bench: &Bench) -> Report {
    let run = || run_here(case, bench);
    let report = std::thread::scope(|scope| scope.spawn(run).join());
    report.unwrap_or_else(|_| Report::failed(case.name, "panicked beyond its end"))
}

fn run_here(case: &Case, bench: &Bench) -> Report {
    let name = format!("{}::{}", case.name, bench.backend);
    let start = Instant::now();
    let (status, message) = match panic::catch_unwind(AssertUnwindSafe(|| (case.run)(bench))) {
        Ok(Ok(())) => (Status::Passed, String::new()),
        Ok(Err(Stop::Skip(reason))) => (Status::Skipped, reason),
        Ok(Err(Stop::Fail(reason))) => (Status::Failed, reason),
        Err(_) => (Status::Failed, PANIC.take().unwrap_or_else(|| "panicked".to_owned())),
    };
    Report { name, status, message, millis: start.elapsed().as_millis() as u64 }
}

/// Runs a case on a loop device of its own.
pub(super) fn on_loop_device(case: &Case, backend: &'static str) -> Report {
    match LoopDevice::new(DEVICE_BYTES, false) {
        Ok(device) => {
            let name = device.path().to_owned();
            run(case, &Bench { backend, name, model: None, mode: CompletionMode::Interrupt })
        }
        Err(reason) => {
            let name = format!("{}::{backend}", case.name);
            Report { name, status: Status::Skipped, message: reason, millis: 0 }
        }
    }
}

/// Runs a case on a model of its own.
pub(super) fn on_model(case: &Case, backend: &'static str) -> Report {
    let mode = match backend {
        _ if backend.ends_with("_interrupt") => CompletionMode::Interrupt,
        _ if backend.ends_with("_adaptive") => CompletionMode::Adaptive,
        _ => CompletionMode::Poll,
    };
    match model(backend) {
        Ok(device) => run(case, &Bench { backend, name: device.name(), model: Some(device), mode }),
        Err(error) => {
            let name = format!("{}::{backend}", case.name);
            Report { name, status: Status::Failed, message: error.to_string(), millis: 0 }
        }
    }
}

fn model(backend: &str) -> Result<Device, dmaring::Error> {
    if backend.starts_with("model_threaded") {
        return Device::open(&format!("model:{DEVICE_BYTES}"));
    }
    let os = |reason| dmaring::Error::Os { call: "memory of the model", reason };
    let shadow_doorbells = backend == "model_shadow_doorbells";
    let config = ModelConfig { shadow_doorbells, ..ModelConfig::ram(DEVICE_BYTES).map_err(os)? };
    Device::on(Arc::new(Model::stepped("model:", config)))
}

/// Prints a line, whole; a reader that has gone is no failure of the tests.
pub(super) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{line}\n").as_bytes());
    let _ = out.flush();
}
