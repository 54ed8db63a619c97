//! What programs have had in them, and what they should have had.

use std::collections::BTreeMap;
use std::fmt;

use super::feature::Feature::{self, *};
use super::feature::Features;
use super::names::{self, CQE_FLAGS, SETUP_FLAGS, SKIP, SQE_FLAGS, of_opcode, of_result};
use super::program::{Entry, Program};
use super::run::Record;

/// Programs from which on nothing may be missing.
const ENOUGH: u64 = 300;

/// Counts by kind and name.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    counts: BTreeMap<(&'static str, String), u64>,
    programs: u64,
    entries: u64,
    succeeded: u64,
}

const OPCODE: &str = "opcode";
const FLAG: &str = "flag";
const OP_FLAG: &str = "flag of an operation";
const SETUP: &str = "set-up";
const RESULT: &str = "result";
const CQE_FLAG: &str = "flag of a completion";
const ENTER: &str = "enter";

/// What programs with a feature have in them sooner or later.
const EXPECTED: &[(&[Feature], &str, &[&str])] = &[
    (&[], OPCODE, &["NOP", "READ", "WRITE", "READV", "WRITEV", "READ_FIXED", "WRITE_FIXED", "FSYNC"]),
    (&[FixedVectors], OPCODE, &["READV_FIXED", "WRITEV_FIXED"]),
    (&[Fallocate], OPCODE, &["FALLOCATE"]),
    (&[Advice], OPCODE, &["FADVISE", "SYNC_FILE_RANGE"]),
    (&[Timeouts], OPCODE, &["TIMEOUT", "TIMEOUT_REMOVE"]),
    (&[Links, LinkTimeouts], OPCODE, &["LINK_TIMEOUT"]),
    (&[Cancels], OPCODE, &["ASYNC_CANCEL"]),
    (&[Files], OPCODE, &["FILES_UPDATE"]),
    (&[Groups], OPCODE, &["PROVIDE_BUFFERS", "REMOVE_BUFFERS"]),
    (&[Malformed], OPCODE, &["unknown"]),
    (&[], FLAG, &["FIXED_FILE"]),
    (&[Links], FLAG, &["IO_LINK"]),
    (&[Links, HardLinks], FLAG, &["IO_HARDLINK"]),
    (&[Drains], FLAG, &["IO_DRAIN"]),
    (&[Skips], FLAG, &["CQE_SKIP_SUCCESS"]),
    (&[Async], FLAG, &["ASYNC"]),
    (&[Groups], FLAG, &["BUFFER_SELECT"]),
    (&[BufferRings], FLAG, &["BUFFER_SELECT"]),
    (&[], OP_FLAG, &["NOP INJECT_RESULT", "FSYNC DATASYNC", "READ DSYNC", "WRITE DSYNC", "WRITE SYNC", "WRITE APPEND"]),
    (&[NopFlags], OP_FLAG, &["NOP FILE", "NOP FIXED_FILE", "NOP FIXED_BUFFER", "NOP TW"]),
    (
        &[Timeouts],
        OP_FLAG,
        &["TIMEOUT ABS", "TIMEOUT BOOTTIME", "TIMEOUT REALTIME", "TIMEOUT ETIME_SUCCESS", "TIMEOUT MULTISHOT"],
    ),
    (&[Timeouts], OP_FLAG, &["TIMEOUT_REMOVE UPDATE"]),
    (&[Timeouts, Links, LinkTimeouts], OP_FLAG, &["TIMEOUT_REMOVE LINK_UPDATE"]),
    (
        &[Cancels],
        OP_FLAG,
        &[
            "ASYNC_CANCEL ALL",
            "ASYNC_CANCEL FD",
            "ASYNC_CANCEL ANY",
            "ASYNC_CANCEL FD_FIXED",
            "ASYNC_CANCEL USERDATA",
            "ASYNC_CANCEL OP",
        ],
    ),
    (&[SubmitAll], SETUP, &["SUBMIT_ALL"]),
    (&[TaskRun], SETUP, &["COOP_TASKRUN", "TASKRUN_FLAG", "SINGLE_ISSUER", "DEFER_TASKRUN"]),
    (&[], RESULT, &["everything", "0"]),
    (&[Bounds], RESULT, &["less", "-ENOSPC"]),
    (&[Malformed], RESULT, &["-EINVAL", "-EBADF", "-EFAULT", "-EOPNOTSUPP"]),
    (&[Links], RESULT, &["-ECANCELED"]),
    (&[Timeouts], RESULT, &["-ETIME", "-ENOENT", "-ECANCELED"]),
    (&[Cancels], RESULT, &["-ENOENT"]),
    (&[Groups], RESULT, &["-ENOBUFS"]),
    (&[Skips], RESULT, &["none"]),
    (&[Groups], CQE_FLAG, &["F_BUFFER"]),
    (&[BufferRings], CQE_FLAG, &["F_BUFFER"]),
    (&[Incremental], CQE_FLAG, &["F_BUF_MORE"]),
    (&[Timeouts], CQE_FLAG, &["F_MORE"]),
    (&[], ENTER, &["all"]),
    (&[Malformed], ENTER, &["fewer"]),
    (&[Waits], ENTER, &["-ETIME", "0"]),
    (&[Overflow], ENTER, &["overflow"]),
];

impl Histogram {
    fn add(&mut self, kind: &'static str, name: impl Into<String>) {
        *self.counts.entry((kind, name.into())).or_default() += 1;
    }

    fn add_flags(&mut self, kind: &'static str, prefix: &str, bits: u32, names: names::Flags) {
        for (_, name) in names.iter().filter(|(bit, _)| bits & bit != 0) {
            self.add(kind, format!("{prefix}{name}"));
        }
    }

    /// Counts a program and what came of it on the kernel.
    pub(super) fn count(&mut self, program: &Program, record: &Record) {
        self.programs += 1;
        self.add_flags(SETUP, "", program.setup.flags, SETUP_FLAGS);
        for entry in program.entries() {
            self.count_entry(entry, record);
        }
        for answer in &record.answers {
            let segment = &program.rounds[answer.round].segments[answer.segment];
            let name = match usize::try_from(answer.answer) {
                Err(_) => of_result(answer.answer),
                Ok(0) => "0".into(),
                Ok(count) if count < segment.entries.len() => "fewer".into(),
                Ok(_) => "all".into(),
            };
            self.add(ENTER, name);
        }
        for _ in record.looks.iter().filter(|look| look.overflow) {
            self.add(ENTER, "overflow");
        }
    }

    fn count_entry(&mut self, entry: &Entry, record: &Record) {
        let known = names::OPCODES.iter().any(|(number, _)| *number == entry.opcode);
        let opcode = if known { of_opcode(entry.opcode) } else { "unknown".into() };
        self.entries += 1;
        self.add_flags(FLAG, "", entry.flags.into(), SQE_FLAGS);
        self.add_flags(OP_FLAG, &format!("{opcode} "), entry.op_flags, names::op_flags(entry.opcode));
        self.add(OPCODE, opcode);
        let mut posted = record.seen.iter().filter(|seen| seen.user_data == entry.user_data).peekable();
        if posted.peek().is_none() {
            self.add(RESULT, "none");
            self.succeeded += u64::from(entry.flags & SKIP != 0);
        }
        let mut well = false;
        for seen in posted {
            well |= seen.res >= 0;
            self.add_flags(CQE_FLAG, "", seen.flags, CQE_FLAGS);
            let transfer = names::is_transfer(entry.opcode);
            let name = match seen.res {
                0 => "0".to_owned(),
                1.. if !transfer => "a number".into(),
                res @ 1.. if res == wanted(entry) => "everything".into(),
                1.. => "less".into(),
                res => of_result(res),
            };
            self.add(RESULT, name);
        }
        self.succeeded += u64::from(well);
    }

    /// What is missing that programs of these features make, if there have been enough of them; and too few
    /// successes.
    pub(super) fn complaints(&self, features: Features) -> Vec<String> {
        if self.programs < ENOUGH {
            return Vec::new();
        }
        let mut found = Vec::new();
        let enabled = EXPECTED.iter().filter(|(wanted, ..)| wanted.iter().all(|feature| features.has(*feature)));
        for (_, kind, names) in enabled {
            let missing = names.iter().filter(|name| !self.counts.contains_key(&(kind, (**name).to_owned())));
            missing.for_each(|name| found.push(format!("no {kind} {name} in {} programs", self.programs)));
        }
        if 2 * self.succeeded < self.entries {
            found.push(format!("only {} of {} entries succeeded", self.succeeded, self.entries));
        }
        found
    }
}

/// Bytes that a transfer is to move.
fn wanted(entry: &Entry) -> i32 {
    match &entry.addr {
        super::program::Word::Iovecs(iovecs) => iovecs.iter().map(|(_, len)| *len as i32).sum(),
        _ => entry.len.cast_signed(),
    }
}

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} programs, {} entries, {} of them succeeded", self.programs, self.entries, self.succeeded)?;
        let mut last = "";
        for ((kind, name), count) in &self.counts {
            if *kind != last {
                writeln!(f, "{kind}")?;
                last = kind;
            }
            writeln!(f, "  {count:>8}  {name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differential::text;

    #[test]
    fn what_is_missing_and_too_few_successes_are_complaints_of_long_runs() {
        let program = text::parse("round\n NOP user_data=1\n enter").unwrap();
        let mut histogram = Histogram::default();
        for _ in 1..ENOUGH {
            histogram.count(&program, &Record::default());
        }
        assert_eq!(histogram.complaints(Features::NONE), Vec::<String>::new());
        histogram.count(&program, &Record::default());
        let complaints = histogram.complaints(Features::NONE);
        assert!(complaints.iter().any(|text| text.starts_with("no opcode READ in")), "{complaints:?}");
        assert!(!complaints.iter().any(|text| text.contains("opcode NOP")), "{complaints:?}");
        assert!(complaints.iter().any(|text| text == "only 0 of 300 entries succeeded"), "{complaints:?}");
    }
}
