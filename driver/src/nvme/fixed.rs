//! Registered buffers, as the straight line looks them up.

#![expect(unsafe_code)] // owns the look-up by a number that is cut to the table

/// A registered buffer; one that is not registered has length 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FixedBuffer {
    /// Address of the first byte.
    pub(crate) base: u64,
    /// Length in bytes.
    pub(crate) len: u64,
    /// What to add to an address to get the device's.
    pub(crate) delta: u64,
}

/// Registered buffers, and one of length 0 behind them that every number beyond them finds.
#[derive(Debug)]
pub(super) struct FixedBuffers {
    buffers: Box<[FixedBuffer]>,
    last: u64,
}

impl FixedBuffers {
    pub(super) fn new(mut buffers: Vec<FixedBuffer>) -> Self {
        buffers.push(FixedBuffer::default());
        Self { last: buffers.len() as u64 - 1, buffers: buffers.into_boxed_slice() }
    }

    /// Buffer `index`, or the empty one.
    #[inline]
    pub(super) fn find(&self, index: u64) -> &FixedBuffer {
        let index = index.min(self.last);
        // SAFETY: at most the last (`new`), and neither ever changes.
        unsafe { self.buffers.get_unchecked(index as usize) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_beyond_the_table_finds_nothing() {
        let buffer = FixedBuffer { base: 1, len: 2, delta: 3 };
        let buffers = FixedBuffers::new(vec![buffer; 2]);
        assert_eq!([buffers.find(0), buffers.find(1)], [&buffer; 2]);
        for index in [2, 3, 1 << 16, 1 << 32, u64::MAX] {
            assert_eq!(buffers.find(index).len, 0, "{index}");
        }
        assert_eq!(FixedBuffers::new(Vec::new()).find(0).len, 0);
    }
}
