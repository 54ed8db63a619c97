//! The model as a driver sees it: a PCI function.

#![expect(unsafe_code)] // implements the unsafe contract of `Transport::map`

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use dmaring_dma::{Direction, DmaError, Iova, IovaRange, Transport, fork};
use nix::sys::eventfd::EventFd;

use super::config::ModelConfig;
use super::controller::Controller;
use super::doorbells::Doorbells;
use super::fault::Fault;
use super::nap::Nap;
use crate::spec::regs::{CAP, DOORBELLS};

/// A controller in software. Clones are the same controller.
#[derive(Clone)]
pub struct Model {
    shared: Arc<Shared>,
    /// Ends when the last clone goes.
    thread: Option<Arc<Thread>>,
}

struct Shared {
    name: String,
    controller: Mutex<Controller>,
    doorbells: Doorbells,
    stepped: bool,
    removal: AtomicBool,
    nap: Nap,
}

struct Thread {
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    handle: Option<JoinHandle<()>>,
    generation: u32,
}

/// Empty steps after which the thread sleeps: about a millisecond.
const BUSY_STEPS: u32 = 10_000;
/// Doorbells are plain stores, which wake nobody. A driver that waits for an answer wakes the thread (see
/// `relax`); one that only looks at memory, is found after a nap. Naps grow as long as
/// nothing comes.
const SHORTEST_NAP: Duration = Duration::from_micros(50);
const LONGEST_NAP: Duration = Duration::from_millis(2);

impl Model {
    /// A model that works only when it is stepped.
    #[must_use]
    pub fn stepped(name: &str, config: ModelConfig) -> Self {
        Self { shared: Self::shared(name, config, true), thread: None }
    }

    /// A model that a thread of its own steps.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn threaded(name: &str, config: ModelConfig) -> io::Result<Self> {
        let shared = Self::shared(name, config, false);
        let stop = Arc::new(AtomicBool::new(false));
        let (work, end) = (Arc::clone(&shared), Arc::clone(&stop));
        let handle = std::thread::Builder::new().name("dmaring-model".into()).spawn(move || work.work(&end))?;
        let generation = fork::generation();
        let thread = Thread { shared: Arc::clone(&shared), stop, handle: Some(handle), generation };
        Ok(Self { shared, thread: Some(Arc::new(thread)) })
    }

    fn shared(name: &str, config: ModelConfig, stepped: bool) -> Arc<Shared> {
        let controller = Controller::new(config);
        let doorbells = controller.doorbells.clone();
        let (removal, nap) = (AtomicBool::new(false), Nap::new());
        Arc::new(Shared { name: name.to_owned(), controller: Mutex::new(controller), doorbells, stepped, removal, nap })
    }

    /// Carries out everything that is waiting. Answers how many commands that were.
    pub fn step(&self) -> usize {
        self.shared.lock().step()
    }

    /// Adds a rule of what goes wrong.
    pub fn fault(&self, fault: Fault) {
        self.shared.lock().faults.push(fault);
    }

    /// Asks the driver for the function back, as the kernel does before it removes one.
    pub fn request_removal(&self) {
        self.shared.removal.store(true, Ordering::Relaxed);
    }

    /// Takes the power away and gives it back: the controller is as after a reset, its driver has to begin
    /// anew, and writes that neither a flush nor Force Unit Access has made safe are lost, where
    /// [`ModelConfig::power_cuts`] says so.
    ///
    /// # Errors
    /// When the storage cannot be given its old contents.
    pub fn power_cut(&self) -> io::Result<()> {
        self.shared.lock().power_cut()
    }

    /// Sets the composite temperature, in kelvin.
    pub fn set_temperature(&self, kelvin: u16) {
        let mut controller = self.shared.lock();
        controller.health.temperature = kelvin;
        controller.check_warnings();
    }

    /// Gives namespace `nsid` a size of `bytes`. What its driver knows stays as it was until it asks again.
    ///
    /// # Errors
    /// `NotFound` when there is no such namespace; `InvalidInput` when the size is 0, more than the machine's
    /// memory, or more than the file behind it has.
    pub fn resize(&self, nsid: u32, bytes: u64) -> io::Result<()> {
        self.shared.lock().resize(nsid, bytes)
    }

    /// Commands carried out since the model was made.
    #[must_use]
    pub fn commands(&self) -> u64 {
        self.shared.lock().commands
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Controller> {
        self.controller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Steps until the end: for a while without pause, then with naps.
    fn work(&self, end: &AtomicBool) {
        let mut idle = 0;
        let mut nap = SHORTEST_NAP;
        // Relaxed: nothing but the end of the loop depends on it.
        while !end.load(Ordering::Relaxed) {
            if self.lock().step() > 0 {
                idle = 0;
                nap = SHORTEST_NAP;
                continue;
            }
            if idle < BUSY_STEPS {
                idle += 1;
                std::hint::spin_loop();
                continue;
            }
            if self.nap.unless(|| self.lock().step() > 0, || std::thread::park_timeout(nap)) {
                idle = 0;
                nap = SHORTEST_NAP;
            } else {
                nap = (nap * 2).min(LONGEST_NAP);
            }
        }
    }
}

impl Thread {
    /// Ends a nap.
    fn wake(&self) {
        if self.shared.nap.is_to_end()
            && let Some(handle) = &self.handle
        {
            handle.thread().unpark();
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // A child of fork has no such thread to wait for.
        if self.generation != fork::current() {
            return;
        }
        self.stop.store(true, Ordering::Relaxed);
        if let Some(handle) = self.handle.take() {
            handle.thread().unpark();
            let _ = handle.join();
        }
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

// SAFETY: doorbells are words of `Doorbells`, which `shared` keeps; every access to memory is checked against
// what is mapped, under the lock that `unmap` takes.
unsafe impl Transport for Model {
    fn name(&self) -> String {
        self.shared.name.clone()
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) -> Result<(), DmaError> {
        // Class code 010802 at offset 9, everything else zero.
        for (at, byte) in (offset..).zip(data) {
            *byte = match at {
                9 => 0x02,
                10 => 0x08,
                11 => 0x01,
                _ => 0,
            };
        }
        Ok(())
    }

    fn write_config(&self, _offset: u64, _data: &[u8]) -> Result<(), DmaError> {
        Ok(())
    }

    fn read32(&self, offset: u64) -> u32 {
        let mut controller = self.shared.lock();
        // A stepped model makes progress while a driver waits for a register.
        if self.shared.stepped && offset != CAP {
            controller.step();
        }
        controller.read32(offset)
    }

    fn write32(&self, offset: u64, value: u32) {
        self.shared.lock().write32(offset, value);
    }

    fn doorbell(&self, offset: u64) -> Option<NonNull<u32>> {
        self.shared.doorbells.pointer(offset.checked_sub(DOORBELLS)?)
    }

    fn iova_ranges(&self) -> Vec<IovaRange> {
        vec![IovaRange { first: 0, last: (1 << 39) - 1 }]
    }

    fn granule(&self) -> u64 {
        4096
    }

    unsafe fn map(&self, iova: Iova, address: NonNull<u8>, len: usize, direction: Direction) -> Result<(), DmaError> {
        if self.shared.lock().memory.map(iova, address, len, direction) {
            return Ok(());
        }
        let reason = io::Error::from_raw_os_error(libc::EEXIST);
        Err(DmaError::Map { address: address.addr().get() as u64, len_bytes: len as u64, reason })
    }

    fn unmap(&self, iova: Iova, len: usize) -> Result<(), DmaError> {
        let result = self.shared.lock().memory.unmap(iova, len);
        let failed = |unmapped_bytes| DmaError::Unmap { iova: iova.get(), len_bytes: len as u64, unmapped_bytes };
        result.map_err(failed)
    }

    fn vectors(&self) -> u16 {
        self.shared.lock().config.vectors
    }

    fn set_vectors(&self, start: u16, events: &[Option<BorrowedFd<'_>>]) -> Result<(), DmaError> {
        let failed = |reason| DmaError::Vfio { call: "connecting a vector of the model", reason };
        let mut controller = self.shared.lock();
        for (i, event) in events.iter().enumerate() {
            let slot = controller.vectors.get_mut(usize::from(start) + i);
            let slot = slot.ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
            *slot = match event {
                None => None,
                Some(fd) => {
                    let copy = fd.try_clone_to_owned().map_err(failed)?;
                    // SAFETY: the descriptor is an eventfd, as `set_vectors` asks for.
                    Some(unsafe { EventFd::from_owned_fd(copy) })
                }
            };
        }
        Ok(())
    }

    fn reset(&self) -> Result<(), DmaError> {
        self.shared.lock().reset();
        Ok(())
    }

    fn cut_off(&self) -> Result<(), DmaError> {
        self.shared.lock().memory.cut_off = true;
        Ok(())
    }

    fn removal_requested(&self) -> bool {
        self.shared.removal.load(Ordering::Relaxed)
    }

    /// A thread that has gone to sleep is woken by it.
    fn needs_relax(&self) -> bool {
        true
    }

    fn relax(&self) {
        match &self.thread {
            Some(thread) => {
                thread.wake();
                std::hint::spin_loop();
            }
            None => {
                self.step();
            }
        }
    }
}
