//! As much of rtnetlink (rtnetlink(7), linux/rtnetlink.h) as the agent needs, without I/O:
//! links, IPv4 addresses and IPv4 routes, dumped, watched and changed.

mod address;
mod codec;
mod link;
mod route;

pub use address::Address;
pub use codec::{Message, Messages, Outcome};
pub use link::Link;
pub use route::{Origin, Route};

use crate::netlink::codec::Writer;

/// Flags of a request that creates something or replaces it.
const CREATE_OR_REPLACE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;

/// A request to the kernel. A dump is answered by many messages and a "done", a change by an
/// acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// All links.
    Links,
    /// All IPv4 addresses.
    Addresses,
    /// All IPv4 routes.
    Routes,
    /// Set this link up.
    Up(u32),
    /// Set this link's MTU.
    Mtu(u32, u32),
    /// Add this address or renew its lifetime.
    AddAddress(Address),
    /// Remove this address.
    RemoveAddress(Address),
    /// Add this route or replace the one it collides with.
    AddRoute(Route),
    /// Remove this route.
    RemoveRoute(Route),
}

impl Request {
    /// The request's bytes, with `sequence` to recognise its answers by.
    pub fn encode(&self, sequence: u32) -> Vec<u8> {
        let mut writer = match self {
            Self::Links => link::dump(),
            Self::Addresses => Writer::dump(libc::RTM_GETADDR, 8),
            Self::Routes => Writer::dump(libc::RTM_GETROUTE, 12),
            Self::Up(index) => link::set_up(*index),
            Self::Mtu(index, mtu) => link::set_mtu(*index, *mtu),
            Self::AddAddress(address) => address.write(libc::RTM_NEWADDR, CREATE_OR_REPLACE),
            Self::RemoveAddress(address) => address.write(libc::RTM_DELADDR, 0),
            Self::AddRoute(route) => route.write(libc::RTM_NEWROUTE, CREATE_OR_REPLACE),
            Self::RemoveRoute(route) => route.write(libc::RTM_DELROUTE, 0),
        };
        writer.finish(sequence)
    }
}
