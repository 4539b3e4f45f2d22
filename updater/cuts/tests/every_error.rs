//! Every operation of a complete update that fails while the machine goes on: a disk, a firmware
//! or a state partition that gives an error once, or for a while. At each failure what firmware
//! would start is whole; what failed is tried again, and the update ends as if nothing had been.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use berth_cuts::life::{self, Grid, Next, Release, act};
use berth_cuts::{Memory, MemoryRecords, MemoryVariables};
use berth_slots::block::Block;
use berth_slots::efi::Variables;
use berth_slots::gpt::{self, Repair};
use berth_slots::record::Records;
use berth_slots::session::Session;
use berth_slots::slot::Pair;
use berth_slots::state::Running;
use sha2::{Digest, Sha256};

const SECTORS: u64 = 100 << 11;

/// How much of a write that fails was done nevertheless.
#[derive(Clone, Copy, Debug)]
enum Done {
    Nothing,
    Half,
    All,
}

/// Which operations fail, and how many there were.
#[derive(Debug)]
struct Faults {
    fails: std::ops::Range<u64>,
    done: Done,
    count: Cell<u64>,
}

impl Faults {
    /// Counts an operation: what it does if it fails.
    fn next(&self) -> Option<Done> {
        let number = self.count.replace(self.count.get() + 1);
        self.fails.contains(&number).then_some(self.done)
    }

    /// An operation that changes nothing.
    fn look<T>(&self, operation: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.next() {
            None => operation(),
            Some(_) => Err(failed()),
        }
    }

    /// One that is done as a whole or not at all.
    fn change(&self, operation: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match self.next() {
            None => operation(),
            Some(Done::Nothing | Done::Half) => Err(failed()),
            Some(Done::All) => operation().and(Err(failed())),
        }
    }
}

fn failed() -> io::Error {
    io::Error::other("it gave an error")
}

/// What a machine has, behind the faults.
#[derive(Clone)]
struct Failing<T> {
    behind: Rc<RefCell<T>>,
    faults: Rc<Faults>,
}

impl Block for Failing<Memory> {
    fn sectors(&mut self) -> io::Result<u64> {
        self.faults.look(|| self.behind.borrow_mut().sectors())
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut disk = self.behind.borrow_mut();
        self.faults.look(|| disk.read_at(offset, buffer))
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.behind.borrow_mut();
        let written = match self.faults.next() {
            None => return disk.write_at(offset, bytes),
            Some(Done::Nothing) => 0,
            Some(Done::Half) => bytes.len() / 2,
            Some(Done::All) => bytes.len(),
        };
        disk.write_at(offset, &bytes[..written]).and(Err(failed()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.faults.change(|| self.behind.borrow_mut().flush())
    }
}

impl Variables for Failing<MemoryVariables> {
    fn list(&mut self) -> io::Result<Vec<String>> {
        self.faults.look(|| self.behind.borrow_mut().list())
    }

    fn get(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.faults.look(|| self.behind.borrow_mut().get(name))
    }

    fn set(&mut self, name: &str, data: &[u8]) -> io::Result<()> {
        let mut variables = self.behind.borrow_mut();
        self.faults.change(|| variables.set(name, data))
    }

    fn delete(&mut self, name: &str) -> io::Result<()> {
        self.faults.change(|| self.behind.borrow_mut().delete(name))
    }
}

impl Records for Failing<MemoryRecords> {
    fn load(&mut self) -> io::Result<[Option<Vec<u8>>; 2]> {
        self.faults.look(|| self.behind.borrow_mut().load())
    }

    fn save(&mut self, copy: usize, bytes: &[u8]) -> io::Result<()> {
        let mut records = self.behind.borrow_mut();
        let saved = match self.faults.next() {
            None => return records.save(copy, bytes),
            Some(Done::Nothing) => return Err(failed()),
            Some(Done::Half) => &bytes[..bytes.len() / 2],
            Some(Done::All) => bytes,
        };
        records.save(copy, saved).and(Err(failed()))
    }
}

fn release(number: u64, root_kib: usize) -> Release {
    let sha256 = |bytes: &[u8]| Sha256::digest(bytes).into();
    Release::of_noise(number, 16, root_kib, sha256).expect("a release")
}

/// A machine that is updated while operations fail.
struct Life {
    disk: Failing<Memory>,
    variables: Failing<MemoryVariables>,
    records: Failing<MemoryRecords>,
    releases: [Release; 2],
    grid: Grid,
    errors: u64,
}

impl Life {
    fn new(releases: &[Release; 2], grid: Grid, faults: Faults) -> Self {
        let disk = life::installed(&releases[0], SECTORS).expect("an installed machine");
        let faults = Rc::new(faults);
        fn behind<T>(faults: &Rc<Faults>, it: T) -> Failing<T> {
            Failing {
                behind: Rc::new(RefCell::new(it)),
                faults: Rc::clone(faults),
            }
        }
        Self {
            disk: behind(&faults, disk),
            variables: behind(&faults, MemoryVariables::default()),
            records: behind(&faults, MemoryRecords::default()),
            releases: releases.clone(),
            grid,
            errors: 0,
        }
    }

    /// What would start now, without leaving a trace; the variables may be gone.
    fn would_start(&self, variables: MemoryVariables) -> Result<usize, String> {
        let (mut disk, mut variables) = (self.disk.behind.borrow().clone(), variables);
        Ok(life::start(&mut disk, &mut variables, &self.releases)?.release)
    }

    fn note(&mut self, why: &str) -> Result<(), String> {
        self.errors += 1;
        if self.errors > 40 {
            return Err(format!("it does not end: {why}"));
        }
        self.would_start(self.variables.behind.borrow().clone())?;
        self.would_start(MemoryVariables::default()).map(drop)
    }

    /// Lives until the new version is settled, and looks whether it is.
    fn settle(&mut self) -> Result<(), String> {
        for start in 1_u128..6 {
            let running = {
                let mut disk = self.disk.behind.borrow_mut();
                let mut variables = self.variables.behind.borrow_mut();
                life::start(&mut *disk, &mut variables, &self.releases)?.release
            };
            let booted = self.releases[running].booted(start.to_le_bytes());
            let latest = self.releases[1].clone();
            let mut session = loop {
                let (disk, variables) = (self.disk.clone(), self.variables.clone());
                match Session::open(disk, variables, self.records.clone(), &booted) {
                    Ok(session) => break session,
                    Err(why) => self.note(&why.to_string())?,
                }
            };
            let next = loop {
                match act(&mut session, &latest, self.grid, |_| ()) {
                    Ok(next) => break next,
                    Err(why) => self.note(&why.to_string())?,
                }
                let cold = self.would_start(MemoryVariables::default())?;
                if session.running() == Running::Committed && cold != running {
                    return Err(format!(
                        "{running} says that it is kept, {cold} would start"
                    ));
                }
            };
            if next == Next::Settled {
                let gone_back = session.rejected().to_vec();
                return match running {
                    1 if gone_back.is_empty() => self.look_at_the_end(),
                    _ => Err(format!("version {running} runs; given up: {gone_back:?}")),
                };
            }
        }
        Err("it did not settle".to_owned())
    }

    fn look_at_the_end(&self) -> Result<(), String> {
        let cold = self.would_start(MemoryVariables::default())?;
        if cold != 1 {
            return Err("the old version would start".to_owned());
        }
        let mut disk = self.disk.behind.borrow().clone();
        let loaded = gpt::load(&mut Sectors(&mut disk), SECTORS).map_err(|e| e.to_string())?;
        match loaded.repair {
            Repair::None => Ok(()),
            repair => Err(format!("the table is left to be repaired: {repair:?}")),
        }
    }
}

struct Sectors<'a>(&'a mut Memory);

impl gpt::ReadSectors for Sectors<'_> {
    fn read_sectors(&mut self, first: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_at(first * 512, buffer)
    }
}

/// Lives as often as there are operations and ways to fail; gives the disk at the end.
fn fail_at_each_operation(releases: &[Release; 2], grid: Grid) -> Memory {
    let life = |fails, done| {
        let count = Cell::new(0);
        Life::new(releases, grid, Faults { fails, done, count })
    };
    let mut undisturbed = life(0..0, Done::Nothing);
    undisturbed.settle().expect("an update");
    let operations = undisturbed.disk.faults.count.get();
    let end = undisturbed.disk.behind.borrow().clone();
    let (mut lives, mut errors) = (0, 0);
    for first in 0..operations {
        for done in [Done::Nothing, Done::Half, Done::All] {
            for many in [1, 2, 7] {
                let mut life = life(first..first + many, done);
                let settled = life.settle().and_then(|()| {
                    match life.disk.behind.borrow().first_difference(&end) {
                        None => Ok(()),
                        Some(block) => Err(format!("block {block} is another")),
                    }
                });
                if let Err(why) = settled {
                    panic!("operation {first} and {many} in all, {done:?}: {why}");
                }
                lives += 1;
                errors += life.errors;
            }
        }
    }
    println!("each of {operations} operations failed: {lives} lives, {errors} errors");
    assert!(errors >= lives, "failures that nobody saw");
    end
}

#[test]
fn whatever_fails_is_tried_again_and_the_update_ends_as_if_it_had_not() {
    let grid = Grid {
        chunk: 8 << 10,
        flush_every: 3,
    };
    fail_at_each_operation(&[release(1, 256), release(2, 320)], grid);
}

#[test]
fn so_it_does_when_the_slot_has_to_move() {
    let grid = Grid {
        chunk: 512 << 10,
        flush_every: 3,
    };
    let releases = [release(1, 256), release(2, 2 << 10)];
    let before = life::installed(&releases[0], SECTORS).expect("an installed machine");
    let after = fail_at_each_operation(&releases, grid);
    let root_sectors = |mut disk: Memory| {
        let table = gpt::load(&mut Sectors(&mut disk), SECTORS)
            .expect("a table")
            .table;
        let pair = Pair::of(&table).expect("two slots");
        [pair.committed, pair.other]
            .map(|slot| slot.root.sectors())
            .into_iter()
            .max()
    };
    assert!(root_sectors(after) > root_sectors(before), "nothing moved");
}
