//! NVM Express: registers, commands, completions, data structures. Types only.
//!
//! Sections are those of the NVM Express Base Specification 2.0 (and of the NVM Command Set
//! Specification 1.0, where "NVM" stands before the number).

pub mod command;
pub mod completion;
pub mod identify;
pub mod log;
pub mod regs;
pub mod status;
