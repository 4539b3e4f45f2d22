//! Requests: what a client writes.

use std::net::Ipv4Addr;

use super::{COOKIE, ETHERNET, FIXED_LEN, HARDWARE_LEN, MAX_MESSAGE, code};
use crate::hardware::HardwareAddress;

/// BOOTP's length; some relays drop what is shorter.
const MIN_MESSAGE: usize = 300;
const OP_REQUEST: u8 = 1;

/// What is asked for; RFC 3442 wants the classless routes before the router.
const WANTED: [u8; 10] = [
    code::SUBNET_MASK,
    code::CLASSLESS_ROUTES,
    code::ROUTER,
    code::DNS,
    code::DOMAIN,
    code::MTU,
    code::NTP,
    code::LEASE_TIME,
    code::RENEWAL,
    code::REBINDING,
];

/// What a client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Who has an address for me?
    Discover,
    /// I take this one, or want to keep it.
    Request,
}

/// A message to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What it says.
    pub kind: RequestKind,
    /// The transaction.
    pub xid: u32,
    /// Seconds since the client began to ask.
    pub secs: u16,
    /// The client's own address, when it has and uses it.
    pub client: Option<Ipv4Addr>,
    /// The client's hardware address; with its type in front it is also the client identifier,
    /// as firmware and most other clients send it, so that they all get the same lease.
    pub hardware: HardwareAddress,
    /// The address it would like (option 50).
    pub requested: Option<Ipv4Addr>,
    /// The server it means (option 54).
    pub server: Option<Ipv4Addr>,
    /// The machine's name (option 12).
    pub hostname: Option<&'a str>,
}

impl Request<'_> {
    /// The message's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MIN_MESSAGE);
        out.extend([OP_REQUEST, ETHERNET, HARDWARE_LEN, 0]);
        out.extend(self.xid.to_be_bytes());
        out.extend(self.secs.to_be_bytes());
        // No broadcast flag: packets are read below IP, so a reply may be unicast to an address
        // that the interface has not got yet.
        out.extend([0, 0]);
        out.extend(self.client.map_or([0; 4], |client| client.octets()));
        out.extend([0; 12]);
        out.extend(self.hardware.0);
        out.resize(FIXED_LEN, 0);
        out.extend(COOKIE);
        let kind = match self.kind {
            RequestKind::Discover => 1,
            RequestKind::Request => 3,
        };
        put(&mut out, code::MESSAGE_TYPE, &[kind]);
        let [a, b, c, d, e, f] = self.hardware.0;
        put(&mut out, code::CLIENT, &[ETHERNET, a, b, c, d, e, f]);
        if let Some(requested) = self.requested {
            put(&mut out, code::REQUESTED_ADDRESS, &requested.octets());
        }
        if let Some(server) = self.server {
            put(&mut out, code::SERVER, &server.octets());
        }
        put(
            &mut out,
            code::MAX_SIZE,
            &(MAX_MESSAGE as u16).to_be_bytes(),
        );
        if let Some(hostname) = self.hostname {
            put(&mut out, code::HOST_NAME, hostname.as_bytes());
        }
        put(&mut out, code::PARAMETERS, &WANTED);
        out.push(code::END);
        if out.len() < MIN_MESSAGE {
            out.resize(MIN_MESSAGE, 0);
        }
        out
    }
}

/// Appends an option; a value too long for one is left out (ours are names of at most 63 bytes).
fn put(out: &mut Vec<u8>, code: u8, value: &[u8]) {
    if let Ok(len) = u8::try_from(value.len()) {
        out.extend([code, len]);
        out.extend(value);
    }
}
