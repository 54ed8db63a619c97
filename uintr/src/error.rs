//! What can go wrong.

use std::io;

/// An error of user interrupts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A vector that does not exist.
    #[error("vector {number}: user interrupts have the vectors 0 to 63")]
    Vector {
        /// As given.
        number: u64,
    },
    /// The module's device is there and cannot be used.
    #[error("{path}: {reason}")]
    Module {
        /// The device.
        path: &'static str,
        /// What the system says.
        reason: io::Error,
    },
}
