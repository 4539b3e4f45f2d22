//! The disk as a client of the protocol sees it, and what a cut leaves of what it wrote.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use berth_chance::Random;
use berth_power::{Disk, Moment};
use tempfile::TempDir;

const BYTES: u64 = 1 << 20;
const SECTOR: usize = 512;
const READ: u16 = 0;
const WRITE: u16 = 1;
const FLUSH: u16 = 3;
/// What an image holds before anybody writes.
const OLD: u8 = 0x11;
const NEW: u8 = 0x22;

/// A disk in a directory of its own.
struct Bench {
    scratch: TempDir,
    disk: Disk,
    turns: u32,
}

impl Bench {
    fn new() -> io::Result<Self> {
        let scratch = TempDir::new()?;
        let image = scratch.path().join("image");
        std::fs::write(&image, vec![OLD; 100 * SECTOR])?;
        let disk = Disk::of(&image, BYTES)?;
        let turns = 0;
        Ok(Self {
            scratch,
            disk,
            turns,
        })
    }

    fn power_on(&mut self, moment: Option<Moment>) -> io::Result<Client> {
        self.turns += 1;
        let socket = self.scratch.path().join(self.turns.to_string());
        self.disk.power_on(&socket)?;
        let client = Client::connect(&socket)?;
        self.disk.count_to(moment);
        Ok(client)
    }
}

/// A client, as QEMU is one.
struct Client(UnixStream);

impl Client {
    fn connect(socket: &std::path::Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut hello = [0; 18];
        stream.read_exact(&mut hello)?;
        assert_eq!(&hello[..16], b"NBDMAGICIHAVEOPT");
        stream.write_all(&[0, 0, 0, 3])?;
        let mut client = Self(stream);
        // An option that is not known, structured replies, then the export.
        assert_eq!(client.option(8, &[])?, [(0x8000_0001, Vec::new())]);
        let answers = client.option(7, &[0, 0, 0, 0, 0, 0])?;
        let (kind, export) = &answers[0];
        assert_eq!((*kind, &export[2..10]), (3, &BYTES.to_be_bytes()[..]));
        Ok(client)
    }

    fn option(&mut self, option: u32, data: &[u8]) -> io::Result<Vec<(u32, Vec<u8>)>> {
        self.0.write_all(b"IHAVEOPT")?;
        self.0.write_all(&option.to_be_bytes())?;
        self.0.write_all(&(data.len() as u32).to_be_bytes())?;
        self.0.write_all(data)?;
        let mut answers = Vec::new();
        loop {
            let mut head = [0; 20];
            self.0.read_exact(&mut head)?;
            let word = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|byte| head[at + byte]));
            let mut data = vec![0; word(16) as usize];
            self.0.read_exact(&mut data)?;
            answers.push((word(12), data));
            if word(12) != 3 {
                return Ok(answers);
            }
        }
    }

    fn ask(&mut self, kind: u16, offset: u64, length: usize, data: &[u8]) -> io::Result<()> {
        let mut request = Vec::new();
        request.extend(0x2560_9513_u32.to_be_bytes());
        request.extend([0, 0]);
        request.extend(kind.to_be_bytes());
        request.extend(7_u64.to_be_bytes());
        request.extend(offset.to_be_bytes());
        request.extend((length as u32).to_be_bytes());
        request.extend(data);
        self.0.write_all(&request)
    }

    fn answer(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut head = [0; 16];
        self.0.read_exact(&mut head)?;
        assert_eq!(head[4..8], [0; 4], "an error");
        let mut data = vec![0; length];
        self.0.read_exact(&mut data)?;
        Ok(data)
    }

    fn read(&mut self, sector: u64, sectors: usize) -> io::Result<Vec<u8>> {
        self.ask(READ, sector * SECTOR as u64, sectors * SECTOR, &[])?;
        self.answer(sectors * SECTOR)
    }

    fn write(&mut self, sector: u64, sectors: usize) -> io::Result<()> {
        let data = vec![NEW; sectors * SECTOR];
        self.ask(WRITE, sector * SECTOR as u64, data.len(), &data)?;
        self.answer(0).map(drop)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.ask(FLUSH, 0, 0, &[])?;
        self.answer(0).map(drop)
    }
}

#[test]
fn what_was_flushed_survives_every_cut_and_what_was_not_survives_some() -> io::Result<()> {
    let (mut kept, mut dropped, mut torn) = (0, 0, 0);
    for seed in 0..100 {
        let mut bench = Bench::new()?;
        let mut client = bench.power_on(None)?;
        client.write(40, 8)?;
        client.flush()?;
        for sector in [48, 56, 64] {
            client.write(sector, 8)?;
        }
        assert_eq!(
            client.read(48, 24)?,
            [NEW; 24 * SECTOR],
            "as it was written"
        );
        bench.disk.cut();
        let loss = bench.disk.settle(&mut Random::from_seed(seed));
        assert_eq!(loss.unflushed, 3);
        assert!(loss.torn <= 1 && loss.dropped + loss.torn <= 3);

        let mut client = bench.power_on(None)?;
        assert_eq!(client.read(39, 1)?, [OLD; SECTOR]);
        assert_eq!(client.read(40, 8)?, [NEW; 8 * SECTOR], "flushed");
        let sectors: Vec<u8> = (48..72)
            .map(|sector| Ok(client.read(sector, 1)?[0]))
            .collect::<io::Result<_>>()?;
        let mut whole = [0, 0];
        for write in sectors.chunks(8) {
            whole[0] += u64::from(write == [OLD; 8]);
            whole[1] += u64::from(write == [NEW; 8]);
        }
        assert_eq!(whole[0], loss.dropped);
        assert_eq!(3 - whole[0] - whole[1], loss.torn);
        kept += whole[1];
        dropped += loss.dropped;
        torn += loss.torn;
    }
    assert!(
        kept > 20 && dropped > 20 && torn > 10,
        "{kept} {dropped} {torn}"
    );
    Ok(())
}

#[test]
fn the_power_goes_with_the_write_or_flush_that_was_chosen_and_nothing_is_done_after_it()
-> io::Result<()> {
    for moment in [
        Moment::Write(3),
        Moment::FlushAsked(2),
        Moment::FlushDone(2),
        Moment::TableWrite(1),
    ] {
        let mut bench = Bench::new()?;
        let mut client = bench.power_on(Some(moment))?;
        let script = move || -> io::Result<()> {
            client.write(50, 2)?;
            client.flush()?;
            client.write(52, 2)?;
            client.write(54, 2)?;
            client.flush()?;
            client.write(1, 1)?;
            client.write(56, 2)
        };
        let disk = bench.disk.clone();
        std::thread::scope(|scope| {
            let script = scope.spawn(script);
            assert!(disk.wait(Duration::from_secs(20)), "{moment:?}");
            assert!(!script.is_finished(), "a dark disk is silent: {moment:?}");
            disk.settle(&mut Random::from_seed(3));
            assert!(script.join().is_ok_and(|ended| ended.is_err()));
        });
        let mut client = bench.power_on(None)?;
        assert_eq!(client.read(50, 2)?, [NEW; 2 * SECTOR], "{moment:?}");
        assert_eq!(client.read(56, 2)?, [OLD; 2 * SECTOR], "{moment:?}");
        if moment == Moment::FlushDone(2) || moment == Moment::TableWrite(1) {
            assert_eq!(client.read(52, 4)?, [NEW; 4 * SECTOR], "{moment:?}");
        }
    }
    Ok(())
}

#[test]
fn the_power_goes_before_the_write_that_was_chosen_and_what_was_not_flushed_is_lost()
-> io::Result<()> {
    let mut bench = Bench::new()?;
    let mut client = bench.power_on(None)?;
    let chosen = |offset, bytes: &[u8]| offset == 54 * SECTOR as u64 && bytes == [NEW; SECTOR];
    bench.disk.dark_before(chosen);
    client.write(54, 2)?;
    client.flush()?;
    client.write(56, 2)?;
    std::thread::scope(|scope| {
        let script = scope.spawn(move || client.write(54, 1));
        assert!(bench.disk.wait(Duration::from_secs(20)));
        bench.disk.lose();
        assert!(script.join().is_ok_and(|ended| ended.is_err()));
    });
    let mut client = bench.power_on(None)?;
    assert_eq!(client.read(54, 2)?, [NEW; 2 * SECTOR], "flushed");
    assert_eq!(client.read(56, 2)?, [OLD; 2 * SECTOR], "not flushed");
    Ok(())
}
