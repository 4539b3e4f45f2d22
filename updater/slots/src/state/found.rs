//! What a start finds: which state the machine is in, and what has to be tidied after a cut.

use std::fmt;

use super::{Action, Booted, Running, State};
use crate::efi::trial::Armed;
use crate::gpt::Guid;
use crate::layout::EMPTY_ROOT_GUID;
use crate::record::{Phase, Record, Rejection, Trial};
use crate::target::{Target, Version};

/// What is known at a start, before anything is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The version that runs.
    pub booted: &'a Booted,
    /// The slot that it runs from.
    pub running: Running,
    /// The GUID of the other slot's root entry.
    pub other_root: Guid,
    /// The record.
    pub record: &'a Record,
    /// What the variables say of the recorded trial; [`Armed::No`] when there are none.
    pub armed: Armed,
}

/// What a start found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The state.
    pub state: State,
    /// What tidies up, in order.
    pub actions: Vec<Action>,
    /// What people should know.
    pub news: Option<News>,
}

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The trial was committed.
    Committed(Version),
    /// It was committed without a trial.
    Untried(Version),
    /// The trial ended without a commit.
    Failed(Rejection),
    /// The firmware started the committed slot although it was asked for the other.
    Ignored(Version),
    /// The firmware lost its variables: nothing was tried, or it ended before that was saved.
    Lost(Version),
}

impl fmt::Display for News {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed(version) => write!(out, "version {version} was tried and stays"),
            Self::Untried(version) => write!(
                out,
                "version {version} stays without having been tried, because the firmware cannot \
                 try a version once (without_trial = true in [update])"
            ),
            Self::Failed(one) => write!(
                out,
                "version {} was tried and given up: {}; it is skipped until there is a newer one",
                one.version, one.reason
            ),
            Self::Ignored(version) => write!(
                out,
                "the firmware ignored the request to try version {version} once (BootNext) and \
                 started the committed version: without_trial = true in [update] commits a version \
                 that was only verified; policy = \"off\" takes none"
            ),
            Self::Lost(version) => write!(
                out,
                "the firmware forgot the request to try version {version} (its variables are \
                 gone): it was not tried, or lost its power before it could save that; it can be \
                 tried once more"
            ),
        }
    }
}

/// The reason of a trial that came up and was over before it was confirmed.
const RESTARTED: &str = "it came up, and the machine restarted before the version was confirmed \
                         (a panic, a hang, a power cut, or someone restarted it)";
/// The reason of a trial that did not come up.
const NEVER_UP: &str = "it did not come up: the firmware could not start it, or it stopped before \
                        its first process ran";
/// The reason when the firmware loses its variables each time.
const LOST_AGAIN: &str = "the firmware lost its variables twice, or the version did not come up";

/// Derives the state.
#[must_use]
pub fn found(facts: &Facts<'_>) -> Found {
    match facts.running {
        Running::Other => on_other(facts),
        Running::Committed => match facts.record.trial {
            Some(trial) => after_trial(facts, trial),
            None => without_trial(facts, facts.record.clone(), Vec::new(), None),
        },
    }
}

/// The machine runs from the slot that is not committed: a trial, or what is left of one.
fn on_other(facts: &Facts<'_>) -> Found {
    let root = facts.booted.root;
    let record = facts.record;
    let nothing = |state| Found {
        state,
        actions: Vec::new(),
        news: None,
    };
    if let Some(one) = record.rejection(&facts.booted.version, &root) {
        return nothing(State::Rejected(one.clone()));
    }
    let trial = record.trial.filter(|trial| trial.root_hash == root);
    let target = record.target.as_ref().filter(|t| t.root_hash == root);
    let state = State::Trying(target.cloned());
    match trial.map(|trial| trial.phase) {
        Some(Phase::CameUp) => nothing(state),
        _ if exchanged_now(facts) => nothing(State::Committed),
        _ => {
            let mut record = record.clone();
            record.trial = Some(Trial {
                root_hash: root,
                boot_id: facts.booted.boot_id,
                phase: Phase::CameUp,
            });
            Found {
                state,
                actions: vec![Action::Save(Box::new(record))],
                news: None,
            }
        }
    }
}

/// A version was committed without a trial in this very boot: what runs is the old one.
fn exchanged_now(facts: &Facts<'_>) -> bool {
    facts
        .record
        .trial
        .is_some_and(|trial| trial.phase == Phase::Untried && trial.boot_id == facts.booted.boot_id)
}

/// The machine runs from the committed slot, and a trial is on record.
fn after_trial(facts: &Facts<'_>, trial: Trial) -> Found {
    let record = facts.record.clone();
    if trial.root_hash == facts.booted.root {
        return after_commit(facts, record, trial);
    }
    let target = record.target.clone();
    let of_trial = target.filter(|target| {
        target.root_hash == trial.root_hash && holds(facts, target.root_hash.partition_guid())
    });
    let failed_before = |target: &Target| {
        record
            .rejection(&target.version, &target.root_hash)
            .is_some()
    };
    // Without its target, with other content, or given up: the trial is history.
    let Some(target) = of_trial.filter(|target| !failed_before(target)) else {
        return without_trial(facts, forget(record), vec![Action::Disarm], None);
    };
    let version = target.version.clone();
    let here = trial.boot_id == facts.booted.boot_id;
    match (trial.phase, facts.armed, here) {
        (Phase::CameUp, _, _) => failed(facts, record, trial, version, RESTARTED),
        (Phase::Armed { .. }, Armed::Yes, true) => Found {
            state: State::Armed(target),
            actions: Vec::new(),
            news: None,
        },
        // A cut or an error between record and variables, in this boot: not armed after all.
        (Phase::Armed { .. } | Phase::Untried, _, true) => {
            without_trial(facts, forget(record), vec![Action::Disarm], None)
        }
        (Phase::Armed { .. }, Armed::Yes, false) => {
            let news = News::Ignored(version);
            again_later(facts, record, trial, Phase::Ignored, Some(news))
        }
        (Phase::Armed { .. }, Armed::Spent, false) => {
            failed(facts, record, trial, version, NEVER_UP)
        }
        (Phase::Armed { again: true }, Armed::No, false) => {
            failed(facts, record, trial, version, LOST_AGAIN)
        }
        (Phase::Armed { again: false }, Armed::No, false) => {
            let news = News::Lost(version);
            again_later(facts, record, trial, Phase::Lost, Some(news))
        }
        (Phase::Untried, _, false) => {
            without_trial(facts, forget(record), vec![Action::Disarm], None)
        }
        (Phase::Lost | Phase::Ignored, _, _) => without_trial(facts, record, Vec::new(), None),
    }
}

/// The tried version is the committed one: what a cut after the exchange left is finished.
fn after_commit(facts: &Facts<'_>, mut record: Record, trial: Trial) -> Found {
    let target = record.target.take();
    if let Some(target) = target.filter(|target| target.root_hash == trial.root_hash) {
        record.security_version = record.security_version.max(target.security_version);
    }
    record.trial = None;
    let version = facts.booted.version.clone();
    let news = match trial.phase {
        Phase::Untried => News::Untried(version),
        _ => News::Committed(version),
    };
    without_trial(facts, record, vec![Action::Disarm], Some(news))
}

/// No trial is on record (any more): the other slot says what it is.
fn without_trial(
    facts: &Facts<'_>,
    record: Record,
    mut actions: Vec<Action>,
    news: Option<News>,
) -> Found {
    if record != *facts.record {
        actions.insert(0, Action::Save(Box::new(record.clone())));
    }
    let rejection = record
        .target
        .as_ref()
        .and_then(|target| record.rejection(&target.version, &target.root_hash));
    let state = match (rejection, record.target.clone()) {
        (Some(one), _) => State::Rejected(one.clone()),
        (None, Some(target)) if target.root_hash == facts.booted.root => State::Committed,
        (None, Some(target)) if holds(facts, target.root_hash.partition_guid()) => {
            State::Staged(target)
        }
        (None, Some(target)) => State::Staging(target),
        (None, None) if facts.other_root == EMPTY_ROOT_GUID => State::Empty,
        (None, None) => State::Committed,
    };
    Found {
        state,
        actions,
        news,
    }
}

fn failed(
    facts: &Facts<'_>,
    mut record: Record,
    trial: Trial,
    version: Version,
    reason: &str,
) -> Found {
    record.reject(version, trial.root_hash, reason);
    record.trial = None;
    let news = record.rejected.last().cloned().map(News::Failed);
    without_trial(facts, record, vec![Action::Disarm], news)
}

/// The version was not tried, as far as anybody can know; the phase says why.
fn again_later(
    facts: &Facts<'_>,
    mut record: Record,
    trial: Trial,
    phase: Phase,
    news: Option<News>,
) -> Found {
    record.trial = Some(Trial { phase, ..trial });
    without_trial(facts, record, vec![Action::Disarm], news)
}

fn forget(mut record: Record) -> Record {
    record.trial = None;
    record
}

fn holds(facts: &Facts<'_>, root: Guid) -> bool {
    facts.other_root == root
}
