//! The instructions, byte by byte. Assemblers of the day know them only with options; and who emulates them has to
//! read them.
//!
//! Without the F3 prefix two of them are RDPKRU and WRPKRU: to execute one is no way to find out whether there is
//! such an instruction.

/// An instruction of user interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Clears UIF: nothing is delivered.
    Clui,
    /// Sets UIF.
    Stui,
    /// CF := UIF.
    Testui,
    /// Returns from a handler, and sets UIF.
    Uiret,
    /// Posts by the entry of the target table whose index is in this register.
    Senduipi(Register),
}

/// A general register by its number: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register(u8);

impl Register {
    /// RAX.
    pub const RAX: Self = Self(0);

    /// The register with this number, below 16.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < 16 { Some(Self(number)) } else { None }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// Bytes of CLUI, STUI, TESTUI and UIRET but for the last.
const PREFIX: [u8; 3] = [0xf3, 0x0f, 0x01];
const UIRET: u8 = 0xec;
const TESTUI: u8 = 0xed;
const CLUI: u8 = 0xee;
const STUI: u8 = 0xef;
/// `0F C7 /6` with a register: the byte behind it, register 0.
const SENDUIPI: u8 = 0b11_110_000;
/// REX, and its bit B, the highest of the register.
const REX: u8 = 0x40;
const REX_B: u8 = 1;

impl Instruction {
    /// Its bytes.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        let simple = |last| [&PREFIX[..], &[last]].concat();
        match self {
            Self::Clui => simple(CLUI),
            Self::Stui => simple(STUI),
            Self::Testui => simple(TESTUI),
            Self::Uiret => simple(UIRET),
            Self::Senduipi(Register(number @ 0..8)) => vec![0xf3, 0x0f, 0xc7, SENDUIPI | number],
            Self::Senduipi(Register(number)) => vec![0xf3, REX | REX_B, 0x0f, 0xc7, SENDUIPI | number & 7],
        }
    }

    /// The instruction at the begin of `code`, and how many bytes it has. `None` for any other.
    ///
    /// Of the prefixes that change nothing about these instructions only REX is read, which compilers put there.
    #[must_use]
    pub fn decode(code: &[u8]) -> Option<(Self, usize)> {
        let rest = code.strip_prefix(&[0xf3])?;
        let (rex, rest) = match rest {
            [rex, rest @ ..] if rex & 0xf0 == REX => (*rex, rest),
            _ => (0, rest),
        };
        let len = code.len() - rest.len() + 3;
        let instruction = match *rest.get(..3)? {
            [0x0f, 0x01, UIRET] => Self::Uiret,
            [0x0f, 0x01, TESTUI] => Self::Testui,
            [0x0f, 0x01, CLUI] => Self::Clui,
            [0x0f, 0x01, STUI] => Self::Stui,
            [0x0f, 0xc7, last] if last & !7 == SENDUIPI => Self::Senduipi(Register(last & 7 | (rex & REX_B) << 3)),
            _ => return None,
        };
        Some((instruction, len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Instruction> {
        let senduipi = (0..16).map(|number| Instruction::Senduipi(Register::new(number).unwrap()));
        [Instruction::Clui, Instruction::Stui, Instruction::Testui, Instruction::Uiret]
            .into_iter()
            .chain(senduipi)
            .collect()
    }

    #[test]
    fn the_bytes_are_those_of_the_manual() {
        assert_eq!(Instruction::Uiret.bytes(), [0xf3, 0x0f, 0x01, 0xec]);
        assert_eq!(Instruction::Testui.bytes(), [0xf3, 0x0f, 0x01, 0xed]);
        assert_eq!(Instruction::Clui.bytes(), [0xf3, 0x0f, 0x01, 0xee]);
        assert_eq!(Instruction::Stui.bytes(), [0xf3, 0x0f, 0x01, 0xef]);
        assert_eq!(Instruction::Senduipi(Register::RAX).bytes(), [0xf3, 0x0f, 0xc7, 0xf0]);
        let r13 = Register::new(13).unwrap();
        assert_eq!(Instruction::Senduipi(r13).bytes(), [0xf3, 0x41, 0x0f, 0xc7, 0xf5]);
        assert_eq!(Register::new(16), None);
    }

    #[test]
    fn what_is_encoded_decodes_whatever_follows() {
        for instruction in all() {
            let mut code = instruction.bytes();
            let len = code.len();
            code.extend([0xcc, 0x90]);
            assert_eq!(Instruction::decode(&code), Some((instruction, len)));
            for short in 0..len {
                assert_eq!(Instruction::decode(&code[..short]), None, "{short} bytes of {instruction:?}");
            }
        }
    }

    #[test]
    fn neighbours_are_other_instructions() {
        // RDPKRU, WRPKRU, RDTSCP, RDRAND, RDPID, RDSEED, VMXON (memory), MONITORX, and no instruction at all.
        for code in [
            &[0x0f, 0x01, 0xee][..],
            &[0x0f, 0x01, 0xef],
            &[0x0f, 0x01, 0xf9],
            &[0x0f, 0xc7, 0xf0],
            &[0xf3, 0x0f, 0xc7, 0xf8],
            &[0x0f, 0xc7, 0xf8],
            &[0xf3, 0x0f, 0xc7, 0x30],
            &[0xf3, 0x0f, 0x01, 0xea],
            &[],
        ] {
            assert_eq!(Instruction::decode(code), None, "{code:x?}");
        }
    }
}
