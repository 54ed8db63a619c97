//! The model-specific registers of user interrupts, and the bits that enable them. Only a kernel can set them.

use bitfield::bitfield;

/// IA32_UINTR_RR: user interrupts that are pending (UIRR).
pub const RR: u32 = 0x985;
/// IA32_UINTR_HANDLER: address of the handler.
pub const HANDLER: u32 = 0x986;
/// IA32_UINTR_STACKADJUST: [`StackAdjust`].
pub const STACKADJUST: u32 = 0x987;
/// IA32_UINTR_MISC: [`Misc`].
pub const MISC: u32 = 0x988;
/// IA32_UINTR_PD: address of the descriptor ([`Upid`](crate::Upid)).
pub const PD: u32 = 0x989;
/// IA32_UINTR_TT: address of the target table; [`TT_ENABLE`] lets SENDUIPI use it.
pub const TT: u32 = 0x98a;

/// In IA32_UINTR_TT: SENDUIPI is allowed.
pub const TT_ENABLE: u64 = 1;
/// CR4.UINTR.
pub const CR4_UINTR: u64 = 1 << 25;
/// In IA32_XSS and in XSTATE_BV: the state component of user interrupts.
pub const XSTATE_UINTR: u64 = 1 << 14;

bitfield! {
    /// IA32_UINTR_MISC.
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    pub struct Misc(pub u64);
    impl Debug;
    /// Highest index of the target table (UITTSZ).
    pub u32, uitt_size, set_uitt_size: 31, 0;
    /// The vector that is a notification (UINV); 0 for none.
    pub u8, notification_vector, set_notification_vector: 39, 32;
}

/// Where the frame of a delivery goes (UISTACKADJUST).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackAdjust {
    /// Below the interrupted stack pointer, with so many bytes left alone: 128 for the red zone of the System V
    /// ABI. A multiple of 2.
    Below(u64),
    /// To a stack of its own, of which this is the upper end. A multiple of 2.
    Stack(u64),
}

impl StackAdjust {
    /// As the register has it: bit 0 says which.
    #[must_use]
    pub const fn word(self) -> u64 {
        match self {
            Self::Below(bytes) => bytes & !1,
            Self::Stack(end) => end | 1,
        }
    }

    /// Of a word of the register.
    #[must_use]
    pub const fn of_word(word: u64) -> Self {
        if word & 1 == 0 { Self::Below(word) } else { Self::Stack(word & !1) }
    }

    /// Where a frame ends, given the interrupted stack pointer: aligned to 16. The processor loads the register
    /// with its bit 0, which the alignment removes.
    #[must_use]
    pub const fn top(self, rsp: u64) -> u64 {
        let top = match self {
            Self::Below(bytes) => rsp.wrapping_sub(bytes),
            Self::Stack(end) => end,
        };
        top & !15
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_where_the_architecture_has_them() {
        let mut misc = Misc(0);
        misc.set_uitt_size(255);
        misc.set_notification_vector(0xec);
        assert_eq!(misc.0, 0x00ec_0000_00ff);
    }

    #[test]
    fn stacks_are_adjusted() {
        assert_eq!(StackAdjust::Below(128).word(), 128);
        assert_eq!(StackAdjust::Stack(0x8000).word(), 0x8001);
        for adjust in [StackAdjust::Below(128), StackAdjust::Below(0), StackAdjust::Stack(0x7fff_0000)] {
            assert_eq!(StackAdjust::of_word(adjust.word()), adjust);
        }
        assert_eq!(StackAdjust::Below(128).top(0x1009), 0xf80);
        assert_eq!(StackAdjust::Stack(0x8008).top(0x1000), 0x8000);
    }
}
