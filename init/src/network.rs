//! The network agent as PID 1 sees it: a process of its own that is started again when it ends,
//! and its records. What came from a network was parsed there; here are addresses and sentences.

use std::convert::Infallible;
use std::os::fd::AsFd;

use berth_network::report::{LEN, Record, State as LinkState};
use berth_network::{Places, Setup};
use berth_provision::status::NetworkStatus;

use crate::agent::Agent;
use crate::failure::{Doing, Failure};
use crate::kernel_log::{KernelLog, Urgency, now_us};
use crate::roles::Role;
use crate::{NETWORK_ROLE, machine, sys};

/// Its cgroup below /system.
const GROUP: &str = "network";
/// More networks than this on one machine are not shown.
const MOST_RECORDS: usize = 256;

/// Capabilities that the agent keeps (linux/capability.h).
const CAP_NET_BIND_SERVICE: u32 = 10;
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;

/// The agent and what it said last about each network.
#[derive(Debug, Default)]
pub(crate) struct NetworkAgent {
    pub(crate) agent: Agent,
    records: Vec<Record>,
}

impl NetworkAgent {
    /// Starts it. Addresses of an agent before it are still in place.
    pub(crate) fn start(&mut self) -> Result<(), Failure> {
        self.agent
            .started(Role::start(GROUP, &[NETWORK_ROLE], &[]), now_us())
    }

    /// Reads one record, and whether it says more than that a lease was prolonged; `None` when
    /// there is none.
    pub(crate) fn next_record(&mut self) -> Option<(Record, bool)> {
        let mut bytes = [0; LEN];
        if self.agent.read(&mut bytes) != LEN {
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
        self.records.iter().any(Record::is_addressed)
    }

    /// What the status says about the networks.
    pub(crate) fn status(&self) -> Vec<NetworkStatus> {
        self.records.iter().map(network_status).collect()
    }
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
}
