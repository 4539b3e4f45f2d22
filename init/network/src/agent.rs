//! The agent's loop: waits for links, packets, times and room in the report pipe, and lets the
//! deciding parts decide.

mod leases;
mod links;
mod tell;

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use berth_provision::Network;

use crate::dhcp::Random;
use crate::interface::Interface;
use crate::kernel::Kernel;
use crate::report::Record;
use crate::resolver::Names;
use crate::store::Store;
use crate::sys::{self, Interest, NetlinkSocket, Timer};

/// What the agent is started with.
#[derive(Debug)]
pub struct Setup {
    /// The networks in the order of the file. Interfaces that none of them fits are left alone.
    pub networks: Vec<Network>,
    /// The machine's name.
    pub hostname: String,
    /// The writing end of a pipe on which PID 1 gets the records ([`crate::report`]).
    pub report: OwnedFd,
    /// Directories.
    pub places: Places,
}

/// Directories that the agent writes to; it makes them when they are missing.
#[derive(Clone, Debug)]
pub struct Places {
    /// Leases, for the agent's next process.
    pub run: PathBuf,
    /// `resolv.conf`, written in place.
    pub etc: PathBuf,
    /// Leases, for the next boot. It may appear later or never.
    pub state: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            run: "/run/berth/network".into(),
            etc: "/run/berth/etc".into(),
            state: "/state/berth/network".into(),
        }
    }
}

/// Why the agent cannot work at all. An interface's failure is never among them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No sockets to be had.
    #[error("the network agent cannot {0}: {1}; it is to be started again")]
    System(&'static str, #[source] io::Error),
}

/// Runs the agent. It only returns when it cannot go on; its addresses and leases stay, and
/// another one started in its place takes them over.
///
/// # Errors
/// [`Error`] when the kernel refuses what every network needs.
pub fn run(setup: Setup) -> Result<Infallible, Error> {
    let mut agent = Agent::new(setup).map_err(|error| Error::System("start", error))?;
    agent
        .survey()
        .map_err(|error| Error::System("list the interfaces", error))?;
    loop {
        agent.tell();
        agent
            .turn()
            .map_err(|error| Error::System("wait for events", error))?;
    }
}

struct Agent {
    networks: Vec<Network>,
    hostname: String,
    store: Store,
    etc: PathBuf,
    /// `None` once PID 1 does not read any more.
    report: Option<File>,
    kernel: Kernel,
    events: NetlinkSocket,
    timer: Timer,
    random: Random,
    interfaces: Vec<Interface>,
    /// What was told about networks that no interface fits.
    told_absent: Vec<Option<Record>>,
    /// Interfaces that are gone and that PID 1 still knows.
    gone: Vec<Record>,
    /// PID 1's pipe is full; something is still to be told.
    behind: bool,
    /// What resolv.conf says.
    names: Option<Names>,
    /// What could not be done for the machine as a whole.
    trouble: Option<String>,
}

impl Agent {
    fn new(setup: Setup) -> io::Result<Self> {
        let Setup {
            networks,
            hostname,
            report,
            places,
        } = setup;
        sys::set_nonblocking(report.as_fd())?;
        Ok(Self {
            told_absent: networks.iter().map(|_| None).collect(),
            networks,
            hostname,
            store: Store::new(places.run, places.state),
            etc: places.etc,
            report: Some(File::from(report)),
            // Before the survey, so that nothing is missed between the two.
            events: NetlinkSocket::for_link_events()?,
            kernel: Kernel::open()?,
            timer: Timer::new()?,
            random: Random::new(sys::seed()),
            interfaces: Vec::new(),
            gone: Vec::new(),
            behind: false,
            names: None,
            trouble: None,
        })
    }

    /// Waits for something and deals with it.
    fn turn(&mut self) -> io::Result<()> {
        let deadline = self.interfaces.iter().filter_map(Interface::deadline).min();
        self.timer.set(deadline)?;
        let mut waiting = vec![
            (self.events.as_fd(), Interest::Read),
            (self.timer.as_fd(), Interest::Read),
        ];
        let mut listening = Vec::new();
        for interface in &self.interfaces {
            if let Some(packets) = &interface.packets {
                waiting.push((packets.as_fd(), Interest::Read));
                listening.push(interface.link.index);
            }
        }
        if let (true, Some(report)) = (self.behind, &self.report) {
            waiting.push((report.as_fd(), Interest::Write));
        }
        let ready = sys::poll(&waiting)?;
        if ready.first().copied().unwrap_or(false) {
            self.link_events()?;
        }
        for (index, _) in listening
            .into_iter()
            .zip(ready.into_iter().skip(2))
            .filter(|(_, ready)| *ready)
        {
            self.packets(index);
        }
        self.times();
        Ok(())
    }
}
