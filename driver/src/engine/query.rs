//! What a ring says of itself when it is asked: `REGISTER_PROBE` and `REGISTER_QUERY`.

use super::Engine;
use super::register::Argument;
use crate::abi::flags::IORING_SETUP_CQE_MIXED;
use crate::abi::op::{IORING_OP_LAST, Opcode, SQE_VALID_FLAGS};
use crate::abi::params::FEATURES;
use crate::abi::register::{IO_URING_OP_SUPPORTED, Probe, ProbeOp, QueryHdr, QueryOpcode, opcode};

/// Most operations that a probe asks for.
const MOST_PROBED: u32 = 256;
/// Most headers of a query (`IO_MAX_QUERY_ENTRIES`), and most bytes of its answer (`IO_MAX_QUERY_SIZE`).
const MOST_QUERIES: usize = 1000;
const MOST_QUERY_BYTES: u32 = 4096;

/// `IORING_ENTER_FLAGS` of kernel 6.18 but `SQ_WAKEUP` and `SQ_WAIT`, which are for polling threads.
const ENTER_FLAGS: u64 = 0xff & !0b110;
/// Set-up flags that rings on devices have: all of kernel 6.18 but `SQPOLL`, `SQ_AFF` and `ATTACH_WQ`.
const SETUP_FLAGS: u64 = (((IORING_SETUP_CQE_MIXED as u64) << 1) - 1) & !0b10_0110;

impl Engine {
    /// `io_probe`: which operations this ring really serves.
    pub(super) fn probe(&mut self, argument: Argument) -> Result<(), i32> {
        if argument.address == 0 || argument.count > MOST_PROBED {
            return Err(libc::EINVAL);
        }
        let count = argument.count as usize;
        let header = self.user.read::<Probe>(argument.address).ok_or(libc::EFAULT)?;
        let ops = self.user.read_many::<ProbeOp>(argument.address + 16, count).ok_or(libc::EFAULT)?;
        // The program's memory must be zeroed, for what may come to stand there.
        if header != Probe::default() || ops.iter().any(|op| *op != ProbeOp::default()) {
            return Err(libc::EINVAL);
        }
        let known = count.min(usize::from(IORING_OP_LAST));
        let op = |number: usize| {
            let op = number as u8;
            let served = !matches!(Opcode::from_number(op), Opcode::Other(_) | Opcode::Unknown(_));
            ProbeOp { op, flags: if served { IO_URING_OP_SUPPORTED } else { 0 }, ..ProbeOp::default() }
        };
        let ops: Vec<ProbeOp> = (0..known).map(op).collect();
        let header = Probe { last_op: IORING_OP_LAST - 1, ops_len: known as u8, ..header };
        self.user.write(argument.address, &[header]).ok_or(libc::EFAULT)?;
        self.user.write(argument.address + 16, &ops).ok_or(libc::EFAULT)
    }

    /// `io_query`: a list of questions, each with its own result.
    pub(super) fn query(&mut self, argument: Argument) -> Result<(), i32> {
        if argument.count != 0 {
            return Err(libc::EINVAL);
        }
        let mut at = argument.address;
        let mut asked = 0;
        while at != 0 {
            let mut header = self.user.read::<QueryHdr>(at).ok_or(libc::EFAULT)?;
            match self.answer(&mut header) {
                Ok(()) => header.result = 0,
                Err(libc::EFAULT) => return Err(libc::EFAULT),
                Err(errno) => header.result = -errno,
            }
            self.user.write(at, &[header]).ok_or(libc::EFAULT)?;
            at = header.next_entry;
            asked += 1;
            if asked >= MOST_QUERIES {
                return Err(libc::ERANGE);
            }
        }
        Ok(())
    }

    fn answer(&self, header: &mut QueryHdr) -> Result<(), i32> {
        if header.resv != [0; 3] || header.result != 0 || header.size == 0 {
            return Err(libc::EINVAL);
        }
        if header.query_op != 0 {
            return Err(libc::EOPNOTSUPP);
        }
        if header.size > MOST_QUERY_BYTES {
            return Err(libc::EINVAL);
        }
        let answer = QueryOpcode {
            nr_request_opcodes: IORING_OP_LAST.into(),
            nr_register_opcodes: opcode::REGISTER_LAST,
            feature_flags: FEATURES.into(),
            ring_setup_flags: SETUP_FLAGS,
            enter_flags: ENTER_FLAGS,
            sqe_flags: SQE_VALID_FLAGS.into(),
            nr_query_opcodes: 1,
            pad: 0,
        };
        let bytes = zerocopy::IntoBytes::as_bytes(&answer);
        let len = bytes.len().min(header.size as usize);
        header.size = len as u32;
        self.user.write(header.query_data, &bytes[..len]).ok_or(libc::EFAULT)
    }
}
