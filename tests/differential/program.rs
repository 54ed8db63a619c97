//! A program: what is set up, and entries as data, with symbols for what differs between two runs of it.

use std::ops::Range;

/// A program, the same for both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Program {
    /// What it was drawn from.
    pub(super) seed: u64,
    pub(super) setup: Setup,
    pub(super) rounds: Vec<Round>,
    /// Ranges of the window that several writes in flight at once may have written: each block may be of any
    /// of them.
    pub(super) disputed: Vec<Range<u64>>,
}

/// What is set up before the first entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Setup {
    pub(super) sq_entries: u32,
    pub(super) cq_entries: u32,
    /// `IORING_SETUP_*`.
    pub(super) flags: u32,
    /// Bytes that programs may change: one half at the begin of the device, one at its end.
    pub(super) window: u64,
    /// The fixed files.
    pub(super) files: Vec<Fd>,
    /// Lengths of the registered buffers; 0 is a hole.
    pub(super) buffers: Vec<u32>,
    /// Rings of provided buffers.
    pub(super) groups: Vec<BufferRing>,
}

/// A ring of provided buffers. It begins empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BufferRing {
    pub(super) group: u16,
    pub(super) entries: u16,
    /// `IOU_PBUF_RING_*`.
    pub(super) flags: u16,
}

/// Entries until everything that can complete has completed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Round {
    pub(super) segments: Vec<Segment>,
}

/// Entries that are submitted together. All of a round are pushed before the first are submitted, so that
/// `to_submit` is less than what there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) entries: Vec<Entry>,
    /// Put into rings of provided buffers before the call.
    pub(super) supplies: Vec<Supply>,
    pub(super) enter: Enter,
}

/// How a segment is submitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Enter {
    /// `to_submit` beyond the segment's entries; only where nothing follows.
    pub(super) beyond: u32,
    pub(super) min_complete: u32,
    /// `IORING_ENTER_*`.
    pub(super) flags: u32,
    pub(super) timeout_us: Option<u32>,
    /// What waits in the completion ring is not taken before the next call.
    pub(super) leave: bool,
    /// Nothing is in flight after the call but what has completed: what the ring says of itself is compared.
    pub(super) look: bool,
}

/// A buffer for a ring of provided buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Supply {
    pub(super) group: u16,
    pub(super) id: u16,
    /// In the pool.
    pub(super) at: u32,
    pub(super) len: u32,
}

/// A submission entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) opcode: u8,
    pub(super) flags: u8,
    pub(super) ioprio: u16,
    pub(super) fd: Fd,
    pub(super) off: Word,
    pub(super) addr: Word,
    pub(super) len: u32,
    pub(super) op_flags: u32,
    pub(super) user_data: u64,
    pub(super) buf_index: u16,
    pub(super) personality: u16,
    pub(super) file_index: u32,
    pub(super) addr3: Word,
    pub(super) attr_type_mask: u64,
    /// Results that are right as well as the kernel's: the outcome is a race there.
    pub(super) allowed: Vec<i32>,
}

/// A descriptor or an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fd {
    Number(i32),
    /// The descriptor of the device.
    Device,
}

impl Default for Fd {
    fn default() -> Self {
        Self::Number(0)
    }
}

/// A field of 64 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Number(u64),
    /// Bytes from the end of the device.
    End(i64),
    Memory(Area, u32),
    /// Address of an array of iovecs.
    Iovecs(Vec<(Word, u64)>),
    /// Address of a `struct __kernel_timespec`.
    Time(i64, i64),
    /// Address of an array of descriptors.
    Fds(Vec<Fd>),
}

impl Default for Word {
    fn default() -> Self {
        Self::Number(0)
    }
}

/// Memory of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    /// What is written; nothing is read into it.
    Source,
    /// What is read into.
    Target,
    /// Registered buffer of that index.
    Fixed(u16),
    /// Provided buffers.
    Pool,
}

/// Bytes of [`Area::Pool`].
pub(super) const POOL: u32 = 64 << 10;

impl Setup {
    /// Bytes of each half of the window.
    pub(super) fn half(&self) -> u64 {
        self.window / 2
    }

    /// Whether the completion ring may become full.
    pub(super) fn is_tight(&self) -> bool {
        self.cq_entries < super::generate::ROOMY
    }

    /// The areas and their lengths in bytes.
    pub(super) fn areas(&self) -> Vec<(Area, usize)> {
        let half = self.half() as usize;
        let mut areas = vec![(Area::Source, half), (Area::Target, 2 * half), (Area::Pool, POOL as usize)];
        for (index, len) in self.buffers.iter().enumerate().filter(|(_, len)| **len > 0) {
            areas.push((Area::Fixed(index as u16), *len as usize));
        }
        areas
    }
}

impl Program {
    /// All entries, in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.rounds.iter().flat_map(|round| &round.segments).flat_map(|segment| &segment.entries)
    }
}
