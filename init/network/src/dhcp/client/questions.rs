//! What the client asks, whom, and how often.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{Action, Ask, Client, Offer, State, Target};
use crate::dhcp::message::{Request, RequestKind};

/// RFC 2131 section 4.1: the first repetition after 4 s, each pause twice the one before, at
/// most 64 s, each a second more or less.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(4);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(64);
const JITTER: Duration = Duration::from_secs(1);
/// Asking for a known address costs little, but in a new network nobody may answer, and then
/// the machine should not wait long: 1 s and 2 s instead of 4 s and 8 s.
const REBOOT_FIRST_PAUSE: Duration = Duration::from_secs(1);
/// RFC 2131 section 4.4.5: no more often than this while renewing.
const SHORTEST_RENEWAL_PAUSE: Duration = Duration::from_secs(60);

impl Client {
    pub(super) fn discover(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let ask = self.ask(now, FIRST_PAUSE, None);
        self.state = State::Selecting(ask);
        self.send_discover(now, ask, actions);
    }

    pub(super) fn reboot(&mut self, now: Duration, address: Ipv4Addr, actions: &mut Vec<Action>) {
        let ask = self.ask(now, REBOOT_FIRST_PAUSE, None);
        self.state = State::Rebooting(ask, address);
        self.send_reboot(now, ask, address, actions);
    }

    /// Asks the lease's server until T2, then everybody until the lease ends; each repetition
    /// after half of what is left (RFC 2131 section 4.4.5). Each is a transaction of its own, so
    /// that an answer's lease is counted from the question it answers.
    pub(super) fn renew(&mut self, now: Duration, actions: &mut Vec<Action>) {
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
        self.renewals = self.renewals.saturating_add(1);
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

    pub(super) fn send_discover(&self, now: Duration, ask: Ask, actions: &mut Vec<Action>) {
        let mut request = self.request(RequestKind::Discover, now, ask);
        request.requested = self.wanted;
        actions.push(Action::Send(Target::Link, request.encode()));
    }

    pub(super) fn send_request(
        &self,
        now: Duration,
        ask: Ask,
        offer: Offer,
        actions: &mut Vec<Action>,
    ) {
        let mut request = self.request(RequestKind::Request, now, ask);
        request.requested = Some(offer.address);
        request.server = Some(offer.server);
        actions.push(Action::Send(Target::Link, request.encode()));
    }

    pub(super) fn send_reboot(
        &self,
        now: Duration,
        ask: Ask,
        address: Ipv4Addr,
        actions: &mut Vec<Action>,
    ) {
        let mut request = self.request(RequestKind::Request, now, ask);
        request.requested = Some(address);
        actions.push(Action::Send(Target::Link, request.encode()));
    }

    pub(super) fn request(&self, kind: RequestKind, now: Duration, ask: Ask) -> Request<'_> {
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

    pub(super) fn ask(&mut self, now: Duration, pause: Duration, xid: Option<u32>) -> Ask {
        Ask {
            xid: xid.unwrap_or_else(|| self.random.transaction()),
            first: now,
            again: self.jittered(now, pause),
            pause,
            tries: 1,
        }
    }

    pub(super) fn repeat(&mut self, now: Duration, ask: Ask) -> Ask {
        let pause = ask.pause.saturating_mul(2).min(LONGEST_PAUSE);
        Ask {
            again: self.jittered(now, pause),
            pause,
            tries: ask.tries.saturating_add(1),
            ..ask
        }
    }

    /// `now` + `pause`, up to a second (of a short pause: a quarter) more or less.
    pub(super) fn jittered(&mut self, now: Duration, pause: Duration) -> Duration {
        let jitter = JITTER.min(pause / 4);
        let shift = self.random.up_to(jitter.saturating_mul(2));
        now.saturating_add(pause)
            .saturating_add(shift)
            .saturating_sub(jitter)
    }
}
