//! A DHCPv4 client that does no I/O: messages and times in, messages and leases out.
//!
//! RFC 2131 (the protocol), RFC 2132 (options), RFC 3396 (long options), RFC 3442 (classless
//! routes). Whatever arrives is data to be refused or used; nothing in it can stop the client.

mod client;
mod frame;
mod lease;
mod message;
mod random;

pub use client::{Action, Client, Event, Lost, Phase, Target};
pub use frame::{CLIENT_PORT, Checksum, SERVER_PORT, unwrap, wrap};
pub(crate) use lease::mask;
pub use lease::{FOREVER, Lease, LeasedRoute, Unusable};
pub use message::{Kind, MAX_MESSAGE, Malformed, Reply, Request, RequestKind};
pub use random::Random;
