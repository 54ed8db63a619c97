//! Holes of a file, asked for one after the other.

use std::fs::File;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

/// The holes of a source, or none where it cannot tell.
#[derive(Debug)]
pub struct Holes {
    file: Option<File>,
    /// What was found last: begin, end, whether it is a hole.
    last: (u64, u64, bool),
    #[cfg(test)]
    known: Vec<(u64, u64)>,
}

impl Holes {
    /// Those of a file; without one everything is data.
    pub fn of(file: Option<File>) -> Self {
        Self {
            file,
            last: (0, 0, false),
            #[cfg(test)]
            known: Vec::new(),
        }
    }

    #[cfg(test)]
    pub fn known(holes: &[(u64, u64)]) -> Self {
        Self { known: holes.to_vec(), ..Self::of(None) }
    }

    /// Whether there is a hole at `offset`, and up to where the same holds.
    pub fn at(&mut self, offset: u64) -> (bool, u64) {
        if !(self.last.0..self.last.1).contains(&offset) {
            let (hole, end) = self.ask(offset);
            self.last = (offset, end, hole);
        }
        (self.last.2, self.last.1)
    }

    #[cfg(test)]
    fn ask(&self, offset: u64) -> (bool, u64) {
        if self.file.is_some() {
            return self.ask_file(offset);
        }
        let after = self.known.iter().find(|hole| offset < hole.1);
        match after {
            Some(hole) if hole.0 <= offset => (true, hole.1),
            Some(hole) => (false, hole.0),
            None => (false, u64::MAX),
        }
    }

    #[cfg(not(test))]
    fn ask(&self, offset: u64) -> (bool, u64) {
        self.ask_file(offset)
    }

    /// lseek(2): SEEK_DATA answers the next data at or after the offset, ENXIO where there is none;
    /// file systems that know no holes say that all is data.
    fn ask_file(&self, offset: u64) -> (bool, u64) {
        let all_data = (false, u64::MAX);
        let (Some(file), Ok(from)) = (&self.file, i64::try_from(offset)) else { return all_data };
        match lseek(file, from, Whence::SeekData).map(i64::cast_unsigned) {
            Ok(data) if data > offset => (true, data),
            Ok(_) => match lseek(file, from, Whence::SeekHole).map(i64::cast_unsigned) {
                Ok(hole) if hole > offset => (false, hole),
                _ => all_data,
            },
            // A file that has been cut meanwhile has no hole there: reading it will tell.
            Err(Errno::ENXIO) => match file.metadata() {
                Ok(data) if data.len() > offset => (true, data.len()),
                _ => all_data,
            },
            Err(_) => all_data,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_file_without_data_is_one_hole() {
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.set_len(1 << 20).unwrap();
        assert_eq!(Holes::of(Some(file.try_clone().unwrap())).at(5), (true, 1 << 20));
        assert_eq!(Holes::of(Some(file.try_clone().unwrap())).at(1 << 20), (false, u64::MAX), "beyond its end");
        file.write_all_at(&[1; 4096], 65536).unwrap();
        let mut holes = Holes::of(Some(file));
        let (hole, end) = holes.at(0);
        assert!(hole && end <= 65536, "{end}");
        let (hole, end) = holes.at(65536 + 100);
        assert!(!hole && (65536 + 4096..1 << 20).contains(&end), "{end}");
    }

    #[test]
    fn what_cannot_tell_is_data() {
        assert_eq!(Holes::of(None).at(0), (false, u64::MAX));
        let pipe = File::from(nix::unistd::pipe().unwrap().0);
        assert_eq!(Holes::of(Some(pipe)).at(0), (false, u64::MAX));
    }
}
