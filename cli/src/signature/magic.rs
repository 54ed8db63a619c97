//! Magic numbers and where they stand.

use super::Reader;

/// A sign of one format.
pub struct Magic {
    /// What it is.
    pub what: &'static str,
    /// Where it stands.
    pub place: Place,
    /// The bytes there.
    pub bytes: &'static [u8],
    /// What else must be so, given the offset.
    pub also: Option<fn(&mut Reader<'_>, u64) -> anyhow::Result<bool>>,
}

/// Byte offsets on the device.
#[derive(Clone, Copy)]
pub enum Place {
    /// Each of these.
    At(&'static [u64]),
    /// A row of them.
    Every { from: u64, to: u64, step: usize },
    /// `back` bytes before the end, which is rounded down to `align`, and `plus` on.
    FromEnd { align: u64, back: u64, plus: u64 },
    /// The uberblock rings of the four labels.
    ZfsLabels,
}

/// Where only the second copy of the table is left.
pub const BACKUP_GPT: &str = "GPT partition table (backup)";

const RAID: &str = "Linux RAID member";
const FIRMWARE_RAID: &str = "firmware RAID member";
const SWAP: &str = "swap space";
const LUKS: &str = "LUKS volume";
const ZFS: &str = "ZFS member";
const BCACHE: &str = "bcache or bcachefs member";
const FAT: &str = "FAT file system";
const BTRFS: &str = "btrfs file system";
const KIB: u64 = 1 << 10;

const fn at(what: &'static str, offsets: &'static [u64], bytes: &'static [u8]) -> Magic {
    Magic { what, place: Place::At(offsets), bytes, also: None }
}

const fn end(what: &'static str, align: u64, back: u64, plus: u64, bytes: &'static [u8]) -> Magic {
    Magic { what, place: Place::FromEnd { align, back, plus }, bytes, also: None }
}

/// The pages that swap may have been made for: the magic ends the first one.
const SWAP_ENDS: &[u64] = &[4096 - 10, 8192 - 10, 16384 - 10, 32768 - 10, 65536 - 10];

/// All that is looked for, but the two partition tables that need more than a magic.
pub const MAGICS: &[Magic] = &[
    // UEFI specification, 5.3.2: at logical block 1.
    at("GPT partition table", &[512, 4096], b"EFI PART"),
    // Linux fs/ext4/ext4.h: superblock at 1024, s_magic at 0x38.
    Magic { what: "ext2/3/4 file system", place: Place::At(&[1024 + 0x38]), bytes: &[0x53, 0xef], also: Some(is_ext) },
    // fs/xfs/libxfs/xfs_format.h, XFS_SB_MAGIC.
    at("XFS file system", &[0], b"XFSB"),
    // include/uapi/linux/btrfs_tree.h: superblocks at 64 KiB, 64 MiB, 256 GiB; magic at 0x40.
    at(BTRFS, &[(64 << 10) + 64, (64 << 20) + 64, (256 << 30) + 64], b"_BHRfS_M"),
    // include/linux/f2fs_fs.h: superblocks at 1024 and a block later.
    at("F2FS file system", &[1024, 4096 + 1024], &0xf2f5_2010_u32.to_le_bytes()),
    // include/linux/swap.h, union swap_header.
    at(SWAP, SWAP_ENDS, b"SWAPSPACE2"),
    at(SWAP, SWAP_ENDS, b"SWAP-SPACE"),
    at("swap space with a hibernated system", SWAP_ENDS, b"S1SUSPEND"),
    at("swap space with a hibernated system", SWAP_ENDS, b"LINHIB0001"),
    // LVM2 lib/label/label.h: in one of the first four sectors.
    at("LVM physical volume", &[0, 512, 1024, 1536], b"LABELONE"),
    // Linux include/uapi/linux/raid/md_p.h. Format 0.90: the last 64 KiB but one part, aligned.
    end(RAID, 64 * KIB, 64 * KIB, 0, &0xa92b_4efc_u32.to_le_bytes()),
    end(RAID, 64 * KIB, 64 * KIB, 0, &0xa92b_4efc_u32.to_be_bytes()),
    // Format 1.0: 8 KiB before the end, rounded down to 4 KiB; 1.1: at the begin; 1.2: after 4 KiB.
    end(RAID, 512, 8 * KIB, 0, &0xa92b_4efc_u32.to_le_bytes()),
    end(RAID, 4 * KIB, 8 * KIB, 0, &0xa92b_4efc_u32.to_le_bytes()),
    at(RAID, &[0, 4096], &0xa92b_4efc_u32.to_le_bytes()),
    // mdadm platform-intel.h and SNIA DDF 2.0: at the last sectors.
    end(FIRMWARE_RAID, 512, 1024, 0, b"Intel Raid ISM Cfg Sig. "),
    end(FIRMWARE_RAID, 512, 512, 0, &0xde11_de11_u32.to_be_bytes()),
    // LUKS2 on-disk format 1.1.0, 2.1: the second header may be at any of these.
    at(LUKS, &[0], b"LUKS\xba\xbe"),
    at(
        LUKS,
        &[0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000, 0x40_0000],
        b"SKUL\xba\xbe",
    ),
    // OpenZFS uberblock_impl.h, UBERBLOCK_MAGIC, in either byte order.
    zfs(&0x00ba_b10c_u64.to_le_bytes()),
    zfs(&0x00ba_b10c_u64.to_be_bytes()),
    // ECMA-107 and Microsoft FAT32 specification: type string of the boot sector.
    at(FAT, &[54], b"FAT12   "),
    at(FAT, &[54], b"FAT16   "),
    at(FAT, &[82], b"FAT32   "),
    // Boot sectors: OEM name at 3.
    at("NTFS file system", &[3], b"NTFS    "),
    at("exFAT file system", &[3], b"EXFAT   "),
    at("BitLocker volume", &[3], b"-FVE-FS-"),
    // fs/squashfs/squashfs_fs.h.
    at("squashfs file system", &[0], b"hsqs"),
    // fs/erofs/erofs_fs.h: superblock at 1024.
    at("EROFS file system", &[1024], &0xe0f5_e1e2_u32.to_le_bytes()),
    // bcache and bcachefs: superblock in sector 8, magic at 24.
    at(BCACHE, &[4096 + 24], b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),
    at(BCACHE, &[4096 + 24], b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"),
    // ECMA-119, 8.1, and ECMA-167: volume descriptors from sector 16 of 2048 bytes.
    Magic {
        what: "ISO 9660 file system",
        place: Place::Every { from: 32769, to: 32769 + 4 * 2048, step: 2048 },
        bytes: b"CD001",
        also: None,
    },
    at("UDF file system", &[32769, 32769 + 2048], b"NSR0"),
    // fs/jfs/jfs_superblock.h, fs/reiserfs/reiserfs.h.
    at("JFS file system", &[32768], b"JFS1"),
    at("ReiserFS file system", &[64 * KIB + 52, 8 * KIB + 52], b"ReIsEr"),
    // dm-integrity.c, ceph BlueStore, VDO.
    at("dm-integrity volume", &[0], b"integrt\0"),
    at("Ceph BlueStore", &[0], b"bluestore block device"),
    at("VDO volume", &[0], b"dmvdo001"),
];

const fn zfs(bytes: &'static [u8]) -> Magic {
    Magic { what: ZFS, place: Place::ZfsLabels, bytes, also: None }
}

/// s_log_block_size (0x18) is at most 6, s_rev_level (0x4c) 0 or 1.
fn is_ext(reader: &mut Reader<'_>, magic: u64) -> anyhow::Result<bool> {
    let superblock = magic - 0x38;
    let mut small = |at: u64, most: u32| -> anyhow::Result<bool> {
        let bytes = reader.bytes(superblock + at, 4)?.unwrap_or_default();
        let value = <[u8; 4]>::try_from(bytes).map(u32::from_le_bytes);
        Ok(value.is_ok_and(|value| value <= most))
    };
    Ok(small(0x18, 6)? && small(0x4c, 1)?)
}
