//! Trees of plain files that look like a system with one NVMe controller, for unit tests.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use tempfile::TempDir;

use super::Sysfs;
use crate::pci::PciAddress;

/// Where the controller is.
pub(super) const ADDRESS: PciAddress = PciAddress { domain: 0, bus: 0, device: 4, function: 0 };

/// What a node in the tree's `dev` holds to answer EBUSY.
const BUSY: &str = "busy";

pub(super) struct FakeTree {
    dir: TempDir,
}

impl FakeTree {
    /// A system with drivers and no devices.
    pub fn new() -> Self {
        let tree = Self { dir: TempDir::new().unwrap() };
        for driver in ["nvme", "vfio-pci"] {
            tree.driver(driver);
        }
        tree.write("sys/bus/pci/drivers_probe", "");
        tree.dir("sys/class/iommu");
        tree.write("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
        tree.write("proc/self/mountinfo", "22 27 0:21 / /proc rw,relatime - proc proc rw\n");
        tree
    }

    pub fn sysfs(&self) -> Sysfs {
        let mut sysfs = Sysfs::at(self.dir.path());
        sysfs.kernel.open = open_fake;
        sysfs.kernel.patience = Duration::from_secs(2);
        sysfs
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    pub fn read(&self, below: &str) -> String {
        fs::read_to_string(self.path(below)).unwrap()
    }

    pub fn write(&self, below: &str, content: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn dir(&self, below: &str) {
        fs::create_dir_all(self.path(below)).unwrap();
    }

    pub fn link(&self, below: &str, target: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    pub fn remove(&self, below: &str) {
        let path = self.path(below);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }

    fn driver(&self, name: &str) {
        for file in ["bind", "unbind"] {
            self.write(&format!("sys/bus/pci/drivers/{name}/{file}"), "");
        }
    }

    /// A PCI function without a group.
    pub fn other(&self, address: &str, class: &str, driver: Option<&str>) {
        let dir = format!("sys/bus/pci/devices/{address}");
        self.write(&format!("{dir}/vendor"), "0x1b36\n");
        self.write(&format!("{dir}/device"), "0x0010\n");
        self.write(&format!("{dir}/class"), &format!("{class}\n"));
        self.write(&format!("{dir}/driver_override"), "(null)\n");
        self.write(&format!("{dir}/numa_node"), "-1\n");
        if let Some(driver) = driver {
            self.set_driver(address, driver);
        }
    }

    fn set_driver(&self, address: &str, driver: &str) {
        self.link(&format!("sys/bus/pci/devices/{address}/driver"), &format!("../../../../bus/pci/drivers/{driver}"));
    }

    fn controller(&self) {
        self.other(&ADDRESS.to_string(), "0x010802", Some("nvme"));
        let dir = format!("sys/bus/pci/devices/{ADDRESS}");
        self.link(&format!("{dir}/iommu_group"), "../../../kernel/iommu_groups/7");
        self.write(&format!("{dir}/nvme/nvme0/dev"), "240:0\n");
        self.dir(&format!("{dir}/nvme/nvme0/hwmon1"));
    }

    fn disk(&self, dir: &str, number: &str) {
        self.write(&format!("{dir}/dev"), number);
        self.write(&format!("{dir}/size"), "2097152\n");
        self.write(&format!("{dir}/nsid"), "1\n");
        self.write(&format!("{dir}/queue/logical_block_size"), "4096\n");
        self.dir(&format!("{dir}/holders"));
    }

    /// A controller on `nvme` in group 7, with one disk of 1 GiB, `nvme0n1`.
    pub fn nvme(&self) {
        self.controller();
        let controller = format!("sys/bus/pci/devices/{ADDRESS}/nvme/nvme0");
        self.disk(&format!("{controller}/nvme0n1"), "259:0\n");
        self.write(&format!("{controller}/ng0n1/dev"), "241:0\n");
        self.link("sys/block/nvme0n1", &format!("../bus/pci/devices/{ADDRESS}/nvme/nvme0/nvme0n1"));
        self.write("dev/nvme0n1", "");
    }

    /// The same with native multipath: head `nvme3n1`, whose path here is `nvme3c0n1`.
    pub fn nvme_multipath(&self) {
        self.controller();
        let path = format!("sys/bus/pci/devices/{ADDRESS}/nvme/nvme0/nvme3c0n1");
        self.disk(&path, "");
        self.remove(&format!("{path}/dev"));
        self.write(&format!("{path}/hidden"), "1\n");
        let subsystem = "sys/devices/virtual/nvme-subsystem/nvme-subsys3";
        self.disk(&format!("{subsystem}/nvme3n1"), "259:0\n");
        self.link(&format!("{subsystem}/nvme0"), &format!("../../../../bus/pci/devices/{ADDRESS}/nvme/nvme0"));
        self.link("sys/class/nvme-subsystem/nvme-subsys3", "../../devices/virtual/nvme-subsystem/nvme-subsys3");
        self.link("sys/block/nvme3n1", "../devices/virtual/nvme-subsystem/nvme-subsys3/nvme3n1");
        self.write("dev/nvme3n1", "");
    }

    /// The folder of a disk, below the root.
    pub fn disk_dir(&self, disk: &str) -> String {
        let path = fs::canonicalize(self.path("sys/block").join(disk)).unwrap();
        let root = fs::canonicalize(self.dir.path()).unwrap();
        path.strip_prefix(root).unwrap().display().to_string()
    }

    /// Partition `number` of a disk, as 259:`number`.
    pub fn partition(&self, disk: &str, number: u32) {
        let dir = format!("{}/{disk}p{number}", self.disk_dir(disk));
        self.write(&format!("{dir}/dev"), &format!("259:{number}\n"));
        self.write(&format!("{dir}/partition"), &format!("{number}\n"));
        self.dir(&format!("{dir}/holders"));
        self.write(&format!("dev/{disk}p{number}"), "");
    }

    /// As after a bind: no `nvme` folder, driver and override are vfio-pci.
    pub fn bound_to_vfio(&self) {
        let dir = format!("sys/bus/pci/devices/{ADDRESS}");
        self.remove(&format!("{dir}/nvme"));
        self.remove(&format!("{dir}/driver"));
        self.set_driver(&ADDRESS.to_string(), "vfio-pci");
        self.write(&format!("{dir}/driver_override"), "vfio-pci\n");
        self.write("dev/vfio/7", "");
    }

    /// Puts a function into a group.
    pub fn member(&self, group: u32, name: &str) {
        self.link(
            &format!("sys/kernel/iommu_groups/{group}/devices/{name}"),
            &format!("../../../../bus/pci/devices/{name}"),
        );
    }

    pub fn mount(&self, number: &str, point: &str, source: &str) {
        let mut table = self.read("proc/self/mountinfo");
        table += &format!("36 35 {number} / {point} rw shared:1 - ext4 {source} rw\n");
        self.write("proc/self/mountinfo", &table);
    }

    /// Lets an exclusive open of `/dev/<name>`, or any open of a group, answer EBUSY.
    pub fn busy(&self, name: &str) {
        self.write(&format!("dev/{name}"), BUSY);
    }

    /// A process with descriptor 3 on `target`, open with these flags (octal).
    pub fn open_by(&self, pid: u32, command: &str, target: &str, flags: &str) {
        self.write(&format!("proc/{pid}/comm"), &format!("{command}\n"));
        self.write(&format!("proc/{pid}/fdinfo/3"), &format!("pos:\t0\nflags:\t{flags}\n"));
        self.link(&format!("proc/{pid}/fd/3"), target);
    }

    /// Plays the kernel's part until dropped: unbinds and probes what is written.
    pub fn kernel(&self, vfio_takes: bool) -> FakeKernel {
        let root = self.dir.path().to_owned();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            // Relaxed: nothing but the flag itself is passed.
            while !stopped.load(Ordering::Relaxed) {
                step(&root, vfio_takes);
                thread::sleep(Duration::from_millis(1));
            }
        });
        FakeKernel { stop, thread: Some(thread) }
    }
}

fn open_fake(path: &Path, flags: OFlag) -> io::Result<File> {
    if flags.intersects(OFlag::O_EXCL | OFlag::O_RDWR) && fs::read(path)? == BUSY.as_bytes() {
        return Err(io::Error::from(Errno::EBUSY));
    }
    let writes = flags.contains(OFlag::O_WRONLY);
    File::options().read(!writes).write(writes).open(path)
}

pub(super) struct FakeKernel {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for FakeKernel {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))) || thread::panicking(), "the fake kernel panicked");
    }
}

/// Handles what was written since the last step; each is noted in `journal`.
fn step(root: &Path, vfio_takes: bool) {
    let device = root.join(format!("sys/bus/pci/devices/{ADDRESS}"));
    let link = device.join("driver");
    let bound = || {
        let target = fs::read_link(&link).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    };
    let written = |below: &str| {
        let path = root.join("sys/bus/pci").join(below);
        let full = fs::read_to_string(&path).is_ok_and(|text| text == ADDRESS.to_string());
        if full {
            fs::write(&path, "").unwrap();
            let mut journal = File::options().create(true).append(true).open(root.join("journal")).unwrap();
            writeln!(journal, "{below}").unwrap();
        }
        full
    };
    for driver in ["nvme", "vfio-pci"] {
        if written(&format!("drivers/{driver}/unbind")) && bound().as_deref() == Some(driver) {
            fs::remove_file(&link).unwrap();
        }
        // `bind` of a driver whose probe fails does nothing.
        written(&format!("drivers/{driver}/bind"));
    }
    if written("drivers_probe") && bound().is_none() {
        let chosen = fs::read_to_string(device.join("driver_override")).unwrap();
        let driver = match chosen.trim() {
            "vfio-pci" => vfio_takes.then_some("vfio-pci"),
            "" | "(null)" | "nvme" => Some("nvme"),
            _ => None,
        };
        let driver = driver.filter(|driver| root.join("sys/bus/pci/drivers").join(driver).exists());
        if let Some(driver) = driver {
            symlink(format!("../../drivers/{driver}"), &link).unwrap();
        }
    }
}
