//! What a session refuses and what it says: wrong content, a lying disk, firmware without
//! variables, a disk without room. Each leaves the machine as it was.

use std::io;

use berth_cuts::life::{self, Grid, Release, fill};
use berth_cuts::{Memory, MemoryRecords, MemoryVariables};
use berth_slots::block::Block;
use berth_slots::efi::NoVariables;
use berth_slots::session::{Error, Session};
use berth_slots::staging::{Part, StagingError};
use berth_slots::state::{News, State};
use sha2::{Digest, Sha256};

const GRID: Grid = Grid {
    chunk: 32 << 10,
    flush_every: 4,
};
const HERE: [u8; 16] = [1; 16];
const LATER: [u8; 16] = [2; 16];

fn release(number: u64, root_kib: usize) -> Release {
    let sha256 = |bytes: &[u8]| Sha256::digest(bytes).into();
    Release::of_noise(number, 64, root_kib, sha256).expect("a release")
}

fn machine(first: &Release) -> Memory {
    life::installed(first, 100 << 11).expect("an installed machine")
}

/// A disk that answers some reads with another byte.
struct Lying {
    disk: Memory,
    from: u64,
    flushes_until_it_lies: usize,
}

impl Block for Lying {
    fn sectors(&mut self) -> io::Result<u64> {
        self.disk.sectors()
    }
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(offset, buffer)?;
        let end = offset + buffer.len() as u64;
        if self.flushes_until_it_lies == 0 && (offset..end).contains(&self.from) {
            buffer[(self.from - offset) as usize] ^= 1;
        }
        Ok(())
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_at(offset, bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.flushes_until_it_lies = self.flushes_until_it_lies.saturating_sub(1);
        Ok(())
    }
}

#[test]
fn wrong_content_is_named_and_the_slot_is_not_sealed() {
    let (old, new) = (release(1, 512), release(2, 512));
    for (part, offset) in [(Part::Boot, 5000), (Part::Root, 300_000)] {
        let (mut variables, mut records) = Default::default();
        let mut session = Session::<_, &mut MemoryVariables, &mut MemoryRecords>::open(
            machine(&old),
            &mut variables,
            &mut records,
            &old.booted(HERE),
        )
        .expect("a session");
        let mut wrong = new.clone();
        match part {
            Part::Boot => wrong.boot[offset] ^= 1,
            Part::Root => wrong.root[offset] ^= 1,
        }
        let staging = session.stage(new.target.clone()).expect("staging");
        let error = fill(staging, &wrong, GRID).expect_err("wrong content");
        assert!(
            matches!(error, StagingError::Wrong(named) if named == part),
            "{error}"
        );
        assert_eq!(session.state(), &State::Staging(new.target.clone()));
        assert!(session.activate().is_err());
        // The right content makes it good, without starting afresh.
        let staging = session.resume().expect("going on");
        let whole = fill(staging, &new, GRID).expect("whole");
        session.staged(whole).expect("staged");
        assert_eq!(session.state(), &State::Staged(new.target.clone()));
    }
}

#[test]
fn a_disk_that_does_not_keep_what_is_written_is_noticed() {
    let (old, new) = (release(1, 512), release(2, 512));
    let disk = machine(&old);
    // The last flush before the tree is read back is the one behind it.
    let chunks = (64 + 512) / 32;
    let flushes = chunks / GRID.flush_every + 2;
    let probe = Session::open(
        disk.clone(),
        MemoryVariables::default(),
        MemoryRecords::default(),
        &old.booted(HERE),
    )
    .expect("a session");
    let tree = probe.other().root.first() * 512 + (512 << 10) + 4096;
    let lying = Lying {
        disk,
        from: tree,
        flushes_until_it_lies: flushes,
    };
    let mut session = Session::open(
        lying,
        MemoryVariables::default(),
        MemoryRecords::default(),
        &old.booted(HERE),
    )
    .expect("a session");
    let staging = session.stage(new.target.clone()).expect("staging");
    let error = fill(staging, &new, GRID).expect_err("a lying disk");
    assert!(matches!(error, StagingError::Medium(_)), "{error}");
}

#[test]
fn firmware_without_variables_leaves_the_version_staged_and_names_the_policy() {
    let (old, new) = (release(1, 128), release(2, 128));
    let mut disk = machine(&old);
    let mut records = MemoryRecords::default();
    let none = || NoVariables("it was started by a BIOS".to_owned());
    let mut session =
        Session::open(&mut disk, none(), &mut records, &old.booted(HERE)).expect("a session");
    let staging = session.stage(new.target.clone()).expect("staging");
    let whole = fill(staging, &new, GRID).expect("whole");
    session.staged(whole).expect("staged");
    let error = session.activate().expect_err("no variables");
    assert!(matches!(error, Error::Firmware(_)));
    let said = error.to_string();
    assert!(
        said.contains("policy = \"off\"") && said.contains("BIOS"),
        "{said}"
    );
    assert_eq!(session.state(), &State::Staged(new.target.clone()));

    // By hand, then: it runs from the next start on, and this one cannot be written over.
    session.commit_untried().expect("committed");
    assert_eq!(session.state(), &State::Committed);
    assert!(session.stage(release(3, 128).target).is_err());
    assert!(session.confirm().is_err());
    drop(session);
    let again = Session::open(&mut disk, none(), &mut records, &old.booted(HERE)).expect("again");
    assert_eq!(again.state(), &State::Committed);
    drop(again);
    let start = life::start(
        &mut disk,
        &mut MemoryVariables::default(),
        &[old.clone(), new.clone()],
    );
    assert_eq!(start.expect("a start").release, 1);
    let next =
        Session::open(&mut disk, none(), &mut records, &new.booted(LATER)).expect("a session");
    assert_eq!(next.state(), &State::Committed);
    assert!(matches!(next.news(), Some(News::Untried(_))));
    assert_eq!(next.security_floor(), 2);
}

#[test]
fn a_version_that_does_not_fit_is_refused_before_anything_is_written() {
    let (old, huge) = (release(1, 128), {
        let mut huge = release(2, 128);
        huge.target.root_bytes = 1 << 30;
        huge
    });
    let before = machine(&old);
    let mut disk = before.clone();
    let mut records = MemoryRecords::default();
    let mut session = Session::open(
        &mut disk,
        MemoryVariables::default(),
        &mut records,
        &old.booted(HERE),
    )
    .expect("a session");
    let error = session.stage(huge.target).expect_err("no room");
    assert!(error.to_string().contains("use a larger disk"), "{error}");
    assert_eq!(session.state(), &State::Empty);
    drop(session);
    assert_eq!(disk.first_difference(&before), None);
    assert_eq!(records, MemoryRecords::default());
}

#[test]
fn a_machine_that_runs_from_elsewhere_is_left_alone() {
    let (old, other) = (release(1, 128), release(9, 128));
    let opened = Session::open(
        machine(&old),
        MemoryVariables::default(),
        MemoryRecords::default(),
        &other.booted(HERE),
    );
    let error = opened.expect_err("elsewhere").to_string();
    assert!(error.contains("nothing is written to either"), "{error}");
}
