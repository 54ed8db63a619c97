//! x86 user interrupts: events that arrive in a program's own handler, without the kernel.
//!
//! ```text
//!   sender                                      receiver's thread
//!   SENDUIPI i                                  computes
//!     UITT[i] --> UPID.PIR[vector] := 1
//!     ON, SN clear? ON := 1, notify ---------->  ON := 0, UIRR |= PIR, PIR := 0
//!                                                UIF set? frame on the stack, UIF := 0, handler(vector)
//!                                                UIRET: back, UIF := 1
//! ```
//! The architecture is that of the Intel SDM, volume 3, chapter "User Interrupts", and of the instructions CLUI,
//! SENDUIPI, STUI, TESTUI and UIRET in volume 2. Few processors have it, and no released kernel; so the crate has
//! the architecture as a state machine as well, and receivers that a real-time signal interrupts instead, which run
//! on every x86-64 Linux.
//!
//! | part | what it is |
//! |---|---|
//! | [`Vector`] | one of 64 |
//! | [`Upid`] | a receiver's descriptor: what is posted, and whom to notify |
//! | [`UittEntry`] | a sender's permission to post one vector |
//! | [`msr`] | the registers that the kernel sets |
//! | [`encoding`] | the instructions, byte by byte, both ways |
//! | [`machine`] | processors with user interrupts as a state machine: the reference for everything else |
//! | [`detect`] | what this machine has, found out without executing anything that it may not have |
//! | [`control`] | the calls of the kernel module |
//! | [`Receiver`], [`Sender`], [`mask`] | interrupts of threads, by the software backend |

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
compile_error!("user interrupts are those of x86-64, and the kernel module is Linux's");

pub mod control;
pub mod detect;
pub mod encoding;
mod error;
pub mod machine;
pub mod msr;
mod page;
mod receiver;
mod sender;
mod signal;
mod uitt;
mod upid;
mod vector;

pub use error::Error;
pub use receiver::{Guard, Receiver, mask};
pub use sender::Sender;
pub use uitt::UittEntry;
pub use upid::{Notification, Upid};
pub use vector::Vector;
