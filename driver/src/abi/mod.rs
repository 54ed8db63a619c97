//! The io_uring ABI: entries, rings, flags, as `include/uapi/linux/io_uring.h` defines them.
//!
//! | module | what it is |
//! |---|---|
//! | [`nvme`] | NVMe commands of the program's own |
//! | [`op`] | opcodes and the flags of entries, by their names in the header |
//! | [`flags`] | flags of the rings, of set-up and of enter |
//! | [`entry`] | the 64-byte submission and 16-byte completion entries, and the io-uring crate's types for them |
//! | [`params`] | `struct io_uring_params` and the place of everything in the ring memory |
//! | [`register`] | what `io_uring_register` takes |
//! | `memory` | the memory of the rings |
//! | `rings` | what stands in it, seen by the program and by the engine |
//! | `slots` | the entries in it |

mod cells;
pub mod entry;
pub mod flags;
pub(crate) mod memory;
pub mod nvme;
pub mod op;
pub mod params;
pub mod register;
pub(crate) mod rings;
pub(crate) mod slots;
