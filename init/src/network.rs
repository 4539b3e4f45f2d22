//! The network agent as PID 1 sees it: a process of its own that is started again when it ends,
//! and its records. What came from a network was parsed there; here are addresses and sentences.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd};

use berth_network::report::{LEN, Record, State as LinkState};
use berth_network::{Places, Setup};
use berth_provision::status::NetworkStatus;

use crate::failure::{Doing, Failure};
use crate::kernel_log::{KernelLog, Urgency, now_us};
use crate::roles::Role;
use crate::{NETWORK_ROLE, machine, sys};

/// Its cgroup below /system.
const GROUP: &str = "network";
const FIRST_PAUSE_US: u64 = 500_000;
const LONGEST_PAUSE_US: u64 = 60_000_000;
/// An agent that lived this long was in order: its next failure is the first again.
const GOOD_LIFE_US: u64 = 60_000_000;
/// More networks than this on one machine are not shown.
const MOST_RECORDS: usize = 256;

/// Capabilities that the agent keeps (linux/capability.h).
const CAP_NET_BIND_SERVICE: u32 = 10;
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;

/// The agent and what it said last about each network.
#[derive(Debug, Default)]
pub(crate) struct NetworkAgent {
    life: Life,
    failures: u32,
    records: Vec<Record>,
}

#[derive(Debug, Default)]
enum Life {
    #[default]
    Off,
    Running {
        role: Role,
        since_us: u64,
    },
    Pausing {
        until_us: u64,
    },
}

impl NetworkAgent {
    /// Starts it.
    pub(crate) fn start(&mut self) -> Result<(), Failure> {
        let since_us = now_us();
        match Role::start(GROUP, &[NETWORK_ROLE]) {
            Ok(role) => {
                self.life = Life::Running { role, since_us };
                Ok(())
            }
            Err(why) => {
                self.pause(since_us, since_us);
                Err(why)
            }
        }
    }

    /// Whether this is its process.
    pub(crate) fn is(&self, pid: i32) -> bool {
        matches!(&self.life, Life::Running { role, .. } if role.pid == pid)
    }

    /// Whether it has a process.
    pub(crate) fn runs(&self) -> bool {
        matches!(self.life, Life::Running { .. })
    }

    /// Its process has ended; it is started again after a pause. Addresses stay as they are.
    pub(crate) fn ended(&mut self, now_us: u64) {
        if let Life::Running { since_us, .. } = self.life {
            self.pause(since_us, now_us);
        }
    }

    /// When it is to be started again.
    pub(crate) fn restart_us(&self) -> Option<u64> {
        match self.life {
            Life::Pausing { until_us } => Some(until_us),
            Life::Off | Life::Running { .. } => None,
        }
    }

    /// Asks it to end, for good.
    pub(crate) fn stop(&mut self) {
        match &self.life {
            Life::Running { role, .. } => role.ask_to_end(),
            Life::Off | Life::Pausing { .. } => self.life = Life::Off,
        }
    }

    /// What to poll.
    pub(crate) fn output(&self) -> Option<BorrowedFd<'_>> {
        match &self.life {
            Life::Running { role, .. } if role.is_open() => Some(role.as_fd()),
            _ => None,
        }
    }

    /// Reads one record, and whether it says more than that a lease was prolonged; `None` when
    /// there is none.
    pub(crate) fn next_record(&mut self) -> Option<(Record, bool)> {
        let Life::Running { role, .. } = &mut self.life else {
            return None;
        };
        let mut bytes = [0; LEN];
        if role.read(&mut bytes) != LEN {
            return None; // a record is written whole or not at all
        }
        let record = Record::decode(&bytes).ok()?;
        let news = self.take_in(record.clone());
        Some((record, news))
    }

    /// Puts a record in the place of what was known before; whether that is news.
    fn take_in(&mut self, record: Record) -> bool {
        let same =
            |known: &Record| known.network == record.network && known.interface == record.interface;
        let earlier = self.records.iter().find(|known| same(known));
        let news = earlier.is_none_or(|earlier| record.is_news_after(earlier));
        // The word about a network without an interface ends with the first that fits.
        self.records
            .retain(|known| !same(known) && (known.network != record.network || known.index != 0));
        let gone = record.state == LinkState::Absent && record.index != 0;
        if !gone && self.records.len() < MOST_RECORDS {
            self.records.push(record);
        }
        news
    }

    /// Whether the machine has an address.
    pub(crate) fn has_address(&self) -> bool {
        let up = |record: &Record| record.state == LinkState::Up && !record.addresses.is_empty();
        self.records.iter().any(up)
    }

    /// What the status says about the networks.
    pub(crate) fn status(&self) -> Vec<NetworkStatus> {
        self.records.iter().map(network_status).collect()
    }

    fn pause(&mut self, since_us: u64, now_us: u64) {
        if now_us.saturating_sub(since_us) >= GOOD_LIFE_US {
            self.failures = 0;
        }
        self.life = Life::Pausing {
            until_us: now_us.saturating_add(pause_us(self.failures)),
        };
        self.failures = self.failures.saturating_add(1);
    }
}

/// The pause after this many failures in a row: doubled each time.
fn pause_us(failures: u32) -> u64 {
    FIRST_PAUSE_US
        .checked_shl(failures.min(16))
        .map_or(LONGEST_PAUSE_US, |pause| pause.min(LONGEST_PAUSE_US))
}

fn network_status(record: &Record) -> NetworkStatus {
    let present = !record.interface.is_empty();
    let cidr = |cidr: &berth_provision::Ipv4Cidr| String::from(*cidr);
    NetworkStatus {
        name: record.network.clone(),
        interface: present.then(|| record.interface.clone()),
        state: record.state.name().to_owned(),
        hardware: present.then(|| record.hardware.to_string()),
        addresses: record.addresses.iter().map(cidr).collect(),
        gateway: record.gateway.map(|gateway| gateway.to_string()),
    }
}

/// The agent's own process: gives up what it does not need, then runs until it cannot go on.
pub(crate) fn run_agent() -> Result<(), Failure> {
    let machine = machine::read()?;
    let hostname = nix::unistd::gethostname().doing(|| "read the host name".to_owned())?;
    let report = std::io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .doing(|| "keep the pipe to PID 1".to_owned())?;
    sys::restrict_bounding_set(&[CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW])
        .doing(|| "give up capabilities".to_owned())?;
    let why: Result<Infallible, _> = berth_network::run(Setup {
        networks: machine.networks,
        hostname: hostname.to_string_lossy().into_owned(),
        report,
        places: Places::default(),
    });
    let Err(why) = why;
    KernelLog::direct().line(Urgency::Error, &format!("network : {why}"));
    Err(Failure::new(why.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(interface: &str, index: u32, state: LinkState, at_us: u64) -> Record {
        Record {
            at_us,
            state,
            network: "lan".to_owned(),
            interface: interface.to_owned(),
            index,
            ..Record::default()
        }
    }

    #[test]
    fn a_lease_that_was_only_prolonged_is_no_news() {
        let mut agent = NetworkAgent::default();
        assert!(agent.take_in(record("eth0", 2, LinkState::Asking, 1)));
        assert!(agent.take_in(record("eth0", 2, LinkState::Up, 2)));
        assert!(!agent.take_in(record("eth0", 2, LinkState::Up, 3)));
        assert_eq!(agent.records.len(), 1);
    }

    #[test]
    fn an_interface_that_is_gone_is_shown_no_more() {
        let mut agent = NetworkAgent::default();
        agent.take_in(record("", 0, LinkState::Absent, 1));
        agent.take_in(record("eth0", 2, LinkState::Up, 2));
        assert_eq!(agent.status().len(), 1);
        assert!(agent.take_in(record("eth0", 2, LinkState::Absent, 3)));
        assert!(agent.status().is_empty());
        agent.take_in(record("", 0, LinkState::Absent, 4));
        assert_eq!(agent.status().len(), 1);
    }

    #[test]
    fn an_agent_that_fails_at_once_is_started_ever_less_often() {
        let mut agent = NetworkAgent::default();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            agent.pause(0, 0);
            pauses.extend(agent.restart_us());
        }
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(pauses.first(), Some(&FIRST_PAUSE_US));
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE_US));
    }

    #[test]
    fn a_good_life_is_rewarded() {
        let mut agent = NetworkAgent::default();
        for _ in 0..10 {
            agent.pause(0, 0);
        }
        agent.pause(0, GOOD_LIFE_US);
        assert_eq!(agent.restart_us(), Some(GOOD_LIFE_US + FIRST_PAUSE_US));
    }
}
