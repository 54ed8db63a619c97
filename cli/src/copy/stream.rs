//! Standard streams, pipes and character devices: bytes in their order, without offsets.
//!
//! Every read and write waits with poll(2) first, which a signal ends always; so no wait outlasts the
//! user's wish to stop.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A signal that comes just before the wait is seen after so long.
const LOOK_AGAIN_MS: u8 = 100;
/// What a pipe takes without waiting once it is writable (PIPE_BUF).
const SURE_BYTES: usize = 4096;

/// Where bytes come from.
#[derive(Debug)]
pub struct Input {
    file: File,
}

/// Where bytes go.
#[derive(Debug)]
pub struct Output {
    file: File,
    /// Longest single write, so that it does not wait.
    most: usize,
}

/// What a stream has come to.
#[derive(Debug)]
pub enum Moved {
    /// Bytes moved: all that were asked for, or fewer at the end of the stream.
    Bytes(usize),
    /// The user wants to stop; so many had been moved.
    Stopped(usize),
    /// The file said no; so many had been moved.
    Failed(usize, io::Error),
}

impl Input {
    /// Standard input, or any opened file.
    pub fn new(file: File) -> Self {
        Self { file }
    }

    /// Fills `to`, unless the stream ends before.
    pub fn fill(&mut self, to: &mut [u8], stop: &AtomicBool) -> Moved {
        let mut done = 0;
        while done < to.len() {
            match ready(&self.file, PollFlags::POLLIN, stop) {
                Ok(true) => {}
                Ok(false) => return Moved::Stopped(done),
                Err(error) => return Moved::Failed(done, error),
            }
            match self.file.read(&mut to[done..]) {
                Ok(0) => break,
                Ok(bytes) => done += bytes,
                Err(error) if again(&error) => {}
                Err(error) => return Moved::Failed(done, error),
            }
        }
        Moved::Bytes(done)
    }
}

impl Output {
    /// Standard output, or any opened file.
    pub fn new(file: File) -> Self {
        let is_pipe = file.metadata().is_ok_and(|data| !data.is_file() && !data.file_type().is_char_device());
        // An opening of our own, as the flag would change that of others.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let own = || OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path).ok();
        match is_pipe.then(own).flatten() {
            Some(own) => Self { file: own, most: usize::MAX },
            None => Self { file, most: if is_pipe { SURE_BYTES } else { usize::MAX } },
        }
    }

    /// Writes all of `from`.
    pub fn put(&mut self, from: &[u8], stop: &AtomicBool) -> Moved {
        let mut done = 0;
        while done < from.len() {
            match ready(&self.file, PollFlags::POLLOUT, stop) {
                Ok(true) => {}
                Ok(false) => return Moved::Stopped(done),
                Err(error) => return Moved::Failed(done, error),
            }
            let end = from.len().min(done.saturating_add(self.most));
            match self.file.write(&from[done..end]) {
                Ok(0) => return Moved::Failed(done, ErrorKind::WriteZero.into()),
                Ok(bytes) => done += bytes,
                Err(error) if again(&error) => {}
                Err(error) => return Moved::Failed(done, error),
            }
        }
        Moved::Bytes(done)
    }
}

/// Waits until the file has something to say; false if the user wants to stop.
fn ready(file: &File, events: PollFlags, stop: &AtomicBool) -> io::Result<bool> {
    while !stop.load(Ordering::Relaxed) {
        match poll(&mut [PollFd::new(file.as_fd(), events)], PollTimeout::from(LOOK_AGAIN_MS)) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

fn again(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock)
}
