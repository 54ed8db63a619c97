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
    /// A thread has one receiver.
    #[error("this thread has a receiver already: drop it first, or make this one in a thread of its own")]
    ThreadHasReceiver,
    /// All real-time signals have handlers.
    #[error("every real-time signal has a handler, or is ignored: the software backend needs one")]
    NoSignal,
    /// The receiver is gone.
    #[error("the receiver is gone, or belongs to another process")]
    Closed,
    /// A system call failed.
    #[error("{call}: {reason}")]
    Os {
        /// Which.
        call: &'static str,
        /// Why.
        reason: io::Error,
    },
}
