//! Questions to the kernel and changes made by it: requests over the netlink socket, and what
//! /sys says about an interface.

use std::fs;
use std::io;
use std::path::Path;

use crate::matching;
use crate::netlink::{Link, Message, Messages, Outcome, Request};
use crate::plan::Actual;
use crate::sys::NetlinkSocket;

/// The kernel's own limit for one datagram of a dump.
pub(crate) const BUFFER_LEN: usize = 32 << 10;
/// Things that change while they are dumped make the dump worthless; they settle.
const DUMP_TRIES: u32 = 4;

/// The routing tables' socket.
#[derive(Debug)]
pub(crate) struct Kernel {
    socket: NetlinkSocket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Kernel {
    pub(crate) fn open() -> io::Result<Self> {
        let socket = NetlinkSocket::for_requests()?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; BUFFER_LEN],
        })
    }

    /// All links.
    pub(crate) fn links(&mut self) -> io::Result<Vec<Link>> {
        let messages = self.dump(&Request::Links)?;
        let links = messages.into_iter().filter_map(|message| match message {
            Message::Link(link) => Some(link),
            _ => None,
        });
        Ok(links.collect())
    }

    /// All addresses and routes.
    pub(crate) fn actual(&mut self) -> io::Result<Actual> {
        let mut actual = Actual::default();
        let mut messages = self.dump(&Request::Addresses)?;
        messages.append(&mut self.dump(&Request::Routes)?);
        for message in messages {
            match message {
                Message::Address(address) => actual.addresses.push(address),
                Message::Route(route) => actual.routes.push(route),
                _ => {}
            }
        }
        Ok(actual)
    }

    /// Makes one change. Removing what is gone already is no error: removing an address or
    /// setting a link down takes routes with it.
    pub(crate) fn change(&mut self, request: &Request) -> io::Result<()> {
        let mut nothing = Vec::new();
        match self.ask(request, &mut nothing)? {
            Outcome::Failed(error) => {
                let gone = [libc::ESRCH, libc::EADDRNOTAVAIL, libc::ENODEV].contains(&error);
                let removal =
                    matches!(request, Request::RemoveAddress(_) | Request::RemoveRoute(_));
                if gone && removal {
                    Ok(())
                } else {
                    Err(io::Error::from_raw_os_error(error))
                }
            }
            Outcome::Done | Outcome::Interrupted => Ok(()),
        }
    }

    fn dump(&mut self, request: &Request) -> io::Result<Vec<Message>> {
        for _ in 0..DUMP_TRIES {
            let mut messages = Vec::new();
            match self.ask(request, &mut messages)? {
                Outcome::Done => return Ok(messages),
                Outcome::Interrupted => {}
                Outcome::Failed(error) => return Err(io::Error::from_raw_os_error(error)),
            }
        }
        Err(io::Error::other(
            "the network's configuration does not stop changing",
        ))
    }

    fn ask(&mut self, request: &Request, messages: &mut Vec<Message>) -> io::Result<Outcome> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&request.encode(self.sequence))?;
        loop {
            let received = self.socket.receive(&mut self.buffer)?;
            for (sequence, message) in Messages::new(received) {
                match message {
                    // The answer to an earlier request that was given up.
                    _ if sequence != self.sequence => {}
                    Message::Finished(outcome) => return Ok(outcome),
                    message => messages.push(message),
                }
            }
        }
    }
}

/// Makes routes through the interface `name` count only while it has a carrier, so that another
/// interface's default route takes over when a cable is pulled.
pub(crate) fn ignore_routes_without_carrier(name: &str) -> io::Result<()> {
    let conf = Path::new("/proc/sys/net/ipv4/conf").join(name);
    fs::write(conf.join("ignore_routes_with_linkdown"), "1")
}

/// Where the interface `name` comes from. Its entry in /sys/class/net is a link to
/// `../../devices/PATH/net/NAME`, where PATH is the device's.
pub(crate) fn origin(name: &str) -> matching::Origin {
    let entry = Path::new("/sys/class/net").join(name);
    let path = fs::read_link(&entry).ok().and_then(|target| {
        let path = target.to_str()?.split_once("devices/")?.1;
        let device = path.strip_suffix(name)?.strip_suffix("/net/")?;
        Some(device.to_owned())
    });
    let driver = fs::read_link(entry.join("device/driver")).ok();
    let driver = driver.and_then(|link| link.file_name()?.to_str().map(str::to_owned));
    matching::Origin { driver, path }
}
