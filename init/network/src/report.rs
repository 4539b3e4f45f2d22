//! What the agent tells PID 1: one record of [`LEN`] bytes per change of an interface.
//!
//! A record is written whole or not at all (it is shorter than PIPE_BUF) and has its fields at
//! fixed places with lengths in front, so PID 1 reads it with a few bounds checks and parses no
//! byte that came from the network: the agent has already turned those into addresses, numbers
//! and checked text.

mod codec;

use std::fmt;
use std::net::Ipv4Addr;

use berth_provision::Ipv4Cidr;
use serde::Serialize;

use crate::hardware::HardwareAddress;

/// Length of every record in bytes.
pub const LEN: usize = 1024;

/// One network on one interface as the agent sees it now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Record {
    /// When this was so, CLOCK_MONOTONIC in microseconds.
    pub at_us: u64,
    /// How it stands.
    pub state: State,
    /// Name of the network in the configuration.
    pub network: String,
    /// Name of the interface; empty while none fits.
    pub interface: String,
    /// The kernel's number of the interface; 0 while none fits.
    pub index: u32,
    /// Its hardware address.
    pub hardware: HardwareAddress,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its IPv4 addresses, fixed and leased.
    pub addresses: Vec<Ipv4Cidr>,
    /// Next hop of its default route.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers.
    pub ntp: Vec<Ipv4Addr>,
    /// Domain of the network; empty when there is none.
    pub domain: String,
    /// The DHCP lease in use.
    pub lease: Option<LeaseTimes>,
    /// What happened, for a person.
    pub sentence: String,
}

/// How an interface stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// No interface fits the network.
    #[default]
    Absent,
    /// The interface is up and has no carrier.
    NoCarrier,
    /// A DHCP server is being asked and there is no address yet.
    Asking,
    /// It has its addresses.
    Up,
    /// Something could not be done; the sentence says what. It is tried again.
    Failed,
}

/// When a lease began and what is left of it; all in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LeaseTimes {
    /// The server that gave it.
    pub server: Ipv4Addr,
    /// When it began, CLOCK_BOOTTIME.
    pub began: u64,
    /// How long it lasts; `u32::MAX` is for ever.
    pub lasts: u32,
    /// After how long it is renewed.
    pub renew: u32,
    /// After how long any server is asked.
    pub rebind: u32,
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the network agent sent a record that is not one; it is ignored")]
pub struct Malformed;

impl State {
    /// The state's name as it stands in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::NoCarrier => "no-carrier",
            Self::Asking => "asking",
            Self::Up => "up",
            Self::Failed => "failed",
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Absent => 0,
            Self::NoCarrier => 1,
            Self::Asking => 2,
            Self::Up => 3,
            Self::Failed => 4,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [
            Self::Absent,
            Self::NoCarrier,
            Self::Asking,
            Self::Up,
            Self::Failed,
        ]
        .into_iter()
        .find(|state| state.code() == code)
    }
}

impl Record {
    /// Whether the machine can be reached by it: it has an address and a carrier. A failure of
    /// something else (an MTU that the driver refuses) does not count.
    pub fn is_addressed(&self) -> bool {
        matches!(self.state, State::Up | State::Failed) && !self.addresses.is_empty()
    }

    /// Whether it says something that `earlier`, about the same interface, did not: a renewal
    /// that changed nothing but times is no news.
    pub fn is_news_after(&self, earlier: &Self) -> bool {
        let same_times = Self {
            at_us: self.at_us,
            lease: self.lease,
            ..earlier.clone()
        };
        same_times != *self
    }
}

/// The record as a line of the kernel log, without the `berth: ` in front.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "network={}", self.network)?;
        if !self.interface.is_empty() {
            write!(f, " interface={}", self.interface)?;
        }
        write!(f, " state={}", self.state.name())?;
        for cidr in &self.addresses {
            write!(f, " address={}/{}", cidr.address, cidr.prefix)?;
        }
        if let Some(gateway) = self.gateway {
            write!(f, " gateway={gateway}")?;
        }
        for server in &self.dns {
            write!(f, " dns={server}")?;
        }
        if let Some(lease) = self.lease {
            write!(f, " server={} lease={}", lease.server, lease.lasts)?;
        }
        write!(f, " t={}", self.at_us)?;
        if !self.sentence.is_empty() {
            write!(f, " : {}", self.sentence)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::codec::{MAX_SERVERS, SENTENCE_LEN};
    use super::*;

    fn full() -> Record {
        Record {
            at_us: 1_234_567,
            state: State::Up,
            network: "lan".into(),
            interface: "eth0".into(),
            index: 2,
            hardware: HardwareAddress([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
            mtu: 1500,
            addresses: vec!["10.0.2.15/24".parse().unwrap()],
            gateway: Some(Ipv4Addr::new(10, 0, 2, 2)),
            dns: vec![Ipv4Addr::new(10, 0, 2, 3)],
            ntp: vec![Ipv4Addr::new(10, 0, 2, 4), Ipv4Addr::new(10, 0, 2, 5)],
            domain: "example.org".into(),
            lease: Some(LeaseTimes {
                server: Ipv4Addr::new(10, 0, 2, 2),
                began: 3,
                lasts: 86_400,
                renew: 43_200,
                rebind: 75_600,
            }),
            sentence: "leased 10.0.2.15 from 10.0.2.2 for 24 h".into(),
        }
    }

    #[test]
    fn what_is_sent_is_what_is_read() {
        let record = full();
        assert_eq!(Record::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn a_record_is_one_line_of_the_log() {
        assert_eq!(
            full().to_string(),
            "network=lan interface=eth0 state=up address=10.0.2.15/24 gateway=10.0.2.2 \
             dns=10.0.2.3 server=10.0.2.2 lease=86400 t=1234567 : \
             leased 10.0.2.15 from 10.0.2.2 for 24 h"
        );
    }

    #[test]
    fn an_address_counts_with_a_carrier_also_when_something_else_failed() {
        for (state, counts) in [
            (State::Up, true),
            (State::Failed, true),
            (State::NoCarrier, false),
            (State::Asking, false),
            (State::Absent, false),
        ] {
            let record = Record { state, ..full() };
            assert_eq!(record.is_addressed(), counts, "{state:?}");
            let bare = Record {
                addresses: vec![],
                ..record
            };
            assert!(!bare.is_addressed());
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_and_never_breaks_the_line() {
        let mut record = full();
        record.sentence = format!("a\nb{}", "ü".repeat(SENTENCE_LEN));
        record.dns = vec![Ipv4Addr::new(1, 2, 3, 4); 9];
        let read = Record::decode(&record.encode()).unwrap();
        assert_eq!(read.dns.len(), MAX_SERVERS);
        assert!(read.sentence.starts_with("abü") && read.sentence.len() <= SENTENCE_LEN);
    }

    #[test]
    fn no_byte_of_a_record_can_hurt_its_reader() {
        let bytes = full().encode();
        for place in 0..LEN {
            for value in [0, 1, 0x0a, 0x7f, 0x80, 0xff] {
                let mut wrong = bytes;
                wrong[place] = value;
                if let Ok(record) = Record::decode(&wrong) {
                    assert!(!record.to_string().contains('\n'));
                }
            }
        }
        assert_eq!(Record::decode(&[0; LEN]), Err(Malformed));
    }
}
