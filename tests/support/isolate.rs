//! Running a function in a process of its own.

#![expect(unsafe_code)] // owns the fork

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, dup2_stderr, fork, pipe2};

/// What became of the process.
#[derive(Debug)]
pub(crate) struct Isolated {
    /// What the function answered, if it came to an end.
    pub(crate) answer: Option<String>,
    /// How the process ended otherwise.
    pub(crate) death: String,
    /// What it wrote to standard error.
    pub(crate) stderr: String,
}

/// Runs `body` in a child of this process, which has one thread, and kills it after `limit`.
pub(crate) fn isolate(limit: Duration, body: impl FnOnce() -> String) -> std::io::Result<Isolated> {
    let (from_child, to_parent) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let mut stderr = File::from(memfd_create(c"stderr", MFdFlags::empty())?);
    // SAFETY: this process has one thread, so the child may do anything.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(from_child);
            let _ = dup2_stderr(&stderr);
            let answer = body();
            let _ = File::from(to_parent).write_all(answer.as_bytes());
            std::process::exit(0);
        }
        ForkResult::Parent { child } => {
            drop(to_parent);
            let mut answer = String::new();
            let late = !readable_within(&from_child, limit);
            if late {
                let _ = kill(child, Signal::SIGKILL);
            } else {
                let _ = File::from(from_child).read_to_string(&mut answer);
            }
            let death = reap(child, late, limit);
            let mut text = Vec::new();
            stderr.rewind()?;
            stderr.read_to_end(&mut text)?;
            Ok(Isolated {
                answer: Some(answer).filter(|answer| !answer.is_empty()),
                death,
                stderr: String::from_utf8_lossy(&text).into_owned(),
            })
        }
    }
}

/// How long a killed process may take to be gone; one that is stuck in the kernel never is.
const FAREWELL: Duration = Duration::from_secs(30);

fn reap(child: Pid, late: bool, limit: Duration) -> String {
    let deadline = Instant::now() + FAREWELL;
    loop {
        let status = waitpid(child, Some(WaitPidFlag::WNOHANG));
        match status {
            Ok(WaitStatus::StillAlive) if Instant::now() > deadline => {
                let look = |file: &str| std::fs::read_to_string(format!("/proc/{child}/{file}")).unwrap_or_default();
                let _ = kill(child, Signal::SIGKILL);
                return format!("did not end, it is stuck in the kernel: {} {}", look("wchan"), look("stack"));
            }
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(5)),
            _ if late => return format!("killed after {} s", limit.as_secs()),
            Ok(WaitStatus::Exited(_, code)) => return format!("exited with {code}"),
            Ok(WaitStatus::Signaled(_, signal, _)) => return format!("killed by {signal}"),
            other => return format!("{other:?}"),
        }
    }
}

/// Whether the other end writes, or goes, in time.
fn readable_within(pipe: &impl AsFd, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(_) => {}
        }
    }
}

/// Runs `body` in a child and answers what it said.
pub(crate) fn in_child(body: impl FnOnce() -> String) -> std::io::Result<String> {
    let isolated = isolate(Duration::from_secs(30), body)?;
    isolated.answer.ok_or_else(|| std::io::Error::other(format!("the child {}: {}", isolated.death, isolated.stderr)))
}
