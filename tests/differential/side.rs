//! One of the two that a program runs on: a device or file, the memory of programs, and a ring of ours for the
//! window.

use dmaring::Ring;
use dmaring::abi::entry::Sqe;

use super::program::{Area, Entry, Fd, Program, Setup, Word};
use crate::case::{Bench, Outcome, Stop, fail};
use crate::support::pattern;
use crate::support::raw::{self, Memory};
use crate::support::rig::{Rig, read, write};
use crate::support::syscalls;

/// Largest window, in bytes.
pub(super) const WINDOW: u64 = 1 << 20;
/// Largest area.
const AREA: usize = WINDOW as usize;
/// Memory for iovecs, times and descriptors.
const SCRATCH: usize = 256 << 10;
/// What the window holds before each program, at each of its bytes.
pub(super) const OF_WINDOW: u64 = 0x77;
/// What areas hold: a pattern for each.
const OF_AREAS: u64 = 0xa4ea;

/// Longest transfer of ours, so that no device has to split.
const PIECE: usize = 128 << 10;

/// What programs run on.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) bench: Bench,
    pub(super) size: u64,
    /// For the window; open all the time, which keeps a device open.
    rig: Rig,
    window: Memory,
    begin: Vec<u8>,
    end: Vec<u8>,
    areas: Vec<(Area, Memory, Vec<u8>)>,
    pub(super) scratch: Memory,
    #[cfg(feature = "broken")]
    broken: Option<dmaring::Broken>,
}

impl Side {
    pub(super) fn new(bench: Bench) -> Result<Self, Stop> {
        let mut rig = bench.rig(8)?;
        let size = rig.size();
        if size < 2 * WINDOW {
            return fail(format!("{}: {size} bytes are too few for a window of {WINDOW}", bench.name));
        }
        let window = rig.plain(WINDOW as usize / 2);
        let half = WINDOW as usize / 2;
        let begin = pattern::bytes(OF_WINDOW, 0, half);
        let end = pattern::bytes(OF_WINDOW, size - half as u64, half);
        Ok(Self {
            bench,
            size,
            rig,
            window,
            begin,
            end,
            areas: Vec::new(),
            scratch: Memory::plain(SCRATCH),
            #[cfg(feature = "broken")]
            broken: None,
        })
    }

    /// Programs run on an engine that is broken in this way.
    #[cfg(feature = "broken")]
    pub(super) fn broken(self, broken: dmaring::Broken) -> Self {
        Self { broken: Some(broken), ..self }
    }

    /// Puts the window and the areas of a program into their first state.
    pub(super) fn reset(&mut self, setup: &Setup) -> Outcome {
        let half = setup.half() as usize;
        self.window.write(&self.begin[..half]);
        self.transfer(0, half, true)?;
        self.window.write(&self.end[self.end.len() - half..]);
        self.transfer(self.size - half as u64, half, true)?;
        for (area, len) in setup.areas() {
            let (memory, first) = self.area(area);
            memory.write(&first[..len]);
        }
        Ok(())
    }

    /// What the window holds now: the half at the begin, then the one at the end.
    pub(super) fn window(&mut self, setup: &Setup) -> Result<Vec<u8>, Stop> {
        let half = setup.half() as usize;
        self.transfer(0, half, false)?;
        let mut data = self.window.part(0, half).read();
        self.transfer(self.size - half as u64, half, false)?;
        data.extend(self.window.part(0, half).read());
        Ok(data)
    }

    fn transfer(&mut self, offset: u64, len: usize, writes: bool) -> Outcome {
        let mut entries = Vec::new();
        for at in (0..len).step_by(PIECE) {
            let memory = self.window.part(at, PIECE.min(len - at));
            let offset = offset + at as u64;
            entries.push(if writes { write(&memory, offset) } else { read(&memory, offset) });
        }
        match self.rig.all(&entries)?.into_iter().find(|res| *res <= 0) {
            Some(res) => fail(format!("{}: the window at {offset:#x}: {res}", self.bench.name)),
            None => Ok(()),
        }
    }

    /// An area and what it holds first, of the largest length.
    fn area(&mut self, area: Area) -> (&Memory, &[u8]) {
        let known = self.areas.iter().position(|(known, ..)| *known == area);
        let at = known.unwrap_or_else(|| {
            self.areas.push((area, Memory::plain(AREA), first(area)));
            self.areas.len() - 1
        });
        let (_, memory, first) = &self.areas[at];
        (memory, first)
    }

    /// What the areas of a program hold now.
    pub(super) fn areas(&mut self, setup: &Setup) -> Vec<(Area, Vec<u8>)> {
        let areas = setup.areas().into_iter().filter(|(area, _)| *area != Area::Source);
        areas.map(|(area, len)| (area, self.area(area).0.part(0, len).read())).collect()
    }

    pub(super) fn memory(&mut self, area: Area) -> Memory {
        self.area(area).0.clone()
    }

    /// Memory that something in flight may still change is left to it.
    pub(super) fn abandon_memory(&mut self) {
        self.areas.clear();
        self.scratch = Memory::plain(SCRATCH);
    }

    /// A ring for a program, with what it has registered.
    pub(super) fn open(&mut self, program: &Program) -> Result<Rig, Stop> {
        let setup = &program.setup;
        let builder = self.bench.builder(setup.sq_entries).cq_entries(setup.cq_entries).setup_flags(setup.flags);
        #[cfg(feature = "broken")]
        let builder = match self.broken {
            Some(broken) => builder.broken(broken),
            None => builder,
        };
        let rig = self.bench.open(builder)?;
        let device = device_fd(&rig.ring)?;
        if setup.files != [Fd::Device] {
            let files: Vec<i32> = setup.files.iter().map(|fd| number(*fd, device)).collect();
            rig.ring.submitter().unregister_files()?;
            rig.ring.submitter().register_files(&files)?;
        }
        if !setup.buffers.is_empty() {
            let iovecs: Vec<libc::iovec> = (0..).zip(&setup.buffers).map(|(i, len)| self.buffer(i, *len)).collect();
            raw::register_buffers(&rig.ring, &iovecs)?;
        }
        Ok(rig)
    }

    fn buffer(&mut self, index: u16, len: u32) -> libc::iovec {
        match len {
            0 => libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 },
            len => self.memory(Area::Fixed(index)).part(0, len as usize).iovec(),
        }
    }
}

/// What an area holds before each program.
pub(super) fn first(area: Area) -> Vec<u8> {
    let number = match area {
        Area::Source => 0,
        Area::Target => 1,
        Area::Pool => 2,
        Area::Fixed(index) => 3 + u64::from(index),
    };
    pattern::bytes(OF_AREAS + number, 0, AREA)
}

pub(super) fn device_fd(ring: &Ring) -> Result<i32, Stop> {
    ring.device_fd(0).ok_or(Stop::Fail("file 0 has no descriptor".into()))
}

fn number(fd: Fd, device: i32) -> i32 {
    match fd {
        Fd::Number(number) => number,
        Fd::Device => device,
    }
}

/// Makes entries of a program those of a ring.
#[derive(Debug)]
pub(super) struct Resolver<'a> {
    pub(super) side: &'a mut Side,
    pub(super) device: i32,
    /// Bytes of the scratch memory that are taken. It goes round: what is submitted has been copied.
    taken: usize,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(side: &'a mut Side, device: i32) -> Self {
        Self { side, device, taken: 0 }
    }

    pub(super) fn sqe(&mut self, entry: &Entry) -> Sqe {
        Sqe {
            opcode: entry.opcode,
            flags: entry.flags,
            ioprio: entry.ioprio,
            fd: number(entry.fd, self.device),
            off: self.word(&entry.off),
            addr: self.word(&entry.addr),
            len: entry.len,
            op_flags: entry.op_flags,
            user_data: entry.user_data,
            buf_index: entry.buf_index,
            personality: entry.personality,
            file_index: entry.file_index,
            addr3: self.word(&entry.addr3),
            attr_type_mask: entry.attr_type_mask,
        }
    }

    fn word(&mut self, word: &Word) -> u64 {
        match word {
            Word::Number(number) => *number,
            Word::End(from) => self.side.size.wrapping_add_signed(*from),
            Word::Memory(area, at) => self.side.memory(*area).address() + u64::from(*at),
            Word::Iovecs(iovecs) => {
                let words: Vec<u64> = iovecs.iter().flat_map(|(address, len)| [self.word(address), *len]).collect();
                self.place(&words)
            }
            Word::Time(seconds, nanoseconds) => self.place(&[seconds.cast_unsigned(), nanoseconds.cast_unsigned()]),
            Word::Fds(fds) => {
                let mut bytes: Vec<u8> = fds.iter().flat_map(|fd| number(*fd, self.device).to_ne_bytes()).collect();
                bytes.resize(bytes.len().next_multiple_of(8), 0);
                let words: Vec<u64> =
                    bytes.chunks(8).map(|b| u64::from_ne_bytes(b.try_into().expect("eight bytes"))).collect();
                self.place(&words)
            }
        }
    }

    fn place(&mut self, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        if self.taken + bytes.len() > self.side.scratch.len() {
            self.taken = 0;
        }
        let memory = self.side.scratch.part(self.taken, bytes.len());
        memory.write(&bytes);
        self.taken += bytes.len().next_multiple_of(16);
        memory.address()
    }
}

/// Whether the rings of a side take raw calls.
pub(super) fn enters(side: &Side) -> Result<bool, Stop> {
    let rig = side.bench.rig(1)?;
    match syscalls::enter(&rig.ring, 0, 0, 0, None) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
