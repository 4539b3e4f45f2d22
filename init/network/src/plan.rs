//! What is to be changed so that an interface is as it should be: decided here, done elsewhere.
//!
//! An interface that a network claims is the agent's alone: addresses and routes on it that are
//! neither configured nor leased are removed. Only what the kernel made itself stays.

use berth_provision::Ipv4Cidr;

use crate::dhcp::FOREVER;
use crate::netlink::{Address, Link, Origin, Request, Route};

/// Lifetimes that differ by no more than this many seconds are the same.
const LIFETIME_SLACK: u32 = 2;

/// How an interface should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Desired {
    /// MTU; none to leave it.
    pub(crate) mtu: Option<u32>,
    /// Addresses.
    pub(crate) addresses: Vec<Address>,
    /// Routes.
    pub(crate) routes: Vec<Route>,
}

/// How it is: everything the kernel dumped, other interfaces' things among it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Actual {
    pub(crate) addresses: Vec<Address>,
    pub(crate) routes: Vec<Route>,
}

/// The requests that turn `actual` into `desired`, in the order in which they must be made;
/// empty when nothing is to be done.
pub(crate) fn changes(link: &Link, desired: &Desired, actual: &Actual) -> Vec<Request> {
    let mut requests = Vec::new();
    if let Some(mtu) = desired.mtu.filter(|mtu| *mtu != link.mtu) {
        requests.push(Request::Mtu(link.index, mtu));
    }
    if !link.up {
        requests.push(Request::Up(link.index));
    }
    let routes: Vec<&Route> = actual
        .routes
        .iter()
        .filter(|route| route.index == link.index && route.origin != Origin::Kernel)
        .collect();
    let addresses: Vec<&Address> = actual
        .addresses
        .iter()
        .filter(|address| address.index == link.index)
        .collect();
    let stale_routes = routes
        .iter()
        .filter(|route| !desired.routes.contains(route));
    requests.extend(stale_routes.map(|route| Request::RemoveRoute(**route)));
    // An address goes before another comes: as a second one in the same subnet the new one
    // would go with the old.
    let wanted = |cidr: Ipv4Cidr| desired.addresses.iter().any(|address| address.cidr == cidr);
    let stale_addresses = addresses.iter().filter(|address| !wanted(address.cidr));
    requests.extend(stale_addresses.map(|address| Request::RemoveAddress(**address)));
    for address in &desired.addresses {
        let there = addresses.iter().find(|there| there.cidr == address.cidr);
        if there.is_none_or(|there| !same_lifetime(there.valid, address.valid)) {
            requests.push(Request::AddAddress(*address));
        }
    }
    let missing = desired
        .routes
        .iter()
        .filter(|route| !routes.contains(route));
    requests.extend(missing.map(|route| Request::AddRoute(*route)));
    requests
}

fn same_lifetime(one: u32, other: u32) -> bool {
    let finite = (one == FOREVER) == (other == FOREVER);
    finite && one.abs_diff(other) <= LIFETIME_SLACK
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(up: bool) -> Link {
        Link {
            index: 2,
            name: "eth0".into(),
            ethernet: true,
            up,
            running: up,
            hardware: None,
            permanent: None,
            mtu: 1500,
            kind: None,
            enslaved: false,
        }
    }

    fn address(cidr: &str, valid: u32) -> Address {
        Address {
            index: 2,
            cidr: cidr.parse().unwrap(),
            valid,
        }
    }

    fn default_route(via: [u8; 4], origin: Origin) -> Route {
        Route {
            index: 2,
            to: "0.0.0.0/0".parse().unwrap(),
            via: Some(via.into()),
            source: None,
            metric: 1024,
            origin,
            on_link: false,
        }
    }

    #[test]
    fn an_interface_that_is_as_it_should_be_is_left_alone() {
        let route = default_route([10, 0, 0, 1], Origin::Dhcp);
        let desired = Desired {
            mtu: Some(1500),
            addresses: vec![address("10.0.0.5/24", 3600)],
            routes: vec![route],
        };
        let actual = Actual {
            addresses: vec![address("10.0.0.5/24", 3599)],
            routes: vec![route],
        };
        assert_eq!(changes(&link(true), &desired, &actual), []);
    }

    #[test]
    fn the_old_address_goes_before_the_new_one_comes_and_routes_come_last() {
        let old_route = default_route([10, 0, 0, 1], Origin::Dhcp);
        let new_route = default_route([10, 0, 1, 1], Origin::Dhcp);
        let desired = Desired {
            mtu: Some(1400),
            addresses: vec![address("10.0.1.5/24", 60)],
            routes: vec![new_route],
        };
        let actual = Actual {
            addresses: vec![address("10.0.0.5/24", 60)],
            routes: vec![old_route, default_route([10, 0, 0, 9], Origin::Kernel)],
        };
        assert_eq!(
            changes(&link(false), &desired, &actual),
            [
                Request::Mtu(2, 1400),
                Request::Up(2),
                Request::RemoveRoute(old_route),
                Request::RemoveAddress(address("10.0.0.5/24", 60)),
                Request::AddAddress(address("10.0.1.5/24", 60)),
                Request::AddRoute(new_route),
            ]
        );
    }

    #[test]
    fn another_interface_s_addresses_and_routes_are_never_touched() {
        let mut other = address("10.0.0.5/24", FOREVER);
        other.index = 3;
        let mut route = default_route([10, 0, 0, 1], Origin::Static);
        route.index = 3;
        let actual = Actual {
            addresses: vec![other],
            routes: vec![route],
        };
        assert_eq!(changes(&link(true), &Desired::default(), &actual), []);
    }

    #[test]
    fn a_renewed_lease_renews_the_address_s_lifetime() {
        let desired = Desired {
            addresses: vec![address("10.0.0.5/24", 120)],
            ..Desired::default()
        };
        for (valid, renewed) in [(60, true), (119, false), (FOREVER, true)] {
            let actual = Actual {
                addresses: vec![address("10.0.0.5/24", valid)],
                routes: vec![],
            };
            assert_eq!(
                !changes(&link(true), &desired, &actual).is_empty(),
                renewed,
                "{valid}"
            );
        }
    }
}
