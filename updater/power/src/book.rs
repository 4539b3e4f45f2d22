//! What is known about a machine from start to start, and what its console must never say.
//!
//! - What comes up is the committed version, or one trial of the version that is offered; never
//!   anything older than what was once seen committed, and no version is tried twice. There is one
//!   exception: a cut in the first second of a trial, before that is saved, with which the firmware
//!   loses its variables as well. Then nothing is left that could tell, and the machine says so.
//! - It comes up from its verified root, every phase of its start ends well, and it does not panic.
//! - After the phase that repairs it, the partition table is whole (the caller looks at the disk).

use berth_slots::gpt::{self, Repair};
use berth_slots::slot::Pair;
use berth_slots::state::Booted;
use berth_slots::verity::RootHash;

use crate::{Disk, Line};

/// What a kernel that cannot go on writes.
const PANIC: &str = "Kernel panic - not syncing";
/// Panics of an emulated machine that the computer had no time for: they are about clocks, and
/// no disk has a part in them.
const STARVED: [&str; 2] = ["IO-APIC + timer doesn't work", "softlockup: hung tasks"];

/// What a machine says whose firmware has lost its variables.
const FORGOTTEN: &str = "the firmware forgot the request to try version";

/// A version of the machine.
#[derive(Clone, Debug)]
pub struct Release {
    /// Its name.
    pub version: String,
    /// Its root.
    pub root: RootHash,
}

/// What is known. Versions are numbers in the list of releases.
#[derive(Clone, Debug)]
pub struct Book {
    releases: Vec<Release>,
    committed: usize,
    offered: usize,
    came_up: bool,
    /// The trial has said that it is one, so its record is on the disk.
    saved: bool,
    /// The firmware has lost its variables since that trial.
    erased: bool,
    /// The offered version's second trial.
    second: Second,
    over: bool,
    /// The version before the offered one, when a cut in its trial left open what became of it.
    in_doubt: Option<usize>,
}

/// What is known of a second trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Second {
    /// There must not be one.
    No,
    /// The machine has said that it cannot know of the first, and rightly.
    Allowed,
    /// It was started.
    Started,
}

/// A thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// PID 1 came up from a verified root of the right version.
    Up {
        /// It is a trial.
        trial: bool,
    },
    /// The partition table has been looked after: this is what was wrong with it.
    Tabled {
        /// It was not as it should be.
        repaired: bool,
    },
    /// The machine is about to restart by itself.
    Restarts,
    /// The offered version was tried and stays.
    Committed,
    /// The offered version was given up.
    Rejected,
    /// The version before the offered one was given up.
    RejectedBefore,
    /// Whether the offered version was tried is known to nobody but this book.
    Unknown,
    /// The newest version runs.
    Current,
    /// The computer had no time for the machine.
    Starved,
}

/// One time that the power was on.
#[derive(Clone, Debug, Default)]
pub struct Life {
    start: Start,
    /// Starts whose PID 1 came up.
    pub ups: u64,
}

/// One start, from the firmware on.
#[derive(Clone, Debug, Default)]
struct Start {
    root: Option<RootHash>,
    kernel: bool,
    up: bool,
    trial: bool,
    phase: &'static str,
}

impl Book {
    /// A new machine, which runs the first release.
    #[must_use]
    pub fn new(releases: Vec<Release>) -> Self {
        Self {
            releases,
            committed: 0,
            offered: 0,
            came_up: false,
            saved: false,
            erased: false,
            second: Second::No,
            over: true,
            in_doubt: None,
        }
    }

    /// The next version is offered; false when there is none.
    pub fn offer_next(&mut self) -> bool {
        if self.offered + 1 >= self.releases.len() {
            return false;
        }
        self.in_doubt = (self.came_up && !self.over).then_some(self.offered);
        self.offered += 1;
        self.came_up = false;
        self.saved = false;
        self.erased = false;
        self.second = Second::No;
        self.over = false;
        true
    }

    /// The firmware has lost its variables.
    pub fn variables_are_erased(&mut self) {
        self.erased = self.came_up;
    }

    /// The number of the version that is offered.
    #[must_use]
    pub fn offered(&self) -> usize {
        self.offered
    }

    /// The number of the newest version that was seen committed.
    #[must_use]
    pub fn committed(&self) -> usize {
        self.committed
    }

    /// Whether the offered version was committed or given up.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether the offered version has come up: after a cut it is committed already, or rejected.
    #[must_use]
    pub fn came_up(&self) -> bool {
        self.came_up
    }

    /// The name of the version that was seen committed.
    #[must_use]
    pub fn committed_version(&self) -> &str {
        self.name(self.committed)
    }

    fn name(&self, number: usize) -> &str {
        self.releases
            .get(number)
            .map_or("?", |release| &release.version)
    }

    fn number(&self, version: &str) -> Option<usize> {
        let mut known = self.releases.iter();
        known.position(|release| release.version == version)
    }

    /// The version that the disk's table says is committed.
    fn on_disk(&self, disk: &mut Disk) -> Result<Option<usize>, String> {
        let sectors = disk.sectors();
        let loaded = gpt::load(disk, sectors).map_err(|error| error.to_string())?;
        // A disk before its first boot has no second slot.
        let Ok(pair) = Pair::of(&loaded.table) else {
            return Ok(None);
        };
        let guid = pair.committed.root_guid;
        let mut known = self.releases.iter();
        let found = known.position(|release| release.root.partition_guid() == guid);
        found
            .map(Some)
            .ok_or_else(|| format!("the committed slot's root is nobody's: {guid:?}"))
    }

    fn comes_up(&mut self, root: Option<RootHash>, disk: &mut Disk) -> Result<bool, String> {
        let root =
            root.ok_or("PID 1 is up and no verified root is on the kernel's command line")?;
        let mut known = self.releases.iter();
        let running = known.position(|release| release.root == root);
        let running = running.ok_or_else(|| format!("an unknown root came up: {root:?}"))?;
        let version = self.name(running).to_owned();
        let committed = self.on_disk(disk)?.unwrap_or(0);
        if committed < self.committed {
            return Err(format!(
                "version {} was committed, and the table has {}",
                self.name(self.committed),
                self.name(committed)
            ));
        }
        if committed > self.committed {
            let tried = committed == self.offered && self.came_up;
            if !tried && self.in_doubt != Some(committed) {
                return Err(format!(
                    "version {} is committed without a trial",
                    self.name(committed)
                ));
            }
            self.committed = committed;
            self.over |= committed == self.offered;
        }
        if running == committed {
            return Ok(false);
        }
        if running != self.offered {
            return Err(format!(
                "version {version} came up; committed is {}, offered {}",
                self.name(committed),
                self.name(self.offered)
            ));
        }
        self.second = match (self.came_up, self.second) {
            (false, second) => second,
            (true, Second::Allowed) => Second::Started,
            (true, Second::No) => {
                return Err(format!("version {version} is tried for the second time"));
            }
            (true, Second::Started) => {
                return Err(format!("version {version} is tried for the third time"));
            }
        };
        self.came_up = true;
        Ok(true)
    }

    fn says(&mut self, state: &str, line: &Line) -> Result<Option<News>, String> {
        let number = line.get("version").and_then(|version| self.number(version));
        let sentence = line.sentence.as_deref().unwrap_or_default();
        match (state, number) {
            ("committed", Some(number)) => {
                if number < self.committed || number > self.offered {
                    return Err(format!("it says: {sentence}"));
                }
                self.committed = number;
                self.over |= number == self.offered;
                Ok((number == self.offered).then_some(News::Committed))
            }
            ("rejected", Some(number)) => {
                if number == self.committed {
                    return Err(format!("the committed version was rejected: {sentence}"));
                }
                if number != self.offered {
                    let told = self.in_doubt.take_if(|doubt| *doubt == number);
                    return Ok(told.map(|_| News::RejectedBefore));
                }
                self.over = true;
                Ok(Some(News::Rejected))
            }
            ("current", Some(number)) if number == self.committed => Ok(Some(News::Current)),
            ("current", _) => Err(format!("it says: {sentence}")),
            ("trouble", _) if sentence.contains("cannot update itself") => Err(sentence.to_owned()),
            ("trying", Some(number)) if number == self.offered => {
                self.saved = true;
                Ok(None)
            }
            ("trouble", Some(number)) if number == self.offered && sentence.contains(FORGOTTEN) => {
                self.is_forgotten(sentence)
            }
            _ => Ok(None),
        }
    }

    /// The machine says that its firmware forgot the trial.
    fn is_forgotten(&mut self, sentence: &str) -> Result<Option<News>, String> {
        match (self.came_up, self.erased, self.second) {
            // It never began.
            (false, _, _) => Ok(None),
            (true, true, Second::No) if !self.saved => {
                self.second = Second::Allowed;
                Ok(Some(News::Unknown))
            }
            // Said again, after a cut before the second trial.
            (true, _, Second::Allowed) => Ok(None),
            (true, _, _) => Err(format!("it says: {sentence}")),
        }
    }
}

impl Life {
    /// Where it is, in a word.
    #[must_use]
    pub fn phase(&self) -> String {
        let phase = match (self.start.kernel, self.start.up) {
            (false, _) => "firmware",
            (true, false) => "kernel",
            (true, true) => self.start.phase,
        };
        match self.start.trial {
            true => format!("trial: {phase}"),
            false => phase.to_owned(),
        }
    }

    /// A whole line of the console.
    ///
    /// # Errors
    /// A promise that is broken, as a sentence.
    pub fn line(
        &mut self,
        text: &str,
        book: &mut Book,
        disk: &mut Disk,
    ) -> Result<Option<News>, String> {
        if text.contains(PANIC) {
            return match STARVED.iter().any(|panic| text.contains(panic)) {
                true => Ok(Some(News::Starved)),
                false => Err(format!("the kernel panicked: {}", text.trim())),
            };
        }
        if text.contains("BdsDxe: starting Boot") {
            // Before the kernel says so, firmware knows.
            self.start.trial = text.contains("Berth trial");
        }
        if text.contains("] Linux version ") {
            self.start.kernel = true;
        }
        if text.contains("Kernel command line:") {
            self.start.root = Booted::root_of_command_line(text);
        }
        if text.contains("reboot: Restarting system") {
            self.start = Start::default();
            return Ok(Some(News::Restarts));
        }
        match Line::parse(text) {
            Some(line) => self.said(&line, book, disk),
            None => Ok(None),
        }
    }

    fn said(
        &mut self,
        line: &Line,
        book: &mut Book,
        disk: &mut Disk,
    ) -> Result<Option<News>, String> {
        if let Some(phase) = line.get("phase").filter(|_| line.says("end")) {
            let result = line.get("result").unwrap_or_default();
            if result != "ok" {
                let sentence = line.sentence.as_deref().unwrap_or_default();
                return Err(format!("phase {phase} is {result}: {sentence}"));
            }
            match phase {
                "machine" => {
                    self.start.up = true;
                    self.start.phase = "start";
                    self.ups += 1;
                    self.start.trial = book.comes_up(self.start.root, disk)?;
                    let trial = self.start.trial;
                    return Ok(Some(News::Up { trial }));
                }
                "first-boot" => self.start.phase = "state",
                "updates" => self.start.phase = "updater starts",
                _ => {}
            }
            return Ok(None);
        }
        if let Some(repair) = line.get("repair") {
            let repaired = !matches!(repair, "none" | "disk-has-grown");
            return Ok(Some(News::Tabled { repaired }));
        }
        if line.get("shutdown").is_some() {
            self.start.phase = "restarting";
        }
        let Some(state) = line.get("update") else {
            return Ok(None);
        };
        let known = ["staging", "staged", "trying", "committed", "rejected"];
        if let Some(state) = known.into_iter().find(|known| *known == state) {
            self.start.phase = state;
        }
        book.says(state, line)
    }
}

/// Whether both copies of the disk's table are whole, equal and in their places.
#[must_use]
pub fn table_is_whole(disk: &mut Disk) -> bool {
    let sectors = disk.sectors();
    gpt::load(disk, sectors).is_ok_and(|loaded| loaded.repair == Repair::None)
}
