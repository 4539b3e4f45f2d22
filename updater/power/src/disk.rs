//! The disk: a medium, a cache in front of it, and the writes that are only in the cache.
//!
//! A write is acknowledged when it is in the cache. A flush moves all of the cache to the medium.
//! When the power goes, of the writes in the cache any part has reached the medium: each of them
//! or not, and one of them perhaps only up to, or only from, one of its sectors.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use berth_chance::Random;
use berth_slots::SECTOR;
use berth_slots::gpt::ReadSectors;

use crate::nbd;

/// Bytes that are kept as one piece.
const BLOCK: usize = 4096;
/// Sectors at the start and at the end of a disk that hold its partition table.
const TABLE_SECTORS: u64 = 34;

/// When the disk loses its power by itself. Numbers count from 1 since it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// With the n-th write, which is the last that it takes.
    Write(u64),
    /// The same, of the writes to the partition table.
    TableWrite(u64),
    /// When the n-th flush is asked for, before it is done.
    FlushAsked(u64),
    /// When the n-th flush is done, before anybody knows.
    FlushDone(u64),
}

/// What was done since the power came, or since [`Disk::count_to`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Writes.
    pub writes: u64,
    /// Of these, writes to the partition table.
    pub table_writes: u64,
    /// Flushes.
    pub flushes: u64,
}

/// What a cut did to the writes that were not flushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Writes that were not flushed.
    pub unflushed: u64,
    /// Of these, writes that are gone whole.
    pub dropped: u64,
    /// Of these, writes of which a part is gone: none or one.
    pub torn: u64,
    /// Of the unflushed, writes to the partition table.
    pub table_writes: u64,
}

/// A disk. Clones are the same disk.
#[derive(Clone)]
pub struct Disk(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// Whether a write, given the byte it begins at and what it holds, is the one.
type Chosen = Box<dyn FnMut(u64, &[u8]) -> bool + Send>;

struct State {
    image: Arc<File>,
    image_bytes: u64,
    sectors: u64,
    medium: Blocks,
    cache: Blocks,
    unflushed: Vec<Write>,
    counts: Counts,
    moment: Option<Moment>,
    before: Option<Chosen>,
    powered: bool,
    /// What the medium holds was decided since the last cut.
    settled: bool,
    /// Which of the times that the power came it is: a server of an earlier one is nobody.
    turn: u64,
}

/// Shared between a disk and its copies until one of them writes.
type Blocks = HashMap<u64, Arc<[u8; BLOCK]>>;

#[derive(Clone, Debug)]
struct Write {
    offset: u64,
    bytes: Vec<u8>,
}

/// What becomes of a request.
pub(crate) enum Outcome<T> {
    /// It was done.
    Done(T),
    /// There is no power (any more): no answer.
    Dark,
}

impl Disk {
    /// A disk of `bytes` (whole sectors) that begins with the bytes of an image, which is not
    /// changed.
    ///
    /// # Errors
    /// When the image cannot be read.
    pub fn of(image: &Path, bytes: u64) -> io::Result<Self> {
        let image = Arc::new(File::open(image)?);
        let image_bytes = image.metadata()?.len();
        let sectors = bytes.max(image_bytes) / SECTOR;
        Ok(Self::unpowered(image, image_bytes, sectors, Blocks::new()))
    }

    /// Gives it power, and serves one client at the socket, until [`Disk::cut`] or the moment
    /// that [`Disk::count_to`] is told.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn power_on(&self, socket: &Path) -> io::Result<()> {
        let listener = UnixListener::bind(socket)?;
        let mut state = self.lock();
        state.counts = Counts::default();
        state.moment = None;
        state.before = None;
        state.powered = true;
        state.settled = false;
        state.turn += 1;
        let turn = state.turn;
        drop(state);
        let disk = self.clone();
        thread::spawn(move || {
            // A client that breaks the protocol or goes away gets no more answers.
            if let Ok((stream, _)) = listener.accept() {
                let _ = nbd::serve(&disk, turn, &stream);
                // A closed socket would be an error to the guest. A dark disk is silent.
                disk.wait_until_settled(turn);
            }
        });
        Ok(())
    }

    /// Starts to count anew, and goes dark by itself at the moment, if there is one.
    pub fn count_to(&self, moment: Option<Moment>) {
        let mut state = self.lock();
        state.counts = Counts::default();
        state.moment = moment;
    }

    /// Goes dark by itself before the first write for which `chosen` says so, given the byte that
    /// it begins at and what it holds.
    pub fn dark_before(&self, chosen: impl FnMut(u64, &[u8]) -> bool + Send + 'static) {
        self.lock().before = Some(Box::new(chosen));
    }

    /// Whether the power is gone.
    #[must_use]
    pub fn is_dark(&self) -> bool {
        !self.lock().powered
    }

    /// Takes the power away: no request is done any more. What the medium holds is settled by
    /// [`Disk::settle`], when the client has ended.
    pub fn cut(&self) {
        self.lock().powered = false;
        self.0.changed.notify_all();
    }

    /// Waits until the power is gone, or for `most`; says whether it is.
    #[must_use]
    pub fn wait(&self, most: Duration) -> bool {
        let waited = self
            .0
            .changed
            .wait_timeout_while(self.lock(), most, |state| state.powered);
        !waited.unwrap_or_else(PoisonError::into_inner).0.powered
    }

    /// What was done since the power came, or since [`Disk::count_to`].
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Its size in sectors.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        self.lock().sectors
    }

    /// Another disk with what the medium of this one holds, without power.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = self.lock();
        Self::unpowered(
            Arc::clone(&state.image),
            state.image_bytes,
            state.sectors,
            state.medium.clone(),
        )
    }

    fn unpowered(image: Arc<File>, image_bytes: u64, sectors: u64, medium: Blocks) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                image,
                image_bytes,
                sectors,
                medium,
                cache: Blocks::new(),
                unflushed: Vec::new(),
                counts: Counts::default(),
                moment: None,
                before: None,
                powered: false,
                settled: true,
                turn: 0,
            }),
            changed: Condvar::new(),
        }))
    }

    /// Writes what the medium holds into a file, with holes.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let state = self.lock();
        let file = File::create(path)?;
        let mut image = vec![0; usize::try_from(state.image_bytes).unwrap_or(0)];
        state.image.read_exact_at(&mut image, 0)?;
        file.write_all_at(&image, 0)?;
        file.set_len(state.sectors * SECTOR)?;
        for (number, block) in &state.medium {
            file.write_all_at(&block[..], number * BLOCK as u64)?;
        }
        Ok(())
    }

    /// After a cut: decides what of the unflushed writes the medium has.
    pub fn settle(&self, random: &mut Random) -> Loss {
        let mut state = self.lock();
        let loss = state.settle(random);
        state.settled = true;
        self.0.changed.notify_all();
        loss
    }

    /// After a cut: nothing of the unflushed writes is on the medium.
    pub fn lose(&self) {
        let mut state = self.lock();
        state.unflushed.clear();
        state.cache.clear();
        state.settled = true;
        self.0.changed.notify_all();
    }

    /// What a client reads.
    pub(crate) fn read(&self, turn: u64, offset: u64, length: usize) -> Outcome<Vec<u8>> {
        let state = self.lock();
        if state.is_dark_for(turn) {
            return Outcome::Dark;
        }
        let mut bytes = vec![0; length];
        match state.read(offset, &mut bytes) {
            Ok(()) => Outcome::Done(bytes),
            // The harness's own file cannot be read: as good as no disk.
            Err(_) => Outcome::Dark,
        }
    }

    /// A client's write.
    pub(crate) fn write(&self, turn: u64, offset: u64, bytes: Vec<u8>) -> Outcome<()> {
        let mut state = self.lock();
        if state.is_dark_for(turn) {
            return Outcome::Dark;
        }
        let before = state.before.as_mut();
        if before.is_some_and(|chosen| chosen(offset, &bytes)) {
            return self.go_on_unless(true, state);
        }
        state.counts.writes += 1;
        if state.is_table(offset, bytes.len()) {
            state.counts.table_writes += 1;
        }
        if state.cache_write(offset, &bytes).is_err() {
            return Outcome::Dark;
        }
        state.unflushed.push(Write { offset, bytes });
        let counts = state.counts;
        let reached = match state.moment {
            Some(Moment::Write(number)) => counts.writes >= number,
            Some(Moment::TableWrite(number)) => counts.table_writes >= number,
            _ => false,
        };
        self.go_on_unless(reached, state)
    }

    /// A client's flush.
    pub(crate) fn flush(&self, turn: u64) -> Outcome<()> {
        let mut state = self.lock();
        if state.is_dark_for(turn) {
            return Outcome::Dark;
        }
        state.counts.flushes += 1;
        let number = state.counts.flushes;
        if matches!(state.moment, Some(Moment::FlushAsked(at)) if number >= at) {
            return self.go_on_unless(true, state);
        }
        state.flush();
        let reached = matches!(state.moment, Some(Moment::FlushDone(at)) if number >= at);
        self.go_on_unless(reached, state)
    }

    /// Its size.
    pub(crate) fn bytes(&self) -> u64 {
        self.lock().sectors * SECTOR
    }

    fn go_on_unless(&self, reached: bool, mut state: MutexGuard<'_, State>) -> Outcome<()> {
        if !reached {
            return Outcome::Done(());
        }
        state.powered = false;
        self.0.changed.notify_all();
        Outcome::Dark
    }

    fn wait_until_settled(&self, turn: u64) {
        let waiting = |state: &mut State| state.turn == turn && !state.settled;
        // Nobody is there to be told.
        drop(self.0.changed.wait_while(self.lock(), waiting));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_dark_for(&self, turn: u64) -> bool {
        !self.powered || self.turn != turn
    }

    fn is_table(&self, offset: u64, length: usize) -> bool {
        let end = offset + length as u64;
        offset < TABLE_SECTORS * SECTOR || end > (self.sectors - (TABLE_SECTORS - 1)) * SECTOR
    }

    /// What stands on the disk: the cache before the medium before the image.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let (number, within) = place(at);
            let length = (BLOCK - within).min(buffer.len() - done);
            let part = &mut buffer[done..done + length];
            match self.cache.get(&number).or_else(|| self.medium.get(&number)) {
                Some(block) => part.copy_from_slice(&block[within..within + length]),
                None => self.read_image(at, part)?,
            }
            done += length;
        }
        Ok(())
    }

    fn read_image(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let there = self.image_bytes.saturating_sub(offset);
        let there = buffer
            .len()
            .min(usize::try_from(there).unwrap_or(usize::MAX));
        let (image, behind) = buffer.split_at_mut(there);
        behind.fill(0);
        self.image.read_exact_at(image, offset)
    }

    fn cache_write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        for (number, within, part) in pieces(offset, bytes) {
            if !self.cache.contains_key(&number) {
                let mut block = [0; BLOCK];
                self.read(number * BLOCK as u64, &mut block)?;
                self.cache.insert(number, Arc::new(block));
            }
            if let Some(block) = self.cache.get_mut(&number) {
                Arc::make_mut(block)[within..within + part.len()].copy_from_slice(part);
            }
        }
        Ok(())
    }

    fn flush(&mut self) {
        self.medium.extend(self.cache.drain());
        self.unflushed.clear();
    }

    fn settle(&mut self, random: &mut Random) -> Loss {
        let writes = std::mem::take(&mut self.unflushed);
        let mut loss = Loss {
            unflushed: writes.len() as u64,
            ..Loss::default()
        };
        self.cache.clear();
        // All, none, or each by its own: the extremes are what happens most.
        let manner = random.below(4);
        let torn = random.below(writes.len());
        for (number, write) in writes.iter().enumerate() {
            loss.table_writes += u64::from(self.is_table(write.offset, write.bytes.len()));
            let sectors = write.bytes.len() / SECTOR as usize;
            let kept = match manner {
                0 => false,
                1 => true,
                _ => random.coin(),
            };
            let written = if number == torn && sectors > 1 && random.coin() {
                loss.torn += 1;
                let at = (1 + random.below(sectors - 1)) * SECTOR as usize;
                match random.coin() {
                    true => self.cache_write(write.offset, &write.bytes[..at]),
                    false => self.cache_write(write.offset + at as u64, &write.bytes[at..]),
                }
            } else if kept {
                self.cache_write(write.offset, &write.bytes)
            } else {
                loss.dropped += 1;
                Ok(())
            };
            // An image that cannot be read: the next start says so.
            drop(written);
        }
        self.flush();
        loss
    }
}

/// The block that a byte is in, and where in it.
fn place(offset: u64) -> (u64, usize) {
    let block = BLOCK as u64;
    (offset / block, (offset % block) as usize)
}

/// The parts of a write, block by block.
fn pieces(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, usize, &[u8])> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(done..).filter(|rest| !rest.is_empty())?;
        let (number, within) = place(offset + done as u64);
        let part = &rest[..rest.len().min(BLOCK - within)];
        done += part.len();
        Some((number, within, part))
    })
}

/// The disk as its client sees it now.
impl ReadSectors for Disk {
    fn read_sectors(&mut self, first: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.lock().read(first * SECTOR, buffer)
    }
}
