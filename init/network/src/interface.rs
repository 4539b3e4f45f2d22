//! One interface that a network of the configuration claims: what it should be like, and how it
//! is reported.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use berth_provision::{Ipv4Cidr, Network};

use crate::dhcp::{self, Client, FOREVER, Lease, Phase};
use crate::netlink::{Address, Link, Origin, Route};
use crate::plan::Desired;
use crate::report::{LeaseTimes, Record, State};
use crate::sys::PacketSocket;

/// Metrics: networks in the order of the file, and interfaces of one network apart.
const METRIC_STEP: u32 = 1024;
/// What the two ends of a cable need to agree on a speed.
const CARRIER_PATIENCE: Duration = Duration::from_secs(5);

/// One claimed interface.
#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) link: Link,
    /// Position of its network in the file.
    pub(crate) position: usize,
    pub(crate) network: Network,
    /// The DHCP client, when its network asks for one.
    pub(crate) client: Option<Client>,
    /// Open while the client listens.
    pub(crate) packets: Option<PacketSocket>,
    /// Open while the client prolongs its lease, with the address it is bound to.
    pub(crate) unicast: Option<(Ipv4Addr, UdpSocket)>,
    /// Why the configuration cannot be meant for it.
    conflict: Option<String>,
    /// What could not be done, until it can.
    pub(crate) trouble: Option<String>,
    /// Addresses that the kernel did not take.
    pub(crate) refused_addresses: Vec<Ipv4Cidr>,
    /// The last thing worth telling, and when.
    pub(crate) note: Option<(Duration, String)>,
    /// When what failed is tried again.
    pub(crate) retry_at: Option<Duration>,
    /// When the lease is written to /state.
    pub(crate) keep_at: Option<Duration>,
    /// Until then a carrier may still be on its way, and its absence is no news.
    pub(crate) carrier_by: Option<Duration>,
    /// What PID 1 was told last.
    pub(crate) told: Option<Record>,
}

impl Interface {
    pub(crate) fn new(now: Duration, link: Link, position: usize, network: Network) -> Self {
        Self {
            link,
            position,
            network,
            client: None,
            packets: None,
            unicast: None,
            conflict: None,
            trouble: None,
            refused_addresses: Vec::new(),
            note: None,
            retry_at: None,
            keep_at: None,
            carrier_by: Some(now.saturating_add(CARRIER_PATIENCE)),
            told: None,
        }
    }

    /// Leaves the interface without addresses, and says why.
    pub(crate) fn refuse(&mut self, conflict: String) {
        self.network.addresses.clear();
        self.network.gateway = None;
        self.network.routes.clear();
        self.network.dhcp4 = false;
        self.conflict = Some(conflict);
    }

    /// The lease in use.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        self.client.as_ref().and_then(Client::lease)
    }

    /// When the interface wants attention next.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let client = self.client.as_ref().and_then(Client::deadline);
        [client, self.retry_at, self.keep_at, self.carrier_by]
            .into_iter()
            .flatten()
            .min()
    }

    /// What it should be like at `now`. Where the configuration and the lease say different
    /// things the configuration counts.
    pub(crate) fn desired(&self, now: Duration) -> Desired {
        let lease = self.lease();
        let leased_mtu = lease.and_then(|lease| lease.mtu).map(u32::from);
        Desired {
            mtu: self.network.mtu.or(leased_mtu),
            addresses: self.addresses(now),
            routes: self.routes(),
        }
    }

    fn addresses(&self, now: Duration) -> Vec<Address> {
        let index = self.link.index;
        let fixed = self.network.addresses.iter();
        let mut addresses: Vec<Address> = fixed
            .map(|cidr| Address {
                index,
                cidr: *cidr,
                valid: FOREVER,
            })
            .collect();
        if let Some(lease) = self.lease() {
            let left = lease
                .ends_at()
                .map(|end| end.saturating_sub(now).as_secs().max(1));
            let valid = left.map_or(FOREVER, |left| u32::try_from(left).unwrap_or(FOREVER));
            if !addresses
                .iter()
                .any(|address| address.cidr == lease.address)
            {
                addresses.push(Address {
                    index,
                    cidr: lease.address,
                    valid,
                });
            }
        }
        addresses
    }

    fn routes(&self) -> Vec<Route> {
        let mut routes: Vec<Route> = Vec::new();
        let mut add = |to: Ipv4Cidr, via: Option<Ipv4Addr>, lease: Option<&Lease>| {
            // Of two routes to one place the first counts.
            if !routes.iter().any(|route| route.to == to) {
                routes.push(Route {
                    index: self.link.index,
                    to,
                    via,
                    source: lease.map(|lease| lease.address.address),
                    metric: self.metric(),
                    origin: if lease.is_some() {
                        Origin::Dhcp
                    } else {
                        Origin::Static
                    },
                    on_link: via.is_some_and(|via| !self.reaches(via)),
                });
            }
        };
        if let Some(gateway) = self.network.gateway {
            add(
                Ipv4Cidr {
                    address: Ipv4Addr::UNSPECIFIED,
                    prefix: 0,
                },
                Some(gateway),
                None,
            );
        }
        for route in &self.network.routes {
            add(network_part(route.to), Some(route.via), None);
        }
        if let Some(lease) = self.lease() {
            for route in &lease.routes {
                add(route.to, route.via, Some(lease));
            }
        }
        routes
    }

    fn metric(&self) -> u32 {
        let position = u32::try_from(self.position).unwrap_or(u32::MAX);
        position
            .saturating_add(1)
            .saturating_mul(METRIC_STEP)
            .saturating_add(self.link.index)
    }

    /// Whether `host` is in one of the interface's subnets.
    fn reaches(&self, host: Ipv4Addr) -> bool {
        let leased = self.lease().map(|lease| lease.address);
        let contains = |cidr: &Ipv4Cidr| {
            network_part(*cidr).address
                == network_part(Ipv4Cidr {
                    address: host,
                    prefix: cidr.prefix,
                })
                .address
        };
        self.network
            .addresses
            .iter()
            .chain(leased.iter())
            .any(contains)
    }

    /// Name servers: the configuration's, or else the lease's.
    pub(crate) fn dns(&self) -> &[Ipv4Addr] {
        match self.lease() {
            Some(lease) if self.network.dns.is_empty() => &lease.dns,
            _ => &self.network.dns,
        }
    }

    /// Whether there is something to say about it: not while its carrier may still come.
    pub(crate) fn is_known(&self) -> bool {
        self.carrier_by.is_none() || self.state(true) != State::NoCarrier
    }

    /// How it stands, for PID 1.
    pub(crate) fn record(&self, now: Duration, at_us: u64) -> Record {
        let lease = self.lease();
        let addresses: Vec<Ipv4Cidr> = self
            .addresses(now)
            .iter()
            .map(|address| address.cidr)
            .filter(|cidr| !self.refused_addresses.contains(cidr))
            .collect();
        let is_default = |route: &Route| route.to.prefix == 0;
        let state = self.state(addresses.is_empty());
        Record {
            at_us,
            state,
            network: self.network.name.clone(),
            interface: self.link.name.clone(),
            index: self.link.index,
            hardware: self.link.hardware.unwrap_or_default(),
            mtu: self.link.mtu,
            gateway: self
                .routes()
                .into_iter()
                .find(is_default)
                .and_then(|route| route.via),
            dns: self.dns().to_vec(),
            ntp: lease.map(|lease| lease.ntp.clone()).unwrap_or_default(),
            domain: lease
                .and_then(|lease| lease.domain.clone())
                .unwrap_or_default(),
            lease: lease.map(times),
            sentence: self.sentence(state),
            addresses,
        }
    }

    fn state(&self, no_address: bool) -> State {
        if self.conflict.is_some() || self.trouble.is_some() {
            State::Failed
        } else if !self.link.running {
            State::NoCarrier
        } else if no_address && self.client.is_some() {
            State::Asking
        } else {
            State::Up
        }
    }

    fn sentence(&self, state: State) -> String {
        let note = self.note.as_ref().map(|(_, note)| note);
        if let Some(sentence) = self.conflict.as_ref().or(self.trouble.as_ref()).or(note) {
            return sentence.clone();
        }
        match (state, self.lease()) {
            (State::NoCarrier, _) => "the interface has no carrier; is the cable in?".to_owned(),
            (State::Asking, _) => "asking DHCP servers for an address".to_owned(),
            (_, Some(lease)) if self.prolongs() => {
                let address = lease.address.address;
                format!("no server has prolonged the lease of {address} yet; asking again")
            }
            (_, Some(lease)) if lease.lasts == FOREVER => {
                format!(
                    "leased {} from {} for ever",
                    lease.address.address, lease.server
                )
            }
            (_, Some(lease)) => format!(
                "leased {} from {} for {} s",
                lease.address.address, lease.server, lease.lasts
            ),
            (_, None) => String::new(),
        }
    }

    fn prolongs(&self) -> bool {
        self.client
            .as_ref()
            .is_some_and(|client| client.phase() == Phase::Prolonging)
    }
}

fn times(lease: &Lease) -> LeaseTimes {
    LeaseTimes {
        server: lease.server,
        began: lease.began_ms / 1000,
        lasts: lease.lasts,
        renew: lease.renew,
        rebind: lease.rebind,
    }
}

/// `cidr` with its host bits zero.
fn network_part(cidr: Ipv4Cidr) -> Ipv4Cidr {
    let address = Ipv4Addr::from(u32::from(cidr.address) & dhcp::mask(cidr.prefix));
    Ipv4Cidr {
        address,
        prefix: cidr.prefix,
    }
}
