//! Copying in a folder.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use tempfile::TempDir;

use super::{assert_status, dmaring, text};

/// Of no whole number of anything.
pub const LEN: usize = 3_000_001;

/// A folder to copy in.
pub struct Folder(pub TempDir);

impl Folder {
    pub fn new() -> Self {
        // Not in /tmp, which may be a tmpfs.
        Self(TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn with(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Runs `copy LINE` in the folder.
    pub fn copy(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = dmaring();
        command.arg("copy").args(line.split_whitespace()).current_dir(self.0.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    #[track_caller]
    pub fn good(&self, line: &str) -> Output {
        let output = self.copy(line);
        assert_status(&output, 0);
        output
    }

    /// One line with all of `parts`.
    #[track_caller]
    pub fn bad(&self, line: &str, parts: &[&str]) -> String {
        let output = self.copy(line);
        assert_status(&output, 1);
        let stderr = text(&output.stderr);
        assert_eq!(stderr.lines().count(), 1, "{line}: {stderr}");
        for part in parts.iter().chain(&["dmaring: "]) {
            assert!(stderr.contains(part), "{line}: {part} is not in: {stderr}");
        }
        stderr
    }
}

pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Feeds all of `bytes`; a reader that goes away has had enough.
fn feed(child: &mut Child, bytes: Vec<u8>) -> thread::JoinHandle<()> {
    let mut stdin = child.stdin.take().unwrap();
    thread::spawn(move || drop(stdin.write_all(&bytes)))
}

pub fn fed(folder: &Folder, line: &str, bytes: &[u8]) -> Output {
    let mut child = folder.command(line).stdin(Stdio::piped()).spawn().unwrap();
    let feeder = feed(&mut child, bytes.to_vec());
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

/// A loop device on a file; nothing without the right to make one.
pub struct Loop(pub String);

impl Loop {
    pub fn new(path: &Path) -> Option<Self> {
        let output = Command::new("losetup").args(["-f", "--show"]).arg(path).output();
        match output {
            Ok(output) if output.status.success() => Some(Self(text(&output.stdout).trim().to_owned())),
            other => {
                eprintln!("skipped: no loop device on this machine: {other:?}");
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}
