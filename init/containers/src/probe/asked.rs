//! What a prober is to do, as the arguments that PID 1 starts it with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::spec::{Health, Probe};

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// Whether a connection is accepted, and over HTTP what status a path has.
    Network {
        /// Where, when not on the loopback address.
        address: Option<IpAddr>,
        /// Port.
        port: u16,
        /// Over HTTP, the path.
        path: Option<&'a str>,
        /// How long all of it may take.
        timeout: Duration,
    },
    /// What the check's program inside this container says; the rest is in the container's
    /// specification.
    Inside(&'a str),
}

/// Stands for the loopback address.
const LOOPBACK: &str = "-";

impl<'a> Asked<'a> {
    /// The arguments for the check of the container `name`.
    #[must_use]
    pub fn arguments(name: &str, health: &Health) -> Vec<String> {
        let address = |address: &Option<IpAddr>| match address {
            Some(address) => address.to_string(),
            None => LOOPBACK.to_owned(),
        };
        let timeout = health.timeout_ms.to_string();
        match &health.probe {
            Probe::Http {
                address: at,
                port,
                path,
            } => vec![
                "http".to_owned(),
                address(at),
                port.to_string(),
                timeout,
                path.clone(),
            ],
            Probe::Tcp { address: at, port } => {
                vec!["tcp".to_owned(), address(at), port.to_string(), timeout]
            }
            Probe::Exec(_) => vec!["exec".to_owned(), name.to_owned()],
        }
    }

    /// Reads them.
    #[must_use]
    pub fn parse(arguments: &[&'a str]) -> Option<Self> {
        let (address, port, timeout, path) = match arguments {
            ["http", address, port, timeout, path] => (address, port, timeout, Some(*path)),
            ["tcp", address, port, timeout] => (address, port, timeout, None),
            ["exec", name] => return Some(Self::Inside(name)),
            _ => return None,
        };
        Some(Self::Network {
            address: match *address {
                LOOPBACK => None,
                address => Some(address.parse().ok()?),
            },
            port: port.parse().ok()?,
            path,
            timeout: Duration::from_millis(timeout.parse().ok()?),
        })
    }

    /// Where to connect to, in this order until one accepts.
    pub(super) fn places(&self) -> Vec<SocketAddr> {
        match *self {
            Self::Network {
                address: Some(address),
                port,
                ..
            } => vec![SocketAddr::new(address, port)],
            Self::Network { port, .. } => vec![
                SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
                SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port),
            ],
            Self::Inside(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(probe: Probe) -> Health {
        Health {
            probe,
            every_ms: 5_000,
            timeout_ms: 1_500,
            fails: 3,
            start_ms: 0,
        }
    }

    #[test]
    fn what_pid_1_says_is_what_the_prober_understands() {
        let timeout = Duration::from_millis(1_500);
        let http = health(Probe::Http {
            address: None,
            port: 80,
            path: "/a?b".into(),
        });
        let tcp = health(Probe::Tcp {
            address: Some(Ipv6Addr::LOCALHOST.into()),
            port: 5432,
        });
        let exec = health(Probe::Exec(vec!["pg_isready".into()]));
        let http_asked = Asked::Network {
            address: None,
            port: 80,
            path: Some("/a?b"),
            timeout,
        };
        let tcp_asked = Asked::Network {
            address: Some(Ipv6Addr::LOCALHOST.into()),
            port: 5432,
            path: None,
            timeout,
        };
        for (health, asked) in [
            (http, http_asked),
            (tcp, tcp_asked),
            (exec, Asked::Inside("db")),
        ] {
            let arguments = Asked::arguments("db", &health);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            assert_eq!(Asked::parse(&arguments), Some(asked));
        }
        assert_eq!(Asked::parse(&["tcp", "-", "80"]), None);
        assert_eq!(Asked::parse(&["tcp", "here", "80", "1"]), None);
    }
}
