//! Pending timeouts: when each is due, and after how many completions.
//!
//! As `io_timeout` of kernel 6.18 has them (io_uring/timeout.c): one list in the order of counts, those
//! without a count behind; and for each clock the times in their order.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::abi::op::{IORING_TIMEOUT_BOOTTIME, IORING_TIMEOUT_REALTIME};

/// The clock of a timeout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Clock {
    /// Stands still while the machine sleeps.
    #[default]
    Monotonic,
    Boottime,
    Realtime,
}

const CLOCKS: [Clock; 3] = [Clock::Monotonic, Clock::Boottime, Clock::Realtime];

impl Clock {
    /// The clock that flags of a timeout name, unless they name two.
    pub(super) fn of_flags(flags: u32) -> Option<Self> {
        match flags & (IORING_TIMEOUT_BOOTTIME | IORING_TIMEOUT_REALTIME) {
            0 => Some(Self::Monotonic),
            IORING_TIMEOUT_BOOTTIME => Some(Self::Boottime),
            IORING_TIMEOUT_REALTIME => Some(Self::Realtime),
            _ => None,
        }
    }

    /// The clock with this number (`clockid_t`), of those that a wait can use.
    pub(super) fn of_number(number: i32) -> Option<Self> {
        match number {
            libc::CLOCK_MONOTONIC => Some(Self::Monotonic),
            libc::CLOCK_BOOTTIME => Some(Self::Boottime),
            _ => None,
        }
    }

    /// What it shows, in nanoseconds. It stands still when it cannot be read, which does not happen.
    pub(super) fn now(self) -> u64 {
        let id = match self {
            Self::Monotonic => ClockId::CLOCK_MONOTONIC,
            Self::Boottime => ClockId::CLOCK_BOOTTIME,
            Self::Realtime => ClockId::CLOCK_REALTIME,
        };
        clock_gettime(id).map_or(0, |time| Duration::from(time).as_nanos() as u64)
    }
}

/// What a `TIMEOUT` or a `LINK_TIMEOUT` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timeout {
    pub(crate) clock: Clock,
    /// It is a time of the clock, not a duration.
    pub(crate) absolute: bool,
    /// That it expires is no failure.
    pub(crate) succeeds: bool,
    pub(crate) multishot: bool,
    /// Completions after which it ends; how often it expires, if it is multishot; 0 for neither.
    pub(crate) count: u32,
    /// The time, or the duration.
    pub(crate) nanos: u64,
}

impl Timeout {
    /// When it expires, on its clock.
    fn due(&self) -> u64 {
        if self.absolute { self.nanos } else { self.clock.now().saturating_add(self.nanos) }
    }
}

/// Nanoseconds of a `struct __kernel_timespec`, as `timespec64_to_ktime` has them; `None` when it is negative.
pub(super) fn nanos([seconds, nanos]: [i64; 2]) -> Option<u64> {
    const MOST: u64 = i64::MAX as u64;
    let (seconds, nanos) = (u64::try_from(seconds).ok()?, u64::try_from(nanos).ok()?);
    Some(seconds.saturating_mul(1_000_000_000).saturating_add(nanos).min(MOST))
}

/// Nanoseconds of a wait: a sum that is not positive is over at once.
pub(super) fn wait_nanos([seconds, nanos]: [i64; 2]) -> u64 {
    let sum = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    u64::try_from(sum.clamp(0, i64::MAX.into())).unwrap_or(0)
}

/// A pending one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) operation: u32,
    user_data: u64,
    timeout: Timeout,
    /// How often it has still to expire, if it is multishot and that is limited.
    repeats: u32,
    /// The number of completions at which it ends.
    target: Option<u32>,
    due: u64,
}

impl Pending {
    /// Whether it expires again (`io_timeout_finish`).
    pub(super) fn goes_on(&self) -> bool {
        self.timeout.multishot && (self.timeout.count == 0 || self.repeats > 1)
    }
}

/// A timeout that has expired: it is not pending any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    Timeout(Pending),
    /// A `LINK_TIMEOUT`, by its operation.
    Linked(u32),
}

/// The pending timeouts of a ring.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// Counted ones in the order of their counts, then the others.
    list: VecDeque<Pending>,
    /// `LINK_TIMEOUT`s.
    linked: Vec<Pending>,
    /// When which operation is due, by clock.
    due: [BTreeSet<(u64, u32)>; 3],
    /// Timeouts that have expired or been counted out (`cq_timeouts`): their completions do not count.
    fired: u32,
    /// Completions when counts were last looked at (`cq_last_tm_flush`).
    looked: u32,
}

impl Timers {
    /// Whether nothing is pending.
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty() && self.linked.is_empty()
    }

    /// How many have ever expired or been counted out.
    pub(super) fn fired(&self) -> u32 {
        self.fired
    }

    /// Takes up a `TIMEOUT`, when `posted` completions have ever been in the ring (`io_timeout`).
    pub(super) fn add(&mut self, operation: u32, user_data: u64, timeout: Timeout, posted: u32) {
        let due = timeout.due();
        let mut pending = Pending { operation, user_data, timeout, repeats: 0, target: None, due };
        let place = if timeout.multishot || timeout.count == 0 {
            pending.repeats = timeout.count;
            self.list.len()
        } else {
            let now = posted.wrapping_sub(self.fired);
            pending.target = Some(now.wrapping_add(timeout.count));
            self.looked = now;
            // From the end: behind the first that needs no more completions.
            let ahead = |p: &Pending| p.target.is_some_and(|target| target.wrapping_sub(now) <= timeout.count);
            self.list.iter().rposition(ahead).map_or(0, |at| at + 1)
        };
        self.list.insert(place, pending);
        self.due[timeout.clock as usize].insert((due, operation));
    }

    /// Takes up a `LINK_TIMEOUT`.
    pub(super) fn add_linked(&mut self, operation: u32, user_data: u64, timeout: Timeout) {
        let due = timeout.due();
        self.linked.push(Pending { operation, user_data, timeout, repeats: 0, target: None, due });
        self.due[timeout.clock as usize].insert((due, operation));
    }

    fn forget_due(&mut self, pending: &Pending) {
        self.due[pending.timeout.clock as usize].remove(&(pending.due, pending.operation));
    }

    /// Takes away the first `TIMEOUT` that `matches` by operation and user data.
    pub(super) fn remove(&mut self, mut matches: impl FnMut(u32, u64) -> bool) -> Option<u32> {
        let at = self.list.iter().position(|p| matches(p.operation, p.user_data))?;
        let pending = self.list.remove(at)?;
        self.forget_due(&pending);
        Some(pending.operation)
    }

    /// Takes a `LINK_TIMEOUT` away. False when it has expired.
    pub(super) fn remove_linked(&mut self, operation: u32) -> bool {
        let Some(at) = self.linked.iter().position(|p| p.operation == operation) else { return false };
        let pending = self.linked.remove(at);
        self.forget_due(&pending);
        true
    }

    /// Gives the `TIMEOUT` of `user_data` a new time; it counts no more (`io_timeout_update`). False when
    /// there is none.
    pub(super) fn update(&mut self, user_data: u64, new: &Timeout) -> bool {
        let Some(at) = self.list.iter().position(|p| p.user_data == user_data) else { return false };
        let Some(mut pending) = self.list.remove(at) else { return false };
        self.forget_due(&pending);
        pending.target = None;
        pending.timeout.count = 0;
        pending.repeats = 0;
        self.retime(&mut pending, new);
        self.list.push_back(pending);
        true
    }

    /// Gives the `LINK_TIMEOUT` of `user_data` a new time. False when there is none.
    pub(super) fn update_linked(&mut self, user_data: u64, new: &Timeout) -> bool {
        let Some(at) = self.linked.iter().position(|p| p.user_data == user_data) else { return false };
        let mut pending = self.linked[at];
        self.forget_due(&pending);
        self.retime(&mut pending, new);
        self.linked[at] = pending;
        true
    }

    fn retime(&mut self, pending: &mut Pending, new: &Timeout) {
        let (absolute, nanos) = (new.absolute, new.nanos);
        pending.timeout = Timeout { absolute, nanos, ..pending.timeout };
        pending.due = pending.timeout.due();
        self.due[pending.timeout.clock as usize].insert((pending.due, pending.operation));
    }

    /// The next `TIMEOUT` that has had its completions, of `posted` ever in the ring (`io_flush_timeouts`).
    pub(super) fn counted_out(&mut self, posted: u32) -> Option<u32> {
        let now = posted.wrapping_sub(self.fired);
        let first = self.list.front()?;
        let target = first.target?;
        // Counted from the last look: the numbers wrap.
        if now.wrapping_sub(self.looked) < target.wrapping_sub(self.looked) {
            self.looked = now;
            return None;
        }
        let pending = self.list.pop_front()?;
        self.forget_due(&pending);
        self.fired = self.fired.wrapping_add(1);
        Some(pending.operation)
    }

    /// All that have had their completions, one look for all of them, before any of theirs is posted.
    pub(super) fn count_out(&mut self, posted: u32, mut each: impl FnMut(u32)) {
        let now = posted.wrapping_sub(self.fired);
        let reached = |target: u32, looked| now.wrapping_sub(looked) >= target.wrapping_sub(looked);
        while let Some(pending) =
            self.list.pop_front_if(|p| p.target.is_some_and(|target| reached(target, self.looked)))
        {
            self.forget_due(&pending);
            self.fired = self.fired.wrapping_add(1);
            each(pending.operation);
        }
        self.looked = now;
    }

    /// The next one that is due; without `shots`, of those that expire once.
    pub(super) fn expired(&mut self, shots: bool) -> Option<Expired> {
        for clock in CLOCKS {
            if self.due[clock as usize].is_empty() {
                continue;
            }
            let now = clock.now();
            let multishot = |operation| self.list.iter().any(|p| p.operation == operation && p.timeout.multishot);
            let mut due = self.due[clock as usize].range(..=(now, u32::MAX));
            let Some(&(due, operation)) = due.find(|(_, operation)| shots || !multishot(*operation)) else { continue };
            self.due[clock as usize].remove(&(due, operation));
            if let Some(at) = self.linked.iter().position(|p| p.operation == operation) {
                self.linked.remove(at);
                return Some(Expired::Linked(operation));
            }
            let Some(at) = self.list.iter().position(|p| p.operation == operation) else { continue };
            self.fired = self.fired.wrapping_add(1);
            return self.list.remove(at).map(Expired::Timeout);
        }
        None
    }

    /// One that has expired is pending again, for its next time.
    pub(super) fn renew(&mut self, mut pending: Pending) {
        pending.repeats = pending.repeats.saturating_sub(1);
        pending.due = pending.timeout.due();
        self.due[pending.timeout.clock as usize].insert((pending.due, pending.operation));
        self.list.push_back(pending);
    }

    /// How long it takes until the next one is due.
    pub(super) fn next(&self) -> Option<Duration> {
        let left = |clock: Clock| {
            let (due, _) = self.due[clock as usize].first()?;
            Some(Duration::from_nanos(due.saturating_sub(clock.now())))
        };
        CLOCKS.into_iter().filter_map(left).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(count: u32) -> Timeout {
        Timeout { count, nanos: 1 << 60, ..Timeout::default() }
    }

    #[test]
    fn times_are_those_of_the_kernel() {
        assert_eq!(nanos([1, 5]), Some(1_000_000_005));
        assert_eq!(nanos([0, 2_000_000_000]), Some(2_000_000_000), "more than a second of nanoseconds");
        assert_eq!(nanos([i64::MAX, 0]), Some(i64::MAX as u64));
        assert_eq!(nanos([-1, 0]), None);
        assert_eq!(nanos([0, -1]), None);
    }

    #[test]
    fn counts_end_in_their_order_and_do_not_count_each_other() {
        let mut timers = Timers::default();
        for (operation, count) in [(0, 3), (1, 1), (2, 2), (3, 2)] {
            timers.add(operation, 0, counted(count), 10);
        }
        timers.add(4, 0, counted(0), 10);
        assert_eq!(timers.counted_out(10), None);
        assert_eq!(timers.counted_out(11), Some(1));
        // Its own completion is the twelfth, and does not count.
        assert_eq!(timers.counted_out(12), None);
        assert_eq!(timers.counted_out(13), Some(2));
        assert_eq!(timers.counted_out(13), None, "the completion of the other is still to come");
        assert_eq!(timers.counted_out(14), Some(3));
        assert_eq!(timers.fired(), 3);
    }

    #[test]
    fn one_look_counts_out_all_that_have_had_theirs() {
        let mut timers = Timers::default();
        for (operation, count) in [(0, 2), (1, 2), (2, 3)] {
            timers.add(operation, 0, counted(count), 10);
        }
        let mut ended = Vec::new();
        timers.count_out(11, |operation| ended.push(operation));
        assert!(ended.is_empty());
        timers.count_out(12, |operation| ended.push(operation));
        assert_eq!((ended, timers.fired()), (vec![0, 1], 2));
    }

    #[test]
    fn a_count_survives_the_wrap_of_the_numbers() {
        let mut timers = Timers::default();
        timers.add(0, 0, counted(4), u32::MAX - 1);
        assert_eq!(timers.counted_out(1), None);
        assert_eq!(timers.counted_out(2), Some(0));
    }

    #[test]
    fn what_is_due_expires_and_goes_on_as_often_as_it_was_told() {
        let mut timers = Timers::default();
        timers.add(7, 0, Timeout { multishot: true, count: 2, ..Timeout::default() }, 0);
        for again in [true, false] {
            let Some(Expired::Timeout(pending)) = timers.expired(true) else { panic!("it is due") };
            assert!(timers.remove(|_, _| true).is_none(), "what has expired is not found");
            assert_eq!((pending.operation, pending.goes_on()), (7, again));
            if again {
                timers.renew(pending);
            }
        }
        assert_eq!(timers.expired(true), None);
        assert!(timers.is_empty() && timers.next().is_none());
    }

    #[test]
    fn an_updated_one_counts_no_more() {
        let mut timers = Timers::default();
        timers.add(0, 5, counted(1), 0);
        assert!(!timers.update(6, &counted(0)));
        assert!(timers.update(5, &Timeout { absolute: true, nanos: 1, ..Timeout::default() }));
        assert_eq!(timers.counted_out(9), None);
        assert!(matches!(timers.expired(true), Some(Expired::Timeout(Pending { operation: 0, .. }))));
    }
}
