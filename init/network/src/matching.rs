//! Which network of the configuration an interface belongs to. Names never count: they change
//! with the kernel, the slot and the order in which devices answer.

use berth_provision::{Match, Network};

use crate::hardware::HardwareAddress;
use crate::netlink::Link;

/// Where an interface comes from, read from /sys/class/net.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Its driver; none for a virtual interface.
    pub(crate) driver: Option<String>,
    /// Its device's path below /sys/devices.
    pub(crate) path: Option<String>,
}

/// The first network in the order of the file that the interface fits, by position.
pub(crate) fn network_of(networks: &[Network], link: &Link, origin: &Origin) -> Option<usize> {
    networks
        .iter()
        .position(|network| fits(&network.matches, link, origin))
}

/// Whether any network can be meant for this interface: the loopback and members of a bridge or
/// bond never are.
pub(crate) fn is_candidate(link: &Link) -> bool {
    link.ethernet && !link.enslaved
}

/// Without any condition every Ethernet fits that is a device of its own; virtual ones (bridges,
/// container ends) only when a condition names them.
fn fits(matches: &Match, link: &Link, origin: &Origin) -> bool {
    let Match { driver, mac, path } = matches;
    if driver.is_none() && mac.is_none() && path.is_none() {
        return link.kind.is_none();
    }
    let hardware = link.permanent.or(link.hardware);
    let driver_fits = |wanted: &String| {
        let driver = origin.driver.as_ref().or(link.kind.as_ref());
        driver.is_some_and(|driver| driver == wanted)
    };
    let mac_fits = |wanted: &String| {
        let wanted = wanted.parse::<HardwareAddress>().ok();
        wanted.is_some() && wanted == hardware
    };
    let path_fits = |wanted: &String| origin.path.as_ref().is_some_and(|path| glob(wanted, path));
    driver.as_ref().is_none_or(driver_fits)
        && mac.as_ref().is_none_or(mac_fits)
        && path.as_ref().is_none_or(path_fits)
}

/// Whether `text` is `pattern` with each `*` standing for any run of characters.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, mut rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(head) else {
        return false;
    };
    while let Some((part, after)) = rest.split_once('*') {
        // The earliest place is always right: it leaves the most for what follows.
        let Some(at) = text.find(part) else {
            return false;
        };
        text = text.get(at + part.len()..).unwrap_or_default();
        rest = after;
    }
    text.ends_with(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link {
            index: 2,
            name: "eth0".into(),
            ethernet: true,
            up: false,
            running: false,
            hardware: Some(HardwareAddress([2, 0, 0, 0, 0, 1])),
            permanent: Some(HardwareAddress([2, 0, 0, 0, 0, 9])),
            mtu: 1500,
            kind: None,
            enslaved: false,
        }
    }

    fn origin() -> Origin {
        Origin {
            driver: Some("virtio_net".into()),
            path: Some("pci0000:00/0000:00:03.0/virtio1".into()),
        }
    }

    fn network(matches: Match) -> Network {
        Network {
            name: "lan".into(),
            matches,
            dhcp4: true,
            addresses: vec![],
            gateway: None,
            dns: vec![],
            routes: vec![],
            mtu: None,
        }
    }

    #[test]
    fn every_given_condition_must_fit() {
        let fits = |driver: Option<&str>, mac: Option<&str>, path: Option<&str>| {
            let matches = Match {
                driver: driver.map(Into::into),
                mac: mac.map(Into::into),
                path: path.map(Into::into),
            };
            network_of(&[network(matches)], &link(), &origin()).is_some()
        };
        assert!(fits(None, None, None));
        assert!(fits(
            Some("virtio_net"),
            Some("02:00:00:00:00:09"),
            Some("pci*/virtio*")
        ));
        assert!(!fits(Some("e1000"), None, None));
        assert!(!fits(Some("virtio_net"), None, Some("usb*")));
        assert!(!fits(None, Some("not an address"), None));
    }

    #[test]
    fn the_hardware_address_that_counts_is_the_permanent_one() {
        let with = |mac: &str| Match {
            mac: Some(mac.into()),
            ..Match::default()
        };
        let networks = [
            network(with("02:00:00:00:00:01")),
            network(with("02:00:00:00:00:09")),
        ];
        assert_eq!(network_of(&networks, &link(), &origin()), Some(1));
    }

    #[test]
    fn virtual_interfaces_are_left_alone_unless_they_are_named() {
        let veth = Link {
            kind: Some("veth".into()),
            ..link()
        };
        let none = Origin::default();
        assert_eq!(network_of(&[network(Match::default())], &veth, &none), None);
        let named = Match {
            driver: Some("veth".into()),
            ..Match::default()
        };
        assert_eq!(network_of(&[network(named)], &veth, &none), Some(0));
    }

    #[test]
    fn members_of_a_bridge_and_things_that_are_no_ethernet_fit_nothing() {
        let port = Link {
            enslaved: true,
            ..link()
        };
        let loopback = Link {
            ethernet: false,
            ..link()
        };
        assert!(!is_candidate(&port));
        assert!(!is_candidate(&loopback) && is_candidate(&link()));
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, text, fits) in [
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("*b", "abab", true),
            ("a*a", "a", false),
            ("abc", "abcd", false),
            ("*x*", "abc", false),
            ("**", "abc", true),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }
}
