//! What two runs of a program must have in common.

use std::collections::BTreeMap;

use super::names::{WRITE, of_result};
use super::program::{Area, Entry, Program, Word};
use super::run::{Record, Seen};
use super::side::first;

const BLOCK: usize = 512;

/// What differs, in words; empty when nothing does.
pub(super) fn differences(program: &Program, kernel: &Record, other: &Record) -> Vec<String> {
    match (kernel.flooded, other.flooded) {
        (true, true) => return vec!["completions come without end on both sides".into()],
        (true, false) => return vec!["the kernel's completions come without end".into()],
        (false, true) => return vec!["completions come without end".into()],
        (false, false) => {}
    }
    let mut found = Vec::new();
    compare_answers(kernel, other, &mut found);
    compare_completions(program, kernel, other, &mut found);
    if !kernel.missing.is_empty() {
        found.push(format!("the kernel has not completed {:?}", kernel.missing));
    }
    if !other.missing.is_empty() {
        found.push(format!("not completed: {:?}", other.missing));
    }
    if kernel.missing.is_empty() && other.missing.is_empty() {
        compare_looks(kernel, other, &mut found);
        compare_window(program, kernel, other, &mut found);
        compare_areas(kernel, other, &mut found);
    }
    found
}

fn compare_answers(kernel: &Record, other: &Record, found: &mut Vec<String>) {
    let mut others = other.answers.iter();
    for expected in &kernel.answers {
        let answer = others.next();
        if answer != Some(expected) {
            let at = format!("enter of round {}, segment {}", expected.round, expected.segment);
            let answer = answer.map_or("nothing".to_owned(), |answer| of_result(answer.answer));
            found.push(format!("{at}: {answer}, the kernel answers {}", of_result(expected.answer)));
            return;
        }
    }
    if let Some(more) = others.next() {
        found.push(format!("one enter more in round {}: {}", more.round, of_result(more.answer)));
    }
}

fn by_entry(record: &Record) -> BTreeMap<u64, Vec<Seen>> {
    let mut map: BTreeMap<u64, Vec<Seen>> = BTreeMap::new();
    for seen in &record.seen {
        map.entry(seen.user_data).or_default().push(*seen);
    }
    map
}

fn show(seen: &[(i32, u32)]) -> String {
    let one = |(res, flags): &(i32, u32)| format!("{} flags {flags:#x}", of_result(*res));
    if seen.is_empty() { "no completion".into() } else { seen.iter().map(one).collect::<Vec<_>>().join(", ") }
}

fn compare_completions(program: &Program, kernel: &Record, other: &Record, found: &mut Vec<String>) {
    let (expected, got) = (by_entry(kernel), by_entry(other));
    let mut names: Vec<u64> = expected.keys().chain(got.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let of = |map: &BTreeMap<u64, Vec<Seen>>| {
            let seen = map.get(&name).map(Vec::as_slice).unwrap_or_default();
            seen.iter().map(|seen| (seen.res, seen.flags)).collect::<Vec<_>>()
        };
        let entries: Vec<&Entry> = program.entries().filter(|entry| entry.user_data == name).collect();
        let (mut expected, mut got) = (of(&expected), of(&got));
        if entries.len() > 1 {
            // Entries of one name are told apart by what they answer only.
            expected.sort_unstable();
            got.sort_unstable();
        }
        let allowed = |(res, _): &(i32, u32)| entries.iter().any(|entry| entry.allowed.contains(res));
        let same = expected.len() == got.len() && expected.iter().zip(&got).all(|(e, g)| e == g || allowed(g));
        if !same {
            found.push(format!("user_data {name}: {}, the kernel posts {}", show(&got), show(&expected)));
        }
    }
}

fn compare_looks(kernel: &Record, other: &Record, found: &mut Vec<String>) {
    if let Some((expected, got)) = kernel.looks.iter().zip(&other.looks).find(|(expected, got)| expected != got) {
        found.push(format!("after a call the ring says {got:?}, the kernel's {expected:?}"));
    }
}

fn compare_window(program: &Program, kernel: &Record, other: &Record, found: &mut Vec<String>) {
    let blocks = kernel.window.chunks(BLOCK).zip(other.window.chunks(BLOCK)).enumerate();
    let mut differing = blocks.filter(|(at, (expected, got))| expected != got && !is_disputed(program, *at, got));
    if let Some((at, (expected, got))) = differing.next() {
        let more = differing.count();
        let at = at * BLOCK;
        found.push(format!("window at {at:#x}{}: {}", and_more(more), bytes(expected, got)));
    }
}

/// Whether a block may be of any of the writes that compete for it, and is of one.
fn is_disputed(program: &Program, block: usize, got: &[u8]) -> bool {
    let at = (block * BLOCK) as u64;
    if !program.disputed.iter().any(|range| range.contains(&at)) {
        return false;
    }
    let source = first(Area::Source);
    program.entries().any(|entry| match (&entry.off, &entry.addr) {
        (Word::Number(off), Word::Memory(Area::Source, from)) if (*off..*off + u64::from(entry.len)).contains(&at) => {
            let from = *from as usize + (at - off) as usize;
            entry.opcode == WRITE && source.get(from..from + BLOCK) == Some(got)
        }
        _ => false,
    })
}

fn compare_areas(kernel: &Record, other: &Record, found: &mut Vec<String>) {
    for ((area, expected), (_, got)) in kernel.areas.iter().zip(&other.areas) {
        let at = (0..expected.len()).find(|at| expected[*at] != got[*at]);
        if let Some(at) = at {
            let end = |data: &[u8]| data[at..].to_vec();
            found.push(format!("{area:?} at {at:#x}: {}", bytes(&end(expected), &end(got))));
        }
    }
}

fn and_more(more: usize) -> String {
    if more == 0 { String::new() } else { format!(" and {more} blocks more") }
}

fn bytes(expected: &[u8], got: &[u8]) -> String {
    let first = |data: &[u8]| data.iter().take(12).map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{}, the kernel's {}", first(got), first(expected))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differential::run::Answer;
    use crate::differential::text;

    const PROGRAM: &str = "setup sq=8 cq=16 flags=0 window=65536\nround
        READ user_data=1\n READ user_data=2 allowed=512,-ECANCELED
        WRITE off=0x0 addr=source+0x200 len=512 user_data=3\n enter\ndisputed 0x0 0x200";

    fn record() -> Record {
        let seen = |user_data, res| Seen { round: 0, user_data, res, flags: 0 };
        Record {
            answers: vec![Answer { round: 0, segment: 0, answer: 3 }],
            seen: vec![seen(1, 512), seen(2, 512), seen(3, 512)],
            window: vec![0; 4096],
            areas: vec![(Area::Target, vec![0; 1024])],
            ..Record::default()
        }
    }

    fn found(change: impl FnOnce(&mut Record)) -> usize {
        let program = text::parse(PROGRAM).unwrap();
        let mut other = record();
        change(&mut other);
        differences(&program, &record(), &other).len()
    }

    #[test]
    fn records_that_say_the_same_do_not_differ() {
        assert_eq!(found(|_| {}), 0);
        assert_eq!(found(|other| other.seen.swap(0, 1)), 0, "order is another matter");
        assert_eq!(found(|other| other.seen[1].res = -libc::ECANCELED), 0, "that is allowed");
    }

    #[test]
    fn whatever_a_program_can_see_counts() {
        assert_eq!(found(|other| other.answers[0].answer = 2), 1);
        assert_eq!(found(|other| other.answers.clear()), 1);
        assert_eq!(found(|other| other.seen[0].res = 511), 1);
        assert_eq!(found(|other| other.seen[0].flags = 1), 1);
        assert_eq!(found(|other| other.seen.truncate(2)), 1);
        assert_eq!(found(|other| other.seen.push(other.seen[0])), 1);
        assert_eq!(found(|other| other.missing.push(1)), 1);
        assert_eq!(found(|other| other.window[4095] = 1), 1);
        assert_eq!(found(|other| other.areas[0].1[0] = 1), 1);
    }

    #[test]
    fn blocks_that_are_disputed_are_of_one_of_the_writes() {
        assert_eq!(found(|other| other.window[..512].copy_from_slice(&first(Area::Source)[512..1024])), 0);
        assert_eq!(found(|other| other.window[..512].copy_from_slice(&first(Area::Source)[1024..1536])), 1);
        assert_eq!(found(|other| other.window[512..1024].copy_from_slice(&first(Area::Source)[512..1024])), 1);
    }
}
