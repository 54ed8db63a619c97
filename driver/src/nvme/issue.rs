//! A request's next command, and what happens when a command completes.

use super::bounce::BouncePages;
use super::namespace::Namespace;
use super::prp::{PAGE_BYTES, PrpSlot};
use super::queue::{Caller, IoQueue, Sink};
use super::request::{Kind, Segment, Transfer, Zeroes, in_place};
use crate::spec::command::{Command, FUA, deallocate_range, nvm};
use crate::spec::completion::Completion;
use crate::spec::status::Status;
use crate::usermem::UserMemory;

/// What belongs to a command of the general path while it is in flight, by slot of its identifier.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    /// Where its data begins, in bytes of its request.
    pub(super) at: u64,
    pub(super) list: Option<PrpSlot>,
    pub(super) bounce: Option<BouncePages>,
}

impl Flight {
    /// `at` of a command of the program's own.
    pub(super) const PASSTHROUGH: u64 = u64::MAX;

    pub(super) const NONE: Self = Self { at: 0, list: None, bounce: None };
}

/// Result of looking for the pages of a command.
pub(super) struct Pages {
    pub(super) bytes: u64,
    pub(super) bounce: Option<BouncePages>,
}

impl IoQueue {
    /// Takes up a transfer on `segments`, which are left as they were in some earlier use.
    pub(crate) fn transfer(
        &mut self,
        transfer: &Transfer,
        namespace: &Namespace,
        segments: &mut Vec<Segment>,
        user: &UserMemory,
    ) {
        self.locate(segments);
        let index = self.requests.take();
        let request = &mut self.requests[index];
        std::mem::swap(&mut request.segments, segments);
        request.transfer(transfer, namespace);
        self.start(index, user);
    }

    /// Whether a transfer on `segments` can be made: in place, or because there is memory to bounce it
    /// through. One that cannot would wait for ever.
    pub(crate) fn accepts(&self, segments: &mut [Segment], namespace: &Namespace) -> bool {
        if self.bounce.pages() > 0 {
            return true;
        }
        self.locate(segments);
        in_place(segments, namespace)
    }

    /// Finds out where the device sees `segments`.
    pub(super) fn locate(&self, segments: &mut [Segment]) {
        for segment in segments.iter_mut().filter(|s| s.delta.is_none()) {
            segment.delta = self.delta(segment.address, segment.len);
        }
    }

    /// Takes up a flush of `namespace`.
    pub(crate) fn flush(&mut self, caller: Caller, namespace: &Namespace, user: &UserMemory) {
        let index = self.requests.take();
        self.requests[index].flush(caller, namespace);
        self.start(index, user);
    }

    /// Takes up a discard of whole blocks of `namespace`.
    pub(crate) fn discard(
        &mut self,
        caller: Caller,
        (offset, len): (u64, u64),
        namespace: &Namespace,
        user: &UserMemory,
    ) {
        let index = self.requests.take();
        self.requests[index].discard(caller, offset, len, namespace);
        self.start(index, user);
    }

    /// Takes up a Write Zeroes.
    pub(crate) fn zeroes(&mut self, caller: Caller, zeroes: Zeroes, namespace: &Namespace, user: &UserMemory) {
        let index = self.requests.take();
        self.requests[index].zeroes(caller, zeroes, namespace);
        self.start(index, user);
    }

    pub(super) fn start(&mut self, index: u32, user: &UserMemory) {
        if !self.waiting.is_empty() || !self.issue_all(index, user) {
            self.waiting.push_back(index);
        }
    }

    /// Makes commands for requests that wait, in order, as far as it goes.
    pub(crate) fn pump(&mut self, sink: &mut Sink, user: &UserMemory) {
        while let Some(&index) = self.waiting.front() {
            if !self.issue_all(index, user) {
                return;
            }
            self.waiting.pop_front();
            // One that failed while it waited, with nothing left in flight, has nobody else to end it.
            self.end_if_done(index, sink);
        }
    }

    /// Makes all remaining commands of a request; false when something ran out.
    fn issue_all(&mut self, index: u32, user: &UserMemory) -> bool {
        while self.requests[index].has_more() {
            if !self.issue_one(index, user) {
                return false;
            }
        }
        true
    }

    fn issue_one(&mut self, index: u32, user: &UserMemory) -> bool {
        if self.ids.room() == 0 {
            return false;
        }
        let request = &self.requests[index];
        let (kind, at, in_place) = (request.kind, request.issued, request.in_place);
        let (opcode, fua) = match kind {
            Kind::Read => (nvm::READ, 0),
            Kind::Write { fua } => (nvm::WRITE, if fua { FUA } else { 0 }),
            Kind::Flush => return self.issue_flush(index),
            Kind::Discard => return self.issue_discard(index),
            Kind::Zeroes { deallocate } => return self.issue_zeroes(index, deallocate),
            Kind::Passthrough => return self.issue_passthrough(index, user),
        };
        self.pages.clear();
        let pages = if in_place { Some(self.pages_in_place(index)) } else { self.pages_bounced(index) };
        let Some(Pages { bytes, bounce }) = pages else { return false };
        let Some((prp, list)) = self.lists.describe(&self.pages) else {
            if let Some(pages) = bounce {
                self.bounce.give_back(pages);
            }
            return false;
        };
        if let (Some(pages), Kind::Write { .. }) = (bounce, kind) {
            self.copy_in(index, at, bytes, pages, user);
        }
        let Some(cid) = self.take_id(index) else { return false };
        let slot = usize::from(cid) & (self.flights.len() - 1);
        self.flights[slot] = Flight { at, list, bounce };
        let request = &mut self.requests[index];
        let first_block = (request.offset + at) >> request.block_shift;
        let blocks = (bytes >> request.block_shift) as u32;
        request.issued += bytes;
        request.in_flight += 1;
        let head = u64::from(opcode) | u64::from(cid) << 16 | u64::from(request.nsid) << 32;
        self.grant.sq.push_transfer(head, prp, first_block, (blocks - 1) | fua);
        if bounce.is_some() {
            self.stats.bounced_bytes += bytes;
        }
        true
    }

    /// Takes an identifier for the next command, of a request.
    pub(super) fn take_id(&mut self, request: u32) -> Option<u16> {
        self.ids.take(self.grant.sq.tail(), request)
    }

    fn issue_flush(&mut self, index: u32) -> bool {
        let Some(cid) = self.take_id(index) else { return false };
        let slot = usize::from(cid) & (self.flights.len() - 1);
        self.flights[slot] = Flight::NONE;
        let request = &mut self.requests[index];
        request.issued = request.len;
        request.in_flight += 1;
        let command = Command { nsid: request.nsid, ..Command::new(nvm::FLUSH) };
        self.grant.sq.push(&Command { cdw0: command.cdw0 | u32::from(cid) << 16, ..command });
        true
    }

    /// One range of at most `u32::MAX` blocks.
    fn issue_discard(&mut self, index: u32) -> bool {
        let request = &self.requests[index];
        let blocks = (request.len - request.issued) >> request.block_shift;
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        let first_block = (request.offset + request.issued) >> request.block_shift;
        let Some((address, list)) = self.lists.hold(&deallocate_range(first_block, blocks)) else { return false };
        let Some(cid) = self.take_id(index) else {
            self.lists.give_back(list);
            return false;
        };
        let slot = usize::from(cid) & (self.flights.len() - 1);
        self.flights[slot] = Flight { at: 0, list: Some(list), bounce: None };
        let request = &mut self.requests[index];
        request.issued += u64::from(blocks) << request.block_shift;
        request.in_flight += 1;
        let command = Command::deallocate(request.nsid, 1, address);
        self.grant.sq.push(&Command { cdw0: command.cdw0 | u32::from(cid) << 16, ..command });
        true
    }

    /// As many blocks as the controller takes at once: 65,536 at most.
    fn issue_zeroes(&mut self, index: u32, deallocate: bool) -> bool {
        let Some(cid) = self.take_id(index) else { return false };
        let slot = usize::from(cid) & (self.flights.len() - 1);
        self.flights[slot] = Flight::NONE;
        let request = &mut self.requests[index];
        let block_shift = request.block_shift;
        let most = (self.max_zeroes >> block_shift).clamp(1, 1 << 16);
        let blocks = ((request.len - request.issued) >> block_shift).min(most);
        let first_block = (request.offset + request.issued) >> block_shift;
        request.issued += blocks << block_shift;
        request.in_flight += 1;
        let command = Command::write_zeroes(request.nsid, first_block, blocks as u32, deallocate);
        self.grant.sq.push(&Command { cdw0: command.cdw0 | u32::from(cid) << 16, ..command });
        true
    }

    /// Collects the pages of the next command where the data is. A command ends where the longest
    /// transfer does, or where the next segment does not continue at a page boundary.
    #[inline(always)] // into the hotter of its two callers as well
    pub(super) fn pages_in_place(&mut self, index: u32) -> Pages {
        let request = &self.requests[index];
        let mut most = (request.len - request.issued).min(self.max_transfer);
        let mut bytes = 0;
        for segment in request.segments_at(request.issued, most) {
            let iova = segment.address.wrapping_add(segment.delta.unwrap_or_default());
            let continues = iova & (PAGE_BYTES - 1) == 0 && ends_page(bytes, &self.pages);
            if bytes > 0 && !continues {
                break;
            }
            let first_page = iova & !(PAGE_BYTES - 1);
            let end = iova + segment.len;
            self.pages.push(iova);
            let mut page = first_page + PAGE_BYTES;
            while page < end {
                self.pages.push(page);
                page += PAGE_BYTES;
            }
            bytes += segment.len;
            most -= segment.len;
            if most == 0 {
                break;
            }
        }
        Pages { bytes, bounce: None }
    }

    /// Takes bounce pages for the next command: as many as it needs, or as there are.
    #[inline(always)] // as `pages_in_place`
    pub(super) fn pages_bounced(&mut self, index: u32) -> Option<Pages> {
        let request = &self.requests[index];
        let wanted = (request.len - request.issued).min(self.max_transfer);
        let pages = self.bounce.take(wanted.div_ceil(PAGE_BYTES) as u32, &mut self.pages)?;
        let bytes = wanted.min(self.pages.len() as u64 * PAGE_BYTES);
        Some(Pages { bytes, bounce: Some(pages) })
    }

    pub(super) fn copy_in(&self, index: u32, at: u64, bytes: u64, pages: BouncePages, user: &UserMemory) {
        let request = &self.requests[index];
        for (page, offset) in self.bounce.memory(pages).zip((0..bytes).step_by(PAGE_BYTES as usize)) {
            let mut done = 0;
            for piece in request.segments_at(at + offset, (bytes - offset).min(PAGE_BYTES)) {
                let to = page.subslice(done, piece.len as usize).expect("at most a page");
                user.copy_in(piece.address, &to);
                done += piece.len as usize;
            }
        }
    }

    pub(super) fn copy_out(&self, index: u32, at: u64, bytes: u64, pages: BouncePages, user: &UserMemory) {
        let request = &self.requests[index];
        for (page, offset) in self.bounce.memory(pages).zip((0..bytes).step_by(PAGE_BYTES as usize)) {
            let mut done = 0;
            for piece in request.segments_at(at + offset, (bytes - offset).min(PAGE_BYTES)) {
                let from = page.subslice(done, piece.len as usize).expect("at most a page");
                user.copy_out(&from, piece.address);
                done += piece.len as usize;
            }
        }
    }

    /// A completion that the straight line does not take: of the general path, with a status, with no
    /// room for its CQE, or stale. Answers whether it was of a command in flight.
    #[cold]
    pub(super) fn finish(&mut self, completion: Completion, sink: &mut Sink, user: &UserMemory) -> bool {
        let Some(tracker) = self.ids.give_back(completion.cid) else {
            self.stats.stale += 1;
            tracing::warn!(?completion, device = self.owner.name(), "stale completion dropped");
            return false;
        };
        let error = -completion.status.errno();
        if error != 0 {
            tracing::debug!(status = %completion.status, device = self.owner.name(), "command failed");
        }
        if let Some((user_data, res)) = tracker.straight() {
            sink.post(user_data, if error == 0 { res } else { error }, 0);
            self.follow(tracker, completion.cid, error == 0, sink);
            return true;
        }
        let index = tracker.user_data as u32;
        let slot = usize::from(completion.cid) & (self.flights.len() - 1);
        let flight = std::mem::replace(&mut self.flights[slot], Flight::NONE);
        if let Some(list) = flight.list {
            self.lists.give_back(list);
        }
        if flight.at == Flight::PASSTHROUGH {
            self.finish_passthrough(index, flight.bounce, &completion, sink, user);
            return true;
        }
        if let Some(pages) = flight.bounce {
            if error == 0 && self.requests[index].kind == Kind::Read {
                let bytes = self.bytes_of(index, &flight, pages);
                self.copy_out(index, flight.at, bytes, pages, user);
            }
            self.bounce.give_back(pages);
        }
        let request = &mut self.requests[index];
        request.in_flight -= 1;
        if request.error == 0 {
            request.error = error;
        }
        // One that failed while commands of it were still to come ends when its turn comes in `pump`.
        let ended = request.in_flight == 0 && !request.has_more();
        if ended && (request.error == 0 || !self.waiting.contains(&index)) {
            self.end(index, sink);
        }
        true
    }

    /// Bytes that a bounced command moved: its pages, cut to the request.
    fn bytes_of(&self, index: u32, flight: &Flight, pages: BouncePages) -> u64 {
        let room = self.bounce.memory(pages).count() as u64 * PAGE_BYTES;
        room.min(self.requests[index].len - flight.at)
    }

    fn end_if_done(&mut self, index: u32, sink: &mut Sink) {
        let request = &self.requests[index];
        if request.in_flight == 0 && !request.has_more() {
            self.end(index, sink);
        }
    }

    fn end(&mut self, index: u32, sink: &mut Sink) {
        let request = &mut self.requests[index];
        sink.end(request.caller, request.result(), None);
        request.segments.clear();
        self.requests.give_back(index);
    }

    /// Ends everything with `errno`: the device will answer nothing any more and writes no memory.
    pub(crate) fn fail_all(&mut self, errno: i32, sink: &mut Sink, user: &UserMemory) {
        for cid in self.ids.all_in_flight() {
            let aborted = Completion { dw0: 0, dw1: 0, sq_head: 0, sq_id: 0, cid, status: Status::ABORTED_SQ_DELETION };
            let tracker = *self.ids.trackers.at(cid.into());
            if let Some((user_data, _)) = tracker.straight() {
                self.ids.give_back(cid);
                sink.post(user_data, -errno, 0);
                self.follow(tracker, cid, false, sink);
                continue;
            }
            let index = tracker.user_data as u32;
            self.requests[index].error = -errno;
            self.finish(aborted, sink, user);
        }
        while let Some(index) = self.waiting.pop_front() {
            let request = &mut self.requests[index];
            request.error = -errno;
            self.end_if_done(index, sink);
        }
    }
}

/// Whether data of `bytes` in `pages` ends at a page boundary.
fn ends_page(bytes: u64, pages: &[u64]) -> bool {
    let into_first = pages.first().map_or(0, |first| first & (PAGE_BYTES - 1));
    (into_first + bytes) & (PAGE_BYTES - 1) == 0
}
