//! The guest with controllers of all kinds, and getting at them.

use dmaring::{CompletionMode, Device, Ring, RingBuilder};
use dmaring_dma::pci::PciAddress;
use dmaring_dma::sysfs::{BindOptions, PciFunction, Sysfs};
use dmaring_qemu::{Controller, Namespace, Storage, Vm};

use crate::case::{Stop, fail};
use crate::support::rig::Rig;

const MIB: u64 = 1 << 20;

/// Two controllers as QEMU makes them.
pub(super) const PLAIN: usize = 0;
pub(super) const SECOND: usize = 1;
/// Namespaces: 1 and 3 of 512-byte blocks, 2 of 4096-byte blocks, 4 with metadata.
pub(super) const MANY: usize = 2;
/// Longest transfers: no limit, 4 MiB, 8 KiB.
pub(super) const UNLIMITED: usize = 3;
pub(super) const LONG: usize = 4;
pub(super) const SHORT: usize = 5;
/// Two I/O queue pairs, two vectors.
pub(super) const FEW: usize = 6;
/// Namespace 1 holds an ext4 file system, namespace 2 becomes swap.
pub(super) const HELD: usize = 7;
/// Namespace 1 moves [`SLOW_BYTES_PER_SECOND`]; 2 fails to read [`BAD_OFFSET`] and to write
/// [`BAD_WRITE_OFFSET`].
pub(super) const ODD: usize = 8;
/// Never taken from the kernel.
pub(super) const KERNEL: usize = 9;
/// Needs a minute for [`SILENT_BYTES`].
pub(super) const SILENT: usize = 10;
/// As slow as the first namespace of [`ODD`]; it is removed and comes back.
pub(super) const REMOVED: usize = 11;
const COUNT: usize = 12;

pub(super) const SLOW_BYTES_PER_SECOND: u64 = 2 * MIB;
pub(super) const BAD_OFFSET: u64 = MIB;
pub(super) const BAD_WRITE_OFFSET: u64 = 2 * MIB;
pub(super) const SILENT_BYTES: usize = 512 << 10;
/// The functions of one device, which share an IOMMU group.
pub(super) const SIBLINGS: [&str; 2] = ["0000:00:1d.0", "0000:00:1d.1"];
/// A function that is no NVMe controller.
pub(super) const OTHER: &str = "0000:00:1c.0";
/// No function.
pub(super) const ABSENT: &str = "0000:00:1b.0";

pub(crate) fn vm(vm: Vm) -> Result<Vm, String> {
    let mem = || Namespace::new(Storage::Mem { size_bytes: 64 * MIB });
    let mut controllers = vec![Controller::new(vec![mem()]); COUNT];
    controllers[MANY].namespaces = vec![mem(), mem().block_size(4096), mem(), mem().metadata_size(8)];
    controllers[UNLIMITED].mdts = Some(0);
    controllers[LONG].mdts = Some(10);
    controllers[SHORT].mdts = Some(1);
    controllers[FEW].max_ioqpairs = Some(2);
    controllers[FEW].msix_qsize = Some(2);
    controllers[HELD].namespaces = vec![Namespace::new(Storage::File { path: super::binding::image()? }), mem()];
    for index in [ODD, SILENT, REMOVED] {
        controllers[index].namespaces.clear();
    }
    let mut vm = controllers.into_iter().fold(vm, Vm::controller);
    for argument in odd_namespaces().into_iter().chain(other_functions()) {
        vm = vm.qemu_arg(argument);
    }
    Ok(vm)
}

fn odd_namespaces() -> Vec<String> {
    let null = format!("null-co,{{}}size={},{{}}read-zeroes=on", 64 * MIB);
    let below = |path: &str| format!("{path}driver={}", null.replace("{}", path));
    let mut arguments = Vec::new();
    let throttled = |id: &str, rate: u64| {
        [
            "-object".to_owned(),
            format!("throttle-group,id=group-{id},x-bps-total={rate}"),
            "-blockdev".to_owned(),
            format!("driver=throttle,throttle-group=group-{id},node-name={id},{}", below("file.")),
        ]
    };
    arguments.extend(throttled("slow", SLOW_BYTES_PER_SECOND));
    arguments.extend(throttled("removed", SLOW_BYTES_PER_SECOND));
    arguments.extend(throttled("silent", SILENT_BYTES as u64 / 60));
    let rule = |number: u8, iotype: &str, offset: u64| {
        let at = offset / 512;
        let name = format!("inject-error.{number}");
        format!("{name}.event=none,{name}.iotype={iotype},{name}.errno=5,{name}.sector={at},{name}.once=off")
    };
    let rules = format!("{},{}", rule(0, "read", BAD_OFFSET), rule(1, "write", BAD_WRITE_OFFSET));
    arguments.extend(["-blockdev".to_owned(), format!("driver=blkdebug,node-name=bad,{rules},{}", below("image."))]);
    for (index, nsid, node) in [(ODD, 1, "slow"), (ODD, 2, "bad"), (SILENT, 1, "silent"), (REMOVED, 1, "removed")] {
        arguments.extend(["-device".to_owned(), format!("nvme-ns,drive={node},bus=nvme{index},nsid={nsid}")]);
    }
    arguments
}

fn other_functions() -> Vec<String> {
    let mut arguments = Vec::new();
    for (function, more) in [(0, ",multifunction=on"), (1, "")] {
        arguments.extend([
            "-device".to_owned(),
            format!("nvme,serial=sibling{function},bus=pcie.0,addr=1d.{function},romfile={more}"),
        ]);
    }
    arguments.extend(["-device".to_owned(), "edu,bus=pcie.0,addr=1c.0".to_owned()]);
    arguments
}

pub(super) fn address(index: usize) -> PciAddress {
    Vm::controller_address(index).parse().expect("an address of our own making")
}

/// Name of a namespace, as a user opens it.
pub(super) fn name(index: usize, nsid: u32) -> String {
    format!("pci:{}/{nsid}", address(index))
}

/// Gives a controller to vfio-pci, if it is not there.
pub(super) fn bind(index: usize) -> Result<(), Stop> {
    Sysfs::new().bind(address(index), BindOptions::default())?;
    Ok(())
}

/// Gives a controller back to the kernel, and waits for its disks.
pub(super) fn unbind(index: usize, disks: usize) -> Result<PciFunction, Stop> {
    Sysfs::new().unbind(address(index))?;
    let started = std::time::Instant::now();
    loop {
        let function = Sysfs::new().function(address(index))?;
        let there =
            function.block_devices.iter().filter(|disk| std::fs::metadata(format!("/dev/{}", disk.name)).is_ok());
        if there.count() >= disks {
            return Ok(function);
        }
        if started.elapsed().as_secs() > 20 {
            return fail(format!(
                "controller {index} has {disks} namespaces; the kernel found {:?}",
                function.block_devices
            ));
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// A polled ring on namespace 1 of a controller, which is bound first.
pub(super) fn rig(index: usize, entries: u32) -> Result<Rig, Stop> {
    open(index, 1, polled(entries))
}

pub(super) fn polled(entries: u32) -> RingBuilder {
    Ring::builder(entries).completion(CompletionMode::Poll)
}

pub(super) fn interrupted(entries: u32) -> RingBuilder {
    Ring::builder(entries).completion(CompletionMode::Interrupt)
}

/// A ring on a namespace of a controller, which is bound first.
pub(super) fn open(index: usize, nsid: u32, builder: RingBuilder) -> Result<Rig, Stop> {
    bind(index)?;
    Ok(Rig::new(builder.open(&name(index, nsid))?))
}

pub(super) fn device(index: usize) -> Result<Device, Stop> {
    bind(index)?;
    Ok(Device::open(&name(index, 1))?)
}
