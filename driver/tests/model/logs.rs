//! Get Log Page, the SMART counters and the error log.

use dmaring::model::{Action, Fault, ModelConfig, ModelNamespace, Storage};
use dmaring::spec::command::{Command, admin, nvm};
use dmaring::spec::identify::{CNS_CONTROLLER, IdentifyController};
use dmaring::spec::log::{CriticalWarning, ERROR_INFORMATION, ErrorEntry, FIRMWARE_SLOT, SMART, SmartLog};
use dmaring::spec::status::Status;

use super::host::Host;

fn host() -> Host {
    Host::new(ModelConfig::ram(8 << 20).unwrap())
}

fn smart(host: &mut Host) -> SmartLog {
    SmartLog::decode(host.log(SMART, 0, 512).unwrap().first_chunk().unwrap())
}

fn errors(host: &mut Host) -> Vec<ErrorEntry> {
    let page = host.log(ERROR_INFORMATION, 0, 6400).unwrap();
    page.as_chunks().0.iter().filter_map(ErrorEntry::decode).collect()
}

#[test]
fn parts_of_a_page_are_the_page() {
    let mut host = host();
    host.io(nvm::READ, 0, 8, 0).unwrap();
    let whole = host.log(SMART, 0, 512).unwrap();
    for (offset, bytes) in [(0, 4), (4, 508), (32, 16), (508, 4), (256, 256)] {
        let part = host.log(SMART, offset, bytes).unwrap();
        assert_eq!(part, whole[offset as usize..][..bytes as usize], "{bytes} bytes from {offset}");
    }
    let beyond = host.log(SMART, 500, 8192 - 512).unwrap();
    assert_eq!(beyond[..12], whole[500..]);
    assert!(beyond[12..].iter().all(|byte| *byte == 0), "nothing lies beyond the end");
    assert_eq!(host.log(SMART, 512, 4), Ok(vec![0; 4]), "the end itself is an offset");
}

#[test]
fn what_is_wrong_with_a_request_has_its_status() {
    let mut host = host();
    assert_eq!(host.log(SMART, 516, 4), Err(Status::INVALID_FIELD), "beyond the end");
    assert_eq!(host.log(SMART, u64::MAX - 3, 4), Err(Status::INVALID_FIELD));
    assert_eq!(host.log(SMART, 2, 4), Err(Status::INVALID_FIELD), "not a multiple of a dword");
    for lid in [0, 0x05, 0x7f, 0xc0, 0xff] {
        assert_eq!(host.log(lid, 0, 4), Err(Status::INVALID_LOG_PAGE), "log {lid:#x}");
    }
    let page = |host: &Host| Command::get_log_page(SMART, 0, 512, host.data.iova());
    let of_namespace = Command { nsid: 1, ..page(&host) };
    assert_eq!(host.admin(of_namespace), Err(Status::INVALID_FIELD), "LPA says that there is none");
    let by_index = Command { cdw14: 1 << 23, ..page(&host) };
    assert_eq!(host.admin(by_index), Err(Status::INVALID_FIELD));
    let unmapped = Command { prp1: 1 << 38, ..page(&host) };
    assert_eq!(host.admin(unmapped), Err(Status::DATA_TRANSFER_ERROR));
    let long = Command::get_log_page(SMART, 0, (512 << 10) + 4, host.data.iova());
    assert_eq!(host.admin(long), Err(Status::INVALID_FIELD), "longer than MDTS");
    let longest = Command { cdw10: 0xffff << 16 | u32::from(SMART), cdw11: 0xffff, ..page(&host) };
    assert_eq!(host.admin(longest), Err(Status::INVALID_FIELD));
}

#[test]
fn data_are_counted_in_thousands_of_512_bytes_rounded_up() {
    for shift in [9, 12] {
        let namespace = ModelNamespace::new(Storage::ram(8 << 20).unwrap()).block_shift(shift);
        let mut host = Host::new(ModelConfig::new(vec![namespace]));
        assert_eq!((smart(&mut host).data_units_read, smart(&mut host).host_read_commands), (0, 0));
        let blocks = 8192u32 >> shift;
        for done in 1..=100u128 {
            host.io(nvm::WRITE, 0, blocks as u16, 0).unwrap();
            host.io(nvm::READ, 0, blocks as u16, 0).unwrap();
            host.io(nvm::COMPARE, 0, blocks as u16, 0).unwrap();
            let smart = smart(&mut host);
            assert_eq!((smart.host_write_commands, smart.host_read_commands), (done, 2 * done));
            assert_eq!(smart.data_units_written, (done * 16).div_ceil(1000));
            assert_eq!(smart.data_units_read, (done * 32).div_ceil(1000));
        }
        // Neither moves user data.
        host.io(nvm::FLUSH, 0, 1, 0).unwrap();
        host.io(nvm::WRITE_ZEROES, 0, 1, 0).unwrap();
        let smart = smart(&mut host);
        assert_eq!((smart.host_write_commands, smart.error_log_entries, smart.media_errors), (100, 0, 0));
    }
}

#[test]
fn failures_are_counted_and_logged_with_what_failed() {
    let mut host = host();
    host.model.fault(Fault::new(Action::Fail(Status::UNRECOVERED_READ_ERROR)));
    let bad = host.send(1, host.command(nvm::READ, 0x12_3456, 1, 0));
    host.take(1);
    assert_eq!(host.io(nvm::READ, 1 << 40, 1, 0), Err(Status::LBA_OUT_OF_RANGE));
    assert_eq!(host.admin(Command::new(0x55)), Err(Status::INVALID_OPCODE));
    let entries = errors(&mut host);
    let seen: Vec<_> =
        entries.iter().map(|e| (e.error_count, e.sq_id, e.status.bits() & 0x7ff, e.lba, e.nsid)).collect();
    let code = |status: Status| status.bits();
    assert_eq!(
        seen,
        [
            (3, 0, code(Status::INVALID_OPCODE), 0, 0),
            (2, 1, code(Status::LBA_OUT_OF_RANGE), 1 << 40, 1),
            (1, 1, code(Status::UNRECOVERED_READ_ERROR), 0x12_3456, 1),
        ],
        "the latest first"
    );
    assert_eq!(entries[2].cid, bad);
    let smart = smart(&mut host);
    assert_eq!((smart.media_errors, smart.error_log_entries), (1, 3), "only one of them is of the media");
    assert_eq!(smart.data_units_read, 0, "what failed moved nothing");
}

#[test]
fn the_log_keeps_as_many_entries_as_it_says() {
    let mut host = host();
    host.admin(Command { prp1: host.data.iova(), ..Command::identify(CNS_CONTROLLER, 0, 0) }).unwrap();
    let identify = IdentifyController::decode(host.data.read(4096).first_chunk().unwrap());
    let most = u64::from(identify.elpe) + 1;
    assert_eq!(most * 64, 6400);
    assert_eq!(host.log(ERROR_INFORMATION, 6404, 4), Err(Status::INVALID_FIELD));
    host.enable();
    assert!(identify.has_log_page_offsets());
    for _ in 0..most + 7 {
        host.io(nvm::READ, 1 << 40, 1, 0).unwrap_err();
    }
    let counts: Vec<_> = errors(&mut host).iter().map(|e| e.error_count).collect();
    assert_eq!(counts, (9..=most + 8).rev().collect::<Vec<_>>());
    // They outlive a reset.
    host.enable();
    assert_eq!(errors(&mut host).len() as u64, most);
}

#[test]
fn the_firmware_slot_that_is_active_has_the_revision_of_identify() {
    let mut host = host();
    host.admin(Command { prp1: host.data.iova(), ..Command::identify(CNS_CONTROLLER, 0, 0) }).unwrap();
    let identify = host.data.read(4096);
    let page = host.log(FIRMWARE_SLOT, 0, 512).unwrap();
    assert_eq!(page[0], 1, "slot 1, and no other at the next reset");
    assert_eq!(page[8..16], identify[64..72]);
    assert!(page[16..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_temperature_beyond_its_threshold_is_a_critical_warning() {
    let mut host = host();
    assert_eq!(smart(&mut host).critical_warning, CriticalWarning(0));
    let threshold =
        |kelvin: u32, select: u32| Command { cdw10: 0x04, cdw11: select | kelvin, ..Command::new(admin::SET_FEATURES) };
    for (kelvin, warned) in [(342, false), (343, true), (400, true), (303, false), (0, true)] {
        host.model.set_temperature(kelvin);
        let smart = smart(&mut host);
        assert_eq!((smart.temperature_kelvin, smart.critical_warning.0 == 2), (kelvin, warned));
    }
    host.model.set_temperature(300);
    for (command, warned) in
        [(threshold(300, 0), true), (threshold(310, 0xf << 16), false), (threshold(300, 1 << 20), true)]
    {
        host.admin(command).unwrap();
        assert_eq!(smart(&mut host).critical_warning.0 == 2, warned);
    }
    let get = |select: u32| Command { cdw10: 0x04, cdw11: select, ..Command::new(admin::GET_FEATURES) };
    assert_eq!((host.admin(get(0)), host.admin(get(1 << 20))), (Ok(310), Ok(300)));
    for select in [1 << 16, 0xf << 16, 2 << 20, 3 << 20] {
        assert_eq!(host.admin(get(select)), Err(Status::INVALID_FIELD), "{select:#x}");
    }
}
