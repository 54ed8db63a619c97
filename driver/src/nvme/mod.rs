//! The NVMe driver: a controller brought up, its queue pairs, requests made into commands.
//!
//! ```text
//!   owner.rs       what may be asked of whoever owns the controller: admin commands, queue pairs, memory
//!   controller.rs  bring-up, shutdown, health
//!   admin.rs       the admin queue
//!   namespace.rs   what is on the controller
//!   rings.rs       one submission and one completion ring in DMA memory, and their doorbells
//!   shadow.rs      doorbells in memory, where the controller offers them
//!   ids.rs         command identifiers and what is in flight under them
//!   fixed.rs       registered buffers, as the straight line looks them up
//!   queue.rs       an I/O queue pair and everything that belongs to it
//!   line.rs        the straight line: a plain fixed read or write, SQE to command and back
//!   line/chain.rs  chains of such
//!   request.rs     everything else: requests of any length, alignment and memory
//!   issue.rs       a request's next command
//!   passthrough.rs commands as the program writes them
//!   prp.rs         lists of pages
//!   bounce.rs      memory for data that the device cannot reach in place
//! ```

mod admin;
mod bounce;
mod controller;
mod fixed;
mod ids;
mod issue;
mod line;
mod namespace;
mod owner;
mod passthrough;
mod prp;
mod queue;
mod request;
mod rings;
mod shadow;

pub use controller::ControllerInfo;
pub(crate) use fixed::FixedBuffer;
pub(crate) use line::{LineTarget, Look};
pub use namespace::Namespace;
pub(crate) use owner::{Health, Owner};
pub(crate) use passthrough::{AdminData, Passthrough, longest_transfer, may_be_passed};
pub(crate) use queue::{IoQueue, QueueOptions};
pub(crate) use request::{Segment, Transfer, Zeroes};
