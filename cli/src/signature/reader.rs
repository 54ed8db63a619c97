//! A few bytes here and there of a device that reads only whole blocks.

use std::collections::BTreeMap;

/// What is read at once: whole blocks of any size a device has.
const CHUNK: u64 = 64 << 10;

/// Reads whole chunks, or what is left of the last one, and keeps them.
pub struct Reader<'a> {
    size_bytes: u64,
    read: &'a mut dyn FnMut(u64, &mut [u8]) -> anyhow::Result<()>,
    chunks: BTreeMap<u64, Vec<u8>>,
}

impl<'a> Reader<'a> {
    /// `read` fills its buffer from an offset.
    pub fn new(size_bytes: u64, read: &'a mut dyn FnMut(u64, &mut [u8]) -> anyhow::Result<()>) -> Self {
        let chunks = BTreeMap::new();
        Self { size_bytes, read, chunks }
    }

    /// The most that is read at once, in bytes.
    pub const fn chunk_bytes() -> usize {
        CHUNK as usize
    }

    /// Size of the device.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The bytes at `offset`; nothing beyond the end of the device.
    ///
    /// # Errors
    /// What reading answered.
    pub fn bytes(&mut self, offset: u64, len: usize) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(end) = offset.checked_add(len as u64).filter(|end| *end <= self.size_bytes) else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(len);
        let mut at = offset;
        while at < end {
            let start = at / CHUNK * CHUNK;
            let chunk = self.chunk(start)?;
            let from = (at - start) as usize;
            let upto = chunk.len().min((end - start) as usize);
            bytes.extend_from_slice(&chunk[from..upto]);
            at = start + CHUNK;
        }
        Ok(Some(bytes))
    }

    /// Whether `expected` stands at `offset`.
    ///
    /// # Errors
    /// What reading answered.
    pub fn holds(&mut self, offset: u64, expected: &[u8]) -> anyhow::Result<bool> {
        Ok(self.bytes(offset, expected.len())?.as_deref() == Some(expected))
    }

    fn chunk(&mut self, start: u64) -> anyhow::Result<&[u8]> {
        if !self.chunks.contains_key(&start) {
            let len = CHUNK.min(self.size_bytes - start) as usize;
            let mut data = vec![0; len];
            (self.read)(start, &mut data)?;
            self.chunks.insert(start, data);
        }
        Ok(&self.chunks[&start])
    }
}
