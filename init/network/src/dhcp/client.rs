//! The client's state machine (RFC 2131 section 4.4), without I/O: events with the time they
//! happened go in, actions come out, and [`Client::deadline`] says when it wants to be called.
//!
//! A lease is held from its ACK until it ends, is refused by a server or is replaced, whatever
//! the client is doing meanwhile: losing the carrier or being restarted never drops it.

mod answers;
mod questions;
mod times;

use std::net::Ipv4Addr;
use std::time::Duration;

use super::lease::Lease;
use super::message::usable;
use super::random::Random;
use crate::hardware::HardwareAddress;

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The interface can send.
    CarrierUp,
    /// It cannot.
    CarrierDown,
    /// A DHCP message came in.
    Message(&'a [u8]),
    /// The deadline passed; a call too early does nothing.
    Time,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this message.
    Send(Target, Vec<u8>),
    /// The lease is (still, again, newly) ours; it is to be in place and kept.
    Use(Lease),
    /// The lease is not ours any more; everything of it is to be removed.
    Drop(Lost),
    /// Something a person may want to know.
    Note(String),
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Below IP, from an interface without an address.
    Link,
    /// From our address to everybody.
    Network {
        /// Our address.
        from: Ipv4Addr,
    },
    /// From our address to the server.
    Server {
        /// Our address.
        from: Ipv4Addr,
        /// The server's.
        to: Ipv4Addr,
    },
}

/// Why a lease was lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Nobody prolonged it.
    #[error("the lease of {0} ended and no server prolonged it; asking for a new one")]
    Ended(Ipv4Addr),
    /// A server said no.
    #[error("a server refused {0}{1}; asking for a new address")]
    Refused(Ipv4Addr, String),
}

/// What the client is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing: there is no carrier.
    Stopped,
    /// Looking for a server or asking for an address.
    Asking,
    /// Using its lease.
    Bound,
    /// Using its lease, which no server has prolonged at the first request.
    Prolonging,
}

#[derive(Clone, Debug)]
enum State {
    Stopped,
    /// Refused repeatedly: waits before it asks anew.
    Pausing {
        until: Duration,
    },
    Selecting(Ask),
    Requesting(Ask, Offer),
    Rebooting(Ask, Ipv4Addr),
    Bound {
        renew_at: Option<Duration>,
    },
    Renewing(Ask),
    Rebinding(Ask),
}

/// A question that is repeated until it is answered.
#[derive(Clone, Copy, Debug)]
struct Ask {
    xid: u32,
    /// When it was first asked: what a lease that answers it is counted from.
    first: Duration,
    again: Duration,
    pause: Duration,
    tries: u32,
}

#[derive(Clone, Copy, Debug)]
struct Offer {
    address: Ipv4Addr,
    server: Ipv4Addr,
}

/// One interface's client.
#[derive(Clone, Debug)]
pub struct Client {
    hardware: HardwareAddress,
    hostname: Option<String>,
    random: Random,
    state: State,
    held: Option<Lease>,
    /// The address it had last, asked for again.
    wanted: Option<Ipv4Addr>,
    /// Refusals since the last lease.
    refusals: u32,
    /// Requests to prolong the lease since it was last given.
    renewals: u32,
    /// Since when it has been asking, for the `secs` field.
    asking_since: Duration,
}

impl Client {
    /// A client for the interface with this hardware address. The host name goes to the server
    /// when it is a label that DNS allows.
    pub fn new(hardware: HardwareAddress, hostname: &str, random: Random) -> Self {
        Self {
            hardware,
            hostname: label(hostname),
            random,
            state: State::Stopped,
            held: None,
            wanted: None,
            refusals: 0,
            renewals: 0,
            asking_since: Duration::ZERO,
        }
    }

    /// Takes over a lease that an earlier process of this boot put in place; it is in use at
    /// once and verified as soon as there is a carrier. One that has ended is only remembered.
    pub fn adopt(&mut self, now: Duration, lease: Lease) {
        self.wanted = Some(lease.address.address);
        let ended = lease.ends_at().is_some_and(|end| end <= now);
        self.held = Some(lease).filter(|_| !ended);
    }

    /// Makes the client ask first for the address it had before the machine was restarted.
    pub fn remember(&mut self, address: Ipv4Addr) {
        self.wanted = Some(address).filter(|address| usable(*address));
    }

    /// Whether the client is about to ask without knowing what it had before.
    pub fn wants_address(&self) -> bool {
        let idle_or_asking = matches!(self.phase(), Phase::Stopped | Phase::Asking);
        self.wanted.is_none() && self.refusals == 0 && idle_or_asking
    }

    /// The interface's hardware address.
    pub fn hardware(&self) -> HardwareAddress {
        self.hardware
    }

    /// The lease in use.
    pub fn lease(&self) -> Option<&Lease> {
        self.held.as_ref()
    }

    /// What the client is doing.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Stopped => Phase::Stopped,
            State::Renewing(_) | State::Rebinding(_) if self.renewals > 1 => Phase::Prolonging,
            State::Bound { .. } | State::Renewing(_) | State::Rebinding(_) => Phase::Bound,
            _ => Phase::Asking,
        }
    }

    /// Whether messages are expected; when not, nothing needs to listen.
    pub fn listens(&self) -> bool {
        !matches!(
            self.state,
            State::Stopped | State::Pausing { .. } | State::Bound { .. }
        )
    }

    /// When [`Event::Time`] is due.
    pub fn deadline(&self) -> Option<Duration> {
        let own = match &self.state {
            State::Stopped => None,
            State::Pausing { until } => Some(*until),
            State::Bound { renew_at } => *renew_at,
            State::Selecting(ask)
            | State::Requesting(ask, _)
            | State::Rebooting(ask, _)
            | State::Renewing(ask)
            | State::Rebinding(ask) => Some(ask.again),
        };
        let end = self.held.as_ref().and_then(Lease::ends_at);
        [own, end].into_iter().flatten().min()
    }

    /// Takes in what happened at `now` (CLOCK_BOOTTIME, which runs on while the machine sleeps).
    pub fn handle(&mut self, now: Duration, event: Event<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::CarrierUp if matches!(self.state, State::Stopped) => {
                self.asking_since = now;
                match self.wanted {
                    Some(address) => self.reboot(now, address, &mut actions),
                    None => self.discover(now, &mut actions),
                }
            }
            Event::CarrierUp => {}
            Event::CarrierDown => self.state = State::Stopped,
            Event::Message(bytes) => self.message(now, bytes, &mut actions),
            Event::Time => self.time(now, &mut actions),
        }
        actions
    }
}

/// The host name up to its first dot, when it is a label (RFC 1123 section 2.1).
fn label(hostname: &str) -> Option<String> {
    let label = hostname.split('.').next().unwrap_or_default();
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let edges = label.starts_with('-') || label.ends_with('-');
    let fits = !edges && (1..=63).contains(&label.len()) && label.chars().all(allowed);
    fits.then(|| label.to_owned())
}
