//! One look for a newer version, and what follows from it: at the bundles that are plugged in, then
//! at the server.

use std::fs;
use std::path::PathBuf;

use berth_release::{Place, Release};
use berth_slots::record::Rejection;
use berth_slots::session::Error as SlotError;
use berth_slots::state::{Refusal, Running, State as SlotState};
use berth_slots::target::Target;
use berth_trust::release::Installed;
use berth_trust::{Clock, Time};

use crate::bundle::Bundle;
use crate::decide::{self, Facts, Step};
use crate::metadata::{self, Identity, Offer};
use crate::report::State;
use crate::role::{Role, Slots};
use crate::server::Server;
use crate::staging::{self, Stage};

/// Where the name of the version is kept that was last taken from a bundle.
const BY_BUNDLE: &str = "by-bundle";

/// What is done after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next look, when it is due.
    Look,
    /// The next look within so many milliseconds.
    Within(u64),
    /// Nothing: the machine restarts.
    Restart,
}

/// Where an offer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Server,
    Bundle,
}

impl Role {
    /// One look.
    ///
    /// # Errors
    /// Why the server gives nothing, as a sentence; it may be asked again soon.
    pub(crate) fn look(&mut self, slots: &mut Slots) -> Result<Next, String> {
        if let Some(next) = self.look_at_bundles(slots) {
            return Ok(next);
        }
        let asked = self.server.take().map(|mut server| {
            let next = self.look_at(slots, &mut server, From::Server);
            self.server = Some(server);
            next
        });
        match (asked, self.staged_by_bundle(slots)) {
            // The bundle that it came from may be gone when its time has come.
            (None | Some(Err(_)), Some(version)) => self.have_it_tried(slots, &version),
            (Some(next), _) => next.map(|next| next.unwrap_or(Next::Look)),
            (None, None) => {
                let over = self.refused.is_empty() && self.teller.last() == State::Trouble;
                if over || self.teller.last() == State::Unknown {
                    let sentence = "no bundle is plugged in, and there is no server to ask";
                    self.teller.say(State::Waiting, "", sentence.to_owned());
                }
                Ok(Next::Look)
            }
        }
    }

    fn staged_by_bundle(&self, slots: &Slots) -> Option<String> {
        match slots.state() {
            SlotState::Staged(target) | SlotState::Armed(target) => {
                let version = target.version.to_string();
                Some(version).filter(|version| self.came_by_bundle(version))
            }
            _ => None,
        }
    }

    /// Looks at every bundle, until one of them is used. One that cannot be used is complained of
    /// once, and is no reason not to ask the server.
    fn look_at_bundles(&mut self, slots: &mut Slots) -> Option<Next> {
        let mut refused = Vec::new();
        let mut used = None;
        for bundle in self.bundles() {
            let looked = bundle.and_then(|mut bundle| {
                let looked = self.look_at(slots, &mut bundle, From::Bundle);
                looked.map_err(|why| match why.starts_with(bundle.who()) {
                    true => why,
                    false => format!("{} is not used: {why}", bundle.who()),
                })
            });
            match looked {
                Ok(None) => {}
                Ok(next) => {
                    used = next;
                    break;
                }
                Err(why) => {
                    if !self.refused.contains(&why) {
                        self.teller.say(State::Trouble, "", why.clone());
                    }
                    refused.push(why);
                }
            }
        }
        self.refused = refused;
        used
    }

    fn bundles(&mut self) -> Vec<Result<Bundle, String>> {
        let disks: Vec<PathBuf> = match self.update.bundles {
            true => (self.disks)(),
            false => Vec::new(),
        };
        disks.iter().filter_map(|disk| Bundle::on(disk)).collect()
    }

    /// Whether this machine can still be told about versions: for a version on trial.
    pub(crate) fn reach(&mut self) -> Result<(), String> {
        let Some(mut server) = self.server.take() else {
            return Ok(());
        };
        let offer = self.newest(&mut server);
        self.server = Some(server);
        offer.map(drop)
    }

    /// Whether a version came by a bundle, or cannot have come otherwise.
    pub(crate) fn came_by_bundle(&self, version: &str) -> bool {
        self.taken_from_bundle(version) || self.server.is_none()
    }

    fn taken_from_bundle(&self, version: &str) -> bool {
        let kept = fs::read_to_string(self.places.state.join(BY_BUNDLE));
        kept.is_ok_and(|kept| kept == version)
    }

    fn remember_source(&self, from: From, version: &str) -> Result<(), String> {
        let path = self.places.state.join(BY_BUNDLE);
        let done = match from {
            From::Bundle => metadata::replace(&path, version.as_bytes()),
            From::Server if path.exists() => fs::remove_file(&path),
            From::Server => Ok(()),
        };
        done.map_err(|why| format!("cannot write {}: {why}", path.display()))
    }

    fn newest(&mut self, server: &mut dyn Server) -> Result<Offer, String> {
        let identity = Identity {
            product: self.machine.name.clone(),
            profile: self.machine.profile.clone(),
            architecture: berth_release::ARCHITECTURE.to_owned(),
        };
        let clock = Clock::new(seconds((self.now)()), seconds(self.machine.built));
        let kept = self.places.state.join("metadata");
        let offer = metadata::newest(server, &self.trust, &kept, clock, &identity)?;
        self.teller.checked = (self.now)();
        Ok(offer)
    }

    /// Looks at what one source offers; `None` when there is nothing to do about it.
    fn look_at(
        &mut self,
        slots: &mut Slots,
        server: &mut dyn Server,
        from: From,
    ) -> Result<Option<Next>, String> {
        let offer = self.newest(server)?;
        let release = &offer.release;
        let now = (self.now)();
        let facts = Facts {
            running_root: self.booted.root.0,
            staged_root: staged_root(slots, release),
            place: match from {
                // Whoever brings a bundle to a machine has chosen the machine.
                From::Bundle => Place::Now,
                From::Server if self.taken_from_bundle(&release.version) => Place::Now,
                From::Server if exchanged(slots) => Place::Now,
                From::Server => {
                    let (seed, wave) = (&self.machine_seed, self.update.wave);
                    release.rollout.place(seed, &release.version, wave, now)
                }
            },
        };
        let version = release.version.clone();
        let step = decide::decide(release, &facts);
        let stopped = match step {
            Step::Turn(_) => facts.staged_root == Some(release.root.root_hash.0),
            Step::Current => true,
            Step::Stage | Step::Staged => false,
        };
        if from == From::Server && stopped {
            self.call_off(slots)?;
        }
        match step {
            Step::Current => {
                // What became of the last trial stays to be read.
                let quiet = matches!(self.teller.last(), State::Committed | State::Rejected);
                // The server may know of a newer one.
                let last_word = from == From::Server || self.server.is_none();
                if last_word && !quiet {
                    let sentence = format!("version {version} is the newest");
                    self.teller.say(State::Current, &version, sentence);
                }
                return Ok(None);
            }
            Step::Turn(at) => {
                let when = at.map_or_else(
                    || "when more machines are to have it".to_owned(),
                    |at| format!("in {} s", at.saturating_sub(now)),
                );
                let sentence =
                    format!("version {version} is there; this machine's turn comes {when}");
                self.teller.say(State::Waiting, &version, sentence);
                // Not at the very second, which is that of the whole wave: at the next usual look.
                return Ok(None);
            }
            Step::Stage => {
                let target = staging::target(&offer)?;
                let fits = offer.claims.fits(&self.installed(slots));
                let fits = fits.map_err(|why| format!("version {version} is not taken: {why}"));
                let room = fits.and_then(|()| {
                    forgive(slots, &target).map_err(|why| why.to_string())?;
                    slots.may_stage(&target).map_err(|why| why.to_string())
                });
                if let Err(why) = room {
                    self.refuse(slots, &version, why);
                    return Ok(None);
                }
                self.remember_source(from, &version)?;
                let stage = Stage {
                    server,
                    teller: &mut self.teller,
                    places: &self.places,
                    running_root: self.booted.root,
                };
                stage.fill(slots, release, target)?;
            }
            Step::Staged => {}
        }
        self.have_it_tried(slots, &version).map(Some)
    }

    /// Takes back the trial of a version that its publisher has stopped or withdrawn.
    fn call_off(&self, slots: &mut Slots) -> Result<(), String> {
        match slots.state() {
            SlotState::Armed(target) if !self.taken_from_bundle(target.version.as_str()) => {
                slots.disarm().map_err(|why| why.to_string())
            }
            _ => Ok(()),
        }
    }

    /// A version that is offered and not taken.
    fn refuse(&mut self, slots: &Slots, version: &str, why: String) {
        let failed = slots
            .rejected()
            .iter()
            .any(|one| one.version.as_str() == version);
        match failed {
            // The sentence about it is longer and already there.
            true if self.teller.last() == State::Rejected => {}
            true => self.teller.say(State::Rejected, version, why),
            false => self.teller.say(State::Waiting, version, why),
        }
    }

    fn installed(&self, slots: &Slots) -> Installed<'_> {
        Installed {
            product: &self.machine.name,
            profile: &self.machine.profile,
            architecture: berth_release::ARCHITECTURE,
            version: &self.machine.version,
            security_version: slots.security_floor(),
        }
    }

    /// Arms the trial of what is staged; restarts when the policy says so and it is time.
    fn have_it_tried(&mut self, slots: &mut Slots, version: &str) -> Result<Next, String> {
        let mut untried = false;
        if matches!(slots.state(), SlotState::Staged(_)) {
            match slots.activate() {
                Ok(()) => {}
                Err(SlotError::Firmware(_) | SlotError::Refused(Refusal::FirmwareIgnores(_)))
                    if self.update.without_trial =>
                {
                    untried = true
                }
                Err(why @ (SlotError::Firmware(_) | SlotError::Refused(_))) => {
                    self.teller.say(State::Trouble, version, why.to_string());
                    return Ok(Next::Look);
                }
                Err(why) => return Err(why.to_string()),
            }
        }
        let in_s = decide::restarts_in(&self.update, (self.now)());
        // There is no way back from it: not before it is due.
        if untried && matches!(in_s, None | Some(0)) {
            slots.commit_untried().map_err(|why| why.to_string())?;
        }
        let tries = match untried || exchanged(slots) {
            true => "runs it without a trial, as without_trial = true says",
            false => "tries it",
        };
        match in_s {
            None => {
                let sentence = format!("version {version} is ready: the next restart {tries}");
                self.teller.say(State::Staged, version, sentence);
                Ok(Next::Look)
            }
            Some(0) => {
                let sentence =
                    format!("version {version} is ready: the machine restarts now and {tries}");
                self.teller.restart(State::Staged, version, sentence);
                Ok(Next::Restart)
            }
            Some(seconds) => {
                let at = decide::time_of_day((self.now)().saturating_add(seconds));
                let sentence =
                    format!("version {version} is ready: the machine restarts at {at} and {tries}");
                self.teller.say(State::Staged, version, sentence);
                Ok(Next::Within(seconds.saturating_mul(1000)))
            }
        }
    }
}

/// A version that was given up is tried again when its publisher asks for another attempt.
fn forgive(slots: &mut Slots, target: &Target) -> Result<(), SlotError> {
    let failed = |one: &Rejection| one.version == target.version && one.attempt < target.attempt;
    match slots.rejected().iter().any(failed) {
        true => slots.forgive(&target.version),
        false => Ok(()),
    }
}

/// A version was committed without a trial: what runs is the one before, until the next start.
fn exchanged(slots: &Slots) -> bool {
    matches!(slots.state(), SlotState::Committed) && slots.running() == Running::Other
}

/// The root of the version that the next start runs or tries, as far as `release` may be it.
fn staged_root(slots: &Slots, release: &Release) -> Option<[u8; 32]> {
    match slots.state() {
        SlotState::Staged(target) | SlotState::Armed(target) => Some(target.root_hash.0),
        SlotState::Committed if exchanged(slots) => {
            let root = berth_slots::verity::RootHash(release.root.root_hash.0);
            (slots.committed().root_guid == root.partition_guid()).then_some(root.0)
        }
        _ => None,
    }
}

fn seconds(unix: u64) -> Time {
    Time(i64::try_from(unix).unwrap_or(i64::MAX))
}
