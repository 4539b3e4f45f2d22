//! A lease: what a server's ACK gives, checked, with its times.

use std::net::Ipv4Addr;
use std::time::Duration;

use berth_provision::Ipv4Cidr;
use serde::{Deserialize, Serialize};

use super::message::{Reply, usable};

/// A lease time that never ends (RFC 2131 section 3.3).
pub const FOREVER: u32 = u32::MAX;

/// An address with everything that came with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// The address in its subnet.
    pub address: Ipv4Cidr,
    /// The server that gave it.
    pub server: Ipv4Addr,
    /// When the request for it was sent, milliseconds of CLOCK_BOOTTIME.
    pub began_ms: u64,
    /// How long it lasts from then, seconds; [`FOREVER`] for ever.
    pub lasts: u32,
    /// After how many seconds its server is asked again (T1).
    pub renew: u32,
    /// After how many seconds any server is asked (T2).
    pub rebind: u32,
    /// Routes, the default one among them.
    pub routes: Vec<LeasedRoute>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers.
    pub ntp: Vec<Ipv4Addr>,
    /// Domain name.
    pub domain: Option<String>,
    /// MTU.
    pub mtu: Option<u16>,
}

/// A route of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeasedRoute {
    /// Destination, its host bits zero.
    pub to: Ipv4Cidr,
    /// Next hop; none for a destination on the link itself.
    pub via: Option<Ipv4Addr>,
}

impl LeasedRoute {
    /// A route to `to`/`prefix`; `via` 0.0.0.0 is the link itself.
    pub fn new(to: Ipv4Addr, prefix: u8, via: Ipv4Addr) -> Self {
        let address = Ipv4Addr::from(u32::from(to) & mask(prefix));
        Self {
            to: Ipv4Cidr { address, prefix },
            via: Some(via).filter(|via| !via.is_unspecified()),
        }
    }
}

/// Why a server's offer or ACK cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// No host can have this address.
    #[error("it gives the address {0}, which no host can have")]
    Address(Ipv4Addr),
    /// The server does not say who it is.
    #[error("it does not name its server")]
    Server,
    /// No lease time, or zero.
    #[error("it gives no lease time")]
    Time,
}

impl Lease {
    /// The lease that `reply` gives to a request sent at `began`; `server` stands in when the
    /// reply to a renewal does not repeat it.
    ///
    /// # Errors
    /// [`Unusable`] when something is missing that no default can stand for.
    pub fn from_reply(
        reply: &Reply,
        server: Option<Ipv4Addr>,
        began: Duration,
    ) -> Result<Self, Unusable> {
        let prefix = reply.prefix.unwrap_or_else(|| class_prefix(reply.address));
        let host = u32::from(reply.address) & !mask(prefix);
        let no_host = prefix < 31 && (host == 0 || host == !mask(prefix));
        if !usable(reply.address) || no_host {
            return Err(Unusable::Address(reply.address));
        }
        let lasts = reply
            .lasts
            .filter(|lasts| *lasts > 0)
            .ok_or(Unusable::Time)?;
        let (renew, rebind) = renewal_times(lasts, reply.renew, reply.rebind);
        let default_route = |router| LeasedRoute::new(Ipv4Addr::UNSPECIFIED, 0, router);
        Ok(Self {
            address: Ipv4Cidr {
                address: reply.address,
                prefix,
            },
            server: reply.server.or(server).ok_or(Unusable::Server)?,
            began_ms: u64::try_from(began.as_millis()).unwrap_or(u64::MAX),
            lasts,
            renew,
            rebind,
            routes: match &reply.routes {
                Some(routes) => routes.clone(),
                None => reply
                    .routers
                    .first()
                    .copied()
                    .map(default_route)
                    .into_iter()
                    .collect(),
            },
            dns: reply.dns.clone(),
            ntp: reply.ntp.clone(),
            domain: reply.domain.clone(),
            mtu: reply.mtu,
        })
    }

    /// When its server is to be asked again; `None` for never.
    pub fn renew_at(&self) -> Option<Duration> {
        self.after(self.renew)
    }

    /// When any server is to be asked; `None` for never.
    pub fn rebind_at(&self) -> Option<Duration> {
        self.after(self.rebind)
    }

    /// When it ends; `None` for never.
    pub fn ends_at(&self) -> Option<Duration> {
        self.after(self.lasts)
    }

    fn after(&self, seconds: u32) -> Option<Duration> {
        let began = Duration::from_millis(self.began_ms);
        let time = began.saturating_add(Duration::from_secs(seconds.into()));
        (self.lasts != FOREVER).then_some(time)
    }
}

/// T1 and T2: the server's when 0 < T1 < T2 < lease, else one half and seven eighths.
fn renewal_times(lasts: u32, renew: Option<u32>, rebind: Option<u32>) -> (u32, u32) {
    let half = lasts / 2;
    let most = lasts - lasts / 8;
    let rebind = rebind
        .filter(|rebind| (1..lasts).contains(rebind))
        .unwrap_or(most);
    let renew = renew
        .filter(|renew| (1..rebind).contains(renew))
        .unwrap_or(half);
    if renew < rebind {
        (renew, rebind)
    } else {
        (half, most)
    }
}

/// The network mask of a prefix length.
pub(crate) fn mask(prefix: u8) -> u32 {
    let host_bits = 32u32.saturating_sub(prefix.into());
    u32::MAX.checked_shl(host_bits).unwrap_or(0)
}

/// The prefix length an address had before there were masks, for servers that send none.
fn class_prefix(address: Ipv4Addr) -> u8 {
    match address.octets() {
        [0..128, ..] => 8,
        [128..192, ..] => 16,
        _ => 24,
    }
}
