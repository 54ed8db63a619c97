//! The io_uring ring interface on hardware DMA queues, with no kernel on the data path.
//!
//! A [`Ring`] takes the entries of the `io-uring` crate and has the methods of its `IoUring`; a program
//! moves over by changing its constructor:
//!
//! ```no_run
//! use dmaring::Ring;
//! use io_uring::{opcode, types};
//!
//! let mut ring = Ring::builder(8).open("pci:0000:00:04.0")?;
//! let mut buffer = ring.alloc(4096)?;
//! let read = opcode::Read::new(types::Fixed(0), buffer.as_mut_ptr(), 4096).offset(0).build().user_data(7);
//! // SAFETY: the buffer outlives the read, and nothing else touches it meanwhile.
//! unsafe { ring.submission().push(&read)? };
//! ring.submit_and_wait(1)?;
//! let completion = ring.completion().next().expect("waited for one");
//! assert_eq!((completion.user_data(), completion.result()), (7, 4096));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | name given to `open` | what serves the ring |
//! |---|---|
//! | `pci:0000:00:04.0`, `pci:0000:00:04.0/2` | the NVMe controller at that address, bound to `vfio-pci`; namespace 1, or 2 |
//! | `model:256MiB`, `model:null:1TiB` | a controller in software, in this process: memory, or nothing, behind it |
//! | any path | a real kernel io_uring on that file or block device |
//!
//! # How a ring works
//!
//! The three parts of every fast interface, and where they are here:
//!
//! | part | what it is | where |
//! |---|---|---|
//! | control plane | says that there is work, waits, changes set-up | [`Ring::submit`], [`Ring::submit_and_wait`], [`Submitter`] |
//! | data plane | memory that both sides read and write | [`abi`], [`dmaring_dma`], NVMe queues |
//! | interrupt | events in the other direction | [`CompletionMode`], [`Ring`]'s `AsFd` |
//!
//! **Progress.** The kernel works without being called; a ring on a device does not. Work advances
//! inside [`submit`](Ring::submit), [`submit_and_wait`](Ring::submit_and_wait) and
//! [`completion`](Ring::completion). While anything is in flight the SQ flag `TASKRUN` says that
//! entering would help. A ring's descriptor (`AsFd`) is readable whenever the completion queue is, or
//! may be, non-empty.

pub mod abi;
mod body;
mod builder;
mod device;
mod engine;
mod error;
mod face;
mod file;
mod kernel;
pub mod mark;
pub mod model;
mod notify;
mod nvme;
mod options;
mod report;
mod ring;
mod size;
pub mod spec;
mod sync;
mod usermem;

pub use builder::RingBuilder;
pub use device::{Device, DeviceName};
pub use dmaring_dma::{DmaBuf, DmaError};
#[cfg(feature = "broken")]
pub use engine::Broken;
pub use engine::CompletionMode;
pub use error::Error;
pub use face::{CompletionQueue, PushError, SubmissionQueue, Submitter};
pub use file::DmaFile;
pub use nvme::{ControllerInfo, Namespace};
pub use options::DeviceOptions;
pub use report::{Backend, FallbackReason, RingStats, TargetInfo};
pub use ring::Ring;
pub use size::parse_size;
