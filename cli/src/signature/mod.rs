//! What a device already carries: partition tables, file systems, RAID and LVM members, swap, LUKS.
//!
//! Looked for before anything is written. Offsets and magic numbers are those of the formats' own
//! headers, cited in [`magic`]; a magic of two bytes is believed only with a second sign, as random
//! data would otherwise be taken for it now and then.

mod magic;
mod reader;

use std::fmt;

pub use reader::Reader;

use magic::{BACKUP_GPT, MAGICS, Magic, Place};

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Such as "ext2/3/4 file system".
    pub what: &'static str,
    /// Byte offset of its magic number.
    pub offset: u64,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at offset {})", self.what, self.offset)
    }
}

/// Everything known that the device carries.
///
/// # Errors
/// What reading it answered.
pub fn scan(reader: &mut Reader<'_>) -> anyhow::Result<Vec<Found>> {
    let mut found: Vec<Found> = Vec::new();
    for magic in MAGICS {
        for offset in offsets(magic, reader.size_bytes()) {
            if has(reader, magic, offset)? && !found.iter().any(|known| known.what == magic.what) {
                let what = magic.what;
                found.push(Found { what, offset });
            }
        }
    }
    for block in [512, 4096] {
        let Some(last) = reader.size_bytes().checked_sub(block) else {
            continue;
        };
        // The table may be of a device of which this is a copy, cut or grown.
        if reader.holds(last, b"EFI PART")? {
            let (what, offset) = (BACKUP_GPT, last);
            found.push(Found { what, offset });
        }
    }
    if let Some(offset) = partition_table(reader)? {
        let what = "MBR partition table or boot sector";
        found.push(Found { what, offset });
    }
    Ok(found)
}

fn has(reader: &mut Reader<'_>, magic: &Magic, offset: u64) -> anyhow::Result<bool> {
    if !reader.holds(offset, magic.bytes)? {
        return Ok(false);
    }
    match magic.also {
        None => Ok(true),
        Some(also) => also(reader, offset),
    }
}

fn offsets(magic: &Magic, size: u64) -> Vec<u64> {
    match magic.place {
        Place::At(offsets) => offsets.to_vec(),
        Place::Every { from, to, step } => (from..to).step_by(step).collect(),
        Place::FromEnd { align, back, plus } => {
            let end = size / align * align;
            end.checked_sub(back).map(|offset| offset + plus).into_iter().collect()
        }
        Place::ZfsLabels => zfs_uberblocks(size),
    }
}

/// Four labels of 256 KiB, two at either end, each with a ring of uberblocks in its second half.
fn zfs_uberblocks(size: u64) -> Vec<u64> {
    const LABEL: u64 = 256 << 10;
    const RING: std::ops::Range<u64> = 128 << 10..256 << 10;
    let end = size / LABEL * LABEL;
    let labels = [Some(0), Some(LABEL), end.checked_sub(2 * LABEL), end.checked_sub(LABEL)];
    let rings = labels.into_iter().flatten();
    // Slots are of 1 KiB or more.
    rings.flat_map(|label| RING.step_by(1024).map(move |slot| label + slot)).collect()
}

/// The boot signature with four entries whose status bytes are possible.
fn partition_table(reader: &mut Reader<'_>) -> anyhow::Result<Option<u64>> {
    const SIGNATURE: u64 = 510;
    const ENTRIES: [u64; 4] = [446, 462, 478, 494];
    if !reader.holds(SIGNATURE, &[0x55, 0xaa])? {
        return Ok(None);
    }
    for entry in ENTRIES {
        let status = reader.bytes(entry, 1)?;
        if !matches!(status.as_deref(), Some([0x00 | 0x80])) {
            return Ok(None);
        }
    }
    Ok(Some(SIGNATURE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 80 << 20;

    fn found_in(image: &[u8]) -> Vec<Found> {
        let mut read = |offset: u64, to: &mut [u8]| {
            let offset = offset as usize;
            to.copy_from_slice(&image[offset..offset + to.len()]);
            Ok(())
        };
        scan(&mut Reader::new(image.len() as u64, &mut read)).unwrap()
    }

    fn names(parts: &[(u64, &[u8])]) -> Vec<(&'static str, u64)> {
        let mut image = vec![0; SIZE];
        for (offset, bytes) in parts {
            let offset = *offset as usize;
            image[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        let found = found_in(&image);
        found.iter().map(|found| (found.what, found.offset)).collect()
    }

    #[test]
    fn nothing_is_found_in_zeros_or_tiny_devices() {
        assert_eq!(found_in(&vec![0; SIZE]), []);
        for size in [0, 512, 4096, 65536] {
            assert_eq!(found_in(&vec![0; size]), []);
        }
    }

    #[test]
    fn nothing_is_found_in_our_own_pattern() {
        let mut image = vec![0; 4 << 20];
        for seed in 0..20 {
            crate::pattern::Pattern::new(seed).fill(&mut image, 0, 0);
            assert_eq!(found_in(&image), [], "seed {seed}");
        }
    }

    #[test]
    fn every_magic_is_found_at_every_place() {
        for magic in MAGICS.iter().filter(|magic| magic.also.is_none()) {
            for offset in offsets(magic, SIZE as u64) {
                if offset as usize + magic.bytes.len() > SIZE {
                    continue;
                }
                let found = names(&[(offset, magic.bytes)]);
                assert!(found.contains(&(magic.what, offset)), "{} at {offset}: {found:?}", magic.what);
            }
        }
    }

    #[test]
    fn ends_of_devices_are_where_the_formats_say() {
        let size = SIZE as u64;
        let md = 0xa92b_4efc_u32.to_le_bytes();
        let expected = [
            (size - 65536, "Linux RAID member"),
            (size - 8192, "Linux RAID member"),
            (0, "Linux RAID member"),
            (4096, "Linux RAID member"),
        ];
        for (offset, what) in expected {
            assert_eq!(names(&[(offset, &md)]), [(what, offset)]);
        }
        let odd = size - 512;
        let mut image = vec![0; odd as usize];
        let place = (odd / 512 - 16) / 8 * 8 * 512;
        image[place as usize..][..4].copy_from_slice(&md);
        assert_eq!(found_in(&image).len(), 1);
        assert_eq!(names(&[(size - 512, b"EFI PART")]), [(BACKUP_GPT, size - 512)]);
        let uberblock = 0x00ba_b10c_u64.to_le_bytes();
        assert_eq!(names(&[(size - (256 << 10) + (129 << 10), &uberblock)]).len(), 1);
    }

    #[test]
    fn ext_and_mbr_want_a_second_sign() {
        assert_eq!(names(&[(1080, &[0x53, 0xef])]), [("ext2/3/4 file system", 1080)]);
        assert_eq!(names(&[(1080, &[0x53, 0xef]), (1048, &[200])]), []);
        assert_eq!(names(&[(510, &[0x55, 0xaa])]).len(), 1);
        assert_eq!(names(&[(510, &[0x55, 0xaa]), (446, &[1])]), []);
    }

    #[test]
    fn what_mkfs_would_write_is_named() {
        let luks = b"LUKS\xba\xbe";
        assert_eq!(names(&[(0, luks)]), [("LUKS volume", 0)]);
        assert_eq!(names(&[(65600, b"_BHRfS_M")]), [("btrfs file system", 65600)]);
        assert_eq!(names(&[(4086, b"SWAPSPACE2")]), [("swap space", 4086)]);
        assert_eq!(names(&[(512, b"LABELONE")]), [("LVM physical volume", 512)]);
        assert_eq!(names(&[(32769, b"CD001")]), [("ISO 9660 file system", 32769)]);
    }
}
