//! The partition table, judged by `sgdisk`, by cuts between its writes and by damaged bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::process::Command;

use berth_slots::gpt::{
    Action, Entry, Extent, Guid, Name, ReadSectors, Repair, Table, load, protective_mbr,
    write_actions,
};
use berth_slots::layout::{self, Image};
use berth_slots::verity::RootHash;

const MIB: u64 = 2048;

/// A disk in memory: the sectors that are not zero.
#[derive(Clone)]
struct Disk {
    written: BTreeMap<u64, [u8; 512]>,
    sectors: u64,
}

impl Disk {
    fn new(sectors: u64) -> Self {
        let written = BTreeMap::from([(0, protective_mbr())]);
        Self { written, sectors }
    }

    fn with(table: &Table, sectors: u64) -> Self {
        let mut disk = Self::new(sectors);
        disk.apply(&write_actions(table, sectors));
        disk
    }

    fn write(&mut self, sector: u64, bytes: &[u8]) {
        for (sector, bytes) in (sector..).zip(bytes.chunks_exact(512)) {
            assert!(sector < self.sectors, "a write beyond the disk");
            self.written
                .insert(sector, bytes.try_into().expect("sector"));
        }
    }

    fn apply(&mut self, actions: &[Action]) {
        for action in actions {
            if let Action::Write { sector, bytes } = action {
                self.write(*sector, bytes);
            }
        }
    }

    fn flip(&mut self, sector: u64, bit: usize) {
        self.written.entry(sector).or_insert([0; 512])[bit / 8] ^= 1 << (bit % 8);
    }

    /// The disk as a sparse file.
    fn file(&self) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("file");
        file.as_file().set_len(self.sectors * 512).expect("size");
        for (sector, bytes) in &self.written {
            file.as_file()
                .write_all_at(bytes, sector * 512)
                .expect("write");
        }
        file
    }

    fn load(&mut self) -> berth_slots::gpt::Loaded {
        let sectors = self.sectors;
        load(self, sectors).expect("a table")
    }

    /// Fails on anything that sgdisk says beyond "no problems"; its exit status says nothing.
    fn judge(&self) {
        let file = self.file();
        let output = Command::new("sgdisk")
            .arg("-v")
            .arg(file.path())
            .output()
            .unwrap_or_else(|e| panic!("cannot run sgdisk ({e}): apt-get install gdisk"));
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("No problems found"), "{said}");
        for word in ["aution", "arning", "ERROR", "Identified", "roblem:"] {
            assert!(!said.contains(word), "{said}");
        }
    }
}

impl ReadSectors for Disk {
    fn read_sectors(&mut self, first: u64, buffer: &mut [u8]) -> io::Result<()> {
        for (sector, part) in (first..).zip(buffer.chunks_exact_mut(512)) {
            if sector >= self.sectors {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            part.copy_from_slice(self.written.get(&sector).unwrap_or(&[0; 512]));
        }
        Ok(())
    }
}

fn image() -> Image {
    Image::new(5 << 20, 9 << 20, &RootHash([0xab; 32])).expect("image")
}

#[test]
fn sgdisk_finds_no_problem_in_an_image_nor_after_first_boot() {
    let image = image();
    Disk::with(&image.table, image.disk_sectors).judge();
    for mib in [40, 64, 200, 2048] {
        let mut disk = Disk::with(&image.table, image.disk_sectors);
        disk.sectors = mib * MIB;
        let loaded = disk.load();
        assert_eq!(loaded.repair, Repair::BackupNotAtEnd);
        let plan = layout::first_boot(&loaded.table, disk.sectors).expect("plan");
        disk.apply(&write_actions(&plan.table, mib * MIB));
        disk.judge();
        let again = disk.load();
        assert_eq!(again.repair, Repair::None);
        assert_eq!(again.table, plan.table);
    }
}

#[test]
fn sgdisk_reads_back_what_was_written() {
    let image = image();
    let disk = Disk::with(&image.table, image.disk_sectors);
    let file = disk.file();
    let ask = |entry: usize| {
        let output = Command::new("sgdisk")
            .arg(format!("-i{entry}"))
            .arg(file.path())
            .output()
            .expect("sgdisk");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let boot = ask(1);
    assert!(boot.contains("(EFI system partition)"), "{boot}");
    assert!(boot.contains("'berth-boot'"), "{boot}");
    assert!(boot.contains("First sector: 2048"), "{boot}");
    let root = ask(3);
    assert!(
        root.contains("ABABABAB-ABAB-ABAB-ABAB-ABABABABABAB"),
        "{root}"
    );
    assert!(root.contains("(Linux x86-64 root (/))"), "{root}");
}

/// Every prefix of the writes, and every write torn at every sector, loads as the old table or
/// as the new one, and repairing it makes both copies whole.
#[test]
fn a_cut_during_a_change_leaves_the_old_table_or_the_new_one() {
    let old = image().table;
    let sectors = 100 * MIB;
    let mut before = Disk::with(&old, image().disk_sectors);
    before.sectors = sectors;
    let mut grown = old.clone();
    grown.grow_to(sectors).expect("grow");
    // Once from the small image whose backup is elsewhere, once on a settled disk.
    for before in [before, Disk::with(&grown, sectors)] {
        let new = layout::first_boot(&old, sectors).expect("plan").table;
        assert_ne!(new, old);
        let actions = write_actions(&new, sectors);
        for cut in 0..actions.len() {
            let Action::Write { sector, bytes } = &actions[cut] else {
                continue;
            };
            for torn in 0..=bytes.len() / 512 {
                let mut disk = before.clone();
                disk.apply(&actions[..cut]);
                let part = bytes[..torn * 512].to_vec();
                disk.apply(&[Action::Write {
                    sector: *sector,
                    bytes: part,
                }]);
                let loaded = disk.load();
                let entries = |table: &Table| table.entries().count();
                assert!(
                    [entries(&old), entries(&new)].contains(&entries(&loaded.table)),
                    "cut in action {cut} after {torn} sectors: {loaded:?}"
                );
                disk.apply(&write_actions(&loaded.table, sectors));
                let repaired = disk.load();
                assert_eq!(
                    (repaired.table, repaired.repair),
                    (loaded.table, Repair::None)
                );
            }
        }
    }
}

#[test]
fn the_copy_that_firmware_believes_is_the_one_that_stays() {
    let sectors = 64 * MIB;
    let old = Table::new(Guid::from_number(1), sectors).expect("table");
    let mut new = old.clone();
    new.place(9, entry(2048, 4096)).expect("place");
    let mut disk = Disk::with(&old, sectors);
    // Only the backup is new.
    disk.apply(&write_actions(&new, sectors)[..1]);
    let loaded = disk.load();
    assert_eq!((loaded.table, loaded.repair), (old, Repair::Differ));
    // The primary's array does not fit its header.
    disk.flip(2, 0);
    let loaded = disk.load();
    assert_eq!(loaded.table, new);
    assert!(matches!(loaded.repair, Repair::Primary(_)));
    // Neither is whole.
    disk.flip(sectors - 1, 0);
    let error = load(&mut disk, sectors).expect_err("no table").to_string();
    assert!(error.contains("checksum of its entries"), "{error}");
    assert!(error.contains("does not begin with"), "{error}");
}

#[test]
fn no_damage_panics_or_makes_entries_that_overlap() {
    let sectors = 64 * MIB;
    let table = layout::first_boot(&image().table, sectors)
        .expect("plan")
        .table;
    let whole = Disk::with(&table, sectors);
    let mut seed = 0x1234_5678_9abc_def1_u64;
    let mut random = |bound: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % bound as u64) as usize
    };
    // Every bit of the primary header alone, then many random ones with valid checksums.
    for bit in 0..92 * 8 {
        let mut disk = whole.clone();
        disk.flip(1, bit);
        assert_eq!(disk.load().table, table, "bit {bit}");
    }
    let Action::Write { bytes: primary, .. } = &write_actions(&table, sectors)[2] else {
        panic!("the primary is written third");
    };
    for _ in 0..500 {
        let mut head = primary.clone();
        for _ in 0..1 + random(4) {
            let at = if random(2) == 0 {
                random(92)
            } else {
                512 + random(5 * 128)
            };
            head[at] = [0, 1, 0xff, 0x7f, 0x80][random(5)] ^ (random(2) * random(256)) as u8;
        }
        let array = crc32(&head[512..]);
        head[88..92].copy_from_slice(&array.to_le_bytes());
        head[16..20].fill(0);
        let header = crc32(&head[..92]);
        head[16..20].copy_from_slice(&header.to_le_bytes());
        let mut disk = whole.clone();
        disk.write(1, &head);
        let loaded = disk.load();
        let extents: Vec<Extent> = loaded.table.entries().map(|(_, e)| e.extent).collect();
        for (at, one) in extents.iter().enumerate() {
            assert!(one.last() < sectors - 33 && one.first() >= 34);
            assert!(extents[at + 1..].iter().all(|two| !one.overlaps(two)));
        }
        let _ = layout::first_boot(&loaded.table, sectors);
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn a_disk_that_shrank_or_is_tiny_is_refused_with_a_reason() {
    let image = image();
    let mut disk = Disk::with(&image.table, image.disk_sectors);
    disk.sectors = 20480;
    let sectors = disk.sectors;
    let error = load(&mut disk, sectors).expect_err("shrunk").to_string();
    assert!(
        error.contains("do not fit the disk's 20480 sectors"),
        "{error}"
    );
    assert!(load(&mut Disk::new(67), 67).is_err());
    assert!(load(&mut Disk::new(68), u64::MAX).is_err());
    assert!(Table::new(Guid::from_number(1), u64::MAX).is_err());
}

#[test]
fn entries_go_into_free_space_only() {
    let mut table = Table::new(Guid::from_number(7), 64 * MIB).expect("table");
    table.place(1, entry(2048, 4095)).expect("first");
    for (index, first, last) in [
        (1, 8192, 9000),
        (2, 4095, 5000),
        (2, 34, 2048),
        (2, 3, 33),
        (2, 64 * MIB - 34, 64 * MIB - 33),
        (0, 8192, 9000),
        (129, 8192, 9000),
    ] {
        let error = table.place(index, entry(first, last)).expect_err("refusal");
        assert!(!error.to_string().is_empty());
    }
    assert_eq!(table.entries().count(), 1);
    table.place(128, entry(4096, 5000)).expect("beside");
    assert!(table.extend(1, 4096).is_err());
}

fn entry(first: u64, last: u64) -> Entry {
    Entry {
        kind: layout::LINUX,
        guid: Guid::from_number(99),
        extent: Extent::new(first, last).expect("extent"),
        attributes: 0,
        name: Name::new("somebody else's"),
    }
}

/// The tests above read whole disks; a device is read through a file.
#[test]
fn a_file_is_a_disk() {
    struct OnFile(File);
    impl ReadSectors for OnFile {
        fn read_sectors(&mut self, first: u64, buffer: &mut [u8]) -> io::Result<()> {
            self.0.read_exact_at(buffer, first * 512)
        }
    }
    let image = image();
    let disk = Disk::with(&image.table, image.disk_sectors);
    let loaded = load(&mut OnFile(disk.file().into_file()), image.disk_sectors).expect("load");
    assert_eq!(loaded.table, image.table);
}
