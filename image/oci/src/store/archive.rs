//! A tar file as a set of named members that can be read in any order. A compressed one is first
//! unpacked into an unlinked temporary file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::StoredFile;
use crate::error::{Error, printable};
use crate::layer::Compression;
use crate::options::Options;
use crate::tar::{Kind, Reader, TarError};

/// An indexed tar file.
#[derive(Debug)]
pub(crate) struct Archive {
    place: String,
    file: Arc<File>,
    members: HashMap<Vec<u8>, Member>,
}

#[derive(Clone, Debug)]
enum Member {
    Data {
        offset: u64,
        size: u64,
    },
    /// Another member's name: `docker save` used to store equal layers as links.
    Link(Vec<u8>),
}

const BUFFER: usize = 256 * 1024;

impl Archive {
    pub(crate) fn open(path: &Path, place: &str, options: &Options) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| {
            Error::io(format!("{place}: cannot open {}", path.display()), source)
        })?;
        let mut start = [0; 6];
        let len = file.read_at(&mut start, 0).map_err(|source| {
            Error::io(format!("{place}: cannot read {}", path.display()), source)
        })?;
        let start = start.get(..len).unwrap_or_default();
        let file = match (Compression::of(start), start) {
            (_, [0xfd, b'7', b'z', ..] | [b'B', b'Z', b'h', ..]) => {
                return Err(Error::unsupported(
                    place,
                    "the archive is compressed with xz or bzip2; unpack it first, or use gzip or \
                     zstd",
                ));
            }
            (Compression::None, _) => file,
            (compression, _) => unpacked(file, compression, place, options)?,
        };
        let members = index(&file, place, options)?;
        Ok(Self {
            place: place.to_owned(),
            file: Arc::new(file),
            members,
        })
    }

    /// A member's data and size; `None` when there is no such member.
    pub(crate) fn member(&self, name: &str) -> Result<Option<StoredFile>, Error> {
        let mut name = normalised(name.as_bytes());
        for _ in 0..8 {
            match self.members.get(&name) {
                None => return Ok(None),
                Some(Member::Link(target)) => name.clone_from(target),
                Some(Member::Data { offset, size }) => {
                    let range = Range {
                        file: Arc::clone(&self.file),
                        at: *offset,
                        left: *size,
                    };
                    return Ok(Some((Box::new(range), *size)));
                }
            }
        }
        Err(Error::malformed(
            &self.place,
            format!("member {}", printable(&name)),
            "links lead in a circle",
        ))
    }
}

fn unpacked(
    file: File,
    compression: Compression,
    place: &str,
    options: &Options,
) -> Result<File, Error> {
    let failed = |source| Error::io(format!("{place}: cannot decompress the archive"), source);
    let input = BufReader::with_capacity(BUFFER, file);
    let plain: Box<dyn Read> = match compression {
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        _ => Box::new(zstd::Decoder::with_buffer(input).map_err(failed)?),
    };
    let limit = options.limits.archive_bytes;
    let output = tempfile::tempfile_in(&options.temp_dir).map_err(|source| {
        let dir = options.temp_dir.display();
        Error::io(format!("cannot make a temporary file in {dir}"), source)
    })?;
    let mut output = io::BufWriter::with_capacity(BUFFER, output);
    let copied = io::copy(
        &mut BufReader::with_capacity(BUFFER, plain.take(limit + 1)),
        &mut output,
    )
    .map_err(failed)?;
    if copied > limit {
        return Err(Error::TooLarge {
            place: place.to_owned(),
            what: "the decompressed archive".to_owned(),
            limit: format!("{limit} bytes"),
        });
    }
    output.flush().map_err(failed)?;
    let mut output = output
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    output.rewind().map_err(failed)?;
    Ok(output)
}

fn index(file: &File, place: &str, options: &Options) -> Result<HashMap<Vec<u8>, Member>, Error> {
    let limits = &options.limits;
    let len = file
        .metadata()
        .map_err(|source| Error::io(format!("{place}: cannot read the archive"), source))?
        .len();
    let mut members = HashMap::new();
    let mut seen = Vec::new();
    let mut reader = Reader::with_pass(Whole { file, at: 0, len }, limits, Whole::pass);
    let broken = |seen: &[u8], why: TarError| {
        let what = match seen {
            [] => "the archive".to_owned(),
            name => format!("the archive at member {}", printable(name)),
        };
        Error::malformed(place, what, why)
    };
    while let Some(entry) = reader.next(&mut seen).map_err(|why| broken(&seen, why))? {
        let member = match entry.kind {
            Kind::File => {
                let stored = reader.stored_whole().ok_or(TarError::Malformed(
                    "a sparse member cannot be part of an image archive",
                ));
                Member::Data {
                    offset: reader.data_position(),
                    size: stored.map_err(|why| broken(&seen, why))?,
                }
            }
            Kind::HardLink(target) => Member::Link(normalised(&target)),
            Kind::Symlink(target) => Member::Link(beside(&entry.path, &target)),
            _ => continue,
        };
        members.insert(normalised(&entry.path), member);
        if members.len() as u64 > limits.archive_members {
            return Err(Error::TooLarge {
                place: place.to_owned(),
                what: "the number of members of the archive".to_owned(),
                limit: limits.archive_members.to_string(),
            });
        }
    }
    Ok(members)
}

fn normalised(name: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// A link's target, seen from the directory that the link is in.
fn beside(name: &[u8], target: &[u8]) -> Vec<u8> {
    normalised(&[name, b"/../", target].concat())
}

/// A part of the file.
struct Range {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Range {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let n = self
            .file
            .read_at(buffer.get_mut(..most).unwrap_or_default(), self.at)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// The whole file, passed over without being read.
struct Whole<'f> {
    file: &'f File,
    at: u64,
    len: u64,
}

impl Whole<'_> {
    fn pass(&mut self, bytes: u64) -> io::Result<u64> {
        let passed = bytes.min(self.len.saturating_sub(self.at));
        self.at += passed;
        Ok(passed)
    }
}

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}
