//! Machines whose power goes, again and again: QEMU is killed, what was not flushed is dropped or
//! torn, and the next start has to come up from what is left and go on with its update.
//!
//! A [`Lane`] is one machine with a web server of its own. The version after the one that it runs
//! is always offered; when there is none left, or it cannot be got (a cut in a trial makes the
//! machine reject that version), the next one is; after the last, the machine gets a new disk.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use berth_chance::Random;
use berth_power::{Book, Cut, Disk, Life, Loss, News, Release, Totals, Typical, table_is_whole};
use berth_slots::state::Booted;

use crate::image::Image;
use crate::published::{PORT, Published, Version};
use crate::{Artifacts, Error, Machine, http, within};

/// The firmware holds the boot image twice.
const MEMORY_MIB: u32 = 192;
const DISK_BYTES: u64 = 512 << 20;
/// One start in so many finds a firmware that remembers nothing.
const ERASED: usize = 12;
/// The longest pause between two looks at what is due.
const PAUSE: Duration = Duration::from_millis(50);
/// Sums are printed after so many cuts.
const PROGRESS: u64 = 25;
/// How long one request for the page may take.
const PAGE: Duration = Duration::from_secs(5);

/// One machine.
pub struct Lane {
    name: String,
    seed: u64,
    published: Published,
    images: Vec<Image>,
    releases: Vec<Release>,
    book: Book,
    disk: Disk,
    /// Cuts since PID 1 came up the last time.
    pending: u64,
    lives: u64,
    /// The last life ended with a trial that waits to be started.
    armed: bool,
    typical: [Typical; 3],
    totals: Totals,
    failures: Vec<String>,
}

impl Lane {
    /// A machine with so many versions to come.
    pub fn new(name: &str, seed: u64, updates: usize) -> Result<Self, Error> {
        let published = Published::new()?;
        let mut images = Vec::new();
        let mut releases = Vec::new();
        for number in 1..=updates + 1 {
            let version = number.to_string();
            let image = published.build(&Version::good(&version).within(within(40)))?;
            published.publish_with(&image, &["--deltas", "1"])?;
            published.keep_offer(&version)?;
            let root = Booted::root_of_command_line(&image.command_line()?);
            let root = root.ok_or_else(|| Error::broken("the boot image pins no root"))?;
            releases.push(Release { version, root });
            images.push(image);
        }
        let disk = new_disk(&images)?;
        Ok(Self {
            name: name.to_owned(),
            seed,
            published,
            images,
            book: Book::new(releases.clone()),
            releases,
            disk,
            pending: 0,
            lives: 0,
            armed: false,
            typical: [Typical::default(); 3],
            totals: Totals {
                disks: 1,
                ..Totals::default()
            },
            failures: Vec::new(),
        })
    }

    /// Cuts until so many cuts, of all lanes, were followed by a start that came up.
    pub fn run(
        mut self,
        wanted: u64,
        came_back: &AtomicU64,
    ) -> Result<(Totals, Vec<String>), Error> {
        while came_back.load(Ordering::Relaxed) < wanted {
            if self.book.is_over() || self.book.came_up() {
                let none_left = !self.book.offer_next();
                if none_left && self.book.is_over() {
                    self.replace_disk()?;
                }
            }
            let offered = self.releases.get(self.book.offered());
            let offered = offered.map_or_else(String::new, |release| release.version.clone());
            self.published.offer(&offered)?;
            let before = self.totals.came_back;
            if let Err(error) = self.life() {
                // One machine is lost; what it says is kept, and another one takes its place.
                println!("{}: FAILED: {error}", self.name);
                self.failures.push(error.to_string());
                self.replace_disk()?;
            }
            came_back.fetch_add(self.totals.came_back - before, Ordering::Relaxed);
        }
        Ok((self.totals, self.failures))
    }

    fn replace_disk(&mut self) -> Result<(), Error> {
        self.disk = new_disk(&self.images)?;
        self.book = Book::new(self.releases.clone());
        self.book.offer_next();
        self.pending = 0;
        self.armed = false;
        self.totals.disks += 1;
        remove(&self.published.variables())
    }

    /// Which of the typical lives the next one will be.
    fn kind(&self) -> usize {
        match (self.armed, self.book.offered()) {
            (true, _) => 2,
            (false, 1) => 1,
            (false, _) => 0,
        }
    }

    /// From power to power cut.
    fn life(&mut self) -> Result<(), Error> {
        self.lives += 1;
        let seed = self.seed.wrapping_mul(1_000_003).wrapping_add(self.lives);
        let mut random = Random::from_seed(seed);
        let kind = self.kind();
        let cut = Cut::choose(&mut random, &self.typical[kind]);
        let variables = self.published.variables();
        if random.below(ERASED) == 0 && variables.exists() {
            remove(&variables)?;
            self.totals.erased += 1;
            self.book.variables_are_erased();
        }
        let kept = self.keep_beginning()?;
        let socket = self.published.scratch().join("power");
        remove(&socket)?;
        self.disk
            .power_on(&socket)
            .map_err(Error::file("serving", &socket))?;
        let machine = self.start(&socket)?;
        let mut run = Run {
            life: Life::default(),
            read: 0,
            started: Instant::now(),
            up: None,
            due: None,
            armed: self.armed,
            fresh: true,
        };
        let watched = self.watch(&machine, &mut run, cut);
        let by_disk = self.disk.is_dark();
        self.disk.cut();
        machine.kill()?;
        // What was said before the power went counts.
        machine.console().closed(PAGE);
        let rest = match watched {
            Ok(()) => self.read(&machine, &mut run, cut),
            Err(error) => Err(error),
        };
        self.armed = run.armed;
        let phase = run.life.phase();
        let loss = self.disk.settle(&mut random);
        self.pending += 1;
        self.totals.cut(phase.clone(), loss);
        println!(
            "{} cut {} (seed {seed}): {cut:?}{} in {:.1} s, {phase}, version {} of {} offered, {}",
            self.name,
            self.lives,
            if by_disk { ", to the operation," } else { "" },
            run.started.elapsed().as_secs_f32(),
            self.book.committed() + 1,
            self.book.offered() + 1,
            describe(loss)
        );
        if self.lives.is_multiple_of(PROGRESS) {
            println!("{} so far: {}", self.name, self.totals);
        }
        match rest {
            Ok(()) => kept.forget(),
            Err(error) => Err(kept.keep(&machine, &error)),
        }
    }

    fn start(&self, socket: &std::path::Path) -> Result<Machine, Error> {
        let node = format!(
            "driver=nbd,node-name=power,server.type=unix,server.path={}",
            socket.display()
        );
        Machine::named(&self.name)
            .uefi_with(self.published.variables())
            .memory(MEMORY_MIB)
            .forward(PORT)
            .headless()
            .reboots()
            .with(["-blockdev", &node, "-device", "virtio-blk-pci,drive=power"])
            .start()
    }

    /// Follows the console until the power goes, or it is time for that.
    fn watch(&mut self, machine: &Machine, run: &mut Run, cut: Cut) -> Result<(), Error> {
        if let Cut::Early(delay) = cut {
            run.due = Some(run.started + delay);
        }
        let deadline = run.started + within(30);
        loop {
            let now = Instant::now();
            if self.disk.is_dark() || run.due.is_some_and(|due| due <= now) {
                return Ok(());
            }
            if now > deadline {
                return Err(machine.broken("nothing more happens"));
            }
            let pause = run.due.map_or(PAUSE, |due| PAUSE.min(due - now));
            machine.console().wait_beyond(run.read, pause);
            self.read(machine, run, cut)?;
        }
    }

    fn read(&mut self, machine: &Machine, run: &mut Run, cut: Cut) -> Result<(), Error> {
        let text = machine.console().lines_from(run.read);
        run.read += text.len();
        for line in text.lines() {
            let committed = self.book.committed();
            let news = run.life.line(line, &mut self.book, &mut self.disk);
            let news = news.map_err(|broken| machine.broken(&broken))?;
            self.totals.committed += (self.book.committed() - committed) as u64;
            if let Some(news) = news {
                self.take(machine, run, cut, news)?;
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        machine: &Machine,
        run: &mut Run,
        cut: Cut,
        news: News,
    ) -> Result<(), Error> {
        let elapsed = run.up.map_or(Duration::ZERO, |up| up.elapsed());
        let kind = self.kind();
        match news {
            News::Up { trial } => {
                self.totals.starts += 1;
                self.totals.trials += u64::from(trial);
                self.totals.came_back += std::mem::take(&mut self.pending);
                if run.up.is_none() {
                    self.typical[kind].saw_up(run.started.elapsed());
                    // Firmware flushes too; what counts is what the machine does.
                    self.disk.count_to(cut.moment());
                }
                run.up = Some(Instant::now());
                run.armed = false;
            }
            News::Tabled { repaired } => {
                self.totals.repaired += u64::from(repaired);
                self.table_becomes_whole(machine)?;
            }
            News::Restarts => {
                run.armed = true;
                run.saw(&mut self.typical[kind], &self.disk, elapsed);
            }
            News::Committed | News::Current => {
                run.saw(&mut self.typical[kind], &self.disk, elapsed);
                self.fetch_page(machine)?;
            }
            News::Rejected | News::RejectedBefore => self.totals.rejected += 1,
            News::Unknown => self.totals.unknown += 1,
            News::Starved => self.totals.starved += 1,
        }
        if let Some(delay) = cut.after(news) {
            run.due.get_or_insert(Instant::now() + delay);
        }
        Ok(())
    }

    /// The updater, which may write the table again, is started later.
    fn table_becomes_whole(&mut self, machine: &Machine) -> Result<(), Error> {
        let until = Instant::now() + within(1);
        while !table_is_whole(&mut self.disk) {
            if self.disk.wait(PAUSE) {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(machine.broken("the partition table was not repaired"));
            }
        }
        Ok(())
    }

    fn fetch_page(&mut self, machine: &Machine) -> Result<(), Error> {
        let wanted = format!("version {}", self.book.committed_version());
        let until = Instant::now() + within(10);
        let port = machine.port(PORT)?;
        loop {
            match http::get_within(port, "/", PAGE) {
                Ok(page) if page.text().trim() == wanted => {
                    self.totals.pages += 1;
                    return Ok(());
                }
                Ok(page) => {
                    return Err(machine
                        .broken(&format!("it serves {:?}, not {wanted}", page.text().trim())));
                }
                // A machine whose disk is gone owes nobody a page.
                Err(_) if self.disk.is_dark() => return Ok(()),
                Err(_) if Instant::now() < until => {}
                Err(error) => return Err(machine.broken(&format!("no page: {error}"))),
            }
        }
    }

    /// The machine as the last cut left it, for whoever looks into a failure.
    fn keep_beginning(&self) -> Result<Beginning, Error> {
        let variables = self.published.variables();
        let copy = self.published.scratch().join("variables-before.fd");
        remove(&copy)?;
        if variables.exists() {
            std::fs::copy(&variables, &copy).map_err(Error::file("copying", &variables))?;
        }
        Ok(Beginning {
            name: format!("{}-failure-{}", self.name, self.lives),
            disk: self.disk.copy(),
            variables: copy,
        })
    }
}

/// One life, as far as it got.
struct Run {
    life: Life,
    read: usize,
    started: Instant,
    up: Option<Instant>,
    due: Option<Instant>,
    armed: bool,
    /// Nothing has ended yet: what is counted since the power came is of one kind.
    fresh: bool,
}

impl Run {
    fn saw(&mut self, typical: &mut Typical, disk: &Disk, elapsed: Duration) {
        if std::mem::take(&mut self.fresh) {
            typical.saw(disk.counts(), elapsed);
        }
    }
}

struct Beginning {
    name: String,
    disk: Disk,
    variables: PathBuf,
}

impl Beginning {
    fn forget(self) -> Result<(), Error> {
        remove(&self.variables)
    }

    /// Writes disk, variables and console where they stay.
    fn keep(self, machine: &Machine, error: &Error) -> Error {
        let kept = || -> Result<PathBuf, Error> {
            let artifacts = Artifacts::new(&self.name)?;
            let disk = artifacts.path("disk.raw");
            self.disk
                .save(&disk)
                .map_err(Error::file("writing", &disk))?;
            let console = artifacts.path("console.log");
            std::fs::write(&console, machine.console().text())
                .map_err(Error::file("writing", &console))?;
            if self.variables.exists() {
                let to = artifacts.path("variables.fd");
                std::fs::copy(&self.variables, &to).map_err(Error::file("copying", &to))?;
            }
            Ok(artifacts.directory().to_owned())
        };
        match kept() {
            Ok(path) => Error::broken(format!(
                "{error}; the machine as it was before: {}",
                path.display()
            )),
            Err(why) => Error::broken(format!("{error}; and nothing is kept of it: {why}")),
        }
    }
}

fn new_disk(images: &[Image]) -> Result<Disk, Error> {
    let first = images.first().map(Image::disk).unwrap_or_default();
    Disk::of(&first, DISK_BYTES).map_err(Error::file("reading", &first))
}

fn describe(loss: Loss) -> String {
    format!(
        "{} writes unflushed, {} dropped, {} torn, {} of the table",
        loss.unflushed, loss.dropped, loss.torn, loss.table_writes
    )
}

fn remove(path: &std::path::Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("removing", path)(error))
        }
        _ => Ok(()),
    }
}
