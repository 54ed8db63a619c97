//! Events in the other direction: from devices to the program.
//!
//! Polling needs nothing of this. An interrupt is an event descriptor that VFIO raises; a thread sleeps
//! on those of its queues ([`Sleeper`]), and a program that has an event loop of its own watches one
//! descriptor for the whole ring ([`Notifier`]). How long an adaptive ring looks before it sleeps is
//! [`Patience`]'s.

mod notifier;
mod patience;
mod sleeper;

pub(crate) use notifier::Notifier;
pub(crate) use patience::Patience;
pub(crate) use sleeper::Sleeper;
