//! What the agent tells PID 1: one record of [`LEN`] bytes per change of an interface.
//!
//! A record is written whole or not at all (it is shorter than PIPE_BUF) and has its fields at
//! fixed places with lengths in front, so PID 1 reads it with a few bounds checks and parses no
//! byte that came from the network: the agent has already turned those into addresses, numbers
//! and checked text.

use std::fmt;
use std::net::Ipv4Addr;

use berth_provision::Ipv4Cidr;
use serde::Serialize;

use crate::hardware::HardwareAddress;

/// Length of every record in bytes.
pub const LEN: usize = 1024;

const MAGIC: [u8; 4] = *b"BNR1";
const MAX_ADDRESSES: usize = 8;
const MAX_SERVERS: usize = 4;
const NAME_LEN: usize = 16;
const NETWORK_LEN: usize = 64;
const DOMAIN_LEN: usize = 128;
const SENTENCE_LEN: usize = 512;

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
    /// The record's bytes. What does not fit (a ninth address, a long sentence's end) is left out.
    pub fn encode(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let mut writer = Writer(&mut bytes);
        writer.put(&MAGIC);
        writer.put(&[self.state.code()]);
        writer.put(&self.at_us.to_le_bytes());
        writer.put(&self.index.to_le_bytes());
        writer.put(&self.mtu.to_le_bytes());
        writer.put(&self.hardware.0);
        writer.text(&self.interface, NAME_LEN);
        writer.text(&self.network, NETWORK_LEN);
        writer.put(&[u8::try_from(self.addresses.len().min(MAX_ADDRESSES)).unwrap_or(0)]);
        for place in 0..MAX_ADDRESSES {
            let cidr = self.addresses.get(place);
            writer.put(&cidr.map_or([0; 4], |cidr| cidr.address.octets()));
            writer.put(&[cidr.map_or(0, |cidr| cidr.prefix)]);
        }
        writer.put(&self.gateway.map_or([0; 4], |gateway| gateway.octets()));
        writer.servers(&self.dns);
        writer.servers(&self.ntp);
        writer.text(&self.domain, DOMAIN_LEN);
        match self.lease {
            None => writer.put(&[0; 25]),
            Some(lease) => {
                writer.put(&[1]);
                writer.put(&lease.server.octets());
                writer.put(&lease.began.to_le_bytes());
                writer.put(&lease.lasts.to_le_bytes());
                writer.put(&lease.renew.to_le_bytes());
                writer.put(&lease.rebind.to_le_bytes());
            }
        }
        writer.text(&self.sentence, SENTENCE_LEN);
        bytes
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`Malformed`] for bytes that [`Record::encode`] does not write.
    pub fn decode(bytes: &[u8; LEN]) -> Result<Self, Malformed> {
        Self::read(&mut Reader(bytes)).ok_or(Malformed)
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

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        (reader.take()? == MAGIC).then_some(())?;
        let [state] = reader.take()?;
        Some(Self {
            state: State::from_code(state)?,
            at_us: u64::from_le_bytes(reader.take()?),
            index: u32::from_le_bytes(reader.take()?),
            mtu: u32::from_le_bytes(reader.take()?),
            hardware: HardwareAddress(reader.take()?),
            interface: reader.text(NAME_LEN)?,
            network: reader.text(NETWORK_LEN)?,
            addresses: reader.addresses()?,
            gateway: Some(Ipv4Addr::from(reader.take::<4>()?)).filter(|ip| !ip.is_unspecified()),
            dns: reader.servers()?,
            ntp: reader.servers()?,
            domain: reader.text(DOMAIN_LEN)?,
            lease: reader.lease()?,
            sentence: reader.text(SENTENCE_LEN)?,
        })
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

struct Writer<'a>(&'a mut [u8]);

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        if let Some((head, tail)) = std::mem::take(&mut self.0).split_at_mut_checked(bytes.len()) {
            head.copy_from_slice(bytes);
            self.0 = tail;
        }
    }

    /// Two bytes of length, then `room` bytes of text: printable characters only, cut at a
    /// character's end.
    fn text(&mut self, text: &str, room: usize) {
        let mut clean = String::new();
        for c in text.chars().filter(|c| !c.is_control()) {
            if clean.len() + c.len_utf8() > room {
                break;
            }
            clean.push(c);
        }
        let len = u16::try_from(clean.len()).unwrap_or(0);
        self.put(&len.to_le_bytes());
        clean.extend(std::iter::repeat_n('\0', room.saturating_sub(clean.len())));
        self.put(clean.as_bytes());
    }

    fn servers(&mut self, servers: &[Ipv4Addr]) {
        self.put(&[u8::try_from(servers.len().min(MAX_SERVERS)).unwrap_or(0)]);
        for place in 0..MAX_SERVERS {
            self.put(&servers.get(place).map_or([0; 4], Ipv4Addr::octets));
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    fn text(&mut self, room: usize) -> Option<String> {
        let len = usize::from(u16::from_le_bytes(self.take()?));
        let (field, tail) = self.0.split_at_checked(room)?;
        self.0 = tail;
        let text = std::str::from_utf8(field.get(..len)?).ok()?;
        (!text.chars().any(char::is_control)).then(|| text.to_owned())
    }

    fn addresses(&mut self) -> Option<Vec<Ipv4Cidr>> {
        let [count] = self.take()?;
        let mut addresses = Vec::new();
        for place in 0..MAX_ADDRESSES {
            let address = Ipv4Addr::from(self.take::<4>()?);
            let [prefix] = self.take()?;
            if place < usize::from(count) {
                addresses.push(Ipv4Cidr { address, prefix });
            }
        }
        let fits = usize::from(count) <= MAX_ADDRESSES;
        (fits && addresses.iter().all(|cidr| cidr.prefix <= 32)).then_some(addresses)
    }

    fn servers(&mut self) -> Option<Vec<Ipv4Addr>> {
        let [count] = self.take()?;
        let mut servers = Vec::new();
        for place in 0..MAX_SERVERS {
            let server = Ipv4Addr::from(self.take::<4>()?);
            if place < usize::from(count) {
                servers.push(server);
            }
        }
        (usize::from(count) <= MAX_SERVERS).then_some(servers)
    }

    fn lease(&mut self) -> Option<Option<LeaseTimes>> {
        let [present] = self.take()?;
        let lease = LeaseTimes {
            server: Ipv4Addr::from(self.take::<4>()?),
            began: u64::from_le_bytes(self.take()?),
            lasts: u32::from_le_bytes(self.take()?),
            renew: u32::from_le_bytes(self.take()?),
            rebind: u32::from_le_bytes(self.take()?),
        };
        match present {
            0 => Some(None),
            1 => Some(Some(lease)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
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
