//! The kernel's tables of mounts and swap spaces (proc(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A line of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// `major:minor` of the file system, which need not be that of a disk.
    pub number: String,
    /// Where it is mounted.
    pub point: PathBuf,
    /// What the program that mounted it named: often a path in `/dev`.
    pub source: PathBuf,
}

/// Decodes `/proc/self/mountinfo`; a line without the fields wanted here is left out.
pub(super) fn mounts(table: &[u8]) -> Vec<Mount> {
    let lines = table.split(|&byte| byte == b'\n');
    lines.filter_map(mount).collect()
}

/// `36 35 98:0 /root /point opts [tag...] - type source superopts`
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let number = fields.nth(2)?;
    let point = fields.nth(1)?;
    // Any number of tags comes before the dash; spaces within fields are escaped.
    fields.find(|field| *field == b"-")?;
    let source = fields.nth(1)?;
    Some(Mount { number: String::from_utf8_lossy(number).into_owned(), point: path(point), source: path(source) })
}

/// The paths in `/proc/swaps`, files and devices alike.
pub(super) fn swaps(table: &[u8]) -> Vec<PathBuf> {
    let lines = table.split(|&byte| byte == b'\n').skip(1);
    let first = |line: &[u8]| {
        let end = line.iter().position(|&byte| byte == b' ' || byte == b'\t')?;
        Some(path(&line[..end]))
    };
    lines.filter_map(first).collect()
}

/// Undoes the escapes of `seq_path`: a backslash and three octal digits.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        rest = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                tail
            }
            _ => {
                bytes.push(*first);
                tail
            }
        };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_with_any_number_of_tags() {
        let table = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            36 35 259:2 / /mnt/a\\040b\\134c rw shared:1 master:2 - ext4 /dev/nvme0n1p2 rw,errors=continue\n\
            37 35 0:9 / /odd rw -\n\
            junk\n";
        let found = mounts(table);
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[1],
            Mount { number: "259:2".to_owned(), point: "/mnt/a b\\c".into(), source: "/dev/nvme0n1p2".into() }
        );
    }

    #[test]
    fn swaps_skip_the_heading() {
        let table = b"Filename\tType\tSize\tUsed\tPriority\n\
            /dev/nvme0n1p3   partition\t1\t0\t-2\n/a\\040b file\t1\t0\t-3\n";
        let found = swaps(table);
        assert_eq!(found, [PathBuf::from("/dev/nvme0n1p3"), "/a b".into()]);
        assert!(swaps(b"").is_empty());
    }

    #[test]
    fn escapes_that_are_none_are_kept() {
        for (text, want) in [
            ("\\040", " "),
            ("\\1", "\\1"),
            ("\\\\011", "\\\t"),
            ("a\\", "a\\"),
            ("\\408", "\\408"),
            ("\\777", "\\777"),
        ] {
            assert_eq!(path(text.as_bytes()), PathBuf::from(want), "{text}");
        }
    }
}
