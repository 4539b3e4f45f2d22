//! IPv4 addresses of interfaces (struct ifaddrmsg, IFA_*).

use std::net::Ipv4Addr;

use berth_provision::Ipv4Cidr;

use super::codec::{Writer, attributes, u32_at};
use crate::dhcp;

const FIXED_LEN: usize = 8;

/// An IPv4 address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The interface.
    pub index: u32,
    /// The address in its subnet.
    pub cidr: Ipv4Cidr,
    /// Seconds until the kernel removes it; [`dhcp::FOREVER`] for never.
    pub valid: u32,
}

impl Address {
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let [family, prefix, ..] = *body else {
            return None;
        };
        if i32::from(family) != libc::AF_INET {
            return None;
        }
        let mut address = None;
        let mut local = None;
        let mut valid = dhcp::FOREVER;
        for (attribute, value) in attributes(body, FIXED_LEN) {
            match attribute {
                libc::IFA_ADDRESS => address = ipv4(value),
                libc::IFA_LOCAL => local = ipv4(value),
                // struct ifa_cacheinfo: preferred, then valid.
                libc::IFA_CACHEINFO => valid = u32_at(value, 4)?,
                _ => {}
            }
        }
        let address = local.or(address)?;
        let index = u32_at(body, 4)?;
        Some(Self {
            index,
            cidr: Ipv4Cidr { address, prefix },
            valid,
        })
    }

    pub(super) fn write(&self, kind: u16, flags: u16) -> Writer {
        let mut fixed = vec![libc::AF_INET as u8, self.cidr.prefix, 0, 0];
        fixed.extend(self.index.to_ne_bytes());
        let mut writer = Writer::change(kind, flags, &fixed);
        let octets = self.cidr.address.octets();
        writer.attribute(libc::IFA_LOCAL, &octets);
        writer.attribute(libc::IFA_ADDRESS, &octets);
        if self.cidr.prefix < 31 {
            let hosts = !dhcp::mask(self.cidr.prefix);
            let broadcast = Ipv4Addr::from(u32::from(self.cidr.address) | hosts);
            writer.attribute(libc::IFA_BROADCAST, &broadcast.octets());
        }
        let mut lifetimes = Vec::new();
        for field in [self.valid, self.valid, 0, 0] {
            lifetimes.extend(field.to_ne_bytes());
        }
        writer.attribute(libc::IFA_CACHEINFO, &lifetimes);
        writer
    }
}

pub(super) fn ipv4(value: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from)
}
