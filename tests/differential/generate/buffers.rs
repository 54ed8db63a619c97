//! Provided buffers.

use super::{Generator, Segment, Unit};

/// What is known of groups.
#[derive(Debug, Default)]
pub(super) struct Groups {}

impl Generator {
    pub(super) fn set_up_rings(&mut self) {}

    pub(super) fn draw_supplies(&mut self, _segment: &mut Segment) {}

    pub(super) fn group_unit(&mut self) -> Unit {
        self.single()
    }

    pub(super) fn ring_unit(&mut self) -> Unit {
        self.single()
    }
}
