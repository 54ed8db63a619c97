//! A controller from reset to ready and back (section 3.5, "Controller Initialization" and 3.6,
//! "Shutdown").
//!
//! 1. CC.EN = 0, wait for CSTS.RDY = 0
//! 2. admin queue: AQA, ASQ, ACQ
//! 3. CC: page size, entry sizes, EN; wait for CSTS.RDY = 1
//! 4. Identify, number of queues, active namespaces
//! 5. … queue pairs come and go …
//! 6. CC.SHN = normal, wait for CSTS.SHST = complete; CC.EN = 0, wait for CSTS.RDY = 0
//!
//! Every wait is bounded by CAP.TO (or RTD3E at shutdown) and ends early when the controller is gone
//! or reports a fatal status.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use dmaring_dma::{AddressSpace, Transport};

use super::admin::AdminQueue;
use super::namespace::{Found, Namespace};
use super::shadow::ShadowBuffers;
use crate::error::Error;
use crate::options::DeviceOptions;
use crate::spec::command::Command;
use crate::spec::completion::Completion;
use crate::spec::identify::{
    CNS_ACTIVE_NAMESPACES, CNS_COMMAND_SET_CONTROLLER, CNS_CONTROLLER, CNS_NAMESPACE, IDENTIFY_BYTES,
    IdentifyController, IdentifyNamespace, namespace_list, write_zeroes_limit,
};
use crate::spec::regs::{ACQ, AQA, ASQ, CAP, CC, CSTS, Cap, Cc, Csts, VS, Version};

/// PCI class code of an NVMe controller: mass storage, non-volatile memory, NVM Express.
const NVME_CLASS: u32 = 0x01_0802;
/// How long a shutdown may take when the controller does not say (Linux: `shutdown_timeout`, 5 s).
const SHUTDOWN: Duration = Duration::from_secs(5);

/// What a controller says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ControllerInfo {
    /// Controller Capabilities.
    pub cap: Cap,
    /// Version of the specification.
    pub version: Version,
    /// Identify Controller.
    pub identify: IdentifyController,
    /// The longest transfer of one command, in bytes; `None` is no limit.
    pub max_transfer_bytes: Option<u64>,
    /// The longest Write Zeroes that it is sent, in bytes; `None` when it has no such command.
    pub max_write_zeroes_bytes: Option<u64>,
    /// I/O queue pairs that the controller has granted.
    pub queue_pairs: u16,
    /// MSI-X vectors of the function.
    pub vectors: u16,
}

#[derive(Debug)]
pub(super) struct Controller {
    transport: Arc<dyn Transport>,
    space: Arc<AddressSpace>,
    admin: Mutex<AdminQueue>,
    shadow: Option<Arc<ShadowBuffers>>,
    info: ControllerInfo,
}

impl Controller {
    pub(super) fn open(transport: Arc<dyn Transport>, options: &DeviceOptions) -> Result<Self, Error> {
        check_class(&*transport)?;
        let cap = Cap(read64(&*transport, CAP));
        if cap.0 == u64::MAX {
            return Err(Error::Gone { device: transport.name() });
        }
        let refuse = |what: &str| Err(Error::NotNvme { device: transport.name(), what: what.into() });
        if cap.css() & 1 == 0 {
            return refuse("it has no NVM command set");
        }
        if cap.mpsmin() != 0 {
            return refuse("its smallest page is larger than 4 KiB");
        }
        if cap.max_queue_entries() < 2 {
            return refuse("it reports queues of fewer than two entries");
        }
        disable(&*transport, cap)?;
        let space = AddressSpace::new(Arc::clone(&transport));
        let mut admin = AdminQueue::new(&space, cap.dstrd())?;
        transport.write32(AQA, AdminQueue::attributes());
        write64(&*transport, ASQ, admin.sq_iova());
        write64(&*transport, ACQ, admin.cq_iova());
        let brought_up = enable(&*transport, cap).and_then(|()| {
            let info = describe(&*transport, &mut admin, cap)?;
            let wanted = options.wants_shadow_doorbells(&info.identify);
            let shadow = if wanted { share_doorbells(&space, &mut admin, &info)? } else { None };
            Ok((info, shadow))
        });
        match brought_up {
            Ok((info, shadow)) => Ok(Self { transport, space, admin: Mutex::new(admin), shadow, info }),
            Err(error) => {
                // The device must not keep addresses of memory that is about to be unmapped.
                if let Err(error) = disable(&*transport, cap) {
                    tracing::warn!(%error, "after a failed bring-up");
                }
                Err(error)
            }
        }
    }

    pub(super) fn info(&self) -> &ControllerInfo {
        &self.info
    }

    /// The doorbells in memory, where the controller has taken them.
    pub(super) fn shadow(&self) -> Option<&Arc<ShadowBuffers>> {
        self.shadow.as_ref()
    }

    pub(super) fn space(&self) -> &Arc<AddressSpace> {
        &self.space
    }

    pub(super) fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    pub(super) fn admin(&self, command: Command) -> Result<Completion, Error> {
        self.lock().execute(command)
    }

    /// `bytes` (at most a page) of log `lid` from `offset`.
    pub(super) fn log_page(&self, lid: u8, offset: u64, bytes: u32) -> Result<[u8; IDENTIFY_BYTES], Error> {
        self.lock().read(Command::get_log_page(lid, offset, bytes, 0))
    }

    /// A command whose status is not an error here; `limit` as of [`AdminQueue::complete`].
    pub(super) fn complete(&self, command: Command, limit: Duration) -> Result<Completion, Error> {
        self.lock().complete(command, limit)
    }

    /// All active namespaces, each with why it cannot be used if it cannot.
    pub(super) fn namespaces(&self) -> Result<Vec<Found>, Error> {
        let device = self.transport.name();
        let mut admin = self.lock();
        let mut found = Vec::new();
        let mut after = 0;
        loop {
            let list = namespace_list(&admin.read(Command::identify(CNS_ACTIVE_NAMESPACES, after, 0))?);
            for nsid in &list {
                let data = admin.read(Command::identify(CNS_NAMESPACE, *nsid, 0))?;
                found.push((*nsid, Namespace::new(&device, *nsid, IdentifyNamespace::decode(&data).as_ref())));
            }
            // A full list may go on; a device whose lists do not advance ends it.
            match list.last() {
                Some(last) if list.len() == 1024 && *last > after => after = *last,
                _ => return Ok(found),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, AdminQueue> {
        self.admin.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Stops the controller at once: it forgets its queues and writes no memory afterwards.
    pub(super) fn disable(&self) -> Result<(), Error> {
        disable(&*self.transport, self.info.cap)
    }

    /// Shuts the controller down so that its caches are safe, and disables it.
    pub(super) fn shut_down(&self) -> Result<(), Error> {
        let reported = Duration::from_micros(self.info.identify.rtd3e.into());
        let limit = if reported.is_zero() { SHUTDOWN } else { reported.clamp(Duration::from_secs(1), SHUTDOWN * 12) };
        let mut cc = Cc(self.transport.read32(CC));
        if cc.en() {
            cc.set_shn(1);
            self.transport.write32(CC, cc.0);
            let shut = wait(&*self.transport, limit, "shutdown to complete", |csts| csts.shst() == 2);
            // Disabled in any case: the memory of the admin queue goes next.
            return self.disable().and(shut);
        }
        self.disable()
    }
}

fn check_class(transport: &dyn Transport) -> Result<(), Error> {
    let mut bytes = [0; 4];
    transport.read_config(0x08, &mut bytes)?;
    let class = u32::from_le_bytes(bytes) >> 8;
    if class == NVME_CLASS {
        return Ok(());
    }
    let what = format!("its PCI class is {class:06x}, an NVMe controller's is {NVME_CLASS:06x}");
    Err(Error::NotNvme { device: transport.name(), what })
}

fn read64(transport: &dyn Transport, offset: u64) -> u64 {
    u64::from(transport.read32(offset)) | u64::from(transport.read32(offset + 4)) << 32
}

fn write64(transport: &dyn Transport, offset: u64, value: u64) {
    transport.write32(offset, value as u32);
    transport.write32(offset + 4, (value >> 32) as u32);
}

fn disable(transport: &dyn Transport, cap: Cap) -> Result<(), Error> {
    let mut cc = Cc(transport.read32(CC));
    let limit = Duration::from_millis(cap.timeout_ms());
    if cc.en() && !Csts(transport.read32(CSTS)).cfs() {
        // Section 3.1.3.5: EN is not cleared before RDY has followed it. A fatal controller never gets there.
        wait(transport, limit, "the controller to become ready before it is disabled", |csts| csts.rdy())?;
    }
    cc.set_en(false);
    cc.set_shn(0);
    transport.write32(CC, cc.0);
    wait_even_fatal(transport, limit, "the controller to be disabled", |csts| !csts.rdy())
}

fn enable(transport: &dyn Transport, cap: Cap) -> Result<(), Error> {
    let mut cc = Cc::default();
    cc.set_iosqes(6);
    cc.set_iocqes(4);
    cc.set_en(true);
    transport.write32(CC, cc.0);
    wait(transport, Duration::from_millis(cap.timeout_ms()), "the controller to become ready", |csts| csts.rdy())
}

fn wait(
    transport: &dyn Transport,
    limit: Duration,
    what: &str,
    mut done: impl FnMut(Csts) -> bool,
) -> Result<(), Error> {
    let mut fatal = false;
    wait_even_fatal(transport, limit, what, |csts| {
        fatal = csts.cfs();
        fatal || done(csts)
    })?;
    if fatal { Err(Error::Fatal { device: transport.name() }) } else { Ok(()) }
}

fn wait_even_fatal(
    transport: &dyn Transport,
    limit: Duration,
    what: &str,
    mut done: impl FnMut(Csts) -> bool,
) -> Result<(), Error> {
    let deadline = Instant::now() + limit;
    loop {
        let csts = Csts(transport.read32(CSTS));
        if csts.is_gone() {
            return Err(Error::Gone { device: transport.name() });
        }
        if done(csts) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::Timeout { device: transport.name(), what: what.into(), waited: limit });
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn describe(transport: &dyn Transport, admin: &mut AdminQueue, cap: Cap) -> Result<ControllerInfo, Error> {
    let identify = IdentifyController::decode(&admin.read(Command::identify(CNS_CONTROLLER, 0, 0))?);
    // Required entry sizes, in the low nibbles: 2^6 and 2^4 bytes (figure 275, SQES and CQES).
    if identify.sqes & 0xf > 6 || identify.cqes & 0xf > 4 {
        return Err(Error::NotNvme { device: transport.name(), what: "it requires larger queue entries".into() });
    }
    let granted = admin.execute(Command::set_number_of_queues(u16::MAX - 1))?.dw0;
    let queue_pairs = (granted & 0xffff).min(granted >> 16).saturating_add(1).min(u32::from(u16::MAX)) as u16;
    let version = Version(transport.read32(VS));
    Ok(ControllerInfo {
        cap,
        version,
        max_write_zeroes_bytes: max_write_zeroes(admin, (cap, version), &identify)?,
        max_transfer_bytes: identify.max_transfer_bytes(cap.min_page_bytes()),
        identify,
        queue_pairs,
        vectors: transport.vectors(),
    })
}

/// MDTS does not hold for Write Zeroes (NVM section 3.2.8). The kernel goes by it all the same, unless the
/// controller has a limit for zeroes of its own (`nvme_init_non_mdts_limits` in drivers/nvme/host/core.c),
/// and so do we: longer ones are what firmware has least seen.
fn max_write_zeroes(
    admin: &mut AdminQueue,
    (cap, version): (Cap, Version),
    identify: &IdentifyController,
) -> Result<Option<u64>, Error> {
    if !identify.has_write_zeroes() {
        return Ok(None);
    }
    let transfers = identify.max_transfer_bytes(cap.min_page_bytes()).unwrap_or(u64::MAX);
    // Older ones do not know the structure, and log an error for being asked.
    if version < Version::V2_0 {
        return Ok(Some(transfers));
    }
    match admin.read(Command::identify(CNS_COMMAND_SET_CONTROLLER, 0, 0)) {
        Ok(data) => {
            let own = write_zeroes_limit(&data).and_then(|shift| cap.min_page_bytes().checked_shl(shift.into()));
            Ok(Some(own.filter(|bytes| *bytes > 0).unwrap_or(transfers)))
        }
        Err(Error::Admin { .. }) => Ok(Some(transfers)),
        Err(error) => Err(error),
    }
}

/// Gives the controller doorbells in memory; `None` when it refuses them, and works as without.
fn share_doorbells(
    space: &Arc<AddressSpace>,
    admin: &mut AdminQueue,
    info: &ControllerInfo,
) -> Result<Option<Arc<ShadowBuffers>>, Error> {
    let dstrd = info.cap.dstrd();
    let Some(buffers) = ShadowBuffers::new(space, info.queue_pairs, dstrd)?.map(Arc::new) else { return Ok(None) };
    match admin.share_doorbells(&buffers, dstrd) {
        Ok(()) => Ok(Some(buffers)),
        // As the kernel's driver: it goes on without.
        Err(error @ Error::Admin { .. }) => {
            tracing::warn!(%error, "no shadow doorbells");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
