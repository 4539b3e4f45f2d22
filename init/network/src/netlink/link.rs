//! Links: network interfaces as the kernel describes them (struct ifinfomsg, IFLA_*).

use super::Request;
use super::codec::{Writer, attributes, text, u16_at, u32_at};
use crate::hardware::HardwareAddress;

const FIXED_LEN: usize = 16;
/// Leaves the traffic counters out of a dump (RTEXT_FILTER_SKIP_STATS).
const SKIP_STATISTICS: u32 = 1 << 3;

/// There is a carrier, and the kernel has opened the queues for it.
const READY: i32 = libc::IFF_RUNNING | libc::IFF_LOWER_UP;

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number of it, which stays when it is renamed.
    pub index: u32,
    /// Its present name.
    pub name: String,
    /// It is an Ethernet (or looks like one).
    pub ethernet: bool,
    /// It is administratively up.
    pub up: bool,
    /// It is up, has a carrier and its queues are open: what is sent goes out.
    pub running: bool,
    /// Its hardware address, when it is an Ethernet's.
    pub hardware: Option<HardwareAddress>,
    /// The hardware address it was made with.
    pub permanent: Option<HardwareAddress>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// What kind of virtual interface it is (`veth`, `bridge`); none for a device's own.
    pub kind: Option<String>,
    /// It belongs to a bridge or bond, which has the addresses.
    pub enslaved: bool,
}

impl Link {
    /// Takes in a change that the kernel has made, ahead of its own word about it.
    pub fn apply(&mut self, request: &Request) {
        match request {
            Request::Up(_) => self.up = true,
            Request::Mtu(_, mtu) => self.mtu = *mtu,
            _ => {}
        }
    }

    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let flags = u32_at(body, 8)?.cast_signed();
        let mut link = Self {
            index: u32_at(body, 4)?,
            name: String::new(),
            ethernet: u16_at(body, 2)? == libc::ARPHRD_ETHER,
            up: flags & libc::IFF_UP != 0,
            // Either alone is not enough: a new link counts as running before it is known whether
            // it has a carrier, and has one before its queues are open.
            running: flags & READY == READY,
            hardware: None,
            permanent: None,
            mtu: 0,
            kind: None,
            enslaved: false,
        };
        for (attribute, value) in attributes(body, FIXED_LEN) {
            match attribute {
                libc::IFLA_IFNAME => link.name = text(value)?,
                libc::IFLA_ADDRESS => link.hardware = hardware(value),
                libc::IFLA_PERM_ADDRESS => link.permanent = hardware(value),
                libc::IFLA_MTU => link.mtu = u32_at(value, 0)?,
                libc::IFLA_MASTER => link.enslaved = true,
                libc::IFLA_LINKINFO => {
                    link.kind = attributes(value, 0)
                        .find(|(attribute, _)| *attribute == libc::IFLA_INFO_KIND)
                        .and_then(|(_, value)| text(value));
                }
                _ => {}
            }
        }
        Some(link)
    }
}

fn hardware(value: &[u8]) -> Option<HardwareAddress> {
    value.try_into().ok().map(HardwareAddress)
}

pub(super) fn dump() -> Writer {
    let mut writer = Writer::dump(libc::RTM_GETLINK, FIXED_LEN);
    writer.attribute(libc::IFLA_EXT_MASK, &SKIP_STATISTICS.to_ne_bytes());
    writer
}

pub(super) fn set_up(index: u32) -> Writer {
    set(index, libc::IFF_UP as u32)
}

pub(super) fn set_mtu(index: u32, mtu: u32) -> Writer {
    let mut writer = set(index, 0);
    writer.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes());
    writer
}

/// Sets `flags` and leaves the other ones.
fn set(index: u32, flags: u32) -> Writer {
    let mut fixed = vec![0; 4];
    for field in [index, flags, flags] {
        fixed.extend(field.to_ne_bytes());
    }
    Writer::change(libc::RTM_NEWLINK, 0, &fixed)
}
