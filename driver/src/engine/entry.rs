//! A submission entry as it is carried from its preparation to its issue.

use super::prepare::Prepared;
use crate::abi::entry::Sqe;

/// An entry that has been prepared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) sqe: Sqe,
    pub(super) prepared: Prepared,
    /// The second half of an entry of 128 bytes.
    pub(super) words: [u64; 8],
}

impl Default for Entry {
    fn default() -> Self {
        Self { sqe: Sqe::default(), prepared: Prepared::Nop, words: [0; 8] }
    }
}
