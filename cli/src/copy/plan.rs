//! A copy resolved against its sides: where it begins, how long it is, and how it is cut into blocks.

use super::holes::Holes;

/// What is copied from where to where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// First byte of the source.
    pub skip: u64,
    /// First byte of the destination.
    pub seek: u64,
    /// Bytes to copy; a stream may end before it is known where.
    pub total: Option<u64>,
    /// Bytes that the destination has room for.
    pub room: u64,
    /// Offsets and lengths of I/O on the source are multiples of this; 1 for streams.
    pub from_align: u64,
    /// The same on the destination.
    pub to_align: u64,
    /// Blocks end at multiples of this on the destination; a multiple of both alignments.
    pub step: u64,
}

/// A part of the copy that is moved at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// First byte, from the begin of the copy.
    pub at: u64,
    /// Length in bytes.
    pub len: u64,
    /// It is known to be zeros without reading it.
    pub hole: bool,
}

/// A range of bytes at a side, and the same widened to whole blocks of that side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte, a multiple of the alignment.
    pub offset: u64,
    /// Length, a multiple of the alignment.
    pub len: usize,
    /// Where in it the wanted bytes begin.
    pub shift: usize,
}

impl Plan {
    /// The block that begins at `at`; nothing at the end.
    ///
    /// A hole is a block of its own where it covers whole blocks of the destination, so that two blocks
    /// never share one of those.
    pub fn block(&self, at: u64, holes: &mut Holes) -> Option<Block> {
        let length = self.total.unwrap_or(u64::MAX).min(self.room);
        if at >= length {
            return None;
        }
        // All of these are offsets on the destination.
        let (begin, last) = (self.seek + at, self.seek.saturating_add(length));
        let grid = next(begin, self.step).min(last);
        let (hole, until) = holes.at(self.skip + at);
        let until = self.seek.saturating_add(until.saturating_sub(self.skip));
        let whole = if until >= last { last } else { until / self.to_align * self.to_align };
        let block = |end: u64, hole: bool| Some(Block { at, len: end - begin, hole });
        match hole {
            true if begin.is_multiple_of(self.to_align) && whole > begin => block(whole.min(grid), true),
            true => block(next(begin, self.to_align).min(last), false),
            false => block(until.checked_next_multiple_of(self.to_align).unwrap_or(last).min(grid), false),
        }
    }

    /// Where a block is on the source.
    pub fn from(&self, block: Block) -> Span {
        span(self.skip + block.at, block.len, self.from_align)
    }

    /// Where a block is on the destination.
    pub fn to(&self, block: Block) -> Span {
        span(self.seek + block.at, block.len, self.to_align)
    }

    /// Bytes that one block needs at most, widened to whole blocks of either side.
    pub fn most_bytes(&self) -> u64 {
        self.step + 2 * self.from_align.max(self.to_align)
    }
}

/// The first multiple of `step` beyond `place`.
fn next(place: u64, step: u64) -> u64 {
    (place / step + 1).saturating_mul(step)
}

fn span(start: u64, len: u64, align: u64) -> Span {
    let offset = start / align * align;
    let end = (start + len).next_multiple_of(align);
    Span { offset, len: (end - offset) as usize, shift: (start - offset) as usize }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan =
        Plan { skip: 0, seek: 0, total: Some(10_000), room: u64::MAX, from_align: 512, to_align: 512, step: 4096 };

    fn blocks(plan: &Plan, holes: &[(u64, u64)]) -> Vec<(u64, u64, bool)> {
        let mut holes = Holes::known(holes);
        let (mut at, mut blocks) = (0, Vec::new());
        while let Some(block) = plan.block(at, &mut holes) {
            assert!(block.len > 0 && block.at == at, "{block:?}");
            blocks.push((block.at, block.len, block.hole));
            at += block.len;
        }
        blocks
    }

    #[test]
    fn blocks_end_at_multiples_of_the_step_on_the_destination() {
        assert_eq!(blocks(&PLAN, &[]), [(0, 4096, false), (4096, 4096, false), (8192, 1808, false)]);
        let moved = Plan { skip: 7, seek: 4000, ..PLAN };
        assert_eq!(blocks(&moved, &[]), [(0, 96, false), (96, 4096, false), (4192, 4096, false), (8288, 1712, false)]);
        assert_eq!(blocks(&Plan { total: None, room: 5000, ..PLAN }, &[]), [(0, 4096, false), (4096, 904, false)]);
        assert_eq!(blocks(&Plan { total: Some(0), ..PLAN }, &[]), []);
    }

    #[test]
    fn holes_are_blocks_of_their_own() {
        assert_eq!(
            blocks(&PLAN, &[(1024, 9000)]),
            [
                (0, 1024, false),
                (1024, 3072, true),
                (4096, 4096, true),
                (8192, 512, true),
                (8704, 512, false),
                (9216, 784, false)
            ]
        );
        let last = blocks(&PLAN, &[(8192, 20_000)]);
        assert_eq!(last[2..], [(8192, 1808, true)], "the last one ends with the copy");
        let skipped = Plan { skip: 1024, total: Some(2048), ..PLAN };
        assert_eq!(blocks(&skipped, &[(0, 2048)]), [(0, 1024, true), (1024, 1024, false)]);
    }

    #[test]
    fn two_blocks_never_share_one_of_the_destination() {
        let odd = Plan { skip: 100, seek: 777, total: Some(50_000), to_align: 4096, step: 8192, ..PLAN };
        for holes in [&[][..], &[(0, 5000)], &[(300, 301), (4096, 4100), (9000, 33_333)], &[(0, 60_000)]] {
            let blocks = blocks(&odd, holes);
            for pair in blocks.windows(2) {
                assert!((odd.seek + pair[1].0).is_multiple_of(4096), "{blocks:?}");
            }
            assert_eq!(blocks.iter().map(|block| block.1).sum::<u64>(), 50_000);
            for (at, len, _) in blocks.iter().filter(|block| block.2) {
                let range = (odd.skip + at, odd.skip + at + len);
                assert!(holes.iter().any(|hole| hole.0 <= range.0 && range.1 <= hole.1), "{range:?} of {holes:?}");
            }
        }
    }

    #[test]
    fn spans_are_whole_blocks() {
        let block = Block { at: 100, len: 1000, hole: false };
        assert_eq!(PLAN.from(block), Span { offset: 0, len: 1536, shift: 100 });
        let streams = Plan { from_align: 1, ..PLAN };
        assert_eq!(streams.from(block), Span { offset: 100, len: 1000, shift: 0 });
    }
}
