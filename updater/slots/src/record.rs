//! What must be remembered beside the partition table: one page, kept twice.
//!
//! A copy is 4096 bytes: magic, format, generation, the record, zeroes, and a SHA-256 over all of
//! it. The copy with the higher generation counts; a new one goes over the other, so a cut while
//! it is written leaves the record as it was. Losing both is safe: what booted and what a slot
//! holds are read from the command line and the partition table, and the security version has
//! the running image's as its floor. What is lost then is which versions have failed.

use std::io;

use sha2::{Digest, Sha256};

use crate::target::{Target, Version};
use crate::verity::RootHash;

/// Bytes of a copy.
pub const PAGE: usize = 4096;
/// Most versions whose failure is remembered; the oldest is forgotten first.
pub const REJECTIONS: usize = 8;
/// Most bytes of a reason; what is longer is cut.
pub const REASON_BYTES: usize = 240;

const MAGIC: &[u8; 8] = b"BERTHREC";
const FORMAT: u32 = 2;
const CHECKSUM_BYTES: usize = 32;

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The highest security version that was committed.
    pub security_version: u64,
    /// What the other slot is to hold, or holds.
    pub target: Option<Target>,
    /// The trial of the target, from its arming to its end.
    pub trial: Option<Trial>,
    /// Versions that failed, the newest last.
    pub rejected: Vec<Rejection>,
}

/// A trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The root that is tried.
    pub root_hash: RootHash,
    /// The boot in which it was armed: the kernel's `boot_id`.
    pub boot_id: [u8; 16],
    /// How far it got.
    pub phase: Phase,
}

/// How far a trial got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The firmware has been told.
    Armed {
        /// It had been told before, and had lost its variables.
        again: bool,
    },
    /// The version came up.
    CameUp,
    /// The firmware lost its variables: nothing was tried.
    Lost,
    /// The firmware started the committed slot although it had been told.
    Ignored,
    /// Committed without a trial, in the boot that `boot_id` names.
    Untried,
}

/// A version that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The version.
    pub version: Version,
    /// Its root.
    pub root_hash: RootHash,
    /// Which try of it failed.
    pub attempt: u32,
    /// Why, for people.
    pub reason: String,
}

impl Record {
    /// Why a version is not to be tried, if it failed: by its name or its root.
    #[must_use]
    pub fn rejection(&self, version: &Version, root: &RootHash) -> Option<&Rejection> {
        let failed = |one: &&Rejection| one.version == *version || one.root_hash == *root;
        self.rejected.iter().rev().find(failed)
    }

    /// Remembers a failure, of the try that is on record, in place of an older one of the same version.
    pub fn reject(&mut self, version: Version, root_hash: RootHash, reason: &str) {
        let target = self.target.as_ref();
        let target = target.filter(|target| target.root_hash == root_hash);
        let attempt = target.map_or(0, |target| target.attempt);
        self.rejected
            .retain(|one| one.version != version && one.root_hash != root_hash);
        let excess = (self.rejected.len() + 1).saturating_sub(REJECTIONS);
        self.rejected.drain(..excess);
        self.rejected.push(Rejection {
            version,
            root_hash,
            attempt,
            reason: shortened(reason),
        });
    }
}

/// The first bytes of a reason that fit, whole characters, on one line.
fn shortened(reason: &str) -> String {
    let mut short = String::new();
    for letter in reason.chars() {
        let letter = if letter.is_control() { ' ' } else { letter };
        if short.len() + letter.len_utf8() > REASON_BYTES {
            break;
        }
        short.push(letter);
    }
    short
}

/// Where the two copies are kept.
pub trait Records {
    /// Both copies as they are; `None` for one that does not exist.
    ///
    /// # Errors
    /// When it is not known what is there.
    fn load(&mut self) -> io::Result<[Option<Vec<u8>>; 2]>;

    /// Writes copy 0 or 1; it is on the medium when this returns.
    ///
    /// # Errors
    /// When that is not certain.
    fn save(&mut self, copy: usize, bytes: &[u8]) -> io::Result<()>;
}

impl<R: Records + ?Sized> Records for &mut R {
    fn load(&mut self) -> io::Result<[Option<Vec<u8>>; 2]> {
        (**self).load()
    }

    fn save(&mut self, copy: usize, bytes: &[u8]) -> io::Result<()> {
        (**self).save(copy, bytes)
    }
}

/// The record as the two copies give it, and where the next one goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The record; empty when no copy is whole.
    pub record: Record,
    generation: u64,
    next: usize,
    /// Neither copy could be used, although there is one.
    pub lost: bool,
}

impl Kept {
    /// Chooses between the copies.
    #[must_use]
    pub fn from_copies(copies: &[Option<Vec<u8>>; 2]) -> Self {
        let whole = |at: usize| copies.get(at)?.as_deref().and_then(decode);
        let from = |(generation, record), next| Self {
            record,
            generation,
            next,
            lost: false,
        };
        match (whole(0), whole(1)) {
            (Some(first), Some(second)) if second.0 > first.0 => from(second, 0),
            (Some(first), _) => from(first, 1),
            (None, Some(second)) => from(second, 0),
            (None, None) => Self {
                lost: copies.iter().any(Option::is_some),
                ..Self::default()
            },
        }
    }

    /// Replaces the record: which copy to write, and its bytes.
    pub fn replace(&mut self, record: Record) -> (usize, Vec<u8>) {
        let copy = self.next;
        self.generation = self.generation.saturating_add(1);
        self.next = 1 - copy.min(1);
        self.record = record;
        self.lost = false;
        (copy, encode(self.generation, &self.record))
    }
}

/// One copy as bytes.
#[must_use]
pub fn encode(generation: u64, record: &Record) -> Vec<u8> {
    let mut page = Vec::with_capacity(PAGE);
    page.extend(MAGIC);
    page.extend(FORMAT.to_le_bytes());
    page.extend(generation.to_le_bytes());
    page.extend(record.security_version.to_le_bytes());
    page.push(u8::from(record.target.is_some()));
    if let Some(target) = &record.target {
        put_text(&mut page, target.version.as_str());
        page.extend(target.security_version.to_le_bytes());
        page.extend(target.attempt.to_le_bytes());
        page.extend(target.manifest);
        page.extend(target.boot_bytes.to_le_bytes());
        page.extend(target.boot_sha256);
        page.extend(target.root_bytes.to_le_bytes());
        page.extend(target.root_hash.0);
    }
    page.push(record.trial.map_or(0, |trial| trial.phase.code()));
    if let Some(trial) = &record.trial {
        page.extend(trial.root_hash.0);
        page.extend(trial.boot_id);
    }
    // More than fit are not made by this module.
    let kept = record.rejected.len().min(REJECTIONS);
    page.push(kept as u8);
    for one in record.rejected.iter().rev().take(kept).rev() {
        put_text(&mut page, one.version.as_str());
        page.extend(one.root_hash.0);
        page.extend(one.attempt.to_le_bytes());
        put_text(&mut page, &shortened(&one.reason));
    }
    page.resize(PAGE - CHECKSUM_BYTES, 0);
    let checksum = Sha256::digest(&page);
    page.extend(checksum);
    page
}

/// Texts are at most 240 bytes long.
fn put_text(page: &mut Vec<u8>, text: &str) {
    page.push(text.len() as u8);
    page.extend(text.as_bytes());
}

/// Generation and record of a copy; `None` when it is not whole or of another format.
#[must_use]
pub fn decode(page: &[u8]) -> Option<(u64, Record)> {
    let page: &[u8; PAGE] = page.try_into().ok()?;
    let (content, checksum) = page.split_last_chunk::<CHECKSUM_BYTES>()?;
    if Sha256::digest(content).as_slice() != checksum {
        return None;
    }
    let mut fields = Fields(content);
    if &fields.take::<8>()? != MAGIC || fields.take().map(u32::from_le_bytes)? != FORMAT {
        return None;
    }
    let generation = fields.u64()?;
    let security_version = fields.u64()?;
    let target = match fields.byte()? {
        0 => None,
        1 => Some(Target {
            version: Version::new(fields.text()?)?,
            security_version: fields.u64()?,
            attempt: fields.u32()?,
            manifest: fields.take()?,
            boot_bytes: fields.u64()?,
            boot_sha256: fields.take()?,
            root_bytes: fields.u64()?,
            root_hash: RootHash(fields.take()?),
        }),
        _ => return None,
    };
    let trial = match fields.byte()? {
        0 => None,
        code => Some(Trial {
            phase: Phase::from_code(code)?,
            root_hash: RootHash(fields.take()?),
            boot_id: fields.take()?,
        }),
    };
    let count = usize::from(fields.byte()?);
    let rejected = (count <= REJECTIONS).then(|| {
        let one = |_| {
            Some(Rejection {
                version: Version::new(fields.text()?)?,
                root_hash: RootHash(fields.take()?),
                attempt: fields.u32()?,
                reason: fields.text().map(shortened)?,
            })
        };
        (0..count).map(one).collect::<Option<Vec<_>>>()
    })??;
    Some((
        generation,
        Record {
            security_version,
            target,
            trial,
            rejected,
        },
    ))
}

impl Phase {
    fn code(self) -> u8 {
        match self {
            Self::Armed { again: false } => 1,
            Self::Armed { again: true } => 2,
            Self::CameUp => 3,
            Self::Lost => 4,
            Self::Ignored => 5,
            Self::Untried => 6,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Armed { again: false },
            2 => Self::Armed { again: true },
            3 => Self::CameUp,
            4 => Self::Lost,
            5 => Self::Ignored,
            6 => Self::Untried,
            _ => return None,
        })
    }
}

/// Fields, taken from the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::from(self.byte()?);
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}
