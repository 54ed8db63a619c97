//! The model's registers and queues, and one step of its work.

use std::collections::BTreeSet;
use std::io;

use nix::sys::eventfd::EventFd;

use super::cache::Cache;
use super::config::ModelConfig;
use super::doorbells::Doorbells;
use super::events::{Event, Events, NAMESPACE_NOTICES};
use super::fault::{Action, Fault};
use super::health::Health;
use super::io::execute;
use super::memory::Memory;
use super::queue::{Answer, Cq, Sq};
use super::shadow::Shadow;
use crate::spec::command::{Command, admin};
use crate::spec::regs::{ACQ, AQA, ASQ, CAP, CC, CSTS, Cc, VS};
use crate::spec::status::Status;

/// More, bit 13 of a status: the error log has an entry of the command.
const MORE: u16 = 1 << 13;

/// The model without its lock.
#[derive(Debug)]
pub(super) struct Controller {
    pub(super) config: ModelConfig,
    pub(super) memory: Memory,
    pub(super) sqs: Vec<Option<Sq>>,
    pub(super) cqs: Vec<Option<Cq>>,
    pub(super) doorbells: Doorbells,
    pub(super) shadow: Option<Shadow>,
    pub(super) health: Health,
    pub(super) events: Events,
    pub(super) cache: Cache,
    /// Namespaces that have changed since the list of them was read.
    pub(super) changed: BTreeSet<u32>,
    /// Commands (queue, identifier) that a fault has left without an answer.
    pub(super) stuck: BTreeSet<(u16, u16)>,
    pub(super) vectors: Vec<Option<EventFd>>,
    pub(super) faults: Vec<Fault>,
    pub(super) gone: bool,
    cc: Cc,
    ready: bool,
    fatal: bool,
    shut_down: bool,
    aqa: u32,
    asq: u64,
    acq: u64,
    buffer: Vec<u8>,
    /// Commands carried out since the model was made.
    pub(super) commands: u64,
}

impl Controller {
    pub(super) fn new(mut config: ModelConfig) -> Self {
        config.bring_into_range();
        let queues = config.queue_pairs + 1;
        Self {
            memory: Memory::default(),
            sqs: (0..queues).map(|_| None).collect(),
            cqs: (0..queues).map(|_| None).collect(),
            doorbells: Doorbells::new(queues, config.dstrd),
            shadow: None,
            health: Health::new(),
            events: Events::default(),
            cache: Cache::new(config.volatile_write_cache, config.power_cuts, config.namespaces.len()),
            changed: BTreeSet::new(),
            stuck: BTreeSet::new(),
            vectors: (0..config.vectors).map(|_| None).collect(),
            faults: Vec::new(),
            gone: false,
            cc: Cc::default(),
            ready: false,
            fatal: false,
            shut_down: false,
            aqa: 0,
            asq: 0,
            acq: 0,
            buffer: Vec::new(),
            commands: 0,
            config,
        }
    }

    fn cap(&self) -> u64 {
        let mqes = u64::from(self.config.queue_entries) - 1;
        // CQR, a time limit of 2 s, the stride, the NVM command set.
        mqes | 1 << 16 | 4 << 24 | u64::from(self.config.dstrd) << 32 | 1 << 37
    }

    pub(super) fn read32(&self, offset: u64) -> u32 {
        if self.gone {
            return u32::MAX;
        }
        let wide = |register: u64, value: u64| if offset == register { value as u32 } else { (value >> 32) as u32 };
        match offset {
            _ if offset & !4 == CAP => wide(CAP, self.cap()),
            VS => 0x0001_0400,
            CC => self.cc.0,
            CSTS => u32::from(self.ready) | u32::from(self.fatal) << 1 | if self.shut_down { 2 << 2 } else { 0 },
            AQA => self.aqa,
            _ if offset & !4 == ASQ => wide(ASQ, self.asq),
            _ if offset & !4 == ACQ => wide(ACQ, self.acq),
            _ => 0,
        }
    }

    pub(super) fn write32(&mut self, offset: u64, value: u32) {
        if self.gone {
            return;
        }
        let low = |old: u64| old & !0xffff_ffff | u64::from(value);
        let high = |old: u64| old & 0xffff_ffff | u64::from(value) << 32;
        match offset {
            CC => self.configure(Cc(value)),
            AQA => self.aqa = value,
            _ if offset == ASQ => self.asq = low(self.asq),
            _ if offset == ASQ + 4 => self.asq = high(self.asq),
            _ if offset == ACQ => self.acq = low(self.acq),
            _ if offset == ACQ + 4 => self.acq = high(self.acq),
            _ => {}
        }
    }

    fn configure(&mut self, cc: Cc) {
        let before = std::mem::replace(&mut self.cc, cc);
        if cc.en() && !before.en() {
            self.enable();
        } else if !cc.en() && before.en() {
            self.reset();
        }
        if cc.shn() != 0 && cc.en() {
            // A cache that cannot be written back is no reason to keep the driver waiting.
            let _ = self.cache.flush_all(&self.config.namespaces);
            self.shut_down = true;
        }
    }

    fn enable(&mut self) {
        let (sq_entries, cq_entries) = ((self.aqa & 0xfff) + 1, (self.aqa >> 16 & 0xfff) + 1);
        let usable = sq_entries > 1
            && cq_entries > 1
            && self.asq.is_multiple_of(4096)
            && self.acq.is_multiple_of(4096)
            && (self.cc.iosqes(), self.cc.iocqes()) == (6, 4)
            && (self.cc.mps(), self.cc.css()) == (0, 0);
        if !usable {
            self.fatal = true;
            return;
        }
        self.sqs[0] = Some(Sq::new(self.asq, sq_entries, 0));
        self.cqs[0] = Some(Cq::new(self.acq, cq_entries, Some(0)));
        self.ready = true;
    }

    /// Controller reset (section 3.7.2): queues are gone, AQA, ASQ and ACQ stay.
    pub(super) fn reset(&mut self) {
        self.sqs.iter_mut().for_each(|sq| *sq = None);
        self.cqs.iter_mut().for_each(|cq| *cq = None);
        for queue in 0..=self.config.queue_pairs {
            self.doorbells.reset(queue, false);
            self.doorbells.reset(queue, true);
        }
        self.shadow = None;
        self.events = Events::default();
        self.stuck.clear();
        self.cc = Cc::default();
        self.ready = false;
        self.fatal = false;
        self.shut_down = false;
    }

    /// The power goes, and comes back: what is only in the cache is lost, and so is all that the driver had
    /// set up.
    pub(super) fn power_cut(&mut self) -> io::Result<()> {
        self.health.unsafe_shutdowns += u64::from(!self.shut_down);
        self.health.power_cycles += 1;
        let lost = self.cache.lose(&self.config.namespaces, self.config.volatile_write_cache);
        self.reset();
        self.health.thresholds = Health::new().thresholds;
        (self.aqa, self.asq, self.acq) = (0, 0, 0);
        lost
    }

    /// Gives a namespace another size.
    pub(super) fn resize(&mut self, nsid: u32, bytes: u64) -> io::Result<()> {
        let index = (nsid as usize).wrapping_sub(1);
        let namespace = self.config.namespaces.get_mut(index).ok_or(io::ErrorKind::NotFound)?;
        namespace.storage.resize(bytes)?;
        self.cache.cut(index, bytes);
        self.changed.insert(nsid);
        if self.events.enabled & NAMESPACE_NOTICES != 0 {
            self.events.raise(Event::NamespaceChanged);
        }
        Ok(())
    }

    /// Carries out everything that doorbells announce. Answers how many commands that were.
    pub(super) fn step(&mut self) -> usize {
        let mut done = 0;
        if !self.ready || self.fatal || self.gone {
            return 0;
        }
        for qid in 0..self.sqs.len() as u16 {
            while self.step_queue(qid) {
                done += 1;
            }
        }
        self.commands += done as u64;
        self.deliver();
        done
    }

    /// Entries of a completion queue that are free.
    pub(super) fn room(&mut self, cqid: u16) -> u32 {
        let Some(cq) = self.cqs.get_mut(usize::from(cqid)).and_then(Option::as_mut) else { return 0 };
        let head = match &self.shadow {
            Some(shadow) if cqid != 0 => shadow.head(&self.doorbells, &self.memory, cqid, cq),
            _ => Ok(self.doorbells.get(cqid, true)),
        };
        match head {
            Ok(head) if head < cq.entries => cq.room(head),
            _ => 0,
        }
    }

    /// One command of one queue; false when there is none, or no room for its answer.
    fn step_queue(&mut self, qid: u16) -> bool {
        let Some(sq) = self.sqs[usize::from(qid)].as_mut() else { return false };
        let (entries, cqid) = (sq.entries, sq.cq);
        let Some(cq) = self.cqs[usize::from(cqid)].as_mut() else { return false };
        let told = match &self.shadow {
            Some(shadow) if qid != 0 => shadow.look(&self.doorbells, &self.memory, (qid, sq), (cqid, cq)),
            _ => Ok((self.doorbells.get(qid, false), self.doorbells.get(cqid, true))),
        };
        let Ok((tail, head_doorbell)) = told else {
            // Shadow doorbells that cannot be reached are as fatal as a queue that cannot.
            self.fatal = true;
            return false;
        };
        // A doorbell at or beyond the queue's size is an error of the driver; its queue stands still.
        if tail >= entries {
            if !std::mem::replace(&mut sq.astray, true) {
                self.health.note_stray(qid);
                self.events.raise(Event::InvalidDoorbell);
            }
            return false;
        }
        if head_doorbell >= cq.entries || !cq.has_room(head_doorbell) {
            return false;
        }
        let Some(fetched) = sq.fetch(tail, &self.memory) else { return false };
        let sq_head = sq.head as u16;
        let Ok(command) = fetched else {
            // A queue that cannot be read is fatal.
            self.fatal = true;
            return false;
        };
        self.run(qid, cqid, sq_head, &command);
        !self.fatal && !self.gone
    }

    fn run(&mut self, qid: u16, cqid: u16, sq_head: u16, command: &Command) {
        let action = self.faults.iter_mut().find_map(|fault| fault.hit(qid == 0, command));
        let mut cid = (command.cdw0 >> 16) as u16;
        let result = match action {
            Some(Action::Fail(status)) => Err(status),
            Some(Action::Drop) => {
                self.stuck.insert((qid, cid));
                return;
            }
            Some(Action::Fatal) => {
                self.fatal = true;
                return;
            }
            Some(Action::Gone) => {
                self.gone = true;
                return;
            }
            _ if qid == 0 && command.cdw0 as u8 == admin::ASYNC_EVENT_REQUEST => match self.hold(cid) {
                Ok(()) => return,
                Err(status) => Err(status),
            },
            _ if qid == 0 => self.admin(command),
            _ => self.io(command).map(|()| 0),
        };
        if let Err(status) = result {
            self.health.note_failure(qid, command, status);
            if status == Status::INTERNAL_ERROR {
                self.events.raise(Event::TransientError);
            }
        }
        if action == Some(Action::WrongId) {
            cid ^= 0x4000;
        }
        // More: the error log has an entry.
        let status = result.err().map_or(Status::SUCCESS, |status| Status::from_bits(status.bits() | MORE));
        let answer = Answer { sq: qid, sq_head, cid, status, dw0: result.unwrap_or(0) };
        let times = if action == Some(Action::AnswerTwice) { 2 } else { 1 };
        for _ in 0..times {
            self.answer(cqid, &answer, action != Some(Action::NoInterrupt));
        }
    }

    fn io(&mut self, command: &Command) -> Result<(), Status> {
        let most = self.most_bytes();
        let namespaces = &self.config.namespaces;
        execute(command, namespaces, &mut self.cache, &self.memory, most, &mut self.buffer)?;
        if let Some(namespace) = namespaces.get((command.nsid as usize).wrapping_sub(1)) {
            self.health.count(command, namespace.block_shift);
        }
        Ok(())
    }

    /// The longest transfer; `None` is no limit.
    pub(super) fn most_bytes(&self) -> Option<u64> {
        (self.config.mdts != 0).then(|| 4096u64.checked_shl(self.config.mdts.into()).unwrap_or(u64::MAX))
    }

    pub(super) fn answer(&mut self, cqid: u16, answer: &Answer, interrupt: bool) {
        let Some(cq) = self.cqs[usize::from(cqid)].as_mut() else { return };
        if cq.post(answer, &self.memory).is_err() {
            self.fatal = true;
            return;
        }
        let vector = cq.vector.filter(|_| interrupt);
        if let Some(Some(event)) = vector.and_then(|v| self.vectors.get(usize::from(v))) {
            // A full counter has been raised already.
            let _ = event.write(1);
        }
    }
}
