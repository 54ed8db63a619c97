//! What can go wrong between asking for a guest and having its command's exit status.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

/// The kernel's console output of a guest that failed.
#[derive(Debug, Clone, Default)]
pub struct GuestLog {
    /// File on the host that holds all of it, where it could be written.
    pub path: Option<PathBuf>,
    /// Its last lines.
    pub tail: String,
}

impl GuestLog {
    fn place(&self) -> String {
        match &self.path {
            Some(path) => format!("kernel log in {}", path.display()),
            None => "the kernel log could not be kept".to_owned(),
        }
    }
}

/// Why a guest did not give an exit status.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmError {
    /// QEMU is not on this machine and could not be installed.
    #[error("no usable qemu-system-x86_64: {reason}; {remedy}")]
    Qemu {
        /// What was tried.
        reason: String,
        /// What the user can do.
        remedy: &'static str,
    },
    /// No kernel to boot.
    #[error("no kernel for the guest: {reason}; {remedy}")]
    Kernel {
        /// What was tried.
        reason: String,
        /// What the user can do.
        remedy: &'static str,
    },
    /// Instructions cannot be counted.
    #[error("instructions cannot be counted: {reason}; {remedy}")]
    Count {
        /// What was tried.
        reason: String,
        /// What the user can do.
        remedy: &'static str,
    },
    /// A kernel module is damaged or in a form that cannot be unpacked.
    #[error("kernel module {module}: {reason}")]
    Module {
        /// Its name or file.
        module: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The settings contradict each other or cannot be had.
    #[error("{0}")]
    Config(String),
    /// A file to be brought into the guest needs something this machine has not.
    #[error("{} cannot be taken into the guest: {reason}", path.display())]
    Add {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        reason: String,
    },
    /// A system call on the host failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, to what.
        what: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Init in the guest could not start the command.
    #[error("guest: {reason}; {}", log.place())]
    Guest {
        /// What init said.
        reason: String,
        /// The guest's last words.
        log: GuestLog,
    },
    /// The guest's kernel panicked.
    #[error("the guest's kernel panicked: {reason}; {}", log.place())]
    Panic {
        /// The line that says why.
        reason: String,
        /// The guest's last words.
        log: GuestLog,
    },
    /// The guest's kernel killed a process for want of memory.
    #[error("the guest ran out of memory ({memory_mib} MiB) and its kernel killed {kills} process(es): give it more memory; {}", log.place())]
    OutOfMemory {
        /// Processes killed.
        kills: u64,
        /// Memory of the guest.
        memory_mib: u64,
        /// The guest's last words.
        log: GuestLog,
    },
    /// QEMU ended without an exit status of the command.
    #[error("the guest ended without an exit status ({reason}); {}", log.place())]
    Died {
        /// How QEMU ended.
        reason: String,
        /// The signal that QEMU itself has died of.
        signal: Option<i32>,
        /// The guest's last words.
        log: GuestLog,
    },
    /// The guest was killed at its time limit.
    #[error("the guest was killed after {} s while {doing}; {}", limit.as_secs_f32(), log.place())]
    TimedOut {
        /// The limit.
        limit: Duration,
        /// What it was doing.
        doing: &'static str,
        /// The guest's last words.
        log: GuestLog,
    },
    /// The user ended the guest with Ctrl-].
    #[error("the guest was ended by Ctrl-]")]
    Escaped,
    /// A file asked for could not be brought back.
    #[error("{guest} could not be brought back from the guest: {reason}")]
    Get {
        /// Its path there.
        guest: String,
        /// The guest's or the host's answer.
        reason: String,
    },
}

impl VmError {
    /// The guest's kernel log, where a guest was running.
    #[must_use]
    pub fn log(&self) -> Option<&GuestLog> {
        match self {
            Self::Guest { log, .. }
            | Self::Panic { log, .. }
            | Self::OutOfMemory { log, .. }
            | Self::Died { log, .. }
            | Self::TimedOut { log, .. } => Some(log),
            _ => None,
        }
    }

    /// Whether QEMU itself has crashed, which says nothing about the guest.
    #[must_use]
    pub fn is_crash_of_emulator(&self) -> bool {
        const CRASHES: [Signal; 4] = [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGABRT];
        matches!(self, Self::Died { signal: Some(signal), .. } if CRASHES.iter().any(|crash| *crash as i32 == *signal))
    }
}

/// Adds to an I/O error what was being done.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, VmError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, VmError> {
        self.map_err(|error| VmError::Io { what: what(), source: error.into() })
    }
}
