//! What entries may name: fixed files and descriptors.

use std::sync::Arc;

use dmaring::Device;
use dmaring::model::{Model, ModelConfig};
use io_uring::{opcode, squeue::Entry, types};

use crate::case::{Bench, Case, Outcome, Stop, cases, skip};
use crate::support::loop_device::LoopDevice;
use crate::support::pattern;
use crate::support::raw::Memory;
use crate::support::rig::{Rig, expect_errno, read, write};

pub(super) const ALL: &[Case] = cases![
    a_fixed_file_that_is_not_there_is_bad,
    a_descriptor_that_is_not_open_is_bad,
    registering_files_twice_is_busy,
    unregistering_no_files_fails,
    files_can_be_registered_anew_with_holes,
    registering_no_files_is_invalid,
    registering_a_bad_descriptor_changes_nothing,
    a_write_to_a_read_only_file_is_a_bad_descriptor,
    a_write_to_a_read_only_device_is_not_permitted,
];

fn read_of(file: u32, memory: &Memory) -> Entry {
    opcode::Read::new(types::Fixed(file), memory.ptr(), memory.len() as u32).offset(0).build()
}

fn own_fd(rig: &Rig) -> Result<i32, Stop> {
    rig.ring.device_fd(0).ok_or(Stop::Fail("file 0 has no descriptor".into()))
}

fn a_fixed_file_that_is_not_there_is_bad(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    for file in [1, 2, 100_000, i32::MAX as u32] {
        expect_errno(rig.one(read_of(file, &memory))?, libc::EBADF, &format!("fixed file {file}"));
        let fsync = opcode::Fsync::new(types::Fixed(file)).build();
        expect_errno(rig.one(fsync)?, libc::EBADF, &format!("fsync of fixed file {file}"));
    }
    Ok(())
}

fn a_descriptor_that_is_not_open_is_bad(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    for fd in [-1, -100, 9999, i32::MAX] {
        let read = opcode::Read::new(types::Fd(fd), memory.ptr(), 4096).offset(0).build();
        expect_errno(rig.one(read)?, libc::EBADF, &format!("descriptor {fd}"));
    }
    Ok(())
}

fn registering_files_twice_is_busy(bench: &Bench) -> Outcome {
    let rig = bench.rig(4)?;
    // Opening a ring on something registers it.
    let error = rig.ring.submitter().register_files(&[own_fd(&rig)?]).expect_err("registered twice");
    assert_eq!(error.raw_os_error(), Some(libc::EBUSY), "{error}");
    Ok(())
}

fn unregistering_no_files_fails(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    rig.ring.submitter().unregister_files()?;
    let error = rig.ring.submitter().unregister_files().expect_err("none are registered");
    assert_eq!(error.raw_os_error(), Some(libc::ENXIO), "{error}");
    let memory = rig.plain(4096);
    expect_errno(rig.one(read(&memory, 0))?, libc::EBADF, "fixed file 0 after unregistering");
    Ok(())
}

fn files_can_be_registered_anew_with_holes(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    rig.put(8, 0, 4096)?;
    let fd = own_fd(&rig)?;
    rig.ring.submitter().unregister_files()?;
    rig.ring.submitter().register_files(&[-1, fd, -1, fd])?;
    let memory = rig.plain(4096);
    for (file, good) in [(0, false), (1, true), (2, false), (3, true), (4, false)] {
        memory.write(&[0; 4096]);
        let res = rig.one(read_of(file, &memory))?;
        if good {
            assert_eq!(res, 4096, "fixed file {file}");
            pattern::check(8, 0, &memory.read());
        } else {
            expect_errno(res, libc::EBADF, &format!("fixed file {file}"));
        }
    }
    Ok(())
}

fn registering_no_files_is_invalid(bench: &Bench) -> Outcome {
    let rig = bench.rig(4)?;
    rig.ring.submitter().unregister_files()?;
    let error = rig.ring.submitter().register_files(&[]).expect_err("an empty table");
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error}");
    Ok(())
}

fn registering_a_bad_descriptor_changes_nothing(bench: &Bench) -> Outcome {
    let rig = bench.rig(4)?;
    let fd = own_fd(&rig)?;
    rig.ring.submitter().unregister_files()?;
    for bad in [9999, -2] {
        let error = rig.ring.submitter().register_files(&[fd, bad]).expect_err("a bad descriptor");
        assert_eq!(error.raw_os_error(), Some(libc::EBADF), "{error}");
    }
    rig.ring.submitter().register_files(&[fd])?;
    Ok(())
}

fn a_write_to_a_read_only_file_is_a_bad_descriptor(bench: &Bench) -> Outcome {
    if bench.is_device() {
        return skip("a device is not opened for reading only");
    }
    // A program that runs can be written by nobody, root included.
    let name = std::env::current_exe()?.to_string_lossy().into_owned();
    let mut rig = Bench { name, ..bench.clone() }.rig(4)?;
    assert!(rig.ring.target().read_only);
    let memory = rig.plain(4096);
    assert_eq!(rig.one(read(&memory, 0))?, 4096);
    expect_errno(rig.one(write(&memory, 0))?, libc::EBADF, "write");
    Ok(())
}

fn a_write_to_a_read_only_device_is_not_permitted(bench: &Bench) -> Outcome {
    let read_only = if bench.model.is_some() {
        let mut config = ModelConfig::ram(1 << 20)?;
        config.namespaces[0].write_protected = true;
        Bench { model: Some(Device::on(Arc::new(Model::stepped("model:read-only", config)))?), ..bench.clone() }
    } else if bench.is_device() {
        return skip("QEMU's namespaces can all be written");
    } else {
        match LoopDevice::new(1 << 20, true) {
            Ok(device) => return refuses_writes(&Bench { name: device.path().to_owned(), ..bench.clone() }),
            Err(reason) => return skip(reason),
        }
    };
    refuses_writes(&read_only)
}

fn refuses_writes(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    assert_eq!(rig.one(read(&memory, 0))?, 4096);
    expect_errno(rig.one(write(&memory, 0))?, libc::EPERM, "write");
    assert!(rig.ring.target().read_only, "the ring says so beforehand");
    Ok(())
}
