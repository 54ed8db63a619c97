//! Starting QEMU so that it inherits just the descriptors it needs and dies with its parent.
#![expect(unsafe_code)]

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid};

/// Starts `program` with `fds` under the numbers they have here.
///
/// It is killed when the *thread* that calls this ends, as Linux counts parents by thread: that thread
/// waits for it.
pub(crate) fn spawn(program: &Path, args: &[OsString], fds: &[OwnedFd]) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let parent = getpid();
    // The child runs before `spawn` returns and `fds` is borrowed until then; copies are plain numbers.
    let raw: Vec<_> = fds.iter().map(|fd| std::os::fd::AsRawFd::as_raw_fd(&fd.as_fd())).collect();
    let prepare = move || prepare(parent, &raw);
    // SAFETY: `prepare` makes system calls only, allocates nothing and takes no lock.
    unsafe { command.pre_exec(prepare) };
    command.spawn()
}

fn prepare(parent: Pid, fds: &[i32]) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != parent {
        return Err(nix::errno::Errno::ESRCH.into());
    }
    for fd in fds {
        // SAFETY: the caller of `spawn` keeps these open until the child has started.
        let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    Ok(())
}
