//! Cases that only a device has, in guests made for them.

mod bare;
mod binding;
mod bounce;
mod controllers;
mod failures;
mod helper;
mod kernel;
mod limits;
mod mappings;
mod processes;
mod refusals;
mod removal;
mod silence;
mod sleep;
mod soak;
mod twin;
pub(crate) mod zoo;

use crate::case::Case;

pub(crate) use helper::{ARGUMENT, helper};

/// On controllers of all kinds.
pub(crate) const ZOO: &[&[Case]] = &[
    controllers::ALL,
    bounce::ALL,
    silence::ALL,
    sleep::ALL,
    kernel::ALL,
    limits::ALL,
    refusals::ALL,
    processes::ALL,
    binding::ALL,
    mappings::ALL,
    soak::ALL,
    twin::ALL,
    failures::ALL,
    removal::ALL,
];
/// Without an IOMMU.
pub(crate) const BARE: &[&[Case]] = &[bare::ALL];
