//! Status of a completion (section 3.3.3.2.1) and the errno it becomes.

use std::fmt;

/// Status Code Type and Status Code, with the More and Do Not Retry bits, as they stand in bits 31:17
/// of the last word of a completion, shifted down.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Status(u16);

macro_rules! statuses {
    ($($name:ident = $sct:literal, $sc:literal, $text:literal;)*) => {
        impl Status {
            $(#[doc = $text] pub const $name: Self = Self(($sct << 8) | $sc);)*
        }

        const NAMES: &[(u16, &str)] = &[$((($sct << 8) | $sc, $text),)*];
    };
}

statuses! {
    SUCCESS = 0, 0x00, "successful completion";
    INVALID_OPCODE = 0, 0x01, "invalid command opcode";
    INVALID_FIELD = 0, 0x02, "invalid field in command";
    ID_CONFLICT = 0, 0x03, "command id conflict";
    DATA_TRANSFER_ERROR = 0, 0x04, "data transfer error";
    POWER_LOSS = 0, 0x05, "commands aborted due to power loss";
    INTERNAL_ERROR = 0, 0x06, "internal error";
    ABORT_REQUESTED = 0, 0x07, "command abort requested";
    ABORTED_SQ_DELETION = 0, 0x08, "command aborted due to SQ deletion";
    INVALID_NAMESPACE = 0, 0x0b, "invalid namespace or format";
    SGL_DATA_LENGTH = 0, 0x0f, "data SGL length invalid";
    INVALID_PRP_OFFSET = 0, 0x13, "PRP offset invalid";
    SANITIZE_IN_PROGRESS = 0, 0x1d, "sanitize in progress";
    NAMESPACE_WRITE_PROTECTED = 0, 0x20, "namespace is write protected";
    COMMAND_INTERRUPTED = 0, 0x21, "command interrupted";
    TRANSIENT_TRANSPORT = 0, 0x22, "transient transport error";
    LBA_OUT_OF_RANGE = 0, 0x80, "LBA out of range";
    CAPACITY_EXCEEDED = 0, 0x81, "capacity exceeded";
    NAMESPACE_NOT_READY = 0, 0x82, "namespace not ready";
    RESERVATION_CONFLICT = 0, 0x83, "reservation conflict";
    FORMAT_IN_PROGRESS = 0, 0x84, "format in progress";
    INVALID_COMPLETION_QUEUE = 1, 0x00, "completion queue invalid";
    INVALID_QUEUE_ID = 1, 0x01, "invalid queue identifier";
    INVALID_QUEUE_SIZE = 1, 0x02, "invalid queue size";
    ABORT_LIMIT_EXCEEDED = 1, 0x03, "abort command limit exceeded";
    EVENT_LIMIT_EXCEEDED = 1, 0x05, "asynchronous event request limit exceeded";
    INVALID_VECTOR = 1, 0x08, "invalid interrupt vector";
    INVALID_LOG_PAGE = 1, 0x09, "invalid log page";
    CONFLICTING_ATTRIBUTES = 1, 0x80, "conflicting attributes";
    INVALID_PROTECTION = 1, 0x81, "invalid protection information";
    WRITE_TO_READ_ONLY = 1, 0x82, "attempted write to read only range";
    WRITE_FAULT = 2, 0x80, "write fault";
    UNRECOVERED_READ_ERROR = 2, 0x81, "unrecovered read error";
    GUARD_CHECK = 2, 0x82, "end-to-end guard check error";
    APPLICATION_TAG_CHECK = 2, 0x83, "end-to-end application tag check error";
    REFERENCE_TAG_CHECK = 2, 0x84, "end-to-end reference tag check error";
    COMPARE_FAILURE = 2, 0x85, "compare failure";
    ACCESS_DENIED = 2, 0x86, "access denied";
    UNWRITTEN_BLOCK = 2, 0x87, "deallocated or unwritten logical block";
    INTERNAL_PATH_ERROR = 3, 0x00, "internal path error";
    HOST_PATH_ERROR = 3, 0x70, "host pathing error";
}

impl Status {
    /// The status in the 15 bits above the phase tag.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & 0x7fff)
    }

    /// All 15 bits.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Status Code Type.
    #[must_use]
    pub const fn sct(self) -> u8 {
        (self.0 >> 8) as u8 & 7
    }

    /// Status Code.
    #[must_use]
    pub const fn sc(self) -> u8 {
        self.0 as u8
    }

    /// More: the error information log has an entry.
    #[must_use]
    pub const fn more(self) -> bool {
        self.0 & (1 << 13) != 0
    }

    /// Do Not Retry.
    #[must_use]
    pub const fn dnr(self) -> bool {
        self.0 & (1 << 14) != 0
    }

    /// Success is type *and* code zero.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 & 0x7ff == 0
    }

    /// The errno the kernel's block layer reports for this status.
    ///
    /// Linux 6.18: `nvme_error_status` in drivers/nvme/host/core.c, then `blk_errors` in
    /// block/blk-core.c.
    #[must_use]
    pub const fn errno(self) -> i32 {
        match Self(self.0 & 0x7ff) {
            Self::SUCCESS => 0,
            Self::CAPACITY_EXCEEDED => libc::ENOSPC,
            Self::LBA_OUT_OF_RANGE | Self::COMMAND_INTERRUPTED | Self::NAMESPACE_NOT_READY => libc::EREMOTEIO,
            Self::CONFLICTING_ATTRIBUTES | Self::INVALID_OPCODE | Self::INVALID_FIELD | Self::INVALID_NAMESPACE => {
                libc::EOPNOTSUPP
            }
            Self::WRITE_FAULT
            | Self::UNRECOVERED_READ_ERROR
            | Self::UNWRITTEN_BLOCK
            | Self::ACCESS_DENIED
            | Self::WRITE_TO_READ_ONLY
            | Self::COMPARE_FAILURE => libc::ENODATA,
            Self::GUARD_CHECK | Self::APPLICATION_TAG_CHECK | Self::REFERENCE_TAG_CHECK | Self::INVALID_PROTECTION => {
                libc::EILSEQ
            }
            Self::RESERVATION_CONFLICT => libc::EBADE,
            Self::HOST_PATH_ERROR => libc::ENOLINK,
            _ => libc::EIO,
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Status({self})")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(code, _)| *code == self.0 & 0x7ff).map_or("unknown status", |(_, n)| n);
        write!(
            f,
            "{name} (type {:#x}, code {:#04x}{})",
            self.sct(),
            self.sc(),
            if self.dnr() { ", do not retry" } else { "" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_is_type_and_code_zero_whatever_the_other_bits_say() {
        assert!(Status::from_bits(0).is_success());
        assert!(Status::from_bits(1 << 13 | 1 << 14).is_success());
        assert!(!Status::from_bits(1 << 8).is_success(), "type 1, code 0 is 'completion queue invalid'");
        assert!(!Status::from_bits(1).is_success());
    }

    #[test]
    fn errno_ignores_more_and_do_not_retry() {
        for (status, errno) in [
            (Status::LBA_OUT_OF_RANGE, libc::EREMOTEIO),
            (Status::CAPACITY_EXCEEDED, libc::ENOSPC),
            (Status::INVALID_FIELD, libc::EOPNOTSUPP),
            (Status::UNRECOVERED_READ_ERROR, libc::ENODATA),
            (Status::GUARD_CHECK, libc::EILSEQ),
            (Status::RESERVATION_CONFLICT, libc::EBADE),
            (Status::HOST_PATH_ERROR, libc::ENOLINK),
            (Status::INTERNAL_ERROR, libc::EIO),
            (Status::DATA_TRANSFER_ERROR, libc::EIO),
            (Status::from_bits(0x7 << 8 | 0x33), libc::EIO),
        ] {
            assert_eq!(status.errno(), errno, "{status}");
            assert_eq!(Status::from_bits(status.bits() | 1 << 14 | 1 << 13).errno(), errno, "{status}");
        }
        assert!(Status::from_bits(1 << 14).dnr() && !Status::from_bits(1 << 14).more());
    }

    #[test]
    fn every_status_has_an_errno_above_zero_unless_it_is_success() {
        for bits in 0..=0x7fffu16 {
            let status = Status::from_bits(bits);
            assert_eq!(status.errno() == 0, status.is_success());
        }
    }
}
