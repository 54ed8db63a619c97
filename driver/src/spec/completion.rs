//! Completion queue entries (section 3.3.3.2).

use super::status::Status;

/// A completion queue entry, copied out of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Command specific.
    pub dw0: u32,
    /// Command specific.
    pub dw1: u32,
    /// SQ Head Pointer: the submission queue's entries before it have been consumed.
    pub sq_head: u16,
    /// SQ Identifier.
    pub sq_id: u16,
    /// Command Identifier.
    pub cid: u16,
    /// Status Field.
    pub status: Status,
}

/// Size of an entry, in bytes.
pub const COMPLETION_BYTES: usize = 16;

impl Completion {
    /// Dwords 0 and 1.
    #[must_use]
    pub fn result(&self) -> u64 {
        u64::from(self.dw0) | u64::from(self.dw1) << 32
    }

    /// Decodes the four words of an entry. The phase tag is bit 16 of the last.
    #[must_use]
    pub fn decode(words: [u32; 4]) -> Self {
        Self {
            dw0: words[0],
            dw1: words[1],
            sq_head: words[2] as u16,
            sq_id: (words[2] >> 16) as u16,
            cid: words[3] as u16,
            status: Status::from_bits((words[3] >> 17) as u16),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_decode() {
        let c = Completion::decode([1, 2, 0x0003_0004, (0x4281 << 17) | 1 << 16 | 9]);
        assert_eq!((c.dw0, c.dw1, c.sq_head, c.sq_id, c.cid), (1, 2, 4, 3, 9));
        assert_eq!((c.status.sct(), c.status.sc(), c.status.dnr()), (2, 0x81, true));
    }
}
