//! What the device's ring refuses so far, though the kernel does not.

use io_uring::opcode;

use crate::case::{Bench, Case, Outcome, cases};
use crate::support::raw::edit;
use crate::support::rig::expect_errno;

pub(super) const ALL: &[Case] = cases![other_opcodes_are_not_supported_yet, descriptors_of_files_are_not_supported_yet];

fn other_opcodes_are_not_supported_yet(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    for number in [6, 9, 18, 27, 47, 62] {
        let entry = edit(opcode::Nop::new().build(), |bytes| bytes[0] = number);
        expect_errno(rig.one(entry)?, libc::EOPNOTSUPP, &format!("opcode {number}"));
    }
    Ok(())
}

fn descriptors_of_files_are_not_supported_yet(bench: &Bench) -> Outcome {
    let mut rig = bench.rig(4)?;
    let memory = rig.plain(4096);
    let file = std::fs::File::open("/proc/self/exe")?;
    let fd = io_uring::types::Fd(std::os::fd::AsRawFd::as_raw_fd(&file));
    let entry = opcode::Read::new(fd, memory.ptr(), 4096).offset(0).build();
    expect_errno(rig.one(entry)?, libc::EOPNOTSUPP, "a file of the kernel's");
    Ok(())
}
