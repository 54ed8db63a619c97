//! The admin queue: one command at a time, each wait bounded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dmaring_dma::{AddressSpace, Direction, DmaRegion, Mapping, Transport};

use super::rings::{CqRing, Doorbell, SqRing};
use super::shadow::{Shadow, ShadowBuffers};
use crate::error::Error;
use crate::spec::command::Command;
use crate::spec::completion::Completion;
use crate::spec::identify::IDENTIFY_BYTES;
use crate::spec::regs::{CSTS, Csts, cq_head_doorbell, sq_tail_doorbell};

/// Entries of each ring: one in flight, one empty; more only gives a late answer somewhere to land.
const ENTRIES: u32 = 16;
/// As the Linux driver's `admin_timeout` (60 s).
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct AdminQueue {
    transport: Arc<dyn Transport>,
    sq: SqRing,
    cq: CqRing,
    next_cid: u16,
    /// One page for the data of a command.
    page: Mapping,
    page_region: Arc<DmaRegion>,
}

impl AdminQueue {
    pub(super) fn new(space: &Arc<AddressSpace>, dstrd: u8) -> Result<Self, Error> {
        let transport = space.transport();
        let unmapped = || Error::NotNvme { device: transport.name(), what: "its doorbells cannot be mapped".into() };
        let sq_doorbell = Doorbell::new(transport, sq_tail_doorbell(0, dstrd)).ok_or_else(unmapped)?;
        let cq_doorbell = Doorbell::new(transport, cq_head_doorbell(0, dstrd)).ok_or_else(unmapped)?;
        let page_region = Arc::new(DmaRegion::new(IDENTIFY_BYTES)?);
        Ok(Self {
            transport: Arc::clone(transport),
            sq: SqRing::new(space, ENTRIES, sq_doorbell)?,
            cq: CqRing::new(space, ENTRIES, cq_doorbell)?,
            next_cid: 0,
            page: space.map(Arc::clone(&page_region), Direction::Both)?,
            page_region,
        })
    }

    pub(super) fn sq_iova(&self) -> u64 {
        self.sq.iova()
    }

    pub(super) fn cq_iova(&self) -> u64 {
        self.cq.iova()
    }

    /// Tells the controller of the shadow doorbells. One that refuses them is rung as before.
    pub(super) fn share_doorbells(&mut self, buffers: &Arc<ShadowBuffers>, dstrd: u8) -> Result<(), Error> {
        // Before the command, which is announced in both places already.
        let (sq, cq) = (self.sq.rung(), self.cq.rung());
        self.sq.set_shadow(Some(Shadow::of_admin_queue(buffers, sq_tail_doorbell(0, dstrd), sq)));
        self.cq.set_shadow(Some(Shadow::of_admin_queue(buffers, cq_head_doorbell(0, dstrd), cq)));
        let (doorbells, events) = buffers.iovas();
        let answer = self.execute(Command::doorbell_buffer_config(doorbells, events));
        answer.map(drop).inspect_err(|_| {
            self.sq.set_shadow(None);
            self.cq.set_shadow(None);
        })
    }

    /// AQA: both sizes, 0's based.
    pub(super) fn attributes() -> u32 {
        (ENTRIES - 1) << 16 | (ENTRIES - 1)
    }

    /// Sends a command and waits for its completion; a status is an error.
    pub(super) fn execute(&mut self, command: Command) -> Result<Completion, Error> {
        let completion = self.complete(command, TIMEOUT)?;
        if completion.status.is_success() {
            return Ok(completion);
        }
        let opcode = command.cdw0 as u8;
        Err(Error::Admin { device: self.transport.name(), opcode, status: completion.status })
    }

    /// Sends a command and waits for its completion, whatever its status, for `limit` or, if that is longer,
    /// the ordinary time.
    pub(super) fn complete(&mut self, mut command: Command, limit: Duration) -> Result<Completion, Error> {
        let cid = self.next_cid;
        self.next_cid = cid.wrapping_add(1);
        command.cdw0 |= u32::from(cid) << 16;
        self.sq.push(&command);
        self.sq.publish();
        let opcode = command.cdw0 as u8;
        let limit = limit.max(TIMEOUT);
        let deadline = Instant::now() + limit;
        let mut spins = 0u32;
        loop {
            while let Some(completion) = self.cq.pop() {
                self.cq.publish();
                if completion.cid != cid {
                    tracing::warn!(?completion, "stale admin completion dropped");
                    continue;
                }
                return Ok(completion);
            }
            spins += 1;
            if spins > 1000 {
                self.check(opcode, deadline, limit)?;
                std::thread::sleep(Duration::from_micros(100));
            } else {
                self.transport.relax();
            }
        }
    }

    fn check(&self, opcode: u8, deadline: Instant, waited: Duration) -> Result<(), Error> {
        let csts = Csts(self.transport.read32(CSTS));
        let device = || self.transport.name();
        if csts.is_gone() {
            return Err(Error::Gone { device: device() });
        }
        // Not ready: it has been stopped meanwhile, and answers nothing any more.
        if csts.cfs() || !csts.rdy() {
            return Err(Error::Fatal { device: device() });
        }
        if Instant::now() > deadline {
            let what = format!("admin command {opcode:#04x}");
            return Err(Error::Timeout { device: device(), what, waited });
        }
        Ok(())
    }

    /// Sends a command whose data (at most a page) comes from the device.
    pub(super) fn read(&mut self, command: Command) -> Result<[u8; IDENTIFY_BYTES], Error> {
        self.execute(Command { prp1: self.page.iova().get(), ..command })?;
        let mut data = [0; IDENTIFY_BYTES];
        self.page_region.slice(0, IDENTIFY_BYTES).copy_to(&mut data);
        Ok(data)
    }
}
