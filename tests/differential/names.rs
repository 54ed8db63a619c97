//! Names of numbers, as the header has them.

/// Flags by their names.
pub(super) type Flags = &'static [(u32, &'static str)];

pub(super) const NOP: u8 = 0;
pub(super) const READV: u8 = 1;
pub(super) const WRITEV: u8 = 2;
pub(super) const FSYNC: u8 = 3;
pub(super) const READ_FIXED: u8 = 4;
pub(super) const WRITE_FIXED: u8 = 5;
pub(super) const SYNC_FILE_RANGE: u8 = 8;
pub(super) const TIMEOUT: u8 = 11;
pub(super) const TIMEOUT_REMOVE: u8 = 12;
pub(super) const ASYNC_CANCEL: u8 = 14;
pub(super) const LINK_TIMEOUT: u8 = 15;
pub(super) const FALLOCATE: u8 = 17;
pub(super) const FILES_UPDATE: u8 = 20;
pub(super) const READ: u8 = 22;
pub(super) const WRITE: u8 = 23;
pub(super) const FADVISE: u8 = 24;
pub(super) const PROVIDE_BUFFERS: u8 = 31;
pub(super) const REMOVE_BUFFERS: u8 = 32;
pub(super) const READV_FIXED: u8 = 60;
pub(super) const WRITEV_FIXED: u8 = 61;

/// Opcodes that programs are made of; others are written `OP` and a number.
pub(super) const OPCODES: &[(u8, &str)] = &[
    (NOP, "NOP"),
    (READV, "READV"),
    (WRITEV, "WRITEV"),
    (FSYNC, "FSYNC"),
    (READ_FIXED, "READ_FIXED"),
    (WRITE_FIXED, "WRITE_FIXED"),
    (SYNC_FILE_RANGE, "SYNC_FILE_RANGE"),
    (TIMEOUT, "TIMEOUT"),
    (TIMEOUT_REMOVE, "TIMEOUT_REMOVE"),
    (ASYNC_CANCEL, "ASYNC_CANCEL"),
    (LINK_TIMEOUT, "LINK_TIMEOUT"),
    (FALLOCATE, "FALLOCATE"),
    (FILES_UPDATE, "FILES_UPDATE"),
    (READ, "READ"),
    (WRITE, "WRITE"),
    (FADVISE, "FADVISE"),
    (PROVIDE_BUFFERS, "PROVIDE_BUFFERS"),
    (REMOVE_BUFFERS, "REMOVE_BUFFERS"),
    (READV_FIXED, "READV_FIXED"),
    (WRITEV_FIXED, "WRITEV_FIXED"),
];

pub(super) const FIXED_FILE: u8 = 1 << 0;
pub(super) const DRAIN: u8 = 1 << 1;
pub(super) const LINK: u8 = 1 << 2;
pub(super) const HARDLINK: u8 = 1 << 3;
pub(super) const ASYNC: u8 = 1 << 4;
pub(super) const BUFFER_SELECT: u8 = 1 << 5;
pub(super) const SKIP: u8 = 1 << 6;

pub(super) const SQE_FLAGS: Flags = &[
    (1 << 0, "FIXED_FILE"),
    (1 << 1, "IO_DRAIN"),
    (1 << 2, "IO_LINK"),
    (1 << 3, "IO_HARDLINK"),
    (1 << 4, "ASYNC"),
    (1 << 5, "BUFFER_SELECT"),
    (1 << 6, "CQE_SKIP_SUCCESS"),
];

pub(super) const SETUP_CLAMP: u32 = 1 << 4;
pub(super) const SETUP_SUBMIT_ALL: u32 = 1 << 7;
pub(super) const SETUP_COOP_TASKRUN: u32 = 1 << 8;
pub(super) const SETUP_TASKRUN_FLAG: u32 = 1 << 9;
pub(super) const SETUP_SINGLE_ISSUER: u32 = 1 << 12;
pub(super) const SETUP_DEFER_TASKRUN: u32 = 1 << 13;

pub(super) const SETUP_FLAGS: Flags = &[
    (SETUP_CLAMP, "CLAMP"),
    (SETUP_SUBMIT_ALL, "SUBMIT_ALL"),
    (SETUP_COOP_TASKRUN, "COOP_TASKRUN"),
    (SETUP_TASKRUN_FLAG, "TASKRUN_FLAG"),
    (SETUP_SINGLE_ISSUER, "SINGLE_ISSUER"),
    (SETUP_DEFER_TASKRUN, "DEFER_TASKRUN"),
];

pub(super) const ENTER_GETEVENTS: u32 = 1 << 0;

pub(super) const ENTER_FLAGS: Flags =
    &[(ENTER_GETEVENTS, "GETEVENTS"), (1 << 1, "SQ_WAKEUP"), (1 << 2, "SQ_WAIT"), (1 << 3, "EXT_ARG")];

pub(super) const RING_INC: u16 = 2;
pub(super) const BUFFER_RING_FLAGS: Flags = &[(1, "MMAP"), (2, "INC")];

pub(super) const TIMEOUT_ABS: u32 = 1 << 0;
pub(super) const TIMEOUT_UPDATE: u32 = 1 << 1;
pub(super) const TIMEOUT_BOOTTIME: u32 = 1 << 2;
pub(super) const TIMEOUT_REALTIME: u32 = 1 << 3;
pub(super) const LINK_TIMEOUT_UPDATE: u32 = 1 << 4;
pub(super) const TIMEOUT_ETIME_SUCCESS: u32 = 1 << 5;
pub(super) const TIMEOUT_MULTISHOT: u32 = 1 << 6;

const TIMEOUT_FLAGS: Flags = &[
    (TIMEOUT_ABS, "ABS"),
    (TIMEOUT_UPDATE, "UPDATE"),
    (TIMEOUT_BOOTTIME, "BOOTTIME"),
    (TIMEOUT_REALTIME, "REALTIME"),
    (LINK_TIMEOUT_UPDATE, "LINK_UPDATE"),
    (TIMEOUT_ETIME_SUCCESS, "ETIME_SUCCESS"),
    (TIMEOUT_MULTISHOT, "MULTISHOT"),
];

pub(super) const CANCEL_ALL: u32 = 1 << 0;
pub(super) const CANCEL_FD: u32 = 1 << 1;
pub(super) const CANCEL_ANY: u32 = 1 << 2;
pub(super) const CANCEL_FD_FIXED: u32 = 1 << 3;
pub(super) const CANCEL_USERDATA: u32 = 1 << 4;
pub(super) const CANCEL_OP: u32 = 1 << 5;

const CANCEL_FLAGS: Flags = &[
    (CANCEL_ALL, "ALL"),
    (CANCEL_FD, "FD"),
    (CANCEL_ANY, "ANY"),
    (CANCEL_FD_FIXED, "FD_FIXED"),
    (CANCEL_USERDATA, "USERDATA"),
    (CANCEL_OP, "OP"),
];

pub(super) const NOP_INJECT_RESULT: u32 = 1 << 0;
pub(super) const NOP_FILE: u32 = 1 << 1;
pub(super) const NOP_FIXED_FILE: u32 = 1 << 2;
pub(super) const NOP_FIXED_BUFFER: u32 = 1 << 3;
pub(super) const NOP_TW: u32 = 1 << 4;

const NOP_FLAGS: Flags = &[
    (NOP_INJECT_RESULT, "INJECT_RESULT"),
    (NOP_FILE, "FILE"),
    (NOP_FIXED_FILE, "FIXED_FILE"),
    (NOP_FIXED_BUFFER, "FIXED_BUFFER"),
    (NOP_TW, "TW"),
];

const RW_FLAGS: Flags =
    &[(1 << 0, "HIPRI"), (1 << 1, "DSYNC"), (1 << 2, "SYNC"), (1 << 3, "NOWAIT"), (1 << 4, "APPEND")];

pub(super) const CQE_BUFFER: u32 = 1 << 0;
pub(super) const CQE_MORE: u32 = 1 << 1;
pub(super) const CQE_BUF_MORE: u32 = 1 << 4;

pub(super) const CQE_FLAGS: Flags = &[(CQE_BUFFER, "F_BUFFER"), (CQE_MORE, "F_MORE"), (CQE_BUF_MORE, "F_BUF_MORE")];

/// Whether it is one of the eight that move data.
pub(super) fn is_transfer(opcode: u8) -> bool {
    matches!(opcode, READ | READV | READ_FIXED | READV_FIXED) || is_write(opcode)
}

/// Whether its memory is a registered buffer.
pub(super) fn is_registered(opcode: u8) -> bool {
    matches!(opcode, READ_FIXED | WRITE_FIXED | READV_FIXED | WRITEV_FIXED)
}

pub(super) fn is_write(opcode: u8) -> bool {
    matches!(opcode, WRITE | WRITEV | WRITE_FIXED | WRITEV_FIXED)
}

pub(super) fn of_opcode(number: u8) -> String {
    OPCODES.iter().find(|(known, _)| *known == number).map_or(format!("OP{number}"), |(_, name)| (*name).to_owned())
}

pub(super) fn opcode(name: &str) -> Option<u8> {
    match OPCODES.iter().find(|(_, known)| *known == name) {
        Some((number, _)) => Some(*number),
        None => name.strip_prefix("OP")?.parse().ok(),
    }
}

/// The flags that the word `op_flags` holds for an opcode.
pub(super) fn op_flags(opcode: u8) -> Flags {
    match opcode {
        NOP => NOP_FLAGS,
        TIMEOUT | TIMEOUT_REMOVE | LINK_TIMEOUT => TIMEOUT_FLAGS,
        ASYNC_CANCEL => CANCEL_FLAGS,
        FSYNC => &[(1, "DATASYNC")],
        opcode if is_transfer(opcode) => RW_FLAGS,
        _ => &[],
    }
}

/// `A|B|0x40`.
pub(super) fn of_flags(mut bits: u32, names: Flags) -> String {
    let mut parts = Vec::new();
    for (bit, name) in names {
        if bits & bit != 0 {
            parts.push((*name).to_owned());
            bits &= !bit;
        }
    }
    if bits != 0 || parts.is_empty() {
        parts.push(format!("{bits:#x}"));
    }
    parts.join("|")
}

pub(super) fn flags(text: &str, names: Flags) -> Option<u32> {
    text.split('|').try_fold(0, |bits, part| {
        let named = names.iter().find(|(_, name)| *name == part).map(|(bit, _)| *bit);
        Some(bits | named.or_else(|| number(part)?.try_into().ok())?)
    })
}

/// Decimal or hexadecimal.
pub(super) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A result as people read it.
pub(super) fn of_result(res: i32) -> String {
    match res {
        -4095..0 => format!("-{:?}", nix::errno::Errno::from_raw(-res)),
        _ => res.to_string(),
    }
}

/// The errno of a name such as `-EINVAL`, or a number.
pub(super) fn result(text: &str) -> Option<i32> {
    match text.strip_prefix("-E") {
        Some(_) => (1..134).map(|errno| -errno).find(|res| of_result(*res) == text),
        None => text.parse().ok(),
    }
}
