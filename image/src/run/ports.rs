//! Ports on localhost for the machine's.

use std::net::{Ipv4Addr, TcpListener};

use super::Error;

/// How many ports are tried before giving up.
const TRIES: u16 = 200;

/// Added to a port that only root may open, to find one that anybody may.
const ABOVE_PRIVILEGED: u16 = 8000;

/// One published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Port on localhost.
    pub here: u16,
    /// Port of the machine.
    pub there: u16,
}

impl Forward {
    /// In words.
    pub(super) fn describe(self) -> String {
        let Self { here, there } = self;
        if here == there {
            format!("port {there} is http://localhost:{here}/")
        } else {
            format!("port {there} is http://localhost:{here}/ ({there} is not free here)")
        }
    }
}

/// Finds a free port for each of the machine's: the same number when it is free.
pub(super) fn choose(ports: &[u16]) -> Result<Vec<Forward>, Error> {
    // Held until all are chosen, so that no two get the same.
    let mut held = Vec::new();
    let mut forwards = Vec::new();
    for &there in ports {
        let listener = candidates(there)
            .find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok())
            .ok_or(Error::NoPort(there))?;
        let address = listener
            .local_addr()
            .map_err(Error::system("read a port's number"))?;
        held.push(listener);
        forwards.push(Forward {
            here: address.port(),
            there,
        });
    }
    Ok(forwards)
}

fn candidates(there: u16) -> impl Iterator<Item = u16> {
    let next = if there < 1024 {
        there.saturating_add(ABOVE_PRIVILEGED)
    } else {
        there.saturating_add(1)
    };
    std::iter::once(there).chain((next..=u16::MAX).take(usize::from(TRIES)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_replaced_by_the_next_free_one() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = taken.local_addr().expect("its number").port();
        let forwards = choose(&[port, port]).expect("ports");
        assert!(forwards.iter().all(|forward| forward.here != port));
        assert_ne!(forwards[0].here, forwards[1].here);
        assert!(forwards[0].describe().contains("is not free here"));
    }
}
