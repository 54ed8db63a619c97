//! What the model knows of its own state: the counters of the SMART log and the error log.

use std::collections::VecDeque;
use std::time::Instant;

use crate::spec::command::{Command, nvm};
use crate::spec::status::Status;

/// Entries that the error log keeps; ELPE says so, 0's based. More than fit into a page.
pub(super) const ERROR_LOG_ENTRIES: usize = 100;
/// Bytes of an entry.
const ENTRY_BYTES: usize = 64;
/// Bytes of the SMART / Health Information log.
const SMART_BYTES: usize = 512;
/// Warning and critical composite temperature, in kelvin: 70 °C and 80 °C.
pub(super) const WCTEMP: u16 = 343;
pub(super) const CCTEMP: u16 = 353;
/// 30 °C.
const TEMPERATURE: u16 = 303;
/// Critical Warning: the temperature is beyond a threshold.
const WARNING_TEMPERATURE: u8 = 1 << 1;

/// Counters since the model was made; resets and power cuts keep them.
#[derive(Debug)]
pub(super) struct Health {
    /// Composite temperature, in kelvin.
    pub(super) temperature: u16,
    /// Over and under temperature threshold (feature 04h), in kelvin.
    pub(super) thresholds: [u16; 2],
    pub(super) power_cycles: u64,
    pub(super) unsafe_shutdowns: u64,
    made: Instant,
    /// Of 512 bytes.
    units_read: u64,
    units_written: u64,
    read_commands: u64,
    write_commands: u64,
    media_errors: u64,
    errors: u64,
    /// The latest first.
    log: VecDeque<[u8; ENTRY_BYTES]>,
}

impl Health {
    pub(super) fn new() -> Self {
        Self {
            temperature: TEMPERATURE,
            thresholds: [WCTEMP, 0],
            power_cycles: 1,
            unsafe_shutdowns: 0,
            made: Instant::now(),
            units_read: 0,
            units_written: 0,
            read_commands: 0,
            write_commands: 0,
            media_errors: 0,
            errors: 0,
            log: VecDeque::new(),
        }
    }

    /// Counts an I/O command that was carried out (NVM section 4.1.4.2: Compare and Read are reads, Write is a
    /// write, nothing else moves user data).
    pub(super) fn count(&mut self, command: &Command, block_shift: u8) {
        let units = || (u64::from(command.cdw12 & 0xffff) + 1) << block_shift.saturating_sub(9);
        match command.cdw0 as u8 {
            nvm::READ | nvm::COMPARE => {
                self.units_read += units();
                self.read_commands += 1;
            }
            nvm::WRITE => {
                self.units_written += units();
                self.write_commands += 1;
            }
            _ => {}
        }
    }

    /// Notes a command that failed (figure 206).
    pub(super) fn note_failure(&mut self, qid: u16, command: &Command, status: Status) {
        // Media and data integrity errors, but not data that merely differ or may not be had.
        let code = Status::from_bits(status.bits() & 0x7ff);
        let harmless = matches!(code, Status::COMPARE_FAILURE | Status::ACCESS_DENIED | Status::UNWRITTEN_BLOCK);
        self.media_errors += u64::from(status.sct() == 2 && !harmless);
        let lba = if qid == 0 { 0 } else { u64::from(command.cdw10) | u64::from(command.cdw11) << 32 };
        self.note(qid, (command.cdw0 >> 16) as u16, status, lba, command.nsid);
    }

    /// Notes an error that belongs to no command, on a submission queue.
    pub(super) fn note_stray(&mut self, qid: u16) {
        self.note(qid, 0xffff, Status::SUCCESS, 0, 0);
    }

    fn note(&mut self, qid: u16, cid: u16, status: Status, lba: u64, nsid: u32) {
        self.errors += 1;
        let mut entry = [0; ENTRY_BYTES];
        entry[..8].copy_from_slice(&self.errors.to_le_bytes());
        entry[8..10].copy_from_slice(&qid.to_le_bytes());
        entry[10..12].copy_from_slice(&cid.to_le_bytes());
        entry[12..14].copy_from_slice(&(status.bits() << 1).to_le_bytes());
        // No particular byte or bit of the command is to blame.
        entry[14..16].copy_from_slice(&0xffffu16.to_le_bytes());
        entry[16..24].copy_from_slice(&lba.to_le_bytes());
        entry[24..28].copy_from_slice(&nsid.to_le_bytes());
        self.log.truncate(ERROR_LOG_ENTRIES - 1);
        self.log.push_front(entry);
    }

    /// Critical Warning, as the SMART log and its events have it.
    pub(super) fn warnings(&self) -> u8 {
        let [over, under] = self.thresholds;
        if self.temperature >= over || self.temperature <= under { WARNING_TEMPERATURE } else { 0 }
    }

    /// Error Information (section 5.16.1.2): as many entries as ELPE says, those that are not used zero.
    pub(super) fn error_log(&self) -> Vec<u8> {
        let mut page: Vec<u8> = self.log.iter().flatten().copied().collect();
        page.resize(ERROR_LOG_ENTRIES * ENTRY_BYTES, 0);
        page
    }

    /// SMART / Health Information (section 5.16.1.3).
    pub(super) fn smart(&self) -> Vec<u8> {
        let mut page = vec![0; SMART_BYTES];
        page[0] = self.warnings();
        page[1..3].copy_from_slice(&self.temperature.to_le_bytes());
        // Available spare and its threshold, in percent.
        page[3] = 100;
        page[4] = 10;
        let mut counter = |at: usize, value: u64| page[at..at + 8].copy_from_slice(&value.to_le_bytes());
        counter(32, self.units_read.div_ceil(1000));
        counter(48, self.units_written.div_ceil(1000));
        counter(64, self.read_commands);
        counter(80, self.write_commands);
        counter(112, self.power_cycles);
        counter(128, self.made.elapsed().as_secs() / 3600);
        counter(144, self.unsafe_shutdowns);
        counter(160, self.media_errors);
        counter(176, self.errors);
        page
    }
}
