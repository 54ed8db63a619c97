//! Conformance cases, written once, run on every backend.
//!
//! ```text
//! cargo test -p dmaring-tests
//!   kernel_loop                        kernel io_uring on an O_DIRECT loop device of this machine
//!   model_*                            dmaring on the model, stepped by the caller or by a thread, and with
//!                                      doorbells in memory
//!   guest_kernel                       kernel io_uring on an NVMe device of a guest
//!   pci_poll, _interrupt, _adaptive    dmaring on such a device through VFIO
//!   model_against_kernel,              drawn programs, on dmaring and on the kernel beside it
//!   pci_against_kernel
//!   pci                                cases that only a device has, each on a controller that suits it
//! ```
//! A case is a function on a `Bench`, which knows the backend. Each pair of a case and a
//! backend is a trial of its own, named `case::backend`. Those of a guest share one boot, which happens
//! when the first of them is due; in the guest each case runs in a process of its own, so that one that
//! crashes or hangs takes nothing along, and reports by a line on standard output.
//!
//! What the kernel does is what is expected: a case that fails on `kernel_loop` or `guest_kernel` is
//! wrong, one that fails on `pci_*` or `model_*` has found something.

mod case;
mod cases;
mod devices;
pub mod differential;
pub mod fuzz;
mod harness;
pub mod soak;
mod support;

pub use harness::main;
