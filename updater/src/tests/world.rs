//! A machine whose disk, variables and state are files.

use std::cell::Cell;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use berth_cuts::life;
use berth_fetch::Settings;
use berth_provision::{Machine, Update, UpdatePolicy, Window};
use berth_slots::session::Session;
use berth_slots::sys::{BlockDevice, EfiVarFs, RecordFiles};
use tempfile::TempDir;

use super::publisher::{Content, DAY_S, NOW, Publisher};
use crate::report::{LEN, Record, State};
use crate::role::{Places, Role, Slots};
use crate::server::Web;
use crate::telling::Teller;

/// A machine that runs one version.
pub(super) struct World {
    directory: TempDir,
    running: Content,
    pub(super) update: Update,
    trust: Vec<u8>,
    pub(super) now: Rc<Cell<u64>>,
    pub(super) disks: Vec<PathBuf>,
    /// Whether the firmware keeps variables.
    pub(super) variables: bool,
    boot_id: [u8; 16],
}

impl World {
    pub(super) fn running(running: &Content, publisher: &Publisher) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let sectors = 128 << 11;
        let disk = File::create(at("disk")).expect("a disk");
        disk.set_len(sectors * 512).expect("its size");
        let installed = life::installed(running, sectors).expect("a disk");
        for (offset, block) in installed.written() {
            disk.write_all_at(block, offset).expect("a block");
        }
        fs::create_dir(at("variables")).expect("the variables");
        let world = Self {
            running: running.clone(),
            update: Update {
                url: None,
                bundles: true,
                policy: UpdatePolicy::Auto,
                window: None,
                every_ms: 10_000,
                wave: None,
                healthy: None,
                within_ms: 60_000,
                hold_ms: 1000,
                proxy: None,
                ca: false,
                rate: None,
                without_trial: false,
            },
            trust: publisher.trust(),
            now: Rc::new(Cell::new(NOW)),
            disks: Vec::new(),
            variables: true,
            boot_id: [1; 16],
            directory,
        };
        fs::create_dir(world.state()).expect("the state");
        world
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn state(&self) -> PathBuf {
        self.at("state")
    }

    /// Plugs a bundle in.
    pub(super) fn plug(&mut self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.at(name);
        fs::write(&path, bytes).expect("a bundle");
        self.disks.push(path.clone());
        path
    }

    /// The machine started again.
    pub(super) fn restarted(mut self) -> Self {
        self.boot_id = [self.boot_id[0] + 1; 16];
        self
    }

    /// Its updater, as it starts.
    pub(super) fn role(&self, settings: Settings) -> Updater {
        let booted = self.running.booted(self.boot_id);
        let records = RecordFiles::in_directory(&self.state()).expect("records");
        let variables = match self.variables {
            true => self.at("variables"),
            false => self.at("no-variables"),
        };
        let slots = Session::open(
            BlockDevice::open(&self.at("disk")).expect("the disk"),
            EfiVarFs::at(&variables),
            records,
            &booted,
        );
        let said = self.at("said");
        let pipe = File::create(&said).expect("the pipe");
        let url = self.update.url.as_deref();
        let server = url.map(|url| Web::new(url, settings).expect("a URL"));
        let (now, disks) = (Rc::clone(&self.now), self.disks.clone());
        let machine = Machine {
            name: "edge".into(),
            profile: "cloud".into(),
            version: self.running.target.version.to_string(),
            built: NOW - DAY_S,
            ..Machine::default()
        };
        let role = Role {
            machine,
            update: self.update.clone(),
            trust: self.trust.clone(),
            places: Places {
                disk: self.at("disk"),
                state: self.state(),
                status: self.at("status.json"),
                certificates: self.at("ca.pem"),
            },
            machine_seed: b"a machine".to_vec(),
            seed: 7,
            booted,
            server,
            disks: Box::new(move || disks.clone()),
            refused: Vec::new(),
            now: Box::new(move || now.get()),
            teller: Teller::by(pipe),
        };
        Updater {
            role,
            slots: slots.expect("the slots"),
            said,
        }
    }
}

/// A window of an hour that opens in an hour.
pub(super) fn in_an_hour() -> Window {
    let minute = u16::try_from(NOW / 60 % 1440).expect("a minute");
    Window {
        from: (minute + 60) % 1440,
        to: (minute + 120) % 1440,
    }
}

/// An updater and what it said.
pub(super) struct Updater {
    pub(super) role: Role,
    pub(super) slots: Slots,
    said: PathBuf,
}

impl Updater {
    pub(super) fn look(&mut self) -> Result<crate::looking::Next, String> {
        self.role.look(&mut self.slots)
    }

    /// Everything that PID 1 was told.
    pub(super) fn said(&self) -> Vec<Record> {
        records(&self.said)
    }

    /// The last thing that PID 1 was told.
    pub(super) fn last(&self) -> (State, String) {
        let last = self.said().pop().expect("it said something");
        (last.state, last.sentence)
    }
}

pub(super) fn records(path: &Path) -> Vec<Record> {
    let bytes = fs::read(path).expect("what was said");
    let (records, rest) = bytes.as_chunks::<LEN>();
    assert!(rest.is_empty(), "half a record");
    let decoded = records.iter().map(Record::decode);
    decoded.map(|record| record.expect("a record")).collect()
}
