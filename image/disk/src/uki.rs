//! Unified kernel images: a UEFI stub with the kernel and its command line as PE sections.
//!
//! Follows the UAPI Group's UKI specification and the PE format. The stub's own sections keep
//! their addresses and contents; ours follow in address and in file. There is no initrd. The
//! kernel starts on a 4 KiB boundary of the file, so that a FAT with aligned data keeps it on
//! block boundaries. The checksum is zero, which firmware ignores; signing tools set it.

use std::io::{self, Read, Write};

use crate::stream::CHUNK;

/// Alignment of our sections in memory and of the kernel in the file.
const PAGE: u64 = 4096;

const COFF_BYTES: usize = 20;
const SECTION_BYTES: usize = 40;
const MACHINE_X86_64: u16 = 0x8664;
const MAGIC_PE32_PLUS: u16 = 0x020b;
/// Initialised data, readable.
const SECTION_FLAGS: u32 = 0x4000_0040;

// Fields of the optional header, by their offset in it.
const INITIALIZED_BYTES: usize = 8;
const SECTION_ALIGNMENT: usize = 32;
const FILE_ALIGNMENT: usize = 36;
const IMAGE_BYTES: usize = 56;
const HEADER_BYTES: usize = 60;
const CHECKSUM: usize = 64;
const DIRECTORY_COUNT: usize = 108;
const DIRECTORIES: usize = 112;
/// Data directories that hold positions in the file, which moving sections would break.
const FILE_DIRECTORIES: [(usize, &str); 2] = [(4, "a signature"), (6, "debug data")];

/// Why stub and kernel do not make a UKI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UkiError {
    /// Not a file for UEFI on x86-64.
    #[error("{0} is not a PE32+ file for x86-64")]
    NotPe(&'static str),
    /// A header that points outside its file or contradicts itself.
    #[error("the stub's header is damaged: {0}")]
    Stub(&'static str),
    /// Something that depends on positions in the file.
    #[error("the stub carries {0}: use the plain stub of systemd-boot-efi")]
    StubCarries(&'static str),
    /// The stub has a section of that name.
    #[error("the stub has a section {0} already: it is a UKI, not a stub")]
    SectionExists(&'static str),
    /// More sections than the space before the first.
    #[error("the stub has no room for {0} more sections in its header")]
    NoRoom(usize),
    /// More than 32 bits can address.
    #[error("the UKI would be larger than 2 GiB")]
    TooLarge,
}

/// What goes into a UKI beside stub and kernel.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    /// `.osrel`: the text of os-release.
    pub os_release: &'a str,
    /// `.cmdline`: the kernel command line.
    pub command_line: &'a str,
    /// `.uname`: the kernel's release; empty for no such section.
    pub kernel_release: &'a str,
}

/// A UKI laid out, without its kernel's bytes.
#[derive(Clone, Debug)]
pub struct Uki {
    /// Everything before the kernel.
    head: Vec<u8>,
    kernel_bytes: u64,
    total_bytes: u64,
}

impl Uki {
    /// Lays a UKI out for a kernel of `kernel_bytes`.
    ///
    /// # Errors
    /// When `stub` cannot take the sections.
    pub fn new(stub: &[u8], texts: Texts<'_>, kernel_bytes: u64) -> Result<Self, UkiError> {
        let stub = Stub::parse(stub)?;
        let mut added: Vec<(&'static str, &[u8])> = vec![
            (".osrel", texts.os_release.as_bytes()),
            (".cmdline", texts.command_line.as_bytes()),
        ];
        if !texts.kernel_release.is_empty() {
            added.push((".uname", texts.kernel_release.as_bytes()));
        }
        stub.build(&added, kernel_bytes)
    }

    /// Bytes of the whole file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Bytes of the kernel in it.
    #[must_use]
    pub fn kernel_bytes(&self) -> u64 {
        self.kernel_bytes
    }

    /// Writes the file; `kernel` yields as many bytes as announced.
    ///
    /// # Errors
    /// When `kernel` cannot be read, has another length, or `out` cannot be written.
    pub fn write(&self, kernel: &mut impl Read, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.head)?;
        let changed = || io::Error::other("the kernel changed while it was read");
        let mut left = self.kernel_bytes;
        let mut buffer = vec![0; CHUNK];
        while left > 0 {
            let part = &mut buffer[..left.min(CHUNK as u64) as usize];
            kernel.read_exact(part).map_err(|_| changed())?;
            out.write_all(part)?;
            left -= part.len() as u64;
        }
        if kernel.read(&mut [0])? != 0 {
            return Err(changed());
        }
        let written = self.head.len() as u64 + self.kernel_bytes;
        io::copy(&mut io::repeat(0).take(self.total_bytes - written), out)?;
        Ok(())
    }
}

/// Checks that a kernel's first bytes are those of one with an EFI stub, which systemd-stub
/// starts.
///
/// # Errors
/// [`UkiError::NotPe`].
pub fn check_kernel(start: &[u8]) -> Result<(), UkiError> {
    headers(start)
        .map(|_| ())
        .ok_or(UkiError::NotPe("the kernel (without CONFIG_EFI_STUB?)"))
}

/// Where the COFF header is, of a PE32+ file for x86-64.
fn headers(bytes: &[u8]) -> Option<usize> {
    let at = read_u32(bytes, 0x3c)? as usize;
    let coff = at.checked_add(4)?;
    let is_pe = bytes.starts_with(b"MZ")
        && bytes.get(at..coff)? == b"PE\0\0"
        && read_u16(bytes, coff)? == MACHINE_X86_64
        && read_u16(bytes, coff + COFF_BYTES)? == MAGIC_PE32_PLUS;
    is_pe.then_some(coff)
}

/// A parsed stub.
struct Stub<'a> {
    /// From the start of the file to the end of the section table.
    header: &'a [u8],
    coff: usize,
    optional: usize,
    sections: Vec<Section<'a>>,
    section_alignment: u64,
    file_alignment: u64,
}

struct Section<'a> {
    header: &'a [u8],
    address: u64,
    memory_bytes: u64,
    data: &'a [u8],
}

impl<'a> Stub<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, UkiError> {
        let damaged = UkiError::Stub;
        let coff = headers(bytes).ok_or(UkiError::NotPe("the stub"))?;
        let field = |at| read_u32(bytes, at).ok_or(damaged("it is cut off"));
        let half = |at| read_u16(bytes, at).ok_or(damaged("it is cut off"));
        let optional = coff + COFF_BYTES;
        let table = optional + usize::from(half(coff + 16)?);
        let directories = field(optional + DIRECTORY_COUNT)? as usize;
        if table < optional + DIRECTORIES + directories.min(16) * 8 {
            return Err(damaged("its optional header is too short"));
        }
        for (index, what) in FILE_DIRECTORIES {
            if index < directories && field(optional + DIRECTORIES + index * 8)? != 0 {
                return Err(UkiError::StubCarries(what));
            }
        }
        let alignment = |at| {
            let value = field(optional + at)?;
            match value.is_power_of_two() && (512..=65536).contains(&value) {
                true => Ok(u64::from(value)),
                false => Err(damaged(
                    "an alignment is not a power of two from 512 to 65536",
                )),
            }
        };
        let count = usize::from(half(coff + 2)?);
        let end = table + count * SECTION_BYTES;
        let header = bytes.get(..end).ok_or(damaged("it is cut off"))?;
        let sections = header[table..]
            .chunks_exact(SECTION_BYTES)
            .map(|header| Section::parse(header, bytes))
            .collect::<Option<Vec<_>>>()
            .ok_or(damaged("a section is outside the file"))?;
        if sections.is_empty() {
            return Err(damaged("it has no sections"));
        }
        Ok(Self {
            header,
            coff,
            optional,
            sections,
            section_alignment: alignment(SECTION_ALIGNMENT)?,
            file_alignment: alignment(FILE_ALIGNMENT)?,
        })
    }

    fn build(&self, added: &[(&'static str, &[u8])], kernel: u64) -> Result<Uki, UkiError> {
        let exists = |name: &&'static str| self.sections.iter().any(|s| s.is_named(name));
        let names = added.iter().map(|(name, _)| *name).chain([".linux"]);
        if let Some(name) = names.clone().find(exists) {
            return Err(UkiError::SectionExists(name));
        }
        let new = names.count();
        let header_end = (self.header.len() + new * SECTION_BYTES) as u64;
        let header_bytes = header_end.next_multiple_of(self.file_alignment);
        let first = self.sections.iter().map(|section| section.address).min();
        if first.is_some_and(|first| header_bytes > first) {
            return Err(UkiError::NoRoom(new));
        }

        let mut header = self.header.to_vec();
        let table = header.len() - self.sections.len() * SECTION_BYTES;
        let mut file = File {
            bytes: vec![0; header_bytes as usize],
            alignment: self.file_alignment,
        };
        let mut address = 0;
        for (index, section) in self.sections.iter().enumerate() {
            let at = file.append(section.data);
            put_u32(&mut header, table + index * SECTION_BYTES + 20, at)?;
            address = address.max(section.address + section.memory_bytes);
        }
        let mut initialized = 0;
        for (name, data) in added {
            address = address.next_multiple_of(PAGE.max(self.section_alignment));
            let at = file.append(data);
            let raw = (data.len() as u64).next_multiple_of(self.file_alignment);
            push_section(&mut header, name, data.len() as u64, address, raw, at)?;
            address += data.len() as u64;
            initialized += raw;
        }
        address = address.next_multiple_of(PAGE.max(self.section_alignment));
        let kernel_at = file.pad(PAGE);
        let raw = kernel.next_multiple_of(self.file_alignment);
        push_section(&mut header, ".linux", kernel, address, raw, kernel_at)?;
        address += kernel;
        initialized += raw;

        let sections = (self.sections.len() + new) as u16;
        header[self.coff + 2..self.coff + 4].copy_from_slice(&sections.to_le_bytes());
        // A symbol table would be at a position in the file; a stub needs none.
        header[self.coff + 8..self.coff + 16].fill(0);
        let data = read_u32(&header, self.optional + INITIALIZED_BYTES).map_or(0, u64::from);
        let image = address.next_multiple_of(self.section_alignment);
        put_u32(
            &mut header,
            self.optional + INITIALIZED_BYTES,
            data + initialized,
        )?;
        put_u32(&mut header, self.optional + IMAGE_BYTES, image)?;
        put_u32(&mut header, self.optional + HEADER_BYTES, header_bytes)?;
        put_u32(&mut header, self.optional + CHECKSUM, 0)?;
        let mut head = file.bytes;
        head[..header.len()].copy_from_slice(&header);
        let total_bytes = kernel_at + raw;
        if total_bytes > i32::MAX as u64 {
            return Err(UkiError::TooLarge);
        }
        Ok(Uki {
            head,
            kernel_bytes: kernel,
            total_bytes,
        })
    }
}

impl<'a> Section<'a> {
    fn parse(header: &'a [u8], file: &'a [u8]) -> Option<Self> {
        let raw = read_u32(header, 16)? as usize;
        let at = read_u32(header, 20)? as usize;
        Some(Self {
            header,
            address: read_u32(header, 12)?.into(),
            memory_bytes: u64::from(read_u32(header, 8)?).max(raw as u64),
            data: file.get(at..at.checked_add(raw)?)?,
        })
    }

    fn is_named(&self, name: &str) -> bool {
        let own = &self.header[..8];
        own.starts_with(name.as_bytes()) && own[name.len()..].iter().all(|byte| *byte == 0)
    }
}

/// The file up to the kernel.
struct File {
    bytes: Vec<u8>,
    alignment: u64,
}

impl File {
    /// Adds a section's data; returns where it is.
    fn append(&mut self, data: &[u8]) -> u64 {
        let at = self.bytes.len() as u64;
        self.bytes.extend_from_slice(data);
        self.pad(self.alignment);
        at
    }

    fn pad(&mut self, alignment: u64) -> u64 {
        let end = (self.bytes.len() as u64).next_multiple_of(alignment);
        self.bytes.resize(end as usize, 0);
        end
    }
}

fn push_section(
    table: &mut Vec<u8>,
    name: &str,
    memory_bytes: u64,
    address: u64,
    raw: u64,
    at: u64,
) -> Result<(), UkiError> {
    let mut header = [0; SECTION_BYTES];
    header[..name.len()].copy_from_slice(name.as_bytes());
    put_u32(&mut header, 8, memory_bytes)?;
    put_u32(&mut header, 12, address)?;
    put_u32(&mut header, 16, raw)?;
    put_u32(&mut header, 20, at)?;
    put_u32(&mut header, 36, SECTION_FLAGS.into())?;
    table.extend(header);
    Ok(())
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(field.try_into().ok()?))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

fn put_u32(bytes: &mut [u8], at: usize, value: u64) -> Result<(), UkiError> {
    let value = u32::try_from(value).map_err(|_| UkiError::TooLarge)?;
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    Ok(())
}
