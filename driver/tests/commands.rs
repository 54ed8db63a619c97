//! NVMe commands of the program's own on the model: what it cannot do to others, and what failures make of it.

#![expect(unsafe_code)] // pushes entries whose buffers it owns

use std::sync::Arc;

use dmaring::abi::nvme::{NVME_URING_CMD_ADMIN, NVME_URING_CMD_IO, NvmeUringCmd};
use dmaring::model::{Action, Fault, Model, ModelConfig};
use dmaring::spec::status::Status;
use dmaring::{Device, Ring, RingBuilder};
use io_uring::cqueue::Entry32;
use io_uring::squeue::Entry128;
use io_uring::{opcode, types};

const FILE: types::Fixed = types::Fixed(0);
const READ: u8 = 0x02;

type CommandRing = Ring<Entry128, Entry32>;

fn ring(builder: impl FnOnce(RingBuilder) -> RingBuilder) -> (Model, CommandRing) {
    let model = Model::stepped("model:commands", ModelConfig::ram(8 << 20).unwrap());
    let device = Device::on(Arc::new(model.clone())).unwrap();
    let builder = builder(Ring::builder(8)).sqe128().cqe32();
    (model, builder.open_device(&device, 1).unwrap())
}

/// Runs one entry. Answers its result and what follows it.
fn run(ring: &mut CommandRing, entry: &Entry128) -> (i32, [u64; 2]) {
    // SAFETY: callers keep the buffers of their entries, and this waits for the completion.
    unsafe { ring.submission().push(entry).unwrap() };
    ring.submit_and_wait(1).unwrap();
    let cqe = ring.completion().next().unwrap();
    (cqe.result(), *cqe.big_cqe())
}

fn command(ring: &mut CommandRing, op: u32, command: &NvmeUringCmd) -> i32 {
    run(ring, &opcode::UringCmd80::new(FILE, op).cmd(command.bytes()).build()).0
}

/// Read of `blocks` into `len` bytes at `address`.
fn read(address: *mut u8, len: usize, blocks: u32) -> NvmeUringCmd {
    let (addr, data_len) = (address as u64, len as u32);
    NvmeUringCmd { opcode: READ, nsid: 1, addr, data_len, cdw12: blocks - 1, ..NvmeUringCmd::default() }
}

#[test]
fn a_command_that_moves_more_than_its_memory_holds_touches_no_other_memory() {
    let (_model, mut ring) = ring(|builder| builder);
    let mut buffer = ring.alloc(512 << 10).unwrap();
    let base = buffer.as_mut_ptr();
    buffer.fill(7);
    let write = opcode::Write::new(FILE, base, 512 << 10).build();
    assert_eq!(run(&mut ring, &write.into()).0, 512 << 10);
    buffer.fill(9);
    // The lists have held every page of the buffer. Up to three pages are named, 64 are read.
    for len in [4096, 8192, 12288] {
        // Data Transfer Error, or PRP Offset Invalid where the second page is taken for a list.
        let status = command(&mut ring, NVME_URING_CMD_IO, &read(base, len, 512)) & 0x7ff;
        assert!([0x04, 0x13].contains(&status), "{len} bytes: {status:#x}");
        let mut data = vec![0; 512 << 10];
        buffer.read(0, &mut data);
        assert!(data[len..].iter().all(|byte| *byte == 9), "beyond {len} bytes");
    }
    // Less than a page is not given to the device at all: it would read to the end of the page.
    let end = base.wrapping_add(65536);
    assert_eq!(command(&mut ring, NVME_URING_CMD_IO, &read(end, 512, 8)), 0);
    let mut data = [0; 4096];
    buffer.read(65536, &mut data);
    assert!(data[..512].iter().all(|byte| *byte == 7) && data[512..].iter().all(|byte| *byte == 9));
    assert_eq!(ring.stats().bounced_bytes, 512);
}

#[test]
fn without_bounce_memory_only_what_fits_in_place_is_passed() {
    let (_model, mut ring) = ring(|builder| builder.bounce_limit(0));
    let mut plain = vec![0u8; 8192];
    let plain = plain.as_mut_ptr();
    assert_eq!(command(&mut ring, NVME_URING_CMD_IO, &read(plain, 4096, 8)), -libc::EFAULT);
    let mut buffer = ring.alloc(8192).unwrap();
    let base = buffer.as_mut_ptr();
    assert_eq!(command(&mut ring, NVME_URING_CMD_IO, &read(base, 4096, 8)), 0);
    assert_eq!(command(&mut ring, NVME_URING_CMD_IO, &read(base.wrapping_add(512), 1024, 2)), 0);
    assert_eq!(command(&mut ring, NVME_URING_CMD_IO, &read(base.wrapping_add(2), 1024, 2)), -libc::EFAULT);
    let flush = NvmeUringCmd { nsid: 1, ..NvmeUringCmd::default() };
    assert_eq!(command(&mut ring, NVME_URING_CMD_IO, &flush), 0);
}

#[test]
fn every_bit_of_a_status_arrives() {
    let (model, mut ring) = ring(|builder| builder.admin_passthrough(true));
    let flush = NvmeUringCmd { nsid: 1, ..NvmeUringCmd::default() };
    let features = NvmeUringCmd { opcode: 0x0a, cdw10: 7, ..NvmeUringCmd::default() };
    for bits in [0x0001, 0x4002, 0x2285, 0x7fff] {
        let status = Status::from_bits(bits);
        model.fault(Fault::new(Action::Fail(status)));
        // The model has an entry in its error log for each.
        let expected = i32::from(bits | 0x2000);
        assert_eq!(command(&mut ring, NVME_URING_CMD_IO, &flush), expected);
        model.fault(Fault::new(Action::Fail(status)).admin());
        assert_eq!(command(&mut ring, NVME_URING_CMD_ADMIN, &features), expected);
    }
}

#[test]
fn commands_on_a_device_that_fails_end_with_an_errno() {
    for (action, errno) in [(Action::Fatal, libc::EIO), (Action::Gone, libc::ENODEV)] {
        let (model, mut io) = ring(|builder| builder);
        model.fault(Fault::new(action));
        let mut buffer = io.alloc(4096).unwrap();
        let base = buffer.as_mut_ptr();
        assert_eq!(command(&mut io, NVME_URING_CMD_IO, &read(base, 4096, 8)), -errno, "{action:?}");
        assert_eq!(command(&mut io, NVME_URING_CMD_IO, &read(base, 4096, 8)), -errno, "{action:?}, afterwards");
        let (model, mut admin) = ring(|builder| builder.admin_passthrough(true));
        model.fault(Fault::new(action).admin());
        let features = NvmeUringCmd { opcode: 0x0a, cdw10: 7, ..NvmeUringCmd::default() };
        assert_eq!(command(&mut admin, NVME_URING_CMD_ADMIN, &features), -errno, "{action:?}, an admin command");
        assert_eq!(command(&mut admin, NVME_URING_CMD_ADMIN, &features), -errno, "{action:?}, another");
    }
}

#[test]
fn admin_data_needs_a_list_from_the_third_page_on() {
    let (_model, mut ring) = ring(|builder| builder.admin_passthrough(true));
    for pages in [1, 2, 3, 100] {
        let mut data = vec![0u8; pages * 4096];
        // Identify fills the first page, wherever the list says that it is.
        let identify = NvmeUringCmd {
            opcode: 0x06,
            addr: data.as_mut_ptr() as u64,
            data_len: data.len() as u32,
            cdw10: 1,
            ..NvmeUringCmd::default()
        };
        assert_eq!(command(&mut ring, NVME_URING_CMD_ADMIN, &identify), 0, "{pages} pages");
        assert_eq!((data[512], data[513]), (0x66, 0x44), "{pages} pages");
        assert!(data[4096..].iter().all(|byte| *byte == 0));
    }
    let mut data = vec![0u8; 4096];
    let long = NvmeUringCmd { opcode: 0x06, addr: data.as_mut_ptr() as u64, data_len: 1 << 20, ..Default::default() };
    assert_eq!(command(&mut ring, NVME_URING_CMD_ADMIN, &long), -libc::EINVAL, "longer than the longest transfer");
}
