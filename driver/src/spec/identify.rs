//! Identify data structures (section 5.17.2; NVM section 4.1.5).

/// Bytes of every Identify data structure.
pub const IDENTIFY_BYTES: usize = 4096;

/// CNS 00h: Identify Namespace of the NVM command set.
pub const CNS_NAMESPACE: u8 = 0x00;
/// CNS 01h: Identify Controller.
pub const CNS_CONTROLLER: u8 = 0x01;
/// CNS 02h: Active Namespace ID list.
pub const CNS_ACTIVE_NAMESPACES: u8 = 0x02;
/// CNS 06h: Identify Controller of an I/O command set; of the NVM command set with CSI 0.
pub const CNS_COMMAND_SET_CONTROLLER: u8 = 0x06;

type Data = [u8; IDENTIFY_BYTES];

fn u16_at(data: &Data, at: usize) -> u16 {
    u16::from_le_bytes([data[at], data[at + 1]])
}

fn u32_at(data: &Data, at: usize) -> u32 {
    u32::from(u16_at(data, at)) | u32::from(u16_at(data, at + 2)) << 16
}

fn u64_at(data: &Data, at: usize) -> u64 {
    u64::from(u32_at(data, at)) | u64::from(u32_at(data, at + 4)) << 32
}

/// ASCII without the padding; whatever is not printable becomes a question mark.
fn text(bytes: &[u8]) -> String {
    let shown: String = bytes.iter().map(|b| if matches!(b, 0x20..=0x7e) { *b as char } else { '?' }).collect();
    shown.trim_matches([' ', '?']).to_owned()
}

/// What this driver reads of Identify Controller (figure 275).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentifyController {
    /// PCI Vendor ID.
    pub vid: u16,
    /// Serial Number.
    pub serial: String,
    /// Model Number.
    pub model: String,
    /// Firmware Revision.
    pub firmware: String,
    /// Maximum Data Transfer Size: `2^mdts` times the smallest page; 0 is no limit.
    pub mdts: u8,
    /// Controller ID.
    pub cntlid: u16,
    /// Optional Admin Command Support.
    pub oacs: u16,
    /// Abort Command Limit, 0's based.
    pub acl: u8,
    /// Log Page Attributes: bit 2 is Get Log Page at an offset.
    pub lpa: u8,
    /// Error Log Page Entries, 0's based.
    pub elpe: u8,
    /// Required and maximum submission entry size.
    pub sqes: u8,
    /// Required and maximum completion entry size.
    pub cqes: u8,
    /// Number of Namespaces.
    pub nn: u32,
    /// Optional NVM Command Support.
    pub oncs: u16,
    /// Volatile Write Cache.
    pub vwc: u8,
    /// RTD3 Entry Latency, in microseconds: how long a shutdown may take; 0 when not reported.
    pub rtd3e: u32,
}

impl IdentifyController {
    /// Decodes the data structure.
    #[must_use]
    pub fn decode(data: &Data) -> Self {
        Self {
            vid: u16_at(data, 0),
            serial: text(&data[4..24]),
            model: text(&data[24..64]),
            firmware: text(&data[64..72]),
            mdts: data[77],
            cntlid: u16_at(data, 78),
            rtd3e: u32_at(data, 88),
            oacs: u16_at(data, 256),
            acl: data[258],
            lpa: data[261],
            elpe: data[262],
            sqes: data[512],
            cqes: data[513],
            nn: u32_at(data, 516),
            oncs: u16_at(data, 520),
            vwc: data[525],
        }
    }

    /// The longest transfer of one command, in bytes; `None` is no limit.
    #[must_use]
    pub fn max_transfer_bytes(&self, min_page_bytes: u64) -> Option<u64> {
        if self.mdts == 0 { None } else { min_page_bytes.checked_shl(self.mdts.into()).filter(|n| *n > 0) }
    }

    /// Whether there is a volatile write cache, so that Flush means something.
    #[must_use]
    pub fn has_volatile_write_cache(&self) -> bool {
        self.vwc & 1 != 0
    }

    /// Whether parts of log pages can be had from an offset (LPA bit 2).
    #[must_use]
    pub fn has_log_page_offsets(&self) -> bool {
        self.lpa & (1 << 2) != 0
    }

    /// Whether Doorbell Buffer Config is supported (OACS bit 8).
    #[must_use]
    pub fn has_shadow_doorbells(&self) -> bool {
        self.oacs & (1 << 8) != 0
    }

    /// Whether Dataset Management is supported.
    #[must_use]
    pub fn has_dataset_management(&self) -> bool {
        self.oncs & (1 << 2) != 0
    }

    /// Whether Write Zeroes is supported.
    #[must_use]
    pub fn has_write_zeroes(&self) -> bool {
        self.oncs & (1 << 3) != 0
    }
}

/// Write Zeroes Size Limit of Identify Controller of the NVM command set (NVM figure 118): `2^n` times the
/// smallest page; `None` when the controller does not say.
#[must_use]
pub fn write_zeroes_limit(data: &Data) -> Option<u8> {
    Some(data[1]).filter(|limit| *limit != 0)
}

/// One LBA format of a namespace (NVM figure 98).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LbaFormat {
    /// Metadata bytes that come with each block.
    pub metadata_bytes: u16,
    /// Logical blocks are of `2^block_shift` bytes.
    pub block_shift: u8,
}

/// What this driver reads of Identify Namespace (NVM figure 97).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentifyNamespace {
    /// Namespace Size, in logical blocks.
    pub nsze: u64,
    /// Namespace Capacity, in logical blocks.
    pub ncap: u64,
    /// Namespace Utilization, in logical blocks.
    pub nuse: u64,
    /// The format in use.
    pub format: LbaFormat,
    /// End-to-end protection type; 0 is none.
    pub protection: u8,
    /// Namespace Attributes: bit 0 is write protected.
    pub nsattr: u8,
    /// Deallocate Logical Block Features: bits 2:0 are 1 where deallocated blocks read as zeroes, bit 3 is
    /// the Deallocate bit of Write Zeroes.
    pub dlfeat: u8,
}

impl IdentifyNamespace {
    /// Decodes the data structure. `None` when the format in use lies outside the table of formats.
    #[must_use]
    pub fn decode(data: &Data) -> Option<Self> {
        let (nlbaf, flbas) = (data[25], data[26]);
        // Bits 3:0, and bits 6:5 above them when there are more than 16 formats.
        let index = flbas & 0xf | if nlbaf >= 16 { (flbas >> 1) & 0x30 } else { 0 };
        if index > nlbaf || index >= 64 {
            return None;
        }
        let lbaf = u32_at(data, 128 + 4 * usize::from(index));
        Some(Self {
            nsze: u64_at(data, 0),
            ncap: u64_at(data, 8),
            nuse: u64_at(data, 16),
            format: LbaFormat { metadata_bytes: lbaf as u16, block_shift: (lbaf >> 16) as u8 },
            protection: data[29] & 7,
            nsattr: data[99],
            dlfeat: data[33],
        })
    }
}

/// The namespaces of an Active Namespace ID list, in order, without the padding.
#[must_use]
pub fn namespace_list(data: &Data) -> Vec<u32> {
    (0..IDENTIFY_BYTES / 4).map(|i| u32_at(data, 4 * i)).take_while(|nsid| *nsid != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfer_limits_count_in_smallest_pages() {
        let mut data = [0; IDENTIFY_BYTES];
        data[77] = 7;
        let id = IdentifyController::decode(&data);
        assert_eq!(id.max_transfer_bytes(4096), Some(512 << 10));
        data[77] = 0;
        assert_eq!(IdentifyController::decode(&data).max_transfer_bytes(4096), None);
        data[77] = 255;
        assert_eq!(IdentifyController::decode(&data).max_transfer_bytes(4096), None, "an absurd shift is no limit");
    }

    #[test]
    fn strings_of_a_device_are_printable_whatever_it_sent() {
        let mut data = [0xff; IDENTIFY_BYTES];
        data[4..8].copy_from_slice(b"abc\n");
        let id = IdentifyController::decode(&data);
        assert_eq!(id.serial, "abc");
        assert_eq!(id.model, "");
    }

    #[test]
    fn a_format_outside_its_table_is_refused() {
        let mut data = [0; IDENTIFY_BYTES];
        data[26] = 3;
        assert_eq!(IdentifyNamespace::decode(&data), None);
        data[25] = 3;
        data[128 + 12..128 + 16].copy_from_slice(&[8, 0, 12, 0]);
        data[0..8].copy_from_slice(&7u64.to_le_bytes());
        let ns = IdentifyNamespace::decode(&data).unwrap();
        assert_eq!(ns.format, LbaFormat { metadata_bytes: 8, block_shift: 12 });
        assert_eq!(ns.nsze, 7);
    }

    #[test]
    fn a_limit_of_write_zeroes_of_0_is_none() {
        let mut data = [0; IDENTIFY_BYTES];
        data[0] = 9;
        assert_eq!(write_zeroes_limit(&data), None, "byte 0 is that of Verify");
        data[1] = 5;
        assert_eq!(write_zeroes_limit(&data), Some(5));
    }

    #[test]
    fn namespace_lists_end_at_the_first_zero() {
        let mut data = [0; IDENTIFY_BYTES];
        assert!(namespace_list(&data).is_empty());
        data[0] = 1;
        data[4] = 5;
        data[12] = 9;
        assert_eq!(namespace_list(&data), [1, 5]);
        assert_eq!(namespace_list(&[0xff; IDENTIFY_BYTES]).len(), 1024);
    }
}
