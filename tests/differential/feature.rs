//! What programs may have in them.

use crate::case::Version;

/// Something that programs have or have not, as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feature {
    /// FALLOCATE.
    Fallocate,
    /// FADVISE and SYNC_FILE_RANGE.
    Advice,
    /// READV_FIXED and WRITEV_FIXED.
    FixedVectors,
    /// NOP with flags beyond an injected result.
    NopFlags,
    /// Transfers at, past and across the end.
    Bounds,
    /// Wrong fields.
    Malformed,
    /// Registered buffers that are not there, and ranges outside them: found when an entry is issued.
    BadBuffers,
    /// Attributes, which these devices do not have.
    Attributes,
    /// IOSQE_IO_LINK.
    Links,
    /// IOSQE_IO_HARDLINK.
    HardLinks,
    /// IOSQE_IO_DRAIN.
    Drains,
    /// IOSQE_CQE_SKIP_SUCCESS.
    Skips,
    /// IOSQE_ASYNC.
    Async,
    /// TIMEOUT and TIMEOUT_REMOVE.
    Timeouts,
    /// LINK_TIMEOUT.
    LinkTimeouts,
    /// ASYNC_CANCEL.
    Cancels,
    /// FILES_UPDATE and several fixed files.
    Files,
    /// PROVIDE_BUFFERS, REMOVE_BUFFERS, and reads that select.
    Groups,
    /// Rings of provided buffers.
    BufferRings,
    /// Rings whose buffers are consumed in pieces.
    Incremental,
    /// `to_submit` less and more than there is.
    Partial,
    /// Waits with a timeout.
    Waits,
    /// Completion rings too small for what completes.
    Overflow,
    /// IORING_SETUP_SUBMIT_ALL.
    SubmitAll,
    /// Set-up flags that say when completions are posted.
    TaskRun,
    /// Outcomes that are a race in the kernel.
    Races,
}

use Feature::*;

/// All, by name, with the kernel since which its behaviour is that of 6.18.
pub(super) const FEATURES: &[(Feature, &str, (u32, u32))] = &[
    (Fallocate, "fallocate", (6, 0)),
    (Advice, "advice", (6, 0)),
    (FixedVectors, "fixed-vectors", (6, 15)),
    (NopFlags, "nop-flags", (6, 15)),
    (Bounds, "bounds", (6, 0)),
    (Malformed, "malformed", (6, 0)),
    (BadBuffers, "bad-buffers", (6, 15)),
    (Attributes, "attributes", (6, 14)),
    (Links, "links", (6, 0)),
    (HardLinks, "hard-links", (6, 0)),
    (Drains, "drains", (6, 16)),
    (Skips, "skips", (6, 0)),
    (Async, "async", (6, 18)),
    (Timeouts, "timeouts", (6, 18)),
    (LinkTimeouts, "link-timeouts", (6, 18)),
    (Cancels, "cancels", (6, 18)),
    (Files, "files", (6, 0)),
    (Groups, "groups", (6, 0)),
    (BufferRings, "buffer-rings", (6, 0)),
    (Incremental, "incremental", (6, 15)),
    (Partial, "partial", (6, 0)),
    (Waits, "waits", (6, 0)),
    (Overflow, "overflow", (6, 0)),
    (SubmitAll, "submit-all", (6, 0)),
    (TaskRun, "task-run", (6, 1)),
    (Races, "races", (6, 18)),
];

/// A set of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Features(u32);

impl Features {
    pub(super) const NONE: Self = Self(0);
    #[cfg(test)]
    pub(super) const ALL: Self = Self(u32::MAX);

    #[cfg(test)]
    pub(super) fn of(list: &[Feature]) -> Self {
        list.iter().fold(Self::NONE, |set, feature| set.with(*feature))
    }

    /// Those in which a kernel does as 6.18.
    pub(super) fn at(version: Version) -> Self {
        let known = FEATURES.iter().filter(|(_, _, (major, minor))| version >= Version::new(*major, *minor));
        known.fold(Self::NONE, |set, (feature, ..)| set.with(*feature))
    }

    pub(super) fn with(self, feature: Feature) -> Self {
        Self(self.0 | 1 << feature as u32)
    }

    pub(super) fn has(self, feature: Feature) -> bool {
        self.0 & 1 << feature as u32 != 0
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// `links,drains`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        text.split(',').filter(|name| !name.is_empty()).try_fold(Self::NONE, |set, name| {
            let known = FEATURES.iter().find(|(_, known, _)| *known == name);
            known.map(|(feature, ..)| set.with(*feature)).ok_or_else(|| {
                let names: Vec<_> = FEATURES.iter().map(|(_, name, _)| *name).collect();
                format!("no feature `{name}`; there are {}", names.join(", "))
            })
        })
    }
}
