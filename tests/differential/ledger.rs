//! What has been submitted and has not completed, and what of it can complete by itself.
//!
//! A round ends when everything that can complete has completed. That is found without a clock: each entry
//! posts a completion, but for
//!
//! - long timeouts, until they are removed, cancelled, or have counted enough completions, and what is linked
//!   or drained behind them;
//! - entries with `CQE_SKIP_SUCCESS`, which are done when a later one of their chain has completed.
//!
//! What is left over, a skipping entry with none behind it, can only be given some time.

use super::names::{
    ASYNC, ASYNC_CANCEL, CANCEL_ALL, CANCEL_ANY, CANCEL_FD, CANCEL_OP, CQE_MORE, DRAIN, HARDLINK, LINK, LINK_TIMEOUT,
    LINK_TIMEOUT_UPDATE, NOP, SKIP, TIMEOUT, TIMEOUT_ABS, TIMEOUT_MULTISHOT, TIMEOUT_REMOVE, TIMEOUT_UPDATE,
};
use super::program::{Entry, Word};

/// A timeout of fewer seconds fires by itself while a program runs.
pub(super) const LONG_SECONDS: i64 = 60;

/// What a round waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// A completion that must come.
    Completion,
    /// Some time: something may be in flight that will not say when it is done.
    Time,
    Nothing,
}

#[derive(Debug)]
struct Line {
    entry: Entry,
    /// Entries of one number run one after the other.
    chain: usize,
    done: bool,
    posted: Option<i32>,
    /// Completions there were when it was submitted.
    since: u64,
    /// A long timeout that has been told to fire, or whose limit has been reached.
    hurried: bool,
}

impl Line {
    /// An entry that skips and posts has failed: it takes the completions of the rest of its chain with it. A hard
    /// link goes on all the same, but for an entry that was refused while it was prepared.
    fn may_silence(&self) -> bool {
        let refused = |res: i32| [libc::EINVAL, libc::EFAULT, libc::EOPNOTSUPP, libc::ECANCELED].contains(&-res);
        let hard = self.entry.flags & HARDLINK != 0;
        self.entry.flags & SKIP != 0 && self.posted.is_some_and(|res| !hard || refused(res))
    }
}

/// A cancellation: so many of these timeouts complete.
#[derive(Debug)]
struct Promise {
    of: Vec<usize>,
    count: usize,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    lines: Vec<Line>,
    chains: usize,
    /// Completions that count for timeouts: all but those of timeouts that fired.
    counted: u64,
    /// By the cancelling entry; a count of 0 until it has completed.
    promises: Vec<(u64, Promise)>,
}

impl Ledger {
    /// Entries that one call has consumed. Chains do not outlast it.
    pub(super) fn submitted<'a>(&mut self, entries: impl Iterator<Item = &'a Entry>) {
        let mut linked = false;
        let since = self.counted;
        for entry in entries {
            if !linked {
                self.chains += 1;
            }
            let next = entry.flags & (LINK | HARDLINK) != 0;
            // Carried out before the call returns.
            let at_once = entry.opcode == NOP && !linked && !next && entry.flags & (SKIP | ASYNC | DRAIN) == SKIP;
            if matches!(entry.opcode, ASYNC_CANCEL | TIMEOUT_REMOVE) {
                let wide = entry.op_flags & (CANCEL_ANY | CANCEL_FD | CANCEL_OP) != 0 && entry.opcode == ASYNC_CANCEL;
                let named = |line: &Line| wide || Word::Number(line.entry.user_data) == entry.addr;
                let waits = |line: &Line| !line.done && line.entry.opcode == TIMEOUT && named(line);
                let of = (0..self.lines.len()).filter(|at| waits(&self.lines[*at])).collect();
                self.promises.push((entry.user_data, Promise { of, count: 0 }));
            }
            let (entry, chain) = (entry.clone(), self.chains);
            self.lines.push(Line { entry, chain, done: at_once, posted: None, since, hurried: false });
            linked = next;
        }
    }

    /// A completion that was taken.
    pub(super) fn completed(&mut self, user_data: u64, res: i32, flags: u32) {
        let of_entry = |line: &Line| line.entry.user_data == user_data;
        let found = self.lines.iter().position(|line| of_entry(line) && !line.done);
        let Some(at) = found.or_else(|| self.lines.iter().rposition(of_entry)) else { return };
        let entry = self.lines[at].entry.clone();
        let fired = entry.opcode == TIMEOUT && matches!(res, 0 | ETIME);
        self.counted += u64::from(!fired);
        if flags & CQE_MORE != 0 {
            return;
        }
        if res >= 0 {
            self.succeeded(&entry, res);
        }
        if entry.opcode == LINK_TIMEOUT && res == ETIME && at > 0 {
            // What it watched over is cancelled, and says so later.
            self.lines[at - 1].hurried = true;
        }
        self.lines[at].done = true;
        self.lines[at].posted = Some(res);
        let chain = self.lines[at].chain;
        if entry.opcode != LINK_TIMEOUT {
            // Those before it in its chain are done, whether they say so or not.
            let before = self.lines[..at].iter_mut().filter(|line| line.chain == chain);
            before.filter(|line| line.entry.flags & SKIP != 0).for_each(|line| line.done = true);
        }
    }

    fn succeeded(&mut self, entry: &Entry, res: i32) {
        let updates = entry.op_flags & (TIMEOUT_UPDATE | LINK_TIMEOUT_UPDATE) != 0;
        let count = match entry.opcode {
            ASYNC_CANCEL if entry.op_flags & CANCEL_ALL != 0 => res as usize,
            ASYNC_CANCEL => 1,
            TIMEOUT_REMOVE if !updates => 1,
            TIMEOUT_REMOVE => {
                let of_target = |line: &&mut Line| Word::Number(line.entry.user_data) == entry.addr;
                for line in self.lines.iter_mut().filter(of_target) {
                    line.hurried = is_short(&entry.off);
                    // With another time it forgets its count (`io_timeout_update`).
                    line.entry.off = Word::Number(0);
                }
                0
            }
            _ => 0,
        };
        if let Some((_, promise)) = self.promises.iter_mut().rfind(|(by, _)| *by == entry.user_data) {
            promise.count = count;
        }
    }

    pub(super) fn need(&self) -> Need {
        let mut need = Need::Nothing;
        let mut at = 0;
        while at < self.lines.len() {
            let chain = self.lines[at].chain;
            let len = self.lines[at..].iter().take_while(|line| line.chain == chain).count();
            let lines = &self.lines[at..at + len];
            at += len;
            match self.need_of_chain(lines) {
                // A drained entry waits for it, and all that follow wait for that.
                Err(Parked) if self.lines[at..].iter().any(|line| !line.done && line.entry.flags & DRAIN != 0) => break,
                Err(Parked) | Ok(Need::Nothing) => {}
                Ok(Need::Completion) => return Need::Completion,
                Ok(Need::Time) => need = Need::Time,
            }
        }
        let done = |promise: &Promise| promise.of.iter().filter(|at| self.lines[**at].done).count();
        let broken = |promise: &Promise| done(promise) < promise.count.min(promise.of.len());
        if self.promises.iter().any(|(_, promise)| broken(promise)) { Need::Completion } else { need }
    }

    fn need_of_chain(&self, lines: &[Line]) -> Result<Need, Parked> {
        let failed = lines.iter().any(Line::may_silence);
        let mut need = Need::Nothing;
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| !line.done) {
            let limit = lines.get(at + 1).filter(|next| next.entry.opcode == LINK_TIMEOUT && !next.done);
            let limited = limit.is_some_and(|limit| limit.hurried || is_short(&limit.entry.addr));
            if line.entry.opcode == TIMEOUT && !limited && self.is_parked(line) {
                return Err(Parked);
            }
            if line.entry.flags & SKIP == 0 && !failed {
                return Ok(Need::Completion);
            }
            // A later one of the chain says when it is done.
            need = Need::Time;
        }
        Ok(need)
    }

    fn is_parked(&self, line: &Line) -> bool {
        let count = if let Word::Number(count) = line.entry.off { count } else { 0 };
        let multishot = line.entry.op_flags & TIMEOUT_MULTISHOT != 0;
        let reached = count > 0 && !multishot && self.counted - line.since >= count;
        let short = is_short(&line.entry.addr) || line.entry.op_flags & TIMEOUT_ABS != 0;
        !(reached || short || line.hurried)
    }

    /// User data of what should have completed and has not.
    pub(super) fn missing(&self) -> Vec<u64> {
        self.lines.iter().filter(|line| !line.done).map(|line| line.entry.user_data).collect()
    }
}

struct Parked;

const ETIME: i32 = -libc::ETIME;

fn is_short(time: &Word) -> bool {
    matches!(time, Word::Time(seconds, _) if *seconds < LONG_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differential::names::{CQE_MORE, FSYNC, READ};

    fn entry(opcode: u8, flags: u8, user_data: u64) -> Entry {
        Entry { opcode, flags, user_data, ..Entry::default() }
    }

    fn timeout(seconds: i64, count: u64, flags: u8, user_data: u64) -> Entry {
        let (addr, off) = (Word::Time(seconds, 0), Word::Number(count));
        Entry { addr, off, len: 1, ..entry(TIMEOUT, flags, user_data) }
    }

    fn submitted(entries: &[Entry]) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.submitted(entries.iter());
        ledger
    }

    #[test]
    fn each_entry_is_waited_for() {
        let mut ledger = submitted(&[entry(NOP, 0, 1), entry(READ, 0, 2)]);
        ledger.completed(1, 0, 0);
        assert_eq!((ledger.need(), ledger.missing()), (Need::Completion, vec![2]));
        ledger.completed(2, 512, 0);
        assert_eq!(ledger.need(), Need::Nothing);
    }

    #[test]
    fn a_completion_with_more_to_come_is_not_the_last() {
        let mut ledger = submitted(&[timeout(0, 2, 0, 1)]);
        ledger.completed(1, -libc::ETIME, CQE_MORE);
        assert_eq!(ledger.need(), Need::Completion);
        ledger.completed(1, -libc::ETIME, 0);
        assert_eq!(ledger.need(), Need::Nothing);
    }

    #[test]
    fn long_timeouts_and_what_follows_them_are_not_waited_for() {
        let mut ledger = submitted(&[timeout(3600, 0, LINK, 1), entry(NOP, 0, 2), entry(NOP, 0, 3)]);
        assert_eq!(ledger.need(), Need::Completion);
        ledger.completed(3, 0, 0);
        assert_eq!(ledger.need(), Need::Nothing);
        let removal = Entry { addr: Word::Number(1), ..entry(TIMEOUT_REMOVE, 0, 4) };
        ledger.submitted([removal].iter());
        ledger.completed(4, 0, 0);
        assert_eq!(ledger.need(), Need::Completion, "what was removed completes");
        ledger.completed(1, -libc::ECANCELED, 0);
        assert_eq!(ledger.need(), Need::Completion, "and what follows");
        ledger.completed(2, -libc::ECANCELED, 0);
        assert_eq!(ledger.need(), Need::Nothing);
    }

    #[test]
    fn a_timeout_is_due_once_it_has_counted() {
        let mut ledger = submitted(&[timeout(3600, 2, 0, 1), timeout(0, 0, 0, 2), entry(NOP, 0, 3)]);
        ledger.completed(3, 0, 0);
        ledger.completed(2, -libc::ETIME, 0);
        assert_eq!(ledger.need(), Need::Nothing, "timeouts that fire do not count");
        ledger.submitted([entry(NOP, 0, 4)].iter());
        ledger.completed(4, 0, 0);
        assert_eq!(ledger.need(), Need::Completion);
        ledger.completed(1, 0, 0);
        assert_eq!(ledger.need(), Need::Nothing);
    }

    #[test]
    fn a_limit_that_is_reached_ends_a_long_timeout() {
        let limit = Entry { addr: Word::Time(0, 0), len: 1, ..entry(LINK_TIMEOUT, 0, 2) };
        let mut ledger = submitted(&[timeout(3600, 0, LINK, 1), limit]);
        assert_eq!(ledger.need(), Need::Completion);
        ledger.completed(2, ETIME, 0);
        assert_eq!(ledger.need(), Need::Completion, "the limit may say so before what it ends");
        ledger.completed(1, -libc::ECANCELED, 0);
        assert_eq!(ledger.need(), Need::Nothing);
    }

    #[test]
    fn what_skips_is_done_when_a_later_one_of_its_chain_is() {
        let mut ledger = submitted(&[entry(READ, SKIP | LINK, 1), entry(NOP, 0, 2)]);
        assert_eq!(ledger.need(), Need::Completion);
        ledger.completed(2, 0, 0);
        assert_eq!(ledger.need(), Need::Nothing);
        // A failure takes the completions of the others with it.
        let mut ledger = submitted(&[entry(READ, SKIP | LINK, 1), entry(NOP, 0, 2)]);
        ledger.completed(1, -libc::EINVAL, 0);
        assert_eq!(ledger.need(), Need::Time);
        // A hard link goes on, if it began.
        for (res, need) in [(-libc::EBADF, Need::Completion), (-libc::EINVAL, Need::Time)] {
            let mut ledger = submitted(&[entry(READ, SKIP | HARDLINK, 1), entry(NOP, 0, 2)]);
            ledger.completed(1, res, 0);
            assert_eq!(ledger.need(), need);
        }
        // Alone, it never says when.
        assert_eq!(submitted(&[entry(FSYNC, SKIP, 1)]).need(), Need::Time);
        assert_eq!(submitted(&[entry(NOP, SKIP, 1)]).need(), Need::Nothing);
    }

    #[test]
    fn what_is_drained_behind_a_long_timeout_waits_with_all_that_follow() {
        let ledger = submitted(&[timeout(3600, 0, 0, 1), entry(NOP, DRAIN, 2), entry(NOP, 0, 3)]);
        assert_eq!(ledger.need(), Need::Nothing);
    }
}
