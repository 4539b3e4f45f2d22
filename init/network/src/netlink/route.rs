//! IPv4 unicast routes of the main table (struct rtmsg, RTA_*).

use std::net::Ipv4Addr;

use berth_provision::Ipv4Cidr;

use super::address::ipv4;
use super::codec::{Writer, attributes, u32_at};

const FIXED_LEN: usize = 12;

/// An IPv4 route through one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The interface it goes out of.
    pub index: u32,
    /// Destination.
    pub to: Ipv4Cidr,
    /// Next hop; none for a destination on the link.
    pub via: Option<Ipv4Addr>,
    /// The source address of what this machine sends along it.
    pub source: Option<Ipv4Addr>,
    /// The lower, the better.
    pub metric: u32,
    /// Who made it.
    pub origin: Origin,
    /// The next hop is on the link although no address here says so (RFC 3442: clouds give a
    /// host a /32 and a router beside it).
    pub on_link: bool,
}

/// Who made a route (the kernel calls it its protocol).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The kernel itself, for an address.
    Kernel,
    /// A DHCP client.
    Dhcp,
    /// Configuration.
    Static,
    /// Any other program.
    Other(u8),
}

impl Origin {
    fn code(self) -> u8 {
        match self {
            Self::Kernel => libc::RTPROT_KERNEL,
            Self::Dhcp => RTPROT_DHCP,
            Self::Static => libc::RTPROT_STATIC,
            Self::Other(code) => code,
        }
    }

    fn from_code(code: u8) -> Self {
        match code {
            libc::RTPROT_KERNEL => Self::Kernel,
            RTPROT_DHCP => Self::Dhcp,
            libc::RTPROT_STATIC => Self::Static,
            code => Self::Other(code),
        }
    }
}

/// linux/rtnetlink.h; the libc crate has neither.
const RTPROT_DHCP: u8 = 16;
const RTNH_F_ONLINK: u32 = 4;

impl Route {
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let [family, prefix, _, _, table, protocol, _, kind, ..] = *body else {
            return None;
        };
        let wanted = i32::from(family) == libc::AF_INET
            && kind == libc::RTN_UNICAST
            && table == libc::RT_TABLE_MAIN;
        if !wanted {
            return None;
        }
        let mut route = Self {
            index: 0,
            to: Ipv4Cidr {
                address: Ipv4Addr::UNSPECIFIED,
                prefix,
            },
            via: None,
            source: None,
            metric: 0,
            origin: Origin::from_code(protocol),
            on_link: u32_at(body, 8)? & RTNH_F_ONLINK != 0,
        };
        for (attribute, value) in attributes(body, FIXED_LEN) {
            match attribute {
                libc::RTA_DST => route.to.address = ipv4(value)?,
                libc::RTA_OIF => route.index = u32_at(value, 0)?,
                libc::RTA_GATEWAY => route.via = ipv4(value),
                libc::RTA_PREFSRC => route.source = ipv4(value),
                libc::RTA_PRIORITY => route.metric = u32_at(value, 0)?,
                _ => {}
            }
        }
        Some(route)
    }

    pub(super) fn write(&self, kind: u16, flags: u16) -> Writer {
        let scope = match self.via {
            Some(_) => libc::RT_SCOPE_UNIVERSE,
            None => libc::RT_SCOPE_LINK,
        };
        let on_link = if self.on_link { RTNH_F_ONLINK } else { 0 };
        let mut fixed = vec![libc::AF_INET as u8, self.to.prefix, 0, 0];
        fixed.extend([
            libc::RT_TABLE_MAIN,
            self.origin.code(),
            scope,
            libc::RTN_UNICAST,
        ]);
        fixed.extend(on_link.to_ne_bytes());
        let mut writer = Writer::change(kind, flags, &fixed);
        if self.to.prefix > 0 {
            writer.attribute(libc::RTA_DST, &self.to.address.octets());
        }
        writer.attribute(libc::RTA_OIF, &self.index.to_ne_bytes());
        writer.attribute(libc::RTA_PRIORITY, &self.metric.to_ne_bytes());
        if let Some(via) = self.via {
            writer.attribute(libc::RTA_GATEWAY, &via.octets());
        }
        if let Some(source) = self.source {
            writer.attribute(libc::RTA_PREFSRC, &source.octets());
        }
        writer
    }
}
