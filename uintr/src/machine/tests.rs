//! What holds of every program on the machine.

use proptest::prelude::*;

use super::*;

const NOTIFICATION: u8 = 0xec;
const HANDLER: u64 = 0x40_0000;
const CPUS: usize = 3;
/// Vectors that programs use, and so entries of each table: one for each of them at each processor.
const VECTORS: [u8; 4] = [0, 1, 31, 63];
const ENTRIES: usize = CPUS * VECTORS.len();

fn upid(cpu: usize) -> u64 {
    0x1000 + 64 * cpu as u64
}

/// Processors of which each may post each vector to each.
fn machine() -> Machine {
    let cpus = (0..CPUS).map(|cpu| {
        let mut state = Cpu::new(cpu as u32);
        state.handler = HANDLER;
        state.stack = if cpu == 0 { StackAdjust::Stack(0x9_0000) } else { StackAdjust::Below(128) };
        state.notification_vector = NOTIFICATION;
        state.upid = upid(cpu);
        state.uitt = Some((0x2000, ENTRIES as u32 - 1));
        (state.rip, state.rsp) = (0x1234 + cpu as u64, 0x7_0000 - 0x1_0000 * cpu as u64 + 3);
        state
    });
    let mut machine = Machine::new(cpus.collect());
    for cpu in 0..CPUS {
        let mut control = Control(0);
        control.set_notification_vector(NOTIFICATION);
        control.set_destination(cpu as u32);
        machine.write(upid(cpu), control.0);
        for (number, vector) in (0..).zip(VECTORS) {
            let entry = UittEntry::new(Vector::new(vector).unwrap(), upid(cpu));
            machine.write_entry(0x2000, (cpu * VECTORS.len()) as u32 + number, entry);
        }
    }
    machine
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Send(u64),
    Step,
    Clui,
    Stui,
    Return,
    /// A kernel takes the thread off its processor, and puts it back.
    Suppress(bool),
}

fn acts() -> impl Strategy<Value = (usize, Act)> {
    let act = prop_oneof![
        4 => (0..ENTRIES as u64).prop_map(Act::Send),
        4 => Just(Act::Step),
        1 => Just(Act::Clui),
        1 => Just(Act::Stui),
        3 => Just(Act::Return),
        1 => any::<bool>().prop_map(Act::Suppress),
    ];
    (0..CPUS, act)
}

/// A machine, and what its handlers are in the middle of.
struct Run {
    machine: Machine,
    /// Registers to be restored by the handlers that run, of each processor.
    interrupted: Vec<Vec<(u64, u64, u64)>>,
    /// Vectors that are to be delivered, of each.
    owed: [u64; CPUS],
}

impl Run {
    fn new() -> Self {
        Self { machine: machine(), interrupted: vec![Vec::new(); CPUS], owed: [0; CPUS] }
    }

    fn registers(&self, cpu: usize) -> (u64, u64, u64) {
        let cpu = self.machine.cpu(cpu);
        (cpu.rip, cpu.rsp, cpu.rflags)
    }

    fn act(&mut self, cpu: usize, act: Act) {
        match act {
            Act::Send(index) => {
                let receiver = index as usize / VECTORS.len();
                let notified = |run: &Self| run.machine.cpu(receiver).interrupts.contains(&NOTIFICATION);
                let control = Control(self.machine.read(upid(receiver)));
                let before = notified(self);
                self.machine.senduipi(cpu, index).unwrap();
                let wants = !control.outstanding() && !control.suppressed();
                assert_eq!(notified(self), before || wants, "notified where that is wanted, and only there");
                self.owed[receiver] |= 1 << VECTORS[index as usize % VECTORS.len()];
            }
            Act::Step => self.step(cpu),
            Act::Clui => self.machine.clui(cpu),
            // A handler that allows others, while it runs, may be interrupted itself.
            Act::Stui => self.machine.stui(cpu),
            Act::Return => self.finish(cpu),
            Act::Suppress(yes) => self.suppress(cpu, yes),
        }
    }

    fn step(&mut self, cpu: usize) {
        let before = self.machine.cpu(cpu).clone();
        let registers = self.registers(cpu);
        match self.machine.step(cpu) {
            Event::Delivered(vector) => {
                assert!(before.uif, "delivered with UIF clear");
                assert_eq!(Some(vector), Vector::highest(before.rr), "not the highest");
                assert_ne!(self.owed[cpu] & vector.bit(), 0, "nobody has posted {vector}");
                // Posted again since it was taken, it comes again.
                self.owed[cpu] &= !vector.bit() | self.machine.read(upid(cpu) + 8);
                let now = self.machine.cpu(cpu);
                assert_eq!((now.rip, now.uif, now.rsp % 16), (HANDLER, false, 0));
                assert_eq!(self.machine.read(now.rsp), u64::from(vector.number()));
                if let StackAdjust::Below(zone) = now.stack {
                    assert!(now.rsp + 32 <= before.rsp - zone, "the red zone is left alone");
                }
                self.interrupted[cpu].push(registers);
            }
            Event::Notified => assert_eq!(self.machine.read(upid(cpu) + 8), 0, "everything was taken"),
            Event::Nothing => assert!(before.rr == 0 || !before.uif),
            Event::Kernel(vector) => panic!("{vector:#x} is nobody's"),
        }
    }

    /// The handler that runs, if one does, returns.
    fn finish(&mut self, cpu: usize) {
        // On a stack of its own a handler that lets itself be interrupted loses its frame: programs do not.
        let Some(registers) = self.interrupted[cpu].pop() else { return };
        self.machine.cpu_mut(cpu).rsp += 8;
        self.machine.uiret(cpu).unwrap();
        assert_eq!(self.registers(cpu), registers);
        assert!(self.machine.cpu(cpu).uif);
    }

    /// As a kernel does it: who allows notifications again looks for what came meanwhile.
    fn suppress(&mut self, cpu: usize, yes: bool) {
        let mut control = Control(self.machine.read(upid(cpu)));
        control.set_suppressed(yes);
        self.machine.write(upid(cpu), control.0);
        if !yes && self.machine.read(upid(cpu) + 8) != 0 {
            self.machine.interrupt(cpu as u32, NOTIFICATION);
        }
    }

    /// What nobody has been told of is on its way.
    fn check(&self) {
        for cpu in 0..CPUS {
            let (control, pir) = (Control(self.machine.read(upid(cpu))), self.machine.read(upid(cpu) + 8));
            let state = self.machine.cpu(cpu);
            assert_eq!(self.owed[cpu], pir | state.rr, "lost, or invented");
            let notified = state.interrupts.contains(&NOTIFICATION);
            assert!(pir == 0 || notified || control.suppressed(), "posted, and nobody comes");
            assert!(!control.outstanding() || notified, "outstanding, and not on its way");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_lost_or_told_twice_or_told_to_who_does_not_listen(
        program in prop::collection::vec(acts(), 1..300)
    ) {
        let mut run = Run::new();
        for (cpu, act) in program {
            // Processor 0 has a stack of its own for handlers, on which they must not be interrupted.
            if cpu == 0 && matches!(act, Act::Stui) && !run.interrupted[0].is_empty() {
                continue;
            }
            run.act(cpu, act);
            run.check();
        }
        for cpu in 0..CPUS {
            run.suppress(cpu, false);
            while !run.interrupted[cpu].is_empty() {
                run.finish(cpu);
            }
            run.machine.stui(cpu);
            for _ in 0..2 * VECTORS.len() + 2 {
                run.step(cpu);
                run.finish(cpu);
            }
        }
        prop_assert_eq!(run.owed, [0; CPUS], "everyone is told in the end");
    }
}

#[test]
fn what_is_not_allowed_faults_and_posts_nothing() {
    let mut machine = machine();
    assert_eq!(machine.senduipi(0, ENTRIES as u64), Err(Fault::GeneralProtection), "beyond the table");
    assert_eq!(machine.senduipi(0, u64::MAX), Err(Fault::GeneralProtection));
    machine.write_entry(0x2000, 2, UittEntry::default());
    assert_eq!(machine.senduipi(0, 2), Err(Fault::GeneralProtection), "not valid");
    machine.cpu_mut(0).uitt = None;
    assert_eq!(machine.senduipi(0, 0), Err(Fault::UndefinedOpcode), "not enabled");
    assert!((0..CPUS).all(|cpu| machine.read(upid(cpu) + 8) == 0 && machine.step(cpu) == Event::Nothing));
}

#[test]
fn other_interrupts_are_the_kernels() {
    let mut machine = machine();
    machine.interrupt(1, 0x30);
    machine.interrupt(1, 0x30);
    machine.interrupt(77, 0x31);
    assert_eq!([machine.step(1), machine.step(1)], [Event::Kernel(0x30), Event::Nothing]);
}

#[test]
fn flags_are_those_of_the_manual() {
    let mut machine = machine();
    machine.cpu_mut(1).rflags = u64::MAX;
    machine.stui(1);
    machine.senduipi(0, VECTORS.len() as u64).unwrap();
    assert_eq!([machine.step(1), machine.step(1)], [Event::Notified, Event::Delivered(Vector::new(0).unwrap())]);
    assert_eq!(machine.cpu(1).rflags, !(TF | RF), "single steps do not go into the handler");
    assert!(!machine.testui(1));
    assert_eq!(machine.cpu(1).rflags & 0x8d5, 0);
    machine.cpu_mut(1).rsp += 8;
    machine.uiret(1).unwrap();
    assert_eq!(machine.cpu(1).rflags, u64::MAX, "all of them come back");
    assert!(machine.testui(1));
    assert_eq!(machine.cpu(1).rflags & 0x8d5, 1, "CF");
}

#[test]
fn a_return_to_nowhere_faults() {
    let mut machine = machine();
    let rsp = machine.cpu(1).rsp & !7;
    machine.cpu_mut(1).rsp = rsp;
    machine.write(rsp, 1 << 47);
    let before = machine.cpu(1).clone();
    assert_eq!(machine.uiret(1), Err(Fault::GeneralProtection));
    assert_eq!(*machine.cpu(1), before);
}
