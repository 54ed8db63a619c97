//! The guest kernel's console output, gathered while the guest runs.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::error::{Doing, GuestLog, VmError};

/// Most bytes kept in memory; older ones are dropped.
const KEPT_BYTES: usize = 4 << 20;
const TAIL_LINES: usize = 40;
const PANIC: &str = "Kernel panic - not syncing: ";

/// What a stream said so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        if kept.len() > KEPT_BYTES {
            let excess = kept.len() - KEPT_BYTES / 2;
            kept.drain(..excess);
        }
    }

    pub fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept).replace('\r', "")
    }

    pub fn last_line(&self) -> Option<String> {
        self.text().lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
    }

    /// Why the kernel panicked, if it did.
    pub fn panic(&self) -> Option<String> {
        let text = self.text();
        let (_, reason) = text.split_once(PANIC)?;
        reason.lines().next().map(|line| line.trim().to_owned())
    }

    /// Keeps the log in a file: the one asked for has it already, otherwise a new temporary one.
    pub fn keep(&self, asked: Option<&Path>) -> GuestLog {
        let text = self.text();
        let path = asked.map(Path::to_owned).or_else(|| {
            let mut file = tempfile::Builder::new().prefix("dmaring-vm-").suffix(".log").tempfile().ok()?;
            file.write_all(text.as_bytes()).ok()?;
            file.keep().ok().map(|(_, path)| path)
        });
        GuestLog { path, tail: tail(&text) }
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Opens the file that is to hold the log.
pub(crate) fn open(path: &Path) -> Result<File, VmError> {
    File::create(path).doing(|| format!("creating {}", path.display()))
}

/// Gathers all that `from` gives, copying it to `file` and, if asked, to standard error.
pub(crate) fn gather(
    mut from: impl Read + Send + 'static,
    into: Captured,
    mut file: Option<File>,
    verbose: bool,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        loop {
            match from.read(&mut chunk) {
                Ok(0) => return,
                Ok(len) => {
                    into.push(&chunk[..len]);
                    // A full disk or a closed terminal must not stop the guest.
                    if file.as_mut().is_some_and(|file| file.write_all(&chunk[..len]).is_err()) {
                        file = None;
                    }
                    if verbose {
                        let _ = io::stderr().write_all(&chunk[..len]);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_and_tail_are_found() {
        let log = Captured::default();
        (0..100).for_each(|line| log.push(format!("line {line}\r\n").as_bytes()));
        assert_eq!(log.panic(), None);
        log.push(b"[ 1.0] Kernel panic - not syncing: Attempted to kill init!\r\n\r\n");
        assert_eq!(log.panic().unwrap(), "Attempted to kill init!");
        assert!(log.last_line().unwrap().starts_with("[ 1.0] Kernel panic"));
        let tail = tail(&log.text());
        assert!(tail.contains("line 99") && !tail.contains("line 10\n"));
    }

    #[test]
    fn memory_is_bounded() {
        let log = Captured::default();
        (0..20).for_each(|_| log.push(&vec![b'x'; 1 << 20]));
        assert!(log.text().len() <= KEPT_BYTES);
    }
}
