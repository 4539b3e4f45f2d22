//! What a console may say about a machine whose power goes, and what it must never say.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use berth_power::{Book, Disk, Life, News, Release, table_is_whole};
use berth_slots::SECTOR;
use berth_slots::gpt::{self, Action, Table};
use berth_slots::layout::{BOOT_A, BOOT_B, Image, ROOT_B, STATE, first_boot};
use berth_slots::verity::{BLOCK, Geometry, RootHash};
use tempfile::TempDir;

const SECTORS: u64 = 1 << 20;
const BOOT_BYTES: u64 = 1 << 20;

/// A machine with three versions, of which two are in its slots.
struct Bench {
    scratch: TempDir,
    table: Table,
    book: Book,
    life: Life,
}

fn root(version: u8) -> RootHash {
    RootHash([version; 32])
}

impl Bench {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let geometry = Geometry::new((4 << 20) / BLOCK as u64)?;
        let image = Image::new(BOOT_BYTES, geometry.total_bytes(), &root(1))?;
        let mut table = first_boot(&image.table, SECTORS)?.table.without(STATE);
        table.name_entry(ROOT_B, root(2).partition_guid())?;
        let release = |version: u8| Release {
            version: version.to_string(),
            root: root(version),
        };
        let mut book = Book::new((1..=3).map(release).collect());
        assert!(book.offer_next());
        Ok(Self {
            scratch: TempDir::new()?,
            table,
            book,
            life: Life::default(),
        })
    }

    /// The places of entries 1 and 2 are exchanged.
    fn commit(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        self.table = berth_slots::slot::commit(&self.table)?;
        assert!(self.table.entry(BOOT_A).is_some() && self.table.entry(BOOT_B).is_some());
        Ok(())
    }

    fn disk(&self) -> io::Result<Disk> {
        let path = self.scratch.path().join("disk");
        let file = File::create(&path)?;
        file.set_len(SECTORS * SECTOR)?;
        for action in gpt::write_actions(&self.table, SECTORS) {
            if let Action::Write { sector, bytes } = action {
                file.write_all_at(&bytes, sector * SECTOR)?;
            }
        }
        Disk::of(&path, SECTORS * SECTOR)
    }

    fn line(&mut self, text: &str) -> Result<Option<News>, String> {
        let mut disk = self.disk().map_err(|error| error.to_string())?;
        self.life.line(text, &mut self.book, &mut disk)
    }

    /// The power comes, and this version comes up.
    fn starts(&mut self, version: u8) -> Result<Option<News>, String> {
        self.life = Life::default();
        let hash: String = root(version).0.iter().map(|b| format!("{b:02x}")).collect();
        self.line("[    0.000000] Linux version 6.12.1-berth")?;
        self.line(&format!(
            "[    0.0] Kernel command line: dm-mod.create=\"root,,,ro,0 8 verity 1 a a 4096 4096 \
             1 1 sha256 {hash} 00\""
        ))?;
        self.line("[    1.0] berth: phase=machine end t=1 result=ok")
    }
}

const COMMITTED: Option<News> = Some(News::Up { trial: false });
const TRIAL: Option<News> = Some(News::Up { trial: true });

#[test]
fn a_version_is_tried_once_and_then_it_is_committed_or_gone()
-> Result<(), Box<dyn std::error::Error>> {
    let mut bench = Bench::new()?;
    assert!(table_is_whole(&mut bench.disk()?));
    assert_eq!(bench.starts(1)?, COMMITTED);
    assert_eq!(bench.starts(2)?, TRIAL);
    assert_eq!(bench.life.phase(), "trial: start");
    assert!(bench.starts(2).is_err(), "tried twice");

    // The cut came when the commit was on the disk, and nobody had said so.
    let mut bench = Bench::new()?;
    assert_eq!(bench.starts(2)?, TRIAL);
    assert!(
        bench.book.offer_next(),
        "it is in doubt, and the next one is there"
    );
    bench.commit()?;
    assert_eq!(bench.starts(2)?, COMMITTED);
    assert_eq!((bench.book.committed(), bench.book.offered()), (1, 2));

    // It came before.
    let mut bench = Bench::new()?;
    assert_eq!(bench.starts(2)?, TRIAL);
    assert!(bench.book.offer_next());
    assert_eq!(bench.starts(1)?, COMMITTED);
    let told =
        bench.line("[    2.0] berth: update=rejected version=2 : it was tried and given up")?;
    assert_eq!(told, Some(News::RejectedBefore));
    assert!(!bench.book.is_over());
    Ok(())
}

#[test]
fn nothing_older_than_what_was_committed_comes_up_and_nothing_untried_is_committed()
-> Result<(), Box<dyn std::error::Error>> {
    let mut bench = Bench::new()?;
    bench.starts(2)?;
    let stays = "[    2.0] berth: update=committed version=2 : it was tried and stays";
    assert_eq!(bench.line(stays)?, Some(News::Committed));
    assert!(bench.starts(1).is_err(), "the table still has version 1");

    let mut bench = Bench::new()?;
    bench.commit()?;
    let untried = bench.starts(2).err().unwrap_or_default();
    assert!(untried.contains("without a trial"), "{untried}");
    assert!(Bench::new()?.starts(3).is_err(), "it is not even offered");
    assert!(Bench::new()?.starts(9).is_err(), "nobody knows it");
    Ok(())
}

#[test]
fn a_panic_a_phase_that_fails_and_a_committed_version_that_is_rejected_break_the_promise()
-> Result<(), Box<dyn std::error::Error>> {
    for text in [
        "[    1.0] Kernel panic - not syncing: Attempted to kill init!",
        "[    1.0] berth: phase=state end t=1 result=degraded : no file system",
        "[    2.0] berth: update=rejected version=1 : it was tried and given up",
        "[    2.0] berth: update=current version=2 : version 2 is the newest",
        "[    2.0] berth: update=trouble : this machine cannot update itself: no slots",
    ] {
        let mut bench = Bench::new()?;
        bench.starts(1)?;
        assert!(bench.line(text).is_err(), "{text}");
    }
    let mut bench = Bench::new()?;
    let clocks = "Kernel panic - not syncing: IO-APIC + timer doesn't work!";
    assert_eq!(bench.line(clocks)?, Some(News::Starved));
    Ok(())
}

/// The first trial ended before it was saved, and nothing in the firmware tells of it either.
#[test]
fn a_version_whose_trial_nobody_can_know_of_is_tried_once_more_and_never_a_third_time()
-> Result<(), Box<dyn std::error::Error>> {
    let forgot = "[    2.7] berth: update=trouble version=2 : the firmware forgot the request to \
                  try version 2 (its variables are gone): it was not tried, or lost its power";
    let mut bench = Bench::new()?;
    assert_eq!(bench.starts(2)?, TRIAL);
    assert!(bench.line(forgot).is_err(), "its variables are there");

    let mut bench = Bench::new()?;
    assert_eq!(bench.line(forgot)?, None, "no trial has begun");
    assert_eq!(bench.starts(2)?, TRIAL);
    bench.book.variables_are_erased();
    assert!(bench.starts(2).is_err(), "it has not said so");

    let mut bench = Bench::new()?;
    assert_eq!(bench.starts(2)?, TRIAL);
    bench.book.variables_are_erased();
    assert_eq!(bench.starts(1)?, COMMITTED);
    assert_eq!(bench.line(forgot)?, Some(News::Unknown));
    assert_eq!(bench.starts(2)?, TRIAL);
    bench.book.variables_are_erased();
    assert_eq!(bench.starts(1)?, COMMITTED);
    assert!(bench.line(forgot).is_err(), "it was saved this time");
    assert!(bench.starts(2).is_err(), "tried for the third time");

    // The trial had said that it is one, and so had saved it.
    let mut bench = Bench::new()?;
    assert_eq!(bench.starts(2)?, TRIAL);
    bench.line("[    2.7] berth: update=trying version=2 : version 2 is on trial")?;
    bench.book.variables_are_erased();
    assert_eq!(bench.starts(1)?, COMMITTED);
    assert!(bench.line(forgot).is_err(), "the record knows of it");

    // Erased before the trial, and not since.
    let mut bench = Bench::new()?;
    bench.book.variables_are_erased();
    assert_eq!(bench.starts(2)?, TRIAL);
    assert_eq!(bench.starts(1)?, COMMITTED);
    assert!(bench.line(forgot).is_err(), "nothing was erased since");
    Ok(())
}
