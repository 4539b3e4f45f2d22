//! A machine's life in the model: firmware starts a slot, the version in it looks at its slots
//! and takes the next step of an update, and so on, start by start.
//!
//! The steps are those of the machine's updater: the same [`Session`] in the same order. Only
//! what surrounds it is simple: versions are in memory, and a version is healthy or it panics.

use std::io;

use berth_chance::Random;
use berth_slots::SECTOR;
use berth_slots::block::Block;
use berth_slots::efi::Variables;
use berth_slots::gpt::{self, Action};
use berth_slots::layout::{Image, STATE, first_boot};
use berth_slots::record::Records;
use berth_slots::session::{Error, Session};
use berth_slots::staging::{Part, Staging, StagingError, Whole};
use berth_slots::state::{Booted, Refusal, State};
use berth_slots::target::{Target, Version};
use berth_slots::verity::{self, BLOCK, Builder, Geometry, HashSink, RootHash};

use crate::firmware::{self, Partition};
use crate::log::{Log, Recorder};
use crate::memory::{Memory, MemoryRecords, MemoryVariables};

/// A version with its content.
#[derive(Clone, Debug)]
pub struct Release {
    /// What its manifest says.
    pub target: Target,
    /// Its boot image.
    pub boot: Vec<u8>,
    /// Its root with the hash tree.
    pub root: Vec<u8>,
    /// It panics before its first process runs.
    pub panics: bool,
}

impl Release {
    /// A version with this boot image, and this root file system without a tree. `sha256` hashes.
    ///
    /// # Errors
    /// When the root has no size of a root.
    pub fn new(
        version: Version,
        security_version: u64,
        boot: Vec<u8>,
        mut root: Vec<u8>,
        sha256: impl Fn(&[u8]) -> [u8; 32],
    ) -> Result<Self, verity::Error> {
        let root_bytes = root.len() as u64;
        let (root_hash, tree) = hash_tree(&root)?;
        root.extend(tree);
        Ok(Self {
            target: Target {
                attempt: 0,
                manifest: sha256(version.as_str().as_bytes()),
                version,
                security_version,
                boot_bytes: boot.len() as u64,
                boot_sha256: sha256(&boot),
                root_bytes,
                root_hash,
            },
            boot,
            root,
            panics: false,
        })
    }

    /// Version `1.NUMBER`, with images of so many KiB of noise that `number` gives again.
    ///
    /// # Errors
    /// As [`Release::new`].
    pub fn of_noise(
        number: u64,
        boot_kib: usize,
        root_kib: usize,
        sha256: impl Fn(&[u8]) -> [u8; 32],
    ) -> Result<Self, verity::Error> {
        let mut random = Random::from_seed(number);
        let mut noise = |kib: usize| -> Vec<u8> {
            let words = (0..kib * 128).map(|_| random.next_u64().to_le_bytes());
            words.flatten().collect()
        };
        let version = Version::new(&format!("1.{number}")).expect("a version");
        Self::new(version, number, noise(boot_kib), noise(root_kib), sha256)
    }

    /// This version, running.
    #[must_use]
    pub fn booted(&self, boot_id: [u8; 16]) -> Booted {
        Booted {
            root: self.target.root_hash,
            boot_id,
            version: self.target.version.clone(),
            security_version: self.target.security_version,
        }
    }

    fn part(&self, part: Part, offset: u64, bytes: u64) -> &[u8] {
        let image = match part {
            Part::Boot => &self.boot,
            Part::Root => &self.root,
        };
        &image[offset as usize..(offset + bytes) as usize]
    }
}

/// The hash tree over a root file system, superblock first.
fn hash_tree(data: &[u8]) -> Result<(RootHash, Vec<u8>), verity::Error> {
    struct Behind {
        tree: Vec<u8>,
        first: u64,
    }
    impl HashSink for Behind {
        fn write_hash_block(&mut self, block: u64, bytes: &[u8; BLOCK]) -> io::Result<()> {
            let at = (block - self.first) as usize * BLOCK;
            self.tree[at..at + BLOCK].copy_from_slice(bytes);
            Ok(())
        }
    }
    let geometry = Geometry::new((data.len() / BLOCK) as u64)?;
    let behind = Behind {
        tree: vec![0; geometry.total_bytes() as usize - data.len()],
        first: geometry.superblock_block(),
    };
    let mut builder = Builder::new(geometry, behind);
    for block in data.as_chunks::<BLOCK>().0 {
        builder.push(block)?;
    }
    let (hash, behind) = builder.finish()?;
    Ok((hash, behind.tree))
}

/// How a slot is filled.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    /// Bytes of a chunk.
    pub chunk: u64,
    /// Chunks between two flushes.
    pub flush_every: usize,
}

/// What comes after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The machine restarts.
    Restart,
    /// The newest version runs and is committed; or nothing more can be done.
    Settled,
}

/// Takes the steps of an update to `latest` until the machine has to restart or all is done.
/// `mark` is told what begins.
///
/// # Errors
/// What the session says.
pub fn act<D: Block, V: Variables, R: Records>(
    session: &mut Session<D, V, R>,
    latest: &Release,
    grid: Grid,
    mut mark: impl FnMut(&'static str),
) -> Result<Next, Error> {
    loop {
        match session.state() {
            State::Trying(_) => {
                mark("commit");
                session.confirm()?;
            }
            State::Armed(_) => return Ok(Next::Restart),
            State::Staged(target) if *target == latest.target => {
                mark("activate");
                session.activate()?;
            }
            // Whoever operates the machine knows that it was the power.
            State::Rejected(one) if one.version == latest.target.version && !latest.panics => {
                let version = one.version.clone();
                session.forgive(&version)?;
            }
            _ => {
                match session.may_stage(&latest.target) {
                    Ok(()) => {}
                    // It runs, or it failed.
                    Err(Error::Refused(Refusal::SameRoot(_) | Refusal::Rejected(_))) => {
                        return Ok(Next::Settled);
                    }
                    Err(error) => return Err(error),
                }
                mark("stage");
                let staging = session.stage(latest.target.clone())?;
                let whole = fill(staging, latest, grid)
                    .map_err(|error| Error::Disk("fill", io::Error::other(error)))?;
                session.staged(whole)?;
            }
        }
    }
}

/// Writes the chunks that the slot does not hold, and proves the whole.
///
/// # Errors
/// What staging says.
pub fn fill<D: Block>(
    mut staging: Staging<'_, D>,
    release: &Release,
    grid: Grid,
) -> Result<Whole, StagingError> {
    let mut unflushed = 0;
    for part in [Part::Boot, Part::Root] {
        let mut offset = 0;
        while offset < staging.bytes(part) {
            let bytes = grid.chunk.min(staging.bytes(part) - offset);
            let content = release.part(part, offset, bytes);
            let mut there = vec![0; content.len()];
            staging.read(part, offset, &mut there)?;
            if there != content {
                staging.write(part, offset, content)?;
                unflushed += 1;
            }
            if unflushed == grid.flush_every {
                staging.flush()?;
                unflushed = 0;
            }
            offset += bytes;
        }
    }
    staging.finish()
}

/// A disk after its first boot with this version: both slots, the first of them filled.
///
/// # Errors
/// When the disk is too small for two slots.
pub fn installed(first: &Release, sectors: u64) -> Result<Memory, Box<dyn std::error::Error>> {
    let (boot, root) = (first.boot.len() as u64, first.root.len() as u64);
    let image = Image::new(boot, root, &first.target.root_hash)?;
    let plan = first_boot(&image.table, sectors)?;
    if let Some(missing) = plan.missing.first() {
        return Err(missing.to_string().into());
    }
    let mut disk = Memory::new(sectors);
    disk.write_at(0, &gpt::protective_mbr())?;
    // The state partition is made with its file system, which is not the updater's.
    for action in gpt::write_actions(&plan.table.without(STATE), sectors) {
        if let Action::Write { sector, bytes } = action {
            disk.write_at(sector * SECTOR, &bytes)?;
        }
    }
    disk.write_at(image.boot.first() * SECTOR, &first.boot)?;
    disk.write_at(image.root.first() * SECTOR, &first.root)?;
    Ok(disk)
}

/// A recorded life.
#[derive(Debug)]
pub struct Recorded {
    /// What happened.
    pub log: Log,
    /// The disk whenever an update was settled, the first before all of them.
    pub settled: Vec<Memory>,
}

/// Records a machine that is updated from the first version through all others, one by one. The
/// mark `settled` ends each update.
///
/// # Errors
/// A sentence when something does not work that should.
pub fn record(before: Memory, releases: &[Release], grid: Grid) -> Result<Recorded, String> {
    let recorder = Recorder::default();
    let (mut disk, mut variables) = (before.clone(), MemoryVariables::default());
    let mut records = MemoryRecords::default();
    let mut settled = vec![before];
    let mut starts = 0_u128;
    for latest in releases.iter().skip(1) {
        loop {
            let had_next = variables.0.contains_key("BootNext");
            let release = start(&mut disk, &mut variables, releases)?.release;
            let mut recorded = recorder.variables(&mut variables);
            if had_next {
                // The firmware's own doing.
                let gone = recorded.delete("BootNext");
                gone.map_err(|error| error.to_string())?;
            }
            starts += 1;
            let running = &releases[release];
            if running.panics {
                continue;
            }
            let booted = running.booted(starts.to_le_bytes());
            let disk = recorder.disk(&mut disk);
            let mut session =
                Session::open(disk, recorded, recorder.records(&mut records), &booted)
                    .map_err(|error| error.to_string())?;
            let next = act(&mut session, latest, grid, |mark| recorder.mark(mark))
                .map_err(|error| error.to_string())?;
            if next == Next::Settled {
                break;
            }
        }
        recorder.mark("settled");
        settled.push(disk.clone());
    }
    let log = recorder.log();
    Ok(Recorded { log, settled })
}

/// What a start came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Which of the versions runs.
    pub release: usize,
    /// Because of `BootNext`.
    pub trial: bool,
    /// Entry 2.
    pub other: Option<Partition>,
}

/// Starts the machine in the model.
///
/// # Errors
/// A sentence when what firmware starts is not whole: no boot image, or a root that is missing or
/// not the one that the boot image pins.
pub fn start<D: Block>(
    disk: &mut D,
    variables: &mut MemoryVariables,
    releases: &[Release],
) -> Result<Start, String> {
    let failed = |error: io::Error| format!("the disk failed: {error}");
    let mut release = None;
    let choice = firmware::start(disk, variables, |disk, partition| {
        release = release_of(disk, partition, releases);
        release.is_some()
    });
    let choice = choice.map_err(failed)?;
    let (choice, release) = choice
        .zip(release)
        .ok_or("firmware finds nothing to start")?;
    let started = &releases[release];
    let guid = started.target.root_hash.partition_guid().to_disk_order();
    let mut named = choice.partitions.iter().filter(|one| one.guid == guid);
    let version = &started.target.version;
    let root = named
        .next()
        .ok_or_else(|| format!("version {version} finds no root"))?;
    if named.next().is_some() {
        return Err(format!("version {version} finds two roots"));
    }
    if !holds(disk, root.offset, &started.root) {
        return Err(format!("version {version} has a root that is not whole"));
    }
    Ok(Start {
        release,
        trial: choice.trial,
        other: choice.partitions.iter().find(|one| one.entry == 2).copied(),
    })
}

/// Which version's boot image a partition holds.
fn release_of(disk: &mut impl Block, partition: &Partition, releases: &[Release]) -> Option<usize> {
    releases.iter().position(|release| {
        release.boot.len() as u64 <= partition.bytes && holds(disk, partition.offset, &release.boot)
    })
}

/// Whether the disk holds these bytes.
fn holds(disk: &mut impl Block, offset: u64, content: &[u8]) -> bool {
    const STEP: usize = 64 << 10;
    let mut buffer = vec![0; STEP.min(content.len())];
    content.chunks(STEP).enumerate().all(|(number, part)| {
        let buffer = &mut buffer[..part.len()];
        let at = offset + (number * STEP) as u64;
        disk.read_at(at, buffer).is_ok() && buffer == part
    })
}
