//! Processors with user interrupts as a state machine: what posts, notifies, delivers and returns, word by word of
//! memory. It is slow and plain on purpose: the reference for whatever else has user interrupts, which runs the
//! same programs beside it.
//!
//! ```text
//!   senduipi  --> PIR, ON in memory --> an interrupt at the destination's APIC
//!   step      --> the interrupt is a notification (vector = UINV): ON := 0, UIRR |= PIR, PIR := 0
//!             --> UIRR != 0, UIF = 1: frame, UIF := 0, RIP := handler
//!   uiret     --> the frame is popped, UIF := 1
//! ```
//! Intel SDM, volume 3, chapter "User Interrupts": notification identification and processing, delivery; volume 2,
//! the instructions. All processors run user code (CPL 3) with CR4.UINTR set.

use std::collections::{BTreeMap, VecDeque};

use crate::msr::StackAdjust;
use crate::uitt::UittEntry;
use crate::upid::Control;
use crate::vector::Vector;

/// RFLAGS.TF, cleared by a delivery, and RFLAGS.RF, as well.
const TF: u64 = 1 << 8;
const RF: u64 = 1 << 16;
/// What UIRET loads of RFLAGS: CF, PF, AF, ZF, SF, TF, DF, OF, NT, RF, AC and ID.
const UIRET_FLAGS: u64 = 0x25_4dd5;

/// A fault of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// #UD: SENDUIPI while IA32_UINTR_TT does not enable it.
    UndefinedOpcode,
    /// #GP: an index beyond the table, or an entry that is not valid; UIRET to an address that is not canonical.
    GeneralProtection,
}

/// The state of one processor that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Its APIC's identifier: what descriptors name as destination.
    pub apic: u32,
    /// The user-interrupt flag.
    pub uif: bool,
    /// User interrupts that are pending here (UIRR).
    pub rr: u64,
    /// Address of the handler.
    pub handler: u64,
    /// Where frames go.
    pub stack: StackAdjust,
    /// The vector that is a notification (UINV).
    pub notification_vector: u8,
    /// Address of the descriptor.
    pub upid: u64,
    /// Address of the target table and its highest index, if SENDUIPI is enabled.
    pub uitt: Option<(u64, u32)>,
    /// The instruction pointer.
    pub rip: u64,
    /// The stack pointer.
    pub rsp: u64,
    /// The flags.
    pub rflags: u64,
    /// Interrupts at the APIC, in the order they came.
    interrupts: VecDeque<u8>,
}

impl Cpu {
    /// A processor after reset, whose thread has no user interrupts yet.
    #[must_use]
    pub fn new(apic: u32) -> Self {
        Self {
            apic,
            uif: false,
            rr: 0,
            handler: 0,
            stack: StackAdjust::Below(0),
            notification_vector: 0,
            upid: 0,
            uitt: None,
            rip: 0,
            rsp: 0,
            rflags: 2,
            interrupts: VecDeque::new(),
        }
    }
}

/// What happened at an instruction boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing was pending that could be taken.
    Nothing,
    /// A notification was taken: what was posted is pending in the processor.
    Notified,
    /// The handler was entered with this vector.
    Delivered(Vector),
    /// An interrupt that is no notification: the kernel's.
    Kernel(u8),
}

/// Processors and the memory that they share.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Memory by 8-byte words; what was never written is 0.
    memory: BTreeMap<u64, u64>,
    cpus: Vec<Cpu>,
}

impl Machine {
    /// A machine with these processors.
    #[must_use]
    pub fn new(cpus: Vec<Cpu>) -> Self {
        Self { memory: BTreeMap::new(), cpus }
    }

    /// A processor.
    ///
    /// # Panics
    /// When there is no such one.
    #[must_use]
    pub fn cpu(&self, cpu: usize) -> &Cpu {
        &self.cpus[cpu]
    }

    /// A processor, to be changed as a kernel does.
    ///
    /// # Panics
    /// When there is no such one.
    pub fn cpu_mut(&mut self, cpu: usize) -> &mut Cpu {
        &mut self.cpus[cpu]
    }

    /// The word at an address.
    #[must_use]
    pub fn read(&self, address: u64) -> u64 {
        self.memory.get(&address).copied().unwrap_or(0)
    }

    /// Writes the word at an address.
    pub fn write(&mut self, address: u64, word: u64) {
        self.memory.insert(address, word);
    }

    /// Writes an entry of a target table.
    pub fn write_entry(&mut self, table: u64, index: u32, entry: UittEntry) {
        let at = table + 16 * u64::from(index);
        for (word, at) in entry.words().into_iter().zip([at, at + 8]) {
            self.write(at, word);
        }
    }

    /// CLUI.
    pub fn clui(&mut self, cpu: usize) {
        self.cpus[cpu].uif = false;
    }

    /// STUI. What is pending is delivered at the next boundary ([`step`](Self::step)).
    pub fn stui(&mut self, cpu: usize) {
        self.cpus[cpu].uif = true;
    }

    /// TESTUI: the flag, which goes to CF; ZF, AF, OF, PF and SF are cleared.
    pub fn testui(&mut self, cpu: usize) -> bool {
        const ARITHMETIC: u64 = 0x8d5;
        let cpu = &mut self.cpus[cpu];
        cpu.rflags = cpu.rflags & !ARITHMETIC | u64::from(cpu.uif);
        cpu.uif
    }

    /// SENDUIPI with this value in its register.
    ///
    /// # Errors
    /// The fault; nothing is posted then.
    pub fn senduipi(&mut self, cpu: usize, index: u64) -> Result<(), Fault> {
        let (table, highest) = self.cpus[cpu].uitt.ok_or(Fault::UndefinedOpcode)?;
        if index > highest.into() {
            return Err(Fault::GeneralProtection);
        }
        let at = table + 16 * index;
        let entry = UittEntry::of_words([self.read(at), self.read(at + 8)]);
        let (vector, upid) = entry.target().ok_or(Fault::GeneralProtection)?;
        // Both words under one lock.
        self.write(upid + 8, self.read(upid + 8) | vector.bit());
        let mut control = Control(self.read(upid));
        if !control.outstanding() && !control.suppressed() {
            control.set_outstanding(true);
            self.write(upid, control.0);
            self.interrupt(control.destination(), control.notification_vector());
        }
        Ok(())
    }

    /// An interrupt arrives at the APIC with this identifier; it is lost if there is none. One that is pending there
    /// already is not pending twice.
    pub fn interrupt(&mut self, apic: u32, vector: u8) {
        if let Some(cpu) = self.cpus.iter_mut().find(|cpu| cpu.apic == apic)
            && !cpu.interrupts.contains(&vector)
        {
            cpu.interrupts.push_back(vector);
        }
    }

    /// One instruction boundary of a processor: takes the next interrupt, or delivers the next user interrupt.
    pub fn step(&mut self, cpu: usize) -> Event {
        let state = &mut self.cpus[cpu];
        if let Some(vector) = state.interrupts.pop_front() {
            if vector != state.notification_vector {
                return Event::Kernel(vector);
            }
            let upid = state.upid;
            let mut control = Control(self.read(upid));
            control.set_outstanding(false);
            self.write(upid, control.0);
            self.cpus[cpu].rr |= self.read(upid + 8);
            self.write(upid + 8, 0);
            return Event::Notified;
        }
        match Vector::highest(state.rr) {
            Some(vector) if state.uif => {
                self.deliver(cpu, vector);
                Event::Delivered(vector)
            }
            _ => Event::Nothing,
        }
    }

    fn deliver(&mut self, cpu: usize, vector: Vector) {
        let state = &mut self.cpus[cpu];
        let frame = [state.rsp, state.rflags, state.rip, vector.number().into()];
        let mut rsp = state.stack.top(state.rsp);
        state.rr &= !vector.bit();
        state.uif = false;
        state.rip = state.handler;
        state.rflags &= !(TF | RF);
        for word in frame {
            rsp = rsp.wrapping_sub(8);
            self.memory.insert(rsp, word);
        }
        self.cpus[cpu].rsp = rsp;
    }

    /// UIRET. The handler has removed the vector from its stack before.
    ///
    /// # Errors
    /// The fault, if the address to return to is not canonical; nothing changes then.
    pub fn uiret(&mut self, cpu: usize) -> Result<(), Fault> {
        let rsp = self.cpus[cpu].rsp;
        let [rip, rflags, old] = [0, 8, 16].map(|at| self.read(rsp.wrapping_add(at)));
        // 48 bits of address: the rest is as the highest of them.
        if (rip.cast_signed() << 16 >> 16).cast_unsigned() != rip {
            return Err(Fault::GeneralProtection);
        }
        let state = &mut self.cpus[cpu];
        state.rip = rip;
        state.rflags = state.rflags & !UIRET_FLAGS | rflags & UIRET_FLAGS;
        state.rsp = old;
        state.uif = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
