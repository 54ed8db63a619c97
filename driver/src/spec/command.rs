//! Submission queue entries (section 3.3.3.1) and the commands this driver sends.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A submission queue entry: 64 bytes, little-endian words, by the names of figure 87.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs)] // the names are the specification's
pub struct Command {
    /// Opcode in bits 7:0, command identifier in bits 31:16.
    pub cdw0: u32,
    pub nsid: u32,
    pub cdw2: u32,
    pub cdw3: u32,
    pub mptr: u64,
    pub prp1: u64,
    pub prp2: u64,
    pub cdw10: u32,
    pub cdw11: u32,
    pub cdw12: u32,
    pub cdw13: u32,
    pub cdw14: u32,
    pub cdw15: u32,
}

const _: () = assert!(size_of::<Command>() == 64);

/// Opcodes of the admin command set (section 5, figure 138).
pub mod admin {
    #![expect(missing_docs)] // the names are the specification's
    pub const DELETE_IO_SQ: u8 = 0x00;
    pub const CREATE_IO_SQ: u8 = 0x01;
    pub const GET_LOG_PAGE: u8 = 0x02;
    pub const DELETE_IO_CQ: u8 = 0x04;
    pub const CREATE_IO_CQ: u8 = 0x05;
    pub const IDENTIFY: u8 = 0x06;
    pub const ABORT: u8 = 0x08;
    pub const SET_FEATURES: u8 = 0x09;
    pub const GET_FEATURES: u8 = 0x0a;
    pub const ASYNC_EVENT_REQUEST: u8 = 0x0c;
    pub const NAMESPACE_MANAGEMENT: u8 = 0x0d;
    pub const NAMESPACE_ATTACHMENT: u8 = 0x15;
    pub const VIRTUALIZATION_MANAGEMENT: u8 = 0x1c;
    pub const DOORBELL_BUFFER_CONFIG: u8 = 0x7c;
    pub const FORMAT_NVM: u8 = 0x80;
}

/// Opcodes of the NVM command set (NVM section 3, figure 21).
pub mod nvm {
    #![expect(missing_docs)] // the names are the specification's
    pub const FLUSH: u8 = 0x00;
    pub const WRITE: u8 = 0x01;
    pub const READ: u8 = 0x02;
    pub const COMPARE: u8 = 0x05;
    pub const WRITE_ZEROES: u8 = 0x08;
    pub const DATASET_MANAGEMENT: u8 = 0x09;
}

/// Force Unit Access, bit 30 of command dword 12 of Read and Write (NVM section 3.2.4 and 3.2.6).
pub const FUA: u32 = 1 << 30;

/// Deallocate, bit 25 of command dword 12 of Write Zeroes (NVM section 3.2.8).
pub const DEALLOCATE: u32 = 1 << 25;

/// Feature identifier of Number of Queues (section 5.27.1.5).
pub const FEATURE_NUMBER_OF_QUEUES: u8 = 0x07;
/// Feature identifier of Temperature Threshold (section 5.27.1.3).
pub const FEATURE_TEMPERATURE_THRESHOLD: u8 = 0x04;
/// Feature identifier of Asynchronous Event Configuration (section 5.27.1.8).
pub const FEATURE_ASYNC_EVENTS: u8 = 0x0b;
/// Feature identifier of Host Memory Buffer (section 5.27.1.10).
pub const FEATURE_HOST_MEMORY_BUFFER: u8 = 0x0d;
/// Feature identifier of Keep Alive Timer (section 5.27.1.12).
pub const FEATURE_KEEP_ALIVE_TIMER: u8 = 0x0f;
/// Feature identifier of Volatile Write Cache (section 5.27.1.4).
pub const FEATURE_VOLATILE_WRITE_CACHE: u8 = 0x06;

impl Command {
    /// A command with nothing but an opcode; the queue fills in the command identifier.
    #[must_use]
    pub fn new(opcode: u8) -> Self {
        Self { cdw0: u32::from(opcode), ..Self::default() }
    }

    /// Identify (section 5.17): 4096 bytes of the structure `cns` into `prp1`.
    #[must_use]
    pub fn identify(cns: u8, nsid: u32, prp1: u64) -> Self {
        Self { nsid, prp1, cdw10: u32::from(cns), ..Self::new(admin::IDENTIFY) }
    }

    /// Create I/O Completion Queue (section 5.5), physically contiguous. `vector` enables interrupts.
    #[must_use]
    pub fn create_io_cq(queue: u16, entries: u16, base: u64, vector: Option<u16>) -> Self {
        let interrupts = vector.map_or(0, |v| u32::from(v) << 16 | 1 << 1);
        Self { prp1: base, cdw10: queue_size(queue, entries), cdw11: interrupts | 1, ..Self::new(admin::CREATE_IO_CQ) }
    }

    /// Create I/O Submission Queue (section 5.4), physically contiguous, for completion queue `cq`.
    #[must_use]
    pub fn create_io_sq(queue: u16, entries: u16, base: u64, cq: u16) -> Self {
        let cdw11 = u32::from(cq) << 16 | 1;
        Self { prp1: base, cdw10: queue_size(queue, entries), cdw11, ..Self::new(admin::CREATE_IO_SQ) }
    }

    /// Delete I/O Submission Queue (section 5.7).
    #[must_use]
    pub fn delete_io_sq(queue: u16) -> Self {
        Self { cdw10: u32::from(queue), ..Self::new(admin::DELETE_IO_SQ) }
    }

    /// Delete I/O Completion Queue (section 5.6).
    #[must_use]
    pub fn delete_io_cq(queue: u16) -> Self {
        Self { cdw10: u32::from(queue), ..Self::new(admin::DELETE_IO_CQ) }
    }

    /// Set Features: asks for `pairs` submission and completion queues.
    ///
    /// # Panics
    /// When `pairs` is 0: the field is 0's based.
    #[must_use]
    pub fn set_number_of_queues(pairs: u16) -> Self {
        let zeros_based = u32::from(pairs.checked_sub(1).expect("at least one queue pair"));
        Self {
            cdw10: u32::from(FEATURE_NUMBER_OF_QUEUES),
            cdw11: zeros_based << 16 | zeros_based,
            ..Self::new(admin::SET_FEATURES)
        }
    }

    /// Write Zeroes to `blocks` from `first_block`. With `deallocate` the controller may deallocate them,
    /// where deallocated blocks read as zeroes.
    ///
    /// # Panics
    /// When `blocks` is 0 or above 65,536.
    #[must_use]
    pub fn write_zeroes(nsid: u32, first_block: u64, blocks: u32, deallocate: bool) -> Self {
        assert!((1..=1 << 16).contains(&blocks), "1 to 65,536 blocks");
        Self {
            nsid,
            cdw10: first_block as u32,
            cdw11: (first_block >> 32) as u32,
            cdw12: (blocks - 1) | if deallocate { DEALLOCATE } else { 0 },
            ..Self::new(nvm::WRITE_ZEROES)
        }
    }

    /// Get Log Page (section 5.16): `bytes` (a multiple of 4) from byte `offset` of log `lid` of the controller
    /// into `prp1`.
    ///
    /// # Panics
    /// When `bytes` is 0: the field is 0's based.
    #[must_use]
    pub fn get_log_page(lid: u8, offset: u64, bytes: u32, prp1: u64) -> Self {
        let dwords = (bytes / 4).checked_sub(1).expect("at least a dword");
        Self {
            nsid: u32::MAX,
            prp1,
            cdw10: dwords << 16 | u32::from(lid),
            cdw11: dwords >> 16,
            cdw12: offset as u32,
            cdw13: (offset >> 32) as u32,
            ..Self::new(admin::GET_LOG_PAGE)
        }
    }

    /// Abort (section 5.1): command `cid` of submission queue `queue`.
    #[must_use]
    pub fn abort(queue: u16, cid: u16) -> Self {
        Self { cdw10: u32::from(cid) << 16 | u32::from(queue), ..Self::new(admin::ABORT) }
    }

    /// Doorbell Buffer Config (section 5.8): shadow doorbells at `doorbells`, EventIdx at `events`, both at a
    /// page.
    #[must_use]
    pub fn doorbell_buffer_config(doorbells: u64, events: u64) -> Self {
        Self { prp1: doorbells, prp2: events, ..Self::new(admin::DOORBELL_BUFFER_CONFIG) }
    }

    /// Dataset Management with the Deallocate attribute: `ranges` range descriptors at `prp1`.
    ///
    /// # Panics
    /// When `ranges` is 0 or above 256.
    #[must_use]
    pub fn deallocate(nsid: u32, ranges: u16, prp1: u64) -> Self {
        assert!((1..=256).contains(&ranges), "1 to 256 ranges");
        Self { nsid, prp1, cdw10: u32::from(ranges - 1), cdw11: 1 << 2, ..Self::new(nvm::DATASET_MANAGEMENT) }
    }
}

/// One range descriptor of Dataset Management (NVM section 3.2.3, figure 42): `blocks` from
/// `first_block`, with no context attributes.
#[must_use]
pub fn deallocate_range(first_block: u64, blocks: u32) -> [u8; 16] {
    let mut range = [0; 16];
    range[4..8].copy_from_slice(&blocks.to_le_bytes());
    range[8..].copy_from_slice(&first_block.to_le_bytes());
    range
}

fn queue_size(queue: u16, entries: u16) -> u32 {
    u32::from(entries - 1) << 16 | u32::from(queue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_zeros_based_in_the_builders_only() {
        let cq = Command::create_io_cq(3, 1024, 0x5000, Some(3));
        assert_eq!((cq.cdw10, cq.cdw11, cq.prp1), (1023 << 16 | 3, 3 << 16 | 0b11, 0x5000));
        assert_eq!(Command::create_io_cq(3, 2, 0, None).cdw11, 1);
        let sq = Command::create_io_sq(4, 2, 0x6000, 3);
        assert_eq!((sq.cdw10, sq.cdw11), (1 << 16 | 4, 3 << 16 | 1));
        assert_eq!(Command::set_number_of_queues(64).cdw11, 63 << 16 | 63);
        assert_eq!(Command::deallocate(1, 1, 0).cdw10, 0);
        let zeroes = Command::write_zeroes(2, 5 << 32 | 6, 1 << 16, true);
        assert_eq!((zeroes.cdw10, zeroes.cdw11, zeroes.cdw12), (6, 5, 0xffff | 1 << 25));
    }

    #[test]
    fn fields_stand_at_the_offsets_of_the_specification() {
        let command = Command { cdw12: 0x1122_3344, prp2: 0x5566, ..Command::identify(1, 7, 0x1000) };
        let bytes = command.as_bytes();
        assert_eq!(bytes[0], 6);
        assert_eq!(bytes[4], 7);
        assert_eq!(bytes[24..32], 0x1000u64.to_le_bytes());
        assert_eq!(bytes[32..40], 0x5566u64.to_le_bytes());
        assert_eq!(bytes[40], 1);
        assert_eq!(bytes[48..52], 0x1122_3344u32.to_le_bytes());
    }
}
