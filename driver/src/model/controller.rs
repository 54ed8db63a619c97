//! The model's registers, queues and doorbells, and one step of its work.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::eventfd::EventFd;

use super::config::ModelConfig;
use super::fault::{Action, Fault};
use super::io;
use super::memory::Memory;
use super::queue::{Answer, Cq, Sq};
use super::shadow::Shadow;
use crate::spec::command::Command;
use crate::spec::regs::{ACQ, AQA, ASQ, CAP, CC, CSTS, Cc, VS};
use crate::spec::status::Status;

/// What stands in a register that was looked at, of a queue with shadow doorbells.
const QUIET: u32 = u32::MAX;

/// Doorbell registers: written by the driver with plain stores, read here.
#[derive(Clone, Debug)]
pub(super) struct Doorbells {
    words: Arc<[AtomicU32]>,
    dstrd: u8,
}

impl Doorbells {
    fn new(queues: u16, dstrd: u8) -> Self {
        let words = (usize::from(queues) * 2) << dstrd;
        Self { words: (0..words).map(|_| AtomicU32::new(0)).collect(), dstrd }
    }

    /// The register at byte `offset` of the doorbells.
    pub(super) fn pointer(&self, offset: u64) -> Option<NonNull<u32>> {
        let word = self.words.get(usize::try_from(offset / 4).ok()?)?;
        if !offset.is_multiple_of(4) {
            return None;
        }
        NonNull::new(word.as_ptr())
    }

    pub(super) fn index(&self, queue: u16, completion: bool) -> usize {
        (usize::from(queue) * 2 + usize::from(completion)) << self.dstrd
    }

    fn get(&self, queue: u16, completion: bool) -> u32 {
        // Acquire: the entries before the doorbell are read after it.
        self.words[self.index(queue, completion)].load(Ordering::Acquire)
    }

    /// Whether the register was written since this was last asked.
    pub(super) fn was_rung(&self, queue: u16, completion: bool) -> bool {
        let word = &self.words[self.index(queue, completion)];
        // Drivers write indexes, never this; a swap only when there is something, since it takes the line.
        word.load(Ordering::Relaxed) != QUIET && word.swap(QUIET, Ordering::Acquire) != QUIET
    }

    pub(super) fn reset(&self, queue: u16, completion: bool) {
        self.words[self.index(queue, completion)].store(0, Ordering::Relaxed);
    }
}

/// The model without its lock.
#[derive(Debug)]
pub(super) struct Controller {
    pub(super) config: ModelConfig,
    pub(super) memory: Memory,
    pub(super) sqs: Vec<Option<Sq>>,
    pub(super) cqs: Vec<Option<Cq>>,
    pub(super) doorbells: Doorbells,
    pub(super) shadow: Option<Shadow>,
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
    pub(super) fn new(config: ModelConfig) -> Self {
        let queues = config.queue_pairs + 1;
        Self {
            memory: Memory::default(),
            sqs: (0..queues).map(|_| None).collect(),
            cqs: (0..queues).map(|_| None).collect(),
            doorbells: Doorbells::new(queues, config.dstrd),
            shadow: None,
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
            // Every write is in the storage already.
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
        self.cc = Cc::default();
        self.ready = false;
        self.fatal = false;
        self.shut_down = false;
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
        done
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
        if tail >= entries || head_doorbell >= cq.entries || !cq.has_room(head_doorbell) {
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
            Some(Action::Drop) => return,
            Some(Action::Fatal) => {
                self.fatal = true;
                return;
            }
            Some(Action::Gone) => {
                self.gone = true;
                return;
            }
            _ if qid == 0 => self.admin(command),
            _ => self.io(command).map(|()| 0),
        };
        if action == Some(Action::WrongId) {
            cid ^= 0x4000;
        }
        let status = result.err().unwrap_or(Status::SUCCESS);
        let answer = Answer { sq: qid, sq_head, cid, status, dw0: result.unwrap_or(0) };
        let times = if action == Some(Action::AnswerTwice) { 2 } else { 1 };
        for _ in 0..times {
            self.answer(cqid, &answer, action != Some(Action::NoInterrupt));
        }
    }

    fn io(&mut self, command: &Command) -> Result<(), Status> {
        let most = (self.config.mdts != 0).then(|| 4096 << self.config.mdts);
        io::execute(command, &self.config.namespaces, &self.memory, most, &mut self.buffer)
    }

    fn answer(&mut self, cqid: u16, answer: &Answer, interrupt: bool) {
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
