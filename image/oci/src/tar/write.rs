//! Writing tar: ustar, with pax records where a value does not fit. The same entries give the
//! same bytes.

use std::io::{self, Read, Write};

use berth_tree::Metadata;

use super::header::BLOCK;
use super::reader::Kind;

/// Writes entries one after the other; [`Writer::finish`] ends the file.
pub(crate) struct Writer<W> {
    output: W,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(output: W) -> Self {
        Self { output }
    }

    /// One entry; `size` bytes of `data` follow when it is a file.
    pub(crate) fn entry(
        &mut self,
        path: &[u8],
        kind: &Kind,
        metadata: &Metadata,
        size: u64,
        data: &mut dyn Read,
    ) -> io::Result<()> {
        let link: &[u8] = match kind {
            Kind::Symlink(target) | Kind::HardLink(target) => target,
            _ => b"",
        };
        let records = records(path, link, metadata, size);
        if !records.is_empty() {
            let fixed = Metadata::system(0o644);
            let name = b"././@PaxHeader";
            self.header(name, b"", b'x', &fixed, records.len() as u64, (0, 0))?;
            self.output.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        let (flag, device) = match kind {
            Kind::File | Kind::Unknown(_) => (b'0', (0, 0)),
            Kind::HardLink(_) => (b'1', (0, 0)),
            Kind::Symlink(_) => (b'2', (0, 0)),
            Kind::CharDevice { major, minor } => (b'3', (*major, *minor)),
            Kind::BlockDevice { major, minor } => (b'4', (*major, *minor)),
            Kind::Directory => (b'5', (0, 0)),
            Kind::Fifo => (b'6', (0, 0)),
        };
        self.header(path, link, flag, metadata, size, device)?;
        if size > 0 {
            let copied = io::copy(&mut data.take(size), &mut self.output)?;
            if copied != size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.pad(size)?;
        }
        Ok(())
    }

    /// The end mark.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.output.write_all(&[0; 2 * BLOCK])?;
        Ok(self.output)
    }

    fn header(
        &mut self,
        path: &[u8],
        link: &[u8],
        flag: u8,
        metadata: &Metadata,
        size: u64,
        device: (u32, u32),
    ) -> io::Result<()> {
        let mut block = [0u8; BLOCK];
        text(&mut block, 0, 100, path);
        octal(&mut block, 100, 8, u64::from(metadata.mode));
        octal(&mut block, 108, 8, u64::from(metadata.uid));
        octal(&mut block, 116, 8, u64::from(metadata.gid));
        octal(&mut block, 124, 12, size);
        octal(
            &mut block,
            136,
            12,
            u64::try_from(metadata.mtime).unwrap_or(0),
        );
        text(&mut block, 148, 8, b"        ");
        text(&mut block, 156, 1, &[flag]);
        text(&mut block, 157, 100, link);
        text(&mut block, 257, 8, b"ustar\x0000");
        octal(&mut block, 329, 8, u64::from(device.0));
        octal(&mut block, 337, 8, u64::from(device.1));
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        text(&mut block, 148, 8, format!("{sum:06o}\0 ").as_bytes());
        self.output.write_all(&block)
    }

    fn pad(&mut self, written: u64) -> io::Result<()> {
        let padding = written.next_multiple_of(BLOCK as u64) - written;
        io::copy(&mut io::repeat(0).take(padding), &mut self.output)?;
        Ok(())
    }
}

fn text(block: &mut [u8; BLOCK], at: usize, len: usize, value: &[u8]) {
    let space = block.iter_mut().skip(at).take(len);
    space.zip(value).for_each(|(to, from)| *to = *from);
}

/// Zero-padded octal with a NUL behind it; a value that does not fit is left 0 and stands in a
/// pax record.
fn octal(block: &mut [u8; BLOCK], at: usize, len: usize, value: u64) {
    let digits = len - 1;
    let value = if fits(value, digits) { value } else { 0 };
    text(block, at, digits, format!("{value:0digits$o}").as_bytes());
}

fn fits(value: u64, digits: usize) -> bool {
    digits >= 22 || value >> (3 * digits) == 0
}

fn records(path: &[u8], link: &[u8], metadata: &Metadata, size: u64) -> Vec<u8> {
    let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut add = |key: &[u8], value: &[u8]| found.push((key.to_vec(), value.to_vec()));
    if path.len() > 100 || !path.is_ascii() {
        add(b"path", path);
    }
    if link.len() > 100 || !link.is_ascii() {
        add(b"linkpath", link);
    }
    if !fits(size, 11) {
        add(b"size", size.to_string().as_bytes());
    }
    for (key, id) in [("uid", metadata.uid), ("gid", metadata.gid)] {
        if !fits(u64::from(id), 7) {
            add(key.as_bytes(), id.to_string().as_bytes());
        }
    }
    let second_fits = u64::try_from(metadata.mtime).is_ok_and(|s| fits(s, 11));
    if metadata.mtime_nsec != 0 || !second_fits {
        add(
            b"mtime",
            time(metadata.mtime, metadata.mtime_nsec).as_bytes(),
        );
    }
    for (name, value) in &metadata.xattrs {
        add(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    found.sort();
    found
        .iter()
        .flat_map(|(key, value)| record(key, value))
        .collect()
}

fn time(seconds: i64, nanos: u32) -> String {
    match (seconds < 0, nanos) {
        (_, 0) => seconds.to_string(),
        (false, nanos) => format!("{seconds}.{nanos:09}"),
        // Nanoseconds count forwards, the decimal notation away from zero.
        (true, nanos) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos),
    }
}

/// The length counts itself.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut len = body;
    while len != body + len.to_string().len() {
        len = body + len.to_string().len();
    }
    [len.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::tar::Reader;

    #[test]
    fn what_is_written_is_read_back() {
        let mut metadata = Metadata::system(0o4755);
        metadata.uid = 4_000_000_000;
        metadata.mtime = -5;
        metadata.mtime_nsec = 250_000_000;
        metadata
            .xattrs
            .insert(b"user.x".to_vec(), b"a\nb\0".to_vec());
        let long = [b"d/".repeat(120).as_slice(), b"\xffname"].concat();
        let mut writer = Writer::new(Vec::new());
        writer
            .entry(&long, &Kind::File, &metadata, 3, &mut &b"abc"[..])
            .expect("file");
        let link = Kind::Symlink(vec![b't'; 300]);
        writer
            .entry(b"l", &link, &Metadata::system(0o777), 0, &mut io::empty())
            .expect("link");
        let bytes = writer.finish().expect("finish");
        let limits = Limits::default();
        let (mut reader, mut seen) = (Reader::new(&bytes[..], &limits), Vec::new());
        let entry = reader.next(&mut seen).expect("ok").expect("entry");
        assert_eq!(
            (entry.path, entry.metadata, entry.size),
            (long, metadata, 3)
        );
        let mut data = Vec::new();
        reader.data().read_to_end(&mut data).expect("data");
        assert_eq!(data, b"abc");
        assert_eq!(
            reader.next(&mut seen).expect("ok").expect("link").kind,
            link
        );
        assert!(reader.next(&mut seen).expect("ok").is_none());
    }

    #[test]
    fn a_records_length_counts_its_own_digits() {
        assert_eq!(record(b"a", b"b"), b"6 a=b\n");
        assert_eq!(record(b"path", &[b'x'; 90]).len(), 99);
        assert_eq!(&record(b"path", &[b'x'; 91])[..4], b"101 ");
    }
}
