//! How a device is opened.

use std::sync::Arc;

use dmaring_dma::Transport;

use crate::device::Device;
use crate::error::Error;
use crate::spec::identify::IdentifyController;

/// PCI vendor of QEMU's devices (Red Hat). Its controller stores EventIdx after each command and is done with
/// one before the driver has the next, so it asks for nearly every register write: measured with `dmaring vm
/// compare --count` on QEMU 7.2, MMIO accesses per random read stay 2.00 at depth 1, 0.50 at 4 and 0.06 at
/// 32, while 52, 14 and 2 more user instructions go into asking.
const QEMU: u16 = 0x1b36;

/// Options of a device. Made by [`Device::options`].
///
/// A controller that this process has open already is shared as it is.
#[derive(Clone, Debug, Default)]
pub struct DeviceOptions {
    shadow_doorbells: Option<bool>,
}

impl DeviceOptions {
    /// Whether doorbells are kept in memory, and their registers written only when the controller asks for
    /// that (Doorbell Buffer Config, section 5.8), where it can do that. Default: yes, except on QEMU's
    /// controller.
    #[must_use]
    pub fn shadow_doorbells(mut self, yes: bool) -> Self {
        self.shadow_doorbells = Some(yes);
        self
    }

    /// Opens a device by name, as [`Device::open`].
    ///
    /// # Errors
    /// Those of [`Device::open`].
    pub fn open(&self, name: &str) -> Result<Device, Error> {
        Device::open_as(name, self)
    }

    /// Takes the controller behind any transport, as [`Device::on`].
    ///
    /// # Errors
    /// Those of [`Device::on`].
    pub fn on(&self, transport: Arc<dyn Transport>) -> Result<Device, Error> {
        Device::on_as(transport, self)
    }

    pub(crate) fn wants_shadow_doorbells(&self, identify: &IdentifyController) -> bool {
        identify.has_shadow_doorbells() && self.shadow_doorbells.unwrap_or(identify.vid != QEMU)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::identify::IDENTIFY_BYTES;

    #[test]
    fn shadow_doorbells_are_for_controllers_that_offer_them_and_gain_by_them() {
        let identify = |vid: u16, offered: bool| {
            let mut data = [0; IDENTIFY_BYTES];
            data[..2].copy_from_slice(&vid.to_le_bytes());
            data[257] = u8::from(offered);
            IdentifyController::decode(&data)
        };
        let of = |options: &DeviceOptions, vid, offered| options.wants_shadow_doorbells(&identify(vid, offered));
        let (auto, on, off) = (
            DeviceOptions::default(),
            DeviceOptions::default().shadow_doorbells(true),
            DeviceOptions::default().shadow_doorbells(false),
        );
        assert_eq!((of(&auto, QEMU, true), of(&auto, 1, true), of(&auto, 1, false)), (false, true, false));
        assert_eq!((of(&on, QEMU, true), of(&on, QEMU, false)), (true, false));
        assert!(!of(&off, 1, true));
    }
}
