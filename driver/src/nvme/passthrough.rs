//! Commands as the program writes them: which may be sent, where their data is, what comes back.

use std::sync::Arc;
use std::time::Duration;

use dmaring_dma::{AddressSpace, Direction, DmaRegion, Mapping};
use vm_memory::{Bytes, VolatileSlice};

use super::bounce::BouncePages;
use super::controller::ControllerInfo;
use super::issue::Flight;
use super::namespace::Namespace;
use super::prp::{PAGE_BYTES, lay_out, list_bytes};
use super::queue::{Caller, IoQueue, MOST_TRANSFER, Sink};
use super::request::Segment;
use crate::abi::nvme::NvmeUringCmd;
use crate::error::Error;
use crate::spec::command::{
    Command, FEATURE_HOST_MEMORY_BUFFER, FEATURE_KEEP_ALIVE_TIMER, FEATURE_NUMBER_OF_QUEUES, admin, nvm,
};
use crate::spec::completion::Completion;
use crate::usermem::UserMemory;

/// An I/O command of the program's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passthrough {
    /// Who is told of its end.
    pub(crate) caller: Caller,
    pub(crate) command: NvmeUringCmd,
    /// Length of its data, in bytes.
    pub(crate) len: u64,
}

/// The longest data of one command, in bytes.
pub(crate) fn longest_transfer(info: &ControllerInfo) -> u64 {
    info.max_transfer_bytes.unwrap_or(MOST_TRANSFER).min(MOST_TRANSFER)
}

/// Whether an admin command of the program's may be sent. Not those that change what this driver relies on
/// (queues, doorbells, memory it has given, the formats and identifiers of namespaces), or are never answered.
pub(crate) fn may_be_passed(command: &NvmeUringCmd) -> bool {
    match command.opcode {
        admin::DELETE_IO_SQ | admin::CREATE_IO_SQ | admin::DELETE_IO_CQ | admin::CREATE_IO_CQ => false,
        admin::ASYNC_EVENT_REQUEST | admin::DOORBELL_BUFFER_CONFIG | admin::VIRTUALIZATION_MANAGEMENT => false,
        admin::FORMAT_NVM | admin::NAMESPACE_MANAGEMENT | admin::NAMESPACE_ATTACHMENT => false,
        admin::SET_FEATURES => !matches!(
            command.cdw10 as u8,
            FEATURE_NUMBER_OF_QUEUES | FEATURE_HOST_MEMORY_BUFFER | FEATURE_KEEP_ALIVE_TIMER
        ),
        _ => true,
    }
}

impl From<&NvmeUringCmd> for Command {
    /// Without its data.
    fn from(command: &NvmeUringCmd) -> Self {
        Self {
            nsid: command.nsid,
            cdw2: command.cdw2,
            cdw3: command.cdw3,
            cdw10: command.cdw10,
            cdw11: command.cdw11,
            cdw12: command.cdw12,
            cdw13: command.cdw13,
            cdw14: command.cdw14,
            cdw15: command.cdw15,
            ..Self::new(command.opcode)
        }
    }
}

impl Passthrough {
    /// Whether the device can be given the program's own memory: it reaches all of it, pages of a list are
    /// whole, and it cannot write beyond the end, whatever it makes of the command.
    fn fits_in_place(&self, segments: &[Segment], namespace: &Namespace) -> bool {
        let mut page_offset = None;
        for segment in segments {
            let Some(delta) = segment.delta else { return false };
            let iova = segment.address.wrapping_add(delta);
            let into_page = iova & (PAGE_BYTES - 1);
            // Only the first one may begin, and only the last one end, inside a page.
            if page_offset.map_or(iova & 3 != 0, |end| end != 0 || into_page != 0) {
                return false;
            }
            page_offset = Some((into_page + segment.len) & (PAGE_BYTES - 1));
        }
        page_offset == Some(0) || self.known_len(namespace) == Some(self.len)
    }

    /// How long the data of a command must be, of those that say so in the same way.
    fn known_len(&self, namespace: &Namespace) -> Option<u64> {
        let blocks = u64::from(self.command.cdw12 & 0xffff) + 1;
        let known = matches!(self.command.opcode, nvm::READ | nvm::WRITE | nvm::COMPARE);
        known.then_some(blocks << namespace.block_shift)
    }
}

impl IoQueue {
    /// Takes up a command with its data in `segments`, which are left as they were in some earlier use. False
    /// when there is not as much bounce memory as its data needs.
    pub(crate) fn pass(
        &mut self,
        passthrough: &Passthrough,
        namespace: &Namespace,
        segments: &mut Vec<Segment>,
        user: &UserMemory,
    ) -> bool {
        self.locate(segments);
        let in_place = passthrough.len == 0 || passthrough.fits_in_place(segments, namespace);
        if !in_place && (self.bounce.pages() as u64) < passthrough.len.div_ceil(PAGE_BYTES) {
            return false;
        }
        self.timeout = self.timeout.max(Duration::from_millis(passthrough.command.timeout_ms.into()));
        let index = self.requests.take();
        let request = &mut self.requests[index];
        std::mem::swap(&mut request.segments, segments);
        request.passthrough(passthrough, in_place, namespace);
        self.start(index, user);
        true
    }

    /// The one command of a request.
    #[cold] // out of the way of reads and writes
    pub(super) fn issue_passthrough(&mut self, index: u32, user: &UserMemory) -> bool {
        let request = &self.requests[index];
        let (mut command, len) = (request.command, request.len);
        let mut flight = Flight { at: Flight::PASSTHROUGH, ..Flight::NONE };
        if !request.segments.is_empty() {
            self.pages.clear();
            let pages = if request.in_place { Some(self.pages_in_place(index)) } else { self.pages_bounced(index) };
            let Some(pages) = pages else { return false };
            flight.bounce = pages.bounce;
            // All at once or not at all.
            let described = if pages.bytes == len { self.lists.describe_alone(&self.pages) } else { None };
            let Some((prp, list)) = described else {
                if let Some(pages) = flight.bounce {
                    self.bounce.give_back(pages);
                }
                return false;
            };
            flight.list = list;
            [command.prp1, command.prp2] = prp;
            if let Some(pages) = flight.bounce.filter(|_| command.cdw0 & 1 != 0) {
                self.copy_in(index, 0, len, pages, user);
            }
            if flight.bounce.is_some() {
                self.stats.bounced_bytes += len;
            }
        }
        // There is room: `issue_one` has looked.
        let Some(cid) = self.take_id(index) else { return false };
        let slot = usize::from(cid) & (self.flights.len() - 1);
        self.flights[slot] = flight;
        let request = &mut self.requests[index];
        request.issued = len;
        request.in_flight += 1;
        self.grant.sq.push_foreign(&Command { cdw0: command.cdw0 | u32::from(cid) << 16, ..command });
        true
    }
}

impl IoQueue {
    /// The command of a request has been answered, or has failed with the device (`Request::error`).
    #[cold]
    pub(super) fn finish_passthrough(
        &mut self,
        index: u32,
        bounce: Option<BouncePages>,
        completion: &Completion,
        sink: &mut Sink,
        user: &UserMemory,
    ) {
        let request = &self.requests[index];
        let (caller, error) = (request.caller, request.error);
        let moved = error == 0 && completion.status.is_success() && request.command.cdw0 & 1 == 0;
        if let Some(pages) = bounce {
            if moved {
                self.copy_out(index, 0, request.len, pages, user);
            }
            self.bounce.give_back(pages);
        }
        let (res, result) =
            if error == 0 { (completion.status.bits().into(), completion.result()) } else { (error, 0) };
        sink.end(caller, res, Some([result, 0]));
        let request = &mut self.requests[index];
        request.in_flight = 0;
        request.segments.clear();
        self.requests.give_back(index);
    }
}

/// Memory for the data of one admin command, and the list of its pages.
#[derive(Debug)]
pub(crate) struct AdminData {
    mapping: Mapping,
    region: Arc<DmaRegion>,
    len: usize,
    prp: [u64; 2],
}

impl AdminData {
    /// For `len` bytes, at least one.
    pub(crate) fn new(space: &Arc<AddressSpace>, len: usize) -> Result<Self, Error> {
        let data = len.next_multiple_of(PAGE_BYTES as usize);
        let region = Arc::new(DmaRegion::new(data + list_bytes(data))?);
        let mapping = space.map(Arc::clone(&region), Direction::Both)?;
        let base = mapping.iova().get();
        let pages: Vec<u64> = (base..base + data as u64).step_by(PAGE_BYTES as usize).collect();
        let prp = match pages[..] {
            [only] => [only, 0],
            [first, second] => [first, second],
            [first, ref rest @ ..] => {
                let list = region.slice(data, list_bytes(data));
                for (i, entry) in lay_out(rest, base + data as u64).iter().enumerate() {
                    list.write_obj(entry.to_le(), i * 8).expect("as long as the list");
                }
                [first, base + data as u64]
            }
            [] => unreachable!("at least one byte"),
        };
        Ok(Self { mapping, region, len, prp })
    }

    /// PRP 1 and PRP 2.
    pub(crate) fn prp(&self) -> [u64; 2] {
        debug_assert!(self.mapping.len() >= self.len, "mapped as long as it is used");
        self.prp
    }

    /// The parts of the data that belong to each of `segments`, with their addresses.
    pub(crate) fn pieces<'a>(&'a self, segments: &'a [Segment]) -> impl Iterator<Item = (u64, VolatileSlice<'a>)> {
        let mut at = 0;
        segments.iter().map(move |segment| {
            let len = (segment.len as usize).min(self.len - at);
            let piece = self.region.slice(at, len);
            at += len;
            (segment.address, piece)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NS: Namespace =
        Namespace { nsid: 1, block_shift: 9, blocks: 100, read_only: false, zeroes_by_deallocating: false };

    fn read(blocks: u32, len: u64) -> Passthrough {
        let command = NvmeUringCmd { opcode: nvm::READ, cdw12: blocks - 1, ..NvmeUringCmd::default() };
        Passthrough { caller: Caller::Program(0), command, len }
    }

    #[test]
    fn the_device_is_given_only_memory_that_it_cannot_overrun() {
        let near = |address, len| Segment { address, len, delta: Some(0) };
        assert!(read(1, 512).fits_in_place(&[near(0x1000, 512)], &NS));
        assert!(!read(8, 512).fits_in_place(&[near(0x1000, 512)], &NS), "it would read 4096 bytes");
        assert!(read(99, 512).fits_in_place(&[near(0x1e00, 512)], &NS), "to the end of a page");
        assert!(!read(1, 512).fits_in_place(&[near(0x1002, 512)], &NS));
        assert!(!read(1, 512).fits_in_place(&[Segment { delta: None, ..near(0x1000, 512) }], &NS));
        let vendor = Passthrough { command: NvmeUringCmd { opcode: 0x82, ..read(1, 512).command }, ..read(1, 512) };
        assert!(!vendor.fits_in_place(&[near(0x1000, 512)], &NS), "who knows how long it is");
        assert!(read(16, 8192).fits_in_place(&[near(0x1000, 4096), near(0x5000, 4096)], &NS));
        assert!(read(9, 4608).fits_in_place(&[near(0x1e00, 512), near(0x5000, 4096)], &NS));
        assert!(!read(16, 8192).fits_in_place(&[near(0x1000, 4096), near(0x5004, 4096)], &NS));
        assert!(!read(2, 1024).fits_in_place(&[near(0x1000, 512), near(0x5000, 512)], &NS));
    }

    #[test]
    fn commands_that_would_take_the_controller_away_are_not_passed() {
        let command = |opcode, cdw10| NvmeUringCmd { opcode, cdw10, ..NvmeUringCmd::default() };
        for opcode in [0x00, 0x01, 0x04, 0x05, 0x0c, 0x0d, 0x15, 0x1c, 0x7c, 0x80] {
            assert!(!may_be_passed(&command(opcode, 0)), "{opcode:#x}");
        }
        for feature in [0x07, 0x0d, 0x0f, 0x8000_0007u32] {
            assert!(!may_be_passed(&command(0x09, feature)), "feature {feature:#x}");
        }
        for (opcode, cdw10) in [(0x02, 0), (0x06, 1), (0x08, 0), (0x09, 2), (0x0a, 7), (0x84, 0), (0xc0, 0)] {
            assert!(may_be_passed(&command(opcode, cdw10)), "{opcode:#x}");
        }
    }
}
