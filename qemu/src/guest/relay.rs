//! Threads that carry the command's streams over the port, and the files after it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::child;
use crate::frame::{self, Kind};

const CHUNK_BYTES: usize = 64 << 10;

/// The port, written to by several threads, a frame at a time.
#[derive(Clone)]
pub(crate) struct Port(Arc<Mutex<File>>);

impl Port {
    pub fn new(file: File) -> Self {
        Self(Arc::new(Mutex::new(file)))
    }

    pub fn send(&self, kind: Kind, parts: &[&[u8]]) -> io::Result<()> {
        frame::write(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), kind, parts)
    }

    /// Sends all that `from` gives, in a thread.
    pub fn relay(&self, mut from: File, kind: Kind) -> JoinHandle<()> {
        let port = self.clone();
        thread::spawn(move || {
            let mut chunk = vec![0; CHUNK_BYTES];
            loop {
                match from.read(&mut chunk) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // A terminal whose last user has gone gives EIO.
                    Ok(0) | Err(_) => return,
                    Ok(len) => {
                        if port.send(kind, &[&chunk[..len]]).is_err() {
                            return;
                        }
                    }
                }
            }
        })
    }

    /// Sends file number `index` of those asked for, or why that cannot be.
    pub fn send_file(&self, index: usize, path: &str) -> io::Result<()> {
        let number = (index as u32).to_le_bytes();
        match self.stream_file(&number, path) {
            Err(error) => self.send(Kind::FileError, &[&number, error.to_string().as_bytes()]),
            Ok(mode) => self.send(Kind::FileEnd, &[&number, &mode.to_le_bytes()]),
        }
    }

    fn stream_file(&self, number: &[u8], path: &str) -> io::Result<u32> {
        let mut file = File::open(path)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match file.read(&mut chunk)? {
                0 => return Ok(file.metadata()?.permissions().mode()),
                len => self.send(Kind::File, &[number, &chunk[..len]])?,
            }
        }
    }
}

/// Handles what the host sends, in a thread; the receiver hears when the host has everything.
pub(crate) fn listen(mut port: File, stdin: Option<File>, tty: bool) -> Receiver<()> {
    let (done, heard) = mpsc::channel();
    thread::spawn(move || {
        let mut stdin = stdin;
        let mut reader = frame::Reader::default();
        while let Ok(Some(frame)) = reader.next(&mut port) {
            match (frame.kind, frame.body.as_slice()) {
                (Kind::Stdin, []) if tty => {
                    // A terminal cannot be half closed: type its end-of-file character.
                    let _ = stdin.as_mut().map(|terminal| terminal.write_all(&[4]));
                }
                (Kind::Stdin, []) => stdin = None,
                // A command that does not read its input is no fault.
                (Kind::Stdin, bytes) => stdin = stdin.filter(|stdin| (&*stdin).write_all(bytes).is_ok()),
                (Kind::Resize, [r0, r1, c0, c1]) => {
                    if let (true, Some(terminal)) = (tty, &stdin) {
                        child::resize(terminal, u16::from_le_bytes([*r0, *r1]), u16::from_le_bytes([*c0, *c1]));
                    }
                }
                (Kind::Done, _) => {
                    let _ = done.send(());
                    return;
                }
                _ => {}
            }
        }
    });
    heard
}
