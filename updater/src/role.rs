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
use berth_slots::state::{Booted, Running, State as SlotState};
use berth_slots::sys::{BlockDevice, EfiVarFs, RecordFiles};

use crate::bundle;
use crate::decide;
use crate::here::{self, now_us};
use crate::looking::Next;
use crate::plugs::Plugs;
use crate::report::State;
use crate::server::Web;
use crate::telling::Teller;
use crate::trial::{self, Moment, Reach, Verdict};

/// Pause between two looks at the containers during a trial.
const TRIAL_PAUSE: Duration = Duration::from_secs(1);
/// A role that has nothing to do until the next restart looks up this often.
const IDLE: Duration = Duration::from_secs(3600);

/// Where things are on the machine.
#[derive(Clone, Debug)]
pub struct Places {
    /// The disk with the slots.
    pub disk: PathBuf,
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

/// The slots of this machine.
pub(crate) type Slots = Session<BlockDevice, EfiVarFs, RecordFiles>;

/// Runs the role until it cannot go on.
///
/// # Errors
/// Why it cannot, as a sentence.
pub fn run(setup: Setup) -> Result<Infallible, String> {
    let Some(update) = setup.machine.update.clone() else {
        return Err("the machine's configuration has no [update]".into());
    };
    let server = match &update.url {
        Some(url) => Some(Web::new(url, settings(&update, &setup.places)?)?),
        None => None,
    };
    let own = setup.places.disk.clone();
    let mut role = Role {
        server,
        disks: Box::new(move || bundle::disks(&own)),
        refused: Vec::new(),
        now: Box::new(here::unix_now),
        booted: here::booted(&setup.machine)?,
        seed: here::seed_number(&setup.seed),
        machine: setup.machine,
        update,
        trust: setup.trust,
        places: setup.places,
        machine_seed: setup.seed,
        teller: Teller::by(setup.report),
    };
    let mut slots = role.opened();
    role.teller.list(slots.rejected());
    if let SlotState::Trying(_) | SlotState::Rejected(_) = slots.state()
        && slots.running() == Running::Other
    {
        role.try_out(&mut slots);
    }
    if let Some(news) = slots.news() {
        role.teller.news(news);
    }
    role.look_for_ever(&mut slots)
}

pub(crate) fn settings(update: &Update, places: &Places) -> Result<Settings, String> {
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

/// The role: what it knows, and whom it asks and tells.
pub(crate) struct Role {
    pub(crate) machine: Machine,
    pub(crate) update: Update,
    pub(crate) trust: Vec<u8>,
    pub(crate) places: Places,
    pub(crate) machine_seed: Vec<u8>,
    pub(crate) seed: u64,
    pub(crate) booted: Booted,
    /// The update server, if there is one.
    pub(crate) server: Option<Web>,
    /// Disks that may hold a bundle.
    pub(crate) disks: Box<dyn FnMut() -> Vec<PathBuf>>,
    /// What was said about bundles that cannot be used, and are still plugged in.
    pub(crate) refused: Vec<String>,
    /// Seconds since 1970.
    pub(crate) now: Box<dyn Fn() -> u64>,
    pub(crate) teller: Teller,
}

impl Role {
    /// The slots, once they can be had: a disk that gives no answer now may give one later.
    fn opened(&mut self) -> Slots {
        let mut failures = 0;
        loop {
            let why = match self.open() {
                Ok(slots) => return slots,
                Err(why) => why,
            };
            let sentence = format!("this machine cannot update itself: {why}");
            self.teller.say(State::Trouble, "", sentence);
            let pause_ms = decide::retry_ms(failures, self.update.every_ms);
            sleep(Duration::from_millis(pause_ms));
            failures = failures.saturating_add(1);
        }
    }

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
        let by_bundle = self.came_by_bundle(&version);
        let mut server: Result<(), Option<String>> = Err(None);
        let mut next_look_us = 0;
        loop {
            let status = self.status();
            if !by_bundle
                && server.is_err()
                && now_us() >= next_look_us
                && has_address(status.as_ref())
            {
                server = self.reach().map_err(Some);
                next_look_us = now_us().saturating_add(3_000_000);
            }
            let moment = Moment {
                status: status.as_ref(),
                server: match &server {
                    _ if by_bundle => Reach::NotNeeded,
                    Ok(()) => Reach::Reached,
                    Err(why) => Reach::NotYet(why.as_deref()),
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
                    Err(why) if slots.running() == Running::Committed => {
                        let why = match why {
                            SlotError::Firmware(why) => why.to_string(),
                            why => why.to_string(),
                        };
                        let sentence = format!(
                            "version {version} was tried and stays; what is left of its trial goes \
                             with the next start or update ({why})"
                        );
                        self.teller.say(State::Committed, &version, sentence);
                        return;
                    }
                    Err(why) => {
                        let sentence =
                            format!("version {version} is good and cannot be kept yet: {why}");
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

    fn look_for_ever(&mut self, slots: &mut Slots) -> Result<Infallible, String> {
        if self.update.policy == UpdatePolicy::Off {
            if slots.news().is_none() {
                let sentence = "this machine looks for no updates (policy = \"off\")".to_owned();
                self.teller.say(State::Off, "", sentence);
            }
            loop {
                sleep(IDLE);
            }
        }
        // From before the first look, so that no disk comes between the two.
        let plugs = match self.update.bundles {
            true => Plugs::listen(),
            false => Plugs::none(),
        };
        let (mut looks, mut failures) = (0, 0);
        loop {
            let pause_ms = match self.look(slots) {
                Ok(Next::Restart) => {
                    sleep(IDLE);
                    continue;
                }
                Ok(next) => {
                    failures = 0;
                    looks += 1;
                    let pause = decide::pause_ms(self.update.every_ms, self.seed, looks);
                    match next {
                        Next::Within(ms) => pause.min(ms),
                        _ => pause,
                    }
                }
                Err(why) => {
                    let pause = decide::retry_ms(failures, self.update.every_ms);
                    failures += 1;
                    // The first is often a network that is not up yet.
                    if failures > 1 {
                        let sentence = format!("cannot update: {why}");
                        self.teller.say(State::Trouble, "", sentence);
                    }
                    pause
                }
            };
            plugs.wait(Duration::from_millis(pause_ms));
        }
    }
}

fn has_address(status: Option<&Status>) -> bool {
    status.is_some_and(|status| status.networks.iter().any(|network| network.state == "up"))
}
