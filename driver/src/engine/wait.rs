//! Progress and waiting. Every wait for a device is here.
//!
//! To sleep, in this order: look at the completion queues, sleep until an event has been raised since
//! the last sleep ended, look again. An interrupt that comes between the look and the sleep ends the
//! sleep at once.

use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::{CompletionMode, Engine};
use crate::error::Error;
use crate::mark::{EMPTY, POLL, mark};
use crate::nvme::{Health, IoQueue, LineTarget, Look};

/// How long the device may leave a command unanswered (Linux: `io_timeout`, 30 s).
const IO_TIMEOUT: Duration = Duration::from_secs(30);
/// A sleeping thread looks at the device's health this often.
const TICK: Duration = Duration::from_secs(1);
/// A polling thread looks at the clock once in so many empty looks.
const IDLE_LOOKS: u64 = 1 << 16;

/// What bounds a wait. Times are nanoseconds on the clock of the ring's waits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    /// Signals that are blocked meanwhile: where that stands, and its bytes; looked at when the wait begins.
    pub(super) sigmask: (u64, u64),
    /// When the wait ends.
    pub(super) until: Option<u64>,
    /// From when on any completion ends it.
    pub(super) at_least: Option<u64>,
    /// It waits on when nothing is left that could complete.
    pub(super) patient: bool,
}

impl Engine {
    /// Takes what the devices have completed and issues what waits. Answers whether more can come.
    #[inline]
    pub(crate) fn progress(&mut self) -> bool {
        self.cq.flush();
        // One queue, and nothing else: as nearly always.
        if let [queue] = &mut self.queues[..]
            && !queue.is_waiting()
            && !self.attentive
        {
            let one = if queue.is_at_one() { queue.reap_one(&mut self.cq) } else { Look::Other };
            let taken = match one {
                Look::Nothing => 0,
                Look::Taken | Look::Followed => 1,
                Look::Other if queue.is_busy() => queue.reap(&mut self.cq, &self.user),
                Look::Other => 0,
            };
            let busy = queue.is_busy();
            if self.cq.has_returned() {
                self.attend();
                return self.after_looks(taken, self.is_busy(), false);
            }
            if taken == 0 && busy {
                return self.after_looks(taken, busy, false);
            }
            self.cq.set_flags(busy);
            return busy;
        }
        self.progress_all()
    }

    #[inline(never)]
    fn progress_all(&mut self) -> bool {
        let mut ticked = false;
        if self.notifier.is_armed() {
            self.clear_events();
            ticked = self.notifier.has_ticked();
            self.read_mail();
        }
        let (taken, busy) = self.reap_all();
        if self.attentive {
            self.attend();
        }
        self.after_looks(taken, busy || self.is_busy(), ticked)
    }

    /// Looks at every queue pair once. Answers how many completions there were, and whether more can come.
    fn reap_all(&mut self) -> (u32, bool) {
        let mut taken = 0;
        let mut busy = false;
        for queue in &mut self.queues {
            taken += queue.reap(&mut self.cq, &self.user);
            if queue.is_waiting() {
                queue.pump(&mut self.cq, &self.user);
                queue.publish();
            }
            busy |= queue.is_busy();
        }
        self.notice_returned();
        (taken, busy)
    }

    /// What follows looks that have found `taken` completions: time for a model, now and then a look at the
    /// devices themselves, and what the program is told.
    fn after_looks(&mut self, taken: u32, mut busy: bool, mut ticked: bool) -> bool {
        // As in `announce`, for what was issued just now.
        if busy && (taken == 0 || self.notifier.is_armed()) {
            self.queues.iter().for_each(IoQueue::relax);
        }
        if taken == 0 {
            self.idle_polls += 1;
            if self.idle_polls >= self.next_look {
                self.next_look = self.idle_polls + IDLE_LOOKS;
                ticked = true;
            }
        }
        if ticked && busy {
            self.look();
            busy = self.is_busy();
        }
        let more = busy || self.has_more();
        if self.attentive {
            self.signal.tell(self.cq.tail(), &self.rings);
            self.keep_ticking(busy);
        }
        self.cq.set_flags(more);
        more
    }

    /// The ring's descriptor raises when somebody has to look: after devices, and for what is due.
    pub(super) fn keep_ticking(&mut self, busy: bool) {
        if self.notifier.is_armed() {
            let tick = busy.then_some(TICK);
            self.notifier.tick_within(self.timers.next().into_iter().chain(tick).min());
        }
    }

    /// Consumes entries, then waits until at least `want` completions are in the ring (no more than it
    /// holds, and no more than can still come), unless an entry was refused.
    #[inline(never)] // one function, with what a batch of one goes through
    pub(crate) fn submit_and_wait(&mut self, want: u32) -> io::Result<usize> {
        self.check_ours()?;
        self.gate.check(true, want != 0).map_err(io::Error::from_raw_os_error)?;
        if self.attentive {
            self.read_mail();
        }
        let (submitted, all) = self.consume(u32::MAX);
        if want == 0 || !all {
            self.announce();
        } else if !self.poll_for_one(want) {
            match self.wait_within(want, &Limits::default()) {
                Err(error) if submitted == 0 => return Err(error),
                _ => {}
            }
        }
        Ok(submitted as usize)
    }

    /// Polls for a while if one plain command is in flight and nothing else is to be done, and for those that
    /// follow it in its chain until there are `want` completions. Answers whether it has completed; nothing
    /// more can come then.
    #[inline(always)] // as `submit_and_wait`
    fn poll_for_one(&mut self, want: u32) -> bool {
        let [queue] = &mut self.queues[..] else { return false };
        if !queue.is_at_one() || !self.polls_only {
            return false;
        }
        let mut looks = 0;
        while looks < queue.patience() {
            mark::<POLL>();
            match queue.reap_one(&mut self.cq) {
                Look::Taken => {
                    self.cq.clear_flags();
                    return true;
                }
                Look::Nothing => {}
                Look::Followed if self.cq.ready() < want => continue,
                // It has come, but is not plain: there is nothing to look for.
                Look::Followed | Look::Other => break,
            }
            mark::<EMPTY>();
            looks += 1;
        }
        self.idle_polls += u64::from(looks);
        false
    }

    /// Waits until `want` completions are in the ring, a timeout has fired, a limit is reached, or a signal
    /// has come (`io_cqring_wait`). Without a limit it does not wait for what cannot come, unless it is patient
    /// or other rings can reach this one.
    #[inline(never)]
    pub(super) fn wait_within(&mut self, want: u32, limits: &Limits) -> io::Result<()> {
        let want = want.min(self.rings.cq_entries());
        let fired = self.timers.fired();
        let bounded = limits.until.is_some() || limits.at_least.is_some();
        let mut sigmask = None;
        let waited = loop {
            mark::<POLL>();
            let more = self.progress();
            if self.cq.ready() >= want || self.timers.fired() != fired {
                break Ok(());
            }
            // Not before it is known that there is something to wait for.
            if sigmask.is_none() {
                match self.sigmask(limits.sigmask) {
                    Ok(mask) => sigmask = Some(mask),
                    Err(errno) => break Err(io::Error::from_raw_os_error(errno)),
                }
            }
            let left = if bounded {
                match self.time_left(limits) {
                    Some(left) => Some(left),
                    None => break Err(io::Error::from_raw_os_error(libc::ETIME)),
                }
            } else if more || limits.patient || (self.notifier.is_armed() && !self.rules.iopoll) {
                // A polled ring waits for nothing but its own commands (`io_iopoll_check`).
                None
            } else {
                break Ok(());
            };
            if let Err(error) = self.wait_once(left, sigmask.flatten()) {
                break Err(error);
            }
            if self.poll_for_one(want) {
                break Ok(());
            }
        };
        if self.mode == CompletionMode::Adaptive {
            self.end_adaptive_wait();
        }
        // The events are forgotten; the completions that they announced may be left in the ring.
        self.notifier.update(|| self.cq.has_any());
        if self.cq.ready() != 0 { Ok(()) } else { waited }
    }

    /// How long a wait may still last; `None` when it is over (`io_cqring_min_timer_wakeup`).
    fn time_left(&self, limits: &Limits) -> Option<Duration> {
        let now = self.clock.now();
        let left = |until: u64| until.checked_sub(now).filter(|left| *left != 0).map(Duration::from_nanos);
        match (limits.at_least, limits.until) {
            (Some(at_least), _) if at_least > now => left(at_least),
            (Some(_), None) => None,
            // From now on any completion will do.
            (Some(_), Some(_)) if self.cq.ready() != 0 => None,
            (_, Some(until)) => left(until),
            (None, None) => Some(TICK),
        }
    }

    /// Looks once more, or sleeps.
    fn wait_once(&mut self, left: Option<Duration>, sigmask: Option<u64>) -> io::Result<()> {
        match self.mode {
            CompletionMode::Poll if self.is_busy() => mark::<EMPTY>(),
            CompletionMode::Adaptive if self.is_busy() => return self.poll_or_park(left, sigmask),
            _ => return self.park(left, sigmask),
        }
        Ok(())
    }

    /// Sleeps if it has been looked for long enough.
    fn poll_or_park(&mut self, left: Option<Duration>, sigmask: Option<u64>) -> io::Result<()> {
        if !self.patience.is_over() {
            mark::<EMPTY>();
            return Ok(());
        }
        if self.quiet {
            if let Err(error) = self.connect_events() {
                tracing::warn!(%error, "no interrupts any more: this ring polls");
                self.mode = CompletionMode::Poll;
            }
            // What was completed before raises nothing: another look, and then to sleep.
            return Ok(());
        }
        self.patience.sleeps();
        self.park(left, sigmask)
    }

    fn end_adaptive_wait(&mut self) {
        self.patience.end();
        if self.patience.is_calm() && !self.quiet {
            self.disconnect_events();
        }
    }

    /// Sleeps until a device raises an event, another ring rings the bell, a timeout is due, or a tick has
    /// passed. A signal is an error.
    fn park(&mut self, left: Option<Duration>, sigmask: Option<u64>) -> io::Result<()> {
        // A model works while the driver sleeps; it may be asleep itself.
        self.queues.iter().for_each(IoQueue::relax);
        self.system_calls += 1;
        let limit = left.into_iter().chain(self.timers.next()).fold(TICK, Duration::min);
        let slept = self.sleeper.sleep(limit, sigmask);
        self.interrupts += u64::from(*slept.as_ref().unwrap_or(&false));
        // Also when another device has raised it: one that is silent is found all the same.
        self.look();
        slept.map(drop)
    }

    /// From now on interrupts raise the events that the ring's descriptor watches.
    pub(crate) fn arm(&mut self) {
        if !self.is_ours() {
            return;
        }
        self.notifier.arm();
        if let Err(error) = self.notifier.watch(self.mailbox.bell()) {
            tracing::warn!(%error, "other rings cannot wake this one");
        }
        self.mailbox.publish(self.descriptor());
        self.choose_path();
        for queue in &mut self.queues {
            let armed = queue.arm().and_then(|()| queue.event().map_or(Ok(()), |e| self.notifier.watch(e)));
            if let Err(error) = armed {
                tracing::warn!(%error, "no interrupts: the ring's descriptor stays readable");
                self.notifier.stick();
            }
        }
        // What was completed before raised nothing.
        self.progress();
        self.notifier.update(|| self.cq.has_any());
    }

    /// Watches the event of a queue pair wherever something waits for it.
    pub(super) fn watch(&self, queue: &IoQueue) -> Result<(), Error> {
        let Some(event) = queue.event() else { return Ok(()) };
        if self.notifier.is_armed() {
            self.notifier.watch(event)?;
        }
        if self.mode.sleeps() {
            self.sleeper.watch(event)?;
        }
        Ok(())
    }

    /// Forgets events raised so far, so that the ring's descriptor is readable only for new ones.
    fn clear_events(&mut self) {
        for queue in self.queues.iter().filter(|q| q.event().is_some()) {
            self.system_calls += 1;
            if queue.clear_event() {
                self.interrupts += 1;
            }
        }
    }

    /// Waits until no device has anything in flight; what follows from that is left to
    /// [`attend`](Self::attend). Bounded: a device that answers nothing is given up.
    pub(crate) fn drain_devices(&mut self) {
        self.queues.iter_mut().for_each(IoQueue::publish);
        while self.is_busy() {
            if self.reap_all().0 == 0 {
                self.queues.iter().for_each(IoQueue::relax);
                self.look();
            }
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.queues.iter().any(|q| q.is_busy())
    }

    /// Looks after devices that answer nothing: one that is gone, has failed, or has been silent too
    /// long is stopped, and everything in flight on it ends with an error.
    #[cold]
    fn look(&mut self) {
        // A polling thread comes by often; the register is read only as often as it is of use.
        let now = coarse_now();
        if now < self.looked + TICK / 2 {
            return;
        }
        self.looked = now;
        for (index, queue) in self.queues.iter_mut().enumerate() {
            let stalled = queue.stalled_for() > IO_TIMEOUT.max(queue.timeout());
            if stalled && queue.owner().health() == Health::Good {
                tracing::error!(device = queue.owner().name(), "no answer for too long: stopping the controller");
                queue.owner().stop();
            }
            let errno = match queue.owner().check_health() {
                Health::Good => continue,
                Health::Stopped if stalled => libc::ETIMEDOUT,
                Health::Stopped => libc::EIO,
                Health::Gone => libc::ENODEV,
            };
            // What the device finished before it failed is not lost.
            queue.reap(&mut self.cq, &self.user);
            queue.fail_all(errno, &mut self.cq, &self.user);
            queue.set_line(LineTarget::NONE);
            if index == self.hot {
                self.hot_file = u32::MAX;
            }
        }
        self.notice_returned();
    }

    /// A chain with which a queue could not go on is attended to at the next progress, whatever comes first.
    fn notice_returned(&mut self) {
        if self.cq.has_returned() {
            self.choose_path();
        }
    }
}

/// Time on a clock that is read in a few instructions and goes forward every few milliseconds. It stands
/// still when it cannot be read, which does not happen.
fn coarse_now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::ZERO, Duration::from)
}
