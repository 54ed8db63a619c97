//! The QEMU command line.
//!
//! ```text
//! 00:02.0  virtio-serial: the one port to init
//! 00:04.0  NVMe controller 0, serial "dmaring0", IOMMU group of its own
//! 00:05.0  NVMe controller 1, serial "dmaring1"
//! …        up to 00:1e.0
//! ```

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::Path;

use serde_json::{Value, json};

use crate::device::{Controller, Namespace, Storage};
use crate::kernel::Kernel;
use crate::manifest::PORT;

/// PCI slot of the first controller.
const FIRST_SLOT: usize = 4;
/// Slot 31 is the machine's own.
pub(crate) const MAX_CONTROLLERS: usize = 31 - FIRST_SLOT;

/// PCI address of controller `index` in the guest.
pub(crate) fn controller_address(index: usize) -> String {
    format!("0000:00:{:02x}.0", FIRST_SLOT + index)
}

/// Descriptors QEMU inherits under the same numbers.
#[derive(Debug)]
pub(crate) struct Wiring {
    pub initrd: RawFd,
    pub port: RawFd,
    pub console: RawFd,
    /// Memory of each namespace in memory, in order.
    pub disks: Vec<RawFd>,
}

/// The machine apart from its wiring.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub cpus: u32,
    pub memory_mib: u64,
    pub controllers: &'a [Controller],
    pub iommu: bool,
    pub one_thread: bool,
    pub verbose: bool,
    pub kernel: &'a Kernel,
    /// Appended to the kernel's command line and to QEMU's.
    pub kernel_args: &'a [String],
    pub qemu_args: &'a [String],
}

impl Machine<'_> {
    /// Arguments of QEMU.
    pub fn args(&self, wiring: &Wiring) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        let mut add = |parts: &[&str]| args.extend(parts.iter().map(OsString::from));
        let thread = if self.one_thread { "single" } else { "multi" };
        add(&["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        add(&["-M", "q35,kernel-irqchip=split,sata=off,smbus=off,usb=off,vmport=off,i8042=off"]);
        add(&["-accel", &format!("tcg,thread={thread}"), "-cpu", "max"]);
        add(&["-smp", &self.cpus.to_string(), "-m", &format!("{}M", self.memory_mib)]);
        add(&["-chardev", &format!("socket,id=console,fd={}", wiring.console), "-serial", "chardev:console"]);
        if self.iommu {
            add(&["-device", "intel-iommu,intremap=on,caching-mode=on"]);
        }
        add(&["-device", "virtio-serial-pci,id=serial,bus=pcie.0,addr=2,max_ports=2,romfile="]);
        add(&["-chardev", &format!("socket,id=port,fd={}", wiring.port)]);
        add(&["-device", &format!("virtserialport,bus=serial.0,nr=1,chardev=port,name={PORT}")]);
        let mut disks = wiring.disks.iter();
        for (index, controller) in self.controllers.iter().enumerate() {
            add(&["-device", &controller_device(index, controller)]);
            for (number, namespace) in controller.namespaces.iter().enumerate() {
                let node = format!("disk{index}n{}", number + 1);
                add(&["-blockdev", &block_node(&node, &namespace.storage, &mut disks).to_string()]);
                add(&["-device", &namespace_device(index, number + 1, &node, namespace)]);
            }
        }
        args.extend(["-kernel".into(), self.kernel.image.clone().into_os_string()]);
        args.extend(["-initrd".into(), format!("/proc/self/fd/{}", wiring.initrd).into()]);
        args.extend(["-append".into(), self.kernel_command_line().into()]);
        args.extend(self.qemu_args.iter().map(OsString::from));
        args
    }

    fn kernel_command_line(&self) -> String {
        // QEMU 7.2 may run a stale breakpoint while another CPU patches the kernel's text, and the kernel
        // dies of an int3 it does not know (seen once in 80 boots). Most patching is done while booting,
        // so that happens on one CPU, and init brings up the others.
        // A CPU that comes up late has its delay loop calibrated for 2 s unless `lpj` is given: that of a
        // time-stamp counter of 5 GHz; on slower ones delays are longer than asked for, never shorter.
        // Without `init=`, the kernel would try /bin/sh where it cannot run ours.
        let mut line = "console=ttyS0 panic=-1 init=/init maxcpus=1 noreplace-smp lpj=20000000 mitigations=off \
                        tsc=reliable random.trust_cpu=on no5lvl no_timer_check rcupdate.rcu_expedited=1"
            .to_owned();
        if self.iommu {
            line += " intel_iommu=on";
        }
        if !self.verbose {
            line += " quiet";
        }
        for arg in self.kernel_args {
            line += " ";
            line += arg;
        }
        line
    }
}

fn controller_device(index: usize, controller: &Controller) -> String {
    let slot = FIRST_SLOT + index;
    let mut device = format!("nvme,id=nvme{index},serial=dmaring{index},bus=pcie.0,addr={slot:#x},romfile=");
    let numbers = [
        ("mdts", controller.mdts.map(u16::from)),
        ("max_ioqpairs", controller.max_ioqpairs),
        ("msix_qsize", controller.msix_qsize),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            device += &format!(",{name}={number}");
        }
    }
    with_props(device, &controller.props)
}

fn namespace_device(index: usize, nsid: usize, node: &str, namespace: &Namespace) -> String {
    let block = namespace.block_size;
    let mut device = format!(
        "nvme-ns,drive={node},bus=nvme{index},nsid={nsid},logical_block_size={block},physical_block_size={block}"
    );
    if namespace.metadata_size != 0 {
        device += &format!(",ms={}", namespace.metadata_size);
    }
    with_props(device, &namespace.props)
}

fn with_props(mut device: String, props: &[String]) -> String {
    for prop in props {
        device += ",";
        device += prop;
    }
    device
}

fn block_node<'a>(node: &str, storage: &Storage, disks: &mut impl Iterator<Item = &'a RawFd>) -> Value {
    match storage {
        Storage::Null { size_bytes } => {
            json!({ "driver": "null-co", "node-name": node, "size": size_bytes, "read-zeroes": true })
        }
        Storage::Mem { .. } => {
            let fd = disks.next().copied().unwrap_or(-1);
            json!({
                "driver": "file", "node-name": node, "filename": format!("/proc/self/fd/{fd}"),
                "locking": "off", "discard": "unmap", "cache": { "no-flush": true },
            })
        }
        Storage::File { path } => {
            let driver = if is_block_device(path) { "host_device" } else { "file" };
            json!({ "driver": driver, "node-name": node, "filename": path, "discard": "unmap" })
        }
    }
}

fn is_block_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    path.metadata().is_ok_and(|data| data.file_type().is_block_device())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(machine: &Machine<'_>) -> String {
        let wiring = Wiring { initrd: 10, port: 11, console: 12, disks: vec![13, 14] };
        let args = machine.args(&wiring).into_iter().map(|arg| arg.into_string().unwrap());
        args.collect::<Vec<_>>().join(" ")
    }

    fn kernel() -> Kernel {
        Kernel { image: "/boot/vmlinuz".into(), modules: "/m".into(), version: "6.12".into() }
    }

    #[test]
    fn controllers_have_fixed_slots_and_their_own_disks() {
        let null = Namespace::new(Storage::Null { size_bytes: 4096 }).block_size(4096).metadata_size(8);
        let mut second = Controller::new(vec![null, Namespace::default()]);
        second.mdts = Some(5);
        second.props.push("cmb_size_mb=4".into());
        let controllers = [Controller::default(), second];
        let kernel = kernel();
        let (kernel_args, qemu_args) = (["iommu=pt".to_owned()], ["-plugin".to_owned(), "x,y=z".to_owned()]);
        let machine = Machine {
            cpus: 2,
            memory_mib: 512,
            controllers: &controllers,
            iommu: true,
            one_thread: false,
            verbose: false,
            kernel: &kernel,
            kernel_args: &kernel_args,
            qemu_args: &qemu_args,
        };
        let line = line(&machine);
        for part in [
            "-smp 2 -m 512M",
            "id=nvme0,serial=dmaring0,bus=pcie.0,addr=0x4,",
            "id=nvme1,serial=dmaring1,bus=pcie.0,addr=0x5,romfile=,mdts=5,cmb_size_mb=4",
            "drive=disk1n1,bus=nvme1,nsid=1,logical_block_size=4096,physical_block_size=4096,ms=8",
            "\"filename\":\"/proc/self/fd/13\"",
            "\"filename\":\"/proc/self/fd/14\"",
            "\"driver\":\"null-co\"",
            "intel-iommu,intremap=on,caching-mode=on",
            "intel_iommu=on quiet iommu=pt",
            "-plugin x,y=z",
        ] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        assert_eq!(controller_address(1), "0000:00:05.0");
    }

    #[test]
    fn without_iommu_nothing_of_it_is_left() {
        let kernel = kernel();
        let machine = Machine {
            cpus: 1,
            memory_mib: 512,
            controllers: &[],
            iommu: false,
            one_thread: true,
            verbose: true,
            kernel: &kernel,
            kernel_args: &[],
            qemu_args: &[],
        };
        let line = line(&machine);
        assert!(!line.contains("iommu") && !line.contains("quiet"), "{line}");
        assert!(line.contains("tcg,thread=single"), "{line}");
    }

    #[test]
    fn odd_file_names_survive() {
        let storage = Storage::File { path: "/x/a,b \"c".into() };
        let node = block_node("d", &storage, &mut [].iter());
        assert_eq!(node["filename"], "/x/a,b \"c");
    }
}
