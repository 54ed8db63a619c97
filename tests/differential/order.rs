//! The order of completions, where there is one.
//!
//! Of one chain, they come in the order of the chain. A drained entry's comes after those of all entries before
//! it, and before those of all after it. NOPs are carried out as they are submitted. A timeout that has counted
//! comes after what it has counted.

use std::collections::HashMap;

use super::names::{ASYNC, DRAIN, HARDLINK, LINK, LINK_TIMEOUT, NOP, NOP_TW, SKIP, TIMEOUT, TIMEOUT_MULTISHOT};
use super::program::{Entry, Program, Word};
use super::run::{Record, Seen};

/// An entry where it was submitted.
struct Submitted<'a> {
    entry: &'a Entry,
    round: usize,
    /// The call that consumed it.
    call: usize,
    chain: usize,
    /// Of its last completion: the place among all, and the result.
    done: Option<(usize, i32)>,
}

impl Submitted<'_> {
    /// Where it completed, if that was well: what is refused while it is prepared waits for nothing.
    fn well(&self) -> Option<usize> {
        self.done.filter(|(_, res)| *res >= 0).map(|(at, _)| at)
    }

    fn is_plain_nop(&self) -> bool {
        let linked = self.entry.flags & (LINK | HARDLINK | ASYNC | DRAIN | SKIP) != 0;
        self.entry.opcode == NOP && self.entry.op_flags & NOP_TW == 0 && !linked
    }
}

/// What is out of order in a record, in words.
pub(super) fn violations(program: &Program, record: &Record) -> Vec<String> {
    let submitted = submitted(program, record);
    let mut found = Vec::new();
    let mut before = |first: &Submitted<'_>, second: &Submitted<'_>, why: &str, ends: Option<(usize, usize)>| {
        if let Some((first_at, second_at)) = ends.filter(|(first, second)| first > second) {
            let (first, second) = (first.entry.user_data, second.entry.user_data);
            found.push(format!("{first} completes after {second} ({first_at} > {second_at}): {why}"));
        }
    };
    let chained = |s: &&Submitted<'_>| s.entry.opcode != LINK_TIMEOUT && s.done.is_some();
    let of_chains: Vec<_> = submitted.iter().filter(chained).collect();
    for pair in of_chains.windows(2).filter(|pair| pair[0].chain == pair[1].chain) {
        let ends = pair[0].done.zip(pair[1].done).map(|((first, _), (second, _))| (first, second));
        before(pair[0], pair[1], "they are of one chain", ends);
    }
    let drained: Vec<usize> = submitted.iter().filter(|s| s.entry.flags & DRAIN != 0).map(|s| s.chain).collect();
    for chain in drained {
        for middle in submitted.iter().filter(|s| s.chain == chain) {
            for other in &submitted {
                let ends = other.well().zip(middle.well());
                if other.chain < chain {
                    before(other, middle, "the second is drained", ends);
                } else if other.chain > chain {
                    before(middle, other, "the first is drained", ends.map(|(other, middle)| (middle, other)));
                }
            }
        }
    }
    // After a drained entry the next one goes by way of task work.
    if !submitted.iter().any(|s| s.entry.flags & DRAIN != 0) {
        let heads_of_none = |at: usize| at == 0 || submitted[at - 1].chain != submitted[at].chain;
        let nops: Vec<_> =
            submitted.iter().enumerate().filter(|(at, s)| s.is_plain_nop() && heads_of_none(*at)).collect();
        for pair in nops.windows(2).map(|pair| (pair[0].1, pair[1].1)).filter(|(a, b)| a.call == b.call) {
            before(pair.0, pair.1, "NOPs of one call", pair.0.well().zip(pair.1.well()));
        }
    }
    submitted.iter().filter_map(|s| counted_too_few(s, &submitted, record)).for_each(|text| found.push(text));
    found
}

/// A timeout of 12 completions that completes with 0 after 11. It is the first of its round.
fn counted_too_few(timeout: &Submitted<'_>, all: &[Submitted<'_>], record: &Record) -> Option<String> {
    let Word::Number(count @ 1..) = timeout.entry.off else { return None };
    let (at, 0) = timeout.done? else { return None };
    if timeout.entry.opcode != TIMEOUT || timeout.entry.op_flags & TIMEOUT_MULTISHOT != 0 {
        return None;
    }
    let opcode = |seen: &Seen| all.iter().find(|s| s.entry.user_data == seen.user_data).map(|s| s.entry.opcode);
    let fired = |seen: &Seen| opcode(seen) == Some(TIMEOUT) && (seen.res == 0 || seen.res == -libc::ETIME);
    let came = record.seen[..at].iter().filter(|seen| seen.round >= timeout.round && !fired(seen)).count();
    let name = timeout.entry.user_data;
    (came < count as usize).then(|| format!("timeout {name} of {count} completions completes after {came}"))
}

/// The entries as the calls have consumed them.
fn submitted<'a>(program: &'a Program, record: &Record) -> Vec<Submitted<'a>> {
    let mut done: HashMap<u64, (usize, i32)> = HashMap::new();
    for (at, seen) in record.seen.iter().enumerate() {
        done.insert(seen.user_data, (at, seen.res));
    }
    // Which is which cannot be told of entries of one name.
    let mut names: Vec<u64> = program.entries().map(|entry| entry.user_data).collect();
    names.sort_unstable();
    names.windows(2).filter(|pair| pair[0] == pair[1]).for_each(|pair| {
        done.remove(&pair[0]);
    });
    let mut list = Vec::new();
    let (mut call, mut chain) = (0, 0);
    for (round, segments) in program.rounds.iter().map(|round| &round.segments).enumerate() {
        for (at, segment) in segments.iter().enumerate() {
            let mut entries = segment.entries.iter();
            for answer in record.answers.iter().filter(|answer| (answer.round, answer.segment) == (round, at)) {
                call += 1;
                let mut linked = false;
                for entry in entries.by_ref().take(answer.answer.max(0) as usize) {
                    chain += usize::from(!linked);
                    linked = entry.flags & (LINK | HARDLINK) != 0;
                    let done = done.get(&entry.user_data).copied();
                    list.push(Submitted { entry, round, call, chain, done });
                }
            }
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differential::run::Answer;
    use crate::differential::text;

    /// What is wrong with these completions, in their order, of these entries in one call.
    fn wrong(entries: &str, seen: &[(u64, i32)]) -> usize {
        let program = text::parse(&format!("round\n{entries}\nenter")).unwrap();
        let answer = program.entries().count() as i32;
        let record = Record {
            answers: vec![Answer { round: 0, segment: 0, answer }],
            seen: seen
                .iter()
                .map(|(user_data, res)| Seen { round: 0, user_data: *user_data, res: *res, flags: 0 })
                .collect(),
            ..Record::default()
        };
        violations(&program, &record).len()
    }

    #[test]
    fn chains_complete_in_their_order() {
        let chain = "READ flags=IO_LINK user_data=1\nNOP user_data=2\nREAD user_data=3";
        assert_eq!(wrong(chain, &[(1, 512), (2, 0), (3, 512)]), 0);
        assert_eq!(wrong(chain, &[(3, 512), (1, 512), (2, 0)]), 0);
        assert_eq!(wrong(chain, &[(2, 0), (1, 512), (3, 512)]), 1);
        assert_eq!(wrong(chain, &[(2, -libc::ECANCELED), (1, -libc::EIO), (3, 0)]), 1);
    }

    #[test]
    fn drained_entries_complete_between_the_others() {
        let drained = "READ user_data=1\nNOP flags=IO_DRAIN user_data=2\nNOP user_data=3";
        assert_eq!(wrong(drained, &[(1, 512), (2, 0), (3, 0)]), 0);
        assert_eq!(wrong(drained, &[(2, 0), (1, 512), (3, 0)]), 1);
        assert_eq!(wrong(drained, &[(1, 512), (3, 0), (2, 0)]), 1);
        assert_eq!(wrong(drained, &[(3, -libc::EINVAL), (1, 512), (2, 0)]), 0, "refused while it is prepared");
    }

    #[test]
    fn nops_complete_as_they_are_submitted() {
        let nops = "NOP user_data=1\nREAD user_data=2\nNOP user_data=3\nNOP flags=ASYNC user_data=4";
        assert_eq!(wrong(nops, &[(4, 0), (1, 0), (3, 0), (2, 512)]), 0);
        assert_eq!(wrong(nops, &[(3, 0), (1, 0), (4, 0), (2, 512)]), 1);
    }

    #[test]
    fn timeouts_count_to_the_end() {
        let counting = "TIMEOUT off=2 addr=time(3600,0) len=1 user_data=1\nNOP user_data=2\nNOP user_data=3";
        assert_eq!(wrong(counting, &[(2, 0), (3, 0), (1, 0)]), 0);
        assert_eq!(wrong(counting, &[(2, 0), (1, 0), (3, 0)]), 1);
        assert_eq!(wrong(counting, &[(2, 0), (1, -libc::ECANCELED), (3, 0)]), 0);
    }
}
