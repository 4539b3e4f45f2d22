//! Replies: what a server writes, as checked types. An option that the client can do without and
//! that is malformed is left out; one it needs refuses the message.

use std::net::Ipv4Addr;

use super::options::Options;
use super::{ETHERNET, HARDWARE_LEN, code, field};
use crate::dhcp::lease::LeasedRoute;
use crate::hardware::HardwareAddress;

const OP_REPLY: u8 = 2;

/// What a server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This address is to be had.
    Offer,
    /// It is yours.
    Ack,
    /// You cannot have it.
    Nak,
}

/// A message from a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What it says.
    pub kind: Kind,
    /// The transaction it answers.
    pub xid: u32,
    /// Whom it is for.
    pub hardware: HardwareAddress,
    /// The address it gives.
    pub address: Ipv4Addr,
    /// The server's identifier.
    pub server: Option<Ipv4Addr>,
    /// Prefix length of the subnet.
    pub prefix: Option<u8>,
    /// Lease, renewal and rebinding times in seconds.
    pub lasts: Option<u32>,
    /// Renewal time in seconds.
    pub renew: Option<u32>,
    /// Rebinding time in seconds.
    pub rebind: Option<u32>,
    /// Routers, best first.
    pub routers: Vec<Ipv4Addr>,
    /// Classless routes; when present, routers do not count (RFC 3442).
    pub routes: Option<Vec<LeasedRoute>>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers.
    pub ntp: Vec<Ipv4Addr>,
    /// Domain name; letters, digits, `-`, `.` and `_` only.
    pub domain: Option<String>,
    /// MTU.
    pub mtu: Option<u16>,
    /// A refusal's reason, printable.
    pub text: Option<String>,
}

/// Why bytes are not a server's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than the fixed part.
    #[error("the message is too short")]
    Short,
    /// Not a BOOTP reply over Ethernet with DHCP's cookie.
    #[error("the message is not a DHCP reply")]
    NotReply,
    /// An option's length points past the end.
    #[error("option {0} runs past the end of the message")]
    Truncated(u8),
    /// A needed option has a wrong length or value.
    #[error("option {0} has a value that is not allowed")]
    Value(u8),
}

impl Reply {
    /// Reads a server's message.
    ///
    /// # Errors
    /// [`Malformed`] when it is not one or lacks sense where the client needs it.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let options = Options::find(bytes)?;
        let [op, kind, len, _] = field(bytes, 0)?;
        if op != OP_REPLY || kind != ETHERNET || len != HARDWARE_LEN {
            return Err(Malformed::NotReply);
        }
        let kind = match options.byte(code::MESSAGE_TYPE)? {
            Some(2) => Kind::Offer,
            Some(5) => Kind::Ack,
            Some(6) => Kind::Nak,
            _ => return Err(Malformed::Value(code::MESSAGE_TYPE)),
        };
        Ok(Self {
            kind,
            xid: u32::from_be_bytes(field(bytes, 4)?),
            address: field(bytes, 16).map(<[u8; 4]>::into)?,
            hardware: HardwareAddress(field(bytes, 28)?),
            server: options.address(code::SERVER)?,
            prefix: options.prefix()?,
            lasts: options.seconds(code::LEASE_TIME)?,
            renew: options.seconds(code::RENEWAL).unwrap_or_default(),
            rebind: options.seconds(code::REBINDING).unwrap_or_default(),
            routers: options.addresses(code::ROUTER),
            routes: options.routes(),
            dns: options.addresses(code::DNS),
            ntp: options.addresses(code::NTP),
            domain: options.domain(),
            mtu: options.mtu(),
            text: options.text(),
        })
    }
}
