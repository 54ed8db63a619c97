//! A namespace: blocks on a controller.

use crate::error::Error;
use crate::spec::identify::IdentifyNamespace;

/// An active namespace: its identifier, and what it is or why it cannot be used.
pub(crate) type Found = (u32, Result<Namespace, Error>);

/// An active namespace that this driver can use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Namespace {
    /// Namespace identifier, from 1.
    pub nsid: u32,
    /// Logical blocks are of `2^block_shift` bytes: 9 (512) to 12 (4096).
    pub block_shift: u8,
    /// Size in logical blocks.
    pub blocks: u64,
    /// The controller refuses writes.
    pub read_only: bool,
    /// Write Zeroes may deallocate, and deallocated blocks read as zeroes.
    pub zeroes_by_deallocating: bool,
}

impl Namespace {
    /// What of `identify` this driver needs, or why it cannot use the namespace.
    pub(super) fn new(device: &str, nsid: u32, identify: Option<&IdentifyNamespace>) -> Result<Self, Error> {
        let refuse = |what: String| Err(Error::Namespace { device: device.to_owned(), nsid, what });
        let Some(id) = identify else {
            return refuse("its format is not in its own table of formats".into());
        };
        if id.format.metadata_bytes != 0 {
            let bytes = id.format.metadata_bytes;
            return refuse(format!(
                "its blocks carry {bytes} bytes of metadata: format it without (nvme format --lbaf)"
            ));
        }
        if id.protection != 0 {
            return refuse("it is formatted with end-to-end protection: format it without (nvme format --pi=0)".into());
        }
        let block_shift = id.format.block_shift;
        if !(9..=12).contains(&block_shift) {
            return refuse(format!("its blocks are of 2^{block_shift} bytes; 512 to 4096 are supported"));
        }
        if id.nsze == 0 || id.nsze > (i64::MAX as u64) >> block_shift {
            return refuse(format!("its size of {} blocks is not possible", id.nsze));
        }
        Ok(Self {
            nsid,
            block_shift,
            blocks: id.nsze,
            read_only: id.nsattr & 1 != 0,
            // As `NVME_NS_DEAC` in drivers/nvme/host/core.c.
            zeroes_by_deallocating: id.dlfeat & 0xf == 0b1001,
        })
    }

    /// Bytes of a logical block.
    #[must_use]
    pub fn block_bytes(&self) -> u32 {
        1 << self.block_shift
    }

    /// Size in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.blocks << self.block_shift
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::identify::LbaFormat;

    fn identify(metadata_bytes: u16, block_shift: u8, nsze: u64) -> IdentifyNamespace {
        let format = LbaFormat { metadata_bytes, block_shift };
        IdentifyNamespace { nsze, ncap: nsze, nuse: 0, format, protection: 0, nsattr: 0, dlfeat: 0 }
    }

    #[test]
    fn usable_formats_are_accepted() {
        let ns = Namespace::new("pci:x", 2, Some(&identify(0, 12, 10))).unwrap();
        assert_eq!((ns.block_bytes(), ns.size_bytes()), (4096, 40960));
    }

    #[test]
    fn zeroes_come_by_deallocating_only_where_both_bits_say_so() {
        for (dlfeat, yes) in [(0b1001, true), (0b11001, true), (0b0001, false), (0b1000, false), (0b1010, false)] {
            let id = IdentifyNamespace { dlfeat, ..identify(0, 9, 10) };
            assert_eq!(Namespace::new("pci:x", 1, Some(&id)).unwrap().zeroes_by_deallocating, yes, "{dlfeat:#b}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_reason() {
        for (id, reason) in [
            (Some(identify(8, 9, 10)), "metadata"),
            (Some(identify(0, 8, 10)), "2^8"),
            (Some(identify(0, 200, 10)), "2^200"),
            (Some(identify(0, 9, 0)), "not possible"),
            (Some(identify(0, 9, u64::MAX)), "not possible"),
            (Some(IdentifyNamespace { protection: 1, ..identify(0, 9, 10) }), "protection"),
            (None, "table of formats"),
        ] {
            let error = Namespace::new("pci:x", 1, id.as_ref()).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
