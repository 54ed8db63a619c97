//! What may be asked of whoever owns a controller.
//!
//! A VFIO group opens once, so one process owns the controller and everyone else asks it: for admin
//! commands, for queue identifiers, for addresses in its space, for its health. Here the owner is this
//! process; nothing outside this file relies on that.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use dmaring_dma::{AddressSpace, Transport, fork};

use super::controller::{Controller, ControllerInfo};
use super::namespace::Found;
use super::rings::{CqRing, Doorbell, SqRing};
use super::shadow::Shadow;
use crate::error::Error;
use crate::options::DeviceOptions;
use crate::spec::command::Command;
use crate::spec::completion::Completion;
use crate::spec::identify::IDENTIFY_BYTES;
use crate::spec::log::{self, ErrorEntry, SmartLog};
use crate::spec::regs::{CSTS, Csts, cq_head_doorbell, sq_tail_doorbell};

/// How a controller is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Ready.
    Good,
    /// Stopped by us after a fatal status or a timeout; nothing in flight will be answered.
    Stopped,
    /// Left the bus, or is being removed.
    Gone,
}

/// The owner of one controller.
#[derive(Debug)]
pub(crate) struct Owner {
    controller: Controller,
    /// Which I/O queue identifiers are taken; index 0 is queue 1.
    queues: Mutex<Vec<bool>>,
    health: AtomicU8,
    /// Why there are no interrupts, when there are none.
    no_interrupts: Option<String>,
    generation: u32,
}

/// A queue pair that the controller knows, with its interrupt vector when it has one.
#[derive(Debug)]
pub(super) struct QueueGrant {
    pub(super) qid: u16,
    pub(super) sq: SqRing,
    pub(super) cq: CqRing,
    pub(super) vector: Option<u16>,
}

impl Owner {
    pub(crate) fn open(transport: Arc<dyn Transport>, options: &DeviceOptions) -> Result<Self, Error> {
        let controller = Controller::open(transport, options)?;
        let queues = vec![false; controller.info().queue_pairs.into()];
        let health = AtomicU8::new(Health::Good as u8);
        // A queue with a vector can only be made once MSI-X is enabled; every vector is silent at first.
        let no_interrupts = match controller.transport().vectors() {
            0 => Some("the device has no MSI-X vectors".to_owned()),
            _ => controller.transport().set_vectors(0, &[None]).err().map(|error| error.to_string()),
        };
        let generation = fork::generation();
        Ok(Self { controller, queues: Mutex::new(queues), health, no_interrupts, generation })
    }

    pub(crate) fn info(&self) -> &ControllerInfo {
        self.controller.info()
    }

    pub(crate) fn name(&self) -> String {
        self.controller.transport().name()
    }

    pub(crate) fn space(&self) -> &Arc<AddressSpace> {
        self.controller.space()
    }

    pub(crate) fn namespaces(&self) -> Result<Vec<Found>, Error> {
        self.check_ours()?;
        self.controller.namespaces()
    }

    /// SMART / Health Information.
    pub(crate) fn smart(&self) -> Result<SmartLog, Error> {
        self.check_ours()?;
        let page = self.controller.log_page(log::SMART, 0, log::SMART_BYTES as u32)?;
        Ok(SmartLog::decode(page.first_chunk().expect("a page is longer")))
    }

    /// The entries of the error log that are used, a page at a time.
    pub(crate) fn error_log(&self) -> Result<Vec<ErrorEntry>, Error> {
        self.check_ours()?;
        let identify = &self.info().identify;
        let per_page = IDENTIFY_BYTES / log::ERROR_ENTRY_BYTES;
        let mut most = usize::from(identify.elpe) + 1;
        if !identify.has_log_page_offsets() {
            most = most.min(per_page);
        }
        let mut entries = Vec::new();
        for first in (0..most).step_by(per_page) {
            let bytes = (most - first).min(per_page) * log::ERROR_ENTRY_BYTES;
            let offset = (first * log::ERROR_ENTRY_BYTES) as u64;
            let page = self.controller.log_page(log::ERROR_INFORMATION, offset, bytes as u32)?;
            let (chunks, _) = page[..bytes].as_chunks();
            entries.extend(chunks.iter().filter_map(ErrorEntry::decode));
        }
        Ok(entries)
    }

    /// Makes a queue pair of `entries` (a power of two, cut to what the controller takes).
    pub(super) fn create_queue(&self, entries: u32) -> Result<QueueGrant, Error> {
        self.check_ours()?;
        let qid = self.take_qid()?;
        self.create_with(qid, entries).inspect_err(|_| self.return_qid(qid))
    }

    fn create_with(&self, qid: u16, entries: u32) -> Result<QueueGrant, Error> {
        let (info, space) = (self.controller.info(), self.controller.space());
        let transport = self.controller.transport();
        let most = 1 << info.cap.max_queue_entries().min(1 << 15).ilog2();
        let entries = entries.clamp(2, most);
        let dstrd = info.cap.dstrd();
        let doorbell = |offset| {
            let what = format!("the doorbells of queue {qid} cannot be mapped");
            Doorbell::new(transport, offset).ok_or_else(|| Error::NotNvme { device: self.name(), what })
        };
        let mut cq = CqRing::new(space, entries, doorbell(cq_head_doorbell(qid, dstrd))?)?;
        let mut sq = SqRing::new(space, entries, doorbell(sq_tail_doorbell(qid, dstrd))?)?;
        let shadow = |offset| self.controller.shadow().map(|buffers| Shadow::new(buffers, offset));
        cq.set_shadow(shadow(cq_head_doorbell(qid, dstrd)));
        sq.set_shadow(shadow(sq_tail_doorbell(qid, dstrd)));
        // Vector 0 is the admin queue's; a queue beyond the last vector has none and is polled.
        let vector = Some(qid).filter(|qid| *qid < info.vectors && self.no_interrupts.is_none());
        self.admin_or_stop(Command::create_io_cq(qid, cq.entries() as u16, cq.iova(), vector))?;
        let made = self.admin_or_stop(Command::create_io_sq(qid, sq.entries() as u16, sq.iova(), qid));
        if made.is_err() && self.health() == Health::Good {
            // Before its memory goes.
            let deleted = self.controller.admin(Command::delete_io_cq(qid));
            let _ = deleted.inspect_err(|_| self.stop());
        }
        made.map(|()| QueueGrant { qid, sq, cq, vector })
    }

    /// A command that gives the controller memory. One that is refused has given it nothing; one that is
    /// not answered may still be carried out, when the memory is somebody else's: the controller is
    /// stopped.
    fn admin_or_stop(&self, command: Command) -> Result<(), Error> {
        let answer = self.controller.admin(command);
        answer.map(drop).inspect_err(|error| {
            if !matches!(error, Error::Admin { .. }) {
                self.stop();
            }
        })
    }

    /// Sends an admin command of the program's and waits for its answer, whatever its status. A controller that
    /// does not answer may still use the command's memory: it is stopped.
    pub(crate) fn pass_admin(&self, command: Command, limit: Duration) -> Result<Completion, Error> {
        self.check_ours()?;
        self.controller.complete(command, limit).inspect_err(|_| {
            if self.check_health() == Health::Good {
                self.stop();
            }
        })
    }

    /// First step of taking a queue pair down: the device stops reading submissions. Commands in flight
    /// have been answered when this returns, or never will be.
    pub(super) fn delete_sq(&self, qid: u16) {
        if self.health() == Health::Good
            && let Err(error) = self.controller.admin(Command::delete_io_sq(qid))
        {
            tracing::warn!(%error, qid, "cannot delete the submission queue");
            self.stop();
        }
    }

    /// Second step: the device stops writing completions, and the identifier is free again.
    pub(super) fn delete_cq(&self, qid: u16) {
        if self.health() == Health::Good
            && let Err(error) = self.controller.admin(Command::delete_io_cq(qid))
        {
            tracing::warn!(%error, qid, "cannot delete the completion queue");
            self.stop();
        }
        self.return_qid(qid);
    }

    /// Why a queue without a vector has none.
    pub(super) fn no_vector(&self) -> Error {
        let device = self.name();
        let what = self.no_interrupts.clone().unwrap_or_else(|| {
            format!("its {} interrupt vectors are taken: use polling, or fewer rings", self.info().vectors)
        });
        Error::NoInterrupt { device, what }
    }

    /// Connects a vector to an event descriptor, or silences it.
    pub(super) fn set_vector(&self, vector: u16, event: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        Ok(self.controller.transport().set_vectors(vector, &[event])?)
    }

    /// What is known of the controller's health, without looking.
    pub(crate) fn health(&self) -> Health {
        match self.health.load(Ordering::Acquire) {
            0 => Health::Good,
            1 => Health::Stopped,
            _ => Health::Gone,
        }
    }

    /// Looks at the controller (one register read) and stops it when it reports a fatal status.
    pub(crate) fn check_health(&self) -> Health {
        if self.health() == Health::Good {
            let csts = Csts(self.controller.transport().read32(CSTS));
            if csts.is_gone() {
                tracing::error!(device = self.name(), "the device is gone");
                self.health.store(Health::Gone as u8, Ordering::Release);
            } else if self.controller.transport().removal_requested() {
                tracing::error!(device = self.name(), "the device is wanted back");
                // It still works, and could still write the memory of what is about to be failed.
                self.stop();
                self.health.store(Health::Gone as u8, Ordering::Release);
            } else if csts.cfs() || !csts.rdy() {
                tracing::error!(device = self.name(), ?csts, "the controller has failed");
                self.stop();
            }
        }
        self.health()
    }

    /// Stops the controller: nothing in flight will write memory any more. If it cannot be disabled it
    /// is reset, and if that fails it is cut off from memory.
    pub(crate) fn stop(&self) {
        let stopped = self.controller.disable().or_else(|error| {
            tracing::warn!(%error, "resetting the function instead");
            self.controller.transport().reset().map_err(Error::from)
        });
        let health = match stopped {
            Err(Error::Gone { .. }) => Health::Gone,
            Err(error) => {
                tracing::error!(%error, device = self.name(), "the controller cannot be stopped: cutting it off from memory");
                if let Err(error) = self.controller.transport().cut_off() {
                    tracing::error!(%error, device = self.name(), "the device cannot be cut off from memory");
                }
                Health::Gone
            }
            Ok(()) => Health::Stopped,
        };
        self.health.store(health as u8, Ordering::Release);
    }

    /// Whether this is the process that opened the controller.
    pub(crate) fn is_ours(&self) -> bool {
        self.generation == fork::current()
    }

    fn check_ours(&self) -> Result<(), Error> {
        if self.is_ours() { Ok(()) } else { Err(Error::Forked) }
    }

    fn take_qid(&self) -> Result<u16, Error> {
        let mut queues = self.queues();
        let free = queues.iter().position(|taken| !taken);
        let free = free.ok_or_else(|| Error::NoQueue { device: self.name(), queue_pairs: self.info().queue_pairs })?;
        queues[free] = true;
        Ok(free as u16 + 1)
    }

    fn return_qid(&self, qid: u16) {
        self.queues()[usize::from(qid) - 1] = false;
    }

    fn queues(&self) -> MutexGuard<'_, Vec<bool>> {
        self.queues.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // A child of fork has copies of the descriptors; the controller stays its parent's.
        if self.is_ours()
            && self.health() == Health::Good
            && let Err(error) = self.controller.shut_down()
        {
            tracing::warn!(%error, "shutting down");
        }
    }
}
