//! Marks for counting instructions: long NOPs that a plugin of the emulator knows by their bytes.
//!
//! A mark costs one NOP and does nothing: on hardware, in other emulators and with other tools.
//! `dmaring vm run --count` counts what runs between [`BEGIN`] and [`END`], and tells apart what was
//! spent on looking for completions in vain.

#![expect(unsafe_code)] // owns the one instruction

/// Begins the part of a program that is counted.
pub const BEGIN: u8 = 101;
/// Ends it.
pub const END: u8 = 102;
/// Stands before a look for completions.
pub const POLL: u8 = 120;
/// Stands after one that found too few, when another follows.
pub const EMPTY: u8 = 121;
/// Stands where completions of a device are taken: the look was not in vain, even if they are too few.
pub const FOUND: u8 = 122;

/// `nop dword ptr [rax + 0x4d524b00 + ID]`; nothing on other processors than x86-64.
#[inline(always)]
pub fn mark<const ID: u8>() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a NOP computes no address, reads nothing and changes no register and no flag.
    unsafe {
        core::arch::asm!(
            ".byte 0x0f, 0x1f, 0x80, {id}, 0x4b, 0x52, 0x4d",
            id = const ID,
            options(nomem, nostack, preserves_flags)
        );
    }
}
