//! Hostile disks, records and boot variables. Tables get good checksums after they were changed,
//! and so do records, so that the code behind the checksums is reached as well; then a whole
//! update is tried on what was accepted. Nothing panics, and no write touches the committed slot
//! or somebody else's partition. Runs for `BERTH_FUZZ_SECONDS` (2) from `BERTH_FUZZ_SEED`, and
//! prints what repeats it.

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use berth_chance::{Random, peak_kib};
use berth_slots::SECTOR;
use berth_slots::block::Block;
use berth_slots::efi::{LoadOption, Variables, trial};
use berth_slots::gpt::{self, Action, Entry, Extent, Guid, Name, ReadSectors, Table};
use berth_slots::layout::{self, BOOT_A, BOOT_B, Image, LINUX, ROOT_A, ROOT_B};
use berth_slots::record::{self, Kept, PAGE, Phase, Record, Records, Trial};
use berth_slots::session::Session;
use berth_slots::slot::{self, Pair};
use berth_slots::staging::Part;
use berth_slots::state::Booted;
use berth_slots::target::{Target, Version};
use berth_slots::verity::RootHash;
use sha2::{Digest, Sha256};

/// The whole process, with a disk in memory.
const MOST_MEMORY_KIB: u64 = 16 << 10;
/// Sectors that a disk in memory holds before it fails: 2 MiB.
const MOST_SECTORS: usize = 4096;
const OLD: RootHash = RootHash([0x11; 32]);
const NEW: RootHash = RootHash([0x22; 32]);

/// Numbers that break arithmetic more often than others.
fn number(random: &mut Random) -> u64 {
    let near = random.within(5000);
    match random.below(6) {
        0 => near,
        1 => u64::MAX - near,
        2 => (1 << random.below(64)) - random.within(2),
        3 => near * 2048,
        4 => i64::MAX as u64 - near,
        _ => random.next_u64(),
    }
}

fn change(random: &mut Random, bytes: &mut [u8], within: usize) {
    for _ in 0..=random.below(4) {
        let at = random.below(within);
        let wide = number(random).to_le_bytes();
        match random.below(3) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = *random.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            _ => {
                for (to, from) in bytes[at..within].iter_mut().zip(wide) {
                    *to = from;
                }
            }
        }
    }
}

/// A disk in memory. Once `forbidden` is set, a write to one of its extents fails the test.
struct Disk {
    sectors: u64,
    written: BTreeMap<u64, [u8; 512]>,
    forbidden: Vec<Extent>,
    failing: bool,
}

impl Disk {
    fn put(&mut self, sector: u64, bytes: &[u8]) {
        for (sector, part) in (sector..).zip(bytes.chunks(512)) {
            let mut whole = self.written.remove(&sector).unwrap_or([0; 512]);
            whole[..part.len()].copy_from_slice(part);
            // Zeroes are what is not there: the memory that is measured is the reader's.
            if whole != [0; 512] {
                self.written.insert(sector, whole);
            }
        }
    }
}

impl ReadSectors for Disk {
    fn read_sectors(&mut self, first: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_at(first.saturating_mul(SECTOR), buffer)
    }
}

impl Block for Disk {
    fn sectors(&mut self) -> io::Result<u64> {
        Ok(self.sectors)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let first = offset / SECTOR;
        assert_eq!(offset % SECTOR, 0);
        let end = first.checked_add((buffer.len() as u64).div_ceil(SECTOR));
        if end.is_none_or(|end| end > self.sectors) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (sector, part) in (first..).zip(buffer.chunks_mut(512)) {
            let there = self.written.get(&sector).unwrap_or(&[0; 512]);
            part.copy_from_slice(&there[..part.len()]);
        }
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let first = offset / SECTOR;
        let sectors = (bytes.len() as u64).div_ceil(SECTOR);
        let here = Extent::with_len(first, sectors).expect("a write of a size");
        assert!(here.last() < self.sectors, "a write beyond the disk");
        for extent in &self.forbidden {
            assert!(
                !extent.overlaps(&here),
                "{here:?} was written, in {extent:?}"
            );
        }
        // A hash tree of gigabytes would be this test's memory and not the reader's.
        if self.failing || self.written.len() > MOST_SECTORS {
            return Err(io::Error::other("a bad disk"));
        }
        self.put(first, bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Default)]
struct Firmware(BTreeMap<String, Vec<u8>>, bool);

impl Variables for Firmware {
    fn list(&mut self) -> io::Result<Vec<String>> {
        Ok(self.0.keys().cloned().collect())
    }
    fn get(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(name).cloned())
    }
    fn set(&mut self, name: &str, data: &[u8]) -> io::Result<()> {
        if self.1 {
            return Err(io::Error::other("full"));
        }
        self.0.insert(name.to_owned(), data.to_vec());
        Ok(())
    }
    fn delete(&mut self, name: &str) -> io::Result<()> {
        self.0.remove(name);
        Ok(())
    }
}

struct Copies([Option<Vec<u8>>; 2]);

impl Records for Copies {
    fn load(&mut self) -> io::Result<[Option<Vec<u8>>; 2]> {
        Ok(self.0.clone())
    }
    fn save(&mut self, copy: usize, bytes: &[u8]) -> io::Result<()> {
        self.0[copy] = Some(bytes.to_vec());
        Ok(())
    }
}

fn version(text: &str) -> Version {
    Version::new(text).expect("a version")
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// A disk after first boot, sometimes with other partitions, with changed tables.
fn hostile_disk(random: &mut Random) -> Disk {
    let sectors = *random.pick(&[80_u64, 110, 200, 4096]) * 2048 + *random.pick(&[0, 1, 63]);
    let image = Image::new(1 << 20, 1 << 20, &OLD).expect("image");
    let mut table = image.table;
    table.grow_to(sectors).expect("grow");
    for index in 6..6 + random.below(3) {
        let extent = Extent::with_len(random.within(sectors), 1 + random.within(1 << 16));
        // Where something is already, there is no partition.
        let _ = table.place(index, foreign(extent.expect("extent")));
    }
    let mut table = layout::first_boot(&table, sectors).expect("plan").table;
    if random.one_in(2) {
        let _ = table.name_entry(ROOT_B, NEW.partition_guid());
    }
    for _ in 0..random.below(3) {
        let moved = [(
            *random.pick(&[1, 2, 3, 4, 5]),
            number(random),
            number(random),
        )];
        let [(index, first, length)] = moved;
        if let Some(extent) = Extent::with_len(first % sectors, length % 50_000) {
            table = table.with_moved(&[(index, extent)]).unwrap_or(table);
        }
    }
    let mut disk = Disk {
        sectors,
        written: BTreeMap::new(),
        forbidden: Vec::new(),
        failing: false,
    };
    for (number, action) in gpt::write_actions(&table, sectors).into_iter().enumerate() {
        let Action::Write { sector, mut bytes } = action else {
            continue;
        };
        let header = if number == 0 { 32 * 512 } else { 0 };
        if random.one_in(2) {
            changed_table(random, &mut bytes, header);
        }
        disk.put(sector, &bytes);
    }
    disk
}

/// Changes a copy of the table; mostly with good checksums afterwards.
fn changed_table(random: &mut Random, bytes: &mut [u8], header: usize) {
    let array = 512 - header.min(512);
    match random.below(3) {
        0 => change(random, &mut bytes[header..], 92),
        _ => change(random, &mut bytes[array..], 6 * 128),
    }
    if random.one_in(8) {
        return;
    }
    let checksum = crc32(&bytes[array..array + 128 * 128]);
    let header = &mut bytes[header..header + 512];
    header[88..92].copy_from_slice(&checksum.to_le_bytes());
    header[16..20].fill(0);
    let checksum = crc32(&header[..92]);
    header[16..20].copy_from_slice(&checksum.to_le_bytes());
}

fn foreign(extent: Extent) -> Entry {
    Entry {
        kind: LINUX,
        guid: Guid::from_number(0xf00),
        extent,
        attributes: 0,
        name: Name::new("photos"),
    }
}

/// A target whose content the slot may hold: zeroes; or one with impossible numbers.
fn some_target(random: &mut Random) -> Target {
    let mut target = Target {
        version: version(["2", "3"][random.below(2)]),
        security_version: 1,
        attempt: 0,
        manifest: [7; 32],
        boot_bytes: 64 << 10,
        boot_sha256: Sha256::digest(vec![0; 64 << 10]).into(),
        root_bytes: 512 << 10,
        root_hash: *random.pick(&[NEW, RootHash([0x33; 32]), OLD]),
    };
    if random.one_in(3) {
        target.boot_bytes = number(random);
    }
    if random.one_in(3) {
        target.root_bytes = number(random) & !*random.pick(&[0, 4095]);
    }
    if random.one_in(4) {
        target.security_version = number(random);
    }
    target
}

fn some_record(random: &mut Random) -> Record {
    let mut record = Record {
        security_version: random.within(3),
        target: random.one_in(2).then(|| some_target(random)),
        ..Record::default()
    };
    if random.one_in(2) {
        let phases = [
            Phase::Armed { again: false },
            Phase::Armed { again: true },
            Phase::CameUp,
            Phase::Lost,
            Phase::Ignored,
            Phase::Untried,
        ];
        record.trial = Some(Trial {
            root_hash: *random.pick(&[OLD, NEW]),
            boot_id: [random.below(2) as u8; 16],
            phase: *random.pick(&phases),
        });
    }
    if random.one_in(3) {
        record.reject(version("2"), NEW, "it failed");
    }
    record
}

/// A page with changed content, mostly with a good checksum.
fn hostile_page(random: &mut Random) -> Vec<u8> {
    let mut page = record::encode(number(random), &some_record(random));
    if random.one_in(2) {
        change(random, &mut page, 600);
    }
    if !random.one_in(8) {
        let checksum = Sha256::digest(&page[..PAGE - 32]);
        page[PAGE - 32..].copy_from_slice(&checksum);
    }
    page
}

fn hostile_variables(random: &mut Random) -> Firmware {
    let mut firmware = Firmware::default();
    let place = Extent::with_len(2048, 2048).expect("extent");
    if random.one_in(2) {
        trial::arm(&mut firmware, random.pick(&[OLD, NEW]), place).expect("arm");
    }
    for data in firmware.0.values_mut().filter(|data| !data.is_empty()) {
        if random.one_in(2) {
            let within = data.len();
            change(random, data, within);
        }
        if random.one_in(4) {
            data.truncate(random.below(data.len()));
        }
        if let Ok(option) = LoadOption::decode(data) {
            let _ = option.partition();
        }
    }
    firmware.1 = random.one_in(4);
    firmware
}

#[test]
fn hostile_disks_records_and_variables_never_lead_to_a_write_outside_the_slot() {
    let (mut random, end) = berth_chance::fuzz("slots");
    let (mut count, mut tables, mut sessions, mut staged) = (0_u64, 0_u64, 0_u64, 0_u64);
    while Instant::now() < end {
        count += 1;
        read_record(&mut random);
        let mut disk = hostile_disk(&mut random);
        let sectors = disk.sectors;
        let Ok(loaded) = gpt::load(&mut disk, sectors) else {
            continue;
        };
        tables += 1;
        check_table(&mut random, &loaded.table, sectors);
        let Ok(pair) = Pair::of(&loaded.table) else {
            continue;
        };
        disk.forbidden = protected(&loaded.table, &pair);
        disk.failing = random.one_in(8);
        let opened = update(&mut random, disk);
        sessions += u64::from(opened.is_some());
        staged += u64::from(opened == Some(true));
    }
    let peak = peak_kib();
    println!(
        "fuzz: slots disks={count} tables={tables} sessions={sessions} \
         staged={staged} peak={peak} KiB"
    );
    assert!(sessions > 0 && staged > 0);
    assert!(peak <= MOST_MEMORY_KIB, "{peak} KiB");
}

/// What no update may write to: the committed slot, and everything that is not a slot.
fn protected(table: &Table, pair: &Pair) -> Vec<Extent> {
    let other = [BOOT_B, pair.other.root_entry];
    let theirs = table.entries().filter(|(index, _)| !other.contains(index));
    theirs.map(|(_, entry)| entry.extent).collect()
}

fn check_table(random: &mut Random, table: &Table, sectors: u64) {
    let extents: Vec<Extent> = table.entries().map(|(_, entry)| entry.extent).collect();
    for (at, one) in extents.iter().enumerate() {
        assert!(one.first() >= 34 && one.last() < sectors - 33);
        assert!(extents[at + 1..].iter().all(|two| !one.overlaps(two)));
    }
    let _ = layout::first_boot(table, sectors);
    let _ = slot::commit(table);
    let (boot, root) = (number(random), number(random));
    let (Ok(room), Ok(before)) = (slot::make_room(table, boot, root), Pair::of(table)) else {
        return;
    };
    let after = Pair::of(&room).expect("slots");
    assert_eq!(after.committed, before.committed);
    let changed = |(index, entry): (usize, &Entry)| room.entry(index) != Some(entry);
    let ours = [BOOT_B, before.other.root_entry];
    let mut others = table.entries().filter(|(index, _)| !ours.contains(index));
    assert!(!others.any(changed));
    assert!(after.other.boot.sectors() >= boot / SECTOR);
    assert!(after.other.root.sectors() >= root / SECTOR);
    let _ = (BOOT_A, ROOT_A);
}

fn read_record(random: &mut Random) {
    let page = hostile_page(random);
    if let Some((generation, record)) = record::decode(&page) {
        assert!(record.rejected.len() <= record::REJECTIONS);
        let again = record::encode(generation, &record);
        assert_eq!(record::decode(&again), Some((generation, record)));
    }
    let other = random.one_in(2).then(|| hostile_page(random));
    let mut kept = Kept::from_copies(&[Some(page), other]);
    let (copy, _) = kept.replace(Record::default());
    assert!(copy < 2);
}

/// Does what an updater could do, in any order; whether a session opened, and something was
/// staged whole.
fn update(random: &mut Random, disk: Disk) -> Option<bool> {
    let copy = |random: &mut Random| random.one_in(2).then(|| hostile_page(random));
    let records = Copies([copy(random), copy(random)]);
    let root = *random.pick(&[OLD, OLD, OLD, NEW]);
    let booted = Booted {
        root,
        boot_id: [random.below(2) as u8; 16],
        version: version(if root == OLD { "1" } else { "2" }),
        security_version: random.within(2),
    };
    let mut session = Session::open(disk, hostile_variables(random), records, &booted).ok()?;
    let mut staged = false;
    for _ in 0..12 {
        let floor = session.security_floor();
        // Errors are what is expected of most of these; panics and wrong writes are not.
        match random.below(11) {
            0..4 => staged |= stage(random, &mut session),
            4 => drop(session.abandon()),
            5 => drop(session.activate()),
            6 => drop(session.disarm()),
            7 => {
                // What was other is committed from here on, and the other way round.
                if session.confirm().is_ok() {
                    return Some(staged);
                }
            }
            8 => drop(session.reject("it failed")),
            9 => drop(session.forgive(&version("2"))),
            _ => drop(session.resume().map(|staging| staging.finish())),
        }
        assert!(session.security_floor() >= floor);
        let said = session.state().to_string();
        assert!(!said.is_empty());
    }
    Some(staged)
}

fn stage(random: &mut Random, session: &mut Session<Disk, Firmware, Copies>) -> bool {
    let mut target = some_target(random);
    // The root of zeroes, so that some are whole.
    if random.one_in(2) {
        target.root_hash = zeroes(target.root_bytes).unwrap_or(target.root_hash);
    }
    let Ok(mut staging) = session.stage(target) else {
        return false;
    };
    for _ in 0..random.below(6) {
        let part = *random.pick(&[Part::Boot, Part::Root]);
        let content = vec![0; random.below(4) * 4096];
        let within = random.within(staging.bytes(part).max(1)) / 512 * 512;
        let offset = if random.one_in(2) {
            number(random)
        } else {
            within
        };
        let fits = offset
            .checked_add(content.len() as u64)
            .is_some_and(|end| end <= staging.bytes(part));
        // The disk here takes whole sectors only.
        if offset.is_multiple_of(512) && !content.is_empty() {
            let written = staging.write(part, offset, &content);
            assert!(fits || written.is_err());
        }
        let at = number(random) & !511;
        let _ = staging.holds(part, at, number(random), &[0; 32]);
    }
    // Larger ones would only take time.
    if staging.bytes(Part::Boot).max(staging.bytes(Part::Root)) > 4 << 20 {
        return false;
    }
    let whole = staging.finish();
    whole.is_ok_and(|whole| session.staged(whole).is_ok())
}

/// The root hash of so many zeroes.
fn zeroes(bytes: u64) -> Option<RootHash> {
    use berth_slots::verity::{BLOCK, Builder, Geometry, HashSink};
    struct Nowhere;
    impl HashSink for Nowhere {
        fn write_hash_block(&mut self, _: u64, _: &[u8; BLOCK]) -> io::Result<()> {
            Ok(())
        }
    }
    if bytes > 4 << 20 || !bytes.is_multiple_of(4096) {
        return None;
    }
    let blocks = bytes / 4096;
    let mut builder = Builder::new(Geometry::new(blocks).ok()?, Nowhere);
    for _ in 0..blocks {
        builder.push(&[0; BLOCK]).ok()?;
    }
    builder.finish().ok().map(|(root, _)| root)
}
