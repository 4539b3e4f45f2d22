//! What may be done in which state.

use super::{Action, Booted, Running, State};
use crate::record::{Phase, Record, Rejection, Trial};
use crate::target::{Target, Version};

/// Something that is to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Fill the other slot with this version.
    Stage(Target),
    /// Its content is whole and verified.
    Whole,
    /// Give up what the other slot holds or is being filled with.
    Abandon,
    /// Try it at the next boot.
    Activate,
    /// Do not try it at the next boot after all.
    Disarm,
    /// The version that runs is to stay.
    Confirm,
    /// Commit the staged version without a trial.
    CommitUntried,
    /// The version that runs is not to be tried again, and why.
    Reject(String),
    /// A version that failed may be tried again.
    Forgive(Version),
}

/// The next state, and what makes it true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The state when all is done.
    pub state: State,
    /// What to do, in order.
    pub actions: Vec<Action>,
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The state does not allow it.
    #[error("cannot {what} now: {state}")]
    NotNow {
        /// What was asked for.
        what: &'static str,
        /// The state in words.
        state: String,
    },
    /// The machine runs from the slot that it would write to.
    #[error("the machine runs from the slot that would be written to: restart it first")]
    RunsFromIt,
    /// It failed before.
    #[error("version {} failed before and is skipped: {}", .0.version, .0.reason)]
    Rejected(Rejection),
    /// It would bring known holes back.
    #[error(
        "version {version} has security version {offered}, and this machine has had {floor}: it \
         does not go back"
    )]
    TooOld {
        /// The version.
        version: Version,
        /// Its security version.
        offered: u64,
        /// The least that is taken.
        floor: u64,
    },
    /// Two slots with the same root could not be told apart.
    #[error(
        "version {0} has the very root that is running, and a slot is known by its root: publish \
         it under a new version, which is part of the root"
    )]
    SameRoot(Version),
    /// A size that a root file system does not have.
    #[error("version {0} names a root file system of a size that none has")]
    RootSize(Version),
    /// The firmware does not do one-shot boots.
    #[error(
        "this firmware ignored the request for a trial (BootNext), so version {0} cannot be tried: \
         without_trial = true in [update] commits a version that was only verified; policy = \
         \"off\" takes none"
    )]
    FirmwareIgnores(Version),
    /// There is nothing to forgive.
    #[error("version {0} has not failed here")]
    NotRejected(Version),
}

impl State {
    /// What `event` leads to.
    ///
    /// # Errors
    /// When it is not to happen; nothing changes then.
    pub fn next(
        &self,
        event: Event,
        booted: &Booted,
        running: Running,
        record: &Record,
    ) -> Result<Step, Refusal> {
        match (self, event) {
            (
                Self::Empty
                | Self::Staging(_)
                | Self::Staged(_)
                | Self::Armed(_)
                | Self::Committed
                | Self::Rejected(_),
                Event::Stage(target),
            ) => stage(self, target, booted, running, record),
            (Self::Staging(target), Event::Whole) => Ok(Step {
                state: Self::Staged(target.clone()),
                actions: vec![Action::Name(target.root_hash)],
            }),
            (
                Self::Empty | Self::Staging(_) | Self::Staged(_) | Self::Rejected(_),
                Event::Abandon,
            ) => abandon(running, record),
            (Self::Staged(target), Event::Activate) => activate(target, booted, record),
            (Self::Armed(target), Event::Disarm) => Ok(Step {
                state: Self::Staged(target.clone()),
                actions: vec![Action::Disarm, save(record, |r| r.trial = None)],
            }),
            // An operator lets the firmware have another try.
            (Self::Staged(target), Event::Disarm) => Ok(Step {
                state: Self::Staged(target.clone()),
                actions: vec![save(record, |r| r.trial = None)],
            }),
            (Self::Trying(_), Event::Confirm) => confirm(booted, record),
            (Self::Staged(target), Event::CommitUntried) => {
                Ok(commit_untried(target, booted, record))
            }
            (Self::Trying(_), Event::Reject(reason)) => Ok(reject(booted, record, &reason)),
            (state, Event::Forgive(version)) => forgive(state, version, running, record),
            (state, event) => Err(Refusal::NotNow {
                what: event.name(),
                state: state.to_string(),
            }),
        }
    }
}

impl Event {
    fn name(&self) -> &'static str {
        match self {
            Self::Stage(_) => "stage a version",
            Self::Whole => "end staging",
            Self::Abandon => "give up a version",
            Self::Activate => "try a version",
            Self::Disarm => "call off a trial",
            Self::Confirm => "confirm a version",
            Self::CommitUntried => "commit a version without a trial",
            Self::Reject(_) => "reject the running version",
            Self::Forgive(_) => "forgive a version",
        }
    }
}

/// Whether a version may come onto the machine at all.
fn admissible(
    target: &Target,
    booted: &Booted,
    running: Running,
    record: &Record,
) -> Result<(), Refusal> {
    if running == Running::Other {
        return Err(Refusal::RunsFromIt);
    }
    let version = || target.version.clone();
    if target.geometry().is_none() {
        return Err(Refusal::RootSize(version()));
    }
    if target.root_hash.partition_guid() == booted.root.partition_guid() {
        return Err(Refusal::SameRoot(version()));
    }
    let floor = security_floor(booted, record);
    if target.security_version < floor {
        return Err(Refusal::TooOld {
            version: version(),
            offered: target.security_version,
            floor,
        });
    }
    match record.rejection(&target.version, &target.root_hash) {
        Some(one) => Err(Refusal::Rejected(one.clone())),
        None => Ok(()),
    }
}

/// The least security version that is taken.
pub(crate) fn security_floor(booted: &Booted, record: &Record) -> u64 {
    record.security_version.max(booted.security_version)
}

/// The record comes first: a cut behind it finds a slot that is being filled, whatever it holds.
fn stage(
    state: &State,
    target: Target,
    booted: &Booted,
    running: Running,
    record: &Record,
) -> Result<Step, Refusal> {
    admissible(&target, booted, running, record)?;
    if matches!(state, State::Staged(held) | State::Armed(held) if *held == target) {
        return Err(Refusal::NotNow {
            what: "stage a version",
            state: state.to_string(),
        });
    }
    // A request of a trial that is no longer on record would start a half-filled slot.
    let mut actions = vec![Action::Disarm];
    if record.target.as_ref() != Some(&target) || record.trial.is_some() {
        actions.push(save(record, |record| {
            record.target = Some(target.clone());
            record.trial = None;
        }));
    }
    actions.push(Action::Clear(Some(Box::new(target.clone()))));
    Ok(Step {
        state: State::Staging(target),
        actions,
    })
}

fn abandon(running: Running, record: &Record) -> Result<Step, Refusal> {
    if running == Running::Other {
        return Err(Refusal::RunsFromIt);
    }
    let forget = save(record, |record| {
        record.target = None;
        record.trial = None;
    });
    Ok(Step {
        state: State::Empty,
        actions: vec![forget, Action::Clear(None)],
    })
}

/// The record comes first: a trial that ends badly was then always on record.
fn activate(target: &Target, booted: &Booted, record: &Record) -> Result<Step, Refusal> {
    let before = record.trial.filter(|t| t.root_hash == target.root_hash);
    let phase = match before.map(|trial| trial.phase) {
        Some(Phase::Ignored) => return Err(Refusal::FirmwareIgnores(target.version.clone())),
        Some(Phase::Lost) => Phase::Armed { again: true },
        _ => Phase::Armed { again: false },
    };
    let armed = save(record, |record| {
        record.trial = Some(Trial {
            root_hash: target.root_hash,
            boot_id: booted.boot_id,
            phase,
        });
    });
    Ok(Step {
        state: State::Armed(target.clone()),
        actions: vec![armed, Action::Arm(target.root_hash)],
    })
}

/// The table comes first: it alone says which slot is committed.
fn confirm(booted: &Booted, record: &Record) -> Result<Step, Refusal> {
    let floor = record.security_version;
    if booted.security_version < floor {
        return Err(Refusal::TooOld {
            version: booted.version.clone(),
            offered: booted.security_version,
            floor,
        });
    }
    let done = save(record, |record| {
        record.security_version = booted.security_version;
        record.target = None;
        record.trial = None;
    });
    Ok(Step {
        state: State::Committed,
        actions: vec![Action::Commit, done, Action::Disarm],
    })
}

/// The record comes first: what runs in this boot is then never taken for a trial.
fn commit_untried(target: &Target, booted: &Booted, record: &Record) -> Step {
    let noted = save(record, |record| {
        record.trial = Some(Trial {
            root_hash: target.root_hash,
            boot_id: booted.boot_id,
            phase: Phase::Untried,
        });
    });
    Step {
        state: State::Committed,
        actions: vec![noted, Action::Commit],
    }
}

fn reject(booted: &Booted, record: &Record, reason: &str) -> Step {
    let mut record = record.clone();
    record.reject(booted.version.clone(), booted.root, reason);
    record.trial = None;
    let state = match record.rejected.last() {
        Some(one) => State::Rejected(one.clone()),
        None => State::Empty,
    };
    Step {
        state,
        actions: vec![Action::Save(Box::new(record)), Action::Disarm],
    }
}

fn forgive(
    state: &State,
    version: Version,
    running: Running,
    record: &Record,
) -> Result<Step, Refusal> {
    if !record.rejected.iter().any(|one| one.version == version) {
        return Err(Refusal::NotRejected(version));
    }
    let forgiven = save(record, |record| {
        record.rejected.retain(|one| one.version != version);
    });
    let of_slot = matches!(state, State::Rejected(one) if one.version == version);
    let (state, clear) = match &record.target {
        _ if !of_slot => (state.clone(), None),
        _ if running == Running::Other => return Err(Refusal::RunsFromIt),
        // What the slot holds is verified again before it is tried again.
        Some(target) => {
            let clear = Action::Clear(Some(Box::new(target.clone())));
            (State::Staging(target.clone()), Some(clear))
        }
        None => (State::Empty, Some(Action::Clear(None))),
    };
    let actions = std::iter::once(forgiven).chain(clear).collect();
    Ok(Step { state, actions })
}

fn save(record: &Record, change: impl FnOnce(&mut Record)) -> Action {
    let mut record = record.clone();
    change(&mut record);
    Action::Save(Box::new(record))
}
