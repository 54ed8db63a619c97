//! The straight line: a plain fixed read or write, from SQE to command and from completion to CQE.
//!
//! It serves entries that are all of: `READ_FIXED` or `WRITE_FIXED` on the ring's hot file with no flag
//! but `FIXED_FILE`, a registered buffer, at most two pages, block aligned, inside the namespace. The
//! first word of such an entry is one of two constants; every other condition is checked here as well,
//! and the first entry that fails one is left to the general path, which gives the kernel's answer.
//!
//! Kept apart from the general path on purpose: sharing a loop with it costs registers. Nothing here
//! allocates, locks or calls through a pointer.

use super::ids::CommandIds;
use super::namespace::Namespace;
use super::prp::PAGE_BYTES;
use super::queue::{FixedBuffer, IoQueue, Sink};
use crate::abi::entry::Sqe;
use crate::abi::rings::RingView;
use crate::spec::command::nvm;
use crate::usermem::UserMemory;

/// Longest transfer of the straight line: two pages, which need no list.
const MOST_BYTES: u64 = 2 * PAGE_BYTES;

/// The file that the straight line serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineTarget {
    /// First word of a `READ_FIXED` of the file; that of `WRITE_FIXED` differs in bit 0.
    read_word: u64,
    /// 1 when both are served, 0 when the namespace is read-only.
    writes: u64,
    /// Size of the namespace, in bytes.
    size: u64,
    /// Low bits that offsets and lengths must not have.
    block_mask: u64,
    block_shift: u32,
    /// The namespace, as it stands in the second half of a command's first word.
    nsid_word: u64,
}

/// `READ_FIXED` (4) and `WRITE_FIXED` (5) become Read (2) and Write (1).
const _: () = assert!(nvm::READ == 2 && nvm::WRITE == 1);

impl LineTarget {
    /// Serves nothing: no opcode is 255.
    pub(crate) const NONE: Self =
        Self { read_word: u64::MAX, writes: 0, size: 0, block_mask: 0, block_shift: 9, nsid_word: 0 };

    /// Serves `namespace` under fixed file `index`.
    pub(crate) fn new(index: u32, namespace: &Namespace) -> Self {
        if namespace.size_bytes() < MOST_BYTES {
            return Self::NONE;
        }
        let flags = u64::from(crate::abi::op::IOSQE_FIXED_FILE);
        Self {
            read_word: 4 | flags << 8 | u64::from(index) << 32,
            writes: u64::from(!namespace.read_only),
            size: namespace.size_bytes(),
            block_mask: u64::from(namespace.block_bytes()) - 1,
            block_shift: namespace.block_shift.into(),
            nsid_word: u64::from(namespace.nsid) << 32,
        }
    }

    /// Whether `sqe` is one that the general path should make this the hot file for.
    pub(crate) fn could_serve(sqe: &Sqe) -> bool {
        matches!(sqe.opcode, 4 | 5) && sqe.flags == crate::abi::op::IOSQE_FIXED_FILE && sqe.ioprio == 0
    }
}

impl IoQueue {
    /// Makes commands of the entries from `head` to `tail`, up to the first that is not plain, or until
    /// identifiers run out. Answers where it stopped. The doorbell is rung by
    /// [`publish`](IoQueue::publish).
    #[inline(never)]
    pub(crate) fn submit_line(&mut self, rings: &RingView, mut head: u32, tail: u32) -> u32 {
        let file = self.line;
        let slots = self.grant.sq.slots();
        let fixed = self.fixed.as_slice();
        // Never empty: the last one has length 0.
        let last_fixed = fixed.len().wrapping_sub(1);
        let mut sq_tail = self.grant.sq.tail();
        let mut free_len = self.ids.free_len;
        let end = head.wrapping_add(tail.wrapping_sub(head).min(free_len));
        while head != end {
            let sqe = rings.direct_slot(head);
            let kind = sqe.word::<0>() ^ file.read_word;
            let offset = sqe.word::<1>();
            let address = sqe.word::<2>();
            // Flags stand above the length: with any set, it is longer than two pages.
            let len = sqe.word::<3>();
            // Personality and file index stand above the buffer index: with any set, it finds the last.
            let index = (sqe.word::<5>() as usize).min(last_fixed);
            let Some(&FixedBuffer { base, len: buffer_len, delta }) = fixed.get(index) else { break };
            let into = address.wrapping_sub(base);
            let iova = address.wrapping_add(delta);
            let from_page = iova & (PAGE_BYTES - 1);
            if (kind > file.writes)
                | ((offset | len) & file.block_mask != 0)
                | (len.wrapping_sub(1) >= MOST_BYTES)
                | (offset > file.size.wrapping_sub(len))
                | (into >= buffer_len)
                | (len > buffer_len.wrapping_sub(into))
                | (address & 3 != 0)
                | (from_page.wrapping_add(len) > MOST_BYTES)
                | (sqe.word::<7>() != 0)
            {
                break;
            }
            let first_page = iova - from_page;
            let second_page = if from_page + len > PAGE_BYTES { first_page + PAGE_BYTES } else { 0 };
            free_len -= 1;
            let cid = *self.ids.free.at(free_len);
            let tracker = self.ids.trackers.at_mut(cid.into());
            tracker.user_data = sqe.word::<4>();
            tracker.res = len as i32;
            tracker.expected = cid.into();
            let opcode = u64::from(nvm::READ) - kind;
            let blocks = (len >> file.block_shift) - 1;
            slots.write_transfer(
                sq_tail,
                opcode | u64::from(cid) << 16 | file.nsid_word,
                [iova, second_page],
                offset >> file.block_shift,
                blocks as u32,
            );
            sq_tail = sq_tail.wrapping_add(1);
            head = head.wrapping_add(1);
        }
        self.ids.free_len = free_len;
        self.grant.sq.set_tail(sq_tail);
        head
    }

    /// Takes every completion that the device has written, posts what is finished to `sink`, and gives
    /// the entries back with one doorbell. Answers how many completions there were.
    #[inline(never)]
    pub(crate) fn reap(&mut self, sink: &mut Sink, user: &UserMemory) -> u32 {
        let mut cursor = self.grant.cq.cursor();
        let mut room = sink.room();
        let mut free_len = self.ids.free_len;
        let step = self.ids.generation_step();
        let mut taken = 0u32;
        while let Some(word) = cursor.peek() {
            taken += 1;
            let cid = word as u16;
            let status = word >> 17;
            let tracker = self.ids.trackers.at_mut(cid.into());
            if tracker.expected == u32::from(cid) && status == 0 && tracker.res >= 0 && room.has_any() {
                room.post(tracker.user_data, tracker.res);
                CommandIds::idle(tracker);
                *self.ids.free.at_mut(free_len) = cid.wrapping_add(step);
                free_len += 1;
            } else {
                self.ids.free_len = free_len;
                sink.commit(room);
                self.finish(cursor.copy(), sink, user);
                room = sink.room();
                free_len = self.ids.free_len;
            }
            cursor.advance();
        }
        if taken != 0 {
            self.ids.free_len = free_len;
            sink.commit(room);
            self.grant.cq.set_cursor(cursor);
            self.grant.cq.publish();
            self.stats.cq_doorbells += 1;
        }
        taken
    }
}
