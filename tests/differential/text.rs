//! Programs as text, which people read and `--replay` takes.
//!
//! ```text
//! program 0x2a
//! setup sq=8 cq=16 flags=SUBMIT_ALL window=65536
//! files device -1
//! buffers 65536 4096
//! ring group=7 entries=8 flags=INC
//! round
//!   supply group=7 id=0 at=0 len=4096
//!   READ flags=FIXED_FILE|IO_LINK off=0x1000 addr=target+0x200 len=512 user_data=7
//!   NOP user_data=8 allowed=0,-ECANCELED
//!   enter min=1 flags=GETEVENTS
//! disputed 0x1000 0x2000
//! ```
//! Fields that are 0 are left out. What follows `#` is a comment. An `enter` ends a segment; the end of a round
//! waits for everything that can complete.

use std::fmt::{self, Write};

use super::names::{self, number, of_flags, of_opcode, of_result};
use super::program::{Area, BufferRing, Enter, Entry, Fd, Program, Round, Segment, Setup, Supply, Word};

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "program {:#x}", self.seed)?;
        let Setup { sq_entries, cq_entries, flags, window, files, buffers, groups } = &self.setup;
        let flags = of_flags(*flags, names::SETUP_FLAGS);
        writeln!(f, "setup sq={sq_entries} cq={cq_entries} flags={flags} window={window}")?;
        writeln!(f, "files {}", words(files))?;
        writeln!(f, "buffers {}", words(buffers))?;
        for BufferRing { group, entries, flags } in groups {
            let flags = of_flags((*flags).into(), names::BUFFER_RING_FLAGS);
            writeln!(f, "ring group={group} entries={entries} flags={flags}")?;
        }
        for round in &self.rounds {
            writeln!(f, "round")?;
            for segment in &round.segments {
                segment.supplies.iter().try_for_each(|supply| writeln!(f, "  {supply}"))?;
                segment.entries.iter().try_for_each(|entry| writeln!(f, "  {entry}"))?;
                writeln!(f, "  {}", segment.enter)?;
            }
        }
        self.disputed.iter().try_for_each(|range| writeln!(f, "disputed {:#x} {:#x}", range.start, range.end))
    }
}

fn words<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Supply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "supply group={} id={} at={} len={}", self.group, self.id, self.at, self.len)
    }
}

impl fmt::Display for Enter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "enter")?;
        let mut field = |name: &str, value: u32| if value == 0 { Ok(()) } else { write!(f, " {name}={value}") };
        field("beyond", self.beyond)?;
        field("min", self.min_complete)?;
        if self.flags != 0 {
            write!(f, " flags={}", of_flags(self.flags, names::ENTER_FLAGS))?;
        }
        if let Some(timeout) = self.timeout_us {
            write!(f, " timeout_us={timeout}")?;
        }
        let mut word = |name: &str, set: bool| if set { write!(f, " {name}") } else { Ok(()) };
        word("leave", self.leave)?;
        word("look", self.look)
    }
}

impl fmt::Display for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Device => write!(f, "device"),
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number:#x}"),
            Self::End(from) if *from < 0 => write!(f, "end-{:#x}", from.unsigned_abs()),
            Self::End(from) => write!(f, "end+{from:#x}"),
            Self::Memory(area, at) => match area {
                Area::Source => write!(f, "source+{at:#x}"),
                Area::Target => write!(f, "target+{at:#x}"),
                Area::Fixed(index) => write!(f, "fixed{index}+{at:#x}"),
                Area::Pool => write!(f, "pool+{at:#x}"),
            },
            Self::Iovecs(iovecs) => {
                let parts: Vec<_> = iovecs.iter().map(|(address, len)| format!("{address}:{len}")).collect();
                write!(f, "[{}]", parts.join(","))
            }
            Self::Time(seconds, nanoseconds) => write!(f, "time({seconds},{nanoseconds})"),
            Self::Fds(fds) => {
                write!(f, "fds({})", fds.iter().map(Fd::to_string).collect::<Vec<_>>().join(","))
            }
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", of_opcode(self.opcode))?;
        let none = Self::default();
        let mut field = |name: &str, set: bool, value: &dyn fmt::Display| {
            if set { write!(f, " {name}={value}") } else { Ok(()) }
        };
        field("flags", self.flags != 0, &of_flags(self.flags.into(), names::SQE_FLAGS))?;
        field("ioprio", self.ioprio != 0, &self.ioprio)?;
        field("fd", self.fd != none.fd, &self.fd)?;
        field("off", self.off != none.off, &self.off)?;
        field("addr", self.addr != none.addr, &self.addr)?;
        field("len", self.len != 0, &self.len)?;
        field("op_flags", self.op_flags != 0, &of_flags(self.op_flags, names::op_flags(self.opcode)))?;
        field("buf_index", self.buf_index != 0, &self.buf_index)?;
        field("personality", self.personality != 0, &self.personality)?;
        field("file_index", self.file_index != 0, &self.file_index)?;
        field("addr3", self.addr3 != none.addr3, &self.addr3)?;
        field("attr_type_mask", self.attr_type_mask != 0, &self.attr_type_mask)?;
        field("user_data", true, &self.user_data)?;
        let allowed: Vec<_> = self.allowed.iter().map(|res| of_result(*res)).collect();
        field("allowed", !allowed.is_empty(), &allowed.join(","))
    }
}

/// Reads a program; the error names the line.
pub(super) fn parse(text: &str) -> Result<Program, String> {
    let mut program = Program::default();
    let mut segment = Segment::default();
    for (at, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let what = |reason: &str| {
            let mut text = String::new();
            let _ = write!(text, "line {}: {reason}: {line}", at + 1);
            text
        };
        if let Some((keyword, rest)) = line.split_once(' ').or(Some((line, ""))).filter(|_| !line.is_empty()) {
            parse_line(&mut program, &mut segment, keyword, rest).ok_or_else(|| what("not understood"))?;
        }
    }
    if program.rounds.is_empty() || segment != Segment::default() {
        return Err("a program has rounds, and each of its segments ends with `enter`".into());
    }
    Ok(program)
}

fn parse_line(program: &mut Program, segment: &mut Segment, keyword: &str, rest: &str) -> Option<()> {
    let setup = &mut program.setup;
    let field = |name: &str| rest.split(' ').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    let value = |name: &str| number(field(name)?);
    match keyword {
        "program" => program.seed = number(rest)?,
        "setup" => {
            setup.sq_entries = value("sq")?.try_into().ok()?;
            setup.cq_entries = value("cq")?.try_into().ok()?;
            setup.flags = names::flags(field("flags")?, names::SETUP_FLAGS)?;
            setup.window = value("window")?;
        }
        "files" => setup.files = rest.split_whitespace().map(parse_fd).collect::<Option<_>>()?,
        "buffers" => setup.buffers = rest.split_whitespace().map(|len| len.parse().ok()).collect::<Option<_>>()?,
        "ring" => setup.groups.push(BufferRing {
            group: value("group")?.try_into().ok()?,
            entries: value("entries")?.try_into().ok()?,
            flags: names::flags(field("flags")?, names::BUFFER_RING_FLAGS)?.try_into().ok()?,
        }),
        "round" => program.rounds.push(Round::default()),
        "supply" => segment.supplies.push(Supply {
            group: value("group")?.try_into().ok()?,
            id: value("id")?.try_into().ok()?,
            at: value("at")?.try_into().ok()?,
            len: value("len")?.try_into().ok()?,
        }),
        "enter" => {
            segment.enter = Enter {
                beyond: value("beyond").unwrap_or(0).try_into().ok()?,
                min_complete: value("min").unwrap_or(0).try_into().ok()?,
                flags: field("flags").map_or(Some(0), |text| names::flags(text, names::ENTER_FLAGS))?,
                timeout_us: value("timeout_us").and_then(|us| us.try_into().ok()),
                leave: rest.split(' ').any(|part| part == "leave"),
                look: rest.split(' ').any(|part| part == "look"),
            };
            program.rounds.last_mut()?.segments.push(std::mem::take(segment));
        }
        "disputed" => {
            let (start, end) = rest.split_once(' ')?;
            program.disputed.push(number(start)?..number(end)?);
        }
        name => segment.entries.push(parse_entry(names::opcode(name)?, rest)?),
    }
    Some(())
}

fn parse_entry(opcode: u8, fields: &str) -> Option<Entry> {
    let mut entry = Entry { opcode, ..Entry::default() };
    for part in fields.split_whitespace() {
        let (name, text) = part.split_once('=')?;
        match name {
            "flags" => entry.flags = names::flags(text, names::SQE_FLAGS)?.try_into().ok()?,
            "ioprio" => entry.ioprio = number(text)?.try_into().ok()?,
            "fd" => entry.fd = parse_fd(text)?,
            "off" => entry.off = parse_word(text)?,
            "addr" => entry.addr = parse_word(text)?,
            "len" => entry.len = number(text)?.try_into().ok()?,
            "op_flags" => entry.op_flags = names::flags(text, names::op_flags(opcode))?,
            "buf_index" => entry.buf_index = number(text)?.try_into().ok()?,
            "personality" => entry.personality = number(text)?.try_into().ok()?,
            "file_index" => entry.file_index = number(text)?.try_into().ok()?,
            "addr3" => entry.addr3 = parse_word(text)?,
            "attr_type_mask" => entry.attr_type_mask = number(text)?,
            "user_data" => entry.user_data = number(text)?,
            "allowed" => entry.allowed = text.split(',').map(names::result).collect::<Option<_>>()?,
            _ => return None,
        }
    }
    Some(entry)
}

fn parse_fd(text: &str) -> Option<Fd> {
    if text == "device" { Some(Fd::Device) } else { text.parse().ok().map(Fd::Number) }
}

fn parse_word(text: &str) -> Option<Word> {
    if let Some(list) = text.strip_prefix('[') {
        let parts = list.strip_suffix(']')?.split(',').filter(|part| !part.is_empty());
        let pair = |part: &str| {
            let (address, len) = part.rsplit_once(':')?;
            Some((parse_word(address)?, number(len)?))
        };
        return parts.map(pair).collect::<Option<_>>().map(Word::Iovecs);
    }
    if let Some(list) = text.strip_prefix("fds(") {
        let parts = list.strip_suffix(')')?.split(',').filter(|part| !part.is_empty());
        return parts.map(parse_fd).collect::<Option<_>>().map(Word::Fds);
    }
    if let Some(pair) = text.strip_prefix("time(") {
        let (seconds, nanoseconds) = pair.strip_suffix(')')?.split_once(',')?;
        return Some(Word::Time(seconds.parse().ok()?, nanoseconds.parse().ok()?));
    }
    if let Some(from) = text.strip_prefix("end") {
        let bytes = i64::try_from(number(from.get(1..)?)?).ok()?;
        return Some(Word::End(if from.starts_with('-') { -bytes } else { bytes }));
    }
    let Some((area, at)) = text.split_once('+') else { return number(text).map(Word::Number) };
    let area = match area {
        "source" => Area::Source,
        "target" => Area::Target,
        "pool" => Area::Pool,
        _ => Area::Fixed(area.strip_prefix("fixed")?.parse().ok()?),
    };
    Some(Word::Memory(area, number(at)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differential::feature::Features;
    use crate::differential::generate::{Limits, generate};

    #[test]
    fn programs_survive_their_text() {
        let limits = Limits { features: Features::ALL, memory_alignment: 512, nvme: true };
        for seed in 0..500 {
            let program = generate(seed, limits);
            let text = program.to_string();
            match parse(&text) {
                Ok(read) => assert_eq!(read, program, "{text}"),
                Err(what) => panic!("{what} in\n{text}"),
            }
        }
    }

    #[test]
    fn text_that_is_no_program_is_refused_with_its_line() {
        for text in ["", "round\n NOP user_data=1", "enter", "round\n FLY\n enter", "round\n NOP wings=2\n enter"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("round\n  NOP user_data=1x\n  enter").unwrap_err().starts_with("line 2: "));
        assert!(parse("# a comment\nround # another\n\n  NOP user_data=1\n  enter\n").is_ok());
    }
}
