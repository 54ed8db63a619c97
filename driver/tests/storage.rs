//! What is behind a model's namespace, and what becomes of a ring when it is not what it was: sizes that
//! cannot be, a file that shrinks, a namespace of another size.

#![expect(unsafe_code)] // pushes entries whose buffers it owns

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use dmaring::abi::entry::Sqe;
use dmaring::abi::op::{BLOCK_URING_CMD_DISCARD, IOSQE_FIXED_FILE};
use dmaring::model::{Model, ModelConfig, ModelNamespace, Storage};
use dmaring::spec::log::ErrorEntry;
use dmaring::spec::status::Status;
use dmaring::{Device, DmaBuf, Error, Ring};
use io_uring::{opcode, squeue, types};
use tempfile::NamedTempFile;

const FILE: types::Fixed = types::Fixed(0);
const PAGE: usize = 4096;

/// A ring with memory of its own, which is registered as well.
struct Rig {
    ring: Ring,
    memory: DmaBuf,
}

impl Rig {
    fn new(device: &Device) -> Self {
        let ring = Ring::builder(8).open_device(device, 1).unwrap();
        let mut memory = ring.alloc(4 * PAGE).unwrap();
        let iovec = libc::iovec { iov_base: memory.as_mut_ptr().cast(), iov_len: 4 * PAGE };
        // SAFETY: the ring's memory lives as long as the ring.
        unsafe { ring.submitter().register_buffers(&[iovec]).unwrap() };
        Self { ring, memory }
    }

    fn run(&mut self, entry: &squeue::Entry) -> i32 {
        // SAFETY: the memory lives as long as the ring.
        unsafe { self.ring.submission().push(entry).unwrap() };
        self.ring.submit_and_wait(1).unwrap();
        self.ring.completion().next().unwrap().result()
    }

    /// By the straight line and by the general path, which agree.
    fn read(&mut self, offset: u64, len: usize) -> i32 {
        let (memory, len) = (self.memory.as_mut_ptr(), len as u32);
        let fixed = self.run(&opcode::ReadFixed::new(FILE, memory, len, 0).offset(offset).build());
        assert_eq!(self.run(&opcode::Read::new(FILE, memory, len).offset(offset).build()), fixed);
        fixed
    }

    fn write(&mut self, offset: u64, len: usize, fill: u8) -> i32 {
        self.memory.fill(fill);
        let (memory, len) = (self.memory.as_mut_ptr(), len as u32);
        let fixed = self.run(&opcode::WriteFixed::new(FILE, memory, len, 0).offset(offset).build());
        assert_eq!(self.run(&opcode::Write::new(FILE, memory, len).offset(offset).build()), fixed);
        fixed
    }

    fn discard(&mut self, offset: u64, len: u64) -> i32 {
        let (off, flags) = (BLOCK_URING_CMD_DISCARD.into(), IOSQE_FIXED_FILE);
        self.run(&Sqe { opcode: 46, flags, off, addr: offset, addr3: len, ..Sqe::default() }.into())
    }

    fn bytes(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read(0, &mut bytes);
        bytes
    }
}

fn device(storage: Storage, threaded: bool) -> (Model, Device) {
    let config = ModelConfig::new(vec![ModelNamespace::new(storage)]);
    let model = if threaded {
        Model::threaded("model:storage", config).unwrap()
    } else {
        Model::stepped("model:storage", config)
    };
    let device = Device::on(Arc::new(model.clone())).unwrap();
    (model, device)
}

#[test]
fn sizes_that_cannot_be_are_refused_with_what_can() {
    for bytes in [0, u64::MAX, 1 << 60] {
        let error = Storage::ram(bytes).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("the machine's memory"), "{error}");
        assert!(ModelConfig::ram(bytes).is_err());
    }
    let empty = NamedTempFile::new().unwrap();
    assert!(Storage::file(empty.path()).unwrap_err().to_string().contains("empty"));
    assert!(Storage::file(std::path::Path::new("/nonexistent")).is_err());
    let error = Device::open("model:0").unwrap_err();
    assert!(error.to_string().contains("model:256MiB"), "{error}");
    assert_eq!(error.errno(), libc::EINVAL);
}

#[test]
fn a_namespace_without_a_block_is_listed_as_unusable() {
    for storage in [Storage::null(0), Storage::ram(511).unwrap()] {
        let (_model, device) = device(storage, false);
        assert_eq!(device.namespaces(), []);
        let error = Ring::builder(8).open_device(&device, 1).unwrap_err();
        assert!(matches!(error, Error::Unusable { .. }) && error.to_string().contains("0 blocks"), "{error}");
    }
    // What is less than a block at the end is not there.
    let (_model, device) = device(Storage::ram(1535).unwrap(), false);
    assert_eq!(device.namespaces()[0].blocks, 2);
}

#[test]
fn values_that_no_controller_reports_panic_nowhere() {
    for (entries, pairs, shift, mdts, dstrd) in
        [(0, 0, 9, 0, 0), (u16::MAX, u16::MAX, 200, 255, 0), (2, 1, 9, 64, 200), (2, 1, 0, 52, 3)]
    {
        let namespace = ModelNamespace::new(Storage::ram(1 << 20).unwrap()).block_shift(shift);
        let (queue_entries, queue_pairs) = (entries, pairs);
        let config = ModelConfig { queue_entries, queue_pairs, mdts, dstrd, ..ModelConfig::new(vec![namespace]) };
        // Some can be driven, the others are refused.
        if let Ok(device) = Device::on(Arc::new(Model::stepped("model:storage", config)))
            && !device.namespaces().is_empty()
        {
            let mut rig = Rig::new(&device);
            assert_eq!(rig.write(0, PAGE, 1), PAGE as i32);
        }
    }
}

#[test]
fn a_file_that_shrinks_fails_what_it_has_lost_and_nothing_else() {
    for threaded in [false, true] {
        let file = NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let (_model, device) = device(Storage::file(file.path()).unwrap(), threaded);
        let mut rig = Rig::new(&device);
        for page in 0..256 {
            assert_eq!(rig.write(page * PAGE as u64, PAGE, 1 + page as u8 % 100), PAGE as i32);
        }
        let end = 128 * PAGE as u64;
        file.as_file().set_len(end).unwrap();
        for offset in [end, end + 4 * PAGE as u64, (1 << 20) - PAGE as u64] {
            assert_eq!(rig.read(offset, PAGE), -libc::ENODATA, "read at {offset:#x}");
            assert_eq!(rig.write(offset, PAGE, 9), -libc::ENODATA, "write at {offset:#x}");
            assert_eq!(rig.discard(offset, PAGE as u64), -libc::ENODATA, "discard at {offset:#x}");
        }
        // What reaches across the end fails as a whole.
        assert_eq!(rig.read(end - PAGE as u64, 2 * PAGE), -libc::ENODATA);
        assert_eq!(rig.write(end - PAGE as u64, 2 * PAGE, 9), -libc::ENODATA);
        assert_eq!(rig.run(&opcode::Fsync::new(FILE).build()), 0);
        assert_eq!(file.as_file().metadata().unwrap().len(), end, "nobody has made it longer again");
        for page in 0..128u64 {
            assert_eq!(rig.read(page * PAGE as u64, PAGE), PAGE as i32);
            assert_eq!(rig.bytes(PAGE), [1 + page as u8 % 100; PAGE], "page {page}");
        }
        // The controller says so too: the first failure of each kind, with its block.
        let (smart, log) = (device.smart().unwrap(), device.error_log().unwrap());
        assert_eq!((smart.media_errors, log.len()), (3 * 5 + 4, 3 * 5 + 4));
        let known = |entry: &ErrorEntry| (entry.lba, entry.status.bits() & 0x7ff);
        let (read, write) = (Status::UNRECOVERED_READ_ERROR.bits(), Status::WRITE_FAULT.bits());
        let first = end / 512;
        assert_eq!((known(&log[18]), known(&log[16])), ((first, read), (first, write)));
        // Whoever gives it back its length gives it back.
        file.as_file().set_len(1 << 20).unwrap();
        assert_eq!(rig.read(end, PAGE), PAGE as i32);
        assert_eq!(rig.bytes(PAGE), [0; PAGE]);
        assert_eq!(rig.write(end, PAGE, 9), PAGE as i32);
        let mut data = [0; PAGE];
        file.as_file().read_exact_at(&mut data, end).unwrap();
        assert_eq!(data, [9; PAGE]);
    }
}

#[test]
fn a_file_that_is_emptied_or_removed_ends_no_ring() {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    let (_model, device) = device(Storage::file(file.path()).unwrap(), true);
    let mut rig = Rig::new(&device);
    file.as_file().set_len(0).unwrap();
    assert_eq!(rig.read(0, PAGE), -libc::ENODATA);
    assert_eq!(rig.write(0, PAGE, 1), -libc::ENODATA);
    file.as_file().set_len(1 << 20).unwrap();
    fs::remove_file(file.path()).unwrap();
    assert_eq!(rig.write(0, PAGE, 1), PAGE as i32, "the file is there as long as it is open");
    assert_eq!(rig.read(0, PAGE), PAGE as i32);
}

#[test]
fn a_namespace_that_was_made_smaller_answers_as_one() {
    let (model, device) = device(Storage::ram(1 << 20).unwrap(), false);
    let mut rig = Rig::new(&device);
    assert_eq!(rig.write(0, PAGE, 1), PAGE as i32);
    model.resize(1, 1 << 19).unwrap();
    assert_eq!(rig.read(1 << 19, PAGE), -libc::EREMOTEIO, "as the kernel's driver for LBA out of range");
    assert_eq!(rig.write((1 << 20) - PAGE as u64, PAGE, 1), -libc::EREMOTEIO);
    assert_eq!(rig.read(0, PAGE), PAGE as i32);
    assert_eq!(rig.bytes(PAGE), [1; PAGE]);
    drop((rig, device));
    let again = Device::on(Arc::new(model)).unwrap();
    assert_eq!(again.namespaces()[0].size_bytes(), 1 << 19);
}
