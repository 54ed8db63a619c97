//! Everything that can be wrong with a copy before it begins.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, bail};
use dmaring::DeviceName;

use super::CopyCommand;
use super::mover::{Mover, Rings};
use super::pass::{Sink, Source};
use super::plan::Plan;
use super::same::{Medium, Place, overlap};
use super::side::{Named, Opened};
use super::stream::{Input, Output};
use crate::guard::{self, Claim};
use crate::plan::Extent;

/// The longest buffer that io_uring registers.
const MOST_BYTES: u64 = 1 << 30;
const PAGE: u64 = 4096;

/// A copy that can begin.
pub struct Prepared<'a> {
    pub(super) command: &'a CopyCommand,
    pub(super) plan: Plan,
    pub(super) mover: Mover,
    pub(super) slots: usize,
    pub(super) from: Source,
    pub(super) to: Sink,
    /// The source, if it is a regular file.
    pub(super) from_file: Option<File>,
    /// The destination, if it is a regular file.
    pub(super) to_file: Option<File>,
    pub(super) to_model: bool,
    pub(super) made: Option<Made>,
    _claim: Option<Claim>,
}

/// A file that goes away again unless it is kept.
#[derive(Debug)]
pub struct Made(Option<PathBuf>);

impl Made {
    fn new(path: PathBuf) -> anyhow::Result<Self> {
        File::create_new(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(Some(path)))
    }

    /// From now on the file is the user's.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            let _ = fs::remove_file(path);
        }
    }
}

impl<'a> Prepared<'a> {
    /// Opens and checks everything; only a file that was not there is made.
    ///
    /// # Errors
    /// What is in the way.
    pub fn new(command: &'a CopyCommand, from: Named, to: Named) -> anyhow::Result<Self> {
        refuse_options(command, &to)?;
        let places = from.place().zip(to.place());
        let same = places.filter(|(from, to)| from.medium == to.medium);
        refuse_same_early(command, &from, &to, same.as_ref())?;
        let opened_from = match &from {
            Named::Device(_) => Some(Opened::open(&command.from)?),
            _ => None,
        };
        let mut opened_to = match &to {
            Named::Device(_) => Some(Opened::open(&command.to)?),
            _ => None,
        };
        let to_model = matches!(to, Named::Device(DeviceName::Model { .. }));
        let total = total(command, opened_from.as_ref())?;
        let room = room(command, &to, opened_to.as_ref(), total)?;
        if let (Some((from, to)), Some(len)) = (&same, total) {
            refuse_overlap(command, (from, to), len)?;
        }
        let claim = match opened_to.as_ref().filter(|to| to.file.is_none()) {
            Some(to) => Some(guard::before_writing(&to.target, &Extent::from(&to.info), command.force)?),
            None => None,
        };
        let made = match &to {
            Named::Absent(path) => Some(Made::new(path.clone())?),
            _ => None,
        };
        if made.is_some() {
            opened_to = Some(Opened::open(&command.to)?);
        }
        let align = |side: &Option<Opened>| side.as_ref().map_or(1, Opened::align);
        let (from_align, to_align) = (align(&opened_from), align(&opened_to));
        let Some(step) = command.bs.checked_next_multiple_of(from_align.max(to_align)) else {
            bail!("--bs {}: an I/O is of at most {MOST_BYTES} bytes", command.bs);
        };
        let plan = Plan { skip: command.skip, seek: command.seek, total, room, from_align, to_align, step };
        let (slots, part_bytes) = memory(command, &plan)?;
        let targets = [&opened_from, &opened_to].map(|side| side.as_ref().map(|side| &side.target));
        let rings = Rings::open(targets[0], targets[1], slots, command.completion)?;
        let (from_port, to_port) = (rings.from, rings.to);
        let mover = Mover::new(rings, slots, part_bytes)?;
        let source = match (from, from_port) {
            (Named::Stream(file), _) => Source::Stream(Input::new(file)),
            (_, Some(port)) => Source::Ring(port),
            _ => bail!("{} cannot be read", command.from),
        };
        let sink = match (to, to_port) {
            (Named::Stream(file), _) => Sink::Stream(Output::new(file)),
            (_, Some(port)) => Sink::Ring(port),
            _ => bail!("{} cannot be written", command.to),
        };
        let file = |side: Option<Opened>| side.and_then(|side| side.file);
        Ok(Self {
            command,
            plan,
            mover,
            slots: slots as usize,
            from: source,
            to: sink,
            from_file: file(opened_from),
            to_file: file(opened_to),
            to_model,
            made,
            _claim: claim,
        })
    }
}

fn refuse_options(command: &CopyCommand, to: &Named) -> anyhow::Result<()> {
    let name = &command.to;
    if matches!(to, Named::Stream(_)) {
        if command.seek > 0 {
            bail!("--seek {}: {name} is a stream, which has no offsets", command.seek);
        }
        if command.verify {
            bail!("--verify reads the destination back: {name} is a stream, which cannot be");
        }
    }
    let is_file = match to {
        Named::Stream(_) => false,
        Named::Absent(_) => true,
        Named::Device(DeviceName::Path(path)) => path.is_file(),
        Named::Device(_) => false,
    };
    if !is_file && (command.sparse || command.notrunc) {
        let option = if command.sparse { "--sparse" } else { "--notrunc" };
        bail!("{option} goes with a file as destination, which {name} is not");
    }
    Ok(())
}

/// What cannot be right wherever it begins: a stream out of the file that it goes to, and a controller
/// that the kernel and this process would have at once.
fn refuse_same_early(
    command: &CopyCommand,
    from: &Named,
    to: &Named,
    same: Option<&(Place, Place)>,
) -> anyhow::Result<()> {
    let Some((place, _)) = same else { return Ok(()) };
    let is_stream = |side: &Named| matches!(side, Named::Stream(_));
    let is_path = |side: &Named| matches!(side, Named::Device(DeviceName::Path(_)));
    let two_ways = matches!(place.medium, Medium::Namespace(..)) && is_path(from) != is_path(to);
    if is_stream(from) || is_stream(to) || two_ways {
        return Err(onto_itself(command));
    }
    Ok(())
}

fn refuse_overlap(command: &CopyCommand, (from, to): (&Place, &Place), len: u64) -> anyhow::Result<()> {
    if overlap((from, command.skip), (to, command.seek), len) {
        return Err(onto_itself(command));
    }
    let is_file = matches!(from.medium, Medium::File(..)) && from.base == 0 && to.base == 0;
    if is_file && !command.notrunc && command.skip > command.seek && len > 0 {
        let seek = command.seek;
        bail!("{} would be cut at {seek}, before what is to be copied from it: add --notrunc", command.to);
    }
    Ok(())
}

fn onto_itself(command: &CopyCommand) -> anyhow::Error {
    let (from, to) = (&command.from, &command.to);
    anyhow::anyhow!("{from} and {to} are the same bytes: nothing was copied (--skip, --seek and --size may part them)")
}

/// How many bytes are wanted, as far as that is known.
fn total(command: &CopyCommand, from: Option<&Opened>) -> anyhow::Result<Option<u64>> {
    let Some(from) = from else { return Ok(command.size) };
    let (name, end, skip) = (&command.from, from.info.size_bytes, command.skip);
    let Some(left) = end.checked_sub(skip) else {
        bail!("--skip {skip}: {name} ends at {end}");
    };
    match command.size {
        Some(size) if size > left => bail!("--size {size}: {name} ends at {end}, {left} bytes after --skip {skip}"),
        Some(size) => Ok(Some(size)),
        None => Ok(Some(left)),
    }
}

/// How many bytes the destination takes.
fn room(command: &CopyCommand, to: &Named, opened: Option<&Opened>, total: Option<u64>) -> anyhow::Result<u64> {
    let (name, seek) = (&command.to, command.seek);
    let end = match opened {
        _ if matches!(to, Named::Stream(_)) => u64::MAX,
        Some(to) if to.info.read_only => bail!("{name} is read-only"),
        Some(to) if to.file.is_none() => to.info.size_bytes,
        _ => i64::MAX.cast_unsigned(),
    };
    let Some(room) = end.checked_sub(seek) else {
        bail!("--seek {seek}: {name} ends at {end}");
    };
    match total {
        Some(total) if total > room => {
            bail!("{total} bytes do not fit: {name} ends at {end}, {room} bytes after --seek {seek}")
        }
        _ => Ok(room),
    }
}

/// Slots, and the bytes of each of their two parts.
fn memory(command: &CopyCommand, plan: &Plan) -> anyhow::Result<(u32, usize)> {
    let (depth, bs) = (command.iodepth, command.bs);
    let blocks = plan.total.map_or(u64::MAX, |total| total / plan.step + 2);
    let slots = u64::from(depth).min(blocks);
    let part = plan.most_bytes().checked_next_multiple_of(PAGE);
    let bytes = part.and_then(|part| part.checked_mul(2)?.checked_mul(slots));
    match (part, bytes) {
        (Some(part), Some(bytes)) if bytes <= MOST_BYTES => Ok((slots as u32, part as usize)),
        _ => bail!(
            "--iodepth {depth} with --bs {bs} needs more than {MOST_BYTES} bytes of buffers (two for each block in flight)"
        ),
    }
}
