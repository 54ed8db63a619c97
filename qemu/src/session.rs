//! A running guest: relays its frames, watches the clock, and judges how it ended.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{Doing, GuestLog, VmError};
use crate::frame::{self, Frame, Kind};
use crate::input::Forwarder;
use crate::klog::{self, Captured};
use crate::manifest::Status;
use crate::run::{GuestExit, Sinks};
use crate::vm::{Input, Vm};

/// Longest boot, on a busy host too.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
/// Longest power-off; the results are here by then.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(10);

/// Gets killed when dropped, so that no early return leaves QEMU running.
struct Qemu(Child);

impl Qemu {
    /// Waits until `deadline`, then kills.
    fn end_by(&mut self, deadline: Instant) -> io::Result<ExitStatus> {
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.0.kill()?;
        self.0.wait()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How the exchange of frames ended.
enum End {
    Status(Status),
    Failed(String),
    Closed(String),
    TimedOut { limit: Duration, doing: &'static str },
}

/// A guest that is booting or running.
pub(crate) struct Session<'a> {
    vm: &'a Vm,
    // Dropped before the threads are joined: its end is what ends them.
    qemu: Qemu,
    port: UnixStream,
    kernel_log: Captured,
    qemu_says: Captured,
    gatherers: Vec<JoinHandle<()>>,
    files: Vec<Option<File>>,
    lost: Option<VmError>,
}

impl<'a> Session<'a> {
    pub fn new(vm: &'a Vm, mut child: Child, port: UnixStream, console: UnixStream, log: Option<File>) -> Self {
        let (kernel_log, qemu_says) = (Captured::default(), Captured::default());
        let mut gatherers = vec![klog::gather(console, kernel_log.clone(), log, vm.verbose)];
        if let Some(stdout) = child.stdout.take() {
            gatherers.push(klog::gather(stdout, qemu_says.clone(), None, vm.verbose));
        }
        if let Some(stderr) = child.stderr.take() {
            gatherers.push(klog::gather(stderr, qemu_says.clone(), None, vm.verbose));
        }
        let files = vm.get.iter().map(|_| None).collect();
        Self { vm, qemu: Qemu(child), port, kernel_log, qemu_says, gatherers, files, lost: None }
    }

    /// Sees the guest to its end.
    pub fn run(mut self, sinks: &mut Sinks<'_>) -> Result<GuestExit, VmError> {
        let forwarder = match self.vm.input {
            Input::Null => Forwarder::none(&self.port),
            input => Forwarder::start(&self.port, input == Input::Terminal),
        };
        let forwarder = forwarder.doing(|| "forwarding standard input".to_owned())?;
        let end = self.exchange(sinks);
        // The guest may be gone; how it ended is judged below.
        let _ = frame::write(&mut self.port, Kind::Done, &[]);
        let deadline = match end {
            Ok(End::Status(_) | End::Failed(_)) => Instant::now() + POWER_OFF_LIMIT,
            // QEMU may be about to say why.
            Ok(End::Closed(_)) => Instant::now() + Duration::from_secs(2),
            _ => Instant::now(),
        };
        let status = self.qemu.end_by(deadline);
        let escaped = forwarder.finish();
        self.gatherers.drain(..).for_each(|gatherer| drop(gatherer.join()));
        let status = status.doing(|| "waiting for QEMU".to_owned())?;
        self.judge(end?, status, escaped)
    }

    /// Handles frames until the last one.
    fn exchange(&mut self, sinks: &mut Sinks<'_>) -> Result<End, VmError> {
        let start = Instant::now();
        let mut ready = false;
        let mut reader = frame::Reader::default();
        loop {
            let boot = (!ready).then_some(BOOT_LIMIT);
            let limit = [self.vm.time_limit, boot].into_iter().flatten().min();
            let left = limit.map(|limit| limit.saturating_sub(start.elapsed()));
            let doing = if ready { "running the command" } else { "booting" };
            if let (Some(Duration::ZERO), Some(limit)) = (left, limit) {
                return Ok(End::TimedOut { limit, doing });
            }
            self.port.set_read_timeout(left).doing(|| "setting a time limit".to_owned())?;
            let frame = match reader.next(&mut self.port) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(End::Closed("QEMU ended".to_owned())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Ok(End::Closed(format!("its port: {error}"))),
            };
            match frame.kind {
                Kind::Ready => ready = true,
                Kind::Stdout => relay(sinks.stdout, &frame.body, "standard output")?,
                Kind::Stderr => relay(sinks.stderr, &frame.body, "standard error")?,
                Kind::Failed => {
                    return Ok(End::Failed(String::from_utf8_lossy(&frame.body).into_owned()));
                }
                Kind::Status => {
                    let Ok(status) = serde_json::from_slice(&frame.body) else {
                        return Ok(End::Closed("its last message is damaged".to_owned()));
                    };
                    return Ok(End::Status(status));
                }
                Kind::File | Kind::FileEnd | Kind::FileError => self.file(&frame),
                Kind::Stdin | Kind::Resize | Kind::Done => {}
            }
        }
    }

    /// Takes part of a file that was asked for; the first failure is kept for the end.
    fn file(&mut self, frame: &Frame) {
        let Some((index, bytes)) = frame.split_index() else {
            return;
        };
        let (Some((guest, host)), Some(slot)) = (self.vm.get.get(index), self.files.get_mut(index)) else {
            return;
        };
        let open = |slot: &mut Option<File>| -> io::Result<()> {
            if slot.is_none() {
                *slot = Some(File::create(host)?);
            }
            Ok(())
        };
        let done = match (frame.kind, <[u8; 4]>::try_from(bytes)) {
            (Kind::File, _) => open(slot).and_then(|()| slot.as_mut().map_or(Ok(()), |file| file.write_all(bytes))),
            (Kind::FileEnd, Ok(mode)) => open(slot).and_then(|()| {
                let mode = Permissions::from_mode(u32::from_le_bytes(mode) & 0o777);
                slot.as_mut().map_or(Ok(()), |file| file.set_permissions(mode))
            }),
            _ => Err(io::Error::other(String::from_utf8_lossy(bytes).into_owned())),
        };
        if let Err(error) = done {
            let reason = match frame.kind {
                Kind::FileError => error.to_string(),
                _ => format!("{}: {error}", host.display()),
            };
            self.lost.get_or_insert(VmError::Get { guest: guest.clone(), reason });
        }
    }

    fn judge(mut self, end: End, qemu: ExitStatus, escaped: bool) -> Result<GuestExit, VmError> {
        if let Some(reason) = self.kernel_log.panic() {
            return Err(VmError::Panic { reason, log: self.keep_log() });
        }
        let status = match end {
            End::Status(status) => status,
            End::Failed(reason) => {
                return Err(VmError::Guest { reason, log: self.keep_log() });
            }
            End::TimedOut { limit, doing } => {
                return Err(VmError::TimedOut { limit, doing, log: self.keep_log() });
            }
            End::Closed(_) if escaped => return Err(VmError::Escaped),
            End::Closed(reason) => {
                let said = self.qemu_says.last_line().map(|line| format!(": {line}")).unwrap_or_default();
                let reason = format!("{reason}, QEMU's {qemu}{said}");
                return Err(VmError::Died { reason, signal: qemu.signal(), log: self.keep_log() });
            }
        };
        if status.oom_kills > 0 {
            let (kills, memory_mib) = (status.oom_kills, self.vm.memory_mib());
            return Err(VmError::OutOfMemory { kills, memory_mib, log: self.keep_log() });
        }
        let exit = GuestExit { code: status.code, signal: status.signal, sections: Vec::new() };
        match self.lost.take() {
            // A command that failed has said more than a file it did not write.
            Some(lost) if exit.success() => Err(lost),
            Some(lost) => {
                eprintln!("dmaring: {lost}");
                Ok(exit)
            }
            None => Ok(exit),
        }
    }

    fn keep_log(&self) -> GuestLog {
        self.kernel_log.keep(self.vm.log.as_deref())
    }
}

fn relay(to: &mut dyn Write, bytes: &[u8], name: &str) -> Result<(), VmError> {
    to.write_all(bytes).and_then(|()| to.flush()).doing(|| format!("writing the guest's {name}"))
}
