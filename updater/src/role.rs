//! The role's loop: open the slots, finish a trial that runs, then look, stage, restart.

use std::convert::Infallible;
use std::fs::{self, File};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use berth_fetch::{Authorities, Settings, Tls};
use berth_provision::status::Status;
use berth_provision::{Machine, Update, UpdatePolicy};
use berth_slots::session::{Error as SlotError, Session};
use berth_slots::state::{Booted, News, State as SlotState};
use berth_slots::sys::{BlockDevice, EfiVarFs, RecordFiles};
use berth_trust::release::Installed;
use berth_trust::{Clock, Time};

use crate::decide::{self, Facts, Step};
use crate::here::{self, now_us, unix_now};
use crate::metadata::{self, Identity, Offer};
use crate::report::State;
use crate::server::Web;
use crate::staging::{self, Stage};
use crate::telling::Teller;
use crate::trial::{self, Moment, Verdict};

/// Pause between two looks at the containers during a trial.
const TRIAL_PAUSE: Duration = Duration::from_secs(1);
/// A role that has nothing to do until the next restart looks up this often.
const IDLE: Duration = Duration::from_secs(3600);

/// Where things are on the machine.
#[derive(Clone, Debug)]
pub struct Places {
    /// The disk with the slots.
    pub disk: PathBuf,
    /// The verified root as a device: what a delta of the root is made from.
    pub root: PathBuf,
    /// The updater's directory on the state partition.
    pub state: PathBuf,
    /// What PID 1 says about the machine.
    pub status: PathBuf,
    /// Certificates that vouch for the server.
    pub certificates: PathBuf,
}

/// What the role needs.
pub struct Setup {
    /// The machine's configuration; its `update` is there.
    pub machine: Machine,
    /// The root of trust.
    pub trust: Vec<u8>,
    /// Where things are.
    pub places: Places,
    /// What makes this machine another than all others.
    pub seed: Vec<u8>,
    /// The pipe to PID 1.
    pub report: File,
}

type Slots = Session<BlockDevice, EfiVarFs, RecordFiles>;

/// Runs the role until it cannot go on.
///
/// # Errors
/// Why it cannot, as a sentence.
pub fn run(setup: Setup) -> Result<Infallible, String> {
    let Some(update) = setup.machine.update.clone() else {
        return Err("the machine's configuration has no [update]".into());
    };
    let mut role = Role {
        server: Web::new(&update.url, settings(&update, &setup.places)?)?,
        booted: here::booted(&setup.machine)?,
        seed: here::seed_number(&setup.seed),
        machine: setup.machine,
        update,
        trust: setup.trust,
        places: setup.places,
        machine_seed: setup.seed,
        teller: Teller::by(setup.report),
    };
    let mut slots = match role.open() {
        Ok(slots) => slots,
        Err(why) => {
            // Not a matter of trying again: a disk without a second slot gets none by waiting.
            role.teller.say(
                State::Trouble,
                "",
                format!("this machine cannot update itself: {why}"),
            );
            loop {
                sleep(IDLE);
            }
        }
    };
    role.teller.list(slots.rejected());
    if let SlotState::Trying(_) | SlotState::Rejected(_) = slots.state()
        && slots.running() == berth_slots::state::Running::Other
    {
        role.try_out(&mut slots);
    }
    if let Some(news) = slots.news() {
        role.teller.news(news);
    }
    role.look_for_ever(&mut slots)
}

fn settings(update: &Update, places: &Places) -> Result<Settings, String> {
    let tls: Option<Box<dyn Tls>> = match update.ca {
        false => None,
        true => {
            let path = places.certificates.display();
            let failed = |why: String| format!("cannot use {path}: {why}");
            let pem = fs::read(&places.certificates).map_err(|why| failed(why.to_string()))?;
            Some(Box::new(Authorities::read(&pem).map_err(failed)?))
        }
    };
    Ok(Settings {
        tls,
        proxy: update.proxy.clone(),
        most_per_second: update.rate,
        ..Settings::default()
    })
}

struct Role {
    machine: Machine,
    update: Update,
    trust: Vec<u8>,
    places: Places,
    machine_seed: Vec<u8>,
    seed: u64,
    booted: Booted,
    server: Web,
    teller: Teller,
}

impl Role {
    fn open(&self) -> Result<Slots, String> {
        let node = self.places.disk.display();
        let disk = BlockDevice::open(&self.places.disk);
        let disk = disk.map_err(|why| format!("cannot open {node}: {why}"))?;
        let records = RecordFiles::in_directory(&self.places.state);
        let records =
            records.map_err(|why| format!("cannot use {}: {why}", self.places.state.display()))?;
        Session::open(disk, EfiVarFs::mounted(), records, &self.booted)
            .map_err(|why| why.to_string())
    }

    // The trial.

    /// Judges the version that runs until it is kept, or the machine restarts without it.
    fn try_out(&mut self, slots: &mut Slots) {
        let version = self.machine.version.clone();
        if let SlotState::Rejected(one) = slots.state() {
            let why = one.reason.clone();
            self.go_back(&version, &why);
        }
        let mut server: Result<(), Option<String>> = Err(None);
        let mut next_look_us = 0;
        loop {
            let status = self.status();
            if server.is_err() && now_us() >= next_look_us && has_address(status.as_ref()) {
                server = match self.newest() {
                    Ok(_) => Ok(()),
                    Err(why) => Err(Some(why)),
                };
                next_look_us = now_us().saturating_add(3_000_000);
            }
            let moment = Moment {
                status: status.as_ref(),
                server: match &server {
                    Ok(()) => Ok(()),
                    Err(why) => Err(why.as_deref()),
                },
                now_us: now_us(),
            };
            match trial::judge(&self.machine, &self.update, &moment) {
                Verdict::Wait(what) => {
                    self.teller.say(
                        State::Trying,
                        &version,
                        format!("version {version} is being tried: {what}"),
                    );
                }
                Verdict::Keep => match slots.confirm() {
                    Ok(()) => {
                        let sentence = format!("version {version} was tried and stays");
                        self.teller.say(State::Committed, &version, sentence);
                        return;
                    }
                    Err(why) => {
                        let sentence =
                            format!("version {version} is good and cannot be kept: {why}");
                        self.teller.say(State::Trouble, &version, sentence);
                    }
                },
                Verdict::Reject(why) => {
                    if let Err(error) = slots.reject(&why) {
                        // Then the next start finds a trial that did not end well.
                        let sentence = format!("{why}; and that cannot be remembered: {error}");
                        self.teller.say(State::Trouble, &version, sentence);
                    }
                    self.go_back(&version, &why);
                }
            }
            sleep(TRIAL_PAUSE);
        }
    }

    /// Asks for the restart that leads back, and again: PID 1 may be started anew.
    fn go_back(&mut self, version: &str, why: &str) -> ! {
        loop {
            let sentence = format!(
                "version {version} is given up: {why}; the machine restarts into the one before"
            );
            self.teller.restart(State::Rejected, version, sentence);
            sleep(IDLE);
        }
    }

    fn status(&self) -> Option<Status> {
        let text = fs::read(&self.places.status).ok()?;
        serde_json::from_slice(&text).ok()
    }

    // Looking and staging.

    fn look_for_ever(&mut self, slots: &mut Slots) -> Result<Infallible, String> {
        let (mut looks, mut failures) = (0, 0);
        if self.update.policy == UpdatePolicy::Off {
            if slots.news().is_none() {
                let sentence = "this machine looks for no updates (policy = \"off\")".to_owned();
                self.teller.say(State::Off, "", sentence);
            }
            loop {
                sleep(IDLE);
            }
        }
        // A firmware that did not do as it was asked is not asked again by itself.
        let may_try = !matches!(slots.news(), Some(News::Ignored(_)));
        loop {
            let pause_ms = match self.look(slots, may_try) {
                Ok(until_ms) => {
                    failures = 0;
                    looks += 1;
                    let pause = decide::pause_ms(self.update.every_ms, self.seed, looks);
                    pause.min(until_ms)
                }
                Err(why) => {
                    let pause = decide::retry_ms(failures, self.update.every_ms);
                    failures += 1;
                    // The first is often a network that is not up yet.
                    if failures > 1 {
                        self.teller
                            .say(State::Trouble, "", format!("cannot update: {why}"));
                    }
                    pause
                }
            };
            sleep(Duration::from_millis(pause_ms));
        }
    }

    fn newest(&mut self) -> Result<Offer, String> {
        let identity = Identity {
            product: self.machine.name.clone(),
            profile: self.machine.profile.clone(),
            architecture: berth_release::ARCHITECTURE.to_owned(),
        };
        let clock = Clock::new(seconds(unix_now()), seconds(self.machine.built));
        let kept = self.places.state.join("metadata");
        let offer = metadata::newest(&mut self.server, &self.trust, &kept, clock, &identity)?;
        self.teller.checked = unix_now();
        Ok(offer)
    }

    /// One look, and what follows from it; gives the longest pause until the next.
    fn look(&mut self, slots: &mut Slots, may_try: bool) -> Result<u64, String> {
        let offer = self.newest()?;
        let release = &offer.release;
        let now = unix_now();
        let facts = Facts {
            running_root: self.booted.root.0,
            staged_root: match slots.state() {
                SlotState::Staged(target) | SlotState::Armed(target) => Some(target.root_hash.0),
                _ => None,
            },
            place: release.rollout.place(
                &self.machine_seed,
                &release.version,
                self.update.wave,
                now,
            ),
        };
        let version = release.version.clone();
        match decide::decide(release, &facts) {
            Step::Current => {
                let sentence = format!("version {version} is the newest");
                // What became of the last trial stays to be read.
                if slots.news().is_none() && self.teller.last() != State::Committed {
                    self.teller.say(State::Current, &version, sentence);
                }
                return Ok(u64::MAX);
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
                return Ok(u64::MAX);
            }
            Step::Stage => {
                let target = staging::target(&offer)?;
                let fits = offer.claims.fits(&self.installed(slots));
                let fits = fits.map_err(|why| format!("version {version} is not taken: {why}"));
                let room = slots.may_stage(&target).map_err(|why| why.to_string());
                if let Err(why) = fits.and(room) {
                    self.refuse(slots, &version, why);
                    return Ok(u64::MAX);
                }
                let stage = Stage {
                    server: &mut self.server,
                    teller: &mut self.teller,
                    places: &self.places,
                    running_root: self.booted.root,
                };
                stage.fill(slots, release, target)?;
            }
            Step::Staged => {}
        }
        if !may_try {
            return Ok(u64::MAX);
        }
        self.have_it_tried(slots, &version)
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
    fn have_it_tried(&mut self, slots: &mut Slots, version: &str) -> Result<u64, String> {
        if matches!(slots.state(), SlotState::Staged(_)) {
            match slots.activate() {
                Ok(()) => {}
                Err(why @ (SlotError::Firmware(_) | SlotError::Refused(_))) => {
                    self.teller.say(State::Trouble, version, why.to_string());
                    return Ok(u64::MAX);
                }
                Err(why) => return Err(why.to_string()),
            }
        }
        match decide::restarts_in(&self.update, unix_now()) {
            None => {
                let sentence = format!("version {version} is ready: the next restart tries it");
                self.teller.say(State::Staged, version, sentence);
                Ok(u64::MAX)
            }
            Some(0) => {
                let sentence = format!("the machine restarts now to try version {version}");
                self.teller.restart(State::Staged, version, sentence);
                sleep(IDLE);
                Ok(u64::MAX)
            }
            Some(seconds) => {
                let at = decide::time_of_day(unix_now().saturating_add(seconds));
                let sentence =
                    format!("version {version} is ready: the machine restarts at {at} to try it");
                self.teller.say(State::Staged, version, sentence);
                Ok(seconds.saturating_mul(1000))
            }
        }
    }
}

fn seconds(unix: u64) -> Time {
    Time(i64::try_from(unix).unwrap_or(i64::MAX))
}

fn has_address(status: Option<&Status>) -> bool {
    status.is_some_and(|status| status.networks.iter().any(|network| network.state == "up"))
}
