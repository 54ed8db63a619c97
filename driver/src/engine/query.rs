//! What a ring says of itself when it is asked: `REGISTER_PROBE` and `REGISTER_QUERY`.

use zerocopy::IntoBytes;

use super::Engine;
use super::register::Argument;
use crate::abi::op::{IORING_OP_LAST, Opcode, SQE_VALID_FLAGS};
use crate::abi::params::{FEATURES, SETUP_FLAGS, UNSERVED_SETUP_FLAGS};
use crate::abi::register::{IO_URING_OP_SUPPORTED, Probe, ProbeOp, QueryHdr, QueryOpcode, opcode};

/// Most operations that a probe asks for.
const MOST_PROBED: u32 = 256;
/// Most headers of a query (`IO_MAX_QUERY_ENTRIES`).
const MOST_QUERIES: usize = 1000;

/// `IORING_ENTER_FLAGS` of kernel 6.18 but `SQ_WAKEUP` and `SQ_WAIT`, which are for polling threads.
const ENTER_FLAGS: u64 = 0xff & !0b110;
/// Set-up flags that rings on devices have.
const DEVICE_SETUP_FLAGS: u64 = (SETUP_FLAGS & !UNSERVED_SETUP_FLAGS) as u64;

impl Engine {
    /// `io_probe`: which operations this ring really serves.
    pub(super) fn probe(&mut self, argument: Argument) -> Result<(), i32> {
        if argument.address == 0 || argument.count > MOST_PROBED {
            return Err(libc::EINVAL);
        }
        // Beyond the operations that there are nothing is looked at.
        let count = (argument.count as usize).min(usize::from(IORING_OP_LAST));
        let header = self.user.read::<Probe>(argument.address).ok_or(libc::EFAULT)?;
        let ops = self.user.read_many::<ProbeOp>(argument.address.wrapping_add(16), count).ok_or(libc::EFAULT)?;
        // The program's memory must be zeroed, for what may come to stand there.
        if header != Probe::default() || ops.iter().any(|op| *op != ProbeOp::default()) {
            return Err(libc::EINVAL);
        }
        let op = |number: usize| {
            let op = number as u8;
            let served = !matches!(Opcode::from_number(op), Opcode::Other(_) | Opcode::Unknown(_));
            ProbeOp { op, flags: if served { IO_URING_OP_SUPPORTED } else { 0 }, ..ProbeOp::default() }
        };
        let ops: Vec<ProbeOp> = (0..count).map(op).collect();
        let header = Probe { last_op: IORING_OP_LAST - 1, ops_len: count as u8, ..header };
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
            self.answer(&mut header)?;
            self.user.write(at, &[header]).ok_or(libc::EFAULT)?;
            at = header.next_entry;
            asked += 1;
            if asked >= MOST_QUERIES {
                return Err(libc::ERANGE);
            }
        }
        Ok(())
    }

    /// Puts result and length into the header, and the answer into the program's memory, whose rest is cleared.
    fn answer(&self, header: &mut QueryHdr) -> Result<(), i32> {
        let answer = QueryOpcode {
            nr_request_opcodes: IORING_OP_LAST.into(),
            nr_register_opcodes: opcode::REGISTER_LAST,
            feature_flags: FEATURES.into(),
            ring_setup_flags: DEVICE_SETUP_FLAGS,
            enter_flags: ENTER_FLAGS,
            sqe_flags: SQE_VALID_FLAGS.into(),
            nr_query_opcodes: 1,
            pad: 0,
        };
        let room = header.size as usize;
        let (result, bytes) = match header.query_op {
            0 if header.resv != [0; 3] || header.result != 0 || room == 0 => (-libc::EINVAL, &[][..]),
            0 => (0, &answer.as_bytes()[..size_of::<QueryOpcode>().min(room)]),
            _ => (-libc::EOPNOTSUPP, &[][..]),
        };
        header.result = result;
        header.size = bytes.len() as u32;
        self.user.write(header.query_data, bytes).ok_or(libc::EFAULT)?;
        // Piece by piece: the program may say any length.
        const ZEROES: [u8; 4096] = [0; 4096];
        for at in (bytes.len()..room).step_by(ZEROES.len()) {
            let zeroes = &ZEROES[..ZEROES.len().min(room - at)];
            self.user.write(header.query_data.wrapping_add(at as u64), zeroes).ok_or(libc::EFAULT)?;
        }
        Ok(())
    }
}
