//! What a case is, and what it runs on.

use std::error::Error;
use std::fmt;

use dmaring::{CompletionMode, Device, Ring, RingBuilder};
use io_uring::squeue::EntryMarker;

use crate::support::rig::{Completion, Rig};

/// How a case ends: well, not at all for a reason, or badly. Panics are the other way to end badly.
pub(crate) type Outcome = Result<(), Stop>;

/// Why a case did not pass.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It cannot run here.
    Skip(String),
    /// It failed.
    Fail(String),
}

impl<E: Error> From<E> for Stop {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            text += &format!(": {inner}");
            source = inner.source();
        }
        Self::Fail(text)
    }
}

/// Ends a case that cannot run here.
pub(crate) fn skip<T>(reason: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Skip(reason.into()))
}

/// Ends a case that failed.
pub(crate) fn fail<T>(reason: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Fail(reason.into()))
}

/// A behaviour, by name, and the function that shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Bench) -> Outcome,
}

/// A list of cases: each is named as its function.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        &[$($crate::case::Case { name: stringify!($name), run: $name }),*]
    };
}
pub(crate) use cases;

/// What a case runs on.
#[derive(Clone, Debug)]
pub(crate) struct Bench {
    /// Name of the backend.
    pub(crate) backend: &'static str,
    /// What to open: a `pci:` name or a path.
    pub(crate) name: String,
    /// A model, which is opened already: by name each ring would get another.
    pub(crate) model: Option<Device>,
    /// How completions are awaited.
    pub(crate) mode: CompletionMode,
}

impl Bench {
    /// Options for a ring of `entries` on the backend.
    pub(crate) fn builder(&self, entries: u32) -> RingBuilder {
        // Bad addresses are looked for, as the kernel does.
        Ring::builder(entries).completion(self.mode).strict(true)
    }

    /// A ring of `entries` on the backend, with memory for its operations.
    pub(crate) fn rig(&self, entries: u32) -> Result<Rig, Stop> {
        self.open(self.builder(entries))
    }

    /// A ring with options of the case's own.
    pub(crate) fn open<S: EntryMarker, C: Completion>(&self, builder: RingBuilder<S, C>) -> Result<Rig<S, C>, Stop> {
        Ok(Rig::new(self.ring(builder)?))
    }

    /// The same without the memory.
    pub(crate) fn ring<S, C>(&self, builder: RingBuilder<S, C>) -> Result<Ring<S, C>, dmaring::Error>
    where
        S: EntryMarker,
        C: Completion,
    {
        match &self.model {
            Some(device) => builder.open_device(device, 1),
            None => builder.open(&self.name),
        }
    }

    /// Whether dmaring's own engine serves the ring, rather than the kernel.
    pub(crate) fn is_device(&self) -> bool {
        self.model.is_some() || self.name.starts_with("pci:")
    }

    /// Alignment of memory that the device behind the backend asks for, in bytes.
    pub(crate) fn memory_alignment(&self) -> usize {
        // A loop device asks for that of its backing file.
        if self.backend == "kernel_loop" { 512 } else { 4 }
    }

    /// Skips what the kernel of this backend does not do yet. Dmaring is at the level of 6.18 everywhere.
    pub(crate) fn since(&self, major: u32, minor: u32) -> Outcome {
        let running = Version::running();
        let wanted = Version { major, minor };
        if self.is_device() || running >= wanted {
            return Ok(());
        }
        skip(format!("holds from kernel {wanted} on, this is {running}"))
    }
}

/// Version of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    pub(crate) fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    pub(crate) fn running() -> Self {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut numbers = release.split(['.', '-']).map(|part| part.trim().parse().unwrap_or(0));
        Self { major: numbers.next().unwrap_or(0), minor: numbers.next().unwrap_or(0) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
