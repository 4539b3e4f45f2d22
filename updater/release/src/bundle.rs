//! A bundle: the published files that one machine type needs, one behind the other in one file,
//! for machines without a network.
//!
//! It is a POSIX tar archive (IEEE 1003.1, `ustar`), so `tar tvf` lists it, and it is written to
//! a disk as it is: nobody has to mount what a stranger plugs in. The first entry is named
//! [`FIRST`] and says for people what this is. Every header has exactly the bytes that [`header`]
//! gives for its name, size and time, and any other is refused. Nothing here is signed: what the
//! entries hold is believed only after the checks that a web server's files go through as well.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

/// Bytes of a header; entries start at multiples of it.
pub const BLOCK: u64 = 512;
/// A bundle's length is a multiple of this: disks have whole sectors, and tools like round sizes.
pub const ROUND: u64 = 1 << 20;
/// The name of the first entry. The number is the format's.
pub const FIRST: &str = "berth-bundle-1";
/// What the first entry of every format starts with.
const FAMILY: &[u8] = b"berth-bundle-";

/// Every bound on a bundle.
pub mod limits {
    /// Entries.
    pub const ENTRIES: usize = 1024;
    /// Bytes of an entry: what eleven octal digits can say.
    pub const ENTRY_BYTES: u64 = (8 << 30) - 1;
    /// Bytes of a name: what `ustar` has room for.
    pub const NAME_BYTES: usize = 255;
}

/// Fields of a header: where they start and how long they are.
const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const USER: Range<usize> = 108..116;
const GROUP: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const TIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const KIND: Range<usize> = 156..157;
const MAGIC: Range<usize> = 257..265;
const PREFIX: Range<usize> = 345..500;

/// A header.
pub type Header = [u8; BLOCK as usize];

/// Why a disk that starts like a bundle is none.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It is of another time.
    #[error("it is a bundle of a format that this machine is too old for")]
    Format,
    /// It ends too early.
    #[error("it is cut off: it ends before the {0} that it lists")]
    CutOff(String),
    /// A header is not one of a bundle.
    #[error("it is damaged: at byte {0} there is no entry as `berth bundle` writes it")]
    Damaged(u64),
    /// Two entries have one name.
    #[error("it has {0} twice")]
    Twice(String),
    /// It is too long.
    #[error("it has more than {} entries", limits::ENTRIES)]
    TooMany,
    /// The disk failed.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// The header of an entry; `None` when a bundle cannot have such a one.
#[must_use]
pub fn header(name: &str, bytes: u64, unix_time: u64) -> Option<Header> {
    let (prefix, name) = split(name)?;
    let mut header = [0; BLOCK as usize];
    let mut put = |field: Range<usize>, bytes: &[u8]| {
        for (to, from) in header.get_mut(field).into_iter().flatten().zip(bytes) {
            *to = *from;
        }
    };
    put(NAME, name.as_bytes());
    put(MODE, b"0000644");
    put(USER, b"0000000");
    put(GROUP, b"0000000");
    put(SIZE, octal(bytes)?.as_bytes());
    put(TIME, octal(unix_time)?.as_bytes());
    put(CHECKSUM, b"        ");
    put(KIND, b"0");
    put(MAGIC, b"ustar\x0000");
    put(PREFIX, prefix.as_bytes());
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    for (to, from) in header.get_mut(CHECKSUM)?.iter_mut().zip(sum.bytes()) {
        *to = from;
    }
    Some(header)
}

/// Eleven digits.
fn octal(number: u64) -> Option<String> {
    (number <= limits::ENTRY_BYTES).then(|| format!("{number:011o}"))
}

/// A name as directory and rest, each as long as its field at most. The rest is as long as it can
/// be: one way to write a name.
fn split(name: &str) -> Option<(&str, &str)> {
    let plain = |part: &str| {
        let letter = |byte: u8| byte.is_ascii_graphic() && !b"\\\"'`".contains(&byte);
        !matches!(part, "" | "." | "..") && part.bytes().all(letter)
    };
    if name.len() > limits::NAME_BYTES || !name.split('/').all(plain) {
        return None;
    }
    if name.len() <= NAME.len() {
        return Some(("", name));
    }
    let slashes = name.match_indices('/');
    let mut ways = slashes.filter_map(|(at, _)| {
        let (directory, rest) = (name.get(..at)?, name.get(at + 1..)?);
        (directory.len() <= PREFIX.len() && rest.len() <= NAME.len()).then_some((directory, rest))
    });
    ways.next()
}

/// Bytes that an entry's content takes, with what fills its last block.
#[must_use]
pub fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK)
}

/// Whether a disk whose first block this is may hold a bundle, of this format or another.
#[must_use]
pub fn begins(first: &Header) -> bool {
    first.starts_with(FAMILY)
}

/// Where the files in a bundle are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index(BTreeMap<String, Range<u64>>);

impl Index {
    /// Reads the headers of the bundle that a disk of `bytes` bytes starts with; `read_at` fills
    /// a buffer from an offset.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn read(
        bytes: u64,
        mut read_at: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
    ) -> Result<Self, BundleError> {
        let mut files = BTreeMap::new();
        let mut at = 0;
        loop {
            let mut block: Header = [0; BLOCK as usize];
            let content = at + BLOCK;
            if content > bytes {
                return Err(BundleError::CutOff("end".into()));
            }
            read_at(at, &mut block)?;
            if block == [0; BLOCK as usize] && at > 0 {
                return Ok(Self(files));
            }
            if at == 0 && begins(&block) && text(&block, NAME) != Some(FIRST) {
                return Err(BundleError::Format);
            }
            let entry = parse(&block).filter(|(name, _)| at > 0 || name == FIRST);
            let (name, length) = entry.ok_or(BundleError::Damaged(at))?;
            let end = content + length;
            if end > bytes {
                return Err(BundleError::CutOff(name));
            }
            if files.len() >= limits::ENTRIES {
                return Err(BundleError::TooMany);
            }
            if files.insert(name.clone(), content..end).is_some() {
                return Err(BundleError::Twice(name));
            }
            at = content + padded(length);
        }
    }

    /// Where a file's bytes are.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Range<u64>> {
        self.0.get(name).cloned()
    }

    /// Every file and where its bytes are.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Range<u64>)> {
        self.0.iter().map(|(name, range)| (name.as_str(), range))
    }
}

/// Name and length of an entry.
fn parse(block: &Header) -> Option<(String, u64)> {
    let number = |field| u64::from_str_radix(text(block, field)?, 8).ok();
    let (name, prefix) = (text(block, NAME)?, text(block, PREFIX)?);
    let name = match prefix {
        "" => name.to_owned(),
        _ => format!("{prefix}/{name}"),
    };
    let (bytes, time) = (number(SIZE)?, number(TIME)?);
    (header(&name, bytes, time)? == *block).then_some((name, bytes))
}

/// A field up to its first zero byte.
fn text(block: &Header, field: Range<usize>) -> Option<&str> {
    let field = block.get(field)?;
    let end = field.iter().position(|byte| *byte == 0);
    std::str::from_utf8(field.get(..end.unwrap_or(field.len()))?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, content) in entries {
            bytes.extend(header(name, content.len() as u64, 7).expect("a header"));
            bytes.extend(*content);
            bytes.resize(padded(bytes.len() as u64) as usize, 0);
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Index, BundleError> {
        Index::read(bytes.len() as u64, |at, buffer| {
            let at = at as usize;
            buffer.copy_from_slice(&bytes[at..at + buffer.len()]);
            Ok(())
        })
    }

    #[test]
    fn what_is_written_is_found() {
        let long = format!("targets/{}/{}.release.json", "p".repeat(60), "0".repeat(64));
        let bytes = bundle(&[(FIRST, b"hello"), ("a/b", b""), (&long, &[9; 513])]);
        let index = read(&bytes).expect("an index");
        assert_eq!(index.files().count(), 3);
        let range = index.find(&long).expect("the file");
        let range = range.start as usize..range.end as usize;
        assert_eq!(&bytes[range], [9; 513]);
        assert_eq!(index.find("a/b").map(|range| range.is_empty()), Some(true));
        assert_eq!(index.find("a"), None);
    }

    #[test]
    fn every_changed_bit_of_a_header_is_refused() {
        let good = bundle(&[(FIRST, b"hello"), ("metadata/timestamp.json", b"{}")]);
        for bit in (0..512 * 8).chain(1024 * 8..1536 * 8) {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn what_is_no_bundle_is_told_apart_from_a_damaged_or_a_newer_one() {
        let good = bundle(&[(FIRST, b"hello"), ("a", &[1; 2000])]);
        assert!(matches!(
            read(&good[..2048]),
            Err(BundleError::CutOff(name)) if name == "a"
        ));
        let end = good.len() - 1024;
        assert!(matches!(read(&good[..end]), Err(BundleError::CutOff(_))));
        let twice = bundle(&[(FIRST, b""), ("a", b"1"), ("a", b"2")]);
        assert!(matches!(read(&twice), Err(BundleError::Twice(_))));
        let newer = bundle(&[("berth-bundle-2", b"")]);
        assert!(matches!(read(&newer), Err(BundleError::Format)));
        assert!(matches!(read(&[0; 4096]), Err(BundleError::Damaged(0))));
    }

    #[test]
    fn names_that_lead_elsewhere_have_no_header() {
        for name in ["", "/a", "a/", "a//b", "../a", "a/./b", "a b", "a\nb"] {
            assert_eq!(header(name, 0, 0), None, "{name:?}");
        }
        assert_eq!(header(&"n".repeat(101), 0, 0), None);
        assert_eq!(header("a", limits::ENTRY_BYTES + 1, 0), None);
    }
}
