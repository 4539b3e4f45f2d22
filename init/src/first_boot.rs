//! The first boot's work on the disk: entries for the second slot and the state partition, and
//! the state's file system. What is to be done is decided by `berth_slots::layout`; here it is
//! done in an order that a power cut cannot hurt.
//!
//! The file system is written into free space before the table says that there is a partition,
//! so an entry for the state always stands for a whole file system, and nothing that has an entry
//! is ever written to. Every boot asks again: a disk that has grown, or a copy of the table that
//! is damaged, is dealt with then.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use berth_slots::SECTOR;
use berth_slots::gpt::{self, Action, Extent, ReadSectors, Repair};
use berth_slots::layout::{self, Change};
use berth_slots::state_template::{self, Template};

use crate::failure::{Doing, Failure};
use crate::kernel_log::{KernelLog, Urgency};
use crate::own_disk::OwnDisk;
use crate::sys::{self, PartitionNews};

/// Makes what is missing on the machine's own disk. May block on it.
pub(crate) fn run() -> Result<(), Failure> {
    let Some(own) = OwnDisk::find()? else {
        return Ok(()); // a root in memory
    };
    let node = own.node();
    let file = OpenOptions::new().read(true).write(true).open(&node);
    let mut disk = Disk(file.doing(|| format!("open the machine's disk {}", node.display()))?);
    let about = |what: &str| format!("{what} {}", node.display());

    let sectors = disk.sectors().doing(|| about("find the size of"))?;
    let found = gpt::load(&mut disk, sectors).doing(|| about("use"))?;
    let plan = layout::first_boot(&found.table, sectors).doing(|| about("set up"))?;
    let mut log = KernelLog::direct();
    log.line(
        Urgency::Notice,
        &format!(
            "disk={} sectors={sectors} changes={} repair={}",
            node.display(),
            plan.changes.len(),
            repair_name(&found.repair)
        ),
    );

    for change in &plan.changes {
        if let Change::State(extent) = change {
            disk.write_state(extent)
                .doing(|| about("make the state file system on"))?;
        }
    }
    if !plan.changes.is_empty() || found.repair != Repair::None {
        disk.perform(gpt::write_actions(&plan.table, sectors))
            .doing(|| about("write the partition table of"))?;
    }
    for (index, entry) in plan.table.entries() {
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        tell_kernel(&own, &disk.0, number, &entry.extent)?;
    }

    let missing: Vec<String> = plan.missing.iter().map(ToString::to_string).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(missing.join("; ")))
}

fn repair_name(repair: &Repair) -> &'static str {
    match repair {
        Repair::None => "none",
        Repair::Primary(_) => "primary",
        Repair::Backup(_) => "backup",
        Repair::Differ => "copies-differ",
        Repair::BackupNotAtEnd => "disk-has-grown",
    }
}

/// Makes the kernel's view of a partition the table's.
fn tell_kernel(own: &OwnDisk, disk: &File, number: u32, extent: &Extent) -> Result<(), Failure> {
    let bytes = extent.sectors().saturating_mul(SECTOR);
    let news = match own.partition(number)? {
        None => PartitionNews::Added,
        Some(known) if known.bytes < bytes => PartitionNews::Resized,
        Some(_) => return Ok(()),
    };
    let start = extent.first().saturating_mul(SECTOR);
    sys::tell_partition(disk.as_fd(), news, number, start, bytes)
        .doing(|| format!("tell the kernel about partition {number}"))
}

/// The machine's disk, open for reading and writing.
struct Disk(File);

impl ReadSectors for Disk {
    fn read_sectors(&mut self, first: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, first.saturating_mul(SECTOR))
    }
}

impl Disk {
    fn sectors(&mut self) -> io::Result<u64> {
        Ok(self.0.seek(SeekFrom::End(0))? / SECTOR)
    }

    fn perform(&mut self, actions: Vec<Action>) -> io::Result<()> {
        for action in actions {
            match action {
                Action::Write { sector, bytes } => {
                    self.0.write_all_at(&bytes, sector.saturating_mul(SECTOR))?;
                }
                Action::Flush => self.0.sync_all()?,
            }
        }
        Ok(())
    }

    /// Writes the state's file system into free space: its first block last, so that nothing
    /// takes a part of it for the whole.
    fn write_state(&mut self, extent: &Extent) -> io::Result<()> {
        let bytes = fs::read(state_template::PATH)?;
        let template = Template::parse(&bytes).map_err(io::Error::other)?;
        let identity = Identity::random()?;
        let start = extent.first().saturating_mul(SECTOR);
        sys::zero_range(self.0.as_fd(), start, template.file_system_bytes())?;
        for (offset, content) in template.extents() {
            self.0.write_all_at(content, start.saturating_add(offset))?;
        }
        self.0.sync_all()?;
        let first = template.superblock_block(identity.uuid, identity.hash_seed);
        self.0.write_all_at(&first, start)?;
        self.0.sync_all()
    }
}

/// What makes one machine's file system different from another's.
struct Identity {
    uuid: [u8; 16],
    hash_seed: [u8; 16],
}

impl Identity {
    /// Blocks until the kernel has gathered randomness.
    fn random() -> io::Result<Self> {
        let mut identity = Self {
            uuid: [0; 16],
            hash_seed: [0; 16],
        };
        let mut random = File::open("/dev/random")?;
        random.read_exact(&mut identity.uuid)?;
        random.read_exact(&mut identity.hash_seed)?;
        Ok(identity)
    }
}
