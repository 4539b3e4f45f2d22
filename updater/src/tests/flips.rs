//! A published directory in which one bit is flipped, looked at and fetched by the code of the
//! machine: no byte that was not signed is ever written to the slot.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::rc::Rc;

use berth_chance::Random;
use berth_cuts::{Memory, MemoryRecords, MemoryVariables, life};
use berth_delta::Source;
use berth_release::{ARCHITECTURE, Patch, Release};
use berth_slots::SECTOR;
use berth_slots::block::Block;
use berth_slots::session::Session;
use berth_slots::staging;
use berth_trust::{Clock, Time};

use super::publisher::{Content, NOW, Publisher, content};
use crate::metadata::{Identity, newest};
use crate::server::Server;
use crate::staging::target;
use crate::transfer::{Counted, Nothing, Transfer};

/// A published directory in memory.
#[derive(Clone, Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Server for Files {
    fn who(&self) -> &str {
        "the directory"
    }

    fn whole(&mut self, path: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
        match self.0.get(path) {
            Some(bytes) if bytes.len() as u64 > most => Err(format!("{path} is too long")),
            other => Ok(other.cloned()),
        }
    }

    fn range<'a>(
        &'a mut self,
        path: &str,
        range: Range<u64>,
    ) -> Result<Option<Box<dyn Read + 'a>>, String> {
        let Some(bytes) = self.0.get(path) else {
            return Ok(None);
        };
        let bytes = bytes.get(range.start as usize..range.end as usize);
        let bytes = bytes.ok_or_else(|| format!("{path} ends before {}", range.end))?;
        Ok(Some(Box::new(Cursor::new(bytes))))
    }
}

/// A disk on which nothing but the signed bytes may be written to the slot.
struct Guarded {
    disk: Memory,
    /// Where a part goes, and its signed bytes.
    slot: Vec<(u64, Vec<u8>)>,
    written: Rc<Cell<u64>>,
}

impl Block for Guarded {
    fn sectors(&mut self) -> io::Result<u64> {
        self.disk.sectors()
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        for (start, signed) in &self.slot {
            let end = start + signed.len() as u64;
            if offset < end && offset + bytes.len() as u64 > *start {
                let at = (offset - start) as usize;
                assert!(
                    signed.get(at..at + bytes.len()) == Some(bytes),
                    "other bytes than were signed, at {at}"
                );
                self.written.set(self.written.get() + bytes.len() as u64);
            }
        }
        self.disk.write_at(offset, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.disk.flush()
    }
}

/// Two versions of a machine, the second published with all that a machine can use.
struct World {
    old: Content,
    new: Content,
    files: Files,
    trust: Vec<u8>,
    release: Release,
    disk: Memory,
}

impl World {
    fn new() -> Self {
        let [old, new] = [content(1), content(2)];
        let mut publisher = Publisher::new();
        publisher.renew_root();
        publisher.publish("edge", &new, &[&old]);
        let release = publisher.release("edge");
        let trust = publisher.trust();
        // Machines carry the first root and do not ask for it.
        publisher.files.remove("metadata/1.root.json");
        let disk = life::installed(&old, 100 << 11).expect("a machine");
        Self {
            old,
            new,
            files: Files(publisher.files),
            trust,
            release,
            disk,
        }
    }

    /// Looks at what is published and fetches it, with the first `ways` of: the delta, the packed
    /// image, the image. Gives the bytes that were written and whether the version is whole.
    fn update(&self, files: &mut Files, ways: Range<usize>) -> (u64, Result<(), String>) {
        let written = Rc::new(Cell::new(0));
        let outcome = self.look_and_fetch(files, ways, Rc::clone(&written));
        (written.get(), outcome)
    }

    fn look_and_fetch(
        &self,
        files: &mut Files,
        ways: Range<usize>,
        written: Rc<Cell<u64>>,
    ) -> Result<(), String> {
        let kept = tempfile::tempdir().expect("a directory");
        let identity = Identity {
            product: "edge".into(),
            profile: "cloud".into(),
            architecture: ARCHITECTURE.into(),
        };
        let clock = Clock::new(Time(NOW as i64), Time(NOW as i64));
        let offer = newest(files, &self.trust, kept.path(), clock, &identity)?;
        assert_eq!(offer.release, self.release, "another version was believed");

        let booted = self.old.booted([1; 16]);
        let (mut variables, mut records) = <(MemoryVariables, MemoryRecords)>::default();
        let mut guarded = Guarded {
            disk: self.disk.clone(),
            slot: Vec::new(),
            written,
        };
        {
            let session = Session::open(&mut guarded, &mut variables, &mut records, &booted);
            let slot = session.expect("a session").other();
            let at = |extent: berth_slots::gpt::Extent| extent.first() * SECTOR;
            let root_bytes = self.new.target.root_bytes as usize;
            guarded.slot = vec![
                (at(slot.boot), self.new.boot.clone()),
                (at(slot.root), self.new.root[..root_bytes].to_vec()),
            ];
        }
        let mut session = Session::open(&mut guarded, &mut variables, &mut records, &booted)
            .map_err(|why| why.to_string())?;
        let staging = session.stage(target(&offer)?);
        let mut staging = staging.map_err(|why| why.to_string())?;
        let delta = offer.release.delta_from(&self.old.target.root_hash.0);
        let delta = delta.ok_or("no delta")?;
        let root_bytes = self.old.target.root_bytes as usize;
        let parts = [
            (
                staging::Part::Boot,
                &offer.release.boot,
                delta.boot,
                &self.old.boot[..],
            ),
            (
                staging::Part::Root,
                &offer.release.root.part,
                delta.root,
                &self.old.root[..root_bytes],
            ),
        ];
        for (part, published, patch, mut old) in parts {
            let mut nothing = Nothing;
            let packed = published.packed.ok_or("no packed image")?;
            let all: [(Patch, &mut dyn Source); 2] = [(patch, &mut old), (packed, &mut nothing)];
            let mut patches: Vec<_> = all
                .into_iter()
                .enumerate()
                .filter_map(|(way, patch)| ways.contains(&way).then_some(patch))
                .collect();
            let mut transfer = Transfer {
                server: files,
                staging: &mut staging,
                part,
                published,
                progress: &mut |_, _| (),
                counted: Counted::default(),
                unflushed: 0,
                held: None,
            };
            let run = transfer.run(&mut patches);
            run.map_err(|why| why.to_string())?;
        }
        staging.finish().map_err(|why| why.to_string())?;
        Ok(())
    }
}

/// Flips a bit, calls `check`, and flips it back.
fn flipped(files: &mut Files, path: &str, bit: usize, check: impl FnOnce(&mut Files)) {
    let flip = |files: &mut Files| {
        let file = files.0.get_mut(path).expect("the file");
        file[bit / 8] ^= 1 << (bit % 8);
    };
    flip(files);
    check(files);
    flip(files);
}

/// All ways to the new version.
const ALL: Range<usize> = 0..2;

#[test]
fn what_is_published_makes_the_new_version_by_every_way() {
    let world = World::new();
    let whole = world.new.target.boot_bytes + world.new.target.root_bytes;
    for ways in [ALL, 0..1, 1..2, 0..0] {
        let outcome = world.update(&mut world.files.clone(), ways.clone());
        assert_eq!(outcome, (whole, Ok(())), "{ways:?}");
    }
}

#[test]
fn a_flipped_bit_of_what_is_signed_is_refused_before_a_byte_is_written() {
    let world = World::new();
    let mut files = world.files.clone();
    // berth_trust's tests try every bit; here every place in a byte comes up, and all bits when
    // there is time.
    let step = match std::env::var_os("BERTH_TEST_LONG") {
        Some(_) => 1,
        None => 23,
    };
    let signed: Vec<String> = files.0.keys().cloned().collect();
    let signed = signed.iter().filter(|path| path.ends_with(".json"));
    let mut flips = 0;
    for path in signed {
        for bit in (0..files.0[path].len() * 8).step_by(step) {
            flipped(&mut files, path, bit, |files| {
                let (written, outcome) = world.update(files, ALL);
                assert!(outcome.is_err(), "bit {bit} of {path}");
                assert_eq!(written, 0, "bit {bit} of {path}");
            });
            flips += 1;
        }
    }
    eprintln!("{flips} flipped bits of signed files");
    assert!(flips > 1000);
}

#[test]
fn a_flipped_bit_of_an_image_or_a_patch_never_reaches_the_slot() {
    let world = World::new();
    let mut files = world.files.clone();
    let hashed: Vec<String> = files.0.keys().cloned().collect();
    let hashed = hashed.iter().filter(|path| !path.ends_with(".json"));
    let delta = &world.release.deltas[0];
    let (mut used, mut refused) = (0, 0);
    let mut random = Random::from_seed(7);
    for path in hashed {
        let bits = files.0[path].len() * 8;
        // The prefix and the start of the head, then anywhere.
        let places = (0..400)
            .step_by(37)
            .chain((0..30).map(|_| random.next_u64() as usize % bits));
        let is_delta = [delta.boot, delta.root]
            .iter()
            .any(|one| one.path() == *path);
        let is_image = path.starts_with("images/");
        for bit in places.filter(|bit| *bit < bits).collect::<Vec<_>>() {
            flipped(&mut files, path, bit, |files| {
                // Whatever is broken, the other ways make the version whole.
                let (_, outcome) = world.update(files, ALL);
                assert_eq!(outcome, Ok(()), "bit {bit} of {path}");
                // Alone, it gives an error or is replaced by chunks of the whole image.
                let ways = match (is_delta, is_image) {
                    (true, _) => 0..1,
                    (_, false) => 1..2,
                    (_, true) => 0..0,
                };
                let (_, outcome) = world.update(files, ways);
                assert_eq!(
                    outcome.is_err(),
                    is_image,
                    "bit {bit} of {path}: {outcome:?}"
                );
                match outcome {
                    Ok(()) => used += 1,
                    Err(why) => {
                        refused += 1;
                        assert!(why.contains("other bytes"), "{why}");
                    }
                }
            });
        }
    }
    eprintln!("{refused} flipped bits refused, {used} made up for by the whole image");
    assert!(used > 100 && refused > 60);
}
