//! The kernel's driver and dmaring see the same data, and hand the controller over and back.

use std::os::unix::fs::{FileExt, OpenOptionsExt};

use dmaring::DmaFile;
use dmaring_dma::sysfs::Sysfs;
use io_uring::opcode;

use super::zoo::{self, LONG, MANY, SECOND};
use crate::case::{Bench, Case, Outcome, Stop, cases};
use crate::support::pattern;
use crate::support::rig::{FILE, write};

pub(super) const ALL: &[Case] = cases![
    the_kernel_reads_what_dmaring_wrote,
    dmaring_reads_what_the_kernel_wrote,
    the_kernel_finds_its_namespaces_after_unbinding,
    a_file_face_agrees_with_the_kernel,
    fsynced_data_is_there_after_a_reset,
];

const RANGES: [(u64, usize); 5] =
    [(0, 4096), (12288 + 512, 512), (1 << 20, 3 << 20), ((8 << 20) - 1536, 8192), ((64 << 20) - 65536, 65536)];

fn disk(index: usize, nsid: u32) -> Result<std::fs::File, Stop> {
    let count = if index == MANY { 3 } else { 1 };
    let function = zoo::unbind(index, count)?;
    let disk = function.block_devices.iter().find(|disk| disk.nsid == Some(nsid));
    let name = &disk.ok_or_else(|| Stop::Fail(format!("no namespace {nsid} in {function:?}")))?.name;
    Ok(std::fs::OpenOptions::new().read(true).write(true).custom_flags(libc::O_SYNC).open(format!("/dev/{name}"))?)
}

fn the_kernel_reads_what_dmaring_wrote(_: &Bench) -> Outcome {
    for index in [SECOND, LONG] {
        let mut rig = zoo::rig(index, 8)?;
        for (seed, (offset, len)) in RANGES.into_iter().enumerate() {
            let memory = if seed % 2 == 0 { rig.alloc(len)? } else { rig.plain(len) };
            memory.write(&pattern::bytes(seed as u64, offset, len));
            assert_eq!(rig.one(write(&memory, offset))?, len as i32);
        }
        assert_eq!(rig.one(opcode::Fsync::new(FILE).build())?, 0);
        drop(rig);
        let disk = disk(index, 1)?;
        for (seed, (offset, len)) in RANGES.into_iter().enumerate() {
            let mut data = vec![0; len];
            disk.read_exact_at(&mut data, offset)?;
            pattern::check(seed as u64, offset, &data);
        }
    }
    Ok(())
}

fn dmaring_reads_what_the_kernel_wrote(_: &Bench) -> Outcome {
    for (index, nsid) in [(SECOND, 1), (MANY, 2), (MANY, 3)] {
        let disk = disk(index, nsid)?;
        let blocks = |(offset, len): (u64, usize)| (offset / 4096 * 4096, len.next_multiple_of(4096));
        for (seed, (offset, len)) in RANGES.into_iter().map(blocks).enumerate() {
            disk.write_all_at(&pattern::bytes(seed as u64 + 100, offset, len), offset)?;
        }
        disk.sync_all()?;
        drop(disk);
        let mut rig = zoo::open(index, nsid, zoo::interrupted(8))?;
        for (seed, (offset, len)) in RANGES.into_iter().map(blocks).enumerate() {
            rig.expect(seed as u64 + 100, offset, len)?;
        }
    }
    Ok(())
}

fn the_kernel_finds_its_namespaces_after_unbinding(_: &Bench) -> Outcome {
    for round in 0..2 {
        let mut rig = zoo::open(MANY, 3, zoo::interrupted(8))?;
        rig.put(round, 0, 65536)?;
        drop(rig);
        let function = zoo::unbind(MANY, 3)?;
        assert_eq!(function.driver.as_deref(), Some("nvme"));
        assert_eq!(function.driver_override, None, "nothing of the binding is left");
        let mut sizes: Vec<(u32, u64, u32)> = function
            .block_devices
            .iter()
            .filter_map(|disk| Some((disk.nsid?, disk.size_bytes, disk.logical_block_size)))
            .filter(|(nsid, ..)| *nsid < 4)
            .collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [(1, 64 << 20, 512), (2, 64 << 20, 4096), (3, 64 << 20, 512)]);
        let again = Sysfs::new().unbind(zoo::address(MANY))?;
        assert!(again.already);
    }
    Ok(())
}

fn a_file_face_agrees_with_the_kernel(_: &Bench) -> Outcome {
    zoo::bind(SECOND)?;
    let file = DmaFile::open(&zoo::name(SECOND, 1))?;
    // Any alignment: blocks that are covered in part keep the rest.
    file.write_at(&vec![0x11; 16384], 0)?;
    file.write_at(b"in the middle", 1000)?;
    file.write_at(&vec![0x22; 5000], 5001)?;
    file.sync_all()?;
    drop(file);
    let disk = disk(SECOND, 1)?;
    let mut data = vec![0; 16384];
    disk.read_exact_at(&mut data, 0)?;
    let mut expected = vec![0x11; 16384];
    expected[1000..1013].copy_from_slice(b"in the middle");
    expected[5001..10001].fill(0x22);
    assert_eq!(data, expected);
    Ok(())
}

fn fsynced_data_is_there_after_a_reset(_: &Bench) -> Outcome {
    let mut rig = zoo::rig(SECOND, 8)?;
    rig.put(77, 0, 1 << 20)?;
    assert_eq!(rig.one(opcode::Fsync::new(FILE).build())?, 0);
    drop(rig);
    let reset = format!("/sys/bus/pci/devices/{}/reset", zoo::address(SECOND));
    std::fs::write(reset, "1")?;
    zoo::rig(SECOND, 8)?.expect(77, 0, 1 << 20)?;
    Ok(())
}
