//! The machine's slots, and everything that is ever done to them. The only caller of the state
//! machine: it performs the actions in their order and stops at the first that fails, which
//! leaves the machine as a power cut there would.

use std::io;

use crate::block::{Block, Sectors, write_table};
use crate::efi::{Variables, trial};
use crate::gpt::{self, LoadError, Repair, Table};
use crate::layout::EMPTY_ROOT_GUID;
use crate::record::{Kept, Record, Records, Rejection};
use crate::slot::{self, InactiveSlot, Pair, PairError, RoomError, Slot};
use crate::staging::{Staging, Whole};
use crate::state::{Action, Booted, Event, Facts, News, Refusal, Running, State, found};
use crate::target::{Target, Version};

/// Why something was not done, or not finished.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no table.
    #[error(transparent)]
    Table(#[from] LoadError),
    /// There are no two slots.
    #[error(transparent)]
    Pair(#[from] PairError),
    /// The machine does not run from one of the slots.
    #[error(
        "the running root is not the one of exactly one slot of this disk, so it is not certain \
         which slot is free: nothing is written to either"
    )]
    RunsElsewhere,
    /// The state machine says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The version does not fit the disk.
    #[error("version {0} cannot be staged: {1}")]
    Room(Version, RoomError),
    /// The disk failed.
    #[error("cannot {0} the disk: {1}")]
    Disk(&'static str, io::Error),
    /// The record could not be kept.
    #[error("cannot {0} the record of the update: {1}")]
    Record(&'static str, io::Error),
    /// The firmware does not take part.
    #[error(
        "the firmware keeps no boot variables ({0}), so a version cannot be tried once: \
         without_trial = true in [update] commits a version that was only verified; policy = \
         \"off\" takes none"
    )]
    Firmware(io::Error),
    /// The proof is about something else.
    #[error("what was verified is not what is being staged: stage it again")]
    OtherProof,
}

/// The slots of the disk that the machine runs from.
#[derive(Debug)]
pub struct Session<D, V, R> {
    disk: D,
    variables: V,
    records: R,
    booted: Booted,
    disk_sectors: u64,
    table: Table,
    /// The table was not written to its end: each copy on the disk may be this one or another.
    table_uncertain: bool,
    repaired: Repair,
    pair: Pair,
    running: Running,
    kept: Kept,
    record_lost: bool,
    state: State,
    news: Option<News>,
}

impl<D: Block, V: Variables, R: Records> Session<D, V, R> {
    /// Looks at the machine, makes both copies of its partition table the same, and tidies what
    /// a cut left behind.
    ///
    /// # Errors
    /// When it is not certain which slot is which, or the tidying fails.
    pub fn open(
        mut disk: D,
        mut variables: V,
        mut records: R,
        booted: &Booted,
    ) -> Result<Self, Error> {
        let reading = |error| Error::Disk("read", error);
        let disk_sectors = disk.sectors().map_err(reading)?;
        let loaded = gpt::load(&mut Sectors(&mut disk), disk_sectors)?;
        let pair = Pair::of(&loaded.table)?;
        let running = Running::of(&pair, booted.root.partition_guid());
        let running = running.ok_or(Error::RunsElsewhere)?;
        let copies = records.load().map_err(|e| Error::Record("read", e))?;
        let kept = Kept::from_copies(&copies);
        let armed = match &kept.record.trial {
            // A firmware without variables has none of this trial.
            Some(trial) => trial::look(&mut variables, &trial.root_hash).ok(),
            None => None,
        };
        let found = found(&Facts {
            booted,
            running,
            other_root: pair.other.root_guid,
            record: &kept.record,
            armed: armed.unwrap_or(trial::Armed::No),
        });
        let mut session = Self {
            disk,
            variables,
            records,
            booted: booted.clone(),
            disk_sectors,
            table: loaded.table,
            table_uncertain: loaded.repair != Repair::None,
            repaired: loaded.repair,
            pair,
            running,
            record_lost: kept.lost,
            kept,
            state: found.state,
            news: found.news,
        };
        session.perform(found.actions)?;
        Ok(session)
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What the last trial came to, when this session was the first to see it.
    pub fn news(&self) -> Option<&News> {
        self.news.as_ref()
    }

    /// What had to be repaired in the partition table.
    pub fn repaired(&self) -> &Repair {
        &self.repaired
    }

    /// The record was there and could not be read: which versions failed is forgotten.
    pub fn record_was_lost(&self) -> bool {
        self.record_lost
    }

    /// The slot that the machine runs from.
    pub fn running(&self) -> Running {
        self.running
    }

    /// Versions that failed, the newest last.
    pub fn rejected(&self) -> &[Rejection] {
        &self.kept.record.rejected
    }

    /// The least security version that is taken.
    pub fn security_floor(&self) -> u64 {
        crate::state::security_floor(&self.booted, &self.kept.record)
    }

    /// The partition table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The slot that firmware starts.
    pub fn committed(&self) -> Slot {
        self.pair.committed
    }

    /// The other slot.
    pub fn other(&self) -> Slot {
        self.pair.other
    }

    /// The disk, for reading: a delta's source is in the committed slot.
    pub fn disk(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Whether a version could be staged, with everything that can be known without writing.
    ///
    /// # Errors
    /// Says why not.
    pub fn may_stage(&self, target: &Target) -> Result<(), Error> {
        let event = Event::Stage(target.clone());
        self.next(event)?;
        self.table_with_room(target).map(drop)
    }

    /// Starts or goes on filling the other slot with `target`.
    ///
    /// # Errors
    /// As [`Session::may_stage`], before anything is written; or when the disk fails.
    pub fn stage(&mut self, target: Target) -> Result<Staging<'_, D>, Error> {
        self.may_stage(&target)?;
        self.happen(Event::Stage(target.clone()))?;
        self.staging(target)
    }

    /// Goes on with what is being staged.
    ///
    /// # Errors
    /// When nothing is.
    pub fn resume(&mut self) -> Result<Staging<'_, D>, Error> {
        match &self.state {
            State::Staging(target) => {
                let target = target.clone();
                self.stage(target)
            }
            state => Err(Error::Refused(Refusal::NotNow {
                what: "go on staging",
                state: state.to_string(),
            })),
        }
    }

    fn staging(&mut self, target: Target) -> Result<Staging<'_, D>, Error> {
        let slot = self.inactive()?;
        let version = target.version.clone();
        Staging::new(&mut self.disk, slot, target).ok_or(Error::Room(version, RoomError::Size))
    }

    /// Names the slot by its root: it may be tried from here on.
    ///
    /// # Errors
    /// When the proof is about another slot or version, or the disk fails.
    pub fn staged(&mut self, whole: Whole) -> Result<(), Error> {
        let slot = self.inactive()?;
        match &self.state {
            State::Staging(target) if whole.is(&slot, target.root_hash) => {}
            _ => return Err(Error::OtherProof),
        }
        self.happen(Event::Whole)
    }

    /// Gives up what is staged, being staged or rejected: the slot is free.
    ///
    /// # Errors
    /// When the machine runs from it, or the disk fails.
    pub fn abandon(&mut self) -> Result<(), Error> {
        self.happen(Event::Abandon)
    }

    /// Arms the trial of the staged version: the next start through the firmware is it.
    ///
    /// # Errors
    /// [`Error::Firmware`] when the firmware takes no variables; nothing is armed then.
    pub fn activate(&mut self) -> Result<(), Error> {
        let before = self.kept.record.clone();
        let state = self.state.clone();
        let armed = self.happen(Event::Activate);
        if let Err(Error::Firmware(error)) = armed {
            // Nothing is left of the attempt, as far as the firmware lets us.
            let _ = trial::disarm(&mut self.variables);
            self.save(before)?;
            self.state = state;
            return Err(Error::Firmware(error));
        }
        armed
    }

    /// Calls the armed trial off; or lets a firmware that ignored one try again.
    ///
    /// # Errors
    /// When nothing is armed, or the firmware keeps its variables.
    pub fn disarm(&mut self) -> Result<(), Error> {
        self.happen(Event::Disarm)
    }

    /// Commits the version whose trial runs.
    ///
    /// # Errors
    /// When no trial runs, or something fails: before the table is written the trial goes on, and
    /// after that the version is committed all the same ([`Session::running`] says which), and the
    /// next start or update tidies what is left.
    pub fn confirm(&mut self) -> Result<(), Error> {
        let confirmed = self.happen(Event::Confirm);
        if self.running == Running::Committed && matches!(self.state, State::Trying(_)) {
            self.state = State::Committed;
        }
        confirmed
    }

    /// Commits the staged version without a trial, for firmware that cannot do one: nothing leads
    /// back if it fails. It runs from the next start on.
    ///
    /// # Errors
    /// When no version is staged, or the disk fails.
    pub fn commit_untried(&mut self) -> Result<(), Error> {
        self.happen(Event::CommitUntried)
    }

    /// Remembers that the running version failed its trial; the caller restarts the machine.
    ///
    /// # Errors
    /// When no trial runs, or the record cannot be kept.
    pub fn reject(&mut self, reason: &str) -> Result<(), Error> {
        self.happen(Event::Reject(reason.to_owned()))
    }

    /// Lets a version that failed be tried again.
    ///
    /// # Errors
    /// When it has not failed.
    pub fn forgive(&mut self, version: &Version) -> Result<(), Error> {
        self.happen(Event::Forgive(version.clone()))
    }

    fn next(&self, event: Event) -> Result<crate::state::Step, Refusal> {
        let record = &self.kept.record;
        self.state.next(event, &self.booted, self.running, record)
    }

    fn happen(&mut self, event: Event) -> Result<(), Error> {
        let step = self.next(event)?;
        self.perform(step.actions)?;
        self.state = step.state;
        Ok(())
    }

    fn inactive(&self) -> Result<InactiveSlot, Error> {
        let running = self.booted.root.partition_guid();
        InactiveSlot::of(&self.pair, running).ok_or(Error::Refused(Refusal::RunsFromIt))
    }

    fn perform(&mut self, actions: Vec<Action>) -> Result<(), Error> {
        if self.table_uncertain {
            self.put_table(self.table.clone())?;
        }
        for action in actions {
            match action {
                Action::Save(record) => self.save(*record)?,
                Action::Clear(target) => {
                    let table = match target {
                        Some(target) => self.table_with_room(&target)?,
                        None => self.table_with_other(EMPTY_ROOT_GUID)?,
                    };
                    self.put_table(table)?;
                }
                Action::Name(root) => {
                    let table = self.table_with_other(root.partition_guid())?;
                    self.put_table(table)?;
                }
                Action::Commit => {
                    let table = slot::commit(&self.table).map_err(|e| self.room(e))?;
                    self.put_table(table)?;
                }
                Action::Arm(root) => {
                    let boot = self.pair.other.boot;
                    trial::arm(&mut self.variables, &root, boot).map_err(Error::Firmware)?;
                }
                Action::Disarm => self.disarm_variables()?,
            }
        }
        Ok(())
    }

    fn save(&mut self, record: Record) -> Result<(), Error> {
        if record == self.kept.record {
            return Ok(());
        }
        let mut kept = self.kept.clone();
        let (copy, bytes) = kept.replace(record);
        let saved = self.records.save(copy, &bytes);
        saved.map_err(|error| Error::Record("write", error))?;
        self.kept = kept;
        Ok(())
    }

    /// Writes a table that differs from the disk's. Only one that was written to its end is what
    /// is known from then on; after a failure the one before is written again, before all else.
    fn put_table(&mut self, table: Table) -> Result<(), Error> {
        if table == self.table && !self.table_uncertain {
            return Ok(());
        }
        let pair = Pair::of(&table)?;
        let running = Running::of(&pair, self.booted.root.partition_guid());
        let running = running.ok_or(Error::RunsElsewhere)?;
        self.table_uncertain = true;
        let written = write_table(&mut self.disk, &table, self.disk_sectors);
        written.map_err(|error| Error::Disk("write the partition table of", error))?;
        self.table_uncertain = false;
        (self.table, self.pair, self.running) = (table, pair, running);
        Ok(())
    }

    fn table_with_room(&self, target: &Target) -> Result<Table, Error> {
        let error = |error| Error::Room(target.version.clone(), error);
        let geometry = target.geometry().ok_or_else(|| error(RoomError::Size))?;
        let room = slot::make_room(&self.table, target.boot_bytes, geometry.total_bytes());
        room.map_err(error)
    }

    fn table_with_other(&self, guid: gpt::Guid) -> Result<Table, Error> {
        let mut table = self.table.clone();
        let named = table.name_entry(self.pair.other.root_entry, guid);
        named.map_err(|e| self.room(e.into()))?;
        Ok(table)
    }

    fn room(&self, error: RoomError) -> Error {
        Error::Room(self.booted.version.clone(), error)
    }

    /// A firmware without variables has nothing to take back.
    fn disarm_variables(&mut self) -> Result<(), Error> {
        match trial::disarm(&mut self.variables) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            Err(error) => Err(Error::Firmware(error)),
        }
    }
}
