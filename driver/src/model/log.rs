//! Get Log Page (section 5.16).

use super::controller::Controller;
use super::memory::DmaFault;
use super::prp;
use crate::spec::command::Command;
use crate::spec::log::{CHANGED_NAMESPACES, ERROR_INFORMATION, FIRMWARE_SLOT, SMART};
use crate::spec::status::Status;

/// Retain Asynchronous Event, bit 15 of dword 10.
const RETAIN: u32 = 1 << 15;
/// Offset Type, bit 23 of dword 14: an index instead of bytes.
const BY_INDEX: u32 = 1 << 23;
/// Bytes of the firmware slot log and of the lists of namespaces.
const FIRMWARE_BYTES: usize = 512;
const LIST_BYTES: usize = 4096;

impl Controller {
    pub(super) fn get_log_page(&mut self, command: &Command) -> Result<(), Status> {
        let lid = command.cdw10 as u8;
        let page = match lid {
            ERROR_INFORMATION => self.health.error_log(),
            SMART => self.health.smart(),
            FIRMWARE_SLOT => firmware_slots(),
            CHANGED_NAMESPACES => self.changed_namespaces(),
            _ => return Err(Status::INVALID_LOG_PAGE),
        };
        // They are all of the controller, not of a namespace (LPA bit 0 is clear).
        if !matches!(command.nsid, 0 | u32::MAX) {
            return Err(Status::INVALID_FIELD);
        }
        let dwords = u64::from(command.cdw10 >> 16) | u64::from(command.cdw11 & 0xffff) << 16;
        let len = (dwords + 1) * 4;
        let offset = u64::from(command.cdw12) | u64::from(command.cdw13) << 32;
        if offset & 3 != 0 || offset > page.len() as u64 || command.cdw14 & BY_INDEX != 0 {
            return Err(Status::INVALID_FIELD);
        }
        if self.most_bytes().is_some_and(|most| len > most) {
            return Err(Status::INVALID_FIELD);
        }
        // What lies beyond the end is not defined; it is zeroes here, never what the memory held before.
        let mut rest = &page[offset as usize..];
        let mut piece = [0; 4096];
        for (iova, len) in prp::walk(&self.memory, command.prp1, command.prp2, len)? {
            let len = len as usize;
            let known = rest.len().min(len);
            piece[..known].copy_from_slice(&rest[..known]);
            piece[known..len].fill(0);
            self.memory.write(iova, &piece[..len]).map_err(|DmaFault| Status::DATA_TRANSFER_ERROR)?;
            rest = &rest[known..];
        }
        if command.cdw10 & RETAIN == 0 {
            self.events.clear(lid);
            if lid == CHANGED_NAMESPACES {
                self.changed.clear();
            }
        }
        Ok(())
    }

    /// Changed Namespace List (section 5.16.1.5).
    fn changed_namespaces(&self) -> Vec<u8> {
        let mut page: Vec<u8> = self.changed.iter().take(LIST_BYTES / 4).flat_map(|nsid| nsid.to_le_bytes()).collect();
        if self.changed.len() > LIST_BYTES / 4 {
            page.fill(0);
            page[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        }
        page.resize(LIST_BYTES, 0);
        page
    }
}

/// Firmware Slot Information (section 5.16.1.4): slot 1 is active, and has the revision of Identify.
fn firmware_slots() -> Vec<u8> {
    let mut page = vec![0; FIRMWARE_BYTES];
    page[0] = 1;
    page[8..16].copy_from_slice(&super::admin::firmware_revision());
    page
}
