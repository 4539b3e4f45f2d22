//! The cuts: each starts the machine from what the one before left, and ends with the power.

use std::time::{Duration, Instant};

use berth_chance::Random;
use berth_power::{Book, Cut, Disk, Life, News, Totals, Typical, table_is_whole};

use super::machine::{Heard, Rig};
use super::versions::Shelf;
use super::{Error, Options, Outcome, say};

/// Versions that a machine is updated to before it gets a new disk.
const UPDATES: usize = 3;
/// One start in so many finds a firmware that remembers nothing.
const ERASED: usize = 8;
/// The longest pause between two looks at what is due.
const PAUSE: Duration = Duration::from_millis(50);

/// A machine whose power is cut.
struct Victim<'a, 's> {
    shelf: &'a Shelf<'s>,
    rig: &'a mut Rig,
    book: Book,
    disk: Disk,
    pending: u64,
    typical: Typical,
    totals: Totals,
}

/// One time that the power is on.
struct Run {
    life: Life,
    cut: Cut,
    started: Instant,
    up: Option<Instant>,
    due: Option<Instant>,
    counted: bool,
}

/// Why a life ended.
enum End {
    Error(Error),
    Broken(String),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Cuts the power as often as the user wants.
pub(super) fn test(
    shelf: &mut Shelf<'_>,
    rig: &mut Rig,
    options: &Options,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    shelf.fill(1 + UPDATES)?;
    let disk = rig.disk(&shelf.disk())?;
    let mut victim = Victim {
        book: Book::new(shelf.releases().to_vec()),
        shelf,
        rig,
        disk,
        pending: 0,
        typical: Typical::default(),
        totals: Totals {
            disks: 1,
            ..Totals::default()
        },
    };
    victim.rig.forget_variables();
    let mut random = Random::from_seed(options.seed);
    say(format!(
        "cutting the power {} times (seed {})",
        options.power_cuts, options.seed
    ));
    while victim.totals.came_back < options.power_cuts {
        if let Err(end) = victim.life(&mut random) {
            match end {
                End::Error(error) => return Err(error),
                End::Broken(sentence) => {
                    say(format!("BROKEN: {sentence}"));
                    outcome.broken.push(sentence);
                    break;
                }
            }
        }
    }
    outcome.power = Some(victim.totals);
    Ok(())
}

impl Victim<'_, '_> {
    fn life(&mut self, random: &mut Random) -> Result<(), End> {
        if (self.book.is_over() || self.book.came_up())
            && !self.book.offer_next()
            && self.book.is_over()
        {
            self.replace_disk()?;
        }
        self.shelf.offer(self.book.offered());
        if random.below(ERASED) == 0 && self.rig.forget_variables() {
            self.totals.erased += 1;
            self.book.variables_are_erased();
        }
        let mut run = Run {
            life: Life::default(),
            cut: Cut::choose(random, &self.typical),
            started: Instant::now(),
            up: None,
            due: None,
            counted: false,
        };
        let qemu = self.rig.start(&self.disk)?;
        let watched = self.watch(&mut run);
        self.disk.cut();
        // What was said before the power went counts.
        for line in self.rig.kill(qemu)? {
            if watched.is_ok() {
                self.line(&mut run, &line)?;
            }
        }
        let phase = run.life.phase();
        let loss = self.disk.settle(random);
        self.totals.cut(phase.clone(), loss);
        self.pending += 1;
        watched?;
        say(format!(
            "cut {} after {:.1} s ({phase}): {} writes unflushed, {} lost, {} torn",
            self.totals.cuts,
            run.started.elapsed().as_secs_f32(),
            loss.unflushed,
            loss.dropped,
            loss.torn
        ));
        Ok(())
    }

    fn replace_disk(&mut self) -> Result<(), Error> {
        self.disk = self.rig.disk(&self.shelf.disk())?;
        self.book = Book::new(self.shelf.releases().to_vec());
        self.book.offer_next();
        self.pending = 0;
        self.totals.disks += 1;
        self.rig.forget_variables();
        Ok(())
    }

    /// Follows the console until the power goes, or it is time for that.
    fn watch(&mut self, run: &mut Run) -> Result<(), End> {
        if let Cut::Early(delay) = run.cut {
            run.due = Some(run.started + delay);
        }
        // A commit may take all the time that the configuration gives it.
        let most = self.rig.within(60) + self.shelf.trial_time();
        loop {
            let now = Instant::now();
            if self.disk.is_dark() || run.due.is_some_and(|due| due <= now) {
                return Ok(());
            }
            if now > run.started + most {
                return Err(End::Broken(format!(
                    "nothing more happened for {} s ({})",
                    most.as_secs(),
                    run.life.phase()
                )));
            }
            let pause = run.due.map_or(PAUSE, |due| PAUSE.min(due - now));
            if let Heard::Line(line) = self.rig.hear(pause)? {
                self.line(run, &line)?;
            }
        }
    }

    fn line(&mut self, run: &mut Run, line: &str) -> Result<(), End> {
        let committed = self.book.committed();
        let news = run.life.line(line, &mut self.book, &mut self.disk);
        let news = news.map_err(End::Broken)?;
        self.totals.committed += (self.book.committed() - committed) as u64;
        let Some(news) = news else {
            return Ok(());
        };
        match news {
            News::Up { trial } => {
                self.totals.starts += 1;
                self.totals.trials += u64::from(trial);
                self.totals.came_back += std::mem::take(&mut self.pending);
                if run.up.is_none() {
                    self.typical.saw_up(run.started.elapsed());
                    self.disk.count_to(run.cut.moment());
                }
                run.up = Some(Instant::now());
            }
            News::Tabled { repaired } => {
                self.totals.repaired += u64::from(repaired);
                self.table_becomes_whole()?;
            }
            News::Restarts | News::Committed | News::Current => {
                if !std::mem::replace(&mut run.counted, true) {
                    let elapsed = run.up.map_or(Duration::ZERO, |up| up.elapsed());
                    self.typical.saw(self.disk.counts(), elapsed);
                }
            }
            News::Rejected | News::RejectedBefore => self.totals.rejected += 1,
            News::Unknown => self.totals.unknown += 1,
            News::Starved => self.totals.starved += 1,
        }
        if let Some(delay) = run.cut.after(news) {
            run.due.get_or_insert(Instant::now() + delay);
        }
        Ok(())
    }

    fn table_becomes_whole(&mut self) -> Result<(), End> {
        let until = Instant::now() + self.rig.within(1);
        while !table_is_whole(&mut self.disk) {
            if self.disk.wait(PAUSE) {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(End::Broken("the partition table was not repaired".into()));
            }
        }
        Ok(())
    }
}
