//! Between the DHCP clients and the world: packets in and out, leases put in place and kept.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::Agent;
use crate::dhcp::{self, Action, Client, Event, Lease, Lost, MAX_MESSAGE, SERVER_PORT, Target};
use crate::interface::Interface;
use crate::sys::{self, PacketSocket};

/// The lease goes to disk after the boot's busy seconds, and is tried again while /state is not
/// there.
const KEEP_AFTER: Duration = Duration::from_secs(10);
const KEEP_RETRY: Duration = Duration::from_secs(60);
/// Notes about what others send: no more often, whatever they send.
const NOTE_PAUSE: Duration = Duration::from_secs(10);
/// Packets of one interface taken before the others have their turn.
const PACKETS_AT_ONCE: usize = 16;
/// IP and UDP headers with every option, and a message.
const PACKET_LEN: usize = 60 + 8 + MAX_MESSAGE;

impl Agent {
    /// Takes in what has come on the packet socket of the interface with this number.
    pub(super) fn packets(&mut self, index: u32) {
        let mut buffer = [0; PACKET_LEN];
        for _ in 0..PACKETS_AT_ONCE {
            let place = self
                .interfaces
                .iter()
                .position(|interface| interface.link.index == index);
            let Some(place) = place else { return };
            let packets = self
                .interfaces
                .get(place)
                .and_then(|it| it.packets.as_ref());
            let Some(packets) = packets else { return };
            let Ok((packet, checksum)) = packets.receive(&mut buffer) else {
                return;
            };
            if let Some(message) = dhcp::unwrap(packet, checksum) {
                self.feed(place, Event::Message(message));
            }
        }
    }

    /// Deals with everything whose time has come.
    pub(super) fn times(&mut self) {
        let now = sys::boottime();
        let due = |time: Option<Duration>| time.is_some_and(|time| time <= now);
        for place in 0..self.interfaces.len() {
            let Some(interface) = self.interfaces.get_mut(place) else {
                return;
            };
            interface.carrier_by.take_if(|by| *by <= now);
            let (retry, keep) = (due(interface.retry_at), due(interface.keep_at));
            let client = due(interface.client.as_ref().and_then(Client::deadline));
            if retry {
                self.configure(place);
            }
            if keep {
                self.keep(place, now);
            }
            if client {
                self.feed(place, Event::Time);
            }
        }
    }

    /// Gives an event to an interface's client and does what it wants done.
    pub(super) fn feed(&mut self, place: usize, event: Event<'_>) {
        let now = sys::boottime();
        let Some(interface) = self.interfaces.get_mut(place) else {
            return;
        };
        let Some(client) = &mut interface.client else {
            return;
        };
        // Looked up late, because /state may come after the agent.
        if client.wants_address()
            && let Some(address) = self.store.last_address(client.hardware())
        {
            client.remember(address);
        }
        for action in client.handle(now, event) {
            match action {
                Action::Send(target, message) => self.send(place, target, &message),
                Action::Use(lease) => self.put_in_place(place, now, &lease),
                Action::Drop(lost) => self.drop_lease(place, now, &lost),
                Action::Note(note) => self.note(place, now, note),
            }
        }
        if let Some(interface) = self.interfaces.get_mut(place)
            && !interface.client.as_ref().is_some_and(Client::listens)
        {
            interface.packets = None;
            interface.unicast = None;
        }
    }

    fn send(&mut self, place: usize, target: Target, message: &[u8]) {
        let Some(interface) = self.interfaces.get_mut(place) else {
            return;
        };
        if let Err(error) = transmit(interface, target, message) {
            let note = format!("cannot send to DHCP servers: {error}; it is tried again");
            self.note(place, sys::boottime(), note);
        }
    }

    fn put_in_place(&mut self, place: usize, now: Duration, lease: &Lease) {
        self.configure(place);
        self.names();
        let Some(interface) = self.interfaces.get_mut(place) else {
            return;
        };
        interface.note = None;
        interface.keep_at = Some(now.saturating_add(KEEP_AFTER));
        let Some(hardware) = interface.link.hardware else {
            return;
        };
        if let Err(error) = self.store.keep(hardware, lease) {
            self.note(
                place,
                now,
                format!("cannot keep the lease in /run: {error}"),
            );
        }
    }

    fn drop_lease(&mut self, place: usize, now: Duration, lost: &Lost) {
        self.configure(place);
        self.names();
        let Some(interface) = self.interfaces.get_mut(place) else {
            return;
        };
        interface.unicast = None;
        interface.keep_at = None;
        interface.note = Some((now, lost.to_string()));
        if let Some(hardware) = interface.link.hardware {
            self.store.forget(hardware);
        }
    }

    /// Writes the lease to /state, or comes back later while that is not there.
    fn keep(&mut self, place: usize, now: Duration) {
        let Some(interface) = self.interfaces.get_mut(place) else {
            return;
        };
        let kept = match (interface.link.hardware, interface.lease()) {
            (Some(hardware), Some(lease)) => self.store.keep_for_reboot(hardware, lease),
            _ => Ok(()),
        };
        interface.keep_at = kept.err().map(|_| now.saturating_add(KEEP_RETRY));
    }

    /// Remembers what a person may want to know. What others send must not fill the log, so
    /// within a pause after a note the next ones are left out.
    fn note(&mut self, place: usize, now: Duration, note: String) {
        let Some(interface) = self.interfaces.get_mut(place) else {
            return;
        };
        let recent = |(at, _): &(Duration, String)| now < at.saturating_add(NOTE_PAUSE);
        if !interface.note.as_ref().is_some_and(recent) {
            interface.note = Some((now, note));
        }
    }
}

/// Sends a message, opening the sockets that it and its answer need.
fn transmit(interface: &mut Interface, target: Target, message: &[u8]) -> io::Result<()> {
    let packets = match interface.packets.take() {
        Some(packets) => packets,
        None => PacketSocket::open(interface.link.index)?,
    };
    let packets = interface.packets.insert(packets);
    let (from, to) = match target {
        Target::Link => {
            return packets.broadcast(&dhcp::wrap(Ipv4Addr::UNSPECIFIED, message));
        }
        Target::Network { from } => (from, Ipv4Addr::BROADCAST),
        Target::Server { from, to } => (from, to),
    };
    let socket = match interface.unicast.take() {
        Some((address, socket)) if address == from => socket,
        _ => sys::unicast_socket(from, &interface.link.name)?,
    };
    let (_, socket) = interface.unicast.insert((from, socket));
    socket
        .send_to(message, SocketAddrV4::new(to, SERVER_PORT))
        .map(drop)
}
