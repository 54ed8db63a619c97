//! Controller registers (section 3.1.3) and doorbells (NVMe over PCIe Transport 1.0, section 3.1.2).

use bitfield::bitfield;

/// Offset of CAP, Controller Capabilities.
pub const CAP: u64 = 0x00;
/// Offset of VS, Version.
pub const VS: u64 = 0x08;
/// Offset of CC, Controller Configuration.
pub const CC: u64 = 0x14;
/// Offset of CSTS, Controller Status.
pub const CSTS: u64 = 0x1c;
/// Offset of AQA, Admin Queue Attributes.
pub const AQA: u64 = 0x24;
/// Offset of ASQ, Admin Submission Queue Base Address.
pub const ASQ: u64 = 0x28;
/// Offset of ACQ, Admin Completion Queue Base Address.
pub const ACQ: u64 = 0x30;
/// Offset of the first doorbell.
pub const DOORBELLS: u64 = 0x1000;

bitfield! {
    /// CAP, Controller Capabilities (section 3.1.3.1).
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Cap(pub u64);
    impl Debug;
    /// Maximum Queue Entries Supported, 0's based: see [`Cap::max_queue_entries`].
    pub u16, mqes, _: 15, 0;
    /// Contiguous Queues Required.
    pub cqr, _: 16;
    /// Timeout, in units of 500 ms: the longest wait for CSTS.RDY to follow CC.EN.
    pub u8, to, _: 31, 24;
    /// Doorbell Stride: doorbells are `4 << dstrd` bytes apart.
    pub u8, dstrd, _: 35, 32;
    /// Command Sets Supported: bit 0 is the NVM command set, bit 6 one or more I/O command sets.
    pub u8, css, _: 44, 37;
    /// Memory Page Size Minimum: `2^(12 + mpsmin)` bytes.
    pub u8, mpsmin, _: 51, 48;
    /// Memory Page Size Maximum: `2^(12 + mpsmax)` bytes.
    pub u8, mpsmax, _: 55, 52;
}

impl Cap {
    /// Most entries a queue may have.
    #[must_use]
    pub fn max_queue_entries(self) -> u32 {
        u32::from(self.mqes()) + 1
    }

    /// The longest wait for CSTS.RDY, in milliseconds. A controller that says 0 gets one unit.
    #[must_use]
    pub fn timeout_ms(self) -> u64 {
        u64::from(self.to()).max(1) * 500
    }

    /// The smallest page of the controller, in bytes: the unit of MDTS.
    #[must_use]
    pub fn min_page_bytes(self) -> u64 {
        1 << (12 + self.mpsmin())
    }
}

bitfield! {
    /// CC, Controller Configuration (section 3.1.3.5).
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    pub struct Cc(pub u32);
    impl Debug;
    /// Enable.
    pub en, set_en: 0;
    /// I/O Command Set Selected: 0 is the NVM command set.
    pub u8, css, set_css: 6, 4;
    /// Memory Page Size: `2^(12 + mps)` bytes.
    pub u8, mps, set_mps: 10, 7;
    /// Shutdown Notification: 1 is a normal shutdown.
    pub u8, shn, set_shn: 15, 14;
    /// I/O Submission Queue Entry Size: `2^iosqes` bytes.
    pub u8, iosqes, set_iosqes: 19, 16;
    /// I/O Completion Queue Entry Size: `2^iocqes` bytes.
    pub u8, iocqes, set_iocqes: 23, 20;
}

bitfield! {
    /// CSTS, Controller Status (section 3.1.3.6).
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Csts(pub u32);
    impl Debug;
    /// Ready.
    pub rdy, _: 0;
    /// Controller Fatal Status.
    pub cfs, _: 1;
    /// Shutdown Status: 2 is complete.
    pub u8, shst, _: 3, 2;
    /// NVM Subsystem Reset Occurred.
    pub nssro, _: 4;
    /// Processing Paused.
    pub pp, _: 5;
}

impl Csts {
    /// All-ones: reads of a function that has left the bus.
    #[must_use]
    pub fn is_gone(self) -> bool {
        self.0 == u32::MAX
    }
}

/// VS, Version (section 3.1.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl Version {
    /// 2.0, which parted the command sets.
    pub const V2_0: Self = Self(0x0002_0000);
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0 >> 16, (self.0 >> 8) & 0xff)?;
        if self.0 & 0xff != 0 { write!(f, ".{}", self.0 & 0xff) } else { Ok(()) }
    }
}

/// Offset of the tail doorbell of submission queue `queue`.
#[must_use]
pub fn sq_tail_doorbell(queue: u16, dstrd: u8) -> u64 {
    DOORBELLS + u64::from(queue) * 2 * (4 << dstrd)
}

/// Offset of the head doorbell of completion queue `queue`.
#[must_use]
pub fn cq_head_doorbell(queue: u16, dstrd: u8) -> u64 {
    sq_tail_doorbell(queue, dstrd) + (4 << dstrd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_of_qemus_controller_decode() {
        // As read from QEMU 7.2: MQES 2047, CQR, TO 15, CSS bits 0 and 6, MPSMAX 4.
        let cap = Cap(0x0040_0820_0f01_07ff | (1 << 37));
        assert_eq!(cap.max_queue_entries(), 2048);
        assert!(cap.cqr());
        assert_eq!(cap.timeout_ms(), 7500);
        assert_eq!((cap.dstrd(), cap.mpsmin(), cap.mpsmax()), (0, 0, 4));
        assert_eq!(cap.css() & 1, 1);
        assert_eq!(Cap(0).timeout_ms(), 500);
    }

    #[test]
    fn configuration_fields_do_not_overlap() {
        let mut cc = Cc::default();
        cc.set_en(true);
        cc.set_iosqes(6);
        cc.set_iocqes(4);
        assert_eq!(cc.0, 0x0046_0001);
        cc.set_shn(1);
        cc.set_mps(1);
        cc.set_css(7);
        assert_eq!(cc.0, 0x0046_40f1);
    }

    #[test]
    fn doorbells_follow_the_stride() {
        assert_eq!(sq_tail_doorbell(0, 0), 0x1000);
        assert_eq!(cq_head_doorbell(0, 0), 0x1004);
        assert_eq!(sq_tail_doorbell(3, 0), 0x1018);
        assert_eq!(cq_head_doorbell(3, 2), 0x1000 + 7 * 16);
    }

    #[test]
    fn a_function_that_left_the_bus_is_recognised() {
        assert!(Csts(u32::MAX).is_gone());
        assert!(!Csts(1).is_gone());
        assert_eq!(Version(0x0001_0400).to_string(), "1.4");
        assert_eq!(Version(0x0001_0201).to_string(), "1.2.1");
    }
}
