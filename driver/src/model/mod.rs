//! An NVMe controller in software, behind the same [`Transport`](dmaring_dma::Transport) as a real one.
//!
//! It follows the NVMe documents, not this crate's driver: every SQE is copied once, every PRP and
//! doorbell is checked, and whatever is wrong is answered as a device answers it. One model, driven in
//! one of two ways:
//!
//! - *stepped*: nothing happens until [`Model::step`] is called, by a test or by a driver that found
//!   nothing to do. Everything runs on the caller's thread, in the same order each time.
//! - *threaded*: a thread steps it, and sleeps when there has been nothing to do for a while. A driver that
//!   waits wakes it; a doorbell alone is found after a nap of 50 µs to 2 ms.
//!
//! ```text
//!   transport.rs   registers, configuration space, mappings, vectors, as the driver sees them
//!   memory.rs      what the driver has mapped; the only place that touches it
//!   controller.rs  CC and CSTS, queues, one step   doorbells.rs  their registers
//!   admin.rs       admin commands          io.rs      I/O commands
//!   shadow.rs      doorbells in the driver's memory
//!   prp.rs         walking data pointers   storage.rs what is behind a namespace
//!   features.rs    Get and Set Features     log.rs     Get Log Page
//!   events.rs      asynchronous events and Abort
//!   health.rs      SMART counters and the error log
//!   cache.rs       what a power cut takes away
//!   fault.rs       what goes wrong, on purpose
//! ```

mod admin;
mod cache;
mod config;
mod controller;
mod doorbells;
mod events;
mod fault;
mod features;
mod health;
mod io;
mod log;
mod memory;
mod nap;
mod prp;
mod queue;
mod shadow;
mod storage;
mod transport;

pub use config::{ModelConfig, ModelNamespace};
pub use fault::{Action, Fault};
pub use storage::Storage;
pub use transport::Model;
