//! A record's bytes: every field at its fixed place, lengths in front of texts and lists.

use std::net::Ipv4Addr;

use berth_provision::Ipv4Cidr;

use super::{LEN, LeaseTimes, Malformed, Record, State};
use crate::hardware::HardwareAddress;

const MAGIC: [u8; 4] = *b"BNR1";
const MAX_ADDRESSES: usize = 8;
pub(super) const MAX_SERVERS: usize = 4;
const NAME_LEN: usize = 16;
const NETWORK_LEN: usize = 64;
const DOMAIN_LEN: usize = 128;
pub(super) const SENTENCE_LEN: usize = 512;

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
