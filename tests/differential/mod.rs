//! Differential tests: programs are drawn, run on the kernel's io_uring and on dmaring, and everything that a
//! program can see of the two runs is compared.
//!
//! ```text
//!   program.rs   a program as data           text.rs      as text, both ways
//!   generate/    drawing one from a seed     feature.rs   what it may have in it
//!   side.rs      the device and the memory that it runs on
//!   run.rs       running it                  ledger.rs    when a round of it is over
//!   compare.rs   two runs of it
//!   order.rs     in which order completions must come    histogram.rs  what programs have had in them
//!   pair.rs      the verdict on a program                shrink.rs     the smallest that still differs
//!   errnos.rs    what is malformed, row by row
//!   command.rs   the program `differential`              cases.rs      a bounded run for `cargo test`
//! ```

#[cfg(feature = "broken")]
mod broken;
mod cases;
mod command;
mod compare;
mod errnos;
mod feature;
mod generate;
mod histogram;
mod ledger;
mod names;
mod order;
mod pair;
mod places;
mod program;
mod random;
mod run;
mod shrink;
mod side;
mod text;

pub(crate) use cases::{ALL, ON_MODEL};
pub use command::main;
