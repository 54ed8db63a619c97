//! Which processes have which files open, from `/proc/<pid>/fd`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Sysfs, SysfsError};

/// A process that has something open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process {
    /// Its id, as this process sees it.
    pub pid: u32,
    /// Its command name, at most 15 bytes.
    pub command: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.command, self.pid)
    }
}

/// One open descriptor.
pub(super) struct OpenFile {
    /// What its link says: a path, or such as `anon_inode:[vfio-device]`.
    pub target: PathBuf,
    /// The link, which the kernel follows to the file itself.
    pub link: PathBuf,
    info: PathBuf,
}

impl OpenFile {
    /// A line of its `fdinfo`, without the name before the colon.
    pub fn info(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(&self.info).ok()?;
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.trim().to_owned())
    }

    /// Whether it may write; assumed so if the kernel does not say.
    pub fn writes(&self) -> bool {
        const ACCESS_MODE: u32 = 0o3;
        self.info("flags")
            .and_then(|flags| u32::from_str_radix(&flags, 8).ok())
            .is_none_or(|flags| flags & ACCESS_MODE != 0)
    }
}

impl Sysfs {
    /// Asks `wanted` about every open descriptor; lists each process with what it answered.
    ///
    /// Processes that end meanwhile, or that may not be looked at, are left out: without
    /// privilege only one's own are seen.
    pub(super) fn open_files<T: PartialEq>(
        &self,
        mut wanted: impl FnMut(&OpenFile) -> Option<T>,
    ) -> Result<Vec<(Process, T)>, SysfsError> {
        let proc_dir = self.path("/proc");
        let mut found = Vec::new();
        for name in self.list(&proc_dir)? {
            let Ok(pid) = name.parse::<u32>() else {
                continue;
            };
            let dir = proc_dir.join(&name);
            let Ok(descriptors) = fs::read_dir(dir.join("fd")) else {
                continue;
            };
            let mut answers: Vec<T> = Vec::new();
            for descriptor in descriptors.flatten() {
                let link = descriptor.path();
                let Ok(target) = fs::read_link(&link) else {
                    continue;
                };
                let file = OpenFile { target, link, info: dir.join("fdinfo").join(descriptor.file_name()) };
                answers.extend(wanted(&file).filter(|answer| !answers.contains(answer)));
            }
            if !answers.is_empty() {
                let command = command(&dir);
                found.extend(answers.into_iter().map(|answer| {
                    let command = command.clone();
                    (Process { pid, command }, answer)
                }));
            }
        }
        found.sort_by_key(|(process, _)| process.pid);
        Ok(found)
    }
}

fn command(dir: &Path) -> String {
    match fs::read(dir.join("comm")) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim_end().to_owned(),
        Err(_) => "?".to_owned(),
    }
}
