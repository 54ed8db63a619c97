//! Binding on trees of plain files, with a thread in the part of the kernel where one is needed.

use super::super::fake::{ADDRESS, FakeTree};
use super::super::{Process, Use};
use super::*;

const DEVICE: &str = "sys/bus/pci/devices/0000:00:04.0";

fn tree() -> FakeTree {
    let tree = FakeTree::new();
    tree.nvme();
    tree.member(7, "0000:00:04.0");
    tree
}

fn bind(tree: &FakeTree) -> Result<Bound, SysfsError> {
    tree.sysfs().bind(ADDRESS, BindOptions::default())
}

fn driver_override(tree: &FakeTree) -> String {
    tree.read(&format!("{DEVICE}/driver_override"))
}

fn driver(tree: &FakeTree) -> Option<String> {
    let dir = tree.path(DEVICE);
    tree.sysfs().driver_of(&dir).unwrap()
}

/// Nothing was written: neither the override nor a driver's files.
fn assert_untouched(tree: &FakeTree) {
    assert_eq!(driver_override(tree), "(null)\n");
    for file in ["drivers/nvme/unbind", "drivers_probe"] {
        assert_eq!(tree.read(&format!("sys/bus/pci/{file}")), "", "{file}");
    }
}

#[test]
fn bind_moves_the_controller_and_unbind_gives_it_back() {
    let tree = tree();
    let _kernel = tree.kernel(true);
    let bound = bind(&tree).unwrap();
    assert_eq!(bound.previous_driver.as_deref(), Some("nvme"));
    assert!(!bound.already);
    assert_eq!(driver(&tree).as_deref(), Some("vfio-pci"));
    assert_eq!(driver_override(&tree), "vfio-pci");

    assert!(bind(&tree).unwrap().already);

    tree.write("dev/vfio/7", "");
    let unbound = tree.sysfs().unbind(ADDRESS).unwrap();
    assert_eq!(unbound.driver.as_deref(), Some("nvme"));
    assert_eq!(driver_override(&tree), "\n");
    assert!(tree.sysfs().unbind(ADDRESS).unwrap().already);
    assert_eq!(tree.read("journal"), "drivers/nvme/unbind\ndrivers_probe\ndrivers/vfio-pci/unbind\ndrivers_probe\n");
}

#[test]
fn function_without_a_driver_is_only_probed() {
    let tree = tree();
    tree.remove(&format!("{DEVICE}/driver"));
    tree.remove(&format!("{DEVICE}/nvme"));
    let _kernel = tree.kernel(true);
    assert_eq!(bind(&tree).unwrap().previous_driver, None);
    assert_eq!(tree.read("journal"), "drivers_probe\n");
}

#[test]
fn failed_probe_rolls_back_to_the_driver_it_was_found_with() {
    let tree = tree();
    let _kernel = tree.kernel(false);
    let error = bind(&tree).unwrap_err();
    let SysfsError::RolledBack { restored, source, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(restored.as_deref(), Some("nvme"));
    assert!(matches!(**source, SysfsError::NotTaken { found: None, .. }));
    assert_eq!(driver(&tree).as_deref(), Some("nvme"));
    assert_eq!(driver_override(&tree), "\n");
}

#[test]
fn driver_that_keeps_the_function_is_reported_and_the_override_restored() {
    let tree = tree();
    tree.write(&format!("{DEVICE}/driver_override"), "nvme\n");
    // Nobody plays the kernel: the link stays.
    let error = bind(&tree).unwrap_err();
    let SysfsError::RolledBack { source, .. } = &error else {
        panic!("{error}");
    };
    assert!(matches!(**source, SysfsError::StillBound { .. }));
    assert_eq!(tree.read("sys/bus/pci/drivers/nvme/unbind"), "0000:00:04.0");
    assert_eq!(driver_override(&tree), "nvme");
}

#[test]
fn failed_rollback_says_so() {
    let tree = tree();
    // The driver goes away between the unbind and the rollback.
    let sysfs = tree.sysfs();
    let found = sysfs.function(ADDRESS).unwrap();
    tree.remove(&format!("{DEVICE}/driver"));
    let cause = SysfsError::NoTaker { address: ADDRESS };
    let error = sysfs.roll_back(&found, cause);
    assert!(error.to_string().contains("giving it back to nvme failed too"), "{error}");
    assert!(error.to_string().ends_with("it now has no driver"), "{error}");
}

#[test]
fn mounted_controller_is_left_alone() {
    let tree = tree();
    tree.partition("nvme0n1", 1);
    tree.mount("259:1", "/data", "/dev/nvme0n1p1");
    let error = bind(&tree).unwrap_err();
    assert!(matches!(&error, SysfsError::InUse { uses, .. } if uses.len() == 1));
    assert_untouched(&tree);
}

#[test]
fn controller_whose_uses_cannot_be_told_is_left_alone() {
    let tree = tree();
    tree.remove("dev/nvme0n1");
    assert!(matches!(bind(&tree), Err(SysfsError::NoNode { .. })));
    assert_untouched(&tree);
}

#[test]
fn reader_alone_is_no_reason_but_a_writer_is() {
    let tree = tree();
    tree.open_by(41, "smartd", "/dev/nvme0", "0100000");
    tree.open_by(42, "qemu", "/dev/nvme0n1", "02");
    let error = bind(&tree).unwrap_err();
    let SysfsError::InUse { uses, .. } = error else {
        panic!("{error}");
    };
    let process = Process { pid: 42, command: "qemu".to_owned() };
    let device = "nvme0n1".to_owned();
    assert_eq!(uses, [Use::OpenBy { device, process, writes: true }]);
    tree.remove("proc/42");
    let _kernel = tree.kernel(true);
    bind(&tree).unwrap();
}

#[test]
fn force_takes_a_controller_in_use() {
    let tree = tree();
    tree.mount("259:0", "/data", "/dev/nvme0n1");
    tree.busy("nvme0n1");
    let _kernel = tree.kernel(true);
    let options = BindOptions { force: true };
    tree.sysfs().bind(ADDRESS, options).unwrap();
    assert_eq!(driver(&tree).as_deref(), Some("vfio-pci"));
}

#[test]
fn use_that_appears_late_stops_the_unbind() {
    let tree = tree();
    let sysfs = tree.sysfs();
    let found = sysfs.function(ADDRESS).unwrap();
    tree.mount("259:0", "/data", "/dev/nvme0n1");
    let error = sysfs.take(&found, BindOptions::default()).unwrap_err();
    assert!(matches!(error, SysfsError::InUse { .. }));
    assert_eq!(tree.read("sys/bus/pci/drivers/nvme/unbind"), "");
    sysfs.put_back(&found).unwrap();
    assert_eq!(driver_override(&tree), "\n");
}

#[test]
fn other_functions_are_refused_even_if_forced() {
    let tree = tree();
    tree.write(&format!("{DEVICE}/class"), "0x020000\n");
    let options = BindOptions { force: true };
    let error = tree.sysfs().bind(ADDRESS, options).unwrap_err();
    assert!(error.to_string().contains("its class is 020000"), "{error}");
    assert!(matches!(tree.sysfs().unbind(ADDRESS), Err(SysfsError::NotNvme { .. })));
    assert_untouched(&tree);
}

#[test]
fn without_an_iommu_nothing_is_touched_unless_unsafe_mode_is_on() {
    let tree = tree();
    tree.remove(&format!("{DEVICE}/iommu_group"));
    assert!(matches!(bind(&tree), Err(SysfsError::NoIommu { .. })));
    assert_untouched(&tree);
    tree.write("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
    let _kernel = tree.kernel(true);
    bind(&tree).unwrap();
}

#[test]
fn absent_vfio_pci_is_loaded_or_explained() {
    let tree = tree();
    tree.remove("sys/bus/pci/drivers/vfio-pci");
    let error = bind(&tree).unwrap_err();
    assert!(error.to_string().contains("no vfio-pci driver"), "{error}");
    assert_untouched(&tree);

    let _kernel = tree.kernel(true);
    let mut sysfs = tree.sysfs();
    sysfs.kernel.modprobe = |root, module| {
        let dir = root.join("sys/bus/pci/drivers").join(module);
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("bind"), "")?;
        std::fs::write(dir.join("unbind"), "")
    };
    sysfs.bind(ADDRESS, BindOptions::default()).unwrap();
}

#[test]
fn missing_privilege_is_found_before_anything_is_touched() {
    let tree = tree();
    let mut sysfs = tree.sysfs();
    sysfs.kernel.open = |path, flags| {
        if flags.contains(OFlag::O_WRONLY) {
            return Err(Errno::EACCES.into());
        }
        std::fs::File::open(path)
    };
    let error = sysfs.bind(ADDRESS, BindOptions::default()).unwrap_err();
    assert!(error.to_string().contains("run as root"), "{error}");
    assert_untouched(&tree);
}

#[test]
fn unbind_refuses_while_the_group_is_open_and_names_the_holder() {
    let tree = tree();
    tree.bound_to_vfio();
    tree.open_by(50, "qemu-system-x86", "/dev/vfio/7", "02");
    let error = tree.sysfs().unbind(ADDRESS).unwrap_err().to_string();
    assert!(error.contains("held through VFIO group 7 by qemu-system-x86 (pid 50)"), "{error}");
    assert_eq!(tree.read("sys/bus/pci/drivers/vfio-pci/unbind"), "");
}

#[test]
fn unbind_refuses_while_the_group_is_open_by_one_it_cannot_see() {
    let tree = tree();
    tree.bound_to_vfio();
    tree.busy("vfio/7");
    let error = tree.sysfs().unbind(ADDRESS).unwrap_err();
    assert!(matches!(&error, SysfsError::Held { holders, .. } if holders.is_empty()));
    assert_eq!(tree.read("sys/bus/pci/drivers/vfio-pci/unbind"), "");
}

#[test]
fn unbind_finishes_an_interrupted_bind() {
    let tree = tree();
    tree.bound_to_vfio();
    tree.remove(&format!("{DEVICE}/driver"));
    let _kernel = tree.kernel(true);
    let unbound = tree.sysfs().unbind(ADDRESS).unwrap();
    assert_eq!(unbound.driver.as_deref(), Some("nvme"));
}

#[test]
fn unbind_without_a_kernel_driver_says_what_to_do() {
    let tree = tree();
    tree.bound_to_vfio();
    tree.remove("sys/bus/pci/drivers/nvme");
    let _kernel = tree.kernel(true);
    let error = tree.sysfs().unbind(ADDRESS).unwrap_err();
    assert!(matches!(error, SysfsError::NoTaker { .. }), "{error}");
    assert_eq!(driver_override(&tree), "\n");
}

#[test]
fn unbind_that_does_not_happen_restores_the_override() {
    let tree = tree();
    tree.bound_to_vfio();
    let error = tree.sysfs().unbind(ADDRESS).unwrap_err();
    assert!(matches!(error, SysfsError::StillBound { .. }), "{error}");
    assert_eq!(driver_override(&tree), "vfio-pci");
}
