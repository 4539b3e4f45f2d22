//! What the passing of time makes the client do.

use std::time::Duration;

use super::{Action, Client, Lost, Phase, State};
use crate::dhcp::lease::Lease;

/// A server that made an offer and then does not answer is given up after this many requests.
const REQUEST_TRIES: u32 = 3;
/// After so many questions without an answer it is worth telling.
const SILENT_TRIES: u32 = 3;
/// An address from before is asked for this often before every server is asked for any.
const REBOOT_TRIES: u32 = 2;

impl Client {
    pub(super) fn time(&mut self, now: Duration, actions: &mut Vec<Action>) {
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
                if ask.tries == SILENT_TRIES {
                    actions.push(Action::Note(
                        "no DHCP server has answered yet; they are asked again and again".into(),
                    ));
                }
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
}
