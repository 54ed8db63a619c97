//! `dmaring list`: controllers, and what can be used of each and why not.

use std::fs;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use clap::Args;
use dmaring_dma::sysfs::{PciFunction, Sysfs};
use serde::Serialize;

use crate::output::{self, JsonSink};
use crate::table::{self, size};

/// `dmaring list`.
#[derive(Debug, Args)]
pub struct ListCommand {
    /// Write it as JSON; - is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Listing {
    controllers: Vec<Controller>,
    kernel_io_uring: Usable,
}

#[derive(Debug, Serialize)]
struct Controller {
    address: String,
    model: Option<String>,
    serial: Option<String>,
    driver: Option<String>,
    iommu_group: Option<u32>,
    namespaces: Vec<Disk>,
    /// By this library, in user space: polling and by interrupt.
    vfio: Usable,
    /// By the kernel's disk: by interrupt.
    kernel: Usable,
    /// By the kernel's disk: polling.
    kernel_poll: Usable,
}

#[derive(Debug, Serialize)]
struct Disk {
    nsid: Option<u32>,
    name: String,
    size_bytes: u64,
    block_bytes: u32,
}

/// Whether something can be used now, or what is in the way and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Usable {
    usable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
}

impl Usable {
    fn yes() -> Self {
        Self { usable: true, why_not: None }
    }

    fn no(why: impl Into<String>) -> Self {
        Self { usable: false, why_not: Some(why.into()) }
    }

    fn word(&self) -> &'static str {
        if self.usable { "yes" } else { "no" }
    }
}

impl ListCommand {
    /// Lists; that there is nothing is no error.
    ///
    /// # Errors
    /// sysfs cannot be read.
    pub fn run(&self) -> anyhow::Result<()> {
        let json = self.json.as_deref().map(JsonSink::open).transpose()?;
        let sysfs = Sysfs::new();
        let functions = sysfs.nvme_controllers()?;
        let listing = Listing {
            controllers: functions.iter().map(|function| Controller::of(&sysfs, function)).collect(),
            kernel_io_uring: kernel_io_uring(),
        };
        output::publish(json, &listing, &listing.text())
    }
}

impl Controller {
    fn of(sysfs: &Sysfs, function: &PciFunction) -> Self {
        let attribute = |name: &str| {
            let folder = sysfs.root().join("sys/class/nvme").join(function.nvme.as_ref()?);
            let text = fs::read_to_string(folder.join(name)).ok()?;
            Some(text.trim().to_owned())
        };
        let disk = |disk: &dmaring_dma::sysfs::BlockDevice| Disk {
            nsid: disk.nsid,
            name: disk.name.clone(),
            size_bytes: disk.size_bytes,
            block_bytes: disk.logical_block_size,
        };
        Self {
            address: function.address.to_string(),
            model: attribute("model"),
            serial: attribute("serial"),
            driver: function.driver.clone(),
            iommu_group: function.iommu_group,
            namespaces: function.block_devices.iter().map(disk).collect(),
            vfio: vfio(sysfs, function),
            kernel: kernel(function),
            kernel_poll: kernel_poll(sysfs, function),
        }
    }

    fn reasons(&self) -> Vec<String> {
        let reason = |what: &str, usable: &Usable| {
            let why = usable.why_not.as_ref()?;
            Some(format!("{} {what}: {why}", self.address))
        };
        let all = [
            reason("poll, interrupt", &self.vfio),
            reason("kernel", &self.kernel),
            // Said already, and better, if there is no disk at all.
            reason("kernel poll", &self.kernel_poll).filter(|_| self.kernel.usable),
        ];
        all.into_iter().flatten().collect()
    }
}

fn vfio(sysfs: &Sysfs, function: &PciFunction) -> Usable {
    let address = function.address;
    let group = match sysfs.group(address) {
        Ok(group) => group,
        Err(error) => return Usable::no(error.to_string()),
    };
    let others: Vec<String> = group
        .blockers()
        .into_iter()
        .filter(|member| member.address != Some(address))
        .map(ToString::to_string)
        .collect();
    if !others.is_empty() {
        return Usable::no(format!(
            "IOMMU group {} is shared with {}; unbind these first",
            group.number,
            others.join(", ")
        ));
    }
    match function.driver.as_deref() {
        Some("vfio-pci") => opens(sysfs, group.number, &group.node()),
        Some("nvme") => {
            let uses = sysfs.uses(address).unwrap_or_default();
            let uses: Vec<String> = uses.iter().filter(|used| used.refuses()).map(ToString::to_string).collect();
            Usable::no(if uses.is_empty() {
                format!("the kernel's driver has it: `dmaring bind {address}` takes it")
            } else {
                format!("it is in use ({}): stop that, then `dmaring bind {address}`", uses.join("; "))
            })
        }
        Some(driver) => Usable::no(format!("{driver} has it: `dmaring bind {address}` takes it")),
        None => Usable::no(format!("no driver has it: `dmaring bind {address}` takes it")),
    }
}

/// Opening a group would reset the device on the last close, so only its node is looked at.
fn opens(sysfs: &Sysfs, group: u32, node: &Path) -> Usable {
    let holders = sysfs.group_holders(group).unwrap_or_default();
    if !holders.is_empty() {
        let holders: Vec<String> = holders.iter().map(ToString::to_string).collect();
        return Usable::no(format!("it is held by {}: end that first", holders.join(", ")));
    }
    let path = sysfs.root().join(node.strip_prefix("/").unwrap_or(node));
    let (writable, node) = (nix::unistd::AccessFlags::R_OK | nix::unistd::AccessFlags::W_OK, node.display());
    match nix::unistd::access(&path, writable) {
        Ok(()) => Usable::yes(),
        Err(errno) => Usable::no(format!("{node}: {}: run as root, or have root give you that node", errno.desc())),
    }
}

fn kernel(function: &PciFunction) -> Usable {
    let address = function.address;
    if let Some(disk) = function.block_devices.first() {
        let path = Path::new("/dev").join(&disk.name);
        let opened = OpenOptions::new().read(true).open(&path);
        return match opened {
            Ok(_) => Usable::yes(),
            Err(error) => Usable::no(format!("{}: {error}", path.display())),
        };
    }
    Usable::no(match function.driver.as_deref() {
        Some("nvme") => "the kernel's driver has it but shows no namespace (`dmesg` may say why)".to_owned(),
        Some(driver) => format!("{driver} has it: `dmaring unbind {address}` gives it back to the kernel's driver"),
        None => format!("no driver has it: `modprobe nvme`, then write {address} to /sys/bus/pci/drivers_probe"),
    })
}

/// The kernel polls a disk whose driver was loaded with poll queues.
fn kernel_poll(sysfs: &Sysfs, function: &PciFunction) -> Usable {
    let Some(disk) = function.block_devices.first() else {
        return kernel(function);
    };
    if polls(sysfs, &disk.name) {
        return Usable::yes();
    }
    Usable::no(format!("{} has no poll queues: load its driver with nvme.poll_queues=1 or more", disk.name))
}

/// Whether a disk of the kernel has poll queues.
fn polls(sysfs: &Sysfs, disk: &str) -> bool {
    let path = sysfs.root().join("sys/block").join(disk).join("queue/io_poll");
    fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
}

fn kernel_io_uring() -> Usable {
    let Err(error) = io_uring::IoUring::new(2) else {
        return Usable::yes();
    };
    Usable::no(match error.raw_os_error() {
        Some(libc::ENOSYS) => "this kernel has none: 5.1 or newer with CONFIG_IO_URING is needed".to_owned(),
        Some(libc::EPERM) => {
            "it is forbidden here: see /proc/sys/kernel/io_uring_disabled, or the container's seccomp profile"
                .to_owned()
        }
        _ => error.to_string(),
    })
}

impl Listing {
    fn text(&self) -> String {
        let io_uring = match &self.kernel_io_uring.why_not {
            None => "kernel io_uring: works; any path can be used".to_owned(),
            Some(why) => format!("kernel io_uring: does not work: {why}"),
        };
        if self.controllers.is_empty() {
            return format!("no NVMe controllers on the PCI bus of this machine\n{io_uring}\n");
        }
        let mut table = table::new(&[
            "address",
            "model",
            "serial",
            "driver",
            "group",
            "namespaces",
            "poll",
            "interrupt",
            "kernel",
            "kernel poll",
        ]);
        for controller in &self.controllers {
            let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
            table.add_row([
                controller.address.clone(),
                text(&controller.model),
                text(&controller.serial),
                text(&controller.driver),
                controller.iommu_group.map_or("-".to_owned(), |group| group.to_string()),
                disks(&controller.namespaces),
                controller.vfio.word().to_owned(),
                controller.vfio.word().to_owned(),
                controller.kernel.word().to_owned(),
                controller.kernel_poll.word().to_owned(),
            ]);
        }
        let reasons: Vec<String> = self.controllers.iter().flat_map(Controller::reasons).collect();
        let mut text = format!("{table}\n");
        for reason in reasons {
            text += &format!("{reason}\n");
        }
        text + &io_uring + "\n"
    }
}

fn disks(disks: &[Disk]) -> String {
    if disks.is_empty() {
        return "-".to_owned();
    }
    let disk = |disk: &Disk| format!("{} {}", disk.name, size(disk.size_bytes));
    disks.iter().map(disk).collect::<Vec<_>>().join("\n")
}
