//! Links come, change and go; an interface that a network claims is made what it should be.

use std::io;
use std::time::Duration;

use super::Agent;
use crate::dhcp::{Client, Event, Random};
use crate::interface::Interface;
use crate::kernel::{self, BUFFER_LEN};
use crate::matching;
use crate::netlink::{Link, Message, Messages, Request};
use crate::plan;
use crate::report::{Record, State};
use crate::sys;

/// What could not be done is tried again after this long.
const RETRY: Duration = Duration::from_secs(10);
/// What is removed can take more with it (an address its routes): then it is looked at again.
const PASSES: u32 = 3;

impl Agent {
    /// Takes in all links as they are now.
    pub(super) fn survey(&mut self) -> io::Result<()> {
        let links = self.kernel.links()?;
        let there = |index| links.iter().any(|link| link.index == index);
        let known = self.interfaces.iter().map(|interface| interface.link.index);
        for index in known.filter(|index| !there(*index)).collect::<Vec<_>>() {
            self.gone(index);
        }
        for link in links {
            self.link(link);
        }
        self.names();
        Ok(())
    }

    /// Takes in what the kernel says about links.
    pub(super) fn link_events(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_LEN];
        loop {
            let received = match self.events.receive(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // More happened than the socket holds.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.survey()?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (_, message) in Messages::new(received) {
                match message {
                    Message::Link(link) => self.link(link),
                    Message::LinkGone(index) => self.gone(index),
                    _ => {}
                }
            }
        }
        self.names();
        Ok(())
    }

    /// Takes in one link as it is now.
    fn link(&mut self, link: Link) {
        let position = if matching::is_candidate(&link) {
            matching::network_of(&self.networks, &link, &kernel::origin(&link.name))
        } else {
            None
        };
        let known = self
            .interfaces
            .iter()
            .position(|known| known.link.index == link.index);
        let place = match (known, position) {
            (Some(place), Some(position)) if self.is_still(place, position, &link) => Some(place),
            (_, position) => {
                // Another network's now, nobody's any more, or new.
                self.gone(link.index);
                position.and_then(|position| self.claim(&link, position))
            }
        };
        let Some(place) = place else { return };
        let event = if link.running {
            Event::CarrierUp
        } else {
            Event::CarrierDown
        };
        if let Some(interface) = self.interfaces.get_mut(place) {
            interface.link = link;
        }
        self.configure(place);
        self.feed(place, event);
    }

    fn is_still(&self, place: usize, position: usize, link: &Link) -> bool {
        self.interfaces.get(place).is_some_and(|interface| {
            interface.position == position
                && interface.link.hardware == link.hardware
                && interface.link.name == link.name
        })
    }

    /// Lets go of an interface that is not there or not ours any more.
    fn gone(&mut self, index: u32) {
        let known = self
            .interfaces
            .iter()
            .position(|known| known.link.index == index);
        if let Some(place) = known {
            let interface = self.interfaces.remove(place);
            self.gone.extend(interface.told.map(|told| Record {
                state: State::Absent,
                addresses: Vec::new(),
                gateway: None,
                lease: None,
                sentence: format!("the interface {} is gone", told.interface),
                ..told
            }));
        }
    }

    /// Makes an interface of a link that fits a network.
    fn claim(&mut self, link: &Link, position: usize) -> Option<usize> {
        let network = self.networks.get(position)?.clone();
        let hardware = link.hardware?;
        let mut interface = Interface::new(sys::boottime(), link.clone(), position, network);
        let taken = self
            .interfaces
            .iter()
            .find(|other| other.position == position);
        if let (Some(other), false) = (taken, interface.network.addresses.is_empty()) {
            interface.refuse(format!(
                "the network has fixed addresses, which {} has already; let its match fit one \
                 interface only",
                other.link.name
            ));
        }
        if let Err(error) = kernel::ignore_routes_without_carrier(&link.name) {
            let note = format!("routes will also be used without a carrier: {error}");
            interface.note = Some((sys::boottime(), note));
        }
        if interface.network.dhcp4 {
            let random = Random::new(self.random.bits());
            let mut client = Client::new(hardware, &self.hostname, random);
            if let Some(lease) = self.store.lease(hardware) {
                client.adopt(sys::boottime(), lease);
            }
            interface.client = Some(client);
        }
        self.interfaces.push(interface);
        self.interfaces.len().checked_sub(1)
    }

    /// Makes the interface what it should be, now and, when something fails, again later.
    pub(super) fn configure(&mut self, place: usize) {
        let now = sys::boottime();
        let Some(interface) = self.interfaces.get_mut(place) else {
            return;
        };
        let desired = interface.desired(now);
        let mut trouble = None;
        interface.refused_addresses.clear();
        for _ in 0..PASSES {
            let requests = match self.kernel.actual() {
                Ok(actual) => plan::changes(&interface.link, &desired, &actual),
                Err(error) => {
                    trouble = Some(format!(
                        "the kernel does not say what is configured: {error}"
                    ));
                    break;
                }
            };
            let takes_more = |request: &Request| {
                matches!(request, Request::RemoveAddress(_) | Request::RemoveRoute(_))
            };
            let again = requests.iter().any(takes_more);
            for request in requests {
                match self.kernel.change(&request) {
                    Ok(()) => interface.link.apply(&request),
                    Err(error) => {
                        trouble = trouble.or(Some(refused(&request, &error)));
                        if let Request::AddAddress(address) = request {
                            interface.refused_addresses.push(address.cidr);
                        }
                    }
                }
            }
            if !again || trouble.is_some() {
                break;
            }
        }
        interface.retry_at = trouble.as_ref().map(|_| now.saturating_add(RETRY));
        interface.trouble = trouble;
    }
}

/// A sentence for a change that the kernel refused.
fn refused(request: &Request, error: &io::Error) -> String {
    let what = match request {
        Request::Up(_) => "set the interface up".to_owned(),
        Request::Mtu(_, mtu) => format!("set the MTU to {mtu} bytes"),
        Request::AddAddress(address) => format!("add the address {}", address.cidr.address),
        Request::RemoveAddress(address) => format!("remove the address {}", address.cidr.address),
        Request::AddRoute(route) => format!("add the route to {}", String::from(route.to)),
        Request::RemoveRoute(route) => format!("remove the route to {}", String::from(route.to)),
        Request::Links | Request::Addresses | Request::Routes => "ask".to_owned(),
    };
    format!(
        "the kernel refused to {what}: {error}; it is tried again every {} s",
        RETRY.as_secs()
    )
}
