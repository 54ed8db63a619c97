//! Starting the command in the guest, on pipes or on a terminal of its own.
#![expect(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::libc;
use nix::pty::{Winsize, openpty};

use crate::manifest::Manifest;

mod request {
    nix::ioctl_write_int_bad!(set_controlling_terminal, nix::libc::TIOCSCTTY);
    nix::ioctl_write_ptr_bad!(set_window_size, nix::libc::TIOCSWINSZ, nix::libc::winsize);
}

/// The command, and our ends of its standard streams.
pub(crate) struct Started {
    pub child: Child,
    pub stdin: Option<File>,
    pub stdout: Option<File>,
    /// `None` on a terminal, which has one stream for both.
    pub stderr: Option<File>,
}

/// Starts the manifest's command.
pub(crate) fn start(manifest: &Manifest) -> Result<Started, String> {
    let (program, args) = manifest.command.split_first().ok_or("no command")?;
    let mut command = Command::new(program);
    command.args(args).current_dir(&manifest.cwd).env_clear().envs(manifest.env.iter().cloned());
    let started = if manifest.tty { on_terminal(command, manifest.window) } else { on_pipes(command) };
    started.map_err(|error| format!("cannot run {program}: {error}"))
}

fn on_pipes(mut command: Command) -> io::Result<Started> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    let stdin = child.stdin.take().map(|stream| File::from(OwnedFd::from(stream)));
    let stdout = child.stdout.take().map(|stream| File::from(OwnedFd::from(stream)));
    let stderr = child.stderr.take().map(|stream| File::from(OwnedFd::from(stream)));
    Ok(Started { child, stdin, stdout, stderr })
}

fn on_terminal(mut command: Command, (rows, columns): (u16, u16)) -> io::Result<Started> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = openpty(&size, None)?;
    command.stdin(pair.slave.try_clone()?).stdout(pair.slave.try_clone()?).stderr(pair.slave);
    // SAFETY: `take_terminal` makes system calls only, allocates nothing and takes no lock.
    unsafe { command.pre_exec(take_terminal) };
    let child = command.spawn()?;
    let master = File::from(pair.master);
    Ok(Started { child, stdin: Some(master.try_clone()?), stdout: Some(master), stderr: None })
}

fn take_terminal() -> io::Result<()> {
    nix::unistd::setsid()?;
    // SAFETY: the request takes a number and touches no memory.
    unsafe { request::set_controlling_terminal(0, 0) }?;
    Ok(())
}

/// Tells a terminal its size.
pub(crate) fn resize(terminal: &File, rows: u16, columns: u16) {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel reads one `winsize`, and `size` outlives the call.
    let _ = unsafe { request::set_window_size(terminal.as_raw_fd(), &size) };
}
