//! The client's state machine (RFC 2131 section 4.4), without I/O: events with the time they
//! happened go in, actions come out, and [`Client::deadline`] says when it wants to be called.
//!
//! A lease is held from its ACK until it ends, is refused by a server or is replaced, whatever
//! the client is doing meanwhile: losing the carrier or being restarted never drops it.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::lease::{Lease, Unusable};
use super::message::{Kind, Reply, Request, RequestKind, usable};
use super::random::Random;
use crate::hardware::HardwareAddress;

/// RFC 2131 section 4.1: the first repetition after 4 s, each pause twice the one before, at
/// most 64 s, each a second more or less.
const FIRST_PAUSE: Duration = Duration::from_secs(4);
const LONGEST_PAUSE: Duration = Duration::from_secs(64);
const JITTER: Duration = Duration::from_secs(1);
/// A server that made an offer and then does not answer is given up after this many requests.
const REQUEST_TRIES: u32 = 3;
/// Asking for a known address costs little, but in a new network nobody may answer, and then
/// the machine should not wait long: 1 s and 2 s instead of 4 s and 8 s.
const REBOOT_FIRST_PAUSE: Duration = Duration::from_secs(1);
const REBOOT_TRIES: u32 = 2;
/// RFC 2131 section 4.4.5: no more often than this while renewing.
const SHORTEST_RENEWAL_PAUSE: Duration = Duration::from_secs(60);
/// Renewals are up to a sixteenth early, so that machines started together do not ask together.
const RENEWAL_FUZZ: u32 = 16;

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
    /// Using its lease and asking to prolong it.
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
            State::Bound { .. } => Phase::Bound,
            State::Renewing(_) | State::Rebinding(_) => Phase::Prolonging,
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

    fn time(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let ended = self
            .held
            .as_ref()
            .and_then(Lease::ends_at)
            .is_some_and(|end| end <= now);
        if ended && let Some(lease) = self.held.take() {
            actions.push(Action::Drop(Lost::Ended(lease.address.address)));
            if self.phase() != Phase::Stopped && self.phase() != Phase::Asking {
                self.asking_since = now;
                self.discover(now, actions);
                return;
            }
        }
        match self.state.clone() {
            State::Pausing { until } if until <= now => self.discover(now, actions),
            State::Bound { renew_at: Some(at) } if at <= now => {
                self.asking_since = now;
                self.renew(now, actions);
            }
            State::Selecting(ask) if ask.again <= now => {
                let ask = self.repeat(now, ask);
                self.state = State::Selecting(ask);
                self.send_discover(now, ask, actions);
            }
            State::Requesting(ask, offer) if ask.again <= now => {
                if ask.tries >= REQUEST_TRIES {
                    actions.push(Action::Note(format!(
                        "server {} offered {} and then did not answer; asking all servers again",
                        offer.server, offer.address
                    )));
                    self.discover(now, actions);
                } else {
                    let ask = self.repeat(now, ask);
                    self.state = State::Requesting(ask, offer);
                    self.send_request(now, ask, offer, actions);
                }
            }
            State::Rebooting(ask, address) if ask.again <= now => {
                if ask.tries >= REBOOT_TRIES {
                    self.discover(now, actions);
                } else {
                    let ask = self.repeat(now, ask);
                    self.state = State::Rebooting(ask, address);
                    self.send_reboot(now, ask, address, actions);
                }
            }
            State::Renewing(ask) | State::Rebinding(ask) if ask.again <= now => {
                self.renew(now, actions);
            }
            _ => {}
        }
    }

    fn message(&mut self, now: Duration, bytes: &[u8], actions: &mut Vec<Action>) {
        let reply = match Reply::parse(bytes) {
            Ok(reply) => reply,
            Err(error) => {
                actions.push(Action::Note(format!("ignored a DHCP packet: {error}")));
                return;
            }
        };
        if reply.hardware != self.hardware {
            return;
        }
        match (self.state.clone(), reply.kind) {
            (State::Selecting(ask), Kind::Offer) if ask.xid == reply.xid => {
                self.offer(now, &reply, actions);
            }
            (State::Requesting(ask, offer), kind)
                if ask.xid == reply.xid && reply.server == Some(offer.server) =>
            {
                match kind {
                    Kind::Ack => self.acknowledged(&reply, ask, Some(offer.server), actions),
                    Kind::Nak => self.refused(now, &reply, offer.address, actions),
                    Kind::Offer => {}
                }
            }
            (State::Rebooting(ask, address), kind) if ask.xid == reply.xid => match kind {
                Kind::Ack => self.acknowledged(&reply, ask, None, actions),
                Kind::Nak => self.refused(now, &reply, address, actions),
                Kind::Offer => {}
            },
            (State::Renewing(ask) | State::Rebinding(ask), kind) if ask.xid == reply.xid => {
                let held = self
                    .held
                    .as_ref()
                    .map(|held| (held.address.address, held.server));
                let Some((address, server)) = held else {
                    return;
                };
                // Only the lease's own server is asked while renewing, so only it can refuse.
                let foreign = matches!(self.state, State::Renewing(_))
                    && reply.server.is_some_and(|other| other != server);
                match kind {
                    Kind::Ack => self.acknowledged(&reply, ask, Some(server), actions),
                    Kind::Nak if !foreign => self.refused(now, &reply, address, actions),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// The first offer that can be used is taken: waiting for a better one costs every boot.
    fn offer(&mut self, now: Duration, reply: &Reply, actions: &mut Vec<Action>) {
        match Lease::from_reply(reply, None, now) {
            Ok(lease) => {
                let offer = Offer {
                    address: lease.address.address,
                    server: lease.server,
                };
                let ask = self.ask(now, FIRST_PAUSE, Some(reply.xid));
                self.state = State::Requesting(ask, offer);
                self.send_request(now, ask, offer, actions);
            }
            Err(error) => actions.push(ignored("an offer", reply, error)),
        }
    }

    fn acknowledged(
        &mut self,
        reply: &Reply,
        ask: Ask,
        server: Option<Ipv4Addr>,
        actions: &mut Vec<Action>,
    ) {
        match Lease::from_reply(reply, server, ask.first) {
            Ok(lease) => {
                self.refusals = 0;
                self.wanted = Some(lease.address.address);
                self.state = State::Bound {
                    renew_at: self.renewal(&lease),
                };
                self.held = Some(lease.clone());
                actions.push(Action::Use(lease));
            }
            Err(error) => actions.push(ignored("an acknowledgement", reply, error)),
        }
    }

    /// T1, a little early.
    fn renewal(&mut self, lease: &Lease) -> Option<Duration> {
        let fuzz = Duration::from_secs(lease.renew.into()) / RENEWAL_FUZZ;
        let early = self.random.up_to(fuzz);
        Some(lease.renew_at()?.saturating_sub(early))
    }

    fn refused(
        &mut self,
        now: Duration,
        reply: &Reply,
        address: Ipv4Addr,
        actions: &mut Vec<Action>,
    ) {
        let said = reply
            .text
            .as_ref()
            .map(|text| format!(" ({text:?})"))
            .unwrap_or_default();
        let lost = Lost::Refused(address, said);
        match self.held.take() {
            Some(_) => actions.push(Action::Drop(lost)),
            None => actions.push(Action::Note(lost.to_string())),
        }
        self.wanted = None;
        self.refusals = self.refusals.saturating_add(1);
        self.asking_since = now;
        match self.refusals {
            1 => self.discover(now, actions),
            // A server that offers and refuses in turn must not be asked as fast as it answers.
            refusals => {
                let pause = Duration::from_secs(1u64 << refusals.min(8).saturating_sub(2));
                let until = now.saturating_add(pause.min(LONGEST_PAUSE));
                self.state = State::Pausing { until };
            }
        }
    }

    fn discover(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let ask = self.ask(now, FIRST_PAUSE, None);
        self.state = State::Selecting(ask);
        self.send_discover(now, ask, actions);
    }

    fn reboot(&mut self, now: Duration, address: Ipv4Addr, actions: &mut Vec<Action>) {
        let ask = self.ask(now, REBOOT_FIRST_PAUSE, None);
        self.state = State::Rebooting(ask, address);
        self.send_reboot(now, ask, address, actions);
    }

    /// Asks the lease's server until T2, then everybody until the lease ends; each repetition
    /// after half of what is left (RFC 2131 section 4.4.5). Each is a transaction of its own, so
    /// that an answer's lease is counted from the question it answers.
    fn renew(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let Some(lease) = &self.held else {
            return self.discover(now, actions);
        };
        let (from, server) = (lease.address.address, lease.server);
        let rebind_at = lease.rebind_at().unwrap_or(Duration::MAX);
        let end = lease.ends_at().unwrap_or(Duration::MAX);
        let (limit, target) = if now < rebind_at {
            (rebind_at, Target::Server { from, to: server })
        } else {
            (end, Target::Network { from })
        };
        let pause = (limit.saturating_sub(now) / 2).max(SHORTEST_RENEWAL_PAUSE);
        let mut ask = self.ask(now, pause, None);
        ask.again = now.saturating_add(pause).min(limit);
        self.state = match target {
            Target::Server { .. } => State::Renewing(ask),
            _ => State::Rebinding(ask),
        };
        let mut request = self.request(RequestKind::Request, now, ask);
        request.client = Some(from);
        actions.push(Action::Send(target, request.encode()));
    }

    fn send_discover(&self, now: Duration, ask: Ask, actions: &mut Vec<Action>) {
        let mut request = self.request(RequestKind::Discover, now, ask);
        request.requested = self.wanted;
        actions.push(Action::Send(Target::Link, request.encode()));
    }

    fn send_request(&self, now: Duration, ask: Ask, offer: Offer, actions: &mut Vec<Action>) {
        let mut request = self.request(RequestKind::Request, now, ask);
        request.requested = Some(offer.address);
        request.server = Some(offer.server);
        actions.push(Action::Send(Target::Link, request.encode()));
    }

    fn send_reboot(&self, now: Duration, ask: Ask, address: Ipv4Addr, actions: &mut Vec<Action>) {
        let mut request = self.request(RequestKind::Request, now, ask);
        request.requested = Some(address);
        actions.push(Action::Send(Target::Link, request.encode()));
    }

    fn request(&self, kind: RequestKind, now: Duration, ask: Ask) -> Request<'_> {
        let asking = now.saturating_sub(self.asking_since).as_secs();
        Request {
            kind,
            xid: ask.xid,
            secs: u16::try_from(asking).unwrap_or(u16::MAX),
            client: None,
            hardware: self.hardware,
            requested: None,
            server: None,
            hostname: self.hostname.as_deref(),
        }
    }

    fn ask(&mut self, now: Duration, pause: Duration, xid: Option<u32>) -> Ask {
        Ask {
            xid: xid.unwrap_or_else(|| self.random.transaction()),
            first: now,
            again: self.jittered(now, pause),
            pause,
            tries: 1,
        }
    }

    fn repeat(&mut self, now: Duration, ask: Ask) -> Ask {
        let pause = ask.pause.saturating_mul(2).min(LONGEST_PAUSE);
        Ask {
            again: self.jittered(now, pause),
            pause,
            tries: ask.tries.saturating_add(1),
            ..ask
        }
    }

    /// `now` + `pause`, up to a second (of a short pause: a quarter) more or less.
    fn jittered(&mut self, now: Duration, pause: Duration) -> Duration {
        let jitter = JITTER.min(pause / 4);
        let shift = self.random.up_to(jitter.saturating_mul(2));
        now.saturating_add(pause)
            .saturating_add(shift)
            .saturating_sub(jitter)
    }
}

fn ignored(what: &str, reply: &Reply, error: Unusable) -> Action {
    let server = reply
        .server
        .map(|server| format!(" of server {server}"))
        .unwrap_or_default();
    Action::Note(format!("ignored {what}{server}: {error}"))
}

/// The host name up to its first dot, when it is a label (RFC 1123 section 2.1).
fn label(hostname: &str) -> Option<String> {
    let label = hostname.split('.').next().unwrap_or_default();
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let edges = label.starts_with('-') || label.ends_with('-');
    let fits = !edges && (1..=63).contains(&label.len()) && label.chars().all(allowed);
    fits.then(|| label.to_owned())
}
