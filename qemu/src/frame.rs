//! Frames on the one virtio-serial port between host and guest.
//!
//! A virtio-serial port is a byte stream with no half-close, so both directions carry frames: one kind
//! byte, a little-endian 32-bit length, that many bytes. An empty [`Kind::Stdin`] is its end of file.

use std::io::{self, Read, Write};

/// Largest body; a longer one means that the stream is damaged.
pub(crate) const MAX_BODY_BYTES: usize = 1 << 20;
const HEADER_BYTES: usize = 5;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// To the guest: bytes for the command; empty: end of file.
    Stdin = 1,
    /// To the guest: rows and columns, two little-endian 16-bit numbers.
    Resize = 2,
    /// From the guest: the command is about to start.
    Ready = 3,
    /// From the guest: bytes the command wrote.
    Stdout = 4,
    /// From the guest: bytes the command wrote to its standard error.
    Stderr = 5,
    /// From the guest: index of a file asked for (32 bits), then bytes of it.
    File = 6,
    /// From the guest: index, then permission bits (32 bits each).
    FileEnd = 7,
    /// From the guest: index, then why there is no such file.
    FileError = 8,
    /// From the guest: init gave up; text.
    Failed = 9,
    /// From the guest: the last frame, a [`crate::manifest::Status`].
    Status = 10,
    /// To the guest: the last frame has come; it may power off.
    Done = 11,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        use Kind::*;
        [Stdin, Resize, Ready, Stdout, Stderr, File, FileEnd, FileError, Failed, Status, Done]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// One frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub kind: Kind,
    pub body: Vec<u8>,
}

impl Frame {
    /// Splits a body into its first 32-bit number and the rest.
    pub fn split_index(&self) -> Option<(usize, &[u8])> {
        let (index, rest) = self.body.split_first_chunk::<4>()?;
        Some((u32::from_le_bytes(*index) as usize, rest))
    }
}

/// Writes one frame whose body is `parts` in a row; at most [`MAX_BODY_BYTES`] altogether.
pub(crate) fn write(to: &mut impl Write, kind: Kind, parts: &[&[u8]]) -> io::Result<()> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    if len > MAX_BODY_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "frame too long"));
    }
    let mut bytes = Vec::with_capacity(HEADER_BYTES + len);
    bytes.push(kind as u8);
    bytes.extend((len as u32).to_le_bytes());
    parts.iter().for_each(|part| bytes.extend(*part));
    to.write_all(&bytes)
}

/// Cuts a byte stream into frames; keeps what it has when a read times out.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pending: Vec<u8>,
}

impl Reader {
    /// The next frame, or `None` at the end of the stream.
    ///
    /// # Errors
    /// Those of `from`, time-outs among them (call again), and `InvalidData` for a damaged stream.
    pub fn next(&mut self, from: &mut impl Read) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            let mut chunk = [0; 64 << 10];
            match from.read(&mut chunk) {
                Ok(0) if self.pending.is_empty() => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => self.pending.extend(&chunk[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self) -> io::Result<Option<Frame>> {
        let Some((header, rest)) = self.pending.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [kind, len @ ..] = *header;
        let len = u32::from_le_bytes(len) as usize;
        let damaged = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let kind = Kind::from_byte(kind).ok_or_else(|| damaged("unknown kind of frame"))?;
        if len > MAX_BODY_BYTES {
            return Err(damaged("frame too long"));
        }
        if rest.len() < len {
            return Ok(None);
        }
        let body = rest[..len].to_vec();
        self.pending.drain(..HEADER_BYTES + len);
        Ok(Some(Frame { kind, body }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte a read, with a time-out before each.
    struct Slow<'a>(&'a [u8], bool);

    impl Read for Slow<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.0.read(&mut buf[..1])
        }
    }

    #[test]
    fn frames_survive_short_reads_and_timeouts() {
        let mut bytes = Vec::new();
        write(&mut bytes, Kind::File, &[&7u32.to_le_bytes(), b"data"]).unwrap();
        write(&mut bytes, Kind::Stdin, &[]).unwrap();
        let mut slow = Slow(&bytes, false);
        let mut reader = Reader::default();
        let mut frames = Vec::new();
        loop {
            match reader.next(&mut slow) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert_eq!(frames[0].split_index(), Some((7, &b"data"[..])));
        assert_eq!(frames[1], Frame { kind: Kind::Stdin, body: Vec::new() });
    }

    #[test]
    fn damage_is_an_error_not_a_panic() {
        let error = |bytes: &[u8]| Reader::default().next(&mut &bytes[..]).unwrap_err().kind();
        assert_eq!(error(&[99, 0, 0, 0, 0]), io::ErrorKind::InvalidData);
        assert_eq!(error(&[1, 255, 255, 255, 255]), io::ErrorKind::InvalidData);
        assert_eq!(error(&[1, 2]), io::ErrorKind::UnexpectedEof);
    }
}
