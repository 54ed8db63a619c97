//! Log pages (section 5.16.1).

use super::status::Status;

/// Log identifier of Error Information.
pub const ERROR_INFORMATION: u8 = 0x01;
/// Log identifier of SMART / Health Information.
pub const SMART: u8 = 0x02;
/// Log identifier of Firmware Slot Information.
pub const FIRMWARE_SLOT: u8 = 0x03;
/// Log identifier of Changed Namespace List.
pub const CHANGED_NAMESPACES: u8 = 0x04;

/// Bytes of the SMART / Health Information log.
pub const SMART_BYTES: usize = 512;
/// Bytes of an entry of the Error Information log.
pub const ERROR_ENTRY_BYTES: usize = 64;

/// Critical Warning, byte 0 of the SMART log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CriticalWarning(pub u8);

impl CriticalWarning {
    const NAMES: [&str; 6] = [
        "available spare is below its threshold",
        "temperature is beyond a threshold",
        "reliability is degraded",
        "media are read-only",
        "backup of volatile memory has failed",
        "persistent memory region is read-only or unreliable",
    ];

    /// The warnings that are set, in words; bits without a meaning by their number.
    pub fn names(self) -> impl Iterator<Item = String> {
        (0..8).filter(move |bit| self.0 & 1 << bit != 0).map(|bit: u8| {
            Self::NAMES.get(usize::from(bit)).map_or_else(|| format!("reserved bit {bit}"), |name| (*name).to_owned())
        })
    }
}

/// SMART / Health Information (figure 207), counted over the life of the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SmartLog {
    /// What should worry.
    pub critical_warning: CriticalWarning,
    /// Composite temperature, in kelvin; 0 where it is not reported.
    pub temperature_kelvin: u16,
    /// Spare capacity that is left, in percent.
    pub available_spare_percent: u8,
    /// Below this the spare is a critical warning, in percent.
    pub available_spare_threshold_percent: u8,
    /// Estimate of the life used, in percent; it may pass 100 (255 is the most).
    pub percentage_used: u8,
    /// Data that the host has read, in units of 512,000 bytes, rounded up.
    pub data_units_read: u128,
    /// Data that the host has written, in units of 512,000 bytes, rounded up.
    pub data_units_written: u128,
    /// Read commands.
    pub host_read_commands: u128,
    /// Write commands.
    pub host_write_commands: u128,
    /// Minutes with I/O commands outstanding.
    pub controller_busy_minutes: u128,
    /// Power cycles.
    pub power_cycles: u128,
    /// Hours with power.
    pub power_on_hours: u128,
    /// Power losses without a shutdown notification.
    pub unsafe_shutdowns: u128,
    /// Errors of media and data integrity.
    pub media_errors: u128,
    /// Entries that the error log ever had.
    pub error_log_entries: u128,
}

impl SmartLog {
    /// Decodes the page.
    #[must_use]
    pub fn decode(page: &[u8; SMART_BYTES]) -> Self {
        let counter = |at: usize| u128::from_le_bytes(bytes(page, at));
        Self {
            critical_warning: CriticalWarning(page[0]),
            temperature_kelvin: u16::from_le_bytes(bytes(page, 1)),
            available_spare_percent: page[3],
            available_spare_threshold_percent: page[4],
            percentage_used: page[5],
            data_units_read: counter(32),
            data_units_written: counter(48),
            host_read_commands: counter(64),
            host_write_commands: counter(80),
            controller_busy_minutes: counter(96),
            power_cycles: counter(112),
            power_on_hours: counter(128),
            unsafe_shutdowns: counter(144),
            media_errors: counter(160),
            error_log_entries: counter(176),
        }
    }

    /// Composite temperature, in degrees Celsius; `None` where it is not reported.
    #[must_use]
    pub fn temperature_celsius(&self) -> Option<i32> {
        (self.temperature_kelvin != 0).then(|| i32::from(self.temperature_kelvin) - 273)
    }

    /// Data that the host has read, in bytes, to the next 512,000.
    #[must_use]
    pub fn bytes_read(&self) -> u128 {
        self.data_units_read.saturating_mul(512_000)
    }

    /// Data that the host has written, in bytes, to the next 512,000.
    #[must_use]
    pub fn bytes_written(&self) -> u128 {
        self.data_units_written.saturating_mul(512_000)
    }
}

/// An entry of the Error Information log (figure 206).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorEntry {
    /// Number of the error, from 1, over the life of the controller.
    pub error_count: u64,
    /// Submission queue of the command.
    pub sq_id: u16,
    /// Identifier of the command; FFFFh where the error belongs to none.
    pub cid: u16,
    /// What the command was answered.
    pub status: Status,
    /// Byte (bits 7:0) and bit (bits 10:8) of the command that is to blame; FFFFh where none is.
    pub parameter_location: u16,
    /// First logical block concerned.
    pub lba: u64,
    /// Namespace concerned.
    pub nsid: u32,
}

impl ErrorEntry {
    /// Decodes an entry; `None` for one that is not used.
    #[must_use]
    pub fn decode(entry: &[u8; ERROR_ENTRY_BYTES]) -> Option<Self> {
        let error_count = u64::from_le_bytes(bytes(entry, 0));
        (error_count != 0).then(|| Self {
            error_count,
            sq_id: u16::from_le_bytes(bytes(entry, 8)),
            cid: u16::from_le_bytes(bytes(entry, 10)),
            // Bit 0 may be the phase tag of the completion.
            status: Status::from_bits(u16::from_le_bytes(bytes(entry, 12)) >> 1),
            parameter_location: u16::from_le_bytes(bytes(entry, 14)),
            lba: u64::from_le_bytes(bytes(entry, 16)),
            nsid: u32::from_le_bytes(bytes(entry, 24)),
        })
    }
}

/// `N` bytes at `at`; both are constants of this file.
fn bytes<const N: usize>(page: &[u8], at: usize) -> [u8; N] {
    page[at..at + N].try_into().expect("N bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_at_the_offsets_of_the_specification() {
        // Every byte is its offset, modulo 251, so that no two fields are alike.
        let page: [u8; SMART_BYTES] = std::array::from_fn(|i| (i % 251) as u8);
        let counter = |at: usize| (0..16).rev().fold(0u128, |sum, i| sum << 8 | ((at + i) % 251) as u128);
        let smart = SmartLog::decode(&page);
        assert_eq!(smart.critical_warning, CriticalWarning(0));
        assert_eq!((smart.temperature_kelvin, smart.available_spare_percent), (0x0201, 3));
        assert_eq!((smart.available_spare_threshold_percent, smart.percentage_used), (4, 5));
        assert_eq!((smart.data_units_read, smart.data_units_written), (counter(32), counter(48)));
        assert_eq!((smart.host_read_commands, smart.host_write_commands), (counter(64), counter(80)));
        assert_eq!((smart.controller_busy_minutes, smart.power_cycles), (counter(96), counter(112)));
        assert_eq!((smart.power_on_hours, smart.unsafe_shutdowns), (counter(128), counter(144)));
        assert_eq!((smart.media_errors, smart.error_log_entries), (counter(160), counter(176)));
        assert_eq!(smart.temperature_celsius(), Some(0x201 - 273));

        let entry: [u8; ERROR_ENTRY_BYTES] = std::array::from_fn(|i| i as u8);
        let entry = ErrorEntry::decode(&entry).unwrap();
        assert_eq!((entry.error_count, entry.sq_id, entry.cid), (0x0706_0504_0302_0100, 0x0908, 0x0b0a));
        assert_eq!((entry.status.bits(), entry.parameter_location), (0x0d0c >> 1, 0x0f0e));
        assert_eq!((entry.lba, entry.nsid), (0x1716_1514_1312_1110, 0x1b1a_1918));
    }

    #[test]
    fn whatever_a_device_sends_is_decoded() {
        let smart = SmartLog::decode(&[0xff; SMART_BYTES]);
        assert_eq!(smart.bytes_read(), u128::MAX, "no overflow");
        assert_eq!(smart.critical_warning.names().count(), 8);
        assert_eq!(SmartLog::decode(&[0; SMART_BYTES]).temperature_celsius(), None);
        assert_eq!(ErrorEntry::decode(&[0; ERROR_ENTRY_BYTES]), None);
        assert!(ErrorEntry::decode(&[0xff; ERROR_ENTRY_BYTES]).is_some());
    }

    #[test]
    fn warnings_have_names() {
        let names: Vec<_> = CriticalWarning(0b1000_0010).names().collect();
        assert_eq!(names, ["temperature is beyond a threshold", "reserved bit 7"]);
        assert_eq!(CriticalWarning(0).names().count(), 0);
    }
}
