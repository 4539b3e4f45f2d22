//! The stream of entries: headers that describe the next header are folded into it.

use std::io::{self, Read};

use base64::Engine as _;
use berth_tree::Metadata;

use super::TarError;
use super::header::{BLOCK, Block, Dialect};
use super::pax::Records;
use super::sparse::{self, Map, Segment};
use crate::limits::Limits;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    /// A type flag that has no meaning in an image.
    Unknown(u8),
}

/// One entry. Its data, if it is a file, is read with [`Reader::data`].
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The name exactly as stored.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) metadata: Metadata,
    /// Length of the file, holes included.
    pub(crate) size: u64,
}

/// A sparse file's map, and its name when the header has another.
type Sparse = (Map, Option<Vec<u8>>);

/// Reads entries one after the other.
pub(crate) struct Reader<'a, R> {
    input: R,
    limits: &'a Limits,
    /// Stored bytes of the current entry that were not read yet, and the padding behind them.
    stored: u64,
    padding: u64,
    map: Option<Map>,
    /// Bytes taken from the input.
    position: u64,
    /// Passes over bytes of the input; returns how many there were.
    pass: fn(&mut R, u64) -> io::Result<u64>,
}

impl<'a, R: Read> Reader<'a, R> {
    pub(crate) fn new(input: R, limits: &'a Limits) -> Self {
        Self::with_pass(input, limits, |input, bytes| {
            io::copy(&mut input.take(bytes), &mut io::sink())
        })
    }

    /// A reader that passes over data which nobody asks for with `pass` rather than by reading.
    pub(crate) fn with_pass(
        input: R,
        limits: &'a Limits,
        pass: fn(&mut R, u64) -> io::Result<u64>,
    ) -> Self {
        Self {
            input,
            limits,
            stored: 0,
            padding: 0,
            map: None,
            position: 0,
            pass,
        }
    }

    /// The next entry; `None` at the end, which is two blocks of zeros or the end of the input.
    /// The name found so far stands in `seen` when this fails.
    pub(crate) fn next(&mut self, seen: &mut Vec<u8>) -> Result<Option<Entry>, TarError> {
        self.skip()?;
        let mut records = Records::default();
        let (mut long_name, mut long_link) = (None, None);
        loop {
            let Some(block) = self.header()? else {
                return Ok(None);
            };
            match (block.type_flag(), block.dialect()) {
                (b'x' | b'X', _) => records = Records::parse(&self.extension(&block)?)?,
                // Global records carry comments (git archive); container tools ignore them.
                (b'g', _) => drop(self.extension(&block)?),
                (b'L', _) => long_name = Some(until_nul(self.extension(&block)?)),
                (b'K', _) => long_link = Some(until_nul(self.extension(&block)?)),
                _ => {
                    let path = match (records.text("path")?, long_name) {
                        (Some(path), _) | (None, Some(path)) => path,
                        (None, None) => block.name(),
                    };
                    let link = match (records.text("linkpath")?, long_link) {
                        (Some(link), _) | (None, Some(link)) => link,
                        (None, None) => block.link_name(),
                    };
                    seen.clone_from(&path);
                    return self.entry(&block, &records, path, link).map(Some);
                }
            }
        }
    }

    /// The current file's data, with holes as zeros.
    pub(crate) fn data(&mut self) -> Data<'_, 'a, R> {
        let (segments, size) = match self.map.take() {
            Some(map) => (map.segments, map.size),
            None => {
                let whole = Segment {
                    offset: 0,
                    len: self.stored,
                };
                (vec![whole], self.stored)
            }
        };
        Data {
            reader: self,
            segments,
            current: 0,
            at: 0,
            size,
        }
    }

    /// Where the current entry's data starts in the input.
    pub(crate) fn data_position(&self) -> u64 {
        self.position
    }

    /// Stored length of the current entry's data when it is not sparse.
    pub(crate) fn stored_whole(&self) -> Option<u64> {
        self.map.is_none().then_some(self.stored)
    }

    fn entry(
        &mut self,
        block: &Block,
        records: &Records,
        mut path: Vec<u8>,
        link: Vec<u8>,
    ) -> Result<Entry, TarError> {
        let kind = self.kind(block, &path, link)?;
        let stored = match records.number("size")? {
            Some(size) => size,
            None => unsigned(block.size()?)?,
        };
        // Links and the like have no data, whatever their size says.
        let has_data = matches!(kind, Kind::File | Kind::Unknown(_));
        self.begin(if has_data { stored } else { 0 })?;
        let mut size = self.stored;
        if kind == Kind::File
            && let Some((map, name)) = self.sparse(block, records)?
        {
            size = map.size;
            self.map = Some(map);
            path = name.unwrap_or(path);
        }
        Ok(Entry {
            path,
            kind,
            metadata: metadata(block, records, self.limits)?,
            size,
        })
    }

    fn kind(&self, block: &Block, path: &[u8], link: Vec<u8>) -> Result<Kind, TarError> {
        let device = || -> Result<(u32, u32), TarError> {
            const BAD: TarError = TarError::Malformed("a device number is out of range");
            let (major, minor) = block.device()?;
            Ok((
                u32::try_from(major).map_err(|_| BAD)?,
                u32::try_from(minor).map_err(|_| BAD)?,
            ))
        };
        Ok(match block.type_flag() {
            // Before POSIX, a directory was a file whose name ends in a slash.
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink(link),
            b'2' => Kind::Symlink(link),
            b'3' => device().map(|(major, minor)| Kind::CharDevice { major, minor })?,
            b'4' => device().map(|(major, minor)| Kind::BlockDevice { major, minor })?,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => Kind::Unknown(other),
        })
    }

    /// Reads the map of a sparse file; `None` when it is not one.
    fn sparse(&mut self, block: &Block, records: &Records) -> Result<Option<Sparse>, TarError> {
        let max = self.limits.sparse_segments;
        if block.type_flag() == b'S' && block.dialect() == Dialect::Gnu {
            let mut counted = Counted::new(&mut self.input);
            let map = sparse::gnu(block, self.stored, &mut counted, max)?;
            self.position += counted.count;
            return Ok(Some((map, None)));
        }
        let name = records.text("GNU.sparse.name")?;
        if records.get("GNU.sparse.major") == Some(b"1")
            && records.get("GNU.sparse.minor") == Some(b"0")
        {
            let size = records.number("GNU.sparse.realsize")?;
            let size = size.ok_or(TarError::Malformed("a sparse file has no size"))?;
            let (map, taken) = sparse::from_data(size, self.stored, &mut self.input, max)?;
            self.stored -= taken;
            self.position += taken;
            return Ok(Some((map, name)));
        }
        Ok(sparse::from_records(records, self.stored, max)?.map(|map| (map, name)))
    }

    fn header(&mut self) -> Result<Option<Block>, TarError> {
        let mut bytes = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(bytes.get_mut(filled..).unwrap_or_default()) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(TarError::Truncated),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.position += BLOCK as u64;
        Block::parse(&bytes)
    }

    /// The data of a header that extends the next one.
    fn extension(&mut self, block: &Block) -> Result<Vec<u8>, TarError> {
        let size = unsigned(block.size()?)?;
        if size > self.limits.tar_header_bytes {
            return Err(TarError::TooLarge {
                what: "an extended header",
                limit: self.limits.tar_header_bytes,
            });
        }
        self.begin(size)?;
        let mut bytes = Vec::new();
        (&mut self.input).take(size).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != size {
            return Err(TarError::Truncated);
        }
        self.position += size;
        self.stored = 0;
        self.skip()?;
        Ok(bytes)
    }

    fn begin(&mut self, stored: u64) -> Result<(), TarError> {
        const BAD: TarError = TarError::Malformed("an entry's size is out of range");
        let padded = stored.checked_next_multiple_of(BLOCK as u64).ok_or(BAD)?;
        i64::try_from(padded).map_err(|_| BAD)?;
        self.stored = stored;
        self.padding = padded - stored;
        self.map = None;
        Ok(())
    }

    /// Passes over what is left of the current entry. Padding may be missing at the end of the
    /// input: umoci ends its files so, and no data is lost.
    fn skip(&mut self) -> Result<(), TarError> {
        let left = self.stored + self.padding;
        let passed = (self.pass)(&mut self.input, left)?;
        self.position += passed;
        if passed < self.stored {
            return Err(TarError::Truncated);
        }
        (self.stored, self.padding) = (0, 0);
        Ok(())
    }
}

/// A file's data.
pub(crate) struct Data<'r, 'a, R> {
    reader: &'r mut Reader<'a, R>,
    segments: Vec<Segment>,
    current: usize,
    at: u64,
    size: u64,
}

impl<R: Read> Read for Data<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self
            .segments
            .get(self.current)
            .is_some_and(|s| s.offset + s.len <= self.at)
        {
            self.current += 1;
        }
        let (from_input, until) = match self.segments.get(self.current) {
            Some(segment) if self.at < segment.offset => (false, segment.offset),
            Some(segment) => (true, segment.offset + segment.len),
            None => (false, self.size),
        };
        let most = usize::try_from(until - self.at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let part = buffer.get_mut(..most).unwrap_or_default();
        if part.is_empty() {
            return Ok(0);
        }
        let n = match from_input {
            true => {
                let n = self.reader.input.read(part)?;
                if n == 0 {
                    return Err(io::Error::other(TarError::Truncated));
                }
                self.reader.stored -= n as u64;
                self.reader.position += n as u64;
                n
            }
            false => {
                part.fill(0);
                part.len()
            }
        };
        self.at += n as u64;
        Ok(n)
    }
}

struct Counted<'r, R> {
    inner: &'r mut R,
    count: u64,
}

impl<'r, R> Counted<'r, R> {
    fn new(inner: &'r mut R) -> Self {
        Self { inner, count: 0 }
    }
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.count += n as u64;
        Ok(n)
    }
}

pub(super) fn read_full(input: &mut impl Read, buffer: &mut [u8]) -> Result<(), TarError> {
    input
        .read_exact(buffer)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => TarError::Truncated,
            _ => TarError::Read(error),
        })
}

fn metadata(block: &Block, records: &Records, limits: &Limits) -> Result<Metadata, TarError> {
    // The last number is what the kernel uses for "nobody in particular": no file can have it.
    let id = |value: u64| match u32::try_from(value) {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(TarError::Malformed("an owner's number is out of range")),
    };
    let owner = |key: &str, header: i64| match records.number(key)? {
        Some(value) => id(value),
        None => id(unsigned(header)?),
    };
    let (mtime, mtime_nsec) = match records.time("mtime")? {
        Some(time) => time,
        None => (block.mtime()?, 0),
    };
    Ok(Metadata {
        mode: u16::try_from(block.mode()? & 0o7777).unwrap_or(0),
        uid: owner("uid", block.uid()?)?,
        gid: owner("gid", block.gid()?)?,
        mtime,
        mtime_nsec,
        xattrs: xattrs(records, limits)?,
    })
}

/// Extended attributes as star and GNU tar write them, and as libarchive does (name
/// percent-encoded, value in base64); the former win, since they are what images carry.
fn xattrs(
    records: &Records,
    limits: &Limits,
) -> Result<std::collections::BTreeMap<Vec<u8>, Vec<u8>>, TarError> {
    let mut found = std::collections::BTreeMap::new();
    for (key, value) in records.iter() {
        if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            const BAD: TarError = TarError::Malformed("an extended attribute is not base64");
            let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
            let value: Vec<u8> = value.iter().copied().filter(|b| *b != b'=').collect();
            let value = engine.decode(value).map_err(|_| BAD)?;
            found.insert(percent_decoded(name), value);
        }
    }
    for (key, value) in records.iter() {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            found.insert(name.to_vec(), value.to_vec());
        }
    }
    for (name, value) in &found {
        if name.is_empty() || name.len() > 255 || name.contains(&0) {
            return Err(TarError::Malformed(
                "an extended attribute's name is not one",
            ));
        }
        if value.len() > limits.xattr_bytes {
            return Err(TarError::TooLarge {
                what: "an extended attribute",
                limit: limits.xattr_bytes as u64,
            });
        }
    }
    Ok(found)
}

fn percent_decoded(name: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

fn unsigned(value: i64) -> Result<u64, TarError> {
    u64::try_from(value).map_err(|_| TarError::Malformed("a number in a header is negative"))
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}
