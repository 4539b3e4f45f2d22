//! What servers say, and what it does to the client.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::questions::{FIRST_PAUSE, LONGEST_PAUSE};
use super::{Action, Ask, Client, Lost, Offer, State};
use crate::dhcp::lease::{Lease, Unusable};
use crate::dhcp::message::{Kind, Reply};

/// Renewals are up to a sixteenth early, so that machines started together do not ask together.
const RENEWAL_FUZZ: u32 = 16;

impl Client {
    pub(super) fn message(&mut self, now: Duration, bytes: &[u8], actions: &mut Vec<Action>) {
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
                self.renewals = 0;
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
        // A lease that is in use while another address is asked for is not what was refused.
        let held = self.held.take_if(|held| held.address.address == address);
        match held {
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
}

fn ignored(what: &str, reply: &Reply, error: Unusable) -> Action {
    let server = reply
        .server
        .map(|server| format!(" of server {server}"))
        .unwrap_or_default();
    Action::Note(format!("ignored {what}{server}: {error}"))
}
