//! The updater as PID 1 sees it: a process of its own, its records, and a bound on every trial.
//!
//! A version on trial must be kept or given up in its time whatever becomes of the updater's
//! process, so PID 1 holds a deadline of its own: when it passes without a word that the version
//! stays, the machine restarts, and firmware goes back to the version before.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use berth_provision::status::{RejectedVersion, UpdateStatus};
use berth_provision::{CA_PATH, Machine, TRUST_ROOT_PATH, Update};
use berth_updater::report::{LEN, Record, Request, State};
use berth_updater::{Places, Setup};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::agent::Agent;
use crate::failure::{Doing, Failure};
use crate::kernel_log::{KernelLog, Urgency, now_us};
use crate::own_disk::OwnDisk;
use crate::roles::Role;
use crate::{UPDATE_ROLE, machine, machine_id, state, sys};

/// Its cgroup below /system.
const GROUP: &str = "update";
/// Its directory on the state partition, below the machine's own.
const DIRECTORY: &str = "update";
/// Time beyond a trial's own, in which the updater says how it ended.
const TRIAL_MARGIN_US: u64 = 60_000_000;
/// The firmware's variables.
const EFI_VARIABLES: &str = "/sys/firmware/efi/efivars";
/// Versions that are shown as not to be tried again.
const MOST_REJECTED: usize = 8;

/// To make a boot variable changeable before it is changed (linux/capability.h).
const CAP_LINUX_IMMUTABLE: u32 = 9;

/// The updater and what it said last.
#[derive(Debug, Default)]
pub(crate) struct Updater {
    pub(crate) agent: Agent,
    status: UpdateStatus,
    /// When the machine restarts unless the version was kept.
    trial_ends_us: Option<u64>,
}

/// What a record asks of PID 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// To be shown.
    Show(Record),
    /// To be shown; then the machine restarts.
    Restart(Record),
}

impl Updater {
    /// Starts it.
    pub(crate) fn start(&mut self) -> Result<(), Failure> {
        // It lists again what is not to be tried.
        self.status.rejected.clear();
        let role = Role::start(GROUP, &[UPDATE_ROLE], &[]);
        self.agent.started(role, now_us())
    }

    /// Bounds the trial that this boot is.
    pub(crate) fn bound_trial(&mut self, machine: &Machine) {
        // A version without an updater cannot be kept, but it has its time like any other.
        // What became good at its last moment has to stay so for a while, and is waited for.
        let most_ms = |update: &Update| update.within_ms.saturating_add(update.hold_ms);
        let most_ms = machine.update.as_ref().map_or(0, most_ms);
        let most_us = most_ms.saturating_mul(1000);
        self.trial_ends_us = Some(most_us.saturating_add(TRIAL_MARGIN_US));
    }

    /// Whether a trial has had all its time; told once.
    pub(crate) fn trial_is_over(&mut self, now_us: u64) -> bool {
        self.trial_ends_us
            .take_if(|ends_us| *ends_us <= now_us)
            .is_some()
    }

    /// When [`Updater::trial_is_over`] has to be asked.
    pub(crate) fn trial_ends_us(&self) -> u64 {
        self.trial_ends_us.unwrap_or(u64::MAX)
    }

    /// Reads one record; `None` when there is none.
    pub(crate) fn next_record(&mut self) -> Option<News> {
        loop {
            let mut bytes = [0; LEN];
            if self.agent.read(&mut bytes) != LEN {
                return None; // a record is written whole or not at all
            }
            if let Some(news) = Record::decode(&bytes).and_then(|record| self.take_in(record)) {
                return Some(news);
            }
        }
    }

    fn take_in(&mut self, record: Record) -> Option<News> {
        let version = Some(record.version.clone()).filter(|version| !version.is_empty());
        if record.request == Request::List {
            let rejected = &mut self.status.rejected;
            rejected.retain(|one| one.version != record.version);
            if rejected.len() < MOST_REJECTED {
                rejected.push(RejectedVersion {
                    version: record.version,
                    reason: record.sentence,
                });
            }
            return None;
        }
        if record.state == State::Committed {
            self.trial_ends_us = None;
        }
        self.status.state = record.state.name().to_owned();
        self.status.version = version;
        self.status.sentence.clone_from(&record.sentence);
        self.status.checked = Some(record.checked).filter(|time| *time > 0);
        match record.request {
            Request::Restart => Some(News::Restart(record)),
            _ => Some(News::Show(record)),
        }
    }

    /// What the status says about updates.
    pub(crate) fn status(&self) -> UpdateStatus {
        self.status.clone()
    }
}

/// How urgent it is for a person to read a record.
pub(crate) fn urgency(record: &Record) -> Urgency {
    match record.state {
        State::Trouble | State::Rejected => Urgency::Error,
        _ => Urgency::Notice,
    }
}

/// The updater's own process: gives up what it does not need, then runs until it cannot go on.
pub(crate) fn run_updater() -> Result<(), Failure> {
    let machine = machine::read()?;
    let disk = OwnDisk::find()?.ok_or_else(|| Failure::new("the machine runs from no disk"))?;
    let report = std::io::stdout().as_fd().try_clone_to_owned();
    let report = File::from(report.doing(|| "keep the pipe to PID 1".to_owned())?);
    // Only this process sees the firmware's variables.
    unshare(CloneFlags::CLONE_NEWNS).doing(|| "leave the mounts of the others".to_owned())?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .doing(|| "keep mounts to itself".to_owned())?;
    if Path::new(EFI_VARIABLES).is_dir() {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let kind = Some("efivarfs");
        mount(kind, EFI_VARIABLES, kind, flags, None::<&str>)
            .doing(|| format!("mount the firmware's variables on {EFI_VARIABLES}"))?;
    }
    sys::restrict_bounding_set(&[CAP_LINUX_IMMUTABLE])
        .doing(|| "give up capabilities".to_owned())?;
    let trust = fs::read(TRUST_ROOT_PATH).doing(|| format!("read {TRUST_ROOT_PATH}"))?;
    let seed = machine_id::current().unwrap_or_default();
    let why = berth_updater::run(Setup {
        machine,
        trust,
        places: Places {
            disk: disk.node(),
            state: state::own(DIRECTORY),
            status: PathBuf::from(berth_provision::status::STATUS_PATH),
            certificates: PathBuf::from(CA_PATH),
        },
        seed: seed.into_bytes(),
        report,
    });
    let Err(why) = why;
    KernelLog::direct().line(Urgency::Error, &format!("update : {why}"));
    Err(Failure::new(why))
}

#[cfg(test)]
mod tests {
    use berth_provision::UpdatePolicy;

    use super::*;

    fn record(request: Request, state: State) -> Record {
        Record {
            request,
            state,
            version: "2".into(),
            sentence: "so it is".into(),
            checked: 0,
        }
    }

    #[test]
    fn a_trial_ends_by_itself_unless_the_version_is_kept() {
        let mut updater = Updater {
            trial_ends_us: Some(100),
            ..Updater::default()
        };
        assert!(!updater.trial_is_over(99));
        assert!(updater.trial_is_over(100));
        assert!(!updater.trial_is_over(101), "told once");
        updater.trial_ends_us = Some(100);
        updater.take_in(record(Request::Show, State::Trying));
        assert_eq!(updater.trial_ends_us(), 100);
        updater.take_in(record(Request::Show, State::Committed));
        assert!(!updater.trial_is_over(u64::MAX));
    }

    #[test]
    fn a_trial_has_the_time_of_one_that_became_good_at_the_last_moment() {
        let update = Update {
            url: None,
            bundles: true,
            policy: UpdatePolicy::Auto,
            window: None,
            every_ms: 0,
            wave: None,
            healthy: None,
            hold_ms: 300_000,
            within_ms: 600_000,
            proxy: None,
            ca: false,
            rate: None,
            without_trial: false,
        };
        let machine = Machine {
            update: Some(update),
            ..Machine::default()
        };
        let mut updater = Updater::default();
        updater.bound_trial(&machine);
        assert!(updater.trial_ends_us() > 900_000_000 + TRIAL_MARGIN_US / 2);
        assert!(updater.trial_ends_us() <= 900_000_000 + TRIAL_MARGIN_US);
    }

    #[test]
    fn what_is_not_tried_again_is_listed_once() {
        let mut updater = Updater::default();
        for _ in 0..2 {
            assert_eq!(
                updater.take_in(record(Request::List, State::Rejected)),
                None
            );
        }
        assert_eq!(updater.status().rejected.len(), 1);
        assert_eq!(updater.status().state, "");
    }
}
