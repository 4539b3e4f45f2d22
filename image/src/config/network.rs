//! `[network.NAME]`: which interfaces, and how they get their addresses.

use std::net::Ipv4Addr;

use berth_provision::{Ipv4Cidr, Match, Network, Route};

use super::table::{Table, positive, string};

/// Networks of the file. Without a `[network]` table every Ethernet interface asks DHCP; an
/// empty one means that no interface is configured.
pub(super) fn read(top: &mut Table<'_>) -> Vec<Network> {
    match top.named("network") {
        None => vec![every_ethernet_by_dhcp()],
        Some(tables) => tables
            .into_iter()
            .map(|(name, table)| network(name.value, table))
            .collect(),
    }
}

fn every_ethernet_by_dhcp() -> Network {
    Network {
        name: "default".to_owned(),
        matches: Match::default(),
        dhcp4: true,
        addresses: Vec::new(),
        gateway: None,
        dns: Vec::new(),
        routes: Vec::new(),
        mtu: None,
    }
}

fn network(name: String, mut table: Table<'_>) -> Network {
    let matches = table.table("match").map(matches).unwrap_or_default();
    let dhcp4 = table.boolean("dhcp4").unwrap_or(false);
    let addresses = table.list(
        "addresses",
        "a list of addresses, like [\"192.0.2.7/24\"]",
        |value| string(value)?.parse::<Ipv4Cidr>(),
    );
    let gateway = table.parse("gateway", address);
    let dns = table.list(
        "dns",
        "a list of addresses, like [\"192.0.2.1\"]",
        |value| address(&string(value)?),
    );
    let routes = table
        .tables(
            "routes",
            "a list of routes, like [{ to = \"198.51.100.0/24\", via = \"192.0.2.1\" }]",
        )
        .into_iter()
        .filter_map(route)
        .collect();
    let mtu = table.read("mtu", |value| positive(value, 65_535));
    table.not_yet(&["dhcp6", "vlan", "bond", "bridge", "wifi"]);
    let network = Network {
        name,
        matches,
        dhcp4,
        addresses: addresses
            .unwrap_or_default()
            .into_iter()
            .map(|address| address.value)
            .collect(),
        gateway: gateway.map(|gateway| gateway.value),
        dns: dns
            .unwrap_or_default()
            .into_iter()
            .map(|server| server.value)
            .collect(),
        routes,
        mtu: mtu.and_then(|mtu| u32::try_from(mtu.value).ok()),
    };
    check(&network, &table);
    table.finish();
    network
}

/// Combinations that cannot work.
fn check(network: &Network, table: &Table<'_>) {
    if !network.dhcp4 && network.addresses.is_empty() && table.key_span("addresses").is_none() {
        table.wrong_here(format!(
            "{} needs dhcp4 = true or addresses = [\"ADDRESS/BITS\"]",
            table.name()
        ));
    }
    if let (Some(gateway), Some(at)) = (network.gateway, table.key_span("gateway")) {
        let reachable = network.addresses.iter().any(|own| {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(own.prefix))
                .unwrap_or(0);
            u32::from(own.address) & mask == u32::from(gateway) & mask
        });
        if !reachable && !network.addresses.is_empty() {
            table.wrong(
                &at,
                format!("gateway: {gateway} is in none of the networks of addresses"),
            );
        }
        if network.addresses.is_empty() && network.dhcp4 {
            table.wrong(&at, "gateway: with dhcp4 the gateway comes from the server");
        }
    }
}

fn matches(mut table: Table<'_>) -> Match {
    let driver = table.string("driver");
    let mac = table.parse("mac", mac);
    let path = table.string("path");
    if table.key_span("name").is_some() {
        let at = table.key_span("name").unwrap_or_default();
        table.take("name");
        table.wrong(
            &at,
            "interfaces are not matched by name, which changes between kernels: use driver, mac \
             or path",
        );
    }
    table.finish();
    Match {
        driver: driver.map(|driver| driver.value),
        mac: mac.map(|mac| mac.value),
        path: path.map(|path| path.value),
    }
}

fn mac(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let fits = parts.len() == 6
        && parts
            .iter()
            .all(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()));
    fits.then(|| text.to_ascii_lowercase())
        .ok_or_else(|| format!("expected an address like \"52:54:00:12:34:56\", found {text:?}"))
}

fn address(text: &str) -> Result<Ipv4Addr, String> {
    text.parse()
        .map_err(|_| format!("expected an IPv4 address like \"192.0.2.1\", found {text:?}"))
}

fn route(mut table: Table<'_>) -> Option<Route> {
    let to = table.parse("to", str::parse::<Ipv4Cidr>);
    let via = table.parse("via", address);
    for key in ["to", "via"] {
        if table.key_span(key).is_none() {
            table.wrong_here(format!("{} needs {key}", table.name()));
        }
    }
    table.finish();
    Some(Route {
        to: to?.value,
        via: via?.value,
    })
}
