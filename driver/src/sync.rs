//! Atomics and locks of what two threads agree on. In models (`--cfg loom`, CONTRIBUTING.md) they are loom's,
//! which tries every order of the accesses and everything that weak orderings allow.

#[cfg(all(test, loom))]
pub(crate) use loom::sync::Mutex;
#[cfg(all(test, loom))]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
#[cfg(not(all(test, loom)))]
pub(crate) use std::sync::Mutex;
#[cfg(not(all(test, loom)))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
