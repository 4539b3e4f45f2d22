//! The network agent: DHCP, addresses, routes, DNS
