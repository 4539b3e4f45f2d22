//! A role that is killed at any write of a version goes on where it was: what the slot holds by
//! then is not fetched again.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::rc::Rc;

use berth_chance::Random;
use berth_cuts::{Memory, MemoryRecords, MemoryVariables, life};
use berth_delta::{Limits, Prefix};
use berth_release::{CHUNK, Release};
use berth_slots::block::Block;
use berth_slots::session::Session;
use berth_slots::staging::Part;
use berth_slots::target::Version;

use super::publisher::{Content, Publisher, content, sha256};
use crate::role::Places;
use crate::server::Server;
use crate::staging::Stage;
use crate::telling::Teller;

const ROOT_CHUNKS: usize = 5;

/// A disk that is gone after so many writes, as it is for a process that was killed.
struct Dying {
    disk: Rc<RefCell<Memory>>,
    writes_left: Rc<Cell<usize>>,
}

impl Block for Dying {
    fn sectors(&mut self) -> io::Result<u64> {
        self.disk.borrow_mut().sectors()
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.disk.borrow_mut().read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let left = self.writes_left.get().checked_sub(1);
        self.writes_left.set(left.ok_or(io::ErrorKind::BrokenPipe)?);
        self.disk.borrow_mut().write_at(offset, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.disk.borrow_mut().flush()
    }
}

/// Published files, and how many bytes of them were asked for.
struct Counting<'a> {
    publisher: &'a Publisher,
    asked: u64,
}

impl Server for Counting<'_> {
    fn who(&self) -> &str {
        "the directory"
    }

    fn whole(&mut self, _: &str, _: u64) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }

    fn range<'a>(
        &'a mut self,
        path: &str,
        range: Range<u64>,
    ) -> Result<Option<Box<dyn Read + 'a>>, String> {
        self.asked += range.end - range.start;
        let bytes = self.publisher.files.get(path);
        let bytes = bytes.map(|bytes| &bytes[range.start as usize..range.end as usize]);
        Ok(bytes.map(|bytes| Box::new(Cursor::new(bytes)) as Box<dyn Read>))
    }
}

/// Version 2: chunks of noise, which cannot be packed.
fn noise() -> Content {
    let mut random = Random::from_seed(5);
    let words = (0..ROOT_CHUNKS * CHUNK as usize / 8).map(|_| random.next_u64());
    let root = words.flat_map(u64::to_le_bytes).collect();
    let version = Version::new("2").expect("a version");
    Content::new(version, 0, content(2).boot, root, sha256).expect("a release")
}

/// The role fills the slot; the bytes that it asked the server for.
fn fill(disk: Dying, publisher: &Publisher, release: &Release, new: &Content) -> (bool, u64) {
    let scratch = tempfile::tempdir().expect("a directory");
    let one = content(1);
    let mut server = Counting {
        publisher,
        asked: 0,
    };
    let mut slots = Session::open(
        disk,
        MemoryVariables::default(),
        MemoryRecords::default(),
        &one.booted([1; 16]),
    )
    .expect("the slots");
    let places = Places {
        // What runs is no source here: nothing of it is in the new one.
        disk: "/dev/null".into(),
        state: scratch.path().join("state"),
        status: scratch.path().join("status.json"),
        certificates: scratch.path().join("ca.pem"),
    };
    let mut teller = Teller::by(File::create(scratch.path().join("said")).expect("the pipe"));
    let stage = Stage {
        server: &mut server,
        teller: &mut teller,
        places: &places,
        running_root: one.target.root_hash,
    };
    let done = stage.fill(&mut slots, release, new.target.clone()).is_ok();
    (done, server.asked)
}

#[test]
fn a_role_that_is_killed_at_any_write_fetches_no_chunk_twice() {
    let new = noise();
    let mut publisher = Publisher::new();
    publisher.publish("edge", &new, &[]);
    let release = publisher.release("edge");
    let patches = [&release.boot, &release.root.part].map(|part| part.packed.expect("a patch"));
    let all: u64 = patches.iter().map(|patch| patch.bytes).sum();
    // What opening them costs each time, and what each chunk costs.
    let heads: u64 = patches
        .iter()
        .map(|patch| {
            let bytes = &publisher.files[&patch.path()];
            let prefix = Prefix::parse(&bytes[..Prefix::BYTES], &Limits::default());
            (Prefix::BYTES + prefix.expect("a prefix").head_bytes) as u64
        })
        .sum();
    let installed = life::installed(&content(1), 128 << 11).expect("a disk");
    let mut killed = 0;
    for writes in 0.. {
        let disk = Rc::new(RefCell::new(installed.clone()));
        let attempt = |writes| Dying {
            disk: Rc::clone(&disk),
            writes_left: Rc::new(Cell::new(writes)),
        };
        let (done, first) = fill(attempt(writes), &publisher, &release, &new);
        if done {
            assert_eq!(first, all, "an update that nobody disturbs");
            break;
        }
        killed += 1;
        let whole = chunks_that_are_whole(attempt(usize::MAX), &release, &new);
        let (done, second) = fill(attempt(usize::MAX), &publisher, &release, &new);
        assert!(done, "after {writes} writes");
        let fetched_for_missing = all - heads - whole;
        assert!(
            second <= heads + fetched_for_missing,
            "after {writes} writes {second} bytes were fetched, {whole} of {all} were there"
        );
    }
    println!("killed at each of {killed} writes");
    assert!(killed > ROOT_CHUNKS, "only {killed} writes");
}

/// What the chunks that the slot holds would cost: of noise, as many bytes as they have.
fn chunks_that_are_whole(disk: Dying, release: &Release, new: &Content) -> u64 {
    let one = content(1);
    let mut slots = Session::open(
        disk,
        MemoryVariables::default(),
        MemoryRecords::default(),
        &one.booted([1; 16]),
    )
    .expect("the slots");
    let Ok(mut staging) = slots.stage(new.target.clone()) else {
        return 0;
    };
    let root = &release.root.part;
    let whole = root.chunks.iter().enumerate().filter(|(index, hash)| {
        let range = root.chunk_range(*index).expect("a chunk");
        let bytes = range.end - range.start;
        let holds = staging.holds(Part::Root, range.start, bytes, &hash.0);
        holds.expect("an answer")
    });
    whole.count() as u64 * CHUNK
}
