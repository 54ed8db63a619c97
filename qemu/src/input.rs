//! Forwards standard input to the guest, and closes the conversation.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::frame::{self, Kind};
use crate::raw_mode::RawMode;

/// Ctrl-], which ends a guest with a terminal.
const ESCAPE: u8 = 0x1d;

/// A thread that reads standard input until the guest has ended.
pub(crate) struct Forwarder {
    thread: Option<JoinHandle<()>>,
    /// Closing it ends the thread.
    stop: Option<PipeWriter>,
    escaped: Arc<AtomicBool>,
    _raw: Option<RawMode>,
}

impl Forwarder {
    /// Tells the guest that there is no input.
    pub fn none(port: &UnixStream) -> io::Result<Self> {
        frame::write(&mut &*port, Kind::Stdin, &[])?;
        Ok(Self { thread: None, stop: None, escaped: Arc::default(), _raw: None })
    }

    /// Starts forwarding; with `terminal`, in raw mode and with [`ESCAPE`] heeded.
    pub fn start(port: &UnixStream, terminal: bool) -> io::Result<Self> {
        let raw = if terminal { Some(RawMode::enter()?) } else { None };
        let (stopped, stop) = io::pipe()?;
        let port = port.try_clone()?;
        let escaped = Arc::new(AtomicBool::new(false));
        let escaped_there = Arc::clone(&escaped);
        let thread = thread::spawn(move || {
            if forward(&port, &stopped, terminal).is_ok_and(|escaped| escaped) {
                escaped_there.store(true, Ordering::Relaxed);
                // The session takes the closed port for the guest's end.
                let _ = port.shutdown(std::net::Shutdown::Both);
            }
        });
        Ok(Self { thread: Some(thread), stop: Some(stop), escaped, _raw: raw })
    }

    /// Ends the thread; QEMU has ended, so that no write blocks. Whether the user ended the guest.
    pub fn finish(mut self) -> bool {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.escaped.load(Ordering::Relaxed)
    }
}

/// Returns true for the escape key, false at the end of input or of the guest.
fn forward(port: &UnixStream, stopped: &PipeReader, terminal: bool) -> io::Result<bool> {
    let stdin = io::stdin();
    let mut chunk = [0; 16 << 10];
    while readable(stdin.as_fd(), stopped.as_fd())? {
        // Unbuffered, so that `poll` tells the truth.
        let len = match nix::unistd::read(&stdin, &mut chunk) {
            Ok(0) | Err(Errno::EIO) => break,
            Ok(len) => len,
            Err(Errno::EINTR | Errno::EAGAIN) => continue,
            Err(errno) => return Err(errno.into()),
        };
        if terminal && chunk[..len].contains(&ESCAPE) {
            return Ok(true);
        }
        frame::write(&mut &*port, Kind::Stdin, &[&chunk[..len]])?;
    }
    frame::write(&mut &*port, Kind::Stdin, &[])?;
    Ok(false)
}

/// Waits for input; false once stopped.
fn readable(input: BorrowedFd<'_>, stopped: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fds = [PollFd::new(input, PollFlags::POLLIN), PollFd::new(stopped, PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => return Ok(!fds[1].any().unwrap_or(true)),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
