//! Admin commands.

use super::config::{ModelConfig, ModelNamespace};
use super::controller::Controller;
use super::events::{ACL, AERL, NAMESPACE_NOTICES};
use super::health::{CCTEMP, ERROR_LOG_ENTRIES, WCTEMP};
use super::memory::DmaFault;
use super::prp;
use super::queue::{Cq, Sq};
use crate::spec::command::{Command, admin};
use crate::spec::identify::{CNS_ACTIVE_NAMESPACES, CNS_CONTROLLER, CNS_NAMESPACE, IDENTIFY_BYTES};
use crate::spec::status::Status;

impl Controller {
    /// Carries an admin command out. Answers dword 0 of the completion.
    pub(super) fn admin(&mut self, command: &Command) -> Result<u32, Status> {
        match command.cdw0 as u8 {
            admin::IDENTIFY => self.identify(command).map(|()| 0),
            admin::CREATE_IO_CQ => self.create_cq(command).map(|()| 0),
            admin::CREATE_IO_SQ => self.create_sq(command).map(|()| 0),
            admin::DELETE_IO_SQ => self.delete_sq(command).map(|()| 0),
            admin::DELETE_IO_CQ => self.delete_cq(command).map(|()| 0),
            admin::SET_FEATURES => self.feature(command, true),
            admin::GET_FEATURES => self.feature(command, false),
            admin::DOORBELL_BUFFER_CONFIG if self.config.shadow_doorbells => self.share_doorbells(command).map(|()| 0),
            admin::GET_LOG_PAGE => self.get_log_page(command).map(|()| 0),
            admin::ABORT => Ok(self.abort(command)),
            _ => Err(Status::INVALID_OPCODE),
        }
    }

    fn identify(&mut self, command: &Command) -> Result<(), Status> {
        let nsid = command.nsid;
        let namespace = |nsid: u32| self.config.namespaces.get(nsid.checked_sub(1)? as usize);
        let mut data = [0u8; IDENTIFY_BYTES];
        match command.cdw10 as u8 {
            CNS_CONTROLLER => identify_controller(&self.config, &mut data),
            CNS_NAMESPACE => match namespace(nsid) {
                Some(namespace) => identify_namespace(namespace, &mut data),
                None => return Err(Status::INVALID_NAMESPACE),
            },
            CNS_ACTIVE_NAMESPACES if nsid >= 0xffff_fffe => return Err(Status::INVALID_NAMESPACE),
            CNS_ACTIVE_NAMESPACES => {
                let active = (nsid + 1..=self.config.namespaces.len() as u32).take(1024);
                for (slot, id) in data.chunks_exact_mut(4).zip(active) {
                    slot.copy_from_slice(&id.to_le_bytes());
                }
            }
            _ => return Err(Status::INVALID_FIELD),
        }
        let mut at = 0;
        for (iova, len) in prp::walk(&self.memory, command.prp1, command.prp2, IDENTIFY_BYTES as u64)? {
            let end = at + len as usize;
            self.memory.write(iova, &data[at..end]).map_err(|DmaFault| Status::DATA_TRANSFER_ERROR)?;
            at = end;
        }
        Ok(())
    }

    /// A queue identifier and size of a Create command, checked.
    fn queue_of(&self, command: &Command) -> Result<(u16, u32), Status> {
        let (qid, size) = (command.cdw10 as u16, command.cdw10 >> 16);
        if qid == 0 || qid > self.config.queue_pairs {
            return Err(Status::INVALID_QUEUE_ID);
        }
        if size == 0 || size >= u32::from(self.config.queue_entries) {
            return Err(Status::INVALID_QUEUE_SIZE);
        }
        // Physically contiguous (bit 0 of dword 11), at a page.
        if command.cdw11 & 1 == 0 || !command.prp1.is_multiple_of(4096) {
            return Err(Status::INVALID_FIELD);
        }
        Ok((qid, size + 1))
    }

    fn create_cq(&mut self, command: &Command) -> Result<(), Status> {
        let (qid, entries) = self.queue_of(command)?;
        let vector = (command.cdw11 >> 16) as u16;
        let interrupts = command.cdw11 & 2 != 0;
        if interrupts && vector >= self.config.vectors {
            return Err(Status::INVALID_VECTOR);
        }
        let slot = &mut self.cqs[usize::from(qid)];
        if slot.is_some() {
            return Err(Status::INVALID_QUEUE_ID);
        }
        let vector = interrupts.then_some(vector);
        *slot = Some(Cq::new(command.prp1, entries, vector));
        self.doorbells.reset(qid, true);
        Ok(())
    }

    fn create_sq(&mut self, command: &Command) -> Result<(), Status> {
        let (qid, entries) = self.queue_of(command)?;
        let cq = (command.cdw11 >> 16) as u16;
        if cq == 0 || self.cqs.get(usize::from(cq)).is_none_or(Option::is_none) {
            return Err(Status::INVALID_COMPLETION_QUEUE);
        }
        let slot = &mut self.sqs[usize::from(qid)];
        if slot.is_some() {
            return Err(Status::INVALID_QUEUE_ID);
        }
        *slot = Some(Sq::new(command.prp1, entries, cq));
        self.doorbells.reset(qid, false);
        Ok(())
    }

    fn delete_sq(&mut self, command: &Command) -> Result<(), Status> {
        let qid = command.cdw10 as u16;
        let slot = if qid == 0 { None } else { self.sqs.get_mut(usize::from(qid)) };
        slot.and_then(Option::take).map(drop).ok_or(Status::INVALID_QUEUE_ID)?;
        // What was never answered never will be.
        self.stuck.retain(|(of, _)| *of != qid);
        Ok(())
    }

    fn delete_cq(&mut self, command: &Command) -> Result<(), Status> {
        let qid = command.cdw10 as u16;
        if self.sqs.iter().flatten().any(|sq| sq.cq == qid) {
            // Invalid Queue Deletion.
            return Err(Status::from_bits(0x10c));
        }
        let slot = if qid == 0 { None } else { self.cqs.get_mut(usize::from(qid)) };
        slot.and_then(Option::take).map(drop).ok_or(Status::INVALID_QUEUE_ID)
    }
}

/// FR of Identify Controller.
pub(super) fn firmware_revision() -> [u8; 8] {
    let version = env!("CARGO_PKG_VERSION").bytes().chain(std::iter::repeat(b' '));
    let mut revision = [0; 8];
    revision.iter_mut().zip(version).for_each(|(byte, of)| *byte = of);
    revision
}

fn identify_controller(config: &ModelConfig, data: &mut [u8; IDENTIFY_BYTES]) {
    let mut text = |at: usize, len: usize, text: &str| {
        data[at..at + len].fill(b' ');
        data[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    text(4, 20, "model");
    text(24, 40, "dmaring model");
    data[64..72].copy_from_slice(&firmware_revision());
    data[77] = config.mdts;
    data[80..84].copy_from_slice(&0x0001_0400u32.to_le_bytes());
    // OAES: namespace attribute notices. CNTRLTYPE: an I/O controller.
    data[92..96].copy_from_slice(&NAMESPACE_NOTICES.to_le_bytes());
    data[111] = 1;
    data[512] = 0x66;
    data[513] = 0x44;
    data[516..520].copy_from_slice(&(config.namespaces.len() as u32).to_le_bytes());
    let oacs = u16::from(config.shadow_doorbells) << 8;
    data[256..258].copy_from_slice(&oacs.to_le_bytes());
    data[258] = ACL;
    data[259] = AERL;
    // One firmware slot, read-only. Log pages: from any offset, none of a namespace.
    data[260] = 1 << 1 | 1;
    data[261] = 1 << 2;
    data[262] = ERROR_LOG_ENTRIES as u8 - 1;
    data[266..268].copy_from_slice(&WCTEMP.to_le_bytes());
    data[268..270].copy_from_slice(&CCTEMP.to_le_bytes());
    // Compare, Dataset Management, Write Zeroes.
    data[520] = 1 | 1 << 2 | 1 << 3;
    data[525] = u8::from(config.volatile_write_cache);
}

fn identify_namespace(namespace: &ModelNamespace, data: &mut [u8; IDENTIFY_BYTES]) {
    let blocks = namespace.storage.len() >> namespace.block_shift;
    for at in [0, 8, 16] {
        data[at..at + 8].copy_from_slice(&blocks.to_le_bytes());
    }
    data[99] = u8::from(namespace.write_protected);
    data[128..130].copy_from_slice(&namespace.metadata_bytes.to_le_bytes());
    data[130] = namespace.block_shift;
    // Deallocated blocks read as zeroes, where anything is kept (DLFEAT, figure 97).
    data[33] = if namespace.storage.keeps() { 0b1001 } else { 0b0001 };
}
