//! The io_uring ABI: entries, rings, flags, as `include/uapi/linux/io_uring.h` defines them.
//!
//! | module | what it is |
//! |---|---|
//! | [`nvme`] | NVMe commands of the program's own |
//! | [`op`] | opcodes and flags by their names in the header |
//! | [`entry`] | the 64-byte submission and 16-byte completion entries, and the io-uring crate's types for them |
//! | [`params`] | `struct io_uring_params` and the place of everything in the ring memory |
//! | `rings` | the shared memory itself, seen by the program and by the engine |
//! | `slots` | the entries in it |

pub mod entry;
pub mod nvme;
pub mod op;
pub mod params;
pub(crate) mod rings;
pub(crate) mod slots;
