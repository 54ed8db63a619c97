//! Cases that only a device has, in guests made for them.

pub(crate) mod zoo;

use std::process::ExitCode;

use crate::case::Case;

/// On controllers of all kinds.
pub(crate) const ZOO: &[&[Case]] = &[];
/// Without an IOMMU.
pub(crate) const BARE: &[&[Case]] = &[];

/// Does what this process was started for, if a case started it.
pub(crate) fn helper() -> Option<ExitCode> {
    None
}
