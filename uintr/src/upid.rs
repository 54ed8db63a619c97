//! The user posted-interrupt descriptor.

use std::mem::offset_of;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use bitfield::bitfield;

use crate::vector::Vector;

bitfield! {
    /// The first word of a descriptor.
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    pub struct Control(pub u64);
    impl Debug;
    /// A notification is outstanding.
    pub outstanding, set_outstanding: 0;
    /// No notifications are sent.
    pub suppressed, set_suppressed: 1;
    /// The vector by which the processor is notified.
    pub u8, notification_vector, set_notification_vector: 23, 16;
    /// The APIC that is notified: its identifier, in xAPIC mode in bits 15:8.
    pub u32, destination, set_destination: 63, 32;
}

/// The user posted-interrupt descriptor (UPID) of a receiver: 64 bytes, aligned to 64. Hardware changes it at any
/// time, and so do other threads and processes.
///
/// The architecture has the first 16 bytes; the rest is for software, and hardware leaves it alone.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Upid {
    control: AtomicU64,
    /// Posted-interrupt requests: a bit for each vector.
    pir: AtomicU64,
    reserved: [AtomicU64; 6],
}

const _: () = assert!(size_of::<Upid>() == 64 && align_of::<Upid>() == 64);
const _: () = assert!(offset_of!(Upid, control) == 0 && offset_of!(Upid, pir) == 8);

/// A notification that somebody has to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    /// By this vector of the processor.
    pub vector: u8,
    /// To the processor with this APIC.
    pub destination: u32,
}

impl Upid {
    /// A descriptor in which nothing is posted; notifications of `vector` go to `destination`.
    #[must_use]
    pub const fn new(vector: u8, destination: u32) -> Self {
        let control = (vector as u64) << 16 | (destination as u64) << 32;
        Self { control: AtomicU64::new(control), pir: AtomicU64::new(0), reserved: [const { AtomicU64::new(0) }; 6] }
    }

    /// The first word as it is now.
    #[must_use]
    pub fn control(&self) -> Control {
        Control(self.control.load(SeqCst))
    }

    /// What is posted and not taken yet.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.pir.load(SeqCst)
    }

    /// Posts a vector, as SENDUIPI does. Answers the notification that is to be sent: none if one is
    /// outstanding, or if they are suppressed.
    ///
    /// The processor does both steps under one lock. Here the request comes first: whoever finds no notification
    /// outstanding, and has cleared it, finds the request as well.
    pub fn post(&self, vector: Vector) -> Option<Notification> {
        self.pir.fetch_or(vector.bit(), SeqCst);
        self.control
            .fetch_update(SeqCst, SeqCst, |word| {
                let mut control = Control(word);
                let notifies = !control.outstanding() && !control.suppressed();
                control.set_outstanding(true);
                notifies.then_some(control.0)
            })
            .ok()
            .map(Control)
            .map(|control| Notification { vector: control.notification_vector(), destination: control.destination() })
    }

    /// Takes what is posted, as a processor does that has been notified.
    pub fn take(&self) -> u64 {
        self.change(|control| control.set_outstanding(false));
        self.pir.swap(0, SeqCst)
    }

    /// Sends no notifications any more, or sends them again. What is posted meanwhile stays: who allows them has to
    /// look for it.
    pub fn suppress(&self, yes: bool) {
        self.change(|control| control.set_suppressed(yes));
    }

    fn change(&self, change: impl Fn(&mut Control)) {
        let changed = |word| {
            let mut control = Control(word);
            change(&mut control);
            Some(control.0)
        };
        let _ = self.control.fetch_update(SeqCst, SeqCst, changed); // it always changes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn the_fields_are_where_the_architecture_has_them() {
        let upid = Upid::new(0xec, 0x0500);
        assert_eq!(upid.control().0, 0x0000_0500_00ec_0000);
        upid.suppress(true);
        assert_eq!(upid.control().0, 0x0000_0500_00ec_0002);
        upid.suppress(false);
        assert_eq!(upid.post(Vector::MAX), Some(Notification { vector: 0xec, destination: 0x0500 }));
        assert_eq!((upid.control().0, upid.pending()), (0x0000_0500_00ec_0001, 1 << 63));
    }

    #[test]
    fn one_notification_is_outstanding_at_a_time() {
        let upid = Upid::new(1, 2);
        let [low, high] = [3, 40].map(|number| Vector::new(number).unwrap());
        assert!(upid.post(low).is_some());
        assert!(upid.post(low).is_none() && upid.post(high).is_none(), "one is outstanding");
        assert_eq!(upid.take(), low.bit() | high.bit());
        assert_eq!((upid.pending(), upid.control().outstanding()), (0, false));
        upid.suppress(true);
        assert!(upid.post(low).is_none());
        upid.suppress(false);
        assert_eq!(upid.take(), low.bit(), "what was posted meanwhile is there");
    }

    #[test]
    fn of_threads_that_post_and_one_that_takes_nothing_is_lost() {
        const EACH: u64 = 20_000;
        let upid = Arc::new(Upid::new(0, 0));
        let senders: Vec<_> = (0..4u8)
            .map(|number| {
                let upid = Arc::clone(&upid);
                let vector = Vector::new(number).unwrap();
                // Each waits until its bit was taken: as many are taken as were posted.
                thread::spawn(move || {
                    let mut notified = 0u64;
                    for _ in 0..EACH {
                        notified += u64::from(upid.post(vector).is_some());
                        while upid.pending() & vector.bit() != 0 {
                            thread::yield_now();
                        }
                    }
                    notified
                })
            })
            .collect();
        let mut taken = 0;
        while taken < 4 * EACH {
            taken += u64::from(upid.take().count_ones());
            thread::yield_now();
        }
        let notified: u64 = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
        assert_eq!(taken, 4 * EACH);
        assert!(notified > 0 && notified <= taken, "{notified} notifications");
    }
}
