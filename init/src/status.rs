//! What the machine says about itself: kept here, written to status.json and to the consoles
//! when it changes.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use berth_provision::Machine;
use berth_provision::status::{
    ContainerStatus, Memory, NetworkStatus, PhaseStatus, STATUS_PATH, Slot, Status, UpdateStatus,
};

use crate::console;
use crate::own_disk::OwnDisk;
use crate::{durable, machine_id};

/// The file is at most this old, for readers who want memory and uptime.
const REFRESH_US: u64 = 10_000_000;
/// Changes that come together are written together.
const SETTLE_US: u64 = 200_000;
/// Pages on the consoles are at least this long apart, and twice as long each time, up to the
/// longest, while they keep coming: a container that fails over and over fills no console.
const SHORTEST_PAGE_PAUSE_US: u64 = 2_000_000;
const LONGEST_PAGE_PAUSE_US: u64 = 120_000_000;
/// Numbers of the partitions that hold the roots (ARCHITECTURE.md, "The disk").
const ROOT_A: u32 = 3;
const ROOT_B: u32 = 4;

/// The status as it grows.
#[derive(Debug, Default)]
pub(crate) struct Book {
    status: Status,
    /// Facts about the running system that never change have been gathered.
    settled: bool,
    changed: bool,
    due_us: u64,
    last_page: String,
    next_page_us: u64,
    page_pause_us: u64,
}

impl Book {
    /// A boot phase has ended.
    pub(crate) fn phase(&mut self, phase: PhaseStatus) {
        self.status.phases.push(phase);
        self.changed = true;
    }

    /// The host name was set.
    pub(crate) fn hostname(&mut self, name: String) {
        self.status.hostname = name;
        self.changed = true;
    }

    /// The containers have news.
    pub(crate) fn containers(&mut self, containers: Vec<ContainerStatus>, ready_us: Option<u64>) {
        self.status.containers = containers;
        self.status.ready_us = ready_us;
        self.changed = true;
    }

    /// The network agent has news.
    pub(crate) fn networks(&mut self, networks: Vec<NetworkStatus>) {
        self.status.networks = networks;
        self.changed = true;
    }

    /// The updater may have news.
    pub(crate) fn updates(&mut self, update: UpdateStatus) {
        if self.status.update.as_ref() != Some(&update) {
            self.status.update = Some(update);
            self.changed = true;
        }
    }

    /// The last thing that went wrong.
    pub(crate) fn trouble(&mut self, sentence: String) {
        self.status.trouble = Some(sentence);
        self.changed = true;
    }

    /// Writes what is due; gives the time when something is due again.
    pub(crate) fn publish(&mut self, machine: &Machine, now_us: u64) -> u64 {
        if std::mem::take(&mut self.changed) {
            self.due_us = self.due_us.min(now_us.saturating_add(SETTLE_US));
        }
        if now_us < self.due_us {
            return self.due_us;
        }
        self.due_us = now_us.saturating_add(REFRESH_US);
        self.gather(machine, now_us);
        // Without the file there is still the console, and the next try is seconds away.
        if let Ok(text) = serde_json::to_vec(&self.status) {
            let _ = durable::replace_in_memory(Path::new(STATUS_PATH), &text);
        }
        let page = console::page(&self.status);
        if page != self.last_page {
            if now_us >= self.next_page_us {
                console::show(&page, now_us);
                self.last_page = page;
                self.page_pause_us = page_pause_us(self.page_pause_us, self.next_page_us, now_us);
                self.next_page_us = now_us.saturating_add(self.page_pause_us);
            } else {
                self.due_us = self.due_us.min(self.next_page_us);
            }
        }
        self.due_us
    }

    fn gather(&mut self, machine: &Machine, now_us: u64) {
        let status = &mut self.status;
        if !self.settled {
            self.settled = true;
            status.name.clone_from(&machine.name);
            status.version.clone_from(&machine.version);
            status.kernel = line_of("/proc/sys/kernel/osrelease");
            let command_line = line_of("/proc/cmdline");
            status.root_hash = root_hash(&command_line).map(str::to_owned);
            status.slot = OwnDisk::find().ok().flatten().and_then(|disk| slot(&disk));
        }
        if status.machine_id.is_none() {
            status.machine_id = machine_id::current();
        }
        status.uptime_us = now_us;
        status.unix_time = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO)
            .as_secs();
        status.memory = memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
    }
}

/// The pause after a page that is shown now, when one was possible from `since_us` on.
fn page_pause_us(before_us: u64, since_us: u64, now_us: u64) -> u64 {
    if now_us.saturating_sub(since_us) > before_us {
        return SHORTEST_PAGE_PAUSE_US; // it was quiet for as long again
    }
    before_us
        .saturating_mul(2)
        .clamp(SHORTEST_PAGE_PAUSE_US, LONGEST_PAGE_PAUSE_US)
}

fn slot(disk: &OwnDisk) -> Option<Slot> {
    match disk.root_partition {
        ROOT_A => Some(Slot::A),
        ROOT_B => Some(Slot::B),
        _ => None,
    }
}

fn line_of(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}

/// The root hash in the dm-verity table of `dm-mod.create=`: fields are `version data hash
/// data-block-size hash-block-size blocks start algorithm HASH salt`.
fn root_hash(command_line: &str) -> Option<&str> {
    const SHA256_DIGITS: usize = 64;
    let (_, table) = command_line.split_once(" verity ")?;
    let hash = table.split(' ').nth(8)?;
    let digits = hash.len() == SHA256_DIGITS && hash.bytes().all(|b| b.is_ascii_hexdigit());
    digits.then_some(hash)
}

fn memory(meminfo: &str) -> Memory {
    let bytes = |name: &str| {
        meminfo
            .lines()
            .find_map(|line| line.strip_prefix(name)?.split_whitespace().next())
            .and_then(|kibibytes| kibibytes.parse::<u64>().ok())
            .map_or(0, |kibibytes| kibibytes.saturating_mul(1024))
    };
    Memory {
        total: bytes("MemTotal:"),
        available: bytes("MemAvailable:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_keep_coming_come_ever_less_often() {
        let (mut pause, mut now) = (0, 0);
        for _ in 0..20 {
            pause = page_pause_us(pause, now, now);
            now += pause;
        }
        assert_eq!(pause, LONGEST_PAGE_PAUSE_US);
        let quiet = now + pause + 1;
        assert_eq!(page_pause_us(pause, now, quiet), SHORTEST_PAGE_PAUSE_US);
    }

    #[test]
    fn the_file_stays_fresh_while_a_page_waits() {
        let mut book = Book {
            next_page_us: LONGEST_PAGE_PAUSE_US,
            ..Book::default()
        };
        book.trouble("x".into());
        let now = 1_000_000;
        assert_eq!(book.publish(&Machine::default(), now), now + REFRESH_US);
        let now = LONGEST_PAGE_PAUSE_US - 1_000_000;
        let due = book.publish(&Machine::default(), now);
        assert_eq!(due, LONGEST_PAGE_PAUSE_US, "the page comes in its time");
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotal:         48000 kB\nMemFree:  1 kB\nMemAvailable:      30000 kB\n";
        let read = memory(text);
        assert_eq!((read.total, read.available), (49_152_000, 30_720_000));
        assert_eq!(memory("rubbish"), Memory::default());
    }

    #[test]
    fn the_root_hash_is_found_in_the_verity_table() {
        let hash = "ab".repeat(32);
        let line = format!(
            "console=ttyS0 dm-mod.create=\"root,,,ro,0 2048 verity 1 PARTUUID=x PARTUUID=x 4096 \
             4096 256 257 sha256 {hash} 00\" root=/dev/dm-0"
        );
        assert_eq!(root_hash(&line), Some(hash.as_str()));
        assert_eq!(root_hash("root=/dev/vda"), None);
    }
}
