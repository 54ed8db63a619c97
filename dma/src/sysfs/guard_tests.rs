//! The guard on trees of plain files.

use super::super::fake::{ADDRESS, FakeTree};
use super::*;

fn tree() -> FakeTree {
    let tree = FakeTree::new();
    tree.nvme();
    tree.partition("nvme0n1", 1);
    tree.partition("nvme0n1", 2);
    tree
}

fn lines(tree: &FakeTree) -> Vec<String> {
    let uses = tree.sysfs().uses(ADDRESS).unwrap();
    uses.iter().map(ToString::to_string).collect()
}

#[test]
fn idle_controller_has_no_uses() {
    assert_eq!(lines(&tree()), [""; 0]);
}

#[test]
fn unbound_or_absent_controller() {
    let tree = FakeTree::new();
    tree.other("0000:00:04.0", "0x010802", None);
    assert_eq!(lines(&tree), [""; 0]);
    let absent = tree.sysfs().uses("0000:00:09.0".parse().unwrap());
    assert!(matches!(absent, Err(SysfsError::NoFunction { .. })));
}

#[test]
fn mounted_partition_is_found_by_number() {
    let tree = tree();
    tree.mount("259:2", "/mnt/with\\040space", "/dev/root");
    assert_eq!(lines(&tree), ["nvme0n1p2 is mounted at /mnt/with space"]);
}

#[test]
fn btrfs_is_found_by_its_source_and_by_a_link_to_it() {
    let tree = tree();
    tree.link("dev/disk/by-label/data", "../../nvme0n1p1");
    tree.mount("0:44", "/data", "/dev/disk/by-label/data");
    tree.mount("0:45", "/more", "/dev/nvme0n1");
    assert_eq!(lines(&tree), ["nvme0n1p1 is mounted at /data", "nvme0n1 is mounted at /more"]);
}

#[test]
fn mounts_of_other_disks_do_not_count() {
    let tree = tree();
    tree.mount("259:20", "/a", "/dev/nvme0n10");
    tree.mount("0:21", "/proc", "nvme0n1");
    assert_eq!(lines(&tree), [""; 0]);
}

#[test]
fn unreadable_mount_table_is_an_error_not_an_empty_one() {
    let tree = tree();
    tree.remove("proc/self/mountinfo");
    assert!(tree.sysfs().uses(ADDRESS).is_err());
}

#[test]
fn mounted_multipath_head_is_found_on_every_controller() {
    let tree = FakeTree::new();
    tree.nvme_multipath();
    tree.partition("nvme3n1", 1);
    tree.mount("259:1", "/srv", "/dev/nvme3n1p1");
    assert_eq!(lines(&tree), ["nvme3n1p1 is mounted at /srv"]);
}

#[test]
fn swap_on_a_partition() {
    let tree = tree();
    tree.write(
        "proc/swaps",
        "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
         /dev/nvme0n1p2                          partition\t1048572\t\t0\t\t-2\n\
         /swap\\040file                           file\t\t1024\t\t0\t\t-3\n",
    );
    assert_eq!(lines(&tree), ["nvme0n1p2 is swap space"]);
}

#[test]
fn device_mapper_md_and_loop_hold_it() {
    let tree = tree();
    let disk = tree.disk_dir("nvme0n1");
    tree.dir(&format!("{disk}/nvme0n1p1/holders/dm-0"));
    tree.write("sys/block/dm-0/dm/name", "vg-root\n");
    tree.dir(&format!("{disk}/holders/md127"));
    tree.write("sys/block/loop3/loop/backing_file", "/dev/nvme0n1p2\n");
    tree.write("sys/block/loop4/loop/backing_file", "/home/disk.img\n");
    assert_eq!(
        lines(&tree),
        ["nvme0n1 is part of md127", "nvme0n1p1 is part of dm-0 (vg-root)", "nvme0n1p2 is part of loop3"]
    );
}

#[test]
fn nvme_target_holds_it_while_enabled() {
    let tree = tree();
    let namespace = "sys/kernel/config/nvmet/subsystems/nqn.test/namespaces/1";
    tree.write(&format!("{namespace}/device_path"), "/dev/nvme0n1\n");
    tree.write(&format!("{namespace}/enable"), "0\n");
    assert_eq!(lines(&tree), [""; 0]);
    tree.write(&format!("{namespace}/enable"), "1\n");
    assert_eq!(lines(&tree), ["nvme0n1 is part of NVMe target nqn.test, namespace 1"]);
}

#[test]
fn exclusive_claim_names_the_partition_that_has_it() {
    let tree = tree();
    tree.busy("nvme0n1");
    let whole = "nvme0n1 is claimed exclusively";
    assert!(lines(&tree)[0].starts_with(whole));
    // The kernel claims the whole disk along with the partition.
    tree.busy("nvme0n1p2");
    let found = lines(&tree);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("nvme0n1p2 is claimed"), "{found:?}");
}

#[test]
fn claim_that_a_mount_explains_is_not_reported_twice() {
    let tree = tree();
    tree.busy("nvme0n1");
    tree.busy("nvme0n1p1");
    tree.mount("259:1", "/data", "/dev/nvme0n1p1");
    assert_eq!(lines(&tree), ["nvme0n1p1 is mounted at /data"]);
    tree.busy("nvme0n1p2");
    assert_eq!(lines(&tree).len(), 2, "the other partition is claimed too");
}

#[test]
fn disk_without_a_node_cannot_be_called_free() {
    let tree = tree();
    tree.remove("dev/nvme0n1");
    let error = tree.sysfs().uses(ADDRESS).unwrap_err();
    assert!(matches!(error, SysfsError::NoNode { .. }), "{error}");
}

#[test]
fn processes_count_if_they_may_write() {
    let tree = tree();
    tree.open_by(41, "smartd", "/dev/nvme0", "0100000");
    tree.open_by(42, "qemu-system-x86", "/dev/nvme0n1p1", "02100002");
    tree.open_by(43, "bash", "/dev/null", "02");
    tree.open_by(44, "fio", "/dev/ng0n1", "0100000");
    let uses = tree.sysfs().uses(ADDRESS).unwrap();
    let lines: Vec<String> = uses.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "nvme0 is open for reading by smartd (pid 41)",
            "nvme0n1p1 is open for writing by qemu-system-x86 (pid 42)",
            "ng0n1 is open for reading by fio (pid 44)",
        ]
    );
    let refusing: Vec<bool> = uses.iter().map(Use::refuses).collect();
    assert_eq!(refusing, [false, true, false]);
}

#[test]
fn claim_refuses_what_uses_shows_and_holds_what_is_free() {
    let tree = tree();
    assert_eq!(tree.sysfs().claim(ADDRESS).unwrap().len(), 1);
    tree.mount("259:1", "/data", "/dev/nvme0n1p1");
    let error = tree.sysfs().claim(ADDRESS).unwrap_err().to_string();
    assert_eq!(
        error,
        "0000:00:04.0 is in use: nvme0n1p1 is mounted at /data; unmount, swapoff or stop these first (forcing loses their data)"
    );
}

#[test]
fn program_on_a_uio_driver_counts() {
    let tree = FakeTree::new();
    tree.other("0000:00:04.0", "0x010802", Some("uio_pci_generic"));
    tree.dir(&format!("sys/bus/pci/devices/{ADDRESS}/uio/uio0"));
    assert_eq!(lines(&tree), [""; 0]);
    tree.open_by(60, "reactor_0", "/dev/uio0", "02");
    assert_eq!(lines(&tree), ["uio0 is open for writing by reactor_0 (pid 60)"]);
}
