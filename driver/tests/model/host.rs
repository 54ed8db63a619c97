//! A host without a driver: it writes entries and reads completions, of an admin queue and one I/O queue pair.

#![expect(unsafe_code)] // reads and writes queues in memory that it keeps mapped

use std::sync::Arc;

use dmaring::model::{Model, ModelConfig};
use dmaring::spec::command::Command;
use dmaring::spec::completion::Completion;
use dmaring::spec::regs::{ACQ, AQA, ASQ, CC, CSTS, Csts, cq_head_doorbell, sq_tail_doorbell};
use dmaring::spec::status::Status;
use dmaring_dma::{AddressSpace, Direction, DmaRegion, Mapping, Transport};

/// Entries of every queue.
pub const ENTRIES: u32 = 16;
/// CC: enabled, entries of 64 and 16 bytes.
const ENABLE: u32 = 0x0046_0001;

/// Memory that the model reaches.
pub struct Memory {
    region: Arc<DmaRegion>,
    mapping: Mapping,
}

impl Memory {
    fn new(space: &Arc<AddressSpace>, len: usize) -> Self {
        let region = Arc::new(DmaRegion::new(len).unwrap());
        Self { mapping: space.map(Arc::clone(&region), Direction::Both).unwrap(), region }
    }

    pub fn iova(&self) -> u64 {
        self.mapping.iova().get()
    }

    pub fn write(&self, data: &[u8]) {
        self.region.slice(0, data.len()).copy_from(data);
    }

    pub fn read(&self, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        self.region.slice(0, len).copy_to(&mut data);
        data
    }
}

struct Pair {
    qid: u16,
    sq: Memory,
    cq: Memory,
    tail: u32,
    head: u32,
    phase: bool,
}

pub struct Host {
    pub model: Model,
    pairs: Vec<Pair>,
    /// Data of commands.
    pub data: Memory,
    next_cid: u16,
}

impl Host {
    /// A controller that is ready, with I/O queue pair 1.
    pub fn new(config: ModelConfig) -> Self {
        Self::on(Model::stepped("model:host", config))
    }

    pub fn on(model: Model) -> Self {
        let transport: Arc<dyn Transport> = Arc::new(model.clone());
        let space = AddressSpace::new(transport);
        let pair = |qid| Pair {
            qid,
            sq: Memory::new(&space, 4096),
            cq: Memory::new(&space, 4096),
            tail: 0,
            head: 0,
            phase: true,
        };
        let data = Memory::new(&space, 1 << 20);
        let mut host = Self { model, pairs: vec![pair(0), pair(1)], data, next_cid: 0 };
        host.enable();
        host
    }

    /// From reset to ready; the queues begin anew.
    pub fn enable(&mut self) {
        for pair in &mut self.pairs {
            (pair.tail, pair.head, pair.phase) = (0, 0, true);
            pair.cq.write(&[0; 4096]);
        }
        let (sq, cq) = (self.pairs[0].sq.iova(), self.pairs[0].cq.iova());
        self.model.write32(CC, 0);
        self.model.write32(AQA, (ENTRIES - 1) << 16 | (ENTRIES - 1));
        for (offset, value) in [(ASQ, sq), (ACQ, cq)] {
            self.model.write32(offset, value as u32);
            self.model.write32(offset + 4, (value >> 32) as u32);
        }
        self.model.write32(CC, ENABLE);
        assert!(self.is_ready());
        let (sq, cq) = (self.pairs[1].sq.iova(), self.pairs[1].cq.iova());
        assert_eq!(self.admin(Command::create_io_cq(1, ENTRIES as u16, cq, None)), Ok(0));
        assert_eq!(self.admin(Command::create_io_sq(1, ENTRIES as u16, sq, 1)), Ok(0));
    }

    pub fn is_ready(&self) -> bool {
        Csts(self.model.read32(CSTS)).rdy()
    }

    /// Writes an entry into queue `qid` and rings. Answers its identifier.
    pub fn send(&mut self, qid: u16, mut command: Command) -> u16 {
        self.next_cid += 1;
        let cid = self.next_cid;
        command.cdw0 = command.cdw0 & 0xffff | u32::from(cid) << 16;
        let pair = &mut self.pairs[usize::from(qid)];
        let slot = pair.sq.region.as_ptr().cast::<Command>();
        // SAFETY: `tail` is below 16, and 16 entries of 64 bytes fit into the page that `sq` keeps.
        unsafe { slot.add(pair.tail as usize).write_volatile(command) };
        pair.tail = (pair.tail + 1) % ENTRIES;
        let tail = pair.tail;
        self.ring(sq_tail_doorbell(qid, 0), tail);
        cid
    }

    /// Writes a doorbell.
    pub fn ring(&self, offset: u64, value: u32) {
        let register = self.model.doorbell(offset).unwrap();
        // SAFETY: a register of the model, which `self` keeps.
        unsafe { register.write_volatile(value) };
    }

    /// Lets the model work and takes what queue `qid` has completed.
    pub fn take(&mut self, qid: u16) -> Vec<Completion> {
        self.model.step();
        let pair = &mut self.pairs[usize::from(qid)];
        let mut taken = Vec::new();
        loop {
            let slot = pair.cq.region.as_ptr().cast::<[u32; 4]>();
            // SAFETY: `head` is below 16, and 16 entries of 16 bytes fit into the page that `cq` keeps.
            let words = unsafe { slot.add(pair.head as usize).read_volatile() };
            if (words[3] >> 16 & 1 == 1) != pair.phase {
                break;
            }
            taken.push(Completion::decode(words));
            pair.head = (pair.head + 1) % ENTRIES;
            pair.phase ^= pair.head == 0;
        }
        let (head, qid) = (pair.head, pair.qid);
        self.ring(cq_head_doorbell(qid, 0), head);
        taken
    }

    /// Runs a command that is answered at once. Answers dword 0, or the status without More.
    pub fn run(&mut self, qid: u16, command: Command) -> Result<u32, Status> {
        let cid = self.send(qid, command);
        let taken = self.take(qid);
        assert_eq!((taken.len(), taken[0].cid), (1, cid), "{taken:?}");
        outcome(&taken[0])
    }

    pub fn admin(&mut self, command: Command) -> Result<u32, Status> {
        self.run(0, command)
    }

    /// An I/O command of `blocks` from `lba` of namespace 1, on the data memory.
    pub fn io(&mut self, opcode: u8, lba: u64, blocks: u16, flags: u32) -> Result<u32, Status> {
        self.run(1, self.command(opcode, lba, blocks, flags))
    }

    pub fn command(&self, opcode: u8, lba: u64, blocks: u16, flags: u32) -> Command {
        let data = self.data.iova();
        Command {
            nsid: 1,
            prp1: data,
            prp2: data + 4096,
            cdw10: lba as u32,
            cdw11: (lba >> 32) as u32,
            cdw12: flags | u32::from(blocks - 1),
            ..Command::new(opcode)
        }
    }

    /// `bytes` of a log page from `offset`.
    pub fn log(&mut self, lid: u8, offset: u64, bytes: u32) -> Result<Vec<u8>, Status> {
        self.data.write(&[0xee; 8192]);
        let command = Command::get_log_page(lid, offset, bytes, self.data.iova());
        self.admin(Command { prp2: self.data.iova() + 4096, ..command })?;
        Ok(self.data.read(bytes as usize))
    }
}

/// Dword 0, or the status without More.
pub fn outcome(completion: &Completion) -> Result<u32, Status> {
    match completion.status {
        status if status.is_success() => Ok(completion.dw0),
        status => {
            let code = Status::from_bits(status.bits() & 0x7ff);
            assert_eq!(status.more(), code != Status::ABORT_REQUESTED, "whatever fails is in the error log");
            Err(code)
        }
    }
}
