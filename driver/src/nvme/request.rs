//! Everything but the straight line: transfers of any length, alignment and memory, flushes and discards.
//!
//! ```text
//!   Transfer -> Request -> commands of at most MDTS each -> completions -> one CQE
//!                  |            in place, or through bounce pages
//!                  +-- waits in line when identifiers, lists or bounce pages run out
//! ```
//! A request fails as a whole when one of its commands fails, as a direct I/O of the kernel does.

use std::ops::{Index, IndexMut};

use super::namespace::Namespace;
use super::passthrough::Passthrough;
use super::queue::Caller;
use crate::spec::command::Command;

/// A piece of the program's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Address of the first byte.
    pub(crate) address: u64,
    /// Length in bytes.
    pub(crate) len: u64,
    /// What to add to get the device's address; `None` when it cannot reach the memory.
    pub(crate) delta: Option<u64>,
}

/// What a request moves where. Checked already: block aligned, inside the namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    /// Who is told of its end.
    pub(crate) caller: Caller,
    /// Memory to device.
    pub(crate) write: bool,
    /// The data is durable when the command completes.
    pub(crate) fua: bool,
    /// First byte on the namespace.
    pub(crate) offset: u64,
    /// Length in bytes, at least one block, at most what the segments hold.
    pub(crate) len: u64,
}

/// Whole blocks inside the namespace that are to read as zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Zeroes {
    /// First byte on the namespace.
    pub(crate) offset: u64,
    /// Length in bytes.
    pub(crate) len: u64,
    /// The controller may deallocate the blocks.
    pub(crate) deallocate: bool,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write {
        fua: bool,
    },
    Flush,
    /// Dataset Management, Deallocate.
    Discard,
    /// Write Zeroes.
    Zeroes {
        deallocate: bool,
    },
    /// A command of the program's own.
    Passthrough,
}

/// A request between its SQE and its CQE.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) caller: Caller,
    pub(super) kind: Kind,
    pub(super) nsid: u32,
    pub(super) block_shift: u8,
    /// First byte on the namespace.
    pub(super) offset: u64,
    /// Length in bytes.
    pub(super) len: u64,
    /// Bytes for which commands have been made. A flush counts as one byte.
    pub(super) issued: u64,
    /// Commands in flight.
    pub(super) in_flight: u32,
    /// 0, or the negative errno of the first command that failed.
    pub(super) error: i32,
    /// The device reaches every segment, and any of them can end a command.
    pub(super) in_place: bool,
    pub(super) segments: Vec<Segment>,
    /// The command of a passthrough, without its data.
    pub(super) command: Command,
}

impl Request {
    fn idle() -> Self {
        Self {
            caller: Caller::Program(0),
            kind: Kind::Flush,
            nsid: 0,
            block_shift: 9,
            offset: 0,
            len: 0,
            issued: 0,
            in_flight: 0,
            error: 0,
            in_place: false,
            // As the kernel's UIO_FASTIOV: vectors of up to 8 cost no allocation.
            segments: Vec::with_capacity(8),
            command: Command::default(),
        }
    }

    pub(super) fn transfer(&mut self, transfer: &Transfer, namespace: &Namespace) {
        self.begin(transfer.caller, namespace);
        self.kind = if transfer.write { Kind::Write { fua: transfer.fua } } else { Kind::Read };
        self.offset = transfer.offset;
        self.len = transfer.len;
        self.in_place = in_place(&self.segments, namespace);
    }

    pub(super) fn flush(&mut self, caller: Caller, namespace: &Namespace) {
        self.begin(caller, namespace);
        self.kind = Kind::Flush;
        self.len = 1;
    }

    pub(super) fn discard(&mut self, caller: Caller, offset: u64, len: u64, namespace: &Namespace) {
        self.begin(caller, namespace);
        self.kind = Kind::Discard;
        self.offset = offset;
        self.len = len;
    }

    pub(super) fn zeroes(&mut self, caller: Caller, zeroes: Zeroes, namespace: &Namespace) {
        self.begin(caller, namespace);
        self.kind = Kind::Zeroes { deallocate: zeroes.deallocate };
        self.offset = zeroes.offset;
        self.len = zeroes.len;
    }

    /// Its segments are there already.
    pub(super) fn passthrough(&mut self, passthrough: &Passthrough, in_place: bool, namespace: &Namespace) {
        self.begin(passthrough.caller, namespace);
        self.kind = Kind::Passthrough;
        self.command = Command::from(&passthrough.command);
        // As a flush, if there is no data.
        self.len = passthrough.len.max(1);
        self.in_place = in_place;
    }

    fn begin(&mut self, caller: Caller, namespace: &Namespace) {
        self.caller = caller;
        self.nsid = namespace.nsid;
        self.block_shift = namespace.block_shift;
        self.offset = 0;
        self.issued = 0;
        self.in_flight = 0;
        self.error = 0;
        self.in_place = true;
    }

    /// Whether commands remain to be made. After a failure none is.
    pub(super) fn has_more(&self) -> bool {
        self.error == 0 && self.issued < self.len
    }

    /// The result for the CQE, once nothing is in flight and nothing more is to come.
    pub(super) fn result(&self) -> i32 {
        match self.kind {
            _ if self.error != 0 => self.error,
            Kind::Flush | Kind::Discard | Kind::Zeroes { .. } | Kind::Passthrough => 0,
            Kind::Read | Kind::Write { .. } => self.len as i32,
        }
    }

    /// The segments from byte `at` of the request, cut to `len` bytes.
    pub(super) fn segments_at(&self, at: u64, len: u64) -> impl Iterator<Item = Segment> + '_ {
        let mut skip = at;
        let mut left = len;
        self.segments.iter().filter_map(move |segment| {
            if left == 0 || skip >= segment.len {
                skip = skip.saturating_sub(segment.len);
                return None;
            }
            let len = (segment.len - skip).min(left);
            let piece = Segment { address: segment.address + skip, len, delta: segment.delta };
            skip = 0;
            left -= len;
            Some(piece)
        })
    }
}

/// Whether the device reaches every segment, and any of them can end a command. One without bytes does not
/// count.
pub(super) fn in_place(segments: &[Segment], namespace: &Namespace) -> bool {
    let block_mask = u64::from(namespace.block_bytes()) - 1;
    let with_bytes = || segments.iter().filter(|s| s.len != 0);
    let single = with_bytes().nth(1).is_none();
    with_bytes().all(|s| s.delta.is_some() && s.address & 3 == 0 && (single || s.len & block_mask == 0))
}

/// The requests of a queue pair, by index. Taken and given back without allocation once it has grown to
/// what the program keeps in flight.
#[derive(Debug)]
pub(super) struct Requests {
    all: Vec<Request>,
    free: Vec<u32>,
}

impl Requests {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let all: Vec<Request> = (0..capacity).map(|_| Request::idle()).collect();
        Self { all, free: (0..capacity as u32).rev().collect() }
    }

    /// Takes a request whose segments are still those of its last use.
    pub(super) fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.all.push(Request::idle());
            // As many indices must fit in the free list when all come back.
            self.free.reserve(self.all.len());
            self.all.len() as u32 - 1
        })
    }

    pub(super) fn give_back(&mut self, index: u32) {
        self.free.push(index);
    }
}

impl Index<u32> for Requests {
    type Output = Request;

    fn index(&self, index: u32) -> &Request {
        &self.all[index as usize]
    }
}

impl IndexMut<u32> for Requests {
    fn index_mut(&mut self, index: u32) -> &mut Request {
        &mut self.all[index as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_that_a_command_cannot_end_at_or_the_device_does_not_reach_are_not_in_place() {
        let namespace =
            Namespace { nsid: 1, block_shift: 9, blocks: 100, read_only: false, zeroes_by_deallocating: false };
        let near = |address, len| Segment { address, len, delta: Some(0) };
        let far = |address, len| Segment { address, len, delta: None };
        assert!(in_place(&[near(0x1004, 700)], &namespace), "the request is cut to whole blocks");
        assert!(in_place(&[near(0x1000, 512), near(0x3000, 1024)], &namespace));
        assert!(!in_place(&[near(0x1000, 256), near(0x3000, 256)], &namespace));
        assert!(!in_place(&[near(0x1002, 512)], &namespace));
        assert!(!in_place(&[near(0x1000, 512), far(0x3000, 512)], &namespace));
        assert!(in_place(&[near(0x1000, 700), far(0, 0)], &namespace), "an empty segment is nowhere");
    }

    #[test]
    fn pieces_of_segments_follow_each_other() {
        let mut request = Request::idle();
        let segment = |address, len| Segment { address, len, delta: None };
        request.segments.extend([segment(100, 10), segment(200, 0), segment(300, 5), segment(400, 20)]);
        let pieces = |at, len| request.segments_at(at, len).map(|s| (s.address, s.len)).collect::<Vec<_>>();
        assert_eq!(pieces(0, 35), [(100, 10), (300, 5), (400, 20)]);
        assert_eq!(pieces(8, 4), [(108, 2), (300, 2)]);
        assert_eq!(pieces(10, 6), [(300, 5), (400, 1)]);
        assert_eq!(pieces(15, 1), [(400, 1)]);
        assert_eq!(pieces(0, 0), []);
    }
}
