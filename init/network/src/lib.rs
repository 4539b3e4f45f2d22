//! The network agent: addresses, routes and name servers, fixed or by DHCPv4.
//!
//! It runs as its own process with CAP_NET_ADMIN, CAP_NET_RAW and CAP_NET_BIND_SERVICE, because
//! PID 1 parses nothing that came from a network. What it finds out goes to PID 1 one way, as
//! records of fixed length ([`report`]). Its parts decide without doing ([`dhcp`], [`netlink`],
//! the plan); [`run`] holds the sockets. It never waits for one interface before it serves
//! another, and it leaves addresses and leases in place when it ends, so that it can be
//! restarted at any time.

#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod agent;
pub mod dhcp;
mod hardware;
mod interface;
mod kernel;
mod matching;
pub mod netlink;
mod plan;
pub mod report;
mod resolver;
mod store;
mod sys;

pub use agent::{Error, Places, Setup, run};
pub use hardware::HardwareAddress;
