//! PID 1, from the manifest to power off.

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::relay::{self, Port};
use super::{child, ring, system};
use crate::frame::Kind;
use crate::manifest::{self, Manifest, Status};

/// How long the host may take to receive the last frame.
const FAREWELL: Duration = Duration::from_secs(30);

/// Runs the guest; ends with the machine.
pub(crate) fn main() -> ! {
    // A thread that panics must not leave the others waiting: PID 1 ends, and the kernel with it.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::exit(101);
    }));
    if let Err(reason) = run() {
        // To the kernel's console, as there is no port to tell it by.
        eprintln!("dmaring init: {reason}");
        std::process::exit(1);
    }
    nix::unistd::sync();
    let _ = reboot(RebootMode::RB_POWER_OFF);
    panic!("this machine cannot be powered off");
}

/// Fails only where the host cannot be told.
fn run() -> Result<(), String> {
    let text = fs::read(manifest::PATH).map_err(|error| format!("{}: {error}", manifest::PATH))?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", manifest::PATH))?;
    system::set_up()?;
    let mut warnings = system::load_modules(&manifest.modules);
    let file = system::open_port()?;
    let listener = file.try_clone().map_err(|error| error.to_string())?;
    let port = Port::new(file);
    warnings.extend(system::wait_for_nvme(manifest.controllers, manifest.namespaces));
    let _ring = ring::hold();
    warnings.extend(system::bring_up_cpus(manifest.cpus));
    let send = |kind, bytes: &[u8]| port.send(kind, &[bytes]).map_err(|error| format!("the port: {error}"));
    for warning in warnings {
        send(Kind::Stderr, format!("dmaring: guest: {warning}\n").as_bytes())?;
    }
    send(Kind::Ready, b"")?;
    let started = child::start(&manifest);
    let started = match started {
        Ok(started) => started,
        Err(reason) => {
            let heard = relay::listen(listener, None, false);
            send(Kind::Failed, reason.as_bytes())?;
            let _ = heard.recv_timeout(FAREWELL);
            return Ok(());
        }
    };
    let heard = relay::listen(listener, started.stdin, manifest.tty);
    let out = started.stdout.map(|stream| port.relay(stream, Kind::Stdout));
    let err = started.stderr.map(|stream| port.relay(stream, Kind::Stderr));
    let status = reap_until(Pid::from_raw(started.child.id() as i32)).map_err(|errno| format!("waiting: {errno}"))?;
    kill_the_rest();
    for thread in [out, err].into_iter().flatten() {
        let _ = thread.join();
    }
    for (index, path) in manifest.get.iter().enumerate() {
        port.send_file(index, path).map_err(|error| format!("the port: {error}"))?;
    }
    nix::unistd::sync();
    let status = Status { code: status.code(), signal: status.signal(), oom_kills: system::oom_kills() };
    let text = serde_json::to_vec(&status).map_err(|error: serde_json::Error| io::Error::from(error).to_string())?;
    send(Kind::Status, &text)?;
    let _ = heard.recv_timeout(FAREWELL);
    Ok(())
}

/// Reaps whatever ends until `child` does.
fn reap_until(child: Pid) -> nix::Result<ExitStatus> {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => {
                return Ok(ExitStatus::from_raw(code << 8));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                return Ok(ExitStatus::from_raw(signal as i32));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// What the command left running would keep its output open.
fn kill_the_rest() {
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    while !matches!(waitpid(None, None), Err(Errno::ECHILD)) {}
}
