//! What a controller says of its health, through the driver.

#![expect(unsafe_code)] // pushes entries whose buffers it owns

use std::sync::Arc;

use dmaring::model::{Action, Fault, Model, ModelConfig};
use dmaring::spec::command::{admin, nvm};
use dmaring::spec::log::ErrorEntry;
use dmaring::spec::status::Status;
use dmaring::{Device, DmaBuf, Error, Ring};
use io_uring::{opcode, squeue, types};

fn open() -> (Model, Device) {
    let model = Model::stepped("model:health", ModelConfig::ram(8 << 20).unwrap());
    let device = Device::on(Arc::new(model.clone())).unwrap();
    (model, device)
}

/// Runs one entry and answers its result.
fn run(ring: &mut Ring, entry: &squeue::Entry) -> i32 {
    // SAFETY: callers keep the buffers of their entries until this returns.
    unsafe { ring.submission().push(entry).unwrap() };
    ring.submit_and_wait(1).unwrap();
    ring.completion().next().unwrap().result()
}

/// Runs `count` flushes of which each fails with `status`.
fn fail(model: &Model, device: &Device, count: u32, status: Status) {
    model.fault(Fault::new(Action::Fail(status)).opcode(nvm::FLUSH).times(count));
    let mut ring = Ring::builder(8).open_device(device, 1).unwrap();
    for _ in 0..count {
        let flush = opcode::Fsync::new(types::Fixed(0)).build();
        assert_eq!(run(&mut ring, &flush), -status.errno());
    }
}

#[test]
fn smart_counts_what_the_driver_did() {
    let (model, device) = open();
    let fresh = device.smart().unwrap();
    assert_eq!((fresh.temperature_celsius(), fresh.available_spare_percent), (Some(30), 100));
    assert_eq!((fresh.host_read_commands, fresh.bytes_written(), fresh.power_cycles), (0, 0, 1));
    fail(&model, &device, 3, Status::UNRECOVERED_READ_ERROR);
    let after = device.smart().unwrap();
    assert_eq!((after.media_errors, after.error_log_entries), (3, 3));
    model.set_temperature(353);
    let names: Vec<_> = device.smart().unwrap().critical_warning.names().collect();
    assert_eq!(names, ["temperature is beyond a threshold"]);
}

#[test]
fn the_error_log_is_read_page_by_page() {
    let (model, device) = open();
    let entries = u64::from(device.info().identify.elpe) + 1;
    assert!(entries > 64, "more than a page");
    for (failures, in_all) in [(1, 1), (63, 64), (1, 65), (40, 105)] {
        fail(&model, &device, failures, Status::WRITE_FAULT);
        let log = device.error_log().unwrap();
        let counts: Vec<u64> = log.iter().map(|entry| entry.error_count).collect();
        let oldest = (in_all - entries.min(in_all)) + 1;
        assert_eq!(counts, (oldest..=in_all).rev().collect::<Vec<_>>());
        let of_flush = |entry: &ErrorEntry| (entry.sq_id, entry.nsid, entry.status.errno()) == (1, 1, libc::ENODATA);
        assert!(log.iter().all(of_flush), "{log:?}");
    }
}

#[test]
fn a_controller_that_refuses_a_log_page_is_as_usable_as_before() {
    let (model, device) = open();
    for _ in 0..2 {
        model.fault(Fault::new(Action::Fail(Status::INVALID_LOG_PAGE)).admin().opcode(admin::GET_LOG_PAGE));
        let refused = device.smart().unwrap_err();
        assert!(matches!(refused, Error::Admin { opcode: 2, .. }), "{refused}");
        assert!(refused.to_string().contains("invalid log page"), "{refused}");
        assert_eq!(refused.errno(), libc::EIO);
        device.smart().unwrap();
    }
    model.fault(Fault::new(Action::Gone).admin());
    assert!(device.smart().is_err());
    assert!(matches!(device.error_log(), Err(Error::Gone { .. })));
}

/// A ring with a page of its own.
struct Page {
    ring: Ring,
    page: DmaBuf,
}

impl Page {
    fn open(device: &Device) -> Self {
        let ring = Ring::builder(8).open_device(device, 1).unwrap();
        Self { page: ring.alloc(4096).unwrap(), ring }
    }

    fn run(&mut self, entry: &squeue::Entry) -> i32 {
        run(&mut self.ring, entry)
    }

    fn write(&mut self, fill: u8) -> i32 {
        self.page.fill(fill);
        let write = opcode::Write::new(types::Fixed(0), self.page.as_ptr(), 4096).offset(0).build();
        self.run(&write)
    }

    fn read(&mut self) -> i32 {
        let read = opcode::Read::new(types::Fixed(0), self.page.as_mut_ptr(), 4096).offset(0).build();
        self.run(&read)
    }
}

#[test]
fn acknowledged_and_flushed_data_outlive_a_power_cut() {
    let config = ModelConfig { power_cuts: true, ..ModelConfig::ram(8 << 20).unwrap() };
    let model = Model::threaded("model:health", config).unwrap();
    let device = Device::on(Arc::new(model.clone())).unwrap();
    let mut page = Page::open(&device);
    assert_eq!(page.write(1), 4096);
    assert_eq!(page.run(&opcode::Fsync::new(types::Fixed(0)).build()), 0);
    assert_eq!(page.write(2), 4096);
    model.power_cut().unwrap();
    // The controller has forgotten its queues: whatever comes now ends with an error, and soon.
    assert_eq!(page.read(), -libc::EIO);
    drop((page, device));
    let device = Device::on(Arc::new(model)).unwrap();
    let mut page = Page::open(&device);
    assert_eq!(page.read(), 4096);
    let mut data = [0; 4096];
    page.page.read(0, &mut data);
    assert_eq!(data, [1; 4096]);
    assert_eq!(device.smart().unwrap().unsafe_shutdowns, 1);
}
